"""Readers of LAMOST files: four layouts, and everything that is none of them."""

from __future__ import annotations

import gzip
import io
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from phdl_catalog.errors import RejectedSpectrum
from phdl_catalog.spectra import Layout, RejectionReason, good_pixels, parse_spectrum, read_spectrum
from phdl_catalog.spectra.lamost_header import derived_obsid
from tests.lamost_files import FIRST_PIXEL, FileContent, make_file

LAYOUTS = ("pilot", "dr1", "dr5", "dr9")


def reason_of(data: bytes) -> str:
    with pytest.raises(RejectedSpectrum) as caught:
        parse_spectrum(data)
    assert caught.value.reason in set(RejectionReason)
    assert caught.value.detail
    return caught.value.reason


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_is_recognised_by_content(layout: str, packed: bool, tmp_path: Path) -> None:
    content = FileContent()
    path = tmp_path / "name-says-nothing.dat"
    path.write_bytes(make_file(layout, content, packed=packed))
    spectrum = read_spectrum(path)
    assert spectrum.header.layout == Layout(layout)
    assert spectrum.first_pixel == FIRST_PIXEL
    assert np.array_equal(spectrum.flux, content.flux.astype(np.float32))
    assert np.array_equal(spectrum.ivar, content.ivar.astype(np.float32))
    assert np.array_equal(spectrum.andmask, content.andmask)
    assert np.array_equal(spectrum.ormask, content.ormask)
    assert np.allclose(spectrum.wavelength, content.wavelength, rtol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_facts_are_read_under_both_spellings(layout: str) -> None:
    header = parse_spectrum(make_file(layout)).header
    assert (header.ra, header.dec, header.lmjd, header.mjd) == (66.43298, 32.625089, 55862, 55861)
    assert (header.plan_id, header.spectrograph_id, header.fiber_id) == ("B6202", 6, 126)
    assert (header.snr_u, header.snr_g, header.snr_z) == (20.5, 21.5, 24.5)
    assert (header.object_class, header.object_subclass) == ("STAR", "G5")
    assert header.designation == "LAMOST J042543.91+323730.3"
    assert header.gaia_source_id == 172478915877176704


def test_obsid_is_the_file_s_where_it_has_one_and_may_be_negative() -> None:
    assert parse_spectrum(make_file("dr5", FileContent(obsid=-28762))).header.obsid == -28762


def test_derived_obsid_is_negative_and_depends_only_on_what_names_the_spectrum() -> None:
    first = parse_spectrum(make_file("pilot", FileContent(seed=1))).header.obsid
    assert first == parse_spectrum(make_file("dr1", FileContent(seed=2))).header.obsid
    assert first == derived_obsid(55862, "B6202", 6, 126) == -1585506456694517752
    assert -(2**63) <= derived_obsid(55862, "B6202", 6, 127) < -(2**60)
    assert derived_obsid(55862, "B6202", 6, 127) != first


def test_sentinels_become_none() -> None:
    content = FileContent(
        cards={"Z": -9999, "Z_ERR": -9999, "SUBCLASS": "Non", "SNRU": -9999.0, "OBJNAME": ""}
    )
    header = parse_spectrum(make_file("dr9", content)).header
    assert (header.redshift, header.redshift_error, header.object_subclass) == (None, None, None)
    assert (header.snr_u, header.object_name, header.gaia_source_id) == (None, None, None)


def test_shorter_spectrum_that_starts_later_is_placed_by_its_wavelengths() -> None:
    spectrum = parse_spectrum(make_file("dr5", FileContent(first_pixel=35840, n_pixels=3751)))
    assert (spectrum.first_pixel, spectrum.flux.size) == (35840, 3751)


def test_pixels_that_are_no_numbers_lose_their_weight() -> None:
    content = FileContent()
    content.flux[500], content.flux[501], content.flux[502] = np.nan, np.inf, 1e30
    content.ivar[503], content.ivar[504] = np.nan, -1.0
    spectrum = parse_spectrum(make_file("dr9", content))
    assert np.all(spectrum.ivar[500:505] == 0)
    assert np.all(spectrum.flux[500:503] == 0)
    assert np.all(np.isfinite(spectrum.flux))
    assert np.all(np.isfinite(spectrum.ivar))


def test_mask_policy_keeps_pixels_one_exposure_lost_and_drops_those_all_lost() -> None:
    spectrum = parse_spectrum(make_file("dr9"))
    good = good_pixels(spectrum.ivar, spectrum.andmask, spectrum.ormask)
    assert not good[:7].any()  # no inverse variance
    assert not good[100:103].any()  # ANDMASK
    assert good[103:110].all()  # ORMASK alone, a bad pixel in one exposure
    assert not good[200]  # no sky in one exposure
    assert good.sum() == 3909 - 7 - 3 - 1


def _without(data: bytes, keyword: str) -> bytes:
    start = data.index(keyword.ljust(8).encode() + b"=")
    return data[:start] + b"COMMENT ".ljust(80) + data[start + 80 :]


def _with_card(data: bytes, keyword: str, value: str, nth: int = 1) -> bytes:
    start = -1
    for _ in range(nth):
        start = data.index(keyword.ljust(8).encode() + b"=", start + 1)
    card = f"{keyword.ljust(8)}= {value:>20}".ljust(80).encode()
    return data[:start] + card + data[start + 80 :]


def _changed(**values: object) -> bytes:
    content = FileContent()
    for name, value in values.items():
        getattr(content, name)[:] = value
    return make_file("dr9", content)


def _reversed_wavelengths() -> bytes:
    with fits.open(_as_stream(make_file("dr5"))) as units:
        units[0].data[2] = units[0].data[2][::-1]
        return _written(units)


def _stretched_wavelengths() -> bytes:
    with fits.open(_as_stream(make_file("dr5"))) as units:
        units[0].data[2] = np.linspace(3700, 9000, 3909)
        return _written(units)


def _as_stream(data: bytes) -> io.BytesIO:
    return io.BytesIO(data)


def _written(units: fits.HDUList) -> bytes:
    buffer = io.BytesIO()
    units.writeto(buffer)
    return buffer.getvalue()


def _medium_resolution() -> bytes:
    primary = fits.PrimaryHDU()
    primary.header["TELESCOP"] = "LAMOST"
    columns = [fits.Column(name, "E", array=np.ones(3000)) for name in ("FLUX", "IVAR", "LOGLAM")]
    return _written(fits.HDUList([primary, fits.BinTableHDU.from_columns(columns, name="COADD_B")]))


DR5, DR9 = make_file("dr5"), make_file("dr9")
PACKED = gzip.compress(DR9, mtime=0)

REJECTED = {
    "an empty file": (b"", "empty"),
    "nothing, packed": (gzip.compress(b""), "empty"),
    "text": (b"hello world\n" * 100, "not_fits"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "not_fits"),
    "a tar archive": (b"a.fits".ljust(257, b"\0") + b"ustar".ljust(400, b"\0"), "not_fits"),
    "half a gzip stream": (PACKED[: len(PACKED) // 2], "truncated"),
    "a gzip header alone": (PACKED[:10], "truncated"),
    "a damaged gzip stream": (PACKED[:3000] + bytes(50) + PACKED[3050:], "corrupt"),
    "a wrong gzip checksum": (PACKED[:-8] + bytes(8), "corrupt"),
    "half an image": (DR5[: len(DR5) // 2], "truncated"),
    "half a table": (DR9[: len(DR9) // 2], "truncated"),
    "half a header": (DR5[:2000], "truncated"),
    "a header alone": (DR5[:8640], "truncated"),
    "no END card": (DR5[:80] + b"COMMENT ".ljust(80) * 4000, "corrupt"),
    "BITPIX of no meaning": (_with_card(DR5, "BITPIX", "-33"), "corrupt"),
    "an axis that is no number": (_with_card(DR5, "NAXIS1", "'many'"), "corrupt"),
    "10^12 pixels": (_with_card(DR5, "NAXIS1", str(10**12)), "wrong_shape"),
    "10^19 rows": (_with_card(DR5, "NAXIS2", "9" * 19), "wrong_shape"),
    "a table of 10^12 bytes": (_with_card(DR9, "NAXIS1", str(10**12), nth=2), "truncated"),
    "a table of 10^12 rows": (_with_card(DR9, "NAXIS2", str(10**12), nth=2), "truncated"),
    "a negative axis": (_with_card(DR5, "NAXIS1", "-3909"), "corrupt"),
    "integers": (_with_card(DR5, "BITPIX", "32"), "wrong_shape"),
    "four rows": (_with_card(DR5, "NAXIS2", "4"), "wrong_shape"),
    "a table of text": (DR9.replace(b"'3909E   '", b"'15636A  '"), "wrong_shape"),
    "a table without IVAR": (DR9.replace(b"'IVAR    '", b"'IVARS   '"), "wrong_shape"),
    "a short spectrum": (make_file("dr9", FileContent(n_pixels=500)), "wrong_shape"),
    "a spectrograph of medium resolution": (_medium_resolution(), "medium_resolution"),
    "another telescope": (
        _without(_without(_with_card(DR9, "TELESCOP", "'SDSS 2.5-M'"), "ORIGIN"), "DATA_V"),
        "other_survey",
    ),
    "no position": (_without(DR9, "RA"), "bad_header"),
    "an impossible position": (_with_card(DR9, "DEC", "132.0"), "bad_header"),
    "an obsid of 30 digits": (_with_card(DR9, "OBSID", "9" * 20), "bad_header"),
    "neither obsid nor plan": (_without(make_file("pilot"), "PLANID"), "bad_header"),
    "wavelengths backwards": (_reversed_wavelengths(), "wavelength_not_monotonic"),
    "linear wavelengths": (_stretched_wavelengths(), "wavelength_off_grid"),
    "wavelengths too far in the blue": (
        make_file("dr5", FileContent(first_pixel=35000)),
        "wavelength_off_grid",
    ),
    "a pilot file with another step": (
        _with_card(make_file("pilot"), "COEFF1", "0.0002"),
        "wavelength_off_grid",
    ),
    "no finite flux": (_changed(flux=np.nan), "no_finite_pixels"),
    "no inverse variance": (_changed(ivar=0.0), "no_good_pixels"),
    "everything masked": (_changed(andmask=1.0), "no_good_pixels"),
}


@pytest.mark.parametrize("what", REJECTED)
def test_rejected_with_the_reason(what: str) -> None:
    data, reason = REJECTED[what]
    assert reason_of(data) == reason


def test_every_reason_of_content_is_tested() -> None:
    tested = {reason for _, reason in REJECTED.values()}
    assert tested == set(RejectionReason) - {RejectionReason.UNREADABLE, RejectionReason.TOO_LARGE}


def test_file_packed_twice_is_read() -> None:
    assert parse_spectrum(gzip.compress(PACKED)).header.obsid == 101001


def test_file_packed_many_times_is_not_fits() -> None:
    data = DR9
    for _ in range(6):
        data = gzip.compress(data)
    assert reason_of(data) == "not_fits"


@pytest.mark.shared_data
def test_every_real_file_is_accepted_or_rejected_as_it_should(shared_data: Path) -> None:
    found: Counter[str] = Counter()
    for path in sorted((shared_data / "lamost").rglob("*")):
        if path.is_file():
            try:
                found[read_spectrum(path).header.layout] += 1
            except RejectedSpectrum as rejection:
                found[rejection.reason] += 1
    assert found == {
        "dr9": 358, "dr5": 207, "pilot": 35, "dr1": 1,
        "not_fits": 2, "medium_resolution": 1, "other_survey": 1,
    }  # fmt: skip


@pytest.mark.shared_data
def test_reader_agrees_with_astropy_on_every_real_file(shared_data: Path) -> None:
    compared = 0
    for path in sorted((shared_data / "lamost").rglob("*.fits.gz")):
        try:
            spectrum = read_spectrum(path)
        except RejectedSpectrum:
            continue
        data = path.read_bytes()
        while data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            units = fits.open(_as_stream(data), memmap=False)
        header = units[0].header
        if len(units) > 1:
            table = units["COADD"].data
            flux, ivar, wavelength, andmask, ormask = (
                table[name][0] for name in ("FLUX", "IVAR", "WAVELENGTH", "ANDMASK", "ORMASK")
            )
        else:
            flux, ivar, wavelength, andmask, ormask = units[0].data
        if spectrum.header.layout != Layout.PILOT:
            assert np.allclose(spectrum.wavelength, wavelength, rtol=5e-6)
        assert np.array_equal(spectrum.flux, flux.astype(np.float32)), path
        assert np.array_equal(spectrum.ivar, ivar.astype(np.float32)), path
        assert np.array_equal(spectrum.andmask, andmask), path
        assert np.array_equal(spectrum.ormask, ormask), path
        facts = spectrum.header
        if "OBSID" in header:
            assert facts.obsid == header["OBSID"]
        assert (facts.ra, facts.dec) == (header["RA"], header["DEC"])
        assert (facts.designation, facts.plan_id) == (header["DESIG"], header["PLANID"])
        assert facts.fiber_id == int(header["FIBERID"])
        assert facts.snr_g == header.get("SNRG", header.get("SN_G"))
        assert facts.redshift == (None if header["Z"] == -9999 else header["Z"])
        assert facts.object_class == header["CLASS"]
        units.close()
        compared += 1
    assert compared == 601
