"""Documents → sentences → examples: one set of stages, in memory and on the disk, by one process, many or Ray."""

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
