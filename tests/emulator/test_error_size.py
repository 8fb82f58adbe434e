"""How large an error is, by how little the known stars say of a spectrum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from phdl_catalog.emulator import error_size
from phdl_catalog.emulator.error_size import Novelty
from phdl_catalog.emulator.expected_error import ExpectedError
from phdl_catalog.emulator.left_out import Residuals
from phdl_catalog.emulator.transforms import LabelTransform

NAMES = ("teff", "logg", "fe_h", "mg_fe")


def stars(number: int, seed: int) -> NDArray[np.float64]:
    """(number, 4) random labels."""
    generator = np.random.default_rng(seed)
    return generator.uniform([4200, 1.0, -2.0, -0.3], [6800, 5.0, 0.4, 0.3], (number, len(NAMES)))


def rate() -> NDArray[np.float64]:
    """Spectra are unlike where temperature, gravity or iron differ by half of their spread, not so Mg."""
    transform = LabelTransform.fitted(NAMES, stars(500, 9))
    out = np.zeros(transform.n_inputs)
    out[:3] = 2.0 / transform.scale.numpy()[:3]
    return out


def test_known_spectra_say_all_of_themselves_and_nothing_of_what_is_far() -> None:
    known = stars(20, 1)
    novelty = Novelty(NAMES, known, rate())
    assert novelty(torch.as_tensor(known)).exp().max() < 3e-3
    far = torch.tensor([[20000.0, 9.0, -6.0, 0.0]])
    torch.testing.assert_close(novelty(far).exp(), torch.ones(1).double(), rtol=2e-3, atol=0.0)


def test_without_its_own_star_a_spectrum_is_as_new_as_to_the_others_alone() -> None:
    labels = np.repeat(stars(30, 2), 2, axis=0)
    labels[1::2, 2] += 0.05
    star = np.repeat(np.arange(30), 2)
    novelty, own = Novelty.of_stars(NAMES, labels, star, rate())
    assert novelty.known.shape == (30, 4)
    for row in (0, 1, 58, 59):
        others = Novelty(NAMES, np.delete(labels[::2], star[row], axis=0), rate())
        torch.testing.assert_close(own[row : row + 1], others(torch.as_tensor(labels[row : row + 1])))
    assert (own > novelty(torch.as_tensor(labels))).all()


def test_of_very_many_stars_some_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_size, "_MOST_STARS", 10)
    labels = stars(40, 3)
    novelty, own = Novelty.of_stars(NAMES, labels, np.arange(40), rate())
    assert novelty.known.shape == (10, 4)
    seen = np.isin(labels[:, 0], novelty.known[:, 0].numpy())
    assert seen.sum() == 10
    torch.testing.assert_close(own[~seen], novelty(torch.as_tensor(labels[~seen])))


def erring(number: int, seed: int) -> Residuals:
    """Errors that grow with the root of the variance that the other stars leave."""
    labels = stars(number, seed)
    _, own = Novelty.of_stars(NAMES, labels, np.arange(number), rate())
    size = 0.01 * torch.exp(0.5 * own).numpy()
    flux = size[:, None] * np.random.default_rng(seed).normal(size=(number, 200))
    return Residuals(labels, flux, np.arange(number), rate())


def test_errors_that_grow_away_from_the_known_stars_are_foretold() -> None:
    residuals = erring(200, 4)
    expected = ExpectedError.from_residuals(NAMES, residuals)
    np.testing.assert_allclose(expected.trend[1:], [0.0, 0.0, 0.0, 0.5], atol=0.1)
    found = np.sqrt(np.mean(residuals.flux**2, axis=1)) / expected.amplitude_without_own(residuals)
    np.testing.assert_allclose(np.median(found), 1.0, atol=0.03)
    fresh = stars(100, 5)
    assert expected.novelty is not None
    truth = 0.01 * expected.novelty(torch.as_tensor(fresh)).mul(0.5).exp().numpy()
    truth = np.clip(truth, *expected.limits)
    np.testing.assert_allclose(expected.amplitude(fresh), truth, rtol=0.15)
    without = ExpectedError.from_residuals(NAMES, Residuals(residuals.labels, residuals.flux, residuals.star))
    assert without.novelty is None
    assert len(without.trend) == 4
    blind = np.log(without.amplitude(fresh) / truth)
    assert np.std(blind) > 3.0 * np.std(np.log(expected.amplitude(fresh) / truth))


def test_what_the_size_follows_survives_a_model_file() -> None:
    expected = ExpectedError.from_residuals(NAMES, erring(40, 6)).scaled(1.3)
    tensors = {key.removeprefix("expected_error."): value for key, value in expected.tensors().items()}
    read = ExpectedError.from_tensors(NAMES, tensors)
    np.testing.assert_allclose(
        read.amplitude(stars(20, 7)), expected.amplitude(stars(20, 7)), rtol=1e-5, atol=0.0
    )
    of_before = {
        key: value[:4] if key == "trend" else value
        for key, value in tensors.items()
        if key not in ("known", "rate")
    }
    assert ExpectedError.from_tensors(NAMES, of_before).amplitude(stars(20, 7)).shape == (20,)
