"""Recurrent layers by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

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


def run_padded(rnn: nn.RNNBase, vectors: torch.Tensor, lengths: torch.Tensor, state: Any = None) -> torch.Tensor:
    """Run a recurrent network with ``batch_first`` over padded sequences, each to its own end.

    Args:
        rnn: the network.
        vectors: ``[batch, time, features]``.
        lengths: ``[batch]`` on the CPU, all at least 1.
        state: initial states as the network takes them; zeros by default.

    Returns:
        The states of the last layer, ``[batch, time, directions * hidden]``; zeros beyond a sequence's end.
    """
    if int(lengths.min()) == vectors.size(1):  # nothing is padded
        return rnn(vectors, state)[0]
    if state is None and _dense_is_faster(rnn, vectors):
        return _run_dense(rnn, vectors, lengths)
    packed = pack_padded_sequence(vectors, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(rnn(packed, state)[0], batch_first=True, total_length=vectors.size(1))[0]


def _dense_is_faster(rnn: nn.RNNBase, vectors: torch.Tensor) -> bool:
    """Whether oneDNN's kernel, which knows LSTMs without packing, takes the network.

    Not one with dropout inside, and not one whose calls somebody watches.
    """
    return (
        type(rnn) is nn.LSTM
        and not (rnn._forward_hooks or rnn._forward_pre_hooks or rnn._backward_hooks or rnn._backward_pre_hooks)
        and rnn.proj_size == 0
        and not (rnn.training and rnn.dropout > 0 and rnn.num_layers > 1)
        and vectors.device.type == "cpu"
        and vectors.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_autocast_enabled("cpu")
    )


def _run_dense(rnn: nn.RNNBase, vectors: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Each direction of each layer as an LSTM of its own; backward ones read each sequence from its end."""
    batch, longest = vectors.shape[:2]
    times = torch.arange(longest)
    ends = lengths.unsqueeze(1)
    inside = times < ends
    flipped = torch.where(inside, ends - 1 - times, times)
    rows = (torch.arange(batch).unsqueeze(1) * longest + flipped).flatten()

    def reverse(values: torch.Tensor) -> torch.Tensor:
        return values.flatten(0, 1).index_select(0, rows).view(batch, longest, -1)

    start = vectors.new_zeros(1, batch, rnn.hidden_size)
    weights: Iterator[list[Any]] = iter(rnn.all_weights)
    for _ in range(rnn.num_layers):
        outputs = []
        for backward in range(2 if rnn.bidirectional else 1):
            read = reverse(vectors) if backward else vectors
            states = torch.lstm(read, (start, start), next(weights), rnn.bias, 1, 0.0, rnn.training, False, True)[0]
            outputs.append(reverse(states) if backward else states)
        vectors = torch.cat(outputs, dim=-1)
    return vectors * inside.unsqueeze(2)
