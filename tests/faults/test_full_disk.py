"""A disk that is full when a shard is written: nothing is half done, and the same command goes on."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ingested import every_row_has_its_pixels, rows_by_state, write_files
from job_stage import Stage

from phdl_catalog.spectra.store import PixelStore

#: A spectrum takes 35 kB in its shard: the disk has room for thirty, not for ninety.
_SMALL, _LARGE = "2m", "16m"
_LIMIT = 2 * 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_SMALL}", "tmpfs", str(place)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode != 0:
        pytest.skip(f"only root can mount a file system: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def ingest(folder: Path, store: Path, *, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """``phdl ingest`` in a process of its own, which may write no file beyond a limit."""

    def restrict() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = ["phdl_catalog.cli.main", "ingest", "dr10", str(folder), "--processes", "1", "--json"]
    return subprocess.run(
        [sys.executable, "-m", *command],
        env=os.environ | {"PHDL_STORE_URL": str(store)},
        capture_output=True, text=True, check=False, timeout=60, preexec_fn=restrict,
    )  # fmt: skip


def folders(tmp_path: Path) -> Path:
    files = tmp_path / "files"
    for name, count, first in (("first", 30, 1000), ("second", 60, 2000)):
        (files / name).mkdir(parents=True)
        write_files(files / name, count, first_obsid=first)
    return files


def test_a_full_disk_stops_an_ingest_that_goes_on_when_there_is_room(
    empty_stage: Stage, small_disk: Path, tmp_path: Path
) -> None:
    files, store = folders(tmp_path), small_disk / "shards"
    assert ingest(files / "first", store).returncode == 0
    refused = ingest(files, store)
    assert refused.returncode == 1
    assert "the disk is full: make room and run the same command again" in " ".join(refused.stderr.split())
    assert rows_by_state(empty_stage.engine) == {"accepted": 30}
    assert every_row_has_its_pixels(empty_stage.engine, PixelStore(store)) == 30
    assert not list(store.rglob("*.part"))
    subprocess.run(["mount", "-o", f"remount,size={_LARGE}", str(small_disk)], check=True)
    goes_on = ingest(files, store)
    assert goes_on.returncode == 0
    summary = json.loads(goes_on.stdout)
    assert (summary["accepted"], summary["unchanged"]) == (60, 30)
    assert every_row_has_its_pixels(empty_stage.engine, PixelStore(store)) == 90


def test_a_limit_on_the_size_of_files_is_a_full_disk_too(empty_stage: Stage, tmp_path: Path) -> None:
    files, store = folders(tmp_path), tmp_path / "shards"
    assert ingest(files / "second", store, limit=_LIMIT).returncode == 1
    assert rows_by_state(empty_stage.engine) == {}
    assert ingest(files / "second", store).returncode == 0
    assert every_row_has_its_pixels(empty_stage.engine, PixelStore(store)) == 60
