"""Distances between embeddings and prototypes."""

from flair.nn.distance.cosine import CosineDistance, LogitCosineDistance, NegativeScaledDotProduct
from flair.nn.distance.euclidean import EuclideanDistance, EuclideanMean
from flair.nn.distance.hyperbolic import HyperbolicDistance, HyperbolicMean

__all__ = [
    "CosineDistance",
    "EuclideanDistance",
    "EuclideanMean",
    "HyperbolicDistance",
    "HyperbolicMean",
    "LogitCosineDistance",
    "NegativeScaledDotProduct",
]
