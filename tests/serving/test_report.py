"""What the page is told of a run, from the files that runs write."""

import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

import keras_pretrain as kp
from keras_pretrain.export.hub import snapshot
from keras_pretrain.runs.metrics import write_metrics, write_record
from keras_pretrain.runs.recipes import recipe_names
from keras_pretrain.runs.settings import BertSettings, FinetuneSettings
from keras_pretrain.serving import report
from keras_pretrain.serving.report import report_run
from keras_pretrain.training.previews import read_previews

pytest_plugins = ["pages"]


def test_a_run_before_its_first_epoch(run_writer):
    found = report_run(run_writer.folder)
    assert (found["kind"], found["step"], found["steps"], found["panels"]) == ("bert", 0, 40, [])
    assert (found["seconds_left"], found["seconds_since"], found["previews"], found["metrics"]) == (None, None, [], {})


def test_curves_speed_and_time_left(run_writer, monkeypatch):
    run_writer.write_epoch(loss=3.0)
    run_writer.write_epoch(loss=2.0, val_loss=2.5, learning_rate=1e-3)
    written = (run_writer.folder / "history.csv").stat().st_mtime
    monkeypatch.setattr(report.time, "time", lambda: written + 5)
    found = report_run(run_writer.folder)
    assert (found["step"], found["steps"]) == (20, 40)
    assert found["panels"][0] == {
        "title": "loss",
        "series": [{"name": "loss", "points": [[10, 3.0], [20, 2.0]]}, {"name": "val_loss", "points": [[20, 2.5]]}],
    }
    # 20 steps of 32 × 128 positions, half of them padding, at 1,000 tokens a second; five seconds have passed.
    assert found["seconds_left"] == pytest.approx(20 * 32 * 128 * 0.5 / 1000 - 5)
    assert found["seconds_since"] == pytest.approx(5)
    os.utime(run_writer.folder / "run.yaml", (written - 100, written - 100))  # validation and all else took their time
    assert report_run(run_writer.folder)["seconds_left"] == pytest.approx(20 * 100 / 20 - 5)
    assert found["speed"] == {"tokens_per_second": 1000.0, "padding": 0.5, "learning_rate": 1e-3}


def test_the_curves_of_the_recipe(run_writer, tmp_path, monkeypatch):
    (recipe, *_) = recipe_names()
    (tmp_path / "curves.csv").write_text("step,loss,val_loss,val_loss_spread\n10,4,NA,NA\n40,2,3,0.1\n")
    monkeypatch.setattr(report, "curves_file", lambda *name_and_part: tmp_path / "curves.csv")
    assert report_run(run_writer.folder)["reference"] == {}
    run_writer.follow(recipe)
    found = report_run(run_writer.folder)
    assert found["recipe"] == recipe
    assert found["reference"]["loss"] == [[10, 4.0], [40, 2.0]]
    assert found["reference"]["val_loss"] == [[40, 3.0]]


def test_a_finished_run_has_metrics_and_no_time_left(run_writer):
    write_metrics(run_writer.settings, {"mlm_loss": 1.5, "tokens_per_second": 10.0})
    assert report_run(run_writer.folder)["metrics"] == {}
    for _ in range(4):
        run_writer.write_epoch(loss=1.0)
    found = report_run(run_writer.folder)
    assert (found["step"], found["seconds_left"]) == (40, None)
    assert found["metrics"] == {"mlm_loss": 1.5, "tokens_per_second": 10.0}


def test_values_that_are_no_numbers_are_left_out(run_writer):
    run_writer.write_epoch(loss=float("nan"))
    run_writer.write_epoch(loss=1.0, val_loss=float("inf"))
    (panel,) = report_run(run_writer.folder)["panels"]
    assert panel["series"] == [{"name": "loss", "points": [[20, 1.0]]}]


def test_phases_follow_one_another(tmp_path):
    settings = BertSettings(phases=("32:0.5", "64:0.5"), steps=40, steps_per_epoch=10, output=tmp_path).completed()
    write_record(settings)
    for part, losses in {"-32": (4.0, 3.0), "-64": (2.0,)}.items():
        history = kp.callbacks.CSVHistory(tmp_path / f"history{part}.csv")
        history.set_params({"steps": 10})
        history.on_train_begin()
        for epoch, loss in enumerate(losses):
            history.on_epoch_begin(epoch)
            history.on_epoch_end(epoch, {"loss": loss, "tokens_per_second": 1000.0})
    found = report_run(tmp_path)
    assert found["panels"][0]["series"][0]["points"] == [[10, 4.0], [20, 3.0], [30, 2.0]]
    assert (found["step"], found["steps"]) == (30, 40)
    assert found["seconds_left"] == pytest.approx(10 * 64 * 16 / 1000, abs=2)


def test_history_without_a_record(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,loss,step\n0,1.0,10\n")
    found = report_run(tmp_path)
    assert (found["kind"], found["step"], found["steps"], found["settings"]) == (None, 10, None, {})
    (tmp_path / "history.csv").write_text("not a history")
    assert report_run(tmp_path)["panels"] == []


def test_the_seeds_of_a_fine_tuning_are_beside_one_another(seed_writer, folders, tmp_path):
    seed_writer.write_epoch(0, 0, accuracy=0.5, loss=0.9, val_loss=0.8, val_f1=0.4)
    seed_writer.write_epoch(0, 1, accuracy=0.7, loss=0.6, val_loss=0.7, val_f1=float("nan"))
    seed_writer.write_epoch(1, 0, accuracy=0.6, loss=0.8, val_loss=0.9, val_f1=0.5)
    folder = seed_writer.folder
    os.utime(folder / "run" / "history-seed-0.csv", (1, 1))  # seed 1 is trained
    found = report_run(folder)
    assert (found["kind"], found["step"], found["steps"], found["speed"]) == (None, 10, None, {})
    assert {panel["title"]: [each["name"] for each in panel["series"]] for panel in found["panels"]} == {
        "loss": ["loss, seed 0", "val_loss, seed 0", "loss, seed 1", "val_loss, seed 1"],
        "accuracy": ["accuracy, seed 0", "accuracy, seed 1"],
        "f1": ["val_f1, seed 0", "val_f1, seed 1"],
    }
    assert found["panels"][0]["title"] == "loss"
    assert found["panels"][0]["series"][0]["points"] == [[10, 0.9], [20, 0.6]]
    assert found["panels"][2]["series"][0]["points"] == [[10, 0.4]]
    assert report_run(folder / "run")["panels"] == found["panels"]
    (tmp_path / "labelled.csv").write_text("text,label\n가,좋음\n")
    settings = FinetuneSettings(model=str(folders / "bert"), train=tmp_path / "labelled.csv", output=folder)
    write_metrics(settings, {"accuracy": 0.75})
    finished = report_run(folder)
    assert (finished["kind"], finished["metrics"]) == ("finetune", {"accuracy": 0.75})
    assert finished["panels"] == found["panels"]
    (folder / "run" / "history-seed-0.csv").write_text("not a history")
    assert [each["name"] for each in report_run(folder)["panels"][0]["series"]] == ["loss, seed 1", "val_loss, seed 1"]


def test_private_settings_stay_on_loopback(tmp_path, serve):
    (tmp_path / "secret.txt").write_text("가.\n")
    settings = BertSettings(corpus=str(tmp_path / "secret.txt"), corpus_name="reviews", output=tmp_path / "my_run")
    write_record(settings.completed())
    with serve(settings.output) as near:
        assert near.get("/api/run").json()["settings"]["corpus"] == str(tmp_path / "secret.txt")
    with serve(settings.output, "0.0.0.0") as far:
        assert str(tmp_path) not in far.get("/api/run").text + far.get("/api/about").text
        assert far.get("/api/run").json()["settings"]["corpus_name"] == "reviews"


class Model:
    """What a preview asks of a model."""

    def __init__(self, vocabulary):
        self.optimizer = SimpleNamespace(iterations=tf.Variable(0))
        self._vocabulary = vocabulary

    def __call__(self, inputs, training):
        return SimpleNamespace(prediction_logits=tf.zeros((1, inputs["input_ids"].shape[1], self._vocabulary)))


def test_previews_are_kept_in_a_file_and_those_after_a_checkpoint_again(run_writer, tokenizer, capsys):
    ids = np.array([[tokenizer.cls_token_id, tokenizer.mask_token_id, 6, tokenizer.sep_token_id]])
    inputs = {"input_ids": ids, "token_type_ids": np.zeros_like(ids), "attention_mask": np.ones_like(ids)}
    labels = {"labels": np.array([[-100, 5, -100, -100]])}
    path = run_writer.folder / "previews.txt"

    def train(first, last):
        preview = kp.callbacks.FillMaskPreview((inputs, labels), tokenizer, every_steps=10, path=path)
        model = Model(len(tokenizer))
        preview.set_model(model)
        model.optimizer.iterations.assign(first)
        preview.on_train_begin()
        for step in range(first + 1, last + 1):
            model.optimizer.iterations.assign(step)
            preview.on_train_batch_end(step)
        return preview.render()

    text = train(0, 25)
    assert "masked  [MASK] 나" in text
    assert read_previews(path) == [(10, text), (20, text)]
    train(15, 40)  # killed after step 25, and resumed from a checkpoint at 15
    assert [step for step, _ in read_previews(path)] == [10, 20, 30, 40]
    assert [each["step"] for each in report_run(run_writer.folder)["previews"]] == [40, 30, 20]
    path.write_text("my own file")
    with pytest.raises(FileExistsError, match=r"previews\.txt"):
        train(0, 1)
    assert read_previews(path) == []
    assert report_run(run_writer.folder)["previews"] == []


def test_previews_are_not_uploaded(folders, tmp_path):
    folder = tmp_path / "bert"
    shutil.copytree(folders / "bert", folder)
    (folder / "previews-128.txt").write_text("step 10\n  masked  [MASK]\n\n")
    with snapshot(folder) as taken:
        assert (taken.folder / "config.json").exists()
        assert not list(taken.folder.rglob("previews*"))
