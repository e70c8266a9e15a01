"""A corpus of any size prepared on the disk, by one process, by many, or by a Ray cluster."""

from keras_pretrain.prepared.engines import LocalEngine, RayEngine
from keras_pretrain.prepared.folder import Prepared, load_prepared, prepare_corpus

__all__ = ["LocalEngine", "Prepared", "RayEngine", "load_prepared", "prepare_corpus"]
