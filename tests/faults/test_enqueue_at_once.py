"""Several people enqueue the same release at the same moment: one run, and no spectrum in two jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from job_examples import add_observations, load, small_model
from job_stage import Stage


def test_enqueues_of_several_processes_at_once_make_one_run(empty_stage: Stage, tmp_path: Path) -> None:
    stage = empty_stage
    path = small_model(tmp_path / "models")
    add_observations(stage.engine, load(path), 40)
    command = ["fit", "enqueue", "dr10", "--model", "small", "--chunk-size", "4", "--json"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "phdl_catalog.cli.main", *command], env=os.environ, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    answers = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(answer["added"] for answer in answers) == [0, 40]
    assert {answer["run"] for answer in answers} == {1}
    stage.dispatcher()
    stage.worker(concurrency=2)
    stage.wait_for_the_end()
    stage.assert_all_is_accounted_for(40)
    assert stage.events("enqueued") == 1
