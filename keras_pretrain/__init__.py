"""Pretrain BERT and ELECTRA on your own text, with TensorFlow and `model.fit`.

The names below follow the data: documents → sentences → tokenizer → examples → batches → model → checkpoint.
Nothing heavy (TensorFlow, transformers, kss) is imported before one of them is first used.
"""

import importlib
import logging
import sys

from keras_pretrain.compat.legacy_keras import require_legacy_keras

__version__ = "0.1.0"

_MODULE_OF = {
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

# Counts and reports are part of what the package gives; `logging.getLogger("keras_pretrain").setLevel("ERROR")`
# silences them.
logger = logging.getLogger(__name__)
if not logger.handlers:
    _handler = logging.StreamHandler(sys.stdout)
    _handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(_handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def __getattr__(name):
    if name in _MODULES:
        value = importlib.import_module(_MODULES[name])
    elif name in _MODULE_OF:
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
