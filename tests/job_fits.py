"""Fits that take no time and need no torch, for the tests of the jobs."""

from __future__ import annotations

import numpy as np

from phdl_catalog.database.chunks import Claim
from phdl_catalog.fitting.result import FitResult
from phdl_catalog.spectra.grid import SURVEY_GRID
from phdl_catalog.spectra.records import PixelBlock
from workers.fitting import FitFunction

LABELS = ("teff", "logg", "fe_h", "mg_fe")


def quick_fit(claim: Claim, block: PixelBlock) -> FitResult:
    """A least-squares fit in one step: the depth of the lines, as four labels.  Deterministic, and fast."""
    n = len(block.flux)
    result = FitResult.empty(LABELS, n)
    use = ~block.mask & (block.ivar > 0)
    mean = np.where(use, block.flux, 0).sum(axis=1) / use.sum(axis=1)
    result.labels[:] = np.stack([5000 + 100 * mean, 3 + mean, -mean, mean - 1], axis=1)
    result.errors[:] = [50.0, 0.1, 0.05, 0.05]
    result.covariance[:] = np.einsum("ni,ij,nj->nij", result.errors, np.full((4, 4), 0.5), result.errors)
    result.flags[:] = 0
    result.label_flags[:] = 0
    for name, value in {"rv": 1.5, "e_rv": 0.5, "chi2": 1.0, "snr": 50.0, "distance": 0.0}.items():
        getattr(result, name)[:] = value
    result.n_pixels[:] = use.sum(axis=1)
    result.n_iterations[:] = 1
    assert block.grid == SURVEY_GRID
    return result


def poisoned(obsids: set[int], fit: FitFunction = quick_fit) -> FitFunction:
    """A fit that raises where one of some spectra is in the chunk."""

    def run(claim: Claim, block: PixelBlock) -> FitResult:
        if obsids & set(block.obsid.tolist()):
            raise ValueError("a pixel of these spectra is beyond belief")
        return fit(claim, block)

    return run
