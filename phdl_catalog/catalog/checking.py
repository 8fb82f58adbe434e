"""Checking a draft before it may be published: is every number there, allowed, unique and traceable?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import Connection, Engine, select

from phdl_catalog.catalog.assessing import (
    LabelStatistics,
    PullStatistics,
    label_statistics,
    reference_pulls,
    repeat_pulls,
)
from phdl_catalog.catalog.content import Content, table_content
from phdl_catalog.catalog.queries import statement
from phdl_catalog.catalog.reading import read_index
from phdl_catalog.catalog.releases import (
    CatalogReleaseInfo,
    data_release_ids,
    get_catalog_release,
    table_exists,
)
from phdl_catalog.catalog.selection import SELECTION_LABELS
from phdl_catalog.catalog.stars import SpectrumIndex, Stars, find_stars
from phdl_catalog.catalog.tracing import count_untraceable, published_index, unexplained_values
from phdl_catalog.database.calibration_sets import find_set
from phdl_catalog.database.events import record_event
from phdl_catalog.database.models import CalibrationState, ReleaseState
from phdl_catalog.errors import NotFoundError, StateError

#: A label that is missing in more than this part of the stars is worth a word.
MANY_NULLS = 0.5

#: Scatter of pulls that says errors are too small or too large, and how many pulls it takes to say so.
PULL_RANGE = (0.5, 2.0)
LEAST_PULLS = 20


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    Parameters
    ----------
    name : str
        What was checked.
    status : {"passed", "warning", "failed"}
        A failure keeps the release a draft.
    text : str
        What was found, with its numbers.
    """

    name: str
    status: Literal["passed", "warning", "failed"]
    text: str


@dataclass(frozen=True)
class CheckReport:
    """All that was found about a release."""

    name: str
    state: ReleaseState
    n_rows: int
    checksum: str
    findings: tuple[Finding, ...]
    labels: tuple[LabelStatistics, ...]
    repeats: tuple[PullStatistics, ...]
    references: tuple[PullStatistics, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(finding.status != "failed" for finding in self.findings)


def check_release(engine: Engine, name: str) -> CheckReport:
    """Check a release; a draft that passes becomes a candidate.

    Raises
    ------
    NotFoundError
        If there is no such release, or its table is gone.
    """
    with (
        engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection,
        connection.begin(),
    ):
        release = get_catalog_release(connection, name)
        if not table_exists(connection, release.full_name):
            raise NotFoundError(f"the table {release.full_name} of release '{name}' is gone: build it again")
        content = table_content(connection, release.table)
        index = read_index(
            connection,
            release.model.model_version_id,
            release.selection.subgiant,
            data_release_ids(connection, release.selection.data_releases),
        )
        stars = find_stars(index, release.selection.subgiant.same_star_arcsec)
        labels = label_statistics(connection, release)
        repeats = repeat_pulls(connection, release, index, stars)
        references = reference_pulls(connection, release)
        findings = (
            *_check_content(connection, release, content),
            *_check_calibration(connection, release),
            *_check_rows(connection, release),
            *_check_stars(connection, release, index, stars),
            *_check_labels(labels),
            *_check_pulls("repeats", repeats),
            *_check_pulls("references", references),
        )
        report = CheckReport(
            name, release.state, content.n_rows, content.checksum, findings, labels, repeats, references
        )
        if report.passed and release.state is ReleaseState.DRAFT:
            _promote(connection, release, content)
            report = replace(report, state=ReleaseState.CANDIDATE)
    return report


def _promote(connection: Connection, release: CatalogReleaseInfo, content: Content) -> None:
    built = connection.execute(statement("releases", "last_built"), {"subject": release.subject}).one()
    moved = connection.execute(
        statement("releases", "mark_candidate"),
        {
            "catalog_release_id": release.catalog_release_id,
            "checksum": content.checksum,
            "n_rows": content.n_rows,
            "built_at": built.happened_at,
        },
    )
    if moved.rowcount != 1:
        raise StateError(f"release '{release.name}' is no draft any more: somebody else checked it")
    record_event(
        connection, release.subject, "checked", {"n_rows": content.n_rows, "checksum": content.checksum}
    )


def _finding(name: str, good: bool, text: str, *, warn: bool = False) -> Finding:
    return Finding(name, "passed" if good else "warning" if warn else "failed", text)


def _check_content(
    connection: Connection, release: CatalogReleaseInfo, content: Content
) -> Iterator[Finding]:
    yield _finding("rows", content.n_rows > 0, f"{content.n_rows} stars")
    built = connection.execute(
        statement("releases", "last_built"), {"subject": release.subject}
    ).one_or_none()
    expected = release.checksum or (built.detail["checksum"] if built else None)
    yield _finding(
        "checksum", content.checksum == expected, f"{content.checksum[:12]}, built as {str(expected)[:12]}"
    )
    wanted = {column.name: (column.type, column.comment) for column in release.columns}
    rows = connection.execute(statement("checks", "columns"), {"table": release.full_name})
    found = {row.name: (row.type, row.comment) for row in rows}
    different = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    text = (
        f"{len(wanted)} columns as in schema.yaml" if not different else f"not as in schema.yaml: {different}"
    )
    yield _finding("columns", not different, text)


def _check_calibration(connection: Connection, release: CatalogReleaseInfo) -> Iterator[Finding]:
    """A draft may still be edited or deleted: what was calibrated by one could not be traced."""
    if release.calibration_set is None:
        return
    state = find_set(connection, release.calibration_set).state
    what = f"calibration set '{release.calibration_set}' is {state}"
    draft = state == CalibrationState.DRAFT
    remedy = f": `phdl calibration certify {release.calibration_set}`" if draft else ""
    yield _finding("certified", not draft, what + remedy)


def _check_rows(connection: Connection, release: CatalogReleaseInfo) -> Iterator[Finding]:
    missing, different = count_untraceable(connection, release)
    yield _finding("traceable", missing == 0, f"{missing} rows without their spectrum and fit")
    yield _finding(
        "raw values", different == 0, f"{different} rows whose raw values are not those of the fit"
    )
    compared, wrong = unexplained_values(connection, release)
    yield _finding(
        "calibration", wrong == 0, f"{wrong} of {compared} values are not raw minus correction of the set"
    )
    table = release.table
    teff, logg, fe_h = (
        [float("nan") if value is None else value for value in connection.scalars(select(table.c[name]))]
        for name in SELECTION_LABELS
    )
    outside = int((~release.selection.subgiant.is_subgiant(teff, logg, fe_h)).sum())
    yield _finding("selection", outside == 0, f"{outside} rows outside the region of subgiants")
    low = connection.scalars(
        select(table.c.obsid).where(table.c.snr_g < release.selection.subgiant.snr_g_min).limit(1)
    ).all()
    yield _finding("snr_g", not low, f"all at least {release.selection.subgiant.snr_g_min:g}")


def _check_stars(
    connection: Connection, release: CatalogReleaseInfo, index: SpectrumIndex, stars: Stars
) -> Iterator[Finding]:
    published = published_index(connection, release)
    groups = find_stars(published, release.selection.subgiant.same_star_arcsec)
    twice = len(published) - len(groups.best)
    yield _finding("duplicates", twice == 0, f"{twice} rows of a star that another row has")
    expected = dict(zip(index.obsid[stars.best].tolist(), stars.n_obs.tolist(), strict=True))
    counts = connection.execute(select(release.table.c.obsid, release.table.c.n_obs)).all()
    stale = sum(expected.get(obsid) != n_obs for obsid, n_obs in counts)
    yield _finding(
        "up to date",
        stale == 0,
        f"{stale} rows would be others if it were built now: fits were added or changed since",
        warn=True,
    )


def _check_labels(labels: tuple[LabelStatistics, ...]) -> Iterator[Finding]:
    for entry in labels:
        if entry.label in SELECTION_LABELS:
            yield _finding(f"{entry.label} missing", entry.n_null == 0, f"{entry.n_null} of {entry.n_rows}")
    sparse = [entry.label for entry in labels if entry.null_fraction > MANY_NULLS]
    yield _finding(
        "missing values", not sparse, f"over {MANY_NULLS:.0%}: {', '.join(sparse) or 'none'}", warn=True
    )
    far = [f"{entry.label} ({entry.n_unphysical})" for entry in labels if entry.n_unphysical]
    yield _finding("ranges", not far, f"outside physical bounds: {', '.join(far) or 'none'}", warn=True)
    no_error = [f"{entry.label} ({entry.n_without_error})" for entry in labels if entry.n_without_error]
    yield _finding("errors", not no_error, f"values without an error: {', '.join(no_error) or 'none'}")


def _check_pulls(kind: str, pulls: tuple[PullStatistics, ...]) -> Iterator[Finding]:
    low, high = PULL_RANGE
    measured = [entry for entry in pulls if entry.n >= LEAST_PULLS and entry.scatter is not None]
    strange = [
        f"{entry.label} {entry.scatter:.2f}" for entry in measured if not low <= (entry.scatter or 0) <= high
    ]
    outside = ", ".join(strange) or "none"
    text = f"{len(measured)} labels measured; scatter of pulls outside {low}-{high}: {outside}"
    yield _finding(f"pulls of {kind}", not strange, text, warn=True)


def report_dict(report: CheckReport) -> dict[str, Any]:
    """Plain JSON types."""
    return {
        "name": report.name,
        "passed": report.passed,
        "state": report.state.value,
        "n_rows": report.n_rows,
        "checksum": report.checksum,
        "findings": [vars(finding) for finding in report.findings],
        "labels": {entry.label: entry.to_dict() for entry in report.labels},
        "repeats": {entry.label: entry.to_dict() for entry in report.repeats},
        "references": {entry.label: entry.to_dict() for entry in report.references},
    }
