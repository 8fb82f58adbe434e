"""A small survey in a real database: stars, spectra and fits with labels that a test chooses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from astropy_healpix import lonlat_to_healpix
from sqlalchemy import Connection, Engine, insert

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
    from astropy import units

    return [angle * units.deg for angle in angles]


@pytest.fixture
def survey(database: Engine) -> Survey:
    """An empty survey with one data release ``dr10`` and one model ``first``."""
    return Survey(database)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
