"""What a grid covers: counts, ranges, and the Kiel diagram as text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.emulator.grid_files.reading import GridContents, open_grid

QUANTILES = {"min": 0, "p05": 5, "median": 50, "p95": 95, "max": 100}

#: Characters of the text panel, from no star to many; validation stars and reference stars stand out.
_SHADES, VALIDATION_MARK, REFERENCE_MARK = " ░▒▓█", "o", "+"


@dataclass(frozen=True)
class GridCoverage:
    """A grid that was checked to its last pixel, and what it covers.

    Parameters
    ----------
    path : Path
    contents : GridContents
    remarks : tuple of str
        What its owner should know.
    """

    path: Path
    contents: GridContents
    remarks: tuple[str, ...]

    @classmethod
    def of(cls, path: str | Path) -> GridCoverage:
        """Read a grid file, spectra included, keeping none of them.

        Raises
        ------
        GridError
            If it is not valid.
        """
        path = Path(path)
        with open_grid(path) as file:
            for _ in file.spectra():
                pass
            for _ in file.differential_spectra():
                pass
            return cls(path, file.contents, file.close_checks())

    @property
    def n_stars(self) -> int:
        """Number of families."""
        return int(np.unique(self.contents.star).size)

    @property
    def n_validation_stars(self) -> int:
        """Number of families for validation."""
        return int(np.unique(self.contents.star[self.contents.is_validation]).size)

    @property
    def n_reference_stars(self) -> int:
        """Number of stars with differential spectra."""
        return 0 if self.contents.gradients is None else len(self.contents.gradients.labels)

    def label_quantiles(self) -> dict[str, dict[str, float]]:
        """Of every label: min, p05, median, p95, max."""
        values = np.percentile(self.contents.labels, list(QUANTILES.values()), axis=0)
        return {
            name: dict(zip(QUANTILES, map(float, column), strict=True))
            for name, column in zip(self.contents.label_names, values.T, strict=True)
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and texts, for JSON."""
        contents, gradients = self.contents, self.contents.gradients
        document: dict[str, Any] = {
            "spectra": len(contents.labels),
            "stars": self.n_stars,
            "validation_spectra": int(contents.is_validation.sum()),
            "validation_stars": self.n_validation_stars,
            "gradient_stars": self.n_reference_stars,
            "validation_gradient_stars": 0 if gradients is None else int(gradients.is_validation.sum()),
            "resolution": contents.resolution,
            "wavelength": {
                "min": float(contents.wavelength[0]),
                "max": float(contents.wavelength[-1]),
                "pixels": contents.wavelength.size,
            },
            "attributes": contents.attributes,
            "labels": self.label_quantiles(),
            "units": {label.name: label.unit for label in contents.definitions},
            "steps": None
            if gradients is None
            else dict(zip(contents.label_names, map(float, gradients.step), strict=True)),
            "remarks": list(self.remarks),
        }
        if contents.declared:
            document["declared_labels"] = {label.name: label.as_declaration() for label in contents.declared}
        return document


def _atmospheres(contents: GridContents, rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(S, 2) distinct teff and logg of some rows."""
    pairs = np.stack([contents.column("teff")[rows], contents.column("logg")[rows]], axis=1)
    return np.asarray(np.unique(pairs, axis=0))


def kiel_panel(contents: GridContents, width: int = 64, height: int = 18) -> list[str]:
    """The Kiel diagram in characters: logg downwards, teff to the left, as in print.

    Shades count atmospheres for training, ``o`` marks cells with one for validation, ``+`` those with a
    reference star.

    Parameters
    ----------
    contents : GridContents
    width, height : int
        Cells of the panel, axes apart.

    Returns
    -------
    list of str
        Lines, axes included.
    """
    every = _atmospheres(contents, np.ones(len(contents.labels), dtype=np.bool_))
    lower, upper = every.min(axis=0), every.max(axis=0)
    margin = np.maximum(0.02 * (upper - lower), [10.0, 0.02])
    lower, upper = lower - margin, upper + margin

    def cells(atmospheres: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        share = (atmospheres - lower) / (upper - lower)
        column = np.clip(((1.0 - share[:, 0]) * width).astype(np.int64), 0, width - 1)
        row = np.clip((share[:, 1] * height).astype(np.int64), 0, height - 1)
        return row, column

    counts = np.zeros((height, width), dtype=np.int64)
    np.add.at(counts, cells(_atmospheres(contents, ~contents.is_validation)), 1)
    levels = np.zeros_like(counts)
    if counts.any():
        filled = np.sort(counts[counts > 0])
        edges = np.quantile(filled, [0.4, 0.75, 0.93])
        levels[counts > 0] = 1 + np.searchsorted(edges, counts[counts > 0], side="left")
    panel = np.array(list(_SHADES))[levels]
    panel[cells(_atmospheres(contents, contents.is_validation))] = VALIDATION_MARK
    if contents.gradients is not None:
        names = contents.label_names
        reference = contents.gradients.labels[:, [names.index("teff"), names.index("logg")]]
        inside = ((reference >= lower) & (reference <= upper)).all(axis=1)
        panel[cells(reference[inside])] = REFERENCE_MARK
    return _with_axes(panel, lower, upper)


def _ticks(lower: float, upper: float, steps: tuple[float, ...], at_most: int) -> NDArray[np.float64]:
    """Round numbers between two values, not more than so many."""
    for step in steps:
        values = np.arange(np.ceil(lower / step), np.floor(upper / step) + 1) * step
        if values.size <= at_most:
            break
    return np.asarray(values)


def _with_axes(panel: NDArray[np.str_], lower: NDArray[np.float64], upper: NDArray[np.float64]) -> list[str]:
    height, width = panel.shape
    gutter = ["      │"] * height
    for logg in _ticks(lower[1], upper[1], (0.5, 1.0, 2.0), height // 3):
        gutter[int((logg - lower[1]) / (upper[1] - lower[1]) * height)] = f"{logg:5.1f} ┤"
    rule, numbers = ["─"] * width, [" "] * (width + 4)
    for teff in _ticks(lower[0], upper[0], (250.0, 500.0, 1000.0, 2000.0), width // 9):
        place = int((upper[0] - teff) / (upper[0] - lower[0]) * width)
        rule[place] = "┴"
        text = f"{teff:.0f}"
        begin = max(0, place - len(text) // 2)
        numbers[begin : begin + len(text)] = text
    lines = [edge + "".join(row) for edge, row in zip(gutter, panel, strict=True)]
    return [*lines, "      └" + "".join(rule), " log g " + "".join(numbers).rstrip() + "  Teff [K]"]
