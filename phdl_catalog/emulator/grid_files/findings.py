"""What is wrong with a grid, collected: a person who must mend a file wants to hear it all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.emulator.grid_files.format import DOCUMENT
from phdl_catalog.errors import GridError

_SHOWN = 5


def first_of(numbers: Sequence[int] | NDArray[np.integer], what: str = "row") -> str:
    """``row 3`` or ``rows 3, 7, 8, 9, 12 and 40 more``."""
    shown = ", ".join(str(int(number)) for number in numbers[:_SHOWN])
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return f"{what}{'s' if len(numbers) > 1 else ''} {shown}{more}"


@dataclass
class Findings:
    """Problems, for which a grid is refused, and remarks, which its owner should know.

    Parameters
    ----------
    name : str
        Name of the file.
    """

    name: str
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def require(self, condition: bool, problem: str) -> bool:
        """Note a problem if `condition` is false; returns the condition."""
        if not condition:
            self.problems.append(problem)
        return bool(condition)

    def raise_problems(self) -> None:
        """Refuse the grid if there is any problem.

        Raises
        ------
        GridError
            With every problem, and with the list of them as its attribute ``problems``.
        """
        if not self.problems:
            return
        if len(self.problems) == 1:
            text = f"{self.name} is not a valid grid: {self.problems[0]}; see {DOCUMENT}"
        else:
            listed = "".join(f"\n  {number}. {text}" for number, text in enumerate(self.problems, 1))
            text = (
                f"{self.name} is not a valid grid, for {len(self.problems)} reasons:{listed}\nsee {DOCUMENT}"
            )
        raise GridError(text, problems=tuple(self.problems))
