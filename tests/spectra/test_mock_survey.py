"""A simulated release is read back by our reader and by astropy, and holds the stars it promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from phdl_catalog.errors import InputError, RejectedSpectrum
from phdl_catalog.spectra.grid import PixelGrid
from phdl_catalog.spectra.lamost import read_spectrum
from phdl_catalog.spectra.mock_broken import EXPECTED_REASON, Damage
from phdl_catalog.spectra.mock_stars import Census, Stage, draw_stars
from phdl_catalog.spectra.mock_survey import MockSurvey, SurveyPlan, designation, plan_survey, write_survey
from phdl_catalog.spectra.spectrum import Layout

NAMES = ("teff", "logg", "v_micro", "fe_h", "mg_fe", "ba_fe", "eu_fe")
RANGE = np.array([[4000, 7000], [0.5, 5], [0.3, 3], [-2.5, 0.5], [-0.5, 0.8], [-1, 1], [-0.5, 1]])
WAVELENGTH = PixelGrid(35740, 3801).wavelength
SMALL = SurveyPlan(census=Census(stars=12, pairs=2, references=3), repeats=2, distortion=0.1, seed=3)


def predict(labels: np.ndarray) -> np.ndarray:
    """Stars with one line whose depth is their magnesium."""
    depth = 0.4 + 0.3 * labels[:, NAMES.index("mg_fe"), None]
    return 1.0 - depth * np.exp(-0.5 * ((WAVELENGTH - 5175.0) / 2.0) ** 2)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> tuple[MockSurvey, dict[Path, Damage | None]]:
    survey = plan_survey(SMALL, NAMES, RANGE)
    folder = tmp_path_factory.mktemp("release")
    return survey, write_survey(folder, survey, SMALL, WAVELENGTH, predict)


def test_every_good_file_is_read_as_the_dr10_layout_with_the_facts_of_its_star(
    release: tuple[MockSurvey, dict[Path, Damage | None]],
) -> None:
    survey, files = release
    good = [path for path, damage in files.items() if damage is None]
    assert len(good) == survey.obsids.size == 14
    for path, obsid, row in zip(good, survey.obsids, survey.star_of, strict=True):
        header = read_spectrum(path).header
        assert header.layout is Layout.DR9
        assert header.obsid == obsid
        assert header.gaia_source_id == survey.source_ids[row]
        assert header.ra == pytest.approx(survey.ra[row], abs=1e-9)
        assert header.dec == pytest.approx(survey.dec[row], abs=1e-9)


def test_every_broken_file_is_rejected_for_the_reason_it_was_made_for(
    release: tuple[MockSurvey, dict[Path, Damage | None]],
) -> None:
    broken = {path: damage for path, damage in release[1].items() if damage is not None}
    assert set(broken.values()) == set(Damage)
    for path, damage in broken.items():
        with pytest.raises(RejectedSpectrum) as caught:
            read_spectrum(path)
        assert caught.value.reason == EXPECTED_REASON[damage]


def test_astropy_reads_the_same_pixels_as_we_do(
    release: tuple[MockSurvey, dict[Path, Damage | None]],
) -> None:
    path = next(path for path, damage in release[1].items() if damage is None)
    ours = read_spectrum(path)
    with fits.open(path) as hdus:
        assert hdus[0].header["NAXIS"] == 0
        assert hdus[0].header["SNRG"] == pytest.approx(ours.header.snr_g)
        assert hdus[1].name == "COADD"
        row = hdus[1].data[0]
        np.testing.assert_array_equal(row["FLUX"], ours.flux)
        np.testing.assert_array_equal(row["IVAR"], ours.ivar)
        np.testing.assert_allclose(row["WAVELENGTH"], ours.wavelength, rtol=1e-6)
        assert np.isfinite(row["NORMALIZATION"]).all()


def test_writing_the_same_plan_twice_gives_the_same_bytes(
    release: tuple[MockSurvey, dict[Path, Damage | None]], tmp_path: Path
) -> None:
    again = write_survey(tmp_path, plan_survey(SMALL, NAMES, RANGE), SMALL, WAVELENGTH, predict)
    for first, second in zip(release[1], again, strict=True):
        assert first.name == second.name
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.shared_data
def test_a_simulated_file_has_the_cards_of_a_real_one_with_the_same_types(
    release: tuple[MockSurvey, dict[Path, Damage | None]], shared_data: Path
) -> None:
    real_path = next((shared_data / "lamost" / "dr10_subgiant_snr50").glob("*.fits.gz"))
    ours_path = next(path for path, damage in release[1].items() if damage is None)
    with fits.open(real_path) as real, fits.open(ours_path) as ours:
        assert ours[1].columns.names == real[1].columns.names
        assert [c.format[-1] for c in ours[1].columns] == [c.format[-1] for c in real[1].columns]
        for key, value in ours[0].header.items():
            if key not in ("COMMENT", ""):
                assert key in real[0].header, key
                assert type(value) is type(real[0].header[key]), key


def test_the_census_is_kept_and_at_least_sixty_per_cent_are_subgiants() -> None:
    census = Census()
    stars = draw_stars(NAMES, RANGE, census, np.random.default_rng(0))
    assert stars.labels.shape == (400, len(NAMES))
    assert np.mean(stars.stages == Stage.SUBGIANT.value) >= 0.6
    assert stars.pairs.shape == (40, 2)
    assert stars.references.shape == (40,)
    assert not set(stars.pairs.ravel()) & set(stars.references)


def test_the_stars_of_a_pair_share_their_composition_and_not_their_temperature() -> None:
    stars = draw_stars(NAMES, RANGE, Census(), np.random.default_rng(0))
    composition = [i for i, name in enumerate(NAMES) if name not in ("teff", "logg", "v_micro")]
    first, second = stars.labels[stars.pairs[:, 0]], stars.labels[stars.pairs[:, 1]]
    np.testing.assert_array_equal(first[:, composition], second[:, composition])
    assert np.std(first[:, 0] - second[:, 0]) > 300.0


def test_all_labels_are_inside_the_models_range() -> None:
    narrow = RANGE.astype(float).copy()
    narrow[NAMES.index("ba_fe")] = [-0.02, 0.02]
    stars = draw_stars(NAMES, narrow, Census(), np.random.default_rng(0))
    assert np.all(stars.labels >= narrow[:, 0])
    assert np.all(stars.labels <= narrow[:, 1])


def test_the_distortion_depends_on_temperature_and_spares_the_stellar_parameters() -> None:
    survey = plan_survey(SMALL, NAMES, RANGE)
    cool, hot = survey.distortion(np.array([5000.0, 6200.0]))
    assert np.all(cool[:3] == 0)
    assert np.all(hot[:3] == 0)
    assert np.all(np.abs(hot[3:] - cool[3:]) > 0.02)


def test_more_calibrators_than_stars_is_an_error_that_counts_them() -> None:
    with pytest.raises(InputError, match="need 120 stars, but there are 100"):
        Census(stars=100, pairs=40, references=40)


def test_a_model_without_temperature_makes_no_stars() -> None:
    with pytest.raises(InputError, match="the model has no teff"):
        draw_stars(("logg", "fe_h"), RANGE[:2], Census(), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("ra", "dec", "name"),
    [(57.193566, 2.540677, "LAMOST J034846.45+023226.4"), (0.0, -0.5, "LAMOST J000000.00-003000.0")],
)
def test_a_designation_is_the_position_truncated(ra: float, dec: float, name: str) -> None:
    assert designation(ra, dec) == name
