"""Files of gensim's ``save``, read as data.

gensim writes a pickle of the table and, for large matrices, ``.npy`` files beside it. ``KeyedVectors.load`` runs that
pickle, and with it whatever somebody put into it. Here nothing is run: names outside of a list are refused, and of the
rest only the words and the matrix are taken.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from flair.checkpoint.errors import CheckpointError, UnsafeCheckpointError
from flair.checkpoint.unpickle import Global, Record, read_pickle
from flair.class_utils import lazy_import

_NUMPY = ("numpy.core", "numpy._core")
_ARRAYS = frozenset(f"{package}.multiarray._reconstruct" for package in _NUMPY)
_BUFFERS = frozenset(f"{package}.numeric._frombuffer" for package in _NUMPY)
_OLD_STYLE = frozenset({"copyreg._reconstructor", "copy_reg._reconstructor"})
_TABLES = frozenset(
    {
        *(
            f"gensim.models.keyedvectors.{name}"
            for name in ("KeyedVectors", "EuclideanKeyedVectors", "Word2VecKeyedVectors")
        ),
        "gensim.models.deprecated.keyedvectors.KeyedVectors",
    }
)
_FAST_TEXT = frozenset(f"gensim.models.{module}.FastTextKeyedVectors" for module in ("keyedvectors", "fasttext"))
"""Tables that gensim completes while loading: a word's vector is a sum over its character n-grams."""
_WORDS = frozenset(
    {
        "gensim.models.keyedvectors.Vocab",
        "gensim.models.keyedvectors.CompatVocab",
        "gensim.models.keyedvectors.SimpleVocab",
        "gensim.models.word2vec.Vocab",
        "gensim.models.deprecated.keyedvectors.Vocab",
    }
)
_TRAINING = frozenset(
    {
        "gensim.models.fasttext.FastText",
        "gensim.models.fasttext.FastTextTrainables",
        "gensim.models.fasttext.FastTextVocab",
        "gensim.models.word2vec.Word2Vec",
        "gensim.models.word2vec.Word2VecTrainables",
        "gensim.models.word2vec.Word2VecVocab",
        "gensim.models.callbacks.CallbackAny2Vec",
        "gensim.utils.call_on_class_only",
        "gensim.utils.default_prng",
    }
)
"""What the files of complete models name besides their table."""
NAMES = frozenset(
    {
        *_ARRAYS,
        *_BUFFERS,
        *_OLD_STYLE,
        *_TABLES,
        *_FAST_TEXT,
        *_WORDS,
        *_TRAINING,
        *(f"{package}.multiarray.scalar" for package in _NUMPY),
        *(
            f"numpy.{name}"
            for name in ("ndarray", "dtype", "float16", "float32", "float64", "int32", "int64", "uint32")
        ),
        *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("object", "set", "dict", "list")),
        "_codecs.encode",
        "collections.OrderedDict",
        "collections.defaultdict",
    }
)
"""Every name that such a file may mention."""


def read_table(path: Path) -> tuple[list[str], np.ndarray]:
    """Words and vectors from what ``KeyedVectors.save`` of gensim 3 or 4 wrote.

    Returns:
        The words in the order of their rows, and a float32 matrix ``[words, dimensions]``.

    Raises:
        UnsafeCheckpointError: a file that refers to anything else than a table of vectors.
        CheckpointError: no such file, or a damaged one.
    """
    root = _root(path)
    if isinstance(root, Record) and _class_of(root) in _FAST_TEXT:
        return _complete(path)
    table = _unwrap(root, path)
    matrix = _matrix(table, path)
    words = _words(table, path)
    if len(words) != len(matrix):
        raise CheckpointError(
            f"{path} names {len(words)} words and holds {len(matrix)} vectors: the files do not belong together."
        )
    return words, matrix


def refuse_unsafe(path: Path) -> None:
    """Check a file that gensim itself is going to load.

    Raises:
        UnsafeCheckpointError: the file, or a matrix beside it, could run code.
        CheckpointError: it is no pickle.
    """
    _refuse_calls(_root(path), path, set())
    for array in path.parent.glob(f"{path.name}.*.npy"):
        _load_array(array)


def _root(path: Path) -> Any:
    with open(path, "rb") as file:
        data = file.read()
    try:
        return read_pickle(data, _refuse_unlisted(path))[0]
    except UnsafeCheckpointError:
        raise
    except CheckpointError as error:
        raise CheckpointError(
            f"{path} holds no word vectors: it cannot be read as what KeyedVectors.save of gensim wrote ({error}) "
            "Files of word2vec text need the suffix .txt, of word2vec binary .bin."
        ) from error


def _refuse_unlisted(path: Path) -> Callable[[str], None]:
    def check(name: str) -> None:
        if name not in NAMES:
            raise UnsafeCheckpointError(
                f"{path} refers to {name}, which has no place in a file of word vectors. Loading it could run code, "
                "so nothing was loaded. If you trust the file, load it with gensim, write the vectors with "
                "save_word2vec_format('vectors.txt') and load that."
            )

    return check


def _refuse_calls(value: Any, path: Path, seen: set[int]) -> None:
    """Instances are made without arguments; constructors of gensim that are given some read files and train."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        if isinstance(value, Record):
            seen.add(id(value))
            if value.name.startswith("gensim.") and value.args:
                raise UnsafeCheckpointError(f"{path} calls {value.name} with arguments; nothing was loaded.")
            waiting += [value.args, value.state, value.items]
        elif isinstance(value, (list, tuple, dict)):
            seen.add(id(value))
            waiting += [*value, *value.values()] if isinstance(value, dict) else list(value)


def _complete(path: Path) -> tuple[list[str], np.ndarray]:
    (keyed_vectors,) = lazy_import("word-embeddings", "gensim.models.fasttext", "FastTextKeyedVectors")
    refuse_unsafe(path)
    vectors = keyed_vectors.load(str(path))
    return list(vectors.index_to_key), np.asarray(vectors.vectors, dtype=np.float32)


def _unwrap(root: Any, path: Path) -> dict[str, Any]:
    """The attributes of the table in the file; a complete model keeps it in ``wv``."""
    for _ in range(2):
        if isinstance(root, Record) and isinstance(root.state, dict):
            if _class_of(root) in _TABLES:
                return root.state
            root = root.state.get("wv")
    raise CheckpointError(f"{path} holds no word vectors: the pickle in it is no table of gensim.")


def _class_of(record: Record) -> str:
    """The class an instance has; protocols 0 and 1 wrap its name."""
    if record.name in _OLD_STYLE and record.args and isinstance(record.args[0], Global):
        return record.args[0].name
    return record.name


def _matrix(table: dict[str, Any], path: Path) -> np.ndarray:
    for name in ("vectors", "syn0"):
        value = table.get(name)
        beside = path.with_name(f"{path.name}.{name}.npy")
        if value is None and name in (table.get("__numpys") or []):
            if not beside.exists():
                raise CheckpointError(
                    f"{path} keeps its vectors in {beside.name}, which is not beside it. Copy it there."
                )
            value = _load_array(beside)
        if value is None:
            continue
        matrix = value if isinstance(value, np.ndarray) else _array(value, path)
        if matrix.ndim != 2:
            raise CheckpointError(f"{path} holds vectors of shape {matrix.shape}; words x dimensions are expected.")
        return np.ascontiguousarray(matrix, dtype=np.float32)
    raise CheckpointError(f"{path} holds no word vectors: its table has no matrix.")


def _load_array(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        if "allow_pickle" in str(error) or "Object arrays" in str(error):
            raise UnsafeCheckpointError(f"{path} is no array of numbers: it could run code.") from error
        raise CheckpointError(f"{path} is damaged or cut off: {error}.") from error


def _array(record: Any, path: Path) -> np.ndarray:
    """The array behind a record of numpy's own pickling."""
    try:
        if record.name in _ARRAYS:
            _, shape, dtype, fortran, raw = record.state
        elif record.name in _BUFFERS:
            raw, dtype, shape, order = record.args
            fortran = order == "F"
        else:
            raise ValueError(f"it is a {record.name}")
        kind = np.dtype(str(dtype.args[0]))
        if kind.kind not in "fiu":
            raise ValueError(f"its numbers are {kind}")
        if isinstance(dtype.state, tuple) and dtype.state[1] in ("<", ">"):
            kind = kind.newbyteorder(dtype.state[1])
        if isinstance(raw, Record):  # bytes of Python 2 come as text in an encoding
            raw = raw.args[0]
        if isinstance(raw, str):
            raw = raw.encode("latin1")
        return np.frombuffer(raw, dtype=kind).reshape(shape, order="F" if fortran else "C")
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise CheckpointError(f"The matrix in {path} is damaged: {error}.") from error


def _words(table: dict[str, Any], path: Path) -> list[str]:
    listed = table.get("index_to_key") or table.get("index2word") or table.get("index2entity")
    if listed is None:
        rows = table.get("key_to_index")
        if rows is None:
            vocabulary = table.get("vocab") or {}
            rows = {word: entry.state["index"] for word, entry in vocabulary.items()}
        listed = sorted(rows, key=rows.__getitem__)
    if not all(isinstance(word, str) for word in listed):
        listed = [word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word) for word in listed]
    return list(listed)
