"""A calibration that is asked for by message is done by a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from simulated_fits import add_fits, write_calibrators
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from phdl_catalog.calibration.simulation import simulate_calibrators
from phdl_catalog.cli.main import app as cli
from phdl_catalog.database.calibration_requests import find_request, list_requests
from phdl_catalog.database.calibration_run import CalibrationOutcome, CalibrationRequest
from phdl_catalog.database.calibration_sets import find_set, list_sets
from phdl_catalog.database.calibrators import import_references
from phdl_catalog.database.roles import WORKER
from phdl_catalog.errors import CalibrationError, ServiceError
from phdl_catalog.services.calibration_request import send_calibration, wait_for_calibration
from phdl_catalog.services.postgres_server import PostgresServer
from phdl_catalog.services.redis_server import RedisServer, connect_broker
from workers.app import CALIBRATION_QUEUE, make_app
from workers.dispatcher import Dispatcher
from workers.job_settings import JobSettings


@pytest.fixture
def survey(database: Engine, tmp_path: Path) -> Engine:
    """Thirty reference stars with fits by a model whose file is on another machine."""
    simulated = simulate_calibrators(
        ("teff", "logg", "fe_h"), pairs=2, references=30, targets=1, failed_fraction=0.0
    )
    with database.begin() as connection:
        add_fits(connection, simulated, "elsewhere")
    import_references(database, write_calibrators(simulated, tmp_path)[1], "survey")
    return database


@pytest.fixture
def worker(survey: Engine, broker: RedisServer, postgres: PostgresServer) -> Iterator[None]:
    """A worker that does calibrations only, with the rights of a worker."""
    url = postgres.url(str(survey.url.database), WORKER)
    command = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "--pool", "solo"]
    process = subprocess.Popen(
        [*command, "--queues", CALIBRATION_QUEUE, "--without-mingle", "--without-gossip"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PHDL_DATABASE_URL": url},
    )
    yield
    process.terminate()
    process.wait(timeout=30)


def ask(survey: Engine, model: str) -> CalibrationOutcome:
    number = send_calibration(survey, CalibrationRequest(model))
    return wait_for_calibration(survey, number, timeout=120)


@pytest.mark.usefixtures("worker")
def test_a_worker_with_the_workers_rights_computes_what_was_asked_for(survey: Engine) -> None:
    outcome = ask(survey, "elsewhere")
    assert (outcome.name, outcome.new) == ("elsewhere-cal1", True)
    with survey.connect() as connection:
        assert find_set(connection, outcome.name).state == "draft"
        assert connection.scalar(text("SELECT count(*) FROM phdl.calibrated_elsewhere_cal1")) > 30
        (row,) = list_requests(connection)
        owner = connection.scalar(text("SELECT actor FROM phdl.event WHERE action = 'computed'"))
    assert row.attempt == 1
    assert owner
    with pytest.raises(CalibrationError, match="no model 'nobody'"):
        ask(survey, "nobody")


@pytest.mark.usefixtures("worker")
def test_a_finished_run_is_calibrated_though_the_broker_forgot_everything(survey: Engine) -> None:
    enqueued = CliRunner().invoke(
        cli,
        ["fit", "enqueue", "dr10", "--model", "elsewhere", "--calibrate", "--json"],
        catch_exceptions=False,
    )
    number = json.loads(enqueued.stdout)["calibration_request"]
    with survey.begin() as connection:
        (asked,) = list_requests(connection)
        assert (asked.number, asked.run) == (number, json.loads(enqueued.stdout)["run"])
        connection.execute(text("UPDATE phdl.fit_run SET state = 'running'"))
    app = make_app()
    dispatcher = Dispatcher(app, survey, JobSettings(republish=0.1, republish_empty=0.1))
    with connect_broker() as client, survey.connect() as connection:
        # The first message is lost.
        with connection.begin():
            connection.execute(
                text("UPDATE phdl.calibration_request SET state = 'queued', published_at = now()")
            )
        client.flushall()
        dispatcher.round(connection)
        time.sleep(0.2)
        # The dispatcher finds the run done and closes it, then tells the workers, as often as it takes.
        done = wait_with(dispatcher, survey, number)
    app.close()
    assert done.name == "elsewhere-cal1"
    with survey.connect() as connection:
        assert len(list_sets(connection)) == 1


def wait_with(dispatcher: Dispatcher, survey: Engine, number: int) -> CalibrationOutcome:
    end = time.monotonic() + 60
    with survey.connect() as connection:
        while time.monotonic() < end:
            dispatcher.round(connection)
            with connection.begin():
                if (outcome := find_request(connection, number).outcome) is not None:
                    return outcome
            time.sleep(0.3)
    raise AssertionError("nobody calibrated")


@pytest.mark.usefixtures("broker")
def test_without_a_worker_the_wait_ends_with_advice(survey: Engine) -> None:
    number = send_calibration(survey, CalibrationRequest("elsewhere"))
    with pytest.raises(ServiceError, match="phdl worker"):
        wait_for_calibration(survey, number, timeout=0.2)


def test_without_a_broker_the_error_names_both_ways_and_nothing_is_asked_for(survey: Engine) -> None:
    with pytest.raises(ServiceError, match="--local"):
        send_calibration(survey, CalibrationRequest("elsewhere"))
    with survey.connect() as connection:
        assert list_requests(connection) == []
