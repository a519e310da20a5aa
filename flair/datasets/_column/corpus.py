"""Data sets and corpora of column files: one token a line, its labels in columns, blank lines between sentences."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional, Union

from torch.utils.data import ConcatDataset
from tqdm import tqdm

from flair import _runtime
from flair.data.corpus import Corpus, FlairDataset
from flair.data.sentence import Sentence
from flair.data.tags import OUTSIDE_TAGS
from flair.datasets._column import layout
from flair.datasets._column.building import SentenceBuilder, only_making_objects
from flair.datasets._column.parsing import Block, ColumnParser, Rows
from flair.datasets._column.tags import SPAN_PREFIXES
from flair.datasets.base import find_train_dev_test_files, text_lines
from flair.tokenization import Tokenizer

_MAKING = threading.RLock()


def joined(datasets: Sequence[Any]) -> Optional[ConcatDataset]:
    """Data sets one after the other; None for none."""
    return ConcatDataset(datasets) if datasets else None


def listed(files: Any) -> list[Path]:
    """None, one path or several, as a list."""
    if files is None:
        return []
    return [Path(file) for file in (files if isinstance(files, (list, tuple)) else [files])]


def folder_files(
    data_folder: Any, train_file: Any, dev_file: Any, test_file: Any, autofind_splits: bool
) -> dict[str, Any]:
    """The files of a folder as arguments of a corpus of files.

    Raises:
        FileNotFoundError: folder or file missing, or no file for any split.
    """
    dev, test, train = find_train_dev_test_files(data_folder, dev_file, test_file, train_file, autofind_splits)
    if train is None and dev is None and test is None:
        names = ", ".join(sorted(file.name for file in Path(data_folder).iterdir())) or "no files"
        raise FileNotFoundError(
            f"No file in {data_folder} was named or has 'train', 'dev' or 'test' in its name. The folder has: {names}. "
            "Pass train_file=... to name them."
        )
    return {"train_files": listed(train), "dev_files": listed(dev), "test_files": listed(test)}


class MultiFileColumnCorpus(Corpus):
    """A corpus whose splits are each read from any number of column files."""

    def __init__(
        self,
        column_format: dict[int, str],
        train_files: Any = None,
        test_files: Any = None,
        dev_files: Any = None,
        column_delimiter: str = r"\s+",
        comment_symbol: Optional[str] = None,
        encoding: str = "utf-8",
        document_separator_token: Optional[str] = None,
        skip_first_line: bool = False,
        in_memory: bool = True,
        label_name_map: Optional[dict[str, str]] = None,
        banned_sentences: Optional[list[str]] = None,
        default_whitespace_after: int = 1,
        every_sentence_is_independent: bool = False,
        documents_as_sentences: bool = False,
        use_tokenizer: Optional[Tokenizer] = None,
        **corpusargs: Any,
    ) -> None:
        """Read files.

        Args:
            column_format: column number (from 0) to what it holds, for example ``{0: "text", 1: "pos", 2: "ner"}``.
                "text" is the token, "head" the number of its head, "space-after" says with "-" that no space follows,
                "feats" and "misc" are lists ``key=value|key=value``; any other name is a label type.
            train_files: paths of training data.
            test_files: paths of test data.
            dev_files: paths of data for model selection.
            column_delimiter: a regular expression.
            comment_symbol: what lines begin with that hold no token.
            encoding: of the files.
            document_separator_token: the text of lines that stand between documents.
            skip_first_line: leave out the first line of each file.
            in_memory: keep the sentences; otherwise each is made anew from its lines on every access.
            label_name_map: other names for labels; "O" drops a label.
            banned_sentences: leave out sentences that contain one of these texts.
            default_whitespace_after: number of spaces behind a token that the file says nothing about.
            every_sentence_is_independent: no sentence is context of another.
            documents_as_sentences: one sentence a document; needs ``document_separator_token``.
            use_tokenizer: split the text of the sentences anew; labels of single tokens are lost.
            corpusargs: arguments of :class:`~flair.data.Corpus`.

        Raises:
            FileNotFoundError: a file does not exist.
            TypeError: a column number is no int.
            ValueError: a file is not text in this encoding or malformed; the message names file and line.
            RuntimeError: the files hold nothing.
        """
        options: dict[str, Any] = {
            "column_delimiter": column_delimiter,
            "comment_symbol": comment_symbol,
            "encoding": encoding,
            "document_separator_token": document_separator_token,
            "skip_first_line": skip_first_line,
            "in_memory": in_memory,
            "label_name_map": label_name_map,
            "banned_sentences": banned_sentences,
            "default_whitespace_after": default_whitespace_after,
            "every_sentence_is_independent": every_sentence_is_independent,
            "documents_as_sentences": documents_as_sentences,
            "use_tokenizer": use_tokenizer,
        }
        splits: dict[str, Any] = {
            split: joined([ColumnDataset(path, column_format, **options) for path in listed(files)])
            for split, files in (("train", train_files), ("dev", dev_files), ("test", test_files))
        }
        super().__init__(**splits, **corpusargs)
        self.tokenizer = use_tokenizer


class ColumnCorpus(MultiFileColumnCorpus):
    """A corpus of column files in one folder."""

    def __init__(
        self,
        data_folder: Union[str, Path],
        column_format: dict[int, str],
        train_file: Any = None,
        test_file: Any = None,
        dev_file: Any = None,
        autofind_splits: bool = True,
        name: Optional[str] = None,
        comment_symbol: Optional[str] = "# ",
        use_tokenizer: Optional[Tokenizer] = None,
        **corpusargs: Any,
    ) -> None:
        """Read a folder.

        Args:
            data_folder: where the files are.
            column_format: as in :class:`MultiFileColumnCorpus`.
            train_file: file name; without one the splits are found by their names.
            test_file: file name.
            dev_file: file name.
            autofind_splits: whether to look for files by their names.
            name: shown in the log; default is the folder.
            comment_symbol: what lines begin with that hold no token.
            use_tokenizer: split the text of the sentences anew; labels of single tokens are lost.
            corpusargs: further arguments of :class:`MultiFileColumnCorpus`.

        Raises:
            FileNotFoundError: folder or file missing, or a folder without files for any split.
            ValueError: a file is not text in this encoding or malformed; the message names file and line.
            RuntimeError: the files hold nothing.
        """
        super().__init__(
            column_format,
            **folder_files(data_folder, train_file, dev_file, test_file, autofind_splits),
            name=str(data_folder) if name is None else name,
            comment_symbol=comment_symbol,
            use_tokenizer=use_tokenizer,
            **corpusargs,
        )


class ColumnDataset(FlairDataset):
    """One column file."""

    SPACE_AFTER_KEY = layout.SPACE_AFTER
    FEATS = list(layout.FEATURES)
    HEAD = list(layout.HEADS)

    def __init__(
        self,
        path_to_column_file: Union[str, Path],
        column_name_map: dict[int, str],
        column_delimiter: str = r"\s+",
        comment_symbol: Optional[str] = None,
        banned_sentences: Optional[list[str]] = None,
        in_memory: bool = True,
        document_separator_token: Optional[str] = None,
        every_sentence_is_independent: bool = False,
        encoding: str = "utf-8",
        skip_first_line: bool = False,
        label_name_map: Optional[dict[str, str]] = None,
        default_whitespace_after: int = 1,
        documents_as_sentences: bool = False,
        use_tokenizer: Optional[Tokenizer] = None,
    ) -> None:
        """Read a file; arguments and errors as in :class:`MultiFileColumnCorpus`."""
        self.path_to_column_file = Path(path_to_column_file)
        self.column_delimiter = column_delimiter
        self.comment_symbol = comment_symbol
        self.banned_sentences = banned_sentences
        self.in_memory = in_memory
        self.document_separator_token = document_separator_token
        self.every_sentence_is_independent = every_sentence_is_independent
        self.encoding = encoding
        self.label_name_map = label_name_map
        self.default_whitespace_after = default_whitespace_after
        self.documents_as_sentences = documents_as_sentences
        self.use_tokenizer = use_tokenizer
        if documents_as_sentences and not document_separator_token:
            _runtime.logger.warning(
                "documents_as_sentences=True has no effect without document_separator_token: "
                "nothing says where a document ends."
            )
        self._layout = layout.ColumnLayout(column_name_map)
        self._parser = ColumnParser(
            self.path_to_column_file,
            self._layout,
            column_delimiter,
            comment_symbol,
            default_whitespace_after,
            label_name_map,
        )
        self._builder = SentenceBuilder(self._layout, label_name_map, default_whitespace_after)
        # In memory: rows, each of which becomes a sentence when it is first asked for. Otherwise: raw lines.
        self._rows: list[Optional[Rows]] = []
        self._made: list[Optional[Sentence]] = []
        self.sentences_raw: list[list[str]] = []
        self._first_lines: list[int] = []
        with only_making_objects():
            self._read(skip_first_line)
        self._made = [None] * len(self._rows)
        self.total_sentence_count = len(self._rows) if in_memory else len(self.sentences_raw)

    def _read(self, skip_first_line: bool) -> None:
        for block in tqdm(
            self._blocks(skip_first_line), desc=self.path_to_column_file.name, delay=2, unit=" sentences"
        ):
            rows = self._parser.parse(block)
            if rows is None or (self.banned_sentences and self._is_banned(rows)):
                continue
            if self.in_memory:
                self._rows.append(rows)
            else:
                self.sentences_raw.append(block.lines)
                self._first_lines.append(block.first_line)
        self._warn()

    def _warn(self) -> None:
        """Say what was found that labels cannot be made of."""
        for column, (first, count) in self._parser.incomplete.items():
            name = self._layout.names[column]
            _runtime.logger.warning(
                f"{self.path_to_column_file}: {count} lines, the first of them line {first}, have no column "
                f"{column} ({name!r}). Their tokens have no {name!r} label. "
                f"Is the delimiter right ({self.column_delimiter!r})?"
            )
        for column, tags in self._parser.tags.items():
            strange = sorted(tag for tag in tags - OUTSIDE_TAGS if not tag.startswith(SPAN_PREFIXES))
            if strange:
                _runtime.logger.warning(
                    f"{self.path_to_column_file}: column {column} ({self._layout.names[column]!r}) holds spans, but "
                    f"these tags do not begin with {', '.join(SPAN_PREFIXES)}: {', '.join(strange[:20])}. "
                    "They continue the span before them, or are left out."
                )

    def _blocks(self, skip_first_line: bool) -> Iterator[Block]:
        lines = ((number, line) for number, _, line in text_lines(self.path_to_column_file, self.encoding))
        if skip_first_line:
            next(lines, None)
        return self._parser.blocks(lines, self.document_separator_token if self.documents_as_sentences else None)

    def _is_banned(self, rows: Rows) -> bool:
        spaces = rows.spaces or [self.default_whitespace_after] * len(rows.words)
        text = "".join(word + " " * space for word, space in zip(rows.words, spaces, strict=True))
        return any(banned in text for banned in self.banned_sentences or ())

    def _sentence(self, rows: Rows, index: int) -> Sentence:
        sentence = self._builder.build(rows)
        if self.every_sentence_is_independent or self.documents_as_sentences:
            sentence.is_document_boundary = True
        elif self.document_separator_token is not None:
            sentence.is_document_boundary = rows.words == [self.document_separator_token]
        sentence._position_in_dataset = (self, index)  # where its neighbours are found
        if self.use_tokenizer is not None:
            sentence.tokenizer = self.use_tokenizer
        return sentence

    @property
    def sentences(self) -> list[Sentence]:
        """All sentences of a file that is held in memory."""
        with only_making_objects():
            return [self[index] for index in range(len(self._rows))]

    @property
    def text_column(self) -> int:
        """Number of the column with the tokens."""
        return self._layout.text

    @property
    def head_id_column(self) -> Optional[int]:
        """Number of the column with syntactic heads."""
        return self._layout.head

    @property
    def span_level_tag_columns(self) -> dict[int, str]:
        """Columns whose labels are those of spans: number and label type."""
        return self._layout.span_columns

    @property
    def word_level_tag_columns(self) -> dict[int, str]:
        """All other columns: number and name."""
        return {column: name for column, name in self._layout.names.items() if column not in self._layout.span_columns}

    def is_in_memory(self) -> bool:
        return self.in_memory

    def __len__(self) -> int:
        return self.total_sentence_count

    def __getitem__(self, index: int = 0) -> Sentence:
        index = range(len(self))[index]
        if not self.in_memory:
            rows = self._parser.parse(Block(self._first_lines[index], self.sentences_raw[index]))
            assert rows is not None  # blocks without tokens were left out
            return self._sentence(rows, index)
        sentence = self._made[index]
        if sentence is None:
            with _MAKING:  # two threads must get the same object: labels hang on it
                sentence, rows = self._made[index], self._rows[index]
                if sentence is None and rows is not None:
                    sentence = self._made[index] = self._sentence(rows, index)
                    self._rows[index] = None
        assert sentence is not None
        return sentence


for _public in (ColumnCorpus, ColumnDataset, MultiFileColumnCorpus):
    _public.__module__ = "flair.datasets.sequence_labeling"
