"""The layer of gas of `phdl_catalog.emulator.line_formation` as one loop over stars, derivatives included.

A fit asks for a few stars at a time, over and over; as operations of torch on so few numbers the layer costs
as much as the spectra.  All arrays are float64.
"""

from __future__ import annotations

import math

import numpy as np

from phdl_catalog.spectra import loops

#: Temperature of the layer in units of teff, and its optical depth.
TEMPERATURE, DEPTH = 0.85, 0.3

#: log10 of optical depth times mass per hydrogen nucleus [g] over particles per hydrogen nucleus: times
#: gravity over opacity it is the pressure of hydrogen.
LOG_WEIGHT = math.log10(DEPTH * 1.4 * 1.6735e-24 / 1.085)

#: log10 of the opacity of H- per neutral hydrogen and electron pressure, without its dependence on
#: temperature [cm^4 / dyn]; and of that what is linear in theta.
LOG_OPACITY, OPACITY_SLOPE = math.log10(4.158e-10 * 3e-17), 0.754

#: Rayleigh scattering by a hydrogen atom at 4000 Angstrom [cm^2]: the floor of the opacity.
RAYLEIGH = 2.3e-27

#: Saha's equation for pressures: log10 of 2 (2 pi m)^1.5 (k T)^2.5 / h^3 at theta = 1 [dyn/cm^2].  The
#: weights of the donors have that 2 as well, so the layer is more ionised than its temperature
#: says; models are trained with it, and nothing but the choice of features depends on it.
SAHA = 9.0801

#: Newton steps for the electron pressure; four bring double precision from anywhere in a grid.
NEWTON_STEPS = 4

#: Excitation of the lower level of the Balmer lines [eV].
BALMER = 10.199

LN10 = math.log(10.0)

#: Rows of the constants of dissociation.
_CO, _CH, _CN, _C2, _N2, _NH, _OH, _MGH = range(8)

#: What features are differentiated by: theta, log10 of the electron pressure, logg, abundances of C, N and O.
_THETA, _PRESSURE, _GRAVITY, _CARBON, _VARIABLES = 0, 1, 2, 3, 6


@loops.compiled
def _exp10(x):
    return np.exp(LN10 * x)


@loops.compiled
def _constant(constants, which, theta):
    """log10 of a constant of dissociation."""
    return constants[which, 0] + theta * (constants[which, 1] + theta * constants[which, 2])


@loops.compiled
def _constant_slope(constants, which, theta):
    return constants[which, 1] + 2.0 * constants[which, 2] * theta


@loops.compiled
def _electron_pressure(gravity, opacity, fe_h, saha, atoms, hydrogen_saha):
    """log10 of the electron pressure at which electrons are as many as ions."""
    balance = gravity + LOG_WEIGHT - opacity
    metals = 0.5 * (balance - 4.0 + fe_h)
    pressure = max(metals, min((balance + hydrogen_saha) / 3.0, 0.5 * balance))
    for _ in range(NEWTON_STEPS):
        electrons = _exp10(pressure)
        ions = neutral = 0.0
        for donor in range(len(saha)):
            share = 1.0 / (saha[donor] + electrons)
            ionised = atoms[donor] * saha[donor] * share
            ions += ionised
            neutral += ionised * share
        absorption = _exp10(opacity + pressure)
        misfit = pressure - balance - opacity + np.log10(absorption + RAYLEIGH) - np.log10(ions)
        slope = 1.0 + absorption / (absorption + RAYLEIGH) + electrons * neutral / ions
        pressure -= misfit / slope
    return pressure


@loops.compiled
def _molecules(constants, theta, hydrogen, of_carbon, of_nitrogen, of_oxygen, values, slopes):
    """log10 of the pressures of CH, CN, C2, NH and OH, and derivatives by theta, hydrogen, C, N and O."""
    k_co, k_n2 = _exp10(_constant(constants, _CO, theta)), _exp10(_constant(constants, _N2, theta))
    with_ch = _exp10(hydrogen - _constant(constants, _CH, theta))
    with_nh = _exp10(hydrogen - _constant(constants, _NH, theta))
    with_oh = _exp10(hydrogen - _constant(constants, _OH, theta))
    carbon, oxygen = _exp10(of_carbon + hydrogen), _exp10(of_oxygen + hydrogen)
    nitrogen = _exp10(of_nitrogen + hydrogen)
    in_ch, in_nh, in_oh = 1.0 + with_ch, 1.0 + with_nh, 1.0 + with_oh
    # Free carbon x: in_ch x + x y / K = carbon with free oxygen y = oxygen / (in_oh + x / K).
    half = 0.5 * (in_ch * in_oh * k_co + oxygen - carbon)
    product = in_ch * in_oh * k_co * carbon
    root = np.sqrt(half * half + product)
    free_carbon = (product / (half + root) if half > 0.0 else root - half) / in_ch
    free_oxygen = oxygen / (in_oh + free_carbon / k_co)
    # Free nitrogen x: in_nh x + 2 x^2 / K = nitrogen.
    free_nitrogen = 2.0 * nitrogen / (in_nh + np.sqrt(in_nh * in_nh + 8.0 * nitrogen / k_n2))
    c, n, o = np.log10(free_carbon), np.log10(free_nitrogen), np.log10(free_oxygen)
    values[0] = c + hydrogen - _constant(constants, _CH, theta)
    values[1] = c + n - _constant(constants, _CN, theta)
    values[2] = c + c - _constant(constants, _C2, theta)
    values[3] = n + hydrogen - _constant(constants, _NH, theta)
    values[4] = o + hydrogen - _constant(constants, _OH, theta)

    # Carbon = x + z and oxygen = y + z, with z in CO and the rest free or in hydrides.
    x, y, z = in_ch * free_carbon, in_oh * free_oxygen, free_carbon * free_oxygen / k_co
    single, double = in_nh * free_nitrogen, 2.0 * free_nitrogen * free_nitrogen / k_n2
    determinant = x * y + x * z + y * z
    for by in range(5):
        by_theta, by_hydrogen = (1.0 if by == 0 else 0.0), (1.0 if by == 1 else 0.0)
        of_c, of_n, of_o = by_hydrogen, by_hydrogen, by_hydrogen
        if by == 2:
            of_c += 1.0
        elif by == 3:
            of_n += 1.0
        elif by == 4:
            of_o += 1.0
        in_co = by_theta * _constant_slope(constants, _CO, theta)
        in_n2 = by_theta * _constant_slope(constants, _N2, theta)
        ch = by_hydrogen - by_theta * _constant_slope(constants, _CH, theta)
        nh = by_hydrogen - by_theta * _constant_slope(constants, _NH, theta)
        oh = by_hydrogen - by_theta * _constant_slope(constants, _OH, theta)
        right_c = (x + z) * of_c - x * with_ch / in_ch * ch + z * in_co
        right_o = (y + z) * of_o - y * with_oh / in_oh * oh + z * in_co
        right_n = (single + double) * of_n - single * with_nh / in_nh * nh + double * in_n2
        c = ((y + z) * right_c - z * right_o) / determinant
        o = ((x + z) * right_o - z * right_c) / determinant
        n = right_n / (single + 2.0 * double)
        slopes[0, by] = c + ch
        slopes[1, by] = c + n - by_theta * _constant_slope(constants, _CN, theta)
        slopes[2, by] = 2.0 * c - by_theta * _constant_slope(constants, _C2, theta)
        slopes[3, by] = n + nh
        slopes[4, by] = o + oh


@loops.compiled
def _feature_slopes(
    constants, theta, by_theta, by_pressure, fraction, ionisation, molecules, magnesium, iron, neutrals,
    slopes,
):  # fmt: skip
    """Derivatives of all features by the variables of the layer; what is `direct` is not here."""
    slopes[:] = 0.0
    slopes[0, _PRESSURE] = 1.0
    row = 1
    for molecule in molecules:
        slopes[row, _THETA] = molecule[0] - molecule[1] * by_theta
        slopes[row, _PRESSURE] = -molecule[1] * by_pressure
        slopes[row, _GRAVITY] = molecule[1] - 1.0
        slopes[row, _CARBON:] = molecule[2:]
        row += 1
    slopes[row, _THETA] = -fraction[magnesium] * ionisation[magnesium] - 2.0 * by_theta
    slopes[row, _THETA] -= _constant_slope(constants, _MGH, theta)
    slopes[row, _PRESSURE] = fraction[magnesium] - 2.0 * by_pressure
    slopes[row, _GRAVITY] = 1.0
    slopes[row + 1, _THETA] = (1.0 - fraction[iron]) * ionisation[iron] - by_theta
    slopes[row + 1, _PRESSURE] = fraction[iron] - by_pressure - 1.0
    row += 2
    # The first of the neutral atoms is carbon.
    slopes[row, _CARBON] = 1.0
    for donor in neutrals:
        slopes[row, _THETA] = -fraction[donor] * ionisation[donor] - by_theta
        slopes[row, _PRESSURE] = fraction[donor] - by_pressure
        row += 1
    slopes[row, _THETA] = -BALMER - by_theta
    slopes[row, _PRESSURE] = -by_pressure


@loops.compiled
def line_formation(
    first, stop, labels, atmosphere, mix, solar, energy, partition, cno, metals, neutrals, constants, direct,
    features, jacobian,
):  # fmt: skip
    """Features of label vectors, and their derivatives by the labels.

    Parameters
    ----------
    first, stop : int
        Which of the N label vectors.
    labels : (N, L)
    atmosphere : (3,) int
        Columns of teff, logg and [Fe/H].
    mix : (E, L)
        log10 of the atoms of each element, per unit of each label.
    solar : (E,)
        log10 of atoms per hydrogen nucleus where the labels are 0.
    energy, partition : (D,)
        Of the donors of electrons, the first D elements.
    cno, metals, neutrals : (3,), (2,), (7,) int
        Which elements are C, N and O; Mg and Fe; and the neutral atoms among the features.
    constants : (8, 3)
        Of dissociation, of CO, CH, CN, C2, N2, NH, OH and MgH.
    direct : (F, L)
        Derivatives of features that follow an abundance alone.
    features, jacobian : (N, F), (N, F, L)
        What is found.
    """
    size, donors = labels.shape[1], len(energy)
    abundance = np.empty(len(solar))
    saha, atoms, ionised = np.empty(donors), np.empty(donors), np.empty(donors)
    fraction, ionisation = np.empty(donors), np.empty(donors)
    along = np.empty(size)
    bound, bound_slopes = np.empty(5), np.empty((5, 5))
    slopes = np.empty((features.shape[1], _VARIABLES))
    teff, logg, fe_h = atmosphere
    for n in range(first, stop):
        given, found = labels[n], features[n]
        theta = 5040.0 / (TEMPERATURE * given[teff])
        for element in range(len(solar)):
            total, part = solar[element], mix[element]
            for label in range(size):
                total += part[label] * given[label]
            abundance[element] = total
        for donor in range(donors):
            ionised[donor] = partition[donor] + SAHA - 2.5 * np.log10(theta) - theta * energy[donor]
            saha[donor] = _exp10(ionised[donor])
            atoms[donor] = _exp10(abundance[donor])
        opacity = LOG_OPACITY + 2.5 * np.log10(theta) + OPACITY_SLOPE * theta
        pressure = _electron_pressure(given[logg], opacity, given[fe_h], saha, atoms, ionised[0])

        electrons, absorption = _exp10(pressure), _exp10(opacity + pressure)
        by_pressure = absorption / (absorption + RAYLEIGH)
        by_theta = by_pressure * (2.5 / (LN10 * theta) + OPACITY_SLOPE)
        opacity = np.log10(absorption + RAYLEIGH)
        hydrogen = given[logg] + LOG_WEIGHT - opacity
        ions = 0.0
        for donor in range(donors):
            fraction[donor] = saha[donor] / (saha[donor] + electrons)
            ionisation[donor] = -2.5 / (LN10 * theta) - energy[donor]
            ionised[donor] -= pressure
            ions += atoms[donor] * fraction[donor]

        # Electrons = ions holds along every label.
        along[:] = 0.0
        slope, cooler = 1.0 + by_pressure, -by_theta
        for donor in range(donors):
            share = atoms[donor] * fraction[donor] / ions
            slope += share * (1.0 - fraction[donor])
            cooler += share * (1.0 - fraction[donor]) * ionisation[donor]
            part = mix[donor]
            for label in range(size):
                along[label] += share * part[label]
        cooling = -theta / given[teff]
        along[teff] += cooler * cooling
        along[logg] += 1.0
        along /= slope

        c, nitrogen, o = abundance[cno[0]], abundance[cno[1]], abundance[cno[2]]
        _molecules(constants, theta, hydrogen, c, nitrogen, o, bound, bound_slopes)
        magnesium, iron = metals
        found[0] = pressure
        for molecule in range(5):
            found[1 + molecule] = bound[molecule] - opacity - hydrogen
        row = 6
        for donor in (magnesium, iron):
            found[row] = abundance[donor] - np.log1p(_exp10(ionised[donor])) / LN10 - opacity
            row += 1
        found[6] += hydrogen - _constant(constants, _MGH, theta)
        found[7] += ionised[iron]
        for donor in neutrals:
            found[row] = abundance[donor] - np.log1p(_exp10(ionised[donor])) / LN10 - opacity
            row += 1
        found[row] = -theta * BALMER - opacity

        _feature_slopes(
            constants, theta, by_theta, by_pressure, fraction, ionisation, bound_slopes, magnesium, iron,
            neutrals, slopes,
        )  # fmt: skip
        of_carbon, of_nitrogen, of_oxygen = mix[cno[0]], mix[cno[1]], mix[cno[2]]
        for row in range(features.shape[1]):
            out, at_once = jacobian[n, row], direct[row]
            by_electrons, by_carbon = slopes[row, _PRESSURE], slopes[row, _CARBON]
            by_nitrogen, by_oxygen = slopes[row, _CARBON + 1], slopes[row, _CARBON + 2]
            for label in range(size):
                out[label] = (
                    at_once[label]
                    + by_electrons * along[label]
                    + by_carbon * of_carbon[label]
                    + by_nitrogen * of_nitrogen[label]
                    + by_oxygen * of_oxygen[label]
                )
            out[teff] += slopes[row, _THETA] * cooling
            out[logg] += slopes[row, _GRAVITY]
