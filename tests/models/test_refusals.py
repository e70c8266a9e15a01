"""What no step computes with: ids and token types without an embedding, and weights where all tokens count alike.

Line by line, compiled, and compiled with XLA, which would give numbers for them without a word.
"""

import numpy as np
import pytest
import tensorflow as tf
from transformers import BertConfig, ElectraConfig

import keras_pretrain as kp
from keras_pretrain.models.classifier import BertClassifier

LENGTH = 12
WIDTHS = {
    "vocab_size": 15, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16,
    "max_position_embeddings": LENGTH,
}  # fmt: skip
WAYS = {
    "eager": {"run_eagerly": True},
    "graph": {"jit_compile": False},
    "xla": {},  # the default
}
END = {"input_ids": 15, "token_type_ids": 2}  # the first that has no embedding
MESSAGES = {
    "input_ids": r"input_ids .*from 0 to 14 \(.* vocab_size is 15\).*tokenizer",
    "token_type_ids": r"token_type_ids .*from 0 to 1 \(.* type_vocab_size is 2\).*Leave token_type_ids out",
}
NO_WEIGHTS = r"no sample_weight or class_weight, .*Leave the weights out.*repeat"


def make(kind, tokenizer):
    tf.keras.utils.set_random_seed(0)
    if kind == "bert":
        return kp.BertPretrainer(BertConfig(**WIDTHS))
    if kind == "electra":
        return kp.ElectraPretrainer(*(ElectraConfig(**WIDTHS, embedding_size=8) for _ in range(2)), tokenizer)
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertClassifier(BertConfig(**WIDTHS, **no_dropout, num_labels=2))


def batch(kind):
    """Inputs and labels of four rows, as numpy arrays."""
    rng = np.random.default_rng(0)
    ids = rng.integers(5, 15, (4, LENGTH)).astype(np.int32)
    inputs = {
        "input_ids": ids,
        "token_type_ids": (np.arange(LENGTH) >= LENGTH // 2).astype(np.int32) * np.ones_like(ids),
        "attention_mask": np.ones_like(ids),
    }
    if kind == "electra":
        return inputs, None
    if kind == "classifier":
        return inputs, np.array([0, 1, 1, 0], np.int32)
    labels = np.full_like(ids, -100)
    labels[:, 3] = ids[:, 3]
    return inputs, {"labels": labels, "next_sentence_label": np.array([0, 1, 1, 0], np.int32)}


def dataset(inputs, labels, *weights):
    """One batch; of inputs alone where there are no labels."""
    parts = (inputs, labels, *weights)
    if labels is None:
        parts = (inputs, *(({}, *weights) if weights else ()))
    return tf.data.Dataset.from_tensors(parts if len(parts) > 1 else inputs)


def with_value(inputs, name, value):
    changed = inputs[name].copy()
    changed[2, 3] = value
    return inputs | {name: changed}


def run(model, method, data):
    return getattr(model, method)(data, verbose=0)


@pytest.fixture(scope="module", params=[(kind, way) for kind in ("bert", "electra", "classifier") for way in WAYS])
def compiled(request, tokenizer):
    """A kind and its model, trained and evaluated on a batch; compiled once for all that it refuses."""
    kind, way = request.param
    model = make(kind, tokenizer)
    model.compile(tf.keras.optimizers.SGD(0.1), **WAYS[way])
    for method in ("fit", "evaluate"):
        run(model, method, dataset(*batch(kind)))
    return kind, model


@pytest.fixture(scope="module", params=["bert", "electra"])
def pretrainer(request, tokenizer):
    """Weights are refused before the first step."""
    model = make(request.param, tokenizer)
    model.compile(tf.keras.optimizers.SGD(0.1))
    return request.param, model


@pytest.mark.parametrize("method", ["fit", "evaluate"])
@pytest.mark.parametrize(("name", "value"), [(name, value) for name in MESSAGES for value in (-1, END[name])])
def test_what_has_no_embedding_is_refused_and_nothing_is_learned_from_it(compiled, method, name, value):
    kind, model = compiled
    before = model.get_weights()
    inputs, labels = batch(kind)
    with pytest.raises(tf.errors.InvalidArgumentError, match=MESSAGES[name]) as caught:
        run(model, method, dataset(with_value(inputs, name, value), labels))
    assert str(value) in caught.value.message.split("of the batch:")[1]
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_last_id_and_type_are_none_too_many(compiled):
    kind, model = compiled
    inputs, labels = batch(kind)
    for name, value in (("input_ids", 0), ("input_ids", 14), ("token_type_ids", 1)):
        run(model, "evaluate", dataset(with_value(inputs, name, value), labels))


def test_pretrainers_refuse_weights_and_classifiers_count_them(compiled):
    """Through `train_on_batch` and `test_on_batch`, which reach the steps without `fit` and `evaluate`."""
    kind, model = compiled
    inputs, labels = batch(kind)
    weights = np.full(4, 2, np.float32)
    before = model.get_weights()
    for method in ("test_on_batch", "train_on_batch"):
        call = getattr(model, method)
        if kind == "classifier":
            plain = call(inputs, labels, return_dict=True, reset_metrics=True)["loss"]
            model.set_weights(before)
            weighted = call(inputs, labels, sample_weight=weights, return_dict=True, reset_metrics=True)["loss"]
            assert weighted == pytest.approx(2 * plain, rel=1e-5)
            model.set_weights(before)
        else:
            with pytest.raises(ValueError, match=NO_WEIGHTS):
                call(inputs, labels or {}, sample_weight=weights)  # without labels Keras drops them
    if kind == "classifier":
        by_class = model.fit(dataset(inputs, labels), class_weight={0: 2.0, 1: 2.0}, verbose=0).history["loss"][0]
        assert by_class == pytest.approx(weighted, rel=1e-5)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("fit", {"sample_weight": np.ones(4)}),
        ("fit", {"class_weight": {0: 1.0}}),
        ("evaluate", {"sample_weight": np.ones(4)}),
    ],
)
def test_weights_as_an_argument_are_refused(pretrainer, method, arguments):
    kind, model = pretrainer
    inputs, labels = batch(kind)
    with pytest.raises(ValueError, match=NO_WEIGHTS):
        getattr(model, method)(inputs, labels, **arguments, verbose=0)
    with pytest.raises(ValueError, match=NO_WEIGHTS):
        getattr(model, method)(dataset(inputs, labels), **arguments, verbose=0)


def test_weights_in_the_data_are_refused_before_the_first_step(pretrainer):
    kind, model = pretrainer
    inputs, labels = batch(kind)
    plain, weighted = dataset(inputs, labels), dataset(inputs, labels, np.ones(4, np.float32))
    with pytest.raises(ValueError, match=NO_WEIGHTS):
        model.fit(weighted, verbose=0)
    with pytest.raises(ValueError, match=NO_WEIGHTS):
        model.evaluate(weighted, verbose=0)
    for validation in (weighted, (inputs, labels, np.ones(4))):
        with pytest.raises(ValueError, match=NO_WEIGHTS):
            model.fit(plain, validation_data=validation, verbose=0)
    assert int(model.optimizer.iterations) == 0
