"""Objects that model files may hold: a fixed list of classes, taken apart into data and put together again.

No constructor runs: an object is its attributes. The names come from this list, never from a file, so that a file
cannot make anything be imported that is not written here.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from flair.checkpoint.errors import CheckpointError

_NUMPY_NAMES = (
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool_",
    "complex64",
)
NUMPY_TYPES: dict[str, type] = {f"numpy.{name}": getattr(np, name) for name in _NUMPY_NAMES}

_TORCH_MODULES = {
    "torch.nn.modules.activation": "ELU GELU LeakyReLU LogSoftmax MultiheadAttention ReLU SiLU Sigmoid Softmax Tanh",
    "torch.nn.modules.batchnorm": "BatchNorm1d",
    "torch.nn.modules.container": "ModuleDict ModuleList ParameterList Sequential",
    "torch.nn.modules.conv": "Conv2d",
    "torch.nn.modules.dropout": "Dropout Dropout2d",
    "torch.nn.modules.linear": "Bilinear Identity Linear NonDynamicallyQuantizableLinear",
    "torch.nn.modules.normalization": "LayerNorm",
    "torch.nn.modules.pooling": "AdaptiveAvgPool2d AdaptiveMaxPool2d MaxPool2d",
    "torch.nn.modules.sparse": "Embedding",
    "torch.nn.modules.transformer": "TransformerEncoder TransformerEncoderLayer",
}
_OWN_CLASSES = {
    "flair.nn.decoder": "DeepNCMDecoder PrototypicalDecoder",
    "flair.nn.dropout": "LockedDropout WordDropout",
    "flair.nn.distance.cosine": "CosineDistance LogitCosineDistance NegativeScaledDotProduct",
    "flair.nn.distance.euclidean": "EuclideanDistance EuclideanMean",
    "flair.nn.distance.hyperbolic": "HyperbolicDistance HyperbolicMean",
    "flair.models.entity_linker_model": "CandidateGenerator",
    "flair.models.prefixed_tagger": "EntityTypeTaskPromptAugmentationStrategy",
    "flair.models.relation_classifier_model": "EntityMarker EntityMarkerPunct EntityMask "
    "TypedEntityMarker TypedEntityMarkerPunct TypedEntityMask",
    "sklearn.feature_extraction.text": "CountVectorizer TfidfTransformer TfidfVectorizer",
}
OWNED: dict[str, str] = {
    f"{module}.{name}": module
    for table in (_TORCH_MODULES, _OWN_CLASSES)
    for module, names in table.items()
    for name in names.split()
}
"""Qualified class name -> the module that defines it."""

_INTERNAL = frozenset(vars(torch.nn.Module())) - {"training"}
_PARTS = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")


def name_of(cls: type) -> str:
    """The qualified name of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def is_owned(cls: type) -> bool:
    """Whether files may hold objects of this very class."""
    return name_of(cls) in OWNED


def class_by_name(name: Any) -> type:
    """The class behind a listed name.

    Raises:
        CheckpointError: for a name that is not listed, or whose module is not there.
    """
    if not isinstance(name, str) or name not in OWNED:
        raise CheckpointError(f"The file holds an object of class {name!r}, which model files cannot hold.")
    try:
        # The list above is the only source of module names; it also reaches up to modules that import this one.
        return getattr(importlib.import_module(OWNED[name]), name.rpartition(".")[2])
    except (ImportError, AttributeError) as error:
        raise CheckpointError(
            f"The file holds an object of class {name}, which is not available here: {error}"
        ) from error


def dismantle(value: Any) -> dict[str, Any]:
    """The attributes of an object as plain data."""
    state = dict(vars(value))
    if not isinstance(value, torch.nn.Module):
        return state
    attributes = {key: item for key, item in state.items() if key not in _INTERNAL}
    parts = {key: state[key] for key in _PARTS if state.get(key)}
    trainable = [key for key, item in value._parameters.items() if item is not None and item.requires_grad]
    return {"attributes": attributes, "trainable": trainable, **parts}


def reassemble(cls: type, state: Mapping[str, Any]) -> Any:
    """An object of a listed class with these attributes; accepts what :func:`dismantle` or a pickle gives."""
    value: Any = object.__new__(cls)
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise CheckpointError(f"The attributes of a {cls.__name__} in the file are damaged.")
    if not isinstance(value, torch.nn.Module):
        value.__dict__.update(state)
        return value
    torch.nn.Module.__init__(value)
    attributes = state.get("attributes", {key: item for key, item in state.items() if key not in _INTERNAL})
    for key, item in attributes.items():
        if hasattr(cls, key) and callable(getattr(cls, key)):
            raise CheckpointError(f"The file replaces the method {cls.__name__}.{key}.")
        value.__dict__[key] = item
    trainable = state.get("trainable")
    for key, item in (state.get("_parameters") or {}).items():
        grad = item is not None and (item.requires_grad if trainable is None else key in trainable)
        value._parameters[key] = None if item is None else torch.nn.Parameter(item.detach(), requires_grad=grad)
    for key, item in (state.get("_buffers") or {}).items():
        value._buffers[key] = item
    for key, item in (state.get("_modules") or {}).items():
        if item is not None and not isinstance(item, torch.nn.Module):
            raise CheckpointError(f"{cls.__name__}.{key} in the file is no module.")
        value._modules[key] = item
    value._non_persistent_buffers_set = set(state.get("_non_persistent_buffers_set") or ())
    return value
