import math

import numpy as np
import pytest

from keras_pretrain.finetuning.metrics import classification_metrics, regression_metrics, spread


def test_classification_by_hand():
    labels = np.array([1, 1, 0, 0, 1])
    probabilities = np.array([[0.2, 0.8], [0.6, 0.4], [0.9, 0.1], [0.3, 0.7], [0.1, 0.9]])
    metrics = classification_metrics(labels, probabilities)
    # Of class 1: two found, one missed, one false; of class 0: one found, one missed, one false.
    assert metrics["accuracy"] == pytest.approx(3 / 5)
    assert metrics["f1"] == pytest.approx(4 / 6)
    assert metrics["f1_macro"] == pytest.approx((4 / 6 + 2 / 4) / 2)
    assert metrics["loss"] == pytest.approx(-np.log([0.8, 0.4, 0.9, 0.3, 0.9]).mean())


def test_a_class_that_does_not_occur_and_three_classes():
    metrics = classification_metrics(np.array([0, 1]), np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]]))
    assert metrics["accuracy"] == metrics["f1_macro"] == 1.0
    assert "f1" not in metrics


def test_regression_by_hand():
    metrics = regression_metrics(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 4.0, 9.0, 16.0]))
    assert metrics["spearman"] == pytest.approx(1.0)
    assert metrics["pearson"] == pytest.approx(np.corrcoef([1, 2, 3, 4], [1, 4, 9, 16])[0, 1])
    assert metrics["loss"] == pytest.approx((0 + 4 + 36 + 144) / 4)


def test_a_constant_prediction_has_no_correlation():
    metrics = regression_metrics(np.array([1.0, 2.0]), np.array([3.0, 3.0]))
    assert math.isnan(metrics["pearson"])
    assert math.isnan(metrics["spearman"])


def test_the_spread_is_that_of_a_sample():
    figures = spread([{"accuracy": 0.8}, {"accuracy": 0.9}, {"accuracy": 0.7}])
    assert figures["accuracy"]["mean"] == pytest.approx(0.8)
    assert figures["accuracy"]["std"] == pytest.approx(0.1)
    assert figures["accuracy"]["values"] == [0.8, 0.9, 0.7]
    assert spread([{"accuracy": 0.8}])["accuracy"]["std"] == 0.0
