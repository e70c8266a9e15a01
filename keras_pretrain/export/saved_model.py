"""`export_saved_model`: writes a SavedModel that takes strings."""

import copy
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras
import transformers
from transformers import PreTrainedTokenizerBase, TFBertForSequenceClassification, TFElectraForSequenceClassification

from keras_pretrain.export.graph_tokenizer import GraphTokenizer
from keras_pretrain.folders import OwnedFolder
from keras_pretrain.models.electra import ElectraPretrainer
from keras_pretrain.models.loading import check_checkpoint, find_checkpoint
from keras_pretrain.models.pretraining import require_vocabulary
from keras_pretrain.tokenization import cleaning_of

logger = logging.getLogger(__name__)

_FILES = ("saved_model.pb", "fingerprint.pb", "variables/variables.index", "variables/variables.data-00000-of-00001")
_TEXT = {"text": tf.TensorSpec((None,), tf.string, name="text")}
_PAIR = _TEXT | {"text_pair": tf.TensorSpec((None,), tf.string, name="text_pair")}
_IDS = {
    name: tf.TensorSpec((None, None), tf.int32, name=name) for name in ("input_ids", "token_type_ids", "attention_mask")
}


def export_saved_model(
    model: tf_keras.Model,
    tokenizer: PreTrainedTokenizerBase,
    directory: str | os.PathLike[str],
    *,
    max_length: int | None = None,
    top_k: int = 5,
    overwrite: bool = False,
) -> Path:
    """Write a SavedModel that takes raw text. For an ELECTRA with its generator, write two SavedModels.

    A SavedModel runs in any process that has TensorFlow and has imported tensorflow-text. TensorFlow Serving also needs
    a version number as the last part of the path: `my_model/1`. The signatures take and return dictionaries of named
    tensors. The first axis is the batch, which may have any size:

    - `fill_mask`, if the model has a masked-language-model head: `text` (batch,) → `tokens` (string), `token_ids`
      (int32), `scores` (float32) and `sequences` (string: the text with that one `[MASK]` filled), each (batch, masks,
      top_k), best first. Texts with fewer masks than others have `""`, -1, 0 and `""` at the end.
    - `encode`: `text` → `mean` (batch, hidden), the average of the last layer over all tokens except padding, and, if
      the model has a pooler, `pooled` (batch, hidden). The pooler has random weights unless it was trained, by
      next-sentence prediction or with a classifier.
    - `classify`, for a model with a classifier: `text` → `labels` (string) and `scores` (float32), each (batch,
      labels), best first; for a regressor (one label) `value` (batch,). `classify_pairs`, for a model that was trained
      on pairs, takes `text` and `text_pair`.
    - `tokenize`: `text` → `input_ids`, `token_type_ids`, `attention_mask`, each (batch, longest) int32.
    - `fill_mask_ids`, `encode_ids`, `classify_ids` take the tensors of `tokenize` instead of `text`, and return the
      same tensors as `fill_mask`, `encode` and `classify`, except `sequences`.

    The SavedModel does not clean its texts. If a cleaning is recorded with the tokenizer, clean the texts first with
    `clean_text(text, cleaning)`. `[MASK]` and other special tokens in a text are read as special tokens.

    `serving_default` is the first of `classify`, `fill_mask` and `encode` that the model has. Everything is computed in
    float32, even after mixed-precision training.

        loaded = tf.saved_model.load("my_model/1")
        loaded.signatures["fill_mask"](text=tf.constant(["대한민국의 수도는 [MASK]입니다."]))

    Args:
      model: a `BertPretrainer` or another of 🤗's TensorFlow models of BERT or ELECTRA; or an `ElectraPretrainer`,
        whose networks go to `generator/` and `discriminator/`.
      tokenizer: the model's tokenizer; the graph produces the same ids (see `GraphTokenizer`).
      directory: the folder to write to. An earlier export there is replaced when the new one is complete; other files
        stay.
      max_length: longer sequences are truncated to this length. Default: the most that the tokenizer and the model
        allow.
      top_k: the number of tokens that `fill_mask` returns for each mask.
      overwrite: also replace a SavedModel that this function did not write, or that has changed since.

    Returns:
      The directory.

    Raises:
      ValueError: a tokenizer that cannot be reproduced or is not the model's, another architecture, or a `max_length`
        or `top_k` that is too large for the model.
      FileExistsError: the directory has other files under a SavedModel's names, and `overwrite` is off.
      ModuleNotFoundError: tensorflow-text is missing (the extra `serving`).
    """
    directory = Path(directory).expanduser()
    if isinstance(model, (str, os.PathLike)):
        raise ValueError(f"export_saved_model takes a model, not its folder: load {model} with from_pretrained first.")
    if hasattr(model, "discriminator"):
        for name in ("generator", "discriminator"):
            part = getattr(model, name)
            export_saved_model(
                part, tokenizer, directory / name, max_length=max_length, top_k=top_k, overwrite=overwrite
            )
        return directory
    folder = OwnedFolder(directory, "saved_model", overwrite=overwrite)
    folder.require_replaceable(_FILES)
    served = ServedModel(model, tokenizer, max_length, top_k)
    with folder.writing(last="saved_model.pb", remove_first="saved_model.pb", replace_all=True) as stage:
        tf.saved_model.save(served, str(stage), signatures=served.functions)
    if cleaning_of(tokenizer) not in (None, "none"):
        logger.info("%s does not clean its input: pass clean_text(text, %r) to it.", directory, cleaning_of(tokenizer))
    return directory


class ServedModel(tf.Module):
    """A model's answers to texts and ids, as functions that need only TensorFlow.

    Args:
      model, tokenizer, max_length, top_k: as for `export_saved_model`.
    """

    def __init__(
        self, model: tf_keras.Model, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None, top_k: int = 5
    ) -> None:
        super().__init__()
        config = model.config
        if config.model_type not in ("bert", "electra"):
            raise ValueError(f"Only BERT and ELECTRA can be exported, not a model of type {config.model_type!r}.")
        require_vocabulary(config, tokenizer)
        max_length = max_length or min(tokenizer.model_max_length, config.max_position_embeddings)
        if max_length > config.max_position_embeddings:
            raise ValueError(
                f"max_length is {max_length}, but the model has only {config.max_position_embeddings} positions."
            )
        if not 1 <= top_k <= len(tokenizer):
            raise ValueError(f"top_k must be between 1 and the vocabulary's {len(tokenizer)} tokens, not {top_k}.")
        model = _in_float32(model)
        # Tracks only the variables, because for a tracked model Keras would also save a function for each layer.
        self.model_variables = model.variables
        self.tokenize = GraphTokenizer(tokenizer, max_length)
        self.tokens = tf.constant(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
        self._mask, self._mask_id = tokenizer.mask_token, tokenizer.mask_token_id
        self._max_positions, self._top_k = config.max_position_embeddings, top_k
        # Avoids tf.Module's __setattr__, which would track the model and its layers.
        self.__dict__["_model"] = model
        self.__dict__["_encoder"] = getattr(model, model.base_model_prefix)
        self.__dict__["functions"] = self._make_functions()

    def fill_mask_ids(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        place = tf.where(inputs["input_ids"] == self._mask_id)
        batch = tf.shape(inputs["input_ids"], out_type=tf.int64)[0]
        positions = tf.RaggedTensor.from_value_rowids(place[:, 1], place[:, 0], nrows=batch)
        is_mask = tf.ones_like(positions, tf.bool).to_tensor()[:, :, tf.newaxis]
        hidden = tf.gather(self._encode(inputs).last_hidden_state, positions.to_tensor(), batch_dims=1)
        probabilities = tf.nn.softmax(_masked_language_model_logits(self._model, hidden))
        # A model may have more embeddings than the tokenizer has tokens.
        scores, ids = tf.math.top_k(probabilities[:, :, : self.tokens.shape[0]], self._top_k)
        return {
            "tokens": tf.where(is_mask, tf.gather(self.tokens, ids), ""),
            "token_ids": tf.where(is_mask, ids, -1),
            "scores": tf.where(is_mask, scores, 0.0),
        }

    def encode_ids(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        encoded = self._encode(inputs)
        weight = tf.cast(inputs["attention_mask"], tf.float32)[:, :, tf.newaxis]
        total = tf.reduce_sum(encoded.last_hidden_state * weight, axis=1)
        answers = {"mean": total / tf.maximum(tf.reduce_sum(weight, axis=1), 1.0)}
        pooled = encoded.get("pooler_output")
        return answers if pooled is None else answers | {"pooled": pooled}

    def classify_ids(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        config = self._model.config
        logits = self._model(self._checked(inputs), training=False).logits
        if config.num_labels == 1:
            return {"value": logits[:, 0]}
        is_multilabel = config.problem_type == "multi_label_classification"
        scores = tf.sigmoid(logits) if is_multilabel else tf.nn.softmax(logits)
        scores, order = tf.math.top_k(scores, config.num_labels)
        labels = tf.constant([config.id2label[number] for number in range(config.num_labels)])
        return {"labels": tf.gather(labels, order), "scores": scores}

    def _encode(self, inputs: dict) -> Any:
        return self._encoder(**self._checked(inputs), training=False)

    def _checked(self, inputs: dict) -> dict:
        """Check the length of the inputs, because a GPU raises no error for a position without an embedding."""
        message = f"The sequences are longer than the {self._max_positions} positions that the model has."
        ids = inputs["input_ids"]
        with tf.control_dependencies([tf.debugging.assert_less_equal(tf.shape(ids)[1], self._max_positions, message)]):
            return inputs | {"input_ids": tf.identity(ids)}

    def _fill(self, text: tf.Tensor, tokens: tf.Tensor) -> tf.Tensor:
        """Fill one mask per result: (batch,) texts and (batch, masks, top_k) tokens → (batch, masks, top_k) texts.

        A token that continues a word (`##…`) is joined to the text before it.
        """
        mask_length = len(self._mask.encode())
        lengths = tf.strings.length(tf.strings.split(text, self._mask).to_tensor())
        count = tf.shape(tokens)[1]  # masks that truncation cut off have no tokens
        starts = (tf.cumsum(lengths, axis=1) + mask_length * tf.range(tf.shape(lengths)[1]))[:, :count]
        is_mask = tokens[:, :, 0] != ""
        starts, ends = tf.where(is_mask, starts, 0), tf.where(is_mask, starts + mask_length, 0)
        texts = tf.repeat(text[:, tf.newaxis], count, axis=1)
        before = tf.strings.substr(texts, tf.zeros_like(starts), starts)[:, :, tf.newaxis]
        after = tf.strings.substr(texts, ends, tf.strings.length(texts))[:, :, tf.newaxis]
        continues = tf.strings.regex_full_match(tokens, "##.+")
        before = tf.where(continues, tf.strings.regex_replace(before, r"\s+$", ""), before)
        filled = tf.strings.join(
            [before, tf.strings.regex_replace(tokens, "^##(.)", r"\1"), after + tf.zeros_like(tokens)]
        )
        return tf.where(is_mask[:, :, tf.newaxis], filled, "")

    def _make_functions(self) -> dict:
        """The functions that the model supports, traced."""
        functions = {"encode": self.encode_ids}
        if self._mask and _has_masked_language_model(self._model):
            functions["fill_mask"] = self.fill_mask_ids
        if isinstance(self._model, (TFBertForSequenceClassification, TFElectraForSequenceClassification)):
            functions["classify"] = self.classify_ids
        tokenize = _trace(self.tokenize, _TEXT)
        signatures = {"tokenize": tokenize}
        for name, function in functions.items():
            of_ids = _trace(function, _IDS)
            of_text = _after(tokenize, of_ids)
            if name == "fill_mask":
                of_text = _beside(of_text, self._fill)
            signatures |= {name: _trace(of_text, _TEXT), f"{name}_ids": of_ids}
            if name == "classify":
                signatures["classify_pairs"] = _trace(_after(self.tokenize, of_ids), _PAIR)
        default = next(name for name in ("classify", "fill_mask", "encode") if name in signatures)
        return signatures | {"serving_default": signatures[default]}


def export_checkpoint(checkpoint: str | os.PathLike[str], directory: str | os.PathLike[str], **settings: Any) -> Path:
    """Like `export_saved_model`, but for a checkpoint.

    Args:
      checkpoint: a folder or a name on the Hub: a BERT, an ELECTRA with or without its generator, or a classifier.
      directory, **settings: as for `export_saved_model`.

    Raises:
      FileNotFoundError, ValueError: as `models.loading.check_checkpoint`; and as `export_saved_model`.
    """
    found = check_checkpoint(checkpoint)
    if found.model_type == "electra" and find_checkpoint(checkpoint, generator=True).folder != found.folder:
        model = ElectraPretrainer.from_pretrained(checkpoint)
    else:
        architecture = (found.config.get("architectures") or [""])[0]
        kind = getattr(transformers, f"TF{architecture}", None)
        if kind is None:
            raise ValueError(f"{found.name} has the architecture {architecture!r}, which has no TensorFlow class.")
        with found.readable() as folder:
            model = kind.from_pretrained(folder)
    return export_saved_model(model, found.tokenizer(), directory, **settings)


def _after(tokenize: Callable, function: Callable) -> Callable:
    return lambda **texts: function(**tokenize(**texts))


def _beside(answer: Callable, fill: Callable) -> Callable:
    """Make a function that returns the answers, and the text with each answer filled in."""

    def filled(text: tf.Tensor) -> dict[str, tf.Tensor]:
        answers = answer(text=text)
        return answers | {"sequences": fill(text, answers["tokens"])}

    return filled


def _trace(function: Callable, inputs: dict) -> Callable:
    """Trace a function that takes a dictionary, as a function of named tensors."""
    # No code branches on tensors, so AutoGraph is off. Reading the source of all layers took half of the time.
    return tf.function(function, autograph=False).get_concrete_function(**inputs)


def _has_masked_language_model(model: tf_keras.Model) -> bool:
    return hasattr(model, "mlm") or hasattr(model, "generator_lm_head")


def _masked_language_model_logits(model: tf_keras.Model, hidden: tf.Tensor) -> tf.Tensor:
    """Hidden states (batch, masks, hidden) → logits (batch, masks, vocabulary), only at the masks."""
    if hasattr(model, "mlm"):
        return model.mlm(sequence_output=hidden, training=False)
    return model.generator_lm_head(model.generator_predictions(hidden), training=False)


def _in_float32(model: tf_keras.Model) -> tf_keras.Model:
    """Return the model; after mixed-precision training, return a copy that computes in float32."""
    if not model.built:
        model.build_in_name_scope()
    if model.compute_dtype == "float32":
        return model
    policy = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy("float32")
    try:
        twin = type(model)(copy.deepcopy(model.config))
        twin.build_in_name_scope()
        twin.set_weights(model.get_weights())
    finally:
        tf_keras.mixed_precision.set_global_policy(policy)
    return twin
