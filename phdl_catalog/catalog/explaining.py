"""Why is this star in, out or flagged?  The facts gathered, and the answer in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, select

from phdl_catalog.catalog.building import load_calibration
from phdl_catalog.catalog.corrected import apply_calibration
from phdl_catalog.catalog.explanation import (
    Explanation,
    FitFacts,
    JobFacts,
    LabelFacts,
    Membership,
    SpectrumFacts,
    StarFacts,
    Verdict,
)
from phdl_catalog.catalog.flags import CalibrationFlag, label_flag_names
from phdl_catalog.catalog.queries import statement
from phdl_catalog.catalog.reading import read_index
from phdl_catalog.catalog.releases import (
    Calibration,
    CatalogReleaseInfo,
    Model,
    StarSelection,
    data_release_ids,
    get_catalog_release,
    get_model,
    list_catalog_releases,
    resolve_calibration,
    table_exists,
)
from phdl_catalog.catalog.selection import SELECTION_LABELS, SubgiantSelection, Term
from phdl_catalog.catalog.stars import find_stars
from phdl_catalog.database.models import ReleaseState, SpectrumState
from phdl_catalog.errors import ConflictError, NotFoundError, StateError
from phdl_catalog.fitting.flags import flag_names

#: Order of the sky cells in which spectra of the same star are looked for: a cell is 13 arcsec wide.
_CELL_ORDER = 14


@dataclass(frozen=True)
class _Context:
    """What an observation is explained against."""

    release: CatalogReleaseInfo | None
    model: Model
    calibration: Calibration | None
    selection: StarSelection


def explain(
    connection: Connection, obsid: int, *, release: str | None = None, model: str | None = None
) -> Explanation:
    """Everything that decides whether an observation is in the catalogue.

    Parameters
    ----------
    connection : Connection
        The database.
    obsid : int
        The observation.
    release : str, optional
        Catalogue release to explain; by default the published one, else the newest.
    model : str, optional
        Without any release: the model to look at; by default that of the last fit.

    Raises
    ------
    NotFoundError
        If the observation was never ingested, or there is no such release or model.
    ConflictError
        If the release was made with another model than the one asked for.
    """
    rows = connection.execute(statement("explain", "spectra"), {"obsid": obsid}).mappings().all()
    if not rows:
        raise NotFoundError(
            f"no spectrum with obsid {obsid} was ingested; `phdl ingest RELEASE PATH` reads spectra"
        )
    spectra = tuple(_pick(SpectrumFacts, row) for row in rows)
    fits = {row["spectrum_id"]: _fits(connection, row["spectrum_id"]) for row in rows}
    context = _context(connection, release, model, [fit for found in fits.values() for fit in found])
    chosen = _choose_spectrum(rows, fits, context)
    jobs = _jobs(connection, chosen)
    memberships: tuple[Membership, ...] = ()
    fit = labels = terms = star = None
    if context is not None:
        row = next((fit for fit in fits[chosen["spectrum_id"]] if fit["model"] == context.model.name), None)
        fit = None if row is None else _fit_facts(row)
        if row is not None and row["label_values"] is not None:
            labels = _labels(connection, context, row)
            terms = _terms(context.selection.subgiant, chosen, labels, row["flags"])
        star = _star(connection, context, chosen)
        memberships = tuple(_memberships(connection, obsid, star))
    reasons, verdict = _answer(
        context, chosen, jobs, fit, labels or (), terms or (), star, memberships, obsid
    )
    return Explanation(
        obsid=obsid,
        release=context.release.name if context and context.release else None,
        model=context.model.name if context else None,
        calibration_set=context.calibration.name if context and context.calibration else None,
        verdict=verdict,
        reasons=tuple(reasons),
        spectra=spectra,
        jobs=jobs,
        fit=fit,
        labels=labels or (),
        terms=terms or (),
        star=star,
        memberships=memberships,
    )


def _pick(kind: Any, row: Mapping[Any, Any], **changed: Any) -> Any:
    """A dataclass of those columns of a row that it has fields for."""
    return kind(**{name: row[name] for name in kind.__dataclass_fields__ if name not in changed}, **changed)


def _fits(connection: Connection, spectrum_id: int) -> Sequence[Mapping[Any, Any]]:
    return connection.execute(statement("explain", "fits"), {"spectrum_id": spectrum_id}).mappings().all()


def _context(
    connection: Connection, release: str | None, model: str | None, fits: Sequence[Mapping[Any, Any]]
) -> _Context | None:
    """The release to explain, else what a build now would use; None if no model is known."""
    if release is not None:
        found: CatalogReleaseInfo | None = get_catalog_release(connection, release)
    else:
        fitting = [info for info in list_catalog_releases(connection) if model in (None, info.model.name)]
        published = [info for info in fitting if info.state is ReleaseState.PUBLISHED]
        found = next(iter([*published, *fitting]), None)
    if found is not None:
        if model not in (None, found.model.name):
            raise ConflictError(
                f"release '{found.name}' was made with model '{found.model.name}', not '{model}'"
            )
        calibration = resolve_calibration(connection, found.model, found.calibration_set or "none")
        return _Context(found, found.model, calibration, found.selection)
    name = model or (max(fits, key=lambda fit: fit["fitted_at"])["model"] if fits else None)
    if name is None:
        return None
    used = get_model(connection, name)
    try:
        certified = resolve_calibration(connection, used, "certified")
    except StateError:
        certified = None
    return _Context(None, used, certified, StarSelection(SubgiantSelection()))


def _choose_spectrum(
    rows: Sequence[Mapping[Any, Any]],
    fits: Mapping[int, Sequence[Mapping[Any, Any]]],
    context: _Context | None,
) -> Mapping[Any, Any]:
    """Of the files of an observation the one a catalogue would take: fitted, accepted, best, latest."""

    def rank(row: Mapping[Any, Any]) -> tuple[bool, bool, bool, float, int]:
        releases = context.selection.data_releases if context else None
        fitted = context is not None and any(
            fit["model"] == context.model.name for fit in fits[row["spectrum_id"]]
        )
        return (
            releases is None or row["data_release"] in releases,
            fitted,
            row["state"] == SpectrumState.ACCEPTED,
            row["snr_g"] or 0.0,
            row["release_id"],
        )

    return max(rows, key=rank)


def _jobs(connection: Connection, spectrum: Mapping[Any, Any]) -> tuple[JobFacts, ...]:
    keys = {"release_id": spectrum["release_id"], "spectrum_id": spectrum["spectrum_id"]}
    return tuple(
        _pick(JobFacts, row) for row in connection.execute(statement("explain", "chunks"), keys).mappings()
    )


def _fit_facts(row: Mapping[Any, Any]) -> FitFacts:
    facts = _pick(
        FitFacts, row, flags=tuple(flag_names(row["flags"])), has_labels=row["label_values"] is not None
    )
    assert isinstance(facts, FitFacts)
    return facts


def _labels(connection: Connection, context: _Context, row: Mapping[Any, Any]) -> tuple[LabelFacts, ...]:
    """The labels of one fit, corrected as in the release."""
    raw, errors = (
        np.array([[np.nan if value is None else value for value in row[name]]], dtype=np.float32)
        for name in ("label_values", "label_errors")
    )
    published = apply_calibration(
        context.model.label_names,
        raw,
        errors,
        np.array([row["label_flags"]], dtype=np.int64),
        load_calibration(connection, context.calibration),
        np.array([np.nan if row["snr"] is None else row["snr"]], dtype=np.float32),
    )

    def number(array: Any, column: int) -> float | None:
        value = float(array[0, column])
        return value if np.isfinite(value) else None

    return tuple(
        LabelFacts(
            label=label,
            raw=number(published.raw, column),
            e_fit=number(errors, column),
            correction=number(published.corrections, column),
            e_cal=number(published.calibration_errors, column),
            value=number(published.values, column),
            error=number(published.errors, column),
            flags=tuple(label_flag_names(int(published.flags[0, column]))),
        )
        for column, label in enumerate(context.model.label_names)
    )


def _terms(
    rule: SubgiantSelection, spectrum: Mapping[Any, Any], labels: Sequence[LabelFacts], flags: int
) -> tuple[Term, ...]:
    value = {entry.label: entry.value for entry in labels}
    teff, logg, fe_h = (value[name] for name in SELECTION_LABELS)
    return rule.terms(teff, logg, fe_h, spectrum["snr_g"], flags)


def _star(connection: Connection, context: _Context, spectrum: Mapping[Any, Any]) -> StarFacts | None:
    """The usable spectra of the star a spectrum is of; None if there are none."""
    lowest, highest = _cells(spectrum["ra"], spectrum["dec"])
    near = connection.scalars(
        statement("explain", "near"),
        {
            "obsid": spectrum["obsid"],
            "gaia_source_id": spectrum["gaia_source_id"],
            "lowest": lowest,
            "highest": highest,
        },
    ).all()
    rule = context.selection.subgiant
    releases = data_release_ids(connection, context.selection.data_releases)
    index = read_index(connection, context.model.model_version_id, rule, releases, near)
    stars = find_stars(index, rule.same_star_arcsec)
    here = np.flatnonzero(index.spectrum_id == spectrum["spectrum_id"])
    if not len(here):
        return None
    star = int(stars.star[here[0]])
    return StarFacts(
        best_obsid=int(index.obsid[stars.best[star]]),
        n_obs=int(stars.n_obs[star]),
        obsids=tuple(sorted(set(index.obsid[stars.star == star].tolist()))),
    )


def _cells(ra: float | None, dec: float | None) -> tuple[list[int], list[int]]:
    """Ranges of healpix_29 of the cell a position is in and of its neighbours."""
    if ra is None or dec is None:
        return [], []
    from astropy import units
    from astropy_healpix import HEALPix

    sky = HEALPix(nside=2**_CELL_ORDER, order="nested")
    cell = sky.lonlat_to_healpix(ra * units.deg, dec * units.deg)
    cells = np.append(sky.neighbours(cell), cell).astype(np.int64)
    shift = 2 * (29 - _CELL_ORDER)
    lowest = cells[cells >= 0] << shift
    return lowest.tolist(), (lowest + (1 << shift) - 1).tolist()


def _memberships(connection: Connection, obsid: int, star: StarFacts | None) -> Iterator[Membership]:
    """All releases that have a table, and the star's row in each."""
    obsids = {obsid, *(star.obsids if star else ())}
    for release in list_catalog_releases(connection):
        if table_exists(connection, release.full_name):
            column = release.table.c.obsid
            row = connection.scalars(select(column).where(column.in_(obsids)).limit(1)).first()
            yield Membership(release.name, release.state.value, row)


def _answer(
    context: _Context | None,
    spectrum: Mapping[Any, Any],
    jobs: Sequence[JobFacts],
    fit: FitFacts | None,
    labels: Sequence[LabelFacts],
    terms: Sequence[Term],
    star: StarFacts | None,
    memberships: Sequence[Membership],
    obsid: int,
) -> tuple[list[str], Verdict]:
    """The answer in words."""
    if spectrum["state"] == SpectrumState.REJECTED:
        return [f"The file was rejected: {spectrum['reason']}: {spectrum['detail']}."], Verdict.OUT
    if fit is None or context is None:
        return [_why_no_fit(context, jobs)], Verdict.OUT
    if not fit.has_labels:
        return [f"The fit has no labels: {', '.join(fit.flags)}."], Verdict.OUT
    reasons = [f"The rule's term '{term.name}' fails: {term.text}." for term in terms if not term.passed]
    other = star is not None and star.best_obsid != obsid
    if star is not None and other and not reasons:
        reasons.append(
            f"The star's values come from its best spectrum, obsid {star.best_obsid}, not from this one: "
            f"`phdl explain {star.best_obsid}`."
        )
    here = next(
        (entry.obsid for entry in memberships if context.release and entry.release == context.release.name),
        None,
    )
    if context.release is None:
        if not reasons:
            return ["Nothing keeps it out of a release that is built now."], Verdict.IN
        return reasons, Verdict.OUT
    if here is None:
        return reasons or [
            "It passes now, but was fitted or changed after the release was built: build again."
        ], Verdict.OUT
    if here != obsid:
        return [*reasons, f"The star is in the release, as obsid {here}."], Verdict.OUT
    if reasons:
        reasons.append(
            "It is in the release all the same: it was fitted or changed after the release was built."
        )
        return reasons, Verdict.FLAGGED
    flagged = _flags_in_words(fit, labels)
    return flagged or ["It passes every term of the rule, and nothing is flagged."], (
        Verdict.FLAGGED if flagged else Verdict.IN
    )


def _why_no_fit(context: _Context | None, jobs: Sequence[JobFacts]) -> str:
    if context is None:
        return "No model has fitted it: `phdl fit enqueue RELEASE --model M` does."
    mine = [job for job in jobs if job.model == context.model.name]
    if not mine:
        name = context.model.name
        return f"It was never enqueued for model '{name}': `phdl fit enqueue RELEASE --model {name}` does."
    job = mine[0]
    failed = f", {job.error_kind}: {job.error_text}" if job.error_kind else ""
    return (
        f"Model '{context.model.name}' has not fitted it: its job {job.fit_chunk_id} is {job.state}{failed}."
    )


def _flags_in_words(fit: FitFacts, labels: Sequence[LabelFacts]) -> list[str]:
    """What the published row is flagged with; a release without calibration is not a fault of the star."""
    uncalibrated = flag_names(CalibrationFlag.NOT_CALIBRATED, CalibrationFlag)
    words = [f"The fit is flagged: {', '.join(fit.flags)}."] if fit.flags else []
    by_flag: dict[str, list[str]] = {}
    for entry in labels:
        for name in entry.flags:
            if name not in uncalibrated:
                by_flag.setdefault(name, []).append(entry.label)
    return words + [f"Labels flagged {name}: {', '.join(found)}." for name, found in by_flag.items()]
