"""Zero-points from wide binaries and high-resolution stars: arrays in, a solution out."""

from phdl_catalog.calibration.report import CalibrationReport, Constraint, LabelReport, Scatter
from phdl_catalog.calibration.solution import CalibrationSolution
from phdl_catalog.calibration.solve import calibrate

__all__ = ["CalibrationReport", "CalibrationSolution", "Constraint", "LabelReport", "Scatter", "calibrate"]
