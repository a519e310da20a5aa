"""Hyperbolic geometry on the hyperboloid (Lorentz model).

Points are rows ``[n, dim + 1]``, the time coordinate first, with Minkowski norm -1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flair.nn.precision import compute_dtype

EPSILON = 1e-5


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
    """The tangent vector at ``y`` that leads to ``x``."""
    distance = dist(x, y)
    return distance / torch.sinh(distance) * (x - torch.cosh(distance) * y)


def norm(x: Tensor) -> Tensor:
    """Absolute Minkowski norm of rows, ``[n, 1]``."""
    return torch.sqrt(mdot(x, x).abs())


def exp_map(x: Tensor, y: Tensor) -> Tensor:
    """The point that the tangent vector ``x`` leads to from ``y``."""
    length = norm(x).clamp(min=EPSILON)
    return torch.cosh(length) * y + torch.sinh(length) / length * x


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
    """The mean on the hyperboloid, as a point of the flat space again."""

    def forward(self, data: Tensor) -> Tensor:
        """``[n, dim]`` -> ``[dim]``."""
        mean = project(compute_dtype(data)).mean(0, keepdim=True)
        return (mean / norm(mean))[0, 1:]
