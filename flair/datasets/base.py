"""What all readers share: in-memory data sets, the loader, and finding the files of a corpus."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Optional, Union

from flair import _runtime
from flair.class_utils import lazy_import
from flair.data.corpus import FlairDataset
from flair.data.loading import DataLoader, FlairDatapointDataset, SentenceDataset, StringDataset
from flair.data.sentence import Sentence
from flair.tokenization import SegtokTokenizer, Tokenizer

__all__ = [
    "DataLoader",
    "FlairDatapointDataset",
    "MongoDataset",
    "SentenceDataset",
    "StringDataset",
    "find_split_files",
    "find_train_dev_test_files",
    "line_at",
    "make_sentence",
    "text_lines",
]

_IGNORED_SUFFIXES = {".gz", ".swp"}


def find_train_dev_test_files(
    data_folder: Any, dev_file: Any, test_file: Any, train_file: Any, autofind_splits: bool = True
) -> tuple[Optional[Path], Optional[Path], Optional[Path]]:
    """Which files of a folder hold which split; found by "train", "dev", "testa", "testb" or "test" in the name.

    Returns:
        dev, test and train file.

    Raises:
        FileNotFoundError: the folder, or a file that was named, does not exist.
        NotADirectoryError: the folder is a file.
    """
    folder = Path(data_folder)
    if not folder.exists():
        raise FileNotFoundError(f"The data folder {folder} does not exist (looked in {Path.cwd()}).")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file. A corpus is read from the folder that its files are in.")
    named = {"dev": dev_file, "test": test_file, "train": train_file}
    found: dict[str, Optional[Path]] = {split: None if file is None else folder / file for split, file in named.items()}
    for file in found.values():
        if file is not None and not file.exists():
            raise FileNotFoundError(f"The file {file} does not exist. {_listing(folder)}")
    if train_file is None and autofind_splits:
        files = [file for file in sorted(folder.iterdir()) if file.suffix not in _IGNORED_SUFFIXES and file.is_file()]
        for file in files:
            name = file.name
            if "train" in name and "54019" not in name:
                found["train"] = file
            if "dev" in name or "testa" in name:
                found["dev"] = file
            if "testb" in name:
                found["test"] = file
        if found["test"] is None:
            for file in files:
                if "test" in file.name and "testa" not in file.name:
                    found["test"] = file
    _runtime.logger.info(f"Reading data from {folder}")
    for split in ("train", "dev", "test"):
        _runtime.logger.info(f"{split.capitalize()}: {found[split]}")
    return found["dev"], found["test"], found["train"]


def _listing(folder: Path) -> str:
    return f"The folder has: {', '.join(sorted(file.name for file in folder.iterdir())) or 'no files'}."


def find_split_files(data_folder: Any, dev_file: Any, test_file: Any, train_file: Any) -> dict[str, Optional[Path]]:
    """What :func:`find_train_dev_test_files` finds, as "train", "dev" and "test", and at least one of them.

    Raises:
        FileNotFoundError: the folder has none; or as there.
    """
    dev, test, train = find_train_dev_test_files(data_folder, dev_file, test_file, train_file)
    if train is None and dev is None and test is None:
        raise FileNotFoundError(
            f"No file in {data_folder} has 'train', 'dev' or 'test' in its name. {_listing(Path(data_folder))} "
            "Pass train_file=... to name them."
        )
    return {"train": train, "dev": dev, "test": test}


def text_lines(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, int, str]]:
    """The lines of a text file with number (from 1) and byte offset (for :func:`line_at`).

    Line endings ("\\n", "\\r\\n", "\\r") and a byte order mark are removed.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not text in this encoding; the message names the line.
    """
    if not path.exists():
        raise FileNotFoundError(f"The file {path} does not exist.")
    with open(path, "rb") as file:
        encoding = _with_byte_order(encoding, file.read(4))
        file.seek(0)
        # Where a character takes several bytes, a byte that looks like a line ending may be half of something else.
        wide = len("\n\n".encode(encoding)) - len("\n".encode(encoding)) > 1
        lines = _wide_lines(file.read(), path, encoding) if wide else _narrow_lines(file, path, encoding)
        offset = 0
        for number, (line, size) in enumerate(lines, 1):
            yield number, offset, (line.lstrip("\ufeff") if number == 1 else line).rstrip("\r\n")
            offset += size


def line_at(path: Path, offset: int, encoding: str = "utf-8") -> str:
    """The line that :func:`text_lines` gave with this offset."""
    with open(path, "rb") as file:
        encoding = _with_byte_order(encoding, file.read(4))
        file.seek(offset)
        line = io.TextIOWrapper(file, encoding=encoding).readline()
    return (line.lstrip("\ufeff") if offset == 0 else line).rstrip("\n")


def _with_byte_order(encoding: str, start_of_file: bytes) -> str:
    """The encoding with the byte order that a file's first bytes tell, so that reading may start anywhere."""
    name = codecs.lookup(encoding).name
    marks = {"utf-16": codecs.BOM_UTF16_BE, "utf-32": codecs.BOM_UTF32_BE}
    if name not in marks:
        return encoding
    return f"{name}-be" if start_of_file.startswith(marks[name]) else f"{name}-le"


def _narrow_lines(file: BinaryIO, path: Path, encoding: str) -> Iterator[tuple[str, int]]:
    """Lines and their lengths in bytes, decoded one by one: the file may be larger than memory."""
    number = 0
    for block in file:
        for raw in block.splitlines(keepends=True):  # of bytes: at "\n", "\r\n" and "\r" only
            number += 1
            if number == 1 and b"\x00" in raw:
                raise ValueError(f"{path}, line 1: zero bytes, so this is no text in {encoding}.")
            try:
                yield raw.decode(encoding), len(raw)
            except UnicodeDecodeError as error:
                raise _decoding_error(path, number, encoding, f"byte {error.start} of the line", error) from error


def _wide_lines(data: bytes, path: Path, encoding: str) -> Iterator[tuple[str, int]]:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        number = data[: error.start].decode(encoding, "replace").count("\n") + 1
        raise _decoding_error(path, number, encoding, f"byte {error.start} of the file", error) from error
    for line in io.StringIO(text, newline=""):  # splits at each kind of line ending and keeps it
        yield line, len(line.encode(encoding))


def _decoding_error(path: Path, number: int, encoding: str, where: str, error: UnicodeDecodeError) -> ValueError:
    return ValueError(
        f"{path}, line {number}: not valid {encoding} ({error.reason} at {where}). "
        "Pass the file's encoding, for example encoding='latin-1'."
    )


class MongoDataset(FlairDataset):
    """Texts and categories from a MongoDB collection (extra ``mongo``)."""

    def __init__(
        self,
        query: str,
        host: str,
        port: int,
        database: str,
        collection: str,
        text_field: str,
        categories_field: Optional[list[str]] = None,
        max_tokens_per_doc: int = -1,
        max_chars_per_doc: int = -1,
        tokenizer: Tokenizer = SegtokTokenizer(),
        in_memory: bool = True,
        tag_type: str = "class",
    ) -> None:
        """Query a collection.

        Args:
            query: a text search; only matching documents are taken.
            host: server.
            port: server port.
            database: name of the database.
            collection: name of the collection.
            text_field: field with the text.
            categories_field: fields with labels.
            max_tokens_per_doc: cut texts after so many tokens.
            max_chars_per_doc: cut texts after so many characters.
            tokenizer: splits the texts.
            in_memory: make all sentences now instead of on access.
            tag_type: label type of the categories.
        """
        pymongo = lazy_import("mongo", "pymongo", None)
        self.text = text_field
        self.categories = categories_field if categories_field is not None else []
        self.max_tokens_per_doc = max_tokens_per_doc
        self.max_chars_per_doc = max_chars_per_doc
        self.tokenizer = tokenizer
        self.in_memory = in_memory
        self.tag_type = tag_type
        self._collection = pymongo.MongoClient(host, port)[database][collection]
        found = list(self._collection.find({"$text": {"$search": query}}, projection={"_id": True}))
        self.indices = [document["_id"] for document in found]
        self.total_sentence_count = len(self.indices)
        self.sentences: list[Sentence] = [self._read(key) for key in self.indices] if in_memory else []

    def _read(self, key: Any) -> Sentence:
        document = self._collection.find_one({"_id": key})
        return make_sentence(
            document[self.text],
            [str(document[field]) for field in self.categories if document.get(field)],
            self.tag_type,
            self.tokenizer,
            self.max_tokens_per_doc,
            self.max_chars_per_doc,
        )

    def is_in_memory(self) -> bool:
        return self.in_memory

    def __len__(self) -> int:
        return self.total_sentence_count

    def __getitem__(self, index: int = 0) -> Sentence:
        return self.sentences[index] if self.in_memory else self._read(self.indices[index])


def make_sentence(
    text: str,
    labels: list[str],
    label_type: str,
    tokenizer: Union[bool, Tokenizer],
    max_tokens: int = -1,
    max_chars: int = -1,
) -> Sentence:
    """A labelled sentence, cut to a number of characters or tokens (-1: not cut)."""
    if max_chars > 0:
        text = text[:max_chars]
    sentence = Sentence(text, use_tokenizer=tokenizer)
    for label in labels:
        sentence.add_label(label_type, label)
    if 0 < max_tokens < len(sentence):
        sentence.truncate(max_tokens)
    return sentence
