"""A model of analytic lines, and a fitter for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from line_model import LineModel

from phdl_catalog.fitting import Fitter


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model() -> LineModel:
    return LineModel()


@pytest.fixture(scope="session")
def fitter(model: LineModel) -> Fitter:
    return Fitter(model)
