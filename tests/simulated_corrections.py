"""A simulated survey with known corrections, solved: for the tests of calibrations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phdl_catalog.calibration import CalibrationSolution, calibrate
from phdl_catalog.calibration.simulation import SimulatedCalibrators, simulate_calibrators

LABELS = ("teff", "logg", "v_micro", "fe_h", "mg_fe", "ca_fe", "ba_fe")
TARGETS = 1500


@dataclass(frozen=True)
class Solved:
    """A simulation, its solution, and the targets, whose rows the solution never saw."""

    simulated: SimulatedCalibrators
    solution: CalibrationSolution

    @property
    def targets(self) -> np.ndarray:
        """(T, L) raw labels of the targets, without noise."""
        return (self.simulated.truth + self.simulated.injected)[-TARGETS:]

    def pulls(self) -> np.ndarray:
        """(T, L) recovered minus injected in units of the error, NaN outside the validity range."""
        difference = self.solution.correction(self.targets) - self.simulated.injected[-TARGETS:]
        return np.where(
            self.solution.valid(self.targets), difference / self.solution.error(self.targets), np.nan
        )


def solve_simulated(**options: float) -> Solved:
    """Simulate and solve."""
    simulated = simulate_calibrators(LABELS, targets=TARGETS, **options)
    stars = slice(None, -TARGETS)
    solution = calibrate(LABELS, simulated.labels[stars], simulated.errors[stars], **simulated.inputs)
    return Solved(simulated, solution)
