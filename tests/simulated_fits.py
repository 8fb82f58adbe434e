"""Simulated calibrators as a survey has them: spectra with fits in the database, calibrators in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.table import Table
from database_rows import add_model, add_release, add_run, add_spectrum, fit_values
from sqlalchemy import Connection, insert, text

from phdl_catalog.calibration.simulation import SimulatedCalibrators
from phdl_catalog.database.models import Fit

#: Gaia source of the first star; the others follow, and no double can tell them apart.
GAIA = 4472832130942570000


def add_fits(
    connection: Connection, simulated: SimulatedCalibrators, model: str, shift: float = 0.0
) -> list[int]:
    """All simulated stars, one spectrum each, fitted by a model."""
    release = connection.execute(text("SELECT release_id FROM phdl.data_release")).scalar_one_or_none()
    if release is None:
        release = add_release(connection)
        for row in range(len(simulated.labels)):
            add_spectrum(connection, release, 1000 + row, gaia_source_id=GAIA + row, snr_g=60.0)
    number = add_model(connection, model, simulated.label_names)
    run = add_run(connection, release, number)
    spectra = connection.scalars(text("SELECT spectrum_id FROM phdl.spectrum ORDER BY obsid")).all()
    names = simulated.label_names
    labels = simulated.labels + shift * (np.arange(len(names)) > 2)
    fits = [
        fit_values(
            spectrum, number, run, snr=60.0, label_values=labels[row].tolist(),
            label_errors=simulated.errors[row].tolist(), label_flags=[0] * len(names),
            label_covariance=bytes(len(names) * (len(names) - 1)),
        )
        for row, spectrum in enumerate(spectra)
    ]  # fmt: skip
    connection.execute(insert(Fit), fits)
    return list(spectra)


def write_calibrators(simulated: SimulatedCalibrators, folder: Path) -> tuple[Path, Path]:
    """The simulated pairs as El-Badry's table, and the references as a table of ours."""
    first, second = simulated.inputs["pairs"].T
    pairs, references = folder / "pairs.fits", folder / "references.csv"
    Table(
        {"source_id1": GAIA + first, "source_id2": GAIA + second, "R_chance_align": np.full(len(first), 1e-3)}
    ).write(pairs)
    rows = simulated.inputs["reference_rows"]
    table = Table({"source_id": GAIA + rows})
    for column, name in enumerate(simulated.label_names):
        table[name] = simulated.inputs["reference_labels"][:, column]
        table[f"e_{name}"] = simulated.inputs["reference_errors"][:, column]
    table.write(references)
    return pairs, references
