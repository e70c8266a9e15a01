"""The former name of `keras_pretrain.preparation`."""

from keras_pretrain.preparation import *  # noqa: F403
