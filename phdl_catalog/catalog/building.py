"""Building a catalogue release: a table of its own, beside the published one, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, text

import phdl_catalog
from phdl_catalog.catalog.content import table_content
from phdl_catalog.catalog.corrected import PublishedLabels, Solution, apply_calibration
from phdl_catalog.catalog.flags import published_bits
from phdl_catalog.catalog.queries import statement
from phdl_catalog.catalog.reading import FitBlock, read_fits, read_index
from phdl_catalog.catalog.releases import (
    Calibration,
    Model,
    StarSelection,
    data_release_ids,
    get_model,
    list_catalog_releases,
    resolve_calibration,
    table_exists,
)
from phdl_catalog.catalog.schema import Column, LabelColumnNames, load_schema
from phdl_catalog.catalog.selection import SELECTION_LABELS, SubgiantSelection
from phdl_catalog.catalog.stars import MISSING, find_stars
from phdl_catalog.catalog.table import COPY_TYPES, release_table, table_name
from phdl_catalog.database.calibration_sets import load_solution
from phdl_catalog.database.copy import copy_rows
from phdl_catalog.database.events import record_event
from phdl_catalog.database.models import CATALOG_SCHEMA
from phdl_catalog.database.roles import READER
from phdl_catalog.errors import ConflictError, ModelError, SchemaError

#: Called with the number of stars done and of all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class BuildReport:
    """What a build made.

    Parameters
    ----------
    name : str
        Name of the release.
    table : str
        Its table.
    model, calibration_set : str
        What it was made with; no set for an uncalibrated release.
    n_spectra : int
        Usable spectra that were looked at.
    n_stars : int
        Stars they are of.
    n_rows : int
        Subgiants among them: rows of the table.
    checksum : str
        Of the rows, see `phdl_catalog.catalog.content`.
    """

    name: str
    table: str
    model: str
    calibration_set: str | None
    n_spectra: int
    n_stars: int
    n_rows: int
    checksum: str


def build_release(
    engine: Engine,
    model: str,
    *,
    calibration: str = "certified",
    name: str | None = None,
    selection: SubgiantSelection | None = None,
    data_releases: tuple[str, ...] | None = None,
    replace: bool = False,
    progress: Progress = lambda done, total: None,
) -> BuildReport:
    """Build a catalogue release as a draft.

    All is one transaction on one snapshot: a build that fails leaves nothing, and fits written meanwhile are
    not in it.

    Parameters
    ----------
    engine : Engine
        The database, as its owner.
    model : str
        Registered model whose fits are published.
    calibration : str
        ``certified``, ``none``, or the name of a set.
    name : str, optional
        Name of the release; today's date by default, with a number after it if that is taken.
    selection : SubgiantSelection, optional
        Which spectra and stars are taken.
    data_releases : tuple of str, optional
        Data releases to take spectra from; all by default.
    replace : bool
        Replace a release of that name that was never published.
    progress : callable, optional
        Told how many stars are done.

    Raises
    ------
    NotFoundError, InputError, StateError
        If a model, a set or a data release does not exist or cannot be used.
    ConflictError
        If there is a release of that name.
    ModelError
        If the model lacks a label that the selection needs.
    """
    chosen = StarSelection(selection or SubgiantSelection(), data_releases)
    with (
        engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection,
        connection.begin(),
    ):
        used = get_model(connection, model)
        if missing := [label for label in SELECTION_LABELS if label not in used.label_names]:
            raise ModelError(f"model '{model}' has no {', '.join(missing)}: subgiants cannot be told by it")
        calibration_set = resolve_calibration(connection, used, calibration)
        release = name or _free_name(connection)
        _make_room(connection, release, replace)
        return _build(connection, release, used, calibration_set, chosen, progress)


def _build(
    connection: Connection,
    release: str,
    model: Model,
    calibration: Calibration | None,
    chosen: StarSelection,
    progress: Progress,
) -> BuildReport:
    schema = load_schema()
    columns = schema.expand(model.label_names)
    calibrated = f"calibrated with {calibration.name}" if calibration else "not calibrated"
    table = release_table(schema, columns, release, f"Release {release}: model {model.name}, {calibrated}")
    solution = load_calibration(connection, calibration)
    rule = chosen.subgiant

    index = read_index(
        connection, model.model_version_id, rule, data_release_ids(connection, chosen.data_releases)
    )
    stars = find_stars(index, rule.same_star_arcsec)
    naming = {
        "model_version": model.name,
        "calibration_set": calibration.name if calibration else None,
        "catalog_release": release,
    }

    release_id = _insert_release(connection, release, model, calibration, chosen, columns)
    table.create(connection)
    # A draft is nobody's business: default privileges would show it to the reader.
    connection.execute(text(f"REVOKE ALL ON {CATALOG_SCHEMA}.{table.name} FROM {READER}"))
    done = 0
    for block in read_fits(
        connection, model.model_version_id, index.spectrum_id[stars.best], len(model.label_names)
    ):
        labels = apply_calibration(
            model.label_names, block.labels, block.errors, block.label_flags, solution, block.snr
        )
        n_obs = stars.n_obs[done : done + len(block)]
        selected = np.flatnonzero(_select(rule, model, labels))
        copy_rows(
            connection,
            f"{CATALOG_SCHEMA}.{table.name}",
            [column.name for column in columns],
            [COPY_TYPES[column.type] for column in columns],
            published_rows(columns, model, block, labels, n_obs, naming, selected),
        )
        done += len(block)
        progress(done, len(stars.best))
    connection.execute(text(f"ANALYZE {CATALOG_SCHEMA}.{table.name}"))
    content = table_content(connection, table)
    report = BuildReport(
        name=release,
        table=f"{CATALOG_SCHEMA}.{table.name}",
        model=model.name,
        calibration_set=calibration.name if calibration else None,
        n_spectra=len(index),
        n_stars=len(stars.best),
        n_rows=content.n_rows,
        checksum=content.checksum,
    )
    detail = {"catalog_release_id": release_id, **{key: getattr(report, key) for key in _EVENT_FIELDS}}
    record_event(connection, f"catalog_release:{release}", "built", detail)
    return report


def load_calibration(connection: Connection, calibration: Calibration | None) -> Solution | None:
    """The solution of a calibration set; None for an uncalibrated release."""
    return None if calibration is None else load_solution(connection, calibration.name)


_EVENT_FIELDS = ("model", "calibration_set", "n_spectra", "n_stars", "n_rows", "checksum")


def _select(rule: SubgiantSelection, model: Model, labels: PublishedLabels) -> NDArray[np.bool_]:
    """(N,) stars the rule takes, by their labels as published."""
    teff, logg, fe_h = (labels.values[:, model.label_names.index(name)] for name in SELECTION_LABELS)
    return rule.is_subgiant(teff, logg, fe_h)


def published_rows(
    columns: tuple[Column, ...],
    model: Model,
    block: FitBlock,
    labels: PublishedLabels,
    n_obs: NDArray[np.int64],
    naming: dict[str, str | None],
    selected: NDArray[np.intp],
) -> Iterable[tuple[Any, ...]]:
    """Rows of the published table, in the order of its columns.

    Parameters
    ----------
    columns : tuple of Column
        The published columns.
    model : Model
        Of L labels.
    block : FitBlock
        N fits, one a star.
    labels : PublishedLabels
        Their labels, as published.
    n_obs : (N,) int64 array
        Observations of each star.
    naming : dict
        Columns that have one value in all rows.
    selected : (n,) int array
        Rows of the block that are published.

    Raises
    ------
    SchemaError
        If ``schema.yaml`` has a column that nothing fills.
    """
    data: dict[str, list[Any]] = {
        "obsid": block.obsid[selected].tolist(),
        "gaia_source_id": _or_null(block.gaia_source_id[selected]),
        "healpix_29": _or_null(block.healpix_29[selected]),
        "data_release": [block.data_release[row] for row in selected.tolist()],
        "n_obs": n_obs[selected].tolist(),
        "flag": block.flags[selected].tolist(),
        **{
            name: _or_null(getattr(block, name)[selected])
            for name in ("ra", "dec", "snr_g", "rv", "e_rv", "chi2")
        },
        **{name: [value] * len(selected) for name, value in naming.items()},
    }
    for number, label in enumerate(model.label_names):
        names = LabelColumnNames.of(label)
        data[names.value] = _or_null(labels.values[selected, number])
        data[names.error] = _or_null(labels.errors[selected, number])
        data[names.calibration_error] = _or_null(labels.calibration_errors[selected, number])
        data[names.raw] = _or_null(labels.raw[selected, number])
        data[names.flag] = labels.flags[selected, number].tolist()
    if unknown := [column.name for column in columns if column.name not in data]:
        raise SchemaError(f"schema.yaml has columns that nothing fills: {', '.join(unknown)}")
    return zip(*(data[column.name] for column in columns), strict=True)


def _or_null(values: NDArray[Any]) -> list[Any]:
    """As Python numbers; NaN and `MISSING` become None."""
    if values.dtype.kind == "f":
        return [None if value != value else value for value in values.tolist()]
    return [None if value == MISSING else value for value in values.tolist()]


def _insert_release(
    connection: Connection,
    release: str,
    model: Model,
    calibration: Calibration | None,
    chosen: StarSelection,
    columns: tuple[Column, ...],
) -> int:
    """Write the release's row, and what every bit of its flag columns means."""
    release_id = connection.execute(
        statement("releases", "insert_release"),
        {
            "name": release,
            "model_version_id": model.model_version_id,
            "calibration_set_id": calibration.calibration_set_id if calibration else None,
            "selection": json.dumps(chosen.to_dict(), allow_nan=False),
            "schema_version": load_schema().version,
            "code_version": phdl_catalog.__version__,
        },
    ).scalar_one()
    definitions = [
        {
            "catalog_release_id": release_id,
            "column_name": column.name,
            "bit": bit.number,
            "name": bit.name,
            "description": bit.meaning,
        }
        for column in columns
        if column.bits is not None
        for bit in published_bits(column.bits)
    ]
    connection.execute(statement("releases", "insert_flag"), definitions)
    return int(release_id)


def _free_name(connection: Connection) -> str:
    taken = {release.name for release in list_catalog_releases(connection)}
    today = f"{datetime.now(UTC):%Y.%m.%d}"
    number = 1
    while (name := today if number == 1 else f"{today}-{number}") in taken:
        number += 1
    return name


def _make_room(connection: Connection, release: str, replace: bool) -> None:
    """Drop a release of that name that was never published, if asked to; refuse any other."""
    full_name = f"{CATALOG_SCHEMA}.{table_name(load_schema(), release)}"
    for found in list_catalog_releases(connection, release):
        if found.published_at is not None:
            raise ConflictError(
                f"catalogue release '{release}' was published, it stays what it is: build under another name"
            )
        if not replace:
            raise ConflictError(
                f"there is a catalogue release '{release}' already ({found.state.value}): build under "
                f"another name, or replace it with --replace"
            )
        drop_release(connection, found.catalog_release_id, full_name)
        record_event(connection, found.subject, "dropped", {"state": found.state.value})
    if table_exists(connection, full_name):
        raise ConflictError(
            f"the table {full_name} belongs to a release of a similar name: build under another name"
        )


def drop_release(connection: Connection, release_id: int, full_name: str) -> None:
    """Remove a release's row and table; the database refuses one that was published."""
    connection.execute(statement("releases", "delete_release"), {"catalog_release_id": release_id})
    connection.execute(text(f"DROP TABLE IF EXISTS {full_name}"))
