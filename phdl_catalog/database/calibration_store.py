"""Storing a calibration set: corrections, members, cells, and the view of labels as it corrects them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from sqlalchemy import Connection

from phdl_catalog import __version__
from phdl_catalog.calibration import CalibrationSolution, Constraint
from phdl_catalog.calibration.calibrators import Use
from phdl_catalog.calibration.members import Members
from phdl_catalog.calibration.repeats import ErrorScale
from phdl_catalog.calibration.report import LabelReport
from phdl_catalog.calibration.tabulated import tabulation
from phdl_catalog.calibration.validity import pack_cells
from phdl_catalog.database.calibration_inputs import CalibrationInputs
from phdl_catalog.database.calibration_sets import configuration_digest
from phdl_catalog.database.copy import copy_rows
from phdl_catalog.database.events import record_event
from phdl_catalog.database.model_versions import ModelVersionRow
from phdl_catalog.database.models.states import PolynomialPart
from phdl_catalog.database.queries import statement
from phdl_catalog.errors import InputError

_OFFSET_TYPES = {
    "calibration_set_id": "int4", "label": "text", "basis": "jsonb", "coefficients": "float8[]",
    "covariance": "float8[]", "validity": "jsonb", "n_pairs": "int4", "n_references": "int4",
    "intrinsic_scatter": "float8", "pair_scatter_before": "float8", "pair_scatter_after": "float8",
    "pair_scatter_held_out_before": "float8", "pair_scatter_held_out_after": "float8",
    "reference_scatter_before": "float8", "reference_scatter_after": "float8",
    "reference_scatter_held_out_before": "float8", "reference_scatter_held_out_after": "float8",
    "not_constrained": "text[]", "report": "jsonb", "n_repeats": "int4", "error_scale": "float8",
    "error_slope": "float8", "error_floor": "float8",
}  # fmt: skip

_MEMBER_TYPES = {
    "calibration_set_id": "int4", "label": "text", "kind": "text", "wide_binary_id": "int8",
    "reference_label_id": "int8", "spectrum_id_a": "int8", "spectrum_id_b": "int8", "held_out": "bool",
    "weight": "float4", "residual_before": "float4", "residual_after": "float4", "error": "float4",
}  # fmt: skip


_CELL_TYPES = {
    "calibration_set_id": "int4", "cell": "int4", "error": "float4[]", "slope_teff": "float4[]",
    "slope_logg": "float4[]", "slope_fe_h": "float4[]", "valid": "bool[]",
}  # fmt: skip

_POLYNOMIAL_TYPES = {
    "calibration_set_id": "int4", "part": "text", "cell": "int4", "coefficients": "float4[]",
}  # fmt: skip

#: What the name of a set may be: it becomes the name of a view.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,47}")


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

    Raises
    ------
    InputError
        If the name has characters that a view cannot have.
    """
    connection.execute(statement("calibration", "lock_sets"), {"model": model.name})
    if name is not None and not _NAME.fullmatch(name):
        raise InputError(
            f"'{name}' is no name for a calibration set: letters, digits, '_', '-' and '.', 48 at most"
        )
    if name is None:
        count = connection.execute(
            statement("calibration", "count_sets"), {"model_version_id": model.model_version_id}
        ).scalar_one()
        name = f"{model.name}-cal{count + 1}"
    report = {**solution.report().to_dict(), "calibrators": inputs.counts, "tried": inputs.tried}
    del report["labels"]
    configuration = {
        **options,
        **solution.configuration,
        "label_names": list(solution.label_names),
        "grid": solution.grid.to_dict(),
        "tabulation": tabulation(solution.basis),
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
            "report": json.dumps(report, allow_nan=False),
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
    cells = _cell_rows(key, solution)
    copy_rows(connection, "phdl.calibration_cell", list(_CELL_TYPES), list(_CELL_TYPES.values()), cells)
    copy_rows(
        connection, "phdl.calibration_polynomial", list(_POLYNOMIAL_TYPES), list(_POLYNOMIAL_TYPES.values()),
        _polynomial_rows(key, solution),
    )  # fmt: skip
    connection.execute(statement("calibration", "create_view"), {"calibration_set_id": key})
    record_event(connection, f"calibration_set:{name}", "computed", {"model": model.name})
    return name


def _offset_rows(key: int, solution: CalibrationSolution) -> Iterator[tuple[Any, ...]]:
    from psycopg.types.json import Jsonb

    basis = solution.basis.to_dict()
    for entry in solution.corrections:
        report, errors = solution.report()[entry.label], entry.error_scale
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
            _not_constrained(report), Jsonb({**document, "error_bins": errors.to_dict()["bins"]}),
            errors.count, errors.scale, errors.slope, errors.floor,
        )  # fmt: skip


def _not_constrained(report: LabelReport) -> list[str]:
    match report.constraint:
        case Constraint.NOTHING:
            return ["zero_point", "teff", "logg", "fe_h"]
        case Constraint.PAIRS_ONLY:
            # Siblings have one fe_h: pairs cannot see how a correction depends on it.
            return ["zero_point", "fe_h", *(name for name in report.unseen if name != "constant")]
        case _:
            return list(report.unseen)


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

        scale = solution.corrections[column].error_scale
        if scale.count:
            yield from _repeat_rows(key, label, inputs, column, scale)


def _repeat_rows(
    key: int, label: str, inputs: CalibrationInputs, column: int, scale: ErrorScale
) -> Iterator[tuple[Any, ...]]:
    """Of each repeat: its difference, which no correction changes, and its error as scaled."""
    first, second = inputs.repeats.T
    difference = inputs.labels[first, column] - inputs.labels[second, column]
    errors = np.hypot(
        *(scale.apply(inputs.errors[rows, column], inputs.snr[rows]) for rows in (first, second))
    )
    spectra = inputs.spectrum_ids
    for row in np.flatnonzero(np.isfinite(difference) & np.isfinite(errors)).tolist():
        value, pair = float(difference[row]), inputs.repeats[row]
        yield (
            key, label, "repeat", None, None, int(spectra[pair[0]]), int(spectra[pair[1]]), False, 1.0,
            value, value, float(errors[row]),
        )  # fmt: skip


def _cell_rows(key: int, solution: CalibrationSolution) -> Iterator[tuple[Any, ...]]:
    """What `CalibrationSolution.error` and `valid` look up, for the same look-up in SQL."""
    tables = solution.cell_tables
    calibrated = [entry.calibrated for entry in solution.corrections]
    zero_point = np.array([entry.zero_point for entry in solution.corrections])
    error, slopes = tables.error.tolist(), tables.slopes.tolist()
    valid = (tables.valid & zero_point).tolist()
    for cell in range(solution.grid.size):
        known = [value if known else None for value, known in zip(error[cell], calibrated, strict=True)]
        yield (key, cell, known, *(axis[cell] for axis in slopes), valid[cell])


def _polynomial_rows(key: int, solution: CalibrationSolution) -> Iterator[tuple[Any, ...]]:
    tables = solution.tabulated()
    for part, cells in ((PolynomialPart.SURFACE, tables.surface), (PolynomialPart.CURVE, tables.curve)):
        for cell, values in enumerate(cells.reshape(len(cells), -1).tolist()):
            yield (key, part.value, cell, values)


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
