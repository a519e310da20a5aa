"""Sentences of different lengths in one row, without padding (on CPUs, where every padded position costs its share).

All positions of a batch are put one behind the other. What a transformer computes for each position by itself (linear
layers, normalisation, activations) then runs as few large operations over real positions only; attention alone looks at
several positions, and is computed sentence by sentence.

Nothing of the model is changed for it: while packed, a mode of this thread answers the calls of
``torch.nn.functional.scaled_dot_product_attention``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from itertools import groupby
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

FAMILIES = frozenset({"albert", "bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta"})
"""Encoders with absolute positions whose layers mix positions in scaled dot-product attention only."""


def can_pack(network: Any) -> bool:
    """Whether the transformer's output for packed sentences is its output for padded ones.

    Args:
        network: a model of the transformers library, without PEFT's wrapper.
    """
    config = getattr(network, "config", None)
    return (
        getattr(config, "model_type", None) in FAMILIES
        and getattr(config, "_attn_implementation", None) == "sdpa"
        and getattr(config, "position_embedding_type", None) in (None, "absolute")
        and not getattr(config, "is_decoder", False)
        and not getattr(config, "output_attentions", False)
        and "position_ids" in _arguments(type(network).forward)
    )


@functools.cache
def _arguments(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


class PackedRows(TorchFunctionMode):
    """Rows of a padded batch as one packed row. Entered around the network's forward pass.

    Args:
        attention_mask: 1 for positions that count, padding on the right, ``[rows, positions]``.
    """

    def __init__(self, attention_mask: torch.Tensor) -> None:
        super().__init__()
        self.rows, self.positions = attention_mask.shape
        lengths = attention_mask.sum(dim=1)
        lengths, order = lengths.sort(stable=True)
        inside = attention_mask.index_select(0, order).bool()
        columns = torch.arange(self.positions).expand(self.rows, -1)
        self._order = order
        self._inside = inside
        self._places = (order.unsqueeze(1) * self.positions + columns)[inside]
        self._runs = [(len(list(run)), length) for length, run in groupby(lengths.tolist())]
        self._sizes = [count * length for count, length in self._runs]
        self._attended = 0

    def pack(self, values: torch.Tensor) -> torch.Tensor:
        """``[rows, positions]`` -> ``[1, total]``, short rows first."""
        return values.index_select(0, self._order)[self._inside].unsqueeze(0)

    def unpack(self, states: torch.Tensor) -> torch.Tensor:
        """``[1, total, hidden]`` -> ``[rows, positions, hidden]`` in the order of the batch, zeros for padding."""
        padded = states.new_zeros(self.rows * self.positions, states.shape[2])
        return padded.index_copy(0, self._places, states[0]).view(self.rows, self.positions, -1)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is scaled_dot_product_attention:
            return self._attend(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **options: Any,
    ) -> torch.Tensor:
        """Attention within each sentence, ``[1, heads, total, size]``; sentences of one length are one batch.

        No mask is needed: what the model made up for the packed row is ignored.
        """
        self._attended += 1
        outputs = []
        parts = (tensor[0].split(self._sizes, dim=1) for tensor in (query, key, value))
        for (count, length), *inputs in zip(self._runs, *parts, strict=True):
            q, k, v = (part.unflatten(1, (count, length)).transpose(0, 1) for part in inputs)
            output = scaled_dot_product_attention(q, k, v, dropout_p=dropout_p, **options)
            outputs.append(output.transpose(0, 1).flatten(1, 2))
        return torch.cat(outputs, dim=1).unsqueeze(0)

    def complete(self, config: Any) -> bool:
        """Whether the attention of every layer came by; if not, the output mixes sentences and is of no use."""
        return self._attended == config.num_hidden_layers * getattr(config, "inner_group_num", 1)


def packed_inputs(network: Any, input_ids: torch.Tensor, rows: PackedRows) -> dict[str, torch.Tensor]:
    """The network's arguments for a packed batch, each ``[1, total]``."""
    inputs = {"input_ids": rows.pack(input_ids), "position_ids": rows.pack(_position_ids(network, input_ids))}
    if "token_type_ids" in _arguments(type(network).forward):
        inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
    return inputs


def _position_ids(network: Any, input_ids: torch.Tensor) -> torch.Tensor:
    """The positions the network gives to padded rows, ``[rows, positions]``."""
    padding = getattr(getattr(network, "embeddings", None), "padding_idx", None)
    if padding is None:
        return torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    counted = input_ids.ne(padding).long()  # RoBERTa's family counts from behind the padding index, over real tokens
    return counted.cumsum(dim=1) * counted + padding
