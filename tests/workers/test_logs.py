"""Logs say what they are about, and no password."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from workers import logs


@pytest.fixture
def root() -> Iterator[None]:
    """The logging of the test run as it was."""
    logger = logging.getLogger()
    handlers, level = list(logger.handlers), logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.mark.parametrize("as_json", ["1", "0"])
def test_a_line_names_run_and_chunk_and_hides_passwords(
    root: None, monkeypatch: pytest.MonkeyPatch, as_json: str
) -> None:
    monkeypatch.setenv("PHDL_LOG_JSON", as_json)
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.configure("INFO")
    logging.getLogger("workers.x").error(
        "cannot reach postgresql://phdl:hunter2@db/phdl nor redis://:hunter2@broker (password=hunter2)",
        extra={"job": {"run": 3, "chunk": 17}},
    )
    line = stream.getvalue()
    assert "hunter2" not in line
    assert line.count("\n") == 1
    if as_json == "1":
        document = json.loads(line)
        assert (document["run"], document["chunk"], document["level"]) == (3, 17, "error")
    else:
        assert "run=3 chunk=17" in line
