"""What a run is resumed with: the same settings, a longer schedule, an epoch whose validation is still to come."""

import csv
import json
import re
import signal
import threading

import numpy as np
import pytest
import tensorflow as tf
from test_checkpointing import BATCH, Interrupt, Steps, assert_same, first, make, saved

import keras_pretrain as kp
from keras_pretrain.models import precision
from keras_pretrain.training import checkpointing as module
from keras_pretrain.training.optimization import WarmupSchedule


@pytest.fixture(scope="module")
def features(sentences, tokenizer):
    return first(kp.build_features(sentences, tokenizer, objective="mlm", block_size=24), 64)


def fit(model, features, tokenizer, directory=None, *callbacks, epochs=2, steps=4, before=(), **settings):
    """Epochs of four steps with validation; the history, or `None` where the run was interrupted."""
    data = kp.to_tf_dataset(features, tokenizer, batch_size=BATCH).repeat()
    validation = kp.to_tf_dataset(first(features, 16), tokenizer, batch_size=BATCH, training=False)
    if directory:
        callbacks = [kp.callbacks.Checkpointing(directory, **({"every_steps": 2} | settings)), *callbacks]
    callbacks = [*before, *callbacks]
    try:
        history = model.fit(
            data, epochs=epochs, steps_per_epoch=steps, validation_data=validation, callbacks=callbacks, verbose=0
        )
    except (KeyboardInterrupt, SystemExit):
        return None
    return history.history


def compiled(tokenizer, optimizer, **settings):
    model = make(tokenizer, "mlm")
    model.compile(optimizer, **({"run_eagerly": True} | settings))
    return model


def with_schedule(tokenizer, steps, schedule="linear", warmup_ratio=0.1):
    rate = {"learning_rate": 1e-2, "num_train_steps": steps, "schedule": schedule, "warmup_ratio": warmup_ratio}
    return compiled(tokenizer, kp.create_optimizer(**rate))


# Settings that must be the same.


def frozen(tokenizer):
    model = make(tokenizer, "mlm")
    model.bert.embeddings.trainable = False
    model.compile(tf.keras.optimizers.Adam(1e-2), run_eagerly=True)
    return model


def decaying_less(tokenizer):
    optimizer = tf.keras.optimizers.AdamW(1e-2)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return compiled(tokenizer, optimizer)


def adam(rate, name="Adam", **settings):
    return lambda tokenizer: compiled(tokenizer, tf.keras.optimizers.Adam(rate, name=name), **settings)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (adam(1e-2), adam(1e-5), r"optimizer\.learning_rate is 1e-05 and was 0\.01"),
        (adam(np.float64(1e-2)), adam(tf.constant(1e-5)), r"optimizer\.learning_rate is 1e-05 and was 0\.01"),
        (
            adam(1e-2),
            lambda tokenizer: compiled(tokenizer, tf.keras.optimizers.Nadam(1e-2, name="Adam")),
            "optimizer_class is Nadam and was Adam",
        ),
        (adam(1e-2), frozen, r"weights.*\(`trainable`\)"),
        (
            lambda tokenizer: compiled(tokenizer, tf.keras.optimizers.AdamW(1e-2)),
            decaying_less,
            r"weights.*`optimizer\.exclude_from_weight_decay`",
        ),
        (adam(1e-2), adam(1e-2, run_eagerly=False), "jit_compile is True and was False"),
    ],
)
@pytest.mark.usefixtures("without_xla")
def test_a_setting_that_differs_is_noticed(tokenizer, features, tmp_path, old, new, message):
    fit(old(tokenizer), features, tokenizer, tmp_path, Interrupt(3))
    model = new(tokenizer)
    with pytest.raises(ValueError, match=rf"holds another run: .*{message}"):
        fit(model, features, tokenizer, tmp_path)
    assert fit(old(tokenizer), features, tokenizer, tmp_path)["loss"][1]


def test_a_precision_that_is_chosen_is_that_of_the_run(tokenizer, features, tmp_path, monkeypatch):
    speedups = [1.0]
    monkeypatch.setattr(precision, "_compare_precisions", lambda: ("", speedups[-1]))
    settings = {"run_eagerly": False, "jit_compile": False}
    auto = adam(1e-2, precision="auto", **settings)
    undisturbed = auto(tokenizer)
    expected = fit(undisturbed, features, tokenizer)
    fit(auto(tokenizer), features, tokenizer, tmp_path, Interrupt(3))
    speedups.append(2.0)
    with pytest.raises(ValueError, match="precision is bfloat16 and was float32"):
        fit(adam(1e-2, precision="bfloat16", **settings)(tokenizer), features, tokenizer, tmp_path)
    model = auto(tokenizer)
    assert model.precision == "bfloat16"
    assert fit(model, features, tokenizer, tmp_path) == expected
    assert model.precision == "float32"
    assert_same(model, undisturbed)


def test_another_tokenizer_and_other_weights_of_the_heads_are_noticed(tokenizer, features, tmp_path):
    fit(with_schedule(tokenizer, 8), features, tokenizer, tmp_path, Interrupt(3))
    larger = kp.train_tokenizer(["가 나 다 라 마 바 사 아 자 차"] * 2, vocab_size=15)
    larger.add_special_tokens({"additional_special_tokens": ["가"]})
    with pytest.raises(
        ValueError, match=r"data\.tokenizer\.special_ids is \[0, 1, 2, 3, 4, \d+\] and was \[0, 1, 2, 3, 4\]"
    ):
        fit(with_schedule(tokenizer, 8), features, larger, tmp_path)
    model = with_schedule(tokenizer, 8)
    model.head_weights["nsp"] = 0.5
    with pytest.raises(ValueError, match=r"model\.head_weights\.nsp is 0\.5 and was 1"):
        fit(model, features, tokenizer, tmp_path)


def as_written_before(directory):
    """Take from the checkpoints what commit b074e80 did not write."""
    for file in directory.glob("step-*/progress.json"):
        progress = json.loads(file.read_text())
        progress["settings"] = {
            name: "float32" if name == "optimizer.learning_rate" else value
            for name, value in progress["settings"].items()
            if not name.startswith((*module._NOT_RECORDED_BEFORE, "model.head_weights"))
        }
        del progress["epoch_logs"]
        file.write_text(json.dumps(progress))


def test_an_old_run_with_a_plain_rate_is_resumed_with_that_rate_alone(tokenizer, features, tmp_path):
    untouched = adam(1e-2)(tokenizer)
    fit(untouched, features, tokenizer)
    fit(adam(1e-2)(tokenizer), features, tokenizer, tmp_path, Interrupt(3))
    as_written_before(tmp_path)
    with pytest.raises(ValueError, match=r"optimizer\.learning_rate is 1e-05 and was 0\.01.*resume=False"):
        fit(adam(1e-5)(tokenizer), features, tokenizer, tmp_path)
    model = adam(1e-2)(tokenizer)
    fit(model, features, tokenizer, tmp_path)
    assert_same(model, untouched)


def test_an_old_run_whose_rate_cannot_be_read_is_refused(tokenizer, features, tmp_path, monkeypatch):
    fit(adam(1e-2)(tokenizer), features, tokenizer, tmp_path, Interrupt(3))
    as_written_before(tmp_path)
    monkeypatch.setattr(module, "_STORED_RATE", "optimizer/elsewhere")
    with pytest.raises(ValueError, match=r"optimizer\.learning_rate is 0\.01 and was not recorded"):
        fit(adam(1e-2)(tokenizer), features, tokenizer, tmp_path)


def test_a_run_that_glued_gaps_inside_words_is_refused(tokenizer, features, tmp_path):
    fit(with_schedule(tokenizer, 8), features, tokenizer, tmp_path, Interrupt(3))
    for file in tmp_path.glob("step-*/progress.json"):
        progress = json.loads(file.read_text())
        del progress["settings"]["data.glued_gaps"]
        file.write_text(json.dumps(progress))
    with pytest.raises(ValueError, match=r"glued gaps inside words.*resume=False"):
        fit(with_schedule(tokenizer, 8), features, tokenizer, tmp_path)


# Longer runs.


@pytest.mark.parametrize("interrupt", [None, 3])
def test_an_extended_run_with_a_constant_rate_is_the_undisturbed_longer_run(tokenizer, features, tmp_path, interrupt):
    constant = {"schedule": "constant", "warmup_ratio": 0}
    untouched = with_schedule(tokenizer, 8, **constant)
    expected = fit(untouched, features, tokenizer)
    callbacks = [Interrupt(interrupt)] if interrupt else []
    fit(with_schedule(tokenizer, 4, **constant), features, tokenizer, tmp_path, *callbacks, epochs=1)
    model = with_schedule(tokenizer, 8, **constant)
    assert fit(model, features, tokenizer, tmp_path) == expected
    assert_same(model, untouched)


class AtBegin(tf.keras.callbacks.Callback):
    """The weights that a run begins with."""

    def on_epoch_begin(self, epoch, logs=None):
        if not hasattr(self, "weights"):
            self.weights = self.model.get_weights()


def test_an_extended_run_follows_the_new_schedule(tokenizer, features, tmp_path, package_log):
    short = with_schedule(tokenizer, 4)
    fit(short, features, tokenizer, tmp_path, epochs=1)
    begin, figures, steps = AtBegin(), kp.callbacks.RunFigures(), Steps()
    longer = with_schedule(tokenizer, 8)
    history = fit(longer, features, tokenizer, tmp_path, begin, steps, before=[figures])
    for ours, theirs in zip(begin.weights, short.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    old, new = WarmupSchedule(1e-2, 4), WarmupSchedule(1e-2, 8)
    assert [steps.logs[step]["learning_rate"] for step in (5, 6, 7, 8)] == pytest.approx(
        [float(new(step)) for step in (4, 5, 6, 7)]
    )
    assert len(history["loss"]) == 2
    rates = rf"{float(old(4)):.6g}\b.*\b{float(new(4)):.6g}\."
    assert any(re.search(rf"from 4 to 8 steps at step 4: .*{rates}$", message) for message in package_log.messages)
    # From now on it is a run of eight steps.
    with pytest.raises(ValueError, match="num_train_steps is 4 and was 8"):
        fit(with_schedule(tokenizer, 4), features, tokenizer, tmp_path, epochs=1)


def test_a_plain_rate_needs_nothing_but_more_epochs(tokenizer, features, tmp_path):
    untouched = adam(1e-2)(tokenizer)
    expected = fit(untouched, features, tokenizer)
    fit(adam(1e-2)(tokenizer), features, tokenizer, tmp_path, epochs=1)
    model = adam(1e-2)(tokenizer)
    assert fit(model, features, tokenizer, tmp_path) == expected
    assert_same(model, untouched)


def test_a_run_that_is_extended_and_changed_is_refused(tokenizer, features, tmp_path):
    fit(with_schedule(tokenizer, 4), features, tokenizer, tmp_path, epochs=1)
    with pytest.raises(ValueError, match=r"num_train_steps is 8 and was 4.*warmup_ratio is 0\.2 and was 0\.1"):
        fit(with_schedule(tokenizer, 8, warmup_ratio=0.2), features, tokenizer, tmp_path)


# A save that is due at the end of an epoch.


class InValidation(tf.keras.callbacks.Callback):
    """Ends the run in its first validation."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def on_test_batch_end(self, batch, logs=None):
        self.how()


def crash():
    raise KeyboardInterrupt


def sigterm():
    signal.raise_signal(signal.SIGTERM)


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("how", "epochs", "every_steps"), [(crash, 2, 2), (sigterm, 2, 2), (sigterm, 2, 100), (crash, 1, 4)]
)
def test_an_epoch_whose_validation_is_cut_off_is_validated_after_the_resume(
    tokenizer, features, tmp_path, how, epochs, every_steps
):
    def start(name, *others):
        model = with_schedule(tokenizer, 8)
        table = kp.callbacks.CSVHistory(tmp_path / name / "history.csv")
        figures = kp.callbacks.RunFigures()
        run, saving = tmp_path / name / "run", {"every_steps": every_steps, "monitor": "val_loss"}
        history = fit(model, features, tokenizer, run, table, *others, before=[figures], epochs=epochs, **saving)
        return model, history, run

    def without_speed(values):
        speed = ("tokens_per_second", "waiting", "padding")  # without the first step of each `fit`
        return {name: value for name, value in values.items() if name not in speed}

    untouched, expected, first_run = start("untouched")
    start("stopped", InValidation(how))
    assert saved(tmp_path / "stopped" / "run")[-1] == "step-0000000004"
    steps = Steps()
    model, history, run = start("stopped", steps)
    assert history.keys() == expected.keys()
    assert [len(values) for values in history.values()] == [epochs] * len(history)
    assert without_speed(history) == without_speed(expected)
    assert_same(model, untouched)
    tables = [read(tmp_path / name / "history.csv") for name in ("stopped", "untouched")]
    assert [*map(without_speed, tables[0])] == [*map(without_speed, tables[1])]
    best, theirs = (json.loads((each / "best" / "progress.json").read_text()) for each in (run, first_run))
    assert without_speed(best.pop("history")) == without_speed(theirs.pop("history"))
    assert best == theirs
    # The run has ended: a further start trains and validates nothing.
    again = Steps()
    assert start("stopped", again)[1] == history
    assert again.logs == {}


def test_a_stop_at_the_end_of_an_epoch_costs_no_row(tokenizer, features, tmp_path):
    """`CSVHistory` stands behind `Checkpointing`, which leaves before it is asked."""

    class AtEnd(tf.keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            sigterm()

    def start(*before):
        table = kp.callbacks.CSVHistory(tmp_path / "history.csv")
        return fit(with_schedule(tokenizer, 8), features, tokenizer, tmp_path / "run", table, before=before)

    start(AtEnd())
    assert not (tmp_path / "history.csv").exists()
    history = start()
    assert len(history["val_loss"]) == 2
    assert [row["epoch"] for row in read(tmp_path / "history.csv")] == ["0", "1"]


def test_not_repeated_data_go_on_after_the_validation(tokenizer, features, tmp_path):
    def start(*callbacks):
        model = with_schedule(tokenizer, 16)
        data = kp.to_tf_dataset(features, tokenizer, batch_size=BATCH)
        validation = kp.to_tf_dataset(first(features, 16), tokenizer, batch_size=BATCH, training=False)
        try:
            history = model.fit(
                data, epochs=2, validation_data=validation, callbacks=list(callbacks), verbose=0
            ).history
        except KeyboardInterrupt:
            history = None
        return model, history, data.keras_pretrain_batches.next_step

    untouched, expected, end = start()
    saving = kp.callbacks.Checkpointing(tmp_path, every_steps=8)
    _, _, stopped = start(saving, InValidation(crash))
    assert (end, stopped) == (16, 8)
    model, history, end = start(saving)
    assert (history, end) == (expected, 16)
    assert_same(model, untouched)


def test_ctrl_c_saves_after_the_step_and_a_second_one_stops_at_once(tokenizer, features, tmp_path):
    class Press(tf.keras.callbacks.Callback):
        times = 1

        def on_train_batch_begin(self, batch, logs=None):
            if batch == 1:
                for _ in range(self.times):
                    signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may ignore it
    untouched = with_schedule(tokenizer, 8)
    fit(untouched, features, tokenizer)
    twice = Press()
    twice.times = 2
    assert fit(with_schedule(tokenizer, 8), features, tokenizer, tmp_path / "twice", twice, every_steps=100) is None
    assert saved(tmp_path / "twice") == []
    assert fit(with_schedule(tokenizer, 8), features, tokenizer, tmp_path / "once", Press(), every_steps=100) is None
    assert saved(tmp_path / "once") == ["step-0000000002"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    model = with_schedule(tokenizer, 8)
    fit(model, features, tokenizer, tmp_path / "once", every_steps=100)
    assert_same(model, untouched)


# SIGTERM outside of the main thread.


def test_sigterm_is_noticed_where_fit_runs_in_another_thread(tokenizer, features, tmp_path, monkeypatch):
    class Preempt(tf.keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
                checkpointing_is_told.wait(30)

    checkpointing_is_told = threading.Event()
    checkpointing = kp.callbacks.Checkpointing(tmp_path, every_steps=100)
    set_handler = module.set_handler

    def set_handler_that_tells(number, handler):
        return set_handler(number, lambda *given: (handler(*given), checkpointing_is_told.set()))

    monkeypatch.setattr(module, "set_handler", set_handler_that_tells)
    before, codes = signal.getsignal(signal.SIGTERM), []

    def train():
        data = kp.to_tf_dataset(features, tokenizer, batch_size=BATCH).repeat()
        try:
            model.fit(data, steps_per_epoch=4, callbacks=[Preempt(), checkpointing], verbose=0)
        except SystemExit as exit_:
            codes.append(exit_.code)

    model = with_schedule(tokenizer, 8)
    thread = threading.Thread(target=train)
    thread.start()
    while thread.is_alive():
        thread.join(0.01)
    assert codes == [143]
    assert saved(tmp_path) == ["step-0000000002"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_sigterm_that_cannot_be_noticed_is_announced(tokenizer, features, tmp_path, monkeypatch, package_log):
    monkeypatch.setattr(module, "set_handler", lambda *_: None)
    fit(with_schedule(tokenizer, 8), features, tokenizer, tmp_path, epochs=1)
    assert re.search(r"SIGTERM .*main thread.*`while thread\.is_alive\(\)", package_log.text)
    assert saved(tmp_path)[-1] == "step-0000000004"
