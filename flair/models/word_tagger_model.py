"""Token classification: each token on its own gets a label; tags of spans are put together afterwards."""

from __future__ import annotations

import warnings
from itertools import groupby
from pathlib import Path
from typing import Any, Optional, Union, cast

import torch

from flair.data.dictionary import Dictionary
from flair.data.label import Label
from flair.data.sentence import Sentence
from flair.data.tags import get_spans_from_bio
from flair.data.units import Token
from flair.embeddings.base import TokenEmbeddings
from flair.models.sequence_tagger_utils import tags
from flair.nn.model import PREDICTED, DefaultClassifier


class TokenClassifier(DefaultClassifier[Sentence, Token]):
    """A decoder on token embeddings.

    With a dictionary of span labels it predicts one BIOES or BIO tag a token and writes the spans that these make;
    otherwise it writes labels of tokens.
    """

    def __init__(
        self,
        embeddings: TokenEmbeddings,
        label_dictionary: Dictionary,
        label_type: str,
        span_encoding: str = "BIOES",
        **classifierargs: Any,
    ) -> None:
        """Build a token classifier.

        Args:
            embeddings: one vector a token.
            label_dictionary: the labels, from ``corpus.make_label_dictionary``.
            label_type: the label type to learn and to write.
            span_encoding: how spans become tags, "BIOES" or "BIO"; without effect on labels of tokens.
            classifierargs: arguments of :class:`~flair.nn.DefaultClassifier`.

        Raises:
            AssertionError: for an unknown ``span_encoding``, if the labels are those of spans.
            ValueError: several labels a token (``multi_label``) make no spans.
        """
        self.span_encoding = span_encoding.upper()
        tagset = tags.tagset(label_dictionary, self.span_encoding, allow_unk=False)
        self.span_prediction_problem = tags.has_span_tags(tagset)
        if self.span_prediction_problem and classifierargs.get("multi_label"):
            raise ValueError("multi_label=True is for labels of tokens: a token with several tags belongs to no span.")
        super().__init__(
            embeddings=embeddings,
            label_dictionary=tagset,
            final_embedding_size=embeddings.embedding_length,
            **classifierargs,
        )
        self._label_type = label_type

    @property
    def label_type(self) -> str:
        return self._label_type

    # --- tokens and their vectors ---

    def _get_data_points_from_sentence(self, sentence: Sentence) -> list[Token]:
        return sentence.tokens

    def _get_embedding_for_data_point(self, prediction_data_point: Token) -> torch.Tensor:
        return prediction_data_point.get_embedding(self.embeddings.get_names())

    def _encode_batch(self, sentences: list[Sentence], data_points: list[Token]) -> Optional[torch.Tensor]:
        own = type(self)
        customised = (
            own._get_embedding_for_data_point is not TokenClassifier._get_embedding_for_data_point
            or own._encode_data_points is not DefaultClassifier._encode_data_points
            or not self.should_embed_sentence
        )
        if customised:
            return None
        padded, lengths = cast(TokenEmbeddings, self.embeddings).encode_tokens(sentences)
        inside = torch.arange(padded.size(1), device=padded.device).unsqueeze(0) < lengths.to(padded.device).unsqueeze(
            1
        )
        vectors = padded[inside]  # one row a token, sentence after sentence
        if len(data_points) == vectors.size(0):
            return vectors
        starts: dict[int, int] = {}
        total = 0
        for sentence in sentences:
            starts[id(sentence)] = total
            total += len(sentence)
        rows = [starts[id(token.sentence)] + token.idx - 1 for token in data_points]
        return vectors[torch.tensor(rows, dtype=torch.long, device=vectors.device)]

    # --- labels ---

    def _get_label_of_datapoint(self, data_point: Token) -> list[str]:
        if self.span_prediction_problem:
            return [tags.span_tag(data_point, self.label_type, self.span_encoding)]
        return super()._get_label_of_datapoint(data_point)

    def _add_labels(self, data_points: list[Token], scores: torch.Tensor, label_name: str, all_classes: bool) -> None:
        """Labels of tokens, or spans.

        Spans have the score 1, as in released versions. How sure the model is of each token's tag is kept beside them
        where it is asked for: ``token.get_tags_proba_dist(label_name)``.
        """
        if not self.span_prediction_problem:
            super()._add_labels(data_points, scores, label_name, all_classes)
            return
        names = self.label_dictionary.get_items()
        if all_classes:
            for token, row in zip(data_points, torch.softmax(scores, dim=-1).tolist(), strict=True):
                labels = [Label(token, name, score) for name, score in zip(names, row, strict=True)]
                token.add_tags_proba_dist(label_name, labels)
        tagged = zip(data_points, scores.argmax(dim=-1).tolist(), strict=True)
        for _, rows in groupby(tagged, key=lambda row: id(row[0].sentence)):
            tokens, indices = zip(*rows, strict=True)
            for places, _, _ in get_spans_from_bio([names[index] for index in indices]):
                span = tokens[0].sentence[tokens[places[0]].idx - 1 : tokens[places[-1]].idx]
                # Where the tags of a span disagree, the last one counts.
                span.add_label(label_name, names[indices[places[-1]]][2:])

    def _post_process_batch_after_prediction(self, batch: list[Sentence], label_name: str) -> None:
        """Nothing is left to do: :meth:`_add_labels` has written the spans."""

    def _print_predictions(self, batch: list[Sentence], gold_label_type: str) -> list[str]:
        """Lines "token gold predicted"; spans as BIO tags, which also stay on the tokens (gold_bio, predicted_bio)."""
        return tags.prediction_lines(batch, gold_label_type, PREDICTED, self.span_prediction_problem)

    # --- model files ---

    def _get_state_dict(self) -> dict[str, Any]:
        return {
            **super()._get_state_dict(),
            "embeddings": self.embeddings.save_embeddings(use_state_dict=False),
            "label_dictionary": self.label_dictionary,
            "label_type": self.label_type,
        }

    @classmethod
    def _init_model_with_state_dict(cls, state: dict[str, Any], **kwargs: Any) -> TokenClassifier:
        dictionary = state.get("label_dictionary")
        with_ends = dictionary is not None and any(item[:2] in ("S-", "E-") for item in dictionary.get_items())
        own = {
            "embeddings": state.get("embeddings"),
            "label_dictionary": dictionary,
            "label_type": state.get("label_type"),
            # Not recorded, but visible in the tags.
            "span_encoding": "BIOES" if with_ends else "BIO",
        }
        return cast("TokenClassifier", super()._init_model_with_state_dict(state, **{**own, **kwargs}))

    @classmethod
    def load(cls, model_path: Union[str, Path, dict[str, Any]], **options: Any) -> TokenClassifier:
        """Rebuild a token classifier; see :meth:`flair.nn.Model.load` for the options."""
        return cast("TokenClassifier", super().load(model_path=model_path, **options))


class WordTagger(TokenClassifier):
    """The former name of :class:`TokenClassifier`."""

    def __init__(
        self,
        embeddings: TokenEmbeddings,
        label_dictionary: Dictionary,
        label_type: str,
        span_encoding: str = "BIOES",
        **classifierargs: Any,
    ) -> None:
        """Build a token classifier; arguments and errors as there."""
        warnings.warn("WordTagger is now called TokenClassifier.", DeprecationWarning, stacklevel=2)
        super().__init__(embeddings, label_dictionary, label_type, span_encoding, **classifierargs)
