"""Published catalogues, the meaning of their flags, and the log of what happened."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    SmallInteger,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from phdl_catalog.database.models.base import Base, one_of, only_if
from phdl_catalog.database.models.fitting import ModelVersion
from phdl_catalog.database.models.states import ReleaseState


class CatalogRelease(Base):
    """One catalogue: a model, a calibration set and a selection, built into a table of its own."""

    __tablename__ = "catalog_release"
    __table_args__ = (
        one_of("state", ReleaseState),
        CheckConstraint("name ~ '^[A-Za-z0-9][A-Za-z0-9_.-]*$'", name="name_plain"),
        only_if("state <> 'draft'", "checksum", "n_rows", "built_at", name="built_has_content"),
        only_if("state IN ('published', 'superseded')", "published_at", name="published_has_time"),
        only_if("state = 'superseded'", "superseded_at", name="superseded_has_time"),
        CheckConstraint("checksum ~ '^[0-9a-f]{64}$'", name="checksum_hex"),
        CheckConstraint("n_rows >= 0", name="n_rows_positive"),
        ForeignKeyConstraint(
            ["calibration_set_id", "model_version_id"],
            ["phdl.calibration_set.calibration_set_id", "phdl.calibration_set.model_version_id"],
        ),
        Index(
            "uq_catalog_release_published",
            text("(state = 'published')"),
            unique=True,
            postgresql_where=text("state = 'published'"),
        ),
        {"comment": "One catalogue: draft, candidate, published, superseded; one is published at a time"},
    )

    catalog_release_id: Mapped[int] = mapped_column(
        Integer, Identity(always=True), primary_key=True, comment="Key of the catalogue release"
    )
    name: Mapped[str] = mapped_column(unique=True, comment="Name, as typed on the command line: 2026.1")
    model_version_id: Mapped[int] = mapped_column(
        Integer, ForeignKey(ModelVersion.model_version_id), comment="Model whose labels it has"
    )
    calibration_set_id: Mapped[int | None] = mapped_column(
        Integer, comment="Calibration set, of the same model; NULL: labels are not calibrated"
    )
    state: Mapped[str] = mapped_column(
        server_default=ReleaseState.DRAFT.value, comment="draft, candidate, published or superseded"
    )
    selection: Mapped[dict[str, Any]] = mapped_column(
        server_default=text("'{}'"), comment="Which spectra and stars it takes"
    )
    schema_version: Mapped[str] = mapped_column(comment="Version of the published columns (schema.yaml)")
    code_version: Mapped[str] = mapped_column(comment="Version of phdl-catalog that built it")
    checksum: Mapped[str | None] = mapped_column(comment="SHA-256 of the rows in order, hexadecimal")
    n_rows: Mapped[int | None] = mapped_column(comment="Number of stars")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was begun")
    built_at: Mapped[datetime | None] = mapped_column(comment="When the table was complete")
    published_at: Mapped[datetime | None] = mapped_column(comment="When it was last published")
    superseded_at: Mapped[datetime | None] = mapped_column(comment="When another one took its place")


class FlagDefinition(Base):
    """One bit of one flag column; a trigger refuses another meaning for a bit that was ever used."""

    __tablename__ = "flag_definition"
    __table_args__ = (
        CheckConstraint("bit BETWEEN 0 AND 62", name="bit_range"),
        CheckConstraint("name ~ '^[a-z][a-z0-9_]*$'", name="name_plain"),
        UniqueConstraint("catalog_release_id", "column_name", "name"),
        {"comment": "One bit of one flag column of one catalogue release; a bit is never re-used"},
    )

    catalog_release_id: Mapped[int] = mapped_column(
        Integer,
        ForeignKey(CatalogRelease.catalog_release_id, ondelete="CASCADE"),
        primary_key=True,
        comment="Catalogue release it is of",
    )
    column_name: Mapped[str] = mapped_column(primary_key=True, comment="Flag column: flags, flag_mg_fe, ...")
    bit: Mapped[int] = mapped_column(
        SmallInteger, primary_key=True, autoincrement=False, comment="Number of the bit, from 0"
    )
    name: Mapped[str] = mapped_column(comment="Name of the bit: poor_fit")
    description: Mapped[str] = mapped_column(comment="What a set bit means, and what to do about it")


class Event(Base):
    """Something that happened; rows are added and never changed."""

    __tablename__ = "event"
    __table_args__ = (
        Index("ix_event_subject", "subject", "event_id"),
        Index("ix_event_happened_at", "happened_at", postgresql_using="brin"),
        {"comment": "What happened, append-only: who, when, what"},
    )

    event_id: Mapped[int] = mapped_column(
        Identity(always=True), primary_key=True, comment="Key of the event, in the order of writing"
    )
    happened_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp(), comment="When")
    actor: Mapped[str] = mapped_column(
        server_default=func.session_user(), comment="Who: user@host, or a worker"
    )
    subject: Mapped[str] = mapped_column(
        comment="What it happened to, kind:key: fit_chunk:17, model_version:default"
    )
    action: Mapped[str] = mapped_column(
        comment="What happened, one word: enqueued, claimed, quarantined, published"
    )
    detail: Mapped[dict[str, Any]] = mapped_column(
        server_default=text("'{}'"), comment="All else there is to say"
    )
