"""Speed, padding and waiting, in the logs that Keras' own callbacks see."""

from time import perf_counter
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from transformers import BertConfig

import keras_pretrain as kp
from keras_pretrain.features.input_meter import Passed

BATCH, LENGTH = 8, 24


@pytest.fixture(scope="module")
def batches(sentences, tokenizer):
    features = kp.build_features(sentences, tokenizer, objective="mlm", block_size=LENGTH)
    return kp.to_tf_dataset(features.select(range(32)), tokenizer, batch_size=BATCH, block_size=LENGTH, objective="mlm")


@pytest.fixture(scope="module")
def model():
    widths = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = kp.BertPretrainer(BertConfig(vocab_size=15, **widths))
    model.compile(kp.create_optimizer(learning_rate=1e-3, num_train_steps=100), jit_compile=False)
    return model


class Seen(tf.keras.callbacks.Callback):
    """What a callback that comes later finds in the logs of each step."""

    def on_train_begin(self, logs=None):
        self.logs = []

    def on_train_batch_end(self, batch, logs=None):
        self.logs.append(dict(logs))


def test_figures_are_in_the_logs_and_in_the_history(model, batches):
    seen, first = Seen(), int(model.optimizer.iterations)
    source = batches.keras_pretrain_batches
    begun = source.next_step
    history = model.fit(batches, epochs=2, callbacks=[kp.callbacks.RunFigures(), seen], verbose=0).history
    schedule = model.optimizer._learning_rate
    rates = [float(schedule(first + step)) for step in range(8)]
    assert [logs["learning_rate"] for logs in seen.logs] == pytest.approx(rates)
    assert history["learning_rate"] == pytest.approx(rates[3::4])
    tokens = [int(source.batch(begun + step)[0]["attention_mask"].sum()) for step in range(8)]
    padding = [1 - count / (BATCH * LENGTH) for count in tokens]
    # The first step of all is shown, and left out from the second on.
    expected = [padding[0], *(np.mean(padding[1 : end + 1]) for end in range(1, 4))]
    expected += [np.mean(padding[4 : end + 1]) for end in range(4, 8)]
    assert [logs["padding"] for logs in seen.logs] == pytest.approx(expected)
    assert history["padding"] == pytest.approx(expected[3::4])
    assert min(history["tokens_per_second"]) > 0


def test_waiting_is_the_share_of_the_steps_that_the_meter_counts(model, batches):
    """Work done in a step beside the waiting is no part of it: a bound that holds on a busy machine too."""
    worked, waited = [], []

    class Busy(tf.keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            begun = perf_counter()
            np.sort(np.random.default_rng(0).random(400_000))
            worked.append(perf_counter() - begun)

        def on_train_batch_end(self, batch, logs=None):
            waited.append(self.model.input_meter.read().seconds_waited)

    figures = kp.callbacks.RunFigures()
    data = tf.data.Dataset.from_tensors(next(iter(batches))).repeat()
    history = model.fit(data, steps_per_epoch=6, callbacks=[figures, Busy()], verbose=0).history
    (waiting,) = history["waiting"]
    seconds = 5 * figures.seconds_per_step  # without the first
    assert waiting * seconds == pytest.approx(waited[-1] - waited[0])
    assert 0 < waiting < 1.01 - sum(worked[1:]) / seconds


def test_keras_takes_progress_for_its_own_bar_and_shows_them(model, batches, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    callbacks = [kp.callbacks.RunFigures(), kp.callbacks.Progress(live=True)]
    model.fit(batches, epochs=2, validation_data=batches.take(1), callbacks=callbacks)
    out = capsys.readouterr().out
    assert "\n\b" in out  # the first validation, which says that it compiles, has a line of its own
    assert out.count("Epoch 1/2") == out.count("Epoch 2/2") == 1
    for label in ("lr", "tokens/s", "padding", "waiting"):
        assert f" - {label}: " in out
    assert "learning_rate" not in out


def test_the_first_step_is_left_out(monkeypatch):
    now = iter(
        [0.0, 100.0, 101.0, 102.0, 110.0, 113.0]
    )  # the first takes 100 s; two calls of two steps take 1 s and 3 s
    meter = SimpleNamespace(measures_waiting=True, passed=Passed(0.0, 0.0, 0.0))
    meter.read = lambda: meter.passed
    monkeypatch.setattr("keras_pretrain.training.figures.perf_counter", lambda: next(now))
    figures = kp.callbacks.RunFigures()
    figures.set_model(SimpleNamespace(input_meter=meter, optimizer=SimpleNamespace(learning_rate=0.5)))
    figures.on_train_begin()
    assert figures.tokens_per_second == 0
    figures.on_epoch_begin(0)
    shown = []
    for first in (0, 2, 4):
        figures.on_train_batch_begin(first)
        meter.passed = Passed(*np.add(meter.passed, (1000, 2000, 0.5)).tolist())
        shown.append({})
        figures.on_train_batch_end(first + 1, shown[-1])
    assert shown[0] == {"learning_rate": 0.5, "tokens_per_second": 10, "padding": 0.5, "waiting": 0.005}
    assert shown[1] == {"learning_rate": 0.5, "tokens_per_second": 1000, "padding": 0.5, "waiting": 0.5}
    assert shown[2] == {"learning_rate": 0.5, "tokens_per_second": 500, "padding": 0.5, "waiting": 0.25}
    assert figures.seconds_per_step == 1.0
    assert figures.tokens_per_second == 500


def test_epochs_of_one_step_have_their_speed_too(model, batches):
    figures = kp.callbacks.RunFigures()
    model.fit(batches, epochs=3, steps_per_epoch=1, callbacks=[figures], verbose=0)
    assert figures.tokens_per_second > 0


def test_another_model_has_its_learning_rate():
    model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
    model.compile(tf.keras.optimizers.Adam(0.25), "mse")
    history = model.fit(np.ones((4, 2)), np.ones(4), callbacks=[kp.callbacks.RunFigures()], verbose=0).history
    assert set(history) == {"loss", "learning_rate"}
    assert history["learning_rate"] == [0.25]
