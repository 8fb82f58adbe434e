"""The curvature of a fit's cost (Gauss-Newton), and the covariance of its gradient.

Both need the derivative of every pixel by every parameter, in units of the noise; the part of it that a
change of the pseudo-continuum could imitate is taken out, so that the inverse of the curvature is the
covariance with the continuum marginalised.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from phdl_catalog.fitting.forward import ModelState
from phdl_catalog.fitting.matrix_loops import gram
from phdl_catalog.fitting.objective import Objective, Observation, Point, Weights
from phdl_catalog.fitting.pixel_loops import scale_rows, take_out
from phdl_catalog.fitting.shared_error import SHARED_STRIDE
from phdl_catalog.spectra import loops
from phdl_catalog.spectra.splines import SplineTable

#: Stars whose pixel-by-pixel derivatives are in memory at one time, on a processor with a cache.
_BATCH = 16

#: Pixels of which a rough curvature takes one: spectra have 2.4 pixels a resolution element.
_STRIDE = 3


def scaled_rows(
    which: Tensor, rows: Tensor, others: Tensor, taps: Tensor,
    level: Tensor, model: Tensor, root: Tensor, table: SplineTable,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Derivatives in units of the noise, and what the splines have in common with each, on the processor.

    Parameters
    ----------
    which : (N,) Tensor
        Number of the rows of each star, int64.
    rows : (M, R, Q or Q + 2 REACH) Tensor
        Derivatives of model spectra; those that reach beyond the pixels are moved and blurred first.
    others : (N, E, Q) Tensor
        More derivatives, as they are.
    taps : (N, 3, T) Tensor
        Of the filters.
    level, model, root : (N, Q) Tensor
        Pseudo-continua, model spectra and roots of weights.
    table : SplineTable
        J splines on the Q pixels.

    Returns
    -------
    (N, R + E, Q) Tensor
        Float32: derivatives of the flux in units of the noise.
    (N, J, R + E) Tensor
        Float64: sums of their products with each spline times the model, in the same units.
    """
    size, number = len(which), rows.shape[1] + others.shape[1]
    out = loops.empty(size, number, root.shape[1])
    cross = loops.empty(size, table.size, number, dtype=torch.float64)
    given = (which, rows, taps, others, level, model, root, *table.arrays)
    loops.for_stars(scale_rows, size, *given, out, cross)
    return out, cross


class Curvature:
    """Curvatures of batches.

    Parameters
    ----------
    objective : Objective
        Whose cost it is.
    """

    def __init__(self, objective: Objective) -> None:
        self._forward = objective.forward
        self._continuum = objective.continuum
        self._rough_continuum = objective.continuum.thinned(_STRIDE)
        self._shared = objective.shared

    def rough(self, point: Point, weights: Weights) -> Tensor:
        """As `full`, from derivatives at one pixel in `_STRIDE`, with the weight of all."""
        return self._matrices(point, weights, _STRIDE, None)[0]

    def full(self, point: Point, weights: Weights, observation: Observation) -> tuple[Tensor, Tensor]:
        """Half the second derivatives of the cost by the data, and the covariance of its gradient.

        The continuum is marginalised in both.  The two are one matrix if the errors of pixels are
        independent and as large as their weights say.

        Parameters
        ----------
        point : Point
            Where; the system of its pseudo-continua must be its own.
        weights : Weights
            What pixels count.
        observation : Observation
            The data.

        Returns
        -------
        curvature, noise : (N, L + 2, L + 2) Tensor
            float64.
        """
        return self._matrices(point, weights, 1, observation)

    def _matrices(
        self, point: Point, weights: Weights, stride: int, observation: Observation | None
    ) -> tuple[Tensor, Tensor]:
        state, size = point.state, len(point.parameters)
        in_basis = self._forward.jacobian_in_basis(state)
        batch = _BATCH if self._continuum.in_loops else size
        # The weight of `stride` pixels stands at the one in their middle.
        number = self._forward.grid.size // stride
        every = slice(stride // 2, stride * number, stride)
        root = weights.weight[:, : stride * number].unflatten(1, (-1, stride)).sum(dim=2).sqrt()
        blocks, noise = [], []
        for start in range(0, size, batch):
            rows = slice(start, start + batch)
            jacobian, cross = self._rows(state, in_basis[rows], point.curve, root, rows, every)
            if stride == 1:
                factor = point.near.system.factor.rows(rows)
            else:
                # Of the same pixels as the derivatives, or what is left might be less than nothing.
                shape = state.flux[rows, every] * root[rows]
                factor = self._rough_continuum.system(shape.square()).factor
            imitated = factor.half(cross)
            blocks.append(gram(jacobian) - imitated.mT @ imitated)
            if self._shared is not None and observation is not None:
                imitating = factor.rest(imitated, self._continuum.size)
                level = observation.amplitude[rows, None] * point.curve[rows, ::SHARED_STRIDE]
                parts = self._shared.weighted(
                    level, weights.variance[rows, ::SHARED_STRIDE], weights.weight[rows, ::SHARED_STRIDE]
                )
                both = self._alone(jacobian, state.flux[rows], root[rows], imitating, *parts)
                noise.append(self._shared.more(*both))
        curvature = torch.cat(blocks)
        return curvature, curvature + torch.cat(noise) if noise else curvature

    def _rows(
        self, state: ModelState, in_basis: Tensor, curve: Tensor, root: Tensor, rows: slice, every: slice
    ) -> tuple[Tensor, Tensor]:
        """Derivatives (n, L + 2, Q) in units of the noise, and their sums (n, J, L + 2) with the splines.

        Derivatives by labels are moved and blurred, as the spectra are, only where all pixels are wanted.
        """
        by_label = self._forward.unfiltered_jacobian(in_basis, every)
        fit = (rows, every)
        level, flux, root = curve[fit], state.flux[fit], root[rows]
        others = torch.stack([state.by_shift[fit], state.by_blur[fit]], dim=1)
        filters = state.source.filters.rows(rows)
        continuum = self._continuum if every.step == 1 else self._rough_continuum
        if continuum.in_loops:
            table = continuum.table
            return scaled_rows(
                torch.arange(len(root)), by_label, others, filters.taps, level, flux, root, table
            )
        if every.step == 1:
            by_label = filters.apply_rows(by_label)
        jacobian = torch.cat([by_label, others], dim=1) * (level * root)[:, None]
        common = (jacobian * (flux * root)[:, None]).flatten(0, 1)
        return jacobian, continuum.pull(common).unflatten(0, jacobian.shape[:2]).mT

    def _alone(
        self, jacobian: Tensor, flux: Tensor, root: Tensor, imitating: Tensor, one: Tensor, other: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Derivatives (n, D, Q), splines taken out, at one pixel in `SHARED_STRIDE`, times two factors."""
        if self._continuum.in_loops:
            out = [loops.empty(*jacobian.shape[:2], one.shape[1]) for _ in range(2)]
            loops.for_stars(
                take_out, len(jacobian), jacobian, flux, root, imitating,
                *self._shared_table.arrays, SHARED_STRIDE, one, other, *out,
            )  # fmt: skip
            return out[0], out[1]
        some = slice(None, None, SHARED_STRIDE)
        curve = self._continuum.curve(imitating.mT.flatten(0, 1), SHARED_STRIDE)
        shape = (flux * root)[:, None, some]
        alone = torch.addcmul(jacobian[:, :, some], curve.unflatten(0, jacobian.shape[:2]), shape, value=-1.0)
        return alone * one[:, None], alone * other[:, None]

    @cached_property
    def _shared_table(self) -> SplineTable:
        return SplineTable.of(self._continuum.design[:, ::SHARED_STRIDE].numpy())
