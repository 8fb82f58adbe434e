"""The first steps of a fit: from a few templates to labels from which all labels can be fitted at once.

Templates are far from each other, so a star may look as near to a hot and metal-rich one as to a cool and
metal-poor one.  Each of a star's nearest templates is taken a step along six directions (temperature,
gravity, [Fe/H], carbon, nitrogen, alpha elements), the best is pursued, with one step more along these and
one of all labels.  This needs no fine detail: pixels are taken together in fours, and the derivatives are
those of the templates, computed once for all stars.
"""

from __future__ import annotations

import torch
from torch import Tensor

from phdl_catalog.fitting.curvature import scaled_rows
from phdl_catalog.fitting.forward import ForwardModel
from phdl_catalog.fitting.matrix_loops import gram
from phdl_catalog.fitting.noise import outlier
from phdl_catalog.fitting.objective import TEMPLATE_ERROR, Observation
from phdl_catalog.fitting.starts import Templates, coarse_directions
from phdl_catalog.fitting.step import bounded_step
from phdl_catalog.spectra.continuum import ContinuumBasis

#: Pixels taken together.
_POOLING = 4

#: Fewest good ones among them.
_LEAST_GOOD = 2

#: Longest step, in scaled labels.
_LONGEST = 0.5

#: Steps after the best start is known.
_STEPS = 1

#: How well a spectrum is described after the first step, as a fraction of the continuum.
_SECOND_ERROR = 0.012

#: Deviation beyond which a pixel loses weight [sigma].
_OUTLIER = 4.0


class CoarseFit:
    """Finds where a fit of all labels begins.

    Parameters
    ----------
    forward : ForwardModel
        The model.
    templates : Templates
        Where stars come from.
    spacing, join : float
        Of the pseudo-continuum [Angstrom].
    """

    def __init__(self, forward: ForwardModel, templates: Templates, spacing: float, join: float) -> None:
        self._forward = forward
        self._directions = coarse_directions(forward.label_names, forward.half_range)
        self._basis = forward.pooled_basis(_POOLING)
        self._continuum = ContinuumBasis.on(forward.grid, spacing, join, forward.device, _POOLING)
        self._parameters = forward.parameters(templates.labels)
        labels = templates.labels.float()
        self._flux = self._spectra(forward.coefficients(labels))
        #: (T, L, Q) derivatives by the scaled labels, and (T, D, Q) along the directions.
        self._all_slopes = forward.label_jacobian(labels) @ self._basis[1:]
        self._slopes = self._directions @ self._all_slopes
        self._no_taps = torch.zeros(1, 1, 1)
        self._every_label = torch.eye(forward.n_labels, device=forward.device)

    def _spectra(self, coefficients: Tensor) -> Tensor:
        return torch.addmm(self._basis[0], coefficients, self._basis[1:])

    def run(self, observation: Observation, templates: Tensor, shift: Tensor) -> Tensor:
        """Parameters (N, L + 2) to begin with.

        Parameters
        ----------
        observation : Observation
            N spectra, at rest to within a pixel.
        templates : (N, S) Tensor
            Rows of each star's nearest templates.
        shift : (N,) Tensor
            Where the velocity search ended [pixels].
        """
        size, number = templates.shape
        flux, variance = self._pool(observation)
        star = torch.arange(size, device=templates.device).repeat_interleave(number)
        row = templates.flatten()
        parameters = self._parameters[row].clone()
        prior = observation.prior.rows(star)
        curve, residual, weight = self._compare(flux[star], variance[star], TEMPLATE_ERROR, self._flux[row])
        step = self._step(
            self._directions, curve, residual, weight, self._flux[row], self._slopes, row,
            prior.pull(parameters), prior.precision,
        )  # fmt: skip
        parameters = self._inside(parameters, step)
        model = self._spectra(self._forward.coefficients(self._forward.labels(parameters).float()))
        curve, residual, weight = self._compare(flux[star], variance[star], _SECOND_ERROR, model, curve)
        cost, _ = outlier(residual.square() * weight, _OUTLIER)
        merit = cost.sum(dim=1, dtype=torch.float64) + prior.price(parameters)
        best = torch.arange(size, device=row.device) * number + merit.reshape(size, number).argmin(dim=1)

        parameters, model, row, prior = parameters[best], model[best], row[best], observation.prior
        curve = curve[best]
        for directions, slopes in ((self._directions, self._slopes), (self._every_label, self._all_slopes)):
            if directions is self._every_label:
                model = self._spectra(self._forward.coefficients(self._forward.labels(parameters).float()))
            curve, residual, weight = self._compare(flux, variance, _SECOND_ERROR, model, curve)
            pull = prior.pull(parameters)
            step = self._step(directions, curve, residual, weight, model, slopes, row, pull, prior.precision)
            parameters = self._inside(parameters, step)
        parameters[:, -2] = shift
        return parameters

    def _inside(self, parameters: Tensor, step: Tensor) -> Tensor:
        lower, upper = self._forward.bounds_at(parameters)
        return torch.minimum(torch.maximum(parameters + step, lower), upper)

    def _pool(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """Means of neighbouring good pixels (N, Q) and their variances, infinite where too few are good."""
        use = observation.use
        pixels = use.shape[1] // _POOLING * _POOLING

        def total(values: Tensor) -> Tensor:
            return values[:, :pixels].reshape(len(values), -1, _POOLING).sum(dim=2)

        good = total(use)
        number = good.clamp_min(1.0)
        variance = total(use * observation.variance) / number.square()
        enough = good >= _LEAST_GOOD
        return total(use * observation.flux) / number, torch.where(
            enough, variance, torch.full_like(variance, torch.inf)
        )

    def _compare(
        self, flux: Tensor, variance: Tensor, error: float, model: Tensor, curve: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Pseudo-continua, residuals and inverse variances of spectra (N, Q) and models of them.

        Outliers are those from pseudo-continua that are known, or from such as take them for good pixels.
        """
        if curve is None:
            # The error is a fraction of the continuum, which is near the flux where that is of any size.
            weight = 1.0 / (variance + error**2 * flux.square() + 1e-8)
            curve = self._continuum.curve(self._continuum.solve(flux, model, weight))
        weight = 1.0 / (variance + error**2 * curve.square() + 1e-8)
        residual = flux - curve * model
        _, factor = outlier(residual.square() * weight, _OUTLIER)
        weight = weight * factor
        curve = self._continuum.curve(self._continuum.solve(flux, model, weight))
        return curve, flux - curve * model, weight

    def _step(
        self,
        directions: Tensor,
        curve: Tensor,
        residual: Tensor,
        weight: Tensor,
        model: Tensor,
        slopes: Tensor,
        row: Tensor,
        pull: Tensor,
        precision: Tensor,
    ) -> Tensor:
        """One step (N, L + 2) of Gauss-Newton along the directions, the continuum marginalised.

        The derivatives of a star are the `slopes` of number `row`.
        """
        root = weight.sqrt()
        if self._continuum.in_loops:
            none, taps = curve.new_empty(len(row), 0, curve.shape[1]), self._no_taps.expand(len(row), -1, -1)
            jacobian, cross = scaled_rows(row, slopes, none, taps, curve, model, root, self._continuum.table)
        else:
            jacobian = slopes[row].mul_((curve * root)[:, None])
            cross = ((jacobian * (root * model)[:, None]) @ self._continuum.design.T).double().mT
        along = directions.double()
        gradient = (
            pull[:, :-2] @ along.T - torch.bmm(jacobian, (root * residual)[:, :, None])[:, :, 0].double()
        )
        imitated = self._continuum.system(weight * model.square()).factor.half(cross)
        curvature = gram(jacobian) - imitated.mT @ imitated
        curvature = curvature + torch.einsum("dl,nl,el->nde", along, precision[:, :-2], along)
        longest = torch.full_like(gradient, _LONGEST)
        step, _ = bounded_step(gradient, curvature, -longest, longest)
        return torch.cat([step @ along, step.new_zeros(len(step), 2)], dim=1)
