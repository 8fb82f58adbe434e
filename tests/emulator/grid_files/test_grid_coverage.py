from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from phdl_catalog.emulator.grid_files.coverage import GridCoverage, kiel_panel
from phdl_catalog.emulator.grid_files.figure import plot_coverage
from phdl_catalog.errors import GridError, InputError


@pytest.fixture(scope="module")
def coverage(grid_sample: Path) -> GridCoverage:
    return GridCoverage.of(grid_sample)


def test_counts_and_quantiles_are_those_of_the_labels(coverage: GridCoverage) -> None:
    document = coverage.as_dict()
    contents = coverage.contents
    assert document["spectra"] == len(contents.labels)
    assert document["stars"] == len(set(contents.star.tolist()))
    assert document["gradient_stars"] == 2
    assert document["labels"]["teff"]["median"] == pytest.approx(np.median(contents.column("teff")))
    assert document["labels"]["fe_h"]["min"] == contents.column("fe_h").min()
    assert document["steps"]["teff"] == 50.0
    assert document["wavelength"]["pixels"] == 9650


def test_the_panel_has_cool_giants_at_the_upper_right(coverage: GridCoverage) -> None:
    """As every Kiel diagram is drawn; a validation star and a reference star stand out."""
    names = coverage.contents.label_names
    labels = np.zeros((3, len(names)))
    labels[:, [names.index("teff"), names.index("logg")]] = [[7000, 5.0], [4000, 1.0], [5500, 3.0]]
    gradients = coverage.contents.gradients
    assert gradients is not None
    contents = replace(
        coverage.contents,
        labels=labels,
        is_validation=np.array([False, True, False]),
        gradients=replace(gradients, labels=labels[2:]),
    )
    lines = kiel_panel(contents, width=41, height=11)
    cells = np.array([list(line[7:].ljust(41)) for line in lines[:11]])
    found = {cells[row, column]: (row, column) for row, column in np.argwhere(cells != " ")}
    assert found == {"░": (10, 0), "o": (0, 40), "+": (5, 20)}
    assert "5000" in lines[-1]


def test_a_figure_is_drawn_in_the_format_of_its_suffix(coverage: GridCoverage, tmp_path: Path) -> None:
    contents = coverage.contents
    some = replace(contents, definitions=contents.definitions[:7], labels=contents.labels[:, :7])
    plot_coverage(replace(coverage, contents=some), tmp_path / "new" / "coverage.png")
    assert (tmp_path / "new" / "coverage.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"not as '\.docx'"):
        plot_coverage(coverage, tmp_path / "coverage.docx")


def test_spectra_are_checked_though_none_is_kept(grid_file: Path) -> None:
    """The small grid does not cover the survey: the check is that of training."""
    with pytest.raises(GridError, match="needs the source to cover"):
        GridCoverage.of(grid_file)
