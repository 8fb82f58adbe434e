"""The facts in the header of a LAMOST file: names of the cards, spellings, sentinels, plausible ranges."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping

from phdl_catalog.errors import RejectedSpectrum
from phdl_catalog.spectra.fits_blocks import CardValue
from phdl_catalog.spectra.spectrum import Layout, RejectionReason, SpectrumHeader

#: Longest text kept of a card; FITS allows 68.
_LONGEST_TEXT = 68

#: Largest signal to noise taken seriously; the brightest stars reach 1,000.
_LARGEST_SNR = 1e5

#: Texts that mean that there is none.
_NO_TEXT = {"", "NULL", "NON", "NONE", "NAN", "-", "."}

#: A Gaia source id as LAMOST writes it in OBJNAME, with or without a letter in front.
_GAIA_NAME = re.compile(r"G?(\d{16,19})$")

#: Header cards that would hold a Gaia source id, should a release have one.
_GAIA_CARDS = ("GAIA_ID", "GAIAID", "GAIA_SRC", "GP_ID")

#: Derived obsids lie below this; those of the survey, small negative ones included, above.
_DERIVED_BELOW = -(2**60)

_LARGEST_BIGINT = 2**63 - 1


def read_facts(cards: Mapping[str, CardValue], layout: Layout) -> SpectrumHeader:
    """The facts of a header.

    Raises
    ------
    RejectedSpectrum
        As bad header, if the position or what identifies the spectrum is missing or impossible.
    """
    lmjd = _whole(cards, "LMJD", 1, 200_000)
    plan_id = _text(cards, "PLANID")
    spectrograph = _whole(cards, "SPID", 1, 64)
    fiber = _whole(cards, "FIBERID", 1, 4096)
    if "OBSID" in cards:
        obsid = _whole(cards, "OBSID", _DERIVED_BELOW, _LARGEST_BIGINT)
        if obsid is None:
            raise _bad_header(f"OBSID is {cards['OBSID']!r}")
    elif lmjd is None or plan_id is None or spectrograph is None or fiber is None:
        raise _bad_header(
            "no OBSID, and one of LMJD, PLANID, SPID and FIBERID that stand in for it is missing"
        )
    else:
        obsid = derived_obsid(lmjd, plan_id, spectrograph, fiber)
    ra, dec = _number(cards, "RA", 0.0, 360.0), _number(cards, "DEC", -90.0, 90.0)
    if ra is None or dec is None:
        raise _bad_header(f"the position is RA {cards.get('RA')!r}, DEC {cards.get('DEC')!r}")
    object_name = _text(cards, "OBJNAME")
    return SpectrumHeader(
        obsid=obsid,
        layout=layout,
        ra=ra % 360.0,
        dec=dec,
        designation=_text(cards, "DESIG"),
        object_name=object_name,
        mjd=_whole(cards, "MJD", 1, 200_000),
        lmjd=lmjd,
        plan_id=plan_id,
        spectrograph_id=spectrograph,
        fiber_id=fiber,
        data_version=_text(cards, "DATA_V"),
        pipeline_version=_text(cards, "VERSPIPE"),
        object_class=_text(cards, "CLASS"),
        object_subclass=_text(cards, "SUBCLASS"),
        redshift=_number(cards, "Z", -1.0, 20.0),
        redshift_error=_number(cards, "Z_ERR", 0.0, 20.0),
        **{f"snr_{band}": _signal_to_noise(cards, band) for band in "ugriz"},
        fiber_mask=_whole(cards, "FIBERMAS" if "FIBERMAS" in cards else "FIB_MASK", 0, 2**31 - 1),
        gaia_source_id=_gaia_candidate(cards, object_name),
    )


def derived_obsid(lmjd: int, plan_id: str, spectrograph_id: int, fiber_id: int) -> int:
    """The obsid of a spectrum whose file has none (pilot survey, DR1, DR2).

    Night, plan, spectrograph and fibre name one LAMOST spectrum; they are its file name.  The obsid is
    ``-2**60 - h``, where h is the first 60 bits of the SHA-256 of ``"<lmjd>|<plan>|<spectrograph>|<fibre>"``.
    It depends on nothing else, so the same spectrum has the same obsid everywhere; a million such spectra
    hold two with the same one with a probability of 1 in 2 million.
    """
    digest = hashlib.sha256(f"{lmjd}|{plan_id}|{spectrograph_id}|{fiber_id}".encode()).digest()
    return _DERIVED_BELOW - (int.from_bytes(digest[:8], "big") >> 4)


def _signal_to_noise(cards: Mapping[str, CardValue], band: str) -> float | None:
    for key in (f"SNR{band.upper()}", f"SN_{band.upper()}"):
        value = _number(cards, key, -_LARGEST_SNR, _LARGEST_SNR)
        if value is not None and value > -999.0:
            return value
    return None


def _gaia_candidate(cards: Mapping[str, CardValue], object_name: str | None) -> int | None:
    for key in _GAIA_CARDS:
        value = _whole(cards, key, 1, _LARGEST_BIGINT)
        if value is not None:
            return value
    matched = _GAIA_NAME.match(object_name or "")
    if matched and int(matched[1]) <= _LARGEST_BIGINT:
        return int(matched[1])
    return None


def _text(cards: Mapping[str, CardValue], key: str) -> str | None:
    value = cards.get(key)
    if not isinstance(value, str):
        return None
    stripped = value.strip()[:_LONGEST_TEXT]
    return None if stripped.upper() in _NO_TEXT else stripped


def _number(cards: Mapping[str, CardValue], key: str, lower: float, upper: float) -> float | None:
    """A number within bounds; numbers in quotes occur (X_VALUE in DR5, FIBERID in DR2)."""
    value = cards.get(key)
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and lower <= number <= upper else None


def _whole(cards: Mapping[str, CardValue], key: str, lower: int, upper: int) -> int | None:
    """A whole number within bounds, exact to the last digit."""
    value = cards.get(key)
    in_quotes = isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,19}\s*", value, re.ASCII)
    exact_float = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    if value is not None and (in_quotes or exact_float):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if lower <= value <= upper else None


def _bad_header(detail: str) -> RejectedSpectrum:
    return RejectedSpectrum(RejectionReason.BAD_HEADER, detail)
