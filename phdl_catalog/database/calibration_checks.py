"""Stars for external checks of a calibration set: from a file, matched to fits, corrected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from phdl_catalog.calibration.external import SUN, CheckedFits
from phdl_catalog.calibration.matching import Stars, match_stars, what_was_tried
from phdl_catalog.database.calibration_inputs import CalibratorCuts, read_fits, usable_observations
from phdl_catalog.database.calibration_sets import CalibrationSetRow, load_solution
from phdl_catalog.database.calibrator_columns import (
    CLUSTER_NAME,
    DECLINATION,
    GAIA_ID,
    MEMBERSHIP,
    RIGHT_ASCENSION,
    reference_columns,
)
from phdl_catalog.database.calibrator_files import PublishedTable, read_published
from phdl_catalog.database.calibrators import require_columns
from phdl_catalog.database.model_versions import find_model
from phdl_catalog.errors import InputError, NotFoundError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: Members of lower probability are not used.
LEAST_PROBABILITY = 0.7


@dataclass(frozen=True, eq=False)
class ClusterStars:
    """Members of clusters: the stars, and the cluster of each."""

    stars: Stars
    clusters: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class KnownStars:
    """Well-known stars, and what is known: (n, L) labels and errors in the order of the set's labels."""

    stars: Stars
    labels: Floats
    errors: Floats


def read_clusters(path: Path, given: Mapping[str, str] | None = None) -> ClusterStars:
    """Read a membership list; Hunt & Reffert (2023), Cantat-Gaudin et al. (2020) and our names are known.

    Raises
    ------
    InputError
        If the file cannot be read, or says neither which stars nor which cluster.
    """
    table = read_published(path, given)
    cluster = table.find("cluster", CLUSTER_NAME)
    if cluster is None:
        raise InputError(
            f"{path.name} has no column with the name of the cluster; name it with --map cluster=COLUMN; "
            f"it has {', '.join(table.names)}"
        )
    stars = _stars(table, given, ("cluster", "probability"))
    probability = table.numbers(table.find("probability", MEMBERSHIP))
    names = table.texts(cluster)
    keep = [
        row
        for row in range(len(table))
        if names[row] is not None and not probability[row] < LEAST_PROBABILITY
    ]
    return ClusterStars(stars.taken(np.array(keep, dtype=np.int64)), tuple(str(names[row]) for row in keep))


def read_known_stars(
    path: Path, label_names: tuple[str, ...], given: Mapping[str, str] | None = None
) -> KnownStars:
    """Read labels of well-known stars; whatever `phdl references import` understands.

    Raises
    ------
    InputError
        If the file cannot be read, or has no label or nothing that identifies the stars.
    """
    table = read_published(path, given)
    columns = reference_columns(table)
    stars = _stars(table, given, label_names + tuple(f"e_{name}" for name in label_names))
    unknown = np.full(len(table), np.nan)
    values = np.stack([columns.values.get(name, unknown) for name in label_names], axis=1)
    errors = np.stack([columns.errors.get(name, unknown) for name in label_names], axis=1)
    return KnownStars(stars, values, errors)


def the_sun(obsid: int, label_names: tuple[str, ...]) -> KnownStars:
    """One observation of sunlight: twilight, an asteroid."""
    none, nowhere = np.array([-1]), np.array([np.nan])
    stars = Stars(none, np.array([obsid], dtype=np.int64), nowhere, nowhere, nowhere, nowhere)
    labels = [0.0 if name.endswith("_fe") else SUN.get(name, np.nan) for name in label_names]
    return KnownStars(stars, np.array([labels]), np.zeros((1, len(label_names))))


def corrected_fits(
    connection: Connection, row: CalibrationSetRow, stars: Stars, cuts: CalibratorCuts
) -> tuple[Integers, CheckedFits]:
    """Fits of the stars that have one, as a set corrects them.

    Parameters
    ----------
    connection : Connection
        Database.
    row : CalibrationSetRow
        The set.
    stars : Stars
        Stars to look for.
    cuts : CalibratorCuts
        Which fits are good enough.

    Returns
    -------
    rows : (N,) int64 array
        Of the stars, which have a fit.
    fits : CheckedFits
        Theirs.

    Raises
    ------
    NotFoundError
        If none has.
    """
    model = find_model(connection, row.model)
    spectra, observations = usable_observations(connection, model, cuts)
    matched = match_stars(stars, observations, cuts.radius)
    found = np.flatnonzero(matched >= 0)
    if not found.size:
        raise NotFoundError(
            f"none of the {len(stars)} stars has a usable fit by '{row.model}' with S/N of {cuts.min_snr:g} "
            f"or more ({what_was_tried(stars, observations, cuts.radius)}); lower --min-snr, or fit more"
        )
    wanted = spectra[matched[found]]
    distinct, place = np.unique(wanted, return_inverse=True)
    fits = read_fits(connection, model, distinct)
    solution = load_solution(connection, row.name)
    errors = solution.scaled_errors(fits.errors, fits.snr)
    correction = solution.correction(fits.labels)
    total = np.hypot(errors, np.nan_to_num(solution.error(fits.labels, errors)))
    valid = solution.valid(fits.labels)
    return found, CheckedFits(
        solution.label_names,
        fits.labels[place],
        (fits.labels - correction)[place],
        total[place],
        valid[place],
    )


def _stars(table: PublishedTable, given: Mapping[str, str] | None, others: tuple[str, ...]) -> Stars:
    columns = {
        "gaia_source_id": table.find("gaia_source_id", GAIA_ID),
        "obsid": table.find("obsid", ("lamost_obsid",)),
        "ra": table.find("ra", RIGHT_ASCENSION),
        "dec": table.find("dec", DECLINATION),
        "pmra": table.find("pmra"),
        "pmdec": table.find("pmdec"),
    }
    known = {**columns, **dict.fromkeys(others)}
    require_columns(table, given, known, ("gaia_source_id", "obsid", "ra"), found=columns)
    gaia, obsid = (
        np.array([-1 if key is None else key for key in table.identifiers(columns[name])], dtype=np.int64)
        for name in ("gaia_source_id", "obsid")
    )
    return Stars(gaia, obsid, *(table.numbers(columns[name]) for name in ("ra", "dec", "pmra", "pmdec")))
