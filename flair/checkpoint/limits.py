"""Sizes that no model has: a file that names one would make loading take all memory, or never end."""

from __future__ import annotations

import re
from typing import Any

from flair.checkpoint.errors import CheckpointError

_MOST_LAYERS = 4096
_LARGEST_SIZE = 1 << 26
_TABLE = 4096
"""Dicts with more entries are tables (vocabularies), not settings."""
_LAYERS = re.compile(r"(^|_)(layers?|num_layer|n_layers?)$")
_SIZE = re.compile(
    r"(size|length|dim|heads?|positions?|position_embeddings|embd|d_model|d_ff|d_kv|experts|channels|tokens)$"
)


def check_limits(state: dict[str, Any]) -> None:
    """Look at every setting in a state.

    Raises:
        CheckpointError: a number of layers or a size beyond what any model has.
    """
    todo: list[tuple[str, Any]] = [("", state)]
    while todo:
        place, item = todo.pop()
        if isinstance(item, (list, tuple)):
            todo.extend((place, value) for value in item if isinstance(value, (dict, list, tuple)))
        if not isinstance(item, dict) or len(item) > _TABLE:
            continue
        for key, value in item.items():
            name = f"{place}/{key}".lstrip("/")
            if isinstance(value, (dict, list, tuple)) and key != "state_dict":
                todo.append((name, value))
            elif type(value) in (int, float) and isinstance(key, str) and value > _MOST_LAYERS:
                most = _MOST_LAYERS if _LAYERS.search(key) else _LARGEST_SIZE if _SIZE.search(key) else value
                # tokenizers write 1e30 for a length without a limit
                if value > most and not key.endswith("max_length"):
                    raise CheckpointError(f"The file is damaged: it has {name} = {value}; the limit is {most}.")
