"""The pixel store in an object store: a real S3 server on this machine, spoken to over HTTP."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("s3fs", reason="the extra s3 is not installed")

import s3fs

from phdl_catalog.errors import NotFoundError, StorageError
from phdl_catalog.spectra import SURVEY_GRID, PixelAddress, PixelStore, parse_spectrum
from tests.lamost_files import FileContent, make_file


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an S3 server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (tmp_path_factory.mktemp("s3") / "server.log").open("wb")
    program = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    server = subprocess.Popen([sys.executable, "-c", program], stdout=log, stderr=log)
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=1).close()
            break
        except OSError:
            assert server.poll() is None, Path(log.name).read_text()
            assert time.monotonic() < end, "the S3 server does not answer"
            time.sleep(0.1)
    yield url
    server.kill()
    server.wait()
    log.close()


@pytest.fixture
def store(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> PixelStore:
    """What a user sets: the address of the server, the keys, and a URL."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem(skip_instance_cache=True).makedirs("survey", exist_ok=True)
    return PixelStore("s3://survey/shards")


def test_shards_in_s3_are_written_read_listed_and_cleared(store: PixelStore) -> None:
    items = [parse_spectrum(make_file("dr9", FileContent(obsid=100 + n, seed=n))) for n in range(12)]
    with store.open_shard("dr10") as shard:
        addresses = [shard.append(item) for item in items]
    order = [7, 0, 1, 2, 11, 7]
    block = store.read([addresses[n] for n in order])
    assert block.obsid.tolist() == [100 + n for n in order]
    where = SURVEY_GRID.slice_of(items[7].grid)
    assert np.array_equal(block.flux[0, where], items[7].flux)
    assert store.shards("dr10") == [addresses[0].shard]
    with pytest.raises(StorageError, match="ends before row 12"):
        store.read([PixelAddress(addresses[0].shard, 12)])
    assert store.remove_unreferenced("dr10", []) == [addresses[0].shard]
    with pytest.raises(NotFoundError, match="has no shard"):
        PixelStore(store.url).read(addresses[:1])


def test_a_shard_that_was_not_committed_cannot_be_seen_in_s3(store: PixelStore) -> None:
    store.open_shard("dr11").append(parse_spectrum(make_file("dr9", FileContent(obsid=1))))
    assert store.shards("dr11") == []


def test_a_store_that_refuses_is_said_in_one_line_without_the_keys(store: PixelStore) -> None:
    shard = PixelStore("s3://no-such-bucket/shards").open_shard("dr10")
    shard.append(parse_spectrum(make_file("dr9", FileContent(obsid=1))))
    with pytest.raises(StorageError, match="no-such-bucket") as refused:
        shard.commit()
    assert "\n" not in str(refused.value)
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in str(refused.value)
