"""A simulated release comes with the calibrators and the truth that its files were made of."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from phdl_catalog.spectra.grid import PixelGrid
from phdl_catalog.spectra.lamost import read_spectrum
from phdl_catalog.spectra.mock_release import Manifest, ReleaseFolder, origin_of, simulate_release
from phdl_catalog.spectra.mock_stars import Census
from phdl_catalog.spectra.mock_survey import SurveyPlan

PLAN = SurveyPlan(census=Census(stars=20, pairs=4, references=3), repeats=2, seed=11)


class FlatModel:
    """A model whose stars have no lines."""

    label_names = ("teff", "logg", "v_micro", "fe_h", "mg_fe")
    label_range = np.array([[4000, 7000], [0.5, 5], [0.3, 3], [-2.5, 0.5], [-0.5, 0.8]], dtype=float)
    wavelength = PixelGrid(35740, 3801).wavelength
    sha256 = "0" * 64

    def predict(self, labels: np.ndarray) -> np.ndarray:
        return np.ones((len(labels), self.wavelength.size), dtype=np.float32)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ReleaseFolder:
    made = ReleaseFolder(tmp_path_factory.mktemp("mock") / "release")
    simulate_release(made, PLAN, FlatModel())
    return made


def test_the_manifest_counts_what_is_there(folder: ReleaseFolder) -> None:
    manifest = Manifest.read(folder)
    assert manifest is not None
    assert (manifest.stars, manifest.spectra, manifest.pairs, manifest.references) == (20, 22, 4, 3)
    files = sum(1 for path in folder.spectra.rglob("*") if path.is_file())
    assert files == manifest.spectra + sum(manifest.broken.values())


def test_a_release_that_was_not_finished_has_no_manifest(tmp_path: Path) -> None:
    assert Manifest.read(ReleaseFolder(tmp_path)) is None


def test_releases_of_one_plan_and_model_have_one_origin_and_others_another(folder: ReleaseFolder) -> None:
    manifest = Manifest.read(folder)
    assert manifest is not None
    assert manifest.origin == origin_of(PLAN, FlatModel())
    other = FlatModel()
    other.sha256 = "1" * 64
    assert manifest.origin != origin_of(PLAN, other)
    assert manifest.origin != origin_of(replace(PLAN, seed=12), FlatModel())


def test_the_files_are_of_the_stars_in_the_truth(folder: ReleaseFolder) -> None:
    truth = {int(row["gaia_source_id"]) for row in table(folder.truth)}
    path = next(folder.spectra.rglob("spec-60000-MOCK01_sp01-001.fits.gz"))
    assert read_spectrum(path).header.gaia_source_id in truth
    assert len(truth) == 20


def test_the_stars_of_a_pair_are_neighbours_of_one_true_composition(folder: ReleaseFolder) -> None:
    truth = {row["gaia_source_id"]: row for row in table(folder.truth)}
    pairs = table(folder.pairs)
    assert len(pairs) == 4
    for pair in pairs:
        first, second = truth[pair["source_id1"]], truth[pair["source_id2"]]
        assert first["role"] == second["role"] == "pair"
        assert first["mg_fe"] == second["mg_fe"]
        assert abs(float(pair["dec1"]) - float(pair["dec2"])) < 0.01
        assert float(pair["sep_AU"]) > 0


def test_references_are_the_truth_within_their_errors_and_not_the_distorted_labels(
    folder: ReleaseFolder,
) -> None:
    truth = {row["gaia_source_id"]: row for row in table(folder.truth)}
    references = table(folder.references)
    assert len(references) == 3
    for row in references:
        true = truth[row["gaia_source_id"]]
        for name in FlatModel.label_names:
            assert abs(float(row[name]) - float(true[name])) < 5 * float(row[f"e_{name}"])
