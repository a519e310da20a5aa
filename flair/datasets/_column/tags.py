"""Conversions between the ways to write spans as one tag a token."""

from __future__ import annotations

from collections.abc import Sequence

from flair.data.tags import get_spans_from_bio

OUTSIDE = "O"
SPAN_PREFIXES = ("B-", "I-", "S-", "E-")
"""A column whose first value (other than "O") starts with one of these holds spans; any other holds token labels."""


def bio_to_bioes(tags: Sequence[str]) -> list[str]:
    """BIO (or IOB) tags as BIOES: single tokens become ``S-``, last tokens ``E-``."""
    return _rewrite(tags, single="S-", last="E-")


def bioes_to_bio(tags: Sequence[str]) -> list[str]:
    """BIOES (or IOB) tags as BIO: a span starts with ``B-`` and goes on with ``I-``."""
    return _rewrite(tags, single="B-", last="I-")


def _rewrite(tags: Sequence[str], single: str, last: str) -> list[str]:
    """Read the spans, which forgives what does not fit together, and write them anew."""
    rewritten = [OUTSIDE] * len(tags)
    for places, _, label in get_spans_from_bio(list(tags)):
        for place in places:
            rewritten[place] = f"I-{label}"
        rewritten[places[-1]] = f"{last}{label}"
        rewritten[places[0]] = f"{single}{label}" if len(places) == 1 else f"B-{label}"
    return rewritten
