"""Decoders that compare embeddings with one vector per class, in place of a linear layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional

from flair import _runtime
from flair.data.dictionary import Dictionary
from flair.data.sentence import Sentence
from flair.nn.distance import (
    CosineDistance,
    EuclideanDistance,
    HyperbolicDistance,
    LogitCosineDistance,
    NegativeScaledDotProduct,
)
from flair.nn.precision import compute_dtype

if TYPE_CHECKING:
    from typing import Protocol

    class LabelEmbedding(Protocol):
        """What a label verbalizer needs of its embeddings."""

        embedding_length: int

        def embed(self, data_points: Any) -> Any: ...

        def get_names(self) -> list[str]: ...


DISTANCES: dict[str, type[nn.Module]] = {
    "euclidean": EuclideanDistance,
    "hyperbolic": HyperbolicDistance,
    "cosine": CosineDistance,
    "logit_cosine": LogitCosineDistance,
    "dot_product": NegativeScaledDotProduct,
}


class PrototypicalDecoder(nn.Module):
    """Scores are negative distances to learned prototypes (https://arxiv.org/abs/1703.05175)."""

    def __init__(
        self,
        num_prototypes: int,
        embeddings_size: int,
        prototype_size: Optional[int] = None,
        distance_function: str = "euclidean",
        use_radius: Optional[bool] = False,
        min_radius: Optional[int] = 0,
        unlabeled_distance: Optional[float] = None,
        unlabeled_idx: Optional[int] = None,
        learning_mode: Optional[str] = "joint",
        normal_distributed_initial_prototypes: bool = False,
    ) -> None:
        """Create the prototypes.

        Args:
            num_prototypes: number of classes.
            embeddings_size: size of the inputs.
            prototype_size: size of the prototypes; another one than the inputs' adds a linear map.
            distance_function: "euclidean", "hyperbolic", "cosine", "logit_cosine" or "dot_product".
            use_radius: divide each distance by a learned radius of the class.
            min_radius: lower bound of the radii.
            unlabeled_distance: fixed distance to the class that stands for "no label".
            unlabeled_idx: index of that class; give both or neither.
            learning_mode: "joint", "learn_only_map_and_prototypes", "learn_only_prototypes",
                "learn_only_embeddings_and_map" or "learn_only_embeddings".
            normal_distributed_initial_prototypes: start from normal noise instead of ones.

        Raises:
            KeyError: unknown distance.
            AssertionError: only one of ``unlabeled_distance`` and ``unlabeled_idx``.
        """
        super().__init__()
        size = embeddings_size if prototype_size is None else prototype_size
        self.prototype_size = size
        self.embeddings_size = embeddings_size
        self.metric_space_decoder: Optional[nn.Linear] = None
        if size != embeddings_size:
            self.metric_space_decoder = nn.Linear(embeddings_size, size)
            nn.init.xavier_uniform_(self.metric_space_decoder.weight)
        initial = torch.ones(num_prototypes, size)
        if normal_distributed_initial_prototypes:
            initial = torch.normal(torch.zeros(num_prototypes, size))
        self.prototype_vectors = nn.Parameter(initial)
        self.prototype_radii = nn.Parameter(torch.ones(num_prototypes)) if use_radius else None
        self.min_radius = min_radius
        self.learning_mode = learning_mode
        if (unlabeled_idx is None) != (unlabeled_distance is None):
            raise AssertionError(
                "'unlabeled_idx' and 'unlabeled_distance' should either both be set or both not be set."
            )
        self.unlabeled_idx = unlabeled_idx
        self.unlabeled_distance = unlabeled_distance
        if distance_function.lower() not in DISTANCES:
            raise KeyError(f"Distance function {distance_function} not found.")
        self.distance = DISTANCES[distance_function.lower()]()
        self.to(_runtime.device)

    @property
    def num_prototypes(self) -> int:
        return self.prototype_vectors.size(0)

    def forward(self, embedded: Tensor) -> Tensor:
        """``[batch, embeddings_size]`` -> scores ``[batch, num_prototypes]``."""
        mode = self.learning_mode
        if mode in ("learn_only_map_and_prototypes", "learn_only_prototypes"):
            embedded = embedded.detach()
        encoded = self._map(embedded)
        if mode == "learn_only_prototypes":
            encoded = encoded.detach()
        prototypes, radii = self.prototype_vectors, self.prototype_radii
        if mode in ("learn_only_embeddings_and_map", "learn_only_embeddings"):
            prototypes = prototypes.detach()
            radii = None if radii is None else radii.detach()
        distance = self.distance(encoded, prototypes)
        if radii is not None:
            distance = distance / ((self.min_radius or 0) + functional.softplus(compute_dtype(radii)))
        if self.unlabeled_idx is not None and self.unlabeled_distance is not None:
            distance = distance.clone()
            distance[..., self.unlabeled_idx] = self.unlabeled_distance
        return -distance

    def _map(self, embedded: Tensor) -> Tensor:
        """Into the space of the prototypes; "learn_only_embeddings" sends gradients through the map, not to it."""
        mapping = self.metric_space_decoder
        if mapping is None:
            return embedded
        if self.learning_mode == "learn_only_embeddings":
            return functional.linear(embedded, mapping.weight.detach(), mapping.bias.detach())
        return mapping(embedded)

    def to_params(self) -> dict[str, Any]:
        """The constructor's arguments as plain data."""
        names = {kind: name for name, kind in DISTANCES.items()}
        # Modules unpickled from older files know their input size by their weights only.
        mapped = self.metric_space_decoder
        return {
            "num_prototypes": self.num_prototypes,
            "embeddings_size": self.prototype_size if mapped is None else mapped.in_features,
            "prototype_size": self.prototype_size,
            "distance_function": names[type(self.distance)],
            "use_radius": self.prototype_radii is not None,
            "min_radius": self.min_radius,
            "unlabeled_distance": self.unlabeled_distance,
            "unlabeled_idx": self.unlabeled_idx,
            "learning_mode": self.learning_mode,
        }

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> PrototypicalDecoder:
        """A decoder with the configuration of :meth:`to_params`; weights come from a state dict."""
        return cls(**params)


class DeepNCMDecoder(nn.Module):
    """Nearest class mean in a learned space (https://openreview.net/forum?id=rkPLZ4JPM)."""

    def __init__(
        self,
        label_dictionary: Dictionary,
        embeddings_size: int,
        use_encoder: bool = True,
        encoding_dim: Optional[int] = None,
        alpha: float = 0.9,
        mean_update_method: Literal["online", "condensation", "decay"] = "online",
        multi_label: bool = False,
    ) -> None:
        """Create encoder and prototypes.

        Args:
            label_dictionary: the classes.
            embeddings_size: size of the inputs.
            use_encoder: map the inputs by a two-layer network first.
            encoding_dim: size of the encoding, by default that of the inputs.
            alpha: weight of the old prototype with "decay".
            mean_update_method: "online" or "condensation" (mean of all seen) or "decay"; the trainer plugin
                decides by it when to update.
            multi_label: label tensors are ``[batch, classes]`` of 0 and 1 instead of class indices.

        Raises:
            AssertionError: alpha outside 0..1 or an unknown update method.
        """
        super().__init__()
        if not 0 <= alpha <= 1:
            raise AssertionError("alpha must be in the range [0, 1]")
        if mean_update_method not in ("online", "condensation", "decay"):
            raise AssertionError(
                f"Invalid mean_update_method: {mean_update_method}. Must be 'online', 'condensation', or 'decay'"
            )
        self.label_dictionary = label_dictionary
        self.embedding_dim = embeddings_size
        self.use_encoder = use_encoder
        self.encoding_dim = (encoding_dim or embeddings_size) if use_encoder else embeddings_size
        self.alpha = alpha
        self.mean_update_method = mean_update_method
        self.multi_label = multi_label
        count, dim = len(label_dictionary), self.encoding_dim
        self.class_prototypes = nn.Parameter(functional.normalize(torch.randn(count, dim), dim=1), requires_grad=False)
        self.class_counts = nn.Parameter(torch.zeros(count), requires_grad=False)
        self.prototype_updates = torch.zeros_like(self.class_prototypes)
        self.prototype_update_counts = torch.zeros(count)
        if use_encoder:
            self.encoder = nn.Sequential(nn.Linear(embeddings_size, dim * 2), nn.ReLU(), nn.Linear(dim * 2, dim))
        else:
            self.encoder = nn.Sequential(nn.Identity())
        self.to(_runtime.device)

    @property
    def num_prototypes(self) -> int:
        return self.class_prototypes.size(0)

    def _clear_updates(self) -> None:
        # Sums run in float32: bfloat16 cannot count beyond 256.
        device = self.class_prototypes.device
        self.prototype_updates = torch.zeros(self.class_prototypes.shape, device=device)
        self.prototype_update_counts = torch.zeros(self.num_prototypes, device=device)

    @torch.no_grad()
    def _collect(self, encoded: Tensor, label_tensor: Tensor) -> None:
        encoded = compute_dtype(encoded.detach())
        if self.multi_label:
            weights = label_tensor.to(encoded.device, encoded.dtype)
        else:
            weights = functional.one_hot(label_tensor.to(encoded.device), self.num_prototypes).to(encoded.dtype)
        self.prototype_updates = self.prototype_updates.to(encoded.device, encoded.dtype) + weights.T @ encoded
        counts = self.prototype_update_counts.to(encoded.device, encoded.dtype)
        self.prototype_update_counts = counts + weights.sum(0)

    @torch.no_grad()
    def update_prototypes(self) -> None:
        """Move the prototypes towards what was collected since the last call."""
        counts = self.prototype_update_counts.to(self.class_prototypes.device)
        seen = counts > 0
        if seen.any():
            new_counts, sums = counts[seen].unsqueeze(1), self.prototype_updates.to(counts.device)[seen]
            old = compute_dtype(self.class_prototypes[seen])
            old_counts = compute_dtype(self.class_counts[seen]).unsqueeze(1)
            if self.mean_update_method in ("online", "condensation"):
                updated = (old * old_counts + sums) / (old_counts + new_counts)
            else:
                updated = self.alpha * old + (1 - self.alpha) * sums / new_counts
            self.class_prototypes[seen] = updated.to(self.class_prototypes.dtype)
            self.class_counts.add_(counts.to(self.class_counts.dtype))
        self._clear_updates()

    def forward(self, embedded: Tensor, label_tensor: Optional[Tensor] = None) -> Tensor:
        """``[batch, embeddings_size]`` -> scores ``[batch, classes]``; labels are collected while training."""
        encoded = self.encoder(embedded)
        scores = -_squared_distance(encoded, self.class_prototypes)
        if label_tensor is not None and self.training:
            self._collect(encoded, label_tensor)
        return scores

    def get_prototype(self, class_name: str) -> Tensor:
        """The prototype of a class, ``[encoding_dim]``.

        Raises:
            ValueError: unknown class.
        """
        if class_name not in self.label_dictionary.get_items():
            raise ValueError(f"Class name {class_name!r} not found in the label dictionary")
        return self.class_prototypes[self.label_dictionary.get_idx_for_item(class_name)].clone()

    def get_closest_prototypes(self, input_vector: Tensor, top_k: int = 5) -> list[tuple[str, float]]:
        """The nearest classes of a vector ``[encoding_dim]`` with their squared distances, nearest first.

        Raises:
            ValueError: wrong size.
        """
        if input_vector.shape[-1] != self.encoding_dim:
            raise ValueError(
                f"Input vector dimension ({input_vector.shape[-1]}) does not match prototype dimension "
                f"({self.encoding_dim})"
            )
        vector = input_vector.to(self.class_prototypes.device).reshape(1, -1)
        distances = _squared_distance(vector, self.class_prototypes)[0]
        values, indices = torch.topk(distances, min(top_k, self.num_prototypes), largest=False)
        return [
            (self.label_dictionary.get_item_for_index(index), value)
            for index, value in zip(indices.tolist(), values.tolist(), strict=True)
        ]

    def to_params(self) -> dict[str, Any]:
        """The constructor's arguments as plain data."""
        return {
            "label_dictionary": self.label_dictionary.to_dict(),
            "embeddings_size": self.embedding_dim,
            "use_encoder": self.use_encoder,
            "encoding_dim": self.encoding_dim,
            "alpha": self.alpha,
            "mean_update_method": self.mean_update_method,
            "multi_label": self.multi_label,
        }

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> DeepNCMDecoder:
        """A decoder with the configuration of :meth:`to_params`; weights come from a state dict."""
        dictionary = params["label_dictionary"]
        if isinstance(dictionary, dict):
            dictionary = Dictionary.from_dict(dictionary)
        return cls(**{**params, "label_dictionary": dictionary})


def _squared_distance(vectors: Tensor, prototypes: Tensor) -> Tensor:
    return torch.cdist(compute_dtype(vectors), compute_dtype(prototypes)).square()


SPAN_TAG_WORDS = {"O": "outside", "B": "begin", "I": "inside", "E": "ending", "S": "single"}


class LabelVerbalizerDecoder(nn.Module):
    """Scores are inner products with embeddings of the labels' names (https://arxiv.org/abs/2203.12259)."""

    def __init__(self, label_embedding: LabelEmbedding, label_dictionary: Dictionary) -> None:
        """Verbalize the labels.

        Args:
            label_embedding: embeds sentences; its length must be that of the inputs.
            label_dictionary: the labels.
        """
        super().__init__()
        self.label_embedding = label_embedding
        self.verbalized_labels = self.verbalize_labels(label_dictionary)
        self._label_dictionary = label_dictionary
        self.to(_runtime.device)

    @staticmethod
    def verbalize_labels(label_dictionary: Dictionary) -> list[Sentence]:
        """One sentence per label; tags of spans become words: ``B-PER`` -> ``begin PER``."""
        texts = []
        for label in label_dictionary.get_items():
            text = label
            if label_dictionary.span_labels:
                prefix, dash, name = label.partition("-")
                if label == "O":
                    text = SPAN_TAG_WORDS["O"]
                elif dash and prefix in SPAN_TAG_WORDS:
                    text = f"{SPAN_TAG_WORDS[prefix]} {name}"
            texts.append(text)
        return [Sentence(text) for text in texts]

    def forward(self, inputs: Tensor) -> Tensor:
        """``[batch, embedding_length]`` -> scores ``[batch, labels]``."""
        self.label_embedding.embed(self.verbalized_labels)
        names = self.label_embedding.get_names()
        labels = torch.stack([label.get_embedding(names) for label in self.verbalized_labels])
        for label in self.verbalized_labels:
            label.clear_embeddings(names)
        labels = compute_dtype(labels.to(inputs.device))
        return compute_dtype(inputs) @ labels.T

    def to_params(self) -> dict[str, Any]:
        """The label dictionary as plain data; the embeddings are saved by themselves."""
        return {"label_dictionary": self._label_dictionary.to_dict()}

    @classmethod
    def from_params(cls, params: dict[str, Any], label_embedding: LabelEmbedding) -> LabelVerbalizerDecoder:
        """A decoder with the labels of :meth:`to_params`, on rebuilt embeddings."""
        return cls(label_embedding, Dictionary.from_dict(params["label_dictionary"]))
