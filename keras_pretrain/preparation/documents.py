"""Divides a corpus of any size into units, which are read independently, and each unit into blocks of documents."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass
from itertools import compress
from pathlib import Path

import numpy as np
from datasets import Dataset

from keras_pretrain.compat.datasets import fingerprint
from keras_pretrain.corpus import readers
from keras_pretrain.corpus.loading import each_text, require_text
from keras_pretrain.corpus.readers import BadRows, ReadingOptions, replace_surrogates
from keras_pretrain.corpus.validation import document_hash

_UNIT_BYTES = 64_000_000  # small files are grouped until they have at least this size
_BLOCKS = 1000  # the target number of blocks in a corpus, unless blocks would exceed the limits below
_BLOCK_CHARACTERS = 200_000, 4_000_000


@dataclass(frozen=True)
class Unit:
    """The input of one process: one file, several small files, or a dataset."""

    number: int  # the unit's index in the corpus
    split: str | None  # "train" or "validation" if the source has its own splits
    source: tuple[Path, ...] | Dataset
    text_column: str
    options: ReadingOptions
    keep: np.ndarray | None = None  # (documents,) bool, which documents are used; None for all

    def stamp(self) -> list:
        """Values that identify the content and how it is read. A dataset's content is identified by its fingerprint,
        the content of files by their names, sizes and times."""
        if isinstance(self.source, Dataset):
            content = fingerprint(self.source)
        else:
            content = [[os.fspath(path), path.stat().st_size, path.stat().st_mtime_ns] for path in self.source]
        return [content, self.text_column, *map(str, astuple(self.options))]


@dataclass(frozen=True)
class Block:
    """Documents that are processed together: the block's name, the unit's split, the texts, and the `document_hash` of
    each text (uint64)."""

    name: str
    split: str | None
    texts: list[str]
    hashes: np.ndarray


def find_units(found: list[Path] | dict[str, Dataset], text_column: str, options: ReadingOptions) -> list[Unit]:
    """Divide the result of `find_source` into units; raises an error for unknown files and files without the column."""
    if isinstance(found, list):
        for path in found:
            readers.check_columns(path, text_column, options)
        paths = (path.absolute() for path in found)  # a worker may have another current folder
        groups = _fill(paths, lambda path: path.stat().st_size, _UNIT_BYTES)
        return [Unit(i, None, tuple(group), text_column, options) for i, group in enumerate(groups)]
    parts = {"train": found["train"], "validation": found.get("validation", found.get("test"))}
    parts = {name: part for name, part in parts.items() if part is not None}
    for name, part in parts.items():
        require_text(part.features, text_column, f"Dataset ({name})")
    own = len(parts) > 1
    return [Unit(i, name if own else None, part, text_column, options) for i, (name, part) in enumerate(parts.items())]


def survey(unit: Unit) -> tuple[dict, dict]:
    """Read a unit once, so that unreadable rows are found before hours of work on the other rows.

    Returns:
      Columns `hash` (uint64) and `characters` (uint32) with one row per document; and counts of `documents`,
      `characters` and rows without a document: `empty`, `missing` (missing or not text) and `bad`.
    """
    hashes, lengths, empty, missing, bad = [], [], 0, 0, BadRows()
    for text in _records(unit, bad):
        if not isinstance(text, str):
            missing += 1
        elif not text.strip():
            empty += 1
        else:
            hashes.append(document_hash(text))
            lengths.append(len(text))
    columns = {"hash": np.array(hashes, np.uint64), "characters": np.array(lengths, np.uint32)}
    counts = {"documents": len(hashes), "characters": sum(lengths), "empty": empty, "missing": missing}
    return columns, counts | {"bad": bad.count, "first_bad": str(bad) if bad.count else None}


def block_characters(total: int) -> int:
    """The length of a block in a corpus of `total` characters."""
    smallest, largest = _BLOCK_CHARACTERS
    return min(max(total // _BLOCKS, smallest), largest)


def read_blocks(unit: Unit, characters: int) -> Iterator[Block]:
    """Read the documents of a unit, and divide them into blocks as `make_blocks` does."""
    texts = (text for text in _records(unit, BadRows()) if isinstance(text, str) and text.strip())
    if unit.keep is not None:
        texts = compress(texts, unit.keep)
    return make_blocks(texts, f"{unit.number:05d}-", unit.split, characters)


def make_blocks(texts: Iterable[str], name: str, split: str | None, characters: int) -> Iterator[Block]:
    """Divide documents into blocks. A block ends with the document with which it has at least `characters` characters.
    Blocks are named `name` and a number."""
    for number, block in enumerate(_fill(texts, len, characters)):
        yield Block(f"{name}{number:05d}", split, block, np.array(list(map(document_hash, block)), np.uint64))


def _fill(items: Iterable, size: Callable, limit: int) -> Iterator[list]:
    """Divide items into groups. A group ends with the item with which its size reaches `limit`; the last group may be
    smaller."""
    group, filled = [], 0
    for item in items:
        group.append(item)
        filled += size(item)
        if filled >= limit:
            yield group
            group, filled = [], 0
    if group:
        yield group


def _records(unit: Unit, bad: BadRows) -> Iterator:
    if isinstance(unit.source, Dataset):
        yield from each_text(unit.source, unit.text_column)
    else:
        for path in unit.source:
            yield from map(replace_surrogates, readers.read(path, unit.text_column, unit.options, bad))
