"""A small grid of analytic spectra: lines whose strength follows abundance and temperature."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from phdl_catalog.spectra.grid import PixelGrid

NAMES = ("teff", "logg", "fe_h", "mg_fe")
PIXELS = PixelGrid(37000, 150)
#: log10 wavelength, strength at reference, exponent in temperature, which label's abundance.
LINES = ((3.7030, 0.8, 3.0, 2), (3.7061, 0.5, 1.0, 2), (3.7084, 0.9, 2.0, 3), (3.7110, 0.4, -2.0, 3))


def analytic_flux(labels: NDArray[np.float64], log_wavelength: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 4) labels -> (N, P) flux at infinite resolution but 5e-5 dex wide lines."""
    teff, logg, fe_h, mg_fe = labels.T
    depth = np.zeros((len(labels), log_wavelength.size))
    for centre, strength, exponent, which in LINES:
        abundance = fe_h + (mg_fe if which == 3 else 0.0)
        size = strength * 10 ** (0.4 * abundance) * (5500.0 / teff) ** exponent * 1.1 ** (logg - 4.0)
        depth += size[:, None] * np.exp(-0.5 * ((log_wavelength - centre) / 1e-4) ** 2)
    return np.exp(-depth)


def write_grid(path: Path, n_stars: int = 60, seed: int = 1) -> Path:
    """Write a grid file of the documented layout."""
    generator = np.random.default_rng(seed)
    log_wavelength = np.arange(3.6985, 3.7165, 4e-5)
    lower, upper = np.array([4500.0, 3.0, -1.5, -0.4]), np.array([6500.0, 4.8, 0.4, 0.5])
    atmospheres = generator.uniform(lower, upper, (n_stars, 4))
    labels = np.repeat(atmospheres, 3, axis=0)
    labels[:, 3] = generator.uniform(-0.4, 0.5, len(labels))
    star = np.repeat(np.arange(n_stars), 3)
    reference = generator.uniform(lower, upper, (4, 4))
    step = np.array([50.0, 0.1, 0.1, 0.1])
    base = analytic_flux(reference, log_wavelength)
    gradient = np.stack(
        [
            (analytic_flux(reference + step * unit, log_wavelength) - base) / step[index]
            for index, unit in enumerate(np.eye(4))
        ],
        axis=1,
    )
    gradient[:, 0] *= 100.0
    with h5py.File(path, "w") as file:
        file.attrs["label_names"] = np.array(NAMES, dtype=h5py.string_dtype())
        file.attrs["resolution"] = 5000.0
        file.attrs["medium"] = "vacuum"
        file["wavelength"] = 10**log_wavelength
        file["labels"] = labels.astype(np.float32)
        flux = file.create_dataset(
            "flux", data=np.round(analytic_flux(labels, log_wavelength) * 60000).astype(np.uint16)
        )
        flux.attrs["scale"] = 1 / 60000
        file["star"] = star
        file["split"] = (star % 5 == 0).astype(np.uint8)
        file["gradients/labels"] = reference
        file["gradients/flux"] = base.astype(np.float32)
        data = file.create_dataset("gradients/gradient", data=gradient.astype(np.float32))
        data.attrs["teff_scale"] = 100.0
        file["gradients/step"] = step
        file["gradients/split"] = np.array([0, 0, 0, 1], np.uint8)
    return path
