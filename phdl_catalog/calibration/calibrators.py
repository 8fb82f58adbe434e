"""The calibrators as arrays: checked shapes, and a reason for everything that cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.calibration.basis import COORDINATES
from phdl_catalog.errors import CalibrationError, InputError
from phdl_catalog.labels import LABELS

Floats = NDArray[np.float64]

#: Error of a reference label whose survey quotes none [label units]; used only if no other value of the
#: same survey and label has an error.
_DEFAULT_REFERENCE_ERROR = 0.05

#: Larger values of a label but teff are codes for a missing value: -9999, 99.99, ...
_MOST_DEX = 50.0

#: A correction of 0.1 dex of an abundance is as much as 100 K of a temperature: the unit of each label.
_UNITS = {"teff": 1000.0}


class Use(StrEnum):
    """What became of a calibrator."""

    USED = "used"
    HELD_OUT = "held_out"
    SAME_STAR = "same_star_twice"
    DUPLICATE = "duplicate"
    NO_FIT = "no_usable_fit"
    NO_VALUE = "no_common_label"


def to_array(values: Any, dtype: type = np.float64) -> NDArray[Any]:
    """Numpy array of anything array-like; torch tensors leave their device and their graph.

    Raises
    ------
    InputError
        If there is something in it that is no number.
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    if np.iscomplexobj(values):
        raise InputError("an array of real numbers is needed, not of complex ones")
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.float64), np.nan)
    try:
        return np.asarray(values, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise InputError(f"an array of numbers is needed, NaN where there is none: {error}") from error


def is_shared_by_siblings(name: str) -> bool:
    """Whether two stars born together have this label in common: abundances, not teff, logg or v_micro."""
    return name.endswith(("_fe", "_h"))


@dataclass(frozen=True)
class Calibrators:
    """Raw fits of the calibrator stars, the pairs among them, and their reference labels.

    Parameters
    ----------
    label_names : (L,) tuple of str
        Label names.
    labels, errors : (N, L) array
        Raw labels and their errors; NaN where a fit has none.
    coupling : (N, L, 3) array
        Covariance of every label with teff, logg and fe_h; 0 where it is not known.
    pairs : (M, 2) array
        Row numbers of the two stars of each wide binary.
    pair_chance : (M,) array
        Prior probability that the pair is a chance alignment; NaN if unknown.
    reference_rows : (K,) array
        Row numbers of the stars with reference labels.
    reference_labels, reference_errors : (K, L) array
        Reference labels and errors; NaN where there is none.
    survey_names : (S,) tuple of str
        Surveys, in order of first appearance.
    survey : (K,) array
        Number of the survey of each reference.
    pair_use, reference_use : (M,) and (K,) array of `Use`
        What can be used; `Use.USED` or the reason why not.
    """

    label_names: tuple[str, ...]
    labels: Floats
    errors: Floats
    coupling: Floats
    pairs: NDArray[np.int64]
    pair_chance: Floats
    reference_rows: NDArray[np.int64]
    reference_labels: Floats
    reference_errors: Floats
    survey_names: tuple[str, ...]
    survey: NDArray[np.int64]
    pair_use: NDArray[np.object_]
    reference_use: NDArray[np.object_]

    @property
    def coordinates(self) -> Floats:
        """(N, 3) raw teff, logg, fe_h."""
        return self.labels[:, [self.label_names.index(name) for name in COORDINATES]]

    @property
    def coordinate_errors(self) -> Floats:
        """(N, 3) errors of raw teff, logg, fe_h."""
        return self.errors[:, [self.label_names.index(name) for name in COORDINATES]]

    @property
    def units(self) -> Floats:
        """(L,) size of a typical correction times ten, in label units: 1 dex, 1000 K."""
        return np.array([_UNITS.get(name, 1.0) for name in self.label_names])


def check_calibrators(
    label_names: Sequence[str],
    labels: Any,
    errors: Any,
    pairs: Any,
    reference_rows: Any,
    reference_labels: Any,
    reference_errors: Any,
    surveys: Any,
    pair_chance: Any,
    coordinate_covariance: Any = None,
) -> Calibrators:
    """Check every shape and sort out what cannot be used.

    Raises
    ------
    InputError
        If shapes do not agree, row numbers point nowhere, or a coordinate label is missing.
    CalibrationError
        If there is neither a pair nor a reference.
    """
    names = tuple(str(name) for name in label_names)
    missing = [name for name in COORDINATES if name not in names]
    if missing:
        raise InputError(
            f"label_names must contain {', '.join(COORDINATES)}, on which corrections depend; "
            f"{', '.join(missing)} is not among them"
        )
    if len(set(names)) != len(names):
        raise InputError("label_names contains a name twice")
    raw = to_array(labels)
    if raw.ndim != 2 or raw.shape[1] != len(names):
        raise InputError(
            f"labels must have shape (N, {len(names)}) for {len(names)} label names, not {raw.shape}"
        )
    raw_errors = to_array(errors)
    _same_shape("errors", raw_errors, "labels", raw)
    usable = _possible(names, raw) & np.isfinite(raw_errors) & (raw_errors > 0)
    raw, raw_errors = np.where(usable, raw, np.nan), np.where(usable, raw_errors, np.nan)

    coupling = _coupling(coordinate_covariance, raw)

    pair_rows = row_numbers("pairs", pairs, 2, len(raw))
    chance = np.full(len(pair_rows), np.nan) if pair_chance is None else to_array(pair_chance)
    if chance.shape != (len(pair_rows),):
        raise InputError(f"pair_chance must have shape ({len(pair_rows)},) like pairs, not {chance.shape}")
    rows = row_numbers("reference_rows", reference_rows, 1, len(raw))
    if len(rows) and reference_labels is None:
        raise InputError(f"reference_rows has shape {rows.shape} but reference_labels is missing")
    values = np.empty((0, len(names))) if reference_labels is None else to_array(reference_labels)
    if not len(rows) and not values.size:
        values, reference_errors = np.empty((0, len(names))), None
    if values.shape != (len(rows), len(names)):
        raise InputError(
            f"reference_labels must have shape ({len(rows)}, {len(names)}), one row for each of "
            f"reference_rows and one column for each label, not {values.shape}"
        )
    value_errors = np.full_like(values, np.nan) if reference_errors is None else to_array(reference_errors)
    _same_shape("reference_errors", value_errors, "reference_labels", values)
    survey_list = ["reference"] * len(rows) if surveys is None else [_text(name) for name in surveys]
    if len(survey_list) != len(rows):
        raise InputError(
            f"surveys must have shape ({len(rows)},) like reference_rows, not ({len(survey_list)},)"
        )
    survey_names = tuple(dict.fromkeys(survey_list))
    survey = np.array([survey_names.index(name) for name in survey_list], dtype=np.int64)
    if not len(pair_rows) and not len(rows):
        raise CalibrationError(
            "there is no wide binary and no reference star: nothing constrains a correction; "
            "import some with `phdl pairs import` or `phdl references import`"
        )
    values = np.where(_possible(names, values), values, np.nan)
    value_errors = _fill_reference_errors(names, values, value_errors, survey)
    draft = Calibrators(
        names, raw, raw_errors, coupling, pair_rows, chance, rows, values, value_errors, survey_names, survey,
        np.full(len(pair_rows), Use.USED, dtype=object), np.full(len(rows), Use.USED, dtype=object),
    )  # fmt: skip
    _mark_pairs(draft)
    _mark_references(draft)
    return draft


def _possible(names: tuple[str, ...], values: Floats) -> NDArray[np.bool_]:
    """(n, L) values that are numbers and no codes for missing ones; coordinates inside physical bounds."""
    possible = np.isfinite(values)
    for column, name in enumerate(names):
        known = values[:, column]
        with np.errstate(invalid="ignore"):
            if name in COORDINATES:
                # One fit gone astray must not stretch the box of all.
                possible[:, column] &= (known >= LABELS[name].lower) & (known <= LABELS[name].upper)
            else:
                possible[:, column] &= np.abs(known) < _MOST_DEX
    return possible


def _text(name: Any) -> str:
    """A survey's name; FITS gives bytes."""
    return name.decode() if isinstance(name, bytes) else str(name)


def _same_shape(name: str, array: Floats, other_name: str, other: Floats) -> None:
    if array.shape != other.shape:
        raise InputError(f"{name} must have the shape of {other_name}, {other.shape}, not {array.shape}")


def _coupling(covariance: Any, raw: Floats) -> Floats:
    if covariance is None:
        return np.zeros((*raw.shape, len(COORDINATES)))
    given = to_array(covariance)
    if given.shape != (*raw.shape, len(COORDINATES)):
        raise InputError(
            f"coordinate_covariance must have shape {(*raw.shape, len(COORDINATES))}, the covariance of "
            f"every label with {', '.join(COORDINATES)}, not {given.shape}"
        )
    return np.nan_to_num(given, nan=0.0, posinf=0.0, neginf=0.0)


def row_numbers(name: str, rows: Any, width: int, count: int) -> NDArray[np.int64]:
    """(k,) or (k, 2) row numbers, checked; none of them for None.

    Raises
    ------
    InputError
        If they have another shape, are no integers, or point nowhere.
    """
    shape = "(M, 2)" if width == 2 else "(K,)"
    if rows is None:
        return np.empty((0, 2) if width == 2 else 0, dtype=np.int64)
    try:
        given = np.asarray(rows.detach().cpu().numpy() if hasattr(rows, "detach") else rows)
    except ValueError as error:
        raise InputError(f"{name} must have shape {shape}: {error}") from error
    if not given.size:
        return np.empty((0, 2) if width == 2 else 0, dtype=np.int64)
    if given.ndim != width or (width == 2 and given.shape[1] != 2):
        raise InputError(f"{name} must have shape {shape}, not {given.shape}")
    if given.dtype == object and all(isinstance(row, (int, np.integer)) for row in given.ravel().tolist()):
        # A column of a table with missing values elsewhere: integers all the same.
        given = given.astype(np.int64)
    if not np.issubdtype(given.dtype, np.integer):
        raise InputError(f"{name} must be row numbers (integers), not {given.dtype}")
    if given.min() < 0 or given.max() >= count:
        raise InputError(
            f"{name} must be row numbers between 0 and {count - 1} for labels of {count} rows; "
            f"found {given.min()} to {given.max()}"
        )
    return given.astype(np.int64)


def _fill_reference_errors(
    names: tuple[str, ...], values: Floats, errors: Floats, survey: NDArray[np.int64]
) -> Floats:
    """Reference values without a positive error get the median error of their survey and label."""
    good = np.isfinite(values) & np.isfinite(errors) & (errors > 0)
    filled = np.where(good, errors, np.nan)
    for column, name in enumerate(names):
        for number in np.unique(survey):
            chosen = survey == number
            known = filled[chosen & good[:, column], column]
            fallback = np.median(known) if known.size else _DEFAULT_REFERENCE_ERROR * _UNITS.get(name, 1.0)
            empty = chosen & ~good[:, column] & np.isfinite(values[:, column])
            filled[empty, column] = fallback
    return filled


def _mark_pairs(calibrators: Calibrators) -> None:
    use, pairs = calibrators.pair_use, calibrators.pairs
    located = np.all(np.isfinite(calibrators.coordinates), axis=1)
    shared = [i for i, name in enumerate(calibrators.label_names) if is_shared_by_siblings(name)]
    both = np.isfinite(calibrators.labels[pairs[:, 0]]) & np.isfinite(calibrators.labels[pairs[:, 1]])
    seen: set[tuple[int, int]] = set()
    for number, (first, second) in enumerate(pairs.tolist()):
        key = (min(first, second), max(first, second))
        if first == second:
            use[number] = Use.SAME_STAR
        elif key in seen:
            use[number] = Use.DUPLICATE
        elif not (located[first] and located[second]):
            use[number] = Use.NO_FIT
        elif not both[number, shared].any():
            use[number] = Use.NO_VALUE
        seen.add(key)


def _mark_references(calibrators: Calibrators) -> None:
    use, rows = calibrators.reference_use, calibrators.reference_rows
    located = np.all(np.isfinite(calibrators.coordinates), axis=1)
    common = np.any(np.isfinite(calibrators.labels[rows]) & np.isfinite(calibrators.reference_labels), axis=1)
    seen: set[tuple[int, int]] = set()
    for number, key in enumerate(zip(rows.tolist(), calibrators.survey.tolist(), strict=True)):
        if key in seen:
            use[number] = Use.DUPLICATE
        elif not located[key[0]]:
            use[number] = Use.NO_FIT
        elif not common[number]:
            use[number] = Use.NO_VALUE
        seen.add(key)
