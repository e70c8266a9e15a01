"""Labelled examples from wherever they lie: read, split reproducibly, and refused where they are not sound."""

import logging
import math
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import datasets
import numpy as np
from datasets import Dataset, DatasetDict

from keras_pretrain.corpus import readers
from keras_pretrain.corpus.loading import replace_surrogates
from keras_pretrain.corpus.readers import BadRows, ReadingOptions

logger = logging.getLogger(__name__)


def load_examples(
    source,
    *,
    validation=0.1,
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
    """Load labelled examples and split some off for validation.

    Args:
      source: a file (`.csv`, `.tsv`, `.json`, `.jsonl`, each also with `.gz`, or `.parquet`), a `Dataset`, or a
        `DatasetDict` with `train` and perhaps `validation`.
      validation: the same again, or the share of the examples that becomes `validation`, drawn by `seed`: of each
        class the same share; with a `group_column`, of the groups. Without effect where the source has a `validation`.
      text_column, pair_column, label_column: which columns hold the text, the second text of a pair, and the label.
      group_column: examples that have the same value here (near-duplicates, texts of one author) are never divided
        between training and validation.
      keep_labels: examples with other labels are left out, and the log says how many.
      regression: labels are numbers to be predicted, not classes.
      seed: of the draw.
      encoding, dialect, on_bad_rows: how files are read, as in `load_corpus`. `.tsv` files are read without quoting;
        with `on_bad_rows="skip"`, rows that cannot be read are left out, and the log says how many.

    Returns:
      A `DatasetDict` with `train` and `validation`, columns `text` (str), `pair` (str, where there are pairs) and
      `label` (str; float for regression).

    Raises:
      FileNotFoundError: no such file.
      ValueError: rows that cannot be read, a missing column, an empty text, a missing label, numbers with a fraction
        for classes or classes for regression, one class only, a class of validation that training does not have, a
        class or group too small to be split, an option with a value that is not allowed. Of a file, the message names
        the line.
    """
    columns = {"text": text_column, "pair": pair_column, "label": label_column, "group": group_column}
    columns = {name: column for name, column in columns.items() if column is not None}
    parts = dict(source) if isinstance(source, dict) else {"train": source}
    if "train" not in parts:
        raise ValueError(f"The examples need a split named 'train'; these have {sorted(parts)}.")
    parts = {name: parts[name] for name in ("train", "validation") if name in parts}
    if "validation" not in parts and not isinstance(validation, (int, float)):
        parts["validation"] = validation
    options = ReadingOptions(encoding=encoding, dialect=dialect, on_bad_rows=on_bad_rows)
    parts = {name: _read(part, columns, name, keep_labels, regression, options) for name, part in parts.items()}
    if "validation" not in parts:
        check_examples(parts["train"], regression=regression)
        train, held_out = _split(parts["train"], validation, regression, seed)
        parts = {"train": parts["train"].select(train), "validation": parts["train"].select(held_out)}
    parts = {
        name: part.remove_columns([c for c in ("group",) if c in part.column_names]) for name, part in parts.items()
    }
    check_examples(parts["train"], parts["validation"], regression=regression)
    return DatasetDict(parts)


def check_examples(train: Dataset, validation: Dataset | None = None, *, regression: bool = False) -> list[str]:
    """Refuse, before training, examples that nothing can be learned from or judged by.

    Args:
      train, validation: columns `text`, `label`, and `pair` where there are pairs.

    Returns:
      The classes, whole numbers in their order, others sorted; `["value"]` for regression.

    Raises:
      ValueError: as for `load_examples`.
    """
    parts = {"train": train} | ({} if validation is None else {"validation": validation})
    for name, part in parts.items():
        missing = [column for column in ("text", "label") if column not in part.column_names]
        if missing:
            raise ValueError(f"{name} has no column {missing[0]!r}; its columns are {', '.join(part.column_names)}.")
        if len(part) == 0:
            raise ValueError(f"There are no examples in {name}.")
        _check_texts(part, name)
    if validation is not None and ("pair" in train.column_names) != ("pair" in validation.column_names):
        raise ValueError("train and validation must both have pairs, or neither.")
    labels = {name: _labels(part, name, regression) for name, part in parts.items()}
    if regression:
        if np.ptp(labels["train"]) == 0:
            raise ValueError(f"All labels of train are {labels['train'][0]}: there is nothing to learn.")
        return ["value"]
    classes = sort_labels(set(labels["train"]))
    if len(classes) < 2:
        raise ValueError(f"All examples of train have the label {classes[0]!r}: a classifier needs two at least.")
    unseen = sort_labels(set(labels.get("validation", ())) - set(classes))
    if unseen:
        raise ValueError(
            f"validation has labels that train has not: {', '.join(map(repr, unseen))} (train has "
            f"{', '.join(map(repr, classes))}). Put examples of them into train, or leave them out (keep_labels)."
        )
    if validation is not None:
        _warn_of_repeats(train, validation)
    return classes


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Whole numbers in their order, before all others in alphabetical order."""
    return sorted(labels, key=lambda label: (not _is_whole(label), int(label) if _is_whole(label) else 0, label))


def _read(source, columns: dict, name: str, keep_labels, regression: bool, options: ReadingOptions) -> Dataset:
    if isinstance(source, Dataset):
        values, where = _values_of_dataset(source, columns, name), name
        places = [f"{name}, example {i}" for i in range(1, len(source) + 1)]
    elif isinstance(source, (str, os.PathLike)):
        values, places = _values_of_file(Path(source), columns, options)
        where = str(source)
    else:
        raise ValueError(f"Examples are a file, a Dataset or a DatasetDict, not a {type(source).__name__}.")
    if keep_labels is not None:
        rows = _rows_with(values["label"], {str(label) for label in keep_labels}, where)
        values = {target: [column[i] for i in rows] for target, column in values.items()}
        places = [places[i] for i in rows]
    if not places:
        raise ValueError(f"There are no examples in {where}.")
    convert = _to_number if regression else _to_class
    values["label"] = [convert(label, place) for label, place in zip(values["label"], places, strict=True)]
    for target in ("text", "pair"):
        wrong = next((value for value in values.get(target, ()) if not isinstance(value, (str, type(None)))), None)
        if wrong is not None:
            raise ValueError(f"Column {columns[target]!r} of {where} holds {wrong!r}, not text.")
        if target in values and not isinstance(source, Dataset):
            _refuse_empty(values[target], target, where, places)
    if "group" in values:
        values["group"] = [str(group) for group in values["group"]]
    return Dataset.from_dict(values)


def _values_of_dataset(dataset: Dataset, columns: dict, name: str) -> dict[str, list]:
    absent = [column for column in columns.values() if column not in dataset.column_names]
    if absent:
        raise ValueError(f"{name} has no column {absent[0]!r}; its columns are {', '.join(dataset.column_names)}.")
    values = {target: dataset[column][:] for target, column in columns.items()}
    kind = dataset.features[columns["label"]]
    if isinstance(kind, datasets.ClassLabel):
        values["label"] = [None if label is None else kind.int2str(label) for label in values["label"]]
    return values


def _values_of_file(path: Path, columns: dict, options: ReadingOptions) -> tuple[dict[str, list], list[str]]:
    """The values of each column, and the place of each example; the log says how many rows were skipped."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path} (looked from {os.getcwd()}).")
    for holds, column in columns.items():
        readers.check_columns(path, column, options, holds)
    values, places, bad_rows = {target: [] for target in columns}, [], BadRows()
    for place, row in readers.records(path, list(columns.values()), options, bad_rows):
        places.append(f"{path}, {place}")
        for target, value in zip(columns, row, strict=True):
            values[target].append(replace_surrogates(value) if isinstance(value, str) else value)
    if bad_rows.count:
        logger.warning(
            "%s: %d of %d rows skipped: %d bad (the first: %s).",
            path, bad_rows.count, len(places) + bad_rows.count, bad_rows.count, bad_rows,
        )  # fmt: skip
    return values, places


def _rows_with(labels: list, wanted: set[str], where: str) -> list[int]:
    """The places of the wanted labels; the log says how many others there are."""
    rows = [i for i, label in enumerate(labels) if str(label) in wanted]
    others = Counter(str(label) for label in labels if str(label) not in wanted)
    absent = wanted - {str(labels[i]) for i in rows}
    if absent:
        raise ValueError(f"{where} has no example with the label {sort_labels(absent)[0]!r}; it has {sorted(others)}.")
    if others:
        logger.info("%s: %d examples with other labels left out (%s).", where, sum(others.values()), _tell(others))
    return rows


def _to_class(label, where: str) -> str:
    if label is None or (isinstance(label, float) and math.isnan(label)) or str(label).strip() == "":
        raise ValueError(f"{where}, has no label.")
    if isinstance(label, float) or (isinstance(label, str) and _has_fraction(label)):
        raise ValueError(
            f"{where}, has the label {label!r}, a number with a fraction: for classification labels are names or whole "
            "numbers. To predict numbers, give regression=True (--regression in the examples)."
        )
    if not isinstance(label, (str, int)):
        raise ValueError(f"{where}, has the label {label!r}; a label is a name or a number.")
    return str(label)


def _to_number(label, where: str) -> float:
    try:
        number = float(label)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{where}, has the label {label!r}; for regression labels are numbers.")
    return number


def _check_texts(part: Dataset, name: str) -> None:
    for column in ("text", "pair"):
        if column not in part.column_names:
            continue
        texts = part[column][:]
        _refuse_empty(texts, column, name, [f"example {i}" for i in range(1, len(texts) + 1)])


def _refuse_empty(texts: list[str | None], column: str, name: str, places: list[str]) -> None:
    empty = [place for place, text in zip(places, texts, strict=True) if text is None or not text.strip()]
    if empty:
        raise ValueError(
            f"{len(empty)} of {len(texts)} examples of {name} have an empty {column} (the first: {empty[0]}). Leave "
            "them out, or say which column holds the text."
        )


def _labels(part: Dataset, name: str, regression: bool) -> list:
    labels = part["label"][:]
    convert = _to_number if regression else _to_class
    return [convert(label, f"{name}, example {i}") for i, label in enumerate(labels, start=1)]


def _split(examples: Dataset, fraction: float, regression: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit

    if not 0 < fraction < 1:
        raise ValueError(f"The share of validation must be above 0 and below 1, not {fraction}.")
    labels, groups = examples["label"][:], None
    if "group" in examples.column_names:
        groups = examples["group"][:]
        if len(set(groups)) < 2:
            raise ValueError(f"All examples are of the group {groups[0]!r}: validation needs another one.")
        splitter = GroupShuffleSplit
    elif regression:
        splitter = ShuffleSplit
    else:
        splitter = StratifiedShuffleSplit
        rare = [label for label, count in Counter(labels).items() if count < 2]
        if rare:
            raise ValueError(f"The label {rare[0]!r} has one example, and validation needs another. Leave it out.")
        classes = len(set(labels))
        if classes > min(fraction, 1 - fraction) * len(labels):
            raise ValueError(f"{len(labels)} examples of {classes} classes are too few to split off {fraction:.0%}.")
    if len(examples) < 2:
        raise ValueError("There is one example, and validation needs another.")
    split = splitter(n_splits=1, test_size=fraction, random_state=seed).split(np.zeros(len(labels)), labels, groups)
    train, held_out = next(split)
    return np.sort(train), np.sort(held_out)


def _warn_of_repeats(train: Dataset, validation: Dataset) -> None:
    columns = [column for column in ("text", "pair") if column in train.column_names]
    seen = set(zip(*(train[column][:] for column in columns), strict=True))
    repeats = sum(row in seen for row in zip(*(validation[column][:] for column in columns), strict=True))
    if repeats:
        logger.warning(
            "%d of %d examples of validation stand in train, too: the figures will flatter the model. A group_column "
            "keeps such examples together.", repeats, len(validation),
        )  # fmt: skip


def _tell(counts: Counter) -> str:
    return ", ".join(f"{label} {count}" for label, count in counts.most_common(5))


def _is_whole(label: str) -> bool:
    return label.isascii() and label.removeprefix("-").isdigit()


def _has_fraction(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return not _is_whole(label.strip()) and any(character.isdigit() for character in label)
