"""How every calibrator was used: its weight in each label, and its difference before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.calibration.calibrators import Use

Floats = NDArray[np.float64]

_NUMBERS = ("weight", "before", "after", "error")


@dataclass(frozen=True, eq=False)
class Members:
    """The pairs, or the references, of a solution.

    Parameters
    ----------
    use : (n,) array of `Use`
        Used, held out, or the reason why neither.
    weight : (n, L) array
        Probability that the calibrator is a good one in each label, by which its equation is weighted; NaN
        where it has no equation.
    before, after : (n, L) array
        Difference of the two stars, or raw label minus reference, with raw and with corrected labels; the
        survey's zero-point is taken out of both [label units].
    error : (n, L) array
        Error of that difference: those quoted, and what uncertain coordinates add [label units].
    """

    use: NDArray[np.object_]
    weight: Floats
    before: Floats
    after: Floats
    error: Floats

    @classmethod
    def empty(cls, use: NDArray[np.object_], labels: int) -> Members:
        """Members without an equation, to be filled label by label."""
        return cls(use, *(np.full((len(use), labels), np.nan) for _ in _NUMBERS))

    @property
    def held_out(self) -> NDArray[np.bool_]:
        """(n,) which are held out."""
        return np.asarray(self.use == Use.HELD_OUT, dtype=bool)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; floats survive exactly, NaN becomes None."""
        numbers = {name: _with_none(getattr(self, name)) for name in _NUMBERS}
        return {"use": [str(use) for use in self.use], **numbers}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], labels: int) -> Members:
        """Inverse of `to_dict`."""
        use = np.empty(len(document["use"]), dtype=object)
        use[:] = [Use(name) for name in document["use"]]
        return cls(use, *(_with_nan(document[name], labels) for name in _NUMBERS))


def _with_none(values: Floats) -> list[list[float | None]]:
    return [[None if value != value else value for value in row] for row in values.tolist()]


def _with_nan(rows: list[list[float | None]], width: int) -> Floats:
    return np.array(rows, dtype=np.float64).reshape(len(rows), width)
