"""Sentences with gold entities and parts of speech, for the parity scripts of taggers."""

from __future__ import annotations

from typing import Any

TEXTS = [
    "Peter Smith sat in Berlin .",
    "the cat",
    "on the mat in Paris " * 4,
    "Smith",
    "mat and Peter in the Paris cat",
]


def sentences() -> list[Any]:
    from flair.data import Sentence

    made = [Sentence(text) for text in TEXTS]
    made[0][0:2].add_label("ner", "PER")
    made[0][4:5].add_label("ner", "LOC")
    made[2][4:5].add_label("ner", "LOC")
    made[4][2:3].add_label("ner", "PER")
    for sentence in made:
        for number, token in enumerate(sentence):
            token.add_label("pos", ("NOUN", "VERB", "O")[number % 3])
    return made
