"""A run: its record of settings, and the object that carries it out.

The records need nothing heavy; TensorFlow is imported when one of the other names is first used.
"""

import importlib

from keras_pretrain.runs.settings import (
    AdaptSettings,
    BertSettings,
    ElectraSettings,
    FinetuneSettings,
    PrepareSettings,
    read_settings,
    setting,
)

_MODULE_OF = {
    "Run": "keras_pretrain.runs.run",
    "AdaptationRun": "keras_pretrain.runs.adaptation",
    "run_finetuning": "keras_pretrain.runs.finetuning",
    "make_strategy": "keras_pretrain.runs.run",
    "require_output": "keras_pretrain.runs.metrics",
    "write_metrics": "keras_pretrain.runs.metrics",
}
__all__ = [
    "AdaptSettings",
    "AdaptationRun",
    "BertSettings",
    "ElectraSettings",
    "FinetuneSettings",
    "PrepareSettings",
    "Run",
    "make_strategy",
    "read_settings",
    "require_output",
    "run_finetuning",
    "setting",
    "write_metrics",
]


def __getattr__(name):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)
