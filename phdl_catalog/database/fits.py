"""Writing fits: one binary COPY and one ordered merge, inside the caller's transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from phdl_catalog.database.copy import driver_connection
from phdl_catalog.database.fit_copy import STAGED_COLUMNS, encode_fits, fitted_rows
from phdl_catalog.database.queries import statement
from phdl_catalog.errors import NotFoundError
from phdl_catalog.spectra.store import PixelAddress

if TYPE_CHECKING:
    from phdl_catalog.fitting import FitResult

#: FitFlag.QUARANTINED; written here because the dispatcher, which needs it, does without the fit's libraries.
QUARANTINED = 1024

_STAGE = "staged_fit"
_COLUMNS = ", ".join(f"{name} {kind}" for name, kind in STAGED_COLUMNS)
_CREATE = f"CREATE TEMPORARY TABLE {_STAGE} ({_COLUMNS}) ON COMMIT DELETE ROWS"
_COPY = f"COPY {_STAGE} FROM STDIN (FORMAT BINARY)"
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
) -> int:
    """Insert the fits of N spectra by one model, or replace those that are there.

    Nothing is committed.  Writing the same twice leaves the same rows; rows are merged in the order of their
    key, so two writers of the same rows wait for each other and do not deadlock.

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

    Returns
    -------
    int
        How many have labels.
    """
    stream = encode_fits(spectrum_ids, result)
    with driver_connection(connection).cursor() as cursor:
        # One temporary table a connection: making one for every chunk would bloat the system catalogue.
        if cursor.execute("SELECT to_regclass(%s)", (f"pg_temp.{_STAGE}",)).fetchone() == (None,):
            cursor.execute(_CREATE)
        else:
            cursor.execute(_EMPTY)  # an earlier write of the same transaction
        with cursor.copy(_COPY) as copy:
            copy.write(stream)
    connection.execute(statement("fits", "merge"), {"run": run, "model_version_id": model_version_id})
    return int(fitted_rows(result).sum())


def write_failure(connection: Connection, run: int, model_version_id: int, spectrum_id: int) -> None:
    """The row of a spectrum whose fit was given up: no labels, and the flag QUARANTINED."""
    connection.execute(
        statement("fits", "write_failure"),
        {"spectrum_id": spectrum_id, "model_version_id": model_version_id, "run": run, "flags": QUARANTINED},
    )
