"""`BertPretrainer` against the stock model and against numpy."""

import numpy as np
import pytest
import tensorflow as tf
from transformers import TFBertForPreTraining

import keras_pretrain as kp
from keras_pretrain.models.sizes import BERT_SIZES, bert_size

BATCH = 16


@pytest.fixture(scope="module")
def features(sentences, tokenizer):
    return kp.build_features(sentences, tokenizer, block_size=32)


@pytest.fixture(scope="module")
def model(tokenizer):
    """Compiled once for the module; tests that train it do not rely on its weights."""
    tf.keras.utils.set_random_seed(0)
    model = kp.BertPretrainer.from_size("tiny", tokenizer)
    model.compile(kp.create_optimizer(learning_rate=2e-3, num_train_steps=100))
    return model


@pytest.fixture(scope="module")
def batch(features, tokenizer):
    return next(iter(kp.to_tf_dataset(features, tokenizer, batch_size=BATCH)))


def one_batch(inputs, labels):
    return tf.data.Dataset.from_tensors((inputs, labels))


def stock_copy(model):
    stock = TFBertForPreTraining(model.config)
    stock.build_in_name_scope()
    stock.set_weights(model.get_weights())
    return stock


def test_the_loss_equals_the_stock_loss_on_the_same_batch(model, batch):
    inputs, labels = batch
    expected = float(stock_copy(model)(**inputs, **labels).loss[0])
    assert model.evaluate(one_batch(inputs, labels), verbose=0, return_dict=True)["loss"] == pytest.approx(
        expected, rel=1e-5
    )
    # One training step without dropout reports the same loss, before its update.
    weights = model.get_weights()
    assert model.fit(one_batch(inputs, labels), verbose=0).history["loss"][0] == pytest.approx(expected, rel=1e-5)
    model.set_weights(weights)


def test_losses_and_accuracies_equal_numpy(model, batch):
    inputs, labels = batch
    outputs = model(inputs)
    results = model.evaluate(one_batch(inputs, labels), verbose=0, return_dict=True)
    for head, logits, label in (
        ("mlm", outputs.prediction_logits.numpy(), labels["labels"].numpy()),
        ("nsp", outputs.seq_relationship_logits.numpy(), labels["next_sentence_label"].numpy()),
    ):
        logits, label = logits[label != -100].astype(float), label[label != -100]
        log_probabilities = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        loss = -log_probabilities[np.arange(len(label)), label].mean()
        assert results[f"{head}_loss"] == pytest.approx(loss, rel=1e-5)
        assert results[f"{head}_accuracy"] == pytest.approx((logits.argmax(axis=-1) == label).mean())
    assert results["loss"] == pytest.approx(results["mlm_loss"] + results["nsp_loss"], rel=1e-6)


def test_validation_weighs_every_token_alike_and_filled_up_rows_not_at_all(model, features, tokenizer):
    """Batches of different fill give the same figures as one batch of everything."""
    everything = kp.to_tf_dataset(features, tokenizer, batch_size=len(features), training=False)
    inputs, labels = next(iter(everything))
    whole = model.evaluate(everything, verbose=0, return_dict=True)

    def filled_up(values, filler):
        padding = -len(features) % BATCH
        values = tf.pad(values, [[0, padding]] + [[0, 0]] * (len(values.shape) - 1), constant_values=filler)
        return tf.split(values, len(values) // BATCH)

    assert len(features) % BATCH
    parts = tf.data.Dataset.from_tensor_slices(
        (
            {name: tf.stack(filled_up(value, 0)) for name, value in inputs.items()},
            {name: tf.stack(filled_up(value, -100)) for name, value in labels.items()},
        )
    )
    assert model.evaluate(parts, verbose=0, return_dict=True) == pytest.approx(whole, rel=1e-4)


def test_fit_learns_and_reports_training_and_validation(model, features, tokenizer):
    train = kp.to_tf_dataset(features, tokenizer, batch_size=BATCH)
    validation = kp.to_tf_dataset(features, tokenizer, batch_size=BATCH, training=False)
    history = model.fit(train, epochs=12, validation_data=validation, verbose=0).history
    names = ["loss", "mlm_accuracy", "mlm_loss", "nsp_accuracy", "nsp_loss"]
    assert sorted(history) == names + [f"val_{name}" for name in names]
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    assert history["val_mlm_loss"][-1] < 0.9 * history["val_mlm_loss"][0]


def test_a_batch_without_a_masked_token_has_a_finite_loss(model, batch):
    inputs, labels = batch
    labels = {**labels, "labels": tf.fill(labels["labels"].shape, -100)}
    results = model.evaluate(one_batch(inputs, labels), verbose=0, return_dict=True)
    assert results["mlm_loss"] == 0
    assert results["loss"] == pytest.approx(results["nsp_loss"])
    weights = model.get_weights()
    model.fit(one_batch(inputs, labels), verbose=0)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    model.set_weights(weights)


def test_without_nsp_labels_mlm_alone_is_trained(model, batch):
    inputs, labels = batch
    before = [weight.numpy() for weight in (*model.nsp.weights, *model.bert.pooler.weights)]
    history = model.fit(one_batch(inputs, {"labels": labels["labels"]}), verbose=0).history
    assert sorted(history) == ["loss", "mlm_accuracy", "mlm_loss"]
    assert history["loss"] == history["mlm_loss"]
    for old, weight in zip(before, (*model.nsp.weights, *model.bert.pooler.weights), strict=True):
        np.testing.assert_array_equal(old, weight.numpy())


def test_labels_may_stand_among_the_inputs(model, batch):
    inputs, labels = batch
    apart = model.evaluate(one_batch(inputs, labels), verbose=0, return_dict=True)
    together = model.evaluate(tf.data.Dataset.from_tensors({**inputs, **labels}), verbose=0, return_dict=True)
    assert together == pytest.approx(apart, rel=1e-6)


def test_batches_without_labels_are_refused(model, batch):
    inputs, labels = batch
    nsp_only = {"next_sentence_label": labels["next_sentence_label"]}
    with pytest.raises(
        ValueError, match=r"MLM labels: .*'labels'.*\[.*'next_sentence_label', 'token_type_ids'\].*kp\.to_tf_dataset"
    ):
        model.fit(one_batch(inputs, nsp_only), verbose=0)


def test_the_stock_model_trains_on_our_batches(features, tokenizer):
    tf.keras.utils.set_random_seed(0)
    config = kp.BertPretrainer.from_size("tiny", tokenizer, num_hidden_layers=1).config
    stock = TFBertForPreTraining(config)
    stock.compile(tf.keras.optimizers.Adam(2e-3))
    history = stock.fit(kp.to_tf_dataset(features, tokenizer, batch_size=BATCH), epochs=6, verbose=0).history
    assert history["loss"][-1] < 0.95 * history["loss"][0]


def test_metrics_are_not_weights(model):
    assert len(model.weights) == len(stock_copy(model).weights)


def test_sizes_are_those_of_the_papers():
    assert {size: (layers, hidden) for size, (layers, hidden, _) in BERT_SIZES.items()} == {
        "tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "base": (12, 768), "large": (24, 1024),
    }  # fmt: skip
    for size in BERT_SIZES:
        settings = bert_size(size)
        assert settings["hidden_size"] == 64 * settings["num_attention_heads"] == settings["intermediate_size"] // 4


def test_from_size_takes_the_tokenizers_vocabulary_and_any_setting(tokenizer):
    config = kp.BertPretrainer.from_size("mini", tokenizer, hidden_dropout_prob=0.2).config
    assert (config.vocab_size, config.pad_token_id, config.num_hidden_layers) == (len(tokenizer), 0, 4)
    assert config.hidden_dropout_prob == 0.2
    assert config.max_position_embeddings == 512


def test_given_features_the_mlm_head_starts_from_the_tokens_frequencies(features, tokenizer):
    model = kp.BertPretrainer.from_size("tiny", tokenizer, features=features)
    counts = np.zeros(len(tokenizer))
    for ids in features["input_ids"]:
        for token in ids:
            counts[token] += token not in tokenizer.all_special_ids
    share = np.exp(model.mlm.predictions.bias.numpy())
    assert share.sum() == pytest.approx(1)
    np.testing.assert_allclose(share, (counts + 1) / (counts + 1).sum(), rtol=1e-5)


def test_an_unknown_size_is_refused(tokenizer):
    with pytest.raises(ValueError, match=r"size 'huge'.*tiny, mini, small, base, large"):
        kp.BertPretrainer.from_size("huge", tokenizer)
