"""Transformer embeddings whose network is an ONNX graph, run by onnxruntime.

The graph goes from inputs to hidden states. Sentences become tensors, and hidden states vectors, in the same code as
for the torch network; windows over long sentences and batches of any size need nothing from the graph.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

import torch

from flair import _runtime
from flair.class_utils import lazy_import
from flair.data.sentence import Sentence
from flair.embeddings._transformer.base import TransformerBaseEmbeddings, exported_tokenizer
from flair.embeddings.base import DocumentEmbeddings, TokenEmbeddings, register_embeddings

if TYPE_CHECKING:
    from flair.embeddings.transformer import TransformerEmbeddings

HIDDEN_STATES = "hidden_states"
POOLED = ("token_embeddings", "document_embeddings")
"""Outputs of graphs from released versions, which pool themselves."""
_NETWORK_INPUTS = ("input_ids", "attention_mask", "langs", "bbox", "pixel_values")
_PACKED = "model.onnx"
_FALLBACK = ["CPUExecutionProvider"]


class _HiddenStates(torch.nn.Module):
    """The part of an embedding that is exported: positional inputs in, the chosen layers' hidden states out."""

    def __init__(self, embedding: TransformerEmbeddings, names: list[str]) -> None:
        super().__init__()
        self.embedding = embedding
        self.names = names

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        inputs = dict(zip(self.names, tensors, strict=True))
        return self.embedding._select_layers(self.embedding._hidden_states(inputs))


@register_embeddings
class TransformerOnnxEmbeddings(TransformerBaseEmbeddings):
    """Embeddings from an exported transformer, made by ``TransformerEmbeddings.export_onnx``; they are not trained."""

    def __init__(
        self, onnx_model: str, providers: list = [], session_options: Optional[dict] = None, **kwargs: Any
    ) -> None:
        """Open an ONNX file.

        Args:
            onnx_model: the path of the graph.
            providers: execution providers of onnxruntime in the order of preference; [] leaves it to
                :meth:`create_session`, which takes the CPU.
            session_options: attributes of ``onnxruntime.SessionOptions``, e.g. ``{"intra_op_num_threads": 1}``.
            kwargs: the arguments of :class:`TransformerBaseEmbeddings`, and ``subtoken_pooling``.

        Raises:
            ImportError: onnxruntime is not installed.
            FileNotFoundError: no such file.
        """
        subtoken_pooling = kwargs.pop("subtoken_pooling", "first")
        super().__init__(**kwargs)
        self.subtoken_pooling = subtoken_pooling
        self.onnx_model = str(onnx_model)
        self.providers = providers
        self.session_options = session_options
        self.session: Any = None
        self._folder: tempfile.TemporaryDirectory | None = None
        self.create_session()
        self.to(_runtime.device)
        self.eval()

    # -- session ------------------------------------------------------------------------------------------------------

    def create_session(self) -> None:
        """Open the graph in onnxruntime.

        Raises:
            ImportError: onnxruntime is not installed.
            FileNotFoundError: no such file.
            ValueError: no ONNX graph, or one without its weights; session options that onnxruntime does not have.
        """
        inference_session, options_class = lazy_import("onnx", "onnxruntime", "InferenceSession", "SessionOptions")
        if not Path(self.onnx_model).is_file():
            raise FileNotFoundError(f"The ONNX file {self.onnx_model} is not there. Export the embedding again.")
        options = options_class()
        for key, value in (self.session_options or {}).items():
            if not hasattr(options, key):
                raise ValueError(f"session_options: onnxruntime.SessionOptions has no {key!r}.")
            setattr(options, key, value)
        try:
            self.session = inference_session(self.onnx_model, options, providers=self._available_providers())
        except Exception as error:  # onnxruntime's exceptions have no base class of their own
            if not type(error).__module__.startswith("onnxruntime"):
                raise
            raise ValueError(
                f"onnxruntime cannot open {self.onnx_model}: the file is damaged or cut off, a file of weights that "
                f"belongs beside it is missing, or the graph is too new for this version. Export the embedding again. "
                f"({str(error).strip()[:300]})"
            ) from error

    def _available_providers(self) -> list[Any]:
        """Those asked for that this machine has: a model from a machine with a GPU runs on one without."""
        (list_available,) = lazy_import("onnx", "onnxruntime", "get_available_providers")
        available = list_available()
        wanted = [(provider if isinstance(provider, str) else provider[0], provider) for provider in self.providers]
        missing = [name for name, _ in wanted if name not in available]
        if missing:
            _runtime.logger.warning(f"ONNX provider {', '.join(missing)} is not available here and is left out.")
        return [provider for name, provider in wanted if name in available] or _FALLBACK

    def remove_session(self) -> None:
        """Close the graph and free its memory; :meth:`create_session` opens it again."""
        self.session = None

    def _forward_tensors(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if self.session is None:
            self.create_session()
        wanted = [argument.name for argument in self.session.get_inputs()]
        missing = [name for name in wanted if name not in tensors]
        if missing:
            raise ValueError(
                f"The graph {self.onnx_model} asks for {', '.join(missing)}; there is {', '.join(tensors)}."
            )
        names = [output.name for output in self.session.get_outputs()]
        arrays = self.session.run(names, {name: tensors[name].cpu().numpy() for name in wanted})
        device = tensors["input_ids"].device
        outputs = {name: torch.from_numpy(array).to(device) for name, array in zip(names, arrays, strict=True)}
        if HIDDEN_STATES not in outputs:
            return {name: outputs[name] for name in POOLED if name in outputs}
        return self._pool_states(
            outputs[HIDDEN_STATES],
            tensors.get("word_ids"),
            tensors.get("token_lengths"),
            tensors.get("sub_token_lengths"),
            tensors.get("overflow_to_sample_mapping"),
        )

    # -- smaller and faster graphs ------------------------------------------------------------------------------------

    def optimize_model(
        self, optimize_model_path: Union[str, Path], use_external_data_format: bool = False, **kwargs: Any
    ) -> None:
        """Fuse the graph's operations, write the result to a file and use it from now on.

        Args:
            optimize_model_path: the new file.
            use_external_data_format: keep the weights in a file beside it (graphs over 2 GB).
            kwargs: for ``onnxruntime.transformers.optimizer.optimize_model``.
        """
        (optimize,) = lazy_import("onnx", "onnxruntime.transformers.optimizer", "optimize_model")
        self.remove_session()
        Path(optimize_model_path).parent.mkdir(parents=True, exist_ok=True)
        optimised = optimize(self.onnx_model, **kwargs)
        optimised.save_model_to_file(str(optimize_model_path), use_external_data_format=use_external_data_format)
        self._use(optimize_model_path)

    def quantize_model(
        self, quantize_model_path: Union[str, Path], use_external_data_format: bool = False, **kwargs: Any
    ) -> None:
        """Store the matrices as 8-bit integers, write the result to a file and use it from now on.

        Args:
            quantize_model_path: the new file.
            use_external_data_format: keep the weights in a file beside it (graphs over 2 GB).
            kwargs: for ``onnxruntime.quantization.quantize_dynamic``.
        """
        (quantise,) = lazy_import("onnx", "onnxruntime.quantization", "quantize_dynamic")
        self.remove_session()
        Path(quantize_model_path).parent.mkdir(parents=True, exist_ok=True)
        quantise(
            self.onnx_model,
            str(quantize_model_path),
            use_external_data_format=use_external_data_format,
            **{"extra_options": {"DefaultTensorType": 1, **kwargs.pop("extra_options", {})}, **kwargs},
        )
        self._use(quantize_model_path)

    def _use(self, path: Union[str, Path]) -> None:
        self.onnx_model = str(path)
        self._folder = None
        self.create_session()

    # -- export -------------------------------------------------------------------------------------------------------

    @classmethod
    def collect_dynamic_axes(
        cls, embedding: TransformerEmbeddings, tensors: dict[str, torch.Tensor]
    ) -> dict[str, dict[int, str]]:
        """Which dimensions of the graph's inputs and of its output differ from batch to batch."""
        axes = {
            name: {0: "batch", 1: "sequ_length"} if name not in ("pixel_values",) else {0: "batch"}
            for name in _NETWORK_INPUTS
            if name in tensors
        }
        return {**axes, HIDDEN_STATES: {0: "batch", 1: "sequ_length"}}

    @classmethod
    def export_from_embedding(
        cls,
        path: Union[str, Path],
        embedding: TransformerEmbeddings,
        example_sentences: list[Sentence],
        opset_version: int = 14,
        providers: Optional[list] = None,
        session_options: Optional[dict] = None,
    ) -> TransformerOnnxEmbeddings:
        """Write an embedding's network to an ONNX file.

        Args:
            path: the new file.
            embedding: what to export, in float32 or float16, adapters included.
            example_sentences: any sentences the embedding accepts; the graph takes all others as well.
            opset_version: of the graph.
            providers: see :meth:`__init__`.
            session_options: see :meth:`__init__`.

        Raises:
            ImportError: onnx or onnxruntime is not installed.
            ValueError: a dtype that onnxruntime does not compute in, or no example that has words.
        """
        lazy_import("onnx", "onnx", None)
        lazy_import("onnx", "onnxruntime", None)
        if embedding.dtype not in (torch.float32, torch.float16):
            raise ValueError(f"ONNX graphs are exported in float32 or float16, not {embedding.dtype}: use .float().")
        examples = [sentence for sentence in example_sentences if len(sentence) > 0]
        if not examples:
            raise ValueError("export_onnx needs at least one example sentence that has words.")
        training = embedding.training
        embedding.eval()
        embedding._materialise()
        try:
            cls._trace(Path(path), embedding, examples, opset_version)
        finally:
            embedding.train(training)
        return cls(
            onnx_model=str(path), providers=providers or [], session_options=session_options, **exported_args(embedding)
        )

    @classmethod
    def _trace(cls, path: Path, embedding: TransformerEmbeddings, examples: list[Sentence], opset_version: int) -> None:
        """Write the graph of what happens to the examples."""
        tensors = embedding.prepare_tensors(examples)
        names = [name for name in _NETWORK_INPUTS if name in tensors]
        path.parent.mkdir(parents=True, exist_ok=True)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes that are constant here indeed
            torch.onnx.export(
                _HiddenStates(embedding, names).eval(),
                tuple(tensors[name] for name in names),
                str(path),
                input_names=names,
                output_names=[HIDDEN_STATES],
                dynamic_axes=cls.collect_dynamic_axes(embedding, tensors),
                opset_version=opset_version,
                **_classic_exporter(),
            )

    # -- files --------------------------------------------------------------------------------------------------------

    def to_params(self) -> dict[str, Any]:
        """The configuration, and the graph itself: model files need no other file."""
        params = super().to_params()
        path = Path(self.onnx_model)
        return {
            **params,
            "subtoken_pooling": self.subtoken_pooling,
            "onnx_model": path.read_bytes(),
            "onnx_external_data": {name: _beside(path, name).read_bytes() for name in external_files(path)},
            "providers": [provider if isinstance(provider, str) else provider[0] for provider in self.providers],
            "session_options": self.session_options,
        }

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> TransformerOnnxEmbeddings:
        """Rebuild from :meth:`to_params`; a path in place of the graph is opened where it is.

        Raises:
            ValueError: session options that name files, which model files have no say in.
        """
        params = dict(params)
        external = params.pop("onnx_external_data", None) or {}
        named = [key for key, value in (params.get("session_options") or {}).items() if isinstance(value, str)]
        if named:
            raise ValueError(
                f"The file sets the ONNX session option {named[0]!r}; only numbers and flags are accepted."
            )
        if isinstance(params["onnx_model"], str):
            return super().from_params(params)  # type: ignore[return-value]
        folder = tempfile.TemporaryDirectory(prefix="flair-onnx-")
        path = Path(folder.name) / _PACKED
        path.write_bytes(params["onnx_model"])
        for name, content in external.items():
            if Path(name).name != name or name == _PACKED:
                raise ValueError(f"The ONNX graph keeps weights in {name!r}, outside of its folder.")
            (path.parent / name).write_bytes(content)
        embedding: Any = super().from_params({**params, "onnx_model": str(path)})
        embedding._folder = folder  # removed with the embedding
        return embedding

    def __getstate__(self) -> dict[str, Any]:
        return {"params": self.to_params(), "training": self.training}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled instance."""
        self.__dict__ = type(self).from_params(state["params"]).train(state["training"]).__dict__


@register_embeddings
class TransformerOnnxWordEmbeddings(TokenEmbeddings, TransformerOnnxEmbeddings):
    """One vector a token."""

    def __init__(self, **kwargs: Any) -> None:
        TransformerOnnxEmbeddings.__init__(self, **kwargs)


@register_embeddings
class TransformerOnnxDocumentEmbeddings(DocumentEmbeddings, TransformerOnnxEmbeddings):
    """One vector a sentence."""

    def __init__(self, **kwargs: Any) -> None:
        TransformerOnnxEmbeddings.__init__(self, **kwargs)


def exported_args(embedding: TransformerEmbeddings) -> dict[str, Any]:
    """The constructor arguments of an embedding with the same inputs and a frozen network."""
    return {
        **embedding.to_args(),
        "fine_tune": False,
        "subtoken_pooling": embedding.subtoken_pooling,
        "tokenizer": exported_tokenizer(embedding),
    }


def external_files(path: Path) -> list[str]:
    """The files beside a graph that hold its weights; none for graphs below 2 GB."""
    (load,) = lazy_import("onnx", "onnx", "load")
    graph = load(str(path), load_external_data=False).graph
    names = {entry.value for tensor in graph.initializer for entry in tensor.external_data if entry.key == "location"}
    return sorted(names)


def _beside(path: Path, name: str) -> Path:
    file = path.parent / name
    if not file.is_file():
        raise FileNotFoundError(f"{path} keeps weights in {name}, which is not beside it. Copy it there.")
    return file


def _classic_exporter() -> dict[str, Any]:
    """The exporter that traces: the one by torch.export needs onnxscript and fixes sizes it has seen once."""
    import inspect

    return {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
