"""The forward model: labels, velocity and line width in, spectrum and exact derivatives out.

Parameters of a star are a vector of L + 2 numbers: the labels, each in units of half its training range from
the middle of that range, then the sub-pixel shift [pixels] and the blur [square pixels] of
`phdl_catalog.fitting.kernel`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.linalg import vecdot

from phdl_catalog.emulator.imperfection import Imperfection
from phdl_catalog.errors import ModelError
from phdl_catalog.fitting.kernel import (
    LARGEST_BLUR,
    LARGEST_SHIFT,
    REACH,
    SMALLEST_BLUR,
    FilterBank,
    Filters,
)
from phdl_catalog.fitting.microturbulence import MicroturbulenceRange
from phdl_catalog.labels import Label, declared_labels, describe_labels
from phdl_catalog.spectra.grid import PixelGrid


def _has_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 are done by hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported is not None and supported())


class CompiledModel(Protocol):
    """The fast form of an emulator: a linear basis, and coefficients that are functions of the labels."""

    @property
    def basis(self) -> Tensor:
        """(K + 1, P) spectra; the first one has the coefficient 1."""
        ...

    def coefficients(self, labels: Tensor) -> Tensor:
        """(N, L) -> (N, K)."""
        ...

    def coefficients_and_jacobian(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(N, L) -> (N, K) and (N, K, L), per label unit."""
        ...


class Model(Protocol):
    """What a fit needs to know of an emulator."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the L labels."""
        ...

    @property
    def label_range(self) -> NDArray[np.float64]:
        """(L, 2) range of the training grid."""
        ...

    @property
    def wavelength(self) -> NDArray[np.float64]:
        """(P,) vacuum wavelengths [Angstrom]."""
        ...

    @property
    def resolution(self) -> float:
        """Wavelength / FWHM of the line-spread function."""
        ...

    @property
    def compiled(self) -> CompiledModel:
        """The fast form."""
        ...

    def distance(self, labels: ArrayLike) -> NDArray[np.float64]:
        """(N, L) -> (N,): 0 inside the training region, over 1 outside."""
        ...


def label_definitions(model: Model) -> tuple[Label, ...]:
    """What the model's labels mean: from the vocabulary, and as the grid of the model declared them.

    Raises
    ------
    InputError
        If a label is in neither.
    """
    known: tuple[Label, ...] | None = getattr(model, "labels", None)
    if known is not None:
        return known
    source = getattr(model, "metadata", {}).get("grid", {})
    return describe_labels(model.label_names, declared_labels(source.get("declared_labels", {})))


def training_distance(model: Model, labels: ArrayLike) -> NDArray[np.float64]:
    """Distance (N,) of labels (N, L) from the training region, in the labels of the atmosphere if possible.

    Abundances that a spectrum hardly constrains wander to the ends of their ranges and do no harm there.
    """
    measure = getattr(model, "atmosphere_distance", model.distance)
    return np.asarray(measure(labels), dtype=np.float64)


@dataclass(frozen=True)
class Unfiltered:
    """Model spectra before they are moved and blurred.

    Parameters
    ----------
    spectra : (N, P + 2 REACH) Tensor
        On all pixels of the model.
    labels : (N, L) Tensor
        In their units, float32; leaves of the graph of `coefficients`.
    coefficients : (N, K) Tensor
        Of the basis, with their graph.
    filters : Filters
        What will move and blur the spectra.
    """

    spectra: Tensor
    labels: Tensor
    coefficients: Tensor
    filters: Filters


@dataclass(frozen=True)
class ModelState:
    """Model spectra, and what their derivatives need.

    Parameters
    ----------
    flux, by_shift, by_blur : (N, P) Tensor
        Spectra, and their derivatives by shift and by blur, on the pixels of the fit.
    source : Unfiltered
        What they were made of.
    """

    flux: Tensor
    by_shift: Tensor
    by_blur: Tensor
    source: Unfiltered


class ForwardModel:
    """Spectra of a model on the pixels of a fit: the model's own, less `REACH` at either end.

    Parameters
    ----------
    model : Model
        The emulator.
    device : str or torch.device
        Where the work is done.
    margin : float
        How far labels may leave the training range, as a fraction of it.
    imperfection : Imperfection, optional
        By which the model's spectra are corrected.
    compiled : CompiledModel, optional
        In place of the model's own.

    Raises
    ------
    ModelError
        If the model's pixels are not on the survey's grid or its face is incomplete.
    """

    def __init__(
        self,
        model: Model,
        device: str | torch.device = "cpu",
        margin: float = 0.05,
        imperfection: Imperfection | None = None,
        compiled: CompiledModel | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.label_names = tuple(model.label_names)
        self._compiled = model.compiled if compiled is None else compiled
        self._basis = self._compiled.basis.to(self.device, torch.float32)
        model_grid = PixelGrid.from_wavelength(model.wavelength)
        if self._basis.shape[1] != model_grid.size:
            raise ModelError(
                f"the model has {model_grid.size} wavelengths but a basis of {tuple(self._basis.shape)}"
            )
        if imperfection is not None:
            self._basis = imperfection.correct_basis(self._basis)
        # For derivatives alone; half as many digits are several times faster where there is hardware for it.
        self._coarse = self._basis[1:].to(torch.bfloat16 if _has_bfloat16(self.device) else torch.float32)
        self._some_pixels: dict[int, Tensor] = {}
        self.grid = PixelGrid(model_grid.first + REACH, model_grid.size - 2 * REACH)
        #: Wavelength / FWHM of the line-spread function.
        self.resolution = float(model.resolution)
        self._bank = FilterBank(float(model.resolution), self.device)
        physical = np.array([(label.lower, label.upper) for label in label_definitions(model)])
        self._set_ranges(np.asarray(model.label_range, dtype=np.float64), physical, margin)
        self._v_micro = MicroturbulenceRange.of(model, self.device)

    def _set_ranges(
        self, label_range: NDArray[np.float64], physical: NDArray[np.float64], margin: float
    ) -> None:
        if label_range.shape != (len(self.label_names), 2):
            raise ModelError(
                f"the model has {len(self.label_names)} labels but label_range has shape {label_range.shape}"
            )
        self.label_range = label_range
        width = label_range[:, 1] - label_range[:, 0]
        lower = np.maximum(label_range[:, 0] - margin * width, physical[:, 0])
        upper = np.minimum(label_range[:, 1] + margin * width, physical[:, 1])
        #: (L, 2) bounds of the labels, in their units.
        self.label_bounds = np.stack([lower, upper], axis=1)
        self.middle = torch.as_tensor(label_range.mean(axis=1), device=self.device)
        self.half_range = torch.as_tensor(width / 2.0, device=self.device)
        extra = torch.tensor(
            [[-LARGEST_SHIFT, LARGEST_SHIFT], [SMALLEST_BLUR, LARGEST_BLUR]], device=self.device
        ).double()
        bounds = torch.as_tensor(self.label_bounds, device=self.device)
        bounds = (bounds - self.middle[:, None]) / self.half_range[:, None]
        #: (L + 2, 2) bounds of the parameters.
        self.bounds = torch.cat([bounds, extra])

    @property
    def n_labels(self) -> int:
        """Number of labels L."""
        return len(self.label_names)

    def labels(self, parameters: Tensor) -> Tensor:
        """Labels (N, L) in their units, of parameters (N, L + 2), float64."""
        return parameters[:, : self.n_labels] * self.half_range + self.middle

    def parameters(self, labels: Tensor) -> Tensor:
        """Parameters (N, L + 2), float64, of labels (N, L), without shift and blur."""
        scaled = (labels.double() - self.middle) / self.half_range
        return torch.cat([scaled, scaled.new_zeros(len(scaled), 2)], dim=1)

    def bounds_at(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds (N, L + 2) of parameters near given ones (N, L + 2).

        The microturbulence is bounded to what the training grid has at the temperature and gravity.
        """
        lower, upper = (bound.expand_as(parameters).clone() for bound in self.bounds.unbind(1))
        if self._v_micro is not None:
            column = self._v_micro.column
            for bound, limit in zip(
                (lower, upper), self._v_micro.limits(self.labels(parameters)), strict=True
            ):
                scaled = (limit - self.middle[column]) / self.half_range[column]
                bound[:, column] = torch.clamp(scaled, *self.bounds[column])
        return lower, upper

    def coefficients(self, labels: Tensor) -> Tensor:
        """Coefficients (N, K) of the basis for labels (N, L), float32."""
        return self._compiled.coefficients(labels)

    def pooled_basis(self, pixels: int) -> Tensor:
        """The basis (K + 1, Q) on the means of each `pixels` neighbouring pixels of the fit."""
        number = self.grid.size // pixels
        inner = self._basis[:, REACH : REACH + number * pixels]
        return inner.reshape(len(inner), number, pixels).mean(dim=2)

    def template(self, labels: Tensor) -> Tensor:
        """Spectra (N, P) of labels (N, L), neither moved nor blurred."""
        return self.full_template(labels)[:, REACH:-REACH]

    def full_template(self, labels: Tensor) -> Tensor:
        """Spectra (N, P + 2 REACH) of labels (N, L) on all pixels of the model."""
        return self._compiled.coefficients(labels.float()) @ self._basis[1:] + self._basis[0]

    def begin(self, parameters: Tensor) -> Unfiltered:
        """Spectra of parameters (N, L + 2) that are neither moved nor blurred yet."""
        labels = self.labels(parameters).float().requires_grad_()
        with torch.enable_grad():
            coefficients = self._compiled.coefficients(labels)
        spectra = torch.addmm(self._basis[0], coefficients.detach(), self._basis[1:])
        filters = self._bank.filters(parameters[:, -2], parameters[:, -1])
        return Unfiltered(spectra, labels, coefficients, filters)

    def evaluate(self, parameters: Tensor) -> ModelState:
        """Spectra and what their derivatives need, of parameters (N, L + 2)."""
        source = self.begin(parameters)
        return ModelState(*source.filters.apply(source.spectra), source)

    def pull_back(self, state: ModelState, values: Tensor) -> Tensor:
        """Sums of `values` (N, P) times the derivatives of the flux: (N, L + 2), without forming these.

        Uses up the graph of the state's coefficients: once for each state.
        """
        others = torch.stack([vecdot(values, state.by_shift), vecdot(values, state.by_blur)], dim=1)
        return self.pull_through(state.source, state.source.filters.transpose(values), others)

    def pull_through(self, source: Unfiltered, values: Tensor, others: Tensor) -> Tensor:
        """As `pull_back`, of values (N, P + 2 REACH) on the pixels of the spectra before the filter.

        Parameters
        ----------
        source : Unfiltered
            Of the spectra.
        values : (N, P + 2 REACH) Tensor
        others : (N, 2) Tensor
            The sums with the derivatives by shift and blur.
        """
        in_basis = values @ self._basis[1:].T
        (by_label,) = torch.autograd.grad(source.coefficients, source.labels, in_basis)
        return torch.cat([by_label * self.half_range.float(), others], dim=1).double()

    def label_jacobian(self, labels: Tensor) -> Tensor:
        """Derivatives (N, L, K) of the coefficients by the scaled labels, of labels (N, L)."""
        _, by_label = self._compiled.coefficients_and_jacobian(labels)
        return by_label.mT * self.half_range.float()[:, None]

    def jacobian_in_basis(self, state: ModelState) -> Tensor:
        """Derivatives (N, L, K) of coefficients by the scaled labels, for `unfiltered_jacobian`."""
        labels, unit = state.source.labels.detach(), self.half_range.float()
        half = self._coarse.dtype == torch.bfloat16
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
            _, by_label = self._compiled.coefficients_and_jacobian(labels)
        return (by_label.mT * unit[:, None]).to(self._coarse.dtype)

    def unfiltered_jacobian(self, in_basis: Tensor, every: slice) -> Tensor:
        """Derivatives (n, L, Q) of spectra by the scaled labels, from those of coefficients (n, L, K).

        Right to about half a per cent, which is enough for a curvature.

        Parameters
        ----------
        in_basis : (n, L, K) Tensor
            From `jacobian_in_basis`.
        every : slice
            Which pixels of the fit are wanted; if all, those of the model (P + 2 REACH) are returned, for a
            filter.
        """
        if every.step == 1:
            return (in_basis @ self._coarse).float()
        if every.step not in self._some_pixels:
            self._some_pixels[every.step] = self._coarse[:, REACH:-REACH][:, every].contiguous()
        return (in_basis @ self._some_pixels[every.step]).float()
