"""Sequence labelling: a tag for every token, or labels for spans of tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional, Union, cast

import torch
from torch.nn import functional
from tqdm import tqdm

from flair import _runtime
from flair.data.dictionary import Dictionary
from flair.data.label import Label
from flair.data.sentence import Sentence
from flair.data.tags import get_spans_from_bio
from flair.embeddings.base import Embeddings, TokenEmbeddings
from flair.embeddings.token import StackedEmbeddings
from flair.file_utils import cached_path, hf_download
from flair.models.sequence_tagger_utils import hub, pretrained, tags
from flair.models.sequence_tagger_utils.viterbi import ViterbiDecoder, ViterbiLoss, label_distributions
from flair.nn.crf import CRF, START_TAG, STOP_TAG
from flair.nn.dropout import LockedDropout, WordDropout, dropped
from flair.nn.model import PREDICTED, Classifier, listed, make_neighbours
from flair.nn.onednn import quick_products
from flair.nn.precision import compute_dtype
from flair.nn.recurrent import run_padded
from flair.training_utils import EmbeddingStorageMode, store_embeddings

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_RNN_TYPES = ("LSTM", "GRU", "RNN")
_LOOKAHEAD = 8
"""Batches for which prediction computes frozen language-model states at once: they are faster on many texts."""

Features = Union[torch.Tensor, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
"""What the network gives the loss and the decoder: scores of all tokens ``[tokens, tags]``, or with a CRF emissions
(with or without transitions added), lengths and transitions."""


class SequenceTagger(Classifier[Sentence]):
    """Token embeddings, optionally a recurrent network, a linear layer, and a CRF or softmax output.

    With a dictionary of span labels the tagger predicts spans, encoded as BIOES or BIO tags; otherwise it predicts one
    label a token.
    """

    def __init__(
        self,
        embeddings: TokenEmbeddings,
        tag_dictionary: Dictionary,
        tag_type: str,
        use_rnn: bool = True,
        rnn: Optional[torch.nn.RNN] = None,
        rnn_type: str = "LSTM",
        tag_format: str = "BIOES",
        hidden_size: int = 256,
        rnn_layers: int = 1,
        bidirectional: bool = True,
        use_crf: bool = True,
        reproject_embeddings: bool = True,
        dropout: float = 0.0,
        word_dropout: float = 0.05,
        locked_dropout: float = 0.5,
        train_initial_hidden_state: bool = False,
        loss_weights: Optional[dict[str, float]] = None,
        init_from_state_dict: bool = False,
        allow_unk_predictions: bool = False,
    ) -> None:
        """Build a tagger with fresh weights.

        Args:
            embeddings: one vector a token.
            tag_dictionary: the labels, from ``corpus.make_label_dictionary``.
            tag_type: the label type to learn and to write.
            use_rnn: put a recurrent network on the embeddings.
            rnn: your own recurrent network (``batch_first``) instead of one built from the next arguments.
            rnn_type: "LSTM", "GRU" or "RNN".
            tag_format: how spans become tags, "BIOES" or "BIO".
            hidden_size: dimensions of the recurrent state in each direction.
            rnn_layers: recurrent layers.
            bidirectional: read sentences in both directions.
            use_crf: score tag sequences with a CRF instead of each tag on its own.
            reproject_embeddings: put a linear layer between embeddings and what follows.
            dropout: share of dimensions dropped in training.
            word_dropout: share of whole token vectors dropped in training; no effect with neither RNN nor CRF.
            locked_dropout: share of dimensions dropped in training for all tokens of a sentence at once.
            train_initial_hidden_state: learn the state the recurrent network starts from.
            loss_weights: tag -> weight in the loss (1 for tags not named); without effect on a CRF.
            init_from_state_dict: the dictionary holds complete tags, and weights will be loaded.
            allow_unk_predictions: make ``<unk>`` one of the tags.

        Raises:
            AssertionError: for an unknown ``tag_format``.
            Exception: for an unknown ``rnn_type``.
        """
        super().__init__()
        self.embeddings = embeddings
        self.tag_type = tag_type
        self.tag_format = tag_format.upper()
        self.use_rnn, self.use_crf = use_rnn, use_crf
        self.rnn_type, self.rnn_layers, self.bidirectional = rnn_type, rnn_layers, bidirectional
        self.hidden_size = hidden_size if rnn is None else rnn.hidden_size
        self.reproject_embeddings = reproject_embeddings
        self.train_initial_hidden_state = train_initial_hidden_state
        if not use_rnn and not use_crf:
            # Each tag depends on the token's own vector alone, so a dropped word teaches its decoder only noise.
            word_dropout = 0.0
        self.use_dropout, self.use_word_dropout, self.use_locked_dropout = dropout, word_dropout, locked_dropout

        if init_from_state_dict:
            self.label_dictionary = tag_dictionary
        else:
            self.label_dictionary = tags.tagset(tag_dictionary, self.tag_format, allow_unk_predictions)
        self.predict_spans = self._determine_if_span_prediction_problem(self.label_dictionary)
        self.tagset_size = len(self.label_dictionary)
        _runtime.logger.info(f"SequenceTagger predicts: {self.label_dictionary}")
        self.weight_dict = loss_weights
        self.loss_weights = None if loss_weights is None else self._init_loss_weights(loss_weights)
        if use_crf and not init_from_state_dict and not self.label_dictionary.start_stop_tags_are_set():
            self.label_dictionary.set_start_stop_tags()
        self.tagset_size = len(self.label_dictionary)

        self.dropout = torch.nn.Dropout(dropout) if dropout > 0.0 else None
        self.word_dropout = WordDropout(word_dropout) if word_dropout > 0.0 else None
        self.locked_dropout = LockedDropout(locked_dropout) if locked_dropout > 0.0 else None
        width = embeddings.embedding_length
        if reproject_embeddings:
            self.embedding2nn = torch.nn.Linear(width, width)
        if use_rnn:
            width = self._init_rnn(rnn, width)
        self.linear = torch.nn.Linear(width, self.tagset_size)
        self.viterbi_decoder: Optional[ViterbiDecoder] = None
        self.loss_function: torch.nn.Module
        if use_crf:
            self.loss_function = ViterbiLoss(self.label_dictionary)
            self.crf = CRF(self.label_dictionary, self.tagset_size, init_from_state_dict)
            self.viterbi_decoder = ViterbiDecoder(self.label_dictionary)
        else:
            self.loss_function = torch.nn.CrossEntropyLoss(weight=self.loss_weights, reduction="sum")
        self._follow_embeddings()

    # --- construction ---

    def _init_rnn(self, rnn: Optional[torch.nn.RNN], width: int) -> int:
        """Set up the recurrent network; returns the dimensions of its output."""
        if rnn is None:
            rnn = self.RNN(self.rnn_type, self.rnn_layers, self.hidden_size, self.bidirectional, width)
        self.rnn = rnn
        self.bidirectional = rnn.bidirectional
        directions = 2 if rnn.bidirectional else 1
        if self.train_initial_hidden_state:
            self.hs_initializer, self.lstm_init_h, self.lstm_init_c = self._init_initial_hidden_state(directions)
        return rnn.hidden_size * directions

    @staticmethod
    def RNN(rnn_type: str, rnn_layers: int, hidden_size: int, bidirectional: bool, rnn_input_dim: int) -> torch.nn.RNN:
        """A recurrent network on ``[batch, tokens, rnn_input_dim]``.

        Raises:
            Exception: for a type other than LSTM, GRU and RNN.
        """
        if rnn_type not in _RNN_TYPES:
            raise Exception(f"Unknown RNN type: {rnn_type}. Please use either LSTM, GRU or RNN.")
        network = getattr(torch.nn, rnn_type)(
            rnn_input_dim,
            hidden_size,
            num_layers=rnn_layers,
            dropout=0.0 if rnn_layers == 1 else 0.5,
            bidirectional=bidirectional,
            batch_first=True,
        )
        return cast(torch.nn.RNN, network)

    def _init_initial_hidden_state(self, num_directions: int) -> tuple[Any, torch.nn.Parameter, torch.nn.Parameter]:
        """The initialiser and the learned initial states, each ``[layers * directions, hidden_size]``."""
        initializer = torch.nn.init.xavier_normal_
        shape = (self.rnn.num_layers * num_directions, self.rnn.hidden_size)
        return (
            initializer,
            torch.nn.Parameter(initializer(torch.empty(shape))),
            torch.nn.Parameter(initializer(torch.empty(shape))),
        )

    def _init_loss_weights(self, loss_weights: dict[str, float]) -> torch.Tensor:
        """A weight for every tag."""
        items = self.label_dictionary.get_items()
        unknown = [label for label in loss_weights if label not in items]
        if unknown:
            _runtime.logger.warning(
                f"loss_weights names tags that this tagger does not have, they have no effect: {', '.join(unknown)}. "
                f"Its tags are: {', '.join(items[:20])}."
            )
        if self.use_crf:
            _runtime.logger.warning("loss_weights have no effect on the loss of a CRF. Pass use_crf=False to use them.")
        return torch.tensor([loss_weights.get(tag, 1.0) for tag in items], device=_runtime.device)

    def _determine_if_span_prediction_problem(self, dictionary: Dictionary) -> bool:
        return tags.has_span_tags(dictionary)

    @property
    def label_type(self) -> str:
        return self.tag_type

    def tag_names(self) -> list[str]:
        """The tags this model chooses from."""
        return [tag for tag in self.label_dictionary.get_items() if tag not in (START_TAG, STOP_TAG)]

    # --- from sentences to scores ---

    def _prepare_tensors(self, data_points: Union[list[Sentence], Sentence]) -> tuple[torch.Tensor, torch.LongTensor]:
        """Token vectors ``[batch, tokens, embedding_length]`` and lengths ``[batch]``, the latter on the CPU."""
        sentences = [data_points] if isinstance(data_points, Sentence) else data_points
        if self._vectors_are_stored(sentences):
            vectors, _ = Embeddings.encode_tokens(self.embeddings, sentences)
        else:
            vectors, _ = self.embeddings.encode_tokens(sentences)
        lengths = torch.tensor([len(sentence) for sentence in sentences], dtype=torch.long)
        return vectors, cast(torch.LongTensor, lengths)

    def _make_padded_tensor_for_batch(self, sentences: list[Sentence]) -> tuple[torch.LongTensor, torch.Tensor]:
        """The same two the other way round."""
        vectors, lengths = self._prepare_tensors(sentences)
        return lengths, vectors

    def _vectors_are_stored(self, sentences: list[Sentence]) -> bool:
        """Whether all tokens carry vectors that are still valid."""
        if self.training and not self.embeddings.static_embeddings:
            return False
        names = self.embeddings.get_names()
        return all(name in token._embeddings for sentence in sentences for token in sentence for name in names)

    def _store_costly_vectors(self, sentences: list[Sentence]) -> None:
        """Compute frozen language-model states for many sentences at once (or, in training, for all epochs)."""
        members = self.embeddings.embeddings if isinstance(self.embeddings, StackedEmbeddings) else [self.embeddings]
        for embedding in members:
            if embedding.static_embeddings and getattr(embedding, "keeps_vectors", False):
                embedding.embed(sentences)

    def forward(self, sentence_tensor: torch.Tensor, lengths: torch.LongTensor) -> Features:
        """Scores of a batch of embedded sentences.

        Args:
            sentence_tensor: ``[batch, tokens, embedding_length]``.
            lengths: ``[batch]``, all at least 1.

        Returns:
            Without a CRF the scores of all tokens, ``[sum of lengths, tags]``. With a CRF emissions plus transitions
            ``[batch, tokens, tags (to), tags (from)]``, the lengths, and the transitions ``[tags, tags]``.
        """
        emissions = self._emissions(sentence_tensor, lengths)
        if self.use_crf:
            return self.crf(emissions), lengths, self.crf.transitions
        return self._get_scores_from_features(emissions, lengths)

    def _emissions(self, vectors: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Scores of every tag at every token: ``[batch, tokens, tags]``."""
        vectors = vectors.to(device=self.linear.weight.device, dtype=self.linear.weight.dtype)
        vectors = dropped(vectors, self.dropout, self.word_dropout, self.locked_dropout)
        if self.reproject_embeddings:
            with quick_products():
                vectors = self.embedding2nn(vectors)
        if self.use_rnn:
            vectors = self._run_rnn(vectors, lengths.cpu())
        # A second time also without an RNN, as in released versions: what was tuned for them trains alike.
        return self.linear(dropped(vectors, self.dropout, self.locked_dropout))

    def _run_rnn(self, vectors: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        state: Any = None
        if self.train_initial_hidden_state:
            state = self.lstm_init_h.unsqueeze(1).repeat(1, len(lengths), 1)
            if isinstance(self.rnn, torch.nn.LSTM):
                state = (state, self.lstm_init_c.unsqueeze(1).repeat(1, len(lengths), 1))
        return run_padded(self.rnn, vectors, lengths, state)

    @staticmethod
    def _get_scores_from_features(features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Drop the padding: from ``[batch, tokens, tags]`` to ``[sum of lengths, tags]``."""
        inside = torch.arange(features.size(1)).unsqueeze(0) < lengths.cpu().unsqueeze(1)
        return features.flatten(0, 1)[inside.flatten().nonzero().squeeze(1).to(features.device)]

    def _features(self, sentences: list[Sentence]) -> Features:
        """The network's output. Transitions are only added to emissions where a subclass has its own ``forward``."""
        vectors, lengths = self._prepare_tensors(sentences)
        if type(self).forward is not SequenceTagger.forward or not self.use_crf:
            return self(vectors, lengths)
        return self._emissions(vectors, lengths), lengths, self.crf.transitions

    # --- loss ---

    def forward_loss(self, sentences: list[Sentence]) -> tuple[torch.Tensor, int]:
        # Longest first, as in released versions: a seed draws the same dropout for a sentence there and here, and
        # embeddings that take sentences without neighbours for each other's context see the same ones.
        sentences = sorted((sentence for sentence in sentences if len(sentence) > 0), key=len, reverse=True)
        if not sentences:
            return torch.tensor(0.0, requires_grad=True, device=_runtime.device), 1
        gold = self._prepare_label_tensor(sentences)
        if self.training:
            self._store_costly_vectors(sentences)
        return self._calculate_loss(cast(torch.Tensor, self._features(sentences)), gold)

    def _calculate_loss(self, scores: torch.Tensor, labels: torch.LongTensor) -> tuple[torch.Tensor, int]:
        """The summed loss and the number of tokens. ``scores`` is what :meth:`forward` returns."""
        if labels.size(0) == 0:
            return torch.tensor(0.0, requires_grad=True, device=labels.device), 1
        if type(self.loss_function) is torch.nn.CrossEntropyLoss:
            weight = self.loss_function.weight
            loss = functional.cross_entropy(
                compute_dtype(scores), labels, None if weight is None else compute_dtype(weight), reduction="sum"
            )
            return loss, labels.size(0)
        return self.loss_function(scores, labels), labels.size(0)

    def _get_gold_labels(self, sentences: list[Sentence]) -> list[str]:
        """The gold tags of all tokens, sentence after sentence."""
        return [tag for sentence in sentences for tag in self._gold_tags(sentence)]

    def _gold_tags(self, sentence: Sentence) -> list[str]:
        if self.predict_spans:
            return tags.span_tags(sentence, self.label_type, self.tag_format)
        return tags.token_tags(sentence, self.label_type)

    def _prepare_label_tensor(self, sentences: list[Sentence]) -> torch.LongTensor:
        """Indices of the gold tags of all tokens: ``[sum of lengths]``.

        Raises:
            IndexError: for a tag that the dictionary does not have.
        """
        gold = self._get_gold_labels(sentences)
        try:
            indices = [self.label_dictionary.get_idx_for_item(tag) for tag in gold]
        except IndexError as error:
            missing = sorted({tag for tag in gold if not self.label_dictionary.has_item(tag)})
            raise IndexError(
                f"The tag dictionary of this tagger lacks {', '.join(missing)} ({self.label_type!r} labels of the "
                f"data). It has: {', '.join(self.tag_names()[:50])}. Make it from the same corpus: "
                f"corpus.make_label_dictionary({self.label_type!r})."
            ) from error
        return cast(torch.LongTensor, torch.tensor(indices, dtype=torch.long, device=_runtime.device))

    def _loss_where_known(self, features: Features, sentences: list[Sentence]) -> tuple[torch.Tensor, int]:
        """The loss over the sentences all of whose gold tags this tagger has."""
        dictionary = self.label_dictionary
        known = [
            dictionary.add_unk or all(dictionary.has_item(tag) for tag in self._get_gold_labels([sentence]))
            for sentence in sentences
        ]
        if not all(known):
            _runtime.logger.debug("Some sentences have labels that this tagger lacks: the loss leaves them out.")
            kept = torch.tensor(known)
            if isinstance(features, tuple):
                features = (features[0][kept.to(features[0].device)], features[1][kept], features[2])
            else:
                lengths = torch.tensor([len(sentence) for sentence in sentences])
                features = features[kept.repeat_interleave(lengths).to(features.device)]
            sentences = [sentence for sentence, keep in zip(sentences, known, strict=True) if keep]
        if not sentences:
            return torch.zeros(1), 0
        return self._calculate_loss(cast(torch.Tensor, features), self._prepare_label_tensor(sentences))

    # --- prediction ---

    def predict(
        self,
        sentences: Union[list[Sentence], Sentence],
        mini_batch_size: int = 32,
        return_probabilities_for_all_classes: bool = False,
        verbose: bool = False,
        label_name: Optional[str] = None,
        return_loss: bool = False,
        embedding_storage_mode: EmbeddingStorageMode = "none",
        force_token_predictions: bool = False,
    ) -> Any:
        """Add predicted labels to sentences. Dropout is off; several threads may predict at once.

        Args:
            sentences: one sentence or a list of them. Empty sentences are skipped.
            mini_batch_size: sentences per batch.
            return_probabilities_for_all_classes: store the score of every tag on each token, to be read with
                ``token.get_tags_proba_dist(label_name)``.
            verbose: show a progress bar.
            label_name: the label type to write; default is the model's own. Labels of that type are replaced.
            return_loss: also compute the loss against the gold labels.
            embedding_storage_mode: "none" drops the computed embeddings, "cpu" and "gpu" keep them on the tokens.
            force_token_predictions: write tags on tokens even if the model predicts spans.

        Returns:
            None; with ``return_loss`` the summed loss and the number of tokens; and the input itself if nothing in it
            could be predicted.
        """
        sentences = listed(sentences)
        make_neighbours(sentences)
        usable = self._filter_empty_sentences(sentences)
        if not usable:
            return sentences
        label_name = label_name or self.label_type
        ordered = sorted(usable, key=len, reverse=True)
        loss_sum, count = torch.zeros(1), 0
        with torch.no_grad(), self._evaluating():
            for start in tqdm(range(0, len(ordered), mini_batch_size), desc="Batch inference", disable=not verbose):
                batch = ordered[start : start + mini_batch_size]
                if start % (_LOOKAHEAD * mini_batch_size) == 0:
                    self._store_costly_vectors(ordered[start : start + _LOOKAHEAD * mini_batch_size])
                if embedding_storage_mode != "none":
                    self.embeddings.embed(batch)
                features = self._features(batch)
                if return_loss:
                    loss, tokens = self._loss_where_known(features, batch)
                    loss_sum += loss.cpu()
                    count += tokens
                with _runtime.collector_paused():
                    self._add_labels(
                        batch, features, label_name, return_probabilities_for_all_classes, force_token_predictions
                    )
                store_embeddings(batch, embedding_storage_mode)
        return (loss_sum, count) if return_loss else None

    @staticmethod
    def _filter_empty_sentences(sentences: list[Sentence]) -> list[Sentence]:
        kept = [sentence for sentence in sentences if len(sentence) > 0]
        if len(kept) < len(sentences):
            _runtime.logger.warning(f"Ignore {len(sentences) - len(kept)} sentence(s) with no tokens.")
        return kept

    def _add_labels(
        self, batch: list[Sentence], features: Features, label_name: str, all_classes: bool, force_tokens: bool
    ) -> None:
        """Decode a batch and write its labels."""
        as_spans = self.predict_spans and not force_tokens
        names = self.label_dictionary.get_items()
        decoded, distributions = self._decode(features, batch, all_classes)
        for sentence, (indices, scores) in zip(batch, decoded, strict=True):
            sentence.remove_labels(label_name)
            values = [names[index] for index in indices]
            if tags.is_blank(values):
                continue
            if as_spans:
                for places, score, label in get_spans_from_bio(values, scores):
                    sentence[places[0] : places[-1] + 1].add_label(label_name, value=label, score=score)
            else:
                for token, value, score in zip(sentence, values, scores, strict=True):
                    if value not in tags.UNLABELLED:
                        token.add_label(label_name, value=value, score=score)
        for sentence, rows in zip(batch, distributions, strict=False):
            for token, labels in zip(sentence, rows, strict=True):
                token.add_tags_proba_dist(label_name, labels)

    def _decode(
        self, features: Features, batch: list[Sentence], all_classes: bool
    ) -> tuple[Iterator[tuple[list[int], list[float]]], list[list[list[Label]]]]:
        """For each sentence its tag indices and their scores; and for each token all tags as labels, if wanted."""
        if isinstance(features, tuple):
            assert self.viterbi_decoder is not None
            best, probabilities = self.viterbi_decoder.decode_tensors(features)
            chosen = probabilities.gather(2, best.unsqueeze(2)).squeeze(2)
            rows = [
                (indices[: len(sentence)], scores[: len(sentence)])
                for sentence, indices, scores in zip(batch, best.tolist(), chosen.tolist(), strict=True)
            ]
            distributions = (
                label_distributions(batch, probabilities, self.label_dictionary.get_items()) if all_classes else []
            )
            return iter(rows), distributions
        probabilities = torch.softmax(compute_dtype(features), dim=-1)
        chosen, best = probabilities.max(dim=-1)
        lengths = [len(sentence) for sentence in batch]
        pairs = zip(_split(best.tolist(), lengths), _split(chosen.tolist(), lengths), strict=True)
        distributions = self._all_scores_for_token(batch, probabilities, lengths) if all_classes else []
        return pairs, distributions

    def _all_scores_for_token(
        self, sentences: list[Sentence], score_tensor: torch.Tensor, lengths: list[int]
    ) -> list[list[list[Label]]]:
        """Every tag of every token as a label, from probabilities ``[sum of lengths, tags]``."""
        names = self.label_dictionary.get_items()
        return [
            [
                [Label(token, name, score) for name, score in zip(names, row, strict=True)]
                for token, row in zip(sentence, rows, strict=True)
            ]
            for sentence, rows in zip(sentences, _split(score_tensor.tolist(), lengths), strict=True)
        ]

    def _standard_inference(
        self, features: torch.Tensor, batch: list[Sentence], probabilities_for_all_classes: bool
    ) -> tuple[list[list[tuple[str, float]]], list[list[list[Label]]]]:
        """Each tag on its own, from scores ``[sum of lengths, tags]``: (tag, score) for every token, and all tags."""
        names = self.label_dictionary.get_items()
        decoded, distributions = self._decode(features, batch, probabilities_for_all_classes)
        pairs = [[(names[i], score) for i, score in zip(*row, strict=True)] for row in decoded]
        return pairs, distributions

    def _print_predictions(self, batch: list[Sentence], gold_label_type: str) -> list[str]:
        """Lines "token gold predicted"; spans as BIO tags, which also stay on the tokens (gold_bio, predicted_bio)."""
        return tags.prediction_lines(batch, gold_label_type, PREDICTED, self.predict_spans)

    # --- model files ---

    def _get_state_dict(self) -> dict[str, Any]:
        return {
            **super()._get_state_dict(),
            "embeddings": self.embeddings.save_embeddings(use_state_dict=False),
            "hidden_size": self.hidden_size,
            "tag_dictionary": self.label_dictionary,
            "tag_format": self.tag_format,
            "tag_type": self.tag_type,
            "use_crf": self.use_crf,
            "use_rnn": self.use_rnn,
            "rnn_layers": self.rnn_layers,
            "use_dropout": self.use_dropout,
            "use_word_dropout": self.use_word_dropout,
            "use_locked_dropout": self.use_locked_dropout,
            "rnn_type": self.rnn_type,
            "reproject_embeddings": self.reproject_embeddings,
            "weight_dict": self.weight_dict,
            "train_initial_hidden_state": self.train_initial_hidden_state,
        }

    @classmethod
    def _init_model_with_state_dict(cls, state: dict[str, Any], **kwargs: Any) -> SequenceTagger:
        tensors = dict(state["state_dict"])
        if "transitions" in tensors and state.get("use_crf"):  # before the CRF was a layer of its own
            tensors["crf.transitions"] = tensors.pop("transitions")
        if state.get("train_initial_hidden_state") and "dtype" not in state:
            # Released versions have these parameters, and never used them: zeros are what they computed with.
            for name in ("lstm_init_h", "lstm_init_c"):
                tensors[name] = torch.zeros_like(tensors[name])
        own = {
            "embeddings": state.get("embeddings"),
            "tag_dictionary": state.get("tag_dictionary"),
            "tag_format": state.get("tag_format", "BIOES"),
            "tag_type": state.get("tag_type"),
            "use_crf": state.get("use_crf"),
            "use_rnn": state.get("use_rnn"),
            "hidden_size": state.get("hidden_size"),
            "rnn_layers": state.get("rnn_layers"),
            "rnn_type": state.get("rnn_type", "LSTM"),
            # Not recorded, but visible: only a network that reads both ways has weights for the reverse direction.
            "bidirectional": not state.get("use_rnn") or "rnn.weight_ih_l0_reverse" in tensors,
            "reproject_embeddings": state.get("reproject_embeddings", True),
            "dropout": state.get("use_dropout", 0.0),
            "word_dropout": state.get("use_word_dropout", 0.0),
            "locked_dropout": state.get("use_locked_dropout", 0.0),
            "train_initial_hidden_state": state.get("train_initial_hidden_state", False),
            "loss_weights": state.get("weight_dict"),
            "init_from_state_dict": True,
        }
        state = {**state, "state_dict": tensors}
        return cast("SequenceTagger", super()._init_model_with_state_dict(state, **{**own, **kwargs}))

    @staticmethod
    def _fetch_model(model_identifier: str) -> str:
        """A local path, a short name, or a repository of the Hugging Face hub (``owner/name[@revision]``)."""
        if Path(model_identifier).exists():
            return model_identifier
        if model_identifier in pretrained.HUGGING_FACE:
            return hf_download(pretrained.HUGGING_FACE[model_identifier])
        if model_identifier in pretrained.URLS:
            if model_identifier.startswith("hunflair"):
                _runtime.logger.warning(
                    "HunFlair (version 1) is deprecated. Consider HunFlair2: Classifier.load('hunflair2')."
                )
            return str(cached_path(pretrained.URLS[model_identifier], cache_dir="models"))
        if _REPOSITORY.fullmatch(model_identifier):
            return hf_download(model_identifier)
        return model_identifier

    def push_to_hub(
        self,
        repo_id: str,
        token: Optional[str] = None,
        private: Optional[bool] = None,
        commit_message: str = "Add new SequenceTagger model.",
    ) -> str:
        """Publish the model in a repository of the Hugging Face hub, which is created if it does not exist.

        Args:
            repo_id: ``owner/name``.
            token: access token; by default the one that ``huggingface-cli login`` stored.
            private: whether a new repository is private.
            commit_message: description of the change.

        Returns:
            The repository's URL.
        """
        return hub.push(self, repo_id, token=token, private=private, commit_message=commit_message)

    def _generate_model_card(self, repo_id: str) -> str:
        return hub.readme(self, repo_id)

    @classmethod
    def load(cls, model_path: Union[str, Path, dict[str, Any]], **options: Any) -> SequenceTagger:
        """Rebuild a tagger; see :meth:`flair.nn.Model.load` for the options."""
        return cast("SequenceTagger", super().load(model_path=model_path, **options))


def _split(values: list[Any], lengths: Sequence[int]) -> Iterator[list[Any]]:
    start = 0
    for length in lengths:
        yield values[start : start + length]
        start += length
