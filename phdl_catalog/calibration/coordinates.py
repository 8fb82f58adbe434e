"""The coordinates of the calibrators, which are measurements: combined where there are two, and shaken.

Where a reference says more about a coordinate, the weighted mean is used, because its error is independent of
the residual that is fitted: without that, noise in fe_h would look like a correction that depends on fe_h.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.calibration.calibrators import Calibrators

Floats = NDArray[np.float64]

#: Two values of a coordinate are only combined where they agree within this many sigma.
_AGREEMENT = 4.0


def pair_coordinates(calibrators: Calibrators) -> tuple[Floats, Floats]:
    """(M, 2, 3) coordinates of the stars of the pairs, and errors: own teff and logg, one fe_h for both.

    Siblings have one fe_h.  With their own raw ones, b = fe_h would explain every difference of fe_h.
    """
    points, errors = (
        calibrators.coordinates[calibrators.pairs],
        calibrators.coordinate_errors[calibrators.pairs],
    )
    weight = errors[:, :, 2] ** -2
    points[:, :, 2] = ((points[:, :, 2] * weight).sum(axis=1) / weight.sum(axis=1))[:, None]
    errors[:, :, 2] = weight.sum(axis=1)[:, None] ** -0.5
    return points, errors


def combined(raw: Floats, variance: Floats, other: Floats, other_variance: Floats) -> tuple[Floats, Floats]:
    """Weighted mean of two values where they agree, else the raw one; and its error."""
    mean = (raw * other_variance + other * variance) / (variance + other_variance)
    agree = np.abs(raw - other) < _AGREEMENT * np.sqrt(variance + other_variance)
    combined = 1 / (1 / variance + 1 / other_variance)
    return np.where(agree, mean, raw), np.sqrt(np.where(agree, combined, variance))


def shaken(
    pairs: Floats,
    pair_errors: Floats,
    references: Floats,
    reference_errors: Floats,
    generator: np.random.Generator,
) -> Iterator[tuple[Floats, Floats]]:
    """Coordinates of pairs (M, 2, 3) and references (K, 3) moved by one draw of their errors, up and down."""
    by_pair = generator.normal(size=pairs.shape)
    # Siblings have one fe_h, and one error of it.
    by_pair[:, 1, 2] = by_pair[:, 0, 2]
    by_reference = generator.normal(size=references.shape)
    for sign in (1.0, -1.0):
        yield pairs + sign * pair_errors * by_pair, references + sign * reference_errors * by_reference
