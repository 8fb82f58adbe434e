"""The compiled form: a trained transformer on one fixed pixel grid, as basis times a small network.

A fit asks for flux and every derivative thousands of times, always on the same pixels.  The transformer's
spectra lie in the space of its basis; the coefficients in that space are smooth functions of the labels, and
a small network, which begins as the transformer's direct path, learns them from as many of the transformer's
own spectra as one likes.  Its error against the transformer is measured on fresh draws and stored with it.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from phdl_catalog.emulator.checkpoint import ModelHeader
from phdl_catalog.emulator.coefficients import CoefficientNetwork
from phdl_catalog.emulator.distilling import DistilConfig, Watch, distil, draw
from phdl_catalog.emulator.network import SpectrumTransformer
from phdl_catalog.emulator.sampling import LabelSampler
from phdl_catalog.emulator.transforms import LabelTransform

_ERROR_DRAWS = 2_000


@dataclass(frozen=True)
class CompileConfig:
    """How a transformer is compiled.

    Parameters
    ----------
    components : int, optional
        Length K of the basis; all of the transformer's unless given.
    hidden : int
        Width of the two hidden layers.
    distil : DistilConfig
        How the small network is taught.
    """

    components: int | None = None
    hidden: int = 512
    distil: DistilConfig = field(
        default_factory=lambda: DistilConfig(
            spectra=60_000,
            derivatives=20_000,
            steps=2_500,
            learning_rate=5e-3,
            gradient_weight=0.1,
            seed=100,
        )
    )


class CompiledNetwork(nn.Module):
    """Basis (K + 1, P) and the network for its K coefficients; the basis' first row is the mean spectrum."""

    basis: Tensor
    transform: LabelTransform
    network: CoefficientNetwork

    def __init__(self, transform: LabelTransform, n_pixels: int, components: int, hidden: int) -> None:
        super().__init__()
        self.transform = transform
        self.register_buffer("basis", torch.zeros(components + 1, n_pixels))
        self.network = CoefficientNetwork(transform.n_inputs, transform.abundance_columns, components, hidden)

    def coefficients(self, labels: Tensor) -> Tensor:
        """(N, L) physical labels -> (N, K)."""
        result: Tensor = self.network(self.transform(labels.double()).float())
        return result

    def forward(self, labels: Tensor) -> Tensor:
        """(N, L) -> (N, P)."""
        coefficients = self.coefficients(labels)
        # The mean as one more row of the product: cheaper than a pass over all pixels that adds it.
        flux: Tensor = torch.cat([coefficients.new_ones(len(coefficients), 1), coefficients], 1) @ self.basis
        return flux

    def coefficients_and_jacobian(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(N, L) -> (N, K) and (N, K, L), the derivative per label unit."""
        labels = labels.double()
        change = self.transform.jacobian(labels).float().transpose(1, 2)  # (N, L, I)
        coefficients, along = self.network.with_derivatives(self.transform(labels).float(), change)
        return coefficients, along.transpose(1, 2)

    def turned(self, origin: Tensor, turn: Tensor, back: Tensor) -> CompiledNetwork:
        """The network in another basis, of k spectra.

        Parameters
        ----------
        origin : (K,) Tensor
            Coefficients that become 0, float64.
        turn, back : (K, k) Tensor
            New coefficients are ``(coefficients - origin) @ turn``, new spectra ``back.T @ basis``; float64.
        """
        other = deepcopy(self)
        other.network = self.network.turned(origin, turn)
        basis = self.basis.double()
        other.basis = torch.cat([basis[:1] + origin @ basis[1:], back.T @ basis[1:]]).to(self.basis.dtype)
        return other


def stored_compiled_network(header: ModelHeader, tensors: dict[str, Tensor]) -> CompiledNetwork:
    """The compiled form that a model file holds; its basis is the beginning of the transformer's."""
    own = {
        key.removeprefix("compiled."): value for key, value in tensors.items() if key.startswith("compiled.")
    }
    compiled = CompiledNetwork(LabelTransform(header.label_names), header.pixel_size, **header.compiled)
    basis = tensors["transformer.network.basis"][: header.compiled["components"] + 1]
    compiled.load_state_dict({**own, "basis": basis})
    return compiled.requires_grad_(False).eval()


@dataclass(frozen=True)
class CompileError:
    """Compiled against transformer, flux difference on fresh draws.

    Parameters
    ----------
    rms, p99 : float
        Root mean square and 99th percentile of the absolute difference.
    rms_basis : float
        What the basis alone leaves out.
    n : int
        Spectra compared.
    """

    rms: float
    p99: float
    rms_basis: float
    n: int


def compile_network(
    transformer: SpectrumTransformer,
    sampler: LabelSampler,
    transform: LabelTransform,
    scale: Tensor,
    config: CompileConfig,
    watch: Watch | None = None,
) -> CompiledNetwork:
    """Compile a transformer.

    Parameters
    ----------
    transformer : SpectrumTransformer
    sampler : LabelSampler
        Draws labels where the model will be used.
    transform : LabelTransform
    scale : (L,) Tensor
        Unit of each label in derivatives.
    config : CompileConfig
    watch : callable, optional
        Called with (step, steps) now and then.
    """
    torch.manual_seed(config.distil.seed)
    components = min(config.components or transformer.config.components, transformer.config.components)
    compiled = CompiledNetwork(transform, transformer.n_pixels, components, config.hidden)
    compiled.basis.copy_(transformer.basis[: components + 1])

    def asked(inputs: Tensor) -> Tensor:
        return transformer.coefficients(inputs.float())[:, :components]

    draws = draw(asked, sampler, transform, scale, config.distil)
    network = compiled.network
    if config.hidden >= transformer.config.direct_hidden:
        first = torch.eye(transformer.config.components)[:, :components]
        network.start_from(transformer.direct, first, torch.zeros(components))
    else:
        network.start_from_linear(draws.inputs, draws.coefficients)
    distil(network, draws, transformer.n_pixels, config.distil, watch)
    return compiled


@torch.no_grad()
def measure_compile_error(
    compiled: CompiledNetwork, transformer: SpectrumTransformer, sampler: LabelSampler, seed: int = 1
) -> CompileError:
    """How far a compiled form is from its transformer, on draws that neither has seen."""
    labels = torch.as_tensor(sampler.draw(_ERROR_DRAWS, np.random.default_rng((seed, 9))))
    inputs = compiled.transform(labels).float()
    truth = torch.cat([transformer(part) for part in inputs.split(128)])
    error = compiled(labels) - truth
    basis = compiled.basis[1:]
    off_basis = (truth - compiled.basis[0]) - (truth - compiled.basis[0]) @ basis.T @ basis
    return CompileError(
        rms=float(error.square().mean().sqrt()),
        p99=float(np.percentile(error.abs().numpy(), 99)),
        rms_basis=float(off_basis.square().mean().sqrt()),
        n=len(labels),
    )
