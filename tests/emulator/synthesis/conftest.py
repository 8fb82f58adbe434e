"""Small data of the synthesis tests, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthesis_data import write_decks

from phdl_catalog.emulator.synthesis.atmosphere import AtmosphereGrid


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """PySME writes its settings into the home folder when it is imported: into one of the tests' own."""
    pytest.importorskip("pysme", reason="PySME is not installed: pip install 'phdl-catalog[synthesis]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        from phdl_catalog.emulator.synthesis.library import library

        library()


@pytest.fixture(scope="session")
def deck_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decks(tmp_path_factory.mktemp("decks"))


@pytest.fixture(scope="session")
def atmospheres(deck_folder: Path) -> AtmosphereGrid:
    return AtmosphereGrid.from_folder(deck_folder)
