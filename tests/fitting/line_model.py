"""A small emulator of real structure for the tests of the fit: analytic lines, compressed as the real one is.

Fifteen hundred absorption lines of nine elements, and hydrogen, each with a strength that depends on
temperature, gravity, microturbulence and abundance as real ones do, saturating.  The spectra are compressed
to a linear basis, and its coefficients are a polynomial of the labels.  The compressed model is the truth
of the tests: how well it describes the lines does not matter.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from phdl_catalog.spectra.grid import PixelGrid

NAMES = (
    "teff",
    "logg",
    "v_micro",
    "fe_h",
    "c_fe",
    "mg_fe",
    "si_fe",
    "ca_fe",
    "ti_fe",
    "cr_fe",
    "ni_fe",
    "eu_fe",
)
RANGE = np.array(
    [[4000, 7000], [0.5, 5.0], [0.5, 2.0], [-1.5, 0.5], *[[-0.5, 0.6]] * 8],
    dtype=float,
)
GRID = PixelGrid(35740, 3801)
RESOLUTION = 1800.0
_BALMER = (6564.6, 4862.7, 4341.7, 4102.9, 3971.2, 3890.2)
_COMPONENTS = 80


def line_spectra(labels: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """Normalised spectra (N, P) of labels (N, 12)."""
    pixel = np.arange(GRID.size)
    element = generator.choice(len(NAMES) - 3, 1500, p=[0.4, 0.06, 0.06, 0.08, 0.1, 0.12, 0.09, 0.08, 0.01])
    place = GRID.size * generator.uniform(0, 1, 1500) ** 1.6  # crowded in the blue
    strength = generator.normal(-1.6, 0.5, 1500)
    ionised = generator.random(1500) < 0.3
    cool = (5500 - labels[:, :1]) / 1000
    abundance = (
        labels[:, 3:4] + np.concatenate([np.zeros((len(labels), 1)), labels[:, 4:]], axis=1)[:, element]
    )
    gravity = np.where(ionised, -0.25, 0.05) * (labels[:, 1:2] - 3.5)
    power = strength + 0.8 * abundance + np.where(ionised, 0.15, 0.45) * cool + gravity
    depth = 10**power / (1.0 + 10**power / (0.5 + 0.2 * labels[:, 2:3]))
    profile = np.exp(-0.5 * ((pixel - place[:, None]) / 1.03) ** 2)
    opacity = depth @ profile
    for line in _BALMER:
        centre = np.log10(line) / 1e-4 - GRID.first
        width = 6.0 + 4.0 * np.maximum(0, -cool) + 0.5 * labels[:, 1:2]
        opacity += 0.5 * 10 ** (-0.5 * cool) / (1.0 + ((pixel - centre) / width) ** 2)
    return np.exp(-opacity)


class LineModel:
    """The face of an emulator that a fit needs, and its own compiled form."""

    def __init__(self) -> None:
        generator = np.random.default_rng(7)
        unit = generator.uniform(-1, 1, (500, len(NAMES)))
        labels = RANGE.mean(axis=1) + unit * np.ptp(RANGE, axis=1) / 2
        flux = line_spectra(labels, np.random.default_rng(11))
        mean = flux.mean(axis=0)
        basis = np.linalg.svd(flux - mean, full_matrices=False)[2][:_COMPONENTS]
        self._first, self._second = (torch.as_tensor(pair) for pair in np.triu_indices(len(NAMES) + 1))
        design = self._design(torch.as_tensor(unit)).numpy()
        weight = np.linalg.lstsq(design, (flux - mean) @ basis.T, rcond=None)[0]
        self.basis = torch.as_tensor(np.vstack([mean, basis]), dtype=torch.float32)
        self._weight = torch.as_tensor(weight, dtype=torch.float32)
        self._middle = torch.as_tensor(RANGE.mean(axis=1), dtype=torch.float32)
        self._half = torch.as_tensor(np.ptp(RANGE, axis=1) / 2, dtype=torch.float32)
        self.label_names, self.label_range = NAMES, RANGE
        self.resolution, self.name = RESOLUTION, "lines"
        self.stated_error = 0.0

    def _design(self, unit: Tensor) -> Tensor:
        """1, x and all products of two (N, 91)."""
        one = torch.cat([torch.ones_like(unit[:, :1]), unit], dim=1)
        return one[:, self._first] * one[:, self._second]

    @property
    def compiled(self) -> LineModel:
        return self

    @cached_property
    def wavelength(self) -> NDArray[np.float64]:
        return GRID.wavelength

    def coefficients(self, labels: Tensor) -> Tensor:
        return self._design((labels - self._middle) / self._half) @ self._weight

    def coefficients_and_jacobian(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        unit = (labels - self._middle) / self._half
        one = torch.cat([torch.ones_like(unit[:, :1]), unit], dim=1)
        column = torch.arange(1, one.shape[1])[:, None]
        slope = (self._first == column) * one[:, None, self._second] + (self._second == column) * one[
            :, None, self._first
        ]
        jacobian = (slope @ self._weight).mT / self._half
        return self.coefficients(labels), jacobian

    def distance(self, labels: ArrayLike) -> NDArray[np.float64]:
        """Largest excursion from the middle of the range, 1 at its edge."""
        unit = (np.asarray(labels) - RANGE.mean(axis=1)) / (np.ptp(RANGE, axis=1) / 2)
        return np.abs(unit[:, :4]).max(axis=1)

    def expected_error(self, labels: ArrayLike) -> NDArray[np.float64]:
        return np.full((len(np.asarray(labels)), GRID.size), self.stated_error)

    def predict(self, labels: ArrayLike) -> NDArray[np.float32]:
        rows = torch.as_tensor(np.asarray(labels), dtype=torch.float32)
        return (self.coefficients(rows) @ self.basis[1:] + self.basis[0]).numpy()
