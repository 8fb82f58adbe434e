"""What the survey gives: data releases, spectra and the stars they are of."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import REAL, CheckConstraint, ForeignKey, Identity, Index, Integer, SmallInteger, func, text
from sqlalchemy.orm import Mapped, mapped_column

from phdl_catalog.database.models.base import Base, finite, one_of, only_if
from phdl_catalog.database.models.states import SpectrumState

#: Number of HEALPix cells of order 29.
HEALPIX_29_CELLS = 12 * 4**29

_POSITION = "ra >= 0 AND ra < 360 AND dec >= -90 AND dec <= 90"
_CELL = f"healpix_29 >= 0 AND healpix_29 < {HEALPIX_29_CELLS}"


class DataRelease(Base):
    """One release of a survey."""

    __tablename__ = "data_release"
    __table_args__ = (
        CheckConstraint("name ~ '^[A-Za-z0-9][A-Za-z0-9_.-]*$'", name="name_plain"),
        {"comment": "One release of a survey"},
    )

    release_id: Mapped[int] = mapped_column(
        Integer, Identity(always=True), primary_key=True, comment="Key of the release"
    )
    name: Mapped[str] = mapped_column(unique=True, comment="Name, as typed on the command line: dr10")
    description: Mapped[str | None] = mapped_column(comment="What this release is, for a person")
    created_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="When the release was added"
    )


class Spectrum(Base):
    """One observed spectrum of one release, or one file that was none."""

    __tablename__ = "spectrum"
    __table_args__ = (
        one_of("state", SpectrumState),
        CheckConstraint(
            "state <> 'accepted' OR (obsid IS NOT NULL AND sha256 IS NOT NULL)", name="accepted_known"
        ),
        only_if(
            "state = 'accepted'", "shard", "shard_row", "first_pixel", "n_pixels", name="accepted_has_pixels"
        ),
        only_if("state = 'rejected'", "reason", "detail", name="rejected_has_reason"),
        CheckConstraint(
            "(ra IS NULL) = (dec IS NULL) AND (ra IS NULL) = (healpix_29 IS NULL)", name="position_whole"
        ),
        CheckConstraint(_POSITION, name="position_range"),
        CheckConstraint(_CELL, name="healpix_29_range"),
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256_hex"),
        CheckConstraint("shard_row >= 0 AND first_pixel >= 0 AND n_pixels > 0", name="pixels_range"),
        finite("mjd"),
        finite("redshift"),
        finite("redshift_error"),
        finite("snr_u"),
        finite("snr_g"),
        finite("snr_r"),
        finite("snr_i"),
        finite("snr_z"),
        Index(
            "uq_spectrum_release_id_obsid",
            "release_id",
            "obsid",
            unique=True,
            postgresql_where=text("state = 'accepted'"),
        ),
        Index("uq_spectrum_release_id_uri", "release_id", "uri", unique=True),
        Index(
            "uq_spectrum_shard",
            "shard",
            "shard_row",
            unique=True,
            postgresql_where=text("state = 'accepted'"),
        ),
        Index("ix_spectrum_obsid", "obsid"),
        Index("ix_spectrum_healpix_29", "healpix_29"),
        Index(
            "ix_spectrum_gaia_source_id",
            "gaia_source_id",
            postgresql_where=text("gaia_source_id IS NOT NULL"),
        ),
        {"comment": "One observed spectrum of one release, or one file that was rejected and why"},
    )

    spectrum_id: Mapped[int] = mapped_column(
        Identity(always=True), primary_key=True, comment="Key of the spectrum; has no meaning outside"
    )
    obsid: Mapped[int | None] = mapped_column(
        comment="The survey's identifier of the observation; negative and derived from lmjd, plan, "
        "spectrograph and fibre where the file has none; NULL only in rejected rows"
    )
    gaia_source_id: Mapped[int | None] = mapped_column(comment="Gaia DR3 source, where known")
    healpix_29: Mapped[int | None] = mapped_column(comment="HEALPix cell of (ra, dec), order 29, nested")
    ra: Mapped[float | None] = mapped_column(comment="Right ascension, ICRS [deg]")
    dec: Mapped[float | None] = mapped_column(comment="Declination, ICRS [deg]")
    mjd: Mapped[float | None] = mapped_column(comment="Modified Julian date of the observation [d]")
    release_id: Mapped[int] = mapped_column(
        Integer, ForeignKey(DataRelease.release_id), comment="Release the spectrum belongs to"
    )
    lmjd: Mapped[int | None] = mapped_column(
        Integer, comment="Local modified Julian day number of the night [d]"
    )
    redshift: Mapped[float | None] = mapped_column(REAL, comment="Redshift of the survey's pipeline")
    redshift_error: Mapped[float | None] = mapped_column(REAL, comment="Error of that redshift")
    snr_u: Mapped[float | None] = mapped_column(REAL, comment="Signal-to-noise ratio a pixel, u band")
    snr_g: Mapped[float | None] = mapped_column(REAL, comment="Signal-to-noise ratio a pixel, g band")
    snr_r: Mapped[float | None] = mapped_column(REAL, comment="Signal-to-noise ratio a pixel, r band")
    snr_i: Mapped[float | None] = mapped_column(REAL, comment="Signal-to-noise ratio a pixel, i band")
    snr_z: Mapped[float | None] = mapped_column(REAL, comment="Signal-to-noise ratio a pixel, z band")
    shard_row: Mapped[int | None] = mapped_column(Integer, comment="Row of the pixels inside the shard")
    first_pixel: Mapped[int | None] = mapped_column(
        Integer, comment="First pixel on the 1e-4 dex grid: its log10(wavelength/Angstrom) is 1e-4 times this"
    )
    n_pixels: Mapped[int | None] = mapped_column(Integer, comment="Number of pixels of the file")
    spectrograph_id: Mapped[int | None] = mapped_column(SmallInteger, comment="Spectrograph, 1 to 16")
    fiber_id: Mapped[int | None] = mapped_column(SmallInteger, comment="Fibre of that spectrograph, 1 to 250")
    state: Mapped[str] = mapped_column(comment="accepted: has pixels and is fitted; rejected: has a reason")
    layout: Mapped[str | None] = mapped_column(comment="File layout recognised by content")
    uri: Mapped[str] = mapped_column(comment="Where the file was read from")
    sha256: Mapped[str | None] = mapped_column(comment="SHA-256 of the file's bytes, hexadecimal")
    shard: Mapped[str | None] = mapped_column(comment="Shard of the pixel store that holds the pixels")
    designation: Mapped[str | None] = mapped_column(comment="The survey's designation of the target")
    plan_id: Mapped[str | None] = mapped_column(comment="Observing plan")
    object_name: Mapped[str | None] = mapped_column(comment="Object name of the input catalogue")
    data_version: Mapped[str | None] = mapped_column(comment="Version of the survey's reduction")
    spectral_class: Mapped[str | None] = mapped_column(
        "class", comment="Class of the survey's pipeline: STAR, GALAXY, QSO, Unknown"
    )
    subclass: Mapped[str | None] = mapped_column(comment="Spectral type of the survey's pipeline")
    reason: Mapped[str | None] = mapped_column(comment="One word: why the file was rejected")
    detail: Mapped[str | None] = mapped_column(comment="What was found in a rejected file, for a person")
    ingested_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="When this row was written"
    )


class Source(Base):
    """One star, as Gaia sees it."""

    __tablename__ = "source"
    __table_args__ = (
        CheckConstraint(_POSITION, name="position_range"),
        CheckConstraint(_CELL, name="healpix_29_range"),
        CheckConstraint(
            "parallax_error > 0 AND pmra_error > 0 AND pmdec_error > 0 AND ruwe > 0", name="errors_positive"
        ),
        *(
            finite(name)
            for name in (
                "parallax",
                "parallax_error",
                "pmra",
                "pmra_error",
                "pmdec",
                "pmdec_error",
                "ruwe",
                "phot_g_mean_mag",
                "phot_bp_mean_mag",
                "phot_rp_mean_mag",
                "j_mag",
                "h_mag",
                "ks_mag",
                "ebv",
            )
        ),
        Index("ix_source_healpix_29", "healpix_29"),
        {"comment": "One star: Gaia DR3 astrometry and photometry"},
    )

    gaia_source_id: Mapped[int] = mapped_column(
        primary_key=True, autoincrement=False, comment="Gaia DR3 source identifier"
    )
    healpix_29: Mapped[int] = mapped_column(comment="HEALPix cell of (ra, dec), order 29, nested")
    ra: Mapped[float] = mapped_column(comment="Right ascension, ICRS, epoch 2016.0 [deg]")
    dec: Mapped[float] = mapped_column(comment="Declination, ICRS, epoch 2016.0 [deg]")
    parallax: Mapped[float | None] = mapped_column(comment="Parallax, no zero-point applied [mas]")
    pmra: Mapped[float | None] = mapped_column(
        comment="Proper motion in right ascension, times cos(dec) [mas/yr]"
    )
    pmdec: Mapped[float | None] = mapped_column(comment="Proper motion in declination [mas/yr]")
    parallax_error: Mapped[float | None] = mapped_column(REAL, comment="Error of the parallax [mas]")
    pmra_error: Mapped[float | None] = mapped_column(REAL, comment="Error of pmra [mas/yr]")
    pmdec_error: Mapped[float | None] = mapped_column(REAL, comment="Error of pmdec [mas/yr]")
    ruwe: Mapped[float | None] = mapped_column(REAL, comment="Renormalised unit weight error")
    phot_g_mean_mag: Mapped[float | None] = mapped_column(REAL, comment="Gaia G magnitude [mag]")
    phot_bp_mean_mag: Mapped[float | None] = mapped_column(REAL, comment="Gaia BP magnitude [mag]")
    phot_rp_mean_mag: Mapped[float | None] = mapped_column(REAL, comment="Gaia RP magnitude [mag]")
    j_mag: Mapped[float | None] = mapped_column(REAL, comment="2MASS J magnitude [mag]")
    h_mag: Mapped[float | None] = mapped_column(REAL, comment="2MASS H magnitude [mag]")
    ks_mag: Mapped[float | None] = mapped_column(REAL, comment="2MASS Ks magnitude [mag]")
    ebv: Mapped[float | None] = mapped_column(REAL, comment="Reddening E(B-V) [mag]")
    imported_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="When this row was written"
    )
