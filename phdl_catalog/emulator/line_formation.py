"""What a line feels, from one layer of gas: electron pressure, ions, molecules, continuous opacity.

Line strengths depend on the labels through a little well-known physics.  In a layer at the temperature where
lines form, hydrogen and the metals ionise by Saha's equation and set the electron pressure; the electron
pressure sets the opacity of H-, and hydrostatic balance with that opacity sets the gas pressure; carbon,
nitrogen and oxygen share themselves among CO, CN, N2, CH, NH and OH.  The logarithm of absorbers over
opacity that comes out is close to what the strength of a line is a function of.  Given these numbers beside
the labels, an emulator has to learn curves of growth and no chemistry, and errs less between the atmospheres
of a small grid.  The layer is no model atmosphere: nothing here is ever read as a flux.

Sources: Saha's equation and the bound-free opacity of H- as in Gray, "The Observation and Analysis of Stellar
Photospheres" (chapters 1 and 8); molecules in `molecules`; abundances of the Sun from Asplund et al. 2009,
ARA&A 47, 481.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from phdl_catalog.emulator.line_formation_loops import (
    BALMER,
    LN10,
    LOG_OPACITY,
    LOG_WEIGHT,
    NEWTON_STEPS,
    OPACITY_SLOPE,
    RAYLEIGH,
    SAHA,
    TEMPERATURE,
    line_formation,
)
from phdl_catalog.emulator.molecules import (
    DISSOCIATION,
    MOLECULES,
    dissociation,
    dissociation_slope,
    exp10,
    partial_pressures,
    pressure_slopes,
)
from phdl_catalog.spectra import loops


class Donor(NamedTuple):
    """An element that gives electrons: solar log10(n/n_H) + 12, ionisation energy [eV], log10(2 u1/u0)."""

    element: str
    solar: float
    energy: float
    partition: float


_DONORS = (
    Donor("h", 12.0, 13.598, 0.0),
    Donor("c", 8.43, 11.260, 0.1),
    Donor("na", 6.24, 5.139, 0.0),
    Donor("mg", 7.60, 7.646, 0.6),
    Donor("al", 6.45, 5.986, -0.4),
    Donor("si", 7.51, 8.152, 0.0),
    Donor("s", 7.12, 10.360, 0.0),
    Donor("k", 5.03, 4.341, 0.0),
    Donor("ca", 6.34, 6.113, 0.6),
    Donor("cr", 5.64, 6.767, 0.2),
    Donor("fe", 7.50, 7.902, 0.4),
    Donor("ni", 6.22, 7.640, 0.0),
)
_SOLAR_N, _SOLAR_O = 7.83, 8.69

#: Neutral atoms of which the column density is a feature.
_NEUTRALS = ("c", "na", "mg", "al", "si", "ca", "fe")


class _Layer(NamedTuple):
    """What of a layer does not depend on its electron pressure; D donors, E elements.

    The elements are the first axis, not the last: operations along stars are several times faster so.

    Parameters
    ----------
    theta, gravity : (...,) Tensor
        5040 K over the temperature; logg.
    opacity : (...,) Tensor
        log10 of the opacity of H- per hydrogen nucleus and electron pressure.
    abundances : (E, ...) Tensor
        log10 of atoms per hydrogen nucleus.
    saha : (D, ...) Tensor
        log10 of ions over neutrals times electron pressure.
    """

    theta: Tensor
    gravity: Tensor
    opacity: Tensor
    abundances: Tensor
    saha: Tensor


FEATURES = (
    "log_electron_pressure", *MOLECULES, "mgh", "fe+", *_NEUTRALS, "balmer",
)  # fmt: skip


class LineFormation(nn.Module):
    """Features of one layer of gas, as smooth functions of the labels.

    Parameters
    ----------
    label_names : sequence of str
        Length L; ``teff``, ``logg`` and ``fe_h`` are needed.  Elements without a label follow ``fe_h``.
    """

    mix: Tensor
    solar: Tensor
    energy: Tensor
    partition: Tensor
    direct: Tensor

    def __init__(self, label_names: Sequence[str]) -> None:
        super().__init__()
        names = list(label_names)
        self._teff, self._logg, self._fe_h = (names.index(name) for name in ("teff", "logg", "fe_h"))
        elements = [*(donor.element for donor in _DONORS), "n", "o"]
        mix = torch.zeros(len(names), len(elements), dtype=torch.float64)
        for column, element in enumerate(elements):
            if element == "h":
                continue
            mix[names.index("fe_h"), column] = 1.0
            if f"{element}_fe" in names:
                mix[names.index(f"{element}_fe"), column] = 1.0
        solar = [*(donor.solar for donor in _DONORS), _SOLAR_N, _SOLAR_O]
        self.register_buffer("mix", mix, persistent=False)
        self.register_buffer("solar", torch.tensor(solar, dtype=torch.float64) - 12.0, persistent=False)
        self.register_buffer("energy", torch.tensor([d.energy for d in _DONORS]).double(), persistent=False)
        self.register_buffer(
            "partition", torch.tensor([d.partition for d in _DONORS]).double(), persistent=False
        )
        self._at = {element: column for column, element in enumerate(elements)}
        self._cno = [self._at[element] for element in ("c", "n", "o")]
        # (F, E): features that follow one abundance alone.
        direct = torch.zeros(len(FEATURES), len(elements), dtype=torch.float64)
        for feature, element in (("mgh", "mg"), ("fe+", "fe"), *((x, x) for x in _NEUTRALS if x != "c")):
            direct[FEATURES.index(feature), self._at[element]] = 1.0
        self.register_buffer("direct", direct, persistent=False)

    def __len__(self) -> int:
        return len(FEATURES)

    def theta(self, labels: Tensor) -> Tensor:
        """(..., L) -> (...,): 5040 K over the temperature of the layer."""
        return 5040.0 / (TEMPERATURE * labels[..., self._teff])

    def electron_pressure(self, labels: Tensor) -> Tensor:
        """(..., L) -> (...,): log10 of the electron pressure [dyn/cm^2]."""
        return self._solved(labels, self._layer(labels))

    def forward(self, labels: Tensor) -> Tensor:
        """Features of each label vector.

        Parameters
        ----------
        labels : (..., L) Tensor

        Returns
        -------
        (..., F) Tensor
            In the order of `FEATURES`: log10, and but for the first over the opacity per hydrogen nucleus.
        """
        layer = self._layer(labels)
        return self._features(layer, self._solved(labels, layer))

    def with_jacobian(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Features, and their derivatives by the chain rule through the few variables of the layer.

        Parameters
        ----------
        labels : (N, L) Tensor

        Returns
        -------
        (N, F) Tensor
            As `forward`.
        (N, F, L) Tensor
        """
        if loops.wanted(labels.device) and labels.dtype == torch.float64:
            return self._in_loop(labels)
        mix = self.mix.to(labels.dtype)
        layer = self._layer(labels)
        pressure = self._solved(labels, layer)
        slopes, along, cooling = self._slopes(labels, layer, pressure)
        jacobian = slopes[..., 3:] @ mix[:, self._cno].T + self.direct.to(labels.dtype) @ mix.T
        jacobian += slopes[..., 1:2] * along[:, None, :]
        jacobian[:, :, self._teff] += slopes[..., 0] * cooling[:, None]
        jacobian[:, :, self._logg] += slopes[..., 2]
        return self._features(layer, pressure), jacobian

    def _in_loop(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        size, number = labels.shape
        features = loops.empty(size, len(FEATURES), dtype=torch.float64)
        jacobian = loops.empty(size, len(FEATURES), number, dtype=torch.float64)
        loops.for_stars(line_formation, size, labels, *self._loop_arrays, features, jacobian)
        return features, jacobian

    @cached_property
    def _loop_arrays(self) -> tuple[object, ...]:
        """What the loop takes between the labels and what it finds."""
        return (
            (self._teff, self._logg, self._fe_h), self.mix.T.contiguous(),
            self.solar, self.energy, self.partition,
            tuple(self._cno), (self._at["mg"], self._at["fe"]), tuple(self._at[x] for x in _NEUTRALS),
            np.array(list(DISSOCIATION.values())), self.direct @ self.mix.T,
        )  # fmt: skip

    def _slopes(self, labels: Tensor, layer: _Layer, pressure: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Derivatives of the features by the few variables of the layer, and of some of these by labels.

        Returns
        -------
        (N, F, 6) Tensor
            Of the features by theta, pressure, gravity, C, N and O.
        (N, L) Tensor
            Of the electron pressure by the labels.
        (N,) Tensor
            Of theta by the effective temperature.
        """
        theta, abundances = layer.theta, layer.abundances.T
        mix = self.mix.to(labels.dtype)
        cooling = -theta / labels[:, self._teff]
        saha = exp10(layer.saha).T
        fraction = saha / (saha + exp10(pressure)[:, None])
        absorption = exp10(layer.opacity + pressure)
        by_pressure = absorption / (absorption + RAYLEIGH)
        by_theta = by_pressure * (2.5 / (LN10 * theta) + OPACITY_SLOPE)
        ionisation = -(2.5 / (LN10 * theta))[:, None] - self.energy.to(labels.dtype)

        # Electrons = ions holds along every label.
        ions = exp10(abundances[:, : len(_DONORS)]) * fraction
        share = ions / ions.sum(dim=1, keepdim=True)
        buffer = share * (1.0 - fraction)
        slope = 1.0 + by_pressure + buffer.sum(dim=1)
        along = share @ mix[:, : len(_DONORS)].T
        along[:, self._teff] += ((buffer * ionisation).sum(dim=1) - by_theta) * cooling
        along[:, self._logg] += 1.0

        slopes = self._feature_slopes(fraction, ionisation, by_theta, by_pressure)
        opacity = torch.log10(absorption + RAYLEIGH)
        hydrogen = labels[:, self._logg] + LOG_WEIGHT - opacity
        molecules = pressure_slopes(self._cno_of(layer.abundances), theta, hydrogen)  # (N, M, 5)
        slopes[:, FEATURES.index("mgh"), 0] -= dissociation_slope("mgh", theta)
        row = slice(1, 1 + len(MOLECULES))
        slopes[:, row, 0] = molecules[..., 0] - molecules[..., 1] * by_theta[:, None]
        slopes[:, row, 1] = -molecules[..., 1] * by_pressure[:, None]
        slopes[:, row, 2] = molecules[..., 1] - 1.0
        slopes[:, row, 3:] = molecules[..., 2:]
        return slopes, along / slope[:, None], cooling

    def _feature_slopes(
        self, fraction: Tensor, ionisation: Tensor, by_theta: Tensor, by_pressure: Tensor
    ) -> Tensor:
        """Derivatives (N, F, 6) of all features but CH to OH by theta, pressure, gravity, C, N and O.

        Parameters
        ----------
        fraction, ionisation : (N, D) Tensor
            Of the donors: ions over atoms, and the derivative of log10 of Saha's factor by theta.
        by_theta, by_pressure : (N,) Tensor
            Derivatives of log10 of the opacity.
        """
        slopes = fraction.new_zeros(len(fraction), len(FEATURES), 6)
        slopes[:, 0, 1] = 1.0
        neutral_theta = -fraction * ionisation - by_theta[:, None]
        neutral_pressure = fraction - by_pressure[:, None]
        first = FEATURES.index(_NEUTRALS[0])
        columns = [self._at[element] for element in _NEUTRALS]
        slopes[:, first : first + len(columns), 0] = neutral_theta[:, columns]
        slopes[:, first : first + len(columns), 1] = neutral_pressure[:, columns]
        slopes[:, FEATURES.index("c"), 3] = 1.0
        magnesium, iron = self._at["mg"], self._at["fe"]
        mgh, ion = FEATURES.index("mgh"), FEATURES.index("fe+")
        # The dissociation constant of MgH is left to the caller.
        slopes[:, mgh, 0] = neutral_theta[:, magnesium] - by_theta
        slopes[:, mgh, 1] = neutral_pressure[:, magnesium] - by_pressure
        slopes[:, mgh, 2] = 1.0
        slopes[:, ion, 0] = neutral_theta[:, iron] + ionisation[:, iron]
        slopes[:, ion, 1] = neutral_pressure[:, iron] - 1.0
        slopes[:, -1, 0] = -BALMER - by_theta
        slopes[:, -1, 1] = -by_pressure
        return slopes

    def _layer(self, labels: Tensor) -> _Layer:
        theta = self.theta(labels)
        dtype, along = labels.dtype, (-1, *(1 for _ in theta.shape))
        abundances = (labels @ self.mix.to(dtype)).movedim(-1, 0).contiguous()
        abundances = abundances + self.solar.to(dtype).view(along)
        constant = (self.partition + SAHA).to(dtype).view(along)
        saha = constant - 2.5 * torch.log10(theta) - theta * self.energy.to(dtype).view(along)
        return _Layer(theta, labels[..., self._logg], _opacity(theta), abundances, saha)

    def _cno_of(self, abundances: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Three (...,) of abundances (E, ...): carbon, nitrogen and oxygen."""
        carbon, nitrogen, oxygen = (abundances[column] for column in self._cno)
        return carbon, nitrogen, oxygen

    def _solved(self, labels: Tensor, layer: _Layer) -> Tensor:
        """log10 of the electron pressure (...,) at which electrons are as many as ions."""
        # Where H- is the opacity, the square of the pressure is this times the ions per hydrogen nucleus:
        # the metals', or hydrogen's, which is ionised as the pressure lets it, but never more than all.
        balance = layer.gravity + LOG_WEIGHT - layer.opacity
        metals = 0.5 * (balance - 4.0 + labels[..., self._fe_h])
        hydrogen = torch.minimum((balance + layer.saha[0]) / 3.0, 0.5 * balance)
        pressure = torch.maximum(metals, hydrogen)
        saha = exp10(layer.saha)
        atoms = exp10(layer.abundances[: len(_DONORS)]) * saha
        for _ in range(NEWTON_STEPS):
            pressure = _newton_step(layer, pressure, atoms, saha)
        return pressure

    def _features(self, layer: _Layer, pressure: Tensor) -> Tensor:
        """Features (..., F) of a layer and its electron pressure (...,)."""
        opacity = torch.log10(exp10(layer.opacity + pressure) + RAYLEIGH)
        hydrogen = layer.gravity + LOG_WEIGHT - opacity
        ionised = layer.saha - pressure
        neutral = layer.abundances[: len(_DONORS)] - torch.log1p(exp10(ionised)) / LN10 - opacity
        iron = self._at["fe"]
        molecules = partial_pressures(self._cno_of(layer.abundances), layer.theta, hydrogen)
        features = [
            pressure,
            *(value - opacity - hydrogen for value in molecules),
            neutral[self._at["mg"]] + hydrogen - dissociation("mgh", layer.theta),
            neutral[iron] + ionised[iron],
            *(neutral[self._at[element]] for element in _NEUTRALS),
            -layer.theta * BALMER - opacity,
        ]
        return torch.stack(features, dim=-1)


def _newton_step(layer: _Layer, pressure: Tensor, ionisable: Tensor, saha: Tensor) -> Tensor:
    """One step towards electrons = ions.

    Parameters
    ----------
    layer : _Layer
    pressure : (...,) Tensor
        log10 of the electron pressure.
    ionisable, saha : (D, ...) Tensor
        Saha's factor as it is, and times atoms per hydrogen nucleus.
    """
    electrons = exp10(pressure)
    share = 1.0 / (saha + electrons)
    ions = ionisable * share
    total = ions.sum(dim=0)
    absorption = exp10(layer.opacity + pressure)
    # Hydrostatic balance gives the hydrogen pressure; times the ions of a nucleus, electron pressure.
    hydrogen = layer.gravity + LOG_WEIGHT - torch.log10(absorption + RAYLEIGH)
    misfit = pressure - hydrogen - torch.log10(total)
    neutral = electrons * (ions * share).sum(dim=0) / total
    return pressure - misfit / (1.0 + absorption / (absorption + RAYLEIGH) + neutral)


def _opacity(theta: Tensor) -> Tensor:
    """(...,) -> (...,): log10 of the opacity of H- per hydrogen nucleus and electron pressure."""
    return LOG_OPACITY + 2.5 * torch.log10(theta) + OPACITY_SLOPE * theta
