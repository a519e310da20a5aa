"""Treebanks in CoNLL-U and CoNLL-U Plus format (https://universaldependencies.org/format.html)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional, Union

from tqdm import tqdm

from flair.data.corpus import Corpus, FlairDataset
from flair.data.sentence import Sentence
from flair.datasets._column.building import only_making_objects
from flair.datasets._column.conllu import COLUMNS, Block, ConlluParser
from flair.datasets.base import find_train_dev_test_files, text_lines


class UniversalDependenciesCorpus(Corpus):
    """A corpus of CoNLL-U files in one folder."""

    def __init__(
        self,
        data_folder: Union[str, Path],
        train_file: Any = None,
        test_file: Any = None,
        dev_file: Any = None,
        in_memory: bool = True,
        split_multiwords: bool = True,
    ) -> None:
        """Read a folder.

        Args:
            data_folder: where the files are.
            train_file: file name; without one the splits are found by their names.
            test_file: file name.
            dev_file: file name.
            in_memory: keep the sentences; otherwise each is made anew from its lines on every access.
            split_multiwords: whether a contraction such as "don't" becomes its syntactic words ("do", "n't"), which
                have labels, or one token.

        Raises:
            FileNotFoundError: folder or file missing.
            ValueError: a file is not text in UTF-8 or malformed; the message names file and line.
            RuntimeError: the files hold nothing, or there are none.
        """
        dev, test, train = find_train_dev_test_files(data_folder, dev_file, test_file, train_file)
        splits: dict[str, Any] = {
            split: UniversalDependenciesDataset(path, in_memory, split_multiwords)
            for split, path in (("train", train), ("dev", dev), ("test", test))
            if path is not None
        }
        super().__init__(**splits, name=str(data_folder))


class UniversalDependenciesDataset(FlairDataset):
    """One CoNLL-U file.

    Tokens get labels of the types "lemma", "upos", "pos" (language-specific part of speech) and "dependency", and one
    for each morphological feature under its name in lower case; ``head_id`` is the index of the head. Further columns,
    which a line ``# global.columns = ID FORM ...`` names, become labels of tokens, or of spans where they hold BIO or
    BIOES tags; the label type is what follows the colon of the column's name, in lower case. Empty nodes (``8.1``) are
    left out. The sentences are no context of each other.
    """

    def __init__(
        self, path_to_conll_file: Union[str, Path], in_memory: bool = True, split_multiwords: bool = True
    ) -> None:
        """Read a file; arguments and errors as in :class:`UniversalDependenciesCorpus`."""
        self.path_to_conll_file = Path(path_to_conll_file)
        self.in_memory = in_memory
        self.split_multiwords = split_multiwords
        self._parser = ConlluParser(self.path_to_conll_file, split_multiwords)
        self._blocks: list[Block] = []
        self._made: list[Optional[Sentence]] = []
        with only_making_objects():
            blocks = tqdm(self._read(), desc=self.path_to_conll_file.name, delay=2, unit=" sentences")
            for block in blocks:
                sentence = self._parser.sentence(block)  # made in any case: this is what finds errors
                if len(sentence):
                    self._blocks.append(Block(block.first_line, [] if in_memory else block.lines, block.columns))
                    self._made.append(sentence if in_memory else None)
        self.total_sentence_count = len(self._blocks)

    def _read(self) -> Iterator[Block]:
        """Cut the file at blank lines; blocks of comments alone are left out."""
        columns = COLUMNS
        block = Block(0, [], columns)
        for number, _, line in text_lines(self.path_to_conll_file):
            if line.strip():
                if not block.lines:
                    block.first_line = number
                columns = self._parser.declared_columns(line, number) or columns
                block.lines.append(line)
                block.columns = columns
            elif block.lines:
                yield block
                block = Block(0, [], columns)
        if block.lines:
            yield block

    @property
    def sentences(self) -> list[Sentence]:
        """All sentences of a file that is held in memory."""
        return [sentence for sentence in self._made if sentence is not None]

    @property
    def indices(self) -> list[int]:
        """For a file that is not held in memory, the number of the first line of each sentence."""
        return [] if self.in_memory else [block.first_line for block in self._blocks]

    def is_in_memory(self) -> bool:
        return self.in_memory

    def __len__(self) -> int:
        return self.total_sentence_count

    def __getitem__(self, index: int = 0) -> Sentence:
        index = range(len(self))[index]
        sentence = self._made[index]
        return self._parser.sentence(self._blocks[index]) if sentence is None else sentence
