"""Computes task metrics with scikit-learn and scipy."""

import math

import numpy as np

from keras_pretrain.system import require_packages


def require_metrics() -> None:
    """Raise an error, before fine-tuning or evaluation, if the libraries for the metrics are missing.

    Raises:
      ModuleNotFoundError: the message names the library and the extra that has it.
    """
    require_packages("the metrics of a task", ("scikit-learn", "scipy"), "finetune")


def classification_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Compute the metrics of a classifier.

    Args:
      labels: (examples,) ints.
      probabilities: (examples, classes), whose rows sum to 1.

    Returns:
      `loss` (cross-entropy), `accuracy`, `f1_macro` (the mean over the classes that occur or were predicted), and for
      two classes `f1` (of class 1).
    """
    from sklearn.metrics import accuracy_score, f1_score, log_loss  # imported here, because it takes seconds

    predicted = probabilities.argmax(axis=1)
    metrics = {
        "loss": float(log_loss(labels, probabilities, labels=range(probabilities.shape[1]))),
        "accuracy": float(accuracy_score(labels, predicted)),
        "f1_macro": float(f1_score(labels, predicted, average="macro", zero_division=0.0)),
    }
    if probabilities.shape[1] == 2:
        metrics["f1"] = float(f1_score(labels, predicted, average="binary", zero_division=0.0))
    return metrics


def regression_metrics(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Compute the metrics of a regressor.

    Args:
      labels, predicted: (examples,) floats.

    Returns:
      `loss` (mean squared error), `pearson` and `spearman`; the correlations are NaN if the labels or the predictions
      are constant.
    """
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import mean_squared_error

    predicted = predicted.astype(np.float64)  # scipy warns of float32 values that differ little
    is_constant = np.ptp(labels) == 0 or np.ptp(predicted) == 0
    return {
        "loss": float(mean_squared_error(labels, predicted)),
        "pearson": math.nan if is_constant else float(pearsonr(labels, predicted).statistic),
        "spearman": math.nan if is_constant else float(spearmanr(labels, predicted).statistic),
    }


def spread(runs: list[dict[str, float]]) -> dict[str, dict]:
    """Summarize each metric of several runs by `mean`, `std` (the sample standard deviation; 0 for one run) and
    `values`."""
    return {
        name: {
            "mean": float(np.mean([run[name] for run in runs])),
            "std": float(np.std([run[name] for run in runs], ddof=1)) if len(runs) > 1 else 0.0,
            "values": [run[name] for run in runs],
        }
        for name in runs[0]
    }
