"""From labels as fitted to labels as published: correction, total error, flags, and what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.catalog.flags import CalibrationFlag
from phdl_catalog.errors import CalibrationError
from phdl_catalog.fitting.flags import LabelFlag

Singles = NDArray[np.float32]
Floats = NDArray[np.float64]


class Solution(Protocol):
    """What is asked of a calibration: `phdl_catalog.calibration.CalibrationSolution` is one."""

    @property
    def label_names(self) -> tuple[str, ...]: ...

    def correction(self, labels: Any) -> Floats: ...

    def error(self, labels: Any, errors: Any = None) -> Floats: ...

    def valid(self, labels: Any) -> NDArray[np.bool_]: ...

    def scaled_errors(self, errors: Any, snr: Any = None) -> Floats: ...


@dataclass(frozen=True, eq=False)
class PublishedLabels:
    """Labels of N stars as they are published; NaN is what becomes NULL.

    Parameters
    ----------
    raw : (N, L) float32 array
        As fitted.
    values : (N, L) float32 array
        Raw minus correction.
    errors : (N, L) float32 array
        One sigma: fit and calibration in quadrature.
    calibration_errors : (N, L) float32 array
        One sigma of the correction; NaN where none was applied.
    flags : (N, L) int64 array
        Bits of `LabelFlag` and `CalibrationFlag`.
    corrections : (N, L) float64 array
        What was subtracted; 0 where nothing was.
    """

    raw: Singles
    values: Singles
    errors: Singles
    calibration_errors: Singles
    flags: NDArray[np.int64]
    corrections: Floats


def apply_calibration(
    label_names: Sequence[str],
    labels: NDArray[np.floating[Any]],
    errors: NDArray[np.floating[Any]],
    label_flags: NDArray[np.int64],
    solution: Solution | None,
    snr: NDArray[np.floating[Any]] | None = None,
) -> PublishedLabels:
    """Labels as they are published.

    The rules, for each star and label:

    - the value is the raw one minus the correction, the error that of the fit, as repeated observations
      have it, and of the correction in quadrature;
    - outside the correction's validity the value stands, with the flag `outside_calibration`;
    - where there is no correction the value is the raw one, with the flag `not_calibrated`;
    - where the correction cannot be computed because the star's raw teff, logg or fe_h is missing there is
      no value, and the flag is `not_calibrated` too;
    - where the fit says that the spectrum does not constrain the label there is no value, no error; the
      raw value is kept.

    Parameters
    ----------
    label_names : (L,) sequence of str
        Labels of the model.
    labels, errors : (N, L) array
        As fitted; NaN for missing.
    label_flags : (N, L) int64 array
        Bits of `LabelFlag`.
    solution : Solution, optional
        The calibration; None for an uncalibrated release.
    snr : (N,) array, optional
        S/N of the fits, on which the scale of their errors depends; NaN where unknown.

    Raises
    ------
    CalibrationError
        If the solution asks for a label that the model does not have.
    """
    raw = np.asarray(labels, dtype=np.float64)
    fit_errors = np.array(errors, dtype=np.float64)
    correction, sigma, valid = _evaluate(label_names, raw, fit_errors, solution, snr)

    calibrated = np.isfinite(correction) & np.isfinite(sigma)
    flags = label_flags.astype(np.int64)
    flags[~calibrated] |= CalibrationFlag.NOT_CALIBRATED
    flags[calibrated & ~valid] |= CalibrationFlag.OUTSIDE_CALIBRATION

    hidden = (flags & LabelFlag.UNCONSTRAINED) != 0
    values = np.where(hidden, np.nan, raw - correction)
    total = np.where(np.isfinite(values), np.hypot(fit_errors, np.where(calibrated, sigma, 0.0)), np.nan)
    sigma = np.where(np.isfinite(values) & calibrated, sigma, np.nan)
    return PublishedLabels(
        raw=_single(raw),
        values=_single(values),
        errors=_single(total),
        calibration_errors=_single(sigma),
        flags=flags,
        corrections=correction,
    )


def _evaluate(
    label_names: Sequence[str],
    raw: Floats,
    errors: Floats,
    solution: Solution | None,
    snr: NDArray[np.floating[Any]] | None,
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Correction, its error and its validity, (N, L) each, in the model's order; scales `errors` in place."""
    correction = np.zeros(raw.shape)
    sigma = np.full(raw.shape, np.nan)
    valid = np.zeros(raw.shape, dtype=bool)
    if solution is not None:
        strange = [name for name in solution.label_names if name not in label_names]
        if strange:
            raise CalibrationError(
                f"the calibration set corrects {', '.join(strange)}, which the model does not have: "
                f"it was made for another model"
            )
        columns = [list(label_names).index(name) for name in solution.label_names]
        errors[:, columns] = solution.scaled_errors(errors[:, columns], snr)
        given, given_errors = raw[:, columns], errors[:, columns]
        correction[:, columns] = solution.correction(given)
        sigma[:, columns] = solution.error(given, given_errors)
        valid[:, columns] = solution.valid(given)
    return correction, sigma, valid


def _single(values: Floats) -> Singles:
    """As float32, NaN where that is not finite."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    single[~np.isfinite(single)] = np.nan
    return single
