"""`draw_training_curves`: a run as a picture."""

import csv
import os
from pathlib import Path

import tf_keras


class TrainingCurves(tf_keras.callbacks.Callback):
    """Draws the run when it ends, from the file of a `CSVHistory` that stands before it in the list of callbacks.

    Args:
      history: the CSV file.
      picture: the PNG to write.
    """

    def __init__(self, history: str | os.PathLike, picture: str | os.PathLike):
        super().__init__()
        import matplotlib.figure  # noqa: F401  if it is missing, now and not at the end of the run

        self.history, self.picture = Path(history), Path(picture)

    def on_train_end(self, logs=None):
        if self.history.exists():  # not where there was nothing left to train
            draw_training_curves(self.history, self.picture)


def draw_training_curves(history: str | os.PathLike, picture: str | os.PathLike) -> None:
    """Losses, accuracies and the learning rate over the steps of a run, one below the other, as a PNG.

    Validation is drawn broken, in the colour of its training figure.

    Args:
      history: a CSV file as `CSVHistory` writes it.
      picture: where the PNG goes.

    Raises:
      ValueError: a file without a column `step` or without rows.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # needs no display
    from matplotlib.figure import Figure

    columns = _read(Path(history))
    steps = columns.pop("step")
    panels = {title: names for title, names in _panels(columns).items() if names}
    figure = Figure(figsize=(9, 3 * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, names) in zip(
        figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0], panels.items(), strict=True
    ):
        _draw(axes, title, names, columns, steps)
    axes.set_xlabel("steps")
    figure.savefig(picture, format="png", dpi=120)


def _draw(axes, title: str, names: list[str], columns: dict, steps: list[float]) -> None:
    colours = {}
    for name in names:
        colour = colours.setdefault(name.removeprefix("val_"), f"C{len(colours)}")
        points = [point for point in zip(steps, columns[name], strict=True) if point[1] is not None]
        style = {"linestyle": "--" if name.startswith("val_") else "-", "marker": "." if len(points) < 30 else None}
        axes.plot(*zip(*points, strict=True), color=colour, label=name, **style)
    axes.set_ylabel(title)
    axes.grid(alpha=0.3)
    if len(names) > 1:
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def _panels(columns: dict) -> dict[str, list[str]]:
    """Which columns stand in which part of the picture. A total that is the only loss, but for its parts, leads."""
    drawn = [name for name, values in columns.items() if any(value is not None for value in values)]
    shares = ("accuracy", "auc", "precision", "recall", "sampled_original")
    losses = [name for name in drawn if name.endswith("loss")]
    weighted = _is_much_larger(columns, losses)
    return {
        "total loss": [name for name in losses if weighted and name.removeprefix("val_") == "loss"],
        "loss": [name for name in losses if not (weighted and name.removeprefix("val_") == "loss")],
        "accuracy": [name for name in drawn if name.endswith(shares)],
        "learning rate": [name for name in drawn if name == "learning_rate"],
    }


def _is_much_larger(columns: dict, losses: list[str]) -> bool:
    """Whether the total has weights, as ELECTRA's 50, that would press its parts to the ground."""
    parts = [name for name in losses if name not in ("loss", "val_loss") and not name.startswith("val_")]
    if "loss" not in losses or not parts:
        return False
    return columns["loss"][-1] > 1.5 * sum(columns[name][-1] for name in parts)


def _read(path: Path) -> dict[str, list[float | None]]:
    """The columns; `None` where Keras wrote "NA"."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or "step" not in rows[0]:
        raise ValueError(f"{path} has no rows with a column 'step': give a file that CSVHistory wrote.")
    names = [name for name in rows[0] if name != "epoch"]
    return {name: [None if row[name] in ("NA", "") else float(row[name]) for row in rows] for name in names}
