"""Small data for the synthesis engine: grey atmospheres as ATLAS9 decks, and line lists in each format."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.emulator.synthesis.composition import SYMBOLS

K_BOLTZMANN, EV_TEMPERATURE = 1.380649e-16, 11604.518
SAHA = 2.4146830e15

#: ATLAS9 has 72; fewer are quicker, and enough here.
LAYERS = 36


def _electrons(temperature: float, pressure: float, metals: float) -> float:
    """Electron density of hydrogen and two groups of metals, 7.8 and 5.6 eV, by bisection."""
    total = pressure / (K_BOLTZMANN * temperature)
    saha = [
        (number, SAHA * temperature**1.5 * weight * math.exp(-energy * EV_TEMPERATURE / temperature))
        for number, energy, weight in (
            (0.92, 13.598, 1.0), (0.92 * 1.03e-4 * metals, 7.8, 2.0), (0.92 * 6e-6 * metals, 5.6, 2.0)
        )
    ]  # fmt: skip
    low, high = 0.0, 0.5 * total
    while high - low > 1e-5 * high:
        middle = 0.5 * (low + high)
        freed = sum((total - middle) * number * phi / (phi + middle) for number, phi in saha)
        low, high = (middle, high) if freed > middle else (low, middle)
    return 0.5 * (low + high)


def _opacity(temperature: float, pressure: float, electrons: float) -> float:
    """Negative hydrogen (bound-free, Gray 2005), electron scattering, and a floor [cm^2/g]."""
    theta = 5040.0 / temperature
    negative = (
        4.158e-10 * 3.5e-17 * electrons * K_BOLTZMANN * temperature * theta**2.5 * 10 ** (0.754 * theta)
    )
    free = 0.4 * electrons * K_BOLTZMANN * temperature / pressure
    return negative * 0.92 / (1.27 * 1.67e-24) + free + 1e-5


def grey_atmosphere(teff: float, logg: float, m_h: float, layers: int = LAYERS) -> NDArray[np.float64]:
    """(layers, 4) column mass, temperature, pressure, electron density of a grey atmosphere."""
    tau = 10 ** np.linspace(-5.5, 2.0, layers)
    hopf = 0.7104 - 0.1331 * np.exp(-3.4488 * tau)
    temperature = (0.75 * teff**4 * (tau + hopf)) ** 0.25
    gravity, metals = 10.0**logg, 10.0**m_h
    rows, above, kappa_above = [], 0.0, 0.0
    for index, (depth, warmth) in enumerate(zip(tau.tolist(), temperature.tolist(), strict=True)):
        pressure = above * 1.1 + 3.0
        for _ in range(60):
            before = pressure
            electrons = _electrons(warmth, pressure, metals)
            kappa = _opacity(warmth, pressure, electrons)
            step = depth / kappa if index == 0 else (depth - tau[index - 1]) / math.sqrt(kappa * kappa_above)
            pressure = (
                math.sqrt(pressure * (above + gravity * step)) if index == 0 else above + gravity * step
            )
            if abs(pressure - before) < 1e-6 * pressure:
                break
        above, kappa_above = pressure, kappa
        rows.append((pressure / gravity, warmth, pressure, electrons))
    return np.array(rows)


def deck(teff: float, logg: float, m_h: float) -> str:
    """A grey atmosphere in the format of ATLAS9's output."""
    layers = "".join(
        f"{mass:15.8E}{temperature:9.1f}{pressure:10.3E}{electrons:10.3E}"
        " 1.000E-03 1.000E-01 2.000E+05 0.000E+00 0.000E+00 1.000E+05\n"
        for mass, temperature, pressure, electrons in grey_atmosphere(teff, logg, m_h)
    )
    return (
        f"TEFF{teff:7.0f}.  GRAVITY{logg:8.5f} LTE \n"
        f"TITLE  [{m_h:.1f}] VTURB=2  L/H=1.25 GREY\n"
        " OPACITY IFOP 1 1 1 1 1 1 1 1 1 1 1 1 1 0 0 0 0 0 0 0\n"
        " CONVECTION ON   1.25 TURBULENCE OFF  0.00  0.00  0.00  0.00\n"
        f"ABUNDANCE SCALE {10**m_h:9.5f} ABUNDANCE CHANGE 1 0.92040 2 0.07834\n"
        " ABUNDANCE CHANGE  3 -10.94  4 -10.64  5  -9.49  6  -3.52  7  -4.12  8  -3.21\n"
        f"READ DECK6 {LAYERS} RHOX,T,P,XNE,ABROSS,ACCRAD,VTURB, FLXCNV,VCONV,VELSND\n{layers}"
        "PRADK 1.0000E+00\nBEGIN                    ITERATION  15 COMPLETED\n"
    )


def write_decks(
    folder: Path,
    teff: tuple[float, ...] = (4000.0, 5000.0, 6000.0, 7250.0),
    logg: tuple[float, ...] = (0.0, 2.0, 3.5, 5.0),
    m_h: tuple[float, ...] = (-2.5, -1.0, 0.0, 0.5),
) -> Path:
    """A folder of decks, a file a metallicity, as Kurucz's site has them."""
    folder.mkdir(parents=True, exist_ok=True)
    for metallicity in m_h:
        text = "".join(deck(t, g, metallicity) for t, g in product(teff, logg))
        sign = "m" if metallicity < 0 else "p"
        (folder / f"a{sign}{round(abs(metallicity) * 10):02d}k2.dat").write_text(text)
    return folder


#: Lines with laboratory data: species, wavelength in air [A], lower and upper level [eV], log gf, damping.
LINES = (
    ("Ti", 1, 4981.7304, 0.848, 3.337, 0.57, 8.0, -6.1, -7.6),
    ("Ti", 1, 4991.0663, 0.836, 3.319, 0.45, 8.0, -6.1, -7.6),
    ("Fe", 1, 4994.1294, 0.915, 3.397, -3.08, 7.2, -6.2, -7.8),
    ("Fe", 1, 5006.1185, 2.833, 5.309, -0.62, 8.3, -5.5, -7.6),
    ("Ni", 1, 5035.3574, 3.635, 6.096, 0.29, 8.1, -6.0, -7.5),
    ("Fe", 1, 5049.8197, 2.279, 4.733, -1.36, 7.9, -6.1, -7.6),
    ("Mg", 1, 5167.3213, 2.709, 5.108, -0.93, 8.0, -5.5, -7.27),
    ("Fe", 2, 5169.0282, 2.891, 5.289, -0.87, 8.5, -6.5, -7.9),
    ("Mg", 1, 5172.6843, 2.712, 5.108, -0.45, 8.0, -5.5, -7.27),
    ("Mg", 1, 5183.6042, 2.717, 5.108, -0.24, 8.0, -5.5, -7.27),
    ("Ca", 1, 5265.5564, 2.523, 4.877, -0.26, 7.9, -5.6, -7.5),
    ("Cr", 1, 5208.4190, 0.941, 3.321, 0.16, 7.7, -6.2, -7.6),
)


def _air_to_vacuum(wavelength: float) -> float:
    squared = (1e4 / wavelength) ** 2
    return wavelength * (
        1.0 + 8.336624212083e-5 + 2.408926869968e-2 / (130.1065924522 - squared)
        + 1.599740894897e-4 / (38.92568793293 - squared)
    )  # fmt: skip


def write_vald(path: Path, long: bool = True) -> Path:
    """The lines as VALD sends them on 'extract stellar'."""
    head = f" 4980.00000, 5270.00000, {len(LINES)}, 1000, 1.0 Wavelength region, lines selected, Vmicro\n"
    if long:
        text = head + " " * 48 + "Lande factors        Damping parameters   Central\n"
        text += (
            "Spec Ion       WL_air(A)  log gf* E_low(eV) J lo  E_up(eV) J up   lower   upper    mean   Rad."
            "  Stark    Waals   depth\n"
        )
    else:
        text = head + " " * 73 + "Damping parameters        Lande  Central\n"
        text += (
            "Spec Ion      WL_air(A)    Excit(eV) Vmic  log gf*  Rad.  Stark    Waals   factor  depth"
            "   Reference\n"
        )
    for symbol, ion, air, low, up, gf, rad, stark, vdw in LINES:
        name, damping = f"'{symbol} {ion}',{air:18.4f}", f"{rad:.3f},{stark:.3f},{vdw:8.3f}"
        if long:
            text += (
                f"{name},  {gf:6.3f},  {low:.4f},  2.0,  {up:.4f},  3.0,  1.000,  1.000,  1.000, {damping},"
                "  0.500,\n"
                "'  LS                                                         3d7.4s a5F'\n"
                "'  LS                                                         3d7.4p z5F'\n"
                "'_          1 wl:K14   1 K14   1 gf:K14   1 K14   1 K14   1 K14   1 K14    1 K14      '\n"
            )
        else:
            text += (
                f"{name},   {low:.4f}, 1.0, {gf:7.3f}, {damping}, 1.000, 0.500, '   1 wl:K14   1 gf:K14'\n"
            )
    text += "'castelli_ap00k2_T05750G45.krz',\n"
    values = [f"'{symbol:2s}: {0.92 if symbol == 'H' else -5.0:6.2f}'," for symbol in SYMBOLS]
    rows = [values[:2], *(values[start : start + 6] for start in range(2, len(values), 6))]
    text += "\n".join("".join(row) for row in rows)
    text += "'END'\n References:\n 1. K14\n"
    path.write_text(text)
    return path


def write_kurucz(path: Path) -> Path:
    """The lines in the 160 columns of gfall: nm in air, energies in 1/cm."""
    numbers = {"Mg": 12, "Ca": 20, "Ti": 22, "Cr": 24, "Fe": 26, "Ni": 28}
    text = ""
    for symbol, ion, air, low, _, gf, rad, stark, vdw in LINES:
        energy = low * 8065.543937
        upper = energy + 1e8 / _air_to_vacuum(air)
        # Kurucz gives the levels in either order, and predicted ones as negative.
        first, second = (energy, -upper) if symbol == "Ti" else (upper, energy)
        code = numbers[symbol] + (ion - 1) / 100
        text += (
            f"{air / 10:11.4f}{gf:7.3f}{code:6.2f}{first:12.3f}{2.0:5.1f} {'lower':10s}{second:12.3f}"
            f"{3.0:5.1f} "
            f"{'upper':10s}{rad:6.2f}{stark:6.2f}{vdw:6.2f}K14  0 0  0 0.000  0 0.000    0    0\n"
        )
    path.write_text(text)
    return path


def write_moog(path: Path) -> Path:
    """The lines as linemake writes them, and ionised barium in one of its isotopes."""
    numbers = {"Mg": 12, "Ca": 20, "Ti": 22, "Cr": 24, "Fe": 26, "Ni": 28}
    text = "made of laboratory data\n"
    for symbol, ion, air, low, _, gf, _, _, vdw in LINES:
        text += f"{air:10.4f}{numbers[symbol] + (ion - 1) / 10:10.1f}{low:10.3f}{gf:10.3f}{vdw:10.3f}\n"
    text += f"{6141.7130:10.4f}{'56.1137':>10s}{0.704:10.3f}{-0.032:10.3f}\n"
    path.write_text(text)
    return path


def write_ges(path: Path) -> Path:
    """The lines as VizieR's table of the Gaia-ESO list, and one of europium 151."""
    from astropy.table import Table

    rows = [
        (symbol, ion, 0, air, gf, low, rad, stark, vdw)
        for symbol, ion, air, low, _, gf, rad, stark, vdw in LINES
    ]
    rows.append(("Eu", 2, 151, 6645.0940, 0.12, 1.380, 0.0, 0.0, 0.0))
    names = ("Element", "Ion", "Isotope", "lambda", "loggf", "Elow", "Rad-damp", "Sta-damp", "Vdw-damp")
    Table(rows=rows, names=names).write(path, overwrite=True)
    return path
