"""The lines of hydrogen, from first principles: Balmer and Paschen.

Line lists have them in different ways, or not at all, so the engine brings its own.  Oscillator strengths are
exact integrals of hydrogen wave functions; wavelengths are the means of the fine structure, weighted by it.
"""

from __future__ import annotations

from functools import cache
from math import factorial

import numpy as np
from numpy.polynomial.laguerre import laggauss
from scipy.special import eval_genlaguerre

from phdl_catalog.emulator.synthesis.line_list import LineList

#: Rydberg constant of hydrogen [1/cm], fine-structure constant, electron volt in 1/cm (CODATA 2018).
RYDBERG = 109677.58340
FINE_STRUCTURE = 7.2973525693e-3
WAVENUMBER_OF_EV = 8065.543937

#: Series, and the highest upper level of each: beyond, the lines have merged into the continuum.
SERIES = {2: 20, 3: 25}

#: How far the wings of a line are followed [Angstrom]: there they take less than 1e-4 of a solar continuum.
HYDROGEN_REACH = 400.0


def _radial(n: int, l: int, r: np.ndarray) -> np.ndarray:  # noqa: E741
    """Radial wave function R_nl times exp(r / n), at r [Bohr radii]."""
    norm = np.sqrt((2.0 / n) ** 3 * factorial(n - l - 1) / (2.0 * n * factorial(n + l)))
    return np.asarray(norm * (2.0 * r / n) ** l * eval_genlaguerre(n - l - 1, 2 * l + 1, 2.0 * r / n))


def _radial_integral(lower: tuple[int, int], upper: tuple[int, int]) -> float:
    """Integral of r^3 R R' between two states (n, l); a polynomial times an exponential, so exact."""
    decay = 1.0 / lower[0] + 1.0 / upper[0]
    nodes, weights = laggauss((lower[0] + upper[0]) // 2 + 3)
    r = nodes / decay
    return float(np.sum(weights * r**3 * _radial(*lower, r) * _radial(*upper, r)) / decay)


def _energy(n: int, l: int) -> float:  # noqa: E741
    """Energy of a level below the ionisation limit, mean over its fine structure [1/cm]."""
    return RYDBERG / n**2 * (1.0 + (FINE_STRUCTURE / n) ** 2 * (n / (l + (0.5 if l else 1.0)) - 0.75))


@cache
def transition(lower: int, upper: int) -> tuple[float, float]:
    """One line of hydrogen.

    Parameters
    ----------
    lower, upper : int
        Principal quantum numbers.

    Returns
    -------
    wavelength : float
        In vacuum [Angstrom].
    oscillator_strength : float
        Of absorption, mean over the lower states.
    """
    strengths, wavenumbers = [], []
    for l in range(lower):  # noqa: E741
        for other in (l - 1, l + 1):
            if 0 <= other < upper:
                squared = _radial_integral((lower, l), (upper, other)) ** 2
                strengths.append(max(l, other) * squared)
                wavenumbers.append(_energy(lower, l) - _energy(upper, other))
    mean = float(np.average(wavenumbers, weights=strengths))
    # 2 (2l+1) states of each l among 2 n^2; f = (dE / Ry) / 3 |r|^2.
    return 1e8 / mean, float(mean / RYDBERG * np.sum(strengths) / (3.0 * lower**2))


def hydrogen_lines(wavelength: tuple[float, float], margin: float = HYDROGEN_REACH) -> LineList:
    """The lines of hydrogen whose wings reach a range.

    Parameters
    ----------
    wavelength : tuple of float
        First and last wavelength in vacuum [Angstrom].
    margin : float
        How far outside a line may lie [Angstrom].
    """
    rows = []
    for lower, highest in SERIES.items():
        for upper in range(lower + 1, highest + 1):
            position, strength = transition(lower, upper)
            if wavelength[0] - margin < position < wavelength[1] + margin:
                excitation = (_energy(1, 0) - _energy(lower, 1)) / WAVENUMBER_OF_EV
                # The library reads the principal quantum numbers in the place of the damping constants.
                rows.append((position, excitation, np.log10(2 * lower**2 * strength), 0.0, lower, upper))
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    return LineList.from_columns("hydrogen, computed", ["H 1"] * len(table), *table.T)
