"""Reads labelled examples from files or datasets, checks them, and splits them reproducibly into training and
validation."""

import contextlib
import logging
import math
import os
import re
from collections import Counter
from collections.abc import Iterable
from itertools import compress
from pathlib import Path
from typing import Any, cast

import datasets
import numpy as np
from datasets import Dataset, DatasetDict

from keras_pretrain.corpus import readers
from keras_pretrain.corpus.readers import BadRows, ReadingOptions, replace_surrogates
from keras_pretrain.system import require_packages

logger = logging.getLogger(__name__)

_NUMBER = re.compile(r"[+-]?(\d[\d_]*\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def load_examples(
    source: str | os.PathLike[str] | Dataset | DatasetDict,
    *,
    validation: float | str | os.PathLike[str] | Dataset = 0.1,
    text_column: str = "text",
    pair_column: str | None = None,
    label_column: str = "label",
    group_column: str | None = None,
    keep_labels: Iterable[str] | None = None,
    regression: bool = False,
    seed: int = 42,
    encoding: str = "utf-8",
    dialect: str | dict | None = None,
    on_bad_rows: str = "error",
) -> DatasetDict:
    """Load labelled examples, and split off a part of them for validation.

    Args:
      source: a file (`.csv`, `.tsv`, `.json`, `.jsonl`, each also with `.gz`, or `.parquet`), a `Dataset`, or a
        `DatasetDict` with `train` and perhaps `validation`.
      validation: the validation examples, as a file or a `Dataset`; or the share of `source` to use for validation,
        drawn with `seed`. The share is the same in each class; with a `group_column`, it is a share of the groups.
        Ignored if the source has a `validation`.
      text_column, pair_column, label_column: the columns of the text, the second text of a pair, and the label.
      group_column: a column of groups, such as near-duplicates or texts of one author. Examples of a group are all in
        training or all in validation.
      keep_labels: the labels to keep; examples with other labels are left out, and the log says how many.
      regression: labels are numbers to predict, not classes.
      seed: the seed for the split.
      encoding, dialect, on_bad_rows: how files are read, as in `load_corpus`. `.tsv` files are read without quoting;
        with `on_bad_rows="skip"`, rows that cannot be read are left out, and the log says how many.

    Returns:
      A `DatasetDict` with `train` and `validation`, columns `text` (str), `pair` (str, if there are pairs) and `label`
      (str; float for regression).

    Raises:
      FileNotFoundError: no such file.
      ValueError: rows that cannot be read, a missing column, an empty text, a missing label, class labels that are
        numbers with a fraction, labels for regression that are not numbers, only one class, a class in validation that
        is not in training, a class or group too small to be split, an option with a value that is not allowed. For a
        file, the message names the line.
    """
    columns = {"text": text_column, "pair": pair_column, "label": label_column, "group": group_column}
    columns = {name: column for name, column in columns.items() if column is not None}
    parts = dict(source) if isinstance(source, dict) else {"train": source}
    if "train" not in parts:
        raise ValueError(f"The examples need a split named 'train'; these have {sorted(parts)}.")
    if not isinstance(validation, (int, float)):
        parts.setdefault("validation", validation)
    options = ReadingOptions(encoding=encoding, dialect=dialect, on_bad_rows=on_bad_rows)
    parts = {
        name: _read(parts[name], columns, name, keep_labels, regression, options)
        for name in ("train", "validation")
        if name in parts
    }
    if "validation" not in parts:
        check_examples(parts["train"], regression=regression)
        train, held_out = _split(parts["train"], cast(float, validation), regression, seed)
        parts = {"train": parts["train"].select(train), "validation": parts["train"].select(held_out)}
    if group_column is not None:
        parts = {name: part.remove_columns("group") for name, part in parts.items()}
    check_examples(**parts, regression=regression)
    return DatasetDict(parts)


def check_examples(train: Dataset, validation: Dataset | None = None, *, regression: bool = False) -> list[str]:
    """Raise an error, before training, for examples on which a model cannot be trained or evaluated.

    Args:
      train, validation: datasets with columns `text`, `label`, and `pair` if there are pairs.

    Returns:
      The classes: whole numbers in numerical order, others in alphabetical order; `["value"]` for regression.

    Raises:
      ValueError: as for `load_examples`.
    """
    values = {}
    for name, part in {"train": train, "validation": validation}.items():
        if part is not None:
            names = ("text", "label", "pair") if "pair" in part.column_names else ("text", "label")
            columns = dict(zip(names, names, strict=True))
            values[name] = _check(_columns_of_dataset(part, columns, name), name, regression, columns)
    if len({"pair" in each for each in values.values()}) > 1:
        raise ValueError("train and validation must both have pairs, or neither.")
    labels = values["train"]["label"]
    if regression:
        if np.ptp(labels) == 0:
            raise ValueError(f"All labels of train are {labels[0]}: there is nothing to learn.")
        return ["value"]
    classes = sort_labels(set(labels))
    if len(classes) < 2:
        raise ValueError(f"All examples of train have the label {classes[0]!r}: a classifier needs at least two.")
    if validation is not None:
        unseen = sort_labels(set(values["validation"]["label"]) - set(classes))
        if unseen:
            raise ValueError(
                f"validation has labels that are not in train: {', '.join(map(repr, unseen))} (train has "
                f"{', '.join(map(repr, classes))}). Add examples of them to train, or leave them out (keep_labels)."
            )
        _warn_of_repeats(**values)
    return classes


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Sort whole numbers in numerical order, then all others in alphabetical order."""
    return sorted(labels, key=lambda label: (not _is_whole(label), int(label) if _is_whole(label) else 0, label))


def _read(
    source: object,
    columns: dict,
    name: str,
    keep_labels: Iterable[str] | None,
    regression: bool,
    options: ReadingOptions,
) -> Dataset:
    if isinstance(source, Dataset):
        values = _columns_of_dataset(source, columns, name)
        kind = source.features[columns["label"]]
        if isinstance(kind, datasets.ClassLabel):
            values["label"] = [None if label is None else kind.int2str(label) for label in values["label"]]
    elif isinstance(source, (str, os.PathLike)):
        name, values = str(source), _columns_of_file(Path(source), columns, options)
    else:
        raise ValueError(f"Examples are a file, a Dataset or a DatasetDict, not a {type(source).__name__}.")
    if keep_labels is not None:
        is_kept = _has_label(values["label"], set(map(str, keep_labels)), name)
        values = {target: list(compress(column, is_kept)) for target, column in values.items()}
    return Dataset.from_dict(_check(values, name, regression, columns))


def _columns_of_dataset(dataset: Dataset, columns: dict, name: str) -> dict[str, list]:
    """The values of each column. The added column `"place"` says where each example is, for messages."""
    missing = [column for column in columns.values() if column not in dataset.column_names]
    if missing:
        raise ValueError(f"{name} has no column {missing[0]!r}; its columns are {', '.join(dataset.column_names)}.")
    places = [f"example {i}" for i in range(1, len(dataset) + 1)]
    return {target: dataset[column][:] for target, column in columns.items()} | {"place": places}


def _columns_of_file(path: Path, columns: dict, options: ReadingOptions) -> dict[str, list]:
    """Like `_columns_of_dataset`, but for a file; the log says how many rows were skipped."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path} (current folder: {os.getcwd()}).")
    for holds, column in columns.items():
        readers.check_columns(path, column, options, holds)
    bad_rows = BadRows()
    records = list(readers.records(path, list(columns.values()), options, bad_rows))
    if bad_rows.count:
        logger.warning(
            "%s: %d of %d rows skipped: %d bad (the first: %s).",
            path, bad_rows.count, len(records) + bad_rows.count, bad_rows.count, bad_rows,
        )  # fmt: skip
    rows = [[replace_surrogates(value) if isinstance(value, str) else value for value in row] for _, row in records]
    values = {target: [row[i] for row in rows] for i, target in enumerate(columns)}
    return values | {"place": [place for place, _ in records]}


def _has_label(labels: list, wanted: set[str], where: str) -> list[bool]:
    """Whether each example has one of the labels to keep; the log says how many do not."""
    counts = Counter(map(str, labels))
    others = Counter({label: count for label, count in counts.items() if label not in wanted})
    absent = wanted - set(counts)
    if absent:
        raise ValueError(
            f"{where} has no example with the label {sort_labels(absent)[0]!r}; it has {sort_labels(counts)}."
        )
    if others:
        shown = ", ".join(f"{label} {count}" for label, count in others.most_common(5))
        logger.info("%s: %d examples with other labels left out (%s).", where, others.total(), shown)
    return [str(label) in wanted for label in labels]


def _check(values: dict, where: str, regression: bool, columns: dict[str, str]) -> dict:
    """The examples of the file or split `where`, with converted labels. Raises an error for an example without text or
    label."""
    places = values.pop("place")
    if not places:
        raise ValueError(f"There are no examples in {where}.")
    convert = _to_number if regression else _to_class
    labels = [convert(label, f"{where}, {place}") for label, place in zip(values["label"], places, strict=True)]
    for target in ("text", "pair"):
        texts = values.get(target, ())
        wrong = next((text for text in texts if not isinstance(text, (str, type(None)))), None)
        if wrong is not None:
            raise ValueError(f"Column {columns[target]!r} of {where} holds {wrong!r}, not text.")
        empty = [place for text, place in zip(texts, places, strict=False) if not (text or "").strip()]
        if empty:
            raise ValueError(
                f"{len(empty)} of {len(texts)} examples of {where} have an empty {target} (the first: {empty[0]}). "
                "Leave them out, or say which column holds the text."
            )
    groups = {"group": list(map(str, values["group"]))} if "group" in values else {}
    return values | {"label": labels} | groups


def _to_class(label: object, where: str) -> str:
    text = str(label).strip()
    if label is None or label != label or not text:
        raise ValueError(f"{where}, has no label.")
    if isinstance(label, float) or (_NUMBER.fullmatch(text) and not _is_whole(text)):
        raise ValueError(
            f"{where}, has the label {label!r}, a number with a fraction: for classification labels are names or whole "
            "numbers. To predict numbers, give regression=True (--regression in the examples)."
        )
    if not isinstance(label, (str, int)):
        raise ValueError(f"{where}, has the label {label!r}; a label is a name or a number.")
    return str(label)


def _to_number(label: Any, where: str) -> float:
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        if math.isfinite(number := float(label)):
            return number
    raise ValueError(f"{where}, has the label {label!r}; for regression labels are numbers.")


def _is_whole(label: str) -> bool:
    return label.isascii() and label.removeprefix("-").isdigit()


def _split(examples: Dataset, fraction: float, regression: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the split. Returns the indices of the rows for training, and of those for validation."""
    require_packages("splitting off validation", ("scikit-learn",), "finetune", "Or give a file for validation, too.")
    from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit

    if not 0 < fraction < 1:
        raise ValueError(f"The share of validation must be above 0 and below 1, not {fraction}.")
    if len(examples) < 2:
        raise ValueError("There is only one example, and validation needs another one.")
    labels, groups = examples["label"][:], None
    if "group" in examples.column_names:
        splitter, groups = GroupShuffleSplit, examples["group"][:]
        if len(set(groups)) < 2:
            raise ValueError(f"All examples belong to the group {groups[0]!r}, and validation needs another group.")
    elif regression:
        splitter = ShuffleSplit
    else:
        splitter, counts, size = StratifiedShuffleSplit, Counter(labels), len(labels)
        rarest, count = counts.most_common()[-1]
        if count < 2:
            raise ValueError(f"The label {rarest!r} has only one example, and validation needs another. Leave it out.")
        if len(counts) > min(fraction, 1 - fraction) * size:
            raise ValueError(f"{size} examples of {len(counts)} classes are too few to split off {fraction:.0%}.")
    split = splitter(n_splits=1, test_size=fraction, random_state=seed).split(np.zeros(len(labels)), labels, groups)
    train, held_out = next(split)
    return np.sort(train), np.sort(held_out)


def _warn_of_repeats(train: dict, validation: dict) -> None:
    columns = [column for column in ("text", "pair") if column in train]
    rows, seen = (zip(*(part[column] for column in columns), strict=True) for part in (validation, train))
    repeats = sum(map(set(seen).__contains__, rows))
    if repeats:
        logger.warning(
            "%d of %d examples of validation are also in train, so the metrics will be too optimistic. A group_column "
            "keeps such examples together.", repeats, len(validation["text"]),
        )  # fmt: skip
