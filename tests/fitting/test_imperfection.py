"""What real stars have and the model has not: learning it, correcting by it, keeping it in the model file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from line_model import GRID, RANGE, LineModel
from line_survey import simulate

from phdl_catalog.emulator import find_model, load_model, packaged_models
from phdl_catalog.emulator.imperfection import Imperfection, smooth_absorption, write_revised_model
from phdl_catalog.errors import InputError, ModelError
from phdl_catalog.fitting import FitOptions, Fitter, fit
from phdl_catalog.fitting.forward import ForwardModel
from phdl_catalog.fitting.known_stars import KnownStars
from phdl_catalog.fitting.learning import MeanResidual, learn_imperfection, mean_residual
from phdl_catalog.fitting.line_list import Verdict, first_verdict
from phdl_catalog.fitting.optimiser import Optimiser
from phdl_catalog.spectra.grid import PixelGrid
from phdl_catalog.spectra.solar import read_solar_spectrum


def _faulty_lines() -> np.ndarray:
    """One pixel in six has absorption that the model has not, or the other way round."""
    generator = np.random.default_rng(50)
    wrong = np.where(generator.random(GRID.size) < 0.05, generator.normal(0.0, 0.6, GRID.size), 0.0)
    return np.convolve(wrong, np.exp(-0.5 * (np.arange(-4, 5) / 1.03) ** 2), mode="same")


class RealStars(LineModel):
    """The line model with a line list that is wrong in the same places in all stars."""

    def predict(self, labels: object) -> np.ndarray:
        flux = super().predict(labels).astype(float)
        return flux + _faulty_lines() * smooth_absorption(GRID.wavelength, 1.0 - flux)


def _stars(number: int, seed: int) -> tuple[KnownStars, np.ndarray]:
    sample = simulate(RealStars(), number, snr=100.0, seed=seed, largest_rv=100.0, spread=0.4)
    grid = PixelGrid.from_wavelength(sample.wavelength)
    known = {name: sample.labels[:, column] for name, column in (("teff", 0), ("logg", 1), ("fe_h", 3))}
    return KnownStars(
        grid, sample.flux, sample.ivar, np.zeros(sample.flux.shape, dtype=bool), known, abundance_error=0.3
    ), sample.labels


def test_faults_of_the_line_list_are_learnt_and_other_stars_fitted_better(model: LineModel) -> None:
    learning, _ = _stars(24, seed=51)
    learnt = mean_residual(model, learning)
    truth = _faulty_lines()
    assert np.corrcoef(learnt.correction[learnt.known], truth[learnt.known])[0, 1] > 0.8
    imperfection = learn_imperfection(model, learnt, learnt)
    fresh, labels = _stars(16, seed=52)
    options = FitOptions(fit_error_floor=False)
    before, after = (
        Fitter(model, options, imperfection=choice).fit(fresh.grid.wavelength, fresh.flux, fresh.ivar)
        for choice in (None, imperfection)
    )
    assert np.median(after.chi2) - 1.0 < 0.3 * (np.median(before.chi2) - 1.0)
    error = [np.abs(result.labels - labels)[:, 0].mean() for result in (before, after)]
    assert error[1] < 0.6 * error[0]


def test_a_correction_fades_with_the_lines_and_leaves_a_continuum_alone() -> None:
    correction = np.full(GRID.size, 0.3)
    imperfection = Imperfection(GRID.wavelength, correction, np.full(GRID.size, 0.01), 0.1)
    flux = np.stack([np.ones(GRID.size), np.full(GRID.size, 0.9), np.full(GRID.size, 0.8)])
    change = imperfection.correct(flux) - flux
    np.testing.assert_allclose(change[0], 0.0, atol=1e-12)
    np.testing.assert_allclose(change[2], 2.0 * change[1])
    np.testing.assert_allclose(imperfection.amplitude(flux), [0.0, 1.0, 2.0], atol=1e-12)


def test_correcting_the_basis_is_correcting_every_spectrum(model: LineModel) -> None:
    imperfection = Imperfection(GRID.wavelength, _faulty_lines(), np.zeros(GRID.size), 0.1)
    labels = RANGE.mean(axis=1)[None] + 0.1
    coefficients = np.concatenate([[1.0], model.coefficients(_tensor(labels))[0].numpy()])
    corrected = coefficients @ imperfection.correct_basis(model.basis).double().numpy()
    np.testing.assert_allclose(
        corrected, imperfection.correct(model.predict(labels)[0].astype(float)), atol=1e-4
    )


def _tensor(labels: np.ndarray):  # type: ignore[no-untyped-def]
    return torch.as_tensor(labels, dtype=torch.float32)


def test_an_imperfection_is_not_used_where_it_is_not_wanted(model: LineModel) -> None:
    sample = simulate(model, 4, snr=100.0, seed=53)
    imperfect = LineModel()
    imperfect.imperfection = Imperfection(GRID.wavelength, _faulty_lines(), np.full(GRID.size, 0.05), 0.1)
    plain = Fitter(model).fit(sample.wavelength, sample.flux, sample.ivar)
    without = Fitter(imperfect, FitOptions(correct_model=False)).fit(
        sample.wavelength, sample.flux, sample.ivar
    )
    np.testing.assert_array_equal(without.labels, plain.labels)
    used = Fitter(imperfect, FitOptions(correct_model=True)).fit(sample.wavelength, sample.flux, sample.ivar)
    assert np.all(np.median(used.errors / plain.errors, axis=0) > 1.2)


def test_a_spectrum_tells_whether_it_has_the_faults_of_the_line_list(model: LineModel) -> None:
    real, computed = (simulate(kind, 8, snr=60.0, seed=54) for kind in (RealStars(), model))
    flux, ivar = (
        np.concatenate([getattr(part, name) for part in (real, computed)]) for name in ("flux", "ivar")
    )
    imperfection = Imperfection(GRID.wavelength, _faulty_lines(), np.full(GRID.size, 0.01), 0.1)
    as_suits, always, never = (
        Fitter(model, FitOptions(correct_model=choice), imperfection=imperfection).fit(
            real.wavelength, flux, ivar, keep_pixels=True
        )
        for choice in (None, True, False)
    )
    np.testing.assert_array_equal(as_suits.corrected, np.repeat([True, False], 8))
    assert always.corrected.all()
    assert not never.corrected.any()
    for rows, same in ((slice(0, 8), always), (slice(8, 16), never)):
        moved = np.abs(as_suits.labels[rows] - same.labels[rows]) / same.errors[rows]
        assert moved.max() < 0.05
        np.testing.assert_allclose(as_suits.errors[rows], same.errors[rows], rtol=0.02)
        assert as_suits.pixels is not None
        assert same.pixels is not None
        np.testing.assert_allclose(as_suits.pixels.model[rows], same.pixels.model[rows], atol=2e-3)
    # As it should be: what is right has errors of the right size, and the other has not.
    pull = (as_suits.labels[8:] - computed.labels) / as_suits.errors[8:]
    wrong = (always.labels[8:] - computed.labels) / always.errors[8:]
    assert np.sqrt(np.mean(pull**2)) < 1.3 < np.sqrt(np.mean(wrong**2))
    alone = Fitter(model, imperfection=imperfection).fit(real.wavelength, flux[9], ivar[9])
    assert not alone.corrected[0]
    assert np.abs((alone.labels[0] - as_suits.labels[9]) / alone.errors[0]).max() < 0.05


def test_real_and_computed_spectra_are_known_where_their_fits_begin(model: LineModel) -> None:
    imperfection = Imperfection(GRID.wavelength, _faulty_lines(), np.full(GRID.size, 0.01), 0.1)
    fitter = Fitter(model, FitOptions(correct_model=True), imperfection=imperfection)
    optimiser = Optimiser(fitter.objective, fit_blur=True, tolerance=0.1)
    for kind, right, wrong in (
        (RealStars(), Verdict.SETTLED, Verdict.COMPUTED),
        (model, Verdict.COMPUTED, Verdict.SETTLED),
    ):
        sample = simulate(kind, 8, snr=60.0, seed=54)
        found = []
        for flux, ivar, labels in zip(sample.flux, sample.ivar, sample.labels, strict=True):
            fitted = fitter.solve(sample.wavelength, flux, ivar)
            assert fitted is not None
            observation, parameters = fitted.solution.observation, fitted.solution.point.parameters.clone()
            parameters[:, : len(labels)] = fitter.forward.parameters(torch.as_tensor(labels)[None])[
                :, : len(labels)
            ]
            with torch.no_grad():
                beginning = optimiser.begin(observation, parameters)
                found += first_verdict(ForwardModel(model), fitter.objective, observation, beginning).tolist()
        assert found.count(right) >= 6
        assert found.count(wrong) == 0


@pytest.mark.parametrize("floor", [True, False])
def test_a_real_spectrum_that_seems_computed_at_the_start_ends_corrected(
    model: LineModel, floor: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = np.int8(Verdict.COMPUTED)
    monkeypatch.setattr(fit, "first_verdict", lambda *parts: np.full(len(parts[2].flux), computed))
    real = simulate(RealStars(), 8, snr=60.0, seed=54)
    imperfection = Imperfection(GRID.wavelength, _faulty_lines(), np.full(GRID.size, 0.01), 0.1)
    as_suits, always = (
        Fitter(model, FitOptions(correct_model=choice, fit_error_floor=floor), imperfection=imperfection).fit(
            real.wavelength, real.flux, real.ivar
        )
        for choice in (None, True)
    )
    assert as_suits.corrected.all()
    assert (np.abs(as_suits.labels - always.labels) / always.errors).max() < 0.05


def test_lines_that_neither_version_of_a_model_has_are_not_taken_for_computed(model: LineModel) -> None:
    # The correction is for faults of the opposite sign: without it spectra are described better, not well.
    real = simulate(RealStars(), 8, snr=60.0, seed=54)
    opposite = Imperfection(GRID.wavelength, -_faulty_lines(), np.full(GRID.size, 0.01), 0.1)
    as_suits, always, never = (
        Fitter(model, FitOptions(correct_model=choice), imperfection=opposite).fit(
            real.wavelength, real.flux, real.ivar
        )
        for choice in (None, True, False)
    )
    strange = ((always.chi2 - never.chi2) * always.n_pixels > 500.0) & (never.error_floor > 0.003)
    assert strange.sum() >= 4
    assert as_suits.corrected[strange].all()
    moved = np.abs(as_suits.labels - always.labels)[strange] / always.errors[strange]
    assert moved.max() < 0.05


def test_the_sun_and_the_stars_have_half_of_the_weight_each(model: LineModel) -> None:
    everywhere = np.ones(GRID.size, dtype=bool)
    blue = GRID.wavelength < 6000.0
    sun = MeanResidual(np.full(GRID.size, 0.1), np.zeros(GRID.size), everywhere)
    stars = MeanResidual(np.full(GRID.size, 0.3), np.full(GRID.size, 0.01), blue)
    both = learn_imperfection(model, sun, stars)
    np.testing.assert_allclose(both.correction[blue], 0.2)
    np.testing.assert_allclose(both.correction[~blue], 0.1)
    assert np.all(both.error >= 0.01 - 1e-12)
    with pytest.raises(InputError, match="nothing to learn from"):
        learn_imperfection(model, None, None)


@pytest.mark.skipif("default" not in packaged_models(), reason="there is no packaged model")
def test_a_revised_model_file_differs_in_its_imperfection_and_hash_alone(tmp_path: Path) -> None:
    source = find_model("default")
    before = load_model(source)
    imperfection = Imperfection(
        before.wavelength, np.linspace(-0.1, 0.1, 3801), np.linspace(0, 0.01, 3801), 0.1
    )
    target = tmp_path / "revised.safetensors"
    write_revised_model(source, target, "revised", imperfection, {"from": "a test"})
    after = load_model(target)
    assert after.sha256 != before.sha256
    assert (after.name, after.metadata["imperfection"]) == ("revised", {"from": "a test"})
    assert after.imperfection is not None
    np.testing.assert_allclose(after.imperfection.correction, imperfection.correction, atol=1e-7)
    labels = before.label_range.mean(axis=1)
    np.testing.assert_array_equal(after.predict(labels), before.predict(labels))


def test_an_imperfection_of_another_length_is_refused() -> None:
    with pytest.raises(ModelError, match="must be"):
        Imperfection(GRID.wavelength, np.zeros(5), np.zeros(GRID.size), 0.1)


def test_a_solar_spectrum_is_degraded_to_the_resolution_of_the_survey(tmp_path: Path) -> None:
    wavelength = np.arange(4900.0, 5200.0, 0.05)
    line = 1.0 - 0.8 * np.exp(-0.5 * ((wavelength - 5050.0) / (0.4 / 2.3548)) ** 2)
    path = tmp_path / "sun.txt"
    np.savetxt(path, np.column_stack([wavelength / 10.0, line * wavelength]), header="a line")
    grid = PixelGrid(36970, 100)
    flux = read_solar_spectrum(path, grid, 1800.0)
    depth = 1.0 - flux / np.median(flux)
    second = (depth * (grid.wavelength - 5050.0) ** 2).sum() / depth.sum()
    assert 2.3548 * np.sqrt(second) == pytest.approx(5050.0 / 1800.0, rel=0.01)
    with pytest.raises(InputError, match="are needed"):
        read_solar_spectrum(path, PixelGrid(36000, 100), 1800.0)
