"""What all readers share: in-memory data sets, the loader, and finding the files of a corpus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional, Union

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
    "find_train_dev_test_files",
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
    """
    folder = Path(data_folder)
    if not folder.exists():
        raise FileNotFoundError(f"The data folder {folder} does not exist (looked in {Path.cwd()}).")
    named = {"dev": dev_file, "test": test_file, "train": train_file}
    found: dict[str, Optional[Path]] = {split: None if file is None else folder / file for split, file in named.items()}
    for file in found.values():
        if file is not None and not file.exists():
            raise FileNotFoundError(
                f"The file {file} does not exist. The folder has: {', '.join(sorted(f.name for f in folder.iterdir()))}."
            )
    if train_file is None and autofind_splits:
        for file in sorted(folder.iterdir()):
            name = file.name
            if file.suffix in _IGNORED_SUFFIXES or file.is_dir():
                continue
            if "train" in name and "54019" not in name:
                found["train"] = file
            if "dev" in name or "testa" in name:
                found["dev"] = file
            if "testb" in name:
                found["test"] = file
        if found["test"] is None:
            for file in sorted(folder.iterdir()):
                if "test" in file.name and "testa" not in file.name and file.suffix not in _IGNORED_SUFFIXES:
                    found["test"] = file
    _runtime.logger.info(f"Reading data from {folder}")
    for split in ("train", "dev", "test"):
        _runtime.logger.info(f"{split.capitalize()}: {found[split]}")
    return found["dev"], found["test"], found["train"]


def text_lines(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, int, str]]:
    """The lines of a text file with number (from 1) and byte offset, the line ending removed.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not text in this encoding; the message names the line.
    """
    if not path.exists():
        raise FileNotFoundError(f"The file {path} does not exist.")
    offset = 0
    with open(path, "rb") as file:
        for number, raw in enumerate(file, 1):
            if number == 1 and b"\x00" in raw and not encoding.lower().startswith("utf-16"):
                raise ValueError(f"{path} is no text file: its first line contains zero bytes.")
            try:
                line = raw.decode(encoding)
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path}, line {number}: not valid {encoding} ({error.reason} at byte {error.start} of the line). "
                    "Pass the file's encoding, for example encoding='latin-1'."
                ) from error
            yield number, offset, line.rstrip("\r\n")
            offset += len(raw)


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
