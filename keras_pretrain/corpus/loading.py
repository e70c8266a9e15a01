"""A corpus from wherever it lies: files, a folder, a glob, a `datasets` object or the Hub → documents."""

import glob
import hashlib
import json
import logging
import os
import re
import uuid
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, IterableDataset

from keras_pretrain.corpus import readers
from keras_pretrain.corpus.readers import BadRows, ReadingOptions, replace_surrogates
from keras_pretrain.corpus.validation import document_hash, first_occurrences, is_validation, validation_bound

logger = logging.getLogger(__name__)

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
_MARK = " skipped"  # a column of the cached table of files


def load_corpus(
    source,
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
    """Load documents and split some off for validation.

    Args:
      source: a file (`.txt`, `.csv`, `.tsv`, `.json`, `.jsonl`, each also with `.gz`, or `.parquet`), a folder or a
        glob of such files, a `Dataset`, a `DatasetDict`, or the name of a dataset on the Hub. (For a Hub dataset with
        configurations, call `datasets.load_dataset` and give what it returns.) In a folder, linked folders are
        followed, and hidden files and files of other kinds are left out. A streaming dataset (`IterableDataset`) is
        read anew in each call, into the cache of `datasets`.
      text_column: the column that holds the text; `.txt` files have none and ignore it.
      validation_fraction: share of the documents that become `validation`, up to about a million characters; 0 for
        none. Which side a document is on follows from its text and the seed (`corpus.validation`): documents of the
        same text are on the same side, and adding documents moves none from training to validation. Ignored where the
        source has a `validation` (or `test`) split of its own.
      drop_duplicates: leave out documents whose text an earlier one has. The log counts them in any case.
      seed: another seed, another split.
      sample_by: what a document is in a `.txt` file: `"paragraph"`, a block between blank lines, or `"line"`.
      encoding: of text files, such as `"cp949"` for a `.csv` file from a Korean Excel. A byte-order mark is dropped.
      dialect: how `.csv` and `.tsv` files are written. By default `.csv` files have commas and quotation marks, and
        `.tsv` files tabs and no quoting: a quotation mark is a part of the text. Else a name registered with Python's
        `csv` (`"excel"`, `"excel-tab"`, `"unix"`), one character, the delimiter of a file that is quoted as in
        `"excel"`, or a dict of `csv`'s format parameters, such as `{"delimiter": ";"}`. With a dialect, a quoted field
        over several lines is never taken for an unclosed quotation mark.
      on_bad_rows: what is done about rows of files that cannot be read (another number of fields than the header, a
        quotation mark that is never closed, bytes that are not of the encoding, no JSON): `"error"`, or `"skip"` to
        leave them out and count them.

    Returns:
      A `DatasetDict` with `train` and `validation`, each with the one column `text` (str). Rows that were empty, not
      text or (with `on_bad_rows="skip"`) bad are left out, and a line in the log says how many.

    Raises:
      FileNotFoundError: no such file, folder or match, and no such dataset on the Hub.
      ValueError: no such column (with those there are), rows that cannot be read (with the first one's file, line and
        beginning, and how many there are), a file that is damaged or of an unknown kind, a corpus without text, an
        option with a value that is not allowed.
    """
    if not 0 <= validation_fraction < 1:
        raise ValueError(f"validation_fraction must be at least 0 and below 1, not {validation_fraction}.")
    options = ReadingOptions(sample_by, encoding, dialect, on_bad_rows)
    splits, bad_rows = find_source(source, text_column), BadRows()
    if isinstance(splits, list):
        dataset, bad_rows = _read_files(splits, text_column, options)
        splits = {"train": dataset}
    name = source if isinstance(source, (str, os.PathLike)) else type(source).__name__
    splits = {
        split: _only_text(dataset, text_column, f"{name} ({split})", bad_rows) for split, dataset in splits.items()
    }

    validation = splits.get("validation", splits.get("test"))
    parts = {"train": splits["train"]} | ({} if validation is None else {"validation": validation})
    hashes = {part: _hashes(documents) for part, documents in parts.items()}
    every = np.concatenate(list(hashes.values()))
    first, ends = first_occurrences(every), np.cumsum(list(map(len, hashes.values())))
    across = None if validation is None else int(np.isin(hashes["validation"], hashes["train"]).sum())
    report_duplicates(int(np.count_nonzero(~first)), across, drop_duplicates)
    if drop_duplicates:
        kept = dict(zip(parts, np.split(first, ends[:-1]), strict=True))
        parts = {part: documents.select(np.flatnonzero(kept[part])) for part, documents in parts.items()}
        every = every[first]
    if validation is not None or validation_fraction == 0:
        return DatasetDict(parts)
    lengths = [len(text) for batch in parts["train"].iter(1000) for text in batch["text"]]
    held_out = is_validation(every, validation_bound(every, np.array(lengths), validation_fraction, seed), seed)
    sides = {"train": ~held_out, "validation": held_out}
    return DatasetDict({side: parts["train"].select(np.flatnonzero(chosen)) for side, chosen in sides.items()})


def _hashes(documents: Dataset) -> np.ndarray:
    texts = (text for batch in documents.iter(1000) for text in batch["text"])
    return np.fromiter(map(document_hash, texts), np.uint64, len(documents))


def report_duplicates(duplicates: int, across: int | None, are_dropped: bool) -> None:
    """Say how many documents have the text of an earlier one, and how many across a split that the user gave."""
    if duplicates:
        done = "left out" if are_dropped else "kept; drop_duplicates=True leaves them out"
        logger.info("%d documents have the text of an earlier one: %s.", duplicates, done)
    if across and not are_dropped:
        logger.warning("%d validation documents stand in the training split, too.", across)


def report_rows(name: str, documents: int, empty: int, missing: int, bad: int, first_bad: str | None) -> None:
    """Say how many rows were no documents.

    Raises:
      ValueError: none was.
    """
    skipped = empty + missing + bad
    total = documents + skipped
    if documents == 0:
        raise ValueError(f"The corpus is empty: {name} has {total} rows and no text in any of them.")
    if skipped:
        logger.warning(
            "%s: %d of %d rows skipped: %d empty, %d missing or not text%s.",
            name, skipped, total, empty, missing, f", {bad} bad (the first: {first_bad})" if bad else "",
        )  # fmt: skip


def find_source(source, text_column: str | None = None) -> list[Path] | dict[str, Dataset]:
    """What `source` is: files, or datasets by split, one of them `train`.

    Args:
      text_column: the column of a streaming dataset that is read into a table; all of its columns by default. Of
        several streaming splits, only those that are used are read.

    Raises:
      FileNotFoundError: no such file, folder or match, and no such dataset on the Hub.
      ValueError: something else, no split `train`, or a streaming dataset without the column.
    """
    if isinstance(source, (Dataset, IterableDataset)):
        return {"train": _as_table(source, text_column, f"{type(source).__name__} (train)")}
    if isinstance(source, dict):  # a DatasetDict or an IterableDatasetDict is one
        if "train" not in source:
            raise ValueError(f"The corpus needs a split named 'train'; this one has {sorted(source)}.")
        wrong = next((split for split in source.values() if not isinstance(split, (Dataset, IterableDataset))), None)
        if wrong is not None:
            raise ValueError(
                f"Each split of a corpus is a Dataset or an IterableDataset, not a {type(wrong).__name__}."
            )
        used = ("train", "validation" if "validation" in source else "test")
        return {
            split: _as_table(part, text_column, f"{type(source).__name__} ({split})")
            for split, part in source.items()
            if split in used or isinstance(part, Dataset)
        }
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(
            f"A corpus is a path, a glob, a name on the Hub, a Dataset or a DatasetDict, not a {type(source).__name__}."
        )
    return _find_files(os.fspath(source)) or _from_hub(os.fspath(source))


def _find_files(source: str) -> list[Path]:
    """The files that `source` names; none where it can only be a name on the Hub."""
    path = Path(source).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = _files_of_folder(path)
        if not found:
            raise FileNotFoundError(f"The folder {source} holds no file that can be read ({readers.KNOWN}).")
        return found
    if glob.has_magic(source):
        pattern = os.path.expanduser(source)
        # A link back to a folder above gives the same files again, under ever longer names: each is taken once.
        found = sorted((Path(match) for match in glob.glob(pattern, recursive=True)), key=lambda p: (len(p.parts), p))
        found = {(os.path.realpath(file.parent), file.name): file for file in reversed(found) if file.is_file()}
        if not found:
            raise FileNotFoundError(f"No file matches {source}.")
        return sorted(found.values())
    # Such as "text" and "csv": to `datasets` the names of its readers, which would read the whole current folder.
    is_reader = source in datasets.packaged_modules._PACKAGED_DATASETS_MODULES
    if (
        is_reader
        or not _HUB_NAME.fullmatch(source)
        or source.startswith((".", "~", os.sep))
        or source.count("/") > 1
        or readers.is_known(path)
    ):
        raise FileNotFoundError(f"There is no file or folder {source} (looked from {os.getcwd()}).")
    return []


def _files_of_folder(folder: Path) -> list[Path]:
    """The files of a folder that can be read; the log says how many others there are."""
    found, others = [], []
    for path, folders, files in _walk(folder):
        for name in files:
            file = path / name
            (found if not _is_hidden(name) and file.is_file() and readers.is_known(file) else others).append(file)
        for hidden in (path / name for name in folders if _is_hidden(name)):
            if not hidden.is_symlink():
                others += [Path(above, name) for above, _, names in os.walk(hidden) for name in names]
    if others:
        logger.info(
            "%s: %d files left out that are hidden, of other kinds, or links to nothing (the first: %s).",
            folder, len(others), min(others),
        )  # fmt: skip
    return sorted(found)


def source_folders(folder: Path) -> list[Path]:
    """The folders whose files are read where `folder` is the source: itself and all below, also through links.

    Each is there once, whatever links lead to it. Hidden ones are left out.
    """
    return [path for path, _, _ in _walk(folder)]


def _walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As `os.walk`, through links, without hidden folders; no folder twice, and none that is above `folder`."""
    seen = {os.fspath(above) for above in Path(os.path.realpath(folder)).parents}
    waiting = [folder]
    while waiting:
        links = []
        # Links come last, so that a folder which lies in the source has the name that it has there.
        for path, folders, files in os.walk(waiting.pop(0), onerror=_raise):
            real = os.path.realpath(path)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders.sort()
            yield Path(path), list(folders), files
            visible = [name for name in folders if not _is_hidden(name)]
            links += [Path(path, name) for name in visible if os.path.islink(os.path.join(path, name))]
            folders[:] = visible
        waiting += links


def _raise(error: OSError):
    raise error


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _from_hub(name: str) -> dict[str, Dataset]:
    try:
        return dict(datasets.load_dataset(name))
    except (datasets.exceptions.DatasetNotFoundError, ConnectionError, FileNotFoundError) as error:
        raise FileNotFoundError(
            f"There is no file or folder {name} (looked from {os.getcwd()}), and no dataset of that name could be had "
            f"from the Hub: {error}"
        ) from error


def _as_table(dataset: Dataset | IterableDataset, text_column: str | None, name: str) -> Dataset:
    """A streaming dataset, read into the cache of `datasets`; others as they are."""
    if isinstance(dataset, Dataset):
        return dataset
    features = dataset.features
    if features and text_column is not None:
        _require_text(list(features), features.get(text_column), text_column, name)
        dataset = dataset.select_columns([text_column])
    stream = iter(dataset)
    first = next(stream, None)
    if first is None:
        raise ValueError(f"The corpus is empty: there is no record in {name}.")
    if text_column is not None:
        kind = (features or {}).get(text_column, datasets.Value("string"))
        _require_text(list(first), kind, text_column, name)
        features = datasets.Features({text_column: kind})
    content = hashlib.blake2b(digest_size=16)

    def rows() -> Iterator[dict]:
        for row in chain([first], stream):
            if text_column is not None:
                row = {text_column: replace_surrogates(row.get(text_column))}
            content.update(repr(row).encode(errors="surrogatepass"))
            yield row

    # What a stream gives can change without any sign of it, so that no table of an earlier call is taken for it.
    table = Dataset.from_generator(rows, features=features, fingerprint=uuid.uuid4().hex)
    return Dataset(table.data, info=table.info, split=table.split, fingerprint=content.hexdigest())


def _read_files(paths: list[Path], text_column: str, options: ReadingOptions) -> tuple[Dataset, BadRows]:
    """A dataset with a row for each record, and the rows that were skipped."""
    for path in paths:
        readers.check_columns(path, text_column, options)
    try:
        dataset = Dataset.from_generator(
            _rows,
            features=datasets.Features({name: datasets.Value("string") for name in (text_column, _MARK)}),
            # `datasets` keeps what a generator gave under a hash of these: a changed file must change them. Tuples: it
            # calls the generator once for each item of a list.
            gen_kwargs={
                "paths": tuple(str(path.resolve()) for path in paths),
                "stamps": tuple((path.stat().st_size, path.stat().st_mtime_ns) for path in paths),
                "text_column": text_column,
                "options": options,
            },
            split="train",
        )
    except datasets.exceptions.DatasetGenerationError as error:
        # What a reader says of its file is the message; `datasets` wraps it in one that names nothing.
        raise error.__cause__ if isinstance(error.__cause__, ValueError) else error from None
    bad_rows = BadRows(*json.loads(dataset[-1][_MARK]))
    dataset = dataset.select(range(len(dataset) - 1)).select_columns([text_column])
    if len(dataset) == 0:
        skipped = f"; {bad_rows.count} rows were skipped as bad (the first: {bad_rows})" if bad_rows.count else ""
        raise ValueError(f"The corpus is empty: there is no record in {', '.join(map(str, paths))}{skipped}.")
    return dataset, bad_rows


def _rows(paths, stamps, text_column, options) -> Iterator[dict]:
    """A row for each record; then one that keeps, in the cache of `datasets`, what was skipped."""
    bad_rows = BadRows()
    for path in paths:
        for text in readers.read(Path(path), text_column, options, bad_rows):
            yield {text_column: replace_surrogates(text), _MARK: None}
    yield {text_column: None, _MARK: json.dumps([bad_rows.count, bad_rows.first])}


def _require_text(columns: list[str], kind, text_column: str, name: str) -> None:
    """Refuse a dataset without the column, or whose column is of another kind."""
    if text_column not in columns:
        raise ValueError(
            f"{name} has no column {text_column!r}; its columns are {', '.join(columns)}. "
            "Say which one holds the text (text_column)."
        )
    if getattr(kind, "dtype", None) not in ("string", "large_string"):
        raise ValueError(f"Column {text_column!r} of {name} holds {getattr(kind, 'dtype', kind)}, not text.")


def _only_text(dataset: Dataset, text_column: str, name: str, bad_rows: BadRows) -> Dataset:
    """The one column, renamed to `text`, without the rows that hold no text; the log says how many were skipped."""
    _require_text(dataset.column_names, dataset.features.get(text_column), text_column, name)
    dataset = dataset.select_columns([text_column])
    if text_column != "text":
        dataset = dataset.rename_column(text_column, "text")

    column = dataset.with_format("arrow")
    missing, blank = [], []
    for start in range(0, len(dataset), 10_000):
        texts = column[start : start + 10_000]["text"]
        missing.append(pc.is_null(texts))
        blank.append(pc.equal(pc.utf8_trim_whitespace(texts), pa.scalar("", texts.type)))
    missing = np.concatenate([np.asarray(part) for part in missing]) if missing else np.zeros(0, bool)
    blank = np.concatenate([np.asarray(part.fill_null(False)) for part in blank]) if blank else missing
    keep = np.flatnonzero(~(missing | blank))
    report_rows(name, len(keep), int(blank.sum()), int(missing.sum()), bad_rows.count, str(bad_rows))
    return dataset.select(keep) if len(keep) < len(dataset) else dataset
