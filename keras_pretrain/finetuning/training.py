"""`finetune`: trains a classifier or regressor on top of a pretrained encoder, with several seeds in one call."""

import copy
import json
import logging
import math
import operator
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, cast

import numpy as np
import tensorflow as tf
import tf_keras
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from keras_pretrain.corpus.cleaning import require_cleaning
from keras_pretrain.finetuning.batching import BatchPlan, EncodedExamples, encode_examples, packed_dataset, plan_batches
from keras_pretrain.finetuning.examples import check_examples, sort_labels
from keras_pretrain.finetuning.finished_seeds import FinishedSeeds, checksum, stored_settings
from keras_pretrain.finetuning.metrics import require_metrics, spread
from keras_pretrain.finetuning.prediction import Predictor
from keras_pretrain.models.classifier import load_classifier
from keras_pretrain.models.loading import find_checkpoint
from keras_pretrain.models.precision import precision_of_products
from keras_pretrain.models.pretraining import require_fit
from keras_pretrain.models.sizes import finetuning_learning_rate
from keras_pretrain.tokenization import choose_text_cleaning, cleaning_of, record_cleaning
from keras_pretrain.training.optimization import create_optimizer
from keras_pretrain.training.workers import Workers

logger = logging.getLogger(__name__)

_LARGEST_SEED = 2**31 - 1  # the model's seed is an int32
_INCIDENTAL = ("transformers_version", "_name_or_path", "architectures")  # config fields without an effect on training
_OPTIONAL = ("learning_rate", "patience")
_RANGES = {
    "learning_rate": (lambda rate: 0 < rate < math.inf, "above 0 and finite"),
    "layerwise_decay": (lambda decay: 0 < decay <= 1, "above 0 and at most 1"),
    "warmup_ratio": (lambda share: 0 <= share <= 1, "a share, from 0 to 1"),
    "weight_decay": (lambda decay: 0 <= decay < math.inf, "at least 0 and finite"),
    "dropout": (lambda share: 0 <= share < 1, "a share, at least 0 and below 1"),
    "token_dropout": (lambda share: 0 <= share < 1, "a share, at least 0 and below 1"),
}
_SMALLEST = {"epochs": 1, "batch_size": 1, "patience": 1, "max_length": 4}


@dataclass
class FineTuned:
    """The result of `finetune`.

    Attributes:
      model: the model, with the weights of the seed that was best on validation.
      tokenizer: the checkpoint's tokenizer, with a record of the cleaning that was used.
      metrics: `{name: {"mean", "std", "values"}}` on validation, one value per seed.
      seeds: the seeds, in the order of the values.
      best_seed: the seed of the model.
      settings: learning rate, cleaning and the other settings of the runs.
      histories: Keras' metrics of each epoch, one dictionary per seed.
    """

    model: tf_keras.Model
    tokenizer: PreTrainedTokenizerBase
    metrics: dict[str, dict]
    seeds: list[int]
    best_seed: int
    settings: dict
    histories: list[dict] = field(repr=False)

    def report(self) -> dict:
        """The metrics and settings for a JSON file. JSON has no NaN or infinity, so these become `None`.

        Returns:
          The mean of each metric under its own name, `by_seed` (`{seed: {name: value}}`), `std` (`{name: value}`),
          `saved_seed` and `settings`.
        """
        means, stds = ({name: each[what] for name, each in self.metrics.items()} for what in ("mean", "std"))
        by_seed = {
            seed: {name: each["values"][i] for name, each in self.metrics.items()} for i, seed in enumerate(self.seeds)
        }
        report = {"by_seed": by_seed, "std": stds, "saved_seed": self.best_seed, "settings": self.settings}
        strict = json.dumps(means | report, default=operator.methodcaller("item"))  # numpy's numbers
        return json.loads(strict, parse_constant=lambda name: None)


def finetune(
    checkpoint: str | os.PathLike[str],
    train: Dataset,
    validation: Dataset,
    *,
    regression: bool = False,
    epochs: int = 3,
    batch_size: int = 32,
    learning_rate: float | None = None,
    layerwise_decay: float = 1.0,
    warmup_ratio: float = 0.1,
    weight_decay: float = 0.01,
    dropout: float = 0.1,
    token_dropout: float = 0.0,
    max_length: int = 128,
    cleaning: str | None = None,
    class_weight: str | dict | None = None,
    patience: int | None = None,
    seeds: Iterable[int] = (42,),
    directory: str | os.PathLike[str] | None = None,
    resume: bool = True,
    tokenizer: PreTrainedTokenizerBase | None = None,
    callbacks: Sequence[tf_keras.callbacks.Callback] = (),
    precision: str = "float32",
    jit_compile: bool = True,
    verbose: str | int = "auto",
) -> FineTuned:
    """Train a checkpoint's encoder with a new head on a task, once per seed, and measure each run on validation.

    A seed determines the head's initial weights, the order of the batches and dropout. With `patience`, the best epoch
    is selected on the validation split that is reported; for an unbiased metric, call `evaluate` on a third split.

    With a `directory`, the result of each seed and the best weights so far are stored there. If the call is repeated,
    for example after the process was killed or with more seeds, it trains only the seeds that are not finished, and
    returns the same metrics and weights as an uninterrupted call. It does not check that `callbacks` are the same. The
    metrics of each epoch are written to `history-seed-42.csv` and so on, as by `callbacks.CSVHistory`;
    `keras-pretrain serve` shows them as curves.

    To train on several GPUs of one machine, call this function inside `tf.distribute.MirroredStrategy().scope()`. With
    dropout off, weights match those of one device up to rounding.

    Args:
      checkpoint: a BERT or an ELECTRA, as for `models.classifier.load_classifier`.
      train, validation: from `load_examples`.
      regression: predict a number (such as the similarity of two sentences) instead of a class.
      epochs: the maximum number of passes over `train`.
      batch_size: the global batch size, summed over all replicas.
      learning_rate: the peak learning rate. Default: chosen by the encoder's size
        (`models.sizes.finetuning_learning_rate`).
      layerwise_decay: each layer's learning rate is the rate of the layer above it, multiplied by this factor
        (ELECTRA's paper: 0.8 to 0.9). With 1.0, all layers have the same rate.
      warmup_ratio, weight_decay: as for `create_optimizer`.
      dropout: dropout rate of hidden states and attention.
      token_dropout: the probability that a token of `train` is replaced by `[MASK]`, drawn anew in each epoch ("word
        dropout"; Iyyer et al., 2015). It helps if the model is much better on `train` than on `validation`, and needs
        more epochs.
      max_length: longer examples are truncated; the log says how many.
      cleaning: how to clean the texts, as in `clean_text`. Default: the cleaning of the pretraining text, if it is
        recorded with the tokenizer, else `"none"`. It is recorded with the returned tokenizer, so `predict` and
        `evaluate` clean in the same way.
      class_weight: the weights of the classes in the loss: `"balanced"` (each class has the same total weight) or a
        dictionary from label to weight.
      patience: stop after this many epochs in which the validation accuracy (for regression, the validation loss) did
        not improve.
      seeds: the seeds; each one is a run.
      directory: a folder for the results of the seeds, for example `"my_classifier/run"`. Use another folder for other
        settings or other data.
      resume: `False` deletes the results that fine-tuning stored in the directory, and starts again.
      tokenizer: the tokenizer. Default: the checkpoint's.
      callbacks: callbacks for the `fit` of each seed. Their `logs` contain `val_loss`, `val_accuracy` and the other
        metrics.
      precision: `"float32"`, `"bfloat16"` or `"auto"`, as for `compile`.
      jit_compile: `False` trains without XLA.
      verbose: as for `fit`.

    Returns:
      A `FineTuned`.

    Raises:
      ValueError: examples that `check_examples` refuses, a checkpoint of another architecture, a tokenizer that is not
        the checkpoint's, a setting outside its range, a batch size that the replicas cannot divide, or a directory with
        results of other settings or data. All of these are raised before training starts; errors in settings, before
        anything is loaded.
      OSError: the directory cannot be written to, or another process is training in it.
      FloatingPointError: training diverges.
      ModuleNotFoundError: the extra `finetune` is not installed.
    """
    require_metrics()
    seeds = [operator.index(seed) for seed in seeds]
    settings: dict[str, Any] = {
        "learning_rate": learning_rate, "layerwise_decay": layerwise_decay, "warmup_ratio": warmup_ratio,
        "weight_decay": weight_decay, "epochs": epochs, "batch_size": batch_size, "dropout": dropout,
        "token_dropout": token_dropout, "max_length": max_length, "patience": patience,
    }  # fmt: skip
    check_finetuning_settings(settings)
    _check_arguments(seeds, class_weight, regression, cleaning)
    if precision == "auto" and resume and directory is not None:  # all seeds of a directory use the same precision
        stored = stored_settings(directory).get("precision")
        precision = stored if stored in ("float32", "bfloat16") else precision  # only these two are possible here
    precision = precision_of_products(precision)
    replicas = _count_replicas(batch_size)
    labels = check_examples(train, validation, regression=regression)
    class_weight = _weigh_classes(class_weight, train, labels)
    if len(train) < replicas:
        raise ValueError(f"{len(train)} training examples cannot be divided among {replicas} replicas.")
    tokenizer = tokenizer or find_checkpoint(checkpoint).tokenizer()
    # This seed does not affect the results, because each run sets its own. It is fixed so that the checksum of the
    # initial weights is reproducible.
    model = load_classifier(checkpoint, labels=labels, dropout=dropout, seed=0)
    require_fit(model.config, tokenizer, max_length)
    tokenizer = _with_cleaning(tokenizer, cleaning)

    encoded, judged = (
        encode_examples(each, tokenizer, model.config, max_length=max_length) for each in (train, validation)
    )
    batch_size = min(batch_size, len(encoded) // replicas * replicas)
    settings |= {"batch_size": batch_size, "cleaning": choose_text_cleaning(tokenizer)}
    settings["learning_rate"] = learning_rate or finetuning_learning_rate(model.config)
    plan = plan_batches(encoded.lengths, batch_size, replicas)
    optimizer = create_optimizer(
        num_train_steps=epochs * plan.batch_count,
        **{name: settings[name] for name in ("learning_rate", "layerwise_decay", "warmup_ratio", "weight_decay")},
    )
    model.compile(optimizer, precision=precision, jit_compile=jit_compile)
    _report(train, validation, encoded.lengths, plan, settings, regression)
    judge = _Judge(Predictor(model, tokenizer, precision=precision), judged)
    model.optimizer.build(model.trainable_variables)
    variables, with_pooler = [*model.weights, *model.optimizer.variables], model.drew_pooler
    untrained = [variable.numpy() for variable in variables]

    def run(seed: int, recording: Sequence[tf_keras.callbacks.Callback]) -> dict:
        for variable, value in zip(variables, untrained, strict=True):
            variable.assign(value)
        model.redraw_head(seed, with_pooler=with_pooler)
        model.seed.assign(seed)
        model.stop_training = False
        history = model.fit(
            packed_dataset(encoded, tokenizer, plan, class_weight=class_weight, token_dropout=token_dropout, seed=seed),
            epochs=epochs,
            callbacks=[judge, *recording, *_early_stopping(regression, patience), *callbacks],
            verbose=verbose,
        ).history
        history = {name: [float(value) for value in values] for name, values in history.items()}
        return {"metrics": judge.evaluate(), "history": history}

    identity = settings | {
        "class_weight": class_weight,
        "weights": checksum(*model.get_weights()),
        "precision": model.precision,
        "jit_compile": jit_compile,
        "replicas": replicas,
        "packed": True,
    }
    for name, each in (("train", encoded), ("validation", judged)):
        identity[name] = checksum(each.lengths, *each.input_ids, *each.token_type_ids, cast(np.ndarray, each.labels))
    config = model.config.to_dict()
    identity |= {f"config.{name}": value for name, value in config.items() if name not in _INCIDENTAL}
    with FinishedSeeds.open(directory, identity, resume=resume) as finished:
        best = _train_missing(finished, seeds, run, model, regression)
        model.set_weights(finished.weights)
    results = [finished.results[seed] for seed in seeds]
    metrics, histories = spread([each["metrics"] for each in results]), [each["history"] for each in results]
    return FineTuned(model, tokenizer, metrics, seeds, best, settings, histories)


class _Judge(tf_keras.callbacks.Callback):
    """Adds the task's validation metrics to the logs of each epoch, as `val_loss`, `val_accuracy` and so on."""

    def __init__(self, predictor: Predictor, encoded: EncodedExamples) -> None:
        super().__init__()
        self._predictor, self._encoded = predictor, encoded

    def evaluate(self) -> dict[str, float]:
        try:
            return self._predictor.evaluate(self._encoded)
        except ValueError as error:  # scikit-learn refuses predictions that are not finite
            raise FloatingPointError(
                "The model's predictions are not finite numbers: training has diverged. The usual causes are a "
                "learning_rate that is too high, or mixed_float16 without loss scaling. Choose a lower learning_rate."
            ) from error

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if logs is not None:
            logs.update({f"val_{name}": value for name, value in self.evaluate().items()})


def _train_missing(
    finished: FinishedSeeds, seeds: list[int], run: Callable[[int, list], dict], model: tf_keras.Model, regression: bool
) -> int:
    """Run the seeds that are not finished. Returns the best seed, whose weights are then in `finished`."""

    def find_best() -> int:
        """The first seed with the best validation result among those that are finished."""
        metrics = {seed: finished.results[seed]["metrics"] for seed in seeds if seed in finished.results}
        scores = {seed: -each["loss"] if regression else each["accuracy"] for seed, each in metrics.items()}
        return max(scores, key=lambda seed: -math.inf if math.isnan(scores[seed]) else scores[seed])

    missing = [seed for seed in seeds if seed not in finished.results]
    if len(missing) < len(seeds):
        known = ", ".join(str(seed) for seed in seeds if seed not in missing)
        logger.info("These seeds are finished and not trained again: %s.", known)
    for seed in missing:
        if len(seeds) > 1:
            logger.info("Seed %d (%d of %d).", seed, seeds.index(seed) + 1, len(seeds))
        finished.results[seed] = run(seed, finished.callbacks(seed))
        finished.save(seed, model.get_weights() if find_best() == seed else None)
    best = find_best()
    if finished.weights_seed != best:  # the stored weights belong to a seed that is not requested now
        logger.info("Seed %d is trained again: it is the best of these, and its weights were not kept.", best)
        finished.results[best] = run(best, finished.callbacks(best))
        finished.save(best, model.get_weights())
    return best


def _with_cleaning(tokenizer: PreTrainedTokenizerBase, cleaning: str | None) -> PreTrainedTokenizerBase:
    """Return the tokenizer, or a copy if another cleaning has to be recorded with it."""
    cleaning = choose_text_cleaning(tokenizer, cleaning)
    if cleaning != (cleaning_of(tokenizer) or "none"):
        tokenizer = copy.deepcopy(tokenizer)
        record_cleaning(tokenizer, cleaning)
    logger.info("Texts are cleaned with %r.", cleaning)
    return tokenizer


def _early_stopping(regression: bool, patience: int | None) -> list[tf_keras.callbacks.Callback]:
    if patience is None:
        return []
    monitor, mode = ("val_loss", "min") if regression else ("val_accuracy", "max")
    return [tf_keras.callbacks.EarlyStopping(monitor, mode=mode, patience=patience, restore_best_weights=True)]


def _weigh_classes(class_weight: str | dict | None, train: Dataset, labels: list[str]) -> dict[int, float] | None:
    """Map the index of each class to its weight; `None` if there are no weights."""
    if class_weight is None:
        return None
    if isinstance(class_weight, str):  # "balanced", see `_check_arguments`
        counts = Counter(map(str, train["label"][:]))
        return {i: len(train) / (len(labels) * counts[label]) for i, label in enumerate(labels)}
    given = {str(label): weight for label, weight in class_weight.items()}
    if set(given) != set(labels):
        raise ValueError(
            f"class_weight has the labels {sorted(given)}, but the labels of the examples are {labels}. Give a weight "
            "for each of them."
        )
    return {i: float(given[label]) for i, label in enumerate(labels)}


def check_finetuning_settings(settings: Mapping[str, Any]) -> None:
    """Check numbers that are arguments of `finetune`.

    Raises:
      ValueError: a setting is not a number, or outside its range.
    """
    given = {name: value for name, value in settings.items() if value is not None or name not in _OPTIONAL}
    for name, value in given.items():
        is_bool = isinstance(value, bool)
        if name in _RANGES and (is_bool or not isinstance(value, Real) or not _RANGES[name][0](value)):
            raise ValueError(f"{name} must be {_RANGES[name][1]}, not {value!r}.")
        if name in _SMALLEST and (is_bool or not isinstance(value, Integral) or value < _SMALLEST[name]):
            raise ValueError(f"{name} must be at least {_SMALLEST[name]} and a whole number, not {value!r}.")


def _check_arguments(seeds: list[int], class_weight: str | dict | None, regression: bool, cleaning: str | None) -> None:
    if not seeds or len(set(seeds)) < len(seeds) or not all(0 <= seed <= _LARGEST_SEED for seed in seeds):
        raise ValueError(f"Give at least one seed, each once, from 0 to {_LARGEST_SEED}, not {seeds}.")
    if class_weight is not None and regression:
        raise ValueError("class_weight is for classes, and regression has none.")
    if class_weight not in (None, "balanced"):
        weights = class_weight.values() if isinstance(class_weight, dict) else ()
        if not any(weights) or not all(0 <= weight < math.inf for weight in weights):
            raise ValueError(
                "class_weight is 'balanced' or a dictionary from label to weight, where weights are finite, at least "
                f"0 and not all 0, not {class_weight!r}."
            )
    if cleaning is not None:
        require_cleaning(cleaning)


def _count_replicas(batch_size: int) -> int:
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    if Workers(strategy).count > 1:
        raise ValueError(
            "finetune trains on the devices of one machine. Use tf.distribute.MirroredStrategy instead of a strategy "
            "with several workers."
        )
    if batch_size % replicas:
        raise ValueError(
            f"batch_size is the global batch size, summed over all replicas, and {batch_size} cannot be divided among "
            f"{replicas} replicas. Choose a multiple of {replicas}."
        )
    return replicas


def _report(
    train: Dataset, validation: Dataset, lengths: np.ndarray, plan: BatchPlan, settings: dict, regression: bool
) -> None:
    values = train["label"][:]
    if regression:
        what = f"labels from {min(values):g} to {max(values):g}"
    else:
        counts = Counter(map(str, values))
        labels = sort_labels(counts)
        what = ", ".join(f"{label} {counts[label]}" for label in labels[:8]) + (", ..." if len(labels) > 8 else "")
    cut = int(np.sum(lengths == settings["max_length"]))
    logger.info(
        "%d examples to train on (%s), %d for validation; %d rows of %d tokens a batch, %.0f%% padding%s; learning "
        "rate %g.",
        len(train), what, len(validation), plan.rows, plan.row_length, 100 * plan.padding,
        f", {cut} cut to {settings['max_length']} tokens, or just as long" if cut else "", settings["learning_rate"],
    )  # fmt: skip
