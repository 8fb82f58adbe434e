"""The members of a stored set as arrays: for figures and checks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from phdl_catalog.calibration.basis import COORDINATES
from phdl_catalog.calibration.figures import CalibratorStars, Equations
from phdl_catalog.database.calibration_sets import CalibrationSetRow
from phdl_catalog.database.queries import statement

Floats = NDArray[np.float64]


def read_equations(connection: Connection, row: CalibrationSetRow, label: str, kind: str) -> Equations:
    """The equations of one label.

    Parameters
    ----------
    connection : Connection
        Database.
    row : CalibrationSetRow
        The set.
    label : str
        Name of the label.
    kind : str
        ``pair`` or ``reference``.
    """
    place = row.configuration["label_names"].index("teff") + 1
    value = row.configuration["label_names"].index(label) + 1
    rows = connection.execute(
        statement("calibration", "members"),
        {
            "calibration_set_id": row.calibration_set_id, "model_version_id": row.model_version_id,
            "label": label, "kind": kind, "teff": place, "value": value,
        },
    ).all()  # fmt: skip
    table = np.array([tuple(entry) for entry in rows], dtype=np.float64).reshape(len(rows), 8)
    teff_a, teff_b, raw, before, after, error, weight, held = table.T
    return Equations(
        at=np.stack([teff_a, teff_b], axis=1) if kind == "pair" else teff_a,
        value=raw - before,
        before=before,
        after=after,
        error=error,
        held_out=held > 0,
        weight=weight,
    )


def calibrator_stars(connection: Connection, row: CalibrationSetRow) -> CalibratorStars:
    """teff, logg and fe_h of the stars in the equations of a set."""
    places = [row.configuration["label_names"].index(name) + 1 for name in COORDINATES]
    rows = connection.execute(
        statement("calibration", "member_stars"),
        {
            "calibration_set_id": row.calibration_set_id, "model_version_id": row.model_version_id,
            **dict(zip(COORDINATES, places, strict=True)),
        },
    ).all()  # fmt: skip
    points = np.array([tuple(entry) for entry in rows], dtype=np.float64).reshape(len(rows), 3)
    return CalibratorStars(points[np.isfinite(points).all(axis=1)])
