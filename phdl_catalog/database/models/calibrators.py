"""Calibrators: wide binaries, and labels from high-resolution spectroscopy."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Identity, Index, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from phdl_catalog.database.models.base import Base, finite


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
        finite("pmra"),
        finite("pmdec"),
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
    pmra: Mapped[float | None] = mapped_column(comment="Proper motion, times cos(dec) [mas/yr]")
    pmdec: Mapped[float | None] = mapped_column(comment="Proper motion in declination [mas/yr]")
    label: Mapped[str] = mapped_column(comment="Name of the label: teff, fe_h, mg_fe, ...")
    value: Mapped[float] = mapped_column(comment="Value, in the label's unit")
    error: Mapped[float | None] = mapped_column(comment="One sigma error; NULL where the survey gives none")
    imported_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="When this row was written"
    )
