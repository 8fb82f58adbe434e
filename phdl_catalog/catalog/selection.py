"""Which spectra are used, and which stars are subgiants: the rule, and the rule taken apart for one star.

docs/explanation/selection.md says where the numbers come from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phdl_catalog.errors import InputError
from phdl_catalog.fitting.flags import FitFlag, flag_names

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]

#: Labels the rule looks at; calibrated ones where the calibration set has them.
SELECTION_LABELS = ("teff", "logg", "fe_h")


@dataclass(frozen=True)
class Line:
    """A line through points, straight between them, constant before the first and after the last.

    Parameters
    ----------
    points : tuple of (float, float)
        (abscissa, ordinate), abscissae ascending.
    """

    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if not self.points or any(a[0] >= b[0] for a, b in zip(self.points, self.points[1:], strict=False)):
            raise InputError(f"a line needs points with ascending abscissae, not {self.points}")

    def __call__(self, abscissa: ArrayLike) -> Floats:
        """Ordinate at each abscissa; NaN where that is NaN."""
        x, y = np.array(self.points, dtype=float).T
        return np.asarray(np.interp(np.asarray(abscissa, dtype=np.float64), x, y), dtype=np.float64)


@dataclass(frozen=True)
class SubgiantSelection:
    """Subgiants: past the turn-off, not yet on the red giant branch; and the quality that is asked for.

    The five terms about the star, all on labels as published:

    ==============  ====================================================================
    teff_window     ``teff_min <= teff <= teff_max``
    turn_off        ``logg <= turn_off(teff + turn_off_shift * fe_h)``
    floor           ``logg >= logg_min``
    giant_branch    ``teff >= giant_branch(fe_h)``
    metallicity     ``fe_h >= fe_h_min``
    ==============  ====================================================================

    and the two about the spectrum: ``snr_g >= snr_g_min``, and none of `rejecting_flags`.

    Parameters
    ----------
    teff_min, teff_max : float
        Range of effective temperature [K].
    turn_off : Line
        Highest logg of a subgiant [dex] against temperature shifted by metallicity [K].
    turn_off_shift : float
        Metal-poor turn-offs are hotter: shift of the temperature by metallicity [K/dex].
    logg_min : float
        Lowest logg, that of the base of the giant branch [dex].
    giant_branch : Line
        Temperature of the base of the red giant branch [K] against fe_h [dex].
    fe_h_min : float
        Lowest metallicity [dex].
    snr_g_min : float
        Lowest signal-to-noise ratio a pixel in g of a usable spectrum.
    rejecting_flags : tuple of str
        Names of the bits of `FitFlag` that make a spectrum unusable.
    same_star_arcsec : float
        Spectra without a Gaia identifier closer than this are of one star [arcsec].

    Notes
    -----
    The lines follow isochrones of 2 to 13 Gyr between [Fe/H] = -2.5 and 0.5, with a margin of 0.1 dex in
    logg and 50 K in teff for errors of the labels; Xiang & Rix (2022, Nature 603, 599) select in the same
    region with absolute magnitudes in place of logg.
    """

    teff_min: float = 4800.0
    teff_max: float = 6800.0
    turn_off: Line = Line(((6000.0, 4.10), (6800.0, 3.94)))
    turn_off_shift: float = 350.0
    logg_min: float = 3.3
    giant_branch: Line = Line(
        ((-2.5, 5450.0), (-1.5, 5350.0), (-1.0, 5200.0), (-0.5, 5000.0), (0.0, 4850.0), (0.5, 4700.0))
    )
    fe_h_min: float = -2.5
    snr_g_min: float = 20.0
    rejecting_flags: tuple[str, ...] = ("no_data", "failed", "not_converged", "bad_velocity", "outside_grid")
    same_star_arcsec: float = 3.0

    def __post_init__(self) -> None:
        known = {str(flag.name).lower() for flag in FitFlag}
        if unknown := sorted(set(self.rejecting_flags) - known):
            raise InputError(
                f"no fit flag is called {', '.join(unknown)}; there are: {', '.join(sorted(known))}"
            )

    @property
    def rejecting_mask(self) -> int:
        """Bits of `FitFlag` that make a spectrum unusable."""
        return int(sum(FitFlag[name.upper()] for name in set(self.rejecting_flags)))

    def is_subgiant(self, teff: ArrayLike, logg: ArrayLike, fe_h: ArrayLike) -> Booleans:
        """Whether stars are in the region of subgiants.

        Parameters
        ----------
        teff, logg, fe_h : (N,) array_like
            Labels as published [K, dex, dex]; NaN for missing, and then the star is out.

        Returns
        -------
        (N,) bool array
        """
        t, g, m = (np.asarray(array, dtype=float) for array in (teff, logg, fe_h))
        return (
            (t >= self.teff_min)
            & (t <= self.teff_max)
            & (g <= self.turn_off(t + self.turn_off_shift * m))
            & (g >= self.logg_min)
            & (t >= self.giant_branch(m))
            & (m >= self.fe_h_min)
        )

    def terms(
        self, teff: float | None, logg: float | None, fe_h: float | None, snr_g: float | None, flags: int
    ) -> tuple[Term, ...]:
        """The rule for one spectrum, term by term.

        Parameters
        ----------
        teff, logg, fe_h : float, optional
            Labels as published [K, dex, dex]; None for missing.
        snr_g : float, optional
            Signal-to-noise ratio of the spectrum.
        flags : int
            Bits of `FitFlag`.

        Returns
        -------
        tuple of Term
            The star is in if all of them passed.
        """
        t, g, m, s = (np.nan if value is None else float(value) for value in (teff, logg, fe_h, snr_g))
        found = flag_names(flags & self.rejecting_mask)
        shifted = t + self.turn_off_shift * m
        return (
            Term.compare("snr_g", s, ">=", self.snr_g_min),
            Term(
                "flags",
                not found,
                None,
                None,
                f"{', '.join(found) or 'none'} of {', '.join(self.rejecting_flags)}",
            ),
            Term.compare("teff_window", t, ">=", self.teff_min, "teff"),
            Term.compare("teff_window", t, "<=", self.teff_max, "teff"),
            Term.compare("turn_off", g, "<=", float(self.turn_off(shifted)), "logg"),
            Term.compare("floor", g, ">=", self.logg_min, "logg"),
            Term.compare("giant_branch", t, ">=", float(self.giant_branch(m)), "teff"),
            Term.compare("metallicity", m, ">=", self.fe_h_min, "fe_h"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, as they stand in ``catalog_release.selection``."""
        document = dataclasses.asdict(self)
        document["turn_off"] = [list(point) for point in self.turn_off.points]
        document["giant_branch"] = [list(point) for point in self.giant_branch.points]
        document["rejecting_flags"] = list(self.rejecting_flags)
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> SubgiantSelection:
        """Inverse of `to_dict`.

        Raises
        ------
        InputError
            If the document has a name this selection has not.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(document) - known):
            raise InputError(f"a selection has no {', '.join(unknown)}; it has: {', '.join(sorted(known))}")
        values = dict(document)
        for name in ("turn_off", "giant_branch"):
            if name in values:
                values[name] = Line(tuple((float(x), float(y)) for x, y in values[name]))
        if "rejecting_flags" in values:
            values["rejecting_flags"] = tuple(values["rejecting_flags"])
        return cls(**values)


@dataclass(frozen=True)
class Term:
    """One term of the rule, for one star.

    Parameters
    ----------
    name : str
        Name of the term.
    passed : bool
        Whether it holds; it does not where a value is missing.
    value, limit : float, optional
        What was compared; None where it is missing or no number.
    text : str
        The comparison with its numbers.
    """

    name: str
    passed: bool
    value: float | None
    limit: float | None
    text: str

    @classmethod
    def compare(
        cls, name: str, value: float, relation: Literal[">=", "<="], limit: float, quantity: str | None = None
    ) -> Term:
        """A comparison; NaN is a missing value, and fails."""
        passed = value >= limit if relation == ">=" else value <= limit
        shown = "missing" if np.isnan(value) else f"{value:.6g}"
        bound = "missing" if np.isnan(limit) else f"{limit:.6g}"
        return cls(
            name=name,
            passed=bool(passed),
            value=None if np.isnan(value) else value,
            limit=None if np.isnan(limit) else limit,
            text=f"{quantity or name} {shown} {relation} {bound}",
        )
