"""Runs: the record that holds the settings of a run, and the object that carries the run out.

Importing the records imports no heavy library. TensorFlow is imported when one of the other names is first used.
"""

import importlib
from typing import TYPE_CHECKING

from keras_pretrain.runs.settings import (
    AdaptSettings,
    BertSettings,
    ElectraSettings,
    FinetuneSettings,
    PrepareSettings,
    read_settings,
    setting,
)

if TYPE_CHECKING:  # for editors and type checkers; a test compares it with the table below
    from keras_pretrain.runs.adaptation import AdaptationRun as AdaptationRun
    from keras_pretrain.runs.finetuning import run_finetuning as run_finetuning
    from keras_pretrain.runs.metrics import require_output as require_output
    from keras_pretrain.runs.metrics import write_metrics as write_metrics
    from keras_pretrain.runs.run import Run as Run
    from keras_pretrain.runs.run import make_strategy as make_strategy
    from keras_pretrain.runs.suite import evaluate_suite as evaluate_suite
    from keras_pretrain.runs.suite import suite_table as suite_table

_MODULE_OF = {
    "Run": "keras_pretrain.runs.run",
    "AdaptationRun": "keras_pretrain.runs.adaptation",
    "run_finetuning": "keras_pretrain.runs.finetuning",
    "make_strategy": "keras_pretrain.runs.run",
    "evaluate_suite": "keras_pretrain.runs.suite",
    "suite_table": "keras_pretrain.runs.suite",
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
    "evaluate_suite",
    "make_strategy",
    "read_settings",
    "require_output",
    "run_finetuning",
    "setting",
    "suite_table",
    "write_metrics",
]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)
