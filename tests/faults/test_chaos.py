"""Accidents in random order, at random moments: nothing is lost, nothing is doubled, everything is explained.

A few of them run with the other tests.  A long schedule, or another one:

    pytest tests/faults/test_chaos.py --faults 60 --seed 7
"""

from __future__ import annotations

import pytest
from job_chaos import Chaos
from job_stage import Stage

from phdl_catalog.database.fit_runs import retry_run
from phdl_catalog.emulator.model import Emulator

SPECTRA = 24
DEADLY = (7,)


def test_after_a_random_schedule_of_accidents_the_counts_add_up(
    stage: Stage, model: Emulator, pytestconfig: pytest.Config
) -> None:
    seed, faults = pytestconfig.getoption("--seed"), pytestconfig.getoption("--faults")
    chaos = Chaos(stage, model, seed, SPECTRA, DEADLY)
    try:
        chaos.run(faults)
        chaos.finish()
    finally:
        print(f"seed {seed}, {faults} faults:", *chaos.told, sep="\n")
    given_up = stage.number("SELECT count(*) FROM phdl.fit_chunk WHERE state = 'quarantined'")
    stage.assert_all_is_accounted_for(chaos.spectra, labelled=chaos.spectra - given_up)
    # What the accidents had put aside is no fault of the spectra: a healthy worker fits it all.
    if given_up:
        with stage.engine.begin() as connection:
            assert retry_run(connection, 1) == given_up
    stage.worker()
    stage.wait_for_the_end()
    stage.assert_all_is_accounted_for(chaos.spectra)
    events = stage.number("SELECT count(*) FROM phdl.event")
    attempts = stage.number("SELECT sum(attempt) FROM phdl.fit_chunk")
    print(f"{chaos.spectra} spectra, {attempts} attempts, {events} events, {given_up} put aside for a while")
