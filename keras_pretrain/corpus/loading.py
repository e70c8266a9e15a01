"""A corpus from wherever it lies: files, a folder, a glob, a `datasets` object or the Hub → documents."""

import glob
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict

from keras_pretrain.corpus import readers

logger = logging.getLogger(__name__)

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
_SURROGATES = re.compile("[\ud800-\udfff]")


def load_corpus(
    source,
    *,
    text_column: str = "text",
    validation_fraction: float = 0.1,
    seed: int = 42,
    sample_by: str = "paragraph",
) -> DatasetDict:
    """Load documents and split some off for validation.

    Args:
      source: a file (`.txt`, `.csv`, `.tsv`, `.json`, `.jsonl`, each also with `.gz`, or `.parquet`), a folder or a
        glob of such files, a `Dataset`, a `DatasetDict`, or the name of a dataset on the Hub. (For a Hub dataset with
        configurations, call `datasets.load_dataset` and give what it returns.)
      text_column: the column that holds the text; `.txt` files have none and ignore it.
      validation_fraction: share of the documents that become `validation`, drawn by `seed`. Ignored where the source
        has a `validation` (or `test`) split of its own; 0 for none.
      seed: of the draw.
      sample_by: what a document is in a `.txt` file: `"paragraph"`, a block between blank lines, or `"line"`.

    Returns:
      A `DatasetDict` with `train` and `validation`, each with the one column `text` (str). Rows that were empty or
      not text are left out, and a line in the log says how many.

    Raises:
      FileNotFoundError: no such file, folder or match, and no such dataset on the Hub.
      ValueError: no such column (with those there are), a file that is not UTF-8 (with the byte's position), that
        cannot be parsed or is of an unknown kind, a corpus without text, a fraction outside [0, 1).
    """
    if not 0 <= validation_fraction < 1:
        raise ValueError(f"validation_fraction must be at least 0 and below 1, not {validation_fraction}.")
    if sample_by not in ("paragraph", "line"):
        raise ValueError(f"sample_by must be 'paragraph' or 'line', not {sample_by!r}.")
    splits = find_source(source)
    if isinstance(splits, list):
        splits = {"train": _read_files(splits, text_column, sample_by)}
    name = source if isinstance(source, (str, os.PathLike)) else type(source).__name__
    splits = {split: _only_text(dataset, text_column, f"{name} ({split})") for split, dataset in splits.items()}

    validation = splits.get("validation", splits.get("test"))
    if validation is not None or validation_fraction == 0:
        corpus = DatasetDict(train=splits["train"])
        if validation is not None:
            corpus["validation"] = validation
        return corpus
    return _split(splits["train"], validation_fraction, seed)


def _split(documents: Dataset, validation_fraction: float, seed: int) -> DatasetDict:
    if len(documents) < 2:
        raise ValueError(
            "The corpus has one document, and validation needs another. Give more documents (in .txt files a blank "
            "line separates them; sample_by='line' takes each line for one), or validation_fraction=0."
        )
    fewest = 2 if len(documents) >= 4 else 1  # next-sentence prediction needs two
    count = min(max(fewest, round(validation_fraction * len(documents))), len(documents) - 1)
    parts = documents.train_test_split(test_size=count, seed=seed)
    return DatasetDict(train=parts["train"], validation=parts["test"])


def find_source(source) -> list[Path] | dict[str, Dataset]:
    """What `source` is: files, or datasets by split, one of them `train`.

    Raises:
      FileNotFoundError: no such file, folder or match, and no such dataset on the Hub.
      ValueError: something else, or no split `train`.
    """
    if isinstance(source, Dataset):
        return {"train": source}
    if isinstance(source, dict):  # a DatasetDict is one
        if "train" not in source:
            raise ValueError(f"The corpus needs a split named 'train'; this one has {sorted(source)}.")
        return dict(source)
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
        found = sorted(file for file in path.rglob("*") if file.is_file() and readers.is_known(file))
        if not found:
            raise FileNotFoundError(f"The folder {source} holds no file that can be read ({readers.KNOWN}).")
        return found
    if glob.has_magic(source):
        found = sorted(Path(match) for match in glob.glob(source, recursive=True) if os.path.isfile(match))
        if not found:
            raise FileNotFoundError(f"No file matches {source}.")
        return found
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


def _from_hub(name: str) -> dict[str, Dataset]:
    try:
        return dict(datasets.load_dataset(name))
    except (datasets.exceptions.DatasetNotFoundError, ConnectionError, FileNotFoundError) as error:
        raise FileNotFoundError(
            f"There is no file or folder {name} (looked from {os.getcwd()}), and no dataset of that name could be had "
            f"from the Hub: {error}"
        ) from error


def _read_files(paths: list[Path], text_column: str, sample_by: str) -> Dataset:
    for path in paths:
        readers.check(path, text_column)
    if not any(True for path in paths for _ in readers.read(path, text_column, sample_by)):
        raise ValueError(f"The corpus is empty: there is no record in {', '.join(map(str, paths))}.")
    try:
        return Dataset.from_generator(
            _rows,
            features=datasets.Features({text_column: datasets.Value("string")}),
            # `datasets` keeps what a generator gave under a hash of these: a changed file must change them.
            gen_kwargs={
                "paths": [str(path.resolve()) for path in paths],
                "stamps": [(path.stat().st_size, path.stat().st_mtime_ns) for path in paths],
                "text_column": text_column,
                "sample_by": sample_by,
            },
            split="train",
        )
    except datasets.exceptions.DatasetGenerationError as error:
        # What a reader says of its file is the message; `datasets` wraps it in one that names nothing.
        raise error.__cause__ if isinstance(error.__cause__, ValueError) else error from None


def _rows(paths, stamps, text_column, sample_by) -> Iterator[dict]:
    for path in paths:
        for text in readers.read(Path(path), text_column, sample_by):
            yield {text_column: replace_surrogates(text)}


def replace_surrogates(text) -> str | None:
    """Half of an emoji, as JSON can hold it (\\ud83d), is no character, and Arrow takes no text that has one.

    Returns:
      The text without such halves; `None` for what is not text.
    """
    return _SURROGATES.sub("\ufffd", text) if isinstance(text, str) else None


def _only_text(dataset: Dataset, text_column: str, name: str) -> Dataset:
    """The one column, renamed to `text`, without the rows that hold no text."""
    if text_column not in dataset.column_names:
        raise ValueError(
            f"{name} has no column {text_column!r}; its columns are {', '.join(dataset.column_names)}. "
            "Say which one holds the text (text_column, or --text-column in the examples)."
        )
    dataset = dataset.select_columns([text_column])
    kind = dataset.features[text_column]
    if getattr(kind, "dtype", None) not in ("string", "large_string"):
        raise ValueError(f"Column {text_column!r} of {name} holds {getattr(kind, 'dtype', kind)}, not text.")
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
    if len(keep) == 0:
        raise ValueError(f"The corpus is empty: {name} has {len(dataset)} rows and no text in any of them.")
    if len(keep) < len(dataset):
        logger.warning(
            "%s: %d of %d rows skipped: %d empty, %d missing or not text.",
            name, len(dataset) - len(keep), len(dataset), blank.sum(), missing.sum(),
        )  # fmt: skip
        dataset = dataset.select(keep)
    return dataset
