"""`TrainingCurves`: draws the metrics of a run."""

import csv
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tf_keras

from keras_pretrain.folders import OwnedFolder
from keras_pretrain.system import require_packages

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from keras_pretrain.training.reference import Reference

logger = logging.getLogger(__name__)


class TrainingCurves(tf_keras.callbacks.Callback):
    """Draws the curves of a run when it ends. It reads the file of a `CSVHistory`, which must be earlier in the list of
    callbacks.

    Args:
      history: the CSV file.
      picture: the PNG file to write.
      overwrite: replace a picture that this callback did not write, or that has changed since.
      reference: curves of other runs to draw behind those of this one.

    Raises:
      FileExistsError: at the start of `fit`, if the file exists, this callback does not own it, and `overwrite` is off.
    """

    def __init__(
        self,
        history: str | os.PathLike[str],
        picture: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        reference: "Reference | None" = None,
    ) -> None:
        super().__init__()
        self.reference = reference
        require_packages("a picture of the curves", ("matplotlib",), "plots")
        self.history, self.picture = Path(history).expanduser(), Path(picture).expanduser()
        self._folder = OwnedFolder(self.picture.parent, "curves", overwrite=overwrite)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._folder.require_replaceable([self.picture.name])

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        if not self.history.exists():  # there was nothing left to train
            return
        try:
            with self._folder.writing() as stage:
                draw_training_curves(self.history, stage / self.picture.name, reference=self.reference)
        except OSError as error:  # must not prevent the steps after the training, such as saving
            logger.warning("The curves could not be drawn: %s", error)


def draw_training_curves(
    history: str | os.PathLike[str], picture: str | os.PathLike[str], *, reference: "Reference | None" = None
) -> None:
    """Draw losses, accuracies and the learning rate over the steps of a run, one below the other, as a PNG.

    Validation metrics are dashed, in the colour of the training metric of the same name.

    Args:
      history: a CSV file as `CSVHistory` writes it.
      picture: the PNG file to write; an existing file is replaced.
      reference: curves of other runs; they are drawn as broad, pale lines behind those of the same names.

    Raises:
      ValueError: a file without a column `step` or without rows.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # needs no display
    from matplotlib.figure import Figure

    columns = read_history(history)
    steps = columns.pop("step")
    panels = panels_of(columns)
    figure = Figure(figsize=(9, 2.5 * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, (title, names) in zip(rows, panels.items(), strict=True):
        _draw(axes, title, names, columns, steps, reference)
    rows[-1].set_xlabel("steps")
    figure.savefig(picture, format="png", dpi=120)


def _draw(
    axes: "Axes",
    title: str,
    names: list[str],
    columns: dict,
    steps: list[float | None],
    reference: "Reference | None",
) -> None:
    colours: dict[str, str] = {}
    last = max(step or 0 for step in steps)
    for name in names:
        colour = colours.setdefault(name.removeprefix("val_"), f"C{len(colours)}")
        points = [point for point in zip(steps, columns[name], strict=True) if point[1] is not None]
        style: dict[str, Any] = {
            "linestyle": "--" if name.startswith("val_") else "-",
            "marker": "." if len(points) < 30 else None,
        }
        known = reference.curves.get(name, []) if reference else []
        if reference and (behind := [point for point in known if point[0] <= last]):
            broad: dict[str, Any] = {"color": colour, "alpha": 0.25, "linewidth": 5}
            axes.plot(*zip(*behind, strict=True), label=f"{name}, {reference.name}", **broad)
        axes.plot(*zip(*points, strict=True), color=colour, label=name, **style)
    axes.set_ylabel(title)
    axes.grid(alpha=0.3)
    axes.set_xlim(left=0)
    if len(names) > 1:
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def panels_of(columns: Mapping[str, Sequence[object]]) -> dict[str, list[str]]:
    """The names of the columns in each panel of the picture, by title. Each loss has its own panel, because the scales
    of losses differ."""
    drawn = [name for name, values in columns.items() if any(value is not None for value in values)]
    shares = ("accuracy", "auc", "precision", "recall", "sampled_original")
    panels: dict[str, list[str]] = {}
    for name in sorted(drawn, key=lambda name: name.removeprefix("val_") != "loss"):  # the total loss first
        if name.endswith("loss"):
            panels.setdefault(name.removeprefix("val_"), []).append(name)
    panels["accuracy"] = [name for name in drawn if name.endswith(shares)]
    panels["learning rate"] = [name for name in drawn if name == "learning_rate"]
    return {title: names for title, names in panels.items() if names}


def read_history(history: str | os.PathLike[str]) -> dict[str, list[float | None]]:
    """Read the columns of a `CSVHistory` file except `epoch`. A value is `None` where the file has "NA".

    Raises:
      ValueError: a file without a column `step` or without rows.
    """
    with Path(history).open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or "step" not in rows[0]:
        raise ValueError(f"{history} has no rows with a column 'step': give a file that CSVHistory wrote.")
    names = [name for name in rows[0] if name != "epoch"]
    return {name: [None if row[name] in ("NA", "") else float(row[name]) for row in rows] for name in names}
