"""A corpus of any size → units that are read independently of each other, and blocks of documents."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np
from datasets import Dataset

from keras_pretrain.corpus import readers
from keras_pretrain.corpus.loading import replace_surrogates, require_text
from keras_pretrain.corpus.readers import BadRows, ReadingOptions
from keras_pretrain.corpus.validation import document_hash

_UNIT_BYTES = 64_000_000  # of files that are read by one process, one after the other
_BLOCKS = 1000  # a corpus has about so many, within the limits below
_BLOCK_CHARACTERS = 200_000, 4_000_000


@dataclass(frozen=True)
class Unit:
    """What one process reads: one file or several small ones, or a dataset.

    Attributes:
      number: its place in the corpus.
      split: `"train"` or `"validation"` where the source has them apart; `None` where validation is split off.
      source: paths, or a dataset.
      text_column: the column with the text.
      options: how files are read.
      keep: (documents,) bool, which of the documents are used; `None` for all.
    """

    number: int
    split: str | None
    source: tuple[Path, ...] | Dataset
    text_column: str
    options: ReadingOptions
    keep: np.ndarray | None = None

    def stamp(self) -> list:
        """What says that the source has not changed: files' names, sizes and times; a dataset's fingerprint."""
        source = self.source
        if isinstance(source, Dataset):
            content = source._fingerprint
        else:
            content = [[os.fspath(path), path.stat().st_size, path.stat().st_mtime_ns] for path in source]
        options = self.options
        return [
            content,
            self.text_column,
            options.sample_by,
            options.encoding,
            str(options.dialect),
            options.on_bad_rows,
        ]


@dataclass(frozen=True)
class Block:
    """Documents that are worked on together.

    Attributes:
      name: its unit's number and its own.
      split: as of the unit.
      texts: one a document.
      hashes: `document_hash` of each, (documents,) uint64.
    """

    name: str
    split: str | None
    texts: list[str]
    hashes: np.ndarray


def find_units(found: list[Path] | dict[str, Dataset], text_column: str, options: ReadingOptions) -> list[Unit]:
    """A corpus, as `find_source` found it, in units.

    Raises:
      ValueError: a file of an unknown kind, or no such column.
    """
    if isinstance(found, list):
        for path in found:
            readers.check_columns(path, text_column, options)
        paths = [path.absolute() for path in found]  # another process works in another folder
        return [Unit(i, None, group, text_column, options) for i, group in enumerate(_group(paths))]
    parts = {"train": found["train"], "validation": found.get("validation", found.get("test"))}
    parts = {name: part for name, part in parts.items() if part is not None}
    for name, part in parts.items():
        require_text(part.column_names, part.features.get(text_column), text_column, f"Dataset ({name})")
    return [
        Unit(i, name if len(parts) > 1 else None, part, text_column, options)
        for i, (name, part) in enumerate(parts.items())
    ]


def _group(paths: list[Path]) -> Iterator[tuple[Path, ...]]:
    group, size = [], 0
    for path in paths:
        group.append(path)
        size += path.stat().st_size
        if size >= _UNIT_BYTES:
            yield tuple(group)
            group, size = [], 0
    if group:
        yield tuple(group)


def survey(unit: Unit) -> tuple[dict, dict]:
    """Read a unit once, so that what cannot be read is found before hours are spent on what can.

    Returns:
      Columns `hash` (uint64) and `characters` (uint32) with one row a document; and counts of `documents`,
      `characters` and of the rows that are no documents: `empty`, `missing` (or not text) and `bad`.

    Raises:
      ValueError: a file that cannot be read.
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
    """How long a block is in a corpus of so many characters."""
    smallest, largest = _BLOCK_CHARACTERS
    return min(max(total // _BLOCKS, smallest), largest)


def read_blocks(unit: Unit, characters: int) -> Iterator[Block]:
    """The documents of a unit, in blocks that end with the document that fills them.

    Args:
      characters: of a block; the last one of a unit may be shorter.
    """
    texts = (text for text in _records(unit, BadRows()) if isinstance(text, str) and text.strip())
    if unit.keep is not None:
        texts = compress(texts, unit.keep)
    yield from make_blocks(texts, f"{unit.number:05d}-", unit.split, characters)


def make_blocks(texts: Iterable[str], name: str, split: str | None, characters: int) -> Iterator[Block]:
    """Documents in blocks, which are named by their numbers after `name`."""
    block, size, number = [], 0, 0
    for text in texts:
        block.append(text)
        size += len(text)
        if size >= characters:
            yield _block(f"{name}{number:05d}", split, block)
            block, size, number = [], 0, number + 1
    if block:
        yield _block(f"{name}{number:05d}", split, block)


def _block(name: str, split: str | None, texts: list[str]) -> Block:
    return Block(name, split, texts, np.array(list(map(document_hash, texts)), np.uint64))


def _records(unit: Unit, bad: BadRows) -> Iterator:
    if isinstance(unit.source, Dataset):
        for batch in unit.source.select_columns([unit.text_column]).iter(1000):
            yield from batch[unit.text_column]
    else:
        for path in unit.source:
            yield from map(replace_surrogates, readers.read(path, unit.text_column, unit.options, bad))
