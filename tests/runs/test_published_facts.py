"""How often a run validates, and what `metrics.json` and the card have of its corpus and its base."""

import dataclasses
import json
import math

import pytest

from keras_pretrain.runs import AdaptSettings, BertSettings, FinetuneSettings, Run, write_metrics
from keras_pretrain.runs.metrics import describe_corpus
from keras_pretrain.training.forecast import Pace


def pace(validation):
    """Of a run whose steps take a second."""
    return Pace(
        seconds_per_step=1.0,
        seconds_per_validation=validation,
        seconds_to_compile=0.0,
        memory=0,
        checkpoint_bytes=0,
    )


@pytest.mark.parametrize(("seconds", "validations"), [(0.1, 10), (5.0, 10), (10.0, 5), (40.0, 1), (18_000.0, 1)])
def test_validation_takes_five_percent_of_the_time(tmp_path, seconds, validations):
    """But for the one at the end, which every run has. Ten times 10 s would be 10% of 1,000 s."""
    run = Run(BertSettings(steps=1000, steps_per_epoch=100, output=tmp_path))
    run.settings = run.settings.completed()
    assert run._choose_validations([pace(seconds)]) == validations
    every = -(-run._epochs // validations)
    run.settings = dataclasses.replace(run.settings, validation_every=every)
    validated = run._validated_epochs(run.settings.plan()[0])
    assert len(validated) <= validations
    assert validated[-1] == 10


def metrics_of(folder):
    def refuse(constant):
        raise ValueError(f"{constant} is not JSON")

    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.mark.parametrize("kind", [FinetuneSettings, AdaptSettings])
@pytest.mark.parametrize(
    ("model", "name", "base"),
    [("klue/bert-base", "klue/bert-base", "klue/bert-base"), ("/home/kim/bert", None, "a local checkpoint")],
)
def test_the_base_is_told_by_its_name_on_the_hub_alone(tmp_path, monkeypatch, kind, model, name, base):
    monkeypatch.setattr("keras_pretrain.models.loading.check_checkpoint", lambda *_: None)
    (tmp_path / "train.csv").write_text("text,label\n")
    settings = {"train": tmp_path / "train.csv"} if kind is FinetuneSettings else {}
    settings = kind(model=model, output=tmp_path / "out", **settings)
    write_metrics(settings, {"loss": math.nan, "accuracy": 0.5, "std": {"loss": math.inf}})
    metrics = metrics_of(tmp_path / "out")
    assert (metrics["base_model"], metrics["base"]) == (name, base)
    assert (metrics["loss"], metrics["accuracy"], metrics["std"]) == (None, 0.5, {"loss": None})
    assert "kim" not in (tmp_path / "out" / "metrics.json").read_text(encoding="utf-8")


def test_a_prepared_folder_is_not_the_sample(tmp_path):
    (tmp_path / "texts.txt").write_text("글")
    names = {"prepared": tmp_path, "corpus": str(tmp_path / "texts.txt")}
    assert [describe_corpus(BertSettings(**{key: value}))["name"] for key, value in names.items()] == [None, None]
    assert describe_corpus(BertSettings())["name"] == "the sample inside keras_pretrain"
    assert describe_corpus(BertSettings(prepared=tmp_path, corpus_name="우리 글"))["name"] == "우리 글"
