"""Fits of known stars with a correction that they took no part in: what a learnt imperfection is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phdl_catalog.emulator.imperfection import Imperfection
from phdl_catalog.emulator.model import Emulator
from phdl_catalog.fitting.fit import Fitter
from phdl_catalog.fitting.flags import FitFlag
from phdl_catalog.fitting.known_stars import KnownStars
from phdl_catalog.fitting.learning import MeanResidual, learn_imperfection, mean_residual
from phdl_catalog.fitting.options import FitOptions
from phdl_catalog.fitting.result import FitResult

#: Abundances of the Sun that are compared with 0.
_SOLAR_ABUNDANCES = ("mg_fe", "si_fe", "ca_fe", "ti_fe", "cr_fe", "ni_fe")


@dataclass(frozen=True)
class Comparison:
    """Fitted minus known labels.

    Parameters
    ----------
    learnt_from, tested_on : str
    took_part : bool
        Whether the tested stars are among those that were learnt from.
    n : int
        Stars compared: those without a flag.
    flagged : int
        Stars with a flag.
    offset, scatter : dict of float
        Median difference of each label, and 1.48 times the median absolute deviation from it.
    """

    learnt_from: str
    tested_on: str
    took_part: bool
    n: int
    flagged: int
    offset: dict[str, float]
    scatter: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def compare(
    result: FitResult, stars: KnownStars, learnt_from: str, tested_on: str, took_part: bool
) -> Comparison:
    """Summarise fits of known stars; a single star has no scatter, and solar abundances."""
    good = (result.flags & ~int(FitFlag.LOW_SNR)) == 0
    columns = dict(stars.labels)
    if len(stars) == 1:
        columns |= {name: np.zeros(1) for name in _SOLAR_ABUNDANCES if name in result.label_names}
    offset, scatter = {}, {}
    for name, known in columns.items():
        difference = (result.labels[:, result.label_names.index(name)] - known)[good]
        middle = float(np.median(difference)) if len(difference) else float("nan")
        offset[name] = middle
        if len(difference) > 1:
            scatter[name] = float(1.4826 * np.median(np.abs(difference - middle)))
    return Comparison(learnt_from, tested_on, took_part, int(good.sum()), int((~good).sum()), offset, scatter)


@dataclass(frozen=True)
class Learnt:
    """An imperfection, what it was learnt from, and how well it does.

    Parameters
    ----------
    imperfection : Imperfection
        From everything.
    sun, survey : MeanResidual, optional
        What each said.
    comparisons : tuple of Comparison
        Without a correction, with those that the tested stars took no part in, and with the final one.
    """

    imperfection: Imperfection
    sun: MeanResidual | None
    survey: MeanResidual | None
    comparisons: tuple[Comparison, ...]


def learn_and_validate(
    model: Emulator,
    sun: KnownStars | None,
    stars: KnownStars | None,
    watch: Callable[[str], None] | None = None,
) -> Learnt:
    """Learn from the Sun and survey stars, and test each on the other, and halves of the stars on each other.

    Parameters
    ----------
    model : Emulator
        Its own imperfection, if it has one, is not used.
    sun : KnownStars, optional
    stars : KnownStars, optional
    watch : callable, optional
        Told what is being done.
    """
    say = watch or (lambda text: None)
    from_sun = from_stars = None
    if sun is not None:
        say("the Sun with its labels held")
        from_sun = mean_residual(model, sun)
    if stars is not None:
        say("the stars with their labels held")
        from_stars = mean_residual(model, stars)
    final = learn_imperfection(model, from_sun, from_stars)
    tests: list[Comparison] = []

    def test(imperfection: Imperfection | None, on: KnownStars, source: str, took_part: bool) -> None:
        name = "the Sun" if on is sun else "the stars"
        say(f"{name}, corrected by {source}")
        tests.append(compare(_fit(model, imperfection, on), on, source, name, took_part))

    for group in (sun, stars):
        if group is not None:
            test(None, group, "nothing", False)
    if sun is not None and stars is not None and from_sun is not None and from_stars is not None:
        # The stated error needs both, and tells nothing of the labels: it is that of the final correction.
        test(replace(final, correction=from_stars.correction), sun, "the stars", False)
        test(replace(final, correction=from_sun.correction), stars, "the Sun", False)
        say("halves of the stars, each corrected by the Sun and the other half")
        result = _cross_fit(model, from_sun, stars)
        tests.append(compare(result, stars, "the Sun and the other half", "the stars", False))
    for group in (sun, stars):
        if group is not None:
            test(final, group, "everything", True)
    return Learnt(final, from_sun, from_stars, tuple(tests))


def _fit(model: Emulator, imperfection: Imperfection | None, stars: KnownStars) -> FitResult:
    fitter = Fitter(model, FitOptions(correct_model=True), imperfection=imperfection)
    return fitter.fit(stars.grid.wavelength, stars.flux, stars.ivar, stars.bad)


def _cross_fit(model: Emulator, from_sun: MeanResidual, stars: KnownStars) -> FitResult:
    """Every star fitted with a correction from the Sun and the half that it does not belong to."""
    result = FitResult.empty(model.label_names, len(stars))
    for half in range(2):
        rows: NDArray[np.int64] = np.arange(half, len(stars), 2)
        others = np.setdiff1d(np.arange(len(stars)), rows)
        imperfection = learn_imperfection(model, from_sun, mean_residual(model, stars.rows(others)))
        result.put(rows, _fit(model, imperfection, stars.rows(rows)))
    return result
