"""A small network for the coefficients of a spectrum in a fixed basis.

Most of what labels do to a spectrum is the doing of one abundance at a time, by an amount that depends on the
atmosphere.  So hidden units that know everything are multiplied by gates that are linear in the labels and
in squares and cubes of abundances, and a linear map runs beside.  It is a thousand times cheaper than a
transformer, and smooth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn


class CoefficientNetwork(nn.Module):
    """Standardised labels (N, I) in, coefficients (N, K) out.

    Parameters
    ----------
    n_inputs : int
        I.
    abundance_columns : sequence of int
        Inputs that are abundances, A of them.
    components : int
        K.
    hidden : int
        Width of the hidden layers.
    """

    coefficient_scale: Tensor
    abundance_columns: Tensor

    def __init__(self, n_inputs: int, abundance_columns: Sequence[int], components: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("abundance_columns", torch.tensor(list(abundance_columns)), persistent=False)
        self.register_buffer("coefficient_scale", torch.ones(components))
        widened = n_inputs + 2 * len(abundance_columns)
        self.linear = nn.Linear(widened, components)
        self.first = nn.Linear(n_inputs, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.gate = nn.Linear(widened, hidden)
        self.last = nn.Linear(hidden, components)

    @property
    def components(self) -> int:
        """K."""
        return len(self.coefficient_scale)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I) -> (N, K)."""
        wide = self.widened(x)
        hidden = nn.functional.gelu(self.second(nn.functional.gelu(self.first(x)))) * self.gate(wide)
        result: Tensor = (self.linear(wide) + self.last(hidden)) * self.coefficient_scale
        return result

    def widened(self, x: Tensor) -> Tensor:
        """(N, I) -> (N, I + 2 A): Hermite polynomials of order two and three of the abundances appended."""
        a = x[:, self.abundance_columns]
        square = a.square()
        return torch.cat([x, (square - 1.0) / math.sqrt(2.0), a * (square - 3.0) / math.sqrt(6.0)], dim=1)

    def with_derivatives(self, x: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients (N, K), and their change (N, L, K) where inputs change by `change` (N, L, I).

        The chain rule by hand: a layer's derivatives are one matrix product over all stars and directions.
        """
        wide = self.widened(x)
        a, moved = x[:, None, self.abundance_columns], change[:, :, self.abundance_columns]
        change_wide = torch.cat(
            [change, moved * (math.sqrt(2.0) * a), moved * ((a.square() - 1.0) * math.sqrt(1.5))], dim=2
        )
        hidden, gain = _gelu(self.first(x))
        moved = (change @ self.first.weight.T).mul_(gain[:, None, :])  # (N, L, H)
        hidden, gain = _gelu(self.second(hidden))
        gate = self.gate(wide)
        moved = (moved @ self.second.weight.T).mul_((gain * gate)[:, None, :])
        moved.addcmul_(change_wide @ self.gate.weight.T, hidden[:, None, :])
        coefficients = (self.linear(wide) + self.last(hidden * gate)) * self.coefficient_scale
        along = (change_wide @ self.linear.weight.T).add_(moved @ self.last.weight.T)
        along.mul_(self.coefficient_scale)
        return coefficients, along

    @torch.no_grad()
    def turned(self, origin: Tensor, turn: Tensor) -> CoefficientNetwork:
        """The network of ``(coefficients - origin) @ turn``, with (K,) and (K, k) Tensor, float64."""
        scaled = (self.coefficient_scale.double()[:, None] * turn).T
        other = deepcopy(self)
        for layer in (other.linear, other.last):
            layer.weight = nn.Parameter((scaled @ layer.weight.double()).float(), requires_grad=False)
            layer.bias = nn.Parameter((scaled @ layer.bias.double()).float(), requires_grad=False)
            layer.out_features = turn.shape[1]
        other.linear.bias.sub_((origin @ turn).float())
        other.coefficient_scale = torch.ones_like(other.linear.bias)
        return other

    @torch.no_grad()
    def start_from_linear(self, x: Tensor, target: Tensor, ridge: float = 1e-3) -> None:
        """Set the linear map by ridge regression, and the scale of the coefficients by their spread.

        Inputs are nearly collinear: a ridge keeps the weights small, hence safe in half precision.

        Parameters
        ----------
        x : (N, I) Tensor
        target : (N, K) Tensor
        ridge : float
            Relative to the variance of an input.
        """
        spread = target.std(dim=0)
        # Components without any variation, in a grid of few lines, must not be divided by.
        self.coefficient_scale.copy_(spread.clamp(min=1e-6 * float(spread.max())))
        wide = self.widened(x).double()
        centre, mean = wide.mean(dim=0), target.double().mean(dim=0)
        wide = wide - centre
        normal = wide.T @ wide + ridge * len(wide) * torch.eye(wide.shape[1], dtype=torch.float64)
        slope = torch.linalg.solve(normal, wide.T @ (target.double() - mean))  # (I + 2 A, K)
        scale = self.coefficient_scale.double()
        self.linear.weight.copy_((slope / scale).T)
        self.linear.bias.copy_((mean - centre @ slope) / scale)
        self.last.weight.mul_(0.1)
        self.last.bias.zero_()

    @torch.no_grad()
    def start_from(self, other: CoefficientNetwork, turn: Tensor, offset: Tensor) -> None:
        """Take over another network, whose coefficients c are ``c @ turn + offset`` here.

        Hidden units that the other lacks start without a say in the result.

        Parameters
        ----------
        other : CoefficientNetwork
            At most as wide.
        turn : (K_other, K) Tensor
        offset : (K,) Tensor
        """
        width = other.second.out_features
        for name in ("first", "second", "gate"):
            mine, known = getattr(self, name), getattr(other, name)
            mine.weight[:width, : known.in_features] = known.weight
            mine.bias[:width] = known.bias
        self.second.weight[:width, width:] = 0.0
        turn = other.coefficient_scale.double()[:, None] * turn.double()
        spread = turn.square().sum(dim=0).sqrt()
        self.coefficient_scale.copy_(spread.clamp(min=1e-6 * float(spread.max())))
        turn = turn / self.coefficient_scale.double()
        for name in ("linear", "last"):
            mine, known = getattr(self, name), getattr(other, name)
            mine.weight[:, : known.in_features] = (known.weight.double().T @ turn).T.float()
            mine.bias.copy_(known.bias.double() @ turn)
        self.last.weight[:, width:] = 0.0
        self.linear.bias.add_((offset.double() / self.coefficient_scale.double()).float())


def _gelu(x: Tensor) -> tuple[Tensor, Tensor]:
    """x times the normal distribution function of x, and the derivative."""
    below = torch.special.ndtr(x)
    density = torch.exp(-0.5 * x * x) * (2.0 * math.pi) ** -0.5
    return x * below, below + x * density
