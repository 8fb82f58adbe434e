"""Stars whose labels are known by other means: what a model's imperfection is learnt from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phdl_catalog.errors import InputError, RejectedSpectrum
from phdl_catalog.spectra.grid import SURVEY_GRID, PixelGrid
from phdl_catalog.spectra.lamost import read_spectrum
from phdl_catalog.spectra.masks import good_pixels

#: Labels of the Sun (IAU 2015 resolution B3; Asplund et al. 2009 is the scale of abundances).
SUN = {"teff": 5772.0, "logg": 4.438, "fe_h": 0.0}

#: How firmly abundances are held of the Sun, and of survey stars, where they are known for the mean star only
#: [dex].
SOLAR_ABUNDANCE, MEAN_ABUNDANCE = 0.0005, 0.02


@dataclass(frozen=True)
class KnownStars:
    """Spectra of stars whose labels are known.

    Parameters
    ----------
    grid : PixelGrid
        Pixels of the spectra.
    flux, ivar : (N, P) array
        As for `fit_spectra`.
    bad : (N, P) bool
        True for a bad pixel.
    labels : dict of (N,) arrays
        ``teff``, ``logg`` and ``fe_h``.
    abundance_error : float
        How well it is known that abundances are those of the mean star of this [Fe/H] [dex].
    """

    grid: PixelGrid
    flux: NDArray[np.floating]
    ivar: NDArray[np.floating]
    bad: NDArray[np.bool_]
    labels: dict[str, NDArray[np.float64]]
    abundance_error: float = MEAN_ABUNDANCE

    def __post_init__(self) -> None:
        if set(self.labels) != set(SUN):
            raise InputError(f"known stars need {', '.join(SUN)}, not {', '.join(self.labels)}")
        shape = (len(self.labels["teff"]), self.grid.size)
        for name in ("flux", "ivar", "bad"):
            if getattr(self, name).shape != shape:
                raise InputError(f"{name} of known stars has shape {getattr(self, name).shape}, not {shape}")

    def __len__(self) -> int:
        return len(self.flux)

    def rows(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> KnownStars:
        """Some of the stars."""
        labels = {name: values[rows] for name, values in self.labels.items()}
        return replace(self, flux=self.flux[rows], ivar=self.ivar[rows], bad=self.bad[rows], labels=labels)


def the_sun(grid: PixelGrid, flux: NDArray[np.float64], snr: float = 300.0) -> KnownStars:
    """The Sun, of flux (P,), as a known star of even S/N."""
    labels = {name: np.array([value]) for name, value in SUN.items()}
    row = flux[None]
    return KnownStars(grid, row, (snr / row) ** 2, np.zeros(row.shape, dtype=bool), labels, SOLAR_ABUNDANCE)


def read_known_stars(
    table: Path, least_snr: float, teff_range: tuple[float, float]
) -> tuple[KnownStars, NDArray[np.str_]]:
    """Survey spectra named in a table, with the labels that stand there.

    Parameters
    ----------
    table : Path
        CSV with the columns ``file`` (relative to the table), ``teff``, ``logg``, ``fe_h`` and, if stars are
        to be chosen by it, ``snrg``.  Rows without labels are passed over.
    least_snr : float
        S/N in the g band from which on stars are taken.
    teff_range : tuple of float
        Temperatures that are taken [K].

    Returns
    -------
    KnownStars, (N,) str
        And the files that were read.

    Raises
    ------
    InputError
        If a column is missing or no star is left.
    """
    rows = pd.read_csv(table)
    missing = {"file", *SUN} - set(rows.columns)
    if missing:
        raise InputError(f"{table} has no column {', '.join(sorted(missing))}")
    wanted = rows[list(SUN)].notna().all(axis=1) & rows["teff"].between(*teff_range)
    if "snrg" in rows:
        wanted &= rows["snrg"] >= least_snr
    rows = rows[wanted]
    shape = (len(rows), SURVEY_GRID.size)
    flux, ivar = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    bad, read = np.ones(shape, dtype=bool), np.zeros(len(rows), dtype=bool)
    for number, name in enumerate(rows["file"]):
        try:
            spectrum = read_spectrum(table.parent / name)
        except RejectedSpectrum:
            continue
        where = SURVEY_GRID.slice_of(spectrum.grid)
        flux[number, where], ivar[number, where] = spectrum.flux, spectrum.ivar
        bad[number, where] = ~good_pixels(spectrum.ivar, spectrum.andmask, spectrum.ormask)
        read[number] = True
    if not read.any():
        raise InputError(
            f"{table} names no readable spectrum with labels, S/N of {least_snr:g} and temperatures "
            f"from {teff_range[0]:g} to {teff_range[1]:g} K"
        )
    labels = {name: rows[name].to_numpy(dtype=np.float64) for name in SUN}
    stars = KnownStars(SURVEY_GRID, flux, ivar, bad, labels)
    return stars.rows(read), rows["file"].to_numpy(dtype=str)[read]
