"""`BertPretrainer`: 🤗's `TFBertForPreTraining` with this package's training step and metrics."""

import os
from typing import Any

import tensorflow as tf
import tf_keras
from datasets import Dataset
from transformers import BertConfig, PreTrainedTokenizerBase, TFBertForPreTraining

from keras_pretrain.compat.tf_keras import initializers_drawing_from
from keras_pretrain.features.batching import Batches
from keras_pretrain.features.masking import IGNORED
from keras_pretrain.models.encoder import Dropout, activation, as_rows, dense, encode, layer_norm
from keras_pretrain.models.initialization import attend_to_neighbours, cooccurrence_embeddings, token_log_frequencies
from keras_pretrain.models.loading import find_checkpoint, take_download
from keras_pretrain.models.objectives import TotalLoss, count_labels, gather_labels, masked_crossentropy
from keras_pretrain.models.pretraining import (
    PretrainingStep,
    check_ids,
    first_positions,
    label_capacity,
    require_fit,
    unpack_batch,
)
from keras_pretrain.models.products import affine
from keras_pretrain.models.sizes import bert_size, new_model_settings


class BertPretrainer(PretrainingStep, TFBertForPreTraining):  # type: ignore[misc]  # 🤗's `fit` has no signature
    """BERT with its MLM and NSP heads, trained by plain `compile`, `fit` and `evaluate`.

    Everything else that `TFBertForPreTraining` does (`from_pretrained`, `save_pretrained`, a call) is inherited.
    Training and evaluation report these metrics (with the prefix `val_` for validation). Each is an average over the
    items that it counts, masked tokens or pairs:

    - `mlm_loss`, `mlm_accuracy`: over the tokens whose label is not -100;
    - `nsp_loss`, `nsp_accuracy`: over the pairs whose label is not -100, if the data have `next_sentence_label`;
    - `loss`: the sum of the losses.

    A batch without a masked token has an MLM loss of 0; in the stock model it is NaN.

    A step's losses and gradients are one XLA program (`models.encoder` has the forward pass). The optimizer's update is
    not a part of it, so that the same step runs under `tf.distribute`. Batches must have a static length, as those of
    `to_tf_dataset` have.

    Args:
      config: a `BertConfig`.
      mask_prob: the masking rate of the batches. It sets the number of positions of a sequence that can be predicted,
        `round(mask_prob * (length - 2))`; a larger number would only cost time. `mask_prob` is stored in the config. If
        the number of labels varies from batch to batch, as with 🤗's collator, use 1.0, which allows labels at all
        positions.
      gradient_accumulation_steps: compute each batch in this number of parts, one after the other, with the memory of
        one part. The update is the same as for the whole batch at once.
      seed: the seed for dropout masks. They also depend on the optimizer's step, the replica and the part of the batch.

    Raises:
      tf.errors.InvalidArgumentError: in training or evaluation, a batch has labels at more positions than `mask_prob`
        allows, or ids or token types without an embedding in the model (such as negative ones).
      ValueError: `fit` or `evaluate` is given `sample_weight` or `class_weight`; all tokens and pairs have the same
        weight.

    >>> config = BertConfig(vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
    ...                     intermediate_size=16)
    >>> model = BertPretrainer(config)
    >>> model.compile("adam")
    """

    def __init__(
        self,
        config: BertConfig,
        *inputs: Any,
        mask_prob: float | None = None,
        gradient_accumulation_steps: int = 1,
        seed: int = 42,
        **kwargs: Any,
    ) -> None:
        super().__init__(config, *inputs, **kwargs)
        if gradient_accumulation_steps < 1:
            raise ValueError(f"gradient_accumulation_steps must be at least 1, not {gradient_accumulation_steps}.")
        self.mask_prob = getattr(config, "mask_prob", 0.15) if mask_prob is None else mask_prob
        self.config.mask_prob = self.mask_prob
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.seed = seed
        self.head_weights = {"mlm": 1.0, "nsp": 1.0}
        names = ("mlm_loss", "mlm_accuracy", "nsp_loss", "nsp_accuracy")
        means = {name: tf_keras.metrics.Mean(name=name) for name in names}
        # Avoids Keras' __setattr__: the variables of a tracked metric would be saved with the model's weights.
        self.__dict__["_means"] = means
        self.__dict__["_total"] = TotalLoss([(means["mlm_loss"], 1.0), (means["nsp_loss"], 1.0)])

    @property
    def metrics(self) -> list:
        return [*super().metrics, self._total, *self._means.values()]

    @classmethod
    def from_size(
        cls,
        size: str,
        tokenizer: PreTrainedTokenizerBase,
        *,
        features: Dataset | None = None,
        mask_prob: float | None = None,
        gradient_accumulation_steps: int = 1,
        seed: int = 42,
        **config: Any,
    ) -> "BertPretrainer":
        """Make a new model; `seed` determines its weights.

        The heads of the first two layers start with attention to neighbouring tokens (`models.initialization`).

        GELU has its tanh form, which is cheaper than the exact one. There is no dropout, because dropout slows
        pretraining down if the data are seen only a few times (Geiping and Goldstein, 2022, "Cramming"). For many
        epochs, pass `hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1`.

        Args:
          size: `"tiny"` (2 layers of 128), `"mini"` (4 of 256), `"small"` (4 of 512), `"base"` (12 of 768) or
            `"large"` (24 of 1024).
          tokenizer: the tokenizer; the model gets its vocabulary size and special tokens.
          features: the examples that the model will be trained on. If given, statistics of them initialize the model,
            so that it does not have to learn these: the MLM head's bias starts from the logarithm of each token's
            frequency, and the word embeddings start from the co-occurrence of tokens (`models.initialization`).
          mask_prob, gradient_accumulation_steps, seed: as for the class.
          **config: further settings of `BertConfig`, for example `hidden_dropout_prob=0.1`, or a `vocab_size` above the
            tokenizer's, such as a multiple of 64, which is faster on GPUs.

        Raises:
          ValueError: no such size, or a `vocab_size` below the tokenizer's.
        """
        settings = new_model_settings(tokenizer, bert_size(size) | config)
        with initializers_drawing_from(seed):
            model = cls(
                BertConfig(**settings),
                mask_prob=mask_prob,
                gradient_accumulation_steps=gradient_accumulation_steps,
                seed=seed,
            )
            model.build_in_name_scope()
        attend_to_neighbours(model.bert, seed=seed)
        if features is not None:
            vocab_size = model.config.vocab_size
            model.mlm.predictions.bias.assign(token_log_frequencies(features, tokenizer, vocab_size))
            start = {"initializer_range": model.config.initializer_range, "seed": seed}
            words = cooccurrence_embeddings(features, tokenizer, vocab_size, model.config.hidden_size, **start)
            model.bert.embeddings.weight.assign(words)
        return model

    @classmethod
    def from_pretrained(  # type: ignore[override]  # 🤗 has another name for the first argument
        cls, name: str | os.PathLike[str], *inputs: Any, **kwargs: Any
    ) -> "BertPretrainer":
        """Like `TFBertForPreTraining.from_pretrained`, but for every format of weights.

        Args:
          name: a folder or a name on the Hub.
          *inputs, **kwargs: as in transformers; also `mask_prob` and the other arguments of the class, and `subfolder`,
            `revision`, `token`, `cache_dir` and `local_files_only` of a checkpoint on the Hub.

        Returns:
          A `BertPretrainer`.

        Raises:
          FileNotFoundError: there is no such checkpoint, or it has no weights.
          ValueError: the checkpoint is damaged or not a BERT (transformers would start from random weights).
          ModuleNotFoundError: the weights are a `pytorch_model.bin`, and torch (the extra `torch`) is missing.
        """
        checkpoint = find_checkpoint(name, ("bert",), **take_download(kwargs))
        with checkpoint.readable() as folder:
            return super().from_pretrained(folder, *inputs, **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Save as `TFBertForPreTraining` does. `kp.save_checkpoint` writes a format that more libraries load."""
        super().save_pretrained(save_directory, *args, **kwargs)
        self.config.architectures = ["BertForPreTraining"]  # 🤗 would cut two letters off this class's name
        self.config.save_pretrained(save_directory)

    def require_fit(self, tokenizer: PreTrainedTokenizerBase, block_size: int) -> None:
        """Raise an error, before training, for a tokenizer or block size for which the model has too few embeddings.

        Raises:
          ValueError: more tokens than `vocab_size`, or longer blocks than `max_position_embeddings`.
        """
        require_fit(self.config, tokenizer, block_size)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        # Build before a training step calls the layers one by one; otherwise, the variables' names would lack the name
        # of the model.
        self.build_in_name_scope()
        super().compile(*args, **kwargs)

    compile.__doc__ = PretrainingStep.compile.__doc__

    def description(self) -> dict:
        """The settings that determine the model and its training step."""
        return {
            "config": self.config.to_dict(),
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
            "seed": self.seed,
        }

    def _note_batches(self, batches: Batches) -> None:
        if batches.collator.glue_prob:
            self.config.glue_prob = batches.collator.glue_prob  # read by `fill_gaps`

    def capacity(self, length: int) -> int:
        """The number of positions that can be predicted in a sequence of `length` tokens."""
        return label_capacity(self.mask_prob, length)

    def _unpack(self, data: Any) -> dict:
        batch = unpack_batch(data)
        if "labels" not in batch:
            raise ValueError(
                "The batches have no MLM labels: a key 'labels' of shape (batch, block_size) is needed beside the "
                f"inputs, and the batches have {sorted(batch)}. kp.to_tf_dataset makes them."
            )
        return batch

    def _check(self, batch: dict[str, tf.Tensor]) -> list:
        checks = check_ids(batch, self.config)
        if "masked_positions" not in batch:
            label = batch["labels"]
            capacity = self.capacity(label.shape[1])
            most = tf.reduce_max(tf.reduce_sum(tf.cast(label != IGNORED, tf.int32), axis=1))
            message = (
                f"A sequence of the batch has more labels than the {capacity} that mask_prob={self.mask_prob} and "
                f"length {label.shape[1]} allow for. Give BertPretrainer the mask_prob that the batches were masked "
                "with."
            )
            checks.append(tf.debugging.assert_less_equal(most, capacity, message))
        for name, classes in (("labels", self.config.vocab_size), ("next_sentence_label", 2)):
            if name in batch:
                label = batch[name]
                is_known = (label == IGNORED) | ((label >= 0) & (label < classes))
                message = (
                    f"The batch's {name!r} must be {IGNORED} or from 0 to {classes - 1}, and some are not. Make the "
                    "batches with kp.to_tf_dataset and the tokenizer that the model was made for."
                )
                checks.append(tf.debugging.Assert(tf.reduce_all(is_known), [message]))
        return checks

    def _counts(self, batch: dict[str, tf.Tensor]) -> dict:
        names = {"mlm": "labels", "nsp": "next_sentence_label"}
        return {head: count_labels(batch[name]) for head, name in names.items() if name in batch}

    def _sums(
        self, batch: dict[str, tf.Tensor], seed: tf.Tensor, part: tf.Tensor | int, dropout: Dropout | None
    ) -> dict:
        """For each head, the sum of the losses, the number of correct predictions and the number of labels, as float32
        scalars. The heads are computed only at positions that may have labels."""
        if "masked_positions" in batch:
            positions, targets = tf.maximum(batch["masked_positions"], 0), batch["labels"]
        else:
            label = batch["labels"]
            positions, targets = gather_labels(label, self.capacity(label.shape[1]))
        pairs = batch.get("next_sentence_label")
        firsts = 0  # the number of [CLS] positions of a row that may have a label
        if pairs is not None and "example_ids" in batch:
            firsts = pairs.shape[1]
            positions = tf.concat([first_positions(batch["example_ids"], firsts), positions], axis=1)
        elif pairs is not None:
            firsts = 1
            positions = tf.concat([tf.zeros_like(positions[:, :1]), positions], axis=1)
        hidden = encode(self.bert, batch, positions, dropout)
        results = {"mlm": masked_crossentropy(self._mlm_logits(hidden[:, firsts:]), targets)}
        if pairs is not None:
            results["nsp"] = masked_crossentropy(self._nsp_logits(as_rows(hidden[:, :firsts])), pairs)
        return {
            f"{head}_{name}": value
            for head, values in results.items()
            for name, value in zip(("loss", "correct", "count"), values, strict=True)
        }

    def _mlm_logits(self, hidden: tf.Tensor) -> tf.Tensor:
        """(batch, chosen, hidden) → (batch * chosen, vocabulary)."""
        head = self.mlm.predictions
        hidden = activation(self.config.hidden_act)(dense(head.transform.dense, as_rows(hidden)))
        hidden = layer_norm(head.transform.LayerNorm, hidden)
        (logits,) = affine(hidden, [head.input_embeddings.weight], [head.bias], transpose=True)
        return tf.cast(logits, tf.float32)

    def _nsp_logits(self, first: tf.Tensor) -> tf.Tensor:
        """Hidden states of [CLS], (batch, hidden) → (batch, 2)."""
        pooler: tf_keras.layers.Layer = self.bert.pooler
        return dense(self.nsp.seq_relationship, tf.tanh(dense(pooler.dense, first)))

    def _report(self, sums: dict) -> dict:
        """Update the metrics and return them."""
        logs = {"loss": self._total.result}
        for head in ("mlm", "nsp"):
            if f"{head}_loss" not in sums:
                continue
            count = sums[f"{head}_count"]
            for name, total in (("loss", sums[f"{head}_loss"]), ("accuracy", sums[f"{head}_correct"])):
                mean = self._means[f"{head}_{name}"]
                mean.update_state(total / tf.maximum(count, 1.0), sample_weight=count)
                logs[mean.name] = mean.result
        return {name: result() for name, result in logs.items()}

    def _trained_variables(self, batch: dict[str, tf.Tensor]) -> list:
        """Without NSP labels, the pooler and the NSP head do not change."""
        if "next_sentence_label" in batch:
            return self.trainable_variables
        layers: list[tf_keras.layers.Layer] = [self.bert.pooler, self.nsp]
        unused = {id(variable) for layer in layers for variable in layer.trainable_variables}
        return [variable for variable in self.trainable_variables if id(variable) not in unused]
