"""Prepares examples: documents → sentences → examples, by the same stages in memory and on disk, with one process,
several processes or Ray."""

from keras_pretrain.preparation.engines import LocalEngine, RayEngine
from keras_pretrain.preparation.folder import DryRun, Prepared, load_prepared, prepare_corpus
from keras_pretrain.preparation.sentences import CacheInfo, cache_info, prepare_sentences

__all__ = [
    "CacheInfo",
    "DryRun",
    "LocalEngine",
    "Prepared",
    "RayEngine",
    "cache_info",
    "load_prepared",
    "prepare_corpus",
    "prepare_sentences",
]
