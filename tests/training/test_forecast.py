"""`measure`: sensible figures, one compilation, and no trace in the training that follows."""

import random
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager.context import context
from transformers import BertConfig, ElectraConfig

import keras_pretrain as kp
from keras_pretrain.training import forecast
from keras_pretrain.training.forecast import measure

BATCH = 8
WIDTHS = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="module")
def all_features(sentences, tokenizer):
    return {name: kp.build_features(sentences, tokenizer, objective=name, block_size=24) for name in ("mlm+nsp", "rtd")}


def make(tokenizer, objective, **settings):
    tf.keras.utils.set_random_seed(0)
    if objective == "rtd":
        config = ElectraConfig(vocab_size=15, embedding_size=16, **WIDTHS)
        model = kp.ElectraPretrainer(config, config, tokenizer)
    else:
        model = kp.BertPretrainer(BertConfig(vocab_size=15, **WIDTHS))
    model.compile(kp.create_optimizer(learning_rate=1e-2, num_train_steps=12), **({"run_eagerly": True} | settings))
    return model


def make_data(features, tokenizer, objective, examples=32):
    settings = {"batch_size": BATCH, "block_size": 24, "objective": objective}
    train = kp.to_tf_dataset(features.select(range(48)), tokenizer, **settings)
    return train, kp.to_tf_dataset(features.select(range(examples)), tokenizer, **settings, training=False)


def state(model, *datasets):
    return {
        "weights": [weight.tobytes() for weight in model.get_weights()],
        "optimizer": [variable.numpy().tobytes() for variable in model.optimizer.variables],
        "metrics": [variable.numpy().tobytes() for metric in model.metrics for variable in metric.variables],
        "counters": int(model._train_counter),
        "next_steps": [dataset.keras_pretrain_batches.next_step for dataset in datasets],
        "random": (random.getstate(), np.random.get_state()[1].tobytes(), context()._rng.getstate()),
        "history": getattr(model, "history", None),
    }


@pytest.mark.parametrize("objective", ["mlm+nsp", "rtd"])
@pytest.mark.parametrize("repeated", [True, False])
def test_training_goes_on_as_if_nothing_had_been_measured(tokenizer, all_features, tmp_path, objective, repeated):
    def fit(folder, is_measured):
        model = make(tokenizer, objective)
        train, validation = make_data(all_features[objective], tokenizer, objective)
        given = train.repeat() if repeated else train
        model.fit(given, steps_per_epoch=6, verbose=0)  # a run that has begun
        if is_measured:
            before = state(model, train, validation)
            measure(model, given, validation, steps=3, validation_batches=2)
            assert state(model, train, validation) == before
        saving = kp.callbacks.Checkpointing(folder, every_steps=4)
        settings = {"steps_per_epoch": 6, "epochs": 2, "validation_data": validation, "verbose": 0}
        history = model.fit(given, callbacks=[saving], **settings).history
        return history, state(model, train, validation) | {"history": None, "random": None}

    assert fit(tmp_path / "measured", True) == fit(tmp_path / "not", False)


def test_the_loss_scale_is_put_back(tokenizer, all_features):
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = make(tokenizer, "mlm+nsp")
        optimizer = tf.keras.mixed_precision.LossScaleOptimizer(tf.keras.optimizers.SGD(0.1), initial_scale=2.0**100)
        model.compile(optimizer, run_eagerly=True)
        measure(model, make_data(all_features["mlm+nsp"], tokenizer, "mlm+nsp")[0], steps=2)
        assert float(model.optimizer.loss_scale) == 2.0**100
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")


def test_what_was_compiled_is_not_compiled_again(tokenizer, all_features, without_xla, package_log):
    model = make(tokenizer, "mlm+nsp", run_eagerly=False)
    train, validation = make_data(all_features["mlm+nsp"], tokenizer, "mlm+nsp")
    pace = measure(model, train.repeat(), validation, steps=3)
    assert pace.seconds_to_compile > pace.seconds_per_step > 0
    assert pace.seconds_to_compile > pace.seconds_per_validation > 0
    function = model.train_function
    model.fit(train.repeat(), steps_per_epoch=6, validation_data=validation, verbose=0)
    assert model.train_function is function
    assert function.experimental_get_tracing_count() == 1
    assert model.test_function.experimental_get_tracing_count() == 1
    compiled = [re.search(r"^Compiling.* (\w+) step\b", text)[1] for text in package_log.messages]
    assert compiled == ["training", "validation"]


def test_another_optimizer_keeps_the_compiled_pass(tokenizer, all_features, without_xla, package_log):
    model = make(tokenizer, "mlm+nsp", run_eagerly=False)
    train, validation = make_data(all_features["mlm+nsp"], tokenizer, "mlm+nsp")
    measure(model, train, validation, steps=2)
    model.replace_optimizer(kp.create_optimizer(learning_rate=1e-2, num_train_steps=6))
    history = model.fit(train, epochs=1, validation_data=validation, verbose=0).history
    assert len(package_log.messages) == 2
    untouched = make(tokenizer, "mlm+nsp", run_eagerly=False)
    untouched.compile(kp.create_optimizer(learning_rate=1e-2, num_train_steps=6))
    train, validation = make_data(all_features["mlm+nsp"], tokenizer, "mlm+nsp")
    assert untouched.fit(train, epochs=1, validation_data=validation, verbose=0).history == history


def test_the_figures_follow_from_the_clock(tokenizer, all_features, monkeypatch):
    """Steps of 100 (which compiles), 2, 3, 2 and 9 seconds; the first batch of a validation takes 6, the others 5."""
    times = iter([0, 100, 102, 105, 107, 116, *(200, 260, 260), *(300, 306, 311, 316, 316)])
    monkeypatch.setattr(forecast, "perf_counter", lambda: float(next(times)))
    model = make(tokenizer, "mlm+nsp")
    pace = measure(model, *make_data(all_features["mlm+nsp"], tokenizer, "mlm+nsp", examples=80))
    assert pace.seconds_per_step == 2.5
    assert pace.seconds_per_validation == 6 + 9 * 5  # ten batches
    assert pace.seconds_to_compile == (100 - 2.5) + (60 - 6)


def test_memory_and_disk(tokenizer, all_features, tmp_path):
    model = make(tokenizer, "mlm+nsp")
    train, _ = make_data(all_features["mlm+nsp"], tokenizer, "mlm+nsp")
    pace = measure(model, train, steps=2)
    assert pace.seconds_per_validation == 0
    checkpointing = kp.callbacks.Checkpointing(tmp_path)
    model.fit(train, callbacks=[checkpointing], verbose=0)
    size = (checkpointing.latest / "state.data-00000-of-00001").stat().st_size
    assert pace.checkpoint_bytes == pytest.approx(size, rel=0.5)
    assert size - pace.checkpoint_bytes < 30_000  # the names of the variables
    assert 2**26 < pace.memory < 2**36
    assert pace.device_memory is None or pace.device_memory > 0


def test_what_cannot_be_measured_is_refused(tokenizer, all_features):
    model = make(tokenizer, "mlm+nsp")
    train, validation = make_data(all_features["mlm+nsp"], tokenizer, "mlm+nsp")
    for settings in ({"steps": 1}, {"validation_batches": 0}):
        with pytest.raises(ValueError, match=r"\bsteps .*\b2\b.*validation_batches .*\b1\b.*not \d+ and \d+"):
            measure(model, train, validation, **settings)
    with pytest.raises(ValueError, match=r"length.*validation.*kp\.to_tf_dataset"):
        measure(model, train, validation.filter(lambda *_: True))
    model.compile(tf.keras.optimizers.legacy.Adam())
    with pytest.raises(ValueError, match=r"\bAdam of tf_keras\.optimizers\.legacy .*kp\.create_optimizer"):
        measure(model, train)


SCRIPT = """
import sys
import keras_pretrain as kp
import tensorflow as tf
from datasets import load_from_disk
from keras_pretrain.training.forecast import measure
from transformers import AutoTokenizer, BertConfig

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
tokenizer = AutoTokenizer.from_pretrained(f"{sys.argv[1]}/tokenizer")
features = load_from_disk(f"{sys.argv[1]}/features")
strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"], tf.distribute.ReductionToOneDevice())
results = []
for is_measured in (True, False):
    with strategy.scope():
        tf.keras.utils.set_random_seed(0)
        config = BertConfig(vocab_size=15, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                            intermediate_size=32)
        model = kp.BertPretrainer(config)
        model.compile(kp.create_optimizer(learning_rate=1e-2, num_train_steps=4), jit_compile=False)
    train = kp.to_tf_dataset(features, tokenizer, batch_size=8, block_size=24)
    validation = kp.to_tf_dataset(features.select(range(16)), tokenizer, batch_size=8, block_size=24, training=False)
    if is_measured:
        pace = measure(model, train.repeat(), validation, steps=3)
        assert pace.seconds_per_step > 0 and pace.seconds_per_validation > 0, pace
        assert train.keras_pretrain_batches.next_step == 0
    history = model.fit(train.repeat(), steps_per_epoch=4, validation_data=validation, verbose=0).history
    assert train.keras_pretrain_batches.next_step == 4
    assert model.train_function.experimental_get_tracing_count() == 1
    results.append((history, [weight.tobytes() for weight in model.get_weights()]))
assert results[0] == results[1]
"""


def test_under_a_strategy_it_leaves_no_trace_either(tokenizer, all_features, tmp_path):
    """In a process of its own, since processors can only be divided before TensorFlow starts."""
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    all_features["mlm+nsp"].select(range(48)).save_to_disk(tmp_path / "features")
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, tmp_path / "script.py", tmp_path]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
