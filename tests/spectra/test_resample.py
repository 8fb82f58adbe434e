from __future__ import annotations

import numpy as np
import pytest

from phdl_catalog.errors import InputError
from phdl_catalog.spectra.resample import FWHM_OVER_SIGMA, degrade, degrading_operator, kernel_sigma

SOURCE = 10 ** np.arange(3.60, 3.64, 4e-5)
TARGET = 10 ** np.arange(3.605, 3.635, 1e-4)


def gaussian_line(wavelength: np.ndarray, resolution: float, centre: float = 3.62) -> np.ndarray:
    """A line of unit equivalent width [in log10 wavelength], as wide as the line spread of R."""
    sigma = 1 / resolution / FWHM_OVER_SIGMA / np.log(10)
    x = np.log10(wavelength) - centre
    return np.exp(-0.5 * (x / sigma) ** 2) / sigma / np.sqrt(2 * np.pi)


@pytest.mark.parametrize("resolution", [500.0, 1800.0, 3000.0])
def test_an_unresolved_line_becomes_the_analytic_line_of_the_lower_resolution(resolution: float) -> None:
    operator = degrading_operator(SOURCE, 5000.0, TARGET, resolution)
    truth = gaussian_line(TARGET, resolution)
    np.testing.assert_allclose(
        degrade(operator, gaussian_line(SOURCE, 5000.0)), truth, atol=2e-4 * truth.max()
    )


def test_a_flat_spectrum_stays_flat() -> None:
    operator = degrading_operator(SOURCE, 5000.0, TARGET, 1800.0)
    np.testing.assert_allclose(degrade(operator, np.ones((2, SOURCE.size))), 1.0, rtol=1e-12)


def test_a_source_in_equal_steps_of_wavelength_gives_the_same_line() -> None:
    uneven = np.linspace(SOURCE[0], SOURCE[-1], 2 * SOURCE.size)
    operator = degrading_operator(uneven, 5000.0, TARGET, 1800.0)
    truth = gaussian_line(TARGET, 1800.0)
    np.testing.assert_allclose(
        degrade(operator, gaussian_line(uneven, 5000.0)), truth, atol=1e-3 * truth.max()
    )


def test_a_higher_resolution_is_refused() -> None:
    with pytest.raises(InputError, match="must be lower"):
        kernel_sigma(1800.0, 5000.0)


def test_a_source_that_ends_too_early_is_refused_with_what_is_needed() -> None:
    with pytest.raises(InputError, match="needs the source to cover"):
        degrading_operator(SOURCE, 5000.0, 10 ** np.arange(3.60, 3.62, 1e-4), 1800.0)


def test_a_coarse_source_is_refused() -> None:
    with pytest.raises(InputError, match="too coarsely"):
        degrading_operator(10 ** np.arange(3.60, 3.64, 4e-4), 5000.0, TARGET, 4500.0)


def test_a_wrong_shape_is_quoted_with_the_right_one() -> None:
    operator = degrading_operator(SOURCE, 5000.0, TARGET, 1800.0)
    with pytest.raises(InputError, match=r"\(3, 7\).*\(\.\.\., 1001\)"):
        degrade(operator, np.ones((3, 7)))
