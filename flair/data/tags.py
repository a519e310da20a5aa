"""From one tag a token to labelled spans."""

from __future__ import annotations

from typing import Optional

OUTSIDE_TAGS = frozenset(("", "O", "_"))


def get_spans_from_bio(
    bioes_tags: list[str], bioes_scores: Optional[list[float]] = None
) -> list[tuple[list[int], float, str]]:
    """Read the spans out of BIO or BIOES tags, forgiving tags that do not fit together.

    ``B-`` and ``S-`` always start a span, and so does ``I-`` with another type than the tag before. Any other tag that
    is not outside extends a span that is open. The label of a span is the type that most of its tags have, the first
    tag counting a little more.

    Args:
        bioes_tags: one tag a token; an "O" is appended to the list (callers of released versions rely on it).
        bioes_scores: one score a token.

    Returns:
        For each span the indices of its tokens, the mean of their scores (1.0 without any), and its label.
    """
    spans: list[tuple[list[int], float, str]] = []
    indices: list[int] = []
    weights: dict[str, float] = {}
    previous_type = ""

    def close() -> None:
        if indices:
            scores = [bioes_scores[i] for i in indices] if bioes_scores else [1.0]
            label = max(weights, key=lambda kind: weights[kind])
            spans.append((list(indices), sum(scores) / len(scores), label))
        indices.clear()
        weights.clear()

    bioes_tags.append("O")
    for index, tag in enumerate(bioes_tags):
        outside = tag in OUTSIDE_TAGS
        prefix, kind = tag[:2], tag[2:]
        starts = prefix in ("B-", "S-") or (prefix == "I-" and kind != previous_type)
        if outside or starts:
            close()
        if outside:
            previous_type = ""
            continue
        weights[kind] = weights.get(kind, 0.0) + (1.0 if indices else 1.1)
        indices.append(index)
        previous_type = kind
    return spans
