"""Fits of real survey spectra with the packaged model: comparisons, and the command that makes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from phdl_catalog.cli.main import app
from phdl_catalog.emulator import load_model, packaged_models
from phdl_catalog.errors import InputError
from phdl_catalog.fitting import Fitter
from phdl_catalog.fitting.flags import FitFlag, flag_names
from phdl_catalog.spectra.grid import PixelGrid
from phdl_catalog.spectra.solar import read_solar_spectrum

pytestmark = pytest.mark.skipif("default" not in packaged_models(), reason="there is no packaged model")


@pytest.mark.shared_data
def test_real_stars_agree_with_the_survey_pipeline(shared_data: Path) -> None:
    index = pd.read_csv(shared_data / "lamost" / "index.csv")
    chosen = index[(index["set"] == "dr10_fgk") & (index["snrg"] > 50)].iloc[:24]
    files = [str(shared_data / "lamost" / name) for name in chosen["file"]]
    done = CliRunner().invoke(app, ["fit", "file", "--json", *files])
    assert done.exit_code == 0, done.output
    results = json.loads(done.stdout)["results"]
    assert [result["status"] for result in results] == ["ok"] * len(files)
    assert [int(result["obsid"]) for result in results] == chosen["obsid"].tolist()
    # Offsets are those of the pipeline and of the line list, which calibration removes; scatter is the fit's.
    limits = {"teff": (400.0, 250.0), "logg": (0.5, 0.45), "fe_h": (0.4, 0.2)}
    if load_model("default").imperfection is not None:
        limits = {"teff": (120.0, 120.0), "logg": (0.2, 0.25), "fe_h": (0.12, 0.12)}
    for name, (offset, scatter) in limits.items():
        difference = np.array([result["labels"][name] for result in results]) - chosen[name].to_numpy()
        middle = np.median(difference)
        assert abs(middle) < offset, name
        assert 1.4826 * np.median(np.abs(difference - middle)) < scatter, name
    velocity = np.array([result["rv"] for result in results]) - chosen["z"].to_numpy() * 299792.458
    assert 1.4826 * np.median(np.abs(velocity)) < 8.0
    assert not any("not_converged" in result["flags"] for result in results)


@pytest.mark.shared_data
def test_the_sun_is_the_sun(shared_data: Path) -> None:
    model = load_model("default")
    if model.imperfection is None:
        pytest.skip("the packaged model has no imperfection")
    grid = PixelGrid(model.pixels.first - 50, model.pixels.size + 100)
    flux = read_solar_spectrum(
        shared_data / "solar" / "sun_chance_kurucz_2010.txt.gz", grid, model.resolution
    )
    result = Fitter(model).fit(grid.wavelength, flux, (200.0 / flux) ** 2)
    fitted = dict(zip(result.label_names, result.labels[0], strict=True))
    assert result.flags[0] == 0
    assert abs(fitted["teff"] - 5772.0) < 60.0
    assert abs(fitted["logg"] - 4.438) < 0.10
    assert abs(fitted["fe_h"]) < 0.07
    assert all(abs(fitted[f"{name}_fe"]) < 0.10 for name in ("mg", "si", "ca", "ti", "cr", "ni"))


@pytest.mark.shared_data
def test_repeats_differ_by_their_errors(shared_data: Path) -> None:
    index = pd.read_csv(shared_data / "lamost" / "index.csv")
    repeats = index[index["repeat_group"].notna()].sort_values("repeat_group").iloc[:60]
    files = [str(shared_data / "lamost" / name) for name in repeats["file"]]
    results = json.loads(CliRunner().invoke(app, ["fit", "file", "--json", *files]).stdout)["results"]
    assert all(result["corrected"] for result in results if not result["flags"])
    group = repeats["repeat_group"].to_numpy()
    for name in ("teff", "logg", "fe_h", "mg_fe", "ca_fe", "ti_fe", "ni_fe"):
        ratios = [
            (results[i]["labels"][name] - results[j]["labels"][name])
            / np.hypot(results[i]["errors"][name], results[j]["errors"][name])
            for i in range(len(group))
            for j in range(i)
            if group[i] == group[j] and not results[i]["flags"] and not results[j]["flags"]
        ]
        assert len(ratios) > 25
        assert 0.6 < np.std(ratios) < 1.5, name


@pytest.mark.shared_data
def test_polishing_moves_labels_by_less_than_their_errors(shared_data: Path) -> None:
    star = sorted((shared_data / "lamost" / "dr10_subgiant_snr50").iterdir())[0]
    done = CliRunner().invoke(app, ["fit", "file", "--json", "--polish", "--prior", "eu_fe=0:0.3", str(star)])
    (result,) = json.loads(done.stdout)["results"]
    assert np.median(np.abs(list(result["polished"].values()))) < 0.5


def test_a_malformed_prior_is_an_error_that_shows_the_form(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["fit", "file", "--prior", "mg_fe", str(tmp_path / "x.fits")])
    assert done.exit_code != 0
    assert isinstance(done.exception, InputError)
    assert "mg_fe=0.1:0.2" in str(done.exception)


@pytest.mark.shared_data
def test_stars_outside_the_grid_are_flagged(shared_data: Path) -> None:
    files = sorted((shared_data / "lamost" / "dr10_outside_grid").iterdir())[:12]
    done = CliRunner().invoke(app, ["fit", "file", "--json", *map(str, files)])
    results = json.loads(done.stdout)["results"]
    warned = set(flag_names(FitFlag.AT_BOUND | FitFlag.OUTSIDE_GRID | FitFlag.POOR_FIT))
    assert np.mean([bool(warned & set(result["flags"])) for result in results]) > 0.9


@pytest.mark.shared_data
def test_what_is_no_star_of_the_grid_gets_a_row_and_a_flag(shared_data: Path) -> None:
    """A plate as it comes: galaxies, M dwarfs, the unknown; other releases, and files of other surveys."""
    index = pd.read_csv(shared_data / "lamost" / "index.csv")
    plate = index[index["set"] == "dr7_plate"]
    strange = plate[(plate["cls"] != "STAR") | plate["subclass"].astype(str).str.startswith("dM")]
    files = [str(shared_data / "lamost" / name) for name in strange["file"]]
    others = [
        str(path) for kind in ("other", "odd") for path in sorted((shared_data / "lamost" / kind).iterdir())
    ]
    done = CliRunner().invoke(app, ["fit", "file", "--json", *files, *others])
    assert done.exit_code == 0, done.output
    results = json.loads(done.stdout)["results"]
    assert len(results) == len(files) + len(others)
    assert sum(result["status"] == "rejected" for result in results[: len(files)]) == 0
    flagged = [bool(result["flags"]) for result in results[: len(files)]]
    assert np.mean(flagged) > 0.9
    cool = strange["subclass"].astype(str).str.startswith("dM").to_numpy()
    dwarfs = [results[number]["flags"] for number in np.flatnonzero(cool)]
    assert dwarfs
    assert all("outside_grid" in flags for flags in dwarfs)


@pytest.mark.shared_data
def test_a_figure_is_written_and_rejected_files_stay_in_the_list(shared_data: Path, tmp_path: Path) -> None:
    star = sorted((shared_data / "lamost" / "dr10_subgiant_snr50").iterdir())[0]
    broken = tmp_path / "broken.fits"
    broken.write_text("not a spectrum")
    done = CliRunner().invoke(app, ["fit", "file", "--json", "--plot", str(tmp_path), str(broken), str(star)])
    assert done.exit_code == 0, done.output
    rejected, fitted = json.loads(done.stdout)["results"]
    assert (rejected["status"], rejected["reason"]) == ("rejected", "not_fits")
    assert Path(fitted["figure"]).read_bytes().startswith(b"\x89PNG")
    one = tmp_path / "figures" / "star.pdf"
    done = CliRunner().invoke(app, ["fit", "file", "--json", "--plot", str(one), str(star)])
    assert json.loads(done.stdout)["results"][0]["figure"] == str(one)
    assert one.read_bytes().startswith(b"%PDF")


def test_one_picture_of_several_spectra_is_wrong_usage(tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("a.fits", "b.fits")]
    done = CliRunner().invoke(app, ["fit", "file", "--plot", str(tmp_path / "star.png"), *files])
    assert done.exit_code == 2
    assert "name a folder" in done.output


def test_only_rejected_files_end_with_exit_code_one(tmp_path: Path) -> None:
    broken = tmp_path / "broken.fits"
    broken.write_text("not a spectrum")
    done = CliRunner().invoke(app, ["fit", "file", "--json", str(broken)])
    assert done.exit_code == 1
    assert json.loads(done.stdout)["results"][0]["status"] == "rejected"


def test_an_unknown_device_is_wrong_usage(tmp_path: Path) -> None:
    assert (
        CliRunner().invoke(app, ["fit", "file", "--device", "abacus", str(tmp_path / "x.fits")]).exit_code
        == 2
    )
