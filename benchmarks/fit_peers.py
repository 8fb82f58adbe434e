"""Two other ways to fit the same spectra: The Payne's, and an evolution strategy on the transformer.

Both are given what our fit has to find out: the response of the instrument is divided out for them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import curve_fit
from torch import nn

from phdl_catalog.emulator import Emulator
from phdl_catalog.spectra.grid import LOG10_STEP, SPEED_OF_LIGHT

#: Largest velocity that the peers are asked to search [km/s].
LARGEST_VELOCITY = 320.0


@dataclass(frozen=True)
class PeerResult:
    """Labels of some stars by another way.

    Parameters
    ----------
    labels : (N, L) float64
    rv : (N,) float64
    rate : float
        Fits a second.
    """

    labels: NDArray[np.float64]
    rv: NDArray[np.float64]
    rate: float


def shifted(spectra: NDArray[np.floating], rv: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spectra (N, P) moved by velocities (N,) along the log-wavelength grid, by linear interpolation."""
    shift = np.log10(1.0 + rv / SPEED_OF_LIGHT) / LOG10_STEP
    place = np.arange(spectra.shape[1])
    return np.stack([np.interp(place - s, place, row) for row, s in zip(spectra, shift, strict=True)])


def train_payne(model: Emulator, labels: NDArray[np.float64], seconds: float, seed: int) -> nn.Module:
    """The Payne's network (Ting et al. 2019: two layers of 300), of our model's own spectra."""
    torch.manual_seed(seed)
    low, high = labels.min(axis=0), labels.max(axis=0)
    x = torch.as_tensor((labels - low) / (high - low) - 0.5, dtype=torch.float32)
    y = torch.as_tensor(np.asarray(model.compiled.predict(labels)))
    network = nn.Sequential(
        nn.Linear(x.shape[1], 300), nn.LeakyReLU(), nn.Linear(300, 300), nn.LeakyReLU(),
        nn.Linear(300, y.shape[1]),
    )  # fmt: skip
    optimiser = torch.optim.RAdam(network.parameters(), lr=1e-3)
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        rows = torch.randint(0, len(x), (512,))
        loss = (network(x[rows]) - y[rows]).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    network.low, network.high = low, high  # type: ignore[assignment]
    return network.requires_grad_(False)


def payne_way(
    network: nn.Module, flux: NDArray[np.float64], error: NDArray[np.float64], start: NDArray[np.float64]
) -> PeerResult:
    """scipy's `curve_fit` with a trust region and finite differences, from one start."""
    weights = [parameter.numpy() for parameter in network.parameters()]

    def spectrum(_: object, *parameters: float) -> NDArray[np.float64]:
        hidden = np.asarray(parameters[:-1], dtype=np.float32)
        for layer in range(0, 4, 2):
            hidden = weights[layer] @ hidden + weights[layer + 1]
            hidden = np.where(hidden > 0, hidden, 0.01 * hidden)
        row = weights[4] @ hidden + weights[5]
        return shifted(row[None], np.array([parameters[-1] * 100.0]))[0]

    low, high = np.asarray(network.low), np.asarray(network.high)
    bounds = np.full((2, len(low) + 1), 0.55)
    bounds[0], bounds[:, -1] = -0.55, (-LARGEST_VELOCITY / 100.0, LARGEST_VELOCITY / 100.0)
    labels, rv = [], []
    begin = time.perf_counter()
    for row, sigma, first in zip(flux, error, start, strict=True):
        best, _ = curve_fit(
            spectrum, None, row, p0=first, sigma=sigma, bounds=bounds, method="trf", ftol=5e-4, xtol=5e-4,
            absolute_sigma=True, max_nfev=200,
        )  # fmt: skip
        labels.append((best[:-1] + 0.5) * (high - low) + low)
        rv.append(best[-1] * 100.0)
    return PeerResult(np.array(labels), np.array(rv), len(flux) / (time.perf_counter() - begin))


def evolution_strategy(
    model: Emulator,
    flux: NDArray[np.float64],
    error: NDArray[np.float64],
    start: NDArray[np.float64],
    evaluations: int,
    seed: int,
) -> PeerResult:
    """CMA-ES on the transformer, all labels and the velocity, a population at a time."""
    import cma

    low, high = model.label_range.T
    labels, rv = [], []
    begin = time.perf_counter()
    for row, sigma, first in zip(flux, error, start, strict=True):
        strategy = cma.CMAEvolutionStrategy(
            first, 0.15, {"verbose": -9, "seed": seed, "maxfevals": evaluations, "bounds": [-4.0, 4.0]}
        )
        while not strategy.stop():
            asked = np.array(strategy.ask())
            inside = np.clip(asked[:, :-1], -0.55, 0.55)
            spectra = model.predict((inside + 0.5) * (high - low) + low)
            chi2 = np.square((row - shifted(spectra, asked[:, -1] * 100.0)) / sigma).sum(axis=1)
            penalty = 1e4 * np.square(asked[:, :-1] - inside).sum(axis=1)
            strategy.tell(asked, (chi2 + penalty).tolist())
        best = strategy.result.xbest
        labels.append((np.clip(best[:-1], -0.55, 0.55) + 0.5) * (high - low) + low)
        rv.append(best[-1] * 100.0)
    return PeerResult(np.array(labels), np.array(rv), len(flux) / (time.perf_counter() - begin))
