"""Fitting spectra: from arrays of flux to labels, errors and flags."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from phdl_catalog.emulator.imperfection import Imperfection
from phdl_catalog.errors import InputError
from phdl_catalog.fitting.avoid import avoided
from phdl_catalog.fitting.coarse import CoarseFit
from phdl_catalog.fitting.forward import ForwardModel, Model
from phdl_catalog.fitting.line_list import Verdict, clearly_better, describes, doubtful, first_verdict
from phdl_catalog.fitting.objective import Objective, Observation
from phdl_catalog.fitting.optimiser import Beginning, Solution
from phdl_catalog.fitting.options import FitOptions
from phdl_catalog.fitting.pixels import fitted_pixels
from phdl_catalog.fitting.prepare import GivenSpectra, PreparedSpectra, check_spectra, place, prepare_spectra
from phdl_catalog.fitting.prior import KnownLabels, combine, scaled_prior, shared_prior
from phdl_catalog.fitting.result import FitResult, FittedPixels
from phdl_catalog.fitting.shortening import shortened
from phdl_catalog.fitting.solver import Solver
from phdl_catalog.fitting.starts import make_templates
from phdl_catalog.fitting.uncertainty import Estimate
from phdl_catalog.fitting.velocity import Alignment, VelocitySearch
from phdl_catalog.spectra import loops
from phdl_catalog.spectra.grid import PixelGrid

#: Templates are not the star: a pseudo-continuum as supple as that of the fit would imitate the differences,
#: so the search for the velocity has knots so many times farther apart.
_SEARCH_STIFFNESS = 3.0


@dataclass(frozen=True)
class Fitted:
    """Where a batch was in the survey's frame, and where its fit ended.

    Parameters
    ----------
    alignment : Alignment
    solution : Solution
    """

    alignment: Alignment
    solution: Solution


@dataclass(frozen=True)
class _Begun:
    """Fits of some spectra of a batch that have begun.

    Parameters
    ----------
    spectra : PreparedSpectra
        Of the batch.
    rows : (N,) int64
        Which of them.
    alignment : Alignment
        Where they are in the survey's frame.
    observation : Observation
        Seen at rest.
    beginning : Beginning
        Of the optimiser.
    """

    spectra: PreparedSpectra
    rows: NDArray[np.int64]
    alignment: Alignment
    observation: Observation
    beginning: Beginning

    def some(self, which: NDArray[np.int64], solver: Solver) -> _Begun:
        """Some of these, begun anew."""
        index = torch.from_numpy(which).to(solver.forward.device)
        observation = self.observation.rows(index)
        return _Begun(
            self.spectra,
            self.rows[which],
            self.alignment.rows(index),
            observation,
            solver.optimiser.begin(observation, self.beginning.point.parameters[index]),
        )


class Fitter:
    """Fits spectra with one model; worth keeping, because templates and bases are made only once.

    Parameters
    ----------
    model : Model
        An emulator, from `phdl_catalog.load_model`.
    options : FitOptions, optional
        Choices; the defaults are those of the catalogue.
    device : str
        ``cpu`` or ``cuda``, the model must be there too.
    imperfection : Imperfection, optional
        By which the model's spectra are corrected, in place of what its file says; None: not corrected.

    Raises
    ------
    ModelError
        If the model cannot be used for a fit.
    """

    def __init__(
        self,
        model: Model,
        options: FitOptions | None = None,
        device: str = "cpu",
        imperfection: Imperfection | Literal["of the model"] | None = "of the model",
    ) -> None:
        self.model = model
        self.options = options or FitOptions()
        self.device = torch.device(device)
        choice = self.options
        if imperfection == "of the model":
            imperfection = getattr(model, "imperfection", None)
        if choice.correct_model is False:
            imperfection = None
        compiled = shortened(model)
        forward = ForwardModel(model, self.device, choice.margin, imperfection, compiled)
        templates = make_templates(model, forward)
        grid = forward.grid
        spacing = _SEARCH_STIFFNESS * choice.knot_spacing
        self._search = VelocitySearch(grid, templates, choice.largest_velocity, spacing, choice.arm_join)
        self._coarse = CoarseFit(forward, templates, spacing, choice.arm_join)
        self._solver = Solver(model, choice, forward, templates, imperfection)
        self._pure: ForwardModel | None = None
        if imperfection is not None and choice.correct_model is None:
            self._pure = ForwardModel(model, self.device, choice.margin, compiled=compiled)
        self._prior = shared_prior(choice.priors, forward.label_names)

    def fit(
        self,
        wavelength: ArrayLike,
        flux: ArrayLike,
        ivar: ArrayLike,
        mask: ArrayLike | None = None,
        *,
        known: KnownLabels | None = None,
        keep_pixels: bool = False,
    ) -> FitResult:
        """Fit spectra; parameters, result and errors are those of `fit_spectra`."""
        given = check_spectra(wavelength, flux, ivar, mask)
        prior = combine(self._prior, known, len(given))
        result, verdict = self._fit_all(given, prior, keep_pixels, self._pure)
        again = np.flatnonzero(verdict != Verdict.SETTLED)
        if len(again):
            some, known_of_some = given.rows(again), prior.rows(again)
            sure = verdict[again] == Verdict.COMPUTED
            other, doubt = self.uncorrected._fit_all(some, known_of_some, keep_pixels, self.forward)
            mistaken = np.flatnonzero(sure & ((doubt == Verdict.DOUBTFUL) | ~describes(other)))
            if len(mistaken):
                mine, _ = self._fit_all(some.rows(mistaken), known_of_some.rows(mistaken), keep_pixels)
                result.put(again[mistaken], mine)
                sure[mistaken] = False
            better = sure | clearly_better(other, result.rows(again))
            result.put(again[better], other.rows(np.flatnonzero(better)))
        return result

    @cached_property
    def uncorrected(self) -> Fitter:
        """The same without the model's correction for real stars."""
        if self.options.correct_model is False:
            return self
        return Fitter(self.model, replace(self.options, correct_model=False), str(self.device))

    def _fit_all(
        self, given: GivenSpectra, prior: KnownLabels, keep_pixels: bool, other: ForwardModel | None = None
    ) -> tuple[FitResult, NDArray[np.int8]]:
        """Fit spectra; and a verdict (N,) on each: those that are found to be computed get no labels.

        `other` is the other version of the model; without it all are fitted and none is doubted.
        """
        pixels = FittedPixels.empty(given.grid, len(given)) if keep_pixels else None
        result = FitResult.empty(self.forward.label_names, len(given), pixels)
        verdict = np.full(len(given), Verdict.SETTLED, dtype=np.int8)
        leave_out = self._left_out(given.grid)
        threads = torch.get_num_threads() if loops.wanted(self.device) else 1
        batch = self.options.together(self.device.type, len(given), threads)

        def fit_part(start: int) -> None:
            numbers = np.arange(start, min(start + batch, len(given)))
            spectra = prepare_spectra(given.rows(numbers), leave_out)
            result.flags[numbers] = spectra.flags
            result.snr[numbers] = spectra.snr
            result.n_pixels[numbers] = spectra.n_pixels
            good = np.flatnonzero(spectra.flags == 0)
            if len(good):
                with torch.no_grad():
                    begun = self._begin(spectra, good, prior.rows(numbers[good]))
                    for rows, verdicts, part in self._conclude(begun, keep_pixels, other):
                        verdict[numbers[rows]] = verdicts
                        if part is not None:
                            result.put(numbers[rows], part)

        loops.in_threads(fit_part, range(0, len(given), batch), threads)
        return result, verdict

    def _begin(self, spectra: PreparedSpectra, good: NDArray[np.int64], known: KnownLabels) -> _Begun:
        search = self._search
        observed = search.observed_grid
        flux = torch.from_numpy(place(spectra.flux[good], spectra.grid, observed)).to(self.device)
        ivar = torch.from_numpy(place(spectra.ivar[good], spectra.grid, observed)).to(self.device)
        alignment = search.search(flux, ivar)
        observation = self._solver.observe(
            search.aligned(flux, alignment.pixels),
            search.aligned(ivar, alignment.pixels),
            alignment.templates[:, 0],
            scaled_prior(known, self.forward.middle, self.forward.half_range),
        )
        start = self._coarse.run(observation, alignment.templates, alignment.fraction)
        return _Begun(spectra, good, alignment, observation, self._solver.optimiser.begin(observation, start))

    def _conclude(
        self, begun: _Begun, keep_pixels: bool, other: ForwardModel | None
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int8] | Verdict, FitResult | None]]:
        """Rows of a batch, verdicts on them, and their results."""
        solver = self._solver
        on_lines = np.full(len(begun.rows), Verdict.DOUBTFUL, dtype=np.int8)
        if other is not None and other is self._pure:
            on_lines = first_verdict(other, solver.objective, begun.observation, begun.beginning)
            is_sure = on_lines == Verdict.COMPUTED
            sure, open_ = np.flatnonzero(is_sure), np.flatnonzero(~is_sure)
            if len(sure):
                yield begun.rows[sure], Verdict.COMPUTED, None
                if len(open_) == 0:
                    return
                begun, on_lines = begun.some(open_, solver), on_lines[open_]
        solution = solver.optimiser.run(begun.observation, begun.beginning)
        part = solver.result(begun.spectra.snr[begun.rows], begun.alignment, solution)
        if keep_pixels:
            first = self.forward.grid.first
            pixels = fitted_pixels(begun.spectra, begun.rows, first, begun.alignment, solution)
            part = replace(part, pixels=pixels)
        asked = np.flatnonzero(on_lines == Verdict.DOUBTFUL)
        verdict = np.full(len(part), Verdict.SETTLED, dtype=np.int8)
        if other is not None and len(asked):
            index = torch.from_numpy(asked).to(self.device)
            doubt = doubtful(other, solver.objective, solution, index).cpu().numpy()
            verdict[asked[doubt]] = Verdict.DOUBTFUL
        yield begun.rows, verdict, part

    def solve(
        self,
        wavelength: ArrayLike,
        flux: ArrayLike,
        ivar: ArrayLike,
        mask: ArrayLike | None = None,
        labels: ArrayLike | None = None,
    ) -> Fitted | None:
        """The optimiser's own view of fits of spectra (P,) or (N, P); None if one of them cannot be fitted.

        Fits begin at `labels` (L,) or (N, L) if they are given, and not where the search for a start ends.
        """
        given = check_spectra(wavelength, flux, ivar, mask)
        spectra = prepare_spectra(given, self._left_out(given.grid))
        if spectra.flags.any():
            return None
        rows = np.arange(len(given))
        with torch.no_grad():
            begun = self._begin(spectra, rows, combine(self._prior, None, len(given)).rows(rows))
            beginning, optimiser = begun.beginning, self._solver.optimiser
            if labels is not None:
                parameters = self.forward.parameters(self._one_each(labels, len(given)))
                parameters[:, -2] = beginning.point.parameters[:, -2]
                beginning = optimiser.begin(begun.observation, parameters)
            return Fitted(begun.alignment, optimiser.run(begun.observation, beginning))

    def _one_each(self, labels: ArrayLike, size: int) -> torch.Tensor:
        """Labels (size, L) of spectra, the same for all or not."""
        array, shape = np.asarray(labels, dtype=np.float64), (size, self.forward.n_labels)
        if array.shape not in (shape[1:], shape):
            raise InputError(f"labels has shape {array.shape}, not {shape[1:]} or {shape}")
        return torch.tensor(np.broadcast_to(array, shape), device=self.device)

    def estimate(self, solution: Solution) -> Estimate:
        """Labels and errors of what `solve` returned."""
        return self._solver.estimate(solution)

    @property
    def forward(self) -> ForwardModel:
        """Spectra of the model on the pixels of the fit."""
        return self._solver.forward

    @property
    def objective(self) -> Objective:
        """What is minimised."""
        return self._solver.objective

    def _left_out(self, grid: PixelGrid) -> NDArray[np.bool_]:
        """Pixels (P,) that no fit uses: avoided bands, and what no shift brings onto the model's."""
        choice = self.options
        out = avoided(
            grid.wavelength, choice.mask_telluric, choice.mask_interstellar, choice.mask_arm_overlap
        )
        reached = self._search.observed_grid
        number = np.arange(grid.first, grid.stop)
        return out | (number < reached.first) | (number >= reached.stop)


def fit_spectra(
    wavelength: ArrayLike,
    flux: ArrayLike,
    ivar: ArrayLike,
    mask: ArrayLike | None = None,
    model: Model | None = None,
    device: str = "cpu",
    *,
    options: FitOptions | None = None,
    known: KnownLabels | None = None,
    keep_pixels: bool = False,
) -> FitResult:
    """Fit labels, velocity and line width to spectra.

    Every spectrum gets a row: one that cannot be fitted has NaN and a flag that says why, never an exception.
    A spectrum's result does not depend on the others that are given with it, up to rounding.

    Parameters
    ----------
    wavelength : (P,) array_like
        Vacuum wavelengths on the survey's grid, ``log10(wavelength) = k * 1e-4`` with integer k [Angstrom].
    flux, ivar : (P,) or (N, P) array_like
        Flux in any units, and its inverse variance; pixels with an `ivar` that is not positive are not used.
    mask : (P,) or (N, P) array_like of bool, optional
        True for a bad pixel.
    model : Model
        An emulator, from `phdl_catalog.load_model`.
    device : str
        ``cpu`` or ``cuda``.
    options : FitOptions, optional
        Choices; the defaults are those of the catalogue.
    known : KnownLabels, optional
        What is known of each star by other means; it takes part in the fit as a Gaussian prior.
    keep_pixels : bool
        Whether to return the fitted model and continuum of each pixel as well.

    Returns
    -------
    FitResult
        N rows, also for a single spectrum (N = 1).

    Raises
    ------
    InputError
        If shapes do not belong together, or wavelengths are not on the grid.
    ModelError
        If the model cannot be used for a fit.

    Notes
    -----
    What belongs to a model takes seconds to make; that of the last call is kept.
    """
    if model is None:
        raise InputError("fit_spectra needs a model: model=load_model('default')")
    options = options or FitOptions()
    if isinstance(model, Hashable):
        parts = tuple(id(getattr(model, name, None)) for name in ("compiled", "imperfection", "error_model"))
        fitter = _kept_fitter(model, options, device, parts)
    else:
        fitter = Fitter(model, options, device)
    return fitter.fit(wavelength, flux, ivar, mask, known=known, keep_pixels=keep_pixels)


@lru_cache(maxsize=1)
def _kept_fitter(model: Model, options: FitOptions, device: str, parts: tuple[int, ...]) -> Fitter:
    """The fitter of the last call; another one if the model has got other parts meanwhile."""
    return Fitter(model, options, device)
