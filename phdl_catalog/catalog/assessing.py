"""How good the numbers of a release are: ranges, missing values, and pulls against repeats and references."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import median_abs_deviation
from sqlalchemy import Connection, and_, func, or_, select

from phdl_catalog.catalog.flags import CalibrationFlag
from phdl_catalog.catalog.queries import statement
from phdl_catalog.catalog.reading import FitBlock, read_fits
from phdl_catalog.catalog.releases import CatalogReleaseInfo
from phdl_catalog.catalog.schema import LabelColumnNames
from phdl_catalog.catalog.stars import MISSING, SpectrumIndex, Stars, second_best
from phdl_catalog.database.models import ReferenceLabel
from phdl_catalog.fitting.flags import LabelFlag
from phdl_catalog.labels import get_label

#: Stars observed twice that are compared at most.
MOST_REPEATS = 20_000


@dataclass(frozen=True)
class LabelStatistics:
    """One label over all rows of a release; values in the label's unit."""

    label: str
    n_rows: int
    n_null: int
    n_without_error: int
    n_unphysical: int
    n_outside_calibration: int
    n_not_calibrated: int
    minimum: float | None
    median: float | None
    maximum: float | None
    median_error: float | None

    @property
    def null_fraction(self) -> float:
        """Part of the rows without a value."""
        return self.n_null / self.n_rows if self.n_rows else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, without the label's name."""
        document = asdict(self) | {"null_fraction": self.null_fraction}
        del document["label"]
        return document


@dataclass(frozen=True)
class PullStatistics:
    """Differences of one label, and the same in units of their errors; scatters are robust.

    A scatter of one means that the errors are right.
    """

    label: str
    n: int
    median_difference: float | None
    median: float | None
    scatter: float | None

    @classmethod
    def of(cls, label: str, difference: NDArray[np.float64], error: NDArray[np.float64]) -> PullStatistics:
        """Of differences and their errors, (n,) each; those without a positive error are left out."""
        good = np.isfinite(difference) & (error > 0)
        if not good.any():
            return cls(label, 0, None, None, None)
        pull = difference[good] / error[good]
        middle = float(np.median(pull))
        scatter = float(median_abs_deviation(pull, scale="normal"))
        return cls(label, int(good.sum()), float(np.median(difference[good])), middle, scatter)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, without the label's name."""
        document = asdict(self)
        del document["label"]
        return document


def label_statistics(connection: Connection, release: CatalogReleaseInfo) -> tuple[LabelStatistics, ...]:
    """Counts and ranges of every label of a release."""
    return tuple(_statistics_of(connection, release, label) for label in release.model.label_names)


def _statistics_of(connection: Connection, release: CatalogReleaseInfo, label: str) -> LabelStatistics:
    columns, names, known = release.table.c, LabelColumnNames.of(label), get_label(label)
    value, error, flag = columns[names.value], columns[names.error], columns[names.flag]
    row = connection.execute(
        select(
            func.count(),
            func.count().filter(value.is_(None)),
            func.count().filter(and_(value.is_not(None), error.is_(None))),
            func.count().filter(or_(value < known.lower, value > known.upper)),
            func.count().filter(flag.bitwise_and(int(CalibrationFlag.OUTSIDE_CALIBRATION)) != 0),
            func.count().filter(flag.bitwise_and(int(CalibrationFlag.NOT_CALIBRATED)) != 0),
            func.min(value),
            func.percentile_cont(0.5).within_group(value),
            func.max(value),
            func.percentile_cont(0.5).within_group(error),
        )
    ).one()
    return LabelStatistics(label, *row)


def repeat_pulls(
    connection: Connection, release: CatalogReleaseInfo, index: SpectrumIndex, stars: Stars
) -> tuple[PullStatistics, ...]:
    """Raw labels of a star's best spectrum minus those of its second, for published stars seen twice or more.

    Parameters
    ----------
    connection : Connection
        The database.
    release : CatalogReleaseInfo
        The release.
    index : SpectrumIndex
        Usable spectra.
    stars : Stars
        The stars they are of.
    """
    second = second_best(index, stars)
    published = np.array(connection.scalars(select(release.table.c.obsid)).all(), dtype=np.int64)
    twice = np.flatnonzero((second != MISSING) & np.isin(index.obsid[stars.best], published))[:MOST_REPEATS]
    labels = release.model.label_names
    best = read_fits(
        connection, release.model.model_version_id, index.spectrum_id[stars.best[twice]], len(labels)
    )
    other = read_fits(
        connection, release.model.model_version_id, index.spectrum_id[second[twice]], len(labels)
    )
    difference, error = _differences(zip(best, other, strict=True), len(labels))
    return tuple(
        PullStatistics.of(label, difference[:, column], error[:, column])
        for column, label in enumerate(labels)
    )


def _differences(
    blocks: Iterable[tuple[FitBlock, FitBlock]], n_labels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, L) differences of fits and their errors; NaN where either does not constrain the label."""
    differences, errors = [np.empty((0, n_labels))], [np.empty((0, n_labels))]
    for one, two in blocks:
        hidden = ((one.label_flags | two.label_flags) & LabelFlag.UNCONSTRAINED) != 0
        differences.append(np.where(hidden, np.nan, one.labels.astype(float) - two.labels))
        errors.append(np.hypot(one.errors.astype(float), two.errors))
    return np.concatenate(differences), np.concatenate(errors)


def reference_pulls(connection: Connection, release: CatalogReleaseInfo) -> tuple[PullStatistics, ...]:
    """Published labels minus those of high-resolution references of the same stars.

    References that were used in the calibration are among them: this is a test of errors, not of accuracy.
    """
    wanted = {"labels": list(release.model.label_names)}
    present = set(connection.scalars(statement("checks", "reference_labels"), wanted))
    return tuple(
        _reference_pull(connection, release, label) for label in release.model.label_names if label in present
    )


def _reference_pull(connection: Connection, release: CatalogReleaseInfo, label: str) -> PullStatistics:
    columns, names = release.table.c, LabelColumnNames.of(label)
    value, error = columns[names.value], columns[names.error]
    rows = connection.execute(
        select(value - ReferenceLabel.value, error, ReferenceLabel.error)
        .join(
            ReferenceLabel,
            or_(
                ReferenceLabel.gaia_source_id == columns.gaia_source_id, ReferenceLabel.obsid == columns.obsid
            ),
        )
        .where(ReferenceLabel.label == label, value.is_not(None))
    ).all()
    table = np.array([tuple(row) for row in rows], dtype=float).reshape(-1, 3)
    return PullStatistics.of(label, table[:, 0], np.hypot(table[:, 1], np.nan_to_num(table[:, 2])))
