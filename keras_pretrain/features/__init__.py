"""Sentences in, batches out. Only `batching` imports TensorFlow, and only when a dataset is made."""

from keras_pretrain.features.batching import to_tf_dataset
from keras_pretrain.features.building import build_features
from keras_pretrain.features.masking import MaskingCollator

__all__ = ["MaskingCollator", "build_features", "to_tf_dataset"]
