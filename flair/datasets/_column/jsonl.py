"""JSON lines with labels by character positions, as annotation tools export them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional, Union

from tqdm import tqdm

from flair.data.corpus import Corpus, FlairDataset
from flair.data.sentence import Sentence
from flair.data.units import Span
from flair.datasets._column.building import only_making_objects
from flair.datasets._column.corpus import folder_files, joined, listed
from flair.datasets.base import text_lines
from flair.tokenization import Tokenizer


class MultiFileJsonlCorpus(Corpus):
    """A corpus whose splits are each read from any number of files with one JSON object a line."""

    def __init__(
        self,
        train_files: Any = None,
        test_files: Any = None,
        dev_files: Any = None,
        encoding: str = "utf-8",
        text_column_name: str = "data",
        label_column_name: str = "label",
        metadata_column_name: str = "metadata",
        label_type: str = "ner",
        use_tokenizer: Union[bool, Tokenizer] = True,
        **corpusargs: Any,
    ) -> None:
        """Read files.

        Args:
            train_files: paths of training data.
            test_files: paths of test data.
            dev_files: paths of data for model selection.
            encoding: of the files.
            text_column_name: key of the text.
            label_column_name: key of the labels, a list of ``[start, end, label]``.
            metadata_column_name: key of notes on the text, an object or a list of ``[key, value]``; may be missing.
            label_type: the label type that the labels get.
            use_tokenizer: splits the texts.
            corpusargs: arguments of :class:`~flair.data.Corpus`.

        Raises:
            FileNotFoundError: a file does not exist.
            ValueError: a file is not text in this encoding or malformed; the message names file and line.
            RuntimeError: the files hold nothing.
        """
        options: dict[str, Any] = {
            "encoding": encoding,
            "text_column_name": text_column_name,
            "label_column_name": label_column_name,
            "metadata_column_name": metadata_column_name,
            "label_type": label_type,
            "use_tokenizer": use_tokenizer,
        }
        splits: dict[str, Any] = {
            split: joined([JsonlDataset(path, **options) for path in listed(files)])
            for split, files in (("train", train_files), ("dev", dev_files), ("test", test_files))
        }
        super().__init__(**splits, **corpusargs)


class JsonlCorpus(MultiFileJsonlCorpus):
    """A corpus of files with one JSON object a line, in one folder."""

    def __init__(
        self,
        data_folder: Union[str, Path],
        train_file: Optional[Union[str, Path]] = None,
        test_file: Optional[Union[str, Path]] = None,
        dev_file: Optional[Union[str, Path]] = None,
        encoding: str = "utf-8",
        text_column_name: str = "data",
        label_column_name: str = "label",
        metadata_column_name: str = "metadata",
        label_type: str = "ner",
        autofind_splits: bool = True,
        name: Optional[str] = None,
        use_tokenizer: Union[bool, Tokenizer] = True,
        **corpusargs: Any,
    ) -> None:
        """Read a folder.

        Args:
            data_folder: where the files are.
            train_file: file name; without one the splits are found by their names.
            test_file: file name.
            dev_file: file name.
            encoding: of the files.
            text_column_name: key of the text.
            label_column_name: key of the labels.
            metadata_column_name: key of notes on the text.
            label_type: the label type that the labels get.
            autofind_splits: whether to look for files by their names.
            name: shown in the log; default is the folder.
            use_tokenizer: splits the texts.
            corpusargs: arguments of :class:`~flair.data.Corpus`.

        Raises:
            FileNotFoundError: folder or file missing, or a folder without files for any split.
            ValueError: a file is not text in this encoding or malformed; the message names file and line.
            RuntimeError: the files hold nothing.
        """
        super().__init__(
            **folder_files(data_folder, train_file, dev_file, test_file, autofind_splits),
            encoding=encoding,
            text_column_name=text_column_name,
            label_column_name=label_column_name,
            metadata_column_name=metadata_column_name,
            label_type=label_type,
            use_tokenizer=use_tokenizer,
            name=str(data_folder) if name is None else name,
            **corpusargs,
        )


class JsonlDataset(FlairDataset):
    """One file with one JSON object a line; blank lines are skipped."""

    def __init__(
        self,
        path_to_jsonl_file: Union[str, Path],
        encoding: str = "utf-8",
        text_column_name: str = "data",
        label_column_name: str = "label",
        metadata_column_name: str = "metadata",
        label_type: str = "ner",
        use_tokenizer: Union[bool, Tokenizer] = True,
    ) -> None:
        """Read a file; arguments and errors as in :class:`MultiFileJsonlCorpus`."""
        self.path_to_json_file = Path(path_to_jsonl_file)
        self.text_column_name = text_column_name
        self.label_column_name = label_column_name
        self.metadata_column_name = metadata_column_name
        self.label_type = label_type
        self.use_tokenizer = use_tokenizer
        self.sentences: list[Sentence] = []
        with only_making_objects():
            lines = text_lines(self.path_to_json_file, encoding)
            for number, _, line in tqdm(lines, desc=self.path_to_json_file.name, delay=2, unit=" lines"):
                if line.strip():
                    self.sentences.append(self._sentence(line, f"{self.path_to_json_file}, line {number}"))

    def _sentence(self, line: str, where: str) -> Sentence:
        try:
            data = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: no JSON ({error}). Each line must hold one object.") from error
        if not isinstance(data, dict) or not isinstance(data.get(self.text_column_name), str):
            found = f"an object with {', '.join(data) or 'no keys'}" if isinstance(data, dict) else type(data).__name__
            raise ValueError(
                f"{where}: expected an object with the text under {self.text_column_name!r}, found {found}. "
                "Pass text_column_name=... to name another key."
            )
        if self.label_column_name not in data:
            raise ValueError(
                f"{where}: the object has no {self.label_column_name!r} (it has {', '.join(data)}). "
                "Pass label_column_name=... to name another key; a text without labels has an empty list."
            )
        sentence = Sentence(data[self.text_column_name], use_tokenizer=self.use_tokenizer)
        for entry in data[self.label_column_name] or ():
            try:
                start, end, value = entry
                span = _span_of(sentence, int(start), int(end))
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{where}: {json.dumps(entry)} is no label of this text. A label is [start, end, value], and at "
                    f"least one token lies between its two positions, counted in characters ({error})."
                ) from error
            span.add_label(self.label_type, str(value))
        self._add_metadata(sentence, data.get(self.metadata_column_name), where)
        return sentence

    def _add_metadata(self, sentence: Sentence, notes: Any, where: str) -> None:
        try:
            for key, value in dict(notes or {}).items():
                sentence.add_metadata(key, value)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{where}: {self.metadata_column_name!r} must be an object or a list of [key, value], not "
                f"{json.dumps(notes)[:80]}."
            ) from error

    def is_in_memory(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.sentences)

    def __getitem__(self, index: int) -> Sentence:
        return self.sentences[index]


def _span_of(sentence: Sentence, start: int, end: int) -> Span:
    """The tokens that lie, wholly or in part, between two character positions."""
    inside = [token for token in sentence.tokens if token.start_position < end and token.end_position > start]
    if not inside:
        raise ValueError(f"the text has {len(sentence.text)} characters, and none of a token from {start} to {end}")
    return Span(inside)


for _public in (JsonlCorpus, JsonlDataset, MultiFileJsonlCorpus):
    _public.__module__ = "flair.datasets.sequence_labeling"
