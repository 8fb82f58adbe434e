"""From the numbers of a release back to the fits and the calibration they came from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from psycopg import sql
from sqlalchemy import Connection, func, literal, select

from phdl_catalog.catalog.building import load_calibration
from phdl_catalog.catalog.corrected import apply_calibration
from phdl_catalog.catalog.reading import read_fits
from phdl_catalog.catalog.releases import CatalogReleaseInfo, resolve_calibration
from phdl_catalog.catalog.schema import LabelColumnNames
from phdl_catalog.catalog.stars import SpectrumIndex
from phdl_catalog.database.copy import driver_connection
from phdl_catalog.database.models import DataRelease, Spectrum, SpectrumState

#: Rows whose calibration is computed again by a check.
SAMPLE = 5000


def count_untraceable(connection: Connection, release: CatalogReleaseInfo) -> tuple[int, int]:
    """Rows without their spectrum and fit, and rows whose raw values, rv, chi2 or flag are not the fit's."""
    labels = release.model.label_names
    published = [f"raw_{name}" for name in labels] + ["rv", "e_rv", "chi2", "flag", "snr_g"]
    query = sql.SQL(
        """
        SELECT count(*) FILTER (WHERE f.spectrum_id IS NULL),
               count(*) FILTER (WHERE f.spectrum_id IS NOT NULL AND ROW({published}) IS DISTINCT FROM
                                ROW({fitted}, f.rv, f.e_rv, f.chi2, f.flags, s.snr_g))
        FROM {table} t
        LEFT JOIN (phdl.spectrum s
                   JOIN phdl.data_release r ON r.release_id = s.release_id
                   JOIN phdl.fit f ON f.spectrum_id = s.spectrum_id AND f.model_version_id = {model})
        ON s.obsid = t.obsid AND s.state = 'accepted' AND r.name = t.data_release
        """
    ).format(
        published=sql.SQL(", ").join(sql.Identifier("t", name) for name in published),
        fitted=sql.SQL(", ").join(
            sql.SQL("f.label_values[{}]").format(sql.Literal(number)) for number in range(1, len(labels) + 1)
        ),
        table=sql.Identifier(str(release.table.schema), release.table.name),
        model=sql.Literal(release.model.model_version_id),
    )
    with driver_connection(connection).cursor() as cursor:
        row = cursor.execute(query).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def unexplained_values(
    connection: Connection, release: CatalogReleaseInfo, sample: int = SAMPLE
) -> tuple[int, int]:
    """Compute values, errors and flags again from the fits and the calibration set, and compare.

    Parameters
    ----------
    connection : Connection
        The database.
    release : CatalogReleaseInfo
        The release.
    sample : int
        At most so many rows, evenly over the table.

    Returns
    -------
    compared, different : int
        Number of values.
    """
    table = release.table
    total = connection.scalar(select(func.count()).select_from(table)) or 0
    numbered = select(table, func.row_number().over(order_by=table.c.obsid).label("number")).subquery()
    step = max(1, -(-total // sample))
    names = [LabelColumnNames.of(label) for label in release.model.label_names]
    rows = connection.execute(
        select(numbered, Spectrum.spectrum_id)
        .join(DataRelease, DataRelease.name == numbered.c.data_release)
        .join(
            Spectrum,
            (Spectrum.release_id == DataRelease.release_id)
            & (Spectrum.obsid == numbered.c.obsid)
            & (Spectrum.state == SpectrumState.ACCEPTED),
        )
        .where(numbered.c.number % step == 0)
        .order_by(numbered.c.obsid)
    ).mappings().all()  # fmt: skip
    solution = load_calibration(
        connection, resolve_calibration(connection, release.model, release.calibration_set or "none")
    )
    spectra = np.array([row["spectrum_id"] for row in rows], dtype=np.int64)
    done = different = 0
    for block in read_fits(connection, release.model.model_version_id, spectra, len(names)):
        again = apply_calibration(
            release.model.label_names, block.labels, block.errors, block.label_flags, solution, block.snr
        )
        part = rows[done : done + len(block)]
        for kind, expected in (
            ("value", again.values),
            ("error", again.errors),
            ("calibration_error", again.calibration_errors),
            ("flag", again.flags),
        ):
            found = np.array([[row[getattr(name, kind)] for name in names] for row in part], dtype=float)
            different += int((~_same(found, expected)).sum())
        done += len(block)
    return 4 * done * len(names), different


def _same(found: NDArray[np.float64], expected: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Equal within the rounding of float32 sums, or both missing."""
    return np.isclose(found, expected.astype(float), rtol=3e-7, atol=1e-7, equal_nan=True)


def published_index(connection: Connection, release: CatalogReleaseInfo) -> SpectrumIndex:
    """The rows of a release, as spectra to be grouped by star; the keys are their obsids."""
    column = release.table.c
    nothing = literal(0)
    query = select(
        column.obsid,
        column.obsid,
        column.gaia_source_id,
        column.healpix_29,
        column.ra,
        column.dec,
        column.snr_g,
        nothing,
    )
    return SpectrumIndex.of(connection.execute(query).all())
