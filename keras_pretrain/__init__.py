"""Pretrain BERT and ELECTRA on your own text, with TensorFlow and `model.fit`.

The names below follow the data: documents → sentences → tokenizer → examples → batches → model → checkpoint.
Heavy libraries (TensorFlow, transformers, kss) are imported when one of these names is first used.
"""

import importlib
from typing import TYPE_CHECKING

from keras_pretrain.compat.legacy_keras import require_legacy_keras

if TYPE_CHECKING:  # for editors and type checkers; a test compares it with the tables below
    from keras_pretrain import evaluation as evaluation
    from keras_pretrain import finetuning as finetuning
    from keras_pretrain import prepared as prepared
    from keras_pretrain import runs as runs
    from keras_pretrain.corpus.cleaning import clean_text as clean_text
    from keras_pretrain.corpus.loading import load_corpus as load_corpus
    from keras_pretrain.corpus.samples import load_sample as load_sample
    from keras_pretrain.corpus.sentences import split_sentences as split_sentences
    from keras_pretrain.export.checkpoint import save_checkpoint as save_checkpoint
    from keras_pretrain.export.hub import push_to_hub as push_to_hub
    from keras_pretrain.export.saved_model import export_saved_model as export_saved_model
    from keras_pretrain.features.batching import to_tf_dataset as to_tf_dataset
    from keras_pretrain.features.building import build_features as build_features
    from keras_pretrain.features.building import choose_objective as choose_objective
    from keras_pretrain.features.masking import MaskingCollator as MaskingCollator
    from keras_pretrain.models.bert import BertPretrainer as BertPretrainer
    from keras_pretrain.models.electra import ElectraPretrainer as ElectraPretrainer
    from keras_pretrain.models.vocabulary import add_tokens as add_tokens
    from keras_pretrain.preparation import cache_info as cache_info
    from keras_pretrain.preparation import load_prepared as load_prepared
    from keras_pretrain.preparation import prepare_corpus as prepare_corpus
    from keras_pretrain.preparation import prepare_sentences as prepare_sentences
    from keras_pretrain.system import enable_logging as enable_logging
    from keras_pretrain.tokenization import train_tokenizer as train_tokenizer
    from keras_pretrain.training import callbacks as callbacks
    from keras_pretrain.training.optimization import create_optimizer as create_optimizer
    from keras_pretrain.wordpieces import find_new_tokens as find_new_tokens

__version__ = "0.1.0"

_MODULE_OF = {
    "enable_logging": "keras_pretrain.system",
    "load_corpus": "keras_pretrain.corpus.loading",
    "load_sample": "keras_pretrain.corpus.samples",
    "clean_text": "keras_pretrain.corpus.cleaning",
    "split_sentences": "keras_pretrain.corpus.sentences",
    "prepare_sentences": "keras_pretrain.preparation",
    "train_tokenizer": "keras_pretrain.tokenization",
    "find_new_tokens": "keras_pretrain.wordpieces",
    "choose_objective": "keras_pretrain.features.building",
    "build_features": "keras_pretrain.features.building",
    "prepare_corpus": "keras_pretrain.preparation",
    "load_prepared": "keras_pretrain.preparation",
    "cache_info": "keras_pretrain.preparation",
    "MaskingCollator": "keras_pretrain.features.masking",
    "to_tf_dataset": "keras_pretrain.features.batching",
    "BertPretrainer": "keras_pretrain.models.bert",
    "ElectraPretrainer": "keras_pretrain.models.electra",
    "add_tokens": "keras_pretrain.models.vocabulary",
    "create_optimizer": "keras_pretrain.training.optimization",
    "save_checkpoint": "keras_pretrain.export.checkpoint",
    "export_saved_model": "keras_pretrain.export.saved_model",
    "push_to_hub": "keras_pretrain.export.hub",
}
_MODULES = {
    "callbacks": "keras_pretrain.training.callbacks",
    "runs": "keras_pretrain.runs",
    "finetuning": "keras_pretrain.finetuning",
    "prepared": "keras_pretrain.preparation",
    "evaluation": "keras_pretrain.evaluation",
}
__all__ = [*_MODULE_OF, *_MODULES]

require_legacy_keras()


def __getattr__(name: str) -> object:
    if name in _MODULES:
        value = importlib.import_module(_MODULES[name])
    elif name in _MODULE_OF:
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
