"""Processes and servers that are killed and stopped in the middle of chunks: the counts add up."""

from __future__ import annotations

import os
import signal
import time

from celery import Celery
from job_stage import Stage

from phdl_catalog.services.redis_server import connect_broker
from workers.app import make_app
from workers.broker import publish

SPECTRA = 24


def test_kills_of_child_dispatcher_and_worker_and_a_flushed_broker(stage: Stage) -> None:
    keeper = stage.dispatcher()
    worker = stage.worker(TEST_SECONDS="0.4")
    # The child that fits, in the middle of a chunk.
    stage.wait_for_a_chunk()
    os.kill(stage.children(worker)[0], signal.SIGKILL)
    stage.wait_until(lambda: stage.events("failed") > 0, "a loss")
    # Everything the broker knows, and the dispatcher.
    stage.wait_for_a_chunk()
    with connect_broker() as client:
        client.flushall()
    stage.kill(keeper)
    stage.dispatcher()
    # The parent, and with it its child.
    stage.wait_for_a_chunk()
    stage.kill(worker)
    stage.worker()
    stage.wait_for_the_end()
    stage.assert_all_is_accounted_for(SPECTRA)
    lost = "SELECT count(*) FROM phdl.event WHERE action = 'failed' AND detail->>'kind' = 'lost'"
    assert stage.number(lost) >= 2


def test_a_broker_that_is_killed_and_comes_back_empty(stage: Stage) -> None:
    stage.dispatcher()
    stage.worker(TEST_SECONDS="0.3")
    stage.wait_for_a_chunk()
    stage.crash_redis()
    stage.wait_for_the_end()
    stage.assert_all_is_accounted_for(SPECTRA)
    assert stage.events("failed") == 0, "the chunk under way needs no broker"


def test_a_database_that_is_stopped_and_then_killed_costs_nothing_but_time(stage: Stage) -> None:
    stage.dispatcher()
    stage.worker(TEST_SECONDS="0.4")
    stage.wait_for_a_chunk()
    stage.restart_postgres(away=1.0)
    stage.wait_for_a_chunk()
    stage.crash_postgres()
    stage.wait_for_the_end()
    stage.assert_all_is_accounted_for(SPECTRA)
    assert stage.number("SELECT count(*) FROM phdl.fit_chunk WHERE state <> 'done'") == 0


def test_a_chunk_that_is_delivered_to_two_workers_at_once_is_fitted_once(stage: Stage) -> None:
    # Nobody dies here: on a machine that is too busy for heartbeats no lease may run out either.
    for _ in range(2):
        stage.worker(concurrency=2, TEST_SECONDS="0.5", PHDL_JOB_LEASE="30")
    app: Celery = make_app()
    stage.wait_until(lambda: stage.log.read_text().count("ready.") == 2, "two workers")
    first = stage.number("SELECT min(fit_chunk_id) FROM phdl.fit_chunk")
    publish(app, [first] * 8)
    stage.wait_for_a_chunk()
    stage.dispatcher()
    stage.wait_for_the_end()
    app.close()
    stage.assert_all_is_accounted_for(SPECTRA)
    assert stage.number("SELECT attempt FROM phdl.fit_chunk ORDER BY fit_chunk_id LIMIT 1") == 1
    assert stage.number("SELECT count(DISTINCT worker) FROM phdl.fit_chunk") > 1


def test_a_spectrum_that_kills_its_process_is_found_and_the_others_are_fitted(stage: Stage) -> None:
    stage.dispatcher()
    stage.worker(TEST_DEADLY="7")
    stage.wait_for_the_end()
    stage.assert_all_is_accounted_for(SPECTRA, labelled=SPECTRA - 1)
    given_up = (
        "SELECT s.obsid FROM phdl.fit AS f JOIN phdl.spectrum AS s USING (spectrum_id) "
        "WHERE f.label_values IS NULL"
    )
    assert stage.number(given_up) == 7
    told = "SELECT (detail->>'obsid')::int FROM phdl.event WHERE action = 'quarantined'"
    assert stage.number(told) == 7
    kinds = "SELECT count(*) FROM phdl.fit_chunk WHERE state = 'quarantined' AND error_kind = 'lost'"
    assert stage.number(kinds) == 1


def test_a_stopped_worker_hands_its_chunk_back(stage: Stage) -> None:
    stage.dispatcher()
    slow = stage.worker(TEST_SECONDS="60")
    stage.wait_for_a_chunk()
    os.kill(slow.pid, signal.SIGQUIT)
    slow.wait(timeout=30)
    assert stage.events("handed_back") == 1
    assert not stage.is_running()
    stage.worker()
    stage.wait_for_the_end()
    stage.assert_all_is_accounted_for(SPECTRA)
    assert stage.number("SELECT count(*) FROM phdl.fit_chunk WHERE failures > 0") == 0


def test_celery_beat_dispatches_where_no_dispatcher_runs(stage: Stage) -> None:
    stage.start(
        "celery", "--quiet", "-A", "job_worker", "beat", "--schedule", str(stage.log.with_name("beat")),
        "--loglevel", "INFO", TEST_BEAT="0.3",
    )  # fmt: skip
    stage.control_worker()
    lost = stage.worker(TEST_SECONDS="0.4")
    stage.wait_for_a_chunk()
    stage.kill(lost)
    time.sleep(0.2)
    stage.worker()
    stage.wait_for_the_end()
    stage.assert_all_is_accounted_for(SPECTRA)
    assert stage.events("failed") == 1
