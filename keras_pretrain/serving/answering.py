"""`Answerer`: loads the networks of a folder once, and computes their predictions for texts."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import tensorflow as tf
import tf_keras
from datasets import Dataset
from transformers import TFBertModel, TFElectraForPreTraining, TFElectraModel

from keras_pretrain.evaluation import load_masked_lm
from keras_pretrain.export.answers import GapFiller
from keras_pretrain.finetuning.batching import encode_examples
from keras_pretrain.models.classifier import load_classifier
from keras_pretrain.models.loading import Checkpoint
from keras_pretrain.serving.contents import Contents
from keras_pretrain.serving.inputs import InputError

_TOP_K = 5
_ENCODERS = {"bert": TFBertModel, "electra": TFElectraModel}


class Answerer:
    """Loads each network of a folder once, and computes its predictions.

    The networks run eagerly, without XLA, because XLA compiles each text length anew. For a mini BERT, it took two
    seconds to compile a length and then 7 ms to compute a text; eager execution takes 30 ms.

    Args:
      contents: the contents of a folder with at least one checkpoint.

    Attributes:
      knows_hangul: whether the vocabulary has Korean tokens; the page then shows Korean examples.
      labels: the labels of a classifier, in the order of its logits; `None` without a classifier.

    Raises:
      FileNotFoundError, ValueError, ModuleNotFoundError: as `models.loading.Checkpoint.check`.
    """

    def __init__(self, contents: Contents) -> None:
        found = contents.encodes
        if found is None:
            raise ValueError(f"{contents.folder} has no checkpoint.")
        self.tokenizer = found.tokenizer()
        self._filler = GapFiller(*load_masked_lm(contents.folder)) if contents.fills else None
        if contents.classifies:
            network: tf_keras.Model = load_classifier(contents.folder)
        elif contents.fills is found and self._filler:
            network = self._filler.network
        else:
            network = _load(found, TFElectraForPreTraining if contents.judges else _ENCODERS[found.model_type])
        self._network = network
        self._encoder = getattr(network, network.base_model_prefix)
        for tokenizer in (self.tokenizer, *([self._filler.tokenizer] if self._filler else [])):
            tokenizer.model_max_length = min(tokenizer.model_max_length, network.config.max_position_embeddings)
        self.knows_hangul = any("가" <= token[-1:] <= "힣" for token in self.tokenizer.get_vocab())
        self.labels = [label for _, label in sorted(network.config.id2label.items())] if contents.classifies else None

    def answer(self, task: str, texts: list[str]) -> dict[str, Any]:
        """Return what the page shows for a task, as JSON values.

        Args:
          task: one of `Contents.tasks` except `"run"`.
          texts: the texts that `inputs.texts_of` returned.

        Returns:
          The result of the method with the name of the task, and `cut`: the maximum number of tokens that the model
          reads, if a text has more tokens; else `None`.
        """
        methods: dict[str, Callable[..., dict]] = {
            "fill": self.fill,
            "judge": self.judge,
            "classify": self.classify,
            "compare": self.compare,
        }
        most = self.tokenizer.model_max_length
        parts = [texts] if task == "classify" else [[text] for text in texts]
        is_cut = any(len(self.tokenizer(*part, verbose=False)["input_ids"]) > most for part in parts)
        return methods[task](*texts) | {"cut": most if is_cut else None}

    def fill(self, text: str) -> dict[str, Any]:
        """Return the `gaps`: for each `[MASK]`, the likeliest words and their probabilities."""
        filler = cast(GapFiller, self._filler)  # never None: without a filler, "fill" is not among the tasks
        gaps = filler.fill(text, min(_TOP_K, len(self.tokenizer)))
        if not gaps:
            raise InputError("gap_cut", "The gap is beyond the tokens that the model reads. Shorten the text.")
        return {"gaps": [[{"word": each.word, "probability": each.probability} for each in gap] for gap in gaps]}

    def judge(self, text: str) -> dict[str, Any]:
        """Return the `tokens`, each with the discriminator's probability that it was replaced."""
        ids = self.tokenizer(text, truncation=True)["input_ids"]
        probabilities = tf.sigmoid(self._network(tf.constant([ids])).logits[0]).numpy().tolist()
        tokens = self.tokenizer.convert_ids_to_tokens(ids)
        return {
            "tokens": [
                {"token": token, "probability": probability}
                for token, probability, number in zip(tokens, probabilities, ids, strict=True)
                if number not in (self.tokenizer.cls_token_id, self.tokenizer.sep_token_id)
            ]
        }

    def classify(self, text: str, pair: str | None = None) -> dict[str, Any]:
        """Return the `labels` with their probabilities, the likeliest first; for a regressor, the `score`."""
        columns = {"text": [text]} | ({} if pair is None else {"pair": [pair]})
        encoded = encode_examples(
            Dataset.from_dict(columns), self.tokenizer, max_length=self.tokenizer.model_max_length
        )
        inputs = {name: getattr(encoded, name)[0][np.newaxis] for name in ("input_ids", "token_type_ids")}
        logits = self._network(inputs, training=False).logits
        if not self.labels or len(self.labels) == 1:
            return {"score": float(logits[0, 0])}
        probabilities = tf.nn.softmax(logits)[0].numpy().tolist()
        ordered = sorted(zip(probabilities, self.labels, strict=True), reverse=True)
        return {"labels": [{"label": label, "probability": probability} for probability, label in ordered]}

    def compare(self, *texts: str) -> dict[str, Any]:
        """Return the `similarities`, (texts, texts): cosines of the last hidden states, averaged over each text."""
        inputs = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="tf")
        weights = tf.cast(inputs["attention_mask"], tf.float32)[:, :, tf.newaxis]
        hidden = self._encoder(**inputs).last_hidden_state
        vectors = tf.math.l2_normalize(tf.reduce_sum(hidden * weights, axis=1), axis=-1)
        return {"similarities": tf.matmul(vectors, vectors, transpose_b=True).numpy().tolist()}


def _load(checkpoint: Checkpoint, kind: type[tf_keras.Model]) -> tf_keras.Model:
    with checkpoint.readable() as folder:
        return kind.from_pretrained(folder)
