import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from datasets import Dataset
from tasks import SETTINGS, WIDTHS, save_bert, with_a_number, with_a_sign, with_a_sign_on_either_side
from transformers import BertConfig, ElectraConfig, pipeline

import keras_pretrain as kp
from keras_pretrain.finetuning.metrics import spread
from keras_pretrain.models.sizes import finetuning_learning_rate
from keras_pretrain.tokenization import cleaning_of, record_cleaning

finetune = kp.finetuning.finetune


@pytest.fixture(scope="module")
def bert(tokenizer, tmp_path_factory):
    return save_bert(tokenizer, tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def signs():
    return with_a_sign(320, 0), with_a_sign(40, 1)


@pytest.fixture(scope="module")
def electra(tokenizer, tmp_path_factory):
    tf.keras.utils.set_random_seed(0)
    configs = [ElectraConfig(embedding_size=16, **WIDTHS) for _ in range(2)]
    pair = kp.ElectraPretrainer(*configs, tokenizer)
    return kp.save_checkpoint(pair, tokenizer, tmp_path_factory.mktemp("electra"))


@pytest.fixture(scope="module")
def tuned(bert, signs):
    return finetune(bert, *signs, epochs=6, seeds=(0, 2), **SETTINGS)


def test_a_class_with_a_known_sign_is_learned_by_every_seed(tuned):
    assert tuned.metrics["accuracy"]["values"] == [1.0, 1.0]
    assert tuned.metrics["f1"]["mean"] == tuned.metrics["f1_macro"]["mean"] == 1.0
    assert tuned.metrics["loss"]["std"] > 0
    assert tuned.model.config.id2label == {0: "긍정", 1: "부정"}
    assert [len(history["val_f1_macro"]) for history in tuned.histories] == [6, 6]
    assert tuned.best_seed in (0, 2)


def test_the_same_seed_gives_the_same_run_whatever_ran_before(bert, signs, tuned):
    again = finetune(bert, *signs, epochs=6, seeds=(2,), **SETTINGS)
    assert again.metrics["loss"]["values"] == tuned.metrics["loss"]["values"][1:]
    assert again.histories[0]["loss"] == tuned.histories[1]["loss"]


def test_predictions_are_labels_and_probabilities(tuned, tmp_path):
    kp.save_checkpoint(tuned.model, tuned.tokenizer, tmp_path)
    texts = ["나 가 다", "나 다 라 마", "가 가 가"]
    predictions = kp.finetuning.predict(tmp_path, texts)
    assert predictions.labels == ["긍정", "부정", "긍정"]
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert predictions.probabilities.shape == (3, 2)
    of_model = kp.finetuning.predict(tuned.model, texts, tokenizer=tuned.tokenizer, batch_size=2)
    np.testing.assert_allclose(of_model.probabilities, predictions.probabilities, atol=1e-5)
    stock = pipeline("text-classification", model=str(tmp_path), framework="tf")(texts)
    assert [answer["label"] for answer in stock] == predictions.labels
    likeliest = predictions.probabilities.max(axis=1)
    np.testing.assert_allclose([answer["score"] for answer in stock], likeliest, atol=1e-4)


def test_a_third_set_is_evaluated(tuned):
    third = with_a_sign(30, 2)
    figures = kp.finetuning.evaluate(tuned.model, third, tokenizer=tuned.tokenizer)
    predicted = kp.finetuning.predict(tuned.model, third["text"], tokenizer=tuned.tokenizer).labels
    assert figures["accuracy"] == np.mean(np.array(predicted) == np.array(third["label"])) > 0.9


@pytest.mark.usefixtures("without_xla")
def test_an_electra_learns_from_pairs(electra):
    tuned = finetune(
        electra, with_a_sign_on_either_side(320, 0), with_a_sign_on_either_side(60, 1), epochs=6, **SETTINGS
    )
    assert tuned.metrics["accuracy"]["mean"] == 1.0
    assert type(tuned.model).__name__ == "ElectraClassifier"
    texts, pairs = ["가 다", "나 다", "나 다"], ["나 라", "나 가", "나 라"]
    predicted = kp.finetuning.predict(tuned.model, texts, pairs, tokenizer=tuned.tokenizer)
    assert predicted.labels == ["긍정", "긍정", "부정"]


@pytest.mark.usefixtures("without_xla")
def test_a_number_is_learned_from_pairs(bert):
    tuned = finetune(bert, with_a_number(320, 0), with_a_number(60, 1), regression=True, epochs=6, **SETTINGS)
    assert tuned.metrics["pearson"]["mean"] > 0.98
    assert tuned.metrics["spearman"]["mean"] > 0.95
    assert tuned.metrics["loss"]["mean"] < 0.3
    assert tuned.model.config.problem_type == "regression"
    predicted = kp.finetuning.predict(
        tuned.model, ["가 가 가", "나 나 나"], ["가 가 가", "나 나 나"], tokenizer=tuned.tokenizer
    )
    np.testing.assert_allclose(predicted.labels, [6, 0], atol=1.0)
    assert predicted.probabilities is None


@pytest.mark.usefixtures("without_xla")
def test_early_stopping_keeps_the_best_epoch(bert, signs):
    tuned = finetune(bert, *signs, epochs=30, patience=2, **SETTINGS)
    (history,) = tuned.histories
    assert len(history["val_accuracy"]) < 30
    assert tuned.metrics["accuracy"]["mean"] == max(history["val_accuracy"])
    assert len(history["val_accuracy"]) == int(np.argmax(history["val_accuracy"])) + 3


class Begun(Exception):
    """Training has got its batches."""


def test_balanced_weights_are_those_that_make_classes_equal(bert, monkeypatch):
    def begin(*_, class_weight, **__):
        raise Begun(class_weight)

    monkeypatch.setattr("keras_pretrain.finetuning.training.packed_dataset", begin)
    train = Dataset.from_dict({"text": ["가 나"] * 8, "label": ["a"] * 6 + ["b"] * 2})
    for given, used in (("balanced", {0: 8 / 12, 1: 2.0}), ({"b": 3, "a": 1}, {0: 1.0, 1: 3.0}), (None, None)):
        with pytest.raises(Begun) as begun:
            finetune(bert, train, train, class_weight=given, **SETTINGS)
        assert begun.value.args == (used,)
    with pytest.raises(ValueError, match=r"class_weight .*\['a'\].*\['a', 'b'\]"):
        finetune(bert, train, train, class_weight={"a": 1}, **SETTINGS)


@pytest.mark.usefixtures("without_xla")
def test_class_weights_and_layerwise_decay_reach_the_training(bert, signs):
    weights = {"긍정": 0.0, "부정": 1.0}
    tuned = finetune(bert, *signs, epochs=1, class_weight=weights, layerwise_decay=0.5, **SETTINGS)
    said = kp.finetuning.predict(tuned.model, signs[1]["text"], tokenizer=tuned.tokenizer)
    assert set(said.labels) == {"부정"}
    assert tuned.model.optimizer.layerwise_decay == 0.5
    assert tuned.settings["layerwise_decay"] == 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs .*at least 1 .*not 0"),
        ({"epochs": 1.5}, "epochs .*whole number, not 1.5"),
        ({"dropout": 1.0}, "dropout .*below 1, not 1.0"),
        ({"seeds": ()}, "at least one seed"),
        ({"seeds": (1, 1)}, "each once"),
        ({"seeds": (-1,)}, r"from 0 to 2147483647, not \[-1\]"),
        ({"seeds": (2**31,)}, "from 0 to 2147483647"),
        ({"max_length": 3}, "max_length .*at least 4 .*not 3"),
        ({"patience": 0}, "patience .*at least 1 .*not 0"),
        ({"learning_rate": -1.0}, "learning_rate .*above 0 .*not -1.0"),
        ({"learning_rate": math.nan}, "learning_rate .*above 0 .*not nan"),
        ({"learning_rate": math.inf}, "learning_rate .*finite, not inf"),
        ({"token_dropout": 1.0}, "token_dropout .*below 1, not 1.0"),
        ({"layerwise_decay": 1.5}, "layerwise_decay .*above 0 and at most 1, not 1.5"),
        ({"layerwise_decay": math.nan}, "layerwise_decay .*above 0 and at most 1, not nan"),
        ({"warmup_ratio": -0.1}, "warmup_ratio .*from 0 to 1, not -0.1"),
        ({"weight_decay": math.nan}, "weight_decay .*at least 0.*not nan"),
        ({"class_weight": "equal"}, "class_weight .*'balanced'.*not 'equal'"),
        ({"class_weight": {"긍정": -1, "부정": 1}}, "class_weight .*finite, at least 0.*'긍정': -1"),
        ({"class_weight": {"긍정": math.nan, "부정": 1}}, "class_weight .*finite, at least 0.*'긍정': nan"),
        ({"class_weight": {"긍정": 0, "부정": 0}}, "class_weight .*not all 0"),
        ({"class_weight": "balanced", "regression": True}, "class_weight .*regression has none"),
        ({"cleaning": "rough"}, r"'rough'.*'comments', 'prose', 'none'"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_loaded(settings, message):
    with pytest.raises(ValueError, match=message):
        finetune("there/is/no/such/checkpoint", None, None, **(SETTINGS | settings))


def test_the_default_rate_is_lower_for_wider_encoders():
    widths = (128, 256, 768, 1024, 2048)
    of_bert, of_electra = (
        [finetuning_learning_rate(kind(hidden_size=width)) for width in widths] for kind in (BertConfig, ElectraConfig)
    )
    assert of_bert == [3e-4, 1e-4, 5e-5, 3e-5, 1e-5]
    assert of_electra == [3e-4, 3e-4, 5e-5, 3e-5, 1e-5]  # its paper's rate for a width of 256


def test_workers_on_several_machines_are_refused(monkeypatch):
    monkeypatch.setattr("keras_pretrain.finetuning.training.Workers", lambda strategy: SimpleNamespace(count=2))
    with pytest.raises(ValueError, match=r"one machine.*MirroredStrategy"):
        finetune("there/is/no/such/checkpoint", None, None, **SETTINGS)


def test_a_length_that_the_model_has_no_positions_for_is_refused(bert, signs):
    with pytest.raises(ValueError, match=r"\b64 tokens .*\b32 positions"):
        finetune(bert, *signs, **(SETTINGS | {"max_length": 64}))


@pytest.mark.usefixtures("without_xla")
def test_training_that_diverges_says_so(bert, signs):
    with pytest.raises(FloatingPointError, match=r"training has diverged.*lower learning_rate"):
        finetune(bert, *signs, **(SETTINGS | {"learning_rate": 1e36}))


def test_examples_that_cannot_be_are_refused_before_training(bert, signs):
    one_class = Dataset.from_dict({"text": ["가"] * 20, "label": ["a"] * 20})
    with pytest.raises(ValueError, match=r"\btrain .*label 'a'.*two"):
        finetune(bert, one_class, one_class)
    with pytest.raises(ValueError, match=r"validation .*: 'a' .*\btrain .*keep_labels"):
        finetune(bert, signs[0], one_class)
    with pytest.raises(ValueError, match=r"train and validation .*pairs"):
        finetune(bert, signs[0], with_a_sign_on_either_side(10, 0))


def test_predict_refuses_what_it_cannot_read(tuned):
    with pytest.raises(ValueError, match=r"predict .*texts, none .*empty"):
        kp.finetuning.predict(tuned.model, ["가", " "], tokenizer=tuned.tokenizer)
    with pytest.raises(ValueError, match=r"\b1 texts and 2 pairs"):
        kp.finetuning.predict(tuned.model, ["가"], ["나", "다"], tokenizer=tuned.tokenizer)
    with pytest.raises(ValueError, match=r"model object .*set tokenizer"):
        kp.finetuning.predict(tuned.model, ["가"])


@pytest.mark.usefixtures("without_xla")
def test_the_cleaning_of_fine_tuning_is_that_of_prediction(bert, signs, tokenizer, tmp_path):
    tuned = finetune(bert, *signs, epochs=1, cleaning="prose", **SETTINGS)
    assert tuned.settings["cleaning"] == cleaning_of(tuned.tokenizer) == "prose"
    kp.save_checkpoint(tuned.model, tuned.tokenizer, tmp_path)
    clean, dirty = ["나 다", "가 다"], ["나 https://example.com/ 다", "가\u00ad  다 http://a.bc"]
    expected = kp.finetuning.predict(tmp_path, clean, cleaning="none").probabilities
    predicted = kp.finetuning.predict(tmp_path, dirty).probabilities
    raw = kp.finetuning.predict(tmp_path, dirty, cleaning="none").probabilities
    np.testing.assert_allclose(predicted, expected, atol=1e-6)
    assert np.abs(raw - expected).max() > 1e-5
    losses = []
    for texts, cleaning in ((clean, "none"), (dirty, None)):
        labelled = Dataset.from_dict({"text": texts, "label": ["부정", "긍정"]})
        losses.append(kp.finetuning.evaluate(tmp_path, labelled, cleaning=cleaning)["loss"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert cleaning_of(tokenizer) is None


@pytest.mark.usefixtures("without_xla")
def test_the_cleaning_recorded_with_the_tokenizer_is_the_default(bert, signs, tokenizer, tmp_path, package_log):
    assert finetune(bert, *signs, epochs=1, **SETTINGS).settings["cleaning"] == "none"
    model = kp.finetuning.load_classifier(bert, labels=["부정", "긍정"])
    kp.save_checkpoint(model, tokenizer, tmp_path)
    recorded = type(tokenizer).from_pretrained(tmp_path)
    record_cleaning(recorded, "comments")
    tuned = finetune(bert, *signs, epochs=1, tokenizer=recorded, **SETTINGS)
    assert tuned.settings["cleaning"] == "comments"
    assert tuned.tokenizer is recorded
    assert any("cleaned with 'comments'" in message for message in package_log.messages)
    without = finetune(bert, *signs, epochs=1, tokenizer=recorded, cleaning="none", **SETTINGS)
    assert without.settings["cleaning"] == cleaning_of(without.tokenizer) == "none"
    assert cleaning_of(recorded) == "comments"


def test_predict_leaves_the_tokenizer_as_it_is(tuned):
    before = tuned.tokenizer.backend_tokenizer.to_str()
    predicted = kp.finetuning.predict(tuned.model, ["나 [SEP] 가 [MASK]"], tokenizer=tuned.tokenizer)
    assert predicted.labels[0] in ("긍정", "부정")
    assert tuned.tokenizer.backend_tokenizer.to_str() == before
    assert tuned.tokenizer("[MASK]")["input_ids"][1] == tuned.tokenizer.mask_token_id


def test_the_figures_can_be_written_as_json(tuned):
    assert json.loads(json.dumps(tuned.metrics)) == tuned.metrics


def test_a_report_is_strict_json(tuned):
    report = tuned.report()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["accuracy"] == tuned.metrics["accuracy"]["mean"]
    assert report["by_seed"]["2"]["loss"] == tuned.metrics["loss"]["values"][1]
    assert report["std"]["loss"] == tuned.metrics["loss"]["std"]
    assert report["saved_seed"] == tuned.best_seed
    assert report["settings"] == tuned.settings


def test_a_report_has_none_for_what_is_not_a_number():
    metrics = spread([{"loss": 1.0, "pearson": math.nan}, {"loss": math.nan, "pearson": 0.5}])
    tuned = kp.finetuning.FineTuned(None, None, metrics, [0, 1], 0, {"epochs": np.int64(1)}, [])
    report = tuned.report()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["by_seed"] == {"0": {"loss": 1.0, "pearson": None}, "1": {"loss": None, "pearson": 0.5}}
    assert (report["loss"], report["pearson"], report["std"]["pearson"]) == (None, None, None)
    assert math.isnan(tuned.metrics["pearson"]["mean"])
