"""Catalogue releases: which there are, and what each is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Table

from phdl_catalog.catalog.queries import statement
from phdl_catalog.catalog.schema import Column, load_schema
from phdl_catalog.catalog.selection import SubgiantSelection
from phdl_catalog.catalog.table import release_table, table_name
from phdl_catalog.database.calibration_sets import certified_set, find_set
from phdl_catalog.database.model_versions import find_model
from phdl_catalog.database.models import CATALOG_SCHEMA, CalibrationState, ReleaseState
from phdl_catalog.errors import ConflictError, InputError, NotFoundError, StateError


@dataclass(frozen=True)
class Model:
    """A registered model."""

    model_version_id: int
    name: str
    label_names: tuple[str, ...]


@dataclass(frozen=True)
class Calibration:
    """A calibration set in the database."""

    calibration_set_id: int
    name: str
    state: CalibrationState


@dataclass(frozen=True)
class StarSelection:
    """What a release takes: the rule, and the data releases it looks at.

    Parameters
    ----------
    subgiant : SubgiantSelection
        The rule.
    data_releases : tuple of str, optional
        Names of data releases; None for all.
    """

    subgiant: SubgiantSelection
    data_releases: tuple[str, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, as they stand in ``catalog_release.selection``."""
        releases = None if self.data_releases is None else list(self.data_releases)
        return {"subgiant": self.subgiant.to_dict(), "data_releases": releases}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> StarSelection:
        """Inverse of `to_dict`."""
        releases = document.get("data_releases")
        rule = SubgiantSelection.from_dict(document.get("subgiant", {}))
        return cls(rule, None if releases is None else tuple(releases))


@dataclass(frozen=True)
class CatalogReleaseInfo:
    """One row of ``phdl.catalog_release``, with the names of what it refers to."""

    catalog_release_id: int
    name: str
    model: Model
    calibration_set: str | None
    state: ReleaseState
    selection: StarSelection
    schema_version: str
    code_version: str
    checksum: str | None
    n_rows: int | None
    created_at: datetime
    built_at: datetime | None
    published_at: datetime | None
    superseded_at: datetime | None

    @property
    def subject(self) -> str:
        """How the log of events calls it."""
        return f"catalog_release:{self.name}"

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Published columns of its model."""
        return load_schema().expand(self.model.label_names)

    @cached_property
    def table(self) -> Table:
        """Its table."""
        return release_table(load_schema(), self.columns, self.name)

    @property
    def full_name(self) -> str:
        """``schema.table`` of its table."""
        return f"{CATALOG_SCHEMA}.{table_name(load_schema(), self.name)}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        times = {
            name: None if (moment := getattr(self, name)) is None else moment.isoformat()
            for name in ("created_at", "built_at", "published_at", "superseded_at")
        }
        return {
            "name": self.name,
            "state": self.state.value,
            "table": self.full_name,
            "model": self.model.name,
            "calibration_set": self.calibration_set,
            "n_rows": self.n_rows,
            "checksum": self.checksum,
            "selection": self.selection.to_dict(),
            "schema_version": self.schema_version,
            "code_version": self.code_version,
            **times,
        }


def list_catalog_releases(connection: Connection, name: str | None = None) -> list[CatalogReleaseInfo]:
    """All catalogue releases, newest first; or the one of that name."""
    rows = connection.execute(statement("releases", "catalog_releases"), {"name": name}).mappings()
    return [_info(row) for row in rows]


def get_catalog_release(connection: Connection, name: str) -> CatalogReleaseInfo:
    """One catalogue release.

    Raises
    ------
    NotFoundError
        Naming those that there are.
    """
    found = list_catalog_releases(connection, name)
    if not found:
        known = ", ".join(release.name for release in list_catalog_releases(connection))
        raise NotFoundError(
            f"there is no catalogue release '{name}'; "
            + (f"there are: {known}" if known else "`phdl catalog build` makes one")
        )
    return found[0]


def published_release(connection: Connection) -> CatalogReleaseInfo | None:
    """The catalogue release that is published now, if there is one."""
    releases = list_catalog_releases(connection)
    return next((release for release in releases if release.state is ReleaseState.PUBLISHED), None)


def get_model(connection: Connection, name: str) -> Model:
    """A registered model.

    Raises
    ------
    NotFoundError
        If there is none of that name.
    """
    row = find_model(connection, name)
    return Model(row.model_version_id, row.name, row.label_names)


def resolve_calibration(connection: Connection, model: Model, wanted: str) -> Calibration | None:
    """The calibration set a person asked for.

    Parameters
    ----------
    connection : Connection
        The database.
    model : Model
        Model the set must be of.
    wanted : str
        ``none``, ``certified`` for the model's certified set, or a set's name.

    Raises
    ------
    NotFoundError
        If there is no such set.
    StateError
        If the model has no certified set.
    ConflictError
        If the set is of another model.
    """
    if wanted == "none":
        return None
    if wanted == "certified":
        certified = certified_set(connection, model.name)
        if certified is None:
            raise StateError(
                f"model '{model.name}' has no certified calibration set: certify one with `phdl calibration "
                f"certify NAME`, name a draft with --calibration NAME, or build without, --calibration none"
            )
        row = certified
    else:
        row = find_set(connection, wanted)
        if row.model_version_id != model.model_version_id:
            raise ConflictError(
                f"calibration set '{wanted}' was made for model '{row.model}', not for '{model.name}'"
            )
    return Calibration(row.calibration_set_id, row.name, CalibrationState(row.state))


def data_release_ids(connection: Connection, names: tuple[str, ...] | None) -> list[int] | None:
    """Keys of data releases by their names; None, for all, stays None.

    Raises
    ------
    InputError
        Naming those that there are.
    """
    if names is None:
        return None
    known = {row.name: row.release_id for row in connection.execute(statement("releases", "data_releases"))}
    if unknown := [name for name in names if name not in known]:
        raise InputError(
            f"there is no data release {', '.join(unknown)}; there are: {', '.join(known) or 'none'}"
        )
    return [known[name] for name in names]


def table_exists(connection: Connection, full_name: str) -> bool:
    """Whether a table or view of that name is in the database."""
    return bool(connection.scalar(statement("releases", "table_exists"), {"table": full_name}))


def _info(row: Mapping[Any, Any]) -> CatalogReleaseInfo:
    facts = dict(row)
    model = Model(facts.pop("model_version_id"), facts.pop("model"), tuple(facts.pop("label_names")))
    state = ReleaseState(facts.pop("state"))
    selection = StarSelection.from_dict(facts.pop("selection"))
    return CatalogReleaseInfo(model=model, state=state, selection=selection, **facts)
