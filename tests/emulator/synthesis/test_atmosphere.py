"""Decks of ATLAS9 are read as they are, and interpolated where there are decks around."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from synthesis_data import LAYERS, deck, grey_atmosphere

from phdl_catalog.emulator.synthesis.atmosphere import AtmosphereGrid, read_decks
from phdl_catalog.errors import ConflictError, InputError, NotFoundError


def test_a_deck_is_read_as_it_was_written(deck_folder: Path) -> None:
    decks = read_decks(deck_folder / "am10k2.dat")
    assert len(decks) == 16
    one = next(d for d in decks if (d.teff, d.logg) == (5000.0, 3.5))
    assert one.m_h == -1.0
    table = grey_atmosphere(5000.0, 3.5, -1.0)
    assert one.column_mass == pytest.approx(table[:, 0], rel=1e-6)
    assert one.temperature == pytest.approx(table[:, 1], abs=0.06)
    assert one.pressure == pytest.approx(table[:, 2], rel=1e-3)
    assert one.electron_density == pytest.approx(table[:, 3], rel=1e-3)
    assert len(one.atom_density) == LAYERS
    assert np.all(one.atom_density > one.electron_density)


def test_numbers_without_blanks_between_them_are_told_apart(tmp_path: Path) -> None:
    text = deck(5000.0, 4.0, 0.0)
    line = next(row for row in text.splitlines() if row.startswith(" 1.9") or "E+0" in row[:15])
    path = tmp_path / "one.dat"
    squeezed = line.replace(" 1.000E-03", "-1.000E-03", 1)
    path.write_text(text.replace(line, squeezed, 1))
    assert read_decks(path)[0].temperature == pytest.approx(grey_atmosphere(5000.0, 4.0, 0.0)[:, 1], abs=0.06)


def test_atmospheres_at_decks_are_the_decks_and_between_them_between(atmospheres: AtmosphereGrid) -> None:
    node = atmospheres.at(5000.0, 3.5, 0.0)
    assert node.temperature == pytest.approx(grey_atmosphere(5000.0, 3.5, 0.0)[:, 1], abs=0.06)
    middle, high = atmospheres.at(5500.0, 3.5, 0.0), atmospheres.at(6000.0, 3.5, 0.0)
    assert middle.temperature == pytest.approx(np.sqrt(node.temperature * high.temperature), rel=1e-9)
    assert middle.pressure == pytest.approx(np.sqrt(node.pressure * high.pressure), rel=1e-9)


def test_an_interpolated_grey_atmosphere_is_near_the_exact_one(atmospheres: AtmosphereGrid) -> None:
    exact = grey_atmosphere(5500.0, 4.2, -0.4)
    near = atmospheres.at(5500.0, 4.2, -0.4)
    assert near.temperature == pytest.approx(exact[:, 1], rel=0.02)
    assert np.log10(near.pressure) == pytest.approx(np.log10(exact[:, 2]), abs=0.25)


def test_nothing_is_extrapolated(atmospheres: AtmosphereGrid) -> None:
    with pytest.raises(InputError, match="teff = 7300 is outside the decks, which reach from 4000 to 7250"):
        atmospheres.at(7300.0, 4.0, 0.0)
    assert atmospheres.missing(7300.0, 4.0, 0.0) == [(7300.0, 4.0, 0.0)]
    assert atmospheres.missing(7250.0, 5.0, 0.5) == []


def test_a_hole_in_the_grid_is_named(tmp_path: Path) -> None:
    text = "".join(deck(t, g, 0.0) for t, g in ((5000.0, 4.0), (5000.0, 5.0), (6000.0, 4.0)))
    (tmp_path / "ap00k2.dat").write_text(text)
    grid = AtmosphereGrid.from_folder(tmp_path)
    assert grid.at(5500.0, 4.0, 0.0).teff == 5500.0
    assert grid.missing(5500.0, 4.5, 0.0) == [(6000.0, 5.0, 0.0)]
    with pytest.raises(InputError, match="not there: Teff 6000, log g 5"):
        grid.at(5500.0, 4.5, 0.0)


def test_folders_without_whole_decks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no folder .*kurucz\.harvard\.edu"):
        AtmosphereGrid.from_folder(tmp_path / "absent")
    with pytest.raises(NotFoundError, match=r"no files \.dat"):
        AtmosphereGrid.from_folder(tmp_path)
    path = tmp_path / "a.dat"
    path.write_text("something else")
    with pytest.raises(InputError, match="holds no deck of ATLAS9"):
        AtmosphereGrid.from_folder(tmp_path)
    text = deck(5000.0, 4.0, 0.0)
    path.write_text("\n".join(text.splitlines()[:20]))
    with pytest.raises(InputError, match=rf"\(Teff 5000., log g 4.00000\): {LAYERS} layers are announced"):
        AtmosphereGrid.from_folder(tmp_path)
    path.write_text(text + text)
    with pytest.raises(ConflictError, match="both hold Teff 5000"):
        AtmosphereGrid.from_folder(tmp_path)
