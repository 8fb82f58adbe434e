"""A calibration that is asked for by message is done by a worker."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from simulated_fits import add_fits, write_calibrators
from sqlalchemy import Engine

from phdl_catalog.calibration.simulation import simulate_calibrators
from phdl_catalog.database.calibration_run import CalibrationRequest
from phdl_catalog.database.calibration_sets import find_set
from phdl_catalog.database.calibrators import import_references
from phdl_catalog.errors import CalibrationError, ServiceError
from phdl_catalog.services.calibration_request import send_calibration, wait_for_calibration
from phdl_catalog.services.redis_server import RedisServer
from workers.app import CALIBRATION_QUEUE


@pytest.fixture
def survey(database: Engine, tmp_path: Path) -> Engine:
    """Thirty reference stars with fits."""
    simulated = simulate_calibrators(
        ("teff", "logg", "fe_h"), pairs=2, references=30, targets=1, failed_fraction=0.0
    )
    with database.begin() as connection:
        add_fits(connection, simulated, "default")
    import_references(database, write_calibrators(simulated, tmp_path)[1], "survey")
    return database


@pytest.fixture
def worker(survey: Engine, broker: RedisServer) -> Iterator[None]:
    """A worker that does calibrations only."""
    command = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "--pool", "solo"]
    process = subprocess.Popen(
        [*command, "--queues", CALIBRATION_QUEUE, "--without-mingle", "--without-gossip"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield
    process.terminate()
    process.wait(timeout=30)


@pytest.mark.usefixtures("worker")
def test_a_worker_computes_what_was_asked_for(survey: Engine) -> None:
    outcome = wait_for_calibration(survey, send_calibration(CalibrationRequest("default")), timeout=120)
    assert (outcome.name, outcome.new) == ("default-cal1", True)
    with survey.connect() as connection:
        assert find_set(connection, outcome.name).state == "draft"
    with pytest.raises(CalibrationError, match="no model 'nobody'"):
        wait_for_calibration(survey, send_calibration(CalibrationRequest("nobody")), timeout=120)


@pytest.mark.usefixtures("broker")
def test_without_a_worker_the_wait_ends_with_advice(survey: Engine) -> None:
    sent = send_calibration(CalibrationRequest("default"))
    with pytest.raises(ServiceError, match="phdl worker"):
        wait_for_calibration(survey, sent, timeout=0.2)


def test_without_a_broker_the_error_names_both_ways(survey: Engine) -> None:
    with pytest.raises(ServiceError, match="--local"):
        send_calibration(CalibrationRequest("default"))
