"""Spectra of the line model with the noise, the velocities and the response of a survey."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from line_model import GRID, NAMES, RANGE, LineModel
from numpy.typing import NDArray

from phdl_catalog.spectra.grid import SPEED_OF_LIGHT, PixelGrid

OBSERVED = PixelGrid(35700, 3880)


@dataclass(frozen=True)
class Sample:
    """Simulated spectra and their truth."""

    labels: NDArray[np.float64]
    rv: NDArray[np.float64]
    wavelength: NDArray[np.float64]
    flux: NDArray[np.float64]
    ivar: NDArray[np.float64]


def simulate(
    model: LineModel, number: int, snr: float, seed: int, largest_rv: float = 600.0, spread: float = 0.8
) -> Sample:
    """Spectra with random labels and velocities, a smooth random response, and noise that grows to the blue.

    `snr` is that of a pixel at 4700 Angstrom, labels cover the fraction `spread` of their range.
    """
    generator = np.random.default_rng(seed)
    unit = generator.uniform(-spread, spread, (number, len(NAMES)))
    labels = RANGE.mean(axis=1) + unit * np.ptp(RANGE, axis=1) / 2
    rv = generator.uniform(-largest_rv, largest_rv, number)
    shift = np.log10(1.0 + rv / SPEED_OF_LIGHT) / 1e-4
    flux = np.zeros((number, OBSERVED.size))
    inside = np.zeros(flux.shape, dtype=bool)
    for row, spectrum in enumerate(model.predict(labels).astype(float)):
        # Moved exactly, by the phases of its Fourier transform; mirrored, so that the ends are no steps.
        mirrored = np.concatenate([spectrum, spectrum[-2:0:-1]])
        frequency = np.fft.rfftfreq(len(mirrored))
        moved = np.fft.irfft(
            np.fft.rfft(mirrored) * np.exp(-2j * np.pi * frequency * shift[row]), len(mirrored)
        )
        first = GRID.first - OBSERVED.first
        flux[row, first : first + GRID.size] = moved[: GRID.size]
        position = np.arange(GRID.size) - shift[row]
        inside[row, first : first + GRID.size] = (position > 0) & (position < GRID.size - 1)
    x = np.linspace(-1, 1, OBSERVED.size)
    response = np.exp(
        generator.normal(0, 0.4, (number, 1)) * x
        - generator.uniform(0, 1.2, (number, 1)) * x**2
        + 0.1 * np.sin(4 * x + generator.uniform(0, 6, (number, 1)))
    )
    wavelength = OBSERVED.wavelength
    per_pixel = snr * np.clip((wavelength - 3600) / 1100, 0.05, 1.6)
    error = 1000 * response / per_pixel
    noisy = np.where(inside, 1000 * response * flux + generator.normal(size=flux.shape) * error, 0.0)
    return Sample(labels, rv, wavelength, noisy, np.where(inside, error**-2.0, 0.0))
