"""The former name of `keras_pretrain.preparation`."""

from keras_pretrain.preparation import *  # noqa: F403
from keras_pretrain.preparation import __all__ as __all__
