"""A corpus of any size → blocks of documents, the same ones whoever reads them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset

from keras_pretrain.corpus import readers
from keras_pretrain.corpus.loading import find_source, replace_surrogates

_UNIT_BYTES = 64_000_000  # of files that are read by one process, one after the other
_BLOCKS = 1000  # a corpus has about so many, within the limits below
_BLOCK_CHARACTERS = 200_000, 4_000_000


@dataclass(frozen=True)
class Unit:
    """What one process reads: one file or several small ones, or a dataset.

    Attributes:
      number: its place in the corpus.
      split: `"train"` or `"validation"` where the source has them apart; `None` where validation is to be drawn.
      source: paths, or a dataset.
    """

    number: int
    split: str | None
    source: tuple[Path, ...] | Dataset
    text_column: str
    sample_by: str


@dataclass(frozen=True)
class Survey:
    """What a unit holds, counted before anything is done with it."""

    unit: int
    documents: int
    characters: int
    empty: int
    missing: int


@dataclass(frozen=True)
class Block:
    """Documents that are worked on together."""

    name: str  # its unit's number and its own
    split: str | None
    texts: list[str]


def find_units(source, text_column: str, sample_by: str) -> list[Unit]:
    """A corpus as `load_corpus` takes it, in parts that can be read independently of each other.

    Raises:
      FileNotFoundError, ValueError: as `load_corpus`.
    """
    if sample_by not in ("paragraph", "line"):
        raise ValueError(f"sample_by must be 'paragraph' or 'line', not {sample_by!r}.")
    found = find_source(source)
    if isinstance(found, list):
        for path in found:
            readers.check_columns(path, text_column)
        paths = [path.absolute() for path in found]  # another process works in another folder
        return [Unit(i, None, group, text_column, sample_by) for i, group in enumerate(_group(paths))]
    units = []
    for split, dataset in _validated(found).items():
        if text_column not in dataset.column_names:
            raise ValueError(
                f"The corpus ({split}) has no column {text_column!r}; its columns are "
                f"{', '.join(dataset.column_names)}. Say which one holds the text (text_column, or --text-column)."
            )
        is_divided = len(found) > 1 and "validation" in _validated(found)
        units.append(Unit(len(units), split if is_divided else None, dataset, text_column, sample_by))
    return units


def _validated(splits: dict[str, Dataset]) -> dict[str, Dataset]:
    validation = splits.get("validation", splits.get("test"))
    return {"train": splits["train"]} | ({} if validation is None else {"validation": validation})


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


def survey(unit: Unit) -> Survey:
    """Read a unit once, so that what cannot be read is found before hours are spent on what can.

    Raises:
      ValueError: a file that is not UTF-8 or not what its ending says.
    """
    documents = characters = empty = missing = 0
    if isinstance(unit.source, tuple):
        for path in unit.source:
            readers.check_bytes(path)
    for text in _records(unit):
        if not isinstance(text, str):
            missing += 1
        elif not text.strip():
            empty += 1
        else:
            documents += 1
            characters += len(text)
    return Survey(unit.number, documents, characters, empty, missing)


def block_characters(total: int) -> int:
    """How long a block is in a corpus of so many characters."""
    smallest, largest = _BLOCK_CHARACTERS
    return min(max(total // _BLOCKS, smallest), largest)


def read_blocks(unit: Unit, characters: int) -> Iterator[Block]:
    """The documents of a unit, in blocks that end with the document that fills them.

    Args:
      characters: of a block; the last one of a unit may be shorter.
    """
    texts, size, number = [], 0, 0
    for text in _records(unit):
        if isinstance(text, str) and text.strip():
            texts.append(text)
            size += len(text)
        if size >= characters:
            yield Block(f"{unit.number:05d}-{number:05d}", unit.split, texts)
            texts, size, number = [], 0, number + 1
    if texts:
        yield Block(f"{unit.number:05d}-{number:05d}", unit.split, texts)


def _records(unit: Unit) -> Iterator:
    if isinstance(unit.source, tuple):
        for path in unit.source:
            yield from map(replace_surrogates, readers.read(path, unit.text_column, unit.sample_by))
    else:
        for batch in unit.source.select_columns([unit.text_column]).iter(1000):
            yield from batch[unit.text_column]


def stamp(units: list[Unit]) -> list:
    """What says that files have not changed: names, sizes and times; of a dataset, its fingerprint."""
    return [
        [[os.fspath(path), path.stat().st_size, path.stat().st_mtime_ns] for path in unit.source]
        if isinstance(unit.source, tuple)
        else unit.source._fingerprint
        for unit in units
    ]
