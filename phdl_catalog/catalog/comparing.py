"""Two releases side by side: which stars are in one only, and how labels of the common ones differ."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import median_abs_deviation
from sqlalchemy import Connection, select

from phdl_catalog.catalog.releases import CatalogReleaseInfo, get_catalog_release, table_exists
from phdl_catalog.catalog.schema import LabelColumnNames
from phdl_catalog.catalog.stars import MISSING, SpectrumIndex, unit_vectors
from phdl_catalog.catalog.tracing import published_index
from phdl_catalog.errors import NotFoundError

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class LabelDifference:
    """One label of the common stars: second release minus first.

    Parameters
    ----------
    label : str
        Label name.
    n : int
        Common stars with a value in both.
    median, scatter : float or None
        Of the differences, in the label's unit; the scatter is 1.4826 times the median absolute deviation.
    largest : float or None
        Largest difference in size.
    n_lost, n_gained : int
        Common stars with a value in the first release only, in the second only.
    n_flags : int
        Common stars whose flag of this label differs.
    """

    label: str
    n: int
    median: float | None
    scatter: float | None
    largest: float | None
    n_lost: int
    n_gained: int
    n_flags: int


@dataclass(frozen=True)
class ReleaseDifference:
    """Two releases side by side.

    Parameters
    ----------
    first, second : str
        Names of the releases.
    n_first, n_second, n_common : int
        Numbers of stars.
    n_other_spectrum : int
        Common stars whose values come from different spectra.
    only_first, only_second : tuple of int
        obsids of the stars that are in one only.
    labels : tuple of LabelDifference
        Labels that both have.
    """

    first: str
    second: str
    n_first: int
    n_second: int
    n_common: int
    n_other_spectrum: int
    only_first: tuple[int, ...]
    only_second: tuple[int, ...]
    labels: tuple[LabelDifference, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; obsids are strings, as no JSON number holds them for sure."""
        document = asdict(self)
        document["only_first"] = [str(obsid) for obsid in self.only_first]
        document["only_second"] = [str(obsid) for obsid in self.only_second]
        document["labels"] = {entry.pop("label"): entry for entry in document["labels"]}
        return document


def compare_releases(connection: Connection, first: str, second: str) -> ReleaseDifference:
    """Compare two releases, built with whatever models.

    Common stars are those of the same Gaia source, else of the same obsid, else nearest to each other within
    the radius of the second release's selection.

    Raises
    ------
    NotFoundError
        If there is no such release, or its table is gone.
    """
    a, b = (_with_table(connection, name) for name in (first, second))
    index_a, index_b = published_index(connection, a), published_index(connection, b)
    rows = match_stars(index_a, index_b, b.selection.subgiant.same_star_arcsec)
    left, right = index_a.obsid[rows[:, 0]], index_b.obsid[rows[:, 1]]
    labels = [label for label in a.model.label_names if label in b.model.label_names]
    return ReleaseDifference(
        first=first,
        second=second,
        n_first=len(index_a),
        n_second=len(index_b),
        n_common=len(rows),
        n_other_spectrum=int((left != right).sum()),
        only_first=tuple(np.setdiff1d(index_a.obsid, left).tolist()),
        only_second=tuple(np.setdiff1d(index_b.obsid, right).tolist()),
        labels=tuple(_compare_label(connection, a, b, left, right, label) for label in labels),
    )


def match_stars(one: SpectrumIndex, two: SpectrumIndex, radius: float) -> Integers:
    """Rows of the same star in two indexes of one row a star.

    Parameters
    ----------
    one, two : SpectrumIndex
        The indexes.
    radius : float
        Greatest distance of stars that have neither a Gaia source in both nor an obsid in common [arcsec].

    Returns
    -------
    (n, 2) int64 array
        Row in `one`, row in `two`; no row stands twice.
    """
    free_one, free_two = np.ones(len(one), dtype=bool), np.ones(len(two), dtype=bool)
    found = [np.empty((0, 2), dtype=np.int64)]
    for key in ("gaia_source_id", "obsid"):
        rows_one, rows_two = np.flatnonzero(free_one), np.flatnonzero(free_two)
        values_one, values_two = getattr(one, key)[rows_one], getattr(two, key)[rows_two]
        common, place_one, place_two = np.intersect1d(values_one, values_two, return_indices=True)
        good = common != MISSING
        pairs = np.stack([rows_one[place_one[good]], rows_two[place_two[good]]], axis=1)
        found.append(pairs)
        free_one[pairs[:, 0]], free_two[pairs[:, 1]] = False, False
    found.append(_match_positions(one, two, np.flatnonzero(free_one), np.flatnonzero(free_two), radius))
    return np.concatenate(found)


def _match_positions(
    one: SpectrumIndex, two: SpectrumIndex, rows_one: Integers, rows_two: Integers, radius: float
) -> Integers:
    """(n, 2) rows that are each other's nearest; two different Gaia sources are never one star."""
    rows_one = rows_one[np.isfinite(one.ra[rows_one])]
    rows_two = rows_two[np.isfinite(two.ra[rows_two])]
    if not len(rows_one) or not len(rows_two):
        return np.empty((0, 2), dtype=np.int64)
    left, right = (
        unit_vectors(index.ra[rows], index.dec[rows]) for index, rows in ((one, rows_one), (two, rows_two))
    )
    chord = 2 * np.sin(np.deg2rad(radius / 3600) / 2)
    distance, nearest = cKDTree(right).query(left, distance_upper_bound=chord)
    near = np.flatnonzero(np.isfinite(distance))
    _, back = cKDTree(left).query(right[nearest[near]])
    mutual = near[back == near]
    pairs = np.stack([rows_one[mutual], rows_two[nearest[mutual]]], axis=1)
    gaia_one, gaia_two = one.gaia_source_id[pairs[:, 0]], two.gaia_source_id[pairs[:, 1]]
    return np.asarray(pairs[(gaia_one == MISSING) | (gaia_two == MISSING)])


def _with_table(connection: Connection, name: str) -> CatalogReleaseInfo:
    release = get_catalog_release(connection, name)
    if not table_exists(connection, release.full_name):
        raise NotFoundError(f"the table {release.full_name} of release '{name}' is gone: build it again")
    return release


def _compare_label(
    connection: Connection,
    a: CatalogReleaseInfo,
    b: CatalogReleaseInfo,
    left: Integers,
    right: Integers,
    label: str,
) -> LabelDifference:
    (value_a, flag_a), (value_b, flag_b) = (
        _values(connection, release, label, obsids) for release, obsids in ((a, left), (b, right))
    )
    difference = value_b - value_a
    good = difference[np.isfinite(difference)]
    median = float(np.median(good)) if len(good) else None
    return LabelDifference(
        label=label,
        n=len(good),
        median=median,
        scatter=float(median_abs_deviation(good, scale="normal")) if len(good) else None,
        largest=float(good[np.argmax(np.abs(good))]) if len(good) else None,
        n_lost=int((np.isfinite(value_a) & ~np.isfinite(value_b)).sum()),
        n_gained=int((~np.isfinite(value_a) & np.isfinite(value_b)).sum()),
        n_flags=int((flag_a != flag_b).sum()),
    )


def _values(
    connection: Connection, release: CatalogReleaseInfo, label: str, obsids: Integers
) -> tuple[NDArray[np.float64], Integers]:
    """Values and flags of one label of some stars, in their order."""
    columns, names = release.table.c, LabelColumnNames.of(label)
    query = select(columns.obsid, columns[names.value], columns[names.flag]).order_by(columns.obsid)
    rows = connection.execute(query).all()
    if not rows:
        return np.empty(0), np.empty(0, dtype=np.int64)
    keys, values, flags = zip(*rows, strict=True)
    place = np.searchsorted(np.array(keys, dtype=np.int64), obsids)
    return np.array(values, dtype=float)[place], np.array(flags, dtype=np.int64)[place]
