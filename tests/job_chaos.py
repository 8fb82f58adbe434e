"""Accidents in an order that a seed decides, at moments that it decides, while a run goes on."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from job_examples import add_observations, enqueue_again
from job_stage import Process, Stage
from sqlalchemy import text

from phdl_catalog.database.fit_runs import change_priority, pause_run, resume_run
from phdl_catalog.emulator.model import Emulator
from phdl_catalog.services.redis_server import connect_broker
from workers.app import make_app
from workers.broker import publish

#: Workers, and their processes; dispatchers, of which one leads.
_WORKERS, _PROCESSES, _DISPATCHERS = 2, 2, 2

#: Spectra that come with each growth of the release; it grows where fewer chunks than these are open.
_GROWTH, _FEWEST = 24, 8
_OPEN = "SELECT count(*) FROM phdl.fit_chunk WHERE state IN ('planned', 'queued', 'running')"


class Chaos:
    """One schedule.

    Parameters
    ----------
    stage : Stage
        Where it happens; its release is enqueued.
    model : Emulator
        For the spectra that are added under way.
    seed : int
        Decides what happens and when.
    spectra : int
        Spectra there are already.
    deadly : tuple of int
        Observations that kill the process which fits them.
    """

    def __init__(
        self, stage: Stage, model: Emulator, seed: int, spectra: int, deadly: tuple[int, ...] = ()
    ) -> None:
        self.stage, self.model, self.spectra = stage, model, spectra
        self.random = random.Random(seed)
        self.deadly = deadly
        self.told: list[str] = []
        self.workers: list[Process] = []
        self.dispatchers: list[Process] = []
        self.dispatchers_ever: list[Process] = []
        self.frozen: list[Process] = []
        self._began = time.monotonic()

    def run(self, faults: int) -> None:
        """Let so many accidents happen; the run goes on behind them, and is fed so that it does."""
        accidents = self._accidents()
        self._replace_the_dead()
        for _ in range(faults):
            time.sleep(self.random.uniform(0.0, 0.8))
            if self.stage.number(_OPEN) < _FEWEST:
                self.grow()
            accident = self.random.choice(accidents)
            self.told.append(f"{time.monotonic() - self._began:7.2f} {accident.__name__}")
            accident()
            if self.frozen and self.random.random() < 0.4:
                self._wake()
            self._replace_the_dead()

    def finish(self) -> None:
        """Wake who sleeps, and let a healthy worker do the rest, with what was given up tried again."""
        while self.frozen:
            self._wake()
        self._replace_the_dead()
        self.stage.wait_for_the_end(timeout=180)
        for process in self.workers:
            self.stage.kill(process)

    def _accidents(self) -> list[Callable[[], None]]:
        return [
            self.kill_child, self.kill_child, self.kill_worker, self.kill_dispatcher, self.freeze_worker,
            self.freeze_dispatcher,
            self.stop_worker, self.end_worker, self.flush_broker, self.crash_broker, self.restart_database,
            self.crash_database, self.cut_connections, self.deliver_again, self.pause, self.grow,
            self.enqueue_twice, self.prioritise,
        ]  # fmt: skip

    def kill_child(self) -> None:
        children = self.stage.children(self.random.choice(self.workers))
        if children:
            os.kill(self.random.choice(children), signal.SIGKILL)

    def kill_worker(self) -> None:
        self.stage.kill(self.random.choice(self.workers))

    def kill_dispatcher(self) -> None:
        self.stage.kill(self.random.choice(self.dispatchers))

    def freeze_worker(self) -> None:
        process = self.random.choice(self.workers)
        self.workers.remove(process)
        self.frozen.append(process)
        os.killpg(process.pid, signal.SIGSTOP)

    def freeze_dispatcher(self) -> None:
        process = self.random.choice(self.dispatchers)
        self.dispatchers.remove(process)
        self.frozen.append(process)
        os.killpg(process.pid, signal.SIGSTOP)

    def stop_worker(self) -> None:
        self.random.choice(self.workers).send_signal(signal.SIGQUIT)

    def end_worker(self) -> None:
        self.random.choice(self.workers).send_signal(signal.SIGTERM)

    def flush_broker(self) -> None:
        with connect_broker() as client:
            client.flushall()

    def crash_broker(self) -> None:
        self.stage.crash_redis(away=self.random.uniform(0.0, 1.0))

    def restart_database(self) -> None:
        self.stage.restart_postgres(away=self.random.uniform(0.0, 1.0))

    def crash_database(self) -> None:
        self.stage.crash_postgres()

    def cut_connections(self) -> None:
        with self.stage.engine.connect() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )

    def deliver_again(self) -> None:
        with self.stage.engine.connect() as connection:
            chunks = list(connection.scalars(text("SELECT fit_chunk_id FROM phdl.fit_chunk")))
        app = make_app()
        publish(app, self.random.choices(chunks, k=10))
        app.close()

    def pause(self) -> None:
        if not self.stage.is_done():
            with self.stage.engine.begin() as connection:
                pause_run(connection, 1)
            time.sleep(self.random.uniform(0.0, 0.5))
            with self.stage.engine.begin() as connection:
                resume_run(connection, 1)

    def prioritise(self) -> None:
        with self.stage.engine.begin() as connection:
            change_priority(connection, 1, self.random.randint(-5, 5))

    def grow(self) -> None:
        add_observations(self.stage.engine, self.model, _GROWTH, first_obsid=self.spectra + 1)
        self.spectra += _GROWTH
        enqueue_again(self.stage.engine)

    def enqueue_twice(self) -> None:
        add_observations(self.stage.engine, self.model, _GROWTH, first_obsid=self.spectra + 1)
        self.spectra += _GROWTH
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(enqueue_again, [self.stage.engine] * 2))

    def _wake(self) -> None:
        process = self.frozen.pop(0)
        os.killpg(process.pid, signal.SIGCONT)
        (self.dispatchers if process in self.dispatchers_ever else self.workers).append(process)

    def _replace_the_dead(self) -> None:
        self.workers = [process for process in self.workers if process.poll() is None]
        self.dispatchers = [process for process in self.dispatchers if process.poll() is None]
        while len(self.workers) < _WORKERS:
            seconds = str(round(self.random.uniform(0.1, 0.8), 3))
            deadly = " ".join(map(str, self.deadly))
            self.workers.append(self.stage.worker(_PROCESSES, TEST_SECONDS=seconds, TEST_DEADLY=deadly))
        while len(self.dispatchers) < _DISPATCHERS:
            self.dispatchers.append(self.stage.dispatcher())
            self.dispatchers_ever.append(self.dispatchers[-1])
