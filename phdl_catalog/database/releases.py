"""Data releases: adding, listing, and what is in one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Float, cast, func, insert, select

from phdl_catalog.database.events import record_event
from phdl_catalog.database.models import DataRelease, Spectrum, SpectrumState
from phdl_catalog.errors import ConflictError, InputError, NotFoundError

#: Edges of the bins of signal to noise (g band) in a release's summary; the last one is open.
SNR_EDGES = (0, 10, 20, 30, 50, 100, 200)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")


@dataclass(frozen=True)
class Release:
    """One data release and how many files it has, by state."""

    release_id: int
    name: str
    description: str | None
    created_at: datetime
    accepted: int
    rejected: int


@dataclass(frozen=True)
class ReleaseContent:
    """What is in one release.

    Parameters
    ----------
    release : Release
        The release.
    reasons, layouts, classes : dict
        Rejected files by reason; accepted ones by layout and by the survey's class.
    snr_g : dict
        Accepted spectra by signal to noise in g; keys such as ``"20-30"``, ``">=200"`` and ``"unknown"``.
    stars : int
        Number of Gaia sources that are known among the accepted.
    """

    release: Release
    reasons: dict[str, int] = field(default_factory=dict)
    layouts: dict[str, int] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    snr_g: dict[str, int] = field(default_factory=dict)
    stars: int = 0


def add_release(engine: Engine, name: str, description: str | None = None) -> int:
    """Add a data release and return its key.

    Raises
    ------
    ConflictError
        If there is one of that name.
    InputError
        If the name has other characters than letters, digits, ``_``, ``.`` and ``-``.
    """
    if not _NAME.match(name):
        raise InputError(
            f"{name!r} cannot be the name of a release: use letters, digits, '_', '.' and '-', "
            "and begin with a letter or digit"
        )
    with engine.begin() as connection:
        if find_release(connection, name) is not None:
            raise ConflictError(f"there is a release {name!r} already; `phdl release show {name}` shows it")
        release_id = connection.execute(
            insert(DataRelease).values(name=name, description=description).returning(DataRelease.release_id)
        ).scalar_one()
        record_event(connection, f"data_release:{name}", "added")
    return release_id


def find_release(connection: Connection, name: str) -> int | None:
    """Key of a release, None if there is none of that name."""
    return connection.execute(
        select(DataRelease.release_id).where(DataRelease.name == name)
    ).scalar_one_or_none()


def list_releases(engine: Engine, name: str | None = None) -> list[Release]:
    """All releases with their counts, by name; or the one of that name."""
    states = Spectrum.state
    counted = (
        select(
            DataRelease.release_id,
            DataRelease.name,
            DataRelease.description,
            DataRelease.created_at,
            func.count().filter(states == SpectrumState.ACCEPTED).label("accepted"),
            func.count().filter(states == SpectrumState.REJECTED).label("rejected"),
        )
        .outerjoin(Spectrum, Spectrum.release_id == DataRelease.release_id)
        .group_by(DataRelease.release_id)
        .order_by(DataRelease.name)
    )
    if name is not None:
        counted = counted.where(DataRelease.name == name)
    with engine.connect() as connection:
        return [Release(**row) for row in connection.execute(counted).mappings()]


def describe_release(engine: Engine, name: str) -> ReleaseContent:
    """Everything counted in one release.

    Raises
    ------
    NotFoundError
        If there is none of that name.
    """
    found = list_releases(engine, name)
    if not found:
        raise NotFoundError(f"there is no release {name!r}; `phdl release list` shows those there are")
    release = found[0]
    accepted = (Spectrum.release_id == release.release_id) & (Spectrum.state == SpectrumState.ACCEPTED)
    rejected = (Spectrum.release_id == release.release_id) & (Spectrum.state == SpectrumState.REJECTED)
    bin_number = func.width_bucket(cast(Spectrum.snr_g, Float), list(SNR_EDGES))
    with engine.connect() as connection:
        bins = _counts(connection, bin_number, accepted)
        return ReleaseContent(
            release=release,
            reasons=_named(_counts(connection, Spectrum.reason, rejected)),
            layouts=_named(_counts(connection, Spectrum.layout, accepted)),
            classes=_named(_counts(connection, Spectrum.spectral_class, accepted)),
            snr_g={_bin_name(number): count for number, count in bins},
            stars=connection.execute(
                select(func.count(Spectrum.gaia_source_id.distinct())).where(accepted)
            ).scalar_one(),
        )


def _counts(connection: Connection, column: Any, where: Any) -> Sequence[tuple[Any, int]]:
    ordered = select(column, func.count()).where(where).group_by(column).order_by(column.nulls_last())
    return [(value, count) for value, count in connection.execute(ordered)]


def _named(counts: Sequence[tuple[Any, int]]) -> dict[str, int]:
    largest_first = sorted(counts, key=lambda item: (-item[1], str(item[0])))
    return {"unknown" if value is None else str(value): count for value, count in largest_first}


def _bin_name(number: int | None) -> str:
    if number is None:
        return "unknown"
    if number == 0:
        return f"<{SNR_EDGES[0]}"
    if number == len(SNR_EDGES):
        return f">={SNR_EDGES[-1]}"
    return f"{SNR_EDGES[number - 1]}-{SNR_EDGES[number]}"
