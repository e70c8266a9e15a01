"""The callbacks for `model.fit`, in the order in which they are given to it."""

from keras_pretrain.training.checkpointing import Checkpointing
from keras_pretrain.training.curves import TrainingCurves
from keras_pretrain.training.figures import RunFigures
from keras_pretrain.training.history import CSVHistory
from keras_pretrain.training.previews import FillMaskPreview, ReplacedTokensPreview
from keras_pretrain.training.progress import Progress
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
]
