"""Readers are given damaged files: each is accepted or rejected with a reason, soon, in little memory."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import random
import resource
import tarfile
import time
import zlib
from collections import Counter
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
from tests.file_mutations import LIES, MUTATIONS, Lie, mutated, tell, with_heap_pointers
from tests.lamost_files import make_file

#: Mutations of each kind and layout, and of the real files; more, and others:
#: PHDL_MUTATIONS=5000 PHDL_MUTATION_SEED=7 pytest -s tests/spectra/test_mutations.py
_MUTATIONS = int(os.environ.get("PHDL_MUTATIONS", "30"))
_SEED = int(os.environ.get("PHDL_MUTATION_SEED", "5"))

_LONGEST_SECONDS, _MOST_KILOBYTES = 2.0, 1_000_000

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


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__.strip("_"))
@pytest.mark.parametrize("layout", SAMPLES)
def test_damaged_file_is_accepted_or_rejected(layout: str, mutation: Callable[..., None]) -> None:
    chance = random.Random(f"{layout} {mutation.__name__} {_SEED}")
    for _ in range(_MUTATIONS):
        content = bytearray(SAMPLES[layout])
        mutation(content, chance)
        read_or_reason(bytes(content))


@pytest.mark.parametrize("layout", ["dr5", "dr9"])
def test_header_that_lies_is_accepted_or_rejected(layout: str) -> None:
    outcomes = [read_or_reason(tell(SAMPLES[layout], lie)) for lie in LIES]
    rejected = {
        str(lie): outcome for lie, outcome in zip(LIES, outcomes, strict=True) if isinstance(outcome, str)
    }
    assert 60 < len(rejected) < len(LIES)
    assert rejected["SIMPLE=F"] == "not_fits"


def test_empty_axes_beside_a_claim_of_bytes_are_no_data() -> None:
    """No pixel, an axis that no array can have, and a PCOUNT that lets the sum come out above zero."""
    for lies in itertools.product(("NAXIS1=0", "NAXIS2=0"), ("NAXIS1=0", f"NAXIS2={10**29}"), (0, 1)):
        claims = [part.split("=") for part in (*lies[:2], "PCOUNT=2", "TFIELDS=0")]
        data = tell(
            SAMPLES["dr9" if lies[2] else "dr5"], *(Lie(key, value, lies[2]) for key, value in claims)
        )
        assert read_or_reason(data) in ("wrong_shape", "truncated", "corrupt")


def test_pointers_out_of_the_heap_are_not_followed() -> None:
    assert read_or_reason(with_heap_pointers(SAMPLES["dr9"])) == "wrong_shape"


def test_a_step_that_is_no_number_is_off_the_grid() -> None:
    assert read_or_reason(tell(SAMPLES["pilot"], Lie("COEFF1", "NaN"))) == "wavelength_off_grid"


def test_archives_are_not_unpacked_but_named() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("../../escape.fits", "/etc/escape.fits"):
            member = tarfile.TarInfo(name)
            member.size = len(SAMPLES["dr9"])
            archive.addfile(member, io.BytesIO(SAMPLES["dr9"]))
    for data in (buffer.getvalue(), gzip.compress(buffer.getvalue(), 1)):
        with pytest.raises(RejectedSpectrum, match="a tar archive: unpack it first"):
            parse_spectrum(data)


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
    chance = random.Random(_SEED)
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    outcomes: Counter[str] = Counter()
    for path in itertools.islice(itertools.cycle(paths), max(len(paths), _MUTATIONS)):
        outcome = read_or_reason(mutated(path.read_bytes(), chance))
        outcomes[outcome if isinstance(outcome, str) else "accepted"] += 1
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(
        dict(outcomes), f"{time.process_time() - begun:.0f} s of processor time, {grown} kB more at the most"
    )
    assert grown < _MOST_KILOBYTES
    assert outcomes["accepted"] > 50
    assert len(outcomes) > 8


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
