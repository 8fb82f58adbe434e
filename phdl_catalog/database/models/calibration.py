"""Calibrators and the solutions they give."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    REAL,
    CheckConstraint,
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
from phdl_catalog.database.models.fitting import ModelVersion
from phdl_catalog.database.models.states import CalibrationState, MemberKind
from phdl_catalog.database.models.survey import Spectrum


class WideBinary(Base):
    """Two stars born together."""

    __tablename__ = "wide_binary"
    __table_args__ = (
        UniqueConstraint("catalogue", "pair_name"),
        UniqueConstraint("catalogue", "gaia_source_id_a", "gaia_source_id_b"),
        CheckConstraint("gaia_source_id_a < gaia_source_id_b", name="stars_ordered"),
        CheckConstraint("obsid_a <> obsid_b", name="obsids_differ"),
        *(
            CheckConstraint(
                f"gaia_source_id_{star} IS NOT NULL OR obsid_{star} IS NOT NULL "
                f"OR (ra_{star} IS NOT NULL AND dec_{star} IS NOT NULL)",
                name=f"star_{star}_known",
            )
            for star in "ab"
        ),
        *(
            CheckConstraint(
                f"(ra_{star} IS NULL) = (dec_{star} IS NULL) "
                f"AND ra_{star} >= 0 AND ra_{star} < 360 AND dec_{star} >= -90 AND dec_{star} <= 90",
                name=f"position_{star}",
            )
            for star in "ab"
        ),
        CheckConstraint(
            "chance_probability >= 0 AND chance_probability < 'Infinity'", name="chance_probability_range"
        ),
        finite("separation_au"),
        *(finite(f"{name}_{star}") for name in ("pmra", "pmdec", "parallax") for star in "ab"),
        Index("ix_wide_binary_gaia_source_id_a", "gaia_source_id_a"),
        Index("ix_wide_binary_gaia_source_id_b", "gaia_source_id_b"),
        {"comment": "Two stars born together, from a catalogue of wide binaries"},
    )

    wide_binary_id: Mapped[int] = mapped_column(
        Identity(always=True), primary_key=True, comment="Key of the pair"
    )
    catalogue: Mapped[str] = mapped_column(comment="Catalogue of pairs it is from")
    pair_name: Mapped[str] = mapped_column(
        comment="Name of the pair inside its catalogue; the two stars' identifiers where it has none"
    )
    gaia_source_id_a: Mapped[int | None] = mapped_column(
        comment="Gaia DR3 source of star a, the smaller of the two identifiers"
    )
    gaia_source_id_b: Mapped[int | None] = mapped_column(comment="Gaia DR3 source of star b")
    obsid_a: Mapped[int | None] = mapped_column(comment="Observation of star a, where the catalogue says so")
    obsid_b: Mapped[int | None] = mapped_column(comment="Observation of star b, where the catalogue says so")
    ra_a: Mapped[float | None] = mapped_column(comment="Right ascension of star a, ICRS [deg]")
    dec_a: Mapped[float | None] = mapped_column(comment="Declination of star a, ICRS [deg]")
    ra_b: Mapped[float | None] = mapped_column(comment="Right ascension of star b, ICRS [deg]")
    dec_b: Mapped[float | None] = mapped_column(comment="Declination of star b, ICRS [deg]")
    pmra_a: Mapped[float | None] = mapped_column(comment="Proper motion of star a, times cos(dec) [mas/yr]")
    pmdec_a: Mapped[float | None] = mapped_column(comment="Proper motion of star a in declination [mas/yr]")
    pmra_b: Mapped[float | None] = mapped_column(comment="Proper motion of star b, times cos(dec) [mas/yr]")
    pmdec_b: Mapped[float | None] = mapped_column(comment="Proper motion of star b in declination [mas/yr]")
    parallax_a: Mapped[float | None] = mapped_column(comment="Parallax of star a [mas]")
    parallax_b: Mapped[float | None] = mapped_column(comment="Parallax of star b [mas]")
    separation_au: Mapped[float | None] = mapped_column(comment="Projected separation [AU]")
    chance_probability: Mapped[float | None] = mapped_column(
        comment="Chance that the two are no pair (R_chance_align); a density ratio, it may exceed 1"
    )
    imported_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="When this row was written"
    )


class ReferenceLabel(Base):
    """One label of one star from high-resolution spectroscopy."""

    __tablename__ = "reference_label"
    __table_args__ = (
        UniqueConstraint("survey", "star_name", "label"),
        CheckConstraint(
            "gaia_source_id IS NOT NULL OR obsid IS NOT NULL OR (ra IS NOT NULL AND dec IS NOT NULL)",
            name="star_known",
        ),
        CheckConstraint(
            "(ra IS NULL) = (dec IS NULL) AND ra >= 0 AND ra < 360 AND dec >= -90 AND dec <= 90",
            name="position",
        ),
        finite("value"),
        CheckConstraint("error > 0 AND error < 'Infinity'", name="error_range"),
        Index("ix_reference_label_gaia_source_id", "gaia_source_id"),
        Index("ix_reference_label_obsid", "obsid"),
        {"comment": "One label of one star from a high-resolution survey"},
    )

    reference_label_id: Mapped[int] = mapped_column(
        Identity(always=True), primary_key=True, comment="Key of the value"
    )
    survey: Mapped[str] = mapped_column(comment="Survey or compilation the value is from")
    star_name: Mapped[str] = mapped_column(comment="Identifier of the star inside the survey")
    gaia_source_id: Mapped[int | None] = mapped_column(comment="Gaia DR3 source, where known")
    obsid: Mapped[int | None] = mapped_column(comment="Observation of the star, where the survey says so")
    ra: Mapped[float | None] = mapped_column(comment="Right ascension, ICRS [deg]")
    dec: Mapped[float | None] = mapped_column(comment="Declination, ICRS [deg]")
    label: Mapped[str] = mapped_column(comment="Name of the label: teff, fe_h, mg_fe, ...")
    value: Mapped[float] = mapped_column(comment="Value, in the label's unit")
    error: Mapped[float | None] = mapped_column(comment="One sigma error; NULL where the survey gives none")
    imported_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="When this row was written"
    )


class CalibrationSet(Base):
    """One joint solution for one model; once certified a trigger refuses every change but of its state."""

    __tablename__ = "calibration_set"
    __table_args__ = (
        one_of("state", CalibrationState),
        only_if("state IN ('certified', 'superseded')", "certified_at", name="certified_has_time"),
        only_if("state = 'superseded'", "superseded_at", name="superseded_has_time"),
        CheckConstraint("configuration_hash ~ '^[0-9a-f]{64}$'", name="configuration_hash_hex"),
        CheckConstraint("input_hash ~ '^[0-9a-f]{64}$'", name="input_hash_hex"),
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
        CheckConstraint("n_pairs >= 0 AND n_references >= 0", name="counts_positive"),
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
