"""`BertClassifier` and `ElectraClassifier`: 🤗's sequence-classification models with the package's training step."""

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from transformers import PretrainedConfig, TFBertForSequenceClassification, TFElectraForSequenceClassification

from keras_pretrain.models.encoder import Dropout, activation, as_rows, dense, encode
from keras_pretrain.models.loading import find_checkpoint, take_download
from keras_pretrain.models.objectives import TotalLoss
from keras_pretrain.models.pretraining import PretrainingStep, check_ids, unpack_batch

logger = logging.getLogger(__name__)

_INPUTS = ("input_ids", "token_type_ids", "attention_mask", "position_ids", "example_ids", "first_positions")


class ClassificationStep(PretrainingStep):
    """Defines the loss, metrics and training step of both classifiers.

    Batches are `(inputs, labels)` or `(inputs, labels, weights)`. `labels`, (batch,), are whole numbers from 0 on for
    classes, or any numbers for regression (`config.num_labels` = 1). `weights`, (batch,) float, are the weights of the
    examples' losses. For packed rows from `finetuning.to_tf_dataset`, both are (rows, examples), and values where a row
    has no example are ignored.

    Training and evaluation report `loss` and, except for regression, `accuracy`. The loss is the sum of the weighted
    cross-entropies (or squared errors), divided by the number of examples.

    Raises:
      tf.errors.InvalidArgumentError: in training or evaluation, a label that is none of the classes, or ids or token
      types without an embedding in the model (such as negative ones).
    """

    takes_weights = True

    def __init__(
        self,
        config: PretrainedConfig,
        *inputs: Any,
        seed: int = 42,
        gradient_accumulation_steps: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(config, *inputs, **kwargs)
        # Avoids Keras' __setattr__: a tracked variable would be saved with the weights. The seed is a variable, so that
        # one compiled step serves several seeds.
        self.__dict__["seed"] = tf.Variable(seed, dtype=tf.int32, trainable=False, name="seed")
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.head_weights = {"task": 1.0}
        self.drew_pooler = False  # whether the pooler's weights are random, because the checkpoint has none
        means = {name: tf_keras.metrics.Mean(name=name) for name in ("task_loss", "accuracy")}
        self.__dict__["_means"] = means
        self.__dict__["_total"] = TotalLoss([(means["task_loss"], 1.0)])

    @property
    def metrics(self) -> list:
        return [*super().metrics, self._total, *self._means.values()]

    @property
    def is_regression(self) -> bool:
        return self.config.num_labels == 1

    @property
    def encoder(self) -> tf_keras.layers.Layer:
        """The encoder's main layer, `bert` or `electra`."""
        return getattr(self, self.base_model_prefix)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Like `BertPretrainer.compile`: losses and metrics are not given, because the model has its own."""
        self.build_in_name_scope()
        super().compile(*args, **kwargs)

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> tf_keras.callbacks.History:
        """Like `BertPretrainer.fit`.

        Raises:
          ValueError: `class_weight` is given for packed rows, whose labels Keras would read as one label per row.
        """
        spec = getattr(x, "element_spec", None)
        is_packed = isinstance(spec, tuple) and isinstance(spec[0], dict) and "packed_ids" in spec[0]
        if is_packed and kwargs.get("class_weight") is not None:
            raise ValueError(
                "Packed rows have several labels: give class_weight to finetuning.to_tf_dataset, not to fit."
            )
        return super().fit(x, *args, **kwargs)

    def description(self) -> dict:
        """The settings that determine the model and its training step."""
        return {"config": self.config.to_dict(), "gradient_accumulation_steps": self.gradient_accumulation_steps}

    def redraw_head(self, seed: int, *, with_pooler: bool = False) -> None:
        """Give the layers on top of the encoder new weights: normally distributed kernels with the standard deviation
        `config.initializer_range`, and biases of 0.

        Args:
          with_pooler: include the pooler, for a BERT checkpoint without one.
        """
        rng = np.random.default_rng(seed)
        layers = [self.classifier, *([self.encoder.pooler] if with_pooler else [])]
        for variable in (variable for layer in layers for variable in layer.trainable_variables):
            is_kernel = len(variable.shape) == 2
            scale = self.config.initializer_range if is_kernel else 0.0
            variable.assign(scale * rng.standard_normal(variable.shape, np.float32))

    def _unpack(self, data: Any) -> dict:
        inputs, labels, weights = tf_keras.utils.unpack_x_y_sample_weight(data)
        batch = unpack_batch((inputs,))
        if isinstance(labels, dict):
            labels = labels.get("labels")
        if labels is None:
            raise ValueError("The batches have no labels: give (inputs, labels), as kp.finetuning.to_tf_dataset does.")
        batch = {name: batch[name] for name in _INPUTS if name in batch}
        batch["labels"] = tf.cast(labels, tf.float32 if self.is_regression else tf.int32)
        batch["weights"] = tf.ones_like(labels, tf.float32) if weights is None else tf.cast(weights, tf.float32)
        return batch

    def _check(self, batch: dict[str, tf.Tensor]) -> list:
        checks = check_ids(batch, self.config)
        if not self.is_regression:
            message = f"A label of the batch is not one of the model's {self.config.num_labels} classes."
            checks.append(tf.debugging.assert_less(tf.reduce_max(batch["labels"]), self.config.num_labels, message))
            checks.append(tf.debugging.assert_non_negative(tf.reduce_min(batch["labels"]), message))
        return checks

    def _counts(self, batch: dict[str, tf.Tensor]) -> dict:
        return {"task": tf.reduce_sum(_is_example(batch))}

    def logits(self, batch: dict, dropout: Dropout | None = None) -> tf.Tensor:
        """Logits, (batch, num_labels) float32; the last layer is computed only for [CLS].

        Args:
          batch: `input_ids`, `token_type_ids`, `attention_mask`, each (batch, length) int32; for packed rows also
            `position_ids`, `example_ids` and `first_positions` (rows, examples). The result is then (rows * examples,
            num_labels), and undefined where a row has fewer examples.
          dropout: a `Dropout`; `None` for predictions.
        """
        first = tf.maximum(batch.get("first_positions", tf.zeros_like(batch["input_ids"][:, :1])), 0)
        hidden = as_rows(encode(self.encoder, batch, first, dropout))
        return tf.cast(self._logits(hidden, dropout or (lambda values, rate: values)), tf.float32)

    def _sums(
        self, batch: dict[str, tf.Tensor], seed: tf.Tensor, part: tf.Tensor | int, dropout: Dropout | None
    ) -> dict:
        logits = self.logits(batch, dropout)
        labels, weights = tf.reshape(batch["labels"], (-1,)), tf.reshape(batch["weights"], (-1,))
        is_example = tf.reshape(_is_example(batch), (-1,))
        if self.is_regression:
            losses, hits = tf.square(logits[:, 0] - labels), tf.zeros_like(labels)
        else:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            hits = tf.cast(tf.argmax(logits, axis=-1, output_type=tf.int32) == labels, tf.float32)
        return {
            "task_loss": tf.reduce_sum(losses * weights * is_example),
            "task_correct": tf.reduce_sum(hits * is_example),
            "task_count": tf.reduce_sum(is_example),
        }

    def _report(self, sums: dict[str, tf.Tensor]) -> dict:
        count = sums["task_count"]
        mean_over = tf.maximum(count, 1.0)  # not 0, because the rows of a replica may have no example
        self._means["task_loss"].update_state(sums["task_loss"] / mean_over, sample_weight=count)
        logs = {"loss": self._total.result()}
        if not self.is_regression:
            self._means["accuracy"].update_state(sums["task_correct"] / mean_over, sample_weight=count)
            logs["accuracy"] = self._means["accuracy"].result()
        return logs

    def _trained_variables(self, batch: dict[str, tf.Tensor]) -> list:
        return self.trainable_variables


class BertClassifier(ClassificationStep, TFBertForSequenceClassification):  # type: ignore[misc]  # as `BertPretrainer`
    """`TFBertForSequenceClassification`, trained by plain `compile`, `fit` and `evaluate`. The head applies
    dropout and a dense layer to the pooler's output for [CLS]. See `ClassificationStep`."""

    def _logits(self, hidden: tf.Tensor, dropout: Callable[[tf.Tensor, float], tf.Tensor]) -> tf.Tensor:
        """Hidden states of [CLS], (batch, hidden) → (batch, num_labels)."""
        pooler: tf_keras.layers.Layer = self.bert.pooler
        pooled = dropout(tf.tanh(dense(pooler.dense, hidden)), _head_rate(self.config))
        return dense(self.classifier, pooled)


class ElectraClassifier(ClassificationStep, TFElectraForSequenceClassification):  # type: ignore[misc]
    """`TFElectraForSequenceClassification`, trained by plain `compile`, `fit` and `evaluate`. The head applies
    to [CLS]: dropout, a dense layer with GELU, dropout, and a dense layer. See `ClassificationStep`."""

    def _logits(self, hidden: tf.Tensor, dropout: Callable[[tf.Tensor, float], tf.Tensor]) -> tf.Tensor:
        """Hidden states of [CLS], (batch, hidden) → (batch, num_labels)."""
        head, rate = self.classifier, self.config.hidden_dropout_prob
        hidden = activation("gelu")(dense(head.dense, dropout(hidden, rate)))  # as in 🤗, not `hidden_act`
        return dense(head.out_proj, dropout(hidden, rate))


_CLASSES = {"bert": BertClassifier, "electra": ElectraClassifier}


def load_classifier(
    checkpoint: str | os.PathLike[str],
    *,
    labels: Sequence[str] | None = None,
    dropout: float | None = None,
    seed: int = 42,
    **settings: Any,
) -> BertClassifier | ElectraClassifier:
    """Make a classifier or regressor on top of a checkpoint's encoder.

    Args:
      checkpoint: a folder or a name on the Hub: a BERT, an ELECTRA, a checkpoint of an `ElectraPretrainer` (its
        discriminator is loaded), or a fine-tuned model.
      labels: the classes; a single entry makes a regressor. Default: keep the head and the labels of the checkpoint.
      dropout: dropout rate of hidden states and attention. Default: the rate in the checkpoint's config.
      seed: the seed for the new head's weights and for dropout.
      **settings: `subfolder`, `revision`, `token`, `cache_dir` and `local_files_only` of a checkpoint on the Hub, as
        for `models.loading.find_checkpoint`; all others are passed to the config.

    Returns:
      A `BertClassifier` or an `ElectraClassifier`.

    Raises:
      FileNotFoundError: there is no such checkpoint, or it has no weights.
      ValueError: the checkpoint is damaged, is neither BERT nor ELECTRA, or has no weights of an encoder; or `labels`
        are not given and the checkpoint has no head.
      ModuleNotFoundError: the checkpoint's weights are a `pytorch_model.bin`, and torch (the extra `torch`) is missing.
    """
    found = find_checkpoint(checkpoint, tuple(_CLASSES), **take_download(settings))
    kind = found.model_type
    if labels is not None:
        settings |= {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
        settings["problem_type"] = "regression" if len(labels) == 1 else "single_label_classification"
    if dropout is not None:
        settings |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    if kind == "electra":
        settings.setdefault("classifier_dropout", None)  # 🤗's ELECTRA head fails with any other value
    settings |= {"seed": seed, "ignore_mismatched_sizes": labels is not None}
    with found.readable() as folder:
        model, information = _CLASSES[kind].from_pretrained(folder, output_loading_info=True, **settings)
    missing = [*information["missing_keys"], *(name for name, *_ in information["mismatched_keys"])]
    missing = {name.replace(".", "/") for name in missing}  # PyTorch's or TensorFlow's names, depending on the file
    if any("/encoder/" in name or "/embeddings/" in name for name in missing):
        raise ValueError(
            f"{found.name} lacks {len(missing)} weights of the {kind} encoder that its config describes, "
            f"{min(missing)} among them."
        )
    if labels is not None:
        model.drew_pooler = any("/pooler/" in name for name in missing)
        model.redraw_head(seed, with_pooler=model.drew_pooler)
    elif missing:
        raise ValueError(f"{found.name} has no classification head; give the labels for a new one.")
    return model


def _is_example(batch: dict) -> tf.Tensor:
    """1.0 for each label that has an example, in the shape of the labels; 0.0 where a packed row has fewer examples."""
    if "first_positions" in batch:
        return tf.cast(batch["first_positions"] >= 0, tf.float32)
    return tf.ones_like(batch["labels"], tf.float32)


def _head_rate(config: PretrainedConfig) -> float:
    return config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
