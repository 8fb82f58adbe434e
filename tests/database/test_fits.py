"""Packed covariances, and the COPY stream against what PostgreSQL reads from it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from database_rows import add_model, add_release, add_run, add_spectrum, spectrum_values
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, insert, text

from phdl_catalog.database import fits
from phdl_catalog.database.covariance import pack_correlations, packed_size, unpack_covariance
from phdl_catalog.database.fit_copy import encode_fits
from phdl_catalog.database.fits import write_failure, write_fits
from phdl_catalog.database.models import Spectrum
from phdl_catalog.database.run_status import bytes_per_fit
from phdl_catalog.errors import InputError
from phdl_catalog.fitting import FitFlag, FitResult

LABELS = ("teff", "logg", "fe_h")


def random_covariance(seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    factor = generator.normal(size=(size, size + 2)) * np.exp(generator.uniform(-8, 8, (size, 1)))
    matrix = factor @ factor.T
    return matrix, np.sqrt(np.diag(matrix))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_a_covariance_survives_packing(seed: int, size: int) -> None:
    matrix, errors = random_covariance(seed, size)
    packed = pack_correlations(matrix[None], errors[None])
    assert packed.shape == (1, packed_size(size))
    back = unpack_covariance(packed[0].tobytes(), errors)
    scale = np.outer(errors, errors)
    assert np.abs(back - matrix).max(initial=0, where=True) <= np.inf
    assert (np.abs(back - matrix) / scale).max() < 5e-4
    assert np.allclose(np.diag(back), np.diag(matrix))
    assert np.array_equal(back, back.T)


def test_a_fit_of_32_labels_takes_less_than_two_kilobytes(database: Engine) -> None:
    labels = tuple(f"x{i}_fe" for i in range(32))
    result = made(4, labels)
    keys = written(database, result, labels)
    with database.connect() as connection:
        size = connection.scalar(text("SELECT avg(pg_column_size(f.*)) FROM phdl.fit f"))
        index = connection.scalar(text("SELECT pg_column_size(f.label_covariance) FROM phdl.fit f LIMIT 1"))
    assert len(keys) == 4
    assert size + 45 < 2048
    assert index <= 992 + 4


@pytest.mark.parametrize("number", [29, 32])
def test_the_disk_that_a_plan_reckons_is_what_fits_take(database: Engine, number: int) -> None:
    labels, n = tuple(f"x{i}_fe" for i in range(number)), 900
    with database.begin() as connection:
        model, release = add_model(connection, labels=labels), add_release(connection)
        run = add_run(connection, release, model)
        same = spectrum_values(release, 0)
        rows = [same | {"obsid": i, "uri": str(i), "shard_row": i} for i in range(n)]
        keys = np.array(connection.scalars(insert(Spectrum).returning(Spectrum.spectrum_id), rows).all())
        reckoned = bytes_per_fit(connection, model, number)
        write_fits(connection, run, model, np.sort(keys), made(n, labels))
        # Pages that hold rows: a file grows by many at a time.
        last = connection.scalar(text("SELECT max((ctid::text::point)[0]) FROM phdl.fit_model_1"))
    assert reckoned == pytest.approx(8192 * (last + 1) / n + 32, rel=0.02)


def test_labels_that_are_almost_degenerate_do_not_become_so() -> None:
    matrix = np.array([[[1.0, 0.99999], [0.99999, 1.0]]])
    back = unpack_covariance(pack_correlations(matrix, np.ones((1, 2)))[0].tobytes(), np.ones(2))
    assert np.linalg.det(back) > 0


def test_shapes_that_do_not_agree_are_quoted() -> None:
    with pytest.raises(InputError, match=r"\(2, 3, 3\) and \(2, 2\)"):
        pack_correlations(np.zeros((2, 3, 3)), np.zeros((2, 2)))
    with pytest.raises(InputError, match="4 bytes"):
        unpack_covariance(b"1234", np.ones(4))


def made(n: int, labels: tuple[str, ...] = LABELS) -> FitResult:
    """Results with values a float32 holds exactly, so that they come back as they went."""
    result = FitResult.empty(labels, n)
    number = np.arange(n)[:, None]
    result.labels[:] = number + np.arange(len(labels)) / 4
    result.errors[:] = 0.5 + number
    result.covariance[:] = np.einsum("ni,nj->nij", result.errors, result.errors) * 0.25
    result.covariance[:, np.arange(len(labels)), np.arange(len(labels))] = result.errors**2
    result.flags[:] = np.arange(n) * int(FitFlag.POOR_FIT)
    result.label_flags[:] = number
    for name, value in {"rv": -12.5, "e_rv": 0.5, "chi2": 1.25, "snr": 50.0, "distance": 0.25}.items():
        getattr(result, name)[:] = value
    result.n_pixels[:] = 3000
    result.n_iterations[:] = 7
    return result


def written(engine: Engine, result: FitResult, labels: tuple[str, ...] = LABELS) -> list[int]:
    with engine.begin() as connection:
        model = add_model(connection, labels=labels)
        release = add_release(connection)
        run = add_run(connection, release, model)
        keys = [add_spectrum(connection, release, number) for number in range(len(result))]
        write_fits(connection, run, model, np.array(keys), result)
    return keys


def test_what_is_written_is_read_back(database: Engine) -> None:
    result = made(5)
    keys = written(database, result)
    with database.connect() as connection:
        rows = connection.execute(text("SELECT * FROM phdl.fit ORDER BY spectrum_id")).all()
    assert [row.spectrum_id for row in rows] == keys
    for number, row in enumerate(rows):
        assert row.label_values == result.labels[number].tolist()
        assert row.label_errors == result.errors[number].tolist()
        assert row.label_flags == result.label_flags[number].tolist()
        assert np.allclose(
            unpack_covariance(row.label_covariance, row.label_errors), result.covariance[number]
        )
        assert (row.rv, row.e_rv, row.chi2, row.snr, row.distance) == (-12.5, 0.5, 1.25, 50.0, 0.25)
        assert (row.flags, row.n_pixels, row.n_iterations) == (number * 32, 3000, 7)


def test_what_is_missing_is_null_and_a_fit_without_labels_says_why(database: Engine) -> None:
    result = made(4)
    result.labels[1] = np.nan
    result.flags[1] = 0
    result.labels[2, 1] = np.nan
    result.errors[2, 1] = np.inf
    result.rv[2] = np.nan
    result.chi2[3] = np.nan
    result.flags[3] = int(FitFlag.NO_DATA)
    written(database, result)
    with database.connect() as connection:
        rows = connection.execute(text("SELECT * FROM phdl.fit ORDER BY spectrum_id")).all()
    assert rows[0].label_values is not None
    assert (rows[1].label_values, rows[1].label_covariance, rows[1].flags) == (None, None, FitFlag.FAILED)
    assert rows[2].label_values == [2.0, None, 2.5]
    assert rows[2].label_errors == [2.5, None, 2.5]
    assert rows[2].rv is None
    assert (rows[3].label_values, rows[3].flags) == (None, FitFlag.NO_DATA)


def test_writing_again_replaces_and_does_not_double(database: Engine) -> None:
    result = made(3)
    keys = written(database, result)
    better = replace(result, labels=result.labels + 100)
    with database.begin() as connection:
        write_fits(connection, 1, 1, np.array(keys[::-1]), better)
        write_fits(connection, 1, 1, np.array(keys[:1]), rows_of(better, slice(0, 1)))
        write_failure(connection, 1, 1, keys[2])
        rows = connection.execute(
            text("SELECT label_values[1], flags FROM phdl.fit ORDER BY spectrum_id")
        ).all()
    assert [tuple(row) for row in rows] == [(100.0, 0), (101.0, 32), (None, FitFlag.QUARANTINED)]


def test_two_writers_of_new_rows_at_once_leave_each_row_once(database: Engine) -> None:
    keys = np.array(written(database, made(40)))
    with database.begin() as connection:
        connection.execute(text("TRUNCATE phdl.fit"))
    first, second = database.connect(), database.connect()
    with first, second:
        write_fits(first, 1, 1, keys[20:], rows_of(made(40), slice(20, 40)))
        waiting = ThreadPoolExecutor(1).submit(write_fits, second, 1, 1, keys, made(40))
        wait_for_a_lock(database)
        first.commit()
        assert waiting.result(timeout=30) == 40
        second.commit()
    with database.connect() as connection:
        found = connection.execute(text("SELECT count(*), count(DISTINCT spectrum_id) FROM phdl.fit")).one()
    assert tuple(found) == (40, 40)


def wait_for_a_lock(engine: Engine) -> None:
    blocked = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    end = time.monotonic() + 10
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.scalar(blocked):
            assert time.monotonic() < end, "the second writer does not wait for the first"
            time.sleep(0.01)


def rows_of(result: FitResult, part: slice) -> FitResult:
    size = len(range(*part.indices(len(result))))
    some = FitResult.empty(result.label_names, size)
    for name, value in vars(result).items():
        if isinstance(value, np.ndarray):
            getattr(some, name)[:] = value[part]
    return some


def test_new_fits_are_copied_straight_into_their_table_and_only_refits_are_merged(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged: list[int] = []
    monkeypatch.setattr(fits, "_merge", lambda connection, stream: merged.append(len(stream)))
    keys = written(database, made(6))
    assert merged == []
    with database.begin() as connection:
        write_fits(connection, 1, 1, np.array(keys[2:3]), rows_of(made(6), slice(2, 3)))
    assert len(merged) == 1


def test_a_number_of_spectra_that_is_not_that_of_the_fits_is_refused() -> None:
    with pytest.raises(InputError, match=r"3 fits but spectrum_ids has shape \(2,\)"):
        encode_fits(np.array([1, 2]), 1, 1, made(3))


def test_the_flag_of_the_quarantine_is_that_of_the_fit() -> None:
    assert int(FitFlag.QUARANTINED) == fits.QUARANTINED
