"""A model with or without its correction for real stars, and what a fit does with it once a star is found."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phdl_catalog.emulator.expected_error import ExpectedError
from phdl_catalog.emulator.imperfection import Imperfection
from phdl_catalog.errors import ModelError
from phdl_catalog.fitting.forward import ForwardModel, Model, training_distance
from phdl_catalog.fitting.judge import judge
from phdl_catalog.fitting.kernel import REACH
from phdl_catalog.fitting.noise import FloorBands
from phdl_catalog.fitting.objective import Objective, Observation
from phdl_catalog.fitting.optimiser import Optimiser, Solution
from phdl_catalog.fitting.options import FitOptions
from phdl_catalog.fitting.prior import Prior
from phdl_catalog.fitting.result import FitResult
from phdl_catalog.fitting.sensitivity import Sensitivity
from phdl_catalog.fitting.starts import Templates, template_errors
from phdl_catalog.fitting.suspects import find_suspects
from phdl_catalog.fitting.trial import Target, attempt
from phdl_catalog.fitting.uncertainty import Estimate, LinearTheory
from phdl_catalog.fitting.velocity import Alignment, velocity_of_shift
from phdl_catalog.spectra.continuum import ContinuumBasis
from phdl_catalog.spectra.grid import PIXEL_VELOCITY, SPEED_OF_LIGHT


class Solver:
    """What is minimised with one version of a model's lines, how, and what the minimum says.

    Parameters
    ----------
    model : Model
        The emulator.
    options : FitOptions
        Choices.
    forward : ForwardModel
        Its spectra on the pixels of the fit, corrected or not.
    templates : Templates
        Stars of all kinds.
    imperfection : Imperfection, optional
        By which `forward` is corrected.

    Raises
    ------
    ModelError
        If what the model says of its error does not belong to its pixels.
    """

    def __init__(
        self,
        model: Model,
        options: FitOptions,
        forward: ForwardModel,
        templates: Templates,
        imperfection: Imperfection | None,
    ) -> None:
        self.forward = forward
        self._model, self._options = model, options
        self._corrected = imperfection is not None
        grid, device = forward.grid, forward.device
        #: What the model says of its error; None if it says nothing of which pixels err together.
        stated: ExpectedError | None = getattr(model, "error_model", None)
        self.objective = Objective(
            forward,
            ContinuumBasis.on(grid, options.knot_spacing, options.arm_join, device),
            FloorBands.on(grid, device),
            options.outlier,
            options.fit_error_floor,
            stated,
        )
        self.optimiser = Optimiser(
            self.objective, fit_blur=options.fit_line_width, tolerance=options.tolerance
        )
        self._sensitivity = Sensitivity.of(forward, templates)
        self._model_variance = template_errors(model, forward, templates, imperfection)
        amplitude = np.zeros(len(templates.labels))
        pixels = grid.size + 2 * REACH
        if stated is not None and stated.modes.shape[1] != pixels:
            raise ModelError(
                f"the modes of the model's error have shape {stated.modes.shape}, not (M, {pixels})"
            )
        if stated is not None:
            amplitude = stated.amplitude(templates.labels.double().cpu().numpy())
        self._amplitude = torch.as_tensor(amplitude, dtype=torch.float32, device=device)

    def observe(self, flux: Tensor, weight: Tensor, template: Tensor, prior: Prior) -> Observation:
        """Spectra as they are seen with the errors of this version of the model.

        Parameters
        ----------
        flux, weight : (N, P) Tensor
            Aligned with the model's pixels; a weight is an inverse variance, 0 where a pixel is not used.
        template : (N,) Tensor
            Rows of the nearest templates.
        prior : Prior
            What is known of the labels beforehand.
        """
        use = weight > 0
        return Observation(
            flux=flux,
            variance=torch.where(use, 1.0 / weight.clamp_min(1e-12), torch.ones_like(weight)),
            use=use.float(),
            model_variance=self._model_variance[template],
            amplitude=self._amplitude[template],
            prior=prior,
        )

    def estimate(self, solution: Solution) -> Estimate:
        """Labels and errors of N stars where their fits ended; gradients are taken anew at the means."""
        point, prior = solution.point, solution.observation.prior
        fixed = torch.zeros(self.forward.n_labels + 2, dtype=torch.bool, device=self.forward.device)
        fixed[-1] = not self._options.fit_line_width
        theory = LinearTheory.of(solution.curvature, solution.noise, solution.box, fixed, prior.precision)
        means, factors = theory.means(point.parameters, point.gradient, prior.pull(point.parameters))
        target = Target.of(solution.observation.flux, solution.weights.weight, prior, point.near.system)
        continuum = self.objective.continuum
        trial = attempt(self.forward, continuum, target, means, point.near.coefficients)
        return theory.estimate(means, trial.gradient, prior.pull(means), factors)

    def result(self, snr: NDArray[np.float64], alignment: Alignment, solution: Solution) -> FitResult:
        """Labels, errors and flags of N stars.

        Parameters
        ----------
        snr : (N,) float64
            Of their spectra.
        alignment : Alignment
            Where they were in the survey's frame.
        solution : Solution
            Where their fits ended.
        """
        forward, point, observation = self.forward, solution.point, solution.observation
        box, sigma = solution.box, self.estimate(solution)
        scale = forward.half_range
        rv = velocity_of_shift(alignment.pixels.double() + sigma.values[:, -2])
        from_photons = sigma.errors[:, -2] * PIXEL_VELOCITY * (1.0 + rv / SPEED_OF_LIGHT)
        n_used = observation.use.sum(dim=1)
        floor = self.objective.bands.spread(solution.weights.floor2).sqrt()
        part = FitResult.empty(forward.label_names, len(snr))
        n_labels = forward.n_labels
        for target, values in (
            (part.labels, forward.labels(sigma.values)),
            (part.errors, sigma.errors[:, :n_labels] * scale),
            (part.bounds, sigma.bounds[:, :n_labels] * scale),
            (part.covariance, sigma.covariance[:, :n_labels, :n_labels] * scale[:, None] * scale),
            (part.information, sigma.information[:, :n_labels]),
            (part.rv, rv),
            (part.e_rv, torch.hypot(from_photons, torch.full_like(rv, self._options.velocity_floor))),
            (part.line_variance, sigma.values[:, -1]),
            (part.e_line_variance, sigma.errors[:, -1]),
            (part.error_floor, (floor * observation.use).sum(dim=1) / n_used.clamp_min(1.0)),
            (part.chi2, self.objective.reduced_chi2(observation, point)),
            (part.n_pixels, n_used),
            (part.n_iterations, solution.evaluations),
        ):
            target[...] = values.cpu().numpy()
        part.snr[:] = snr
        part.corrected[:] = self._corrected
        width = ((box.upper - box.lower)[:, :n_labels] * scale).cpu().numpy()
        width = np.minimum(width, np.ptp(forward.label_range, axis=1))
        alone = forward.labels(sigma.alone.values).cpu().numpy()
        alone_errors = (sigma.alone.errors[:, :n_labels] * scale).cpu().numpy()
        part.contrast[:] = self._sensitivity.contrast(alone, alone_errors, width)
        minimum = forward.labels(point.parameters).cpu().numpy()
        part.distance[:] = np.maximum(*(training_distance(self._model, x) for x in (alone, minimum)))
        suspects = find_suspects(
            forward.grid, point.state.flux, point.curve, point.residual, solution.weights.variance,
            observation.use,
        )  # fmt: skip
        part.flags[:], part.label_flags[:] = judge(
            part,
            alone=alone,
            alone_errors=alone_errors,
            minimum=minimum,
            at_bound=box.touched(sigma.alone.values)[:, :n_labels].cpu().numpy(),
            bounds=forward.label_bounds,
            label_range=forward.label_range,
            options=self._options,
            converged=solution.converged.cpu().numpy(),
            unique_velocity=alignment.unique.cpu().numpy(),
            shift=sigma.values[:, -2].cpu().numpy(),
            model_pixels=forward.grid.size,
            emission=suspects.emission.cpu().numpy(),
            double_lined=suspects.double_lined.cpu().numpy(),
            cool=suspects.cool.cpu().numpy(),
        )
        return part
