"""Recurrent layers by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

rnn_layers: dict[str, tuple[Callable[..., nn.RNNBase], int]] = {"lstm": (nn.LSTM, 2), "gru": (nn.GRU, 1)}
"""Name -> layer class and how many state tensors (LSTM: hidden and cell) it carries."""


def create_recurrent_layer(
    layer_type: str, initial_size: int, hidden_size: int, nlayers: int, dropout: float = 0, **kwargs: Any
) -> tuple[nn.RNNBase, int]:
    """Build a recurrent layer.

    Args:
        layer_type: "lstm" or "gru", in any case.
        initial_size: features of the input.
        hidden_size: features of the hidden state.
        nlayers: number of stacked layers.
        dropout: between the layers; there is nothing to drop with a single one.
        **kwargs: further arguments of the torch layer.

    Returns:
        The layer and the number of its state tensors.

    Raises:
        AssertionError: for another layer type.
    """
    kind = layer_type.lower()
    if kind not in rnn_layers:
        raise AssertionError(f"Unknown recurrent layer {layer_type!r}. Use one of {', '.join(rnn_layers)}.")
    layer_class, state_count = rnn_layers[kind]
    layer = layer_class(initial_size, hidden_size, nlayers, dropout=0 if nlayers == 1 else dropout, **kwargs)
    return layer, state_count
