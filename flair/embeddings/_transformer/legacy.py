"""Pickled embeddings of released versions: parameters and weights side by side in one dict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flair.embeddings._transformer import loading

if TYPE_CHECKING:
    from flair.embeddings.transformer import TransformerEmbeddings

_DROPPED = (
    "batch_size",
    "embedding_length_internal",
    "memory_effective_training",
    "truncate",
    "stride",
    "use_lang_emb",
)
_RENAMED = {
    "base_model_name": "model",
    "use_scalar_mix": "layer_mean",
    "pooling_operation": "subtoken_pooling",
    "pooling": "cls_pooling",
}


def constructor_arguments(state: dict[str, Any]) -> dict[str, Any]:
    """The constructor arguments behind a pickled state."""
    arguments = {key: value for key, value in state.items() if key not in _DROPPED}
    arguments.pop("model_state_dict", None)
    config = dict(arguments.pop("config_state_dict", None) or {})
    arguments.setdefault("is_token_embedding", "pooling_operation" in arguments)
    arguments.setdefault("is_document_embedding", "pooling" in arguments)
    for old, new in _RENAMED.items():
        if old in arguments:
            arguments[new] = arguments.pop(old)
    arguments["use_context"] = arguments.pop("context_length", False)
    arguments.setdefault("use_context_separator", False)
    layers = arguments.pop("layer_indexes", None)
    if layers is not None:
        arguments["layers"] = ",".join(str(index) for index in layers)
    if config:
        if config.get("_name_or_path") in (None, "None"):
            config["_name_or_path"] = arguments.get("model")
        arguments["saved_config"] = loading.config_from_dict(config)
    return arguments


def restore_legacy_state(embedding: TransformerEmbeddings, state: dict[str, Any]) -> None:
    """Construct an unpickled embedding from its parameters and load its weights."""
    weights = state.get("model_state_dict")
    rebuilt = type(embedding).create_from_state(**constructor_arguments(state))
    if weights is not None:
        rebuilt.load_state_dict({f"model.{key}": value for key, value in weights.items()})
    embedding.__dict__ = rebuilt.__dict__
