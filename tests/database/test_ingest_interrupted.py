"""An ingest that is killed, or finds the disk full, loses nothing and goes on where it stopped."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine

from phdl_catalog.database.ingest import ingest
from phdl_catalog.errors import StateError, StorageError
from phdl_catalog.spectra import PixelStore, parse_spectrum
from tests.ingested import counts, every_row_has_its_pixels, rows_by_state, write_files
from tests.lamost_files import make_file


@pytest.fixture
def store(tmp_path: Path) -> PixelStore:
    return PixelStore(tmp_path / "shards")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "files"
    path.mkdir()
    return path


_PROGRAM = """
if __name__ == "__main__":
    import signal, sys
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit none
    from phdl_catalog.database import ingest as module
    from phdl_catalog.database.session import connect
    from phdl_catalog.spectra import PixelStore
    module._FEWEST_FOR_PROCESSES = 1
    module.ingest(connect(), PixelStore(sys.argv[1]), "dr10", [sys.argv[2]], processes=2, batch_files=16,
                  on_progress=lambda files: print(files, flush=True))
"""


def killed_ingest(
    store: PixelStore, folder: Path, batches: int, how: signal.Signals, delay: float
) -> list[psutil.Process]:
    """Start an ingest in another process, and kill it some time after some batches were done.

    Returns its reader processes.
    """
    program = folder.parent / "program.py"
    program.write_text(_PROGRAM)
    command = [sys.executable, str(program), store.url, str(folder)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=os.environ, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        for _ in range(batches):
            process.stdout.readline()
        children = psutil.Process(process.pid).children()
        readers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        time.sleep(delay)
        process.send_signal(how)
        process.wait(30)
    return readers


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_ingest_takes_its_readers_along_and_goes_on_where_it_stopped(
    how: signal.Signals, database: Engine, store: PixelStore, folder: Path
) -> None:
    write_files(folder, 320)
    (folder / "broken").write_bytes(b"x")
    readers = killed_ingest(store, folder, 3, how, random.Random(how).uniform(0, 0.01))
    assert len(readers) == 2
    assert psutil.wait_procs(readers, timeout=10)[1] == []
    done = rows_by_state(database)
    assert 48 <= sum(done.values()) < 321
    assert every_row_has_its_pixels(database, store) == done["accepted"]
    deadline = time.monotonic() + 10
    while True:  # the server notices within moments that the killed one is gone, and lets go of its lock
        try:
            summary = ingest(database, store, "dr10", [str(folder)])
            break
        except StateError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert summary.unchanged == sum(done.values())
    assert summary.accepted == 320 - done["accepted"]
    assert summary.rejected == 1 - done.get("rejected", 0)
    assert counts(summary)["found"] == 321
    assert rows_by_state(database) == {"accepted": 320, "rejected": 1}
    assert every_row_has_its_pixels(database, store) == 320


def test_shard_without_rows_is_removed_by_the_next_ingest(
    database: Engine, store: PixelStore, folder: Path
) -> None:
    write_files(folder, 2)
    with store.open_shard("dr10") as shard:
        shard.append(parse_spectrum(make_file("dr9")))
    assert len(store.shards("dr10")) == 1
    ingest(database, store, "dr10", [str(folder)])
    assert shard.name not in store.shards("dr10")
    assert len(store.shards("dr10")) == 1


def test_full_disk_loses_nothing_that_was_done(
    database: Engine, store: PixelStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(folder, 30)
    written: list[str] = []

    def full_after_two(path: Path, parts: list[bytes]) -> None:
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(path.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(parts))

    with monkeypatch.context() as patched:
        patched.setattr("phdl_catalog.spectra.store._write_durably", full_after_two)
        with pytest.raises(StorageError, match="disk is full: make room and run the same command again"):
            ingest(database, store, "dr10", [str(folder)], batch_files=8)
    assert rows_by_state(database) == {"accepted": 16}
    summary = ingest(database, store, "dr10", [str(folder)], batch_files=8)
    assert counts(summary) == {"found": 30, "accepted": 14, "unchanged": 16}
    assert every_row_has_its_pixels(database, store) == 30
