from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phdl_catalog.emulator.grid import load_grid
from phdl_catalog.emulator.grid_files import GridWriter, split_by_family
from phdl_catalog.errors import ConflictError, GridError, InputError
from phdl_catalog.labels import declare_label
from tests.analytic_grid import NAMES, PIXELS, analytic_flux

LOG_WAVELENGTH = np.arange(3.6985, 3.7165, 4e-5)
STEP = np.array([50.0, 0.1, 0.1, 0.1])


def labels_of(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform([4500.0, 3.0, -1.5, -0.4], [6500.0, 4.8, 0.4, 0.5], (n, 4))


def flux_of(labels: np.ndarray) -> np.ndarray:
    return analytic_flux(labels, LOG_WAVELENGTH)


def gradient_of(labels: np.ndarray) -> np.ndarray:
    moved = [flux_of(labels + step * unit) for step, unit in zip(STEP, np.eye(4), strict=True)]
    return np.stack([(m - flux_of(labels)) / s for m, s in zip(moved, STEP, strict=True)], axis=1)


def writer(path: Path, **options: object) -> GridWriter:
    return GridWriter(path, NAMES, 10**LOG_WAVELENGTH, 5000.0, pixels=PIXELS, **options)


def test_what_is_written_piece_by_piece_is_read_back_whole(tmp_path: Path) -> None:
    labels = labels_of(30)
    star = np.repeat(np.arange(10), 3)
    reference = labels_of(3, seed=1)
    with writer(tmp_path / "g.h5", step=STEP, attributes={"code": "analytic"}) as grid:
        for rows in (slice(0, 7), slice(7, 8), slice(8, 30)):
            grid.append(labels[rows], flux_of(labels[rows]), star[rows])
        grid.append_gradients(reference, flux_of(reference), gradient_of(reference), star=[0, 3, 99])
    read = load_grid(tmp_path / "g.h5", PIXELS)
    np.testing.assert_array_equal(read.labels, labels)
    np.testing.assert_array_equal(read.star, star)
    assert read.source["attributes"]["code"] == "analytic"
    with h5py.File(tmp_path / "g.h5") as file:
        np.testing.assert_allclose(file["flux"] * file["flux"].attrs["scale"], flux_of(labels), atol=1.6e-5)
        stored = file["gradients/gradient"][:] / np.array([100.0, 1, 1, 1])[:, None]
        np.testing.assert_allclose(stored * STEP[:, None], gradient_of(reference) * STEP[:, None], atol=2e-5)
    assert read.gradients is not None
    np.testing.assert_array_equal(read.gradients.is_validation[:2], read.is_validation[[0, 9]])
    assert list(tmp_path.iterdir()) == [tmp_path / "g.h5"]


def test_an_error_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    labels = labels_of(4)

    def spectra() -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), writer(tmp_path / "g.h5") as grid:
        grid.append(labels, spectra())
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_replaced_only_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "g.h5"
    path.write_text("precious")
    with pytest.raises(ConflictError, match="exists already"):
        writer(path)
    assert path.read_text() == "precious"
    labels = labels_of(6)
    with writer(path, overwrite=True) as grid:
        grid.append(labels, flux_of(labels))
        assert path.read_text() == "precious"
    assert len(load_grid(path, PIXELS)) == 6


@pytest.mark.parametrize(
    ("labels", "flux", "error", "message"),
    [
        (np.zeros((2, 3)), np.ones((2, 450)), InputError, r"\(2, 3\), expected \(n, 4\)"),
        (labels_of(2), np.ones((3, 450)), InputError, r"\(3, 450\), expected \(2, 450\)"),
        (labels_of(2), np.full((2, 450), np.nan), GridError, "flux holds .* not finite .rows 5, 6"),
        (labels_of(2), np.full((2, 450), 3.0), GridError, "must lie between 0 and 2"),
        (labels_of(2) * 3, np.ones((2, 450)), GridError, "teff must lie between .* in rows 5, 6"),
    ],
)
def test_bad_spectra_are_refused_as_they_come(
    tmp_path: Path, labels: np.ndarray, flux: np.ndarray, error: type[Exception], message: str
) -> None:
    good = labels_of(5, seed=3)
    with writer(tmp_path / "g.h5") as grid:
        grid.append(good, flux_of(good))
        with pytest.raises(error, match=message):
            grid.append(labels, flux)
    assert len(load_grid(tmp_path / "g.h5", PIXELS)) == 5


@pytest.mark.parametrize(
    ("rows", "star", "split", "message"),
    [
        ([0, 1, 2, 0], [0, 1, 2, 3], [0, 0, 1, 0], "same labels .rows 0 and 3.: remove one"),
        ([0, 1, 2, 3], [0, 1, 2, 0], [0, 0, 0, 1], "star 0 is in training and in validation"),
        ([0, 1, 2, 3], None, [0, 0, 1, 1], None),
    ],
)
def test_the_whole_is_checked_before_the_file_appears(
    tmp_path: Path, rows: list[int], star: list[int] | None, split: list[int], message: str | None
) -> None:
    labels = labels_of(4)[rows]
    grid = writer(tmp_path / "g.h5")
    grid.append(labels, flux_of(labels), star, split)
    if message is None:
        grid.finish()
        assert load_grid(tmp_path / "g.h5", PIXELS).is_validation.tolist() == [False, False, True, True]
        return
    with pytest.raises(GridError, match=message):
        grid.finish()
    assert not list(tmp_path.iterdir())


def test_a_label_that_never_varies_and_steps_that_are_too_long_are_both_named(tmp_path: Path) -> None:
    labels = labels_of(4)
    labels[:, 3] = 0.2
    grid = writer(tmp_path / "g.h5", step=[5000.0, 0.1, 0.1, 0.1])
    grid.append(labels, flux_of(labels))
    with pytest.raises(GridError, match=r"(?s)2 reasons.*mg_fe has the same value.*step of teff is 5000 K"):
        grid.finish()


def test_wavelengths_that_cannot_serve_are_refused_before_anything_is_computed(tmp_path: Path) -> None:
    with pytest.raises(GridError, match="needs the source to cover"):
        GridWriter(tmp_path / "g.h5", NAMES, 10**LOG_WAVELENGTH, 5000.0)
    assert not list(tmp_path.iterdir())


def test_families_come_with_every_piece_or_with_none(tmp_path: Path) -> None:
    labels = labels_of(4)
    grid = writer(tmp_path / "g.h5")
    grid.append(labels[:2], flux_of(labels[:2]), star=[1, 1])
    with pytest.raises(InputError, match="star must be given with every append"):
        grid.append(labels[2:], flux_of(labels[2:]))
    with pytest.raises(InputError, match="give GridWriter step"):
        grid.append_gradients(labels[:1], flux_of(labels[:1]), gradient_of(labels[:1]))
    grid.discard()


def test_a_declared_label_travels_with_the_file(tmp_path: Path) -> None:
    vsini = declare_label("vsini", {"unit": "km/s", "lower": 0, "upper": 200, "description": "rotation"})
    labels = labels_of(6)
    labels[:, 3] = np.linspace(2, 90, 6)
    flux = np.full((6, LOG_WAVELENGTH.size), 0.9)
    names = (*NAMES[:3], "vsini")
    with GridWriter(
        tmp_path / "g.h5", names, 10**LOG_WAVELENGTH, 5000.0, declared=[vsini], pixels=PIXELS
    ) as grid:
        grid.append(labels, flux)
    assert load_grid(tmp_path / "g.h5", PIXELS).declared == (vsini,)


@settings(max_examples=50, deadline=None)
@given(
    families=st.lists(st.integers(0, 10**9), min_size=2, max_size=40, unique=True),
    share=st.floats(0.01, 0.9),
    seed=st.integers(0, 5),
    repeats=st.integers(1, 3),
)
def test_a_split_never_parts_a_family_and_has_two_sides(
    families: list[int], share: float, seed: int, repeats: int
) -> None:
    star = np.tile(families, repeats)
    split = split_by_family(star, share, seed)
    assert not set(star[split]) & set(star[~split])
    assert split.any()
    assert not split.all()


def test_a_grid_that_grows_keeps_the_split_of_the_families_it_had() -> None:
    small, large = split_by_family(np.arange(200)), split_by_family(np.arange(2000))
    np.testing.assert_array_equal(small, large[:200])
    assert large.mean() == pytest.approx(0.1, abs=0.02)
    assert not np.array_equal(large, split_by_family(np.arange(2000), seed=1))


def test_no_share_is_no_validation_and_a_whole_one_is_refused() -> None:
    assert not split_by_family(np.arange(9), 0.0).any()
    with pytest.raises(InputError, match=r"in \[0, 1\), not 1"):
        split_by_family(np.arange(9), 1.0)
