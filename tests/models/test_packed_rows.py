"""Losses, metrics and gradients of packed rows are those of the same examples in rows of their own."""

import numpy as np
import pytest
import tensorflow as tf

import keras_pretrain as kp
from keras_pretrain.features.packing import unpack

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.fixture(scope="module", params=["mlm+nsp", "mlm", "rtd"])
def objective(request):
    return request.param


@pytest.fixture(scope="module")
def dataset(sentences, tokenizer, objective):
    features = kp.build_features(sentences, tokenizer, block_size=32, objective=objective, short_seq_prob=0.8)
    return kp.to_tf_dataset(features, tokenizer, batch_size=8, packed=True)


def make(tokenizer, objective, **settings):
    tf.keras.utils.set_random_seed(0)
    kind = kp.ElectraPretrainer if objective == "rtd" else kp.BertPretrainer
    model = kind.from_size("tiny", tokenizer, **SIZE, **settings)
    rng = np.random.default_rng(2)  # no probability of "replaced" is so close to a half that rounding decides
    for variable in model.trainable_variables:
        variable.assign_add(rng.normal(0, 0.05, variable.shape))
    model.compile(tf.keras.optimizers.SGD(1e-4 if objective == "rtd" else 0.1))  # its loss is weighted by 50
    return model


def gradients_of(model, data):
    batch = model._checked(model._unpack(data))
    sums, gradients = model._gradients(batch, model._counts(batch), tf.constant([0, 0]), None)
    return {name: np.asarray(value) for name, value in sums.items()}, gradients


def test_losses_metrics_and_gradients_are_those_of_rows_of_their_own(dataset, tokenizer, objective):
    data = next(iter(dataset))
    inputs, labels = data if objective != "rtd" else (data, None)
    assert np.asarray(inputs["example_ids"]).max() >= 2
    alone = unpack(inputs, labels)
    # An ELECTRA whose generator sees everything and is all but certain draws the same, whatever the rows.
    settings = {"replace_prob": 1e-6, "temperature": 1e-6} if objective == "rtd" else {"mask_prob": 1.0}
    if objective == "rtd":
        alone = _as_packed(inputs, alone[0])
    got, expected = (
        gradients_of(make(tokenizer, objective, **settings), tf.nest.map_structure(tf.constant, each))
        for each in (data, alone)
    )
    for name, value in expected[0].items():
        np.testing.assert_allclose(got[0][name], value, rtol=1e-5, atol=1e-3 if name == "judgements" else 0)
    scale = max(float(tf.reduce_max(tf.abs(gradient))) for gradient in expected[1])
    for ours, theirs in zip(got[1], expected[1], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * max(float(tf.reduce_max(tf.abs(theirs))), 1e-3 * scale))


def _as_packed(inputs, alone):
    """Rows of one example each, with the positions that were chosen for the packed ones."""
    examples = {name: np.asarray(values) for name, values in inputs.items()}
    places, length = [], alone["input_ids"].shape[1]
    for row in range(len(examples["example_ids"])):
        numbers = examples["example_ids"][row]
        chosen = examples["masked_positions"][row]
        for number in range(1, numbers.max() + 1):
            columns = np.flatnonzero(numbers == number)
            within = [int(each - columns[0]) for each in chosen if each >= 0 and numbers[each] == number]
            places.append(within + [-1] * (examples["masked_positions"].shape[1] - len(within)))
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), alone["input_ids"].shape)
    return {
        "packed_ids": alone["input_ids"],
        "token_type_ids": alone["token_type_ids"],
        "position_ids": positions,
        "example_ids": alone["attention_mask"],
        "masked_positions": np.array(places, np.int32),
    }


def test_training_validation_and_a_batch_in_parts(dataset, tokenizer, objective):
    """A whole `fit`, and one with dropout off in two parts: the same losses."""
    histories = []
    for parts in (1, 2):
        dataset.keras_pretrain_batches.next_step = 0
        model = make(
            tokenizer,
            objective,
            gradient_accumulation_steps=parts,
            **({"replace_prob": 1e-6, "temperature": 1e-6} if objective == "rtd" else {}),
        )
        histories.append(model.fit(dataset, epochs=2, validation_data=dataset.take(2), verbose=0).history)
    for name, values in histories[0].items():
        assert np.isfinite(values).all(), name
        np.testing.assert_allclose(histories[1][name], values, rtol=2e-4, atol=1e-4, err_msg=name)


def test_previews_show_single_examples(dataset, tokenizer, objective):
    kind = kp.callbacks.ReplacedTokensPreview if objective == "rtd" else kp.callbacks.FillMaskPreview
    preview = kind(dataset, tokenizer)
    preview.set_model(make(tokenizer, objective))
    assert len(preview.render().splitlines()) >= 3
