"""The life of a run by command: forecast, kill, resume, extension, hours, evaluation, export."""

import csv
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import no_xla
from safetensors.numpy import load_file
from transformers import AutoTokenizer

import keras_pretrain as kp
from keras_pretrain.commands import main
from keras_pretrain.runs import read_settings
from keras_pretrain.runs import run as run_module
from keras_pretrain.training import callbacks
from keras_pretrain.training.figures import RunFigures
from keras_pretrain.training.forecast import Pace

pytestmark = pytest.mark.usefixtures("without_xla")
TINY = ["--batch-size", "4", "--block-size", "32", "--vocab-size", "600", "--num-proc", "1", "--passes", "1",
        "--steps-per-epoch", "2", "--schedule", "constant", "--warmup-ratio", "0",
        "--precision", "float32"]  # fmt: skip


def command(*arguments) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    output = tmp_path_factory.mktemp("finished")
    with no_xla():
        assert command("bert", *TINY, "--steps", "8", "--output", output, "--corpus-name", "우리 글") == 0
    return output


def metrics_of(folder) -> dict:
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def test_a_run_leaves_its_record_metrics_history_and_card(finished):
    record = read_settings(finished / "run.yaml")
    assert (record.steps, record.block_size, record.learning_rate) == (8, 32, 1e-3)
    metrics = metrics_of(finished)
    assert metrics["corpus"]["name"] == "우리 글"
    assert metrics["seconds"]["forecast"] > 0
    assert "우리 글" in (finished / "README.md").read_text(encoding="utf-8")
    with (finished / "history.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "4", "6", "8"]
    assert (finished / "previews.txt").read_text(encoding="utf-8").startswith("step 1\n  masked ")


def test_measuring_leaves_no_trace_and_an_extension_equals_a_longer_run(finished, tmp_path, package_log):
    """The rate is constant, so that 4 steps and then 8 are the same as 8."""
    assert command("bert", *TINY, "--steps", "4", "--output", tmp_path) == 0
    package_log.clear()
    assert command("bert", *TINY, "--steps", "8", "--output", tmp_path) == 0
    assert "4" in package_log.text
    assert "8 steps" in package_log.text
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path, finished))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    record = read_settings(tmp_path / "run.yaml")
    assert (record.steps, record.glue_after) == (8, 2)  # half of the steps that were planned at first


@pytest.fixture
def slow_steps(monkeypatch):
    """Every step takes 100 s, as far as the forecast knows: what is chosen does not depend on this machine's speed."""
    pace = Pace(
        seconds_per_step=100.0, seconds_per_validation=10.0, seconds_to_compile=0.0, memory=0, checkpoint_bytes=0
    )
    monkeypatch.setattr(run_module, "_measure", lambda *_: pace)


def test_hours_choose_the_steps_once(tmp_path, slow_steps):
    arguments = ["bert", *TINY, "--hours", "0.5", "--output", tmp_path]
    assert command(*arguments) == 0
    steps = read_settings(tmp_path / "run.yaml").steps
    assert 10 <= steps <= 16  # 1,800 s, of which preparation and validation take their part, have room for 16
    assert command(*arguments) == 0
    assert read_settings(tmp_path / "run.yaml").steps == steps


def test_a_killed_command_goes_on_to_its_end(tmp_path):
    arguments = [sys.executable, "-m", "keras_pretrain", "bert", *TINY, "--steps", "8", "--output", str(tmp_path)]
    arguments += ["--checkpoint-every", "1"]
    environment = os.environ | {"TF_XLA_FLAGS": "--tf_xla_auto_jit=0"}
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        before = set(tmp_path.glob("run/step-*"))
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        process = subprocess.Popen(arguments, env=environment, **pipes)
        for line in process.stdout:  # an epoch's end may be repeated first, which saves nothing
            if line.startswith("epoch ") and set(tmp_path.glob("run/step-*")) != before:
                break
        process.send_signal(number)
        process.communicate()
        assert process.returncode in {-number, 128 + number, 0}
    assert subprocess.run(arguments, env=environment, capture_output=True, check=False).returncode == 0
    ours = load_file(tmp_path / "model.safetensors")
    assert all(np.isfinite(value).all() for value in ours.values())
    with (tmp_path / "history.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "4", "6", "8"]


def test_stopped_before_and_after_glue_after_a_run_ends_with_the_same_weights(tmp_path, monkeypatch, capsys):
    """64 steps are made at once, so that gaps are glued from step 64 on."""
    stop_at = []

    class Stopping(RunFigures):
        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            if int(self.model.optimizer.iterations) in stop_at:
                stop_at.clear()
                raise KeyboardInterrupt

    monkeypatch.setattr(callbacks, "RunFigures", Stopping)
    long_epochs = [{"2": "10"}.get(each, each) for each in TINY]
    run = ["bert", *long_epochs, "--objective", "mlm", "--no-packed", "--steps", "90", "--checkpoint-every", "7"]
    weights = {}
    for name, glue_after, stops in (("whole", 40, ()), ("stopped", 40, (61, 80)), ("without", 90, ())):
        arguments = [*run, "--glue-after", glue_after, "--output", tmp_path / name]
        for step in stops:
            stop_at[:] = [step]
            assert command(*arguments) == 130
            assert "the same command continues" in capsys.readouterr().err
        assert command(*arguments) == 0
        weights[name] = load_file(tmp_path / name / "model.safetensors")
    assert all(np.array_equal(weights["stopped"][part], value) for part, value in weights["whole"].items())
    trained = "bert.embeddings.word_embeddings.weight"
    assert not np.array_equal(weights["without"][trained], weights["whole"][trained])


def write_corpus(path, *, documents=60, word="데이터"):
    texts = (f"문서 {i}번이다.\n{word}를 모은다.\n모델을 배운다.\n파일을 지운다." for i in range(documents))
    path.write_text("\n\n".join(texts), encoding="utf-8")
    return path


def test_a_refused_command_leaves_the_record_as_it_was(finished, tmp_path, capsys):
    before = (finished / "run.yaml").read_bytes()
    other = write_corpus(tmp_path / "other.txt")
    assert command("bert", *TINY, "--steps", "20", "--output", finished, "--corpus", other) == 2
    assert "corpus" in capsys.readouterr().err
    assert (finished / "run.yaml").read_bytes() == before
    assert command("bert", *TINY, "--steps", "8", "--output", finished) == 0
    assert read_settings(finished / "run.yaml").corpus_name == "우리 글"


def test_an_english_prepared_run_is_resumed_and_its_card_has_what_was_used(tmp_path):
    corpus = tmp_path / "corpus.txt"
    texts = (f"Text {i} has cats. They sleep. The cats eat fish. Nobody knows why." for i in range(60))
    corpus.write_text("\n\n".join(texts), encoding="utf-8")
    arguments = ["--corpus", corpus, "--output", tmp_path / "prepared", "--language", "en", "--vocab-size", "200"]
    assert command("prepare", *arguments, "--block-size", "32", "--passes", "2", "--num-proc", "1") == 0
    run = ["bert", "--prepared", tmp_path / "prepared", "--steps-per-epoch", 2, "--batch-size", 4]
    for steps in (2, 2, 4):
        assert command(*run, "--steps", steps, "--output", tmp_path / "out") == 0
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "English" in card
    assert "| passes | 2 |" in card  # those of the prepared folder
    assert "| backend | punkt |" in card
    assert "| line by line | False |" in card
    assert "| vocab size |" not in card
    assert "| steps | 4 |" in card


def test_a_run_that_starts_anew_leaves_nothing_of_other_phases(tmp_path):
    phased = [each for each in TINY if each not in ("--block-size", "32")]
    assert command("bert", *phased, "--phases", "16:0.5", "32:0.5", "--steps", 4, "--output", tmp_path) == 0
    (tmp_path / "run-16" / "notes.txt").write_text("mine")
    assert command("bert", *TINY, "--steps", 2, "--no-resume", "--output", tmp_path) == 0
    assert [path.name for path in tmp_path.glob("*.png")] == ["training_curves.png"]
    assert not list(tmp_path.glob("run-*/step-*"))
    assert (tmp_path / "run-16" / "notes.txt").read_text() == "mine"
    assert read_settings(tmp_path / "run.yaml").glue_after == 1
    assert "training_curves-16" not in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_hours_are_shared_out_among_phases(tmp_path, slow_steps):
    phased = [each for each in TINY if each not in ("--block-size", "32")]
    arguments = ["--phases", "16:0.3", "24:0.6", "32:0.1", "--hours", "0.5"]
    assert command("bert", *phased, *arguments, "--output", tmp_path) == 0
    record = read_settings(tmp_path / "run.yaml")
    assert record.steps == sum(phase.steps for phase in record.plan())
    assert [phase.block_size for phase in record.plan()] == [16, 24, 32]
    assert max(record.plan(), key=lambda phase: phase.steps).block_size == 24


def test_too_few_hours_are_refused_before_training(tmp_path, slow_steps, capsys):
    assert command("bert", *TINY, "--hours", "0.01", "--output", tmp_path) == 2
    assert "--hours" in capsys.readouterr().err
    assert not (tmp_path / "run.yaml").exists()


def test_phases_and_electra(tmp_path):
    phased = [each for each in TINY if each not in ("--block-size", "32")]
    arguments = ["--phases", "16:0.5", "32:0.5", "--steps", "4", "--lowercase"]
    assert command("electra", *phased, *arguments, "--output", tmp_path) == 0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.tokenize("DATA") == tokenizer.tokenize("data")
    assert {path.name for path in tmp_path.glob("run-*")} == {"run-16", "run-32"}
    assert (tmp_path / "generator" / "model.safetensors").exists()
    assert read_settings(tmp_path / "run.yaml").glue_after == 0


def test_line_by_line_from_the_text_to_the_evaluation(tmp_path, package_log):
    documents = [[f"{i}번 글의 {j}번 줄을 읽는다. 좋다." for j in range(2 + i % 3)] for i in range(40)]
    corpus, output = tmp_path / "lines.txt", tmp_path / "bert"
    corpus.write_text("\n\n".join(map("\n".join, documents)), encoding="utf-8")
    given = ["--corpus", corpus, "--line-by-line"]
    assert command("bert", *TINY, *given, "--objective", "mlm", "--steps", 2, "--output", output) == 0
    parts = kp.load_corpus(corpus)
    counts = {name: sum(text.count("\n") + 1 for text in part["text"]) for name, part in parts.items()}
    for name, count in counts.items():
        assert f"{name}: {count} segments, from {len(parts[name])} documents" in package_log.text
    assert command("evaluate", "--model", output, "--json-file", tmp_path / "m.json") == 0
    found = json.loads((tmp_path / "m.json").read_text())[str(output)]
    settings = {"block_size": 32, "line_by_line": True}
    assert found == pytest.approx(kp.evaluation.evaluate_mlm(output, parts["validation"], **settings))
    tiny = [each for each in TINY if each not in ("--vocab-size", "600")]
    assert command("adapt", *tiny, *given, "--steps", 2, "--model", output, "--output", tmp_path / "adapted") == 0
    assert read_settings(tmp_path / "adapted" / "run.yaml").objective == "mlm"  # though documents have sentences
    assert metrics_of(tmp_path / "adapted")["before"] == pytest.approx(found)
    prepared = tmp_path / "prepared"
    given += ["--objective", "rtd", "--vocab-size", 600, "--passes", 3, "--num-proc", 1]
    assert command("prepare", *given, "--output", prepared) == 0
    assert kp.load_prepared(prepared).report["train"]["examples"] == counts["train"]


def test_a_finished_model_is_evaluated_asked_and_adapted(finished, tmp_path, capsys):
    assert command("evaluate", "--model", finished) == 0
    assert "mlm_loss" in capsys.readouterr().out
    assert command("evaluate", "--model", finished, "--json-file", tmp_path / "m.json") == 0
    assert json.loads((tmp_path / "m.json").read_text())[str(finished)]["masked_tokens"] > 0
    capsys.readouterr()
    assert command("fill-mask", "--model", finished, "--top-k", 2, "컴퓨터는 [MASK]를 [MASK].") == 0
    assert len(capsys.readouterr().out.splitlines()) == 7
    labelled = tmp_path / "labelled.csv"
    rows = [f"모델을 배운다 {i},배움" if i % 2 else f"파일을 지운다 {i},파일" for i in range(40)]
    labelled.write_text("\n".join(["글,종류", *rows]), encoding="utf-8")
    assert command(
        "adapt", *[each for each in TINY if each not in ("--vocab-size", "600")], "--steps", 2, "--model", finished,
        "--new-tokens", 2, "--task-train", labelled, "--task-text-column", "글", "--task-label-column", "종류",
        "--task-seeds", 1, "--task-epochs", 1, "--output", tmp_path / "adapted",
    ) == 0  # fmt: skip
    metrics = metrics_of(tmp_path / "adapted")
    assert metrics["before"]["mlm_loss"] != metrics["adapted"]["mlm_loss"]
    assert "task_accuracy" in metrics["adapted"]
    assert metrics["base"] == "a local checkpoint"
    columns = ["--text-column", "글", "--label-column", "종류"]
    assert command(
        "finetune", "--model", finished, "--train", labelled, "--validation", "0.25", *columns, "--epochs", 1,
        "--batch-size", 8, "--seeds", 2, "--output", tmp_path / "classifier",
    ) == 0  # fmt: skip
    assert set(metrics_of(tmp_path / "classifier")["by_seed"]) == {"42", "43"}
    capsys.readouterr()
    assert command("evaluate", "--model", tmp_path / "classifier", "--corpus", labelled, *columns) == 0
    assert "accuracy" in capsys.readouterr().out
