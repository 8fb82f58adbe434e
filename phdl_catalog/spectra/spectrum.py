"""What one observed spectrum is: the facts of its header, and its pixels on the survey's grid."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.errors import InputError
from phdl_catalog.spectra.grid import PixelGrid


class Layout(StrEnum):
    """How a LAMOST file is laid out; told from its content, not from the release it says it belongs to."""

    PILOT = "pilot"
    """5 x N image without wavelengths: flux, inverse variance, flux / continuum, andmask, ormask."""

    DR1 = "dr1"
    """5 x N image of float64 whose third row is the wavelength (DR1 to DR3)."""

    DR5 = "dr5"
    """5 x N image of float32 whose third row is the wavelength (late DR3, DR5 to DR8)."""

    DR9 = "dr9"
    """Empty primary and a binary table COADD of one row (DR9 and later)."""


class RejectionReason(StrEnum):
    """Why a file is not a usable low-resolution spectrum.

    These words are the same in the database, in JSON and in ``docs/reference/ingest.md``.
    """

    EMPTY = "empty"
    """The file has no bytes."""

    UNREADABLE = "unreadable"
    """The file cannot be opened or read: missing, no permission, not a regular file, an I/O error."""

    TOO_LARGE = "too_large"
    """The file, or what it unpacks or claims to unpack to, is larger than any spectrum file."""

    NOT_FITS = "not_fits"
    """The content is not FITS (text, an archive, a picture, ...)."""

    TRUNCATED = "truncated"
    """The file ends before the data its headers announce, or in the middle of its gzip stream."""

    CORRUPT = "corrupt"
    """The gzip stream or the structure of the FITS headers is damaged."""

    MEDIUM_RESOLUTION = "medium_resolution"
    """A LAMOST spectrum of medium resolution (R = 7500)."""

    OTHER_SURVEY = "other_survey"
    """A FITS file that does not come from LAMOST."""

    WRONG_SHAPE = "wrong_shape"
    """The data have not the shape or type of a low-resolution spectrum."""

    BAD_HEADER = "bad_header"
    """A fact that every spectrum must have (identity, position) is missing or impossible."""

    WAVELENGTH_NOT_MONOTONIC = "wavelength_not_monotonic"
    """Wavelengths do not increase from pixel to pixel, or are not numbers."""

    WAVELENGTH_OFF_GRID = "wavelength_off_grid"
    """Wavelengths are not on the survey's grid of 1e-4 in log10, or outside its range."""

    NO_FINITE_PIXELS = "no_finite_pixels"
    """Not one pixel has a finite flux and a finite inverse variance."""

    NO_GOOD_PIXELS = "no_good_pixels"
    """The mask policy leaves no pixel to fit."""


@dataclass(frozen=True)
class SpectrumHeader:
    """Facts about one observed spectrum; None where the file does not say.

    Parameters
    ----------
    obsid : int
        Number of the spectrum within its release; derived, and negative, where the file has none
        (see `phdl_catalog.spectra.lamost_header.derived_obsid`).
    layout : Layout
        How the file was laid out.
    designation, object_name : str, optional
        Name by position, ``LAMOST Jhhmmss.ss+ddmmss.s``; name in the input catalogue.
    ra, dec : float
        Position [deg], FK5 2000.
    mjd, lmjd : int, optional
        Modified Julian Day, in UTC and in local time [d].
    plan_id : str, optional
        Name of the observation plan.
    spectrograph_id, fiber_id : int, optional
        1 to 16; 1 to 250.
    data_version, pipeline_version : str, optional
        Data release and pipeline that the file names.
    object_class, object_subclass : str, optional
        Spectral type of the survey's pipeline.
    redshift, redshift_error : float, optional
        Of the survey's pipeline; None where it failed (-9999).
    snr_u, snr_g, snr_r, snr_i, snr_z : float, optional
        Signal to noise per pixel in five bands.
    fiber_mask : int, optional
        Bits of warnings about the fibre (FIBERMAS, FIB_MASK).
    gaia_source_id : int, optional
        What may be a Gaia source id, from a header card of its own or from the object's name.  It is a
        *candidate*: ingest keeps it only where the HEALPix number in it agrees with the position.
    """

    obsid: int
    layout: Layout
    ra: float
    dec: float
    designation: str | None = None
    object_name: str | None = None
    mjd: int | None = None
    lmjd: int | None = None
    plan_id: str | None = None
    spectrograph_id: int | None = None
    fiber_id: int | None = None
    data_version: str | None = None
    pipeline_version: str | None = None
    object_class: str | None = None
    object_subclass: str | None = None
    redshift: float | None = None
    redshift_error: float | None = None
    snr_u: float | None = None
    snr_g: float | None = None
    snr_r: float | None = None
    snr_i: float | None = None
    snr_z: float | None = None
    fiber_mask: int | None = None
    gaia_source_id: int | None = None


@dataclass(frozen=True)
class Spectrum:
    """One observed spectrum, as the file has it: no interpolation, no normalisation.

    Flux and inverse variance are finite everywhere: where the file's are not, both are 0 (see
    `phdl_catalog.spectra.masks`).

    Parameters
    ----------
    header : SpectrumHeader
        The facts.
    first_pixel : int
        Number of the first pixel on the survey's grid: ``log10(wavelength / Angstrom) / 1e-4``.
    flux : (N,) float32
        Relative flux.
    ivar : (N,) float32
        Inverse variance of `flux`; 0 where there are no data.
    andmask, ormask : (N,) uint8
        Mask bits set in every, and in any, exposure.
    """

    header: SpectrumHeader
    first_pixel: int
    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    andmask: NDArray[np.uint8]
    ormask: NDArray[np.uint8]

    def __post_init__(self) -> None:
        shapes = {name: getattr(self, name).shape for name in ("flux", "ivar", "andmask", "ormask")}
        if len(set(shapes.values())) != 1 or self.flux.ndim != 1:
            listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise InputError(f"flux, ivar and masks must all have shape (N,), not {listed}")

    @property
    def grid(self) -> PixelGrid:
        """The stretch of the survey's grid this spectrum covers."""
        return PixelGrid(self.first_pixel, self.flux.size)

    @property
    def wavelength(self) -> NDArray[np.float64]:
        """(N,) wavelengths in vacuum [Angstrom]."""
        return self.grid.wavelength
