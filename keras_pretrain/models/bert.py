"""`BertPretrainer`: 🤗's `TFBertForPreTraining` with a training step that reports what pretraining is about."""

import tensorflow as tf
import tf_keras
from transformers import BertConfig, TFBertForPreTraining

from keras_pretrain.features.masking import IGNORED
from keras_pretrain.models.sizes import bert_size


class BertPretrainer(TFBertForPreTraining):
    """BERT with its MLM and NSP heads, trained by plain `compile`, `fit` and `evaluate`.

    Everything that `TFBertForPreTraining` does (`from_pretrained`, `save_pretrained`, a call) is inherited. Training
    and evaluation report, each averaged over what it counts (masked tokens, pairs), and with `val_` for validation:

    - `mlm_loss`, `mlm_accuracy`: over the tokens whose label is not -100;
    - `nsp_loss`, `nsp_accuracy`: over the pairs whose label is not -100, where the data have `next_sentence_label`;
    - `loss`: the sum of the losses.

    A batch without a masked token has an MLM loss of 0, not NaN as in the stock model.

    >>> config = BertConfig(vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
    ...                     intermediate_size=16)
    >>> model = BertPretrainer(config)
    >>> model.compile("adam")
    """

    def __init__(self, config: BertConfig, *inputs, **kwargs):
        super().__init__(config, *inputs, **kwargs)
        names = ("mlm_loss", "mlm_accuracy", "nsp_loss", "nsp_accuracy")
        means = {name: tf_keras.metrics.Mean(name=name) for name in names}
        # Past Keras' __setattr__: a tracked metric's variables would be among the model's weights and be saved.
        self.__dict__["_means"] = means
        self.__dict__["_total"] = TotalLoss([means["mlm_loss"], means["nsp_loss"]])

    @property
    def metrics(self) -> list:
        return [*super().metrics, self._total, *self._means.values()]

    @classmethod
    def from_size(cls, size: str, tokenizer, **config) -> "BertPretrainer":
        """A new model, with random weights.

        Args:
          size: `"tiny"` (2 layers of 128), `"mini"` (4 of 256), `"small"` (4 of 512), `"base"` (12 of 768) or
            `"large"` (24 of 1024).
          tokenizer: whose vocabulary the model gets.
          **config: anything else for `BertConfig`, for example `hidden_dropout_prob=0.0`.

        Raises:
          ValueError: no such size.
        """
        settings = bert_size(size) | {
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "max_position_embeddings": max(512, tokenizer.model_max_length if tokenizer.model_max_length < 1e6 else 0),
        }
        return cls(BertConfig(**(settings | config)))

    def compile(self, *args, **kwargs):
        """As `keras.Model.compile`."""
        # Before a training step calls the layers one by one, which would leave the model's name out of theirs.
        self.build_in_name_scope()
        super().compile(*args, **kwargs)

    def train_step(self, data) -> dict:
        inputs, labels = _unpack(data)
        with tf.GradientTape() as tape:
            loss = self._loss(inputs, labels, training=True)
        self.optimizer.minimize(loss, self._trained_variables(labels), tape=tape)
        return self._results(labels)

    def test_step(self, data) -> dict:
        inputs, labels = _unpack(data)
        self._loss(inputs, labels, training=False)
        return self._results(labels)

    def _loss(self, inputs, labels, training: bool) -> tf.Tensor:
        """The loss of a batch, a float32 scalar; brings the metrics up to date."""
        hidden, pooled = self.bert(**inputs, training=training)[:2]
        # Six positions in seven have no label: the vocabulary-wide product is for the others only.
        masked = tf.where(labels["labels"] != IGNORED)
        logits = self.mlm(tf.gather_nd(hidden, masked)[tf.newaxis])[0]
        heads = {"mlm": (logits, tf.gather_nd(labels["labels"], masked))}
        if "next_sentence_label" in labels:
            heads["nsp"] = (self.nsp(pooled), labels["next_sentence_label"])
        losses = []
        for head, (logits, targets) in heads.items():
            loss, accuracy, count = masked_crossentropy(logits, targets)
            self._means[f"{head}_loss"].update_state(loss, sample_weight=count)
            self._means[f"{head}_accuracy"].update_state(accuracy, sample_weight=count)
            losses.append(loss)
        return tf.add_n(losses)

    def _results(self, labels) -> dict:
        heads = ("mlm", "nsp") if "next_sentence_label" in labels else ("mlm",)
        means = {name: mean.result() for name, mean in self._means.items() if name.startswith(heads)}
        return {"loss": self._total.result()} | means

    def _trained_variables(self, labels) -> list:
        """Without NSP labels, the pooler and the NSP head stay as they are."""
        if "next_sentence_label" in labels:
            return self.trainable_variables
        unused = {id(variable) for layer in (self.bert.pooler, self.nsp) for variable in layer.trainable_variables}
        return [variable for variable in self.trainable_variables if id(variable) not in unused]


class TotalLoss(tf_keras.metrics.Metric):
    """The sum of other metrics; being one itself, the progress bar shows it as it is and does not average it again."""

    def __init__(self, parts: list):
        super().__init__(name="loss")
        self.__dict__["_parts"] = parts

    def update_state(self, *args, **kwargs):
        """The parts are brought up to date on their own."""

    def result(self) -> tf.Tensor:
        return tf.add_n([part.result() for part in self._parts])


def masked_crossentropy(logits: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Mean cross-entropy and accuracy over the labels that are not -100.

    Args:
      logits: (..., classes).
      labels: (...) int32.

    Returns:
      `(loss, accuracy, count)`, float32 scalars; loss and accuracy are 0 where nothing counts.
    """
    logits = tf.cast(logits, tf.float32)
    counted = labels != IGNORED
    targets = tf.where(counted, labels, 0)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits)
    hits = tf.cast(tf.argmax(logits, axis=-1, output_type=targets.dtype) == targets, tf.float32)
    weights = tf.cast(counted, tf.float32)
    count = tf.reduce_sum(weights)
    divisor = tf.maximum(count, 1.0)
    return tf.reduce_sum(losses * weights) / divisor, tf.reduce_sum(hits * weights) / divisor, count


def _unpack(data) -> tuple[dict, dict]:
    """Inputs and labels, also where the labels stand among the inputs, as 🤗's collators put them.

    Raises:
      ValueError: there are no MLM labels.
    """
    inputs, labels, _ = tf_keras.utils.unpack_x_y_sample_weight(data)
    names = ("labels", "next_sentence_label")
    if labels is None:
        labels = {name: inputs[name] for name in names if name in inputs}
    if not isinstance(labels, dict):
        labels = {"labels": labels}
    if "labels" not in labels:
        raise ValueError(
            f"The batches have no MLM labels: a key 'labels' of shape (batch, block_size) is needed beside the inputs, "
            f"and there are {sorted(labels)}. kp.to_tf_dataset makes them."
        )
    return {name: value for name, value in inputs.items() if name not in names}, labels
