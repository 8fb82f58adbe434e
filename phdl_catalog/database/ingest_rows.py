"""The writing side of an ingest: what is known of files already, and the merge of a batch of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Column, Connection, MetaData, Table, Text, cast, exists, func, select
from sqlalchemy.dialects import postgresql

from phdl_catalog.database.copy import copy_rows
from phdl_catalog.database.ingest_reader import Accepted, Rejected
from phdl_catalog.database.models import Spectrum, SpectrumState
from phdl_catalog.errors import StateError
from phdl_catalog.spectra import PixelAddress
from phdl_catalog.spectra.sky import healpix_29, is_gaia_source

_TABLE: Table = Spectrum.__table__  # type: ignore[assignment]

#: Columns an ingest writes, with their types in PostgreSQL, in the order of `_row`.
_COLUMNS = {
    "release_id": "int4",
    "uri": "text",
    "sha256": "text",
    "state": "text",
    "reason": "text",
    "detail": "text",
    "obsid": "int8",
    "gaia_source_id": "int8",
    "healpix_29": "int8",
    "ra": "float8",
    "dec": "float8",
    "mjd": "float8",
    "lmjd": "int4",
    "redshift": "float4",
    "redshift_error": "float4",
    "snr_u": "float4",
    "snr_g": "float4",
    "snr_r": "float4",
    "snr_i": "float4",
    "snr_z": "float4",
    "shard": "text",
    "shard_row": "int4",
    "first_pixel": "int4",
    "n_pixels": "int4",
    "spectrograph_id": "int2",
    "fiber_id": "int2",
    "layout": "text",
    "designation": "text",
    "plan_id": "text",
    "object_name": "text",
    "data_version": "text",
    "class": "text",
    "subclass": "text",
}


@dataclass(frozen=True)
class KnownFile:
    """What the database says of one file of a release."""

    state: str
    sha256: str | None
    reason: str | None


@dataclass(frozen=True)
class KnownSpectrum:
    """What the database says of one accepted spectrum of a release."""

    uri: str
    sha256: str


def known_files(connection: Connection, release_id: int, uris: Sequence[str]) -> dict[str, KnownFile]:
    """Which of some files are in a release already, by URI."""
    found = connection.execute(
        select(Spectrum.uri, Spectrum.state, Spectrum.sha256, Spectrum.reason).where(
            Spectrum.release_id == release_id, Spectrum.uri.in_(uris)
        )
    )
    return {row.uri: KnownFile(row.state, row.sha256, row.reason) for row in found}


def known_spectra(connection: Connection, release_id: int, obsids: Sequence[int]) -> dict[int, KnownSpectrum]:
    """Which of some obsids a release has accepted already."""
    found = connection.execute(
        select(Spectrum.obsid, Spectrum.uri, Spectrum.sha256).where(
            Spectrum.release_id == release_id,
            Spectrum.obsid.in_(obsids),
            Spectrum.state == SpectrumState.ACCEPTED,
        )
    )
    return {row.obsid: KnownSpectrum(row.uri, row.sha256) for row in found}


def unreferenced_shards(connection: Connection, shards: Sequence[str]) -> list[str]:
    """Which of some shards no accepted spectrum refers to."""
    name = func.unnest(cast(list(shards), postgresql.ARRAY(Text))).column_valued("name")
    used = exists().where(Spectrum.shard == name, Spectrum.state == SpectrumState.ACCEPTED)
    return list(connection.execute(select(name).where(~used)).scalars())


def merge_rows(
    connection: Connection,
    release_id: int,
    accepted: Sequence[tuple[Accepted, PixelAddress]],
    rejected: Sequence[Rejected],
) -> None:
    """Write a batch: binary COPY into a temporary table, then one ordered merge.

    A file that was rejected before may be accepted, or rejected for another reason, now; a row of an accepted
    spectrum is never touched.

    Raises
    ------
    StateError
        If not every row was written: somebody else wrote to the release.
    """
    rows = _accepted_rows(release_id, accepted) + [_rejected_row(release_id, item) for item in rejected]
    if not rows:
        return
    incoming = Table(
        "incoming_spectrum",
        MetaData(),
        *(Column(name, _TABLE.c[name].type) for name in _COLUMNS),
        prefixes=["TEMPORARY"],
        postgresql_on_commit="DROP",
    )
    incoming.create(connection, checkfirst=False)
    copy_rows(connection, incoming.name, list(_COLUMNS), list(_COLUMNS.values()), rows)
    # In the order of the shards, so that neighbours in the table are neighbours on disk.
    ordered = select(incoming).order_by(incoming.c.shard, incoming.c.shard_row, incoming.c.uri)
    merge = postgresql.insert(_TABLE).from_select(list(_COLUMNS), ordered)
    written = connection.execute(
        merge.on_conflict_do_update(
            index_elements=["release_id", "uri"],
            set_={name: merge.excluded[name] for name in _COLUMNS},
            where=_TABLE.c.state == SpectrumState.REJECTED,
        ).execution_options(preserve_rowcount=True)
    ).rowcount
    if written != len(rows):
        raise StateError(
            f"{len(rows)} rows were to be written and {written} were: something else writes to this release; "
            "nothing of this batch was kept, run the same command again"
        )


def _accepted_rows(
    release_id: int, items: Sequence[tuple[Accepted, PixelAddress]]
) -> list[tuple[object, ...]]:
    if not items:
        return []
    headers = [item.header for item, _ in items]
    cells = healpix_29(
        np.array([header.ra for header in headers]), np.array([header.dec for header in headers])
    ).tolist()
    rows: list[tuple[object, ...]] = []
    for (item, address), cell in zip(items, cells, strict=True):
        facts, gaia = item.header, item.header.gaia_source_id
        values = {
            "release_id": release_id,
            "uri": item.task.uri,
            "sha256": item.sha256,
            "state": SpectrumState.ACCEPTED.value,
            "gaia_source_id": gaia if gaia is not None and is_gaia_source(gaia, cell) else None,
            "healpix_29": cell,
            "shard": address.shard,
            "shard_row": address.row,
            "first_pixel": item.first_pixel,
            "n_pixels": item.n_pixels,
            "layout": facts.layout.value,
            "class": facts.object_class,
            "subclass": facts.object_subclass,
        }
        rows.append(
            tuple(values[name] if name in values else getattr(facts, name, None) for name in _COLUMNS)
        )
    return rows


def _rejected_row(release_id: int, item: Rejected) -> tuple[object, ...]:
    values = {
        "release_id": release_id,
        "uri": item.task.uri,
        "sha256": item.sha256,
        "state": SpectrumState.REJECTED.value,
        "reason": item.reason,
        "detail": item.detail,
    }
    return tuple(values.get(name) for name in _COLUMNS)
