"""The examples in docstrings run as they are written."""

import doctest
import importlib
import logging
import pkgutil

import pytest
from transformers import BertConfig

import keras_pretrain as kp

MODULES = sorted(module.name for module in pkgutil.walk_packages(kp.__path__, "keras_pretrain."))
# How many lines of examples there are: a finder that finds none must not look like success.
WITH_EXAMPLES = {
    "corpus.cleaning": 1,
    "corpus.sentences": 1,
    "tokenization": 2,
    "wordpieces": 2,
    "models.bert": 3,
    "models.vocabulary": 3,
    "export.checkpoint": 3,
}


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name, tmp_path, monkeypatch):
    monkeypatch.setattr(logging.getLogger("keras_pretrain"), "handlers", [])  # without `kp.enable_logging()`
    names = {public: getattr(kp, public) for public in kp.__all__}
    results = doctest.testmod(
        importlib.import_module(name), extraglobs={**names, "BertConfig": BertConfig, "directory": tmp_path}
    )
    assert results.failed == 0
    assert results.attempted >= WITH_EXAMPLES.get(name.removeprefix("keras_pretrain."), 0)
