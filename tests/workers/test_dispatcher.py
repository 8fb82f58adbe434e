"""The dispatcher with a real broker and a real database."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from job_examples import QUICK, add_observations, bench, counts, enqueue_all
from job_fits import poisoned, quick_fit
from sqlalchemy import Connection, Engine, text

from phdl_catalog.database.chunks import ErrorKind, Held, claim_chunk, fail_chunk
from phdl_catalog.database.fit_runs import pause_run, resume_run, retry_run
from phdl_catalog.database.run_status import run_status
from phdl_catalog.database.selection import Selection
from phdl_catalog.emulator.model import Emulator
from phdl_catalog.services.redis_server import RedisServer, connect_broker
from workers.app import FIT_QUEUE, make_app
from workers.broker import waiting
from workers.dispatcher import Dispatcher
from workers.fitting import run_chunk


@pytest.fixture
def app(broker: RedisServer) -> Iterator[Celery]:
    made = make_app()
    yield made
    made.close()


@pytest.fixture
def dispatcher(app: Celery, database: Engine) -> Dispatcher:
    return Dispatcher(app, database, QUICK)


@pytest.fixture
def connection(database: Engine) -> Iterator[Connection]:
    with database.connect() as opened:
        yield opened


@pytest.fixture
def release(database: Engine, model: Emulator, model_file: Path) -> Engine:
    """Forty spectra in chunks of two."""
    add_observations(database, model, 40)
    enqueue_all(database, model, model_file, chunk_size=2)
    return database


def received(app: Celery, *, keep: bool = False) -> list[int]:
    """Take all messages off the queue, or look at them; each must be a chunk's number and nothing else."""
    with connect_broker() as client:
        messages = [json.loads(raw) for raw in reversed(client.lrange(FIT_QUEUE, 0, -1))]
        if not keep:
            client.delete(FIT_QUEUE)
    chunks = []
    for message in messages:
        assert message["content-type"] == "application/json"
        arguments, keywords, _ = json.loads(base64.b64decode(message["body"]))
        assert keywords == {}
        assert len(arguments) == 1
        chunks.append(arguments[0])
    return chunks


def test_due_chunks_are_published_up_to_a_depth(
    release: Engine, dispatcher: Dispatcher, connection: Connection, app: Celery
) -> None:
    assert dispatcher.round(connection).published == 16
    assert dispatcher.round(connection).published == 0, "the queue is deep enough"
    assert len(set(received(app))) == 16
    assert run_status(connection)[0].state == "running"


def test_messages_that_wait_are_not_published_again(
    release: Engine, dispatcher: Dispatcher, connection: Connection, app: Celery
) -> None:
    dispatcher.round(connection)
    connection.execute(
        text("UPDATE phdl.fit_chunk SET published_at = now() - interval '1 day' WHERE state = 'queued'")
    )
    connection.commit()
    assert dispatcher.round(connection).republished == 0
    assert waiting(app) == 16


def test_after_a_flush_of_the_broker_everything_is_published_again(
    release: Engine, dispatcher: Dispatcher, connection: Connection, app: Celery
) -> None:
    dispatcher.round(connection)
    first = set(received(app, keep=True))
    with connect_broker() as client:
        client.flushall()
    published = text("UPDATE phdl.fit_chunk SET published_at = now() - CAST(:age AS interval)")
    for age, expected in (("-1 minute", 0), ("1 minute", 16)):
        # A worker that has just taken a message may be claiming its chunk.
        connection.execute(published, {"age": age})
        connection.commit()
        assert dispatcher.round(connection).republished == expected
    assert set(received(app)) == first


def test_a_broker_that_is_away_costs_nothing_but_time(
    release: Engine, connection: Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, app: Celery
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("PHDL_BROKER_URL", f"redis+socket://{tmp_path}/nobody.sock")
        lonely = Dispatcher(make_app(), release, QUICK)
    assert lonely.round(connection).published == 0
    time.sleep(QUICK.republish_empty)
    assert Dispatcher(app, release, QUICK).round(connection).republished == 16
    assert len(set(received(app))) == 16


def test_a_run_is_done_when_its_last_chunk_is(
    release: Engine, dispatcher: Dispatcher, connection: Connection, app: Celery
) -> None:
    for _ in range(2):
        dispatcher.round(connection)
        for chunk in received(app):
            run_chunk(chunk, bench(quick_fit))
    assert dispatcher.round(connection).finished == 1
    status = run_status(connection)[0]
    assert (status.state, status.done, status.remaining, status.eta_s) == ("done", 40, 0, 0.0)
    assert status.rate is not None
    assert counts(release)["fits"] == 40


def test_higher_priorities_go_first(
    release: Engine, dispatcher: Dispatcher, connection: Connection, app: Celery
) -> None:
    urgent = connection.scalars(
        text("UPDATE phdl.fit_chunk SET priority = 5 WHERE fit_chunk_id % 4 = 0 RETURNING fit_chunk_id")
    ).all()
    connection.commit()
    dispatcher.round(connection)
    assert received(app)[: len(urgent)] == sorted(urgent)


def test_the_second_permanent_error_pauses_the_run_and_says_why(
    release: Engine, dispatcher: Dispatcher, connection: Connection, app: Celery
) -> None:
    dispatcher.round(connection)
    first = received(app)[0]
    for attempt in (1, 2):
        connection.execute(
            text("UPDATE phdl.fit_chunk SET due_at = now() WHERE fit_chunk_id = :c"), {"c": first}
        )
        assert claim_chunk(connection, first, "host:1", 60.0)
        fail_chunk(connection, Held(first, attempt, "host:1"), ErrorKind.PERMANENT, "other weights", "host:1")
        connection.commit()
    connection.execute(
        text("UPDATE phdl.fit_chunk SET due_at = now() - interval '1 day' WHERE fit_chunk_id = :c"),
        {"c": first},
    )
    connection.execute(text("UPDATE phdl.fit_chunk SET state = 'planned' WHERE state = 'queued'"))
    connection.commit()
    dispatcher.round(connection)
    status = run_status(connection)[0]
    assert status.state == "paused"
    why = "SELECT detail->>'error' FROM phdl.event WHERE subject = 'fit_run:1' AND action = 'paused'"
    assert connection.scalar(text(why)) == "other weights"
    connection.rollback()
    with release.begin() as other:
        resume_run(other, status.run)
    assert dispatcher.round(connection).published > 0


def test_nothing_of_a_paused_run_is_published_or_claimed(
    release: Engine, dispatcher: Dispatcher, connection: Connection, app: Celery
) -> None:
    dispatcher.round(connection)
    with release.begin() as other:
        pause_run(other, 1)
    assert not dispatcher.round(connection)
    assert claim_chunk(connection, received(app)[0], "host:1", 60.0) is None


def test_one_dispatcher_leads_and_another_takes_over(release: Engine, app: Celery, database: Engine) -> None:
    first, second = Dispatcher(app, database, QUICK), Dispatcher(app, database, QUICK)
    stop = threading.Event()
    thread = threading.Thread(target=first.run, args=(stop,))
    thread.start()
    try:
        deadline = time.monotonic() + 10
        while waiting(app) < 16 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert second.single_round() is None
        with database.begin() as connection:
            connection.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> "
                     "pg_backend_pid()")
            )  # fmt: skip
        taken = None
        while taken is None and time.monotonic() < deadline:
            taken = second.single_round()
        assert taken is not None
    finally:
        stop.set()
        thread.join()


def test_what_was_quarantined_can_be_retried(
    database: Engine, model: Emulator, model_file: Path, dispatcher: Dispatcher, connection: Connection
) -> None:
    add_observations(database, model, 2)
    enqueue_all(database, model, model_file, chunk_size=2, selection=Selection(min_snr_g=1.0))
    for _ in range(2):
        chunk = connection.scalar(
            text("SELECT max(fit_chunk_id) FROM phdl.fit_chunk WHERE state = 'planned'")
        )
        connection.rollback()
        run_chunk(chunk, bench(poisoned({2})))
    dispatcher.round(connection)
    assert run_status(connection)[0].quarantined == 1
    assert run_status(connection)[0].state == "done"
    connection.rollback()
    with database.begin() as other:
        assert retry_run(other, 1) == 1
    assert run_status(connection)[0].remaining == 1
    connection.rollback()
    run_chunk(chunk, bench(quick_fit))
    dispatcher.round(connection)
    status = run_status(connection)[0]
    assert (status.state, status.done, status.failed) == ("done", 1, 0)


def test_a_run_in_which_everything_fails_is_paused_before_it_is_all_quarantined(
    database: Engine,
    model: Emulator,
    model_file: Path,
    dispatcher: Dispatcher,
    connection: Connection,
    app: Celery,
) -> None:
    add_observations(database, model, 30)
    enqueue_all(database, model, model_file, chunk_size=1)
    for _ in range(10):
        dispatcher.round(connection)
        for chunk in received(app):
            run_chunk(chunk, bench(poisoned(set(range(1, 31)))))
    status = run_status(connection)[0]
    connection.rollback()
    assert status.state == "paused"
    assert 16 <= status.quarantined < 30
    assert status.quarantined + status.remaining == 30
    with database.begin() as other:
        assert retry_run(other, status.run) >= status.quarantined
    assert dispatcher.round(connection).published > 0
