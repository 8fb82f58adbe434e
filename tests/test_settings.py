"""Settings that nobody gave."""

from __future__ import annotations

import os

import pytest

from phdl_catalog.settings import Settings


def test_threads_are_by_default_the_cores_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PHDL_THREADS", raising=False)
    allowed = os.sched_getaffinity(0)
    assert Settings().threads == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert Settings().threads == 1
    finally:
        os.sched_setaffinity(0, allowed)
