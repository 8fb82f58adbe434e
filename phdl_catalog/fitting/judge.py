"""Deciding what is wrong with a fit: the rules behind every flag."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.emulator.region import CARBON_STARS_BELOW, LARGEST_CARBON_EXCESS
from phdl_catalog.fitting.flags import FitFlag, LabelFlag
from phdl_catalog.fitting.kernel import LARGEST_SHIFT
from phdl_catalog.fitting.options import FitOptions
from phdl_catalog.fitting.result import FitResult

#: Velocity error over which a velocity is not believed [km/s].
_LARGEST_VELOCITY_ERROR = 30.0

#: How far the velocity may end from the peak of the search [pixels]: nearly at the end of what is allowed.
_LARGEST_MOVE = 0.98 * LARGEST_SHIFT

#: Reduced chi2 over which a fit without error floors is poor.
_LARGEST_CHI2 = 10.0

#: By how many sigma spectra at the two ends of a label's range have to differ for it to be measured.
LEAST_CONTRAST = 5.0

#: By how many errors a cool star has to have more carbon for its oxygen than any of the grid.
_CARBON_SIGMA = 2.0

#: Labels that flag the whole fit when they are at a bound, or outside the range of the training grid.
_MAIN_LABELS = ("teff", "logg", "fe_h")


def judge(
    result: FitResult,
    *,
    alone: NDArray[np.float64],
    alone_errors: NDArray[np.float64],
    minimum: NDArray[np.float64],
    at_bound: NDArray[np.bool_],
    bounds: NDArray[np.float64],
    label_range: NDArray[np.float64],
    options: FitOptions,
    converged: NDArray[np.bool_],
    unique_velocity: NDArray[np.bool_],
    shift: NDArray[np.float64],
    model_pixels: int,
    emission: NDArray[np.bool_],
    double_lined: NDArray[np.bool_],
    cool: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Flags of N fits that have labels.

    Parameters
    ----------
    result : FitResult
        All but the flags.
    alone, alone_errors : (N, L) float64
        What the data say of each label without its own bounds.
    minimum : (N, L) float64
        Labels at the minimum of the cost, which may be outside the grid where what the data say of each label
        is not.
    at_bound : (N, L) bool
        Which labels are at a bound by what the data say of each.
    bounds : (L, 2) float64
        Bounds of the fit.
    label_range : (L, 2) float64
        Range of the training grid.
    options : FitOptions
        Limits.
    converged, unique_velocity : (N,) bool
        From the optimiser and from the velocity search.
    shift : (N,) float64
        How far the velocity moved during the fit [pixels].
    model_pixels : int
        Pixels that a complete spectrum has.
    emission, double_lined, cool : (N,) bool
        From `find_suspects`.

    Returns
    -------
    flags : (N,) int64
        Bits of `FitFlag`.
    label_flags : (N, L) int32
        Bits of `LabelFlag`.
    """
    main = [index for index, name in enumerate(result.label_names) if name in _MAIN_LABELS]
    outside_range, end_outside = (
        (labels < label_range[:, 0]) | (labels > label_range[:, 1]) for labels in (alone, minimum)
    )
    outside = (result.distance > 1.0) | (outside_range | end_outside)[:, main].any(axis=1) | cool
    outside |= carbon_stars(result)
    unconstrained = result.contrast < LEAST_CONTRAST

    label_flags = np.zeros(result.labels.shape, dtype=np.int32)
    label_flags[at_bound] |= int(LabelFlag.AT_BOUND)
    label_flags[outside_range | outside[:, None]] |= int(LabelFlag.OUTSIDE_GRID)
    label_flags[unconstrained] |= int(LabelFlag.UNCONSTRAINED)

    # What is nearer to a bound than its error may as well be beyond.
    near = at_bound.copy()
    for labels in (alone, minimum):
        near |= (labels - alone_errors <= bounds[:, 0]) | (labels + alone_errors >= bounds[:, 1])
    if options.fit_error_floor:
        poor = result.error_floor > options.largest_floor
    else:
        poor = result.chi2 > _LARGEST_CHI2
    bad_velocity = (
        ~unique_velocity | (np.abs(shift) > _LARGEST_MOVE) | (result.e_rv > _LARGEST_VELOCITY_ERROR)
    )
    flags = np.zeros(len(result), dtype=np.int64)
    for flag, condition in (
        (FitFlag.NOT_CONVERGED, ~converged),
        (FitFlag.BAD_VELOCITY, bad_velocity),
        (FitFlag.OUTSIDE_GRID, outside),
        (FitFlag.POOR_FIT, poor),
        (FitFlag.LOW_SNR, result.snr < options.low_snr),
        (FitFlag.AT_BOUND, near[:, main].any(axis=1)),
        (FitFlag.MOSTLY_MASKED, result.n_pixels < model_pixels // 2),
        (FitFlag.EMISSION_LINES, emission),
        (FitFlag.DOUBLE_LINED, double_lined),
    ):
        flags[condition] |= int(flag)
    return flags, label_flags


def carbon_stars(result: FitResult) -> NDArray[np.bool_]:
    """Which of N fits are of cool stars with more carbon for their oxygen than those of a grid have."""
    names = result.label_names
    if not {"teff", "c_fe", "o_fe"} <= set(names):
        return np.zeros(len(result), dtype=bool)
    teff, carbon, oxygen = (names.index(name) for name in ("teff", "c_fe", "o_fe"))
    excess = result.labels[:, carbon] - result.labels[:, oxygen] - LARGEST_CARBON_EXCESS
    both = result.covariance[:, [carbon, oxygen]][:, :, [carbon, oxygen]]
    error = np.sqrt(np.einsum("i,nij,j->n", [1.0, -1.0], both, [1.0, -1.0]))
    return np.asarray((result.labels[:, teff] < CARBON_STARS_BELOW) & (excess > _CARBON_SIGMA * error))
