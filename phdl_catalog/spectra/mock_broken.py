"""Files that are no usable spectrum, made from one that is: each kind of damage that releases really have."""

from __future__ import annotations

import gzip
from dataclasses import replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.spectra.mock_file import Card, dr10_bytes, header_bytes, primary_cards, table_bytes
from phdl_catalog.spectra.spectrum import RejectionReason, Spectrum


class Damage(StrEnum):
    """What is wrong with a file."""

    CUT_SHORT = "cut_short"
    """A download that stopped half way."""

    CUT_SHORT_PACKED = "cut_short_packed"
    """The same, of a packed file."""

    NO_BYTES = "no_bytes"
    """A file that was created and never written."""

    ERROR_PAGE = "error_page"
    """A server's answer instead of the file."""

    POINTER = "pointer"
    """A text that says where the file is."""

    NO_NUMBERS = "no_numbers"
    """Pixels that are all NaN: the reduction failed."""

    ALL_MASKED = "all_masked"
    """A fibre without light: every pixel is bad in every exposure."""

    WAVELENGTH_FOLDED = "wavelength_folded"
    """Wavelengths that do not increase."""

    NO_POSITION = "no_position"
    """A header without a position."""

    OTHER_TELESCOPE = "other_telescope"
    """A spectrum of another survey."""

    TWO_ARMS = "two_arms"
    """A medium-resolution spectrum among the low-resolution ones."""


#: What an ingest must say of each.
EXPECTED_REASON: dict[Damage, RejectionReason] = {
    Damage.CUT_SHORT: RejectionReason.TRUNCATED,
    Damage.CUT_SHORT_PACKED: RejectionReason.TRUNCATED,
    Damage.NO_BYTES: RejectionReason.EMPTY,
    Damage.ERROR_PAGE: RejectionReason.NOT_FITS,
    Damage.POINTER: RejectionReason.NOT_FITS,
    Damage.NO_NUMBERS: RejectionReason.NO_FINITE_PIXELS,
    Damage.ALL_MASKED: RejectionReason.NO_GOOD_PIXELS,
    Damage.WAVELENGTH_FOLDED: RejectionReason.WAVELENGTH_NOT_MONOTONIC,
    Damage.NO_POSITION: RejectionReason.BAD_HEADER,
    Damage.OTHER_TELESCOPE: RejectionReason.OTHER_SURVEY,
    Damage.TWO_ARMS: RejectionReason.MEDIUM_RESOLUTION,
}

#: What an archive would not pack again after the damage.
NOT_PACKED = (Damage.CUT_SHORT_PACKED, Damage.NO_BYTES, Damage.ERROR_PAGE, Damage.POINTER)


def broken_file(spectrum: Spectrum, damage: Damage) -> bytes:
    """The bytes of a file that would be `spectrum`, had it not come to this damage."""
    match damage:
        case Damage.CUT_SHORT:
            content = dr10_bytes(spectrum)
            return content[: len(content) // 2]
        case Damage.CUT_SHORT_PACKED:
            packed = gzip.compress(dr10_bytes(spectrum), compresslevel=1, mtime=0)
            return packed[: len(packed) * 2 // 3]
        case Damage.NO_BYTES:
            return b""
        case Damage.ERROR_PAGE:
            return b"<html><head><title>503 Service Unavailable</title></head></html>\n"
        case Damage.POINTER:
            return b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 109440\n"
        case Damage.NO_NUMBERS:
            return dr10_bytes(replace(spectrum, flux=np.full_like(spectrum.flux, np.nan)))
        case Damage.ALL_MASKED:
            return dr10_bytes(replace(spectrum, andmask=np.ones_like(spectrum.andmask)))
        case Damage.WAVELENGTH_FOLDED:
            return _with_table(spectrum, "COADD", wavelength=spectrum.wavelength[::-1])
        case Damage.NO_POSITION:
            return _with_cards(spectrum, drop=("RA", "DEC"))
        case Damage.OTHER_TELESCOPE:
            cards = (Card("TELESCOP", "SDSS 2.5-M"), Card("DATA_V", "DR17"))
            return _with_cards(spectrum, drop=("TELESCOP", "DATA_V"), add=cards)
        case Damage.TWO_ARMS:
            return _with_table(spectrum, "COADD_B", wavelength=spectrum.wavelength)


def _with_cards(spectrum: Spectrum, drop: tuple[str, ...], add: tuple[Card, ...] = ()) -> bytes:
    cards = [card for card in primary_cards(spectrum) if card.key not in drop]
    whole = dr10_bytes(spectrum)
    table = whole[len(header_bytes(primary_cards(spectrum))) :]
    return header_bytes([*cards, *add]) + table


def _with_table(spectrum: Spectrum, name: str, wavelength: NDArray[np.float64]) -> bytes:
    columns: dict[str, NDArray[np.generic]] = {
        "FLUX": spectrum.flux,
        "IVAR": spectrum.ivar,
        "WAVELENGTH": wavelength,
        "ANDMASK": spectrum.andmask,
        "ORMASK": spectrum.ormask,
    }
    return header_bytes(primary_cards(spectrum)) + table_bytes(columns, name)
