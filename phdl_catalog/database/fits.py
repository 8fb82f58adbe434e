"""Writing fits: one binary COPY, or an ordered merge where some exist, in the caller's transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from psycopg.errors import UniqueViolation
from sqlalchemy import Connection

from phdl_catalog.database.copy import driver_connection
from phdl_catalog.database.fit_copy import FIT_COLUMNS, encode_fits, fitted_rows
from phdl_catalog.database.queries import statement
from phdl_catalog.errors import NotFoundError
from phdl_catalog.spectra.store import PixelAddress

if TYPE_CHECKING:
    from phdl_catalog.fitting import FitResult

#: FitFlag.QUARANTINED; written here because the dispatcher, which needs it, does without the fit's libraries.
QUARANTINED = 1024

_STAGE = "staged_fit"
_NAMES = ", ".join(name for name, _ in FIT_COLUMNS)
_COLUMNS = ", ".join(f"{name} {kind}" for name, kind in FIT_COLUMNS)
_CREATE = f"CREATE TEMPORARY TABLE {_STAGE} ({_COLUMNS}) ON COMMIT DELETE ROWS"
_COPY = f"COPY {_STAGE} ({_NAMES}) FROM STDIN (FORMAT BINARY)"
_COPY_NEW = f"COPY phdl.fit ({_NAMES}) FROM STDIN (FORMAT BINARY)"
_EMPTY = f"TRUNCATE {_STAGE}"


@dataclass(frozen=True)
class SpectrumPixels:
    """Which spectra, and where their pixels are.

    Parameters
    ----------
    spectrum_ids, obsids : (N,) int64
        Keys of the spectra, ascending, and the survey's identifiers.
    addresses : tuple of PixelAddress
        N addresses in the pixel store.
    """

    spectrum_ids: NDArray[np.int64]
    obsids: NDArray[np.int64]
    addresses: tuple[PixelAddress, ...]


def find_pixels(connection: Connection, spectrum_ids: list[int]) -> SpectrumPixels:
    """Where the pixels of some spectra are, in the order of their keys.

    Raises
    ------
    NotFoundError
        If some of them are no accepted spectra.
    """
    rows = connection.execute(statement("fits", "addresses"), {"spectrum_ids": spectrum_ids}).all()
    if len(rows) < len(spectrum_ids):
        missing = sorted(set(spectrum_ids) - {row.spectrum_id for row in rows})
        raise NotFoundError(f"{len(missing)} spectra have no pixels any more, the first is {missing[0]}")
    return SpectrumPixels(
        spectrum_ids=np.array([row.spectrum_id for row in rows], dtype=np.int64),
        obsids=np.array([row.obsid for row in rows], dtype=np.int64),
        addresses=tuple(PixelAddress(row.shard, row.shard_row) for row in rows),
    )


def write_fits(
    connection: Connection,
    run: int,
    model_version_id: int,
    spectrum_ids: NDArray[np.int64],
    result: FitResult,
    *,
    with_covariance: bool = True,
) -> int:
    """Insert the fits of N spectra by one model, or replace those that are there.

    Nothing is committed.  Writing the same twice leaves the same rows; rows are written in the order of their
    key, so two writers of the same rows wait for each other and do not deadlock.  Where none of the rows is
    there, the ordinary case, they are copied straight into ``fit``, which is about twice as fast as a merge.

    Parameters
    ----------
    connection : Connection
        The writing transaction.
    run, model_version_id : int
        Run that writes, and its model.
    spectrum_ids : (N,) int64
        Keys of the spectra; none twice.
    result : FitResult
        Their fits.
    with_covariance : bool
        False leaves the correlations out.

    Returns
    -------
    int
        How many have labels.
    """
    ids = np.asarray(spectrum_ids, dtype=np.int64)
    stream = encode_fits(ids, run, model_version_id, result, with_covariance=with_covariance)
    ascending = bool((np.diff(ids) > 0).all())
    if not (ascending and _none_there(connection, model_version_id, ids) and _insert_new(connection, stream)):
        _merge(connection, stream)
    return int(fitted_rows(result).sum())


def _none_there(connection: Connection, model_version_id: int, ids: NDArray[np.int64]) -> bool:
    """Whether none of these spectra has a fit; neighbours are asked for by their range first."""
    if not len(ids):
        return True
    of_model = {"model_version_id": model_version_id}
    around = {**of_model, "first": int(ids[0]), "last": int(ids[-1])}
    if not connection.scalar(statement("fits", "any_between"), around):
        return True
    return not connection.scalar(statement("fits", "any_there"), {**of_model, "spectrum_ids": ids.tolist()})


def _insert_new(connection: Connection, stream: bytes) -> bool:
    """Copy rows straight into the table; False, and nothing done, if another writer was there first."""
    driver = driver_connection(connection)
    try:
        with driver.transaction(), driver.cursor() as cursor, cursor.copy(_COPY_NEW) as copy:
            copy.write(stream)
    except UniqueViolation:
        return False
    return True


def _merge(connection: Connection, stream: bytes) -> None:
    with driver_connection(connection).cursor() as cursor:
        # One temporary table a connection: making one for every chunk would bloat the system catalogue.
        if cursor.execute("SELECT to_regclass(%s)", (f"pg_temp.{_STAGE}",)).fetchone() == (None,):
            cursor.execute(_CREATE)
        else:
            cursor.execute(_EMPTY)  # an earlier write of the same transaction
        with cursor.copy(_COPY) as copy:
            copy.write(stream)
    connection.execute(statement("fits", "merge"))


def write_failure(connection: Connection, run: int, model_version_id: int, spectrum_id: int) -> None:
    """The row of a spectrum whose fit was given up: no labels, and the flag QUARANTINED."""
    connection.execute(
        statement("fits", "write_failure"),
        {"spectrum_id": spectrum_id, "model_version_id": model_version_id, "run": run, "flags": QUARANTINED},
    )
