"""The base of all embeddings, and the registry by which saved files name them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, Union

import torch
from torch.nn import Parameter, ParameterList
from torch.nn.utils.rnn import pad_sequence

from flair import _runtime
from flair.data.sentence import Sentence
from flair.data.units import DT, DataPoint

E = TypeVar("E", bound=type)


class Embeddings(torch.nn.Module, Generic[DT]):
    """Turns data points into vectors.

    Two roads lead through an embedding. :meth:`embed` writes vectors onto the data points, for users who want to read
    them. :meth:`encode_documents` and :meth:`encode_tokens` return padded tensors and are what models use; a subclass
    that only implements :meth:`_add_embeddings_internal` gets both.
    """

    embeddings_name: str
    """The name in the registry and in saved files; set by :func:`register_embeddings`."""

    def __init__(self) -> None:
        super().__init__()
        if not hasattr(self, "name"):
            self.name: str = "unnamed_embedding"
        if not hasattr(self, "static_embeddings"):
            # Static embeddings do not change while a model trains, so they may be kept between epochs.
            self.static_embeddings = False

    @property
    def embedding_length(self) -> int:
        """Number of dimensions of one vector."""
        raise NotImplementedError(f"{type(self).__name__} does not define embedding_length.")

    @property
    def embedding_type(self) -> str:
        """Either "word-level" or "sentence-level" ("image-level" for images)."""
        raise NotImplementedError(f"{type(self).__name__} does not define embedding_type.")

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type this embedding computes in (float32 for one without floating-point weights)."""
        marker = self._buffers.get("_dtype_marker")
        if marker is not None:
            return marker.dtype
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.float32)

    def _remember_dtype(self) -> None:
        """Called by constructors of embeddings that hold no weights: keep the type ``half()`` or ``to`` asks for."""
        self.register_buffer("_dtype_marker", torch.empty(0), persistent=False)

    def embed(self, data_points: Union[DT, list[DT]]) -> list[DT]:
        """Write this embedding's vectors onto the data points, unless all of them carry them already.

        Returns:
            The data points as a list, also for a single one.
        """
        data_points = self._as_list(data_points)
        if not self._everything_embedded(data_points):
            self._add_embeddings_internal(data_points)
        return data_points

    def _as_list(self, data_points: Any) -> list[Any]:
        """What :meth:`embed` was given, as a list of data points.

        Raises:
            TypeError: for anything that is no data point.
        """
        if not isinstance(data_points, list):
            data_points = list(data_points) if isinstance(data_points, tuple) else [data_points]
        for place, point in enumerate(data_points):
            if not isinstance(point, DataPoint):
                where = f"number {place} of the list is" if len(data_points) > 1 else "got"
                hint = f": Sentence({point[:40]!r})" if isinstance(point, str) else ""
                raise TypeError(
                    f"{type(self).__name__}.embed takes data points (sentences, images); {where} a "
                    f"{type(point).__name__}. Make a data point of it first{hint}."
                )
        return data_points

    def _everything_embedded(self, data_points: Sequence[DT]) -> bool:
        return all(self.name in data_point._embeddings for data_point in data_points)

    def _add_embeddings_internal(self, sentences: list[DT]) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define _add_embeddings_internal.")

    def encode_documents(self, sentences: list[Any]) -> torch.Tensor:
        """One vector a data point, in the order given: ``[batch, embedding_length]``."""
        self.embed(sentences)
        names = self.get_names()
        return torch.stack([sentence.get_embedding(names) for sentence in sentences])

    def encode_tokens(self, sentences: list[Sentence]) -> tuple[torch.Tensor, torch.Tensor]:
        """One vector a token, in the order given, padded with zeros.

        Returns:
            ``[batch, tokens, embedding_length]`` and the number of tokens of each sentence, ``[batch]`` (int64).
        """
        self.embed(sentences)  # type: ignore[arg-type]
        names = self.get_names()
        rows = [
            torch.stack([token.get_embedding(names) for token in sentence])
            if len(sentence)
            else torch.zeros(0, self.embedding_length, device=_runtime.device)
            for sentence in sentences
        ]
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.long, device=rows[0].device)
        return pad_sequence(rows, batch_first=True), lengths

    def get_names(self) -> list[str]:
        """The keys under which :meth:`embed` stores vectors on data points (several for a stack)."""
        return [self.name]

    @staticmethod
    def get_instance_parameters(locals: dict) -> dict:
        """From a constructor's ``locals()``: its arguments, without ``self`` and local variables."""
        own_class = locals.get("__class__") or type(locals["self"])
        arguments = inspect.signature(own_class.__init__).parameters
        return {
            name: value
            for name, value in locals.items()
            if name in arguments and name not in ("self", "__class__") and not name.startswith("__")
        }

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> Embeddings:
        """Rebuild an embedding (without weights) from what :meth:`to_params` returned."""
        raise NotImplementedError(f"{cls.__name__} cannot be rebuilt from parameters.")

    def to_params(self) -> dict[str, Any]:
        """The configuration this embedding is rebuilt from: plain data, no weights."""
        raise NotImplementedError(f"{type(self).__name__} cannot be saved: it does not define to_params.")

    @classmethod
    def load_embedding(cls, params: dict[str, Any]) -> Embeddings:
        """Rebuild an embedding from :meth:`save_embeddings` output, weights included where present."""
        params = dict(params)
        state_dict = params.pop("state_dict", None)
        embedding = cls.from_params(params)
        if state_dict is not None:
            embedding.load_state_dict(state_dict)
        return embedding

    def save_embeddings(self, use_state_dict: bool = True) -> dict[str, Any]:
        """Configuration, registry name (``__cls__``) and, if wanted, the weights (``state_dict``)."""
        params = dict(self.to_params())
        if use_state_dict:
            params["state_dict"] = self.state_dict()
        params["__cls__"] = type(self).embeddings_name
        return params


EMBEDDING_CLASSES: dict[str, type[Embeddings]] = {}


def register_embeddings(*args: Any) -> Callable:
    """Class decorator: make an embedding loadable by name. Used bare or with the names it should have.

    The first name is the one that files are written with; the class name is the default.
    """
    names: list[str] = []

    def register(cls: E) -> E:
        cls.embeddings_name = names[0] if names else cls.__name__  # type: ignore[attr-defined]
        for name in names or [cls.__name__]:
            EMBEDDING_CLASSES[name] = cls
        return cls

    if len(args) == 1 and inspect.isclass(args[0]):
        return register(args[0])  # type: ignore[return-value]
    names.extend(str(name) for name in args)
    return register


def load_embeddings(params: dict[str, Any]) -> Embeddings:
    """Rebuild any registered embedding from what :meth:`Embeddings.save_embeddings` returned.

    Raises:
        KeyError: for a ``__cls__`` that no registered embedding answers to.
    """
    params = dict(params)
    cls_name = params.pop("__cls__")
    if cls_name not in EMBEDDING_CLASSES:
        _runtime.find_embedding_class(cls_name)  # importing its module registers it
    if cls_name not in EMBEDDING_CLASSES:
        raise KeyError(
            f"No embedding is registered under the name {cls_name!r}. Known: {', '.join(sorted(EMBEDDING_CLASSES))}. "
            f"Import the module that defines it (and decorate the class with @register_embeddings) before loading."
        )
    return EMBEDDING_CLASSES[cls_name].load_embedding(params)


class ScalarMix(torch.nn.Module):
    """A weighted sum of tensors with softmax-normalised weights, times a factor: gamma * sum(softmax(s)_k * x_k).

    The layer mixture of Peters et al. 2018, "Deep contextualized word representations" (arXiv:1802.05365, eq. 1).
    """

    def __init__(self, mixture_size: int, trainable: bool = False) -> None:
        super().__init__()
        self.mixture_size = mixture_size
        self.scalar_parameters = ParameterList(
            [Parameter(torch.zeros(1), requires_grad=trainable) for _ in range(mixture_size)]
        )
        self.gamma = Parameter(torch.ones(1), requires_grad=trainable)

    def forward(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        """Mix ``mixture_size`` tensors of one shape.

        Raises:
            ValueError: when the number of tensors differs from the number of weights.
        """
        if len(tensors) != self.mixture_size:
            raise ValueError(f"ScalarMix was built for {self.mixture_size} tensors and got {len(tensors)}.")
        weights = torch.softmax(torch.cat(list(self.scalar_parameters)), dim=0)
        mixed = sum(weight * tensor for weight, tensor in zip(weights, tensors, strict=True))
        return self.gamma * mixed


class DocumentEmbeddings(Embeddings[Sentence]):
    """Base of embeddings that give one vector a sentence."""

    @property
    def embedding_type(self) -> str:
        return "sentence-level"


class TokenEmbeddings(Embeddings[Sentence]):
    """Base of embeddings that give one vector a token."""

    @property
    def embedding_type(self) -> str:
        return "word-level"

    def _everything_embedded(self, data_points: Sequence[Sentence]) -> bool:
        return all(self.name in token._embeddings for sentence in data_points for token in sentence.tokens)
