"""`finetune`: a classifier or regressor on top of a pretrained encoder, with several seeds in one call."""

import copy
import logging
import os
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import tf_keras
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from keras_pretrain.finetuning.batching import EncodedExamples, choose_lengths, encode_examples, to_tf_dataset
from keras_pretrain.finetuning.examples import check_examples
from keras_pretrain.finetuning.metrics import spread
from keras_pretrain.finetuning.prediction import Predictor
from keras_pretrain.models.classifier import find_encoder, load_classifier
from keras_pretrain.models.pretraining import require_fit
from keras_pretrain.models.sizes import finetuning_learning_rate
from keras_pretrain.tokenization import choose_text_cleaning, cleaning_of, record_cleaning
from keras_pretrain.training.optimization import create_optimizer

logger = logging.getLogger(__name__)


@dataclass
class FineTuned:
    """What `finetune` gives.

    Attributes:
      model: with the weights of the seed that was best on validation.
      tokenizer: the checkpoint's; its recorded cleaning is the one that was used.
      metrics: for each figure on validation `mean`, `std` and `values` (one a seed).
      seeds: in the order of the values.
      best_seed: that of the model.
      settings: the learning rate, the cleaning and the other settings that the runs were made with.
      histories: Keras' figures of each epoch, one dictionary a seed.
    """

    model: tf_keras.Model
    tokenizer: PreTrainedTokenizerFast
    metrics: dict[str, dict]
    seeds: list[int]
    best_seed: int
    settings: dict
    histories: list[dict] = field(repr=False)

    @property
    def by_seed(self) -> list[dict[str, float]]:
        """The figures of each run, in the order of the seeds."""
        return [{name: each["values"][i] for name, each in self.metrics.items()} for i in range(len(self.seeds))]


def finetune(
    checkpoint: str | os.PathLike,
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
    max_length: int = 128,
    cleaning: str | None = None,
    class_weight: str | dict | None = None,
    patience: int | None = None,
    seeds=(42,),
    tokenizer=None,
    callbacks=(),
    verbose="auto",
) -> FineTuned:
    """Train a checkpoint's encoder and a new head on a task, once for each seed, and judge it on validation.

    A seed decides the head's first weights, the order of the batches and dropout. Everything is compiled once for all
    seeds. With `patience`, the weights of the best epoch are kept, chosen on the same validation that is reported:
    for a figure that owes nothing to this choice, `evaluate` on a third set.

    Args:
      checkpoint: a BERT or an ELECTRA, as for `models.classifier.load_classifier`.
      train, validation: as of `load_examples`.
      regression: predict a number (such as the likeness of two sentences), not a class.
      epochs: the most passes over `train`.
      batch_size: examples of a batch.
      learning_rate: the peak; by default from the encoder's size (`models.sizes.finetuning_learning_rate`).
      layerwise_decay: each layer's learning rate is that of the next higher one times this (ELECTRA's paper: 0.8 to
        0.9); 1.0 is one learning rate for all.
      warmup_ratio, weight_decay: as for `create_optimizer`.
      dropout: of hidden states and attention.
      max_length: longer examples are cut; the log says how many.
      cleaning: of the texts, as in `clean_text`; by default what is recorded with the tokenizer, as the pretraining
        text was cleaned, and `"none"` where nothing is. It is recorded with the tokenizer that is returned, so that
        `predict` and `evaluate` do the same.
      class_weight: what an example's loss counts, by its class: `"balanced"` (each class as much as any other) or a
        dictionary from label to weight.
      patience: stop when validation has not become better for so many epochs: in accuracy, for regression in loss.
      seeds: one run each.
      tokenizer: by default the checkpoint's.
      callbacks: for `fit`, of every run. `val_loss`, `val_accuracy` and the other figures are in their `logs`.
      verbose: as for `fit`.

    Returns:
      A `FineTuned`.

    Raises:
      ValueError: examples that `check_examples` refuses, a checkpoint of another architecture, a tokenizer that is not
        the checkpoint's, or a setting outside its range (an unknown cleaning, for example). All before training starts.
    """
    seeds = [int(seed) for seed in seeds]
    _check_settings(epochs, batch_size, dropout, max_length, patience, seeds, class_weight, regression)
    labels = check_examples(train, validation, regression=regression)
    class_weight = _weigh_classes(class_weight, train, labels)
    tokenizer = tokenizer or AutoTokenizer.from_pretrained(find_encoder(checkpoint))
    model = load_classifier(checkpoint, labels=labels, dropout=dropout, seed=seeds[0])
    require_fit(model.config, tokenizer, max_length)
    tokenizer = _with_cleaning(tokenizer, cleaning)

    encoded = encode_examples(train, tokenizer, model.config, max_length=max_length)
    lengths = choose_lengths(encoded.lengths)
    batch_size = min(batch_size, len(encoded))
    if learning_rate is None:
        learning_rate = finetuning_learning_rate(model.config)
    settings = {
        "learning_rate": learning_rate,
        "layerwise_decay": layerwise_decay,
        "warmup_ratio": warmup_ratio,
        "weight_decay": weight_decay,
    }
    num_train_steps = epochs * (len(encoded) // batch_size)
    model.compile(create_optimizer(num_train_steps=num_train_steps, **settings), lengths=lengths)
    _report(train, validation, labels, encoded, lengths, max_length, settings, regression)
    judge = Judge(model, tokenizer, encode_examples(validation, tokenizer, model.config, max_length=max_length))
    start = _State(model)
    runs, histories, best = [], [], None
    for number, seed in enumerate(seeds, start=1):
        if len(seeds) > 1:
            logger.info("Seed %d (%d of %d).", seed, number, len(seeds))
        start.restore(seed)
        batches = to_tf_dataset(encoded, tokenizer, batch_size=batch_size, lengths=lengths, seed=seed)
        stopping = [_early_stopping(regression, patience)] if patience is not None else []
        history = model.fit(
            batches,
            epochs=epochs,
            class_weight=class_weight,
            callbacks=[judge, *stopping, *callbacks],
            verbose=verbose,
        )
        histories.append(history.history)
        runs.append(judge.evaluate())
        score = -runs[-1]["loss"] if regression else runs[-1]["accuracy"]
        if best is None or score > best[0]:
            best = score, seed, model.get_weights()
    model.set_weights(best[2])
    settings |= {"epochs": epochs, "batch_size": batch_size, "dropout": dropout, "max_length": max_length}
    settings["cleaning"] = choose_text_cleaning(tokenizer)
    return FineTuned(model, tokenizer, spread(runs), seeds, best[1], settings, histories)


class Judge(tf_keras.callbacks.Callback):
    """Adds the task's figures on validation to the logs of each epoch, as `val_loss`, `val_accuracy` and so on.

    Args:
      model, tokenizer: what predicts.
      encoded: of `encode_examples`, with labels.
    """

    def __init__(self, model, tokenizer, encoded: EncodedExamples, batch_size: int = 64):
        super().__init__()
        self._predictor = Predictor(model, tokenizer, batch_size)
        self._encoded = encoded

    def evaluate(self) -> dict[str, float]:
        """The figures for the model as it is now."""
        return self._predictor.evaluate(self._encoded)

    def on_epoch_end(self, epoch, logs=None):
        logs.update({f"val_{name}": value for name, value in self.evaluate().items()})


class _State:
    """Weights and optimizer as they were before the first step, to begin a run of another seed with."""

    def __init__(self, model):
        self._model = model
        model.optimizer.build(model.trainable_variables)
        self._variables = [*model.weights, *model.optimizer.variables]
        self._values = [variable.numpy() for variable in self._variables]
        self._with_pooler = model.drew_pooler

    def restore(self, seed: int) -> None:
        for variable, value in zip(self._variables, self._values, strict=True):
            variable.assign(value)
        self._model.redraw_head(seed, with_pooler=self._with_pooler)
        self._model.seed.assign(seed)
        self._model.stop_training = False


def _with_cleaning(tokenizer, cleaning: str | None):
    """The tokenizer; a copy where another cleaning has to be recorded with it."""
    cleaning = choose_text_cleaning(tokenizer, cleaning)
    if cleaning != (cleaning_of(tokenizer) or "none"):
        tokenizer = copy.deepcopy(tokenizer)
        record_cleaning(tokenizer, cleaning)
    logger.info("Texts are cleaned with %r.", cleaning)
    return tokenizer


def _early_stopping(regression: bool, patience: int) -> tf_keras.callbacks.EarlyStopping:
    monitor, mode = ("val_loss", "min") if regression else ("val_accuracy", "max")
    return tf_keras.callbacks.EarlyStopping(monitor, mode=mode, patience=patience, restore_best_weights=True)


def _weigh_classes(class_weight, train: Dataset, labels: list[str]) -> dict[int, float] | None:
    """For `fit`: from the number of a class to its weight."""
    if class_weight is None:
        return None
    counts = Counter(map(str, train["label"][:]))
    if class_weight == "balanced":
        return {i: len(train) / (len(labels) * counts[label]) for i, label in enumerate(labels)}
    given = {str(label): weight for label, weight in class_weight.items()}
    if set(given) != set(labels):
        raise ValueError(f"class_weight is for {sorted(given)}, and the labels are {labels}: name each of them.")
    return {i: float(given[label]) for i, label in enumerate(labels)}


def _check_settings(epochs, batch_size, dropout, max_length, patience, seeds, class_weight, regression) -> None:
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("patience", patience)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}.")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is a share, at least 0 and below 1, not {dropout}.")
    if max_length < 4:
        raise ValueError(f"max_length must be at least 4, not {max_length}.")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"Give at least one seed, each once, not {seeds}.")
    if isinstance(class_weight, str) and class_weight != "balanced":
        raise ValueError(f"class_weight is 'balanced' or a dictionary from label to weight, not {class_weight!r}.")
    if class_weight is not None and regression:
        raise ValueError("class_weight is for classes, and regression has none.")


def _report(train, validation, labels, encoded, lengths, max_length, settings, regression) -> None:
    if regression:
        what = f"labels from {min(train['label'][:]):g} to {max(train['label'][:]):g}"
    else:
        counts = Counter(map(str, train["label"][:]))
        what = ", ".join(f"{label} {counts[label]}" for label in labels[:8]) + (", ..." if len(labels) > 8 else "")
    cut = int(np.sum(encoded.lengths == max_length))
    logger.info(
        "%d examples to train on (%s), %d for validation; lengths %s%s; learning rate %g.",
        len(train), what, len(validation), ", ".join(map(str, lengths)),
        f", {cut} cut at {max_length} tokens or just as long" if cut else "", settings["learning_rate"],
    )  # fmt: skip
