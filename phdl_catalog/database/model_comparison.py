"""Two models on the spectra that both have fitted: what moved, label by label and by population."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection

from phdl_catalog.database.calibration_inputs import REFUSED_FITS
from phdl_catalog.database.model_versions import find_model
from phdl_catalog.database.populations import populations
from phdl_catalog.database.queries import statement
from phdl_catalog.errors import NotFoundError

#: Spectra that are compared at most: the same ones every time.
SAMPLE = 50_000


@dataclass(frozen=True)
class LabelMove:
    """How one label of one population moved, model B minus model A, uncalibrated [label units].

    Parameters
    ----------
    label, population : str
        What is compared.
    stars : int
        Spectra with this label by both.
    median, scatter : float
        Of the differences; the scatter is robust.
    error_a, error_b : float
        Median quoted errors.
    in_sigma : float
        Robust scatter of the difference over the larger of the two errors: two fits of the same pixels should
        be well below one.
    """

    label: str
    population: str
    stars: int
    median: float
    scatter: float
    error_a: float
    error_b: float
    in_sigma: float


@dataclass(frozen=True)
class ModelComparison:
    """Two models side by side.

    Parameters
    ----------
    a, b : str
        Names of the models.
    common : int
        Spectra that both have fitted.
    usable_both, usable_a_only, usable_b_only : int
        Of those, how many have a usable fit by both, by A only, by B only.
    chi2_a, chi2_b : float or None
        Median reduced chi square of the usable ones.
    only_a, only_b : tuple of str
        Labels that one model has alone.
    moves : tuple of LabelMove
        Labels that both have, in A's order; empty populations left out.
    """

    a: str
    b: str
    common: int
    usable_both: int
    usable_a_only: int
    usable_b_only: int
    chi2_a: float | None
    chi2_b: float | None
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    moves: tuple[LabelMove, ...]


def compare_models(connection: Connection, name_a: str, name_b: str, limit: int = SAMPLE) -> ModelComparison:
    """Compare two models on the spectra that both have fitted.

    Parameters
    ----------
    connection : Connection
        Database.
    name_a, name_b : str
        Names of registered models.
    limit : int
        Usable spectra to compare at most.

    Raises
    ------
    NotFoundError
        If there is no such model, or no spectrum that both have fitted.
    """
    a, b = find_model(connection, name_a), find_model(connection, name_b)
    keys = {
        "model_a": a.model_version_id, "model_b": b.model_version_id, "refused": int(REFUSED_FITS),
    }  # fmt: skip
    counts = connection.execute(statement("calibration", "common_counts"), keys).one()
    if not counts.common:
        raise NotFoundError(
            f"no spectrum was fitted by both '{name_a}' and '{name_b}'; `phdl fit enqueue` fits a release "
            "with a model"
        )
    rows = connection.execute(statement("calibration", "common_fits"), {**keys, "limit": limit}).all()
    moves: list[LabelMove] = []
    if rows:
        values_a, values_b, errors_a, errors_b = (
            np.array([getattr(row, name) for row in rows], dtype=np.float64)
            for name in ("values_a", "values_b", "errors_a", "errors_b")
        )
        logg, fe_h = (values_a[:, a.label_names.index(name)] for name in ("logg", "fe_h"))
        groups = populations(logg, fe_h)
        for label in a.label_names:
            if label not in b.label_names:
                continue
            one, two = a.label_names.index(label), b.label_names.index(label)
            difference = values_b[:, two] - values_a[:, one]
            larger = np.maximum(errors_a[:, one], errors_b[:, two])
            known = np.isfinite(difference) & np.isfinite(larger) & (larger > 0)
            for population, inside in groups.items():
                chosen = inside & known
                if not chosen.any():
                    continue
                median = float(np.median(difference[chosen]))
                moves.append(
                    LabelMove(
                        label=label,
                        population=population,
                        stars=int(chosen.sum()),
                        median=median,
                        scatter=float(1.4826 * np.median(np.abs(difference[chosen] - median))),
                        error_a=float(np.median(errors_a[chosen, one])),
                        error_b=float(np.median(errors_b[chosen, two])),
                        in_sigma=float(
                            1.4826 * np.median(np.abs((difference[chosen] - median) / larger[chosen]))
                        ),
                    )
                )
    return ModelComparison(
        a=name_a,
        b=name_b,
        common=counts.common,
        usable_both=counts.usable_both,
        usable_a_only=counts.usable_a_only,
        usable_b_only=counts.usable_b_only,
        chi2_a=counts.chi2_a,
        chi2_b=counts.chi2_b,
        only_a=tuple(name for name in a.label_names if name not in b.label_names),
        only_b=tuple(name for name in b.label_names if name not in a.label_names),
        moves=tuple(moves),
    )
