"""What a line feels, from one layer of gas: electron pressure, ions, molecules, continuous opacity.

Line strengths depend on the labels through a little well-known physics.  In a layer at the temperature where
lines form, hydrogen and the metals ionise by Saha's equation and set the electron pressure; the electron
pressure sets the opacity of H-, and hydrostatic balance with that opacity sets the gas pressure; carbon,
nitrogen and oxygen share themselves among CO, CN, N2, CH, NH and OH.  The logarithm of absorbers over
opacity that comes out is close to what the strength of a line is a function of.  Given these numbers beside
the labels, an emulator has to learn curves of growth and no chemistry, and errs less between the atmospheres
of a small grid.  The layer is no model atmosphere: nothing here is ever read as a flux.

Sources: Saha's equation and the bound-free opacity of H- as in Gray, "The Observation and Analysis of Stellar
Photospheres" (chapters 1 and 8); molecular equilibrium constants to second order in theta, after Tsuji 1973,
A&A 23, 411; abundances of the Sun from Asplund et al. 2009, ARA&A 47, 481.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import vjp

#: Temperature of the layer in units of teff, and its optical depth.
_TEMPERATURE, _DEPTH = 0.85, 0.3

#: log10 of optical depth times mass per hydrogen nucleus [g] over particles per hydrogen nucleus: times
#: gravity over opacity it is the pressure of hydrogen.
_LOG_WEIGHT = math.log10(_DEPTH * 1.4 * 1.6735e-24 / 1.085)

#: log10 of the opacity of H- per neutral hydrogen and electron pressure, without its dependence on
#: temperature [cm^4 / dyn].
_LOG_OPACITY = math.log10(4.158e-10 * 3e-17)

#: Rayleigh scattering by a hydrogen atom at 4000 Angstrom [cm^2]: the floor of the opacity.
_RAYLEIGH = 2.3e-27

#: Newton steps for the electron pressure; six bring double precision from anywhere in a grid.
_NEWTON_STEPS = 6

#: Step of the differences in theta, log10 pressure, logg and abundances.
_STEP = 1e-5

_LN10 = math.log(10.0)


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

#: log10 of the dissociation constant [dyn/cm^2]: coefficients of 1, theta and theta^2.
_DISSOCIATION = {
    "co": (13.8206, -11.7948, 0.1722),
    "ch": (12.1354, -4.0761, 0.1277),
    "cn": (12.8051, -8.2793, 0.0642),
    "c2": (12.8047, -6.5178, 0.0977),
    "n2": (13.5900, -10.5850, 0.2200),
    "nh": (12.0200, -3.8000, 0.1000),
    "oh": (12.3710, -5.0578, 0.1382),
    "mgh": (11.2850, -2.7164, 0.1966),
}

#: Neutral atoms of which the column density is a feature.
_NEUTRALS = ("c", "na", "mg", "al", "si", "ca", "fe")

#: Excitation of the lower level of the Balmer lines [eV].
_BALMER = 10.199

FEATURES = (
    "log_electron_pressure", "ch", "cn", "c2", "nh", "oh", "mgh", "fe+", *_NEUTRALS, "balmer",
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
    cno: Tensor

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
        selection = torch.zeros(len(self._cno), len(elements), dtype=torch.float64)
        selection[range(len(self._cno)), self._cno] = 1.0
        self.register_buffer("cno", selection, persistent=False)
        # (F, E): features that follow one abundance alone.
        direct = torch.zeros(len(FEATURES), len(elements), dtype=torch.float64)
        for feature, element in (("mgh", "mg"), ("fe+", "fe"), *((x, x) for x in _NEUTRALS if x != "c")):
            direct[FEATURES.index(feature), self._at[element]] = 1.0
        self.register_buffer("direct", direct, persistent=False)

    def __len__(self) -> int:
        return len(FEATURES)

    def theta(self, labels: Tensor) -> Tensor:
        """(..., L) -> (...,): 5040 K over the temperature of the layer."""
        return 5040.0 / (_TEMPERATURE * labels[..., self._teff])

    def electron_pressure(self, labels: Tensor) -> Tensor:
        """(..., L) -> (...,): log10 of the electron pressure [dyn/cm^2]."""
        # Where H- is the opacity and all metals are ions, the square of the pressure is this.
        balance = labels[..., self._logg] + _LOG_WEIGHT - _opacity(self.theta(labels))
        pressure = 0.5 * (balance - 4.0 + labels[..., self._fe_h])
        for _ in range(_NEWTON_STEPS):
            pressure = self._newton_step(labels, pressure)
        return pressure

    def forward(self, labels: Tensor, pressure: Tensor | None = None) -> Tensor:
        """Features of each label vector.

        Parameters
        ----------
        labels : (..., L) Tensor
        pressure : (...,) Tensor, optional
            The electron pressure where it is known; a last Newton step restores its derivatives.

        Returns
        -------
        (..., F) Tensor
            In the order of `FEATURES`: log10, and but for the first over the opacity per hydrogen nucleus.
        """
        known = self.electron_pressure(labels) if pressure is None else pressure
        pressure = self._newton_step(labels, known)
        return self._features(self.theta(labels), pressure, labels[..., self._logg], self._abundances(labels))

    def jacobian(self, labels: Tensor, pressure: Tensor) -> Tensor:
        """Derivatives of the features, by the chain rule through the few variables of the layer.

        Parameters
        ----------
        labels : (N, L) Tensor
        pressure : (N,) Tensor
            From `electron_pressure`.

        Returns
        -------
        (N, F, L) Tensor
        """
        dtype = labels.dtype
        pull = vjp(lambda x: self._newton_step(x, pressure), labels)[1]
        pressure_slope: Tensor = pull(torch.ones_like(pressure))[0]  # (N, L)
        # Central differences in the six variables: in double precision good to seven digits, and unlike
        # forward-mode differentiation safe in threads.
        shift = _STEP * torch.eye(6, dtype=torch.float64, device=labels.device)
        shift = torch.cat([shift, -shift])[:, None, :]  # (12, 1, 6)
        at = self._features(
            self.theta(labels).double() + shift[..., 0],
            pressure.double() + shift[..., 1],
            labels[:, self._logg].double() + shift[..., 2],
            self._abundances(labels).double() + shift[..., 3:] @ self.cno,
        )
        slopes = ((at[:6] - at[6:]) / (2.0 * _STEP)).to(dtype)  # (6, N, F)
        theta = self.theta(labels)
        mix = self.mix.to(dtype)
        jacobian = (self.direct.to(dtype) @ mix.T).expand(len(labels), -1, -1).clone()
        jacobian += torch.einsum("enf,le->nfl", slopes[3:], mix[:, self._cno])
        jacobian += slopes[1][:, :, None] * pressure_slope[:, None, :]
        jacobian[:, :, self._teff] += slopes[0] * (-theta / labels[:, self._teff])[:, None]
        jacobian[:, :, self._logg] += slopes[2]
        return jacobian

    def _abundances(self, labels: Tensor) -> Tensor:
        """(..., L) -> (..., E): log10 of atoms per hydrogen nucleus."""
        return labels @ self.mix.to(labels.dtype) + self.solar.to(labels.dtype)

    def _saha(self, theta: Tensor) -> Tensor:
        """(...,) -> (..., D): log10 of ions over neutrals times electron pressure."""
        return (
            9.0801
            + self.partition.to(theta.dtype)
            - 2.5 * torch.log10(theta)[..., None]
            - theta[..., None] * self.energy.to(theta.dtype)
        )

    def _newton_step(self, labels: Tensor, pressure: Tensor) -> Tensor:
        """One step towards electrons = ions; at the solution its derivatives are those of the solution."""
        theta = self.theta(labels)
        atoms = _exp10(self._abundances(labels)[..., : len(_DONORS)])
        saha, electrons = _exp10(self._saha(theta)), _exp10(pressure)[..., None]
        ions = atoms * saha / (saha + electrons)
        total = ions.sum(dim=-1)
        absorption = _exp10(_opacity(theta) + pressure)
        # Hydrostatic balance gives the hydrogen pressure; times the ions of a nucleus, electron pressure.
        hydrogen = labels[..., self._logg] + _LOG_WEIGHT - torch.log10(absorption + _RAYLEIGH)
        misfit = pressure - hydrogen - torch.log10(total)
        slope = 1.0 + absorption / (absorption + _RAYLEIGH)
        slope = slope + (ions * electrons / (saha + electrons)).sum(dim=-1) / total
        return pressure - misfit / slope

    def _features(self, theta: Tensor, pressure: Tensor, logg: Tensor, abundances: Tensor) -> Tensor:
        """Features from temperature, electron pressure, gravity (...,) and abundances (..., E)."""
        opacity = torch.log10(_exp10(_opacity(theta) + pressure) + _RAYLEIGH)
        hydrogen = logg + _LOG_WEIGHT - opacity
        ionised = self._saha(theta) - pressure[..., None]
        neutral = abundances[..., : len(_DONORS)] - torch.log1p(_exp10(ionised)) / _LN10 - opacity[..., None]
        iron = self._at["fe"]
        features = [
            pressure,
            *(value - opacity - hydrogen for value in self._molecules(abundances, theta, hydrogen)),
            neutral[..., self._at["mg"]] + hydrogen - _dissociation("mgh", theta),
            neutral[..., iron] + ionised[..., iron],
            *(neutral[..., self._at[element]] for element in _NEUTRALS),
            -theta * _BALMER - opacity,
        ]
        return torch.stack(features, dim=-1)

    def _molecules(self, abundances: Tensor, theta: Tensor, hydrogen: Tensor) -> list[Tensor]:
        """log10 of the pressures [dyn/cm^2] of CH, CN, C2, NH and OH."""
        k = {name: _exp10(_dissociation(name, theta)) for name in ("co", "ch", "n2", "nh", "oh")}
        pressure = _exp10(hydrogen)
        carbon, nitrogen, oxygen = (_exp10(abundances[..., column] + hydrogen) for column in self._cno)
        in_ch, in_nh, in_oh = (1.0 + pressure / k[name] for name in ("ch", "nh", "oh"))
        # Free carbon x: in_ch x + x y / K = carbon with free oxygen y = oxygen / (in_oh + x / K).
        half = 0.5 * (in_ch * in_oh * k["co"] + oxygen - carbon)
        product = in_ch * in_oh * k["co"] * carbon
        root = torch.sqrt(half.square() + product)
        free_carbon = torch.where(half > 0, product / (half + root), root - half) / in_ch
        free_oxygen = oxygen / (in_oh + free_carbon / k["co"])
        # Free nitrogen x: in_nh x + 2 x^2 / K = nitrogen.
        free_nitrogen = 2.0 * nitrogen / (in_nh + torch.sqrt(in_nh.square() + 8.0 * nitrogen / k["n2"]))
        c, n, o = torch.log10(free_carbon), torch.log10(free_nitrogen), torch.log10(free_oxygen)
        return [
            c + hydrogen - _dissociation("ch", theta),
            c + n - _dissociation("cn", theta),
            c + c - _dissociation("c2", theta),
            n + hydrogen - _dissociation("nh", theta),
            o + hydrogen - _dissociation("oh", theta),
        ]


def _exp10(x: Tensor) -> Tensor:
    """10 to the x; several times faster than a power of ten by `pow`."""
    return torch.exp(_LN10 * x)


def _opacity(theta: Tensor) -> Tensor:
    """(...,) -> (...,): log10 of the opacity of H- per hydrogen nucleus and electron pressure."""
    return _LOG_OPACITY + 2.5 * torch.log10(theta) + 0.754 * theta


def _dissociation(molecule: str, theta: Tensor) -> Tensor:
    """(...,) -> (...,): log10 of the dissociation constant [dyn/cm^2]."""
    constant, linear, square = _DISSOCIATION[molecule]
    return constant + theta * (linear + theta * square)
