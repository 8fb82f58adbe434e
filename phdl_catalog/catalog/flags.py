"""The bits of the published flag columns: those of the fit, and those a calibration adds."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from phdl_catalog.fitting.flags import FitFlag, LabelFlag, flag_names

#: What a flag column is about: the fit as a whole, or one label.
BitKind = Literal["fit", "label"]


class CalibrationFlag(enum.IntFlag):
    """What a calibration has to say about one label; in the same column as `LabelFlag`, from bit 24 up."""

    OUTSIDE_CALIBRATION = 1 << 24
    """Corrected, but outside the range the calibrators span, or no reference fixes the zero point."""

    NOT_CALIBRATED = 1 << 25
    """No correction was applied: the release has no calibration, or its set has none for this label."""


#: What every bit means, for a person; the same words in the database, in SQL comments and in the docs.
_FIT_MEANINGS = {
    FitFlag.NO_DATA: "Too few usable pixels to fit anything; the row has no labels",
    FitFlag.FAILED: "The data are not those of a spectrum; the row has no labels",
    FitFlag.NOT_CONVERGED: "The last step of the optimiser was larger than its tolerance",
    FitFlag.BAD_VELOCITY: "No unique peak in the cross-correlation, or the velocity is far from it or uncertain",
    FitFlag.OUTSIDE_GRID: "Outside the region the model was trained on: an extrapolation",
    FitFlag.POOR_FIT: "The residuals are far larger than the noise explains: compare with care",
    FitFlag.LOW_SNR: "The signal-to-noise ratio of the pixels is under the limit of the fit",
    FitFlag.AT_BOUND: "teff, logg or fe_h is at a bound of the fit",
    FitFlag.MOSTLY_MASKED: "Less than half of the model's pixels were usable",
    FitFlag.AMBIGUOUS: "A second, clearly different solution fits about as well",
}
_LABEL_MEANINGS = {
    LabelFlag.AT_BOUND: "At a bound of the fit: a limit, not a measurement",
    LabelFlag.OUTSIDE_GRID: "Outside the range of the training grid, or the fit as a whole is",
    LabelFlag.UNCONSTRAINED: "The spectrum says nothing about it: the value is NULL, the raw one is kept",
    LabelFlag.NO_FIT: "There is no value, because the fit has none",
}
_CALIBRATION_MEANINGS = {
    CalibrationFlag.OUTSIDE_CALIBRATION: "Corrected, but outside the range the calibrators span, or no "
    "reference fixes the zero point",
    CalibrationFlag.NOT_CALIBRATED: "No correction was applied: the release is not calibrated, or its set has "
    "no correction of this label",
}


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


def _bits(members: type[enum.IntFlag], meanings: Mapping[Any, str]) -> tuple[PublishedBit, ...]:
    return tuple(PublishedBit(int(bit), str(bit.name).lower(), meanings[bit]) for bit in members)


def published_bits(kind: BitKind) -> tuple[PublishedBit, ...]:
    """All bits of a kind of flag column, lowest first."""
    if kind == "fit":
        return _bits(FitFlag, _FIT_MEANINGS)
    return _bits(LabelFlag, _LABEL_MEANINGS) + _bits(CalibrationFlag, _CALIBRATION_MEANINGS)


def label_flag_names(value: int) -> list[str]:
    """Names of the bits of a published label flag, those of the fit before those of the calibration."""
    return [*flag_names(value, LabelFlag), *flag_names(value, CalibrationFlag)]
