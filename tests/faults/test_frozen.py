"""Processes that are frozen and continued later: others take over, and who wakes up does no harm."""

from __future__ import annotations

import os
import signal

from job_stage import Stage

SPECTRA = 24


def test_a_frozen_worker_loses_its_chunk_and_does_no_harm_when_it_wakes(stage: Stage) -> None:
    stage.dispatcher()
    frozen = stage.worker(TEST_SECONDS="0.5")
    stage.wait_for_a_chunk()
    os.killpg(frozen.pid, signal.SIGSTOP)
    stage.worker()
    stage.wait_for_the_end()
    stage.assert_all_is_accounted_for(SPECTRA)
    os.killpg(frozen.pid, signal.SIGCONT)
    fenced = ("somebody else", "no longer owns")
    stage.wait_until(lambda: any(words in stage.log.read_text() for words in fenced), "a fence")
    stage.assert_all_is_accounted_for(SPECTRA)


def test_a_frozen_dispatcher_loses_the_lead_and_stands_by_when_it_wakes(stage: Stage) -> None:
    frozen = stage.dispatcher()
    stage.wait_until(lambda: stage.said(": leading") == 1, "a leader")
    stage.dispatcher()
    stage.wait_until(lambda: stage.said("standing by") == 1, "a second dispatcher")
    os.killpg(frozen.pid, signal.SIGSTOP)
    stage.worker()
    stage.wait_until(lambda: stage.said(": leading") == 2, "another leader")
    stage.wait_for_the_end()
    os.killpg(frozen.pid, signal.SIGCONT)
    stage.wait_until(lambda: stage.said("standing by") == 2, "the first one to stand by")
    assert frozen.poll() is None
    stage.assert_all_is_accounted_for(SPECTRA)
