"""Priors, samples of the posterior, and suspects among the stars."""

from __future__ import annotations

import numpy as np
import pytest
from line_model import GRID, NAMES, RANGE, LineModel
from line_survey import simulate

from phdl_catalog.errors import InputError
from phdl_catalog.fitting import FitFlag, FitOptions, Fitter, KnownLabels, LabelPrior
from phdl_catalog.fitting.sampling import sample_posterior
from phdl_catalog.spectra.mock import shift_velocity


def test_a_prior_decides_where_the_data_say_nothing_and_yields_where_they_do(model: LineModel) -> None:
    sample = simulate(model, 12, snr=20.0, seed=60)
    strong, weak = NAMES.index("fe_h"), NAMES.index("eu_fe")
    free, held, vague = (
        Fitter(model, FitOptions(priors=priors)).fit(sample.wavelength, sample.flux, sample.ivar)
        for priors in ((), (LabelPrior("eu_fe", 0.3, 0.02),), (LabelPrior("fe_h", 5.0, 10.0),))
    )
    np.testing.assert_allclose(held.labels[:, weak], 0.3, atol=0.1)
    assert np.all(held.errors[:, weak] <= 0.0201)
    assert np.median(held.information[:, weak]) < 0.1
    moved = np.abs(vague.labels - free.labels)[:, strong] / free.errors[:, strong]
    assert np.median(moved) < 0.1


def test_what_is_known_of_each_star_takes_part(model: LineModel, fitter: Fitter) -> None:
    sample = simulate(model, 6, snr=20.0, seed=61)
    values, errors = np.full(sample.labels.shape, np.nan), np.full(sample.labels.shape, np.nan)
    values[:3, 0], errors[:3, 0] = sample.labels[:3, 0], 1.0
    free = fitter.fit(sample.wavelength, sample.flux, sample.ivar)
    held = fitter.fit(sample.wavelength, sample.flux, sample.ivar, known=KnownLabels(values, errors))
    assert np.abs(held.labels[:3, 0] - sample.labels[:3, 0]).max() < 3.0
    np.testing.assert_allclose(held.labels[3:], free.labels[3:], atol=0.01 * np.ptp(RANGE, axis=1).max())
    with pytest.raises(InputError, match="have shape"):
        fitter.fit(sample.wavelength, sample.flux, sample.ivar, known=KnownLabels(values[:2], errors[:2]))


def test_priors_are_recorded_and_come_back_from_json() -> None:
    options = FitOptions(priors=(LabelPrior.parse("mg_fe=0.1:0.2"),))
    assert options.as_dict()["priors"] == [{"name": "mg_fe", "mean": 0.1, "sigma": 0.2}]
    assert FitOptions(**options.as_dict()) == options
    assert FitOptions().as_dict()["priors"] == []


@pytest.mark.parametrize("text", ["mg_fe", "mg_fe=0.1", "mg_fe=a:b", "mg_fe=0:-1"])
def test_a_prior_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="prior"):
        LabelPrior.parse(text)


def test_a_prior_on_an_unknown_label_names_the_known_ones(model: LineModel) -> None:
    with pytest.raises(InputError, match="eu_fe"):
        Fitter(model, FitOptions(priors=(LabelPrior("zn_fe", 0.0, 1.0),)))


def test_samples_of_the_posterior_have_the_width_of_the_errors(model: LineModel, fitter: Fitter) -> None:
    sample = simulate(model, 1, snr=80.0, seed=62, spread=0.4)
    found = sample_posterior(
        fitter, sample.wavelength, sample.flux[0], sample.ivar[0], steps=120, rng=np.random.default_rng(63)
    )
    summary = found.summary()
    ratios = [summary[name]["sigma_over_error"] for name in ("teff", "logg", "fe_h", "mg_fe", "ni_fe", "rv")]
    assert 0.65 < np.median(ratios) < 1.35
    result = fitter.fit(sample.wavelength, sample.flux, sample.ivar)
    middle = [summary[name]["median"] for name in NAMES[:4]]
    assert np.all(np.abs(middle - result.labels[0, :4]) < 1.5 * result.errors[0, :4])
    two = (np.repeat(values, 2, axis=0) for values in (sample.flux, sample.ivar))
    with pytest.raises(InputError, match="the posterior of one star is wanted"):
        sample_posterior(fitter, sample.wavelength, *two, steps=120, rng=np.random.default_rng(63))


def test_two_stars_in_one_spectrum_are_suspected_and_single_ones_are_not(
    model: LineModel, fitter: Fitter
) -> None:
    generator = np.random.default_rng(64)
    unit = generator.uniform(-0.4, 0.4, (16, len(NAMES)))
    flux = model.predict(RANGE.mean(axis=1) + unit * np.ptp(RANGE, axis=1) / 2).astype(float)
    second = np.array([shift_velocity(GRID.wavelength, row, 350.0, GRID.wavelength) for row in flux[8:]])
    double = 0.5 * flux[:8] + 0.5 * np.where(np.isfinite(second), second, 1.0)
    both = np.concatenate([double, flux[:8]]) + generator.normal(size=flux.shape) / 60.0
    result = fitter.fit(GRID.wavelength, both, np.full(both.shape, 3600.0))
    suspected = (result.flags & FitFlag.DOUBLE_LINED) != 0
    assert suspected[:8].mean() >= 0.5
    assert not suspected[8:].any()


def test_an_emission_line_is_flagged(model: LineModel, fitter: Fitter) -> None:
    sample = simulate(model, 4, snr=60.0, seed=65, largest_rv=10.0)
    wavelength = sample.wavelength
    bright = np.exp(-0.5 * ((wavelength - 6564.6) / 2.0) ** 2)
    level = np.median(sample.flux[:, np.abs(wavelength - 6564.6) < 60], axis=1)
    result = fitter.fit(wavelength, sample.flux + 0.5 * level[:, None] * bright, sample.ivar)
    assert np.all(result.flags & FitFlag.EMISSION_LINES)
    clean = fitter.fit(wavelength, sample.flux, sample.ivar)
    assert not np.any(clean.flags & FitFlag.EMISSION_LINES)


@pytest.mark.parametrize("rv", [-590.0, 590.0])
def test_a_large_velocity_is_found(model: LineModel, fitter: Fitter, rv: float) -> None:
    flux = model.predict(RANGE.mean(axis=1)[None]).astype(float)[0]
    moved = shift_velocity(GRID.wavelength, flux, rv, GRID.wavelength)
    good = np.isfinite(moved)
    noise = np.random.default_rng(66).normal(size=flux.shape) / 20.0
    result = fitter.fit(GRID.wavelength, np.where(good, moved + noise, 0.0), 400.0 * good)
    assert abs(result.rv[0] - rv) < 10.0
    assert not result.flags[0] & FitFlag.BAD_VELOCITY
