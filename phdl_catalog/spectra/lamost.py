"""Reading one LAMOST low-resolution spectrum: four layouts, recognised by content, never by file name.

| layout | structure | wavelength |
| --- | --- | --- |
| pilot | image 5 x N: flux, inverse variance, flux / continuum, two masks | ``10**(COEFF0 + COEFF1 i)`` |
| dr1 | image 5 x N of float64, third row the wavelength | row |
| dr5 | image 5 x N of float32, third row the wavelength | row |
| dr9 | empty primary (its NAXIS1 and NAXIS2 are left over and mean nothing), table COADD | column |
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.errors import InputError, RejectedSpectrum
from phdl_catalog.spectra.files import load_file, unpack
from phdl_catalog.spectra.fits_blocks import CardValue, HeaderUnit, image, next_start, read_header, table
from phdl_catalog.spectra.grid import LOG10_STEP, SURVEY_GRID, PixelGrid
from phdl_catalog.spectra.lamost_header import read_facts
from phdl_catalog.spectra.masks import clean_pixels, good_pixels
from phdl_catalog.spectra.spectrum import Layout, RejectionReason, Spectrum

#: Fewest pixels of a spectrum; real ones have 3,700 to 3,909.
FEWEST_PIXELS = 1000

#: Rows of the image layouts.
_IMAGE_ROWS = 5

_COLUMNS = ("FLUX", "IVAR", "WAVELENGTH", "ANDMASK", "ORMASK")

#: What marks a table of medium resolution: names of its extensions, and its wavelength column.
_MEDIUM_PREFIXES = ("COADD_B", "COADD_R", "B-", "R-")
_MEDIUM_COLUMN = "LOGLAM"


def read_spectrum(path: str | os.PathLike[str]) -> Spectrum:
    """Read one file, packed with gzip or not.

    Raises
    ------
    RejectedSpectrum
        If it is not a usable low-resolution LAMOST spectrum; `reason` is a `RejectionReason`.
    """
    return parse_spectrum(load_file(path).data)


def parse_spectrum(data: bytes) -> Spectrum:
    """Read one spectrum from the bytes of its file, packed with gzip or not.

    Raises
    ------
    RejectedSpectrum
        If it is not a usable low-resolution LAMOST spectrum; `reason` is a `RejectionReason`.
    """
    content = unpack(data)
    primary = read_header(content, 0)
    if primary.cards.get("SIMPLE") is not True:
        raise RejectedSpectrum(RejectionReason.NOT_FITS, "the card SIMPLE does not say T")
    _require_lamost(primary.cards)
    with np.errstate(all="ignore"):  # damaged numbers overflow; each is looked at before it is used
        return _from_image(content, primary) if primary.data_bytes else _from_table(content, primary)


def _require_lamost(cards: Mapping[str, CardValue]) -> None:
    telescope = str(cards.get("TELESCOP") or "").strip()
    origin = " ".join(str(cards.get(key) or "") for key in ("ORIGIN", "DATA_V", "AUTHOR"))
    if telescope != "LAMOST" and "LAMOST" not in origin:
        raise RejectedSpectrum(
            RejectionReason.OTHER_SURVEY, f"the telescope is {telescope!r}, and nothing else says LAMOST"
        )


def _from_image(content: bytes, primary: HeaderUnit) -> Spectrum:
    shape = primary.shape
    if len(shape) != 2 or shape[0] != _IMAGE_ROWS or primary.integer("BITPIX") not in (-32, -64):
        raise RejectedSpectrum(
            RejectionReason.WRONG_SHAPE,
            f"an image of shape {shape} and BITPIX {primary.integer('BITPIX')}, not (5, N) and -32 or -64",
        )
    _require_plain_numbers(primary.cards, ("BSCALE", "BZERO"))
    _require_length(shape[1])
    flux, ivar, third, andmask, ormask = image(content, primary)
    if _third_row_is_wavelength(primary.cards, third):
        layout = Layout.DR1 if primary.integer("BITPIX") == -64 else Layout.DR5
        grid = _grid_of(third)
    else:
        layout = Layout.PILOT
        grid = _grid_of_header(primary.cards, shape[1])
    return _assemble(primary.cards, layout, grid, flux, ivar, andmask, ormask)


def _from_table(content: bytes, primary: HeaderUnit) -> Spectrum:
    start = next_start(primary)
    if start >= len(content):
        raise RejectedSpectrum(
            RejectionReason.TRUNCATED if primary.cards.get("N_EXTEN") else RejectionReason.WRONG_SHAPE,
            "the file ends after an empty primary header",
        )
    if content[start : start + 8] != b"XTENSION":
        raise RejectedSpectrum(RejectionReason.CORRUPT, "what follows the primary header is no extension")
    unit = read_header(content, start)
    if str(unit.cards.get("XTENSION")).strip() != "BINTABLE":
        raise RejectedSpectrum(
            RejectionReason.WRONG_SHAPE,
            f"the first extension is a {unit.cards.get('XTENSION')!r}, not a table",
        )
    named = {str(unit.cards[key]).strip().upper() for key in unit.cards if key.startswith("TTYPE")}
    if unit.extension_name.startswith(_MEDIUM_PREFIXES) or _MEDIUM_COLUMN in named:
        raise RejectedSpectrum(
            RejectionReason.MEDIUM_RESOLUTION, f"the first table is {unit.extension_name!r}, in two arms"
        )
    columns = table(content, unit)
    missing = [name for name in _COLUMNS if name not in columns]
    if missing:
        raise RejectedSpectrum(RejectionReason.WRONG_SHAPE, f"the table has no column {', '.join(missing)}")
    fields = range(1, unit.integer("TFIELDS") + 1)
    _require_plain_numbers(unit.cards, [f"{key}{field}" for field in fields for key in ("TSCAL", "TZERO")])
    shapes = {columns[name].shape for name in _COLUMNS}
    if len(shapes) != 1 or next(iter(shapes))[0] != 1:
        listed = ", ".join(f"{name} {columns[name].shape}" for name in _COLUMNS)
        raise RejectedSpectrum(RejectionReason.WRONG_SHAPE, f"columns should have shape (1, N), not {listed}")
    flux, ivar, wavelength, andmask, ormask = (columns[name][0] for name in _COLUMNS)
    if any(array.dtype.kind not in "fiu" for array in (flux, ivar, wavelength, andmask, ormask)):
        raise RejectedSpectrum(RejectionReason.WRONG_SHAPE, "a column does not hold numbers")
    _require_length(flux.size)
    return _assemble(primary.cards, Layout.DR9, _grid_of(wavelength), flux, ivar, andmask, ormask)


def _require_plain_numbers(cards: Mapping[str, CardValue], keys: tuple[str, ...] | list[str]) -> None:
    for key in keys:
        if cards.get(key) not in (None, 0 if "ZERO" in key else 1):
            raise RejectedSpectrum(
                RejectionReason.WRONG_SHAPE,
                f"numbers scaled by {key} = {cards[key]!r}, which no LAMOST file has",
            )


def _require_length(pixels: int) -> None:
    if not FEWEST_PIXELS <= pixels <= SURVEY_GRID.size:
        raise RejectedSpectrum(
            RejectionReason.WRONG_SHAPE, f"{pixels:,} pixels, not {FEWEST_PIXELS:,} to {SURVEY_GRID.size:,}"
        )


def _third_row_is_wavelength(cards: Mapping[str, CardValue], row: NDArray[np.generic]) -> bool:
    """Tell wavelengths from flux / continuum: by what the header says of the rows, else by size."""
    rows = str(cards.get("EXTEN0") or "").lower()
    if "wavelength" in rows:
        return True
    if "continuum" in rows:
        return False
    return bool(np.median(np.asarray(row, dtype=np.float64)) > 1000)


def _grid_of(wavelength: NDArray[np.generic]) -> PixelGrid:
    values = np.asarray(wavelength, dtype=np.float64)
    if not (np.all(np.diff(values) > 0) and np.all(np.isfinite(values)) and values[0] > 0):
        raise RejectedSpectrum(
            RejectionReason.WAVELENGTH_NOT_MONOTONIC,
            "wavelengths must be positive and increase from pixel to pixel",
        )
    try:
        grid = PixelGrid.from_wavelength(values)
    except InputError as error:
        raise RejectedSpectrum(RejectionReason.WAVELENGTH_OFF_GRID, str(error)) from error
    return _inside_survey(grid)


def _grid_of_header(cards: Mapping[str, CardValue], pixels: int) -> PixelGrid:
    start, step = cards.get("COEFF0"), cards.get("COEFF1")
    if not (isinstance(start, float) and isinstance(step, float) and 3.0 < start < 5.0):
        raise RejectedSpectrum(
            RejectionReason.BAD_HEADER, f"no wavelengths: COEFF0 is {start!r} and COEFF1 is {step!r}"
        )
    first = round(start / LOG10_STEP)
    if not (abs(step - LOG10_STEP) <= 1e-9 and abs(start / LOG10_STEP - first) <= 0.02):
        raise RejectedSpectrum(
            RejectionReason.WAVELENGTH_OFF_GRID, f"log10 wavelength starts at {start} with step {step}"
        )
    return _inside_survey(PixelGrid(first, pixels))


def _inside_survey(grid: PixelGrid) -> PixelGrid:
    if grid.first < SURVEY_GRID.first or grid.stop > SURVEY_GRID.stop:
        raise RejectedSpectrum(
            RejectionReason.WAVELENGTH_OFF_GRID,
            f"pixels {grid.first}..{grid.stop} are not all in {SURVEY_GRID.first}..{SURVEY_GRID.stop}",
        )
    return grid


def _assemble(
    cards: Mapping[str, CardValue],
    layout: Layout,
    grid: PixelGrid,
    flux: NDArray[np.generic],
    ivar: NDArray[np.generic],
    andmask: NDArray[np.generic],
    ormask: NDArray[np.generic],
) -> Spectrum:
    facts = read_facts(cards, layout)
    raw_flux, raw_ivar = flux.astype(np.float32), ivar.astype(np.float32)
    if not np.any(np.isfinite(raw_flux) & np.isfinite(raw_ivar)):
        raise RejectedSpectrum(RejectionReason.NO_FINITE_PIXELS, "not one pixel is a number")
    clean_flux, clean_ivar = clean_pixels(raw_flux, raw_ivar)
    bits = [_mask_bits(array) for array in (andmask, ormask)]
    if not np.any(good_pixels(clean_ivar, *bits)):
        raise RejectedSpectrum(RejectionReason.NO_GOOD_PIXELS, "every pixel is masked or has no weight")
    return Spectrum(facts, grid.first, clean_flux, clean_ivar, *bits)


def _mask_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Mask bits, from the floats the files hold; every bit where that is no whole number below 128."""
    numbers = np.asarray(values, dtype=np.float64)
    valid = (numbers >= 0) & (numbers < 128) & (numbers == np.floor(numbers))
    return np.where(valid, numbers, 127).astype(np.uint8)
