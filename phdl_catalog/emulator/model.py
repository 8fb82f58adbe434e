"""The emulator's face: labels in, normalised flux and its derivatives out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from phdl_catalog.emulator.checkpoint import ModelHeader, read_model
from phdl_catalog.emulator.compiled import CompiledNetwork, stored_compiled_network
from phdl_catalog.emulator.expected_error import ExpectedError
from phdl_catalog.emulator.grid import file_sha256
from phdl_catalog.emulator.imperfection import Imperfection
from phdl_catalog.emulator.losses import derivative
from phdl_catalog.emulator.network import NetworkConfig, SpectrumTransformer
from phdl_catalog.emulator.region import TrainingRegion
from phdl_catalog.emulator.transforms import LabelTransform
from phdl_catalog.errors import InputError
from phdl_catalog.labels import Label, declared_labels, describe_labels
from phdl_catalog.spectra.grid import PixelGrid

_ROWS_AT_ONCE = 128


class TransformerModel(nn.Module):
    """Label transform and network together: physical labels (N, L) in, flux (N, P) out."""

    def __init__(self, transform: LabelTransform, network: SpectrumTransformer) -> None:
        super().__init__()
        self.transform = transform
        self.network = network

    def forward(self, labels: Tensor) -> Tensor:
        """(N, L) physical labels -> (N, P) flux, float32."""
        flux: Tensor = self.network(self.transform(labels.double()).float())
        return flux


@dataclass(frozen=True)
class Trust:
    """Where a model may be trusted, and how far.

    Parameters
    ----------
    region : TrainingRegion
    expected_error : ExpectedError
    """

    region: TrainingRegion
    expected_error: ExpectedError


class SpectrumModel(ABC):
    """What both forms of an emulator can do.

    Parameters
    ----------
    header : ModelHeader
    trust : Trust
    device : torch.device
    """

    def __init__(self, header: ModelHeader, trust: Trust, device: torch.device) -> None:
        self._header = header
        self._region = trust.region
        self._expected_error = trust.expected_error
        self.device = device

    @property
    def name(self) -> str:
        return self._header.name

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels, in order; length L."""
        return self._header.label_names

    @cached_property
    def labels(self) -> tuple[Label, ...]:
        """What each label means, length L: of the vocabulary, or as the grid declared it."""
        declared = self.metadata.get("grid", {}).get("declared_labels", {})
        return describe_labels(self.label_names, declared_labels(declared))

    @cached_property
    def pixels(self) -> PixelGrid:
        return PixelGrid(self._header.pixel_first, self._header.pixel_size)

    @property
    def wavelength(self) -> NDArray[np.float64]:
        """(P,) vacuum wavelengths [Angstrom], steps of 1e-4 in log10."""
        return self.pixels.wavelength

    @property
    def resolution(self) -> float:
        """Resolving power lambda / FWHM of the predicted spectra."""
        return self._header.resolution

    @property
    def label_range(self) -> NDArray[np.float64]:
        """(L, 2) smallest and largest training value of each label."""
        return self._region.label_range

    @property
    def training_atmospheres(self) -> NDArray[np.float64]:
        """(S, A) training atmospheres, in the labels that are no abundances, in order of `label_names`."""
        return self._region.atmospheres

    @property
    def metadata(self) -> dict[str, Any]:
        """Grid, training configuration, metrics and code version."""
        return self._header.metadata

    def distance(self, labels: ArrayLike) -> NDArray[np.float64]:
        """(N, L) -> (N,): at most 1 inside the training region, growing outside."""
        return self._region.distance(labels)

    def atmosphere_distance(self, labels: ArrayLike) -> NDArray[np.float64]:
        """Like `distance`, but of teff, logg, v_micro and fe_h alone."""
        return self._region.atmosphere_distance(labels)

    @property
    def error_model(self) -> ExpectedError:
        """What `expected_error` is computed from, and which pixels err together."""
        return self._expected_error

    def expected_error(self, labels: ArrayLike) -> NDArray[np.float64]:
        """One sigma of the flux error, from validation stars: (N, L) -> (N, P), or (L,) -> (P,).

        Raises
        ------
        InputError
            As `predict`.
        """
        rows, single = self._checked(labels)
        error = self._expected_error.at(rows.cpu().numpy())
        return error[0] if single else error

    @abstractmethod
    def flux(self, labels: Tensor) -> Tensor:
        """(N, L) -> (N, P), differentiable, on the model's device."""

    @abstractmethod
    def flux_and_jacobian(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(N, L) -> (N, P) and (N, P, L), exact derivatives per label unit."""

    @overload
    def predict(self, labels: Tensor) -> Tensor: ...
    @overload
    def predict(self, labels: ArrayLike) -> NDArray[np.float32]: ...
    def predict(self, labels: ArrayLike | Tensor) -> NDArray[np.float32] | Tensor:
        """Continuum-normalised flux.

        Parameters
        ----------
        labels : (N, L) or (L,) array_like or Tensor
            In the order of `label_names`.

        Returns
        -------
        (N, P) ndarray or Tensor
            What came in goes out; (P,) for a single vector.

        Raises
        ------
        InputError
            If the shape does not fit or a value is not finite.
        """
        rows, single = self._checked(labels)
        with torch.no_grad():
            flux = torch.cat([self.flux(part) for part in rows.split(_ROWS_AT_ONCE)])
        result = flux[0] if single else flux
        return result if isinstance(labels, Tensor) else result.cpu().numpy()

    @overload
    def jacobian(self, labels: Tensor) -> Tensor: ...
    @overload
    def jacobian(self, labels: ArrayLike) -> NDArray[np.float32]: ...
    def jacobian(self, labels: ArrayLike | Tensor) -> NDArray[np.float32] | Tensor:
        """Derivatives of the flux, per label unit (per K, per dex, per km/s).

        Parameters and errors as in `predict`; returns (N, P, L), or (P, L) for a single vector.
        """
        rows, single = self._checked(labels)
        with torch.no_grad():
            parts = [self.flux_and_jacobian(part)[1] for part in rows.split(max(1, _ROWS_AT_ONCE // 16))]
        jacobian = torch.cat(parts)
        result = jacobian[0] if single else jacobian
        return result if isinstance(labels, Tensor) else result.cpu().numpy()

    def _checked(self, labels: ArrayLike | Tensor) -> tuple[Tensor, bool]:
        """Labels as a (N, L) float64 Tensor on the device, and whether one vector came alone."""
        if isinstance(labels, Tensor):
            rows = labels.to(self.device, torch.float64)
        else:
            rows = torch.as_tensor(np.asarray(labels, dtype=np.float64), device=self.device)
        single = rows.ndim == 1
        if single:
            rows = rows[None]
        n_labels = len(self.label_names)
        if rows.ndim != 2 or rows.shape[1] != n_labels:
            raise InputError(
                f"labels has shape {tuple(rows.shape)}, expected (N, {n_labels}) or ({n_labels},): "
                f"{', '.join(self.label_names)}"
            )
        if len(rows) == 0:
            raise InputError(f"labels has shape {tuple(rows.shape)}: at least one row is needed")
        if not bool(torch.isfinite(rows).all()):
            bad = int((~torch.isfinite(rows)).any(dim=1).nonzero()[0, 0])
            raise InputError(f"labels must be finite; row {bad} is not")
        return rows, single


class CompiledEmulator(SpectrumModel):
    """The fast form: ``flux = coefficients(labels) @ basis[1:] + basis[0]``."""

    def __init__(
        self, header: ModelHeader, trust: Trust, network: CompiledNetwork, device: torch.device
    ) -> None:
        super().__init__(header, trust, device)
        self._network = network

    @property
    def basis(self) -> Tensor:
        """(K + 1, P); the first row is the mean spectrum."""
        return self._network.basis

    def coefficients(self, labels: Tensor) -> Tensor:
        """(N, L) -> (N, K)."""
        return self._network.coefficients(labels)

    def coefficients_and_jacobian(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(N, L) -> (N, K) and (N, K, L), per label unit."""
        return self._network.coefficients_and_jacobian(labels)

    def turned(self, origin: Tensor, turn: Tensor, back: Tensor) -> CompiledEmulator:
        """In another basis, as `CompiledNetwork.turned` has it."""
        other = copy(self)
        other._network = self._network.turned(origin, turn, back)
        return other

    def flux(self, labels: Tensor) -> Tensor:
        result: Tensor = self._network(labels)
        return result

    def flux_and_jacobian(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        coefficients, jacobian = self.coefficients_and_jacobian(labels)
        flux = torch.addmm(self.basis[0], coefficients, self.basis[1:])
        return flux, torch.einsum("nkl,kp->npl", jacobian, self.basis[1:])


class Emulator(SpectrumModel):
    """A trained PhDLspec transformer, with its compiled form in `compiled`.

    Use `load_model` to get one.
    """

    def __init__(
        self,
        header: ModelHeader,
        trust: Trust,
        transformer: TransformerModel,
        compiled: CompiledNetwork,
        sha256: str,
        device: torch.device,
        imperfection: Imperfection | None = None,
    ) -> None:
        super().__init__(header, trust, device)
        self._transformer = transformer
        self.sha256 = sha256
        #: What the spectra of real stars have otherwise; a fit takes it into account, `predict` does not.
        self.imperfection = imperfection
        self.compiled = CompiledEmulator(header, trust, compiled, device)

    @classmethod
    def from_file(cls, path: str | Path, device: str | torch.device = "cpu") -> Emulator:
        """Read a model file.

        Raises
        ------
        ModelError
            If the file is not a model.
        """
        path, device = Path(path), torch.device(device)
        header, tensors = read_model(path)

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        transform = LabelTransform(header.label_names)
        transformer = TransformerModel(
            transform,
            SpectrumTransformer(
                transform.n_inputs,
                header.pixel_size,
                transform.abundance_columns,
                NetworkConfig(**header.network),
            ),
        )
        transformer.load_state_dict(part("transformer."))
        compiled = stored_compiled_network(header, tensors)
        trust = Trust(
            TrainingRegion(
                header.label_names,
                tensors["region.atmospheres"].double().numpy(),
                tensors["region.label_range"].double().numpy(),
            ),
            ExpectedError.from_tensors(header.label_names, part("expected_error.")),
        )
        for module in (transformer, compiled):
            module.requires_grad_(False).eval().to(device)
        pixels = PixelGrid(header.pixel_first, header.pixel_size)
        imperfection = Imperfection.from_tensors(pixels.wavelength, part("imperfection."))
        return cls(header, trust, transformer, compiled, file_sha256(path), device, imperfection)

    def predict_corrected(self, labels: ArrayLike) -> NDArray[np.float32]:
        """Like `predict`, with what the model says of real stars: its imperfection corrected."""
        flux = self.predict(np.asarray(labels, dtype=np.float64))
        if self.imperfection is None:
            return flux
        return self.imperfection.correct(flux.astype(np.float64)).astype(np.float32)

    @property
    def transformer(self) -> TransformerModel:
        """The network itself, to train it further."""
        return self._transformer

    def flux(self, labels: Tensor) -> Tensor:
        result: Tensor = self._transformer(labels)
        return result

    def flux_and_jacobian(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        n, n_labels = labels.shape
        # One forward-mode pass for every label of every star: (N * L, L) rows.
        directions = torch.eye(n_labels, dtype=labels.dtype, device=labels.device).repeat(n, 1)
        flux, change = derivative(self.flux, labels.repeat_interleave(n_labels, dim=0), directions)
        shaped = change.view(n, n_labels, -1)
        return flux.view(n, n_labels, -1)[:, 0], shaped.transpose(1, 2)
