"""Importing arrays: whatever file they are in, the same grid comes out."""

from __future__ import annotations

import json
import re
import tomllib
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from astropy.io import fits

from phdl_catalog.emulator.grid import AbInitioGrid, load_grid
from phdl_catalog.emulator.grid_files import GridMapping, import_grid, source
from phdl_catalog.errors import ConflictError, GridError, InputError
from phdl_catalog.spectra.air import refractive_index
from tests.analytic_grid import NAMES, PIXELS, analytic_flux, write_grid

Arrays = dict[str, np.ndarray]

STEP = np.array([50.0, 0.1, 0.1, 0.1])
LOG_WAVELENGTH = np.arange(3.6985, 3.7165, 4e-5)


@pytest.fixture
def arrays() -> Arrays:
    """24 spectra of 8 stars and two reference stars, under names of somebody's own."""
    generator = np.random.default_rng(2)
    labels = generator.uniform([4500.0, 3.0, -1.5, -0.4], [6500.0, 4.8, 0.4, 0.5], (24, 4))
    reference = labels[[0, 9]]
    base = analytic_flux(reference, LOG_WAVELENGTH)
    moved = [
        analytic_flux(reference + s * unit, LOG_WAVELENGTH) for s, unit in zip(STEP, np.eye(4), strict=True)
    ]
    return {
        "WAVE": 10**LOG_WAVELENGTH,
        "PARAMS": labels,
        "SPEC": analytic_flux(labels, LOG_WAVELENGTH).astype(np.float32),
        "FAMILY": np.repeat(np.arange(8), 3) + 40,
        "SIDE": np.repeat([2, 1, 1, 1, 2, 1, 1, 1], 3),
        "RPARAMS": reference,
        "RSPEC": base,
        "RGRAD": np.stack([(m - base) / s for m, s in zip(moved, STEP, strict=True)], axis=1),
        "RSTEP": STEP,
    }


MAPPING: dict[str, Any] = {
    "resolution": 5000.0,
    "star": "FAMILY",
    "wavelength": {"array": "WAVE"},
    "flux": {"array": "SPEC"},
    "labels": {"array": "PARAMS", "names": NAMES},
    "split": {"array": "SIDE", "validation": 2},
    "gradients": {"labels": "RPARAMS", "flux": "RSPEC", "gradient": "RGRAD", "step": "RSTEP"},
}


def save_npz(path: Path, arrays: Arrays) -> Path:
    np.savez(path.with_suffix(".npz"), **arrays)
    return path.with_suffix(".npz")


def save_compressed_npz(path: Path, arrays: Arrays) -> Path:
    np.savez_compressed(path.with_suffix(".npz"), **arrays)
    return path.with_suffix(".npz")


def save_columns_first_npz(path: Path, arrays: Arrays) -> Path:
    return save_npz(path, {name: np.asfortranarray(array) for name, array in arrays.items()})


def save_hdf5(path: Path, arrays: Arrays) -> Path:
    with h5py.File(path.with_suffix(".hdf5"), "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path.with_suffix(".hdf5")


def save_fits(path: Path, arrays: Arrays) -> Path:
    images = [fits.ImageHDU(array, name=name) for name, array in arrays.items()]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path.with_suffix(".fits"), overwrite=True)
    return path.with_suffix(".fits")


def imported(
    path: Path, *sources: Path, mapping: Mapping[str, Any] = MAPPING, **options: Any
) -> AbInitioGrid:
    import_grid(sources, path, GridMapping.model_validate(mapping), pixels=PIXELS, **options)
    return load_grid(path, PIXELS)


def changed(**sections: Any) -> dict[str, Any]:
    """The mapping with other entries in its sections; None takes a section out."""
    document = dict(MAPPING)
    for name, value in sections.items():
        if value is None:
            document.pop(name)
        else:
            document[name] = {**MAPPING.get(name, {}), **value} if isinstance(value, dict) else value
    return document


@pytest.mark.parametrize(
    "save",
    [save_npz, save_compressed_npz, save_columns_first_npz, save_hdf5, save_fits],
    ids=lambda f: f.__name__,
)
def test_arrays_of_every_kind_of_file_come_back(
    tmp_path: Path, arrays: Arrays, save: Callable[[Path, Arrays], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_BLOCK_BYTES", 5 * 8 * LOG_WAVELENGTH.size)  # five rows at a time
    grid = imported(tmp_path / "g.h5", save(tmp_path / "source", arrays))
    np.testing.assert_array_equal(grid.labels, arrays["PARAMS"])
    np.testing.assert_array_equal(grid.star, arrays["FAMILY"])
    np.testing.assert_array_equal(grid.is_validation, arrays["SIDE"] == 2)
    with h5py.File(tmp_path / "g.h5") as file:
        np.testing.assert_allclose(file["flux"] * file["flux"].attrs["scale"], arrays["SPEC"], atol=1.6e-5)
        np.testing.assert_allclose(file["wavelength"], arrays["WAVE"], rtol=1e-14)
    gradients = grid.gradients
    assert gradients is not None
    np.testing.assert_array_equal(gradients.step, STEP)
    assert gradients.gradient.shape == (2, 4, PIXELS.size)


def test_columns_of_a_fits_table_are_arrays_too(tmp_path: Path, arrays: Arrays) -> None:
    columns = [
        fits.Column(name="TEFF", format="D", array=np.log10(arrays["PARAMS"][:, 0])),
        *(
            fits.Column(name=n, format="D", array=c)
            for n, c in zip("gma", arrays["PARAMS"].T[1:], strict=True)
        ),
        fits.Column(name="FLUX", format="450E", array=arrays["SPEC"]),
    ]
    path = tmp_path / "table.fits"
    fits.HDUList(
        [fits.PrimaryHDU(arrays["WAVE"]), fits.BinTableHDU.from_columns(columns, name="GRID")]
    ).writeto(path)
    mapping = {
        "resolution": 5000,
        "wavelength": {"array": "0"},
        "flux": {"array": "grid/flux"},
        "label": {
            "teff": {"array": "GRID/TEFF", "log10": True},
            "logg": {"array": "1/g"},
            "fe_h": {"array": "GRID/m"},
            "mg_fe": {"array": "GRID/a"},
        },
    }
    grid = imported(tmp_path / "g.h5", path, mapping=mapping)
    np.testing.assert_allclose(grid.labels, arrays["PARAMS"], rtol=1e-12)
    assert grid.star.tolist() == list(range(24))
    assert 0 < grid.is_validation.sum() < 12


def test_air_wavelengths_falling_and_in_nanometres_are_turned_into_vacuum(
    tmp_path: Path, arrays: Arrays
) -> None:
    truth = imported(tmp_path / "t.h5", save_npz(tmp_path / "t", arrays))
    air = arrays["WAVE"] / refractive_index(arrays["WAVE"])
    for name in ("SPEC", "RSPEC", "RGRAD"):
        arrays[name] = arrays[name][..., ::-1]
    arrays["WAVE"] = air[::-1] / 10
    mapping = changed(wavelength={"medium": "air", "unit": "nm"})
    grid = imported(tmp_path / "g.h5", save_npz(tmp_path / "a", arrays), mapping=mapping)
    with h5py.File(tmp_path / "g.h5") as file:
        np.testing.assert_allclose(file["wavelength"], 10**LOG_WAVELENGTH, rtol=1e-11)
    np.testing.assert_allclose(grid.flux, truth.flux, atol=1e-6)
    assert grid.gradients is not None
    assert truth.gradients is not None
    np.testing.assert_allclose(grid.gradients.gradient, truth.gradients.gradient, atol=1e-6)


def test_units_and_the_scale_of_gradients_are_undone(tmp_path: Path, arrays: Arrays) -> None:
    """Temperatures in kK, gravities in SI, gradients by temperature per 0.1 kK."""
    truth = imported(tmp_path / "t.h5", save_npz(tmp_path / "t", arrays))
    for name in ("PARAMS", "RPARAMS"):
        arrays[name] = arrays[name] * [1e-3, 1, 1, 1] - [0, 2, 0, 0]
    arrays["RGRAD"] = arrays["RGRAD"] * np.array([100.0, 1, 1, 1])[:, None]
    arrays["RSTEP"] = STEP * [1e-3, 1, 1, 1]
    mapping = changed(
        label={"teff": {"unit": "kK"}, "logg": {"unit": "dex(m.s**-2)"}}, gradients={"teff_per": 0.1}
    )
    grid = imported(tmp_path / "g.h5", save_npz(tmp_path / "a", arrays), mapping=mapping)
    np.testing.assert_allclose(grid.labels, truth.labels, rtol=1e-12)
    assert grid.gradients is not None
    assert truth.gradients is not None
    np.testing.assert_allclose(grid.gradients.step, STEP)
    np.testing.assert_allclose(grid.gradients.gradient, truth.gradients.gradient, rtol=2e-3, atol=1e-7)


def test_wavelengths_may_be_a_start_and_a_step(tmp_path: Path, arrays: Arrays) -> None:
    del arrays["WAVE"]
    mapping = changed(wavelength=None) | {"wavelength": {"start": 3.6985, "step": 4e-5, "log10": True}}
    imported(tmp_path / "g.h5", save_npz(tmp_path / "a", arrays), mapping=mapping)
    with h5py.File(tmp_path / "g.h5") as file:
        np.testing.assert_allclose(file["wavelength"], 10**LOG_WAVELENGTH, rtol=1e-12)


def test_families_of_several_sources_are_kept_apart(tmp_path: Path, arrays: Arrays) -> None:
    other = dict(arrays, PARAMS=arrays["PARAMS"] + [7, 0, 0, 0], RPARAMS=arrays["RPARAMS"] + [7, 0, 0, 0])
    sources = [save_npz(tmp_path / "a", arrays), save_hdf5(tmp_path / "b", other)]
    grid = imported(tmp_path / "g.h5", *sources)
    assert len(grid) == 48
    assert np.unique(grid.star).size == 16
    np.testing.assert_array_equal(grid.star[:24], arrays["FAMILY"])
    assert grid.gradients is not None
    assert len(grid.gradients) == 4


def test_grid_files_are_put_together_without_a_mapping(tmp_path: Path) -> None:
    first, second = write_grid(tmp_path / "a.h5"), write_grid(tmp_path / "b.h5", n_stars=20, seed=5)
    grid = imported(tmp_path / "g.h5", first, second, mapping={})
    one, two = load_grid(first, PIXELS), load_grid(second, PIXELS)
    np.testing.assert_allclose(grid.labels, np.concatenate([one.labels, two.labels]), rtol=1e-12)
    np.testing.assert_allclose(grid.flux, np.concatenate([one.flux, two.flux]), atol=2e-5)
    np.testing.assert_array_equal(grid.is_validation, np.concatenate([one.is_validation, two.is_validation]))
    assert grid.gradients is not None
    assert one.gradients is not None
    np.testing.assert_allclose(grid.gradients.gradient[:4], one.gradients.gradient, rtol=2e-3, atol=1e-7)


def test_sources_of_different_sampling_are_brought_together_by_degrading(
    tmp_path: Path, arrays: Arrays
) -> None:
    finer = np.arange(10**3.6985, 10**3.7165, 0.15)
    other = {
        "WAVE": finer,
        "PARAMS": arrays["PARAMS"] + [7, 0, 0, 0],
        "SPEC": analytic_flux(arrays["PARAMS"] + [7, 0, 0, 0], np.log10(finer)),
    }
    sources = [save_npz(tmp_path / "a", arrays), save_npz(tmp_path / "b", other)]
    mapping = changed(star=None, split=None, gradients=None)
    with pytest.raises(GridError, match=r"b.npz has other wavelengths.*--degrade-to"):
        imported(tmp_path / "g.h5", *sources, mapping=mapping)
    grid = imported(tmp_path / "g.h5", *sources, mapping=mapping, degrade_to=3500.0)
    direct = imported(tmp_path / "d.h5", sources[0], mapping=mapping)
    np.testing.assert_allclose(grid.flux[:24], direct.flux, atol=1e-4)
    assert np.abs(grid.flux[24:] - grid.flux[:24]).max() < 0.01


def test_a_label_beyond_the_vocabulary_is_declared_in_the_mapping(tmp_path: Path, arrays: Arrays) -> None:
    entry = {"unit": "km/s", "lower": -1, "upper": 100, "description": "Projected rotation velocity"}
    names = (*NAMES[:3], "vsini")
    grid = imported(
        tmp_path / "g.h5",
        save_npz(tmp_path / "a", arrays),
        mapping=changed(labels={"names": names}, label={"vsini": entry}),
    )
    assert [label.name for label in grid.declared] == ["vsini"]
    again = imported(tmp_path / "again.h5", tmp_path / "g.h5", mapping={})
    assert again.declared == grid.declared
    with pytest.raises(InputError, match=r"there is no label 'vsini'.*a grid may declare others"):
        imported(tmp_path / "h.h5", tmp_path / "a.npz", mapping=changed(labels={"names": names}))


@pytest.mark.parametrize(
    ("damage", "mapping", "message"),
    [
        ({"SPEC": None}, {}, r"a.npz has no array 'SPEC'; it has WAVE \(450,\), PARAMS \(24, 4\)"),
        ({"FAMILY": None}, {}, "has no array 'FAMILY'"),
        ({"SPEC": np.ones((23, 450))}, {}, r"'SPEC' in a.npz has shape \(23, 450\), expected \(24, 450\)"),
        ({"SPEC": np.ones((450, 24))}, {}, r"shape \(450, 24\), expected \(24, 450\).*transpose it"),
        ({"PARAMS": np.ones((24, 3))}, {}, r"'PARAMS' in a.npz has shape \(24, 3\), expected \(N, 4\)"),
        ({"FAMILY": np.ones(23)}, {}, r"'FAMILY' in a.npz has shape \(23,\), expected \(24,\)"),
        ({"FAMILY": np.full(24, 0.5)}, {}, "must hold whole numbers"),
        ({"RGRAD": np.ones((2, 3, 450))}, {}, r"'RGRAD' .* shape \(2, 3, 450\), expected \(2, 4, 450\)"),
        ({"RSTEP": np.ones(3)}, {}, r"'RSTEP' in a.npz has shape \(3,\), expected \(4,\)"),
        ({"PARAMS": np.full((24, 4), "a")}, {}, "'PARAMS' in a.npz holds <U1, not numbers"),
        ({"PARAMS": np.full((24, 4), None)}, {}, "holds Python objects"),
        ({}, {"resolution": None}, "resolving power of a.npz is not known: give --resolution"),
        ({}, {"labels": {"names": None}}, "labels of a.npz have no names: give --label-names"),
        ({}, {"labels": {"names": ("teff", "logg", "feh", "mg_fe")}}, "use 'fe_h' instead"),
        ({}, {"label": {"teff": {"unit": "km/s"}}}, "teff cannot be converted from 'km/s' to 'K'"),
        ({}, {"label": {"teff": {"log10": True}}}, "gradients by log10 of teff"),
        ({}, {"gradients": {"step": {"teff": 50.0}}}, "gradients.step in the mapping lacks logg, fe_h"),
        ({"PARAMS": np.ones((24, 4))}, {"gradients": None}, r"(?s)a valid grid.*teff must lie between"),
        ({"SPEC": np.full((24, 450), 5000.0)}, {}, "normalised flux must lie between 0 and 2"),
        ({"WAVE": np.linspace(1000, 1500, 450)}, {"wavelength": {"medium": "air"}}, "'WAVE'.*: .*2000"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name_and_nothing_is_written(
    tmp_path: Path, arrays: Arrays, damage: dict[str, Any], mapping: dict[str, Any], message: str
) -> None:
    path = tmp_path / "a.npz"
    kept = {name: array for name, array in {**arrays, **damage}.items() if array is not None}
    np.savez(path, allow_pickle=True, **kept)
    with pytest.raises((GridError, InputError), match=message):
        imported(tmp_path / "g.h5", path, mapping=changed(**mapping))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wavelenght = 3", "wavelenght: Extra inputs"),
        ('[flux]\narray = "f"\nscale = -1', "flux.scale: .*greater than 0"),
        ("[wavelength]\nstart = 3.5", "give both start and step"),
        ("[wavelength]\nmedium = 'water'", "'vacuum' or 'air'"),
        ("flux =", "cannot be read"),
    ],
)
def test_a_mapping_with_a_mistake_names_the_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mapping.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        GridMapping.from_file(path)


def test_the_mappings_that_the_documents_show_are_mappings(pytestconfig: pytest.Config) -> None:
    documents = pytestconfig.rootpath / "docs"
    pages = [documents / "reference" / "grid-format.md", documents / "howto" / "bring-your-own-grid.md"]
    shown = [text for page in pages for text in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)]
    mappings = [GridMapping.model_validate(tomllib.loads(text)) for text in shown]
    assert len(mappings) == 4
    assert [label.name for mapping in mappings for label in mapping.declared()] == ["vsini"]


def test_a_mapping_may_be_json(tmp_path: Path) -> None:
    path = tmp_path / "mapping.json"
    path.write_text(json.dumps(MAPPING))
    assert GridMapping.from_file(path) == GridMapping.model_validate(MAPPING)


@pytest.mark.parametrize("content", [b"teff logg", b"PK but no archive", b"SIMPLE = nothing"])
def test_a_file_of_no_known_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.dat"
    path.write_bytes(content)
    with pytest.raises(GridError, match=r"neither npz .* nor FITS|cannot be read"):
        imported(tmp_path / "g.h5", path)


def test_an_existing_grid_is_not_overwritten_unasked(tmp_path: Path, arrays: Arrays) -> None:
    path = save_npz(tmp_path / "a", arrays)
    imported(tmp_path / "g.h5", path)
    with pytest.raises(ConflictError, match="exists already"):
        imported(tmp_path / "g.h5", path)
    assert len(imported(tmp_path / "g.h5", path, overwrite=True)) == 24


def test_memory_is_that_of_a_block_not_of_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 MB of spectra pass through blocks of 0.25 MB."""
    n = 4500
    labels = np.random.default_rng(0).uniform([4500, 3, -1.5, -0.4], [6500, 4.8, 0.4, 0.5], (n, 4))
    path = save_npz(tmp_path / "a", {
        "wavelength": 10**LOG_WAVELENGTH, "labels": labels, "flux": np.full((n, 450), 0.9),
    })  # fmt: skip
    monkeypatch.setattr(source, "_BLOCK_BYTES", 256 * 1024)
    mapping = GridMapping.model_validate({"resolution": 5000, "labels": {"names": NAMES}})
    tracemalloc.start()
    import_grid([path], tmp_path / "g.h5", mapping, pixels=PIXELS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6e6
