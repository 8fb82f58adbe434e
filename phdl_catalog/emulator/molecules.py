"""How carbon, nitrogen and oxygen share themselves among CO, CN, N2, CH, NH and OH in a layer of gas.

Carbon and oxygen are bound in each other first, then in hydrogen: two equations for what is free of each.
Equilibrium constants to second order in theta, after Tsuji 1973, A&A 23, 411.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

_LN10 = math.log(10.0)

#: log10 of the dissociation constant [dyn/cm^2]: coefficients of 1, theta and theta^2.
DISSOCIATION = {
    "co": (13.8206, -11.7948, 0.1722),
    "ch": (12.1354, -4.0761, 0.1277),
    "cn": (12.8051, -8.2793, 0.0642),
    "c2": (12.8047, -6.5178, 0.0977),
    "n2": (13.5900, -10.5850, 0.2200),
    "nh": (12.0200, -3.8000, 0.1000),
    "oh": (12.3710, -5.0578, 0.1382),
    "mgh": (11.2850, -2.7164, 0.1966),
}

#: The molecules of `partial_pressures`, in order.
MOLECULES = ("ch", "cn", "c2", "nh", "oh")


def exp10(x: Tensor) -> Tensor:
    """10 to the x; several times faster than a power of ten by `pow`."""
    return torch.exp(_LN10 * x)


def dissociation(molecule: str, theta: Tensor) -> Tensor:
    """(...,) -> (...,): log10 of the dissociation constant [dyn/cm^2]."""
    constant, linear, square = DISSOCIATION[molecule]
    return constant + theta * (linear + theta * square)


def dissociation_slope(molecule: str, theta: Tensor) -> Tensor:
    """(...,) -> (...,): derivative of `dissociation` by theta."""
    _, linear, square = DISSOCIATION[molecule]
    return linear + 2.0 * square * theta


class _Gas(NamedTuple):
    """Pressures [dyn/cm^2] of atoms by element, free ones too, and what hydrides add to these."""

    hydrogen: Tensor
    carbon: Tensor
    nitrogen: Tensor
    oxygen: Tensor
    with_ch: Tensor
    with_nh: Tensor
    with_oh: Tensor
    free_carbon: Tensor
    free_nitrogen: Tensor
    free_oxygen: Tensor


def _share_out(cno: tuple[Tensor, Tensor, Tensor], theta: Tensor, hydrogen: Tensor) -> _Gas:
    k = {name: exp10(dissociation(name, theta)) for name in ("co", "ch", "n2", "nh", "oh")}
    pressure = exp10(hydrogen)
    carbon, nitrogen, oxygen = (exp10(abundance + hydrogen) for abundance in cno)
    in_ch, in_nh, in_oh = (1.0 + pressure / k[name] for name in ("ch", "nh", "oh"))
    # Free carbon x: in_ch x + x y / K = carbon with free oxygen y = oxygen / (in_oh + x / K).
    half = 0.5 * (in_ch * in_oh * k["co"] + oxygen - carbon)
    product = in_ch * in_oh * k["co"] * carbon
    root = torch.sqrt(half.square() + product)
    free_carbon = torch.where(half > 0, product / (half + root), root - half) / in_ch
    free_oxygen = oxygen / (in_oh + free_carbon / k["co"])
    # Free nitrogen x: in_nh x + 2 x^2 / K = nitrogen.
    free_nitrogen = 2.0 * nitrogen / (in_nh + torch.sqrt(in_nh.square() + 8.0 * nitrogen / k["n2"]))
    return _Gas(
        pressure, carbon, nitrogen, oxygen, in_ch, in_nh, in_oh, free_carbon, free_nitrogen, free_oxygen
    )


def partial_pressures(
    cno: tuple[Tensor, Tensor, Tensor], theta: Tensor, hydrogen: Tensor
) -> tuple[Tensor, ...]:
    """log10 of the pressures [dyn/cm^2] of `MOLECULES`.

    Parameters
    ----------
    cno : three (...,) Tensors
        log10 of atoms of carbon, nitrogen and oxygen per hydrogen nucleus.
    theta : (...,) Tensor
        5040 K over the temperature.
    hydrogen : (...,) Tensor
        log10 of the pressure of hydrogen [dyn/cm^2].
    """
    gas = _share_out(cno, theta, hydrogen)
    c, n, o = (torch.log10(free) for free in (gas.free_carbon, gas.free_nitrogen, gas.free_oxygen))
    return (
        c + hydrogen - dissociation("ch", theta),
        c + n - dissociation("cn", theta),
        c + c - dissociation("c2", theta),
        n + hydrogen - dissociation("nh", theta),
        o + hydrogen - dissociation("oh", theta),
    )


def pressure_slopes(cno: tuple[Tensor, Tensor, Tensor], theta: Tensor, hydrogen: Tensor) -> Tensor:
    """Derivatives (..., M, 5) of `partial_pressures` by theta, hydrogen, carbon, nitrogen and oxygen."""
    gas = _share_out(cno, theta, hydrogen)
    one = torch.eye(5, dtype=theta.dtype, device=theta.device)
    by_theta, by_hydrogen = one[0], one[1]
    # Of log10: hydrogen, carbon, nitrogen and oxygen, and the constants k.
    of_carbon, of_nitrogen, of_oxygen = (by_hydrogen + one[row] for row in (2, 3, 4))
    k = {
        name: dissociation_slope(name, theta)[..., None] * by_theta for name in DISSOCIATION if name != "mgh"
    }
    bound = [gas.with_ch - 1.0, gas.with_nh - 1.0, gas.with_oh - 1.0]
    in_ch, in_nh, in_oh = (
        (hydride / (hydride + 1.0))[..., None] * (by_hydrogen - k[name])
        for hydride, name in zip(bound, ("ch", "nh", "oh"), strict=True)
    )
    # Carbon = x + z and oxygen = y + z, with z in CO and the rest free or in hydrides.
    x, y = gas.with_ch * gas.free_carbon, gas.with_oh * gas.free_oxygen
    z = (gas.free_carbon * gas.free_oxygen * exp10(-dissociation("co", theta)))[..., None]
    x, y = x[..., None], y[..., None]
    right_c = (x + z) * of_carbon - x * in_ch + z * k["co"]
    right_o = (y + z) * of_oxygen - y * in_oh + z * k["co"]
    determinant = x * y + x * z + y * z
    c = ((y + z) * right_c - z * right_o) / determinant
    o = ((x + z) * right_o - z * right_c) / determinant
    single = (gas.with_nh * gas.free_nitrogen)[..., None]
    double = (2.0 * gas.free_nitrogen.square() * exp10(-dissociation("n2", theta)))[..., None]
    n = ((single + double) * of_nitrogen - single * in_nh + double * k["n2"]) / (single + 2.0 * double)
    return torch.stack(
        [c + by_hydrogen - k["ch"], c + n - k["cn"], 2.0 * c - k["c2"], n + by_hydrogen - k["nh"],
         o + by_hydrogen - k["oh"]], dim=-2,
    )  # fmt: skip
