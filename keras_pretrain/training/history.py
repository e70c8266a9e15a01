"""`CSVHistory` and `TrainingCurves`: what is left of a run to look at, as a table and as a picture."""

import csv
import os
from pathlib import Path

import tf_keras


class CSVHistory(tf_keras.callbacks.CSVLogger):
    """Keras' `CSVLogger`, a row for each epoch, for runs that are taken up again: no row is lost, none comes twice.

    Rows of epochs that are done once more, since the last checkpoint was before their end, are replaced. A second
    column, `step`, has the steps done.

    Args:
      path: of the file.
    """

    def __init__(self, path: str | os.PathLike):
        super().__init__(os.fspath(path), append=True)

    def on_train_begin(self, logs=None):
        self.writer = self.keys = None  # the file is opened when it is known which epoch is the first

    def on_epoch_begin(self, epoch, logs=None):
        if self.writer is None and self.keys is None:
            self._forget_epochs_from(epoch)
            super().on_train_begin()

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, {"step": (epoch + 1) * (self.params["steps"] or 0), **(logs or {})})

    def on_train_end(self, logs=None):
        if self.writer is not None:
            super().on_train_end(logs)

    def _forget_epochs_from(self, epoch: int) -> None:
        path = Path(self.filename)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            return
        with path.open(newline="") as file:
            header, *rows = list(csv.reader(file)) or [[]]
        kept = [row for row in rows if len(row) == len(header) and int(row[0]) < epoch]
        unfinished = path.with_name(f".unfinished-{path.name}")
        with unfinished.open("w", newline="") as file:
            if kept:
                csv.writer(file).writerows([header, *kept])
        os.replace(unfinished, path)
        self.keys = header[1:] if kept else None  # the columns that are there; Keras would order its own
