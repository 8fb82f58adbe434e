"""Small grids for the tests of the emulator."""

from __future__ import annotations

from pathlib import Path

import pytest

from phdl_catalog.emulator.grid import AbInitioGrid, load_grid
from tests.analytic_grid import PIXELS, write_grid


@pytest.fixture
def grid_file(tmp_path: Path) -> Path:
    return write_grid(tmp_path / "grid.h5")


@pytest.fixture(scope="session")
def small_grid(tmp_path_factory: pytest.TempPathFactory) -> AbInitioGrid:
    return load_grid(write_grid(tmp_path_factory.mktemp("grid") / "grid.h5"), PIXELS)


@pytest.fixture(scope="session")
def grid_sample() -> Path:
    """A cut of an ab initio grid that comes with the package; its stars trained no model."""
    from importlib.resources import files

    return Path(str(files("phdl_catalog.emulator") / "sample" / "ab_initio_sample.h5"))
