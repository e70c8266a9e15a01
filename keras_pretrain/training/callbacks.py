"""The callbacks for `model.fit`, and `for_run`, which returns the callbacks of a run in the right order."""

import os
from collections.abc import Sequence
from pathlib import Path

import tf_keras

from keras_pretrain.system import can_draw
from keras_pretrain.training.checkpointing import Checkpointing
from keras_pretrain.training.curves import TrainingCurves
from keras_pretrain.training.figures import RunFigures
from keras_pretrain.training.history import CSVHistory
from keras_pretrain.training.previews import FillMaskPreview, ReplacedTokensPreview, require_tensorboard
from keras_pretrain.training.progress import Progress
from keras_pretrain.training.reference import Reference
from keras_pretrain.training.uploading import PushToHub

__all__ = [
    "CSVHistory",
    "Checkpointing",
    "FillMaskPreview",
    "Progress",
    "PushToHub",
    "ReplacedTokensPreview",
    "RunFigures",
    "TrainingCurves",
    "for_run",
]


def for_run(
    directory: str | os.PathLike[str],
    others: Sequence[tf_keras.callbacks.Callback] = (),
    *,
    part: str = "",
    checkpoint_every: int = 500,
    resume: bool = True,
    monitor: str | None = None,
    tensorboard: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    is_chief: bool = True,
    reference: Reference | None = None,
) -> list[tf_keras.callbacks.Callback]:
    """Return the callbacks that save and show a run, in the right order: each uses the values that earlier ones add to
    the logs.

        model.fit(train.repeat(), epochs=10, steps_per_epoch=100, callbacks=kp.callbacks.for_run("my_bert"))

    Args:
      directory: the folder of the run. The callbacks write `run/` (checkpoints), `history.csv` and
        `training_curves.png` there.
      others: your own callbacks, such as a preview. They run before the metrics are written and shown. With several
        workers, previews run only on the chief. All other callbacks run on every worker, because a callback that stops
        the training must stop it on every worker.
      part: a suffix for these names, such as `"-128"`, for a run with several calls of `fit`.
      checkpoint_every: steps between two checkpoints.
      resume, monitor, overwrite: as for `Checkpointing`.
      tensorboard: a folder for TensorBoard. Default: none.
      is_chief: with several workers, whether this worker is the one that writes files and shows the progress.
      reference: curves to draw behind those of the run.

    Returns:
      `RunFigures`, `Checkpointing` and the `others`; on the chief also `CSVHistory`, `TrainingCurves` (if matplotlib is
      installed, the extra `plots`), `Progress` and, if `tensorboard` is given, Keras' `TensorBoard`.
    """
    directory = Path(directory).expanduser()
    checkpointing = Checkpointing(
        directory / f"run{part}", every_steps=checkpoint_every, resume=resume, monitor=monitor, overwrite=overwrite
    )
    callbacks = [RunFigures(), checkpointing]
    if not is_chief:
        return [
            *callbacks,
            *(each for each in others if not isinstance(each, (FillMaskPreview, ReplacedTokensPreview))),
        ]
    table, picture = directory / f"history{part}.csv", directory / f"training_curves{part}.png"
    callbacks += [*others, CSVHistory(table, overwrite=overwrite)]
    if can_draw("The curves"):
        callbacks.append(TrainingCurves(table, picture, overwrite=overwrite, reference=reference))
    callbacks.append(Progress())
    if tensorboard is not None:
        require_tensorboard()
        folder = Path(tensorboard).expanduser() / f"figures{part}"
        callbacks.append(tf_keras.callbacks.TensorBoard(folder, update_freq=100, write_graph=False))
    return callbacks
