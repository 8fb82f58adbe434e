"""Two figures of a training run: how the loss fell, and what is left pixel by pixel."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from phdl_catalog.emulator.evaluation import FluxFunction
from phdl_catalog.emulator.grid import AbInitioGrid


def plot_training(log: Path, output: Path) -> None:
    """Draw loss terms and validation errors against steps.

    Parameters
    ----------
    log : Path
        ``training.jsonl`` of a run.
    output : Path
        File to write; its suffix decides the format.
    """
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    step = [line["step"] for line in lines]
    figure = Figure(figsize=(10, 4), layout="constrained")
    terms, errors = figure.subplots(1, 2)
    terms.semilogy(step, [line["loss_flux"] for line in lines], label="flux term")
    terms.semilogy(step, [line["loss_gradient"] for line in lines], label="gradient term")
    terms.set(xlabel="step", ylabel="loss")
    errors.semilogy(step, [line["validation_rms"] for line in lines], label="all stars")
    errors.semilogy(step, [line["validation_rms_core"] for line in lines], label="core")
    errors.set(xlabel="step", ylabel="rms flux error, validation")
    for axes in (terms, errors):
        axes.legend(frameon=False)
    figure.savefig(output)


def plot_residuals(flux_of: FluxFunction, grid: AbInitioGrid, output: Path) -> None:
    """Draw the error of a model on the validation stars, pixel by pixel: bias and scatter.

    Parameters
    ----------
    flux_of : callable
        Physical labels (N, L) -> flux (N, P).
    grid : AbInitioGrid
    output : Path
        File to write; its suffix decides the format.
    """
    rows = grid.is_validation
    labels = torch.as_tensor(grid.labels[rows])
    with torch.no_grad():
        predicted = torch.cat([flux_of(part).cpu() for part in labels.split(64)]).numpy()
    error = predicted - grid.flux[rows]
    wavelength = grid.pixels.wavelength
    figure = Figure(figsize=(12, 5), layout="constrained")
    spectrum, residual = figure.subplots(2, 1, sharex=True)
    spectrum.plot(wavelength, np.median(grid.flux[rows], axis=0), lw=0.6, color="black")
    spectrum.set(ylabel="median flux", ylim=(0, 1.05))
    low, middle, high = np.percentile(error, [16, 50, 84], axis=0)
    residual.fill_between(wavelength, low, high, alpha=0.3, lw=0, label="16 to 84 % of the stars")
    residual.plot(wavelength, middle, lw=0.6, label="median")
    residual.axhline(0, color="black", lw=0.5)
    residual.set(
        xlabel="vacuum wavelength [Angstrom]",
        ylabel="model minus ab initio",
        xlim=(wavelength[0], wavelength[-1]),
    )
    residual.legend(frameon=False)
    figure.savefig(output)
