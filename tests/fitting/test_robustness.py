"""Whatever comes gets a row with flags and no exception; and no spectrum changes another's result."""

from __future__ import annotations

import numpy as np
import pytest
from line_model import RANGE, LineModel
from line_survey import Sample, simulate

from phdl_catalog.emulator.imperfection import Imperfection
from phdl_catalog.errors import InputError
from phdl_catalog.fitting import FitFlag, FitOptions, FitResult, Fitter, LabelFlag, fit_spectra, flag_names
from phdl_catalog.fitting.figure import plot_fit
from phdl_catalog.fitting.forward import ForwardModel
from phdl_catalog.fitting.starts import Templates, make_templates

JUNK = {
    "zeros": (0.0, 1.0),
    "ones": (1.0, 1.0),
    "nan": (np.nan, 1.0),
    "infinite": (np.inf, 1.0),
    "negative": (-1.0, 1.0),
    "zero ivar": (None, 0.0),
    "nan ivar": (None, np.nan),
    "negative ivar": (None, -1.0),
    "infinite ivar": (None, np.inf),
    "huge ivar": (None, 1e25),
    "tiny ivar": (None, 1e-25),
    "huge flux": (1e35, 1.0),
}


@pytest.fixture(scope="module")
def sample(model: LineModel) -> Sample:
    return simulate(model, 24, snr=50.0, seed=20)


@pytest.fixture(scope="module")
def result(fitter: Fitter, sample: Sample) -> FitResult:
    return fitter.fit(sample.wavelength, sample.flux, sample.ivar)


@pytest.mark.parametrize("kind", JUNK)
def test_junk_gets_a_row_with_a_flag(kind: str, fitter: Fitter, sample: Sample) -> None:
    level, weight = JUNK[kind]
    flux = sample.flux[:2].copy()
    ivar = sample.ivar[:2].copy()
    if level is not None:
        flux[0] = level
    ivar[0] = weight
    result = fitter.fit(sample.wavelength, flux, ivar)
    assert len(result) == 2
    assert result.flags[1] == 0
    if kind == "huge ivar":  # the flux is that of a star: S/N is capped, and the fit is one
        assert np.isfinite(result.labels[0]).all()
        return
    assert result.flags[0] & (FitFlag.NO_DATA | FitFlag.FAILED)
    assert np.isnan(result.labels[0]).all()
    assert np.isnan(result.rv[0])
    assert np.all(result.label_flags[0] == LabelFlag.NO_FIT)


def test_noise_without_a_star_is_flagged(fitter: Fitter, sample: Sample) -> None:
    generator = np.random.default_rng(21)
    flux = generator.normal(100.0, 20.0, (20, sample.flux.shape[1]))
    result = fitter.fit(sample.wavelength, flux, np.full(flux.shape, 1 / 400.0))
    assert np.mean((result.flags & FitFlag.BAD_VELOCITY) != 0) > 0.7
    assert np.all(result.flags & FitFlag.LOW_SNR)


def test_a_galaxy_of_emission_lines_is_flagged(fitter: Fitter, sample: Sample) -> None:
    lines = np.array([3800.0, 4300.0, 5480.0, 5600.0, 7400.0])
    flux = 100 + 800 * np.exp(-0.5 * ((sample.wavelength[:, None] - lines) / 6.0) ** 2).sum(axis=1)
    flux = flux + np.random.default_rng(22).normal(size=flux.shape)
    result = fitter.fit(sample.wavelength, flux, np.ones_like(flux))
    assert result.flags[0] != 0


def test_a_masked_pixel_has_no_influence(fitter: Fitter, sample: Sample) -> None:
    bad = np.random.default_rng(23).random(sample.flux.shape) < 0.2
    spoiled = np.where(bad, 1e6, sample.flux)
    masked = fitter.fit(sample.wavelength, sample.flux, sample.ivar, bad)
    result = fitter.fit(sample.wavelength, spoiled, sample.ivar, bad)
    np.testing.assert_array_equal(result.labels, masked.labels)
    without = fitter.fit(sample.wavelength, spoiled, np.where(bad, 0.0, sample.ivar))
    np.testing.assert_array_equal(result.labels, without.labels)


def test_two_thirds_masked_is_fitted_flagged_and_less_precise(
    fitter: Fitter, sample: Sample, result: FitResult
) -> None:
    bad = np.zeros(sample.wavelength.size, dtype=bool)
    bad[1300:] = True
    part = fitter.fit(sample.wavelength, sample.flux, sample.ivar, bad)
    assert np.all(part.flags & FitFlag.MOSTLY_MASKED)
    assert np.all(np.median(part.errors / result.errors, axis=0) > 1.0)
    pull = ((part.labels - sample.labels) / part.errors)[part.label_flags == 0]
    assert np.mean(np.abs(pull) < 3) > 0.95


def test_a_result_does_not_depend_on_the_batch(fitter: Fitter, sample: Sample, result: FitResult) -> None:
    order = np.random.default_rng(24).permutation(len(sample.flux))
    for rows in (np.array([3]), order, order[:7]):
        other = fitter.fit(sample.wavelength, sample.flux[rows], sample.ivar[rows])
        difference = np.abs(other.labels - result.labels[rows]) / result.errors[rows]
        assert difference.max() < 0.02  # matrix products of other sizes round differently
        assert np.abs((other.rv - result.rv[rows]) / result.e_rv[rows]).max() < 0.02
        np.testing.assert_array_equal(other.flags, result.flags[rows])


def test_the_units_of_the_flux_do_not_matter(fitter: Fitter, sample: Sample, result: FitResult) -> None:
    scaled = fitter.fit(sample.wavelength, sample.flux * 1e-17, sample.ivar * 1e34)
    assert (np.abs(scaled.labels - result.labels) / result.errors).max() < 0.02


def test_a_star_outside_the_grid_is_flagged(model: LineModel, fitter: Fitter, sample: Sample) -> None:
    labels = RANGE.mean(axis=1)[None].repeat(4, axis=0)
    labels[:, 0] = 7600.0
    flux = np.zeros((4, sample.wavelength.size))
    flux[:, 40:3841] = model.predict(labels)
    result = fitter.fit(sample.wavelength, flux, np.where(flux > 0, 1e4, 0.0))
    assert np.all(result.flags & FitFlag.OUTSIDE_GRID)
    assert np.all(result.flags & FitFlag.AT_BOUND)
    assert np.all(result.label_flags[:, 0] & LabelFlag.AT_BOUND)


def test_a_stated_model_error_widens_the_errors(model: LineModel, sample: Sample, result: FitResult) -> None:
    unsure = LineModel()
    unsure.stated_error = 0.05
    other = fit_spectra(sample.wavelength, sample.flux[:8], sample.ivar[:8], model=unsure)
    assert np.all(np.median(other.errors / result.errors[:8], axis=0) > 1.5)
    assert np.median(other.chi2) < 0.5


def test_one_spectrum_may_be_given_without_a_batch(
    model: LineModel, sample: Sample, result: FitResult
) -> None:
    one = fit_spectra(sample.wavelength, sample.flux[0], sample.ivar[0], model=model)
    assert one.labels.shape == (1, len(one.label_names))
    assert (np.abs(one.labels - result.labels[:1]) / result.errors[:1]).max() < 0.02


def test_what_belongs_to_a_model_is_made_once_and_anew_when_its_parts_change(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def counted(model: LineModel, forward: ForwardModel) -> Templates:
        made.append(model)
        return make_templates(model, forward)

    monkeypatch.setattr("phdl_catalog.fitting.fit.make_templates", counted)
    own = LineModel()
    before = [fit_spectra(sample.wavelength, sample.flux[:2], sample.ivar[:2], model=own) for _ in range(3)]
    assert len(made) == 1
    np.testing.assert_array_equal(before[0].labels, before[2].labels)
    own.imperfection = Imperfection(own.wavelength, np.zeros(3801), np.full(3801, 0.05), 0.1)
    after = fit_spectra(
        sample.wavelength, sample.flux[:2], sample.ivar[:2], model=own, options=FitOptions(correct_model=True)
    )
    assert len(made) == 2
    assert after.corrected.all()
    assert np.all(np.median(after.errors / before[0].errors, axis=0) > 1.2)


def test_a_label_that_the_grid_declares_is_fitted_and_drawn(sample: Sample) -> None:
    declared = {"unit": "", "lower": -0.5, "upper": 0.6, "description": "Of a grid of one's own"}

    own = LineModel()
    own.label_names = (*own.label_names[:-1], "my_own")
    own.metadata = {"grid": {"declared_labels": {"my_own": declared}}}
    fitter = Fitter(own)
    result = fitter.fit(sample.wavelength, sample.flux[:1], sample.ivar[:1], keep_pixels=True)
    assert result.label_names[-1] == "my_own"
    bounds = fitter.forward.bounds[result.label_names.index("my_own")] * fitter.forward.half_range[-1]
    assert float((bounds + fitter.forward.middle[-1]).max()) <= 0.6 + 1e-9
    drawn = plot_fit(sample.flux[0], result)
    assert "my_own" in [text.get_text() for axes in drawn.axes for text in axes.texts]


def test_bands_of_titanium_oxide_are_of_a_star_cooler_than_the_grid(
    fitter: Fitter, sample: Sample, result: FitResult
) -> None:
    rest = sample.wavelength * (1.0 - result.rv[:8, None] / 299792.458)
    band = np.where((rest > 7055) & (rest < 7160), 0.9, 1.0)
    cooler = fitter.fit(sample.wavelength, sample.flux[:8] * band, sample.ivar[:8])
    assert np.all(cooler.flags & FitFlag.OUTSIDE_GRID)
    assert not np.any(result.flags[:8] & FitFlag.OUTSIDE_GRID)


def test_no_spectra_give_no_rows(fitter: Fitter, sample: Sample) -> None:
    assert len(fitter.fit(sample.wavelength, sample.flux[:0], sample.ivar[:0])) == 0


def test_a_spectrum_beside_the_model_has_no_data(fitter: Fitter) -> None:
    wavelength = 10 ** (np.arange(40000, 41000) * 1e-4)
    result = fitter.fit(wavelength, np.ones((2, 1000)) + np.arange(1000) / 1000, np.ones((2, 1000)))
    assert np.all(result.flags == FitFlag.NO_DATA)


@pytest.mark.parametrize(
    ("flux", "ivar", "mask", "quoted"),
    [
        ((2, 3879), (2, 3880), None, ["(2, 3879)", "(3880,)"]),
        ((2, 3880), (3, 3880), None, ["(3, 3880)", "(2, 3880)"]),
        ((2, 3880), (2, 3880), (3, 3880), ["(3, 3880)", "(2, 3880)"]),
        ((2, 2, 3880), (2, 2, 3880), None, ["(2, 2, 3880)", "(3880,)"]),
    ],
)
def test_wrong_shapes_are_quoted(
    fitter: Fitter,
    sample: Sample,
    flux: tuple[int, ...],
    ivar: tuple[int, ...],
    mask: tuple[int, ...] | None,
    quoted: list[str],
) -> None:
    bad = None if mask is None else np.zeros(mask, dtype=bool)
    with pytest.raises(InputError) as error:
        fitter.fit(sample.wavelength, np.ones(flux), np.ones(ivar), bad)
    assert all(text in str(error.value) for text in quoted)


def test_wavelengths_off_the_grid_are_refused(fitter: Fitter) -> None:
    wavelength = np.linspace(3700, 9000, 3880)
    with pytest.raises(InputError, match="not on the survey's grid"):
        fitter.fit(wavelength, np.ones(3880), np.ones(3880))


def test_an_integer_mask_is_refused(fitter: Fitter, sample: Sample) -> None:
    with pytest.raises(InputError, match="boolean"):
        fitter.fit(sample.wavelength, sample.flux, sample.ivar, np.zeros(3880, dtype=int))


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="tolerance"):
        FitOptions(tolerance=0.0)


def test_flags_have_names_in_the_order_of_their_bits() -> None:
    assert flag_names(FitFlag.LOW_SNR | FitFlag.NO_DATA) == ["no_data", "low_snr"]
    assert flag_names(int(LabelFlag.AT_BOUND), LabelFlag) == ["at_bound"]
