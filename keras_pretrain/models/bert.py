"""`BertPretrainer`: 🤗's `TFBertForPreTraining` with a training step that reports what pretraining is about."""

import logging

import tensorflow as tf
import tf_keras
from transformers import BertConfig, TFBertForPreTraining

from keras_pretrain.features.masking import IGNORED
from keras_pretrain.models.encoder import Dropout, activation, dense, encode, layer_norm
from keras_pretrain.models.objectives import (
    TotalLoss,
    accumulate,
    count_labels,
    gather_labels,
    masked_crossentropy,
    token_log_frequencies,
)
from keras_pretrain.models.sizes import bert_size

logger = logging.getLogger(__name__)


class BertPretrainer(TFBertForPreTraining):
    """BERT with its MLM and NSP heads, trained by plain `compile`, `fit` and `evaluate`.

    Everything else that `TFBertForPreTraining` does (`from_pretrained`, `save_pretrained`, a call) is inherited.
    Training and evaluation report, each averaged over what it counts (masked tokens, pairs), and with `val_` for
    validation:

    - `mlm_loss`, `mlm_accuracy`: over the tokens whose label is not -100;
    - `nsp_loss`, `nsp_accuracy`: over the pairs whose label is not -100, where the data have `next_sentence_label`;
    - `loss`: the sum of the losses.

    A batch without a masked token has an MLM loss of 0, not NaN as in the stock model.

    A step's losses and gradients are one XLA program (`models.encoder` has the forward pass), the optimizer's update
    stands outside it, so that the same step runs under `tf.distribute`. Batches must have a static length, as those of
    `to_tf_dataset` have.

    Args:
      config: a `BertConfig`.
      mask_prob: what the batches were masked with. It sets how many positions of a sequence can be predicted,
        `round(mask_prob * (length - 2))`: room for more would be computed for nothing. It is kept in the config. For
        batches of a collator with no fixed number of labels, such as 🤗's, 1.0 makes room for all.
      gradient_accumulation_steps: parts that a batch is computed in, one after the other, with the memory of one; the
        update is that of the whole batch.
      seed: of the dropout masks, which follow from it and the optimizer's step.

    Raises:
      tf.errors.InvalidArgumentError: in training or evaluation, labels at more positions than `mask_prob` allows for,
        or ids outside the model's vocabulary.

    >>> config = BertConfig(vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
    ...                     intermediate_size=16)
    >>> model = BertPretrainer(config)
    >>> model.compile("adam")
    """

    def __init__(
        self,
        config: BertConfig,
        *inputs,
        mask_prob: float | None = None,
        gradient_accumulation_steps: int = 1,
        seed: int = 42,
        **kwargs,
    ):
        super().__init__(config, *inputs, **kwargs)
        if gradient_accumulation_steps < 1:
            raise ValueError(f"gradient_accumulation_steps must be at least 1, not {gradient_accumulation_steps}.")
        self.mask_prob = getattr(config, "mask_prob", 0.15) if mask_prob is None else mask_prob
        self.config.mask_prob = self.mask_prob
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.seed = seed
        names = ("mlm_loss", "mlm_accuracy", "nsp_loss", "nsp_accuracy")
        means = {name: tf_keras.metrics.Mean(name=name) for name in names}
        # Past Keras' __setattr__: a tracked metric's variables would be among the model's weights and be saved.
        self.__dict__["_means"] = means
        self.__dict__["_total"] = TotalLoss([means["mlm_loss"], means["nsp_loss"]])

    @property
    def metrics(self) -> list:
        return [*super().metrics, self._total, *self._means.values()]

    @classmethod
    def from_size(
        cls,
        size: str,
        tokenizer,
        *,
        features=None,
        mask_prob: float | None = None,
        gradient_accumulation_steps: int = 1,
        seed: int = 42,
        **config,
    ) -> "BertPretrainer":
        """A new model, with random weights.

        GELU is in its tanh form, which is cheaper than the exact one. There is no dropout, which slows pretraining
        down where the data are seen a few times at most (Geiping and Goldstein, 2022, "Cramming"); give
        `hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1` for many epochs.

        Args:
          size: `"tiny"` (2 layers of 128), `"mini"` (4 of 256), `"small"` (4 of 512), `"base"` (12 of 768) or
            `"large"` (24 of 1024).
          tokenizer: whose vocabulary the model gets.
          features: the examples it will be trained on. Given, the bias of the MLM head starts as the logarithm of how
            often each token occurs in them, which training would otherwise have to learn first: about a hundred of
            600 steps for a `mini` model on 4 MB of text.
          mask_prob, gradient_accumulation_steps, seed: as for the class.
          **config: anything else for `BertConfig`, for example `hidden_dropout_prob=0.1`.

        Raises:
          ValueError: no such size.
        """
        longest = tokenizer.model_max_length if tokenizer.model_max_length < 1e6 else 512
        settings = {
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "max_position_embeddings": max(512, longest),
            "hidden_act": "gelu_new",
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        }
        model = cls(
            BertConfig(**(settings | bert_size(size) | config)),
            mask_prob=mask_prob,
            gradient_accumulation_steps=gradient_accumulation_steps,
            seed=seed,
        )
        if features is not None:
            model.build_in_name_scope()
            model.mlm.predictions.bias.assign(token_log_frequencies(features, tokenizer))
        return model

    @classmethod
    def from_pretrained(cls, name, *inputs, **kwargs):
        """As `TFBertForPreTraining.from_pretrained`; `mask_prob` and the other arguments of the class may be given.

        Raises:
          ValueError: the checkpoint is not of a BERT; 🤗 would start from random weights.
        """
        settings = {key: kwargs[key] for key in ("revision", "token", "cache_dir", "local_files_only") if key in kwargs}
        kind = BertConfig.get_config_dict(name, **settings)[0].get("model_type", "bert")
        if kind != "bert":
            raise ValueError(f"{name} is a checkpoint of model type {kind!r}; BertPretrainer continues from 'bert'.")
        return super().from_pretrained(name, *inputs, **kwargs)

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As `TFBertForPreTraining.save_pretrained`. `kp.save_checkpoint` writes what more readers load."""
        super().save_pretrained(save_directory, *args, **kwargs)
        self.config.architectures = ["BertForPreTraining"]  # 🤗 names it after this class, less two letters for "TF"
        self.config.save_pretrained(save_directory)

    def require_fit(self, tokenizer, block_size: int) -> None:
        """Refuse, before training, a tokenizer or block size that the model has no embeddings for.

        Raises:
          ValueError: more tokens than `vocab_size`, or longer blocks than `max_position_embeddings`.
        """
        if len(tokenizer) > self.config.vocab_size:
            raise ValueError(
                f"The tokenizer has {len(tokenizer)} tokens and the model only {self.config.vocab_size}: this is not "
                "the tokenizer that the model was made with."
            )
        if block_size > self.config.max_position_embeddings:
            raise ValueError(
                f"Blocks of {block_size} tokens are too long for the model, which has "
                f"{self.config.max_position_embeddings} positions. Choose a smaller block_size."
            )

    def compile(self, optimizer="adam", *, jit_compile: bool = True, run_eagerly: bool = False, **kwargs):
        """As `keras.Model.compile`, without losses and metrics, which the model has of its own.

        Args:
          optimizer: a legacy Keras optimizer or its name.
          jit_compile: `False` leaves XLA out.
          run_eagerly: `True` also runs the step line by line, for a debugger.

        Raises:
          ValueError: an optimizer of Keras 3, or a loss, metrics or weights, which would have no effect.
        """
        ignored = [name for name in ("loss", "metrics", "weighted_metrics", "loss_weights") if kwargs.get(name)]
        if ignored:
            raise ValueError(f"BertPretrainer has losses and metrics of its own; leave out {', '.join(ignored)}.")
        if type(optimizer).__module__.startswith("keras."):
            raise ValueError(
                f"{type(optimizer).__name__} is an optimizer of Keras 3, and 🤗's TensorFlow models are legacy Keras: "
                "take it from tf_keras.optimizers, or use kp.create_optimizer."
            )
        # Before a training step calls the layers one by one, which would leave the model's name out of theirs.
        self.build_in_name_scope()
        super().compile(optimizer, run_eagerly=run_eagerly, **kwargs)
        self._forward, self._forward_backward = self._evaluate, self._differentiate
        if not run_eagerly:
            self._forward = tf.function(self._evaluate, jit_compile=jit_compile)
            self._forward_backward = tf.function(self._differentiate, jit_compile=jit_compile)

    def train_step(self, data) -> dict:
        inputs, labels = _unpack(data)
        replica = tf.distribute.get_replica_context()
        # What the losses are divided by is counted over all replicas, whose gradients the optimizer adds up.
        counts = {head: count_labels(label) for head, label in _labels_by_head(labels).items()}
        counts = replica.all_reduce(tf.distribute.ReduceOp.SUM, counts)
        inputs = self._checked(inputs, labels)
        step = tf.cast(self.optimizer.iterations, tf.int32)
        seed = tf.stack([self.seed + 65_537 * tf.cast(replica.replica_id_in_sync_group, tf.int32), step])
        scale = self._loss_scale()
        results, gradients = self._forward_backward(inputs, labels, counts, seed, scale)
        gradients = gradients if scale is None else [gradient / scale for gradient in gradients]
        self.optimizer.apply_gradients(zip(gradients, self._trained_variables(labels), strict=True))
        return self._report(results)

    def test_step(self, data) -> dict:
        inputs, labels = _unpack(data)
        return self._report(self._forward(self._checked(inputs, labels), labels))

    def capacity(self, length: int) -> int:
        """How many positions of a sequence of `length` tokens can be predicted."""
        return min(length, max(1, round(self.mask_prob * (length - 2))))

    def _checked(self, inputs, labels) -> dict:
        """The inputs, once it is sure that there is room for their labels and an embedding for their ids: XLA would
        refuse neither, and give wrong numbers or NaN."""
        length = labels["labels"].shape[1]
        if length is None:
            raise ValueError("The batches have no fixed length, and XLA needs one: pad them all to the same length.")
        if length > self.config.max_position_embeddings:
            raise ValueError(
                f"The batches are {length} tokens long, and the model has {self.config.max_position_embeddings} "
                "positions. Build the features with a smaller block_size."
            )
        label, capacity = labels["labels"], self.capacity(length)
        most = tf.reduce_max(tf.reduce_sum(tf.cast(label != IGNORED, tf.int32), axis=1))
        highest = tf.reduce_max(inputs["input_ids"])
        checks = [
            tf.debugging.assert_less_equal(
                most,
                capacity,
                f"A sequence of the batch has more labels than the {capacity} that mask_prob={self.mask_prob} and "
                f"length {length} allow for. Give BertPretrainer the mask_prob that the batches were masked with.",
            ),
            tf.debugging.assert_less(
                tf.cast(highest, tf.int32),
                self.config.vocab_size,
                f"The batch holds ids outside the vocabulary of {self.config.vocab_size} that the model has: it was "
                "made with another tokenizer.",
            ),
        ]
        with tf.control_dependencies([check for check in checks if check is not None]):  # None when run eagerly
            return {name: tf.identity(value) for name, value in inputs.items()}

    def _loss_scale(self) -> tf.Tensor | None:
        """What mixed_float16 multiplies the loss by, so that small gradients do not vanish."""
        if isinstance(self.optimizer, tf_keras.mixed_precision.LossScaleOptimizer):
            return tf.convert_to_tensor(self.optimizer.loss_scale)
        return None

    def _evaluate(self, inputs, labels) -> dict:
        """`{head: (loss sum, correct, count)}` of a batch, float32 scalars."""
        _say_compiling("validation", labels)
        return self._heads(inputs, labels, dropout=None)

    def _differentiate(self, inputs, labels, counts, seed, scale) -> tuple[dict, list[tf.Tensor]]:
        """As `_evaluate`, with dropout, and the gradients of the (scaled) loss for each trained variable.

        The loss is the sum over the heads of the sum of their losses divided by `counts[head]`.
        """
        _say_compiling("training", labels)
        variables = self._trained_variables(labels)

        def part(number, inputs, labels):
            with tf.GradientTape() as tape:
                results = self._heads(inputs, labels, Dropout(seed, number))
                loss = tf.add_n([results[head][0] / tf.maximum(counts[head], 1.0) for head in results])
                loss = loss if scale is None else loss * scale
            gradients = tape.gradient(loss, variables)
            return results, [tf.convert_to_tensor(gradient) for gradient in gradients]

        if self.gradient_accumulation_steps == 1:
            return part(0, inputs, labels)
        return accumulate(part, inputs, labels, self.gradient_accumulation_steps)

    def _heads(self, inputs, labels, dropout) -> dict:
        """Losses of the heads, computed only where there are labels."""
        label = labels["labels"]
        positions, targets = gather_labels(label, self.capacity(label.shape[1]))
        has_nsp = "next_sentence_label" in labels
        if has_nsp:
            positions = tf.concat([tf.zeros_like(positions[:, :1]), positions], axis=1)
        hidden = encode(self.bert, inputs, positions, dropout)
        results = {"mlm": masked_crossentropy(self._mlm_logits(hidden[:, 1:] if has_nsp else hidden), targets)}
        if has_nsp:
            results["nsp"] = masked_crossentropy(self._nsp_logits(hidden[:, 0]), labels["next_sentence_label"])
        return results

    def _mlm_logits(self, hidden: tf.Tensor) -> tf.Tensor:
        """(batch, chosen, hidden) → (batch, chosen, vocabulary)."""
        head = self.mlm.predictions
        hidden = activation(self.config.hidden_act)(dense(head.transform.dense, hidden))
        hidden = layer_norm(head.transform.LayerNorm, hidden)
        table = tf.cast(head.input_embeddings.weight, hidden.dtype)
        logits = tf.matmul(tf.reshape(hidden, (-1, hidden.shape[-1])), table, transpose_b=True)
        return tf.reshape(tf.cast(logits, tf.float32) + head.bias, (-1, hidden.shape[1], table.shape[0]))

    def _nsp_logits(self, first: tf.Tensor) -> tf.Tensor:
        """Hidden states of [CLS], (batch, hidden) → (batch, 2)."""
        return dense(self.nsp.seq_relationship, tf.tanh(dense(self.bert.pooler.dense, first)))

    def _report(self, results: dict) -> dict:
        """Bring the metrics up to date and return them."""
        for head, (loss, correct, count) in results.items():
            divisor = tf.maximum(count, 1.0)
            self._means[f"{head}_loss"].update_state(loss / divisor, sample_weight=count)
            self._means[f"{head}_accuracy"].update_state(correct / divisor, sample_weight=count)
        means = {name: mean.result() for name, mean in self._means.items() if name.startswith(tuple(results))}
        return {"loss": self._total.result()} | means

    def _trained_variables(self, labels) -> list:
        """Without NSP labels, the pooler and the NSP head stay as they are."""
        if "next_sentence_label" in labels:
            return self.trainable_variables
        unused = {id(variable) for layer in (self.bert.pooler, self.nsp) for variable in layer.trainable_variables}
        return [variable for variable in self.trainable_variables if id(variable) not in unused]


def _say_compiling(step: str, labels: dict) -> None:
    """Said when a function is traced: once, or it shows what compiles again. Never where each batch runs eagerly."""
    if not tf.executing_eagerly():
        logger.info("Compiling the %s step for batches of %s.", step, tuple(labels["labels"].shape))


def _labels_by_head(labels: dict) -> dict:
    return {head: labels[name] for head, name in (("mlm", "labels"), ("nsp", "next_sentence_label")) if name in labels}


def _unpack(data) -> tuple[dict, dict]:
    """Inputs and labels, also where the labels stand among the inputs, as 🤗's collators put them.

    Token types that are not given are 0, and everything is attended to, as in the stock model.

    Raises:
      ValueError: there are no MLM labels.
    """
    inputs, labels, _ = tf_keras.utils.unpack_x_y_sample_weight(data)
    inputs = dict(inputs) if isinstance(inputs, dict) else {"input_ids": inputs}
    apart = {name: inputs.pop(name) for name in ("labels", "next_sentence_label") if name in inputs}
    labels = apart if labels is None else labels if isinstance(labels, dict) else {"labels": labels}
    if "labels" not in labels:
        raise ValueError(
            f"The batches have no MLM labels: a key 'labels' of shape (batch, block_size) is needed beside the inputs, "
            f"and there are {sorted(labels)}. kp.to_tf_dataset makes them."
        )
    defaults = {"token_type_ids": tf.zeros_like, "attention_mask": tf.ones_like}
    for name, default in defaults.items():
        inputs.setdefault(name, default(inputs["input_ids"]))
    # Collators differ in their integers; -100 and the comparisons with it want one type.
    as_int32 = lambda values: {name: tf.cast(value, tf.int32) for name, value in values.items()}  # noqa: E731
    return as_int32(inputs), as_int32(labels)
