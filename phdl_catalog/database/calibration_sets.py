"""Calibration sets: stored once, never edited, loaded as solutions, certified and superseded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection

from phdl_catalog import __version__
from phdl_catalog.calibration import CalibrationReport, CalibrationSolution
from phdl_catalog.calibration.basis import SmoothBasis
from phdl_catalog.calibration.members import Members
from phdl_catalog.calibration.repeats import ErrorScale
from phdl_catalog.calibration.solution import LabelCorrection
from phdl_catalog.calibration.validity import CellGrid, unpack_cells
from phdl_catalog.database.calibration_inputs import CalibrationInputs
from phdl_catalog.database.events import record_event
from phdl_catalog.database.model_versions import ModelVersionRow
from phdl_catalog.database.queries import statement
from phdl_catalog.errors import NotFoundError, StateError


@dataclass(frozen=True)
class CalibrationSetRow:
    """One calibration set; see the comments of the columns of ``phdl.calibration_set``."""

    calibration_set_id: int
    name: str
    view_name: str
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
                error_scale=ErrorScale.from_dict(
                    {
                        "label": label,
                        "scale": offset.error_scale,
                        "slope": offset.error_slope,
                        "floor": offset.error_floor,
                        "count": offset.n_repeats,
                        "bins": offset.report.get("error_bins", []),
                    }
                ),
            )
        )
    report = {key: value for key, value in row.report.items() if key not in ("calibrators", "tried")}
    report["labels"] = [
        {key: value for key, value in offsets[label].report.items() if key != "error_bins"} for label in names
    ]
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
    connection.execute(statement("calibration", "show_view"), {"calibration_set_id": row.calibration_set_id})
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
