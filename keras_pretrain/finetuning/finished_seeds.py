"""`FinishedSeeds` stores the results of finished seeds, so that they are not trained again after a kill."""

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import xxhash

from keras_pretrain.folders import LOCK, OwnedFolder
from keras_pretrain.system import lock
from keras_pretrain.training.history import CSVHistory

logger = logging.getLogger(__name__)

_RESULTS, _WEIGHTS, _HISTORY = "finetuning.json", "best.npz", "history-seed-{}.csv"
_ADDED = {"token_dropout": 0.0}  # settings that results of older versions lack, with the value that these versions had
_CHECKSUMS = {
    "train": "the training examples differ",
    "validation": "the validation examples differ",
    "weights": "the checkpoint's weights differ",
}


class OtherSettings(ValueError):
    """A directory holds seeds that were trained with other settings. `found` names it and the settings."""

    def __init__(self, found: str) -> None:
        self.found = found
        super().__init__(
            f"{found} Choose another directory, or pass resume=False, which deletes the results of fine-tuning there."
        )


class FinishedSeeds:
    """The results of the finished seeds, and the weights of one seed: in memory, and on disk if there is a folder.

    `settings` is a flat dictionary of JSON values with everything that determines the results, except the seed.

    Attributes:
      results: `{seed: {"metrics": ..., "history": ...}}`.
      weights_seed: the seed whose weights are kept.
    """

    def __init__(self, folder: OwnedFolder | None, settings: dict):
        self.results: dict[int, dict] = {}
        self.weights_seed: int | None = None
        self._weights: list[np.ndarray] | None = None
        self._folder = folder
        self._settings = json.loads(json.dumps(settings, default=float))

    @classmethod
    @contextlib.contextmanager
    def open(
        cls, directory: str | os.PathLike[str] | None, settings: dict, *, resume: bool
    ) -> Iterator["FinishedSeeds"]:
        """Open a directory, which is locked until the block ends. With `None`, results are kept only in memory.

        Args:
          resume: `False` deletes the results that fine-tuning stored there.

        Raises:
          OtherSettings: the directory holds results of other settings.
          FileExistsError: a file that fine-tuning did not write has the name of a file that it writes.
          OSError: the directory cannot be written to, or (`BlockingIOError`) another process is training in it.
        """
        if directory is None:
            yield cls(None, settings)
            return
        folder = OwnedFolder(directory, "finetuning")
        finished, path = cls(folder, settings), folder.path
        path.mkdir(parents=True, exist_ok=True)
        message = f"Another process is training in {path}. Wait for it, or choose another directory."
        with os.fdopen(lock(path / LOCK, message), "w"):
            finished.read(resume)
            yield finished

    @property
    def weights(self) -> list[np.ndarray]:
        """The weights of `weights_seed`, in the order of `model.get_weights()`."""
        if self._weights is None:
            folder = cast(OwnedFolder, self._folder)  # there is one: without a folder, the weights are in memory
            with np.load(folder.path / _WEIGHTS) as file:
                self._weights = [file[f"arr_{i}"] for i in range(len(file.files))]
        return self._weights

    def save(self, seed: int, weights: list[np.ndarray] | None) -> None:
        """Store the results of this seed. If its weights are given, they replace the stored weights."""
        if weights is not None:
            self._weights, self.weights_seed = weights, seed
        if self._folder is None:
            return
        stored = {"settings": self._settings, "weights_seed": self.weights_seed, "results": self.results}
        with self._folder.writing(last=_RESULTS) as stage:
            if weights is not None:
                np.savez(stage / _WEIGHTS, *weights)
            (stage / _RESULTS).write_text(json.dumps(stored, ensure_ascii=False), encoding="utf-8")

    def callbacks(self, seed: int) -> list[CSVHistory]:
        """Return a callback that writes the metrics of each epoch of a seed; `keras-pretrain serve` draws curves from
        them. The list is empty without a folder, or if a file that is not ours has the name of the file to write."""
        if self._folder is None:
            return []
        path = self._folder.path / _HISTORY.format(seed)
        is_own = path.name in self._folder.names() and self._folder.owns(path.name)
        if os.path.lexists(path) and not is_own:
            logger.warning(
                "%s was not written by finetune, or was changed since, and is kept: the epochs of seed %d are not "
                "recorded. Move the file away.", path, seed,
            )  # fmt: skip
            return []
        return [_SeedHistory(path, self._folder)]

    def read(self, resume: bool) -> None:
        """Read the results in the folder. The arguments and errors are those of `open`."""
        if self._folder is None:
            return
        folder, path = self._folder, self._folder.path
        with folder.staging():  # completes the writes of a killed process, and fails if the folder is not writable
            pass
        if not resume:
            folder.delete(folder.names())
        for name in (_RESULTS, _WEIGHTS):
            if os.path.lexists(path / name) and not folder.owns(name):
                raise FileExistsError(
                    f"{path / name} was not written by finetune, or was changed since. Choose another directory, or "
                    "move the file away."
                )
        if not (path / _RESULTS).exists():
            return
        stored = json.loads((path / _RESULTS).read_text(encoding="utf-8"))
        theirs, ours = _ADDED | stored["settings"], self._settings
        differing = [
            _CHECKSUMS.get(name) or f"{name} is {ours.get(name)} and was {theirs.get(name)}"
            for name in sorted(theirs.keys() | ours.keys())
            if theirs.get(name) != ours.get(name)
        ]
        if differing:
            raise OtherSettings(f"{path} holds seeds that were trained with other settings: {'; '.join(differing)}.")
        self.results = {int(seed): result for seed, result in stored["results"].items()}
        self.weights_seed = stored["weights_seed"] if (path / _WEIGHTS).exists() else None


def stored_settings(directory: str | os.PathLike[str]) -> dict:
    """The settings that the finished seeds in a directory were trained with; empty if there are none."""
    folder = OwnedFolder(directory, "finetuning")
    if not folder.owns(_RESULTS):
        return {}
    return json.loads((folder.path / _RESULTS).read_text(encoding="utf-8"))["settings"]


def checksum(*arrays: np.ndarray) -> str:
    """A checksum of the content of arrays, in this order."""
    digest = xxhash.xxh3_128()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


class _SeedHistory(CSVHistory):
    """Records its file as a file of fine-tuning, so that a pretraining run in this folder does not replace it."""

    def __init__(self, path: Path, folder: OwnedFolder) -> None:
        super().__init__(path)
        self._folder = folder
