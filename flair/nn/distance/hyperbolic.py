"""Hyperbolic geometry on the hyperboloid (Lorentz model).

Points are rows ``[n, dim + 1]``, the time coordinate first, with Minkowski norm -1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flair.nn.precision import compute_dtype

EPSILON = 1e-5
_MEAN_STEPS = 5
_MEAN_RATE = 0.01


def arccosh(x: Tensor) -> Tensor:
    """Inverse hyperbolic cosine; arguments are kept above 1, where the gradient is finite."""
    x = x.clamp(min=1 + EPSILON)
    return torch.log(x + torch.sqrt(x.square() - 1))


def mdot(x: Tensor, y: Tensor) -> Tensor:
    """Minkowski product of rows, ``[n, 1]``."""
    return (x[:, 1:] * y[:, 1:]).sum(1, keepdim=True) - x[:, :1] * y[:, :1]


def dist(x: Tensor, y: Tensor) -> Tensor:
    """Geodesic distance of rows, ``[n, 1]``."""
    return arccosh(-mdot(x, y))


def project(x: Tensor) -> Tensor:
    """Lift ``[n, dim]`` onto the hyperboloid, ``[n, dim + 1]``."""
    return torch.cat([torch.sqrt(1 + x.square().sum(1, keepdim=True)), x], dim=1)


def log_map(x: Tensor, y: Tensor) -> Tensor:
    """The tangent vector at ``x`` that leads to ``y``."""
    distance = dist(x, y)
    return distance / torch.sinh(distance) * (y - torch.cosh(distance) * x)


def norm(x: Tensor) -> Tensor:
    """Absolute Minkowski norm of rows, ``[n, 1]``."""
    return torch.sqrt(mdot(x, x).abs())


def exp_map(x: Tensor, y: Tensor) -> Tensor:
    """The point that the tangent vector ``y`` leads to from ``x``."""
    length = norm(y).clamp(min=EPSILON)
    return torch.cosh(length) * x + torch.sinh(length) / length * y


def loss(x: Tensor, y: Tensor) -> Tensor:
    """Sum of squared distances of rows."""
    return dist(x, y).square().sum()


class HyperbolicDistance(nn.Module):
    """Squared distance after lifting onto the hyperboloid."""

    def forward(self, mat_1: Tensor, mat_2: Tensor) -> Tensor:
        """``[n, dim]`` and ``[m, dim]`` -> ``[n, m]``."""
        mat_1, mat_2 = compute_dtype(mat_1), compute_dtype(mat_2)
        time = project(mat_1)[:, :1] @ project(mat_2)[:, :1].T
        # The product leaves out the first spatial coordinate. Prototypes of existing models were learned with it.
        return arccosh(time - mat_1[:, 1:] @ mat_2[:, 1:].T).square()


class HyperbolicMean(nn.Module):
    """The mean on the hyperboloid, as a point of the flat space again.

    It starts from the mean in the space around, brought back onto the hyperboloid, and takes five gradient steps of
    size 0.01 on the mean squared distance: a tenth of the way to the Fréchet mean, as in the released package.
    """

    def forward(self, data: Tensor) -> Tensor:
        """``[n, dim]`` -> ``[dim]``."""
        points = project(compute_dtype(data))
        mean = points.mean(0, keepdim=True)
        mean = mean / norm(mean)
        for _ in range(_MEAN_STEPS):
            start = mean.expand_as(points)
            apart = -mdot(start, points) > 1 + EPSILON  # nearer points have no direction that rounding leaves intact
            direction = torch.where(apart, log_map(start, points), 0.0).mean(0, keepdim=True)
            mean = exp_map(mean, 2 * _MEAN_RATE * direction)
        return mean[0, 1:]
