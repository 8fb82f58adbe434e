"""Degrading and sampling against what is known: a Gaussian line stays Gaussian, widths add in squares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from phdl_catalog.errors import InputError
from phdl_catalog.spectra.resample import FWHM_OVER_SIGMA, degrade, degrading_operator, kernel_sigma

Floats = NDArray[np.float64]

SOURCE = 10 ** np.arange(3.60, 3.64, 4e-5)
TARGET = 10 ** np.arange(3.605, 3.635, 1e-4)

#: Resolution element of R = 5000 in log10 wavelength.
ELEMENT = 1 / 5000 / np.log(10)


def sigma_of(resolution: float) -> float:
    """Width of the line spread of R, in log10 wavelength."""
    return float(1 / resolution / FWHM_OVER_SIGMA / np.log(10))


def gaussian_line(
    wavelength: Floats, resolution: float, centre: float = 3.62, intrinsic: float = 0.0
) -> Floats:
    """A line of unit equivalent width [in log10 wavelength]: a Gaussian seen at R."""
    sigma = np.hypot(sigma_of(resolution), intrinsic)
    x = np.log10(wavelength) - centre
    return np.exp(-0.5 * (x / sigma) ** 2) / sigma / np.sqrt(2 * np.pi)


def logarithmic(pixels_per_element: float) -> Floats:
    return np.asarray(10 ** np.arange(3.60, 3.64, ELEMENT / pixels_per_element))


def linear(pixels_per_element: float) -> Floats:
    """Equal steps of wavelength; the sampling is that asked for where it is coarsest, in the blue."""
    return np.arange(10**3.60, 10**3.64, 10**3.60 * np.log(10) * ELEMENT / pixels_per_element)


@settings(max_examples=40, deadline=None)
@given(
    resolution=st.floats(300.0, 3000.0),
    sampling=st.floats(2.3, 12.0),
    spacing=st.sampled_from([logarithmic, linear]),
    centre=st.floats(3.611, 3.629),
    intrinsic=st.floats(0.0, 3e-4),
    step=st.floats(1e-5, 4e-4),
)
@example(1800.0, 2.17, logarithmic, 3.62, 0.0, 1e-4)
@example(3000.0, 2.3, linear, 3.6117, 0.0, 4e-4)
@example(300.0, 12.0, linear, 3.611, 3e-4, 1e-5)
def test_a_gaussian_line_becomes_the_one_whose_width_is_the_sum_in_squares(
    resolution: float, sampling: float, spacing, centre: float, intrinsic: float, step: float
) -> None:
    """In whatever steps source and target are: the target holds samples of the analytic line."""
    source = spacing(sampling)
    target = 10 ** np.arange(3.605, 3.635, step)
    operator = degrading_operator(source, 5000.0, target, resolution)
    truth = gaussian_line(target, resolution, centre, intrinsic)
    peak = gaussian_line(np.array([10**centre]), resolution, centre, intrinsic)[0]
    found = degrade(operator, gaussian_line(source, 5000.0, centre, intrinsic))
    np.testing.assert_allclose(found, truth, atol=3e-4 * peak)


@settings(max_examples=20, deadline=None)
@given(resolution=st.floats(300.0, 4990.0), sampling=st.floats(2.3, 12.0), centre=st.floats(3.619, 3.621))
@example(1800.0, 2.17, 3.62)
@example(4990.0, 2.3, 3.62)
def test_the_equivalent_width_is_conserved(resolution: float, sampling: float, centre: float) -> None:
    target = 10 ** np.arange(3.606, 3.634, 1e-5)
    operator = degrading_operator(logarithmic(sampling), 5000.0, target, resolution)
    depth = degrade(operator, gaussian_line(logarithmic(sampling), 5000.0, centre))
    assert depth.sum() * 1e-5 == pytest.approx(1.0, abs=3e-4)


@pytest.mark.parametrize(("sampling", "error"), [(2.17, 0.025), (3.0, 4e-3), (5.0, 1e-4), (20.0, 1e-6)])
def test_a_resolution_just_below_the_present_one_needs_no_finer_source(sampling: float, error: float) -> None:
    """The kernel is then narrower than a pixel; what is lost is what the sampling itself cannot hold."""
    operator = degrading_operator(logarithmic(sampling), 5000.0, TARGET, 4950.0)
    truth = gaussian_line(TARGET, 4950.0)
    found = degrade(operator, gaussian_line(logarithmic(sampling), 5000.0))
    np.testing.assert_allclose(found, truth, atol=error * truth.max())


@pytest.mark.parametrize("resolution", [500.0, 1800.0, 4900.0])
@pytest.mark.parametrize("end", [0, -1])
def test_lines_at_the_very_edge_are_as_good_as_in_the_middle(resolution: float, end: int) -> None:
    """The source ends just where the kernel at the target's edge does, five of its widths beyond."""
    reach = 5.02 * kernel_sigma(5000.0, resolution)
    source = 10 ** np.linspace(3.61 - reach, 3.63 + reach, int((0.02 + 2 * reach) / ELEMENT * 4))
    target = 10 ** np.linspace(3.61, 3.63, 201)
    centre = float(np.log10(target[end]))
    operator = degrading_operator(source, 5000.0, target, resolution)
    truth = gaussian_line(target, resolution, centre)
    found = degrade(operator, gaussian_line(source, 5000.0, centre))
    np.testing.assert_allclose(found[end], truth[end], rtol=1e-3)
    np.testing.assert_allclose(found, truth, atol=1e-3 * truth.max())


def test_two_steps_give_what_one_gives() -> None:
    between = 10 ** np.arange(3.6025, 3.6375, 3e-5)
    first = degrading_operator(SOURCE, 5000.0, between, 3000.0)
    second = degrading_operator(between, 3000.0, TARGET, 1800.0)
    spectrum = 1 - 1e-5 * gaussian_line(SOURCE, 5000.0, 3.615) - 3e-5 * gaussian_line(SOURCE, 5000.0, 3.6201)
    direct = degrade(degrading_operator(SOURCE, 5000.0, TARGET, 1800.0), spectrum)
    np.testing.assert_allclose(degrade(second, degrade(first, spectrum)), direct, atol=1e-5)


@pytest.mark.parametrize("resolution", [1800.0, 4990.0])
def test_a_flat_spectrum_stays_flat(resolution: float) -> None:
    operator = degrading_operator(SOURCE, 5000.0, TARGET, resolution)
    np.testing.assert_allclose(degrade(operator, np.ones((2, SOURCE.size))), 1.0, rtol=1e-11)


@pytest.mark.parametrize("resolution", [5000.0, 6000.0, 0.0, -1800.0, float("nan")])
def test_a_resolution_that_is_not_lower_is_refused(resolution: float) -> None:
    with pytest.raises(InputError, match="must be lower"):
        kernel_sigma(5000.0, resolution)


def test_a_source_that_ends_too_early_is_refused_with_what_is_needed() -> None:
    with pytest.raises(InputError, match="needs the source to cover"):
        degrading_operator(SOURCE, 5000.0, 10 ** np.arange(3.60, 3.62, 1e-4), 1800.0)


def test_an_undersampled_source_is_refused_with_the_steps_it_needs() -> None:
    with pytest.raises(InputError, match=r"too coarsely: steps up to 4.00e-04.*needs 4.34e-05, two pixels"):
        degrading_operator(10 ** np.arange(3.60, 3.64, 4e-4), 5000.0, TARGET, 4500.0)


def test_a_source_may_be_coarse_where_it_is_not_used() -> None:
    with_a_coarse_tail = np.concatenate([SOURCE, 10 ** np.arange(3.641, 3.66, 1e-3)])
    operator = degrading_operator(with_a_coarse_tail, 5000.0, TARGET, 1800.0)
    assert operator.shape == (TARGET.size, with_a_coarse_tail.size)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (SOURCE[::-1], "increase strictly"),
        (np.where(np.arange(SOURCE.size) == 7, np.nan, SOURCE), "finite and positive"),
        (np.log10(SOURCE) - 4, "finite and positive"),
        (SOURCE[None], r"1-dimensional.*\(1, 1001\)"),
        (SOURCE[:0], r"not empty.*\(0,\)"),
    ],
)
def test_wavelengths_without_sense_are_refused(source: Floats, message: str) -> None:
    with pytest.raises(InputError, match=message):
        degrading_operator(source, 5000.0, TARGET, 1800.0)


def test_a_wrong_shape_is_quoted_with_the_right_one() -> None:
    operator = degrading_operator(SOURCE, 5000.0, TARGET, 1800.0)
    with pytest.raises(InputError, match=r"\(3, 7\).*\(\.\.\., 1001\)"):
        degrade(operator, np.ones((3, 7)))
