"""`ElectraPretrainer` against the stock networks, numpy and the paper's rules."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from transformers import ElectraConfig, TFAutoModel, TFElectraForMaskedLM, TFElectraForPreTraining, TFElectraModel

import keras_pretrain as kp
from keras_pretrain.folders import OwnedFolder
from keras_pretrain.models.loading import find_checkpoint
from keras_pretrain.models.pretraining import _hash
from keras_pretrain.models.sizes import ELECTRA_SIZES, electra_sizes

BATCH = 8
METRICS = [
    "disc_accuracy", "disc_auc", "disc_loss", "disc_precision", "disc_recall", "loss", "mlm_accuracy", "mlm_loss",
    "original_accuracy", "replaced_accuracy", "sampled_original",
]  # fmt: skip
COMMON = {"vocab_size": 15, "embedding_size": 16, "num_hidden_layers": 1, "max_position_embeddings": 40}
GENERATOR = ElectraConfig(**COMMON, hidden_size=8, num_attention_heads=1, intermediate_size=16)
DISCRIMINATOR = ElectraConfig(**COMMON, hidden_size=24, num_attention_heads=2, intermediate_size=48)


@pytest.fixture(scope="module")
def features(sentences, tokenizer):
    return kp.build_features(sentences, tokenizer, objective="rtd", block_size=32)


@pytest.fixture(scope="module")
def batch(features, tokenizer):
    return next(iter(kp.to_tf_dataset(features, tokenizer, batch_size=BATCH)))


def make(tokenizer, optimizer=None, jit_compile=False, dropout=0.0, layers=1, **settings):
    """Seconds of tracing and compiling are spared where what is tested is the same line by line."""
    tf.keras.utils.set_random_seed(0)
    configs = [ElectraConfig(**config.to_dict()) for config in (GENERATOR, DISCRIMINATOR)]
    for config in configs:
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
        config.initializer_range = 0.2  # networks of this size say nothing at 0.02
        config.num_hidden_layers = layers
    model = kp.ElectraPretrainer(*configs, tokenizer, **settings)
    model.compile(optimizer or tf.keras.optimizers.SGD(0.05), run_eagerly=not jit_compile)
    return model


def one_batch(batch):
    return tf.data.Dataset.from_tensors(batch)


def drawn(model, batch, seed):
    """What a step with this seed sees: masked ids, targets, positions, samples, ids with the samples."""
    prepared = model._prepare(dict(batch), seed)
    _, sampled_ids, samples = model._generate(prepared, seed, 0, None)
    return {name: value.numpy() for name, value in prepared.items()} | {
        "sampled_ids": sampled_ids.numpy(),
        "samples": samples.numpy(),
    }


def plain_losses(model, batch, draws):
    """Both losses with the stock networks' forward passes and plain loops, as TensorFlow scalars."""
    inputs = {name: batch[name] for name in ("token_type_ids", "attention_mask")}
    logits = model.generator(input_ids=draws["masked_ids"], **inputs).logits
    log_probabilities = tf.nn.log_softmax(logits)
    chosen = [
        log_probabilities[row, draws["positions"][row, k], target]
        for row, targets in enumerate(draws["targets"])
        for k, target in enumerate(targets)
        if target != -100
    ]
    judged = model.discriminator(input_ids=draws["sampled_ids"], **inputs).logits
    is_replaced = tf.cast(draws["sampled_ids"] != batch["input_ids"].numpy(), tf.float32)
    likelihood = is_replaced * tf.math.log_sigmoid(judged) + (1 - is_replaced) * tf.math.log_sigmoid(-judged)
    real = tf.cast(batch["attention_mask"], tf.float32)
    return -tf.reduce_mean(tf.stack(chosen)), -tf.reduce_sum(likelihood * real) / tf.reduce_sum(real)


def test_losses_and_every_gradient_equal_the_stock_networks(tokenizer, batch):
    model = make(tokenizer, jit_compile=True, layers=2)
    seed = tf.constant([7, 3])
    draws = drawn(model, batch, seed)
    with tf.GradientTape() as tape:
        mlm_loss, disc_loss = plain_losses(model, batch, draws)
        loss = mlm_loss + 50 * disc_loss
    expected = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, model.trainable_variables)]
    inputs = dict(batch)
    sums, got = model._gradients(inputs, model._counts(inputs), seed, None)
    assert float(sums["mlm_loss"] / sums["mlm_count"]) == pytest.approx(float(mlm_loss), rel=1e-5)
    assert float(sums["disc_loss"] / sums["disc_count"]) == pytest.approx(float(disc_loss), rel=1e-5)
    assert float(sums["disc_count"]) == batch["attention_mask"].numpy().sum()
    scale = max(float(tf.reduce_max(tf.abs(gradient))) for gradient in expected)
    for variable, ours, theirs in zip(model.trainable_variables, got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * scale, rtol=1e-5, err_msg=variable.name)


def test_replaced_positions_hold_what_the_generator_drew_and_nothing_else_changes(tokenizer, features):
    model = make(tokenizer)
    replaced, equal = 0, 0
    for step, batch in enumerate(kp.to_tf_dataset(features, tokenizer, batch_size=BATCH).take(10)):
        draws = drawn(model, batch, tf.constant([1, step]))
        ids = batch["input_ids"].numpy()
        masked, sampled = ids.copy(), ids.copy()
        for row in range(BATCH):
            chosen = draws["targets"][row] != -100
            positions = draws["positions"][row][chosen]
            ordinary = ~np.isin(ids[row], tokenizer.all_special_ids)
            assert len(set(positions)) == len(positions) == max(1, round(0.15 * ordinary.sum()))
            assert ordinary[positions].all()
            np.testing.assert_array_equal(draws["targets"][row][chosen], ids[row, positions])
            is_masked = draws["masked_ids"][row, positions] == tokenizer.mask_token_id
            masked[row, positions[is_masked]] = tokenizer.mask_token_id
            for position, sample in zip(positions, draws["samples"][row][chosen], strict=True):
                sampled[row, position] = sample
                equal += sample == ids[row, position]
                replaced += sample != ids[row, position]
        np.testing.assert_array_equal(draws["masked_ids"], masked)
        np.testing.assert_array_equal(draws["sampled_ids"], sampled)
    assert min(replaced, equal) > 5  # both were seen


def test_of_the_chosen_85_percent_are_masked(tokenizer, features):
    model = make(tokenizer)
    masked, chosen = 0, 0
    for step, batch in enumerate(kp.to_tf_dataset(features, tokenizer, batch_size=BATCH).repeat(15)):
        draws = model._prepare(
            {name: tf.cast(value, tf.int32) for name, value in batch.items()}, tf.constant([1, step])
        )
        masked += np.sum(draws["masked_ids"] == tokenizer.mask_token_id)
        chosen += np.sum(draws["targets"] != -100)
    assert masked / chosen == pytest.approx(0.85, abs=4 * np.sqrt(0.85 * 0.15 / chosen))


def test_the_discriminator_teaches_the_generator_nothing(tokenizer, batch):
    model = make(tokenizer, gen_weight=0.0)
    before = [weight.numpy() for weight in model.generator.trainable_variables]
    model.fit(one_batch(batch), verbose=0)
    tied = {id(weight) for weight in model.discriminator.trainable_variables}
    for old, weight in zip(before, model.generator.trainable_variables, strict=True):
        assert (old != weight.numpy()).any() == (id(weight) in tied), weight.name


def test_without_a_discriminator_loss_it_trains_exactly_like_a_masked_language_model(tokenizer, features):
    model = make(tokenizer, disc_weight=0.0, seed=5)
    stock = TFElectraForMaskedLM(model.generator.config)
    stock.build_in_name_scope()
    stock.set_weights(model.generator.get_weights())
    optimizer = tf.keras.optimizers.SGD(0.05)
    batches = list(kp.to_tf_dataset(features, tokenizer, batch_size=BATCH).take(3))
    for step, batch in enumerate(batches):
        draws = drawn(model, batch, tf.constant([5, step]))
        labels = np.full(batch["input_ids"].shape, -100)
        for row in range(BATCH):
            labels[row, draws["positions"][row]] = draws["targets"][row]
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(
                stock(draws["masked_ids"], batch["attention_mask"], batch["token_type_ids"], labels=labels).loss
            )
        optimizer.apply_gradients(
            zip(tape.gradient(loss, stock.trainable_variables), stock.trainable_variables, strict=True)
        )
        history = model.fit(one_batch(batch), verbose=0).history
        assert history["loss"][0] == pytest.approx(float(loss), rel=1e-5)
    for ours, theirs in zip(model.generator.weights, stock.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6, err_msg=theirs.name)


def test_with_a_generator_that_is_always_right_every_token_is_original(tokenizer):
    """A text of one word, and a generator that knows no other."""
    model = make(tokenizer)
    model.generator.generator_lm_head.bias.assign(100.0 * tf.one_hot(5, 15))
    ids = tf.constant([[2, 5, 5, 5, 5, 5, 5, 3]] * 4, tf.int32)
    results = model.evaluate(one_batch({"input_ids": ids}), verbose=0, return_dict=True)
    assert results["sampled_original"] == 1
    assert results["mlm_accuracy"] == 1
    assert results["replaced_accuracy"] == results["disc_recall"] == 0  # there is none
    judged = model.discriminator(ids).logits.numpy()
    assert results["disc_loss"] == pytest.approx(np.log1p(np.exp(judged)).mean(), rel=1e-5)
    assert results["original_accuracy"] == pytest.approx((judged < 0).mean())


def test_tied_embeddings_are_one_object_and_updated_once(tokenizer, batch):
    model = make(tokenizer, optimizer=tf.keras.optimizers.SGD(1.0))
    ours, theirs = model.generator.electra.embeddings, model.discriminator.electra.embeddings
    for name in ("weight", "position_embeddings", "token_type_embeddings"):
        assert getattr(ours, name) is getattr(theirs, name)
        assert sum(variable is ours.weight for variable in model.trainable_variables) == 1
    assert ours.LayerNorm.gamma is not theirs.LayerNorm.gamma
    before = ours.weight.numpy()
    draws = drawn(model, batch, tf.constant([model.seed, 0]))
    with tf.GradientTape() as tape:
        mlm_loss, disc_loss = plain_losses(model, batch, draws)
        loss = mlm_loss + 50 * disc_loss
    gradient = tf.convert_to_tensor(tape.gradient(loss, ours.weight))
    model.fit(one_batch(batch), verbose=0)
    np.testing.assert_allclose(before - ours.weight.numpy(), gradient, rtol=1e-3, atol=1e-4)


def test_apart_on_request(tokenizer, batch):
    model = make(tokenizer, tie_embeddings=False)
    assert model.generator.electra.embeddings.weight is not model.discriminator.electra.embeddings.weight
    assert np.isfinite(model.fit(one_batch(batch), verbose=0).history["loss"]).all()


@pytest.fixture(scope="module")
def trained(tokenizer, features):
    model = make(tokenizer, kp.create_optimizer(learning_rate=5e-3, num_train_steps=200), jit_compile=True)
    train = kp.to_tf_dataset(features, tokenizer, batch_size=BATCH)
    validation = kp.to_tf_dataset(features, tokenizer, batch_size=BATCH, training=False)
    history = model.fit(train, epochs=25, validation_data=validation, verbose=0).history
    return model, history, validation


def test_fit_learns_reports_and_compiles_once(trained, features):
    model, history, _ = trained
    assert sorted(history) == METRICS + [f"val_{name}" for name in METRICS]
    assert history["mlm_loss"][-1] < 0.9 * history["mlm_loss"][0]
    assert history["disc_loss"][-1] < 0.9 * history["disc_loss"][0]
    assert history["val_disc_auc"][-1] > 0.55  # by chance 0.5
    for name in ("loss", "val_loss"):
        mlm, disc = (history[name.replace("loss", part)][-1] for part in ("mlm_loss", "disc_loss"))
        assert history[name][-1] == pytest.approx(mlm + 50 * disc, rel=1e-5)
    assert len(features) % BATCH
    assert model._forward_backward.experimental_get_tracing_count() == 1
    assert model._forward.experimental_get_tracing_count() == 1


def test_validation_is_the_same_each_time(trained):
    model, _, validation = trained
    results = [model.evaluate(validation, verbose=0, return_dict=True) for _ in range(2)]
    assert results[0] == results[1]


def test_validation_draws_follow_from_the_batch(trained, batch):
    model, _, _ = trained
    seed = tf.stack([model.seed, _hash(tf.cast(batch["input_ids"], tf.int32))])
    mlm_loss, disc_loss = plain_losses(model, batch, drawn(model, batch, seed))
    results = model.evaluate(one_batch(batch), verbose=0, return_dict=True)
    assert results["mlm_loss"] == pytest.approx(float(mlm_loss), rel=1e-4)
    assert results["disc_loss"] == pytest.approx(float(disc_loss), rel=1e-4)


def test_both_networks_come_back_as_they_were(trained, tokenizer, batch, tmp_path):
    model, _, validation = trained
    kp.save_checkpoint(model, tokenizer, tmp_path)
    loaded = kp.ElectraPretrainer.from_pretrained(tmp_path)
    assert loaded.generator.electra.embeddings.weight is loaded.discriminator.electra.embeddings.weight
    loaded.compile("adam", jit_compile=False)
    expected = model.evaluate(validation, verbose=0, return_dict=True)
    assert loaded.evaluate(validation, verbose=0, return_dict=True) == pytest.approx(expected, rel=1e-4)
    for reader, network in (
        (TFElectraForMaskedLM, model.generator),
        (TFElectraForPreTraining, model.discriminator),
    ):
        folder = tmp_path / "generator" if network is model.generator else tmp_path
        stock, info = reader.from_pretrained(folder, output_loading_info=True)
        assert info == {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": []}
        np.testing.assert_allclose(stock(batch).logits, network(batch).logits, rtol=1e-5, atol=1e-5)
    encoder, info = TFAutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(encoder, TFElectraModel)
    assert not info["missing_keys"]
    hidden = model.discriminator.electra(batch).last_hidden_state
    np.testing.assert_allclose(encoder(batch).last_hidden_state, hidden, rtol=1e-5, atol=1e-5)


def test_torch_reads_both_networks(trained, tokenizer, batch, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed; pip install torch to check its reader")
    from transformers import ElectraForMaskedLM, ElectraForPreTraining

    model, _, _ = trained
    kp.save_checkpoint(model, tokenizer, tmp_path)
    inputs = {name: torch.tensor(value.numpy()) for name, value in batch.items()}
    for reader, name in ((ElectraForMaskedLM, "generator"), (ElectraForPreTraining, "discriminator")):
        folder = tmp_path / "generator" if name == "generator" else tmp_path
        loaded, info = reader.from_pretrained(folder, output_loading_info=True)
        assert not info["missing_keys"]
        assert not info["unexpected_keys"]
        with torch.no_grad():
            logits = loaded.eval()(**inputs).logits
        np.testing.assert_allclose(logits, getattr(model, name)(batch).logits, rtol=1e-5, atol=1e-5)


def test_accumulation_gives_the_update_of_the_whole_batch(tokenizer, batch):
    """Masks are drawn for the whole batch; at temperature 0, so are the samples."""
    whole, parted = (make(tokenizer, temperature=1e-6, gradient_accumulation_steps=parts) for parts in (1, 4))
    histories = [model.fit(one_batch(batch), verbose=0).history for model in (whole, parted)]
    for name, (value,) in histories[0].items():
        assert histories[1][name][0] == pytest.approx(value, rel=1e-5, abs=1e-6), name
    for ours, theirs in zip(parted.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_same_seed_gives_the_same_weights(tokenizer, features):
    def fitted(seed):
        model = make(tokenizer, dropout=0.1, seed=seed)
        model.fit(kp.to_tf_dataset(features, tokenizer, batch_size=BATCH).take(2), verbose=0)
        return np.concatenate([weight.ravel() for weight in model.get_weights()])

    first = fitted(1)
    np.testing.assert_array_equal(first, fitted(1))
    assert (first != fitted(2)).any()


def test_masked_batches_are_unmasked_first(tokenizer, sentences):
    features = kp.build_features(sentences, tokenizer, objective="mlm", block_size=32)
    model = make(tokenizer)
    results = [
        model.evaluate(
            kp.to_tf_dataset(features, tokenizer, batch_size=BATCH, training=False, mask_prob=mask_prob),
            verbose=0,
            return_dict=True,
        )
        for mask_prob in (0.0, 0.3)
    ]
    assert results[0] == results[1]


def test_bfloat16_trains_float32_weights(tokenizer, batch):
    exact = make(tokenizer).fit(one_batch(batch), verbose=0).history["disc_loss"][0]
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = make(tokenizer, tf.keras.optimizers.SGD(0.002))
        losses = [model.fit(one_batch(batch), verbose=0).history["disc_loss"][0] for _ in range(4)]
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert losses[0] == pytest.approx(exact, rel=5e-2)  # some draws differ
    assert losses[-1] < losses[0]
    assert {weight.dtype.name for weight in model.weights} == {"float32"}


def test_what_happens_in_a_step_can_be_looked_at(tokenizer, batch):
    model = make(tokenizer)
    seen = {name: value.numpy() for name, value in model.replace_tokens(batch, step=2).items()}
    draws = drawn(model, batch, tf.constant([model.seed, 2]))
    np.testing.assert_array_equal(seen["masked_ids"], draws["masked_ids"])
    np.testing.assert_array_equal(seen["sampled_ids"], draws["sampled_ids"])
    np.testing.assert_array_equal(seen["is_replaced"], draws["sampled_ids"] != batch["input_ids"].numpy())
    judged = model.discriminator(batch | {"input_ids": draws["sampled_ids"]}).logits.numpy()
    np.testing.assert_allclose(seen["probability"], 1 / (1 + np.exp(-judged)), rtol=1e-4)


def test_sizes_are_those_of_the_paper():
    widths = {
        size: tuple(
            (s["num_hidden_layers"], s["hidden_size"], s["embedding_size"], s["num_attention_heads"])
            for s in electra_sizes(size)
        )
        for size in ELECTRA_SIZES
    }
    assert widths == {
        "tiny": ((2, 128, 64, 2), (2, 64, 64, 1)),
        "mini": ((4, 256, 128, 4), (4, 64, 128, 1)),
        "small": ((12, 256, 128, 4), (12, 64, 128, 1)),
        "base": ((12, 768, 768, 12), (12, 256, 768, 4)),
        "large": ((24, 1024, 1024, 16), (24, 256, 1024, 4)),
    }
    assert all(each["intermediate_size"] == 4 * each["hidden_size"] for s in ELECTRA_SIZES for each in electra_sizes(s))


def test_from_size_takes_features_settings_and_config(tokenizer, features):
    model = kp.ElectraPretrainer.from_size(
        "tiny", tokenizer, features=features, disc_weight=25.0, seed=3, hidden_dropout_prob=0.2
    )
    assert model.head_weights == {"mlm": 1.0, "disc": 25.0}
    assert model.generator.config.hidden_dropout_prob == model.discriminator.config.hidden_dropout_prob == 0.2
    np.testing.assert_allclose(np.exp(model.generator.generator_lm_head.bias.numpy()).sum(), 1.0, rtol=1e-5)
    row = model.discriminator.electra.embeddings.weight.numpy()[5]
    assert np.linalg.norm(row) == pytest.approx(0.02 * 8, rel=1e-5)
    with pytest.raises(ValueError, match=r"size 'huge'.*tiny, mini, small, base, large"):
        kp.ElectraPretrainer.from_size("huge", tokenizer)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 20}, "generator's vocabulary .*20 tokens.*discriminator's 15"),
        ({"embedding_size": 8}, "generator's embedding_size is 8, the discriminator's 16.*tie_embeddings=False"),
        ({"max_position_embeddings": 64}, "generator's max_position_embeddings is 64, the discriminator's 40"),
    ],
)
def test_networks_that_do_not_match_are_refused(tokenizer, changes, message):
    generator = ElectraConfig(**(GENERATOR.to_dict() | changes))
    with pytest.raises(ValueError, match=message):
        kp.ElectraPretrainer(generator, DISCRIMINATOR, tokenizer)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"mask_prob": 0.0}, "mask_prob .*above 0 and at most 1, not 0.0"),
        ({"replace_prob": 1.5}, "replace_prob .*above 0 and at most 1, not 1.5"),
        ({"temperature": 0.0}, "temperature .*above 0, not 0.0"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps .*at least 1, not 0"),
    ],
)
def test_settings_out_of_range_are_refused(tokenizer, setting, message):
    with pytest.raises(ValueError, match=message):
        kp.ElectraPretrainer(GENERATOR, DISCRIMINATOR, tokenizer, **setting)


def test_checkpoints_that_are_no_pair_are_refused(tokenizer, tmp_path):
    kp.save_checkpoint(make(tokenizer), tokenizer, tmp_path / "pair")
    generator, discriminator = tmp_path / "pair" / "generator", tmp_path / "discriminator"
    generator.rename(tmp_path / "generator")
    (tmp_path / "pair").rename(discriminator)
    generator = tmp_path / "generator"
    with pytest.raises(ValueError, match=r"/discriminator .*no generator/.*name the generator's checkpoint"):
        kp.ElectraPretrainer.from_pretrained(discriminator)
    with pytest.raises(ValueError, match=r"/discriminator .*ELECTRA discriminator.*as the generator"):
        kp.ElectraPretrainer.from_pretrained(generator, discriminator)
    kp.ElectraPretrainer.from_pretrained(discriminator, generator)
    (generator / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match=r"model type 'bert'.*'electra'"):
        kp.ElectraPretrainer.from_pretrained(discriminator, generator)


def test_the_layout_of_older_versions_is_read_and_replaced(tokenizer, batch, tmp_path):
    model = make(tokenizer)
    folder = OwnedFolder(tmp_path / "pair", "checkpoint")
    kp.save_checkpoint(model, tokenizer, tmp_path / "new")
    with folder.writing() as stage:  # as versions with two sub-folders wrote it
        shutil.copytree(tmp_path / "new" / "generator", stage / "generator")
        names = shutil.ignore_patterns("generator", ".keras_pretrain*")
        shutil.copytree(tmp_path / "new", stage / "discriminator", ignore=names)
    logits = [each.discriminator(batch).logits for each in (model, kp.ElectraPretrainer.from_pretrained(folder.path))]
    np.testing.assert_allclose(*logits, rtol=1e-5, atol=1e-5)
    assert find_checkpoint(folder.path).folder == folder.path / "discriminator"
    assert find_checkpoint(folder.path, generator=True).folder == folder.path / "generator"
    (folder.path / "discriminator" / "notes.txt").write_text("mine")
    kp.save_checkpoint(make(tokenizer, seed=5), tokenizer, folder.path)
    assert [path.name for path in (folder.path / "discriminator").iterdir()] == ["notes.txt"]
    assert find_checkpoint(folder.path).folder == folder.path


def test_embeddings_that_were_trained_apart_are_not_tied_in_silence(tokenizer, tmp_path):
    kp.save_checkpoint(make(tokenizer, tie_embeddings=False), tokenizer, tmp_path)
    with pytest.raises(ValueError, match=r"word_embeddings differ .*tie_embeddings=False"):
        kp.ElectraPretrainer.from_pretrained(tmp_path)
    loaded = kp.ElectraPretrainer.from_pretrained(tmp_path, tie_embeddings=False)
    assert loaded.generator.electra.embeddings.weight is not loaded.discriminator.electra.embeddings.weight


def test_the_progress_bar_shows_the_figures_of_the_history(tokenizer, features, capsys):
    model = make(tokenizer)
    history = model.fit(kp.to_tf_dataset(features, tokenizer, batch_size=BATCH), verbose=1).history
    last = capsys.readouterr().out.replace("\b", "").replace("\r", "\n").strip().split("\n")[-1]
    for name in METRICS:
        shown = float(last.split(f" {name}: ")[1].split()[0])
        assert shown == pytest.approx(history[name][0], rel=1e-3, abs=1e-4), name


def test_ids_and_lengths_without_an_embedding_are_refused(tokenizer, batch):
    model = make(tokenizer)
    ids = tf.tensor_scatter_nd_update(batch["input_ids"], [[2, 3]], [15])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"input_ids .*from 0 to 14\b"):
        model.fit(one_batch(batch | {"input_ids": ids}), verbose=0)
    with pytest.raises(ValueError, match=r"batches .*\b48 tokens.*\b40 positions.*smaller block_size"):
        model.fit(one_batch({"input_ids": tf.fill((2, 48), 5)}), verbose=0)
    with pytest.raises(ValueError, match=r"Blocks of 48 tokens.*\b40 positions.*smaller block_size"):
        model.require_fit(tokenizer, 48)
