"""Computed spectra obey the physics of line formation."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from phdl_catalog.emulator.synthesis.air import to_vacuum
from phdl_catalog.emulator.synthesis.atmosphere import Atmosphere, AtmosphereGrid
from phdl_catalog.emulator.synthesis.engine import (
    SynthesisSettings,
    Synthesizer,
    differential_spectra,
    spectrum_of,
)
from phdl_catalog.emulator.synthesis.line_list import LineList
from phdl_catalog.errors import InputError

#: Far from lines of hydrogen.
POSITION = float(to_vacuum(6252.555))
NARROW = SynthesisSettings((POSITION - 5.0, POSITION + 5.0))
SUN = {"teff": 5777.0, "logg": 4.44, "v_micro": 1.0, "fe_h": 0.0}


def one_line(
    log_gf: float, excitation: float = 2.4, species: str = "Fe 1", settings: SynthesisSettings = NARROW
) -> Synthesizer:
    lines = LineList.from_columns("one", [species], [POSITION], [excitation], [log_gf], [8.0], [-6.0], [-7.6])
    return Synthesizer(lines, settings, hydrogen=False)


def equivalent_width(engine: Synthesizer, labels: dict[str, float], atmosphere: Atmosphere) -> float:
    flux, continuum = engine.fluxes(labels, atmosphere)
    return float(np.trapezoid(1.0 - flux / continuum, engine.settings.computed_wavelength))


@pytest.fixture(scope="module")
def sun(atmospheres: AtmosphereGrid) -> Atmosphere:
    return atmospheres.at(5777.0, 4.44, 0.0)


def test_a_weak_line_grows_in_proportion_to_abundance_and_a_strong_one_less(sun: Atmosphere) -> None:
    growth = []
    for log_gf in (-6.5, -3.0, -1.5):
        engine = one_line(log_gf, species="Ni 1")
        low, high = (equivalent_width(engine, SUN | {"ni_fe": ratio}, sun) for ratio in (-0.15, 0.15))
        growth.append(np.log10(high / low) / 0.3)
    assert growth[0] == pytest.approx(1.0, abs=0.01)
    assert growth[0] > 0.9 > growth[1] > growth[2] > 0.0
    assert growth[2] < 0.5


def test_a_weak_line_is_in_exact_proportion_to_its_gf_value(sun: Atmosphere) -> None:
    weak, double = (equivalent_width(one_line(gf), SUN, sun) for gf in (-7.0, -7.0 + np.log10(2.0)))
    assert double / weak == pytest.approx(2.0, rel=0.005)


def test_microturbulence_widens_saturated_lines_and_leaves_weak_ones(sun: Atmosphere) -> None:
    weak, strong = (
        equivalent_width(one_line(gf), SUN | {"v_micro": 2.0}, sun) / equivalent_width(one_line(gf), SUN, sun)
        for gf in (-6.5, -1.5)
    )
    assert weak == pytest.approx(1.0, abs=0.01)
    assert strong > 1.1


def test_a_line_is_symmetric_about_its_vacuum_wavelength(sun: Atmosphere) -> None:
    fine = SynthesisSettings((POSITION - 2.0, POSITION + 2.0), sampling=1e6)
    flux, continuum = one_line(-2.5, settings=fine).fluxes(SUN, sun)
    depth = CubicSpline(fine.computed_wavelength, 1.0 - flux / continuum)
    offset = np.linspace(0.0, 0.5, 25)
    assert depth(POSITION - offset) == pytest.approx(depth(POSITION + offset), abs=1e-3)
    assert depth(POSITION) == pytest.approx(depth(fine.computed_wavelength).max(), abs=1e-3)


@pytest.mark.parametrize(("teff", "logg", "m_h"), [(5777, 4.44, 0.0), (4500, 2.0, -2.0), (6800, 4.0, 0.3)])
def test_there_is_only_continuum_where_there_are_no_lines(
    atmospheres: AtmosphereGrid, teff: float, logg: float, m_h: float
) -> None:
    labels = SUN | {"teff": teff, "logg": logg, "fe_h": m_h}
    lines = LineList.from_columns("one", ["Fe 1"], [POSITION], [2.4], [-9.0], [8.0], [-6.0], [-7.6])
    engine = Synthesizer(lines, SynthesisSettings((POSITION - 60.0, POSITION + 60.0)))
    assert engine.lines.is_hydrogen.any()
    flux = spectrum_of(engine, atmospheres, tuple(labels), list(labels.values()))
    assert flux == pytest.approx(1.0, abs=5e-4)


def test_line_strength_follows_boltzmann_between_two_temperatures(atmospheres: AtmosphereGrid) -> None:
    """Weak lines of one atom: the logarithm of their change is linear in energy, with the slope of kT."""
    cool, hot = (atmospheres.at(teff, 4.4, 0.0) for teff in (5000.0, 6000.0))
    energies = np.array([0.5, 2.0, 3.5])
    change = np.array(
        [
            np.log(equivalent_width(engine, SUN, hot) / equivalent_width(engine, SUN, cool))
            for engine in (one_line(-8.0 + 1.1 * energy, energy) for energy in energies)
        ]
    )
    slope = np.diff(change) / np.diff(energies)
    assert slope[0] == pytest.approx(slope[1], rel=0.1)
    theta = 11604.518 * (1.0 / 5000.0 - 1.0 / 6000.0)
    # Neutral iron absorbs where it is not yet ionised: between the surface, 0.81 Teff, and the photosphere.
    assert theta / 0.95 < slope.mean() < theta / 0.81


def test_ionised_lines_weaken_with_gravity_and_neutral_ones_hardly(atmospheres: AtmosphereGrid) -> None:
    giant, dwarf = (atmospheres.at(5000.0, logg, 0.0) for logg in (2.0, 4.5))
    neutral, ionised = (
        equivalent_width(one_line(gf, species=name), SUN, dwarf)
        / equivalent_width(one_line(gf, species=name), SUN, giant)
        for name, gf in (("Fe 1", -6.5), ("Fe 2", -5.5))
    )
    assert ionised < 0.6 * neutral


def test_an_element_changes_its_own_lines_only(sun: Atmosphere) -> None:
    engine = one_line(-3.5)
    base = equivalent_width(engine, SUN, sun)
    assert equivalent_width(engine, SUN | {"ni_fe": 0.3}, sun) == pytest.approx(base, rel=0.01)
    assert equivalent_width(
        one_line(-3.5, species="Ni 1"), SUN | {"ni_fe": 0.3}, sun
    ) > 1.15 * equivalent_width(one_line(-3.5, species="Ni 1"), SUN, sun)


def test_the_electrons_of_magnesium_weaken_lines_of_ionised_iron(sun: Atmosphere) -> None:
    """More donors, more negative hydrogen, more continuous opacity."""
    engine = one_line(-5.5, species="Fe 2")
    assert equivalent_width(engine, SUN | {"mg_fe": 0.5}, sun) < 0.99 * equivalent_width(engine, SUN, sun)


def test_a_spectrum_in_pieces_is_the_spectrum_at_once(sun: Atmosphere) -> None:
    lines = LineList.from_columns(
        "three",
        ["Mg 1", "Fe 1", "Fe 1"],
        [5185.05, 5179.0, 5192.0],
        [2.717, 2.4, 2.4],
        [-0.24, -3.0, -3.0],
        [8.0] * 3,
        [-5.5] * 3,
        [-7.27] * 3,
    )
    spectra: list[NDArray[np.float64]] = []
    for chunk in (200.0, 9.0):
        settings = SynthesisSettings((5175.0, 5195.0), chunk=chunk)
        spectra.append(Synthesizer(lines, settings).spectrum(SUN, sun))
    assert spectra[0] == pytest.approx(spectra[1], abs=2e-4)
    assert spectra[0].min() < 0.7


def test_a_piece_without_any_line_is_continuum(sun: Atmosphere) -> None:
    settings = SynthesisSettings((POSITION - 5.0, POSITION + 12.0), chunk=8.0)
    flux = one_line(-2.5, settings=settings).spectrum(SUN, sun)
    assert flux[-12:] == pytest.approx(1.0, abs=1e-5)
    assert flux.min() < 0.95


def test_twice_as_many_points_and_angles_change_a_spectrum_by_less_than_its_stored_digits(
    sun: Atmosphere,
) -> None:
    usual = one_line(-2.5).spectrum(SUN, sun)
    fine = SynthesisSettings(NARROW.wavelength, sampling=400_000.0, angles=9)
    assert one_line(-2.5, settings=fine).spectrum(SUN, sun) == pytest.approx(usual, abs=2e-4)


def test_stored_spectra_have_the_stated_resolution(sun: Atmosphere) -> None:
    weak = one_line(-5.0)
    depth = 1.0 - weak.spectrum(SUN, sun)
    wavelength = weak.settings.stored_wavelength
    assert np.diff(np.log10(wavelength)) == pytest.approx(4e-5, abs=1e-12)
    spread = np.sqrt(np.average((wavelength - POSITION) ** 2, weights=depth))
    assert POSITION / (spread * 2.3548) == pytest.approx(5000.0, rel=0.01)
    assert np.trapezoid(depth, wavelength) == pytest.approx(equivalent_width(weak, SUN, sun), rel=0.01)


def test_forward_differences_agree_with_central_ones(atmospheres: AtmosphereGrid) -> None:
    names, labels = tuple(SUN), np.array([5600.0, 4.2, 1.2, -0.3])
    steps = np.array([50.0, 0.1, 0.2, 0.1])
    engine = one_line(-2.5)
    _, gradient = differential_spectra(engine, atmospheres, names, labels, steps)
    for index in (0, 3):
        high, low = (
            spectrum_of(engine, atmospheres, names, labels + sign * 0.5 * steps * (np.arange(4) == index))
            for sign in (1.0, -1.0)
        )
        central = (high - low) / steps[index]
        assert np.corrcoef(gradient[index], central)[0, 1] > 0.995, names[index]
        assert np.abs(gradient[index]).sum() == pytest.approx(np.abs(central).sum(), rel=0.12), names[index]


def test_missing_labels_and_senseless_settings_are_refused(sun: Atmosphere) -> None:
    with pytest.raises(InputError, match="no v_micro"):
        one_line(-3.0).spectrum({"fe_h": 0.0}, sun)
    with pytest.raises(InputError, match="no fe_h"):
        one_line(-3.0).spectrum({"v_micro": 1.0}, sun)
    with pytest.raises(InputError, match="between 2000 and 30000"):
        SynthesisSettings((5000.0, 4000.0))
    with pytest.raises(InputError, match="too coarse"):
        SynthesisSettings(resolution=50000.0)
