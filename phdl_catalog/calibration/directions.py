"""What calibrators cannot see: a constant, and changes along directions that no equation spans.

A direction is the mean correction of one group of calibrator stars minus that of another: hot dwarfs minus
cool ones, subgiants minus dwarfs, metal-rich minus metal-poor.  It is seen where the equations make its
uncertainty less than half of what it was before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.calibration.basis import SmoothBasis
from phdl_catalog.calibration.calibrators import Calibrators, Use
from phdl_catalog.calibration.inference import PAIR, Equations
from phdl_catalog.calibration.joint import JointSolution
from phdl_catalog.calibration.problem import LabelProblem
from phdl_catalog.calibration.resampling import information

Floats = NDArray[np.float64]

#: Lower limits of logg of the populations.
POPULATIONS = {"dwarfs": 4.1, "subgiants": 3.2, "giants": -np.inf}

#: Stars a group must have, on each side.
_LEAST_STARS = 3

#: A direction whose uncertainty shrinks by less than this factor is not seen.
_SEEN = 0.5


@dataclass(frozen=True)
class Unseen:
    """Names of the directions that pairs alone, and that all calibrators, cannot see."""

    by_pairs: tuple[str, ...]
    by_all: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Directions:
    """Contrasts between groups of calibrator stars.

    Parameters
    ----------
    names : tuple of str
        ``constant``, ``teff of dwarfs``, ``subgiants against dwarfs``, ``fe_h``, ...
    contrasts : (D, K) array
        Of the functions of the basis.
    """

    names: tuple[str, ...]
    contrasts: Floats

    @classmethod
    def of(cls, calibrators: Calibrators, basis: SmoothBasis) -> Directions:
        """The directions among the stars of a set of calibrators, used or held out."""
        pairs = np.isin(calibrators.pair_use, (Use.USED, Use.HELD_OUT))
        references = np.isin(calibrators.reference_use, (Use.USED, Use.HELD_OUT))
        stars = np.unique(np.r_[calibrators.pairs[pairs].ravel(), calibrators.reference_rows[references]])
        points = calibrators.coordinates[stars]
        functions = basis.functions(points)
        teff, logg, fe_h = points.T
        found = {"constant": functions.mean(axis=0)}

        def add(name: str, one: NDArray[np.bool_], other: NDArray[np.bool_]) -> None:
            if min(np.count_nonzero(one), np.count_nonzero(other)) >= _LEAST_STARS:
                found[name] = functions[one].mean(axis=0) - functions[other].mean(axis=0)

        upper, members, before = np.inf, {}, ""
        for name, lower in POPULATIONS.items():
            inside = members[name] = (logg >= lower) & (logg < upper)
            upper = lower
            if inside.any():
                middle = np.median(teff[inside])
                add(f"teff of {name}", inside & (teff > middle), inside & (teff <= middle))
                if before:
                    add(f"{name} against {before}", inside, members[before])
                before = name
        add("fe_h", fe_h > np.median(fe_h), fe_h <= np.median(fe_h))
        return cls(tuple(found), np.stack(list(found.values())))

    def unseen(self, state: JointSolution, problem: LabelProblem) -> Unseen:
        """Which directions the equations of a label do not see."""
        size = state.basis.size
        variance, _ = state.basis.prior(problem.scales.smoothness)
        before = np.square(self.contrasts) @ variance
        everything = problem.posterior.covariance[:size, :size]
        pairs = problem.kind == PAIR
        equations = problem.equations
        only = Equations(
            equations.design[pairs, :size],
            equations.y[pairs],
            equations.variance[pairs],
            equations.kind[pairs],
        )
        by_pairs = information(only, problem.posterior.precision[pairs], variance)
        return Unseen(self._not_seen(by_pairs, before), self._not_seen(everything, before))

    def _not_seen(self, covariance: Floats, before: Floats) -> tuple[str, ...]:
        after = np.einsum("dk,kl,dl->d", self.contrasts, covariance, self.contrasts, optimize=True)
        lost = after > _SEEN**2 * before
        return tuple(name for name, blind in zip(self.names, lost.tolist(), strict=True) if blind)
