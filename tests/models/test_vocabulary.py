import numpy as np
import pytest
import tensorflow as tf
from transformers import BertConfig, ElectraConfig, TFBertForMaskedLM, TFElectraModel

import keras_pretrain as kp
from keras_pretrain.wordpieces import old_pieces

WIDTHS = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture(scope="module")
def letters():
    return kp.train_tokenizer([f"{a}{b} ." for a in "abcdefg" for b in "abcdefg"], vocab_size=20)


def randomize(model):
    """Every weight another number, so that none is right by chance."""
    model.build_in_name_scope() if hasattr(model, "build_in_name_scope") else None
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.standard_normal(weight.shape))


def test_new_rows_are_means_and_everything_else_stays(letters):
    model = kp.BertPretrainer(BertConfig(vocab_size=20, **WIDTHS))
    randomize(model)
    before = {weight.name: weight.numpy() for weight in model.weights}
    order = [weight.name for weight in model.weights]
    extended = kp.add_tokens(model, letters, ["bcd", "##ef"])
    assert [weight.name for weight in model.weights] == order
    grown = ("word_embeddings/weight:0", "predictions/bias:0")
    for weight in model.weights:
        old = before[weight.name]
        if not weight.name.endswith(grown):
            np.testing.assert_array_equal(weight.numpy(), old)
            continue
        assert weight.shape[0] == len(extended) == 22
        np.testing.assert_array_equal(weight.numpy()[:20], old)
        for token in ("bcd", "##ef"):
            row = weight.numpy()[extended.get_vocab()[token]]
            np.testing.assert_allclose(row, old[old_pieces(token, letters)].mean(axis=0), rtol=1e-6)
    assert model.config.vocab_size == 22


def test_a_grown_bert_predicts_trains_and_is_reloaded(letters, tmp_path):
    model = kp.BertPretrainer(BertConfig(vocab_size=20, **WIDTHS))
    randomize(model)
    extended = kp.add_tokens(model, letters, ["bcd"])
    inputs = dict(extended(["bcd a", "a bcd"], return_tensors="tf"))
    logits = model(inputs).prediction_logits
    assert logits.shape == (2, 4, 21)
    kp.save_checkpoint(model, extended, tmp_path)
    again = kp.BertPretrainer.from_pretrained(tmp_path)
    np.testing.assert_allclose(again(inputs).prediction_logits, logits, atol=1e-5)

    model.compile("sgd", jit_compile=False)
    old = model.bert.embeddings.weight.numpy()
    labels = np.array([[-100, 20, -100, -100], [-100, -100, 20, -100]], np.int32)
    model.mask_prob = 1.0
    model.fit(tf.data.Dataset.from_tensors((inputs, {"labels": labels})), verbose=0)
    assert np.all(model.bert.embeddings.weight.numpy()[20] != old[20])


def test_spare_rows_are_used_before_the_table_grows(letters):
    model = kp.BertPretrainer(BertConfig(vocab_size=24, **WIDTHS))
    randomize(model)
    old = model.bert.embeddings.weight.numpy()
    kp.add_tokens(model, letters, ["bcd"])
    assert model.config.vocab_size == 24
    np.testing.assert_allclose(
        model.bert.embeddings.weight.numpy()[20], old[old_pieces("bcd", letters)].mean(axis=0), rtol=1e-6
    )
    np.testing.assert_array_equal(model.bert.embeddings.weight.numpy()[21:], old[21:])


@pytest.mark.parametrize("tie", [True, False])
def test_both_networks_of_an_electra_grow_and_stay_tied(letters, tie, tmp_path):
    configs = [ElectraConfig(vocab_size=20, embedding_size=8, **WIDTHS) for _ in range(2)]
    model = kp.ElectraPretrainer(*configs, letters, tie_embeddings=tie)
    randomize(model)
    bias = model.generator.generator_lm_head.bias.numpy()
    tables = [network.electra.embeddings.weight.numpy() for network in (model.generator, model.discriminator)]
    extended = kp.add_tokens(model, letters, ["bcd", "##ef"])
    assert model.tokenizer is extended
    for network, old in zip((model.generator, model.discriminator), tables, strict=True):
        embeddings = network.electra.embeddings.weight.numpy()
        np.testing.assert_array_equal(embeddings[:20], old)
        np.testing.assert_allclose(embeddings[21], old[old_pieces("##ef", letters)].mean(axis=0), rtol=1e-6)
        assert network.config.vocab_size == 22
    same = model.generator.electra.embeddings.weight is model.discriminator.electra.embeddings.weight
    assert same == tie
    names = [weight.name for weight in model.trainable_weights]
    assert len(names) == len({id(weight) for weight in model.trainable_weights})
    grown = model.generator.generator_lm_head.bias.numpy()
    np.testing.assert_array_equal(grown[:20], bias)
    np.testing.assert_allclose(grown[20], bias[old_pieces("bcd", letters)].mean(), rtol=1e-6)

    kp.save_checkpoint(model, extended, tmp_path)
    again = kp.ElectraPretrainer.from_pretrained(tmp_path, tie_embeddings=tie)
    inputs = dict(extended(["bcd aef"], return_tensors="tf"))
    np.testing.assert_allclose(again(inputs), model(inputs), atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: TFBertForMaskedLM(BertConfig(vocab_size=20, **WIDTHS)),
        lambda: TFElectraModel(ElectraConfig(vocab_size=20, embedding_size=8, **WIDTHS)),
    ],
)
def test_stock_models_grow_too(letters, make):
    model = make()
    extended = kp.add_tokens(model, letters, ["bcd"])
    output = model(dict(extended(["a bcd"], return_tensors="tf")))
    assert np.isfinite(output[0].numpy()).all()
    assert model.config.vocab_size == 21


def test_a_character_that_is_new_starts_from_unknown_and_the_log_says_so(letters, package_log):
    model = kp.BertPretrainer(BertConfig(vocab_size=20, **WIDTHS))
    randomize(model)
    kp.add_tokens(model, letters, ["뷁"])
    rows = model.bert.embeddings.weight.numpy()
    np.testing.assert_array_equal(rows[20], rows[letters.unk_token_id])
    assert "1 start from [UNK]" in package_log.text


def test_tokens_that_are_there_already_change_nothing(letters):
    model = kp.BertPretrainer(BertConfig(vocab_size=20, **WIDTHS))
    extended = kp.add_tokens(model, letters, ["a\n", "##b"])
    assert extended.get_vocab() == letters.get_vocab()
    assert model.config.vocab_size == 20


def test_a_compiled_model_and_a_tokenizer_that_does_not_fit_are_refused(letters):
    model = kp.BertPretrainer(BertConfig(vocab_size=20, **WIDTHS))
    model.compile("adam")
    with pytest.raises(ValueError, match=r"compiled already.*add tokens first"):
        kp.add_tokens(model, letters, ["bcd"])
    with pytest.raises(ValueError, match=r"tokenizer .*\b20 tokens.*model.*\b10\b"):
        kp.add_tokens(kp.BertPretrainer(BertConfig(vocab_size=10, **WIDTHS)), letters, ["bcd"])
