"""Readers are given damaged files: each is accepted or rejected with a reason, soon, in little memory."""

from __future__ import annotations

import gzip
import os
import random
import resource
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phdl_catalog.errors import RejectedSpectrum
from phdl_catalog.spectra import RejectionReason, Spectrum, parse_spectrum, read_spectrum
from phdl_catalog.spectra.files import LARGEST_BYTES, file_uri
from phdl_catalog.spectra.records import pack
from tests.lamost_files import make_file

#: Mutations of each file; PHDL_MUTATIONS asks for more.
_MUTATIONS = int(os.environ.get("PHDL_MUTATIONS", "40"))

_LONGEST_SECONDS = 2.0

SAMPLES = {layout: make_file(layout) for layout in ("pilot", "dr1", "dr5", "dr9")}


def read_or_reason(data: bytes) -> Spectrum | str:
    """Read and pack, as ingest does; anything raised but a rejection with a known reason fails the test."""
    begun = time.process_time()
    spectrum, reason = None, ""
    try:
        spectrum = parse_spectrum(data)
        pack(spectrum)
    except RejectedSpectrum as rejection:
        reason = rejection.reason
    assert time.process_time() - begun < _LONGEST_SECONDS
    if spectrum is None:
        assert reason in set(RejectionReason)
        return reason
    assert np.all(np.isfinite(spectrum.flux))
    assert np.all(np.isfinite(spectrum.ivar))
    assert np.all(spectrum.ivar >= 0)
    assert 0 <= spectrum.header.ra < 360
    assert -90 <= spectrum.header.dec <= 90
    return spectrum


def _flip_bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 40)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _flip_header_bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 40)):
        data[chance.randrange(min(11520, len(data)))] ^= 1 << chance.randrange(8)


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _remove_a_stretch(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    del data[start : start + chance.choice((1, 79, 80, 2880, 10000))]


def _repeat_a_stretch(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    data[start:start] = data[start : start + chance.choice((1, 80, 2880, 20000))]


def _overwrite(data: bytearray, chance: random.Random) -> None:
    start, length = chance.randrange(len(data)), chance.choice((1, 8, 80, 500, 2880))
    length = min(length, len(data) - start)
    data[start : start + length] = chance.choice((bytes(length), b"\xff" * length, chance.randbytes(length)))


def _rewrite_a_card(data: bytearray, chance: random.Random) -> None:
    cards = [start for start in range(0, min(len(data), 14400), 80) if data[start + 8 : start + 10] == b"= "]
    start = chance.choice(cards or [0])
    values = (
        "1000000000000", "-1", "0", "1E400", "NaN", "''", "'unclosed", "T", "1.5", "9" * 25, "-9999",
        "'" + "''" * 30, "(1.0, 2.0)", "'\0\xff\n'", "1D5", "99999999999999999999E-5", "/", "= = =",
    )  # fmt: skip
    data[start + 10 : start + 80] = chance.choice(values).encode("latin-1").ljust(70)[:70]


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip_bits, _flip_header_bits, _cut, _remove_a_stretch, _repeat_a_stretch, _overwrite, _rewrite_a_card,
)  # fmt: skip


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A file damaged in one to three ways, before or after it was packed, or not packed."""
    if data.startswith(b"\x1f\x8b") and chance.random() < 0.8:
        data = gzip.decompress(data)
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
    content = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        if len(content) > 200:
            chance.choice(MUTATIONS)(content, chance)
    if chance.random() < 0.2:
        packed = bytearray(gzip.compress(bytes(content), 1))
        if chance.random() < 0.5:
            chance.choice((_flip_bits, _cut, _overwrite))(packed, chance)
        return bytes(packed)
    return bytes(content)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__.strip("_"))
@pytest.mark.parametrize("layout", SAMPLES)
def test_damaged_file_is_accepted_or_rejected(layout: str, mutation: Callable[..., None]) -> None:
    chance = random.Random(f"{layout} {mutation.__name__}")
    for _ in range(_MUTATIONS):
        content = bytearray(SAMPLES[layout])
        mutation(content, chance)
        read_or_reason(bytes(content))


def test_mutations_reach_acceptance_and_many_reasons() -> None:
    chance = random.Random(20)
    found = {
        outcome if isinstance(outcome, str) else "accepted"
        for data in SAMPLES.values()
        for outcome in (read_or_reason(mutated(data, chance)) for _ in range(150))
    }
    assert found >= {"accepted", "truncated", "corrupt", "wrong_shape", "bad_header", "not_fits"}


@given(st.binary(max_size=6000))
@settings(max_examples=150, deadline=None)
def test_any_bytes_after_a_valid_beginning_are_accepted_or_rejected(tail: bytes) -> None:
    read_or_reason(SAMPLES["dr9"][:80] + tail)


@given(st.binary(min_size=80, max_size=80), st.integers(0, 60))
@settings(max_examples=150, deadline=None)
def test_any_card_in_a_header_is_accepted_or_rejected(card: bytes, number: int) -> None:
    data = SAMPLES["dr9"]
    read_or_reason(data[: number * 80] + card + data[number * 80 + 80 :])


@pytest.mark.shared_data
def test_damaged_real_files_are_accepted_or_rejected(shared_data: Path) -> None:
    paths = sorted(path for path in (shared_data / "lamost").rglob("*") if path.is_file())
    chance = random.Random(int(os.environ.get("PHDL_MUTATION_SEED", "5")))
    outcomes = [read_or_reason(mutated(path.read_bytes(), chance)) for path in paths]
    assert 50 < sum(isinstance(outcome, Spectrum) for outcome in outcomes) < len(paths)


def _bomb() -> bytes:
    """10 GB of zeros in 10 MB, in one gzip stream: the same deflate block again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08" + bytes(7) + block * 640


def test_gzip_bomb_is_too_large_soon_and_in_little_memory() -> None:
    bomb = _bomb()
    assert len(bomb) < LARGEST_BYTES
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert read_or_reason(bomb) == "too_large"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_many_gzip_members_are_too_large_together() -> None:
    member = gzip.compress(bytes(LARGEST_BYTES // 4), 9)
    assert read_or_reason(member * 5) == "too_large"


def test_file_of_a_terabyte_is_too_large_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.fits"
    with path.open("wb") as stream:
        stream.write(SAMPLES["dr9"][:2880])
        stream.truncate(10**12)
    with pytest.raises(RejectedSpectrum, match="too_large"):
        read_spectrum(path)


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "dangling link", "device"])
def test_what_is_no_regular_file_is_unreadable_and_does_not_block(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "thing"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "dangling link":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "device":
        path = Path("/dev/zero")
    with pytest.raises(RejectedSpectrum, match="unreadable"):
        read_spectrum(path)


def test_name_that_is_not_utf_8_has_a_uri() -> None:
    assert file_uri(b"/data/\xff\xfe spectrum.fits".decode("utf-8", "surrogateescape")) == (
        "file:///data/%FF%FE%20spectrum.fits"
    )
