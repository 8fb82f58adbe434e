"""Enqueueing: the same again is the same run, and only what is missing is added."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from database_rows import add_model, add_release, add_spectrum
from sqlalchemy import Engine, text

from phdl_catalog.database.fit_runs import (
    Enqueued,
    RunRequest,
    cancel_run,
    enqueue,
    needed,
    pause_run,
    resume_run,
    retry_run,
)
from phdl_catalog.database.model_versions import find_model
from phdl_catalog.database.run_status import run_status
from phdl_catalog.database.selection import Cone, Selection, read_obsids
from phdl_catalog.errors import InputError, NotFoundError, StateError


@pytest.fixture
def release(database: Engine) -> Engine:
    """Fifty accepted spectra, S/N 0 to 49, every fifth a galaxy."""
    with database.begin() as connection:
        add_model(connection)
        key = add_release(connection)
        for number in range(50):
            add_spectrum(
                connection,
                key,
                number,
                snr_g=float(number),
                spectral_class="GALAXY" if number % 5 == 0 else "STAR",
                ra=10.0 + number / 10,
            )
        connection.execute(
            text("INSERT INTO phdl.spectrum (release_id, uri, state, reason, detail) "
                 "VALUES (:key, 'file:///broken', 'rejected', 'truncated', 'half a file')"), {"key": key}
        )  # fmt: skip
    return database


def request(engine: Engine, selection: Selection | None = None, **changes: object) -> RunRequest:
    with engine.connect() as connection:
        row = find_model(connection, "default")
    values: dict[str, object] = {"configuration": {"margin": 0.05}, "chunk_size": 8} | changes
    return RunRequest("dr10", row, selection or Selection(), **values)  # type: ignore[arg-type]


def enqueued(engine: Engine, *arguments: object, **changes: object) -> Enqueued:
    with engine.begin() as connection:
        return enqueue(connection, request(engine, *arguments, **changes))  # type: ignore[arg-type]


def spectra_in_chunks(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        return list(connection.scalars(text("SELECT unnest(spectrum_ids) FROM phdl.fit_chunk ORDER BY 1")))


def test_every_accepted_spectrum_is_in_one_chunk(release: Engine) -> None:
    done = enqueued(release)
    assert (done.created, done.selected, done.added, done.chunks) == (True, 50, 50, 7)
    assert len(spectra_in_chunks(release)) == len(set(spectra_in_chunks(release))) == 50


def test_enqueueing_the_same_again_adds_nothing(release: Engine) -> None:
    first = enqueued(release)
    second = enqueued(release)
    assert (second.run, second.created, second.added) == (first.run, False, 0)
    assert len(spectra_in_chunks(release)) == 50


def test_another_chunk_size_is_the_same_run(release: Engine) -> None:
    assert enqueued(release).run == enqueued(release, chunk_size=3).run


def test_another_configuration_is_another_run_of_everything(release: Engine) -> None:
    first = enqueued(release)
    second = enqueued(release, configuration={"margin": 0.1})
    assert second.run != first.run
    assert second.added == 50


def test_a_release_that_grew_gets_only_what_is_missing(release: Engine) -> None:
    first = enqueued(release)
    with release.begin() as connection:
        connection.execute(text("UPDATE phdl.fit_run SET state = 'done', finished_at = now()"))
        key = connection.scalar(text("SELECT release_id FROM phdl.data_release"))
        for number in (100, 101, 102):
            add_spectrum(connection, key, number)
    grown = enqueued(release)
    assert (grown.run, grown.created, grown.added, grown.state) == (first.run, False, 3, "running")


def test_overlapping_selections_do_not_fit_a_spectrum_twice(release: Engine) -> None:
    bright = enqueued(release, Selection(min_snr_g=30.0))
    everything = enqueued(release)
    assert bright.added == 20
    assert everything.run != bright.run
    assert everything.added == 30
    assert len(set(spectra_in_chunks(release))) == 50


def test_two_enqueues_at_once_make_one_run(release: Engine) -> None:
    done: list[Enqueued] = []
    barrier = threading.Barrier(4)

    def ask() -> None:
        barrier.wait()
        done.append(enqueued(release))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({result.run for result in done}) == 1
    assert sum(result.added for result in done) == 50
    assert len(spectra_in_chunks(release)) == 50


def test_a_plan_says_what_enqueueing_would_do_and_does_nothing(release: Engine) -> None:
    with release.connect() as connection:
        need = needed(connection, request(release))
        connection.rollback()
    assert (need.selected, need.missing, need.chunks, need.run) == (50, 50, 7, None)
    assert spectra_in_chunks(release) == []


@pytest.mark.parametrize(
    ("selection", "number"),
    [
        (Selection(min_snr_g=40.0), 10),
        (Selection(classes=("galaxy",)), 10),
        (Selection(cone=Cone(10.0, -3.25, 0.55)), 6),
        (Selection(obsids=(1, 2, 3, 999)), 3),
        (Selection(where="snr_g between 10 and 19 and not class = 'GALAXY'"), 8),
        (Selection(where="snr_r is null or obsid in (1, 2)"), 50),
        (Selection(where="CLASS LIKE 'G%' OR (snr_g >= 48.5)"), 11),
        (Selection(min_snr_g=20.0, where="obsid <> 25"), 29),
    ],
)
def test_a_selection_selects(release: Engine, selection: Selection, number: int) -> None:
    assert enqueued(release, selection).selected == number


@pytest.mark.parametrize(
    "where",
    [
        "snr_g > 10; DROP TABLE phdl.fit",
        "snr_g > (SELECT 1)",
        "pg_sleep(10) = 1",
        "snr_g",
        "snr_g > 'x'",
        "class = 5",
        "snr_g > 10 and",
        "sha256 = 'a'",
        "(" * 2000,
        "",
    ],
)
def test_a_condition_that_is_not_one_is_refused(release: Engine, where: str) -> None:
    with pytest.raises(InputError, match="condition"):
        enqueued(release, Selection(where=where))


def test_text_in_a_condition_is_a_value_and_never_sql(release: Engine) -> None:
    assert enqueued(release, Selection(where="class = 'x'' OR 1=1 --'")).selected == 0


def test_a_cancelled_run_makes_way_for_a_new_one(release: Engine) -> None:
    first = enqueued(release)
    with release.begin() as connection:
        assert cancel_run(connection, first.run) == 50
        assert cancel_run(connection, first.run) == 0
    second = enqueued(release)
    assert second.run != first.run
    assert second.added == 50


def test_counts_of_the_status_add_up(release: Engine) -> None:
    run = enqueued(release).run
    with release.begin() as connection:
        connection.execute(
            text("UPDATE phdl.fit_chunk SET state = 'done', attempt = 1, worker = 'w', started_at = now(), "
                 "finished_at = now(), n_fitted = n_spectra - 1, n_failed = 1 WHERE fit_chunk_id % 2 = 1")
        )  # fmt: skip
        status = run_status(connection, run)[0]
    assert status.spectra == 50
    assert status.done + status.failed + status.remaining == 50
    assert status.failed == 4
    assert sum(status.chunks.values()) == 7


def test_a_run_that_is_over_can_neither_be_paused_nor_cancelled(release: Engine) -> None:
    run = enqueued(release).run
    with release.begin() as connection:
        pause_run(connection, run)
        resume_run(connection, run)
        connection.execute(text("UPDATE phdl.fit_run SET state = 'done', finished_at = now()"))
        with pytest.raises(StateError, match="only a run that goes on"):
            pause_run(connection, run)
        with pytest.raises(StateError, match="nothing to cancel"):
            cancel_run(connection, run)
        with pytest.raises(NotFoundError, match="no run 77"):
            retry_run(connection, 77)


def test_a_release_that_does_not_exist_is_named(database: Engine) -> None:
    with database.begin() as connection:
        add_model(connection)
    with pytest.raises(NotFoundError, match="dr10"):
        enqueued(database)


def test_a_list_of_obsids_is_read_with_heading_comments_and_columns(tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text("obsid,class\n# bright ones\n12, STAR\n\n7,STAR\n12,STAR\n")
    assert read_obsids(listed) == (7, 12)
    listed.write_text("12\nseven\n")
    with pytest.raises(InputError, match="line 2: 'seven'"):
        read_obsids(listed)
