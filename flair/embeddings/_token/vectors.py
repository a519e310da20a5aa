"""Reading files of word vectors."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from flair.checkpoint.errors import CheckpointError, UnsafeCheckpointError
from flair.class_utils import lazy_import
from flair.embeddings._token.gensim_file import read_table

_INITIAL_ROWS = 1024
_LONGEST_LINE = 1 << 20
_DIGIT = re.compile(r"\d")


def lookup_forms(word: str) -> tuple[str, str, str, str]:
    """The forms under which tables may know a word, the most exact one first."""
    lower = word.lower()
    return word, lower, _DIGIT.sub("#", lower), _DIGIT.sub("0", lower)


def read_vectors(path: Path, no_header: bool = False) -> tuple[list[str], np.ndarray]:
    """Words and their vectors from a file.

    Args:
        path: word2vec text (``.txt``), word2vec binary (``.bin``), or a file of gensim's ``KeyedVectors.save``.
        no_header: the text file does not start with a line "words dimensions".

    Returns:
        The words, and a float32 matrix ``[words, dimensions]``.

    Raises:
        ValueError: for a line that does not fit, naming file and line, and for damaged files.
        UnsafeCheckpointError: for a file of gensim that could run code.
        ImportError: gensim is needed and not installed.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder. Pass the file of vectors in it.")
    if path.suffix == ".txt":
        return _read_text(path, no_header)
    if path.suffix != ".bin":
        try:
            return read_table(path)
        except UnsafeCheckpointError:
            raise
        except CheckpointError as error:
            raise ValueError(str(error)) from error
    if _is_text(path):
        raise ValueError(
            f"{path} holds word2vec text, which has the suffix .txt; .bin is for the binary form. Rename it."
        )
    (keyed_vectors,) = lazy_import("word-embeddings", "gensim.models", "KeyedVectors")
    try:
        vectors = keyed_vectors.load_word2vec_format(str(path), binary=True, unicode_errors="replace")
        matrix = np.asarray(vectors.vectors, dtype=np.float32)
    except (AttributeError, EOFError, IndexError, KeyError, TypeError, ValueError, MemoryError) as error:
        raise ValueError(
            f"{path} holds no word vectors: it cannot be read as word2vec binary ({type(error).__name__}: {error}). It "
            "may be cut off. Files of word2vec text need the suffix .txt; what KeyedVectors.save of gensim wrote has "
            "any other."
        ) from error
    words = list(vectors.index_to_key)
    if len(words) != len(matrix):
        raise ValueError(f"{path} names {len(words)} words and holds {len(matrix)} vectors: it is damaged.")
    return words, matrix


def as_vocabulary(words: list[str], path: Path) -> dict[str, int]:
    """Word -> row; the first of several equal words counts."""
    vocabulary: dict[str, int] = {}
    for row, word in enumerate(words):
        vocabulary.setdefault(word, row)
    if not vocabulary:
        raise ValueError(f"{path} contains no word vectors.")
    return vocabulary


def _is_text(path: Path) -> bool:
    """Whether the first vector is written in digits; read as binary it would give vectors of nonsense."""
    with open(path, "rb") as file:
        header, first = file.readline(_LONGEST_LINE).split(), file.readline(_LONGEST_LINE).split()
    if len(header) != 2 or not header[1].isdigit() or len(first) != int(header[1]) + 1:
        return False
    try:
        return len([float(number) for number in first[1:]]) > 0
    except ValueError:
        return False


def _header(line: str, path: Path) -> tuple[int, int]:
    """The number of words and of dimensions in the first line of a text file."""
    parts = line.split()
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise ValueError(
            f"{path}, line 1: expected the number of words and of dimensions, found {' '.join(parts)[:80]!r}. "
            "Pass no_header=True for a file that starts with its first vector."
        )
    words, width = int(parts[0]), int(parts[1])
    if width > path.stat().st_size:
        raise ValueError(f"{path}, line 1: {width} dimensions are more than the whole file has bytes.")
    return words, width


def _read_text(path: Path, no_header: bool) -> tuple[list[str], np.ndarray]:
    words: list[str] = []
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        first = 1
        expected: int | None = None
        width: int | None = None
        rows = _INITIAL_ROWS
        if not no_header:
            expected, width = _header(file.readline(), path)
            # a number and its space take two bytes: what line 1 announces beyond that is not there
            rows, first = min(expected, path.stat().st_size // max(2 * width, 1) + 1), 2
        matrix = np.empty((rows, width or 0), dtype=np.float32)
        for number, line in enumerate(file, start=first):
            word, *values = line.rstrip().split(" ")
            if not values and not word:
                continue
            if width is None:
                width = len(values)
                matrix = np.empty((_INITIAL_ROWS, width), dtype=np.float32)
            elif no_header and len(words) == 1 and width == 1 and len(values) > 1 and words[0].isdigit():
                raise ValueError(
                    f"{path}, line 1 announces the number of words and of dimensions: leave out no_header=True."
                )
            if len(words) == expected:
                raise ValueError(f"{path}, line {number}: line 1 announces {expected} words, there are more.")
            if len(words) == len(matrix):
                matrix = np.concatenate([matrix, np.empty_like(matrix)])
            matrix[len(words)] = _vector(values, width, f"{path}, line {number} ({word!r})")
            words.append(word)
    if expected is not None and len(words) < expected:
        raise ValueError(f"{path} ends after {len(words)} words, line 1 announces {expected}: the file is truncated.")
    return words, matrix[: len(words)]


def _vector(values: list[str], width: int, where: str) -> np.ndarray:
    if len(values) != width:
        raise ValueError(
            f"{where}: expected {width} numbers, found {len(values)}. A single space stands before each number."
        )
    try:
        return np.array(values, dtype=np.float32)
    except ValueError as error:
        raise ValueError(f"{where}: not a vector of numbers: {error}.") from error
