"""Train with only those rows of a transformer's embedding matrix that the corpus uses.

For a multilingual transformer most parameters are rows of tokens that never occur. Leaving them out saves the memory of
their gradients and optimizer states. Token ids, the tokenizer and the saved files stay those of the full vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from flair import _runtime
from flair.embeddings.transformer import TransformerEmbeddings
from flair.nn.model import Model, ReduceTransformerVocabMixin
from flair.trainers.plugins.base import TrainerPlugin


class ReducedEmbedding(nn.Module):
    """An embedding matrix of which only some rows are parameters.

    Other rows can still be looked up, they just do not change. State dicts are those of the full matrix.
    """

    weight: nn.Parameter
    row_of: Tensor
    full_weight: Tensor

    def __init__(self, original: nn.Embedding, used_ids: Tensor) -> None:
        """Split a matrix.

        Args:
            original: the full embedding, ``[vocabulary, length]``.
            used_ids: the ids whose rows stay trainable, ``[used]``, sorted and without repetitions.
        """
        super().__init__()
        full = original.weight.detach()
        self.num_embeddings, self.embedding_dim = full.shape
        self.padding_idx = original.padding_idx
        row_of = torch.full((len(full),), -1, dtype=torch.long)
        row_of[used_ids] = torch.arange(len(used_ids))
        self.register_buffer("row_of", row_of.to(full.device), persistent=False)
        # Not a buffer: the full matrix stays in main memory when the model moves to a GPU.
        self._full = full.cpu().clone()
        self._used_ids = used_ids
        self.weight = nn.Parameter(full[used_ids.to(full.device)].clone(), requires_grad=original.weight.requires_grad)

    def forward(self, ids: Tensor) -> Tensor:
        """``[...]`` token ids -> ``[..., length]`` vectors."""
        rows = self.row_of[ids]
        padding = None if self.padding_idx is None else int(self.row_of[self.padding_idx])
        padding = None if padding == -1 else padding
        vectors = functional.embedding(rows.clamp(min=0), self.weight, padding)
        unseen = rows < 0
        if bool(unseen.any()):
            frozen = functional.embedding(ids[unseen].cpu(), self._full).to(vectors)
            vectors = vectors.masked_scatter(unseen.unsqueeze(-1), frozen)
        return vectors

    def full_matrix(self) -> Tensor:
        """All rows with the trained ones in place: ``[vocabulary, length]``, on the device of the weights."""
        matrix = self._full.clone()
        matrix[self._used_ids] = self.weight.detach().cpu().to(matrix.dtype)
        return matrix.to(self.weight.device)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        destination[prefix + "weight"] = self.full_matrix()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        full = state_dict.get(prefix + "weight")
        if full is not None:
            self._full = full.detach().cpu().clone()
            reduced = full[self._used_ids.to(full.device)]
            state_dict = {**state_dict, prefix + "weight": reduced}
        super()._load_from_state_dict(state_dict, prefix, *args)


def get_transformer_embeddings(model: Model) -> list[TransformerEmbeddings]:
    """All transformer embeddings of a model, also those inside stacks and multitask models."""
    return [module for module in model.modules() if isinstance(module, TransformerEmbeddings)]


class ReduceTransformerVocabPlugin(TrainerPlugin):
    """Reduces the embedding matrices of a model's transformers for the time of a training."""

    def __init__(self, base_path: Path, save_optimizer_state: bool) -> None:
        super().__init__()
        self.base_path = base_path
        self.save_optimizer_state = save_optimizer_state
        self.disabled = False
        self._originals: list[tuple[TransformerEmbeddings, nn.Embedding, ReducedEmbedding]] = []

    @TrainerPlugin.hook("after_setup")
    def register_transformer_smaller_training_vocab(self, **kw: Any) -> None:
        """Replace the matrices; they are put back when the trainer's context stack closes."""
        embeddings = get_transformer_embeddings(self.model)
        self.disabled = not embeddings or not isinstance(self.model, ReduceTransformerVocabMixin)
        if self.disabled:
            _runtime.logger.warning(
                f"reduce_transformer_vocab has no effect: {type(self.model).__name__} "
                + ("has no transformer embeddings." if not embeddings else "does not say which tokens it uses.")
            )
            return
        for embedding in embeddings:
            self._reduce(embedding)
        stack = self.trainer.context_stack
        assert stack is not None, "hooks run inside of a training"
        stack.callback(self._restore)

    def _reduce(self, embedding: TransformerEmbeddings) -> None:
        original = embedding.model.get_input_embeddings()
        used = self._used_ids(embedding, original.num_embeddings)
        reduced = ReducedEmbedding(original, used)
        embedding.model.set_input_embeddings(reduced)
        if original.weight.requires_grad:
            self.trainer._optimization.replace_parameter(original.weight, reduced.weight)
        self._originals.append((embedding, original, reduced))
        _runtime.logger.info(
            f"Training with {len(used)} of {original.num_embeddings} rows of the embedding matrix of {embedding.name}"
        )

    def _used_ids(self, embedding: TransformerEmbeddings, vocabulary: int) -> Tensor:
        tokenizer = embedding.tokenizer
        ids: set[int] = set(tokenizer.all_special_ids)
        model: Any = self.model
        texts = model.get_used_tokens(
            self.corpus, embedding.context_length, getattr(embedding, "respect_document_boundaries", True)
        )
        # Depending on the embedding, text is tokenised word by word or as a whole; ids missed here stay frozen rows.
        words: set[str] = set()
        for tokens in texts:
            words.update(tokens)
            ids.update(tokenizer(" ".join(tokens), add_special_tokens=False)["input_ids"])
        if words:
            for piece in tokenizer(sorted(words), add_special_tokens=False)["input_ids"]:
                ids.update(piece)
        return torch.tensor(sorted(index for index in ids if index < vocabulary), dtype=torch.long)

    def _restore(self) -> None:
        for embedding, original, reduced in self._originals:
            with torch.no_grad():
                original.weight = nn.Parameter(reduced.full_matrix(), requires_grad=original.weight.requires_grad)
            embedding.model.set_input_embeddings(original)
        self._originals = []

    @TrainerPlugin.hook("after_training")
    def save_model_at_the_end(self, **kw: Any) -> None:
        """Saved files hold the full matrix already, so nothing has to be rewritten."""

    @property
    def attach_to_all_processes(self) -> bool:
        return True
