"""A fit on the pixels that were given, for a figure or for the study of residuals."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from phdl_catalog.fitting.optimiser import Solution
from phdl_catalog.fitting.prepare import PreparedSpectra
from phdl_catalog.fitting.result import FittedPixels
from phdl_catalog.fitting.velocity import Alignment
from phdl_catalog.spectra.grid import PixelGrid


def fitted_pixels(
    spectra: PreparedSpectra,
    good: NDArray[np.int64],
    first: int,
    alignment: Alignment,
    solution: Solution,
) -> FittedPixels:
    """Model, continuum, error and weight back on the pixels that were given.

    Parameters
    ----------
    spectra : PreparedSpectra
        What was given.
    good : (N,) int64
        Rows of those that were fitted.
    first : int
        Number of the first pixel of the fit.
    alignment : Alignment
        Where the fitted ones were.
    solution : Solution
        Where their fits ended.
    """
    out = FittedPixels.empty(spectra.grid, len(good))
    point, weights = solution.point, solution.weights
    used = solution.observation.use > 0
    error = torch.where(used, weights.variance.sqrt(), torch.full_like(point.curve, torch.nan))
    arrays = {
        "model": (point.state.flux, False),
        "continuum": (point.curve, True),
        "error": (error, True),
        "weight": (weights.weight * weights.variance, False),
    }
    for name, (values, in_flux_units) in arrays.items():
        rows = values.cpu().numpy()
        for number, (row, pixels) in enumerate(zip(rows, alignment.pixels.cpu().tolist(), strict=True)):
            source = PixelGrid(first + pixels, len(row))
            start, stop = max(source.first, spectra.grid.first), min(source.stop, spectra.grid.stop)
            factor = spectra.scale[good[number]] if in_flux_units else 1.0
            getattr(out, name)[number, start - spectra.grid.first : stop - spectra.grid.first] = (
                row[start - source.first : stop - source.first] * factor
            )
    return out
