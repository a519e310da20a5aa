"""Linear-chain conditional random field: partition function, path score, marginals and Viterbi, batched.

Tensors are ``[batch, time, tags]`` (emissions) and ``[tags, tags]`` (transitions, *to* x *from*). Every function also
takes the two added up, ``[batch, time, tags, tags]``, which is what :meth:`CRF.forward` returns. All of it runs in
float32, whatever the inputs are stored in. Only time is walked in a loop: padding costs nothing but its share of one
batched operation, because final states are picked at each sentence's own last step.

Reference: Lafferty, McCallum, Pereira (2001); Lample et al. (2016) for the start and stop transitions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from flair.data.dictionary import Dictionary
from flair.nn.precision import compute_dtype

START_TAG: str = "<START>"
STOP_TAG: str = "<STOP>"
FORBIDDEN = -10000.0
"""Log score of a transition that cannot happen: into the start tag and out of the stop tag."""


class CRF(torch.nn.Module):
    """The transition scores between tags; ``transitions[to, from]``."""

    def __init__(self, tag_dictionary: Dictionary, tagset_size: int, init_from_state_dict: bool) -> None:
        """Draw transition scores from a normal distribution.

        Args:
            tag_dictionary: the tags, with ``<START>`` and ``<STOP>`` among them.
            tagset_size: number of tags, these two included.
            init_from_state_dict: leave the scores as drawn, because a file will provide all of them. Otherwise
                transitions into ``<START>`` and out of ``<STOP>`` are forbidden.
        """
        super().__init__()
        self.tagset_size = tagset_size
        self.transitions = torch.nn.Parameter(torch.randn(tagset_size, tagset_size))
        if not init_from_state_dict:
            with torch.no_grad():
                self.transitions[tag_dictionary.get_idx_for_item(START_TAG), :] = FORBIDDEN
                self.transitions[:, tag_dictionary.get_idx_for_item(STOP_TAG)] = FORBIDDEN

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Emissions ``[batch, time, tags]`` plus transitions: ``[batch, time, tags (to), tags (from)]``."""
        return features.unsqueeze(-1) + self.transitions

    def extra_repr(self) -> str:
        return f"tags={self.tagset_size}"


class Decoding(NamedTuple):
    """What :func:`viterbi` returns."""

    tags: torch.Tensor
    """The best path, ``[batch, time]`` (int64). Entries beyond a sentence's length mean nothing."""
    scores: torch.Tensor
    """Softmax over the best-path scores that end in each tag, ``[batch, time, tags]``."""


def forward_scores(features: torch.Tensor, transitions: torch.Tensor, start: int) -> torch.Tensor:
    """Log-sum over all paths that end in a tag at a time: ``[batch, time, tags]``."""
    features, transitions = compute_dtype(features), compute_dtype(transitions)
    alpha = _first_step(features, transitions, start)
    alphas = [alpha]
    for time in range(1, features.size(1)):
        if features.dim() == 4:
            alpha = torch.logsumexp(alpha.unsqueeze(1) + features[:, time], dim=2)
        else:
            alpha = features[:, time] + torch.logsumexp(alpha.unsqueeze(1) + transitions, dim=2)
        alphas.append(alpha)
    return torch.stack(alphas, dim=1)


def backward_scores(
    features: torch.Tensor, lengths: torch.Tensor, transitions: torch.Tensor, stop: int
) -> torch.Tensor:
    """Log-sum over all ways to go on from a tag at a time to the end: ``[batch, time, tags]``."""
    features, transitions = compute_dtype(features), compute_dtype(transitions)
    batch, steps = features.shape[:2]
    ending = transitions[stop].expand(batch, -1)
    last = (lengths.to(features.device) - 1).unsqueeze(1)
    beta = ending
    betas = [beta]
    for time in range(steps - 2, -1, -1):
        following = features[:, time + 1]
        if features.dim() == 3:
            following = following.unsqueeze(2) + transitions
        onward = torch.logsumexp(following + beta.unsqueeze(2), dim=1)
        beta = torch.where(last <= time, ending, onward)
        betas.append(beta)
    return torch.stack(betas[::-1], dim=1)


def log_partition(
    features: torch.Tensor, lengths: torch.Tensor, transitions: torch.Tensor, start: int, stop: int
) -> torch.Tensor:
    """Log-sum over all paths from start to stop: ``[batch]``. Every length must be at least 1."""
    alphas = _at_last_step(forward_scores(features, transitions, start), lengths)
    return torch.logsumexp(alphas + compute_dtype(transitions)[stop], dim=1)


def path_score(
    features: torch.Tensor,
    lengths: torch.Tensor,
    transitions: torch.Tensor,
    tags: torch.Tensor,
    start: int,
    stop: int,
) -> torch.Tensor:
    """Score of given paths, ``tags`` being ``[batch, time]``: ``[batch]``."""
    features, transitions = compute_dtype(features), compute_dtype(transitions)
    before = torch.cat([torch.full_like(tags[:, :1], start), tags[:, :-1]], dim=1)
    if features.dim() == 4:
        onto = features.gather(2, tags[:, :, None, None].expand(-1, -1, 1, features.size(3))).squeeze(2)
        steps = onto.gather(2, before.unsqueeze(2)).squeeze(2)
    else:
        steps = features.gather(2, tags.unsqueeze(2)).squeeze(2) + transitions[tags, before]
    lengths = lengths.to(features.device)
    inside = torch.arange(tags.size(1), device=tags.device) < lengths.unsqueeze(1)
    last = tags.gather(1, (lengths - 1).unsqueeze(1)).squeeze(1)
    return steps.masked_fill(~inside, 0.0).sum(dim=1) + transitions[stop, last]


def negative_log_likelihood(
    features: torch.Tensor,
    lengths: torch.Tensor,
    transitions: torch.Tensor,
    tags: torch.Tensor,
    start: int,
    stop: int,
) -> torch.Tensor:
    """-log p(tags | features) for each sequence: ``[batch]``."""
    total = log_partition(features, lengths, transitions, start, stop)
    return total - path_score(features, lengths, transitions, tags, start, stop)


def marginals(
    features: torch.Tensor, lengths: torch.Tensor, transitions: torch.Tensor, start: int, stop: int
) -> torch.Tensor:
    """Posterior probability of each tag at each time, ``[batch, time, tags]``; zeros beyond a sequence's length."""
    alphas = forward_scores(features, transitions, start)
    both = alphas + backward_scores(features, lengths, transitions, stop)
    inside = torch.arange(both.size(1), device=both.device) < lengths.to(both.device).unsqueeze(1)
    return torch.softmax(both, dim=2) * inside.unsqueeze(2)


def viterbi(
    features: torch.Tensor, lengths: torch.Tensor, transitions: torch.Tensor, start: int, stop: int
) -> Decoding:
    """The best path of each sequence, and how its prefixes compare with those that end in other tags.

    ``scores`` are no posteriors (see :func:`marginals` for these): they are the softmax over the best-prefix scores of
    all tags, with the decoded tag given the highest of them. This is the confidence that saved models were used with.

    Args:
        features: ``[batch, time, tags]`` or, transitions added, ``[batch, time, tags, tags]``.
        lengths: ``[batch]``, each at least 1.
        transitions: ``[tags, tags]``, to x from.
        start: index of the start tag.
        stop: index of the stop tag.
    """
    features, transitions = compute_dtype(features.detach()), compute_dtype(transitions.detach())
    delta = _first_step(features, transitions, start)
    deltas, pointers = [delta], []
    for time in range(1, features.size(1)):
        if features.dim() == 4:
            delta, pointer = (delta.unsqueeze(1) + features[:, time]).max(dim=2)
        else:
            best, pointer = (delta.unsqueeze(1) + transitions).max(dim=2)
            delta = best + features[:, time]
        deltas.append(delta)
        pointers.append(pointer)
    prefixes = torch.stack(deltas, dim=1)

    lengths = lengths.to(features.device)
    final = (_at_last_step(prefixes, lengths) + transitions[stop]).argmax(dim=1, keepdim=True)
    last = (lengths - 1).unsqueeze(1)
    tag = final
    path = [tag]
    for time in range(features.size(1) - 2, -1, -1):
        tag = torch.where(last <= time, final, pointers[time].gather(1, tag))
        path.append(tag)
    tags = torch.cat(path[::-1], dim=1)
    return Decoding(tags, _give_best_to(torch.softmax(prefixes, dim=2), tags))


def _give_best_to(scores: torch.Tensor, tags: torch.Tensor) -> torch.Tensor:
    """Swap, at each step, the highest score with that of the decoded tag."""
    decoded = tags.unsqueeze(2)
    best, position = scores.max(dim=2, keepdim=True)
    return scores.scatter(2, position, scores.gather(2, decoded)).scatter(2, decoded, best)


def _first_step(features: torch.Tensor, transitions: torch.Tensor, start: int) -> torch.Tensor:
    return features[:, 0, :, start] if features.dim() == 4 else features[:, 0] + transitions[:, start]


def _at_last_step(values: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """From ``[batch, time, tags]`` the row of each sequence's last step: ``[batch, tags]``."""
    last = (lengths.to(values.device) - 1).view(-1, 1, 1).expand(-1, 1, values.size(2))
    return values.gather(1, last).squeeze(1)
