"""CRF loss and Viterbi decoding on whole batches, as modules that know the tag dictionary."""

from __future__ import annotations

import torch
from torch.nn.utils.rnn import pad_sequence

from flair.data.dictionary import Dictionary
from flair.data.label import Label
from flair.data.sentence import Sentence
from flair.nn.crf import START_TAG, STOP_TAG, Decoding, negative_log_likelihood, viterbi

__all__ = ["START_TAG", "STOP_TAG", "ViterbiDecoder", "ViterbiLoss"]


class ViterbiLoss(torch.nn.Module):
    """Negative log-likelihood of the gold paths, summed over the batch."""

    def __init__(self, tag_dictionary: Dictionary) -> None:
        super().__init__()
        self.tag_dictionary = tag_dictionary
        self.tagset_size = len(tag_dictionary)
        self.start_tag = tag_dictionary.get_idx_for_item(START_TAG)
        self.stop_tag = tag_dictionary.get_idx_for_item(STOP_TAG)

    def forward(self, features_tuple: tuple, targets: torch.Tensor) -> torch.Tensor:
        """The summed loss.

        Args:
            features_tuple: features ``[batch, time, tags]`` or ``[batch, time, tags, tags]``, lengths ``[batch]``,
                transitions ``[tags, tags]``.
            targets: gold tags, one after the other ``[sum of lengths]`` or padded ``[batch, time]``.

        Raises:
            ValueError: when there are more or fewer gold tags than tokens.
        """
        features, lengths, transitions = features_tuple
        if targets.dim() == 1:
            targets = self._format_targets(targets, lengths)
        losses = negative_log_likelihood(features, lengths, transitions, targets, self.start_tag, self.stop_tag)
        return losses.sum()

    def _format_targets(self, targets: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """From one row of gold tags to ``[batch, time]``."""
        sizes = lengths.tolist()
        if sum(sizes) != len(targets):
            raise ValueError(f"{len(targets)} gold tags for {sum(sizes)} tokens (sentence lengths {sizes}).")
        return pad_sequence(list(targets.split(sizes)), batch_first=True)


class ViterbiDecoder:
    """Finds the best path of every sentence of a batch."""

    def __init__(self, tag_dictionary: Dictionary) -> None:
        self.tag_dictionary = tag_dictionary
        self.tagset_size = len(tag_dictionary)
        self.start_tag = tag_dictionary.get_idx_for_item(START_TAG)
        self.stop_tag = tag_dictionary.get_idx_for_item(STOP_TAG)

    def decode_tensors(self, features_tuple: tuple) -> Decoding:
        """Best tags ``[batch, time]`` and scores ``[batch, time, tags]``, on the features' device."""
        features, lengths, transitions = features_tuple
        return viterbi(features, lengths, transitions, self.start_tag, self.stop_tag)

    def decode(
        self, features_tuple: tuple, probabilities_for_all_classes: bool, sentences: list[Sentence]
    ) -> tuple[list[list[tuple[str, float]]], list[list[list[Label]]]]:
        """Best tags with their scores and, if wanted, a label for every tag of every token.

        Args:
            features_tuple: as in :meth:`ViterbiLoss.forward`.
            probabilities_for_all_classes: whether the second list is filled.
            sentences: the sentences of the batch, in the order of the features.

        Returns:
            For each sentence a list of (tag, score); for each sentence and token a list of labels, else an empty list.
        """
        tags, scores = self.decode_tensors(features_tuple)
        lengths = features_tuple[1].tolist()
        names = self.tag_dictionary.get_items()
        chosen = scores.gather(2, tags.unsqueeze(2)).squeeze(2).tolist()
        paths = [
            [(names[tag], score) for tag, score in zip(row[:length], row_scores, strict=False)]
            for row, row_scores, length in zip(tags.tolist(), chosen, lengths, strict=True)
        ]
        if not probabilities_for_all_classes:
            return paths, []
        return paths, label_distributions(sentences, scores, names)


def label_distributions(sentences: list[Sentence], scores: torch.Tensor, names: list[str]) -> list[list[list[Label]]]:
    """A label for every tag of every token, from probabilities ``[batch, time, tags]``."""
    return [
        [
            [Label(token, name, score) for name, score in zip(names, row, strict=True)]
            for token, row in zip(sentence, rows[: len(sentence)], strict=True)
        ]
        for sentence, rows in zip(sentences, scores.tolist(), strict=True)
    ]
