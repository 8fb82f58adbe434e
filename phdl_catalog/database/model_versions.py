"""Registered models: the rows of ``model_version``, which are never edited."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from phdl_catalog import __version__
from phdl_catalog.database.events import record_event
from phdl_catalog.database.queries import statement
from phdl_catalog.errors import ConflictError, NotFoundError
from phdl_catalog.spectra.grid import PixelGrid

if TYPE_CHECKING:
    from phdl_catalog.emulator import Emulator


@dataclass(frozen=True)
class ModelVersionRow:
    """One registered model; see the comments of the columns of ``phdl.model_version``."""

    model_version_id: int
    name: str
    view_name: str
    sha256: str
    uri: str
    label_names: tuple[str, ...]
    wavelength_first: int
    wavelength_size: int
    resolution: float | None
    grid_sha256: str | None
    code_version: str
    metrics: dict[str, Any]
    description: str | None
    registered_at: datetime


def sync_model(
    connection: Connection, emulator: Emulator, *, uri: str | None = None, description: str | None = None
) -> ModelVersionRow:
    """Register a model unless it is registered already.

    Its partition of ``fit`` and its view ``labels_<name>`` are made in the same transaction, by a trigger.

    Parameters
    ----------
    connection : Connection
        The caller's transaction.
    emulator : Emulator
        Model, from `phdl_catalog.load_model`.
    uri : str, optional
        Where the weights file is; by default the name, which is right for a packaged model.
    description : str, optional
        What this model is, for a person.

    Returns
    -------
    ModelVersionRow
        The row, new or old.

    Raises
    ------
    ConflictError
        If another model (other weights) has the name.
    """
    grid = PixelGrid.from_wavelength(emulator.wavelength)
    metadata = _plain(dict(emulator.metadata))
    metrics, trained_on = metadata.get("metrics"), metadata.get("grid")
    made = connection.execute(
        statement("model_versions", "insert"),
        {
            "name": emulator.name,
            "sha256": emulator.sha256,
            "uri": uri or emulator.name,
            "label_names": list(emulator.label_names),
            "wavelength_first": grid.first,
            "wavelength_size": grid.size,
            "resolution": float(emulator.resolution),
            "grid_sha256": trained_on.get("sha256") if isinstance(trained_on, dict) else None,
            "code_version": str(metadata.get("code_version") or __version__),
            "metrics": json.dumps(metrics if isinstance(metrics, dict) else {}, allow_nan=False),
            "description": description or metadata.get("description"),
        },
    ).scalar_one_or_none()
    row = find_model(connection, emulator.name)
    if made is not None:
        record_event(connection, f"model_version:{row.name}", "registered", {"sha256": row.sha256})
    if row.sha256 != emulator.sha256:
        raise ConflictError(
            f"another model is registered as '{row.name}' (weights {row.sha256[:12]}, these are "
            f"{emulator.sha256[:12]}); a registered model is never replaced: give this one another name",
            name=row.name,
            registered=row.sha256,
            offered=emulator.sha256,
        )
    return row


def find_model(connection: Connection, name: str) -> ModelVersionRow:
    """One registered model.

    Raises
    ------
    NotFoundError
        If there is none of that name.
    """
    rows = _rows(connection, name)
    if not rows:
        raise NotFoundError(f"no model '{name}' is registered; `phdl model list` shows those that are")
    return rows[0]


def list_models(connection: Connection) -> list[ModelVersionRow]:
    """All registered models, the oldest first."""
    return _rows(connection, None)


def _rows(connection: Connection, name: str | None) -> list[ModelVersionRow]:
    rows = connection.execute(statement("model_versions", "list"), {"name": name}).mappings()
    return [ModelVersionRow(**{**row, "label_names": tuple(row["label_names"])}) for row in rows]


def _plain(value: Any) -> Any:
    """The same with nothing but what JSON has: numpy's numbers become Python's, NaN becomes None."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
