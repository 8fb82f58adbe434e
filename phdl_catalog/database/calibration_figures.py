"""The figures of a stored set: which there are, and drawing one of them to a file or to memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import Connection

from phdl_catalog.calibration import CalibrationSolution
from phdl_catalog.calibration.error_figure import draw_errors
from phdl_catalog.calibration.figures import CalibratorStars, draw_label, draw_overview, symbol
from phdl_catalog.database.calibration_members import calibrator_stars, read_equations
from phdl_catalog.database.calibration_sets import CalibrationSetRow, find_set, load_solution
from phdl_catalog.errors import InputError

#: Scatter of all labels before and after; errors of all labels from repeats, against S/N.
OVERVIEW, ERRORS = "overview", "errors"


class SetFigures:
    """The figures of one set: two of all labels, and one of each label that is calibrated.

    Parameters
    ----------
    connection : Connection
        Database; must stay open while figures are drawn.
    name : str
        Name of the set.

    Raises
    ------
    NotFoundError
        If there is no such set.
    """

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self.row: CalibrationSetRow = find_set(connection, name)
        self.solution: CalibrationSolution = load_solution(connection, name)

    def names(self, labels: Sequence[str] = ()) -> list[str]:
        """Names of the figures: ``overview``, ``errors``, and the labels asked for, or all calibrated ones.

        Raises
        ------
        InputError
            If the set has no such label.
        """
        known = self.solution.label_names
        if unknown := [label for label in labels if label not in known]:
            raise InputError(f"set '{self.row.name}' has no label '{unknown[0]}'; it has {', '.join(known)}")
        return [OVERVIEW, ERRORS, *(labels or calibrated_labels(self.solution))]

    def draw(self, name: str, output: Path | BinaryIO) -> None:
        """Draw one of them.

        Parameters
        ----------
        name : str
            One of `names`.
        output : Path or binary file
            Where to; the suffix of a path decides the format, a file gets PNG.
        """
        row, solution = self.row, self.solution
        title = f"calibration set {row.name} of model {row.model}"
        if name == OVERVIEW:
            draw_overview(solution.report(), output, title)
        elif name == ERRORS:
            draw_errors([entry.error_scale for entry in solution.corrections], output, title)
        else:
            pairs, references = (
                read_equations(self._connection, row, name, kind) for kind in ("pair", "reference")
            )
            draw_label(solution, name, pairs, references, self._stars, output, f"{symbol(name)}: {title}")

    @cached_property
    def _stars(self) -> CalibratorStars:
        return calibrator_stars(self._connection, self.row)


def calibrated_labels(solution: CalibrationSolution) -> list[str]:
    """The labels that have a correction."""
    return [entry.label for entry in solution.corrections if entry.calibrated]
