"""What a fit gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.errors import InputError
from phdl_catalog.fitting.flags import FitFlag, LabelFlag
from phdl_catalog.spectra.grid import PixelGrid

#: Arrays of `FittedPixels` that have a row for each star.
_BY_STAR = ("model", "continuum", "error", "weight")


@dataclass(frozen=True)
class FittedPixels:
    """The pixels of a fit, for a figure or for the study of residuals.

    Parameters
    ----------
    wavelength : (P,) float64
        As given to the fit [Angstrom].
    model : (N, P) float32
        Fitted model with velocity and line width, continuum-normalised; NaN outside the model's range.
    continuum : (N, P) float32
        Fitted pseudo-continuum, in the units of the flux; NaN outside the model's range.
    error : (N, P) float32
        One sigma of a pixel, error floor included, in the units of the flux; NaN where it was not used.
    weight : (N, P) float32
        What a pixel counted: 1, less for outliers, 0 where it was not used.
    """

    wavelength: NDArray[np.float64]
    model: NDArray[np.float32]
    continuum: NDArray[np.float32]
    error: NDArray[np.float32]
    weight: NDArray[np.float32]

    @classmethod
    def empty(cls, grid: PixelGrid, size: int) -> FittedPixels:
        """Of `size` spectra, no pixel used."""
        nothing = [
            np.full((size, grid.size), value, dtype=np.float32) for value in (np.nan, np.nan, np.nan, 0.0)
        ]
        return cls(grid.wavelength, *nothing)


@dataclass(frozen=True)
class FitResult:
    """Labels, errors and flags of N spectra; NaN where a fit failed.

    Parameters
    ----------
    label_names : tuple of str
        The L labels, in order.
    labels : (N, L) float64
        Values, in the units of `phdl_catalog.labels`: the mean of all that is possible between the bounds of
        the fit; see `phdl_catalog.fitting.uncertainty`.
    errors : (N, L) float64
        One sigma of the same, everything else that was fitted marginalised.
    bounds : (N, L) float64
        Cramer-Rao bounds: what the errors would be without the label's own bounds, if those of all pixels
        were independent.
    covariance : (N, L, L) float64
        Its diagonal is ``errors**2``.
    information : (N, L) float64
        Fraction of what is known of a label that comes from the data, 0 to 1.
    contrast : (N, L) float64
        By how many sigma spectra at the two ends of a label's range differ; see
        `phdl_catalog.fitting.sensitivity`.
    rv, e_rv : (N,) float64
        Velocity c z and its error [km/s], in the frame of the wavelengths (LAMOST: heliocentric, vacuum);
        the error includes the survey's wavelength calibration (`FitOptions.velocity_floor`).
    line_variance, e_line_variance : (N,) float64
        Variance of the line-spread function beyond the model's, and its error [square pixels of 1e-4 dex].
    error_floor : (N,) float64
        Median over the used pixels of the error that was added, as a fraction of the continuum.
    chi2 : (N,) float64
        Reduced chi2 with the noise given (and the model's stated error), without error floor and with
        outliers counted as the fit counts them.
    snr : (N,) float64
        Median S/N of the used pixels.
    flags : (N,) int64
        Bits of `FitFlag`.
    label_flags : (N, L) int32
        Bits of `LabelFlag`.
    corrected : (N,) bool
        Whether the model was corrected for real stars.
    n_pixels : (N,) int64
        Pixels used.
    n_iterations : (N,) int64
        Times the model was evaluated.
    distance : (N,) float64
        Distance of the labels of the atmosphere from the training region, at most 1 inside: that of what the
        data say of each or that of the minimum of chi2, whichever is larger.
    pixels : FittedPixels, optional
        If they were asked for.
    """

    label_names: tuple[str, ...]
    labels: NDArray[np.float64]
    errors: NDArray[np.float64]
    bounds: NDArray[np.float64]
    covariance: NDArray[np.float64]
    information: NDArray[np.float64]
    contrast: NDArray[np.float64]
    rv: NDArray[np.float64]
    e_rv: NDArray[np.float64]
    line_variance: NDArray[np.float64]
    e_line_variance: NDArray[np.float64]
    error_floor: NDArray[np.float64]
    chi2: NDArray[np.float64]
    snr: NDArray[np.float64]
    flags: NDArray[np.int64]
    label_flags: NDArray[np.int32]
    corrected: NDArray[np.bool_]
    n_pixels: NDArray[np.int64]
    n_iterations: NDArray[np.int64]
    distance: NDArray[np.float64]
    pixels: FittedPixels | None = None

    def __len__(self) -> int:
        return len(self.flags)

    @property
    def failed(self) -> NDArray[np.bool_]:
        """(N,) True where there are no labels."""
        return (self.flags & (FitFlag.NO_DATA | FitFlag.FAILED)) != 0

    @classmethod
    def empty(cls, label_names: Sequence[str], size: int, pixels: FittedPixels | None = None) -> FitResult:
        """Results of fits that have not been made: NaN, and the flag FAILED."""
        n_labels = len(label_names)

        def nan(*shape: int) -> NDArray[np.float64]:
            return np.full((size, *shape), np.nan)

        return cls(
            label_names=tuple(label_names),
            labels=nan(n_labels),
            errors=nan(n_labels),
            bounds=nan(n_labels),
            covariance=nan(n_labels, n_labels),
            information=nan(n_labels),
            contrast=nan(n_labels),
            rv=nan(),
            e_rv=nan(),
            line_variance=nan(),
            e_line_variance=nan(),
            error_floor=nan(),
            chi2=nan(),
            snr=nan(),
            flags=np.full(size, int(FitFlag.FAILED), dtype=np.int64),
            label_flags=np.full((size, n_labels), int(LabelFlag.NO_FIT), dtype=np.int32),
            corrected=np.zeros(size, dtype=np.bool_),
            n_pixels=np.zeros(size, dtype=np.int64),
            n_iterations=np.zeros(size, dtype=np.int64),
            distance=nan(),
            pixels=pixels,
        )

    def rows(self, index: NDArray[np.int64]) -> FitResult:
        """The results of some of the spectra."""
        part = {
            field.name: getattr(self, field.name)[index]
            for field in fields(self)
            if field.name not in ("label_names", "pixels")
        }
        pixels = None
        if self.pixels is not None:
            arrays = (getattr(self.pixels, name)[index] for name in _BY_STAR)
            pixels = FittedPixels(self.pixels.wavelength, *arrays)
        return FitResult(self.label_names, **part, pixels=pixels)

    def put(self, rows: NDArray[np.int64], part: FitResult) -> None:
        """Write the results of some of the stars into the arrays of this one."""
        if part.label_names != self.label_names:
            raise InputError(f"results have labels {part.label_names}, not {self.label_names}")
        for field in fields(self):
            if field.name in ("label_names", "pixels"):
                continue
            getattr(self, field.name)[rows] = getattr(part, field.name)
        if self.pixels is not None and part.pixels is not None:
            for name in _BY_STAR:
                getattr(self.pixels, name)[rows] = getattr(part.pixels, name)
