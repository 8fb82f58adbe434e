"""All that the database knows of one observed spectrum: its facts, its star, its fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, select

from phdl_catalog.database.models import DataRelease, Fit, ModelVersion, Source, Spectrum, SpectrumState
from phdl_catalog.errors import NotFoundError
from phdl_catalog.spectra import PixelAddress


@dataclass(frozen=True)
class FitRecord:
    """The labels of one spectrum by one model; None where the fit failed.

    Parameters
    ----------
    model : str
        Name of the model version.
    label_names : tuple of str, length L
        Names of the labels.
    facts : mapping
        The other columns of the fit, by name.
    values, errors, label_flags : tuple, length L, or None
        One of each label.
    """

    model: str
    label_names: tuple[str, ...]
    facts: Mapping[str, Any]
    values: tuple[float | None, ...] | None
    errors: tuple[float | None, ...] | None
    label_flags: tuple[int, ...] | None


@dataclass(frozen=True)
class SpectrumRecord:
    """One observed spectrum.

    Parameters
    ----------
    release : str
        Name of the release.
    facts : mapping
        Columns of `spectrum`, by name.
    address : PixelAddress, optional
        Where the pixels lie; None if the file was rejected.
    source : mapping, optional
        Columns of `source`, by name, if the star is known.
    fits : tuple of FitRecord
        By model, the latest first.
    """

    release: str
    facts: Mapping[str, Any]
    address: PixelAddress | None
    source: Mapping[str, Any] | None
    fits: tuple[FitRecord, ...]


def find_spectra(engine: Engine, obsid: int, release: str | None = None) -> list[SpectrumRecord]:
    """The spectra of one obsid, in all releases or in one, rejected files included.

    Raises
    ------
    NotFoundError
        If there is none.
    """
    wanted = (
        select(Spectrum, DataRelease.name)
        .join(DataRelease, DataRelease.release_id == Spectrum.release_id)
        .where(Spectrum.obsid == obsid)
        .order_by(DataRelease.created_at.desc(), Spectrum.spectrum_id)
    )
    if release is not None:
        wanted = wanted.where(DataRelease.name == release)
    with engine.connect() as connection:
        columns = Spectrum.__table__.columns
        rows = connection.execute(
            wanted.with_only_columns(*columns, DataRelease.name.label("release"))
        ).mappings()
        records = [_record(connection, dict(row)) for row in rows.all()]
    if not records:
        where = f"release {release!r}" if release else "any release"
        raise NotFoundError(f"there is no spectrum with obsid {obsid} in {where}")
    return records


def only_accepted(records: list[SpectrumRecord]) -> tuple[SpectrumRecord, PixelAddress]:
    """The one record that has pixels, the latest release first.

    Raises
    ------
    NotFoundError
        If none has.
    """
    for record in records:
        if record.address is not None:
            return record, record.address
    raise NotFoundError("this spectrum was rejected and has no pixels; `phdl spectrum show` says why")


def _record(connection: Any, facts: dict[str, Any]) -> SpectrumRecord:
    release = facts.pop("release")
    address = None
    if facts["state"] == SpectrumState.ACCEPTED:
        address = PixelAddress(facts["shard"], facts["shard_row"])
    source = None
    if facts["gaia_source_id"] is not None:
        table = Source.__table__
        found = connection.execute(select(table).where(table.c.gaia_source_id == facts["gaia_source_id"]))
        row = found.mappings().one_or_none()
        source = None if row is None else dict(row)
    return SpectrumRecord(release, facts, address, source, _fits(connection, facts["spectrum_id"]))


def _fits(connection: Any, spectrum_id: int) -> tuple[FitRecord, ...]:
    table = Fit.__table__
    arrays = ("label_values", "label_errors", "label_flags", "label_covariance")
    plain = [column for column in table.columns if column.name not in arrays]
    wanted = (
        select(
            ModelVersion.name.label("model"),
            ModelVersion.label_names,
            table.c.label_values,
            table.c.label_errors,
            table.c.label_flags,
            *plain,
        )
        .join(ModelVersion, ModelVersion.model_version_id == table.c.model_version_id)
        .where(table.c.spectrum_id == spectrum_id)
        .order_by(table.c.fitted_at.desc())
    )
    return tuple(
        FitRecord(
            model=row["model"],
            label_names=tuple(row["label_names"]),
            facts={column.name: row[column.name] for column in plain},
            values=_tuple(row["label_values"]),
            errors=_tuple(row["label_errors"]),
            label_flags=_tuple(row["label_flags"]),
        )
        for row in connection.execute(wanted).mappings()
    )


def _tuple(values: list[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)
