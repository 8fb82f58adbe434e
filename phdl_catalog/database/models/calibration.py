"""Calibration sets: solutions, how calibrators were used in them, and requests for them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    REAL,
    Boolean,
    CheckConstraint,
    Computed,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from phdl_catalog.database.models.base import Base, finite, finite_elements, one_of, only_if
from phdl_catalog.database.models.calibrators import ReferenceLabel, WideBinary
from phdl_catalog.database.models.fitting import FitRun, ModelVersion
from phdl_catalog.database.models.states import (
    CalibrationState,
    MemberKind,
    PolynomialPart,
    RequestState,
)
from phdl_catalog.database.models.survey import Spectrum


class CalibrationSet(Base):
    """One joint solution for one model; once certified a trigger refuses every change but of its state."""

    __tablename__ = "calibration_set"
    __table_args__ = (
        one_of("state", CalibrationState),
        only_if("state IN ('certified', 'superseded')", "certified_at", name="certified_has_time"),
        only_if("state = 'superseded'", "superseded_at", name="superseded_has_time"),
        CheckConstraint("configuration_hash ~ '^[0-9a-f]{64}$'", name="configuration_hash_hex"),
        CheckConstraint("input_hash ~ '^[0-9a-f]{64}$'", name="input_hash_hex"),
        CheckConstraint("name ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,47}$'", name="name_plain"),
        # The target of catalog_release's composite key: a catalogue is calibrated for its own model.
        UniqueConstraint("calibration_set_id", "model_version_id"),
        Index(
            "uq_calibration_set_certified",
            "model_version_id",
            unique=True,
            postgresql_where=text("state = 'certified'"),
        ),
        {"comment": "One calibration solution for one model version: draft, certified, superseded"},
    )

    calibration_set_id: Mapped[int] = mapped_column(
        Integer, Identity(always=True), primary_key=True, comment="Key of the set"
    )
    name: Mapped[str] = mapped_column(unique=True, comment="Name, as typed on the command line")
    view_name: Mapped[str] = mapped_column(
        Computed("'calibrated_' || lower(translate(name, '.-', '__'))", persisted=True),
        unique=True,
        comment="View of schema phdl with every fit of the model as this set corrects it",
    )
    model_version_id: Mapped[int] = mapped_column(
        Integer, ForeignKey(ModelVersion.model_version_id), comment="Model whose labels it corrects"
    )
    state: Mapped[str] = mapped_column(
        server_default=CalibrationState.DRAFT.value, comment="draft, certified or superseded"
    )
    configuration: Mapped[dict[str, Any]] = mapped_column(
        server_default=text("'{}'"), comment="Basis, cuts and regularisation"
    )
    configuration_hash: Mapped[str] = mapped_column(comment="SHA-256 of the configuration, hexadecimal")
    input_hash: Mapped[str | None] = mapped_column(comment="SHA-256 of the calibrators' values, hexadecimal")
    code_version: Mapped[str] = mapped_column(comment="Version of phdl-catalog that made it")
    report: Mapped[dict[str, Any]] = mapped_column(
        server_default=text("'{}'"), comment="Counts and what the calibrators do not constrain"
    )
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was computed")
    certified_at: Mapped[datetime | None] = mapped_column(comment="When it was certified")
    superseded_at: Mapped[datetime | None] = mapped_column(comment="When another one took its place")


class CalibrationOffset(Base):
    """The correction of one label in one set."""

    __tablename__ = "calibration_offset"
    __table_args__ = (
        finite_elements("coefficients", "double precision"),
        finite_elements("covariance", "double precision"),
        CheckConstraint(
            "cardinality(covariance) = cardinality(coefficients) * cardinality(coefficients)",
            name="covariance_square",
        ),
        CheckConstraint("n_pairs >= 0 AND n_references >= 0 AND n_repeats >= 0", name="counts_positive"),
        CheckConstraint("error_scale > 0 AND error_scale < 'Infinity'", name="error_scale_range"),
        CheckConstraint("error_floor >= 0 AND error_floor < 'Infinity'", name="error_floor_range"),
        finite("error_slope"),
        CheckConstraint(
            "intrinsic_scatter >= 0 AND intrinsic_scatter < 'Infinity'", name="intrinsic_scatter_range"
        ),
        *(
            CheckConstraint(f"{name} >= 0 AND {name} < 'Infinity'", name=f"{name}_range")
            for name in (
                "pair_scatter_before",
                "pair_scatter_after",
                "pair_scatter_held_out_before",
                "pair_scatter_held_out_after",
                "reference_scatter_before",
                "reference_scatter_after",
                "reference_scatter_held_out_before",
                "reference_scatter_held_out_after",
            )
        ),
        {"comment": "The correction of one label in one calibration set; subtract it from the raw label"},
    )

    calibration_set_id: Mapped[int] = mapped_column(
        Integer, ForeignKey(CalibrationSet.calibration_set_id), primary_key=True, comment="Set it belongs to"
    )
    label: Mapped[str] = mapped_column(primary_key=True, comment="Label it corrects")
    basis: Mapped[dict[str, Any]] = mapped_column(
        comment="The smooth functions of (teff, logg, fe_h), in order"
    )
    coefficients: Mapped[list[float]] = mapped_column(
        ARRAY(Double), comment="One coefficient for each function of the basis"
    )
    covariance: Mapped[list[float]] = mapped_column(
        ARRAY(Double), comment="Covariance of the coefficients, row by row"
    )
    validity: Mapped[dict[str, Any]] = mapped_column(
        comment="Where calibrators are: nothing is claimed outside"
    )
    n_pairs: Mapped[int] = mapped_column(Integer, comment="Pairs used")
    n_references: Mapped[int] = mapped_column(Integer, comment="Reference values used")
    n_repeats: Mapped[int] = mapped_column(
        Integer, server_default=text("0"), comment="Repeated observations that the errors' scale is from"
    )
    error_scale: Mapped[float] = mapped_column(
        server_default=text("1"),
        comment="Quoted errors times this times (snr/50)**error_slope, and error_floor, are right",
    )
    error_slope: Mapped[float] = mapped_column(
        server_default=text("0"), comment="How the scale of the errors changes with S/N"
    )
    error_floor: Mapped[float] = mapped_column(
        server_default=text("0"), comment="Added to the error in quadrature, in the label's unit"
    )
    intrinsic_scatter: Mapped[float | None] = mapped_column(comment="Scatter inside pairs beyond the errors")
    pair_scatter_before: Mapped[float | None] = mapped_column(comment="Robust scatter of used pairs, raw")
    pair_scatter_after: Mapped[float | None] = mapped_column(
        comment="Robust scatter of used pairs, corrected"
    )
    pair_scatter_held_out_before: Mapped[float | None] = mapped_column(
        comment="Robust scatter of held-out pairs, raw"
    )
    pair_scatter_held_out_after: Mapped[float | None] = mapped_column(
        comment="Robust scatter of held-out pairs, corrected"
    )
    reference_scatter_before: Mapped[float | None] = mapped_column(
        comment="Robust scatter against used references, raw"
    )
    reference_scatter_after: Mapped[float | None] = mapped_column(
        comment="Robust scatter against used references, corrected"
    )
    reference_scatter_held_out_before: Mapped[float | None] = mapped_column(
        comment="Robust scatter against held-out references, raw"
    )
    reference_scatter_held_out_after: Mapped[float | None] = mapped_column(
        comment="Robust scatter against held-out references, corrected"
    )
    not_constrained: Mapped[list[str]] = mapped_column(
        server_default=text("'{}'"), comment="What the calibrators cannot see: zero_point, teff, logg, fe_h"
    )
    report: Mapped[dict[str, Any]] = mapped_column(
        server_default=text("'{}'"), comment="All else the solution says about this label"
    )


class CalibrationCell(Base):
    """What a set knows about one cell of its grid; looked up for every star that falls into it."""

    __tablename__ = "calibration_cell"
    __table_args__ = (
        CheckConstraint("cell >= 0", name="cell_positive"),
        *(finite_elements(name, "real") for name in ("error", "slope_teff", "slope_logg", "slope_fe_h")),
        CheckConstraint(
            "cardinality(error) = cardinality(valid) AND cardinality(slope_teff) = cardinality(valid) AND "
            "cardinality(slope_logg) = cardinality(valid) AND cardinality(slope_fe_h) = cardinality(valid)",
            name="lengths_agree",
        ),
        {"comment": "Errors, slopes and validity of one set's corrections in a cell of teff, logg and fe_h"},
    )

    calibration_set_id: Mapped[int] = mapped_column(
        Integer, ForeignKey(CalibrationSet.calibration_set_id), primary_key=True, comment="Set it belongs to"
    )
    cell: Mapped[int] = mapped_column(
        Integer, primary_key=True, autoincrement=False, comment="Number of the cell in the set's grid"
    )
    error: Mapped[list[float | None]] = mapped_column(
        ARRAY(REAL), comment="One sigma of each label's correction; NULL: not calibrated"
    )
    slope_teff: Mapped[list[float]] = mapped_column(
        ARRAY(REAL), comment="Derivative of each correction by teff [label unit/K]"
    )
    slope_logg: Mapped[list[float]] = mapped_column(
        ARRAY(REAL), comment="Derivative of each correction by logg"
    )
    slope_fe_h: Mapped[list[float]] = mapped_column(
        ARRAY(REAL), comment="Derivative of each correction by fe_h"
    )
    valid: Mapped[list[bool]] = mapped_column(
        ARRAY(Boolean), comment="Whether each correction may be used here"
    )


class CalibrationPolynomial(Base):
    """A set's corrections in one small cell, as a query evaluates them."""

    __tablename__ = "calibration_polynomial"
    __table_args__ = (
        one_of("part", PolynomialPart),
        CheckConstraint("cell >= 0", name="cell_positive"),
        finite_elements("coefficients", "real"),
        {"comment": "One set's corrections as polynomials in small cells: what a query evaluates"},
    )

    calibration_set_id: Mapped[int] = mapped_column(
        Integer, ForeignKey(CalibrationSet.calibration_set_id), primary_key=True, comment="Set it belongs to"
    )
    part: Mapped[str] = mapped_column(
        primary_key=True, comment="surface: of teff and logg, and x times it; curve: of fe_h"
    )
    cell: Mapped[int] = mapped_column(
        Integer,
        primary_key=True,
        autoincrement=False,
        comment="Number of the cell, logg fastest; the first is at the lower wall of the basis",
    )
    coefficients: Mapped[list[float]] = mapped_column(
        ARRAY(REAL), comment="Of each label in turn: 16 of a surface, 3 of a curve"
    )


class CalibrationRequest(Base):
    """A calibration that somebody asked for: the outbox of the calibration task."""

    __tablename__ = "calibration_request"
    __table_args__ = (
        one_of("state", RequestState),
        only_if("state = 'running'", "lease_until", name="running_has_lease"),
        only_if("state IN ('done', 'failed')", "finished_at", name="final_has_end"),
        only_if("state = 'done'", "calibration_set_id", "is_new", name="done_has_set"),
        only_if("state = 'failed'", "error_text", name="failed_has_text"),
        CheckConstraint("attempt >= 0", name="attempt_positive"),
        Index(
            "uq_calibration_request_open",
            "after_fit_run_id",
            unique=True,
            postgresql_where=text("state IN ('planned', 'queued', 'running')"),
        ),
        Index(
            "ix_calibration_request_state",
            "state",
            postgresql_where=text("state IN ('planned', 'queued', 'running')"),
        ),
        {"comment": "A calibration that was asked for; the broker is told its number and nothing else"},
    )

    calibration_request_id: Mapped[int] = mapped_column(
        Identity(always=True), primary_key=True, comment="Key of the request; the only content of a message"
    )
    request: Mapped[dict[str, Any]] = mapped_column(comment="Model, cuts and options")
    after_fit_run_id: Mapped[int | None] = mapped_column(
        Integer, ForeignKey(FitRun.fit_run_id), comment="Not before this run is done"
    )
    state: Mapped[str] = mapped_column(
        server_default=RequestState.PLANNED.value, comment="planned, queued, running, done or failed"
    )
    attempt: Mapped[int] = mapped_column(
        Integer, server_default=text("0"), comment="Times it was claimed; a writer must still own this number"
    )
    published_at: Mapped[datetime | None] = mapped_column(comment="When the broker was last told of it")
    lease_until: Mapped[datetime | None] = mapped_column(
        comment="The worker owns it until then; only if running"
    )
    worker: Mapped[str | None] = mapped_column(comment="Worker that has it, or had it last")
    calibration_set_id: Mapped[int | None] = mapped_column(
        Integer, ForeignKey(CalibrationSet.calibration_set_id), comment="The set it came to; only if done"
    )
    is_new: Mapped[bool | None] = mapped_column(
        comment="False if the same input, options and code had made the set before"
    )
    error_text: Mapped[str | None] = mapped_column(comment="Why it failed; only if it did")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was asked for")
    finished_at: Mapped[datetime | None] = mapped_column(comment="When it was done or had failed")


class CalibrationMember(Base):
    """One calibrator's use in one set, for one label."""

    __tablename__ = "calibration_member"
    __table_args__ = (
        one_of("kind", MemberKind),
        only_if("kind = 'pair'", "wide_binary_id", name="pair_known"),
        only_if("kind = 'reference'", "reference_label_id", name="reference_known"),
        only_if("kind <> 'reference'", "spectrum_id_b", name="two_spectra"),
        CheckConstraint("spectrum_id_a <> spectrum_id_b", name="spectra_differ"),
        CheckConstraint("weight >= 0 AND weight < 'Infinity'", name="weight_range"),
        CheckConstraint("NOT held_out OR weight = 0", name="held_out_has_no_weight"),
        finite("residual_before"),
        finite("residual_after"),
        CheckConstraint("error > 0 AND error < 'Infinity'", name="error_range"),
        UniqueConstraint(
            "calibration_set_id",
            "label",
            "kind",
            "spectrum_id_a",
            "spectrum_id_b",
            "reference_label_id",
            name="uq_calibration_member_use",
            postgresql_nulls_not_distinct=True,
        ),
        {"comment": "One calibrator's use in one calibration set, for one label"},
    )

    calibration_member_id: Mapped[int] = mapped_column(
        Identity(always=True), primary_key=True, comment="Key of the use"
    )
    calibration_set_id: Mapped[int] = mapped_column(
        Integer, ForeignKey(CalibrationSet.calibration_set_id), comment="Set it belongs to"
    )
    label: Mapped[str] = mapped_column(comment="Label it constrains")
    kind: Mapped[str] = mapped_column(comment="pair, reference or repeat")
    wide_binary_id: Mapped[int | None] = mapped_column(
        ForeignKey(WideBinary.wide_binary_id), comment="The pair, if it is one"
    )
    reference_label_id: Mapped[int | None] = mapped_column(
        ForeignKey(ReferenceLabel.reference_label_id), comment="The reference value, if it is one"
    )
    spectrum_id_a: Mapped[int] = mapped_column(
        ForeignKey(Spectrum.spectrum_id), comment="Spectrum whose fit was used"
    )
    spectrum_id_b: Mapped[int | None] = mapped_column(
        ForeignKey(Spectrum.spectrum_id), comment="Spectrum of the other star of a pair, or of the repeat"
    )
    held_out: Mapped[bool] = mapped_column(comment="Kept out of the solution, to test it")
    weight: Mapped[float] = mapped_column(REAL, comment="Final weight in the solution; 0: not used")
    residual_before: Mapped[float | None] = mapped_column(
        REAL, comment="Raw difference, in the label's unit: a minus b, or fit minus reference"
    )
    residual_after: Mapped[float | None] = mapped_column(REAL, comment="The same after the correction")
    error: Mapped[float | None] = mapped_column(REAL, comment="One sigma error of the difference")
