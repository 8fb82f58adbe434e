"""Named bits that say what is wrong with a fit, and with one label of it.

A bit keeps its meaning for ever: new ones take the next free number, and none is used again.
"""

from __future__ import annotations

import enum


class FitFlag(enum.IntFlag):
    """What is wrong with a fit as a whole; 0 is a good fit."""

    NO_DATA = 1
    """Too few usable pixels to fit anything; the row has no labels."""

    FAILED = 2
    """The data are not those of a spectrum (constant, negative, absurd); the row has no labels."""

    NOT_CONVERGED = 4
    """The last step was still larger than the tolerance, in units of the error."""

    BAD_VELOCITY = 8
    """No unique peak in the cross-correlation, or the final velocity is far from it or uncertain."""

    OUTSIDE_GRID = 16
    """Labels or the minimum of chi2 are outside what the model was trained on, or it is a carbon star."""

    POOR_FIT = 32
    """The residuals are far larger than the noise and than what the model's own errors explain."""

    LOW_SNR = 64
    """The median signal to noise per pixel is under the limit of `FitOptions.low_snr`."""

    AT_BOUND = 128
    """Effective temperature, gravity or [Fe/H] is at a bound of the fit, or nearer to it than its error."""

    MOSTLY_MASKED = 256
    """Less than half of the model's pixels were usable."""

    EMISSION_LINES = 2048
    """Light over the model in hydrogen lines or [O III], [N II], [S II]: an active star or a nebula."""

    DOUBLE_LINED = 4096
    """The residuals look like a second set of lines, at another velocity: two stars in one spectrum."""

    QUARANTINED = 1024
    """The fit of this spectrum broke its worker or raised an error every time; the row has no labels."""


class LabelFlag(enum.IntFlag):
    """What is wrong with one label; 0 is a good label."""

    AT_BOUND = 1
    """The data alone would put the value at a bound of the fit or beyond: no measurement."""

    OUTSIDE_GRID = 2
    """The value is outside the range of the training grid, or the fit as a whole is."""

    UNCONSTRAINED = 4
    """Spectra at the two ends of the label's range differ by less than five sigma: no measurement."""

    NO_FIT = 8
    """There is no value, because the fit has none."""


def flag_names(value: int, kind: type[enum.IntFlag] = FitFlag) -> list[str]:
    """Names of the bits that are set, lower case, in order of the bits.

    Parameters
    ----------
    value : int
        Bitmask of `kind`.
    kind : type
        `FitFlag` or `LabelFlag`.
    """
    return [member.name.lower() for member in kind if member & int(value) and member.name]
