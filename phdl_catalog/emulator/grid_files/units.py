"""Units of labels: from what somebody's file has to the label's own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.errors import InputError
from phdl_catalog.labels import Label


def unit_change(label: Label, unit: str) -> tuple[float, float]:
    """Factor and zero point: a value in `unit`, times the one, plus the other, is in the label's unit.

    Raises
    ------
    InputError
        If the unit is not known, or of another kind than the label's.
    """
    if unit == label.unit:
        return 1.0, 0.0
    from astropy import units

    try:
        zero, one = units.Unit(unit).to(units.Unit(label.unit), np.array([0.0, 1.0]))
    except (ValueError, TypeError) as error:  # astropy's unit errors are ValueErrors
        raise InputError(
            f"{label.name} cannot be converted from '{unit}' to '{label.unit}': {error}"
        ) from error
    return float(one - zero), float(zero)


class LabelConversion:
    """From a label as a source has it to the label's own unit.

    Parameters
    ----------
    label : Label
    unit : str, optional
        Unit in the source; the label's own by default.
    log10 : bool
        The source has the decimal logarithm.

    Raises
    ------
    InputError
        If the units cannot be converted.
    """

    def __init__(self, label: Label, unit: str | None = None, log10: bool = False) -> None:
        self.label, self.log10 = label, log10
        self.factor, self._zero = (1.0, 0.0) if unit is None else unit_change(label, unit)

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) values of the source -> (N,) in the label's unit."""
        with np.errstate(over="ignore"):
            plain = 10.0**values if self.log10 else values
        return np.asarray(plain * self.factor + self._zero)
