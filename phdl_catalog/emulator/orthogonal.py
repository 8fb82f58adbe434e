"""Steps along orthogonalised gradients, in single precision.

The optimiser Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers"): a matrix moves along the
nearest orthogonal matrix to its averaged gradient, so that all its directions learn alike.  torch has it too,
in half-length floats, which a processor without arithmetic for them computes four times slower than these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn

#: Quintic iteration that brings singular values between 0.7 and 1.2 in five steps, from Jordan et al.
_QUINTIC = (3.4445, -4.7750, 2.0315)
_STEPS = 5

_MOMENTUM = 0.95


def orthogonalised(matrix: Tensor) -> Tensor:
    """The nearest orthogonal matrix, roughly: singular values between 0.7 and 1.2."""
    a, b, c = _QUINTIC
    x = matrix.T if len(matrix) > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(_STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if len(matrix) > matrix.shape[1] else x


class OrthogonalSteps(torch.optim.Optimizer):
    """Muon with Nesterov's momentum; a step is as large as one of AdamW with the same learning rate.

    Parameters
    ----------
    parameters : iterable of (N, M) Parameter
    lr : float
        Learning rate.
    weight_decay : float
        Decoupled, as in AdamW.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
        return loss

    def _move(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        mean = state["momentum"].lerp_(gradient, 1.0 - _MOMENTUM)
        direction = orthogonalised(torch.lerp(gradient, mean, _MOMENTUM))
        # AdamW's steps have an rms of 0.2; an orthogonal matrix has one over the root of its longer side.
        size = group["lr"] * 0.2 * math.sqrt(max(parameter.shape))
        parameter.mul_(1.0 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-size)
