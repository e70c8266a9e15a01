"""`Reference`: holds the curves of earlier runs with the same settings. `ReferenceWatch` compares a run with them."""

import csv
import logging
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tf_keras

from keras_pretrain.training.curves import read_history

logger = logging.getLogger(__name__)

_SPREAD = "_spread"  # ending of the column with the standard deviation between seeds
_TOLERANCE = 3.0  # number of spreads by which a run may differ


@dataclass(frozen=True)
class Reference:
    """The mean curves of runs that differ only in their seed.

    Attributes:
      name: the name in legends and messages.
      curves: for each metric, the points `(step, mean)`.
      spreads: for each validation metric, the standard deviation between the runs, pooled over all steps; empty if the
        curves come from a single run.
    """

    name: str
    curves: dict[str, list[tuple[float, float]]]
    spreads: dict[str, float]

    def at(self, metric: str, step: int) -> float | None:
        """The value of a metric's curve at a step; `None` if the curve has no point there."""
        return dict(self.curves.get(metric, ())).get(step)


def read_reference(file: str | os.PathLike[str], name: str | None = None) -> Reference:
    """Read a file that `write_reference` wrote.

    Args:
      file: a CSV file.
      name: the name for legends. Default: the file's name without its ending.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a file without a column `step` or without rows.
    """
    columns = read_history(file)
    steps = columns.pop("step")
    curves: dict[str, list[tuple[float, float]]] = {}
    spreads: dict[str, float] = {}
    for column, values in columns.items():
        points = [(step or 0.0, value) for step, value in zip(steps, values, strict=True) if value is not None]
        if column.endswith(_SPREAD) and points:
            spreads[column.removesuffix(_SPREAD)] = statistics.fmean(value**2 for _, value in points) ** 0.5
        elif points:
            curves[column] = points
    return Reference(name or Path(file).stem, curves, spreads)


def write_reference(histories: Sequence[str | os.PathLike[str]], file: str | os.PathLike[str]) -> None:
    """Write the mean curves of several runs, and the standard deviation between them, as a CSV file.

    Args:
      histories: the files of `CSVHistory` of runs that differ only in their seed.
      file: the file to write; an existing file is replaced.

    Raises:
      ValueError: no histories are given, or one differs from the first in its steps, metrics or validated epochs.
    """
    tables = [read_history(history) for history in histories]
    if not tables:
        raise ValueError("histories is empty: give the history.csv of at least one run.")
    first = tables[0]
    for history, table in zip(histories, tables, strict=True):
        if table["step"] != first["step"] or _filled(table) != _filled(first):
            raise ValueError(
                f"{history} has other steps, metrics or validated epochs than {histories[0]}. Give runs of one recipe."
            )
    names = [name for name in sorted(first) if name.endswith(("loss", "accuracy", "auc", "sampled_original"))]
    columns = ["step", *names]
    if len(tables) > 1:
        columns += [name + _SPREAD for name in names if name.startswith("val_")]
    rows = []
    for number, step in enumerate(first["step"]):
        row: dict[str, float | str | None] = {"step": None if step is None else int(step)}
        for name in names:
            values = [value for table in tables if (value := table[name][number]) is not None]
            row[name] = f"{statistics.fmean(values):.5g}" if values else "NA"
            if len(values) > 1:
                row[name + _SPREAD] = f"{statistics.stdev(values):.3g}"
        rows.append(row)
    with Path(file).open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, columns, restval="NA", extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def _filled(table: dict[str, list[float | None]]) -> dict[str, list[bool]]:
    return {name: [value is not None for value in values] for name, values in table.items()}


class ReferenceWatch(tf_keras.callbacks.Callback):
    """Warns if the validation loss of a run differs from the reference by more than three times the standard deviation
    between the seeds of the reference, at two validations in a row. After a warning, it warns again only after a
    validation within this range.

    The standard deviation of few seeds is itself uncertain, so a warning is a reason to look, not a proof.

    Args:
      reference: curves of runs with the same settings and the same corpus.
    """

    def __init__(self, reference: Reference) -> None:
        super().__init__()
        self.reference = reference
        self._outside = 0  # number of successive validations outside the range

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        step, name = (epoch + 1) * (self.params["steps"] or 0), "val_loss"
        value, expected = (logs or {}).get(name), self.reference.at(name, step)
        spread = self.reference.spreads.get(name)
        if value is None or expected is None or not spread:
            return
        self._outside = self._outside + 1 if abs(value - expected) > _TOLERANCE * spread else 0
        if self._outside == 2:
            logger.warning(
                "%s is %.3f at step %s; in the runs of the recipe %s it was %.3f, with a standard deviation of %.3f "
                "between seeds. If your text is the recipe's, compare your versions of the packages with those in "
                "docs/recipes.md.",
                name, value, f"{step:,}", self.reference.name, expected, spread,
            )  # fmt: skip
