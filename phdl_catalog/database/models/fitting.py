"""Models, runs, jobs and fits."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    REAL,
    CheckConstraint,
    Computed,
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
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from phdl_catalog.database.models.base import Base, finite, finite_elements, one_of, only_if
from phdl_catalog.database.models.states import FINAL_CHUNK_STATES, ChunkState, RunState
from phdl_catalog.database.models.survey import DataRelease, Spectrum

_FINAL = ", ".join(f"'{state.value}'" for state in FINAL_CHUNK_STATES)


class ModelVersion(Base):
    """One trained model; a trigger refuses every change."""

    __tablename__ = "model_version"
    __table_args__ = (
        CheckConstraint("name ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$'", name="name_plain"),
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256_hex"),
        CheckConstraint("grid_sha256 ~ '^[0-9a-f]{64}$'", name="grid_sha256_hex"),
        CheckConstraint(
            "cardinality(label_names) BETWEEN 1 AND 200 AND array_position(label_names, NULL) IS NULL "
            "AND array_to_string(label_names, ' ') ~ '^[a-z][a-z0-9_]*( [a-z][a-z0-9_]*)*$'",
            name="label_names_plain",
        ),
        CheckConstraint("wavelength_first > 0 AND wavelength_size > 0", name="wavelength_range"),
        CheckConstraint("resolution > 0 AND resolution < 'Infinity'", name="resolution_range"),
        {"comment": "One trained model; never edited: another model is another row"},
    )

    model_version_id: Mapped[int] = mapped_column(
        Integer, Identity(always=True), primary_key=True, comment="Key of the model version"
    )
    name: Mapped[str] = mapped_column(unique=True, comment="Name, as typed on the command line: default")
    view_name: Mapped[str] = mapped_column(
        Computed("'labels_' || lower(translate(name, '.-', '__'))", persisted=True),
        unique=True,
        comment="View of schema phdl with this model's labels as named columns",
    )
    sha256: Mapped[str] = mapped_column(comment="SHA-256 of the weights file, hexadecimal")
    uri: Mapped[str] = mapped_column(comment="Where the weights file is, or the name of a packaged model")
    label_names: Mapped[list[str]] = mapped_column(comment="Names of the labels, in the order of every array")
    wavelength_first: Mapped[int] = mapped_column(
        Integer, comment="First pixel on the 1e-4 dex grid: its log10(wavelength/Angstrom) is 1e-4 times this"
    )
    wavelength_size: Mapped[int] = mapped_column(Integer, comment="Number of pixels")
    resolution: Mapped[float | None] = mapped_column(comment="Resolving power of the predicted spectra")
    grid_sha256: Mapped[str | None] = mapped_column(comment="SHA-256 of the ab initio grid it was trained on")
    code_version: Mapped[str] = mapped_column(comment="Version of phdl-catalog that trained it")
    metrics: Mapped[dict[str, Any]] = mapped_column(
        server_default=text("'{}'"), comment="Measured accuracy, as `phdl model evaluate --json` prints it"
    )
    description: Mapped[str | None] = mapped_column(comment="What this model is, for a person")
    registered_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="When the model was registered"
    )


class FitRun(Base):
    """One release enqueued with one model and one configuration."""

    __tablename__ = "fit_run"
    __table_args__ = (
        one_of("state", RunState),
        only_if("state IN ('done', 'cancelled')", "finished_at", name="final_has_end"),
        CheckConstraint("configuration_hash ~ '^[0-9a-f]{64}$'", name="configuration_hash_hex"),
        # The target of fit's composite key: a fit belongs to a run of the same model.
        UniqueConstraint("fit_run_id", "model_version_id"),
        # Enqueueing the same again finds this run; a cancelled one does not stand in the way.
        Index(
            "uq_fit_run_same",
            "release_id",
            "model_version_id",
            "configuration_hash",
            "selection_hash",
            unique=True,
            postgresql_where=text("state <> 'cancelled'"),
        ),
        {"comment": "One release enqueued with one model, one configuration and one selection"},
    )

    fit_run_id: Mapped[int] = mapped_column(
        Integer, Identity(always=True), primary_key=True, comment="Key of the run"
    )
    release_id: Mapped[int] = mapped_column(
        Integer, ForeignKey(DataRelease.release_id), comment="Release that is fitted"
    )
    model_version_id: Mapped[int] = mapped_column(
        Integer, ForeignKey(ModelVersion.model_version_id), comment="Model it is fitted with"
    )
    state: Mapped[str] = mapped_column(
        server_default=RunState.PLANNED.value, comment="planned, running, paused, done or cancelled"
    )
    selection: Mapped[dict[str, Any]] = mapped_column(
        server_default=text("'{}'"), comment="Which spectra of the release; empty: all that are accepted"
    )
    selection_hash: Mapped[str] = mapped_column(
        Computed("md5(selection::text)", persisted=True), comment="Digest of the selection"
    )
    configuration: Mapped[dict[str, Any]] = mapped_column(
        server_default=text("'{}'"), comment="Configuration of the fit"
    )
    configuration_hash: Mapped[str] = mapped_column(comment="SHA-256 of the configuration, hexadecimal")
    code_version: Mapped[str] = mapped_column(comment="Version of phdl-catalog that enqueued it")
    priority: Mapped[int] = mapped_column(
        SmallInteger, server_default=text("0"), comment="Chunks of a higher priority go first"
    )
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was enqueued")
    finished_at: Mapped[datetime | None] = mapped_column(comment="When the last chunk ended")


class FitChunk(Base):
    """One job: some hundred spectra of one run.  It is the outbox: the broker carries only its id."""

    __tablename__ = "fit_chunk"
    __table_args__ = (
        one_of("state", ChunkState),
        only_if("state = 'running'", "lease_until", name="running_has_lease"),
        CheckConstraint(
            "state NOT IN ('running', 'done') "
            "OR (worker IS NOT NULL AND started_at IS NOT NULL AND attempt > 0)",
            name="started_has_worker",
        ),
        only_if(f"state IN ({_FINAL})", "finished_at", name="final_has_end"),
        CheckConstraint("(error_kind IS NULL) = (error_text IS NULL)", name="error_whole"),
        CheckConstraint(
            "state <> 'quarantined' OR (error_kind IS NOT NULL AND cardinality(spectrum_ids) = 1)",
            name="quarantined_is_one",
        ),
        CheckConstraint("state <> 'split' OR cardinality(spectrum_ids) > 1", name="split_is_many"),
        only_if("state = 'done'", "n_fitted", "n_failed", name="done_has_counts"),
        CheckConstraint("n_fitted >= 0 AND n_failed >= 0", name="counts_positive"),
        CheckConstraint("n_fitted + n_failed = cardinality(spectrum_ids)", name="counts_add_up"),
        CheckConstraint(
            "cardinality(spectrum_ids) > 0 AND array_position(spectrum_ids, NULL) IS NULL", name="has_spectra"
        ),
        CheckConstraint("attempt >= 0 AND failures >= 0", name="attempt_positive"),
        CheckConstraint("parent_chunk_id < fit_chunk_id", name="parent_is_older"),
        finite("fit_seconds"),
        # What the dispatcher looks for: what nobody was told of, what nobody claimed, what lost its worker.
        Index(
            "ix_fit_chunk_due",
            text("priority DESC"),
            "due_at",
            "fit_chunk_id",
            postgresql_where=text("state IN ('planned', 'queued')"),
        ),
        Index("ix_fit_chunk_lease_until", "lease_until", postgresql_where=text("state = 'running'")),
        Index("ix_fit_chunk_fit_run_id_state", "fit_run_id", "state"),
        Index("ix_fit_chunk_parent_chunk_id", "parent_chunk_id"),
        {"comment": "One job: some hundred spectra of one run; the truth about what is to be done"},
    )

    fit_chunk_id: Mapped[int] = mapped_column(
        Identity(always=True), primary_key=True, comment="Key of the chunk; the only content of a message"
    )
    fit_run_id: Mapped[int] = mapped_column(
        Integer, ForeignKey(FitRun.fit_run_id), comment="Run it belongs to"
    )
    parent_chunk_id: Mapped[int | None] = mapped_column(
        ForeignKey("fit_chunk.fit_chunk_id"), comment="Chunk that was split into this one and its sister"
    )
    state: Mapped[str] = mapped_column(
        server_default=ChunkState.PLANNED.value,
        comment="planned, queued, running, done, split, quarantined or cancelled",
    )
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"), comment="Higher goes first")
    attempt: Mapped[int] = mapped_column(
        Integer, server_default=text("0"), comment="Times it was claimed; a writer must still own this number"
    )
    failures: Mapped[int] = mapped_column(
        SmallInteger,
        server_default=text("0"),
        comment="Times it failed by its own fault; the second time it is split, or quarantined",
    )
    due_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="Not to be published before")
    published_at: Mapped[datetime | None] = mapped_column(comment="When the broker was last told of it")
    lease_until: Mapped[datetime | None] = mapped_column(
        comment="The worker owns it until then; only if running"
    )
    worker: Mapped[str | None] = mapped_column(comment="Worker that has it, or had it last")
    started_at: Mapped[datetime | None] = mapped_column(comment="When it was last claimed")
    finished_at: Mapped[datetime | None] = mapped_column(comment="When it reached its final state")
    n_spectra: Mapped[int] = mapped_column(
        Integer, Computed("cardinality(spectrum_ids)", persisted=True), comment="Number of its spectra"
    )
    n_fitted: Mapped[int | None] = mapped_column(Integer, comment="Spectra that got labels; only if done")
    n_failed: Mapped[int | None] = mapped_column(Integer, comment="Spectra that got none; only if done")
    fit_seconds: Mapped[float | None] = mapped_column(REAL, comment="Time in the fit itself [s]")
    read_seconds: Mapped[float | None] = mapped_column(REAL, comment="Time to read the pixels [s]")
    write_seconds: Mapped[float | None] = mapped_column(REAL, comment="Time to write the labels [s]")
    error_kind: Mapped[str | None] = mapped_column(
        comment="Kind of the last error: transient, permanent, lost, ..."
    )
    error_text: Mapped[str | None] = mapped_column(comment="Text of the last error")
    spectrum_ids: Mapped[list[int]] = mapped_column(comment="Its spectra, ascending")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was planned")


class Fit(Base):
    """The labels of one spectrum by one model; one partition a model."""

    __tablename__ = "fit"
    __table_args__ = (
        # A fit without labels is a failure that says why; a fit with labels has all the rest too.
        CheckConstraint(
            "CASE WHEN label_values IS NULL THEN label_errors IS NULL AND label_covariance IS NULL "
            "AND label_flags IS NULL AND flags <> 0 "
            "ELSE label_errors IS NOT NULL AND label_flags IS NOT NULL AND chi2 IS NOT NULL END",
            name="labels_or_reason",
        ),
        CheckConstraint(
            "cardinality(label_errors) = cardinality(label_values) "
            "AND cardinality(label_flags) = cardinality(label_values) "
            "AND octet_length(label_covariance) "
            "= cardinality(label_values) * (cardinality(label_values) - 1)",
            name="lengths_agree",
        ),
        finite_elements("label_values", "real"),
        finite_elements("label_errors", "real"),
        CheckConstraint("0::real <= ALL (label_errors)", name="label_errors_positive"),
        finite("chi2"),
        finite("rv"),
        finite("e_rv"),
        finite("snr"),
        finite("distance"),
        CheckConstraint(
            "flags >= 0 AND n_pixels >= 0 AND chi2 >= 0 AND e_rv >= 0 AND distance >= 0", name="range"
        ),
        ForeignKeyConstraint(
            ["fit_run_id", "model_version_id"],
            ["phdl.fit_run.fit_run_id", "phdl.fit_run.model_version_id"],
        ),
        {
            "comment": "The labels of one spectrum by one model: exactly one row for each fitted spectrum",
            "postgresql_partition_by": "LIST (model_version_id)",
        },
    )

    spectrum_id: Mapped[int] = mapped_column(
        ForeignKey(Spectrum.spectrum_id), primary_key=True, comment="Spectrum that was fitted"
    )
    flags: Mapped[int] = mapped_column(comment="Bits about the whole fit; 0: nothing to say")
    fitted_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When the row was written")
    model_version_id: Mapped[int] = mapped_column(Integer, primary_key=True, comment="Model that was fitted")
    fit_run_id: Mapped[int] = mapped_column(Integer, comment="Run that wrote the row")
    rv: Mapped[float | None] = mapped_column(REAL, comment="Radial velocity [km/s]")
    e_rv: Mapped[float | None] = mapped_column(REAL, comment="Error of the radial velocity [km/s]")
    chi2: Mapped[float | None] = mapped_column(REAL, comment="Reduced chi square of the best fit")
    snr: Mapped[float | None] = mapped_column(REAL, comment="Median signal-to-noise ratio of the pixels used")
    distance: Mapped[float | None] = mapped_column(
        REAL, comment="Distance from the model's training region; above 1 is outside"
    )
    n_pixels: Mapped[int] = mapped_column(Integer, comment="Number of pixels used")
    n_iterations: Mapped[int | None] = mapped_column(SmallInteger, comment="Iterations of the optimiser")
    label_values: Mapped[list[float | None] | None] = mapped_column(
        ARRAY(REAL),
        comment="Label values, uncalibrated, in the order of model_version.label_names; NULL: failed",
    )
    label_errors: Mapped[list[float | None] | None] = mapped_column(
        ARRAY(REAL), comment="One sigma error of each label"
    )
    label_flags: Mapped[list[int] | None] = mapped_column(ARRAY(Integer), comment="Bits about each label")
    label_covariance: Mapped[bytes | None] = mapped_column(
        comment="Correlations of the labels: upper triangle without diagonal, row by row, half precision, "
        "little endian"
    )
