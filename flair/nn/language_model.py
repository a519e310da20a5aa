"""Character-level recurrent language models (Akbik, Blythe, Vollgraf 2018), forward or backward."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import torch
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.optim import Optimizer

from flair import _runtime
from flair.checkpoint import load_state, save_state
from flair.data.dictionary import Dictionary
from flair.nn.precision import compute_dtype
from flair.nn.recurrent import create_recurrent_layer

CHARACTERS_PER_RUN = 16_384
"""Characters of all texts of a batch that one recurrent run covers at most; bounds memory, changes no result."""
COST_OF_A_RUN = 64
"""In characters: what a run takes to start, rearranging the weights. Measured on a CPU, for LSTMs of 1024 units."""


class LanguageModel(torch.nn.Module):
    """Predicts the next character (the previous one, for backward models) from those before it.

    Sequences run along the first axis: inputs are ``[characters, batch]``. A backward model reads reversed text.
    """

    def __init__(
        self,
        dictionary: Dictionary,
        is_forward_lm: bool,
        hidden_size: int,
        nlayers: int,
        embedding_size: int = 100,
        nout: Optional[int] = None,
        document_delimiter: str = "\n",
        dropout: float = 0.1,
        recurrent_type: str = "LSTM",
        has_decoder: bool = True,
    ) -> None:
        """Build a language model with fresh weights.

        Args:
            dictionary: the characters it knows.
            is_forward_lm: reading direction.
            hidden_size: dimensions of the recurrent state.
            nlayers: recurrent layers.
            embedding_size: dimensions of a character vector.
            nout: dimensions of a projection on top of the recurrent layers, none by default.
            document_delimiter: the text that documents of the training data were joined with; starts every sentence.
            dropout: share of dimensions dropped in training.
            recurrent_type: "LSTM" or "GRU".
            has_decoder: whether there is a layer from states to character scores; representations need none.
        """
        super().__init__()
        self.dictionary = dictionary
        self.document_delimiter = document_delimiter
        self.is_forward_lm = is_forward_lm
        self.dropout = dropout
        self.hidden_size = hidden_size
        self.embedding_size = embedding_size
        self.nlayers = nlayers
        self.nout = nout
        self.recurrent_type = recurrent_type
        self.hidden: Any = None

        self.drop = torch.nn.Dropout(dropout)
        self.encoder = torch.nn.Embedding(len(dictionary), embedding_size)
        self.rnn, self.state_count = create_recurrent_layer(
            recurrent_type, embedding_size, hidden_size, nlayers, dropout if nlayers > 1 else 0.0
        )
        width = nout if nout is not None else hidden_size
        self.proj: Optional[torch.nn.Linear] = None
        if nout is not None:
            self.proj = torch.nn.Linear(hidden_size, nout)
            self.initialize(self.proj.weight)
        self.decoder: Optional[torch.nn.Linear] = torch.nn.Linear(width, len(dictionary)) if has_decoder else None
        self.init_weights()
        self._character_table: Optional[np.ndarray] = None
        self._table_size = 0
        self.to(_runtime.device)

    # --- layers ---

    def init_weights(self) -> None:
        """Draw character vectors and decoder weights uniformly from (-0.1, 0.1); decoder biases are zero."""
        with torch.no_grad():
            self.encoder.weight.uniform_(-0.1, 0.1)
            if self.decoder is not None:
                self.decoder.bias.zero_()
                self.decoder.weight.uniform_(-0.1, 0.1)

    @staticmethod
    def initialize(matrix: torch.Tensor) -> None:
        """Fill a ``[out, in]`` matrix in place, uniformly within sqrt(6 / (in + out))."""
        bound = math.sqrt(6.0 / (matrix.size(0) + matrix.size(1)))
        with torch.no_grad():
            matrix.uniform_(-bound, bound)

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> LanguageModel:
        """Move or cast the model; recurrent weights are put back into one block of memory afterwards."""
        super()._apply(fn, *args, **kwargs)
        self.rnn.flatten_parameters()
        return self

    @property
    def output_size(self) -> int:
        """Dimensions of a representation."""
        return self.nout if self.nout is not None else self.hidden_size

    def init_hidden(self, bsz: int) -> tuple[torch.Tensor, ...]:
        """Zero states: one (GRU) or two (LSTM) tensors ``[layers, batch, hidden]``."""
        weight = self.encoder.weight
        return tuple(weight.new_zeros(self.nlayers, bsz, self.hidden_size) for _ in range(self.state_count))

    def set_hidden(self, hidden: Any) -> None:
        """Remember a recurrent state."""
        self.hidden = hidden

    def repackage_hidden(self, h: Any) -> Any:
        """The same states cut off from their history, so that gradients stop here."""
        return h.detach() if isinstance(h, torch.Tensor) else tuple(self.repackage_hidden(part) for part in h)

    def forward(
        self,
        input: torch.Tensor,
        hidden: Any,
        ordered_sequence_lengths: Optional[torch.Tensor] = None,
        decode: bool = True,
    ) -> tuple:
        """Run over a batch of character sequences.

        Args:
            input: character indices ``[characters, batch]``.
            hidden: states as :meth:`init_hidden` gives them.
            ordered_sequence_lengths: true lengths, longest first; states then stop at each sequence's end.
            decode: whether character scores are wanted.

        Returns:
            Scores ``[characters, batch, dictionary]`` (only with ``decode``), representations
            ``[characters, batch, hidden]``, and the new states.

        Raises:
            ValueError: when scores are asked of a model without a decoder.
        """
        if decode and self.decoder is None:
            raise ValueError(
                "This language model was built or loaded with has_decoder=False and gives no character scores. "
                "Load it with has_decoder=True, or call it with decode=False."
            )
        embedded: Any = self.drop(self.encoder(input))
        if ordered_sequence_lengths is not None:
            lengths = torch.as_tensor(ordered_sequence_lengths).cpu()
            embedded = pack_padded_sequence(embedded, lengths)
        output, hidden = self._recur(embedded, hidden)
        if ordered_sequence_lengths is not None:
            output = pad_packed_sequence(output, total_length=input.size(0))[0]
        if self.proj is not None:
            output = self.proj(output)
        output = self.drop(output)
        if not decode:
            return output, hidden
        assert self.decoder is not None
        return self.decoder(output), output, hidden

    def _recur(self, embedded: Any, hidden: Any) -> tuple[Any, tuple[torch.Tensor, ...]]:
        """One run of the recurrent layers, with states as a tuple whatever their number."""
        hidden = (hidden,) if isinstance(hidden, torch.Tensor) else tuple(hidden)
        output, states = self.rnn(embedded, hidden if self.state_count > 1 else hidden[0])
        return output, states if isinstance(states, tuple) else (states,)

    # --- text to representations ---

    def indices(self, text: str) -> np.ndarray:
        """Dictionary indices of the characters of a text (int64); unknown ones count as ``<unk>``."""
        codes = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)
        table = self._characters()
        return table[np.minimum(codes, len(table) - 1)]

    def _characters(self) -> np.ndarray:
        """Code point -> index. The last entry stands for everything above."""
        if self._character_table is None or len(self.dictionary) != self._table_size:
            known = {ord(item): index for index, item in enumerate(self.dictionary.get_items()) if len(item) == 1}
            table = np.zeros(max(known, default=0) + 2, dtype=np.int64)
            table[list(known)] = list(known.values())
            self._character_table, self._table_size = table, len(self.dictionary)
        return self._character_table

    def _index_batch(self, texts: Sequence[str], padding: str = " ") -> torch.Tensor:
        """Indices ``[characters, batch]``, shorter texts padded."""
        longest = max(map(len, texts))
        filler = int(self.indices(padding)[0])
        batch = np.full((longest, len(texts)), filler, dtype=np.int64)
        for column, text in enumerate(texts):
            batch[: len(text), column] = self.indices(text)
        return torch.from_numpy(batch).to(self.encoder.weight.device)

    def _oriented(self, text: str) -> str:
        return text if self.is_forward_lm else text[::-1]

    def get_representation(
        self, strings: list[str], start_marker: str, end_marker: str, chars_per_chunk: int = 512
    ) -> torch.Tensor:
        """The state after each character of ``start_marker + text + end_marker``, text reversed for backward models.

        Args:
            strings: the texts.
            start_marker: put before every text.
            end_marker: put after every text.
            chars_per_chunk: characters per recurrent run; bounds memory, changes no result.

        Returns:
            ``[characters, batch, hidden]``; shorter texts go on with spaces.
        """
        framed = [f"{start_marker}{self._oriented(text)}{end_marker}" for text in strings]
        indices = self._index_batch(framed)
        hidden: Any = self.init_hidden(len(strings))
        outputs = []
        for chunk in indices.split(chars_per_chunk):
            output, hidden = self.forward(chunk, hidden, decode=False)
            outputs.append(output)
        return torch.cat(outputs)

    def read_states(
        self, texts: Sequence[str], positions: Sequence[Sequence[int]], chars_per_chunk: int = 512
    ) -> torch.Tensor:
        """The states at some characters of some texts, without keeping those at all others.

        Args:
            texts: framed and oriented texts, see :meth:`get_representation`.
            positions: for each text the characters after which to read, in any order.
            chars_per_chunk: characters per recurrent run.

        Returns:
            One row a position, text after text: ``[sum of positions, hidden]``.
        """
        counts = np.array([len(row) for row in positions], dtype=np.int64)
        device = self.encoder.weight.device
        rows = torch.empty(int(counts.sum()), self.output_size, dtype=self.encoder.weight.dtype, device=device)
        if len(rows) == 0:
            return rows
        # Longest first: the texts that are still being read are always the first ones of the batch.
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        starts = np.cumsum(counts) - counts
        where = np.concatenate([np.asarray(positions[i], dtype=np.int64) for i in order])
        column = np.repeat(np.arange(len(order)), counts[order])
        place = np.concatenate([np.arange(starts[i], starts[i] + counts[i]) for i in order])
        indices = self._index_batch([texts[i] for i in order])
        hidden: Any = self.init_hidden(len(order))
        pieces, places = [], []
        for begin, end, active in _segments([len(texts[i]) for i in order], chars_per_chunk):
            hidden = tuple(state[:, :active].contiguous() for state in hidden)
            output, hidden = self.forward(indices[begin:end, :active], hidden, decode=False)
            inside = (where >= begin) & (where < end)
            if inside.any():
                flat = torch.from_numpy((where[inside] - begin) * active + column[inside])
                pieces.append(output.flatten(0, 1).index_select(0, flat.to(device)))
                places.append(torch.from_numpy(place[inside]))
        return rows.index_copy(0, torch.cat(places).to(device), torch.cat(pieces).to(rows.dtype))

    def get_output(self, text: str) -> tuple[torch.Tensor, ...]:
        """The state after reading ``text``: ``[layers, 1, hidden]``, for an LSTM that of its cells behind it."""
        _, hidden = self.forward(self._index_batch([text]), self.init_hidden(1), decode=False)
        self.hidden = self.repackage_hidden(hidden)
        return self.hidden

    # --- generation and perplexity ---

    def generate_text(
        self,
        prefix: str = "\n",
        number_of_characters: int = 1000,
        temperature: float = 1.0,
        break_on_suffix: Optional[str] = None,
    ) -> tuple[str, float]:
        """Sample text, character by character.

        Args:
            prefix: what the model has read before, at least one character. It is part of the result.
            number_of_characters: how many to sample at most.
            temperature: below 1 sharper, above 1 flatter than the model's distribution.
            break_on_suffix: stop once the text ends like this.

        Returns:
            The text (reversed for backward models, so that it reads left to right) and the mean negative
            log-likelihood of the sampled characters.

        Raises:
            ValueError: without a prefix, or for a temperature that is not positive.
        """
        if not prefix:
            raise ValueError("generate_text needs a prefix of at least one character; the default is a newline.")
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}.")
        characters = [prefix]
        loss = 0.0
        sampled = 0
        with self._without_training(), torch.no_grad():
            prediction, _, hidden = self.forward(self._index_batch([prefix]), self.init_hidden(1))
            for _ in range(number_of_characters):
                scores = compute_dtype(prediction[-1, 0])
                weights = scores / temperature
                index = torch.multinomial((weights - weights.max()).exp(), 1)
                loss -= float(torch.log_softmax(scores, dim=0)[index])
                sampled += 1
                characters.append(self.dictionary.get_item_for_index(int(index)))
                if break_on_suffix is not None and "".join(characters).endswith(break_on_suffix):
                    break
                prediction, _, hidden = self.forward(index.view(1, 1), hidden)
        return self._oriented("".join(characters)), loss / sampled if sampled else 0.0

    def calculate_perplexity(self, text: str) -> float:
        """Perplexity of a text of at least two characters, computed without dropout.

        Raises:
            ValueError: for a shorter text, in which there is nothing to predict.
        """
        if len(text) < 2:
            raise ValueError(f"Perplexity needs a text of at least two characters, got {text!r}.")
        with self._without_training(), torch.no_grad():
            indices = self._index_batch([self._oriented(text)])
            prediction, _, _ = self.forward(indices[:-1], self.init_hidden(1))
            loss = functional.cross_entropy(compute_dtype(prediction[:, 0]), indices[1:, 0])
        return math.exp(float(loss))

    def _without_training(self) -> _EvaluationMode:
        return _EvaluationMode(self)

    # --- files ---

    def _settings(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "dictionary": self.dictionary,
            "is_forward_lm": self.is_forward_lm,
            "hidden_size": self.hidden_size,
            "nlayers": self.nlayers,
            "embedding_size": self.embedding_size,
            "nout": self.nout,
            "document_delimiter": self.document_delimiter,
            "dropout": self.dropout,
            "recurrent_type": self.recurrent_type,
            "has_decoder": self.decoder is not None,
        }

    @classmethod
    def _from_state(cls, state: dict[str, Any], has_decoder: bool = True) -> LanguageModel:
        """Build a model from what :meth:`save` wrote, in this or any released version."""
        settings = {name: state[name] for name in _SETTINGS if name in state}
        stored_decoder = settings.get("has_decoder", True)
        settings["has_decoder"] = has_decoder and stored_decoder
        tensors = dict(state["state_dict"])
        if not settings["has_decoder"]:
            tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith("decoder.")}
        model = cls(**settings)
        stored = next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), torch.float32)
        model.to(stored)
        model.load_state_dict(tensors)
        return model.eval()

    @classmethod
    def load_language_model(cls, model_file: Union[Path, str], has_decoder: bool = True) -> LanguageModel:
        """Read a model file. Without ``has_decoder`` the layer that scores characters is left out.

        Raises:
            FileNotFoundError: there is no such file.
            flair.checkpoint.CheckpointError: the file is damaged, or is no language model.
        """
        return cls._from_state(load_state(model_file), has_decoder=has_decoder)

    @classmethod
    def load_checkpoint(cls, model_file: Union[Path, str]) -> dict[str, Any]:
        """Read what :meth:`save_checkpoint` wrote: model, epoch, split, loss, optimizer_state_dict."""
        state = load_state(model_file)
        return {
            "model": cls._from_state(state),
            "epoch": state.get("epoch"),
            "split": state.get("split"),
            "loss": state.get("loss"),
            "optimizer_state_dict": state.get("optimizer_state_dict"),
        }

    def save_checkpoint(
        self, file: Union[Path, str], optimizer: Optimizer, epoch: int, split: int, loss: float
    ) -> None:
        """Write the model and where its training stands."""
        progress = {"optimizer_state_dict": optimizer.state_dict(), "epoch": epoch, "split": split, "loss": loss}
        save_state({"state_dict": self.state_dict(), **self._settings(), **progress}, file)

    def save(self, file: Union[Path, str]) -> None:
        """Write the model, atomically."""
        save_state({"state_dict": self.state_dict(), **self._settings()}, file)

    def __getstate__(self) -> dict[str, Any]:
        return {"state_dict": self.state_dict(), **self._settings()}

    def __setstate__(self, d: dict[str, Any]) -> None:
        """Restore a pickled model: settings and weights, or the whole ``__dict__`` that early versions pickled."""
        if "state_dict" in d:
            self.__init__(**{name: d[name] for name in _SETTINGS if name in d})  # type: ignore[misc]
            self.load_state_dict(d["state_dict"])
        else:
            # torch's own __setstate__ adds what modules of its earlier versions lack.
            defaults = {"recurrent_type": "lstm", "state_count": 2, "document_delimiter": "\n"}
            super().__setstate__({**defaults, "_character_table": None, "_table_size": 0, **d})


_SETTINGS = (
    "dictionary",
    "is_forward_lm",
    "hidden_size",
    "nlayers",
    "embedding_size",
    "nout",
    "document_delimiter",
    "dropout",
    "recurrent_type",
    "has_decoder",
)


class _EvaluationMode:
    """Dropout off inside, the previous mode afterwards."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module

    def __enter__(self) -> None:
        self.before = self.module.training
        self.module.eval()

    def __exit__(self, *exception: Any) -> None:
        self.module.train(self.before)


def _segments(lengths: Sequence[int], longest_run: int) -> Iterator[tuple[int, int, int]]:
    """Cut the reading of texts, longest first, into runs in which nearly all texts are still being read.

    Dense recurrent kernels are twice as fast as packed ones, and pay for padding. A run ends when texts that ended
    before have cost as much padding as a further run costs; the next one goes on with those that are still being read.

    Yields:
        First character, end, and number of texts of each run.
    """
    begin, active = 0, sum(length > 0 for length in lengths)
    while active:
        end, padding = lengths[active - 1], 0
        for ended, length in enumerate(reversed(lengths[: active - 1]), start=1):
            padding += ended * (length - end)
            if padding > COST_OF_A_RUN:
                break
            end = length
        end = min(end, begin + longest_run, begin + max(1, CHARACTERS_PER_RUN // active))
        yield begin, end, active
        begin = end
        while active and lengths[active - 1] <= begin:
            active -= 1


LanguageModel.__module__ = "flair.models.language_model"
