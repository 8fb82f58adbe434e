"""The PhDLspec network: a transformer encoder over stretches of wavelength.

A token is a patch of neighbouring pixels.  It starts as the sum of a wavelength encoding (which lines are
here) and a label embedding (what this star's labels mean for these lines).  Encoder blocks let patches that
share an element or an atmosphere inform each other; a fully connected layer turns each token into the flux
of its pixels, and what no training spectrum has shown is taken out of that by projection.  A direct path, a
small network for the coefficients of the spectrum, runs beside the encoder, so that the encoder learns only
what that does not know.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from phdl_catalog.emulator.coefficients import CoefficientNetwork
from phdl_catalog.errors import InputError


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the network.

    Parameters
    ----------
    patch : int
        Pixels a token.
    width : int
        Length of a token.
    depth : int
        Encoder blocks.
    heads : int
        Attention heads; divides `width`.
    feed_forward : int
        Hidden units of a block's feed-forward part, in units of `width`.
    label_features : int
        Features of the labels from which every token's label embedding is mixed.
    components : int
        Length K of the basis of spectra.
    direct_hidden : int
        Width of the direct path's hidden layers.
    """

    patch: int = 128
    width: int = 192
    depth: int = 3
    heads: int = 6
    feed_forward: int = 2
    label_features: int = 160
    components: int = 288
    direct_hidden: int = 512

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise InputError(f"width {self.width} is not divisible by {self.heads} heads")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def wavelength_encoding(n_tokens: int, width: int) -> Tensor:
    """(T, D) sines and cosines of the position in log wavelength; periods from 2 tokens to four ranges."""
    position = torch.arange(n_tokens, dtype=torch.float32)[:, None]
    periods = torch.logspace(math.log10(2.0), math.log10(4.0 * n_tokens), width // 2)
    phase = 2.0 * math.pi * position / periods
    return torch.cat([torch.sin(phase), torch.cos(phase)], dim=1)


class Attention(nn.Module):
    """Multi-head self-attention over the tokens of one spectrum.

    Written out rather than taken from the fused kernels because those have no forward-mode derivative, and
    the gradient term of the loss is one.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) -> (N, T, D)."""
        n, t, d = x.shape
        # (3, N, heads, T, D / heads)
        q, k, v = self.query_key_value(x).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-1, -2) * (d // self.heads) ** -0.5, dim=-1)
        return self.output((weights @ v).transpose(1, 2).reshape(n, t, d))


class EncoderBlock(nn.Module):
    """Attention and feed-forward, each behind a layer norm and beside a skip connection."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(config.width)
        self.attention = Attention(config.width, config.heads)
        self.norm_feed_forward = nn.LayerNorm(config.width)
        self.feed_forward = nn.Sequential(
            nn.Linear(config.width, config.feed_forward * config.width),
            nn.GELU(),
            nn.Linear(config.feed_forward * config.width, config.width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) -> (N, T, D)."""
        x = x + self.attention(self.norm_attention(x))
        return x + self.feed_forward(self.norm_feed_forward(x))


class PatchLinear(nn.Module):
    """A linear map of its own for every token: (N, T, in) -> (N, T, out)."""

    def __init__(self, n_tokens: int, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_tokens, n_in, n_out) * n_in**-0.5)
        self.bias = nn.Parameter(torch.zeros(n_tokens, n_out))

    def forward(self, x: Tensor) -> Tensor:
        return torch.bmm(x.transpose(0, 1), self.weight).transpose(0, 1) + self.bias


class SpectrumTransformer(nn.Module):
    """Standardised labels in, normalised flux out.

    Parameters
    ----------
    n_inputs, n_pixels : int
        I and P.
    abundance_columns : sequence of int
        Inputs that are abundances.
    config : NetworkConfig

    Attributes
    ----------
    basis : (K + 1, P) Tensor
        Mean spectrum and orthonormal directions.
    direct : CoefficientNetwork
        The direct path.
    """

    basis: Tensor
    pixel_scale: Tensor

    def __init__(
        self, n_inputs: int, n_pixels: int, abundance_columns: Sequence[int], config: NetworkConfig
    ) -> None:
        super().__init__()
        self.config = config
        self.n_pixels = n_pixels
        n_tokens = math.ceil(n_pixels / config.patch)
        self.n_tokens = n_tokens
        self.register_buffer("basis", torch.zeros(config.components + 1, n_pixels))
        self.direct = CoefficientNetwork(n_inputs, abundance_columns, config.components, config.direct_hidden)
        self.position = nn.Parameter(wavelength_encoding(n_tokens, config.width))
        self.label_features = nn.Sequential(
            nn.Linear(n_inputs, 2 * config.label_features),
            nn.GELU(),
            nn.Linear(2 * config.label_features, config.label_features),
            nn.GELU(),
        )
        # One matrix for all tokens, (F) -> (T, D), is one matrix product.
        self.label_embedding = nn.Linear(config.label_features, n_tokens * config.width)
        self.blocks = nn.ModuleList(EncoderBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.head = PatchLinear(n_tokens, config.width, config.patch)
        # Typical size of what the direct path leaves, pixel by pixel: the encoder's output is in units of it.
        self.register_buffer("pixel_scale", torch.ones(n_pixels))
        nn.init.normal_(self.head.weight, std=0.1 * config.width**-0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, I) -> (N, P)."""
        return torch.addmm(self.basis[0], self.coefficients(inputs), self.basis[1:])

    def coefficients(self, inputs: Tensor) -> Tensor:
        """(N, I) -> (N, K) coefficients in the basis."""
        result: Tensor = self.direct(inputs) + self.added(inputs)
        return result

    def added(self, inputs: Tensor) -> Tensor:
        """(N, I) -> (N, K) coefficients of what the encoder adds to the direct path."""
        return self.encoded(inputs) @ self.basis[1:].T

    def encoded(self, inputs: Tensor) -> Tensor:
        """(N, I) -> (N, P): what the encoder adds, before projection."""
        embedding = self.label_embedding(self.label_features(inputs))
        x = self.position + embedding.unflatten(1, (self.n_tokens, -1))  # (N, T, D)
        for block in self.blocks:
            x = block(x)
        correction: Tensor = self.head(self.norm(x)).flatten(1)[:, : self.n_pixels]  # (N, P)
        return correction * self.pixel_scale

    @torch.no_grad()
    def scale_encoder(self, inputs: Tensor, coefficients: Tensor) -> None:
        """Set `pixel_scale` from what the direct path leaves of known spectra.

        Parameters
        ----------
        inputs : (N, I) Tensor
        coefficients : (N, K) Tensor
        """
        left = (coefficients - self.direct(inputs)) @ self.basis[1:]
        scale = left.square().mean(dim=0).sqrt()
        # A pixel that happens to be well known must not be frozen.
        self.pixel_scale.copy_(scale.clamp(min=0.3 * float(scale.median())))
