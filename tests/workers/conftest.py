"""Fixtures of the job tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from job_examples import load, small_model

from phdl_catalog.emulator.model import Emulator


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of a small model with four labels."""
    return small_model(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def model(model_file: Path) -> Emulator:
    return load(model_file)


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every test has a pixel store and a data directory of its own."""
    monkeypatch.setenv("PHDL_DATA_DIR", str(tmp_path))
