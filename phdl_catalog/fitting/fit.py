"""Fitting spectra: from arrays of flux to labels, errors and flags."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from phdl_catalog.emulator.expected_error import ExpectedError
from phdl_catalog.emulator.imperfection import Imperfection
from phdl_catalog.errors import InputError, ModelError
from phdl_catalog.fitting.avoid import avoided
from phdl_catalog.fitting.coarse import CoarseFit
from phdl_catalog.fitting.forward import ForwardModel, Model, training_distance
from phdl_catalog.fitting.judge import judge
from phdl_catalog.fitting.kernel import REACH
from phdl_catalog.fitting.line_list import clearly_better, doubtful
from phdl_catalog.fitting.noise import FloorBands
from phdl_catalog.fitting.objective import Objective, Observation
from phdl_catalog.fitting.optimiser import Optimiser, Solution
from phdl_catalog.fitting.options import FitOptions
from phdl_catalog.fitting.pixels import fitted_pixels
from phdl_catalog.fitting.prepare import PreparedSpectra, check_spectra, place, prepare_spectra
from phdl_catalog.fitting.prior import KnownLabels, combine, scaled_prior, shared_prior
from phdl_catalog.fitting.result import FitResult, FittedPixels
from phdl_catalog.fitting.sensitivity import Sensitivity
from phdl_catalog.fitting.starts import make_templates, template_errors
from phdl_catalog.fitting.suspects import find_suspects
from phdl_catalog.fitting.uncertainty import estimate
from phdl_catalog.fitting.velocity import Alignment, VelocitySearch, velocity_of_shift
from phdl_catalog.spectra import loops
from phdl_catalog.spectra.continuum import ContinuumBasis
from phdl_catalog.spectra.grid import PIXEL_VELOCITY, SPEED_OF_LIGHT, PixelGrid

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
        self._imperfection = None if choice.correct_model is False else imperfection
        self._pure: ForwardModel | None = None
        if self._imperfection is not None and choice.correct_model is None:
            self._pure = ForwardModel(model, self.device, choice.margin)
        #: What the model says of its error; None if it says nothing of which pixels err together.
        self._stated: ExpectedError | None = getattr(model, "error_model", None)
        self._forward = ForwardModel(model, self.device, choice.margin, self._imperfection)
        templates = make_templates(model, self._forward)
        grid = self._forward.grid
        self._search = VelocitySearch(
            grid, templates, choice.largest_velocity, _SEARCH_STIFFNESS * choice.knot_spacing, choice.arm_join
        )
        self._templates = templates
        self._sensitivity = Sensitivity.of(self._forward, templates)
        self._coarse = CoarseFit(
            self._forward, templates, _SEARCH_STIFFNESS * choice.knot_spacing, choice.arm_join
        )
        self._objective = Objective(
            self._forward,
            ContinuumBasis.on(grid, choice.knot_spacing, choice.arm_join, self.device),
            FloorBands.on(grid, self.device),
            choice.outlier,
            choice.fit_error_floor,
            self._stated,
        )
        self._optimiser = Optimiser(
            self._objective,
            fit_blur=choice.fit_line_width,
            tolerance=choice.tolerance,
        )
        self._model_variance = template_errors(model, self._forward, templates, self._imperfection)
        amplitude = np.zeros(len(templates.labels))
        pixels = grid.size + 2 * REACH
        if self._stated is not None and self._stated.modes.shape[1] != pixels:
            shape = self._stated.modes.shape
            raise ModelError(f"the modes of the model's error have shape {shape}, not (M, {pixels})")
        if self._stated is not None:
            amplitude = self._stated.amplitude(templates.labels.double().cpu().numpy())
        self._amplitude = torch.as_tensor(amplitude, dtype=torch.float32, device=self.device)
        self._prior = shared_prior(choice.priors, self._forward.label_names)

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
        grid, rows, weights, bad = check_spectra(wavelength, flux, ivar, mask)
        prior = combine(self._prior, known, len(rows))
        leave_out = self._left_out(grid)
        pixels = FittedPixels.empty(grid, len(rows)) if keep_pixels else None
        result = FitResult.empty(self._forward.label_names, len(rows), pixels)
        doubt = np.zeros(len(rows), dtype=np.bool_)
        threads = torch.get_num_threads() if loops.wanted(self.device) else 1
        batch = self.options.together(self.device.type, len(rows), threads)

        def fit_part(start: int) -> None:
            part = slice(start, start + batch)
            spectra = prepare_spectra(
                grid, rows[part], weights[part], bad if len(bad) == 1 else bad[part], leave_out
            )
            numbers = np.arange(start, start + len(spectra.flags))
            self._fit_batch(spectra, numbers, prior.rows(part), result, doubt)

        loops.in_threads(fit_part, range(0, len(rows), batch), threads)
        again = np.flatnonzero(doubt)
        if len(again):
            other = self.uncorrected.fit(
                wavelength, rows[again], weights[again], bad if len(bad) == 1 else bad[again],
                known=prior.rows(again), keep_pixels=keep_pixels,
            )  # fmt: skip
            better = np.flatnonzero(clearly_better(other, result.rows(again)))
            result.put(again[better], other.rows(better))
        return result

    @cached_property
    def uncorrected(self) -> Fitter:
        """The same without the model's correction for real stars."""
        if self._imperfection is None:
            return self
        return Fitter(self.model, replace(self.options, correct_model=False), str(self.device))

    def _fit_batch(
        self,
        spectra: PreparedSpectra,
        numbers: NDArray[np.int64],
        known: KnownLabels,
        result: FitResult,
        doubt: NDArray[np.bool_],
    ) -> None:
        result.flags[numbers] = spectra.flags
        result.snr[numbers] = spectra.snr
        result.n_pixels[numbers] = spectra.n_pixels
        good = np.flatnonzero(spectra.flags == 0)
        if not len(good):
            return
        with torch.no_grad():
            fitted = self._solve(spectra, good, known)
            part = self._result(spectra, good, fitted.alignment, fitted.solution)
            if self._pure is not None:
                doubt[numbers[good]] = doubtful(self._pure, self._objective, fitted.solution).cpu().numpy()
        if result.pixels is not None:
            first = self._forward.grid.first
            part = replace(
                part, pixels=fitted_pixels(spectra, good, first, fitted.alignment, fitted.solution)
            )
        result.put(numbers[good], part)

    def _solve(self, spectra: PreparedSpectra, good: NDArray[np.int64], known: KnownLabels) -> Fitted:
        observed = self._search.observed_grid
        flux = torch.from_numpy(place(spectra.flux[good], spectra.grid, observed)).to(self.device)
        ivar = torch.from_numpy(place(spectra.ivar[good], spectra.grid, observed)).to(self.device)
        alignment = self._search.search(flux, ivar)
        observation = self._observe(flux, ivar, alignment, known.rows(good))
        start = self._coarse.run(observation, alignment.templates, alignment.fraction)
        return Fitted(alignment, self._optimiser.run(observation, start))

    def solve(
        self, wavelength: ArrayLike, flux: ArrayLike, ivar: ArrayLike, mask: ArrayLike | None = None
    ) -> Fitted | None:
        """The optimiser's own view of the fit of one spectrum (P,); None if there is nothing to fit."""
        grid, rows, weights, bad = check_spectra(wavelength, flux, ivar, mask)
        if len(rows) != 1:
            raise InputError(f"flux has shape {rows.shape}; one spectrum is wanted")
        spectra = prepare_spectra(grid, rows, weights, bad, self._left_out(grid))
        if spectra.flags[0]:
            return None
        with torch.no_grad():
            return self._solve(spectra, np.array([0]), self._prior)

    @property
    def forward(self) -> ForwardModel:
        """Spectra of the model on the pixels of the fit."""
        return self._forward

    @property
    def objective(self) -> Objective:
        """What is minimised."""
        return self._objective

    def _left_out(self, grid: PixelGrid) -> NDArray[np.bool_]:
        """Pixels (P,) that no fit uses: avoided bands, and what no shift brings onto the model's."""
        choice = self.options
        out = avoided(
            grid.wavelength, choice.mask_telluric, choice.mask_interstellar, choice.mask_arm_overlap
        )
        reached = self._search.observed_grid
        number = np.arange(grid.first, grid.stop)
        return out | (number < reached.first) | (number >= reached.stop)

    def _observe(self, flux: Tensor, ivar: Tensor, alignment: Alignment, known: KnownLabels) -> Observation:
        weight = self._search.aligned(ivar, alignment.pixels)
        use = weight > 0
        return Observation(
            flux=self._search.aligned(flux, alignment.pixels),
            variance=torch.where(use, 1.0 / weight.clamp_min(1e-12), torch.ones_like(weight)),
            use=use.float(),
            model_variance=self._model_variance[alignment.templates[:, 0]],
            amplitude=self._amplitude[alignment.templates[:, 0]],
            prior=scaled_prior(known, self._forward.middle, self._forward.half_range),
        )

    def _result(
        self,
        spectra: PreparedSpectra,
        good: NDArray[np.int64],
        alignment: Alignment,
        solution: Solution,
    ) -> FitResult:
        forward, point, observation = self._forward, solution.point, solution.observation
        fixed = torch.zeros(forward.n_labels + 2, dtype=torch.bool, device=self.device)
        fixed[-1] = not self.options.fit_line_width
        prior, box = observation.prior, solution.box
        sigma = estimate(
            point.parameters, point.gradient, solution.curvature, solution.noise, box, fixed,
            (prior.precision, prior.pull(point.parameters)),
        )  # fmt: skip
        scale = forward.half_range
        rv = velocity_of_shift(alignment.pixels.double() + sigma.values[:, -2])
        from_photons = sigma.errors[:, -2] * PIXEL_VELOCITY * (1.0 + rv / SPEED_OF_LIGHT)
        n_used = observation.use.sum(dim=1)
        floor = self._objective.bands.spread(solution.weights.floor2).sqrt()
        part = FitResult.empty(forward.label_names, len(good))
        n_labels = forward.n_labels
        for target, values in (
            (part.labels, forward.labels(sigma.values)),
            (part.errors, sigma.errors[:, :n_labels] * scale),
            (part.bounds, sigma.bounds[:, :n_labels] * scale),
            (part.covariance, sigma.covariance[:, :n_labels, :n_labels] * scale[:, None] * scale),
            (part.information, sigma.information[:, :n_labels]),
            (part.rv, rv),
            (part.e_rv, torch.hypot(from_photons, torch.full_like(rv, self.options.velocity_floor))),
            (part.line_variance, sigma.values[:, -1]),
            (part.e_line_variance, sigma.errors[:, -1]),
            (part.error_floor, (floor * observation.use).sum(dim=1) / n_used.clamp_min(1.0)),
            (part.chi2, self._objective.reduced_chi2(observation, point)),
            (part.n_pixels, n_used),
            (part.n_iterations, solution.evaluations),
        ):
            target[...] = values.cpu().numpy()
        part.snr[:] = spectra.snr[good]
        part.corrected[:] = self._imperfection is not None
        width = ((box.upper - box.lower)[:, :n_labels] * scale).cpu().numpy()
        width = np.minimum(width, np.ptp(forward.label_range, axis=1))
        alone = forward.labels(sigma.alone.values).cpu().numpy()
        alone_errors = (sigma.alone.errors[:, :n_labels] * scale).cpu().numpy()
        part.contrast[:] = self._sensitivity.contrast(alone, alone_errors, width)
        minimum = forward.labels(point.parameters).cpu().numpy()
        part.distance[:] = np.maximum(*(training_distance(self.model, x) for x in (alone, minimum)))
        suspects = find_suspects(
            forward.grid, point.state.flux, point.curve, point.residual, solution.weights.variance,
            observation.use,
        )  # fmt: skip
        flags, label_flags = judge(
            part,
            alone=alone,
            alone_errors=alone_errors,
            minimum=minimum,
            at_bound=box.touched(sigma.alone.values)[:, :n_labels].cpu().numpy(),
            bounds=forward.label_bounds,
            label_range=forward.label_range,
            options=self.options,
            converged=solution.converged.cpu().numpy(),
            unique_velocity=alignment.unique.cpu().numpy(),
            shift=sigma.values[:, -2].cpu().numpy(),
            model_pixels=forward.grid.size,
            emission=suspects.emission.cpu().numpy(),
            double_lined=suspects.double_lined.cpu().numpy(),
            cool=suspects.cool.cpu().numpy(),
        )
        part.flags[:] = flags
        part.label_flags[:] = label_flags
        return part


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
