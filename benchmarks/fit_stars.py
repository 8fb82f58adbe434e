"""Fits of real stars: ``python benchmarks/fit_stars.py LAMOST_FOLDER [--sun ATLAS] [--known TABLE ...]``.

The folder has survey files and their ``index.csv`` (file, cls, subclass, ra, dec, teff, logg, fe_h of the
survey's pipeline, snrg, z, repeat_group).  Prints, as uncalibrated as fits are:

- the Sun, label by label, from an atlas (vacuum wavelength, photon flux);
- fitted minus the pipeline's labels, by temperature;
- differences of repeated observations over their errors;
- stars of literature tables (CSV with ra, dec and any labels) that were observed;
- every flagged star of good S/N, with what flagged it, and stars outside the grid that nothing flagged.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from phdl_catalog import load_model
from phdl_catalog.cli.output import print_table
from phdl_catalog.emulator import Emulator
from phdl_catalog.errors import RejectedSpectrum
from phdl_catalog.fitting import FitFlag, FitOptions, FitResult, Fitter, flag_names
from phdl_catalog.fitting.known_stars import SUN
from phdl_catalog.labels import is_abundance
from phdl_catalog.spectra.grid import SPEED_OF_LIGHT, SURVEY_GRID, PixelGrid
from phdl_catalog.spectra.lamost import read_spectrum
from phdl_catalog.spectra.masks import good_pixels
from phdl_catalog.spectra.solar import read_solar_spectrum

REPEATED = ("teff", "logg", "fe_h", "c_fe", "mg_fe", "si_fe", "ca_fe", "ti_fe", "cr_fe", "ni_fe")
TEFF_BINS = (4000.0, 4500.0, 4800.0, 5300.0, 5800.0, 6300.0, 7000.0)

#: Stars nearer than this to a position of a table are the same [arcsec].
SAME = 3.0

#: Epochs of the survey's positions, and of a table's that has proper motions and does not say [years].
SURVEY_EPOCH, GAIA_EPOCH = 2000.0, 2016.0


def read(folder: Path) -> tuple[pd.DataFrame, NDArray[np.float32], NDArray[np.float32]]:
    """The index of readable spectra, flux and inverse variance (N, P), 0 where a pixel is bad."""
    index = pd.read_csv(folder / "index.csv")
    flux = np.zeros((len(index), SURVEY_GRID.size), dtype=np.float32)
    ivar, there = np.zeros_like(flux), np.zeros(len(index), dtype=bool)
    for row, name in enumerate(index["file"]):
        try:
            spectrum = read_spectrum(folder / name)
        except RejectedSpectrum:
            continue
        where = SURVEY_GRID.slice_of(spectrum.grid)
        good = good_pixels(spectrum.ivar, spectrum.andmask, spectrum.ormask)
        flux[row, where], ivar[row, where] = spectrum.flux, np.where(good, spectrum.ivar, 0.0)
        there[row] = True
    return index[there].reset_index(drop=True), flux[there], ivar[there]


def robust(values: NDArray[np.float64]) -> tuple[float, float]:
    """Median, and 1.48 times the median absolute deviation."""
    middle = float(np.median(values))
    return middle, 1.4826 * float(np.median(np.abs(values - middle)))


def sun_table(model: Emulator, fitter: Fitter, atlas: Path) -> FitResult:
    """Fitted labels of the Sun."""
    grid = PixelGrid(model.pixels.first - 50, model.pixels.size + 100)
    flux = read_solar_spectrum(atlas, grid, model.resolution)
    result = fitter.fit(grid.wavelength, flux, (200.0 / flux) ** 2)

    def against_known(name: str, value: float) -> str:
        """Abundances of the Sun are zero; its microturbulence is nobody's definition."""
        known = 0.0 if is_abundance(name) else SUN.get(name)
        return "" if known is None else f"{value - known:+.3f}"

    rows = [
        (name, f"{value:.3f}", against_known(name, value), f"{error:.3f}", _names(flag))
        for name, value, error, flag in zip(
            result.label_names, result.labels[0], result.errors[0], result.label_flags[0], strict=True
        )
    ]
    print_table("The Sun", ("label", "fitted", "fitted - known", "error", "flags"), rows)
    return result


def _names(bits: int) -> str:
    from phdl_catalog.fitting import LabelFlag

    return ", ".join(flag_names(int(bits), LabelFlag))


def pipeline_table(index: pd.DataFrame, result: FitResult, least_snr: float) -> None:
    """Fitted minus pipeline, median and scatter, by temperature; and the velocity."""
    good = (result.flags == 0) & (index["snrg"] > least_snr) & index["teff"].notna()
    rows = []
    limits = [(TEFF_BINS[0], TEFF_BINS[-1]), *itertools.pairwise(TEFF_BINS)]
    for lower, upper in limits:
        some = np.flatnonzero(good & index["teff"].between(lower, upper))
        if len(some) < 4:
            continue
        cells = []
        for name in SUN:
            values = result.labels[some, result.label_names.index(name)] - index[name].to_numpy()[some]
            cells.append("{:+.3g} / {:.3g}".format(*robust(values)))
        velocity = result.rv[some] - index["z"].to_numpy()[some] * SPEED_OF_LIGHT
        cells.append("{:+.1f} / {:.1f}".format(*robust(velocity)))
        rows.append((f"{lower:.0f}-{upper:.0f}", len(some), *cells))
    print_table(
        f"fitted - pipeline, median / scatter, S/N g > {least_snr:g}", ("teff [K]", "stars", *SUN, "rv"), rows
    )


def repeats_table(index: pd.DataFrame, result: FitResult) -> dict[str, NDArray[np.float64]]:
    """Standard deviation of difference over error, of all pairs of unflagged fits of one star; the ratios."""
    group = index["repeat_group"].to_numpy()
    pairs = [
        (i, j) for i in range(len(group)) for j in range(i)
        if group[i] == group[j] and result.flags[i] == 0 and result.flags[j] == 0
    ]  # fmt: skip
    one, other = np.array(pairs).T
    rows, ratios = [], {}
    for name in (*REPEATED, "rv"):
        if name == "rv":
            values, errors, use = result.rv, result.e_rv, np.ones(len(one), dtype=bool)
        else:
            column = result.label_names.index(name)
            values, errors = result.labels[:, column], result.errors[:, column]
            use = (result.label_flags[one, column] | result.label_flags[other, column]) == 0
        ratio = ((values[one] - values[other]) / np.hypot(errors[one], errors[other]))[use]
        ratios[name] = ratio
        rows.append((name, use.sum(), f"{ratio.std():.2f}", f"{robust(ratio)[1]:.2f}"))
    print_table("repeats: difference / error", ("label", "pairs", "standard deviation", "robust"), rows)
    return ratios


def at_survey_epoch(known: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions [degrees] of a table at the survey's epoch; ``pmra``, ``pmdec`` [mas/yr] count, if any."""
    ra, dec = known["ra"].to_numpy(float), known["dec"].to_numpy(float)
    if not {"pmra", "pmdec"} <= set(known):
        return ra, dec
    epoch = known["epoch"].to_numpy(float) if "epoch" in known else GAIA_EPOCH
    years = (SURVEY_EPOCH - epoch) / 3.6e6
    ra = ra + known["pmra"].fillna(0.0).to_numpy() * years / np.cos(np.radians(dec))
    return ra, dec + known["pmdec"].fillna(0.0).to_numpy() * years


def known_table(index: pd.DataFrame, result: FitResult, table: Path) -> None:
    """Fitted minus literature for each observed star of a table, label by label."""
    known = pd.read_csv(table)
    missing = {"ra", "dec"} - set(known.columns)
    if missing:
        raise SystemExit(f"{table} has no column {' and no '.join(sorted(missing))}: ra and dec in degrees")
    names = [name for name in result.label_names if name in known]
    known_ra, known_dec = at_survey_epoch(known)
    rows = []
    for number, (ra, dec) in enumerate(zip(index["ra"], index["dec"], strict=True)):
        around = (known_ra - ra + 180.0) % 360.0 - 180.0
        away = np.hypot(around * np.cos(np.radians(dec)), known_dec - dec) * 3600.0
        if not (away < SAME).any():
            continue
        star = known.iloc[int(np.nanargmin(away))]
        values = [result.labels[number, result.label_names.index(name)] - star[name] for name in names]
        flags = ", ".join(flag_names(int(result.flags[number])))
        cells = [
            f"{v:+.0f}" if name == "teff" else f"{v:+.2f}" for name, v in zip(names, values, strict=True)
        ]
        rows.append((index["file"][number].split("/")[-1][:40], *cells, flags))
    if rows:
        print_table(f"fitted - {table.name}", ("star", *names, "flags"), rows)
    else:
        print(f"none of the {len(known)} stars of {table.name} is among the spectra")


def flagged_tables(index: pd.DataFrame, result: FitResult, least_snr: float) -> None:
    """Flagged stars that the pipeline takes for F, G or K stars; and the other way round."""
    bright = (index["snrg"] > least_snr) & index["teff"].between(4000, 7000) & index["logg"].notna()
    flagged = np.flatnonzero(bright & (result.flags != 0))
    print_table(
        f"flagged, pipeline 4000 to 7000 K and S/N g > {least_snr:g}: {len(flagged)} of {bright.sum()}",
        ("file", "class", "S/N", "pipeline", "fitted", "error floor", "flags"),
        [_row(index, result, row) for row in flagged],
    )
    outside = (index["cls"] != "STAR") | index["subclass"].astype(str).str.match(r"d?M|[OBA]\d|WD|Carbon")
    silent = np.flatnonzero(outside & (result.flags == 0))
    print_table(
        f"other classes without a flag: {len(silent)} of {outside.sum()}",
        ("file", "class", "S/N", "pipeline", "fitted", "error floor", "flags"),
        [_row(index, result, row) for row in silent],
    )


def _row(index: pd.DataFrame, result: FitResult, row: int) -> tuple[str, ...]:
    star = index.iloc[row]
    columns = [result.label_names.index(name) for name in SUN]
    return (
        star["file"].split("/")[-1][:44],
        f"{star['cls']} {star['subclass']}",
        f"{star['snrg']:.0f}",
        "{:.0f} {:.2f} {:+.2f}".format(*(star[name] for name in SUN)),
        "{:.0f} {:.2f} {:+.2f}".format(*result.labels[row, columns]),
        f"{100 * result.error_floor[row]:.1f} %",
        ", ".join(flag_names(int(result.flags[row]), FitFlag)),
    )


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of survey files, with index.csv")
    parser.add_argument("--model", default="default")
    parser.add_argument("--sun", type=Path, help="atlas of the Sun")
    parser.add_argument("--known", type=Path, nargs="*", default=[], help="CSV: ra, dec and labels")
    parser.add_argument("--snr", type=float, default=50.0, help="S/N g from which on stars are compared")
    parser.add_argument("--figure", type=Path, help="draw the survey's stars, repeats and the Sun")
    parser.add_argument("--uncorrected", action="store_true", help="without the model's imperfection")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(options.model)
    fitter = Fitter(model, FitOptions(correct_model=False if options.uncorrected else None))
    sun = sun_table(model, fitter, options.sun) if options.sun else None
    index, flux, ivar = read(options.folder)
    result = fitter.fit(SURVEY_GRID.wavelength, flux, ivar)
    pipeline_table(index, result, options.snr)
    ratios = repeats_table(index, result)
    for table in options.known:
        known_table(index, result, table)
    flagged_tables(index, result, options.snr)
    if options.figure:
        from fit_stars_figure import draw_stars

        draw_stars(index, result, ratios, sun, options.snr).savefig(options.figure, dpi=100)


if __name__ == "__main__":
    main()
