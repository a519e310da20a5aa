"""Text files as sequences of character (or word) indices."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Union

import numpy as np
import torch
from torch.utils.data import Dataset

from flair import _runtime
from flair.data.dictionary import Dictionary


class TextDataset(Dataset):
    """A text file, or the files of a folder in the order of their names. Each is one item: a tensor of indices.

    Files are read when they are asked for, so that a corpus of many splits need not fit into memory. Nothing is
    remembered between two readings: shuffling and changes of case are drawn anew each time.
    """

    def __init__(
        self,
        path: Union[str, Path],
        dictionary: Dictionary,
        expand_vocab: bool = False,
        forward: bool = True,
        split_on_char: bool = True,
        random_case_flip: bool = True,
        document_delimiter: str = "\n",
        shuffle: bool = True,
    ) -> None:
        """Find the files.

        Args:
            path: a file, or a folder of files (folders in it and files whose names begin with a dot do not count).
            dictionary: the characters (or words) and their indices.
            expand_vocab: add what the dictionary does not know.
            forward: False reverses the text, for models that read backwards.
            split_on_char: indices of characters; False gives those of words (split at white space).
            random_case_flip: lower-case one document in a hundred and upper-case another.
            document_delimiter: what separates documents. Each is followed by one delimiter, empty ones are left out.
            shuffle: bring the documents of a file into random order.

        Raises:
            FileNotFoundError: there is neither a file nor a folder.
            ValueError: an empty delimiter, or a folder without files.
        """
        self.path = Path(path)
        self.dictionary = dictionary
        self.split_on_char = split_on_char
        self.forward = forward
        self.random_case_flip = random_case_flip
        self.expand_vocab = expand_vocab
        self.document_delimiter = document_delimiter
        self.shuffle = shuffle
        if not document_delimiter:
            raise ValueError("document_delimiter must not be empty; the default is a newline.")
        if not self.path.exists():
            raise FileNotFoundError(f"There is no text file or folder of text files at {self.path}.")
        self.files = [self.path]
        if self.path.is_dir():
            self.files = sorted(f for f in self.path.iterdir() if f.is_file() and not f.name.startswith("."))
            if not self.files:
                raise ValueError(f"The folder {self.path} has no text files.")

    def __len__(self) -> int:
        """The number of files."""
        return len(self.files)

    def __getitem__(self, index: int = 0) -> torch.Tensor:
        """The indices of one file, ``[characters]`` (int64).

        Raises:
            ValueError: the file has no text, or is not UTF-8.
            IndexError: it has a character that the dictionary, which has no ``<unk>``, does not know.
        """
        file = self.files[index]
        documents = self._read_documents(file)
        if self.random_case_flip:
            documents = [self.random_casechange(document) for document in documents]
        if self.shuffle:
            random.shuffle(documents)
            _runtime.logger.info("shuffled")
        text = "".join(documents)
        indices = self._index_characters(text, file) if self.split_on_char else self._index_words(text, file)
        return torch.from_numpy(indices)

    @staticmethod
    def random_casechange(line: str) -> str:
        """The line in lower case or in upper case, with a chance of one in a hundred each."""
        drawn = random.randint(0, 99)
        return line.lower() if drawn == 0 else line.upper() if drawn == 1 else line

    def _read_documents(self, file: Path) -> list[str]:
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            # The position counts from the beginning of a block that the decoder was given, here the whole file.
            line = error.object.count(b"\n", 0, error.start) + 1
            byte = error.object[error.start]
            raise ValueError(f"{file}, line {line}: byte 0x{byte:02x} is not UTF-8. Convert the file.") from error
        delimiter = self.document_delimiter
        documents = [document + delimiter for document in text.split(delimiter) if document]
        if not documents:
            raise ValueError(f"{file} has no text in it.")
        _runtime.logger.info(f"read text file with {len(documents)} lines")
        return documents

    def _index_characters(self, text: str, file: Path) -> np.ndarray:
        if not self.forward:
            text = text[::-1]
        if self.expand_vocab:
            for character in dict.fromkeys(text):
                self.dictionary.add_item(character)
        codes = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)
        # A table by code point: looking each character up on its own would take most of the time of short trainings.
        occurring = np.flatnonzero(np.bincount(codes))
        table = np.zeros(int(occurring[-1]) + 1, dtype=np.int64)
        table[occurring] = [self._index(chr(code), "character", file) for code in occurring]
        self._report_unknown([chr(code) for code in occurring], "characters", file)
        return table[codes]

    def _index_words(self, text: str, file: Path) -> np.ndarray:
        words = text.split()
        if not self.forward:
            words.reverse()
        distinct = dict.fromkeys(words)
        if self.expand_vocab:
            for word in distinct:
                self.dictionary.add_item(word)
        table = {word: self._index(word, "word", file) for word in distinct}
        self._report_unknown(list(distinct), "words", file)
        return np.array([table[word] for word in words], dtype=np.int64)

    def _index(self, item: str, kind: str, file: Path) -> int:
        try:
            return self.dictionary.get_idx_for_item(item)
        except IndexError as error:
            raise IndexError(
                f"{_where(item, file)}: the {kind} {item!r} is not in the dictionary, which has no <unk>. Add it, make "
                "the dictionary with add_unk=True, or pass expand_vocab=True."
            ) from error

    def _report_unknown(self, items: list[str], kind: str, file: Path) -> None:
        unknown = [item for item in items if not self.dictionary.has_item(item)]
        if unknown:
            shown = ", ".join(map(repr, unknown[:10])) + (", …" if len(unknown) > 10 else "")
            _runtime.logger.info(f"{file}: {len(unknown)} {kind} of {len(items)} are unknown (<unk>): {shown}")


def _where(item: str, file: Path) -> str:
    """The file and the line in which something first occurs; a change of case may have made it."""
    with open(file, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if item in line:
                return f"{file}, line {number}"
            if item in line.lower() or item in line.upper():
                return f"{file}, line {number} (its case changed by random_case_flip)"
    return str(file)


class TextCorpus:
    """Text to train a language model on: a folder with the training text, ``valid.txt`` and ``test.txt``.

    The training text is a folder ``train`` of files, which are read one after the other ("splits"), or a single file
    ``train.txt``.
    """

    def __init__(
        self,
        path: Union[Path, str],
        dictionary: Dictionary,
        forward: bool = True,
        character_level: bool = True,
        random_case_flip: bool = True,
        document_delimiter: str = "\n",
    ) -> None:
        """Find the training text, and read the other two.

        Args:
            path: the folder.
            dictionary: the characters (or words) that the model knows.
            forward: False for models that read backwards.
            character_level: False takes words for characters.
            random_case_flip: change the case of two documents in a hundred, in all three texts.
            document_delimiter: what separates documents.

        Raises:
            FileNotFoundError: a part of the corpus is missing.
            ValueError: a text is empty, or is not UTF-8.
            IndexError: there are characters that the dictionary, which has no ``<unk>``, does not know.
        """
        self.dictionary = dictionary
        self.forward = forward
        self.split_on_char = character_level
        self.random_case_flip = random_case_flip
        self.document_delimiter = document_delimiter
        folder = Path(path)
        train = folder / "train" if (folder / "train").exists() else folder / "train.txt"
        parts = {"train": train, "valid": folder / "valid.txt", "test": folder / "test.txt"}
        missing = [part.name if name != "train" else "train" for name, part in parts.items() if not part.exists()]
        if missing:
            raise FileNotFoundError(
                f"{folder} {'lacks ' + ', '.join(missing) if folder.is_dir() else 'is no folder'}. A text corpus has a "
                "folder 'train' of text files (or train.txt), valid.txt and test.txt."
            )
        self.train = self._dataset(train, shuffle=True)
        for file in self.train.files:
            if file.stat().st_size == 0:
                raise ValueError(f"{file} is empty. Remove it, or put text into it.")
        self.valid = self._dataset(parts["valid"], shuffle=False)[0]
        self.test = self._dataset(parts["test"], shuffle=False)[0]

    def _dataset(self, path: Path, shuffle: bool) -> TextDataset:
        return TextDataset(
            path,
            self.dictionary,
            expand_vocab=False,
            forward=self.forward,
            split_on_char=self.split_on_char,
            random_case_flip=self.random_case_flip,
            document_delimiter=self.document_delimiter,
            shuffle=shuffle,
        )
