"""Word vectors composed from characters by a recurrent network that is trained with the task."""

from __future__ import annotations

from typing import Any, Optional, Union

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from flair import _runtime
from flair.data.dictionary import Dictionary
from flair.data.sentence import Sentence
from flair.embeddings._token.rows import RowEmbeddings, words_of
from flair.embeddings.base import register_embeddings


@register_embeddings
class CharacterEmbeddings(RowEmbeddings):
    """States of a bidirectional LSTM at a word's last character (Lample et al. 2016)."""

    def __init__(
        self,
        path_to_char_dict: Optional[Union[str, Dictionary]] = None,
        char_embedding_dim: int = 25,
        hidden_size_char: int = 25,
        name: str = "Char",
    ) -> None:
        """Build the network with fresh weights.

        Args:
            path_to_char_dict: the characters, as dictionary or file of one; by default the published common ones.
            char_embedding_dim: dimensions of a character vector.
            hidden_size_char: dimensions of the state in each direction.
            name: under which the vectors are stored on tokens.
        """
        super().__init__()
        self.name = name
        self.static_embeddings = False
        if path_to_char_dict is None:
            self.char_dictionary = Dictionary.load("common-chars")
        elif isinstance(path_to_char_dict, Dictionary):
            self.char_dictionary = path_to_char_dict
        else:
            self.char_dictionary = Dictionary.load_from_file(path_to_char_dict)
        self.char_embedding_dim = char_embedding_dim
        self.hidden_size_char = hidden_size_char
        self.char_embedding = torch.nn.Embedding(len(self.char_dictionary), char_embedding_dim)
        self.char_rnn = torch.nn.LSTM(char_embedding_dim, hidden_size_char, num_layers=1, bidirectional=True)
        self.__embedding_length = hidden_size_char * 2
        self.to(_runtime.device)
        self.eval()

    @property
    def embedding_length(self) -> int:
        return self.__embedding_length

    def rows(self, sentences: list[Sentence]) -> torch.Tensor:
        words = words_of(sentences)
        if not words:
            return self.char_embedding.weight.new_zeros(0, self.__embedding_length)
        distinct = {word: place for place, word in enumerate(dict.fromkeys(words))}
        indices = [self.char_dictionary.get_idx_for_items(list(word)) for word in distinct]
        lengths = torch.tensor([len(row) for row in indices])
        padded = np.zeros((len(indices), int(lengths.max())), dtype=np.int64)
        for place, row in enumerate(indices):
            padded[place, : len(row)] = row
        device = self.char_embedding.weight.device
        embedded = self.char_embedding(torch.from_numpy(padded).to(device)).transpose(0, 1)
        packed = pack_padded_sequence(embedded, lengths, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.char_rnn(packed)[0])
        last = states[(lengths - 1).to(device), torch.arange(len(distinct), device=device)]
        return last[torch.tensor([distinct[word] for word in words], device=device)]

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> CharacterEmbeddings:
        return cls(**params)

    def to_params(self) -> dict[str, Any]:
        return {
            "path_to_char_dict": self.char_dictionary,
            "char_embedding_dim": self.char_embedding_dim,
            "hidden_size_char": self.hidden_size_char,
            "name": self.name,
        }
