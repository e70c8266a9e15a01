"""Predicts with a fine-tuned model, and computes the model's metrics on labelled examples."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
import tf_keras
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from keras_pretrain.features.packing import pack
from keras_pretrain.finetuning.batching import EncodedExamples, encode_examples, pack_rows, pad, round_up
from keras_pretrain.finetuning.metrics import classification_metrics, regression_metrics, require_metrics
from keras_pretrain.models.classifier import ClassificationStep, load_classifier
from keras_pretrain.models.loading import Download, find_checkpoint
from keras_pretrain.models.precision import precision_of_products
from keras_pretrain.models.pretraining import unpack_batch
from keras_pretrain.models.products import computing_in

if TYPE_CHECKING:
    from typing_extensions import Unpack  # Python 3.10 does not have it


@dataclass(frozen=True)
class Predictions:
    """The predictions of `predict`, with one entry for each text.

    Attributes:
      labels: the name of the likeliest class of each text, from the config; for regression, the predicted numbers.
      probabilities: (texts, classes) float32, in the order of the config's `id2label`; `None` for regression.
    """

    labels: list
    probabilities: np.ndarray | None


class Predictor:
    """Runs a sequence-classification model on examples. Classifiers of this package get packed rows; stock models get
    rows of a few lengths. Each shape is compiled once.

    Args:
      model: a classifier of this package or a stock 🤗 `TF...ForSequenceClassification`.
      tokenizer: the model's tokenizer.
      batch_size: number of examples of a batch.
      precision: precision of matrix products, as for `compile`; a stock model keeps its own precision.
    """

    def __init__(
        self,
        model: tf_keras.Model,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int = 64,
        precision: str = "float32",
    ) -> None:
        precision = precision_of_products(precision)

        def forward(inputs: dict[str, np.ndarray]) -> tf.Tensor:
            if not isinstance(model, ClassificationStep):
                return model(inputs, training=False).logits
            batch = unpack_batch((inputs,))
            with computing_in(precision, opaque_true=tf.reduce_min(batch["input_ids"]) >= 0):
                return model.logits(batch)

        self._model = model
        self._tokenizer = tokenizer
        self._batch_size = batch_size
        self._forward = tf.function(forward, jit_compile=True, autograph=False)

    def logits(self, encoded: EncodedExamples) -> np.ndarray:
        """Compute the logits of each example, (examples, num_labels) float32."""
        logits = np.empty((len(encoded), self._model.config.num_labels), np.float32)
        if not len(encoded):
            return logits
        batches = self._packed if isinstance(self._model, ClassificationStep) else self._by_length
        for inputs, examples, places in batches(encoded):
            logits[examples] = self._forward(inputs).numpy()[places]
        return logits

    def _packed(self, encoded: EncodedExamples) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]]:
        """Yield the inputs of a batch, the indices of its examples, and the index of each example's logits."""
        length = round_up(encoded.lengths.max())
        packing = pack(encoded.lengths, length, mask_prob=0.0, seed=0)
        at_once = min(len(packing), max(1, round(self._batch_size * len(packing) / len(encoded))))
        for start in range(0, len(packing), at_once):
            members, counts = packing.of_rows(np.arange(start, min(start + at_once, len(packing))))
            rows = np.full((at_once, packing.most_examples), -1)
            rows[: len(counts)][np.arange(packing.most_examples) < counts[:, np.newaxis]] = members
            inputs, _, examples = pack_rows(encoded, rows, self._tokenizer, length)
            yield inputs, examples, rows.ravel() >= 0

    def _by_length(self, encoded: EncodedExamples) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, slice]]:
        """Like `_packed`, but with one example per row; the examples of a batch have similar lengths."""
        order = np.argsort(encoded.lengths, kind="stable")
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            length = min(1 << int(encoded.lengths[chosen].max() - 1).bit_length(), int(encoded.lengths.max()))
            yield pad(encoded, chosen, self._tokenizer, length, rows=self._batch_size), chosen, slice(len(chosen))

    def predict(self, encoded: EncodedExamples) -> Predictions:
        logits = self.logits(encoded)
        if self._model.config.num_labels == 1:
            return Predictions(logits[:, 0].tolist(), None)
        names = self._model.config.id2label
        return Predictions([names[i] for i in logits.argmax(axis=1).tolist()], tf.nn.softmax(logits).numpy())

    def evaluate(self, encoded: EncodedExamples) -> dict[str, float]:
        """The metrics of `metrics.classification_metrics` or `regression_metrics`."""
        if not len(encoded):
            raise ValueError("There are no examples to evaluate.")
        if encoded.labels is None:
            raise ValueError(
                "The examples have no labels to compare the predictions with: pass the model's config to "
                "encode_examples."
            )
        logits = self.logits(encoded)
        if self._model.config.num_labels == 1:
            return regression_metrics(encoded.labels, logits[:, 0])
        return classification_metrics(encoded.labels, tf.nn.softmax(logits.astype(np.float64)).numpy())


def predict(
    model: str | os.PathLike[str] | tf_keras.Model,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_length: int = 128,
    batch_size: int = 64,
    cleaning: str | None = None,
    precision: str = "float32",
    **download: "Unpack[Download]",
) -> Predictions:
    """Predict labels and probabilities for texts, or for pairs of texts.

    Args:
      model: the folder or Hub name of a fine-tuned model, or the model itself, together with its `tokenizer`.
      texts, pairs: the texts, and for pairs the second text of each.
      tokenizer: the tokenizer. Default: the checkpoint's.
      max_length: longer examples are truncated to this number of tokens.
      batch_size: number of examples of a batch.
      cleaning: how to clean the texts, as in `clean_text`. Default: the cleaning recorded with the tokenizer, which
        fine-tuning used.
      precision: `"float32"`, `"bfloat16"` or `"auto"`, as for `compile`.
      **download: `subfolder`, `revision`, `token`, `cache_dir` and `local_files_only` of a checkpoint on the Hub, as
        for `models.loading.find_checkpoint`.

    Returns:
      `Predictions`.

    Raises:
      FileNotFoundError: there is no such checkpoint, or its weights or tokenizer are missing.
      ValueError: no texts, an empty text, unequal numbers of texts and pairs, an unknown cleaning, or a damaged
        checkpoint.
    """
    texts = list(texts)
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError("predict takes a list of texts, none of them empty.")
    if pairs is not None and not all(isinstance(pair, str) and pair.strip() for pair in pairs):
        raise ValueError("The pairs are a list of texts, none of them empty.")
    if pairs is not None and len(pairs) != len(texts):
        raise ValueError(f"There are {len(texts)} texts and {len(pairs)} pairs; each text needs its own.")
    model, tokenizer = _load(model, tokenizer, download)
    columns = {"text": texts} | ({} if pairs is None else {"pair": list(pairs)})
    encoded = encode_examples(Dataset.from_dict(columns), tokenizer, max_length=max_length, cleaning=cleaning)
    return Predictor(model, tokenizer, batch_size, precision).predict(encoded)


def evaluate(
    model: str | os.PathLike[str] | tf_keras.Model,
    examples: Dataset,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_length: int = 128,
    batch_size: int = 64,
    cleaning: str | None = None,
    precision: str = "float32",
    **download: "Unpack[Download]",
) -> dict[str, float]:
    """Compute a fine-tuned model's metrics on labelled examples that it was not trained on.

    Args:
      model, tokenizer, max_length, batch_size, cleaning, precision, **download: as for `predict`.
      examples: a dataset with columns `text`, `label`, and `pair` if there are pairs.

    Returns:
      For classes `loss`, `accuracy`, `f1_macro` and, if there are two, `f1` of the second; for regression `loss`,
      `pearson` and `spearman`.

    Raises:
      FileNotFoundError: there is no such checkpoint, or its weights or tokenizer are missing.
      ValueError: a label that the model does not have, an unknown cleaning, or a damaged checkpoint.
      ModuleNotFoundError: the extra `finetune` is not installed.
    """
    require_metrics()
    model, tokenizer = _load(model, tokenizer, download)
    encoded = encode_examples(examples, tokenizer, model.config, max_length=max_length, cleaning=cleaning)
    return Predictor(model, tokenizer, batch_size, precision).evaluate(encoded)


def _load(
    model: str | os.PathLike[str] | tf_keras.Model, tokenizer: PreTrainedTokenizerBase | None, download: Download
) -> tuple[tf_keras.Model, PreTrainedTokenizerBase]:
    if isinstance(model, (str, os.PathLike)):
        tokenizer = tokenizer or find_checkpoint(model, **download).tokenizer()
        return load_classifier(model, **download), tokenizer
    if tokenizer is None:
        raise ValueError("A model object needs its tokenizer: set tokenizer.")
    if download:
        raise TypeError(f"Unknown arguments for a model object: {', '.join(download)}.")
    return model, tokenizer
