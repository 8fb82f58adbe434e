"""What a catalogue release is and how good: for its page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from phdl_catalog.calibration import CalibrationReport, CalibrationSolution, LabelReport
from phdl_catalog.calibration.repeats import ErrorScale
from phdl_catalog.catalog.assessing import LabelStatistics, label_statistics
from phdl_catalog.catalog.releases import CatalogReleaseInfo, StarSelection, get_catalog_release, table_exists
from phdl_catalog.database.calibration_sets import CalibrationSetRow, find_set, load_solution


@dataclass(frozen=True)
class LabelQuality:
    """One label of a release.

    Parameters
    ----------
    label : str
        Label name.
    published : LabelStatistics or None
        Of the published values; None if the table of the release is gone.
    calibration : LabelReport or None
        What its correction rests on; None if the release is not calibrated.
    errors : ErrorScale or None
        What repeats say of the errors of its fits.
    """

    label: str
    published: LabelStatistics | None
    calibration: LabelReport | None
    errors: ErrorScale | None


@dataclass(frozen=True, eq=False)
class ReleaseDescription:
    """A release, the calibration set it was built with, its labels, and what that set says of itself."""

    release: CatalogReleaseInfo
    calibration: CalibrationSetRow | None
    labels: tuple[LabelQuality, ...]
    report: CalibrationReport | None


def describe_release(connection: Connection, name: str) -> ReleaseDescription:
    """Everything that the page of a release says.

    Raises
    ------
    NotFoundError
        If there is no such release.
    """
    release = get_catalog_release(connection, name)
    calibration = solution = None
    if release.calibration_set is not None:
        calibration = find_set(connection, release.calibration_set)
        solution = load_solution(connection, release.calibration_set)
    published: dict[str, LabelStatistics] = {}
    if table_exists(connection, release.full_name):
        published = {entry.label: entry for entry in label_statistics(connection, release)}
    labels = tuple(_quality(label, published, solution) for label in release.model.label_names)
    return ReleaseDescription(release, calibration, labels, solution.report() if solution else None)


def _quality(
    label: str, published: dict[str, LabelStatistics], solution: CalibrationSolution | None
) -> LabelQuality:
    if solution is None or label not in solution.label_names:
        return LabelQuality(label, published.get(label), None, None)
    scale = solution.corrections[solution.label_names.index(label)].error_scale
    return LabelQuality(label, published.get(label), solution.report()[label], scale)


def selection_sentences(selection: StarSelection) -> Iterator[str]:
    """The rule of a selection in words, with its numbers."""
    rule = selection.subgiant
    yield f"teff from {rule.teff_min:g} to {rule.teff_max:g} K"
    turn_off = _points(rule.turn_off.points, "K")
    yield f"logg at most that of the turn-off, {turn_off}, at teff + {rule.turn_off_shift:g} K x fe_h"
    yield f"logg at least {rule.logg_min:g}"
    yield f"teff at least that of the base of the giant branch, {_points(rule.giant_branch.points, '')}"
    yield f"fe_h at least {rule.fe_h_min:g}"
    yield f"S/N in g at least {rule.snr_g_min:g}; none of the flags {', '.join(rule.rejecting_flags)}"
    releases = selection.data_releases
    yield "data releases: " + ("all" if releases is None else ", ".join(releases))


def _points(points: tuple[tuple[float, float], ...], unit: str) -> str:
    at = f" {unit}" if unit else " dex"
    return " to ".join(f"{y:g} at {x:g}{at}" for x, y in (points[0], points[-1]))


def dates(release: CatalogReleaseInfo, calibration: CalibrationSetRow | None) -> list[tuple[str, Any]]:
    """What happened when; only what did."""
    moments = [
        ("set computed", calibration and calibration.created_at),
        ("set certified", calibration and calibration.certified_at),
        ("built", release.built_at or release.created_at),
        ("published", release.published_at),
        ("superseded", release.superseded_at),
    ]
    return [(what, moment) for what, moment in moments if moment]
