"""The bar at two widths, and the lines of a file."""

import re
import sys

import pytest
import tensorflow as tf

import keras_pretrain as kp
from keras_pretrain.training.progress import format_duration

BERT = {
    "loss": 8.0354, "mlm_loss": 7.3412, "mlm_accuracy": 0.1234, "nsp_loss": 0.6942, "nsp_accuracy": 0.5,
    "learning_rate": 4.8e-4, "tokens_per_second": 12345.6, "padding": 0.123, "waiting": 0.004,
}  # fmt: skip
ELECTRA = {f"figure_{i}": 0.5 for i in range(20)} | BERT


class Clock:
    """Two seconds a step."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("keras_pretrain.training.progress.perf_counter", clock)
    return clock


def run(clock, logs, *, epochs=2, steps=40, first_epoch=0, verbose=1, validation=None, **settings):
    """What Keras would call in `fit`."""
    progress = kp.callbacks.Progress(**settings)
    progress.set_params({"verbose": verbose, "epochs": epochs, "steps": steps})
    progress.set_model(tf.keras.Sequential())
    progress.on_train_begin()
    for epoch in range(first_epoch, epochs):
        progress.on_epoch_begin(epoch)
        for batch in range(steps):
            clock.now += 2.0
            if progress.progbar:
                progress.progbar._last_update = 0  # Keras shows no more than twenty states a second
            progress.on_train_batch_end(batch, dict(logs))
        progress.on_epoch_end(epoch, logs | (validation or {}))


def on_screen(text):
    """The lines as a terminal shows them, each with all that was written over in it."""
    return [[state for state in re.split("[\b\r]+", line) if state] for line in text.split("\n")]


@pytest.mark.parametrize("columns", [60, 100, 200])
@pytest.mark.parametrize("logs", [BERT, ELECTRA])
def test_the_bar_never_wraps(clock, capsys, monkeypatch, columns, logs):
    monkeypatch.setenv("COLUMNS", str(columns))
    run(clock, logs, live=True, validation={f"val_{name}": value for name, value in logs.items()})
    states = [state for line in on_screen(capsys.readouterr().out) for state in line]
    assert max(map(len, states)) < columns
    assert states[0] == "Epoch 1/2 - step 0 of 80"
    assert any(state.startswith("Epoch 2/2 - step 40 of 80 - 1:20 left") for state in states)
    bars = [state for state in states if re.match(r" ?\d+/40 \[", state)]
    assert len(bars) == 2 * 41
    assert all(" - loss: 8.0354" in bar for bar in bars)


def test_a_wide_bar_has_the_figures_of_the_run(clock, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    run(clock, ELECTRA, live=True, validation={"val_loss": 7.5})
    _, bar, *others = [line[-1] for line in on_screen(capsys.readouterr().out) if line]
    figures = "loss: 8.0354 - lr: 4.80e-04 - tokens/s: 12,346 - padding: 12% - waiting: 0% - mlm_accuracy: 0.1234 - "
    assert f" - {figures}nsp_accuracy: 0.5000" in bar
    assert others[0].startswith("  figure_0: 0.5000 - ")
    assert others[-1].endswith("val_loss: 7.5000")


def test_a_file_has_lines_without_control_characters(clock, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    run(clock, BERT, live=False, every_seconds=30, validation={"val_loss": 7.5})
    out = capsys.readouterr().out
    assert not re.search("[\b\r\x1b]", out)
    lines = out.splitlines()
    figures = "loss: 8.0354 - lr: 4.80e-04 - tokens/s: 12,346 - padding: 12% - waiting: 0% - mlm_accuracy: 0.1234"
    assert lines[0].startswith(f"step 1 of 80 - {figures}")
    assert lines[1].startswith(f"step 16 of 80 - 2:08 left - {figures}")
    assert lines[2].startswith("step 31 of 80 - 1:38 left - ")
    assert lines[3].startswith("epoch 1 of 2 - step 40 of 80 - 1:20 left - loss: 8.0354 - mlm_loss: 7.3412 - ")
    assert lines[3].endswith(" - val_loss: 7.5000")
    assert lines[4].startswith("step 55 of 80")
    assert lines[-1].startswith("epoch 2 of 2 - step 80 of 80 - 0:00 left - ")


def test_a_resumed_run_counts_its_own_pace_alone(clock, capsys):
    run(clock, BERT, live=False, every_seconds=1000, first_epoch=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("step 41 of 80 - loss")
    assert lines[1].startswith("epoch 2 of 2 - step 80 of 80 - 0:00 left")


def test_data_of_unknown_length_have_steps_and_no_end(clock, capsys):
    progress = kp.callbacks.Progress(live=False)
    progress.set_params({"verbose": 1, "epochs": 2, "steps": None})
    progress.set_model(tf.keras.Sequential())
    progress.on_train_begin()
    progress.on_epoch_begin(0)
    progress.on_train_batch_end(0, dict(BERT))
    progress.on_epoch_end(0, dict(BERT))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("step 1 - loss: ")
    assert lines[1].startswith("epoch 1 of 2 - step 1 of 2 - loss: ")


def test_silence_on_request(clock, capsys):
    for live in (True, False):
        run(clock, BERT, live=live, verbose=0)
    assert capsys.readouterr().out == ""


def test_a_terminal_is_found_out(monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # other tests start a kernel
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert kp.callbacks.Progress().live
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    assert not kp.callbacks.Progress().live
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    assert kp.callbacks.Progress().live


def test_no_line_at_all_is_refused():
    with pytest.raises(ValueError, match=r"every_seconds .*above 0, not 0"):
        kp.callbacks.Progress(every_seconds=0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.4, "0:04"), (245, "4:05"), (15_153, "4:12:33"), (86_400, "1 day 0:00:00"), (183_845, "2 days 3:04:05")],
)
def test_durations_can_be_read(seconds, text):
    assert format_duration(seconds) == text
