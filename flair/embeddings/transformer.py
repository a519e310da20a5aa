"""Embeddings from Hugging Face transformers: load -> inputs -> forward -> pool.

This file holds the whole path. Its steps live beside it: ``_transformer/loading`` (weights), ``_transformer/base`` and
``inputs`` (sentences to tensors), ``chunks`` (little padding), ``pooling`` (hidden states to vectors) and ``adapters``
(PEFT).
"""

from __future__ import annotations

import copy
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, Optional, Union

import torch

from flair import _runtime
from flair.checkpoint.renames import COMPUTED, plain_name
from flair.data.sentence import Sentence
from flair.embeddings._transformer import loading, quantised
from flair.embeddings._transformer.adapters import AdapterMixin
from flair.embeddings._transformer.base import SENTENCE_BOUNDARY_TAG, SUBTOKEN_POOLINGS, TransformerBaseEmbeddings
from flair.embeddings._transformer.file_params import checked_config, checked_params
from flair.embeddings._transformer.jit import (
    TransformerJitDocumentEmbeddings,
    TransformerJitEmbeddings,
    TransformerJitWordEmbeddings,
)
from flair.embeddings._transformer.last_layer import take_last_state, watch_last_state
from flair.embeddings._transformer.legacy import restore_legacy_state
from flair.embeddings._transformer.onnx import (
    TransformerOnnxDocumentEmbeddings,
    TransformerOnnxEmbeddings,
    TransformerOnnxWordEmbeddings,
)
from flair.embeddings._transformer.packing import PackedRows, can_pack, packed_inputs
from flair.embeddings._transformer.pooling import (
    combine_strided_tensors,
    document_cls_pooling,
    document_max_pooling,
    document_mean_pooling,
    fill_masked_elements,
    fill_mean_token_embeddings,
    insert_missing_embeddings,
    pad_sequence_embeddings,
    remove_special_markup,
    truncate_hidden_states,
)
from flair.embeddings._transformer.tokenizer_files import (
    load_image_processor,
    load_tokenizer,
    prepare_tokenizer,
)
from flair.embeddings.base import register_embeddings
from flair.nn.dropout import quicken_dropout
from flair.nn.onednn import is_recorded, quick_products
from flair.nn.precision import DTypeLike, check_device_supports, common_dtype, dtype_name

__all__ = [
    "SENTENCE_BOUNDARY_TAG",
    "TransformerBaseEmbeddings",
    "TransformerEmbeddings",
    "TransformerJitDocumentEmbeddings",
    "TransformerJitEmbeddings",
    "TransformerJitWordEmbeddings",
    "TransformerOnnxDocumentEmbeddings",
    "TransformerOnnxEmbeddings",
    "TransformerOnnxWordEmbeddings",
    "combine_strided_tensors",
    "document_cls_pooling",
    "document_max_pooling",
    "document_mean_pooling",
    "fill_masked_elements",
    "fill_mean_token_embeddings",
    "insert_missing_embeddings",
    "pad_sequence_embeddings",
    "remove_special_markup",
    "truncate_hidden_states",
]


@register_embeddings
class TransformerEmbeddings(AdapterMixin, TransformerBaseEmbeddings):
    """Token and document embeddings from one pass through a transformer."""

    onnx_cls: type[TransformerOnnxEmbeddings] = TransformerOnnxEmbeddings

    _packing_works = True

    def __init__(
        self,
        model: str = "bert-base-uncased",
        fine_tune: bool = True,
        layers: str = "-1",
        layer_mean: bool = True,
        subtoken_pooling: Literal["first", "last", "first_last", "mean"] = "first",
        cls_pooling: Literal["cls", "max", "mean"] = "cls",
        is_token_embedding: bool = True,
        is_document_embedding: bool = True,
        allow_long_sentences: bool = False,
        use_context: Union[bool, int] = False,
        respect_document_boundaries: bool = True,
        context_dropout: float = 0.5,
        saved_config: Any = None,
        tokenizer_data: Optional[BytesIO] = None,
        feature_extractor_data: Optional[BytesIO] = None,
        name: Optional[str] = None,
        force_max_length: bool = False,
        needs_manual_ocr: Optional[bool] = None,
        use_context_separator: bool = True,
        transformers_tokenizer_kwargs: dict[str, Any] = {},
        transformers_config_kwargs: dict[str, Any] = {},
        transformers_model_kwargs: dict[str, Any] = {},
        peft_config: Any = None,
        peft_gradient_checkpointing_kwargs: Optional[dict[str, Any]] = {},
        dtype: DTypeLike = None,
        **kwargs: Any,
    ) -> None:
        """Load a transformer.

        Args:
            model: a name on the Hugging Face hub or the path of a folder.
            fine_tune: train the transformer with the task. Frozen transformers stay in evaluation mode.
            layers: hidden states to use, "all" or e.g. "-1,-2"; 0 is the embedding layer.
            layer_mean: average the hidden states instead of concatenating them.
            subtoken_pooling: how sub-tokens become a token; "first_last" doubles the length.
            cls_pooling: how sub-tokens become a document: the summary token, their mean or their maximum.
            is_token_embedding: give a vector a token.
            is_document_embedding: give a vector a sentence.
            allow_long_sentences: read sentences over the model's limit through overlapping windows, else cut them.
            use_context: show the model neighbouring sentences: a number of tokens on each side (True: 64).
            respect_document_boundaries: end the context where a document ends.
            context_dropout: how often context is left out in training.
            saved_config: a configuration object; the network is built from it and its weights are loaded later.
            tokenizer_data: the tokenizer as a zip of its files, with ``saved_config``.
            feature_extractor_data: the image processor as a zip of its files, with ``saved_config``.
            name: the key of the vectors on data points, "transformer-<model>" by default.
            force_max_length: pad every batch to the model's limit.
            needs_manual_ocr: the caller's tokens carry boxes ("bbox" metadata), by default where the tokenizer asks.
            use_context_separator: mark the sentence in its context by [FLERT] tokens.
            transformers_tokenizer_kwargs: for the tokenizer's ``from_pretrained``.
            transformers_config_kwargs: for the configuration's ``from_pretrained``.
            transformers_model_kwargs: for the model's ``from_pretrained``, as are all further keywords.
            peft_config: a ``PeftConfig``, its dict, or the path of a saved adapter: trains adapters on a frozen base.
            peft_gradient_checkpointing_kwargs: gradient checkpointing under adapters, None or {} for none.
            dtype: "float32", "bfloat16", "float16" or "auto" (the checkpoint's); None is float32 unless
                ``transformers_model_kwargs`` names a dtype.

        Raises:
            FileNotFoundError: neither a folder nor a model the hub or its cache has.
            ValueError: an unknown pooling, no kind of output, a layer the model does not have, a PEFT method that does
                not apply to feature extraction.
        """
        _quiet_transformers()
        if subtoken_pooling not in SUBTOKEN_POOLINGS:
            raise ValueError(
                f"Unknown subtoken_pooling {subtoken_pooling!r}. Use one of {', '.join(SUBTOKEN_POOLINGS)}."
            )
        self.base_model_name = str(model)
        model_options = {**transformers_model_kwargs, **kwargs}
        rebuilding = saved_config is not None
        config = saved_config
        if not rebuilding:
            config = loading.load_config(self.base_model_name, **transformers_config_kwargs)
        if tokenizer_data is not None:
            tokenizer = self._tokenizer_from_bytes(tokenizer_data)
            feature_extractor = self._feature_extractor_from_bytes(feature_extractor_data)
        else:
            tokenizer = prepare_tokenizer(load_tokenizer(self.base_model_name, **transformers_tokenizer_kwargs))
            feature_extractor = load_image_processor(self.base_model_name, config.model_type)
        packed = model_options.pop(quantised.PACKED, None)
        if rebuilding and quantised.is_quantised(config):
            network = quantised.load(self.base_model_name, config, dtype, packed)
        elif rebuilding:
            network = loading.build_model(config, dtype, **model_options)
        else:
            network = quantised.prepared(loading.load_model(self.base_model_name, config, dtype, **model_options))

        limited = tokenizer.model_max_length is not None and tokenizer.model_max_length < 10**12
        super().__init__(
            name=name or f"transformer-{self.base_model_name}",
            tokenizer=tokenizer,
            embedding_length=loading.hidden_size(config),
            context_length=64 if use_context is True else int(use_context),
            context_dropout=context_dropout,
            respect_document_boundaries=respect_document_boundaries,
            stride=tokenizer.model_max_length // 2 if limited and allow_long_sentences else 0,
            allow_long_sentences=allow_long_sentences and limited,
            fine_tune=fine_tune,
            truncate=limited,
            use_lang_emb=bool(getattr(network, "use_lang_emb", False)),
            cls_pooling=cls_pooling,
            is_document_embedding=is_document_embedding,
            is_token_embedding=is_token_embedding,
            force_max_length=force_max_length,
            feature_extractor=feature_extractor,
            needs_manual_ocr=needs_manual_ocr,
            use_context_separator=use_context_separator,
        )
        self.layer_indexes = _layer_indexes(layers, config)
        self.layer_mean = layer_mean
        self.subtoken_pooling = subtoken_pooling
        self.embedding_length_internal = self._vector_length(config)
        self._last_layer_is_output: bool | None = None
        quicken_dropout(network)
        self._last_state_watched = watch_last_state(network)
        self._weights_missing = rebuilding
        self._dtype_recorded = dtype is not None
        self.model = network
        self._add_separator()
        self._init_adapters(peft_config, peft_gradient_checkpointing_kwargs)
        check_device_supports(self.dtype, _runtime.device)
        self.to(_runtime.device)
        self.eval()

    # -- network ------------------------------------------------------------------------------------------------------

    def forward(
        self,
        input_ids: torch.Tensor,
        sub_token_lengths: Optional[torch.LongTensor] = None,
        token_lengths: Optional[torch.LongTensor] = None,
        attention_mask: Optional[torch.Tensor] = None,
        overflow_to_sample_mapping: Optional[torch.Tensor] = None,
        word_ids: Optional[torch.Tensor] = None,
        langs: Optional[torch.Tensor] = None,
        bbox: Optional[torch.Tensor] = None,
        pixel_values: Optional[torch.Tensor] = None,
    ) -> dict[str, torch.Tensor]:
        """Run the transformer and pool.

        Args:
            input_ids: ``[rows, positions]``; a row is a sentence or a window of a long one.
            sub_token_lengths: positions of each sentence without padding, ``[sentences]``.
            token_lengths: tokens of each sentence, ``[sentences]``.
            attention_mask: 1 for positions that count, ``[rows, positions]``.
            overflow_to_sample_mapping: the sentence of each row, ``[rows]``.
            word_ids: the token of each position, negative for none, ``[rows, positions]``.
            langs: the language of each position, for XLM, ``[rows, positions]``.
            bbox: the place on the page of each position, ``[rows, positions, 4]``.
            pixel_values: the page of each row, ``[rows, channels, height, width]``.

        Returns:
            "document_embeddings" ``[sentences, length]`` and "token_embeddings" ``[sentences, tokens, length]``,
            as set.
        """
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        optional = {"langs": langs, "bbox": bbox, "pixel_values": pixel_values}
        optional_given = {name: value for name, value in optional.items() if value is not None}
        inputs.update(optional_given)
        hidden_states = None
        if attention_mask is not None and not optional_given and self._packs():
            hidden_states = self._packed_states(input_ids, attention_mask)
        if hidden_states is None:
            hidden_states = self._select_layers(self._hidden_states(inputs))
        return self._pool_states(hidden_states, word_ids, token_lengths, sub_token_lengths, overflow_to_sample_mapping)

    def _forward_tensors(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        self._materialise()
        return self.forward(**tensors)  # type: ignore[arg-type]

    def _hidden_states(self, inputs: dict[str, Any]) -> tuple[torch.Tensor, ...]:
        """The model's hidden states, or only the last where no other is needed."""
        last_only = self.layer_indexes == [-1] and (self._last_state_watched or self._last_layer_is_output is True)
        model = self.model if self._adapters_enabled() else self.base_model()
        with quick_products():
            output = model(**inputs, output_hidden_states=not last_only, return_dict=True)
        if last_only:
            states = (output.last_hidden_state,)
        else:
            states = output.get("hidden_states") or output.get("encoder_hidden_states")
            if self._last_layer_is_output is None and "hidden_states" in output:
                self._last_layer_is_output = torch.equal(states[-1], output.last_hidden_state)
        if self._last_state_watched:
            states = (*states[:-1], take_last_state())
        positions = inputs["input_ids"].shape[1]
        states = self._without_virtual_tokens(states, positions)
        if "pixel_values" in inputs:  # layout models append the patches of the page
            states = tuple(state[:, :positions] for state in states)
        return states

    def _packed_states(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor | None:
        """``[rows, positions, length]`` computed without padding, or None from a network whose layers were changed."""
        network = self.base_model()
        with PackedRows(attention_mask) as rows:
            states = self._hidden_states(packed_inputs(network, input_ids, rows))
        if rows.complete(network.config):
            return rows.unpack(self._select_layers(states))
        self._packing_works = False
        return None

    def _packs(self) -> bool:
        """Whether sentences of different lengths go through the network in one row, see :mod:`.packing`."""
        network = self.base_model()
        return (
            self._packing_works
            and self._input_device().type == "cpu"
            and not self.force_max_length
            and self._positions_are_independent()
            and not is_recorded()
            and can_pack(network)
            and not (network.training and loading.checkpoints_activations(network))
        )

    def _select_layers(self, states: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """``[rows, positions, length]`` from the layers asked for, averaged or side by side."""
        if len(self.layer_indexes) == 1:
            return states[self.layer_indexes[0]]
        chosen = [states[index] for index in self.layer_indexes]
        if self.layer_mean:
            return torch.stack(chosen).mean(dim=0)
        return torch.cat(chosen, dim=-1)

    def _max_length(self) -> int | None:
        limit = super()._max_length()
        return None if limit is None else limit - self._virtual_tokens()

    def _mask_is_optional(self) -> bool:
        return not self._has_virtual_tokens()

    def _input_device(self) -> torch.device:
        if self.force_device is not None:
            return self.force_device
        return next(self.model.parameters()).device

    @property
    def embedding_length(self) -> int:
        return self.embedding_length_internal

    @property
    def embedding_type(self) -> str:
        return "word-level" if self.token_embedding else "sentence-level"

    def _vector_length(self, config: Any) -> int:
        length = loading.hidden_size(config)
        if not self.layer_mean:
            length *= len(self.layer_indexes)
        return 2 * length if self.token_embedding and self.subtoken_pooling == "first_last" else length

    def train(self, mode: bool = True) -> Any:
        """Switch training mode; a frozen transformer always runs without dropout."""
        super().train(mode)
        if mode and not self.fine_tune:
            self.model.eval()
        return self

    def _apply(self, fn: Any, *args: Any, **options: Any) -> Any:
        """Move or cast; rotary frequencies are moved only: rounded, they would turn far positions by large angles."""
        frequencies = {
            name: buffer
            for name, buffer in self.named_buffers()
            if name.endswith("inv_freq") and buffer.is_floating_point() and not buffer.is_meta
        }
        super()._apply(fn, *args, **options)
        for name, exact in frequencies.items():
            owner, _, attribute = name.rpartition(".")
            module = self.get_submodule(owner)
            cast = getattr(module, attribute)
            if cast.dtype != exact.dtype:
                setattr(module, attribute, exact.to(cast.device))
        return self

    def _add_separator(self) -> None:
        """Make room for [FLERT] in the tokenizer and the embedding matrix (before adapters are put around it)."""
        if self.use_context_separator and SENTENCE_BOUNDARY_TAG not in self.tokenizer.get_added_vocab():
            self.tokenizer.add_special_tokens({"additional_special_tokens": [SENTENCE_BOUNDARY_TAG]})
        rows = self.model.get_input_embeddings().weight.shape[0]
        if len(self.tokenizer) > rows:
            self.model.resize_token_embeddings(len(self.tokenizer), mean_resizing=False)
            with torch.no_grad():  # the mean of all others, so that two constructions of a model are equal
                weight = self.model.get_input_embeddings().weight
                weight[rows:] = weight[:rows].float().mean(dim=0)

    def export_onnx(
        self, path: Union[str, Path], example_sentences: list[Sentence], **kwargs: Any
    ) -> TransformerOnnxEmbeddings:
        """Write the network to an ONNX file; the result gives the same vectors without torch's network.

        Args:
            path: the new file.
            example_sentences: any sentences; the graph takes batches of every size and length.
            kwargs: ``opset_version``, ``providers``, ``session_options``.
        """
        return self.onnx_cls.export_from_embedding(path, self, example_sentences, **kwargs)

    # -- files --------------------------------------------------------------------------------------------------------

    def to_params(self) -> dict[str, Any]:
        """The configuration, tokenizer and adapters this embedding is rebuilt from; no weights."""
        params = super().to_params()
        for derived in ("truncate", "stride", "embedding_length", "use_lang_emb"):
            params.pop(derived)
        base = self.base_model()
        params.update(
            model=self.base_model_name,
            layers=",".join(str(index) for index in self.layer_indexes),
            layer_mean=self.layer_mean,
            subtoken_pooling=self.subtoken_pooling,
            config_state_dict=loading.config_to_dict(base.config),
            peft_config=self._adapter_params(),
            dtype=dtype_name(self.dtype),
        )
        if quantised.is_quantised(base.config):
            params[quantised.PACKED] = quantised.pack(self._without_adapters())
        return params

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> Any:
        """Rebuild from :meth:`to_params`; weights are loaded afterwards and are not initialised before."""
        params = dict(params)
        for derived in ("truncate", "stride", "embedding_length", "use_lang_emb", "__cls__"):
            params.pop(derived, None)
        params["use_context"] = params.pop("context_length", 0)
        config = params.pop("config_state_dict", None)
        if config:
            params["saved_config"] = loading.config_from_dict(checked_config(config))
        params = checked_params(params, (cls, TransformerEmbeddings), [quantised.PACKED])
        return cls.create_from_state(**params)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Prepare for the weights that torch is about to copy into :attr:`model`."""
        start = f"{prefix}model."
        incoming = {key[len(start) :]: value for key, value in state_dict.items() if key.startswith(start)}
        if incoming:
            for key in self._obsolete_buffers(incoming):
                del state_dict[start + key], incoming[key]
            self._adopt_dtype(incoming)
            self._weights_missing = False
            named = set(incoming)
            self._load_adapters(incoming)
            if incoming.keys() != named:
                for key in named:
                    del state_dict[start + key]
                state_dict.update({start + key: value for key, value in incoming.items()})
            if quantised.is_quantised(self.base_model().config):
                self._held_elsewhere = {start + key for key in quantised.quantised_keys(self.model)}
        super()._load_from_state_dict(  # type: ignore[misc]
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def state_dict(self, *args: Any, **options: Any) -> dict[str, Any]:  # type: ignore[override]
        """The weights, without those of a quantised transformer's matrices: :meth:`to_params` holds them."""
        state = super().state_dict(*args, **options)
        if quantised.is_quantised(self.base_model().config):
            for key in quantised.quantised_keys(self.model):
                del state[f"{options.get('prefix', '')}model.{key}"]
        return state

    def _obsolete_buffers(self, incoming: dict[str, Any]) -> list[str]:
        """Constants that older transformers versions saved and newer ones compute (``position_ids`` ...)."""
        own = self.model.state_dict().keys()
        computed = [name for name, _ in self.model.named_buffers() if name not in own]
        ends = {name.rpartition(".")[2] for name in computed}.union(COMPUTED)
        suspects = {key: plain_name(key) for key in incoming if key.rpartition(".")[2] in ends}
        if not suspects:
            return []
        known, constants = set(map(plain_name, own)), set(map(plain_name, computed))
        return [
            key
            for key, name in suspects.items()
            if name not in known and (name in constants or name.rpartition(".")[2] in COMPUTED)
        ]

    def _adopt_dtype(self, incoming: dict[str, Any]) -> None:
        """Files of releases that recorded no dtype hold it in their weights."""
        if self._dtype_recorded or not self._weights_missing:
            return
        stored = common_dtype(value for value in incoming.values() if isinstance(value, torch.Tensor))
        if stored is not None and stored != self.dtype:
            self.model.to(stored)

    def _materialise(self) -> None:
        """Weights that never came are drawn, adapters that waited for them are put around the model."""
        if self._weights_missing:
            self._weights_missing = False
            if not quantised.is_quantised(self.model.config):
                loading.initialise(self.model)
        self._wrap_pending()

    def __getstate__(self) -> dict[str, Any]:
        """For pickle: configuration and weights, as in model files; no code of the transformers library."""
        self._materialise()
        learning = {name: parameter.requires_grad for name, parameter in self.named_parameters()}
        return {
            "params": self.to_params(),
            "state_dict": self.state_dict(),
            "training": self.training,
            "requires_grad": learning,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled instance, those of released versions included."""
        if "params" not in state:
            restore_legacy_state(self, state)
            return
        rebuilt = type(self).from_params(state["params"])
        rebuilt.load_state_dict(state["state_dict"])
        for name, parameter in rebuilt.named_parameters():
            parameter.requires_grad_(state["requires_grad"][name])
        self.__dict__ = rebuilt.train(state["training"]).__dict__

    def __deepcopy__(self, memo: dict[int, Any]) -> TransformerEmbeddings:
        """A copy of every part, whatever :meth:`__getstate__` leaves out."""
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__ = copy.deepcopy(self.__dict__, memo)
        return twin


for _public in (
    TransformerJitDocumentEmbeddings,
    TransformerJitEmbeddings,
    TransformerJitWordEmbeddings,
    TransformerOnnxDocumentEmbeddings,
    TransformerOnnxEmbeddings,
    TransformerOnnxWordEmbeddings,
):
    _public.__module__ = __name__
del _public


def _quiet_transformers() -> None:
    """The library's warnings (unused pooler weights, long inputs) are about uses that are not ours."""
    from transformers import logging as transformers_logging

    transformers_logging.set_verbosity_error()


def _layer_indexes(layers: str, config: Any) -> list[int]:
    """``"all"`` or comma-separated numbers as a list.

    Raises:
        ValueError: for something else, or a layer the model does not have.
    """
    if layers == "all":
        return list(range(loading.hidden_state_count(config)))
    try:
        indexes = [int(part) for part in str(layers).split(",")]
    except ValueError:
        raise ValueError(f"layers={layers!r} is neither 'all' nor numbers such as '-1,-2'.") from None
    if indexes != [-1]:
        count = loading.hidden_state_count(config)
        missing = [index for index in indexes if not -count <= index < count]
        if missing:
            raise ValueError(
                f"layers={layers!r}: the model has no layer {', '.join(map(str, missing))}. Its layers are 0 (the "
                f"embedding layer) to {count - 1}, or -1 to -{count} from the end."
            )
    return indexes
