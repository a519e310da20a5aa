"""Readers for labelled texts: FastText format and CSV."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any, Optional, Union

from tqdm import tqdm

from flair import _runtime
from flair.data.corpus import Corpus, FlairDataset
from flair.data.pair import DataPair, TextPair
from flair.data.sentence import Sentence
from flair.datasets.base import find_split_files, line_at, make_sentence, text_lines
from flair.tokenization import SegtokTokenizer, Tokenizer

LABEL_PREFIX = "__label__"
_LABELS = re.compile(rf"\s*(?:{LABEL_PREFIX}\S*(?:\s+|$))*")


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
            filter_if_longer_than: leave out lines of more words, labels and blanks in a row counted (-1: none).
            tokenizer: splits the texts.
            memory_mode: "full" keeps sentences, "partial" keeps lines, "disk" reads each line when it is needed.
            label_name_map: other names for classes.
            skip_labels: texts with one of these classes are left out.
            allow_examples_without_labels: keep texts without class.
            sample_missing_splits: take missing splits from train.
            encoding: of the files.

        Raises:
            FileNotFoundError: folder or file missing, or a folder without files for any split.
            ValueError: a file is not text in this encoding, or has no labelled line.
            RuntimeError: the files are empty, or ``memory_mode`` is unknown.
        """
        files = find_split_files(data_folder, dev_file, test_file, train_file)
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
        splits: dict[str, Any] = {
            name: ClassificationDataset(path, **options) for name, path in files.items() if path is not None
        }
        super().__init__(**splits, name=str(data_folder), sample_missing_splits=sample_missing_splits)
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
        # Lines that are left out though nobody asked for it: reason -> their numbers.
        dropped: dict[str, list[int]] = {f"no {self.label_prefix}... in front": [], "no text behind the label": []}
        unlabelled, textless = dropped.values()
        lines = text_lines(self.path_to_file, self._encoding)
        for number, offset, line in tqdm(lines, desc=self.path_to_file.name, delay=2, unit=" lines"):
            labels, text = self._parse_line(line)
            if not text:
                if labels:
                    textless.append(number)
            elif self._is_unwanted(line, labels):
                continue
            elif not labels and not self.allow_examples_without_labels:
                unlabelled.append(number)
            else:
                self._add(line, offset, labels, text)
        for reason, numbers in dropped.items():
            if numbers:
                _runtime.logger.warning(
                    f"{self.path_to_file}: {len(numbers)} lines were left out, they have {reason}; "
                    f"the first is line {numbers[0]}."
                )
        if unlabelled and not self.total_sentence_count:
            raise ValueError(
                f"{self.path_to_file}: no line has a label. Lines look like '{self.label_prefix}topic The text.'; "
                f"line {unlabelled[0]} does not. Pass allow_examples_without_labels=True to read plain texts."
            )

    def _is_unwanted(self, line: str, labels: list[str]) -> bool:
        """Whether the caller asked to leave the line out."""
        if self.skip_labels and any(label in self.skip_labels for label in labels):
            return True
        return 0 < self.filter_if_longer_than < len(line.split(" "))

    def _add(self, line: str, offset: int, labels: list[str], text: str) -> None:
        if self.memory_mode == "full":
            self.sentences.append(self._sentence(labels, text))
        elif self.memory_mode == "partial":
            self.lines.append(line)
        else:
            self.indices.append(offset)
        self.total_sentence_count += 1

    def _parse_line(self, line: str) -> tuple[list[str], str]:
        """Labels, as they are in the file, and text of a line."""
        head = _LABELS.match(line)
        end = head.end() if head is not None else 0
        return [word[len(self.label_prefix) :] for word in line[:end].split()], line[end:].strip()

    def _sentence(self, labels: list[str], text: str) -> Sentence:
        if self.label_name_map:
            labels = [self.label_name_map.get(label, label) for label in labels]
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
        return self._sentence(*self._parse_line(line_at(self.path_to_file, self.indices[index], self._encoding)))


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
            FileNotFoundError: folder or file missing, or a folder without files for any split.
            TypeError: a column number is no int.
            ValueError: a row has fewer columns than the map needs, or is no CSV; the message names file and line.
            RuntimeError: the files are empty.
        """
        files = find_split_files(data_folder, dev_file, test_file, train_file)
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
        splits: dict[str, Any] = {
            split: CSVClassificationDataset(path, column_name_map, **options)
            for split, path in files.items()
            if path is not None
        }
        super().__init__(**splits, name=name, sample_missing_splits=sample_missing_splits)


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
        """Read a file; arguments as in :class:`CSVClassificationCorpus`.

        Raises:
            FileNotFoundError: no such file.
            TypeError: a column number is no int.
            ValueError: no text column, a row with too few columns, or no CSV.
        """
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
        for column in column_name_map:
            if not isinstance(column, int):
                raise TypeError(f"column_name_map={column_name_map} has {column!r}: column numbers are int, from 0.")
        self.sentences: list[Union[Sentence, TextPair]] = []
        self.raw_data: list[list[str]] = []
        self._unlabelled = 0
        self._read(encoding, skip_header, fmtparams)
        self.total_sentence_count = len(self.sentences) if in_memory else len(self.raw_data)

    def _read(self, encoding: str, skip_header: bool, fmtparams: dict[str, Any]) -> None:
        needed = max(self.column_name_map) + 1
        # Decoding errors are found, with their line, before the CSV reader sees the text.
        texts = [line + "\n" for _, _, line in text_lines(self.path_to_file, encoding)]
        reader = csv.reader(texts, **fmtparams)
        if skip_header:
            next(reader, None)
        rows = tqdm(reader, desc=self.path_to_file.name, delay=2, unit=" rows")
        try:
            for row in rows:
                if len(row) >= needed:
                    self._add(row)
                elif row:
                    raise ValueError(
                        f"{self.path_to_file}, line {reader.line_num}: the row has {len(row)} columns, but "
                        f"column_name_map={self.column_name_map} needs {needed}. Row: {row}. Is the delimiter right "
                        f"(delimiter={fmtparams.get('delimiter', ',')!r})?"
                    )
        except csv.Error as error:
            raise ValueError(f"{self.path_to_file}, line {reader.line_num}: no valid CSV ({error}).") from error
        if self._unlabelled:
            _runtime.logger.warning(f"{self.path_to_file}: {self._unlabelled} rows without label were left out.")

    def _add(self, row: list[str]) -> None:
        if not self._labels_of(row):
            self._unlabelled += 1
        elif self.in_memory:
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
