"""Calibration sets: stored once, never edited, loaded as solutions, certified and superseded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection

from phdl_catalog import __version__
from phdl_catalog.calibration import CalibrationReport, CalibrationSolution, Constraint
from phdl_catalog.calibration.basis import SmoothBasis
from phdl_catalog.calibration.calibrators import Use
from phdl_catalog.calibration.members import Members
from phdl_catalog.calibration.report import LabelReport
from phdl_catalog.calibration.solution import LabelCorrection
from phdl_catalog.calibration.validity import CellGrid, pack_cells, unpack_cells
from phdl_catalog.database.calibration_inputs import CalibrationInputs
from phdl_catalog.database.copy import copy_rows
from phdl_catalog.database.events import record_event
from phdl_catalog.database.model_versions import ModelVersionRow
from phdl_catalog.database.queries import statement
from phdl_catalog.errors import NotFoundError, StateError

_OFFSET_TYPES = {
    "calibration_set_id": "int4", "label": "text", "basis": "jsonb", "coefficients": "float8[]",
    "covariance": "float8[]", "validity": "jsonb", "n_pairs": "int4", "n_references": "int4",
    "intrinsic_scatter": "float8", "pair_scatter_before": "float8", "pair_scatter_after": "float8",
    "pair_scatter_held_out_before": "float8", "pair_scatter_held_out_after": "float8",
    "reference_scatter_before": "float8", "reference_scatter_after": "float8",
    "reference_scatter_held_out_before": "float8", "reference_scatter_held_out_after": "float8",
    "not_constrained": "text[]", "report": "jsonb",
}  # fmt: skip

_MEMBER_TYPES = {
    "calibration_set_id": "int4", "label": "text", "kind": "text", "wide_binary_id": "int8",
    "reference_label_id": "int8", "spectrum_id_a": "int8", "spectrum_id_b": "int8", "held_out": "bool",
    "weight": "float4", "residual_before": "float4", "residual_after": "float4", "error": "float4",
}  # fmt: skip


@dataclass(frozen=True)
class CalibrationSetRow:
    """One calibration set; see the comments of the columns of ``phdl.calibration_set``."""

    calibration_set_id: int
    name: str
    model: str
    model_version_id: int
    state: str
    configuration: dict[str, Any]
    report: dict[str, Any]
    code_version: str
    configuration_hash: str
    input_hash: str | None
    created_at: datetime
    certified_at: datetime | None
    superseded_at: datetime | None


def configuration_digest(configuration: Mapping[str, Any]) -> str:
    """SHA-256 of a configuration."""
    return hashlib.sha256(json.dumps(configuration, sort_keys=True, allow_nan=False).encode()).hexdigest()


def find_same_set(
    connection: Connection, model: ModelVersionRow, inputs: CalibrationInputs, options: Mapping[str, Any]
) -> str | None:
    """Name of the set that the same input, options and code gave before."""
    return connection.execute(
        statement("calibration", "same_set"),
        {
            "model_version_id": model.model_version_id,
            "input_hash": inputs.digest(),
            "configuration_hash": configuration_digest(options),
            "code_version": __version__,
        },
    ).scalar_one_or_none()


def store_solution(
    connection: Connection,
    model: ModelVersionRow,
    inputs: CalibrationInputs,
    solution: CalibrationSolution,
    options: Mapping[str, Any],
    name: str | None = None,
) -> str:
    """Store a solution as a draft.

    Parameters
    ----------
    connection : Connection
        The caller's transaction.
    model : ModelVersionRow
        Model it is of.
    inputs : CalibrationInputs
        What it was made of.
    solution : CalibrationSolution
        The solution.
    options : mapping
        Cuts and options, hashed with the input so that the same is recognised.
    name : str, optional
        Name of the set; by default the model's with the next number.

    Returns
    -------
    str
        Its name.
    """
    connection.execute(statement("calibration", "lock_sets"), {"model": model.name})
    if name is None:
        count = connection.execute(
            statement("calibration", "count_sets"), {"model_version_id": model.model_version_id}
        ).scalar_one()
        name = f"{model.name}-cal{count + 1}"
    report = solution.report().to_dict()
    del report["labels"]
    configuration = {
        **options,
        **solution.configuration,
        "label_names": list(solution.label_names),
        "grid": solution.grid.to_dict(),
    }
    key = connection.execute(
        statement("calibration", "insert_set"),
        {
            "name": name,
            "model_version_id": model.model_version_id,
            "configuration": json.dumps(configuration, allow_nan=False),
            "configuration_hash": configuration_digest(options),
            "input_hash": inputs.digest(),
            "code_version": __version__,
            "report": json.dumps({**report, "calibrators": inputs.counts}, allow_nan=False),
        },
    ).scalar_one()
    offsets = _offset_rows(key, solution)
    copy_rows(
        connection, "phdl.calibration_offset", list(_OFFSET_TYPES), list(_OFFSET_TYPES.values()), offsets
    )
    members = _member_rows(key, inputs, solution)
    copy_rows(
        connection, "phdl.calibration_member", list(_MEMBER_TYPES), list(_MEMBER_TYPES.values()), members
    )
    record_event(connection, f"calibration_set:{name}", "computed", {"model": model.name})
    return name


def _offset_rows(key: int, solution: CalibrationSolution) -> Iterator[tuple[Any, ...]]:
    from psycopg.types.json import Jsonb

    basis = solution.basis.to_dict()
    for entry in solution.corrections:
        report = solution.report()[entry.label]
        validity = {
            "cells": pack_cells(entry.cells),
            "zero_point": entry.zero_point,
            "calibrated": entry.calibrated,
        }
        scatters = (report.pairs, report.held_out_pairs, report.references, report.held_out_references)
        document = solution.report().to_dict()["labels"][solution.label_names.index(entry.label)]
        yield (
            key, entry.label, Jsonb(basis), entry.coefficients.tolist(), entry.covariance.ravel().tolist(),
            Jsonb(validity), report.pairs.count, report.references.count, report.pair_scatter,
            *(value for scatter in scatters for value in (scatter.before, scatter.after)),
            _not_constrained(report), Jsonb(document),
        )  # fmt: skip


def _not_constrained(report: LabelReport) -> list[str]:
    match report.constraint:
        case Constraint.NOTHING:
            return ["zero_point", "teff", "logg", "fe_h"]
        case Constraint.PAIRS_ONLY:
            # Siblings have one fe_h: pairs cannot see how a correction depends on it.
            return ["zero_point", "fe_h"]
        case _:
            return []


def _member_rows(
    key: int, inputs: CalibrationInputs, solution: CalibrationSolution
) -> Iterator[tuple[Any, ...]]:
    spectra = inputs.spectrum_ids
    for column, label in enumerate(solution.label_names):
        for row in _with_equation(solution.pairs, column):
            first, second = spectra[inputs.pairs[row]].tolist()
            yield (
                key, label, "pair", int(inputs.pair_ids[row]), None, first, second,
                *_use(solution.pairs, row, column),
            )  # fmt: skip
        for row in _with_equation(solution.references, column):
            yield (
                key, label, "reference", None, int(inputs.reference_ids[row, column]),
                int(spectra[inputs.reference_rows[row]]), None, *_use(solution.references, row, column),
            )  # fmt: skip


def _with_equation(members: Members, column: int) -> list[int]:
    return [int(row) for row in np.flatnonzero(np.isfinite(members.weight[:, column]))]


def _use(members: Members, row: int, column: int) -> tuple[Any, ...]:
    held = members.use[row] == Use.HELD_OUT
    values = (members.before, members.after, members.error)
    return (
        held,
        0.0 if held else float(members.weight[row, column]),
        *(float(v[row, column]) for v in values),
    )


def load_solution(connection: Connection, name: str) -> CalibrationSolution:
    """A stored set as a solution: corrections, errors and validity exactly as when it was made.

    How each calibrator was used stays in ``phdl.calibration_member``: the solution's members are empty.

    Parameters
    ----------
    connection : Connection
        Database.
    name : str
        Name of the set.

    Raises
    ------
    NotFoundError
        If there is no such set.
    """
    row = find_set(connection, name)
    names = tuple(row.configuration["label_names"])
    grid = CellGrid.from_dict(row.configuration["grid"])
    offsets = {
        offset.label: offset
        for offset in connection.execute(
            statement("calibration", "offsets"), {"calibration_set_id": row.calibration_set_id}
        )
    }
    corrections = []
    for label in names:
        offset = offsets[label]
        coefficients = np.array(offset.coefficients, dtype=np.float64)
        corrections.append(
            LabelCorrection(
                label=label,
                coefficients=coefficients,
                covariance=np.array(offset.covariance, dtype=np.float64).reshape(len(coefficients), -1),
                cells=unpack_cells(offset.validity["cells"], grid.size),
                zero_point=offset.validity["zero_point"],
                calibrated=offset.validity["calibrated"],
            )
        )
    report = {key: value for key, value in row.report.items() if key != "calibrators"}
    report["labels"] = [offsets[label].report for label in names]
    nothing = Members.empty(np.empty(0, dtype=object), len(names))
    return CalibrationSolution(
        label_names=names,
        basis=SmoothBasis.from_dict(offsets[names[0]].basis),
        grid=grid,
        corrections=tuple(corrections),
        pairs=nothing,
        references=nothing,
        configuration=row.configuration,
        _report=CalibrationReport.from_dict(report),
    )


def list_sets(
    connection: Connection, *, model: str | None = None, state: str | None = None
) -> list[CalibrationSetRow]:
    """Sets of one model or of all, of one state or of any, the newest last."""
    return _rows(connection, model=model, state=state)


def find_set(connection: Connection, name: str) -> CalibrationSetRow:
    """One set.

    Raises
    ------
    NotFoundError
        If there is none of that name.
    """
    rows = _rows(connection, name=name)
    if not rows:
        raise NotFoundError(
            f"there is no calibration set '{name}'; `phdl calibration list` shows those there are"
        )
    return rows[0]


def certified_set(connection: Connection, model: str) -> CalibrationSetRow | None:
    """The certified set of a model, None if it has none."""
    rows = _rows(connection, model=model, state="certified")
    return rows[-1] if rows else None


def latest_set(connection: Connection, model: str) -> CalibrationSetRow | None:
    """The newest set of a model, whatever its state; None if it has none."""
    rows = _rows(connection, model=model)
    return rows[-1] if rows else None


def certify_set(connection: Connection, name: str) -> str | None:
    """Certify a draft; the set of the same model that was certified before is superseded.

    Parameters
    ----------
    connection : Connection
        The caller's transaction.
    name : str
        Name of the set.

    Returns
    -------
    str or None
        Name of the superseded set.

    Raises
    ------
    NotFoundError
        If there is no such set.
    StateError
        If it is no draft.
    """
    model = find_set(connection, name).model
    connection.execute(statement("calibration", "lock_sets"), {"model": model})
    row = find_set(connection, name)
    if row.state != "draft":
        raise StateError(
            f"calibration set '{name}' is {row.state}; only a draft can be certified", state=row.state
        )
    superseded = connection.execute(
        statement("calibration", "supersede"), {"model_version_id": row.model_version_id}
    ).scalar_one_or_none()
    connection.execute(statement("calibration", "certify"), {"calibration_set_id": row.calibration_set_id})
    record_event(connection, f"calibration_set:{name}", "certified", {"superseded": superseded})
    if superseded is not None:
        record_event(connection, f"calibration_set:{superseded}", "superseded", {"by": name})
    return superseded


def _rows(
    connection: Connection, *, name: str | None = None, model: str | None = None, state: str | None = None
) -> list[CalibrationSetRow]:
    found = connection.execute(
        statement("calibration", "sets"), {"name": name, "model": model, "state": state}
    ).mappings()
    return [CalibrationSetRow(**row) for row in found]
