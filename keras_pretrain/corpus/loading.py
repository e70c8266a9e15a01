"""Load documents from files, a folder, a glob, a `datasets` object or the Hub."""

import glob
import hashlib
import json
import logging
import os
import re
import uuid
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import datasets
import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from keras_pretrain.compat.datasets import is_name_of_reader
from keras_pretrain.corpus import readers
from keras_pretrain.corpus.readers import BadRows, ReadingOptions, replace_surrogates
from keras_pretrain.corpus.validation import document_hash, first_occurrences, is_validation, validation_bound

logger = logging.getLogger(__name__)

# The sources that `load_corpus` reads: a path, a glob, a name on the Hub, or documents that are already loaded.
Source: TypeAlias = str | os.PathLike[str] | Dataset | IterableDataset | DatasetDict | IterableDatasetDict

_HUB_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?", re.ASCII)
_RULES = 1  # increased whenever a reader returns different texts, so that older cached tables are not used
_MARK = " skipped"  # a column of the cached table of files


def load_corpus(
    source: Source,
    *,
    text_column: str = "text",
    validation_fraction: float = 0.1,
    drop_duplicates: bool = False,
    seed: int = 42,
    sample_by: str = "paragraph",
    encoding: str = "utf-8",
    dialect: str | dict | None = None,
    on_bad_rows: str = "error",
) -> DatasetDict:
    """Load documents, and split off a part of them for validation.

    Args:
      source: a file (`.txt`, `.csv`, `.tsv`, `.json`, `.jsonl`, each also with `.gz`, or `.parquet`), a folder or a
        glob of such files, a `Dataset`, a `DatasetDict`, or the name of a dataset on the Hub. (To load a dataset with
        configurations, call `datasets.load_dataset`.) In a folder, linked folders are followed; hidden files and files
        of other kinds are left out. A streaming dataset is read again in each call, into the cache of `datasets`.
      text_column: the column that holds the text. `.txt` files have no columns, so it is ignored for them.
      validation_fraction: share of the documents that become `validation`, up to about a million characters; 0 for
        none. A hash of a document's text and the seed chooses its split, so adding documents never moves one from
        training to validation (except in a corpus of a few documents). Ignored if the source has a `validation` (or
        `test`) split of its own.
      drop_duplicates: leave out documents with the same text as an earlier one. The log reports the number of such
        documents, even if they are kept.
      seed: the seed for the split.
      sample_by: the unit that is a document in a `.txt` file: `"paragraph"` (a block between blank lines) or `"line"`.
      encoding: the encoding of text files, such as `"cp949"` for a `.csv` file from a Korean Excel. A byte-order mark
        is dropped.
      dialect: how `.csv` and `.tsv` files are written. By default, `.csv` files have commas and quotation marks. `.tsv`
        files have tabs and no quoting, so a quotation mark is a part of the text. Other values: a name registered with
        Python's `csv` (`"excel"`, `"excel-tab"`, `"unix"`), the delimiter of a file that is quoted as in `"excel"`, or
        a dict of `csv`'s format parameters. If a dialect is given, quoted line breaks are never reported as an unclosed
        quotation mark.
      on_bad_rows: `"error"`, or `"skip"` to leave out and count the rows that cannot be read (rows with more or fewer
        fields than the header, with a quotation mark that is never closed, with bytes that the encoding does not allow,
        or with invalid JSON).

    Returns:
      A `DatasetDict` with `train` and `validation`, each with the single column `text` (str). Rows that are empty or
      not text, and with `on_bad_rows="skip"` also bad rows, are left out; the log says how many.

    Raises:
      FileNotFoundError: no such file, folder or match, and no such dataset on the Hub.
      ValueError: no such column, rows that cannot be read (with the place of the first one, and how many there are), a
        file that is damaged or of an unknown kind, a corpus without text, an option with a value that is not allowed.
    """
    if not 0 <= validation_fraction < 1:
        raise ValueError(f"validation_fraction must be at least 0 and below 1, not {validation_fraction}.")
    options = ReadingOptions(sample_by, encoding, dialect, on_bad_rows)
    splits, bad_rows = find_source(source, text_column), BadRows()
    if isinstance(splits, list):
        dataset, bad_rows = _read_files(splits, text_column, options)
        splits = {"train": dataset}
    name = source if isinstance(source, (str, os.PathLike)) else type(source).__name__
    parts = {part: _only_text(dataset, text_column, f"{name} ({part})", bad_rows) for part, dataset in splits.items()}
    if "test" in parts:
        parts["validation"] = parts.pop("test")
    has_validation = "validation" in parts
    hashes = np.fromiter(map(document_hash, chain(*map(each_text, parts.values()))), np.uint64)
    border = len(parts["train"])
    first, _, _ = find_duplicates(hashes, border if has_validation else None, drop_duplicates)
    if drop_duplicates:
        kept = zip(parts.items(), np.split(first, [border]), strict=False)
        parts = {part: documents.select(np.flatnonzero(chosen)) for (part, documents), chosen in kept}
        hashes = hashes[first]
    if has_validation or validation_fraction == 0:
        return DatasetDict(parts)
    lengths = np.fromiter(map(len, each_text(parts["train"])), np.int64)
    held_out = is_validation(hashes, validation_bound(hashes, lengths, validation_fraction, seed), seed)
    sides = {"train": ~held_out, "validation": held_out}
    return DatasetDict({side: parts["train"].select(np.flatnonzero(chosen)) for side, chosen in sides.items()})


def each_text(documents: Dataset, column: str = "text") -> Iterator:
    """Yield the values of a column, which are read a thousand at a time."""
    for batch in documents.select_columns([column]).iter(1000):
        yield from batch[column]


def find_duplicates(hashes: np.ndarray, border: int | None, are_dropped: bool) -> tuple[np.ndarray, int, int | None]:
    """Find documents with the same text as an earlier document, and log their number.

    `hashes` are the results of `document_hash`; documents from `border` on belong to the source's own validation split.

    Returns:
      (documents,) bool, `False` for duplicates; their number; the number of validation documents that are in training.
    """
    first = first_occurrences(hashes)
    duplicates = int(np.count_nonzero(~first))
    across = None if border is None else int(np.isin(hashes[border:], hashes[:border]).sum())
    if duplicates:
        done = "left out" if are_dropped else "kept; drop_duplicates=True leaves them out"
        logger.info("%d documents repeat the text of an earlier document: %s.", duplicates, done)
    if across and not are_dropped:
        logger.warning("%d validation documents are also in the training split.", across)
    return first, duplicates, across


def report_rows(name: str, documents: int, empty: int, missing: int, bad: int, first_bad: str | None) -> None:
    """Log how many rows contained no document. Raises a `ValueError` if there is no document at all."""
    skipped, first = empty + missing + bad, f", {bad} bad (the first: {first_bad})" if bad else ""
    counts = f"{empty} empty, {missing} missing or not text{first}"
    if documents == 0:
        raise ValueError(f"The corpus is empty: {name} has {skipped} rows and no text in any of them ({counts}).")
    if skipped:
        logger.warning("%s: %d of %d rows skipped: %s.", name, skipped, documents + skipped, counts)


def find_source(source: Source, text_column: str) -> list[Path] | dict[str, Dataset]:
    """Resolve `source` to files, or to datasets by split: `train`, and `validation` or else `test` if there is one.

    The text column of a streaming dataset is read into a table.

    Raises:
      FileNotFoundError: no such file, folder or match, and no such dataset on the Hub.
      ValueError: a source of another type, no split `train`, or a streaming dataset without the column.
    """
    if isinstance(source, (str, os.PathLike)):
        source = os.fspath(source)
        files = _find_files(source)
        if files:
            return files
        try:
            source = datasets.load_dataset(source)
        except (datasets.exceptions.DatasetNotFoundError, ConnectionError, FileNotFoundError) as error:
            raise FileNotFoundError(
                f"There is no file or folder {source} (current folder: {os.getcwd()}), and no dataset of that name "
                f"could be loaded from the Hub: {error}"
            ) from error
    splits = {"train": source} if isinstance(source, (Dataset, IterableDataset)) else source
    if not isinstance(splits, dict):  # a DatasetDict and an IterableDatasetDict are dicts
        raise ValueError(
            f"A corpus is a path, a glob, a name on the Hub, a Dataset or a DatasetDict, not a {type(source).__name__}."
        )
    if "train" not in splits:
        raise ValueError(f"The corpus needs a split named 'train'; this one has {sorted(splits)}.")
    used = ("train", "validation" if "validation" in splits else "test")
    return {split: _as_table(splits[split], text_column, split) for split in used if split in splits}


def is_hub_name(source: str) -> bool:
    """Whether a source can only be a dataset on the Hub, because it has the form of a Hub name and is not a local
    path."""
    path = Path(source).expanduser()
    # `datasets` takes names such as "text" and "csv" for its own readers, which would read the whole current folder.
    is_here = is_name_of_reader(source) or path.exists() or readers.is_known(path)
    return bool(_HUB_NAME.fullmatch(source)) and not is_here


def _find_files(source: str) -> list[Path]:
    """The files that `source` names; none if it can only be a name on the Hub."""
    path = Path(source).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        return _files_of_folder(path)
    if glob.has_magic(source):
        matches = map(Path, glob.glob(os.path.expanduser(source), recursive=True))
        # If a link points to a folder above it, the same files match again under longer names; each is read only once.
        matches = sorted((m for m in matches if m.is_file()), key=lambda m: (len(m.parts), m), reverse=True)
        if not matches:
            raise FileNotFoundError(f"No file matches {source}.")
        return sorted({(os.path.realpath(file.parent), file.name): file for file in matches}.values())
    if not is_hub_name(source):
        raise FileNotFoundError(f"There is no file or folder {source} (current folder: {os.getcwd()}).")
    return []


def _files_of_folder(folder: Path) -> list[Path]:
    """The readable files in a folder; the log says how many other files it contains."""
    found: list[Path] = []
    others: list[Path] = []
    for path, folders, files in _walk(folder):
        others += [path / name for name in folders if name.startswith(".")]
        for file in map(path.joinpath, files):
            is_text = not file.name.startswith(".") and file.is_file() and readers.is_known(file)
            (found if is_text else others).append(file)
    if others:
        logger.info(
            "%s: %d files and folders skipped: they are hidden, of another file type, or broken links (the first: %s).",
            folder, len(others), min(others),
        )  # fmt: skip
    if not found:
        raise FileNotFoundError(f"The folder {folder} holds no file that can be read ({readers.KNOWN}).")
    return sorted(found)


def source_folders(folder: Path) -> list[Path]:
    """The folders whose files are read if `folder` is the source: the folder itself and all folders below it,
    including linked ones."""
    return [path for path, _, _ in _walk(folder)]


def _walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Like `os.walk`, but follows links and skips hidden folders. It visits no folder twice, and none above
    `folder`."""
    seen = {os.fspath(above) for above in Path(os.path.realpath(folder)).parents}
    waiting = [folder]
    while waiting:
        links = []
        # Links are followed last, so a folder that is in the source itself is visited there, and not through a link.
        for path, folders, files in os.walk(waiting.pop(0), onerror=_raise):
            real = os.path.realpath(path)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders.sort()
            yield Path(path), list(folders), files
            folders[:] = [name for name in folders if not name.startswith(".")]
            links += [Path(path, name) for name in folders if os.path.islink(os.path.join(path, name))]
        waiting += links


def _raise(error: OSError) -> None:
    raise error


def _as_table(dataset: Dataset | IterableDataset, text_column: str, split: str) -> Dataset:
    """Read the text of a streaming dataset into the cache of `datasets`; a table is returned unchanged."""
    if isinstance(dataset, Dataset):
        return dataset.with_format(None) if dataset.format["type"] else dataset
    name = f"{type(dataset).__name__} ({split})"
    if not isinstance(dataset, IterableDataset):
        raise ValueError(f"Each split of a corpus is a Dataset or an IterableDataset, not {name}.")
    stream = iter(dataset)
    first = next(stream, None)
    if first is None:
        raise ValueError(f"The corpus is empty: there is no record in {name}.")
    features = datasets.Features({text_column: datasets.Value("string")})
    require_text(dataset.features or dict.fromkeys(first, datasets.Value("string")), text_column, name)
    content = hashlib.blake2b(digest_size=16)

    def rows() -> Iterator[dict]:
        for row in chain([first], stream):
            text = replace_surrogates(row.get(text_column))
            content.update(repr(text).encode())
            yield {text_column: text}

    # A stream can change without notice, so the tables of earlier calls are not used.
    table = Dataset.from_generator(_NeverTheSame(rows), features=features)
    return Dataset(table.data, info=table.info, split=table.split, fingerprint=content.hexdigest())


class _NeverTheSame:
    """Wraps a generator function so that its hash differs each time. This turns off the cache of `datasets`, which has
    no argument for it (`fingerprint`) before version 4.4."""

    def __init__(self, function: Callable[[], Iterator[dict]]) -> None:
        self._function = function

    def __call__(self) -> Iterator[dict]:
        return self._function()

    def __reduce__(self) -> tuple:
        return str, (uuid.uuid4().hex,)  # pickled only to be hashed


def _read_files(paths: list[Path], text_column: str, options: ReadingOptions) -> tuple[Dataset, BadRows]:
    """Return a dataset with one row for each record, and the rows that were skipped."""
    for path in paths:
        readers.check_columns(path, text_column, options)
    # `datasets` caches the output of a generator under a hash of its arguments, so they must change if a file changes.
    # They are in a tuple, because `datasets` would call the generator once for each item of a list.
    files = tuple((str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths)
    try:
        dataset = Dataset.from_generator(
            _rows,
            features=datasets.Features({name: datasets.Value("string") for name in (text_column, _MARK)}),
            gen_kwargs={"files": files, "text_column": text_column, "options": options, "rules": _RULES},
            split="train",
        )
    except datasets.exceptions.DatasetGenerationError as error:
        # Raise the reader's own error, which names the file; `datasets` wraps it in an error that does not name it.
        raise error.__cause__ if isinstance(error.__cause__, ValueError) else error from None
    bad_rows = BadRows(*json.loads(dataset[-1][_MARK]))
    return dataset.select(range(len(dataset) - 1)), bad_rows


def _rows(
    files: tuple[tuple[str, int, int], ...], text_column: str, options: ReadingOptions, rules: int
) -> Iterator[dict]:
    """Yield a row for each record, then a row with the number of skipped rows, so that the cache stores it, too."""
    bad_rows = BadRows()
    for path, _, _ in files:
        for text in readers.read(Path(path), text_column, options, bad_rows):
            yield {text_column: replace_surrogates(text), _MARK: None}
    yield {text_column: None, _MARK: json.dumps([bad_rows.count, bad_rows.first])}


def require_text(
    features: dict, text_column: str, name: str, hint: str = "Say which one holds the text (text_column)."
) -> None:
    """Raise an error for a dataset without the column, or with a column that does not hold text."""
    if text_column not in features:
        raise ValueError(f"{name} has no column {text_column!r}; its columns are {', '.join(features)}. {hint}")
    kind = getattr(features[text_column], "dtype", features[text_column])
    if kind not in ("string", "large_string"):
        raise ValueError(f"Column {text_column!r} of {name} holds {kind}, not text.")


def _only_text(dataset: Dataset, text_column: str, name: str, bad_rows: BadRows) -> Dataset:
    """Return the column, renamed to `text`, without the rows that contain no text; the log says how many were
    skipped."""
    require_text(dataset.features, text_column, name)
    dataset = dataset.select_columns([text_column]).rename_columns({text_column: "text"})
    texts = (table["text"] for table in dataset.with_format("arrow").iter(10_000))
    lengths = [pc.utf8_length(pc.utf8_trim_whitespace(part)).fill_null(-1) for part in texts]
    lengths = np.concatenate([np.zeros(0, np.int64), *lengths])
    keep = np.flatnonzero(lengths > 0)
    report_rows(name, len(keep), int((lengths == 0).sum()), int((lengths < 0).sum()), bad_rows.count, str(bad_rows))
    return dataset.select(keep) if len(keep) < len(dataset) else dataset
