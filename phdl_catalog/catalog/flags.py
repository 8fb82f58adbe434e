"""The bits of the published flag columns: those of the fit, and those a calibration adds."""

from __future__ import annotations

import ast
import enum
import inspect
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal

from phdl_catalog.fitting.flags import FitFlag, LabelFlag, flag_names

#: What a flag column is about: the fit as a whole, or one label.
BitKind = Literal["fit", "label"]


class CalibrationFlag(enum.IntFlag):
    """What a calibration has to say about one label; in the same column as `LabelFlag`, from bit 24 up."""

    OUTSIDE_CALIBRATION = 1 << 24
    """Corrected, but outside the range the calibrators span, or no reference fixes the zero point."""

    NOT_CALIBRATED = 1 << 25
    """No correction was applied: the release is not calibrated, or its set has none for this label."""


@dataclass(frozen=True)
class PublishedBit:
    """One bit of a flag column.

    Parameters
    ----------
    value : int
        The bit as a number, a power of two.
    name : str
        Lower-case name.
    meaning : str
        What a set bit means, for a person.
    """

    value: int
    name: str
    meaning: str

    @property
    def number(self) -> int:
        """Number of the bit, from 0."""
        return self.value.bit_length() - 1


@cache
def _meanings(kind: type[enum.IntFlag]) -> dict[str, str]:
    """The text under each member of an enumeration in its source, the one place where a bit is explained."""
    (definition,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(definition, ast.ClassDef)
    meanings = {}
    for member, below in pairwise(definition.body):
        if (
            isinstance(member, ast.Assign)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            (name,) = member.targets
            meanings[ast.unparse(name)] = (
                " ".join(str(below.value.value).split()).rstrip(".").replace("`", "")
            )
    return meanings


def _bits(kind: type[enum.IntFlag]) -> tuple[PublishedBit, ...]:
    return tuple(
        PublishedBit(int(bit), str(bit.name).lower(), _meanings(kind)[str(bit.name)]) for bit in kind
    )


def published_bits(kind: BitKind) -> tuple[PublishedBit, ...]:
    """All bits of a kind of flag column, lowest first."""
    return _bits(FitFlag) if kind == "fit" else _bits(LabelFlag) + _bits(CalibrationFlag)


def label_flag_names(value: int) -> list[str]:
    """Names of the bits of a published label flag, those of the fit before those of the calibration."""
    return [*flag_names(value, LabelFlag), *flag_names(value, CalibrationFlag)]
