"""The simulated exposure has the velocity, the noise and the masks that were asked for."""

from __future__ import annotations

import numpy as np
import pytest

from phdl_catalog.errors import InputError
from phdl_catalog.spectra.grid import SPEED_OF_LIGHT, PixelGrid
from phdl_catalog.spectra.mock import DR10_GRID, Conditions, observe, shift_velocity
from phdl_catalog.spectra.spectrum import Layout, SpectrumHeader

MODEL_GRID = PixelGrid(35740, 3801)
HEADER = SpectrumHeader(obsid=1, layout=Layout.DR9, ra=10.0, dec=20.0)


def line(centre: float, wavelength: np.ndarray) -> np.ndarray:
    """A star with one line of the survey's resolution."""
    return 1.0 - 0.5 * np.exp(-0.5 * ((wavelength - centre) / (centre / 1800 / 2.3548)) ** 2)


def test_a_receding_star_has_its_line_at_the_doppler_shifted_wavelength() -> None:
    wavelength = MODEL_GRID.wavelength
    shifted = shift_velocity(wavelength, line(5000.0, wavelength), 120.0, wavelength)
    expected = line(5000.0 * (1 + 120.0 / SPEED_OF_LIGHT), wavelength)
    assert np.nanmax(np.abs(shifted - expected)) < 0.004 * 0.5


def test_velocity_zero_changes_nothing() -> None:
    wavelength = MODEL_GRID.wavelength
    flux = line(5000.0, wavelength)
    np.testing.assert_allclose(shift_velocity(wavelength, flux, 0.0, wavelength), flux, atol=1e-12)


def test_the_noise_is_what_the_inverse_variance_says() -> None:
    rng = np.random.default_rng(5)
    wavelength = MODEL_GRID.wavelength
    conditions = Conditions(snr_g=80.0, calibration_error=0.0)
    flat = np.ones_like(wavelength)
    spectra = [observe(wavelength, flat, HEADER, conditions, rng) for _ in range(30)]
    residuals = []
    for spectrum in spectra:
        used = spectrum.ivar > 0
        smooth = np.polynomial.Polynomial.fit(spectrum.wavelength[used], spectrum.flux[used], 25)
        residuals.append((spectrum.flux - smooth(spectrum.wavelength))[used] * np.sqrt(spectrum.ivar[used]))
    assert np.concatenate(residuals).std() == pytest.approx(1.0, abs=0.05)


def test_the_signal_to_noise_is_the_one_asked_for_in_g_and_falls_to_the_blue() -> None:
    wavelength = MODEL_GRID.wavelength
    spectrum = observe(
        wavelength, np.ones_like(wavelength), HEADER, Conditions(snr_g=80.0), np.random.default_rng(1)
    )
    header = spectrum.header
    assert header.snr_g == pytest.approx(80.0, rel=0.12)
    assert header.snr_u is not None
    assert header.snr_r is not None
    assert header.snr_u < 0.5 * header.snr_g < header.snr_g < header.snr_r


def test_pixels_the_model_does_not_reach_have_no_data_and_say_so() -> None:
    wavelength = MODEL_GRID.wavelength
    spectrum = observe(
        wavelength, np.ones_like(wavelength), HEADER, Conditions(snr_g=80.0), np.random.default_rng(1)
    )
    outside = (spectrum.wavelength < wavelength[0] * 0.9999) | (spectrum.wavelength > wavelength[-1] * 1.0001)
    assert outside.sum() == DR10_GRID.size - MODEL_GRID.size
    assert np.all(spectrum.ivar[outside] == 0)
    assert np.all(spectrum.andmask[outside] == 32)


def test_the_same_seed_gives_the_same_exposure() -> None:
    wavelength = MODEL_GRID.wavelength
    first, second = (
        observe(
            wavelength, line(5000.0, wavelength), HEADER, Conditions(50.0, 30.0), np.random.default_rng(7)
        )
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.flux, second.flux)
    np.testing.assert_array_equal(first.ormask, second.ormask)


def test_a_star_outside_the_grid_is_an_error_that_quotes_both_ranges() -> None:
    far = np.linspace(20000.0, 21000.0, 100)
    with pytest.raises(InputError, match=r"20000-21000 A .* 3700-9099 A"):
        observe(far, np.ones(100), HEADER, Conditions(50.0), np.random.default_rng(1))


@pytest.mark.parametrize("snr", [0.0, -1.0, float("nan")])
def test_no_exposure_has_no_signal(snr: float) -> None:
    with pytest.raises(InputError, match="no exposure has"):
        Conditions(snr_g=snr)
