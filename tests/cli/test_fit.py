"""The commands of fit runs, as a person and as a program call them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from job_examples import add_observations, bench, load, small_model
from job_fits import quick_fit
from sqlalchemy import Engine
from typer.testing import CliRunner

from phdl_catalog.cli.main import app
from phdl_catalog.database.outbox import finish_runs
from phdl_catalog.errors import PhdlError
from workers.fitting import run_chunk

Phdl = Callable[..., Any]


@pytest.fixture
def release(database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Twelve spectra, and a model `small` in the folder of models."""
    monkeypatch.setenv("PHDL_DATA_DIR", str(tmp_path))
    path = small_model(tmp_path / "models")
    add_observations(database, load(path), 12)
    return database


def phdl(*arguments: str) -> Any:
    """Run a command with --json and read its document."""
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_a_plan_measures_and_changes_nothing(release: Engine) -> None:
    plan = phdl("fit", "plan", "dr10", "--model", "small", "--chunk-size", "5")
    assert (plan["selected"], plan["spectra"], plan["chunks"], plan["run"]) == (12, 12, 3, None)
    assert plan["rate"] > 0
    assert plan["rate_from"] == "sample"
    assert plan["seconds"] == pytest.approx(12 / plan["rate"])
    assert 12 * 200 < plan["bytes"] < 12 * 2048
    assert phdl("fit", "status")["runs"] == []


def test_the_second_enqueue_says_that_the_run_exists(release: Engine) -> None:
    command = ("fit", "enqueue", "dr10", "--model", "small", "--chunk-size", "5", "--class", "star")
    first, second = phdl(*command), phdl(*command)
    assert (first["created"], first["added"], first["chunks"]) == (True, 9, 2)
    assert (second["created"], second["added"], second["run"]) == (False, 0, first["run"])
    spoken = CliRunner().invoke(app, list(command))
    assert "exists already" in spoken.stdout


def test_of_a_list_of_obsids_a_program_is_told_how_many(release: Engine, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("obsid snr\n3 10\n# 4\n7\n\n8888\n")
    chosen = ("dr10", "--model", "small", "--min-snr-g", "1", "--obsid-file", str(listed))
    plan = phdl("fit", "plan", *chosen, "--no-measure")
    assert (plan["selected"], plan["selection"]) == (2, {"min_snr_g": 1.0, "n_obsids": 3})
    run = phdl("fit", "enqueue", *chosen)["run"]
    assert phdl("fit", "status", str(run))["runs"][0]["selection"] == plan["selection"]


def test_the_status_has_the_shape_that_other_programs_rely_on(release: Engine) -> None:
    run = phdl("fit", "enqueue", "dr10", "--model", "small", "--chunk-size", "5")["run"]
    run_chunk(1, bench(quick_fit))
    (status,) = phdl("fit", "status", str(run))["runs"]
    wanted = {
        "run": run, "release": "dr10", "model": "small", "state": "planned", "spectra": 12, "done": 5,
        "failed": 0, "chunks": {"done": 1, "planned": 2},
    }  # fmt: skip
    assert {key: status[key] for key in wanted} == wanted
    assert status["eta_s"] == pytest.approx(status["remaining"] / status["rate"], rel=1e-6)
    assert "12" in CliRunner().invoke(app, ["fit", "status"]).stdout


def test_a_watched_run_is_shown_until_it_is_over(release: Engine) -> None:
    run = phdl("fit", "enqueue", "dr10", "--model", "small", "--chunk-size", "6")["run"]

    def work() -> None:
        for chunk in (1, 2):
            run_chunk(chunk, bench(quick_fit))
        with release.begin() as connection:
            finish_runs(connection, "test")

    with ThreadPoolExecutor() as pool:
        working = pool.submit(work)
        shown = CliRunner().invoke(app, ["fit", "status", str(run), "--watch", "--interval", "0.2"])
        working.result()
    assert shown.exit_code == 0
    for part in ("fit runs", "done", "2 done", "oldest waits since", "workers", "spectra/s"):
        assert part in shown.stdout, part


def test_a_run_is_paused_resumed_cancelled_and_not_retried(release: Engine) -> None:
    run = str(phdl("fit", "enqueue", "dr10", "--model", "small")["run"])
    phdl("fit", "pause", run)
    assert phdl("fit", "status", run)["runs"][0]["state"] == "paused"
    phdl("fit", "resume", run)
    assert phdl("fit", "cancel", run)["spectra"] == 12
    with pytest.raises(PhdlError, match="enqueue the release again"):
        CliRunner().invoke(app, ["fit", "retry", run], catch_exceptions=False)


def test_the_worker_has_nothing_to_do_and_says_so(release: Engine, broker: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "phdl_catalog.cli.main", "worker", "--until-idle", "--json"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == {"runs": []}


def test_without_a_database_the_command_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PHDL_DATA_DIR", str(tmp_path))
    with pytest.raises(PhdlError, match="phdl up"):
        CliRunner().invoke(app, ["fit", "status"], catch_exceptions=False)
