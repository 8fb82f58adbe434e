"""Writing a spectrum as a file in the LAMOST DR10 layout, card by card as the survey's pipeline does.

The files are written by hand because the layout is not one that a FITS library would write: the primary
header announces no data, yet keeps the cards NAXIS1 and NAXIS2 of an image that is not there.  What is
simulated says so in ORIGIN, AUTHOR and DATA_V, so that nobody takes it for an observation.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.errors import InputError
from phdl_catalog.spectra.grid import LOG10_STEP, SPEED_OF_LIGHT
from phdl_catalog.spectra.spectrum import Spectrum, SpectrumHeader

_BLOCK = 2880
_CARD = 80

#: What the survey writes where it measured nothing.
_NO_SNR = -9999.0

#: Pixels over which the survey's NORMALIZATION column is approximated.
_NORMALISATION_PIXELS = 150


@dataclass(frozen=True)
class Card:
    """One header card: a value as it is written, and its comment; no value is a comment card."""

    key: str
    value: str | int | float | bool | None
    comment: str = ""
    digits: int = 2

    def encode(self) -> bytes:
        """The 80 bytes of the card."""
        if self.value is None:
            text = f"{self.key:<8}{self.comment}"
        else:
            text = f"{self.key:<8}= {self._value_text()} / {self.comment}"
        if len(text) > _CARD:
            raise InputError(f"the header card {self.key} is longer than {_CARD} characters: {text!r}")
        return text.ljust(_CARD).encode("ascii")

    def _value_text(self) -> str:
        if isinstance(self.value, bool):
            return f"{'T' if self.value else 'F':>20}"
        if isinstance(self.value, int):
            return f"{self.value:>20d}"
        if isinstance(self.value, float):
            return f"{self.value:>20.{self.digits}f}"
        inside = str(self.value).replace("'", "''").ljust(8)
        return f"'{inside}'".ljust(20)


def file_name(header: SpectrumHeader) -> str:
    """Name the survey gives a file: night, plan, spectrograph and fibre."""
    return f"spec-{header.lmjd}-{header.plan_id}_sp{header.spectrograph_id:02d}-{header.fiber_id:03d}.fits"


def write_dr10(path: Path, spectrum: Spectrum) -> None:
    """Write a spectrum as a DR10 file; packed if the name ends in ``.gz``, the same bytes each time."""
    content = dr10_bytes(spectrum)
    if path.suffix == ".gz":
        content = gzip.compress(content, compresslevel=1, mtime=0)
    path.write_bytes(content)


def dr10_bytes(spectrum: Spectrum) -> bytes:
    """A whole DR10 file: the header of `primary_cards`, then the table COADD."""
    columns: dict[str, NDArray[np.generic]] = {
        "FLUX": spectrum.flux,
        "IVAR": spectrum.ivar,
        "WAVELENGTH": spectrum.wavelength,
        "ANDMASK": spectrum.andmask,
        "ORMASK": spectrum.ormask,
        "NORMALIZATION": _normalisation(spectrum),
    }
    return header_bytes(primary_cards(spectrum)) + table_bytes(columns, "COADD")


def header_bytes(cards: list[Card]) -> bytes:
    """A header: its cards, END, and blanks to the end of the block."""
    content = b"".join(card.encode() for card in cards) + b"END".ljust(_CARD)
    return content.ljust(-(-len(content) // _BLOCK) * _BLOCK)


def table_bytes(columns: dict[str, NDArray[np.generic]], name: str) -> bytes:
    """A binary table of one row whose columns are arrays (N,) of float32.

    Raises
    ------
    InputError
        If the columns differ in length.
    """
    lengths = {values.shape for values in columns.values()}
    if len(lengths) != 1:
        listed = ", ".join(f"{key} {values.shape}" for key, values in columns.items())
        raise InputError(f"all columns must have one shape (N,), not {listed}")
    row = b"".join(values.astype(">f4").tobytes() for values in columns.values())
    (size,) = lengths.pop()
    cards = [
        Card("XTENSION", "BINTABLE", "Binary table written by MWRFITS v1.11b"),
        Card("BITPIX", 8, "Required value"),
        Card("NAXIS", 2, "Required value"),
        Card("NAXIS1", len(row), "Number of bytes per row"),
        Card("NAXIS2", 1, "Number of rows"),
        Card("PCOUNT", 0, "Normally 0 (no varying arrays)"),
        Card("GCOUNT", 1, "Required value"),
        Card("TFIELDS", len(columns), "Number of columns in table"),
        Card("COMMENT", None, " *** End of mandatory fields ***"),
        Card("EXTNAME", name, "The extension name"),
        *(Card(f"TTYPE{number}", key) for number, key in enumerate(columns, start=1)),
        *(Card(f"TFORM{number}", f"{size}E") for number in range(1, len(columns) + 1)),
    ]
    return header_bytes(cards) + row.ljust(-(-len(row) // _BLOCK) * _BLOCK, b"\0")


def _normalisation(spectrum: Spectrum) -> NDArray[np.float32]:
    """Flux over a coarse running median: what the survey offers as a look, and nobody fits."""
    flux = np.where(spectrum.ivar > 0, spectrum.flux, np.nan)
    blocks = np.array_split(np.arange(flux.size), flux.size // _NORMALISATION_PIXELS)
    centres = [float(block.mean()) for block in blocks]
    levels = [float(np.nanmedian(flux[block])) if np.isfinite(flux[block]).any() else 0.0 for block in blocks]
    continuum = np.interp(np.arange(flux.size), centres, levels)
    usable = np.isfinite(flux) & (continuum > 0)
    return np.where(usable, flux / np.where(usable, continuum, 1.0), 1.0).astype(np.float32)


def primary_cards(spectrum: Spectrum) -> list[Card]:
    """The cards of the primary header of a DR10 file, in the survey's order."""
    header = spectrum.header
    first = spectrum.first_pixel * LOG10_STEP
    return [
        Card("SIMPLE", True, "Primary Header created by MWRFITS v1.11b"),
        Card("BITPIX", 16),
        Card("NAXIS", 0, "Number of array dimensions"),
        Card("NAXIS1", spectrum.flux.size),
        Card("NAXIS2", 5),
        Card("EXTEND", True),
        Card("COMMENT", None, "--------FILE INFORMATION"),
        Card("FILENAME", file_name(header)),
        Card("OBSID", header.obsid, "Unique number ID of this spectrum"),
        Card("AUTHOR", "phdl-catalog", "Who compiled the information"),
        Card("DATA_V", header.data_version or "LAMOST DR10 mock", "Data release version"),
        Card("N_EXTEN", 2, "The amount of extension"),
        Card("NORM", 1, "1 if there exists a normalized spectrum"),
        Card("ORIGIN", "simulated, no observation", "Organization responsible"),
        Card("COMMENT", None, "--------TELESCOPE PARAMETERS"),
        Card("TELESCOP", "LAMOST", "GuoShouJing Telescope"),
        Card("LONGITUD", 117.58, "[deg] Longitude of site"),
        Card("LATITUDE", 40.39, "[deg] Latitude of site"),
        Card("COMMENT", None, "--------OBSERVATION PARAMETERS"),
        Card("LMJD", header.lmjd or 0, "Local Modified Julian Day"),
        Card("MJD", header.mjd or 0, "Modified Julian Day"),
        Card("PLANID", header.plan_id or "", "Plan ID in use"),
        Card("RA", header.ra, "[deg] Right ascension of object", digits=6),
        Card("DEC", header.dec, "[deg] Declination of object", digits=6),
        Card("RA_OBS", header.ra, "[deg] Right ascension during observing", digits=6),
        Card("DEC_OBS", header.dec, "[deg] Declination during observing", digits=6),
        Card("OFFSET", False, "Whether there's a offset during observing"),
        Card("OFFSET_V", 0.0, "Offset value in arcsecond"),
        Card("DESIG", header.designation or "", "Designation of LAMOST target"),
        Card("FIBERID", header.fiber_id or 0, "Fiber ID of Object"),
        Card("OBJNAME", header.object_name or "", "Name of object"),
        Card("OBJTYPE", "Star", "Object type from input catalog"),
        Card("TSOURCE", "MOCK", "Name of input catalog"),
        Card("FIB_TYPE", "Obj", "Fiber type of object"),
        Card("FIB_MASK", header.fiber_mask or 0, "Bitmask of warning values, 0 means good"),
        Card("MAG_PS_G", -999.0, "[mag] Magnitude of object"),
        Card("OBS_TYPE", "OBJ", "The type of target (OBJ, FLAT, ARC or BIAS)"),
        Card("OBSCOMM", "Science", "Science or Test"),
        Card("RADECSYS", "FK5", "Equatorial coordinate system"),
        Card("EQUINOX", 2000.0, "Equinox in years"),
        Card("NEXP", 3, "Number of valid exposures"),
        Card("EXPTIME", 1800.0, "[s] Minimum of exposure time for all cameras"),
        Card("COMMENT", None, "--------SPECTROGRAPH PARAMETERS"),
        Card("SPID", header.spectrograph_id or 0, "Spectrograph ID"),
        Card("SLIT_MOD", "x2/3", "Slit mode, x1, x2/3 or x1/2"),
        Card("COMMENT", None, "--------DATA REDUCTION PARAMETERS"),
        Card("HELIO", True, "Heliocentric correction"),
        Card("HELIO_RV", 0.0, "[km/s] Heliocentric correction", digits=5),
        Card("VACUUM", True, "Wavelengths are in vacuum"),
        Card("NWORDER", 2, "Number of linear-log10 coefficients"),
        Card("WFITTYPE", "LOG-LINEAR", "Linear-log10 dispersion"),
        Card("COEFF0", first, "Central wavelength (log10) of first pixel", digits=4),
        Card("COEFF1", LOG10_STEP, "Log10 dispersion per pixel", digits=4),
        Card("CRVAL1", first, "Central wavelength (log10) of first pixel", digits=4),
        Card("CD1_1", LOG10_STEP, "Log10 dispersion per pixel", digits=4),
        Card("CRPIX1", 1, "Starting pixel (1-indexed)"),
        Card("CTYPE1", "LINEAR"),
        Card("DC-FLAG", 1, "Log-linear flag"),
        Card("COMMENT", None, "--------SPECTRA ANALYSIS RESULTS"),
        Card("VERSPIPE", header.pipeline_version or "v2.9.8", "Version of Pipeline"),
        Card("CLASS", header.object_class or "STAR", "Class of object"),
        Card("SUBCLASS", header.object_subclass or "Non", "Subclass of object"),
        Card("Z", -9999.0 if header.redshift is None else header.redshift, "Redshift of object", digits=8),
        Card("Z_ERR", header.redshift_error or 0.0, "Redshift error of object", digits=8),
        Card("ZFLAG", "LASP", "Which method computes the redshift"),
        *(
            Card(f"SNR{band.upper()}", _snr(header, band), f"SNR of {band} filter")
            for band in ("u", "g", "r", "i", "z")
        ),
    ]


def _snr(header: SpectrumHeader, band: str) -> float:
    value = getattr(header, f"snr_{band}")
    return _NO_SNR if value is None else float(value)


def redshift_of(rv: float) -> float:
    """Redshift that the survey's header states for a radial velocity [km/s]: v / c."""
    return rv / SPEED_OF_LIGHT
