"""Transformer embeddings whose network is a TorchScript module."""

from __future__ import annotations

import inspect
import re
import zipfile
from io import BytesIO
from typing import TYPE_CHECKING, Any, Union

import torch

from flair import _runtime
from flair.checkpoint.errors import CheckpointError, UnsafeCheckpointError
from flair.data.sentence import Sentence
from flair.embeddings._transformer.base import TransformerBaseEmbeddings, exported_tokenizer, meet_again
from flair.embeddings.base import DocumentEmbeddings, TokenEmbeddings, register_embeddings

if TYPE_CHECKING:
    from torch.jit import ScriptModule

    from flair.embeddings.transformer import TransformerEmbeddings

_WINDOWS = "overflow_to_sample_mapping"
_ACTS_OUTSIDE = re.compile(rb"\b__setstate__\b|\btorch\.(save|from_file|classes)\b|\b__torch__\.torch\.classes\b")
"""What TorchScript code may not contain: it runs while loading, or touches files."""


@register_embeddings
class TransformerJitEmbeddings(TransformerBaseEmbeddings):
    """Embeddings from a traced transformer.

    The module takes the tensors named in ``param_names`` and returns the embeddings of tokens, of documents, both (in
    this order), or a dict of both.
    """

    def __init__(self, jit_model: Union[bytes, ScriptModule], param_names: list[str], **kwargs: Any) -> None:
        """Wrap a TorchScript module.

        Args:
            jit_model: the module, or what ``torch.jit.save`` wrote of it.
            param_names: the inputs of its forward, in order.
            kwargs: the arguments of :class:`TransformerBaseEmbeddings`.

        Raises:
            CheckpointError: bytes that are no TorchScript module.
            UnsafeCheckpointError: a module with code that runs while loading, or reads or writes files.
        """
        super().__init__(**kwargs)
        self.jit_model: Any = load_module(jit_model) if isinstance(jit_model, (bytes, bytearray)) else jit_model
        self.param_names = list(param_names)
        self.to(_runtime.device)
        self.eval()

    def _forward_tensors(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        missing = [name for name in self.param_names if name not in tensors]
        if missing:
            raise ValueError(
                f"The traced module asks for {', '.join(missing)}; the inputs are {', '.join(tensors)}. Trace it again "
                f"with the settings of this embedding."
            )
        windows = tensors.get(_WINDOWS)
        if windows is not None and _WINDOWS not in self.param_names and meet_again(windows):
            raise ValueError(
                f"A sentence is longer than the {self._max_length()} sub-tokens that the traced module takes, and the "
                f"module cannot join windows over it: its forward has no argument {_WINDOWS}. Trace it with that "
                f"argument, or the embedding with allow_long_sentences=False."
            )
        output = self.jit_model(*(tensors[name] for name in self.param_names))
        if isinstance(output, dict):
            return output
        if isinstance(output, (tuple, list)):
            return dict(zip(("token_embeddings", "document_embeddings"), output, strict=True))
        return {"token_embeddings" if self.token_embedding else "document_embeddings": output}

    @classmethod
    def create_from_embedding(
        cls, module: ScriptModule, embedding: TransformerEmbeddings, param_names: list[str]
    ) -> TransformerJitEmbeddings:
        """An embedding with the inputs of another one and a traced network."""
        arguments = {**embedding.to_args(), "tokenizer": exported_tokenizer(embedding)}
        return cls(jit_model=module, param_names=param_names, **arguments)

    @classmethod
    def parameter_to_list(
        cls, embedding: TransformerEmbeddings, wrapper: torch.nn.Module, sentences: list[Sentence]
    ) -> tuple[list[str], list[torch.Tensor]]:
        """The inputs to trace a module with.

        Args:
            embedding: prepares the sentences.
            wrapper: the module to be traced; the names of its forward's arguments say which tensors it wants.
            sentences: examples.

        Returns:
            The names in the order of the arguments, and the tensors.
        """
        tensors = embedding.prepare_tensors(sentences)
        names = [name for name in inspect.signature(wrapper.forward).parameters if name in tensors]
        return names, [tensors[name] for name in names]

    def to_params(self) -> dict[str, Any]:
        buffer = BytesIO()
        torch.jit.save(self.jit_model, buffer)
        return {**super().to_params(), "jit_model": buffer.getvalue(), "param_names": self.param_names}

    def __getstate__(self) -> dict[str, Any]:
        return {"params": self.to_params(), "training": self.training}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled instance."""
        self.__dict__ = type(self).from_params(state["params"]).train(state["training"]).__dict__


@register_embeddings
class TransformerJitWordEmbeddings(TokenEmbeddings, TransformerJitEmbeddings):
    """One vector a token."""

    def __init__(self, **kwargs: Any) -> None:
        TransformerJitEmbeddings.__init__(self, **kwargs)


@register_embeddings
class TransformerJitDocumentEmbeddings(DocumentEmbeddings, TransformerJitEmbeddings):
    """One vector a sentence."""

    def __init__(self, **kwargs: Any) -> None:
        TransformerJitEmbeddings.__init__(self, **kwargs)


def load_module(data: bytes | bytearray) -> ScriptModule:
    """A TorchScript module from bytes, if its code computes and does nothing else."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            for name in archive.namelist():
                found = _ACTS_OUTSIDE.search(archive.read(name)) if name.endswith(".py") else None
                if found:
                    raise UnsafeCheckpointError(
                        f"The TorchScript module in the file uses {found.group().decode()} ({name}), which can act "
                        f"outside of it; it was not loaded."
                    )
        return torch.jit.load(BytesIO(data), map_location="cpu")
    except (zipfile.BadZipFile, RuntimeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"The file holds no TorchScript module that can be read: {error}") from error
