"""Minimal valid rows, to build on in the tests of the database."""

from __future__ import annotations

from sqlalchemy import Connection, insert

from phdl_catalog.database.models import DataRelease, FitRun, ModelVersion, Spectrum

DIGEST = "0123456789abcdef" * 4


def add_release(connection: Connection, name: str = "dr10") -> int:
    return connection.scalars(insert(DataRelease).values(name=name).returning(DataRelease.release_id)).one()


def spectrum_values(release_id: int, obsid: int) -> dict[str, object]:
    return {
        "release_id": release_id,
        "obsid": obsid,
        "uri": f"file:///data/{obsid}.fits",
        "sha256": DIGEST,
        "state": "accepted",
        "shard": "dr10/0001",
        "shard_row": obsid,
        "first_pixel": 35682,
        "n_pixels": 3909,
        "ra": 10.5,
        "dec": -3.25,
        "healpix_29": 1234567890123456789,
        "snr_g": 55.5,
    }


def add_spectrum(connection: Connection, release_id: int, number: int, **values: object) -> int:
    row = spectrum_values(release_id, number) | values
    return connection.scalars(insert(Spectrum).values(**row).returning(Spectrum.spectrum_id)).one()


def add_model(
    connection: Connection, name: str = "default", labels: tuple[str, ...] = ("teff", "logg", "fe_h")
) -> int:
    values = {
        "name": name,
        "sha256": DIGEST,
        "uri": "packaged:default",
        "label_names": list(labels),
        "wavelength_first": 35740,
        "wavelength_size": 3801,
        "code_version": "0.1.0",
    }
    statement = insert(ModelVersion).values(**values).returning(ModelVersion.model_version_id)
    return connection.scalars(statement).one()


def add_run(connection: Connection, release_id: int, model_id: int, **values: object) -> int:
    row = {
        "release_id": release_id,
        "model_version_id": model_id,
        "configuration_hash": DIGEST,
        "code_version": "0.1.0",
    } | values
    return connection.scalars(insert(FitRun).values(**row).returning(FitRun.fit_run_id)).one()


def fit_values(spectrum_id: int, model_id: int, run_id: int, **values: object) -> dict[str, object]:
    return {
        "spectrum_id": spectrum_id,
        "model_version_id": model_id,
        "fit_run_id": run_id,
        "flags": 0,
        "n_pixels": 3000,
        "rv": -12.5,
        "e_rv": 1.5,
        "chi2": 1.25,
        "label_values": [5000.0, 4.0, -0.5],
        "label_errors": [50.0, 0.1, 0.05],
        "label_flags": [0, 1, 0],
        "label_covariance": b"\x00" * 6,
    } | values
