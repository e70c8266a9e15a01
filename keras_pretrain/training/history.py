"""`CSVHistory`: writes the metrics of each epoch to a CSV file."""

import csv
import logging
import os
from pathlib import Path

import tf_keras

from keras_pretrain.folders import OwnedFolder

logger = logging.getLogger(__name__)


class CSVHistory(tf_keras.callbacks.Callback):
    """Writes a CSV file with a row for each epoch. If a run is resumed, no row is lost or repeated.

    The columns are `epoch`, then the metrics and `step` (the steps done) in alphabetical order; a metric that an epoch
    does not have is "NA", as in Keras' `CSVLogger`. When a run is resumed, the rows of epochs that are trained again
    are replaced. The whole file is written after each epoch, so a killed process never leaves half a row.

    Args:
      path: the path of the file.
      overwrite: replace a file that this callback did not write, or that has changed since.

    Raises:
      FileExistsError: at the start of `fit`, if there is such a file and `overwrite` is off. If someone changes the
        file during the training, or it cannot be written, the log has a warning, and training continues.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        super().__init__()
        self.path = Path(path).expanduser()
        self._folder = OwnedFolder(self.path.parent, "history", overwrite=overwrite)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._folder.require_replaceable([self.path.name])
        self._rows: list[dict] | None = None  # read when the number of the first epoch is known

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self._rows is None:
            self._rows = [row for row in self._read() if int(row["epoch"]) < epoch]

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self._rows is None:
            self._rows = []
        self._rows.append({"epoch": epoch, "step": (epoch + 1) * (self.params["steps"] or 0), **(logs or {})})
        columns = ["epoch", *sorted({name for row in self._rows for name in row} - {"epoch"})]
        try:
            with self._folder.writing() as stage, (stage / self.path.name).open("w", newline="") as file:
                table = csv.DictWriter(file, columns, restval="NA")
                table.writeheader()
                table.writerows(self._rows)
        except OSError as error:  # training continues; the file of the next epoch has this row, too
            logger.warning("The metrics of epoch %d could not be written: %s", epoch + 1, error)

    def _read(self) -> list[dict]:
        try:
            with self.path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            return rows if all(row["epoch"].isdigit() for row in rows) else []
        except (FileNotFoundError, UnicodeDecodeError, KeyError, AttributeError):
            return []  # there is no file, or one that is not a history and may be overwritten
