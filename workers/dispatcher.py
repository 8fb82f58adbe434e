"""The dispatcher: publishes chunks that are due, and takes back those whose worker is silent.

Any number of dispatchers may run; one leads, holding an advisory lock of PostgreSQL, and the others wait
until its connection ends; the server ends it if nothing was heard of the leader for the time of a lease.
Everything it knows is in ``fit_chunk``: it can be killed or frozen at any moment.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from dataclasses import dataclass

from celery import Celery
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from phdl_catalog.database.chunks import requeue_expired
from phdl_catalog.database.migrate import check_connection
from phdl_catalog.database.outbox import (
    finish_runs,
    in_flight,
    oldest_due,
    pause_hopeless,
    take_due,
    take_overdue,
)
from phdl_catalog.database.session import connect
from phdl_catalog.errors import ServiceError
from workers import metrics
from workers.broker import BROKER_ERRORS, publish, waiting
from workers.calibration import publish_due
from workers.failures import describe, is_database_hiccup
from workers.job_settings import JobSettings

_log = logging.getLogger(__name__)

#: Key of the advisory lock of the leading dispatcher.
_LOCK = 7_034_252

#: Chunks in the broker's queue: at least so many, and so many for each that is running.  Few, so that a run
#: of a higher priority is served soon; enough for a worker never to wait for the next round.
_LEAST_DEPTH, _DEPTH_FACTOR = 16, 4

#: How many rounds' time to wait before asking again for the lock, or for a database that is away.
_STANDBY = 2.0


@dataclass(frozen=True)
class Round:
    """What one round did: numbers of chunks, and of runs that were finished."""

    requeued: int
    published: int
    republished: int
    finished: int

    def __bool__(self) -> bool:
        return bool(self.requeued or self.published or self.republished or self.finished)


class Dispatcher:
    """Publishes what is due.

    Parameters
    ----------
    app : Celery
        Whose broker is told.
    engine : Engine, optional
        Database; of the settings by default.
    jobs : JobSettings, optional
        Times; from the environment by default.
    """

    def __init__(self, app: Celery, engine: Engine | None = None, jobs: JobSettings | None = None) -> None:
        self._app = app
        self._jobs = jobs or JobSettings()
        self._engine = engine or connect(pooled=False, silence=self._jobs.lease)
        self._patient_until = 0.0
        self.name = f"dispatcher {socket.gethostname()}:{os.getpid()}"

    def run(self, stop: threading.Event) -> None:
        """Work, or stand by while another dispatcher leads, until `stop` is set."""
        told = False
        while not stop.is_set():
            try:
                with self._engine.connect() as connection:
                    if _take_lead(connection):
                        told = False
                        _log.info("leading")
                        self._lead(connection, stop)
                        continue
                if not told:
                    _log.info("another dispatcher leads; standing by")
                    told = True
                    metrics.show_flight(0, 0, None, leads=False)
            except (DBAPIError, ServiceError) as error:
                if not is_database_hiccup(error):
                    raise
                _log.warning("the database does not answer, will try again: %s", describe(error))
                # Workers could not send heartbeats either: let them, before their leases are judged.
                self._patient_until = time.monotonic() + self._jobs.heartbeat * 1.5
            stop.wait(_STANDBY * self._jobs.tick)

    def single_round(self) -> Round | None:
        """One round, unless another dispatcher leads."""
        with self._engine.connect() as connection:
            return self.round(connection) if _take_lead(connection) else None

    def round(self, connection: Connection) -> Round:
        """Take back what is overdue, publish what is due, again what was lost, and close finished runs.

        Raises
        ------
        SchemaError
            If the database was upgraded, and this code is older.
        """
        with connection.begin():
            check_connection(connection)
        requeued = 0
        if time.monotonic() >= self._patient_until:
            with connection.begin():
                requeued = requeue_expired(connection, self.name)
        with connection.begin():
            for run in pause_hopeless(connection, self.name):
                _log.error("run %d is paused: none of its spectra could be fitted", run)
            flight, oldest = in_flight(connection), oldest_due(connection)
            depth = max(_LEAST_DEPTH, _DEPTH_FACTOR * flight.running)
            due = take_due(connection, depth - flight.queued, self.name) if flight.queued < depth else []
        published = self._publish(due)
        republished = self._republish(connection, flight.queued) if flight.queued else 0
        with connection.begin():
            finished = finish_runs(connection, self.name)
        calibrations = publish_due(self._app, connection, self._jobs.republish)
        for run in finished:
            _log.info("run %d is done", run)
        metrics.count_round(requeued, published, republished, len(finished))
        metrics.show_flight(flight.queued, flight.running, oldest)
        return Round(requeued, published + calibrations, republished, len(finished))

    def _lead(self, connection: Connection, stop: threading.Event) -> None:
        _give_up_lead_after(connection, self._jobs.lease)
        while not stop.is_set():
            done = self.round(connection)
            if done:
                _log.info(
                    "published %d chunks, again %d, taken back %d",
                    done.published,
                    done.republished,
                    done.requeued,
                )
            stop.wait(self._jobs.tick)

    def _republish(self, connection: Connection, queued: int) -> int:
        """Publish again what the broker must have lost.

        A broker that has as many messages as there are queued chunks has lost none, however long they wait.
        """
        try:
            messages = waiting(self._app)
        except BROKER_ERRORS as error:
            _log.warning("the broker does not answer: %s", describe(error))
            return 0
        if messages >= queued:
            return 0
        age = self._jobs.republish if messages else min(self._jobs.republish, self._jobs.republish_empty)
        with connection.begin():
            overdue = take_overdue(connection, age, queued)
        return self._publish(overdue)

    def _publish(self, chunks: list[int]) -> int:
        # After the commit: a message that is sent finds its chunk; one that is lost is sent again.
        try:
            publish(self._app, chunks)
        except BROKER_ERRORS as error:
            _log.warning("the broker does not answer, will publish again: %s", describe(error))
            return 0
        return len(chunks)


def _take_lead(connection: Connection) -> bool:
    leads = bool(connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _LOCK}))
    connection.commit()
    return leads


def _give_up_lead_after(connection: Connection, seconds: float) -> None:
    """A leader that is silent for so long [s] is none: the server ends its session, and with it the lock."""
    limit = {"limit": f"{1000 * seconds:.0f}ms"}
    connection.execute(text("SELECT set_config('idle_session_timeout', :limit, false)"), limit)
    connection.commit()
