"""What moved between two calibration sets, of one model or of two: label by label, by population."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from phdl_catalog.database.calibration_inputs import REFUSED_FITS
from phdl_catalog.database.calibration_sets import find_set, load_solution
from phdl_catalog.database.populations import populations
from phdl_catalog.database.queries import statement
from phdl_catalog.errors import NotFoundError

Floats = NDArray[np.float64]

#: Stars that are compared at most: the same ones every time.
SAMPLE = 20_000


@dataclass(frozen=True)
class LabelDifference:
    """How one label of one population differs, set B minus set A [label units].

    Parameters
    ----------
    label, population : str
        What is compared.
    stars : int
        Stars with this label in both.
    raw, correction, calibrated : float
        Median difference of raw labels, of corrections, and of calibrated labels.
    scatter : float
        Robust standard deviation of the difference of calibrated labels.
    in_sigma : float or None
        Median absolute difference of the corrections in units of their error; None where one is unknown.
    valid_a, valid_b : float
        Fraction of the stars inside the validity range of each.
    """

    label: str
    population: str
    stars: int
    raw: float
    correction: float
    calibrated: float
    scatter: float
    in_sigma: float | None
    valid_a: float
    valid_b: float


def diff_sets(connection: Connection, name_a: str, name_b: str, limit: int = SAMPLE) -> list[LabelDifference]:
    """Compare two sets on stars that both models have fitted.

    Parameters
    ----------
    connection : Connection
        Database.
    name_a, name_b : str
        Names of the sets.
    limit : int
        Stars to compare at most.

    Returns
    -------
    list of LabelDifference
        Labels that both models have, in A's order; populations by A's raw labels, empty ones left out.

    Raises
    ------
    NotFoundError
        If there is no such set, or no star that both models have fitted.
    """
    row_a, row_b = find_set(connection, name_a), find_set(connection, name_b)
    first, second = load_solution(connection, name_a), load_solution(connection, name_b)
    rows = connection.execute(
        statement("calibration", "common_fits"),
        {
            "model_a": row_a.model_version_id,
            "model_b": row_b.model_version_id,
            "refused": int(REFUSED_FITS),
            "limit": limit,
        },
    ).all()
    if not rows:
        raise NotFoundError(f"no spectrum has a usable fit by both {row_a.model} and {row_b.model}")
    raw_a = np.array([row.values_a for row in rows], dtype=np.float64)
    raw_b = np.array([row.values_b for row in rows], dtype=np.float64)
    correction_a, correction_b = first.correction(raw_a), second.correction(raw_b)
    error_a, error_b = first.error(raw_a), second.error(raw_b)
    common = [name for name in first.label_names if name in second.label_names]
    valid_a, valid_b = first.valid(raw_a), second.valid(raw_b)
    logg, fe_h = (raw_a[:, first.label_names.index(name)] for name in ("logg", "fe_h"))
    groups = populations(logg, fe_h)
    result = []
    for label in common:
        a, b = first.label_names.index(label), second.label_names.index(label)
        known = np.isfinite(raw_a[:, a]) & np.isfinite(raw_b[:, b])
        for population, inside in groups.items():
            chosen = inside & known
            if not chosen.any():
                continue
            raw = raw_b[chosen, b] - raw_a[chosen, a]
            moved = correction_b[chosen, b] - correction_a[chosen, a]
            calibrated = raw - moved
            ratio = np.abs(moved) / np.hypot(error_a[chosen, a], error_b[chosen, b])
            result.append(
                LabelDifference(
                    label=label,
                    population=population,
                    stars=int(chosen.sum()),
                    raw=float(np.median(raw)),
                    correction=float(np.median(moved)),
                    calibrated=float(np.median(calibrated)),
                    scatter=float(1.4826 * np.median(np.abs(calibrated - np.median(calibrated)))),
                    in_sigma=float(np.median(ratio)) if np.isfinite(ratio).all() else None,
                    valid_a=float(valid_a[chosen, a].mean()),
                    valid_b=float(valid_b[chosen, b].mean()),
                )
            )
    return result
