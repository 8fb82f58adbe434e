"""A small survey in a real database: stars, spectra and fits with labels that a test chooses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
from astropy import units
from astropy_healpix import lonlat_to_healpix
from sqlalchemy import Connection, Engine, insert

from phdl_catalog.calibration import CalibrationSolution, calibrate
from phdl_catalog.calibration.members import Members
from phdl_catalog.calibration.simulation import simulate_calibrators
from phdl_catalog.catalog.building import build_release
from phdl_catalog.catalog.checking import check_release
from phdl_catalog.catalog.releases import get_catalog_release
from phdl_catalog.database.calibration_inputs import CalibrationInputs
from phdl_catalog.database.calibration_sets import certify_set
from phdl_catalog.database.calibration_store import store_solution
from phdl_catalog.database.model_versions import find_model
from phdl_catalog.database.models import DataRelease, Fit, FitRun, ModelVersion, Spectrum

LABELS = ("teff", "logg", "v_micro", "fe_h", "mg_fe", "eu_fe")
SUBGIANT = {"teff": 5600.0, "logg": 3.8, "v_micro": 1.2, "fe_h": -0.3, "mg_fe": 0.15, "eu_fe": 0.3}
ERRORS = {"teff": 30.0, "logg": 0.05, "v_micro": 0.1, "fe_h": 0.03, "mg_fe": 0.04, "eu_fe": 0.2}


class Survey:
    """Writes spectra and fits; ``add`` gives the obsid."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.labels = LABELS
        self._next = 1
        with engine.begin() as connection:
            self.model_version_id = self._model(connection, "first")
            self.releases: dict[str, tuple[int, int]] = {}
            self.add_release(connection, "dr10")

    def _model(self, connection: Connection, name: str) -> int:
        return connection.execute(
            insert(ModelVersion)
            .values(
                name=name,
                sha256="0" * 64,
                uri=f"{name}.safetensors",
                label_names=list(LABELS),
                wavelength_first=35740,
                wavelength_size=3801,
                code_version="0",
            )
            .returning(ModelVersion.model_version_id)
        ).scalar_one()

    def add_model(self, name: str) -> int:
        with self.engine.begin() as connection:
            return self._model(connection, name)

    def add_release(self, connection: Connection, name: str) -> None:
        """A data release, and a run of it with the first model."""
        release_id = connection.execute(
            insert(DataRelease).values(name=name).returning(DataRelease.release_id)
        ).scalar_one()
        self.releases[name] = (release_id, self._run(connection, release_id, self.model_version_id))

    def _run(self, connection: Connection, release_id: int, model_version_id: int) -> int:
        return connection.execute(
            insert(FitRun)
            .values(
                release_id=release_id,
                model_version_id=model_version_id,
                configuration_hash="0" * 64,
                code_version="0",
            )
            .returning(FitRun.fit_run_id)
        ).scalar_one()

    def add(
        self,
        *,
        obsid: int | None = None,
        gaia: int | None = None,
        ra: float | None = None,
        dec: float = 10.0,
        snr_g: float | None = 80.0,
        flags: int = 0,
        labels: Mapping[str, float | None] | None = None,
        errors: Mapping[str, float | None] | None = None,
        label_flags: Mapping[str, int] | None = None,
        fitted: bool = True,
        release: str = "dr10",
    ) -> int:
        """One spectrum and its fit; by default a good subgiant far from all others."""
        number = self._next
        self._next += 1
        obsid = 10_000 + number if obsid is None else obsid
        ra = (number * 0.7) % 360 if ra is None else ra
        release_id, run = self.releases[release]
        values = SUBGIANT | dict(labels or {})
        sigmas = ERRORS | dict(errors or {})
        with self.engine.begin() as connection:
            spectrum = connection.execute(
                insert(Spectrum)
                .values(
                    obsid=obsid,
                    gaia_source_id=gaia,
                    healpix_29=int(lonlat_to_healpix(*_degrees(ra, dec), 2**29, order="nested")),
                    ra=ra,
                    dec=dec,
                    release_id=release_id,
                    snr_g=snr_g,
                    state="accepted",
                    uri=f"{release}/{number}.fits",
                    sha256=f"{number:064x}",
                    shard="s",
                    shard_row=number,
                    first_pixel=35682,
                    n_pixels=3909,
                )
                .returning(Spectrum.spectrum_id)
            ).scalar_one()
            self.add_fit(
                connection,
                spectrum,
                run,
                self.model_version_id,
                None if not fitted else [values[name] for name in LABELS],
                [sigmas[name] for name in LABELS],
                flags if fitted else flags or 2,
                [(label_flags or {}).get(name, 0) for name in LABELS],
            )
        return obsid

    def add_fit(
        self,
        connection: Connection,
        spectrum_id: int,
        run: int,
        model_version_id: int,
        values: list[float | None] | None,
        errors: list[float | None],
        flags: int,
        label_flags: list[int],
    ) -> None:
        has_labels = values is not None
        connection.execute(
            insert(Fit).values(
                spectrum_id=spectrum_id,
                model_version_id=model_version_id,
                fit_run_id=run,
                flags=flags,
                n_pixels=3500,
                rv=12.5 if has_labels else None,
                e_rv=0.7 if has_labels else None,
                chi2=1.1 if has_labels else None,
                label_values=values,
                label_errors=errors if has_labels else None,
                label_flags=label_flags if has_labels else None,
            )
        )


def _degrees(*angles: float) -> list[Any]:
    return [angle * units.deg for angle in angles]


@pytest.fixture
def survey(database: Engine) -> Survey:
    """An empty survey with one data release ``dr10`` and one model ``first``."""
    return Survey(database)


def published_rows(engine: Engine, release: str) -> list[dict[str, Any]]:
    """All rows of a release's table, by obsid."""
    with engine.connect() as connection:
        table = get_catalog_release(connection, release).table
        return [dict(row) for row in connection.execute(table.select().order_by(table.c.obsid)).mappings()]


def candidate(survey: Survey, name: str, **options: Any) -> None:
    """Build and check an uncalibrated release."""
    build_release(survey.engine, "first", calibration="none", name=name, **options)
    report = check_release(survey.engine, name)
    assert report.passed, [finding for finding in report.findings if finding.status == "failed"]


@cache
def _solve() -> CalibrationSolution:
    simulated = simulate_calibrators(LABELS, pairs=40, references=60, targets=0, bad_fraction=0.0, seed=4)
    labels = simulated.labels.copy()
    labels[:, LABELS.index("eu_fe")] = np.nan
    return calibrate(LABELS, labels, simulated.errors, **simulated.inputs)


def add_calibration(survey: Survey, name: str, *, certify: bool = True) -> CalibrationSolution:
    """A calibration set of model ``first``, solved from simulated calibrators; eu_fe has none."""
    solution = _solve()
    nothing = Members.empty(np.empty(0, dtype=object), len(LABELS))
    whole, real = np.empty(0, dtype=np.int64), np.empty((0, len(LABELS)))
    inputs = CalibrationInputs(
        LABELS, whole, real, real, real[:, :, None], real[:, 0], whole.reshape(0, 2), whole.reshape(0, 2),
        whole, real[:, 0], whole, real, real,
        real.astype(np.int64), (), {},
    )  # fmt: skip
    with survey.engine.begin() as connection:
        bare = dataclasses.replace(solution, pairs=nothing, references=nothing)
        store_solution(connection, find_model(connection, "first"), inputs, bare, {"name": name}, name)
        if certify:
            certify_set(connection, name)
    return solution
