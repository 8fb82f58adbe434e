"""The smooth functions a correction is made of, and how large and how rough they are expected to be.

A correction b(teff, logg, fe_h) is a Gaussian process written in a finite basis: products of sines on a box
around the calibrators, which are the eigenfunctions of the Laplacian there, with prior variances given by the
spectral density of a kernel (Solin & Sarkka 2020, Statistics and Computing 30, 419): Matern's for the
surface, the squared exponential for the rest, which is slower.  The functions do not depend on amplitude or
length scale; only their prior variances do.  Four groups:

``constant``     1
``linear``       teff, logg, fe_h, each from -1 to 1 across the box
``surface``      f(teff, logg): dwarfs and subgiants may behave differently
``metallicity``  f(fe_h), and fe_h times slow functions of (teff, logg)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.errors import InputError

Floats = NDArray[np.float64]

#: The labels a correction depends on.
COORDINATES = ("teff", "logg", "fe_h")

#: One unit of each coordinate inside the basis: 500 K, 0.5 dex, 0.5 dex.
COORDINATE_UNIT = np.array([500.0, 0.5, 0.5])

#: Shortest length scale the basis resolves [units]: 350 K, 0.25 dex, 0.4 dex.  Corrections that change faster
#: than this cannot be told from noise with some hundred calibrators.
SHORTEST_SCALE = np.array([0.7, 0.5, 0.8])

#: The sines vanish on the walls, so the walls stand this factor outside the calibrators.
_WALL = 1.35

#: A function is left out when its frequency times the shortest scale exceeds this.
_CUT = 3.0

#: The same of bases that were stored before it was stored with them.
_FORMER_CUT = 2.5

#: Most frequencies of each coordinate.
_MOST = (12, 12, 8)

#: Of the surface's Matern kernel, 5/2: a correction that is smooth but turns sharply somewhere, as between
#: dwarfs and subgiants, has more of the high frequencies than a squared-exponential kernel allows.
_ROUGHNESS = 2.5

#: Length scale of f(fe_h) [units], and of the interactions in (teff, logg): slow on purpose.
_METALLICITY_SCALE = 1.2
_INTERACTION_SCALE = np.array([2.0, 1.6])
_INTERACTION_FUNCTIONS = 3


@dataclass(frozen=True)
class Smoothness:
    """Prior of a correction: amplitudes in label units [dex], length scales in units of the coordinates.

    Parameters
    ----------
    linear, surface, metallicity, interaction : float
        Standard deviation of each group of functions.
    scale_teff, scale_logg : float
        Length scales of the surface [500 K, 0.5 dex].
    """

    linear: float
    surface: float
    scale_teff: float
    scale_logg: float
    metallicity: float
    interaction: float


#: Prior standard deviation of the constant [dex]: wider than any zero-point seen in a survey.
CONSTANT_SIGMA = 0.5

#: Slots of the smoothness parameters in a vector of logarithms.
SMOOTHNESS_FIELDS = ("linear", "surface", "scale_teff", "scale_logg", "metallicity", "interaction")


@dataclass(frozen=True)
class SmoothBasis:
    """Functions of (teff, logg, fe_h) on a box.

    Parameters
    ----------
    center : tuple of float
        Centre of the box [K, dex, dex].
    half_width : tuple of float
        Half its size [K, dex, dex]; coordinates outside are moved to its wall, where nothing is valid.
    cut : float
        Highest frequency times the shortest scale.
    """

    center: tuple[float, float, float]
    half_width: tuple[float, float, float]
    cut: float = _CUT

    @classmethod
    def around(cls, points: Floats) -> SmoothBasis:
        """The box around calibrators.

        Parameters
        ----------
        points : (N, 3) array
            teff, logg, fe_h of the calibrator stars; NaN rows are ignored.

        Raises
        ------
        InputError
            If no row is finite.
        """
        finite = points[np.all(np.isfinite(points), axis=1)]
        if not finite.size:
            raise InputError("no calibrator star has finite teff, logg and fe_h: there is nothing to fit")
        # A few fits at the edge of the grid must not stretch the box for everyone.
        low, high = np.quantile(finite, [0.002, 0.998], axis=0)
        half = np.maximum(0.55 * (high - low), 0.5 * COORDINATE_UNIT)
        center = 0.5 * (low + high)
        return cls(tuple(float(c) for c in center), tuple(float(h) for h in half))  # type: ignore[arg-type]

    @cached_property
    def _wall(self) -> Floats:
        return np.asarray(_WALL * np.asarray(self.half_width) / COORDINATE_UNIT)

    def _frequencies(self, axis: int, most: int) -> Floats:
        step = np.pi / (2 * self._wall[axis])
        count = int(np.clip(np.ceil(self.cut / SHORTEST_SCALE[axis] / step), 3, most))
        return np.asarray(step * np.arange(1, count + 1))

    @cached_property
    def _surface(self) -> tuple[NDArray[np.intp], Floats]:
        """Index pairs (J, 2) of the surface functions, and their frequencies (J, 2)."""
        teff, logg = self._frequencies(0, _MOST[0]), self._frequencies(1, _MOST[1])
        i, j = (a.ravel() for a in np.meshgrid(np.arange(teff.size), np.arange(logg.size), indexing="ij"))
        radius = (teff[i] * SHORTEST_SCALE[0]) ** 2 + (logg[j] * SHORTEST_SCALE[1]) ** 2
        inside = (radius <= self.cut**2) | ((i < _INTERACTION_FUNCTIONS) & (j < _INTERACTION_FUNCTIONS))
        i, j = i[inside], j[inside]
        return np.stack([i, j], axis=1), np.stack([teff[i], logg[j]], axis=1)

    @cached_property
    def _interaction(self) -> NDArray[np.intp]:
        """Which surface functions are multiplied by fe_h."""
        return np.flatnonzero(np.all(self._surface[0] < _INTERACTION_FUNCTIONS, axis=1))

    @property
    def slices(self) -> dict[str, slice]:
        """Where each group of functions stands among the columns."""
        sizes = {
            "constant": 1,
            "linear": 3,
            "surface": len(self._surface[0]),
            "metallicity": self._frequencies(2, _MOST[2]).size,
            "interaction": self._interaction.size,
        }
        edges = np.cumsum([0, *sizes.values()])
        return {name: slice(int(a), int(b)) for name, a, b in zip(sizes, edges[:-1], edges[1:], strict=True)}

    @cached_property
    def size(self) -> int:
        """Number of functions, K."""
        return self.slices["interaction"].stop

    def functions(self, points: Floats, *, beyond_walls: bool = False) -> Floats:
        """Evaluate the functions.

        Parameters
        ----------
        points : (N, 3) array
            teff [K], logg, fe_h [dex].
        beyond_walls : bool
            Go on smoothly outside the box instead of keeping the value at its wall: for cells that the wall
            cuts in two.

        Returns
        -------
        (N, K) array
            NaN in the rows of stars with a missing coordinate.
        """
        half = np.asarray(self.half_width)
        offset = points - np.asarray(self.center)
        if not beyond_walls:
            offset = np.clip(offset, -half, half)
        relative, scaled = offset / half, offset / COORDINATE_UNIT
        sines = []
        for axis, most in enumerate(_MOST):
            frequency = self._frequencies(axis, most)
            phase = (scaled[:, axis, None] + self._wall[axis]) * frequency
            sines.append(np.sin(phase) / np.sqrt(self._wall[axis]))
        pairs = self._surface[0]
        where = self.slices
        values = np.empty((len(points), self.size))
        values[:, 0] = 1.0
        values[:, where["linear"]] = relative
        surface = values[:, where["surface"]]
        np.multiply(sines[0][:, pairs[:, 0]], sines[1][:, pairs[:, 1]], out=surface)
        values[:, where["metallicity"]] = sines[2]
        values[:, where["interaction"]] = surface[:, self._interaction] * relative[:, 2:]
        values[~np.all(np.isfinite(points), axis=1)] = np.nan
        return values

    def prior(self, smoothness: Smoothness) -> tuple[Floats, Floats]:
        """Prior variances of the coefficients, and their derivatives.

        Parameters
        ----------
        smoothness : Smoothness
            Amplitudes and length scales.

        Returns
        -------
        variance : (K,) array
            Prior variance of each coefficient, in label units squared.
        gradient : (K, 6) array
            Derivative of the logarithm of `variance` by the logarithm of each field of `smoothness`.
        """
        where = self.slices
        frequency = self._surface[1]
        log_variance = np.zeros(self.size)
        gradient = np.zeros((self.size, len(SMOOTHNESS_FIELDS)))
        log_variance[where["constant"]] = 2 * np.log(CONSTANT_SIGMA)
        log_variance[where["linear"]] = 2 * np.log(smoothness.linear)
        gradient[where["linear"], 0] = 2.0
        scale = np.array([smoothness.scale_teff, smoothness.scale_logg])
        damping = (frequency * scale) ** 2
        beyond = 1 + damping.sum(axis=1) / (2 * _ROUGHNESS)
        log_variance[where["surface"]] = (
            2 * np.log(smoothness.surface)
            + np.log(2 * np.pi)
            + np.log(scale).sum()
            - (_ROUGHNESS + 1) * np.log(beyond)
        )
        gradient[where["surface"], 1] = 2.0
        gradient[where["surface"], 2:4] = 1 - (_ROUGHNESS + 1) / _ROUGHNESS * damping / beyond[:, None]
        metallicity = (self._frequencies(2, _MOST[2]) * _METALLICITY_SCALE) ** 2
        log_variance[where["metallicity"]] = (
            2 * np.log(smoothness.metallicity)
            + 0.5 * np.log(2 * np.pi)
            + np.log(_METALLICITY_SCALE)
            - 0.5 * metallicity
        )
        gradient[where["metallicity"], 4] = 2.0
        slow = (frequency[self._interaction] * _INTERACTION_SCALE) ** 2
        log_variance[where["interaction"]] = (
            2 * np.log(smoothness.interaction)
            + np.log(2 * np.pi)
            + np.log(_INTERACTION_SCALE).sum()
            - 0.5 * slow.sum(axis=1)
        )
        gradient[where["interaction"], 5] = 2.0
        return np.exp(np.maximum(log_variance, -60.0)), gradient

    def slopes(self, points: Floats) -> Floats:
        """(N, 3, K) derivatives of the functions by teff, logg and fe_h, from steps of a tenth of a unit.

        Parameters
        ----------
        points : (N, 3) array
            teff [K], logg, fe_h [dex].
        """
        steps = np.diag(0.05 * COORDINATE_UNIT)
        differences = [self.functions(points + step) - self.functions(points - step) for step in steps]
        return np.stack(differences, axis=1) / (0.1 * COORDINATE_UNIT)[:, None]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; floats survive exactly.  Says all that another language needs to evaluate it."""
        return {
            "kind": "laplace-sines-1",
            "coordinates": list(COORDINATES),
            "center": list(self.center),
            "half_width": list(self.half_width),
            "cut": self.cut,
            "unit": COORDINATE_UNIT.tolist(),
            "wall": self._wall.tolist(),
            "frequencies": [self._frequencies(axis, most).tolist() for axis, most in enumerate(_MOST)],
            "surface": self._surface[0].tolist(),
            "interaction": self._interaction.tolist(),
            "size": self.size,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> SmoothBasis:
        """Inverse of `to_dict`.

        Raises
        ------
        InputError
            If the basis is of a kind this version does not know.
        """
        if document.get("kind") != "laplace-sines-1":
            raise InputError(
                f"unknown calibration basis '{document.get('kind')}': it was made by another version of "
                "phdl-catalog; solve again with `phdl calibrate`"
            )
        basis = cls(
            tuple(document["center"]), tuple(document["half_width"]), document.get("cut", _FORMER_CUT)
        )
        if basis.size != document["size"]:
            raise InputError(f"the stored basis has {document['size']} functions, this version {basis.size}")
        return basis
