"""Line lists of four formats hold the same lines, in vacuum."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from synthesis_data import LINES, write_ges, write_kurucz, write_moog, write_vald

from phdl_catalog.emulator.synthesis.air import to_air, to_vacuum
from phdl_catalog.emulator.synthesis.hydrogen import hydrogen_lines, transition
from phdl_catalog.emulator.synthesis.line_list import LineList, merge
from phdl_catalog.emulator.synthesis.moog import parse_species
from phdl_catalog.emulator.synthesis.reading import read_lines
from phdl_catalog.errors import InputError, NotFoundError

FORMATS: dict[str, Callable[[Path], Path]] = {
    "vald long": write_vald,
    "vald short": lambda path: write_vald(path, long=False),
    "kurucz": write_kurucz,
    "moog": write_moog,
    "ges": write_ges,
}
ORDERED = sorted(LINES, key=lambda line: line[2])


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_gives_the_same_lines_in_vacuum(name: str, tmp_path: Path) -> None:
    suffix = ".fits" if name == "ges" else ".txt"
    lines = read_lines([FORMATS[name](tmp_path / f"lines{suffix}")])
    lines = lines.select(lines.wavelength < 6000.0)  # without those of single isotopes
    assert lines.species.tolist() == [f"{line[0]} {line[1]}" for line in ORDERED]
    assert lines.wavelength == pytest.approx(to_vacuum([line[2] for line in ORDERED]), abs=6e-4)
    assert lines.excitation == pytest.approx([line[3] for line in ORDERED], abs=2e-3)
    assert lines.log_gf == pytest.approx([line[5] for line in ORDERED], abs=1e-3)
    if name != "moog":  # which has neither radiative nor Stark damping
        assert lines.gamma_rad == pytest.approx([line[6] for line in ORDERED], abs=0.01)
        assert lines.gamma_stark == pytest.approx([line[7] for line in ORDERED], abs=0.01)
    assert lines.gamma_vdw == pytest.approx([line[8] for line in ORDERED], abs=0.01)


@pytest.mark.parametrize(
    ("write", "position", "log_gf"),
    [
        (write_moog, 6143.41, -0.032 + np.log10(0.11232)),  # barium 137
        (lambda path: write_ges(path.with_suffix(".fits")), 6646.93, 0.12 + np.log10(0.4781)),  # europium 151
    ],
)
def test_lines_of_one_isotope_are_weakened_by_its_share(
    write: Callable[[Path], Path], position: float, log_gf: float, tmp_path: Path
) -> None:
    lines = read_lines([write(tmp_path / "lines.txt")])
    row = int(np.argmin(np.abs(lines.wavelength - position)))
    assert lines.wavelength[row] == pytest.approx(position, abs=0.01)
    assert lines.log_gf[row] == pytest.approx(log_gf, abs=1e-4)


def test_air_and_vacuum_are_inverse_and_agree_with_known_lines() -> None:
    wavelength = np.linspace(3000.0, 10000.0, 50)
    assert to_vacuum(to_air(wavelength)) == pytest.approx(wavelength, abs=1e-9)
    # H alpha and the sodium D lines, in air and in vacuum (NIST).
    assert to_vacuum([6562.79, 5889.951, 5895.924]) == pytest.approx([6564.60, 5891.583, 5897.558], abs=0.005)
    assert to_vacuum(1500.0) == 1500.0


@pytest.mark.parametrize(
    ("lower", "upper", "air", "strength"),
    [(2, 3, 6562.80, 0.64108), (2, 4, 4861.33, 0.11938), (2, 5, 4340.47, 0.044694), (3, 4, 18751.0, 0.84210)],
)
def test_hydrogen_lines_are_those_of_the_laboratory(
    lower: int, upper: int, air: float, strength: float
) -> None:
    """Wiese & Fuhr (2009, J. Phys. Chem. Ref. Data 38, 565)."""
    wavelength, computed = transition(lower, upper)
    assert to_air(wavelength) == pytest.approx(air, abs=0.015)
    assert computed == pytest.approx(strength, rel=1e-3)


def test_hydrogen_of_the_files_is_replaced_by_the_engines_own(tmp_path: Path) -> None:
    path = write_kurucz(tmp_path / "gf.dat")
    text = path.read_text()
    path.write_text(text + text.splitlines()[0].replace(" 22.00", "  1.00") + "\n")
    assert not read_lines([path]).is_hydrogen.any()
    own = hydrogen_lines((4500.0, 5000.0))
    assert own.is_hydrogen.all()
    assert np.abs(own.wavelength - to_vacuum(4861.33)).min() < 0.02


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        ("26.0", ((26,), 1, (0,))),
        ("26.1", ((26,), 2, (0,))),
        ("56.1137", ((56,), 2, (137,))),
        ("3.0007", ((3,), 1, (7,))),
        ("607.0", ((6, 7), 1, (0, 0))),
        ("607.01214", ((6, 7), 1, (12, 14))),
    ],
)
def test_species_of_moog_are_understood(code: str, meaning: tuple[object, ...]) -> None:
    assert parse_species(code) == meaning


def test_what_cannot_be_read_is_refused_with_the_place_or_the_formats(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no line list .*vald\.astro\.uu\.se"):
        read_lines([tmp_path / "absent"])
    path = tmp_path / "lines"
    path.write_text("a poem\nof two lines\n")
    with pytest.raises(InputError, match=r"no line list of a known format.*gfall"):
        read_lines([path])
    write_moog(path).write_text(path.read_text() + " 5000.0000    26.0     x.000    -1.000\n")
    with pytest.raises(InputError, match="line 15: could not convert"):
        read_lines([path])
    write_moog(path).write_text(path.read_text().replace("56.1137", "56.1139"))
    with pytest.raises(InputError, match="Ba-139 is not known"):
        read_lines([path])
    text = write_kurucz(path).read_text()
    path.write_text(text.replace(" 26.00", "106.00"))
    with pytest.raises(InputError, match=r"code 106\.00 is no element"):
        read_lines([path])
    whole = write_vald(path).read_text().splitlines(keepends=True)
    path.write_text("".join(whole[:9]))
    with pytest.raises(InputError, match="looks like a VALD line list but cannot be read"):
        read_lines([path])


def test_impossible_values_and_unequal_columns_are_refused() -> None:
    with pytest.raises(InputError, match=r"line 2 .* impossible value"):
        LineList.from_columns("x", ["Fe 1"] * 2, [5000.0, -1.0], [1, 1], [0, 0], [8, 8], [-6, -6], [-7, -7])
    with pytest.raises(InputError, match="make no line list"):
        LineList.from_columns("x", ["Fe 1"], [5000.0, 5001.0], [1], [0], [8], [-6], [-7])
    with pytest.raises(InputError, match="no line list was given"):
        merge([])
