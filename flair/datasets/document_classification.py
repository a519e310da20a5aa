"""Readers for labelled texts: FastText format and CSV."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Optional, Union

from tqdm import tqdm

from flair import _runtime
from flair.data.corpus import Corpus, FlairDataset
from flair.data.pair import DataPair, TextPair
from flair.data.sentence import Sentence
from flair.datasets.base import find_train_dev_test_files, make_sentence, text_lines
from flair.tokenization import SegtokTokenizer, Tokenizer

LABEL_PREFIX = "__label__"


class ClassificationCorpus(Corpus):
    """A corpus of files in FastText format: ``__label__<class> <text>``, one text a line, several labels allowed."""

    def __init__(
        self,
        data_folder: Union[str, Path],
        label_type: str = "class",
        train_file: Any = None,
        test_file: Any = None,
        dev_file: Any = None,
        truncate_to_max_tokens: int = -1,
        truncate_to_max_chars: int = -1,
        filter_if_longer_than: int = -1,
        tokenizer: Union[bool, Tokenizer] = SegtokTokenizer(),
        memory_mode: str = "partial",
        label_name_map: Optional[dict[str, str]] = None,
        skip_labels: Optional[list[str]] = None,
        allow_examples_without_labels: bool = False,
        sample_missing_splits: bool = True,
        encoding: str = "utf-8",
    ) -> None:
        """Read a folder.

        Args:
            data_folder: where the files are.
            label_type: the label type that the classes get.
            train_file: file name; without one the splits are found by their names.
            test_file: file name.
            dev_file: file name.
            truncate_to_max_tokens: cut longer texts (-1: not).
            truncate_to_max_chars: cut longer texts (-1: not).
            filter_if_longer_than: leave out texts with more characters (-1: none).
            tokenizer: splits the texts.
            memory_mode: "full" keeps sentences, "partial" keeps lines, "disk" reads each line when it is needed.
            label_name_map: other names for classes.
            skip_labels: texts with one of these classes are left out.
            allow_examples_without_labels: keep texts without class.
            sample_missing_splits: take missing splits from train.
            encoding: of the files.

        Raises:
            FileNotFoundError: folder or file missing.
            ValueError: a file is not text in this encoding, or has no labelled line.
        """
        dev_path, test_path, train_path = find_train_dev_test_files(data_folder, dev_file, test_file, train_file)
        options: dict[str, Any] = {
            "label_type": label_type,
            "tokenizer": tokenizer,
            "truncate_to_max_tokens": truncate_to_max_tokens,
            "truncate_to_max_chars": truncate_to_max_chars,
            "filter_if_longer_than": filter_if_longer_than,
            "memory_mode": memory_mode,
            "label_name_map": label_name_map,
            "skip_labels": skip_labels,
            "allow_examples_without_labels": allow_examples_without_labels,
            "encoding": encoding,
        }
        train, dev, test = (
            ClassificationDataset(path, **options) if path is not None else None
            for path in (train_path, dev_path, test_path)
        )
        super().__init__(train, dev, test, name=str(data_folder), sample_missing_splits=sample_missing_splits)
        _runtime.logger.info(f"Initialized corpus {self.name} (label type name is '{label_type}')")


class ClassificationDataset(FlairDataset):
    """One file in FastText format."""

    def __init__(
        self,
        path_to_file: Union[str, Path],
        label_type: str,
        truncate_to_max_tokens: int = -1,
        truncate_to_max_chars: int = -1,
        filter_if_longer_than: int = -1,
        tokenizer: Union[bool, Tokenizer] = SegtokTokenizer(),
        memory_mode: str = "partial",
        label_name_map: Optional[dict[str, str]] = None,
        skip_labels: Optional[list[str]] = None,
        allow_examples_without_labels: bool = False,
        encoding: str = "utf-8",
    ) -> None:
        """Read a file; arguments as in :class:`ClassificationCorpus`.

        Raises:
            RuntimeError: unknown ``memory_mode``.
        """
        if memory_mode not in ("full", "partial", "disk"):
            raise RuntimeError(f"memory_mode {memory_mode!r} is unknown: use 'full', 'partial' or 'disk'.")
        self.label_prefix = LABEL_PREFIX
        self.label_type = label_type
        self.path_to_file = Path(path_to_file)
        self.tokenizer = tokenizer
        self.truncate_to_max_tokens = truncate_to_max_tokens
        self.truncate_to_max_chars = truncate_to_max_chars
        self.filter_if_longer_than = filter_if_longer_than
        self.memory_mode = memory_mode
        self.label_name_map = label_name_map
        self.skip_labels = skip_labels
        self.allow_examples_without_labels = allow_examples_without_labels
        self._encoding = encoding
        self.sentences: list[Sentence] = []
        self.lines: list[str] = []
        self.indices: list[int] = []
        self.total_sentence_count = 0
        self._read()

    def _read(self) -> None:
        unlabelled, first_unlabelled, last = 0, 0, 0
        lines = text_lines(self.path_to_file, self._encoding)
        for number, offset, line in tqdm(lines, desc=self.path_to_file.name, delay=2, unit=" lines"):
            last = number
            labels, text = self._parse_line(line)
            if not text or (self.filter_if_longer_than > 0 and len(text) > self.filter_if_longer_than):
                continue
            if not labels and not self.allow_examples_without_labels:
                if not any(word.startswith(self.label_prefix) for word in line.split(" ")):
                    unlabelled += 1
                    first_unlabelled = first_unlabelled or number
                continue
            if self.memory_mode == "full":
                self.sentences.append(self._sentence(labels, text))
            elif self.memory_mode == "partial":
                self.lines.append(line)
            else:
                self.indices.append(offset)
            self.total_sentence_count += 1
        if unlabelled:
            _runtime.logger.warning(
                f"{self.path_to_file}: {unlabelled} of {last} lines have no {self.label_prefix}... label and were "
                f"left out, the first is line {first_unlabelled}."
            )
        if unlabelled and not self.total_sentence_count:
            raise ValueError(
                f"{self.path_to_file}: no line has a label. Lines look like '{self.label_prefix}topic The text.'; "
                f"line {first_unlabelled} does not. Pass allow_examples_without_labels=True to read plain texts."
            )

    def _parse_line(self, line: str) -> tuple[list[str], str]:
        """Labels (mapped; none if one of them is to be skipped) and text of a line."""
        words = line.strip().split(" ")
        count = 0
        while count < len(words) and words[count].startswith(self.label_prefix):
            count += 1
        labels = [word[len(self.label_prefix) :] for word in words[:count]]
        if self.skip_labels and any(label in self.skip_labels for label in labels):
            return [], ""
        if self.label_name_map:
            labels = [self.label_name_map.get(label, label) for label in labels]
        return labels, " ".join(words[count:]).strip()

    def _sentence(self, labels: list[str], text: str) -> Sentence:
        return make_sentence(
            text, labels, self.label_type, self.tokenizer, self.truncate_to_max_tokens, self.truncate_to_max_chars
        )

    def is_in_memory(self) -> bool:
        return self.memory_mode == "full"

    def __len__(self) -> int:
        return self.total_sentence_count

    def __getitem__(self, index: int = 0) -> Sentence:
        if self.memory_mode == "full":
            return self.sentences[index]
        if self.memory_mode == "partial":
            return self._sentence(*self._parse_line(self.lines[index]))
        with open(self.path_to_file, "rb") as file:
            file.seek(self.indices[index])
            line = file.readline().decode(self._encoding)
        return self._sentence(*self._parse_line(line.rstrip("\r\n")))


class CSVClassificationCorpus(Corpus):
    """A corpus of CSV files with columns for text, labels and, for text pairs, a second text."""

    def __init__(
        self,
        data_folder: Union[str, Path],
        column_name_map: dict[int, str],
        label_type: str,
        name: str = "csv_corpus",
        train_file: Any = None,
        test_file: Any = None,
        dev_file: Any = None,
        max_tokens_per_doc: int = -1,
        max_chars_per_doc: int = -1,
        tokenizer: Tokenizer = SegtokTokenizer(),
        in_memory: bool = False,
        skip_header: bool = False,
        encoding: str = "utf-8",
        no_class_label: Optional[str] = None,
        sample_missing_splits: Union[bool, str] = True,
        **fmtparams: Any,
    ) -> None:
        """Read a folder.

        Args:
            data_folder: where the files are.
            column_name_map: column number (from 0) to "text", "pair" or "label..."; several text columns are joined.
            label_type: the label type that the classes get.
            name: shown in the log.
            train_file: file name; without one the splits are found by their names.
            test_file: file name.
            dev_file: file name.
            max_tokens_per_doc: cut longer texts (-1: not).
            max_chars_per_doc: cut longer texts (-1: not).
            tokenizer: splits the texts.
            in_memory: make all sentences now instead of on access.
            skip_header: leave out the first row.
            encoding: of the files.
            no_class_label: the value that stands for "no label".
            sample_missing_splits: take missing splits from train.
            fmtparams: of :func:`csv.reader`, for example ``delimiter="\\t"``.

        Raises:
            FileNotFoundError: folder or file missing.
            ValueError: a row has fewer columns than the map needs; the message names file and line.
        """
        dev_path, test_path, train_path = find_train_dev_test_files(data_folder, dev_file, test_file, train_file)
        options: dict[str, Any] = {
            "label_type": label_type,
            "tokenizer": tokenizer,
            "max_tokens_per_doc": max_tokens_per_doc,
            "max_chars_per_doc": max_chars_per_doc,
            "in_memory": in_memory,
            "skip_header": skip_header,
            "encoding": encoding,
            "no_class_label": no_class_label,
            **fmtparams,
        }
        train, dev, test = (
            CSVClassificationDataset(path, column_name_map, **options) if path is not None else None
            for path in (train_path, dev_path, test_path)
        )
        super().__init__(train, dev, test, name=name, sample_missing_splits=sample_missing_splits)


class CSVClassificationDataset(FlairDataset):
    """One CSV file."""

    def __init__(
        self,
        path_to_file: Union[str, Path],
        column_name_map: dict[int, str],
        label_type: str,
        max_tokens_per_doc: int = -1,
        max_chars_per_doc: int = -1,
        tokenizer: Tokenizer = SegtokTokenizer(),
        in_memory: bool = True,
        skip_header: bool = False,
        encoding: str = "utf-8",
        no_class_label: Optional[str] = None,
        **fmtparams: Any,
    ) -> None:
        """Read a file; arguments as in :class:`CSVClassificationCorpus`."""
        self.path_to_file = Path(path_to_file)
        if not self.path_to_file.exists():
            raise FileNotFoundError(f"The file {self.path_to_file} does not exist.")
        self.in_memory = in_memory
        self.tokenizer = tokenizer
        self.label_type = label_type
        self.no_class_label = no_class_label
        self.column_name_map = column_name_map
        self.max_tokens_per_doc = max_tokens_per_doc
        self.max_chars_per_doc = max_chars_per_doc
        self.text_columns = [column for column, name in column_name_map.items() if name == "text"]
        self.pair_columns = [column for column, name in column_name_map.items() if name == "pair"]
        self._label_columns = [column for column, name in column_name_map.items() if name.startswith("label")]
        if not self.text_columns:
            raise ValueError(
                f"column_name_map={column_name_map} names no 'text' column. Example: {{0: 'text', 1: 'label_topic'}}."
            )
        self.sentences: list[Union[Sentence, TextPair]] = []
        self.raw_data: list[list[str]] = []
        self._read(encoding, skip_header, fmtparams)
        self.total_sentence_count = len(self.sentences) if in_memory else len(self.raw_data)

    def _read(self, encoding: str, skip_header: bool, fmtparams: dict[str, Any]) -> None:
        needed = max(self.column_name_map) + 1
        # Decoding errors are found, with their line, before the CSV reader sees the text.
        texts = [line + "\n" for _, _, line in text_lines(self.path_to_file, encoding)]
        reader = csv.reader(texts, **fmtparams)
        if skip_header:
            next(reader, None)
        for row in tqdm(reader, desc=self.path_to_file.name, delay=2, unit=" rows"):
            if not row:
                continue
            if len(row) < needed:
                raise ValueError(
                    f"{self.path_to_file}, line {reader.line_num}: the row has {len(row)} columns, but "
                    f"column_name_map={self.column_name_map} needs {needed}. Row: {row}. Is the delimiter right "
                    f"(delimiter={fmtparams.get('delimiter', ',')!r})?"
                )
            if not any(row[column] for column in self.text_columns) or not self._labels_of(row):
                continue
            if self.in_memory:
                self.sentences.append(self._data_point(row))
            else:
                self.raw_data.append(row)

    def _labels_of(self, row: list[str]) -> list[str]:
        """Labels of a row. One that says "no class" is kept, so that the row is, and not attached."""
        return [row[column] for column in self._label_columns if row[column]]

    def _data_point(self, row: list[str]) -> Union[Sentence, TextPair]:
        def sentence(columns: list[int]) -> Sentence:
            text = " ".join(row[column] for column in columns)
            return make_sentence(
                text, [], self.label_type, self.tokenizer, self.max_tokens_per_doc, self.max_chars_per_doc
            )

        point: Any = sentence(self.text_columns)
        if self.pair_columns:
            point = DataPair(point, sentence(self.pair_columns))
        for label in self._labels_of(row):
            if label != self.no_class_label:
                point.add_label(self.label_type, label)
        return point

    def is_in_memory(self) -> bool:
        return self.in_memory

    def __len__(self) -> int:
        return self.total_sentence_count

    def __getitem__(self, index: int = 0) -> Any:
        return self.sentences[index] if self.in_memory else self._data_point(self.raw_data[index])
