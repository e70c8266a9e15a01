"""What the compiled step promises: one compilation, exact accumulation, refusals, mixed precision."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from transformers import BertConfig, TFBertForPreTraining

import keras_pretrain as kp

BATCH = 8
SETTINGS = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.fixture(scope="module")
def features(sentences, tokenizer):
    return kp.build_features(sentences, tokenizer, block_size=32)


@pytest.fixture(scope="module")
def batch(features, tokenizer):
    return next(iter(kp.to_tf_dataset(features, tokenizer, batch_size=BATCH)))


def make(tokenizer, optimizer=None, jit_compile=False, **settings):
    """Seconds of tracing and compiling are spared where what is tested is the same line by line."""
    tf.keras.utils.set_random_seed(0)
    model = kp.BertPretrainer.from_size("tiny", tokenizer, **(SETTINGS | settings))
    model.compile(optimizer or tf.keras.optimizers.SGD(0.1), run_eagerly=not jit_compile)
    return model


def step(model, batch):
    """One training step; its figures."""
    history = model.fit(tf.data.Dataset.from_tensors(batch), verbose=0).history
    return {name: value for name, (value,) in history.items()}


def test_every_gradient_equals_the_stock_models(tokenizer, batch):
    model = make(tokenizer, jit_compile=True, num_hidden_layers=2)
    inputs, labels = batch
    stock = TFBertForPreTraining(model.config)
    stock.build_in_name_scope()
    stock.set_weights(model.get_weights())
    with tf.GradientTape() as tape:
        loss = stock(**inputs, **labels).loss
    expected = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, stock.trainable_variables)]
    counts = [tf.reduce_sum(tf.cast(label != -100, tf.float32)) for label in labels.values()]
    counts = {"mlm": counts[0], "nsp": counts[1]}
    _, got = model._gradients(dict(inputs | labels), counts, tf.constant([0, 0]), None)
    scale = max(float(tf.reduce_max(tf.abs(gradient))) for gradient in expected)
    for variable, ours, theirs in zip(stock.trainable_variables, got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * scale, rtol=1e-5, err_msg=variable.name)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_step_moves_the_weights_as_far_as_clipping_lets_it(tokenizer, batch, jit_compile):
    optimizer = tf.keras.optimizers.SGD(1.0, global_clipnorm=0.25)
    model = make(tokenizer, optimizer, jit_compile)
    before = model.get_weights()
    step(model, batch)
    moved = [after - start for after, start in zip(model.get_weights(), before, strict=True)]
    assert np.sqrt(sum((part**2).sum() for part in moved)) == pytest.approx(0.25, rel=1e-4)
    assert optimizer.global_clipnorm == 0.25


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="on a GPU the optimizer finds the norm")
def test_the_compiled_update_clips_by_the_norm_it_is_given(tokenizer, batch):
    model = make(tokenizer, tf.keras.optimizers.SGD(1.0, global_clipnorm=0.25), jit_compile=True)
    before = model.get_weights()
    gradients = [tf.ones_like(variable) for variable in model.trainable_variables]
    norm = model._norm_to_clip(gradients)
    assert float(norm) == pytest.approx(np.sqrt(sum(weight.size for weight in before)))
    model._apply(gradients, model.trainable_variables, 2 * norm)
    moved = [after - start for after, start in zip(model.get_weights(), before, strict=True)]
    assert np.sqrt(sum((part**2).sum() for part in moved)) == pytest.approx(0.125, rel=1e-4)


def test_a_value_to_clip_by_leaves_clipping_to_the_optimizer(tokenizer):
    model = make(tokenizer, tf.keras.optimizers.SGD(1.0, global_clipnorm=0.25, clipvalue=0.1), jit_compile=True)
    assert model._norm_to_clip([tf.ones_like(variable) for variable in model.trainable_variables]) is None


@pytest.mark.parametrize("labels", [{"labels": 15}, {"labels": -1}, {"next_sentence_label": 2}])
def test_labels_that_are_no_class_are_refused(tokenizer, batch, labels):
    """Under XLA they would count as a loss without a gradient."""
    inputs, right = batch
    ((name, label),) = labels.items()
    first = tf.where(right[name] != -100)[:1]
    wrong = {**right, name: tf.tensor_scatter_nd_update(right[name], first, [label])}
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"'{name}' .*-100 or from 0 to.*kp\.to_tf_dataset"):
        step(make(tokenizer), (inputs, wrong))


def test_a_step_that_overflows_changes_nothing_but_the_loss_scale(tokenizer, batch):
    """`create_optimizer` under mixed_float16: its clipping meets gradients that are infinite."""
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        inner = kp.create_optimizer(num_train_steps=10)
        model = make(tokenizer, tf.keras.mixed_precision.LossScaleOptimizer(inner, initial_scale=2.0**100), True)
        before = model.get_weights()
        step(model, batch)
        assert all((after == start).all() for after, start in zip(model.get_weights(), before, strict=True))
        assert float(model.optimizer.loss_scale) == 2.0**99
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")


def test_training_and_validation_compile_once_each(tokenizer, features):
    model = make(tokenizer, jit_compile=True)
    train = kp.to_tf_dataset(features, tokenizer, batch_size=BATCH)
    validation = kp.to_tf_dataset(features, tokenizer, batch_size=BATCH, training=False)
    assert len(features) % BATCH
    model.fit(train, epochs=2, validation_data=validation, verbose=0)
    model.evaluate(validation, verbose=0)
    assert model._forward_backward.experimental_get_tracing_count() == 1
    assert model._forward.experimental_get_tracing_count() == 1
    assert model._apply.experimental_get_tracing_count() == 1
    assert model.train_function.experimental_get_tracing_count() == 1  # 2 where it makes the optimizer's variables


def test_batches_of_another_shape_may_follow(tokenizer, sentences, features):
    model = make(tokenizer)
    model.compile("adam", jit_compile=False)
    longer = kp.build_features(sentences, tokenizer, block_size=48)
    for part in (features, longer, features):
        data = kp.to_tf_dataset(part, tokenizer, batch_size=BATCH)
        history = model.fit(data, validation_data=kp.to_tf_dataset(part, tokenizer, batch_size=4), verbose=0).history
        assert np.isfinite(history["val_loss"]).all()
    assert model._forward_backward.experimental_get_tracing_count() == 2


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulation_gives_the_update_of_the_whole_batch(tokenizer, batch, parts):
    whole, parted = make(tokenizer), make(tokenizer, jit_compile=parts == 2, gradient_accumulation_steps=parts)
    assert step(whole, batch) == pytest.approx(step(parted, batch), rel=1e-5)
    for ours, theirs in zip(parted.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert int(parted.optimizer.iterations) == 1


def test_a_batch_that_cannot_be_parted_is_refused(tokenizer, batch):
    with pytest.raises(ValueError, match=r"batch of 8 .*\b3 equal parts.*gradient_accumulation_steps"):
        step(make(tokenizer, gradient_accumulation_steps=3), batch)
    with pytest.raises(ValueError, match=r"gradient_accumulation_steps .*at least 1, not 0"):
        make(tokenizer, gradient_accumulation_steps=0)


def test_more_labels_than_there_is_room_for_are_refused(tokenizer, features):
    model = make(tokenizer)
    too_many = next(iter(kp.to_tf_dataset(features, tokenizer, batch_size=BATCH, mask_prob=0.5)))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"labels .*\b4 .*mask_prob=0\.15"):
        step(model, too_many)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"BertPretrainer .*mask_prob"):
        model.evaluate(tf.data.Dataset.from_tensors(too_many), verbose=0)
    assert np.isfinite(step(make(tokenizer, mask_prob=0.5), too_many)["loss"])


@pytest.mark.parametrize("mask_prob", [0.05, 0.15, 0.4])
@pytest.mark.parametrize("objective", ["mlm+nsp", "mlm"])
def test_there_is_room_for_what_the_collator_masks(tokenizer, sentences, mask_prob, objective):
    features = kp.build_features(sentences, tokenizer, objective=objective, block_size=24)
    model = kp.BertPretrainer(BertConfig(vocab_size=15, **SETTINGS), mask_prob=mask_prob)
    dataset = kp.to_tf_dataset(features, tokenizer, batch_size=BATCH, mask_prob=mask_prob)
    most = max(int((labels["labels"] != -100).numpy().sum(axis=1).max()) for _, labels in dataset)
    assert most <= model.capacity(24)


def test_labels_anywhere_are_counted_once(tokenizer, batch):
    """Also at the first position, which rows with few labels point at in their unused room."""
    inputs, labels = batch
    label = np.full(labels["labels"].shape, -100)
    label[0, 0], label[3, 31] = 7, 8
    model = make(tokenizer)
    logits = model(inputs).prediction_logits.numpy()
    expected = np.mean([np.log(np.exp(logits[i, j]).sum()) - logits[i, j, label[i, j]] for i, j in ((0, 0), (3, 31))])
    labels = {"labels": tf.constant(label, tf.int32)}
    results = model.evaluate(tf.data.Dataset.from_tensors((inputs, labels)), verbose=0, return_dict=True)
    assert results["mlm_loss"] == pytest.approx(expected, rel=1e-5)


def test_the_same_seed_gives_the_same_weights_with_dropout(tokenizer, features):
    def trained(seed):
        model = make(tokenizer, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
        model.seed = seed
        model.fit(kp.to_tf_dataset(features, tokenizer, batch_size=BATCH), verbose=0)
        return np.concatenate([weight.ravel() for weight in model.get_weights()])

    first = trained(1)
    np.testing.assert_array_equal(first, trained(1))
    assert (first != trained(2)).any()


def test_ids_beyond_the_vocabulary_are_refused(tokenizer, batch):
    """Under XLA training would go on without a word."""
    inputs, labels = batch
    inputs = {**inputs, "input_ids": tf.tensor_scatter_nd_update(inputs["input_ids"], [[2, 3]], [15])}
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"input_ids .*from 0 to 14\b"):
        step(make(tokenizer), (inputs, labels))


def test_batches_longer_than_the_models_positions_are_refused(tokenizer, batch):
    with pytest.raises(ValueError, match=r"batches .*\b32 tokens.*\b16 positions.*smaller block_size"):
        step(make(tokenizer, max_position_embeddings=16), batch)


def test_a_tokenizer_or_block_that_the_model_cannot_take_is_refused_early(tokenizer):
    model = kp.BertPretrainer(BertConfig(vocab_size=10, **SETTINGS))
    with pytest.raises(ValueError, match=r"tokenizer .*\b15 tokens.*model.*\b10\b"):
        model.require_fit(tokenizer, 16)
    with pytest.raises(ValueError, match=r"Blocks of 32 tokens.*\b16 positions.*smaller block_size"):
        make(tokenizer, max_position_embeddings=16).require_fit(tokenizer, 32)


def test_token_types_and_attention_mask_may_be_left_out(tokenizer, batch):
    inputs, labels = batch
    full = {
        "input_ids": inputs["input_ids"],
        "token_type_ids": tf.zeros_like(inputs["input_ids"]),
        "attention_mask": tf.ones_like(inputs["input_ids"]),
    }
    expected = step(make(tokenizer), (full, labels))
    assert step(make(tokenizer), ({"input_ids": inputs["input_ids"]}, labels)) == pytest.approx(expected)


def test_the_stock_collator_works_with_room_for_all(tokenizer, features):
    from transformers import DataCollatorForLanguageModeling

    padded = features.map(lambda e: dict(tokenizer.pad(e, padding="max_length", max_length=32)))
    dataset = padded.to_tf_dataset(
        columns=["input_ids", "token_type_ids", "attention_mask"],
        label_cols=["labels", "next_sentence_label"],
        batch_size=BATCH,
        drop_remainder=True,
        collate_fn=DataCollatorForLanguageModeling(tokenizer, return_tensors="np"),
    )
    history = make(tokenizer, mask_prob=1.0).fit(dataset, verbose=0).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize("setting", [{"loss": "mse"}, {"metrics": ["accuracy"]}])
def test_losses_and_metrics_of_others_are_refused(tokenizer, setting):
    model = make(tokenizer)
    with pytest.raises(ValueError, match=f"BertPretrainer .*leave out {next(iter(setting))}"):
        model.compile("adam", **setting)


def test_an_optimizer_of_keras_3_is_refused(tokenizer):
    import keras

    with pytest.raises(ValueError, match=r"\bAdam .*Keras 3\b.*tf_keras\.optimizers"):
        make(tokenizer, optimizer=keras.optimizers.Adam())


def test_without_xla_the_numbers_are_the_same(tokenizer, batch):
    dropout = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    compiled = make(tokenizer, jit_compile=True, **dropout)
    expected = step(compiled, batch)
    for settings in ({"jit_compile": False}, {"run_eagerly": True}):
        plain = make(tokenizer, **dropout)
        plain.compile(tf.keras.optimizers.SGD(0.1), **settings)
        assert step(plain, batch) == pytest.approx(expected, rel=1e-5)
        for ours, theirs in zip(compiled.get_weights(), plain.get_weights(), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_two_replicas_give_the_update_of_one(tmp_path):
    """In a process of its own, since processors can only be divided before TensorFlow starts."""
    script = tmp_path / "replicas.py"
    script.write_text(
        """
import numpy as np
import keras_pretrain as kp
import tensorflow as tf
from transformers import BertConfig

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
rng = np.random.default_rng(0)
ids = rng.integers(5, 30, (8, 16)).astype(np.int32)
labels = np.where(rng.random((8, 16)) < np.linspace(0, 0.5, 8)[:, None], ids, -100).astype(np.int32)
targets = {"labels": labels, "next_sentence_label": ids[:, 0] % 2}
batches = tf.data.Dataset.from_tensor_slices(({"input_ids": ids}, targets))
weights = {}
for precision, devices in (
    ("float32", ["/cpu:0"]), ("float32", ["/cpu:0", "/cpu:1"]), ("bfloat16", ["/cpu:0", "/cpu:1"])
):
    with tf.distribute.MirroredStrategy(devices, cross_device_ops=tf.distribute.ReductionToOneDevice()).scope():
        tf.keras.utils.set_random_seed(0)
        config = BertConfig(vocab_size=40, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                            intermediate_size=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        model = kp.BertPretrainer(config, mask_prob=1.0)
        # Rounded operands without XLA are multiplied on any machine.
        model.compile(tf.keras.optimizers.SGD(1.0), jit_compile=len(devices) == 1, precision=precision)
    loss = model.fit(batches.batch(8), verbose=0).history["loss"][0]
    values = np.concatenate([[loss], *(weight.ravel() for weight in model.get_weights())])
    weights[precision, len(devices)] = values
np.testing.assert_allclose(weights["float32", 1], weights["float32", 2], rtol=1e-4, atol=1e-5)
# The second replica gets nothing of a last batch of one row.
both = tf.distribute.MirroredStrategy(devices, cross_device_ops=tf.distribute.ReductionToOneDevice())
with both.scope():
    model = kp.BertPretrainer(config, mask_prob=1.0)
    model.compile("sgd", precision="bfloat16")
assert np.isfinite(model.evaluate(batches.take(5).batch(4), verbose=0)[0])
difference = weights["bfloat16", 2] - weights["float32", 1]
assert 0 < np.linalg.norm(difference) < 0.01 * np.linalg.norm(weights["float32", 1])
"""
    )
    result = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_float32_weights(tokenizer, batch, policy):
    exact = step(make(tokenizer), batch)["loss"]
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        model = make(tokenizer, jit_compile=True)
        losses = [step(model, batch)["loss"] for _ in range(5)]
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert losses[0] == pytest.approx(exact, rel=2e-2)
    assert losses[-1] < losses[0]
    assert {weight.dtype.name for weight in model.weights} == {"float32"}
    scaled = isinstance(model.optimizer, tf.keras.mixed_precision.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")


class Stop(tf.keras.callbacks.Callback):
    """Ends a `fit` after some steps, like a crash."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_a_second_fit_continues_with_the_next_batch(tokenizer, features):
    """Five batches an epoch: prefetching runs several epochs ahead of the steps."""

    def data():
        return kp.to_tf_dataset(features.select(range(5 * BATCH)), tokenizer, batch_size=BATCH, block_size=32)

    train, whole = data(), make(tokenizer)
    whole.fit(train.repeat(), steps_per_epoch=14, verbose=0)
    train, parts = data(), make(tokenizer)
    batches = train.keras_pretrain_batches
    parts.fit(train.repeat(), steps_per_epoch=3, verbose=0)
    assert batches.next_step == 3
    with pytest.raises(KeyboardInterrupt):
        parts.fit(train.repeat().prefetch(2), steps_per_epoch=9, callbacks=[Stop(4)], verbose=0)
    assert batches.next_step == 7
    parts.fit(train.repeat(), steps_per_epoch=7, initial_epoch=1, epochs=2, verbose=0)
    assert batches.next_step == 14
    for ours, theirs in zip(parts.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_fit_of_data_that_are_not_repeated_begins_a_new_epoch(tokenizer, features):
    train = kp.to_tf_dataset(features.select(range(5 * BATCH)), tokenizer, batch_size=BATCH, block_size=32)
    batches, model = train.keras_pretrain_batches, make(tokenizer)
    model.fit(train, epochs=2, verbose=0)
    assert batches.next_step == 10
    with pytest.raises(KeyboardInterrupt):
        model.fit(train, callbacks=[Stop(2)], verbose=0)
    assert batches.next_step == 15
    with pytest.raises(ValueError, match="infinite dataset"):
        model.fit(train.repeat(), verbose=0)  # nothing is trained
    assert batches.next_step == 15
    next(iter(train))
    assert batches.next_step == 20
    model.fit(train.repeat(), steps_per_epoch=3, verbose=0)
    model.fit(train, verbose=0)
    assert batches.next_step == 30


def test_a_fit_starts_where_the_last_one_ended_whatever_iterators_do(tokenizer, features):
    train = kp.to_tf_dataset(features.select(range(5 * BATCH)), tokenizer, batch_size=BATCH, block_size=32)
    batches, model = train.keras_pretrain_batches, make(tokenizer)

    class Look(tf.keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            next(iter(train))

    model.fit(train.repeat(), steps_per_epoch=3, callbacks=[Look()], verbose=0)
    assert batches.next_step == 3
