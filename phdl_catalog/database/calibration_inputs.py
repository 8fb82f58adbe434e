"""What a calibration of one model is made of: raw fits of calibrator stars, pairs and reference labels."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from phdl_catalog.calibration.basis import COORDINATES
from phdl_catalog.calibration.matching import (
    Observations,
    Stars,
    find_repeats,
    match_stars,
    what_was_tried,
)
from phdl_catalog.database.covariance import unpack_covariance
from phdl_catalog.database.model_versions import ModelVersionRow
from phdl_catalog.database.queries import statement
from phdl_catalog.fitting.flags import FitFlag, LabelFlag

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: A fit with one of these is not used; low S/N is a cut of its own.
REFUSED_FITS = (
    FitFlag.NO_DATA
    | FitFlag.FAILED
    | FitFlag.NOT_CONVERGED
    | FitFlag.BAD_VELOCITY
    | FitFlag.OUTSIDE_GRID
    | FitFlag.POOR_FIT
    | FitFlag.AT_BOUND
    | FitFlag.MOSTLY_MASKED
    | FitFlag.QUARANTINED
    | FitFlag.DOUBLE_LINED
)

#: A label with one of these is not used.
REFUSED_LABELS = LabelFlag.AT_BOUND | LabelFlag.OUTSIDE_GRID | LabelFlag.UNCONSTRAINED | LabelFlag.NO_FIT

#: Repeats used at most: what they tell does not get better.
MOST_REPEATS = 4_000

#: Rows fetched at a time.
_BATCH = 50_000


@dataclass(frozen=True)
class CalibratorCuts:
    """Which calibrators are used.

    Parameters
    ----------
    release : str or None
        Only spectra of this release; None: of all.
    min_snr : float
        Least S/N a pixel of a fit of a calibrator.
    min_snr_repeats : float
        The same of repeated observations, which say how right errors are at low S/N too.
    max_chance : float
        Largest chance probability of a pair (El-Badry et al. 2021 recommend 0.1).
    radius : float
        Largest distance of a match by position [arcsec].
    """

    release: str | None = None
    min_snr: float = 20.0
    min_snr_repeats: float = 10.0
    max_chance: float = 0.1
    radius: float = 3.0


@dataclass(frozen=True, eq=False)
class CalibrationInputs:
    """Arrays for `phdl_catalog.calibrate`, and the keys of the rows they are from.

    Parameters
    ----------
    label_names : (L,) tuple of str
        Labels of the model.
    spectrum_ids : (N,) int64
        Spectra whose fits are used.
    labels, errors : (N, L) arrays
        Raw labels; NaN where flagged.
    coordinate_covariance : (N, L, 3) array
        Covariance of every label with teff, logg and fe_h; 0 where it is not known.
    snr : (N,) array
        S/N of the fits; NaN where unknown.
    repeats : (R, 2) int64
        Rows of two observations of one star.
    pairs : (M, 2) int64
        Rows of the two stars.
    pair_ids : (M,) int64
        Keys of ``wide_binary``.
    pair_chance : (M,) array
        Chance probability; NaN if unknown.
    reference_rows : (K,) int64
        Rows of the reference stars.
    reference_labels, reference_errors : (K, L) arrays
        Reference labels.
    reference_ids : (K, L) int64
        Keys of ``reference_label``; -1 where there is none.
    surveys : (K,) tuple of str
        Their surveys.
    counts : dict
        Of pairs and of reference stars in the database: how many are used, and why the rest is not.
    tried : dict
        Of pairs and of reference stars, where no star of them was found: by which keys, and how near.
    """

    label_names: tuple[str, ...]
    spectrum_ids: Integers
    labels: Floats
    errors: Floats
    coordinate_covariance: Floats
    snr: Floats
    repeats: Integers
    pairs: Integers
    pair_ids: Integers
    pair_chance: Floats
    reference_rows: Integers
    reference_labels: Floats
    reference_errors: Floats
    reference_ids: Integers
    surveys: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]
    tried: Mapping[str, str] = field(default_factory=dict)

    def digest(self) -> str:
        """SHA-256 of all values: the same digest, the same solution."""
        total = hashlib.sha256()
        for array in (
            self.spectrum_ids, self.labels, self.errors, self.pairs, self.pair_chance, self.reference_rows,
            self.reference_labels, self.reference_errors, self.repeats, self.snr, self.coordinate_covariance,
        ):  # fmt: skip
            total.update(str(array.shape).encode())
            total.update(np.ascontiguousarray(array).tobytes())
        total.update("\n".join((*self.label_names, *self.surveys)).encode())
        return total.hexdigest()


def collect_inputs(connection: Connection, model: ModelVersionRow, cuts: CalibratorCuts) -> CalibrationInputs:
    """Match calibrators to spectra and read their fits.

    Parameters
    ----------
    connection : Connection
        Database.
    model : ModelVersionRow
        Whose fits.
    cuts : CalibratorCuts
        Which calibrators.
    """
    everything, all_observations = usable_observations(connection, model, cuts)
    counts: dict[str, dict[str, int]] = {}
    tried: dict[str, str] = {}
    repeats = _repeats(everything, all_observations, cuts, counts)
    good = np.flatnonzero(all_observations.snr >= cuts.min_snr)
    spectrum_ids, observations = everything[good], all_observations.taken(good)
    pair_ids, chance, pairs = _pairs(connection, observations, cuts, counts, tried)
    references = _references(connection, model.label_names, observations, cuts, counts, tried)
    calibrators = spectrum_ids[np.unique(np.r_[pairs.ravel(), references.rows]).astype(np.int64)]
    fits = read_fits(connection, model, np.union1d(calibrators, repeats.ravel()))
    pairs, rows = spectrum_ids[pairs], spectrum_ids[references.rows]
    return CalibrationInputs(
        label_names=model.label_names,
        spectrum_ids=fits.spectrum_ids,
        labels=fits.labels,
        errors=fits.errors,
        coordinate_covariance=fits.coordinate_covariance,
        snr=fits.snr,
        repeats=np.searchsorted(fits.spectrum_ids, repeats),
        pairs=np.searchsorted(fits.spectrum_ids, pairs),
        pair_ids=pair_ids,
        pair_chance=chance,
        reference_rows=np.searchsorted(fits.spectrum_ids, rows),
        reference_labels=references.values,
        reference_errors=references.errors,
        reference_ids=references.identifiers,
        surveys=references.surveys,
        counts=counts,
        tried=tried,
    )


def usable_observations(
    connection: Connection, model: ModelVersionRow, cuts: CalibratorCuts
) -> tuple[Integers, Observations]:
    parameters = {
        "model_version_id": model.model_version_id,
        "refused": int(REFUSED_FITS),
        "min_snr": min(cuts.min_snr, cuts.min_snr_repeats),
        "release": cuts.release,
    }
    ids, gaia, obsid, ra, dec, snr = _columns(connection, "usable_fits", parameters, "iiifff")
    return ids, Observations(gaia, obsid, ra, dec, snr)


def _columns(
    connection: Connection, name: str, parameters: Mapping[str, Any], kinds: str
) -> list[NDArray[Any]]:
    """The columns of a query as arrays; ``i`` is int64, ``f`` float64 with NaN for NULL."""
    types = {"i": np.int64, "f": np.float64}
    parts: list[list[NDArray[Any]]] = [[np.empty(0, dtype=types[kind])] for kind in kinds]
    result = connection.execution_options(yield_per=_BATCH).execute(
        statement("calibration", name), parameters
    )
    for batch in result.partitions(_BATCH):
        for part, kind, column in zip(parts, kinds, zip(*batch, strict=True), strict=True):
            part.append(np.array(column, dtype=types[kind]))
    return [np.concatenate(part) for part in parts]


def _pairs(
    connection: Connection,
    observations: Observations,
    cuts: CalibratorCuts,
    counts: dict[str, dict[str, int]],
    tried: dict[str, str],
) -> tuple[Integers, Floats, Integers]:
    """Keys (M,), chance (M,) and observations (M, 2) of the usable pairs."""
    ids, chance, *columns = _columns(connection, "pairs", {}, "ifiiffffiiffff")
    tally = {"in the database": len(ids)}
    by_chance = chance > cuts.max_chance
    stars = tuple(Stars(*columns[start : start + 6]) for start in (0, 6))
    first, second = (match_stars(side, observations, cuts.radius) for side in stars)
    if len(ids) and max(first.max(), second.max()) < 0:
        both = Stars(*(np.r_[one, other] for one, other in zip(columns[:6], columns[6:], strict=True)))
        tried["pairs"] = what_was_tried(both, observations, cuts.radius)
    fitted = (first >= 0) & (second >= 0)
    twice = fitted & (first == second)
    tally["chance probability too large"] = int(by_chance.sum())
    tally["no star has a usable fit"] = int((~by_chance & (first < 0) & (second < 0)).sum())
    tally["one star has no usable fit"] = int((~by_chance & ((first < 0) ^ (second < 0))).sum())
    tally["both stars match one spectrum"] = int((~by_chance & twice).sum())
    keep = fitted & ~twice & ~by_chance
    tally["usable"] = int(keep.sum())
    counts["pairs"] = tally
    return ids[keep], chance[keep], np.stack([first[keep], second[keep]], axis=1)


@dataclass(frozen=True, eq=False)
class _References:
    rows: Integers
    values: Floats
    errors: Floats
    identifiers: Integers
    surveys: tuple[str, ...]


def _references(
    connection: Connection,
    label_names: Sequence[str],
    observations: Observations,
    cuts: CalibratorCuts,
    counts: dict[str, dict[str, int]],
    tried: dict[str, str],
) -> _References:
    stars: dict[tuple[str, str], int] = {}
    places: list[tuple[Any, ...]] = []
    entries: list[tuple[Any, ...]] = []
    for survey, name, label, identifier, *place, value, error in connection.execute(
        statement("calibration", "references"), {"labels": list(label_names)}
    ):
        number = stars.setdefault((survey, name), len(stars))
        if number == len(places):
            places.append(tuple(place))
        entries.append((number, label_names.index(label), identifier, value, error))
    gaia, obsid, *numbers = zip(*places, strict=True) if places else ((),) * 6
    looked_for = Stars(
        np.array(gaia, dtype=np.int64), np.array(obsid, dtype=np.int64),
        *(np.array(column, dtype=np.float64) for column in numbers),
    )  # fmt: skip
    matched = match_stars(looked_for, observations, cuts.radius)
    if places and matched.max() < 0:
        tried["reference stars"] = what_was_tried(looked_for, observations, cuts.radius)
    shape = (len(places), len(label_names))
    values, errors = np.full(shape, np.nan), np.full(shape, np.nan)
    identifiers = np.full(shape, -1, dtype=np.int64)
    for number, column, identifier, value, error in entries:
        values[number, column], identifiers[number, column] = value, identifier
        errors[number, column] = np.nan if error is None else error
    keep = matched >= 0
    surveys = tuple(survey for survey, _ in stars)
    by_survey = Counter(survey for survey, used in zip(surveys, keep.tolist(), strict=True) if used)
    counts["references"] = {
        "in the database": len(places),
        "no usable fit": int((~keep).sum()),
        "usable": int(keep.sum()),
        **{f"usable of {survey}": count for survey, count in sorted(by_survey.items())},
    }
    return _References(
        rows=matched[keep],
        values=values[keep],
        errors=errors[keep],
        identifiers=identifiers[keep],
        surveys=tuple(survey for survey, used in zip(surveys, keep.tolist(), strict=True) if used),
    )


def _repeats(
    spectrum_ids: Integers,
    observations: Observations,
    cuts: CalibratorCuts,
    counts: dict[str, dict[str, int]],
) -> Integers:
    """(R, 2) spectra of one star each; at most `MOST_REPEATS`, the same every time."""
    good = np.flatnonzero(observations.snr >= cuts.min_snr_repeats)
    found = spectrum_ids[good][find_repeats(observations.taken(good), cuts.radius)]
    used = found
    if len(found) > MOST_REPEATS:
        used = found[np.sort(np.random.default_rng(0).choice(len(found), MOST_REPEATS, replace=False))]
    counts["repeats"] = {
        "two observations of one star": len(found),
        "more than needed": len(found) - len(used),
        "usable": len(used),
    }
    return used


@dataclass(frozen=True, eq=False)
class RawFits:
    """Fits of N spectra; see `CalibrationInputs`."""

    spectrum_ids: Integers
    labels: Floats
    errors: Floats
    coordinate_covariance: Floats
    snr: Floats


def read_fits(connection: Connection, model: ModelVersionRow, spectrum_ids: Integers) -> RawFits:
    """Fits of some spectra, flagged labels NaN; in the order of `spectrum_ids`, which must ascend."""
    rows = connection.execute(
        statement("calibration", "labels_of"),
        {"model_version_id": model.model_version_id, "spectrum_ids": spectrum_ids.tolist()},
    ).all()
    shape = (len(rows), len(model.label_names))
    labels = np.array([row.label_values for row in rows], dtype=np.float64).reshape(shape)
    errors = np.array([row.label_errors for row in rows], dtype=np.float64).reshape(shape)
    flags = np.array([row.label_flags for row in rows], dtype=np.int64).reshape(shape)
    axes = [model.label_names.index(name) for name in COORDINATES if name in model.label_names]
    covariance = np.zeros((*shape, len(axes)))
    for number, row in enumerate(rows):
        if row.label_covariance is not None:
            covariance[number] = unpack_covariance(row.label_covariance, errors[number])[:, axes]
    refused = flags & int(REFUSED_LABELS) != 0
    labels[refused] = errors[refused] = np.nan
    return RawFits(
        spectrum_ids=np.array([row.spectrum_id for row in rows], dtype=np.int64),
        labels=labels,
        errors=errors,
        coordinate_covariance=np.nan_to_num(covariance),
        snr=np.array([row.snr for row in rows], dtype=np.float64),
    )
