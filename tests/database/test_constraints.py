"""Impossible states are impossible: the database refuses them, by a constraint whose name says why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from database_rows import (
    DIGEST,
    add_model,
    add_release,
    add_run,
    add_spectrum,
    fit_values,
)
from sqlalchemy import Connection, delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from phdl_catalog.database.models import (
    CalibrationOffset,
    CalibrationSet,
    CatalogRelease,
    Event,
    Fit,
    FitChunk,
    FitRun,
    FlagDefinition,
    ModelVersion,
    Spectrum,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAN = float("nan")
INF = float("inf")


@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ({"snr_g": NAN}, "snr_g_finite"),
        ({"redshift": INF}, "redshift_finite"),
        ({"ra": NAN}, "position_range"),
        ({"dec": 90.5}, "position_range"),
        ({"healpix_29": -1}, "healpix_29_range"),
        ({"healpix_29": None}, "position_whole"),
        ({"obsid": None}, "accepted_known"),
        ({"shard": None}, "accepted_has_pixels"),
        ({"reason": "not_fits", "detail": "?"}, "rejected_has_reason"),
        ({"state": "rejected"}, "accepted_has_pixels"),
        (
            {"state": "unknown", "shard": None, "shard_row": None, "first_pixel": None, "n_pixels": None},
            "state_known",
        ),
        ({"sha256": "xyz"}, "sha256_hex"),
    ],
)
def test_an_impossible_spectrum_is_refused(
    transaction: Connection, values: dict[str, object], constraint: str
) -> None:
    release = add_release(transaction)
    with pytest.raises(IntegrityError, match=constraint):
        add_spectrum(transaction, release, 1, **values)


def _reject(connection: Connection, release: int, obsid: int | None, uri: str) -> None:
    row = {
        "release_id": release,
        "obsid": obsid,
        "uri": uri,
        "state": "rejected",
        "reason": "x",
        "detail": "y",
    }
    connection.execute(insert(Spectrum).values(**row))


def test_an_obsid_is_accepted_once_a_release_and_may_be_rejected_beside(transaction: Connection) -> None:
    release = add_release(transaction)
    add_spectrum(transaction, release, 1)
    add_spectrum(transaction, add_release(transaction, "dr11"), 1, shard="dr11/0001")
    _reject(transaction, release, 1, "copy.fits")
    with pytest.raises(IntegrityError, match="uq_spectrum_release_id_obsid"):
        add_spectrum(transaction, release, 1, uri="other.fits", shard_row=99)


def test_one_file_is_one_row_of_a_release(transaction: Connection) -> None:
    release = add_release(transaction)
    _reject(transaction, release, None, "bad.fits")
    with pytest.raises(IntegrityError, match="uq_spectrum_release_id_uri"):
        _reject(transaction, release, None, "bad.fits")


@pytest.fixture
def chain(transaction: Connection) -> tuple[int, int, int]:
    """A spectrum, a model and a run: (spectrum_id, model_version_id, fit_run_id)."""
    release = add_release(transaction)
    spectrum = add_spectrum(transaction, release, 1)
    model = add_model(transaction)
    return spectrum, model, add_run(transaction, release, model)


FAILED = {"label_values": None, "label_errors": None, "label_flags": None, "label_covariance": None}


@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ({"label_values": [1.0, NAN, 2.0]}, "label_values_finite"),
        ({"label_values": [1.0, INF, 2.0]}, "label_values_finite"),
        ({"label_errors": [1.0, -INF, 2.0]}, "label_errors_finite"),
        ({"label_errors": [1.0, -1.0, 2.0]}, "label_errors_positive"),
        ({"label_errors": [1.0, 1.0]}, "lengths_agree"),
        ({"label_flags": [1]}, "lengths_agree"),
        ({"label_covariance": b"123"}, "lengths_agree"),
        ({"chi2": NAN}, "chi2_finite"),
        ({"flags": -1}, "range"),
        (FAILED, "labels_or_reason"),
        ({"label_values": None, "flags": 1}, "labels_or_reason"),
        ({"label_errors": None}, "labels_or_reason"),
    ],
)
def test_an_impossible_fit_is_refused(
    transaction: Connection, chain: tuple[int, int, int], values: dict[str, object], constraint: str
) -> None:
    with pytest.raises(IntegrityError, match=constraint):
        transaction.execute(insert(Fit).values(**fit_values(*chain, **values)))


@pytest.mark.parametrize(
    "values", [{}, {"label_values": [5000.0, None, -0.5]}, {"label_covariance": None}, FAILED | {"flags": 2}]
)
def test_a_fit_with_labels_or_with_a_reason_is_taken(
    transaction: Connection, chain: tuple[int, int, int], values: dict[str, object]
) -> None:
    transaction.execute(insert(Fit).values(**fit_values(*chain, **values)))


def test_a_spectrum_has_one_fit_a_model(transaction: Connection, chain: tuple[int, int, int]) -> None:
    transaction.execute(insert(Fit).values(**fit_values(*chain)))
    with pytest.raises(IntegrityError, match="spectrum_id"):
        transaction.execute(insert(Fit).values(**fit_values(*chain)))


def test_a_fit_belongs_to_a_run_of_its_own_model(
    transaction: Connection, chain: tuple[int, int, int]
) -> None:
    spectrum, _, run = chain
    other = add_model(transaction, "other")
    with pytest.raises(IntegrityError, match="fk_fit_fit_run_id"):
        transaction.execute(insert(Fit).values(**fit_values(spectrum, other, run)))


RUNNING = {"state": "running", "lease_until": NOW, "worker": "w1", "started_at": NOW, "attempt": 1}


@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ({"state": "lost"}, "state_known"),
        (RUNNING | {"lease_until": None}, "running_has_lease"),
        (RUNNING | {"worker": None}, "started_has_worker"),
        (RUNNING | {"attempt": 0}, "started_has_worker"),
        ({"lease_until": NOW}, "running_has_lease"),
        ({"finished_at": NOW}, "final_has_end"),
        ({"state": "cancelled"}, "final_has_end"),
        (
            RUNNING
            | {"state": "done", "lease_until": None, "finished_at": NOW, "n_fitted": 1, "n_failed": 0},
            "counts_add_up",
        ),
        (RUNNING | {"state": "done", "lease_until": None, "finished_at": NOW}, "done_has_counts"),
        (
            {"state": "quarantined", "finished_at": NOW, "error_kind": "poison", "error_text": "x"},
            "quarantined_is_one",
        ),
        ({"state": "split", "finished_at": NOW, "spectrum_ids": [1]}, "split_is_many"),
        ({"spectrum_ids": []}, "has_spectra"),
        ({"spectrum_ids": [1, None]}, "has_spectra"),
        ({"error_kind": "lost"}, "error_whole"),
    ],
)
def test_an_impossible_chunk_is_refused(
    transaction: Connection, chain: tuple[int, int, int], values: dict[str, object], constraint: str
) -> None:
    _, _, run = chain
    row = {"fit_run_id": run, "spectrum_ids": [1, 2]} | values
    with pytest.raises(IntegrityError, match=constraint):
        transaction.execute(insert(FitChunk).values(**row))


def test_the_same_run_is_enqueued_once_unless_it_was_cancelled(
    transaction: Connection, chain: tuple[int, int, int]
) -> None:
    _, model, run = chain
    release = transaction.scalar(select(FitRun.release_id))
    assert release is not None
    add_run(transaction, release, model, selection={"snr_g": [20, None]})
    transaction.execute(
        update(FitRun).where(FitRun.fit_run_id == run).values(state="cancelled", finished_at=NOW)
    )
    add_run(transaction, release, model)
    with pytest.raises(IntegrityError, match="uq_fit_run_same"):
        add_run(transaction, release, model)


@pytest.mark.parametrize("statement", [update(ModelVersion).values(uri="x"), delete(ModelVersion)])
def test_a_registered_model_is_never_edited(transaction: Connection, statement: object) -> None:
    add_model(transaction)
    with pytest.raises(DBAPIError, match=r"model_version is never edited"):
        transaction.execute(statement)  # type: ignore[call-overload]


def test_model_names_that_give_one_view_are_refused(transaction: Connection) -> None:
    add_model(transaction, "v2.1")
    with pytest.raises(IntegrityError, match="view_name"):
        add_model(transaction, "V2_1")


@pytest.mark.parametrize(
    "statement", [update(Event).values(action="x"), delete(Event), text("TRUNCATE phdl.event")]
)
def test_events_are_append_only(transaction: Connection, statement: object) -> None:
    transaction.execute(insert(Event).values(subject="a:1", action="made"))
    with pytest.raises(DBAPIError, match="event is never edited"):
        transaction.execute(statement)  # type: ignore[call-overload]


def _add_set(connection: Connection, model: int, name: str, **values: object) -> int:
    row = {
        "name": name,
        "model_version_id": model,
        "configuration_hash": DIGEST,
        "code_version": "0.1.0",
    } | values
    statement = insert(CalibrationSet).values(**row).returning(CalibrationSet.calibration_set_id)
    return connection.scalars(statement).one()


CERTIFIED = {"state": "certified", "certified_at": NOW}
OFFSET = {
    "label": "fe_h",
    "basis": {},
    "coefficients": [0.1, 0.2],
    "covariance": [1.0, 0.0, 0.0, 1.0],
    "validity": {},
    "n_pairs": 1,
    "n_references": 0,
}


def test_one_calibration_set_of_a_model_is_certified(transaction: Connection) -> None:
    model = add_model(transaction)
    _add_set(transaction, model, "a", **CERTIFIED)
    _add_set(transaction, add_model(transaction, "other"), "b", **CERTIFIED)
    with pytest.raises(IntegrityError, match="uq_calibration_set_certified"):
        _add_set(transaction, model, "c", **CERTIFIED)


def test_a_draft_is_free_and_a_certified_set_changes_its_state_only(transaction: Connection) -> None:
    key = _add_set(transaction, add_model(transaction), "a")
    transaction.execute(insert(CalibrationOffset).values(calibration_set_id=key, **OFFSET))
    transaction.execute(update(CalibrationOffset).values(n_pairs=7))
    transaction.execute(update(CalibrationSet).values(**CERTIFIED))
    for statement in (
        update(CalibrationOffset).values(n_pairs=8),
        delete(CalibrationOffset),
        insert(CalibrationOffset).values(calibration_set_id=key, **(OFFSET | {"label": "mg_fe"})),
        update(CalibrationSet).values(report={"x": 1}),
        update(CalibrationSet).values(state="draft", certified_at=None),
        update(CalibrationSet).values(certified_at=NOW + timedelta(days=1)),
        delete(CalibrationSet),
        text("TRUNCATE phdl.calibration_set CASCADE"),
        text("TRUNCATE phdl.calibration_offset"),
    ):
        with pytest.raises(DBAPIError, match="never edited"), transaction.begin_nested():
            transaction.execute(statement)
    transaction.execute(update(CalibrationSet).values(state="superseded", superseded_at=NOW))
    for statement in (
        update(CalibrationSet).values(state="certified", superseded_at=None),
        update(CalibrationSet).values(superseded_at=NOW + timedelta(days=1)),
    ):
        with pytest.raises(DBAPIError, match="never edited"), transaction.begin_nested():
            transaction.execute(statement)


def test_the_covariance_of_an_offset_is_square(transaction: Connection) -> None:
    key = _add_set(transaction, add_model(transaction), "a")
    with pytest.raises(IntegrityError, match="covariance_square"):
        transaction.execute(
            insert(CalibrationOffset).values(calibration_set_id=key, **(OFFSET | {"covariance": [1.0]}))
        )


def _add_catalogue(connection: Connection, model: int, name: str, **values: object) -> int:
    row = {"name": name, "model_version_id": model, "schema_version": "1", "code_version": "0.1.0"} | values
    statement = insert(CatalogRelease).values(**row).returning(CatalogRelease.catalog_release_id)
    return connection.scalars(statement).one()


PUBLISHED = {"state": "published", "checksum": DIGEST, "n_rows": 5, "built_at": NOW, "published_at": NOW}


def test_one_catalogue_is_published(transaction: Connection) -> None:
    model = add_model(transaction)
    _add_catalogue(transaction, model, "1", **PUBLISHED)
    with pytest.raises(IntegrityError, match="uq_catalog_release_published"):
        _add_catalogue(transaction, model, "2", **PUBLISHED)


def test_a_published_catalogue_changes_its_state_only(transaction: Connection) -> None:
    _add_catalogue(transaction, add_model(transaction), "1", **PUBLISHED)
    with pytest.raises(DBAPIError, match="never edited"), transaction.begin_nested():
        transaction.execute(update(CatalogRelease).values(n_rows=6))
    transaction.execute(update(CatalogRelease).values(state="superseded", superseded_at=NOW))


def test_a_catalogue_is_calibrated_for_its_own_model(transaction: Connection) -> None:
    calibration = _add_set(transaction, add_model(transaction), "a")
    other = add_model(transaction, "other")
    with pytest.raises(IntegrityError, match="fk_catalog_release_calibration_set_id"):
        _add_catalogue(transaction, other, "1", calibration_set_id=calibration)


def test_a_flag_bit_never_gets_another_meaning(transaction: Connection) -> None:
    model = add_model(transaction)
    first, second = (_add_catalogue(transaction, model, name) for name in "12")
    bit = {"column_name": "flags", "bit": 3, "description": "x"}
    rows = insert(FlagDefinition)
    transaction.execute(rows.values(catalog_release_id=first, name="poor_fit", **bit))
    transaction.execute(rows.values(catalog_release_id=second, name="poor_fit", **bit))
    third = _add_catalogue(transaction, model, "3")
    with pytest.raises(DBAPIError, match="already means poor_fit"):
        transaction.execute(rows.values(catalog_release_id=third, name="low_snr", **bit))
