"""What `import keras_pretrain` does, each time in a Python of its own."""

import os
import re
import subprocess
import sys

import pytest

import keras_pretrain


def run_python(code, **environment):
    """Run `code` in a fresh Python, without the setting that importing the package made in this one."""
    inherited = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    environment = {**inherited, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


def output_of(code, **environment):
    done = run_python(code, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_nothing_heavy():
    code = """
import sys
import keras_pretrain
heavy = ("tensorflow", "tf_keras", "keras", "transformers", "tokenizers", "datasets", "pyarrow", "numpy", "kss", "nltk",
         "matplotlib")
print([name for name in heavy if name in sys.modules])
"""
    assert output_of(code) == "[]"


def test_import_sets_legacy_keras():
    assert output_of("import os, keras_pretrain; print(os.environ['TF_USE_LEGACY_KERAS'])") == "1"


@pytest.mark.parametrize("setting", ["1", "true", "True"])
def test_a_setting_that_tensorflow_takes_for_true_stays(setting):
    code = "import os, keras_pretrain; print(os.environ['TF_USE_LEGACY_KERAS'])"
    assert output_of(code, TF_USE_LEGACY_KERAS=setting) == setting


@pytest.mark.parametrize("setting", ["0", "false", ""])
def test_a_contrary_setting_is_refused(setting):
    done = run_python("import keras_pretrain", TF_USE_LEGACY_KERAS=setting)
    assert done.returncode == 1
    assert re.search(rf"ImportError: TF_USE_LEGACY_KERAS .*{setting!r}.*Unset .*set it to 1\b", done.stderr)


def test_keras_3_already_in_use_is_refused():
    done = run_python("import tensorflow as tf; tf.keras.layers.Dense; import keras_pretrain")
    assert done.returncode == 1
    remedies = r"Import keras_pretrain before .*TF_USE_LEGACY_KERAS=1\b.*restart the kernel"
    assert re.search(rf"ImportError: tf\.keras .*Keras 3\b.*{remedies}", done.stderr)


def test_tensorflow_imported_first_is_fine_while_tf_keras_is_untouched():
    code = """
import tensorflow as tf
import keras_pretrain
print(tf.keras.optimizers.Adam.__module__.split(".")[0])
"""
    assert output_of(code) == "tf_keras"


def test_every_public_name_resolves():
    code = """
import keras_pretrain
for name in keras_pretrain.__all__:
    print(name, getattr(keras_pretrain, name).__name__)
"""
    resolved = dict(line.split() for line in output_of(code).splitlines())
    assert resolved.pop("callbacks") == "keras_pretrain.training.callbacks"
    assert resolved.pop("prepared") == "keras_pretrain.preparation"
    for module in ("finetuning", "evaluation", "runs"):
        assert resolved.pop(module) == f"keras_pretrain.{module}"
    assert resolved == {name: name for name in resolved}
    assert {*resolved, "callbacks", "finetuning", "evaluation", "prepared", "runs"} == set(keras_pretrain.__all__)


def test_public_names_are_listed():
    assert set(keras_pretrain.__all__) <= set(dir(keras_pretrain))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"'keras_pretrain' .*'load_corpse'"):
        keras_pretrain.load_corpse  # noqa: B018


def test_import_sets_up_no_logging():
    code = """
import logging
before = list(logging.getLogger().handlers)
import keras_pretrain as kp
kp.load_corpus, kp.BertPretrainer
ours = logging.getLogger("keras_pretrain")
print(logging.getLogger().handlers == before, ours.handlers, ours.level, ours.propagate)
"""
    assert output_of(code) == "True [] 0 True"


def test_reports_go_to_standard_output_once_and_nowhere_else():
    code = """
import io, logging, sys
logging.basicConfig(format="root: %(message)s")
import keras_pretrain as kp
logger = logging.getLogger("keras_pretrain.corpus")
logger.info("not shown")
kp.enable_logging()
kp.enable_logging()
logger.info("3 documents.")
kp.enable_logging("ERROR", sys.stderr)
logger.warning("not shown")
logger.error("an error")
"""
    done = run_python(code)
    assert done.stdout == "3 documents.\n"
    assert done.stderr == "an error\n"
