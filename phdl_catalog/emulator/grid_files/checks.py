"""What a grid must fulfil: checks of its arrays, each noting all that it finds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.emulator.grid_files.findings import Findings, first_of
from phdl_catalog.emulator.grid_files.format import FLUX_RANGE, LOWEST_MAXIMUM, REQUIRED_LABELS
from phdl_catalog.emulator.grid_files.units import unit_change
from phdl_catalog.errors import InputError
from phdl_catalog.labels import Label, describe_labels
from phdl_catalog.spectra.grid import PixelGrid
from phdl_catalog.spectra.resample import degrading_operator

#: No step of a difference changes the flux by so much of the continuum; those of 50 K and 0.1 dex by 0.1.
_LARGEST_CHANGE = 0.5

_FAR_ULTRAVIOLET, _MICROWAVE = 900.0, 1e7


def check_names(findings: Findings, names: Sequence[str], declared: Sequence[Label]) -> tuple[Label, ...]:
    """Label names: known or declared, none twice, the atmosphere's among them.  Returns their meaning."""
    definitions: list[Label] = []
    for name in names:
        try:
            definitions += describe_labels([name], declared)
        except InputError as error:
            findings.require(False, f"label_names: {error}")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    findings.require(not twice, f"label_names has {', '.join(twice)} twice")
    missing = [name for name in REQUIRED_LABELS if name not in names]
    findings.require(
        not missing or len(definitions) < len(names),
        f"the label {', '.join(missing)} is missing from label_names",
    )
    unused = [label.name for label in declared if label.name not in names]
    findings.require(
        not unused, f"label_definitions declares {', '.join(unused)}, which label_names does not have"
    )
    return tuple(definitions)


def check_units(findings: Findings, units: Sequence[str], definitions: Sequence[Label]) -> None:
    """Units that a file states, label by label, must be those of the labels."""
    if not findings.require(
        len(units) == len(definitions),
        f"label_units has {len(units)} entries, label_names {len(definitions)}",
    ):
        return
    for unit, label in zip(units, definitions, strict=True):
        try:
            same = unit_change(label, unit) == (1.0, 0.0)
        except InputError as error:
            findings.remarks.append(f"label_units: {error}")
            continue
        findings.require(
            same, f"label_units: {label.name} is in '{unit}', but must be in '{label.unit}': convert it"
        )


def check_wavelength(
    findings: Findings,
    wavelength: NDArray[np.float64],
    resolution: float,
    pixels: PixelGrid,
    target_resolution: float,
) -> None:
    """Wavelengths: finite, positive, increasing, plausible; wide and fine enough to be degraded."""
    if not findings.require(
        wavelength.ndim == 1 and wavelength.size > 1,
        f"wavelength has shape {wavelength.shape}, expected (W,) with W > 1",
    ):
        return
    bad = np.flatnonzero(~np.isfinite(wavelength) | (wavelength <= 0))
    if not findings.require(
        not bad.size, f"wavelength holds values that are not finite and positive ({first_of(bad, 'pixel')})"
    ):
        return
    falling = np.flatnonzero(np.diff(wavelength) <= 0)
    if falling.size == wavelength.size - 1:
        findings.require(False, "wavelength must increase strictly, but it falls: reverse it, and the flux")
        return
    if not findings.require(
        not falling.size,
        f"wavelength must increase strictly, but does not after {first_of(falling, 'pixel')}",
    ):
        return
    if not findings.require(
        wavelength[0] > _FAR_ULTRAVIOLET and wavelength[-1] < _MICROWAVE,
        f"wavelength goes from {wavelength[0]:g} to {wavelength[-1]:g}: it must be in Angstrom, not in other "
        "units and not its logarithm",
    ):
        return
    if findings.require(
        bool(np.isfinite(resolution)) and resolution > 0,
        f"resolution must be a positive number (lambda / FWHM), not {resolution}",
    ):
        try:
            degrading_operator(wavelength, resolution, pixels.wavelength, target_resolution)
        except InputError as error:
            findings.require(False, f"the spectra cannot be brought to the survey's pixels: {error}")


def check_label_values(
    findings: Findings,
    what: str,
    labels: NDArray[np.float64],
    definitions: Sequence[Label],
    start: int = 0,
) -> bool:
    """Labels (N, L), rows `start` and following: finite, inside physical bounds.  Returns if they are."""
    finite = np.isfinite(labels)
    bad = np.flatnonzero(~finite.all(axis=1))
    good = findings.require(
        not bad.size, f"{what} holds values that are not finite ({first_of(start + bad)})"
    )
    for column, label in zip(labels.T, definitions, strict=True):
        margin = 1e-6 * (label.upper - label.lower)
        with np.errstate(invalid="ignore"):
            outside = np.flatnonzero((column < label.lower - margin) | (column > label.upper + margin))
        good &= findings.require(
            not outside.size,
            f"{what}: {label.name} must lie between {label.lower:g} and {label.upper:g} {label.unit} "
            f"({label.why}), but is {', '.join(f'{value:g}' for value in column[outside[:3]])} in "
            f"{first_of(start + outside)}",
        )
    return good


def check_families(findings: Findings, star: NDArray[np.int64], is_validation: NDArray[np.bool_]) -> None:
    """No family may be in training and in validation; there should be both."""
    shared = np.intersect1d(star[is_validation], star[~is_validation])
    findings.require(
        not shared.size,
        f"{first_of(shared, 'star')} {'are' if shared.size > 1 else 'is'} in training and in validation: "
        "split by star, never by row",
    )
    if not is_validation.any():
        findings.remarks.append("no spectrum is for validation: a model can be measured on it, not trained")
    elif is_validation.all():
        findings.remarks.append("every spectrum is for validation: no model can be trained on it")


def check_reference_families(
    findings: Findings,
    reference: NDArray[np.int64],
    reference_split: NDArray[np.bool_],
    star: NDArray[np.int64],
    is_validation: NDArray[np.bool_],
) -> None:
    """A reference star whose family is in the grid is on the side of its family."""
    across = np.intersect1d(reference[reference_split], star[~is_validation]).tolist()
    across += np.intersect1d(reference[~reference_split], star[is_validation]).tolist()
    findings.require(
        not across,
        f"gradients/split disagrees with split for {first_of(across, 'star')}: give a family one side",
    )


def check_duplicates(
    findings: Findings, labels: NDArray[np.float64], is_validation: NDArray[np.bool_], strict: bool
) -> None:
    """Rows with the same labels: refused across the splits, and within one if `strict`."""
    _, first, group = np.unique(labels, axis=0, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[group] != np.arange(len(labels)))
    if not again.size:
        return
    pairs = [f"{first[group[row]]} and {row}" for row in again[:5]]
    more = f" and {again.size - 5} more" if again.size > 5 else ""
    told = f"{', '.join(pairs)}{more}"
    across = again[is_validation[again] != is_validation[first[group[again]]]]
    if across.size:
        findings.require(
            False, f"rows with the same labels are in training and in validation (rows {told}): remove one"
        )
        return
    text = f"rows have the same labels (rows {told}): remove one, or add the label that tells them apart"
    if strict:
        findings.require(False, text)
    else:
        findings.remarks.append(text)


def check_constant_labels(
    findings: Findings, labels: NDArray[np.float64], definitions: Sequence[Label], strict: bool
) -> None:
    """A label with one value cannot be learnt: refused if `strict`."""
    if len(labels) < 2:
        return
    constant = [label for label, width in zip(definitions, np.ptp(labels, axis=0), strict=True) if width == 0]
    if not constant:
        return
    text = f"{', '.join(label.name for label in constant)} has the same value in every row: leave it out"
    if strict:
        findings.require(False, text)
    else:
        findings.remarks.append(text)


def check_steps(
    findings: Findings, step: NDArray[np.float64], labels: NDArray[np.float64], definitions: Sequence[Label]
) -> None:
    """Steps (L,) of differential spectra: positive, and no longer than what the label spans."""
    for value, column, label in zip(step, labels.T, definitions, strict=True):
        if not findings.require(
            bool(np.isfinite(value) and value > 0),
            f"gradients/step must be positive, but that of {label.name} is {value:g}",
        ):
            continue
        spans = float(np.ptp(column)) if len(column) > 1 else 0.0
        limit = spans if spans > 0 else label.upper - label.lower
        findings.require(
            value <= limit,
            f"gradients/step of {label.name} is {value:g} {label.unit}, more than the {limit:g} that the "
            "grid spans: is it in the label's unit?",
        )


class FluxCheck:
    """Checks spectra as they pass: finite, normalised, not empty.

    Parameters
    ----------
    what : str
        Name of the data set, for messages.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._rows: dict[str, list[int]] = {"not finite": [], "outside": [], "empty": []}
        self._lowest, self._highest = np.inf, -np.inf

    def add(self, start: int, stored: NDArray[np.number], scale: float = 1.0) -> None:
        """Look at rows `start` and following: (n, W), flux over continuum is `stored` times `scale`."""
        # A row that is not finite somewhere has such a smallest or largest value.
        lowest, highest = stored.min(axis=1) * scale, stored.max(axis=1) * scale
        finite = np.isfinite(lowest) & np.isfinite(highest)
        self._rows["not finite"] += (start + np.flatnonzero(~finite)).tolist()
        numbers, lowest, highest = start + np.flatnonzero(finite), lowest[finite], highest[finite]
        self._rows["outside"] += numbers[(lowest < FLUX_RANGE[0]) | (highest > FLUX_RANGE[1])].tolist()
        self._rows["empty"] += numbers[highest < LOWEST_MAXIMUM].tolist()
        self._lowest = min(self._lowest, float(lowest.min(initial=np.inf)))
        self._highest = max(self._highest, float(highest.max(initial=-np.inf)))

    def report(self, findings: Findings) -> None:
        """Note what was found in all rows."""
        bad = self._rows["not finite"]
        findings.require(not bad, f"{self._what} holds values that are not finite ({first_of(bad)})")
        bad = self._rows["outside"]
        findings.require(
            not bad,
            f"{self._what}: normalised flux must lie between 0 and 2, found {self._lowest:.4g} to "
            f"{self._highest:.4g} ({first_of(bad)}): divide by the continuum, or set the attribute 'scale' "
            "if integers are stored",
        )
        bad = self._rows["empty"]
        findings.require(
            not bad,
            f"{self._what} never rises above {LOWEST_MAXIMUM} in {first_of(bad)}: an empty spectrum, or one "
            "that is not normalised",
        )


class GradientCheck:
    """Checks differential spectra as they pass: finite, and of a size that a step can make.

    Parameters
    ----------
    definitions : (L,) sequence of Label
    step : (L,) float64
    """

    def __init__(self, definitions: Sequence[Label], step: NDArray[np.float64]) -> None:
        self._definitions, self._step = definitions, step
        self._not_finite: list[int] = []
        self._largest = np.zeros(len(step))

    def add(self, star: int, gradient: NDArray[np.floating]) -> None:
        """Look at one reference star: gradient (L, W) per label unit."""
        largest = np.abs(gradient).max(axis=1)
        if np.isfinite(largest).all():
            self._largest = np.maximum(self._largest, largest)
        else:
            self._not_finite.append(star)

    def report(self, findings: Findings) -> None:
        """Note what was found in all stars."""
        findings.require(
            not self._not_finite,
            f"gradients/gradient holds values that are not finite ({first_of(self._not_finite, 'star')})",
        )
        for label, change in zip(self._definitions, self._largest * self._step, strict=True):
            hint = (
                "is the attribute 'teff_scale' missing?" if label.name == "teff" else "is it per label unit?"
            )
            findings.require(
                change <= _LARGEST_CHANGE,
                f"gradients/gradient by {label.name}, times its step, changes the flux by {change:.2g} of "
                f"the continuum, more than any star's: {hint}",
            )
        flat = [label.name for label, n in zip(self._definitions, self._largest, strict=True) if n == 0]
        if flat and not self._not_finite:
            findings.remarks.append(f"the gradient by {', '.join(flat)} is zero in every star")
