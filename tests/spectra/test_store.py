"""The pixel store: what is written is read, whole shards or none, damage is found."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from phdl_catalog.errors import InputError, NotFoundError, StorageError
from phdl_catalog.spectra import SURVEY_GRID, PixelAddress, PixelStore, Spectrum, good_pixels, parse_spectrum
from phdl_catalog.spectra.records import RECORD_BYTES
from phdl_catalog.spectra.store import HEADER_BYTES, MAGIC, MOST_ROWS, parse_header
from tests.lamost_files import FileContent, make_file


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PixelStore]:
    if request.param == "local":
        yield PixelStore(tmp_path / "shards")
    else:
        url = f"memory://{tmp_path.name}"
        yield PixelStore(url)
        fsspec.filesystem("memory").store.clear()


def spectra(count: int) -> list[Spectrum]:
    sizes = (3909, 3700, 3904)
    return [
        parse_spectrum(make_file("dr9", FileContent(obsid=100 + n, seed=n, n_pixels=sizes[n % 3])))
        for n in range(count)
    ]


def write(store: PixelStore, items: list[Spectrum]) -> list[PixelAddress]:
    with store.open_shard("dr10") as shard:
        return [shard.append(item) for item in items]


def test_what_is_written_is_read_bit_for_bit_in_the_order_asked_for(store: PixelStore) -> None:
    items = spectra(20)
    addresses = write(store, items[:12]) + write(store, items[12:])
    order = [*np.random.default_rng(0).permutation(20).tolist(), 3, 3]
    block = store.read([addresses[n] for n in order])
    assert block.grid == SURVEY_GRID
    assert block.flux.shape == (22, SURVEY_GRID.size)
    assert (block.flux.dtype, block.ivar.dtype, block.mask.dtype) == (np.float32, np.float32, np.bool_)
    for row, n in enumerate(order):
        item, where = items[n], SURVEY_GRID.slice_of(items[n].grid)
        good = good_pixels(item.ivar, item.andmask, item.ormask)
        assert block.obsid[row] == item.header.obsid
        assert np.array_equal(block.flux[row, where], item.flux)
        assert np.array_equal(block.ivar[row, where], np.where(good, item.ivar, 0))
        assert np.array_equal(block.mask[row, where], ~good)
        outside = np.ones(SURVEY_GRID.size, dtype=bool)
        outside[where] = False
        assert block.mask[row, outside].all()
        assert not block.ivar[row, outside].any()


def test_neighbouring_rows_are_one_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PixelStore(tmp_path)
    addresses = write(store, spectra(1) * 64)
    store.read(addresses[:1])
    reads: list[tuple[int, int]] = []
    original = store._read_bytes

    def counted(shard: str, start: int, length: int) -> bytes:
        reads.append((start, length))
        return original(shard, start, length)

    monkeypatch.setattr(store, "_read_bytes", counted)
    store.read(addresses[8:40])
    assert reads == [(HEADER_BYTES + 8 * RECORD_BYTES, 32 * RECORD_BYTES)]
    reads.clear()
    store.read([addresses[0], addresses[3], addresses[60]])
    assert [length // RECORD_BYTES for _, length in reads] == [4, 1]


def test_nothing_can_be_seen_of_a_shard_before_commit(store: PixelStore) -> None:
    shard = store.open_shard("dr10")
    address = shard.append(spectra(1)[0])
    assert store.shards("dr10") == []
    with pytest.raises(NotFoundError, match="PHDL_STORE_URL"):
        store.read([address])
    shard.commit()
    assert store.shards("dr10") == [address.shard]
    assert store.read([address]).obsid.tolist() == [100]


def test_leaving_by_an_exception_writes_nothing(store: PixelStore) -> None:
    shard = store.open_shard("dr10")
    shard.append(spectra(1)[0])
    shard.__exit__(RuntimeError, RuntimeError("stop"), None)
    with pytest.raises(InputError, match="closed"):
        shard.append(spectra(1)[0])
    assert store.shards("dr10") == []


def test_empty_shard_leaves_nothing(store: PixelStore) -> None:
    with store.open_shard("dr10"):
        pass
    assert store.shards("dr10") == []


def test_what_nothing_refers_to_is_removed(tmp_path: Path) -> None:
    store = PixelStore(tmp_path)
    kept, lost = write(store, spectra(1)), write(store, spectra(1))
    (tmp_path / "dr10" / "20260101T000000-0123456789ab.shard.part").write_bytes(b"half")
    assert len(store.remove_unreferenced("dr10", [kept[0].shard])) == 2
    assert [path.name for path in (tmp_path / "dr10").iterdir()] == [kept[0].shard.split("/")[1]]
    with pytest.raises(NotFoundError):
        store.read(lost)


def test_header_says_what_a_shard_holds(tmp_path: Path) -> None:
    address = write(PixelStore(tmp_path), spectra(3))[0]
    content = (tmp_path / address.shard).read_bytes()
    header = parse_header(content[:HEADER_BYTES], "x")
    assert content.startswith(MAGIC)
    assert (header["rows"], header["record_bytes"], header["release"]) == (3, RECORD_BYTES, "dr10")
    assert len(content) == HEADER_BYTES + 3 * RECORD_BYTES


@pytest.mark.parametrize("place", [0, 30, 5000, RECORD_BYTES - 10])
def test_flipped_bit_is_found(place: int, tmp_path: Path) -> None:
    store = PixelStore(tmp_path)
    addresses = write(store, spectra(3))
    path = tmp_path / addresses[0].shard
    content = bytearray(path.read_bytes())
    content[HEADER_BYTES + RECORD_BYTES + place] ^= 4
    path.write_bytes(content)
    assert store.read([addresses[0], addresses[2]][:1]).obsid.tolist() == [100]
    with pytest.raises(StorageError, match=r"row 1 of .*damaged"):
        store.read(addresses)


def test_truncated_shard_is_found(tmp_path: Path) -> None:
    store = PixelStore(tmp_path)
    addresses = write(store, spectra(3))
    path = tmp_path / addresses[0].shard
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StorageError, match="ends before row 2"):
        store.read(addresses[2:])


def test_file_that_is_no_shard_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dr10").mkdir()
    (tmp_path / "dr10" / "a.shard").write_bytes(b"x" * 100_000)
    with pytest.raises(StorageError, match="no pixel shard"):
        PixelStore(tmp_path).read([PixelAddress("dr10/a.shard", 0)])


def test_release_name_cannot_leave_the_store(tmp_path: Path) -> None:
    for name in ("../elsewhere", "", ".hidden", "a/b"):
        with pytest.raises(InputError, match="folder"):
            PixelStore(tmp_path).open_shard(name)


def test_shard_has_a_largest_number_of_rows(tmp_path: Path) -> None:
    shard = PixelStore(tmp_path).open_shard("dr10")
    for _ in range(MOST_ROWS):
        shard.append_record(bytes(RECORD_BYTES))
    with pytest.raises(InputError, match="at most"):
        shard.append_record(bytes(RECORD_BYTES))


def test_full_disk_is_said_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """A process that may not write files over 100 kB: the kernel refuses the write as a full disk does."""
    program = textwrap.dedent(
        f"""
        import resource, signal
        from phdl_catalog.errors import StorageError
        from phdl_catalog.spectra import PixelStore
        from phdl_catalog.spectra.records import RECORD_BYTES
        store = PixelStore({str(tmp_path)!r})
        with store.open_shard("dr10") as shard:
            shard.append_record(bytes(RECORD_BYTES))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            with store.open_shard("dr10") as shard:
                for _ in range(10):
                    shard.append_record(bytes(RECORD_BYTES))
        except StorageError as error:
            print(error)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert "disk is full" in done.stdout
    assert len(list((tmp_path / "dr10").iterdir())) == 1
