"""Runs that are stopped, by an exception, SIGTERM or SIGKILL, against one that never was: the same to the last bit."""

import contextlib
import fcntl
import json
import os
import random
import re
import signal
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
from transformers import BertConfig, ElectraConfig, TFBertForPreTraining

import keras_pretrain as kp
from keras_pretrain import folders
from keras_pretrain.folders import LOCK, MANIFEST, OwnedFolder
from keras_pretrain.settings import attach, settings_of
from keras_pretrain.training import checkpointing as module

BATCH = 8
WIDTHS = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="module")
def all_features(sentences, tokenizer):
    return {
        objective: kp.build_features(sentences, tokenizer, objective=objective, block_size=24)
        for objective in ("mlm+nsp", "mlm", "rtd")
    }


def make(tokenizer, objective="mlm+nsp", steps=24, **settings):
    tf.keras.utils.set_random_seed(0)
    if objective == "rtd":
        config = ElectraConfig(vocab_size=15, embedding_size=16, **WIDTHS)
        model = kp.ElectraPretrainer(config, config, tokenizer, **settings)
    else:
        model = kp.BertPretrainer(BertConfig(vocab_size=15, **WIDTHS), **settings)
    # Tracing takes longer than the few steps do; the killed processes below have compiled steps.
    model.compile(kp.create_optimizer(learning_rate=1e-2, num_train_steps=steps), run_eagerly=True)
    return model


def first(features, count):
    """The first examples, with what they were built for, which `select` loses."""
    return attach(features.select(range(count)), **settings_of(features))


class Interrupt(tf.keras.callbacks.Callback):
    """Ends the run after a step, like a crash."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


class Steps(tf.keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.logs = {}

    def on_train_batch_end(self, batch, logs=None):
        self.logs[int(self.model.optimizer.iterations)] = dict(logs)


def train(model, features, tokenizer, directory=None, *, repeated=True, interrupt=None, **settings):
    """Three epochs of eight steps; the logs of each step, and the history."""
    data = kp.to_tf_dataset(first(features, 64), tokenizer, batch_size=BATCH)
    validation = kp.to_tf_dataset(first(features, 16), tokenizer, batch_size=BATCH, training=False)
    steps = Steps()
    callbacks = [steps]
    if directory:
        callbacks.append(kp.callbacks.Checkpointing(directory, **({"every_steps": 5} | settings)))
    if interrupt:
        callbacks.append(Interrupt(interrupt))
    how = {"x": data.repeat(), "steps_per_epoch": 8} if repeated else {"x": data}
    try:
        history = model.fit(**how, epochs=3, validation_data=validation, callbacks=callbacks, verbose=0).history
    except KeyboardInterrupt:
        history = None
    return steps.logs, history


def saved(directory):
    """What lies in the folder of a run, but for its lock and its manifest."""
    return sorted(path.name for path in directory.iterdir() if path.name not in (LOCK, MANIFEST))


def assert_same(ours, theirs):
    for got, expected in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(got, expected)
    for got, expected in zip(ours.optimizer.variables, theirs.optimizer.variables, strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("objective", "repeated", "interrupts", "settings"),
    [
        ("mlm+nsp", True, [7, 6], {}),
        ("mlm", False, [17], {"gradient_accumulation_steps": 2}),
        ("rtd", True, [13], {"gradient_accumulation_steps": 2}),
    ],
)
def test_an_interrupted_run_ends_as_one_that_was_not(
    objective, repeated, interrupts, settings, tokenizer, all_features, tmp_path
):
    features = all_features[objective]
    untouched = make(tokenizer, objective, **settings)
    expected, history = train(untouched, features, tokenizer, repeated=repeated)
    for interrupt in interrupts:
        model = make(tokenizer, objective, **settings)
        logs, _ = train(model, features, tokenizer, tmp_path, repeated=repeated, interrupt=interrupt)
        assert logs == {step: expected[step] for step in logs}
    model = make(tokenizer, objective, **settings)
    logs, resumed_history = train(model, features, tokenizer, tmp_path, repeated=repeated)
    assert max(logs) == 24
    assert min(logs) > 5
    assert logs == {step: expected[step] for step in logs}
    assert resumed_history == history
    assert int(model._train_counter) == 24  # by which TensorBoard numbers its figures
    assert_same(model, untouched)


def test_a_finished_run_is_taken_up_as_it_ended(tokenizer, all_features, tmp_path):
    finished = make(tokenizer)
    _, history = train(finished, all_features["mlm+nsp"], tokenizer, tmp_path)
    model = make(tokenizer)
    logs, again = train(model, all_features["mlm+nsp"], tokenizer, tmp_path)
    assert logs == {}
    assert again == history
    assert_same(model, finished)


def test_the_last_few_and_the_best_are_kept(tokenizer, all_features, tmp_path):
    _, history = train(
        make(tokenizer), all_features["mlm+nsp"], tokenizer, tmp_path, keep=2, monitor="val_nsp_loss", mode="max"
    )
    assert sorted(saved(tmp_path)) == ["best", "step-0000000020", "step-0000000024"]
    best = json.loads((tmp_path / "best" / "progress.json").read_text())
    values = history["val_nsp_loss"]
    assert best["step"] == 8 * (1 + values.index(max(values)))
    assert best["best"] == max(values)


def test_checkpoints_of_others_are_neither_taken_nor_deleted(tokenizer, all_features, tmp_path):
    """Folders that only look like checkpoints, and files beside real ones."""
    features = all_features["mlm+nsp"]
    foreign = [tmp_path / name / "mine.txt" for name in ("step-9999999999", "step-old", "best", "step-0000000005")]
    for file in foreign:
        file.parent.mkdir()
        file.write_text("mine")
    saving = {"keep": 1, "monitor": "val_loss"}
    logs, _ = train(make(tokenizer), features, tokenizer, tmp_path, interrupt=12, **saving)
    assert min(logs) == 1  # not resumed from any of these
    checkpointing = kp.callbacks.Checkpointing(tmp_path)
    assert checkpointing.latest == tmp_path / "step-0000000010"
    train(make(tokenizer, seed=7), features, tokenizer, tmp_path, resume=False, **saving)
    assert [file.read_text() for file in foreign] == ["mine"] * 4
    assert saved(tmp_path) == [
        "best", "step-0000000005", "step-0000000024", "step-9999999999", "step-old",
    ]  # fmt: skip
    assert [path.name for path in (tmp_path / "step-0000000005").iterdir()] == ["mine.txt"]


def test_what_others_write_into_its_folder_is_not_deleted(tokenizer, all_features, tmp_path):
    features = all_features["mlm+nsp"]
    model = make(tokenizer)
    train(model, features, tokenizer, tmp_path, interrupt=6)
    kp.save_checkpoint(model, tokenizer, tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    train(make(tokenizer), features, tokenizer, tmp_path, interrupt=6, resume=False)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_a_checkpoint_that_was_changed_is_not_deleted(tokenizer, all_features, tmp_path):
    features = all_features["mlm+nsp"]
    train(make(tokenizer), features, tokenizer, tmp_path, interrupt=6)
    progress = tmp_path / "step-0000000005" / "progress.json"
    progress.write_text(progress.read_text() + " ")
    with pytest.raises(FileExistsError, match=r"step-0000000005/progress\.json .*overwrite=True"):
        train(make(tokenizer), features, tokenizer, tmp_path, resume=False)
    assert progress.exists()
    assert OwnedFolder(tmp_path, "test").owns("step-0000000005/state.index")


def test_anew_on_request(tokenizer, all_features, tmp_path):
    train(make(tokenizer), all_features["mlm+nsp"], tokenizer, tmp_path, interrupt=12)
    model = make(tokenizer, seed=7)
    logs, _ = train(model, all_features["mlm+nsp"], tokenizer, tmp_path, resume=False)
    assert len(logs) == 24


def test_a_failed_save_is_a_warning_and_leaves_the_last_one(
    tokenizer, all_features, tmp_path, monkeypatch, package_log
):
    features = all_features["mlm+nsp"]
    train(make(tokenizer), features, tokenizer, tmp_path, interrupt=6)
    before = {path.name: path.read_bytes() for path in (tmp_path / "step-0000000005").iterdir()}

    def full_disk(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders, "seal", full_disk)
    train(make(tokenizer), features, tokenizer, tmp_path, interrupt=12)
    assert re.search(r"Step 10 .*\[Errno 28\].* checkpoint .*step-0000000005", package_log.text)
    assert saved(tmp_path) == ["step-0000000005"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "step-0000000005").iterdir()} == before


def test_too_small_a_disk_is_said_at_the_start(tokenizer, all_features, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r" 0\.00 GiB.*\b3 checkpoints.*keep fewer"):
        train(make(tokenizer), all_features["mlm"], tokenizer, tmp_path)


def test_a_folder_that_cannot_be_written_to_is_said_at_the_start(tokenizer, all_features, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        train(make(tokenizer), all_features["mlm"], tokenizer, tmp_path / "file" / "run")


@pytest.mark.parametrize(
    ("steps", "settings", "objective", "message"),
    [
        (12, {}, "mlm+nsp", "num_train_steps is 12 and was 24 .*not shortened"),
        (24, {"seed": 7}, "mlm+nsp", "model.seed is 7 and was 42"),
        (24, {}, "mlm", "corpus.*tokenizer.*features.*changed"),
    ],
)
def test_another_run_in_the_same_folder_is_refused(
    tokenizer, all_features, tmp_path, steps, settings, objective, message
):
    train(make(tokenizer), all_features["mlm+nsp"], tokenizer, tmp_path, interrupt=6)
    with pytest.raises(ValueError, match=rf"{tmp_path} holds another run: .*{message}.*resume=False"):
        train(make(tokenizer, steps=steps, **settings), all_features[objective], tokenizer, tmp_path)


def test_models_and_data_that_it_cannot_resume_are_refused(tokenizer, all_features, tmp_path):
    checkpointing = kp.callbacks.Checkpointing(tmp_path)
    data = kp.to_tf_dataset(all_features["mlm+nsp"], tokenizer, batch_size=BATCH)
    for others in (data.take(2), data.repeat(3), data.shuffle(4)):
        with pytest.raises(ValueError, match=r"Checkpointing .*kp\.to_tf_dataset.*only repeat and prefetch"):
            make(tokenizer).fit(others, callbacks=[checkpointing], verbose=0)
    validation = kp.to_tf_dataset(all_features["mlm+nsp"], tokenizer, batch_size=BATCH, training=False)
    with pytest.raises(ValueError, match=r"validation.*training=True to kp\.to_tf_dataset"):
        make(tokenizer).fit(validation, callbacks=[checkpointing], verbose=0)
    stock = TFBertForPreTraining(BertConfig(vocab_size=15, **WIDTHS))
    stock.compile("adam")
    with pytest.raises(ValueError, match=r"Checkpointing .*pretrainers.*\bTFBertForPreTraining"):
        stock.fit(data, callbacks=[checkpointing], verbose=0)


def test_a_later_first_epoch_is_resumed_in_its_place(tokenizer, all_features, tmp_path):
    features = first(all_features["mlm"], 64)

    def fit(directory, interrupt=None):
        model = make(tokenizer)
        data = kp.to_tf_dataset(features, tokenizer, batch_size=BATCH)
        callbacks = [kp.callbacks.Checkpointing(directory, every_steps=3)]
        callbacks += [Interrupt(interrupt)] if interrupt else []
        with contextlib.suppress(KeyboardInterrupt):
            model.fit(data, initial_epoch=1, epochs=3, callbacks=callbacks, verbose=0)
        return model

    untouched = fit(tmp_path / "untouched")
    fit(tmp_path / "stopped", interrupt=5)
    assert_same(fit(tmp_path / "stopped"), untouched)


def test_a_loss_that_is_no_number_is_not_saved(tokenizer, all_features, tmp_path):
    features = all_features["mlm"]
    train(make(tokenizer), features, tokenizer, tmp_path, interrupt=6)
    model = make(tokenizer)

    class Spoil(tf.keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            model.bert.embeddings.weight.assign(np.nan * model.bert.embeddings.weight)

    data = kp.to_tf_dataset(first(features, 64), tokenizer, batch_size=BATCH)
    validation = kp.to_tf_dataset(first(features, 16), tokenizer, batch_size=BATCH, training=False)
    fit = {"steps_per_epoch": 8, "epochs": 3, "validation_data": validation, "verbose": 0}
    with pytest.raises(FloatingPointError, match=r"loss is nan, after step 6\..* checkpoint .*0000000005"):
        model.fit(data.repeat(), callbacks=[kp.callbacks.Checkpointing(tmp_path, every_steps=5), Spoil()], **fit)
    assert saved(tmp_path) == ["step-0000000005"]


class Climb(tf.keras.callbacks.Callback):
    """Makes the loss that others see rise steadily from a step on, like a diverging run's."""

    def __init__(self, first_step):
        super().__init__()
        self.first_step = first_step
        self.sum = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self.sum = 0.0

    def on_train_batch_end(self, batch, logs=None):
        over = int(self.model.optimizer.iterations) - self.first_step
        self.sum += 2.7 + max(0.0, over)
        logs["loss"] = self.sum / (batch + 1)


def test_a_loss_that_explodes_ends_the_run_and_what_led_there_is_not_saved(tokenizer, all_features, tmp_path):
    data = kp.to_tf_dataset(first(all_features["mlm"], 64), tokenizer, batch_size=BATCH)
    callbacks = [Climb(45), kp.callbacks.Checkpointing(tmp_path, every_steps=5)]
    with pytest.raises(FloatingPointError, match=r"exploded.* was 2\.7 .*after step 62\..*0000000045\. "):
        make(tokenizer).fit(data.repeat(), epochs=5, steps_per_epoch=16, callbacks=callbacks, verbose=0)
    assert sorted(saved(tmp_path)) == ["step-0000000040", "step-0000000045"]


def test_what_is_known_of_the_loss_is_taken_up(tokenizer, all_features, tmp_path):
    """The run is stopped while the loss climbs; its second half alone would not know from where."""
    data = kp.to_tf_dataset(first(all_features["mlm"], 64), tokenizer, batch_size=BATCH)
    fit = {"epochs": 5, "steps_per_epoch": 16, "verbose": 0}
    with contextlib.suppress(KeyboardInterrupt):
        callbacks = [Climb(45), kp.callbacks.Checkpointing(tmp_path, every_steps=5), Interrupt(55)]
        make(tokenizer).fit(data.repeat(), callbacks=callbacks, **fit)
    climb = Climb(45)
    climb.on_epoch_begin = lambda epoch, logs=None: setattr(climb, "sum", 13 * 2.7 if epoch == 2 else 0.0)
    callbacks = [climb, kp.callbacks.Checkpointing(tmp_path, every_steps=5)]
    with pytest.raises(FloatingPointError, match=r"exploded.*after step 62"):
        make(tokenizer).fit(data.repeat(), callbacks=callbacks, **fit)


def test_two_processes_in_one_folder_are_refused(tokenizer, all_features, tmp_path):
    held = os.open(tmp_path / ".lock", os.O_WRONLY | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(BlockingIOError, match=rf"Another process.* {tmp_path}\b.*another directory"):
        train(make(tokenizer), all_features["mlm"], tokenizer, tmp_path)
    os.close(held)
    train(make(tokenizer), all_features["mlm"], tokenizer, tmp_path)


def test_sigterm_in_a_validation_saves_the_epoch_and_gives_the_handler_back(tokenizer, all_features, tmp_path):
    class Preempt(tf.keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    features = first(all_features["mlm"], 64)
    data = kp.to_tf_dataset(features, tokenizer, batch_size=BATCH)
    validation = kp.to_tf_dataset(features, tokenizer, batch_size=BATCH, training=False)
    callbacks = [Preempt(), kp.callbacks.Checkpointing(tmp_path, every_steps=100)]
    with pytest.raises(SystemExit) as exit_:
        make(tokenizer).fit(data, validation_data=validation, epochs=3, callbacks=callbacks, verbose=0)
    assert exit_.value.code == 143
    assert saved(tmp_path) == ["step-0000000008"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_optimizer_of_the_old_kind_is_refused(tokenizer, all_features, tmp_path):
    model = make(tokenizer)
    model.compile(tf.keras.optimizers.legacy.Adam())
    with pytest.raises(
        ValueError, match=r"Checkpointing .*\bAdam of tf_keras\.optimizers\.legacy.*kp\.create_optimizer"
    ):
        train(model, all_features["mlm"], tokenizer, tmp_path)


@pytest.mark.parametrize("setting", [{"every_steps": 0}, {"keep": 0}, {"mode": "best"}])
def test_settings_out_of_range_are_refused(setting, tmp_path):
    with pytest.raises(ValueError, match=next(iter(setting))):
        kp.callbacks.Checkpointing(tmp_path, **setting)


def test_a_metric_that_does_not_exist_is_named(tokenizer, all_features, tmp_path):
    with pytest.raises(ValueError, match=r"no metric 'val_los'.*\bval_loss\b"):
        train(make(tokenizer), all_features["mlm"], tokenizer, tmp_path, monitor="val_los")


def test_the_loss_scale_is_resumed_too(tokenizer, all_features, tmp_path):
    """mixed_float16 leaves out the steps whose gradients overflow, and halves the scale."""
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        models = []
        for directory, interrupt in ((None, None), (tmp_path, 12), (tmp_path, None)):
            model = make(tokenizer)
            model.compile(
                tf.keras.mixed_precision.LossScaleOptimizer(
                    kp.create_optimizer(learning_rate=1e-2, num_train_steps=24), initial_scale=2.0**30
                ),
                run_eagerly=True,
            )
            train(model, all_features["mlm"], tokenizer, directory, interrupt=interrupt)
            models.append(model)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    untouched, _, resumed = models
    assert float(resumed.optimizer.loss_scale) == float(untouched.optimizer.loss_scale) < 2.0**30
    assert_same(resumed, untouched)


SCRIPT = """
import sys
import keras_pretrain as kp
import tensorflow as tf
from datasets import load_from_disk
from transformers import AutoTokenizer, BertConfig, ElectraConfig
from keras_pretrain import folders
from keras_pretrain.models.precision import choose_precision

folder, run, stop_in_save = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(f"{folder}/tokenizer")
widths = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, vocab_size=15)
try:
    precision = choose_precision("bfloat16")
except ValueError:  # not on this machine
    precision = "float32"

class Print(tf.keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        print(objective, int(self.model.optimizer.iterations), logs["loss"].hex(), flush=True)

def stop(path):
    print("saving", objective, flush=True)
    sys.stdin.read()

# BERT, compiled, in bfloat16 and with packed rows, and after it ELECTRA, so that TensorFlow starts once for both.
for objective in ("mlm+nsp", "rtd"):
    tf.keras.utils.set_random_seed(0)
    if objective == "rtd":
        config = ElectraConfig(**widths, embedding_size=32)
        model = kp.ElectraPretrainer(config, config, tokenizer)
    else:
        model = kp.BertPretrainer(BertConfig(**widths))
    optimizer, is_bert = kp.create_optimizer(learning_rate=1e-2, num_train_steps=30), objective == "mlm+nsp"
    model.compile(optimizer, jit_compile=is_bert, precision=precision if is_bert else "float32")
    how = {"batch_size": 8, "objective": objective, "packed": is_bert}
    data = kp.to_tf_dataset(load_from_disk(f"{folder}/{objective}"), tokenizer, **how)
    if stop_in_save == objective:
        folders.seal = stop
    callbacks = [Print(), kp.callbacks.Checkpointing(f"{run}/{objective}", every_steps=4)]
    model.fit(data.repeat(), epochs=3, steps_per_epoch=10, verbose=0, callbacks=callbacks)
    for weight in model.get_weights():
        print("weight", objective, weight.tobytes().hex())
"""


@pytest.fixture(scope="module")
def killing_ground(all_features, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("killing_ground")
    tokenizer.save_pretrained(folder / "tokenizer")
    for objective in ("mlm+nsp", "rtd"):
        all_features[objective].save_to_disk(folder / objective)
    (folder / "script.py").write_text(SCRIPT)
    return folder


def run_process(folder, run, *, kill_at=(None, None), signal_number=signal.SIGKILL, stop_in_save="none"):
    """Start training and kill it at a step of one of its models, or in the middle of a save.

    Returns:
      `{objective: {step: loss}}`, `{objective: weights}` and the exit status.
    """
    command = [sys.executable, folder / "script.py", folder, run, stop_in_save]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    losses, weights = {"mlm+nsp": {}, "rtd": {}}, {"mlm+nsp": [], "rtd": []}
    with subprocess.Popen(command, **pipes, text=True, env=environment) as process:
        for line in process.stdout:
            kind, *values = line.split()
            if kind in losses:
                losses[kind][int(values[0])] = values[1]
                if (kind, int(values[0])) == kill_at:
                    process.send_signal(signal_number)
            elif kind == "weight":
                weights[values[0]].append(values[1])
            elif kind == "saving":
                process.kill()
        errors = process.stderr.read()
    assert process.returncode in (0, -signal.SIGKILL, 143), errors[-3000:]
    return losses, weights, process.returncode


def test_a_killed_process_goes_on_and_ends_with_the_very_same_weights(killing_ground, tmp_path):
    expected, weights, status = run_process(killing_ground, tmp_path / "untouched")
    assert (len(expected["mlm+nsp"]), len(expected["rtd"]), status) == (30, 30, 0)
    draw = random.Random(0)
    run = tmp_path / "killed"
    for kill in (
        {"kill_at": ("mlm+nsp", draw.randrange(5, 12))},
        {"stop_in_save": "mlm+nsp"},
        {"kill_at": ("rtd", draw.randrange(5, 12))},
        {"kill_at": ("rtd", draw.randrange(17, 25)), "signal_number": signal.SIGTERM},
    ):
        losses, _, status = run_process(killing_ground, run, **kill)
        assert status == (143 if "signal_number" in kill else -signal.SIGKILL)
        for objective, by_step in losses.items():
            assert by_step == {step: expected[objective][step] for step in by_step}
        if "signal_number" in kill:  # saved where it stood, within a step: nothing is done twice
            objective, step = kill["kill_at"]
            stopped_at = max(losses[objective])
            assert stopped_at in (step, step + 1)
            assert (run / objective / f"step-{stopped_at:010d}").is_dir()
    losses, final, status = run_process(killing_ground, run)
    assert status == 0
    assert min(losses["rtd"]) == stopped_at + 1
    assert losses["rtd"] == {step: expected["rtd"][step] for step in losses["rtd"]}
    assert final == weights
