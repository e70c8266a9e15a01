"""What the compiled step promises: one compilation, exact accumulation, refusals, mixed precision."""

import numpy as np
import pytest
import tensorflow as tf
from transformers import BertConfig, TFBertForPreTraining

import keras_pretrain as kp

BATCH = 8
SETTINGS = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture(scope="module")
def features(sentences, tokenizer):
    return kp.build_features(sentences, tokenizer, block_size=32)


@pytest.fixture(scope="module")
def batch(features, tokenizer):
    return next(iter(kp.to_tf_dataset(features, tokenizer, batch_size=BATCH)))


def make(tokenizer, optimizer=None, seed=0, **settings):
    tf.keras.utils.set_random_seed(seed)
    model = kp.BertPretrainer.from_size("tiny", tokenizer, **(SETTINGS | settings))
    model.compile(optimizer or tf.keras.optimizers.SGD(0.1))
    return model


def step(model, batch):
    """One training step; its figures."""
    history = model.fit(tf.data.Dataset.from_tensors(batch), verbose=0).history
    return {name: value for name, (value,) in history.items()}


def test_every_gradient_equals_the_stock_models(tokenizer, batch):
    model = make(tokenizer, **NO_DROPOUT)
    inputs, labels = batch
    stock = TFBertForPreTraining(model.config)
    stock.build_in_name_scope()
    stock.set_weights(model.get_weights())
    with tf.GradientTape() as tape:
        loss = stock(**inputs, **labels).loss
    expected = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, stock.trainable_variables)]
    _, got = model._forward_backward(inputs, labels, tf.constant([0, 0]), None)
    scale = max(float(tf.reduce_max(tf.abs(gradient))) for gradient in expected)
    for variable, ours, theirs in zip(stock.trainable_variables, got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * scale, rtol=1e-5, err_msg=variable.name)


def test_training_and_validation_compile_once_each(tokenizer, features):
    model = make(tokenizer)
    train = kp.to_tf_dataset(features, tokenizer, batch_size=BATCH)
    validation = kp.to_tf_dataset(features, tokenizer, batch_size=BATCH, training=False)
    assert len(features) % BATCH
    model.fit(train, epochs=2, validation_data=validation, verbose=0)
    model.evaluate(validation, verbose=0)
    assert model._forward_backward.experimental_get_tracing_count() == 1
    assert model._forward.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulation_gives_the_update_of_the_whole_batch(tokenizer, batch, parts):
    whole, parted = make(tokenizer, **NO_DROPOUT), make(tokenizer, gradient_accumulation_steps=parts, **NO_DROPOUT)
    assert step(whole, batch) == pytest.approx(step(parted, batch), rel=1e-5)
    for ours, theirs in zip(parted.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert int(parted.optimizer.iterations) == 1


def test_a_batch_that_cannot_be_parted_is_refused(tokenizer, batch):
    with pytest.raises(ValueError, match="A batch of 8 cannot be computed in 3 equal parts"):
        step(make(tokenizer, gradient_accumulation_steps=3), batch)
    with pytest.raises(ValueError, match="gradient_accumulation_steps must be at least 1, not 0"):
        make(tokenizer, gradient_accumulation_steps=0)


def test_more_labels_than_there_is_room_for_are_refused(tokenizer, features):
    model = make(tokenizer)
    too_many = next(iter(kp.to_tf_dataset(features, tokenizer, batch_size=BATCH, mask_prob=0.5)))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"more labels than the 4 that mask_prob=0.15"):
        step(model, too_many)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Give BertPretrainer the mask_prob"):
        model.evaluate(tf.data.Dataset.from_tensors(too_many), verbose=0)
    assert np.isfinite(step(make(tokenizer, mask_prob=0.5), too_many)["loss"])


@pytest.mark.parametrize("mask_prob", [0.05, 0.15, 0.4])
@pytest.mark.parametrize("objective", ["mlm+nsp", "mlm"])
def test_there_is_room_for_what_the_collator_masks(tokenizer, sentences, mask_prob, objective):
    features = kp.build_features(sentences, tokenizer, objective=objective, block_size=24)
    model = kp.BertPretrainer(BertConfig(vocab_size=15, num_hidden_layers=1, **SETTINGS), mask_prob=mask_prob)
    dataset = kp.to_tf_dataset(features, tokenizer, batch_size=BATCH, mask_prob=mask_prob)
    most = max(int((labels["labels"] != -100).numpy().sum(axis=1).max()) for _, labels in dataset)
    assert most <= model.capacity(24)


def test_labels_anywhere_are_counted_once(tokenizer, batch):
    """Also at the first position, which rows with few labels point at in their unused room."""
    inputs, labels = batch
    label = np.full(labels["labels"].shape, -100)
    label[0, 0], label[3, 31] = 7, 8
    model = make(tokenizer, **NO_DROPOUT)
    logits = model(inputs).prediction_logits.numpy()
    expected = np.mean([np.log(np.exp(logits[i, j]).sum()) - logits[i, j, label[i, j]] for i, j in ((0, 0), (3, 31))])
    labels = {"labels": tf.constant(label, tf.int32)}
    results = model.evaluate(tf.data.Dataset.from_tensors((inputs, labels)), verbose=0, return_dict=True)
    assert results["mlm_loss"] == pytest.approx(expected, rel=1e-5)


def test_the_same_seed_gives_the_same_weights_with_dropout(tokenizer, features):
    def trained(seed):
        model = make(tokenizer)
        model.seed = seed
        model.fit(kp.to_tf_dataset(features, tokenizer, batch_size=BATCH), verbose=0)
        return np.concatenate([weight.ravel() for weight in model.get_weights()])

    np.testing.assert_array_equal(trained(1), trained(1))
    assert (trained(1) != trained(2)).any()


def test_an_optimizer_of_keras_3_is_refused(tokenizer):
    import keras

    with pytest.raises(ValueError, match=r"Adam is an optimizer of Keras 3.*tf_keras\.optimizers"):
        make(tokenizer, optimizer=keras.optimizers.Adam())


def test_without_xla_the_numbers_are_the_same(tokenizer, batch):
    compiled, plain = make(tokenizer), make(tokenizer)
    plain.compile(tf.keras.optimizers.SGD(0.1), jit_compile=False)
    assert step(plain, batch) == pytest.approx(step(compiled, batch), rel=1e-5)
    for ours, theirs in zip(compiled.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_float32_weights(tokenizer, batch, policy):
    exact = step(make(tokenizer, **NO_DROPOUT), batch)["loss"]
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        model = make(tokenizer, **NO_DROPOUT)
        losses = [step(model, batch)["loss"] for _ in range(5)]
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert losses[0] == pytest.approx(exact, rel=2e-2)
    assert losses[-1] < losses[0]
    assert {weight.dtype.name for weight in model.weights} == {"float32"}
    scaled = isinstance(model.optimizer, tf.keras.mixed_precision.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
