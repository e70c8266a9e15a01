import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tasks import SETTINGS, save_bert, with_a_sign

import keras_pretrain as kp
from keras_pretrain.finetuning.finished_seeds import FinishedSeeds
from keras_pretrain.folders import LOCK, OwnedFolder
from keras_pretrain.models import precision
from keras_pretrain.system import lock
from keras_pretrain.training.curves import read_history

finetune = kp.finetuning.finetune
FEW = SETTINGS | {"epochs": 2, "learning_rate": 1e-3, "dropout": 0.1, "jit_compile": False}
KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
import tensorflow as tf
from tasks import with_a_sign
from test_finished_seeds import FEW, Starts, finetune

class Kill(Starts):
    def on_train_batch_end(self, batch, logs=None):
        if self.count == 2 and batch == 5:
            os.kill(os.getpid(), signal.SIGKILL)

finetune(sys.argv[1], with_a_sign(320, 0), with_a_sign(40, 1), seeds=(0, 1, 2), directory=sys.argv[2],
         callbacks=[Kill()], **FEW)
"""


class Starts(tf.keras.callbacks.Callback):
    """How many seeds were begun."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def on_train_begin(self, logs=None):
        self.count += 1


class FailInTheSecond(Starts):
    def on_epoch_end(self, epoch, logs=None):
        if self.count == 2:
            raise RuntimeError("the power is out")


@pytest.fixture(scope="module")
def bert(tokenizer, tmp_path_factory):
    return save_bert(tokenizer, tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def signs():
    return with_a_sign(320, 0), with_a_sign(40, 1)


@pytest.fixture(scope="module")
def whole(bert, signs):
    """Three seeds that nothing disturbs."""
    return finetune(bert, *signs, seeds=(0, 1, 2), **FEW)


@pytest.fixture(scope="module")
def run(bert, signs, tmp_path_factory):
    """A directory with two finished seeds; for tests that leave it as it is."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    finetune(bert, *signs, seeds=(0, 1), directory=directory, **FEW)
    return directory


def assert_same(tuned, other):
    assert (tuned.seeds, tuned.best_seed, tuned.settings) == (other.seeds, other.best_seed, other.settings)
    assert (tuned.metrics, tuned.histories) == (other.metrics, other.histories)
    for ours, theirs in zip(tuned.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def histories(directory):
    """The metrics of each epoch in the files of the seeds."""
    return [read_history(file) for file in sorted(directory.glob("history-seed-*.csv"))]


def test_after_an_exception_only_unfinished_seeds_are_trained(bert, signs, whole, tmp_path, package_log):
    package_log.set_level(logging.INFO)
    with pytest.raises(RuntimeError, match="the power is out"):
        finetune(bert, *signs, seeds=(0, 1, 2), directory=tmp_path / "run", callbacks=[FailInTheSecond()], **FEW)
    assert [len(history["loss"]) for history in histories(tmp_path / "run")] == [2, 1]
    for begun, known in ((2, "0"), (0, "0, 1, 2")):
        package_log.clear()
        starts = Starts()
        tuned = finetune(bert, *signs, seeds=(0, 1, 2), directory=tmp_path / "run", callbacks=[starts], **FEW)
        assert starts.count == begun
        assert any(re.search(f"seeds are finished.*: {known}\\.$", message) for message in package_log.messages)
        assert_same(tuned, whole)
        written = histories(tmp_path / "run")
        assert [history.pop("step") for history in written] == [[20, 40]] * 3  # 320 examples in batches of 16
        assert written == tuned.histories


def test_a_killed_process_keeps_its_finished_seeds(bert, signs, whole, tmp_path):
    here = Path(__file__).parent
    command = [sys.executable, "-c", KILLED, bert, tmp_path / "run", here]
    killed = subprocess.run(command, capture_output=True, text=True, cwd=here.parents[1])
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
    starts = Starts()
    tuned = finetune(bert, *signs, seeds=(0, 1, 2), directory=tmp_path / "run", callbacks=[starts], **FEW)
    assert starts.count == 2
    assert_same(tuned, whole)


def test_seeds_are_added_and_left_out(bert, signs, whole, tmp_path):
    for seeds, begun in (((1,), 1), ((0, 1, 2), 2)):
        starts = Starts()
        tuned = finetune(bert, *signs, seeds=seeds, directory=tmp_path, callbacks=[starts], **FEW)
        assert starts.count == begun
    assert_same(tuned, whole)
    starts, others = Starts(), [seed for seed in (0, 1, 2) if seed != whole.best_seed]
    tuned = finetune(bert, *signs, seeds=others, directory=tmp_path, callbacks=[starts], **FEW)
    assert starts.count == 1  # the better one of them: the weights that are kept are those of the best of all
    assert_same(tuned, finetune(bert, *signs, seeds=others, **FEW))


def test_results_of_older_versions_are_continued(bert, signs, run, tmp_path):
    """These versions had no `token_dropout`."""
    shutil.copytree(run, tmp_path / "run")
    file = tmp_path / "run" / "finetuning.json"
    stored = json.loads(file.read_text(encoding="utf-8"))
    assert stored["settings"].pop("token_dropout") == 0
    with OwnedFolder(tmp_path / "run", "finetuning").writing() as stage:
        (stage / file.name).write_text(json.dumps(stored), encoding="utf-8")
    starts = Starts()
    finetune(bert, *signs, seeds=(0, 1), directory=tmp_path / "run", callbacks=[starts], **FEW)
    assert starts.count == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 1}, "epochs is 1 and was 2"),
        ({"learning_rate": 2e-3, "patience": 1}, "learning_rate is 0.002 and was 0.001; patience is 1 and was None"),
        ({"dropout": 0.2}, "dropout is 0.2 and was 0.1"),
        ({"token_dropout": 0.2}, "token_dropout is 0.2 and was 0.0"),
        ({"class_weight": {"긍정": 1, "부정": 2}}, "class_weight is"),
        ({"max_length": 4}, "training examples differ.*validation examples differ"),
    ],
)
def test_other_settings_are_refused(bert, signs, run, settings, message):
    with pytest.raises(ValueError, match=rf"{run} .*{message}.*resume=False"):
        finetune(bert, *signs, seeds=(0,), directory=run, **(FEW | settings))


def test_other_data_and_another_checkpoint_are_refused(bert, signs, run, tokenizer, tmp_path):
    train, validation = signs
    for data, message in (
        ((train.select(range(300)), validation), ": .*training examples differ.*resume=False"),
        ((train, validation.select(range(39))), r": [\w ]*validation examples differ\. .*resume=False"),
    ):
        with pytest.raises(ValueError, match=message):
            finetune(bert, *data, seeds=(0,), directory=run, **FEW)
    other = save_bert(tokenizer, tmp_path, seed=1)
    with pytest.raises(ValueError, match=r": [\w ]*checkpoint's weights differ.*resume=False"):
        finetune(other, *signs, seeds=(0,), directory=run, **FEW)


def test_a_run_that_starts_anew_deletes_only_its_own_files(bert, signs, tmp_path):
    finetune(bert, *signs, seeds=(0, 1), directory=tmp_path, **FEW)
    mine = {"notes.txt": "mine", "history-seed-7.csv": "mine", "history.csv": "epoch\n0\n"}
    for name, text in mine.items():
        (tmp_path / name).write_text(text)
    OwnedFolder(tmp_path, "history").adopt(["history.csv", "history-seed-7.csv"])  # of other runs
    tuned = finetune(bert, *signs, seeds=(1,), directory=tmp_path, resume=False, **(FEW | {"epochs": 1}))
    assert len(tuned.histories[0]["loss"]) == 1
    assert {name: (tmp_path / name).read_text() for name in mine} == mine
    assert {path.name for path in tmp_path.glob("history*")} == {*mine, "history-seed-1.csv"} - {"notes.txt"}
    assert read_history(tmp_path / "history-seed-1.csv")["step"] == [20]
    stored = json.loads((tmp_path / "finetuning.json").read_text(encoding="utf-8"))
    assert list(stored["results"]) == ["1"]
    (tmp_path / "finetuning.json").write_text("{}")
    for resume in (True, False):
        with pytest.raises(FileExistsError, match=r"finetuning\.json .*\bfinetune\b.*another directory"):
            finetune(bert, *signs, seeds=(1,), directory=tmp_path, resume=resume, **FEW)


@pytest.mark.parametrize("writer", [None, "history"])
def test_a_history_of_others_stays_and_training_goes_on_without_it(tmp_path, package_log, writer):
    (tmp_path / "history-seed-1.csv").write_text("mine")
    if writer:
        OwnedFolder(tmp_path, writer).adopt(["history-seed-1.csv"])  # by another callback of this package
    with FinishedSeeds.open(tmp_path, {}, resume=False) as finished:
        assert finished.callbacks(1) == []
        assert [callback.path for callback in finished.callbacks(2)] == [tmp_path / "history-seed-2.csv"]
    assert (tmp_path / "history-seed-1.csv").read_text() == "mine"
    assert re.search(rf"^{tmp_path}/history-seed-1\.csv .*seed 1 .*Move the file away", package_log.messages[0])
    with FinishedSeeds.open(None, {}, resume=True) as finished:
        assert finished.callbacks(1) == []


def test_a_directory_in_use_is_refused(bert, signs, run):
    descriptor = lock(run / LOCK, "")
    try:
        with pytest.raises(BlockingIOError, match=rf"Another process.* {run}\b.*another directory"):
            finetune(bert, *signs, seeds=(0,), directory=run, **FEW)
    finally:
        os.close(descriptor)


def test_a_precision_that_is_chosen_is_that_of_the_finished_seeds(bert, signs, tmp_path, monkeypatch):
    speedups = [1.0]
    monkeypatch.setattr(precision, "_compare_precisions", lambda: ("", speedups[-1]))
    settings = FEW | {"epochs": 1, "directory": tmp_path, "precision": "auto"}
    first = finetune(bert, *signs, seeds=(0,), **settings)
    speedups.append(2.0)
    both = finetune(bert, *signs, seeds=(0, 1), **settings)
    assert both.metrics["loss"]["values"][0] == first.metrics["loss"]["values"][0]
    assert both.model.precision == "float32"


def test_results_of_others_are_refused_by_name_before_anything_reads_them(bert, signs, tmp_path):
    (tmp_path / "finetuning.json").write_text("[1, 2]")
    with pytest.raises(FileExistsError, match=r"finetuning\.json.*another directory"):
        finetune(bert, *signs, directory=tmp_path, precision="auto", **FEW)
    assert (tmp_path / "finetuning.json").read_text() == "[1, 2]"


def test_seeds_that_were_finished_under_a_policy_go_on_under_it(bert, signs, tmp_path):
    settings = FEW | {"epochs": 1, "directory": tmp_path, "precision": "auto"}
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        first = finetune(bert, *signs, seeds=(0,), **settings)
        both = finetune(bert, *signs, seeds=(0, 1), **settings)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert both.metrics["loss"]["values"][0] == first.metrics["loss"]["values"][0]
