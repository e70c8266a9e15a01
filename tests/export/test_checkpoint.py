"""A saved folder read back by everyone who should be able to."""

import json
import sys

import numpy as np
import pytest
import tensorflow as tf
from transformers import AutoTokenizer, BertConfig, TFBertForMaskedLM, TFBertForPreTraining, pipeline

import keras_pretrain as kp


@pytest.fixture(scope="module")
def model(tokenizer):
    model = kp.BertPretrainer.from_size("tiny", tokenizer)
    model.compile("adam")
    # Biases and layer norms are born 0 and 1: as random numbers they cannot be lost unseen.
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.1, weight.shape) for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def checkpoint(model, tokenizer, tmp_path_factory):
    return kp.save_checkpoint(model, tokenizer, tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def inputs(tokenizer):
    return dict(tokenizer(["가 [MASK] 다", "라 마"], ["바 사", "아"], padding=True, return_tensors="np"))


def as_tensors(inputs):
    return {name: tf.constant(value) for name, value in inputs.items()}


@pytest.mark.parametrize("reader", [kp.BertPretrainer, TFBertForPreTraining])
def test_pretraining_readers_get_every_weight(model, checkpoint, inputs, reader):
    loaded, info = reader.from_pretrained(checkpoint, output_loading_info=True)
    assert info == {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": []}
    expected, got = model(as_tensors(inputs)), loaded(as_tensors(inputs))
    np.testing.assert_allclose(got.prediction_logits, expected.prediction_logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got.seq_relationship_logits, expected.seq_relationship_logits, rtol=1e-5, atol=1e-5)


def test_the_masked_language_model_reader_misses_nothing(model, checkpoint, inputs):
    loaded, info = TFBertForMaskedLM.from_pretrained(checkpoint, output_loading_info=True)
    assert info["missing_keys"] == []
    np.testing.assert_allclose(
        loaded(as_tensors(inputs)).logits, model(as_tensors(inputs)).prediction_logits, rtol=1e-5, atol=1e-5
    )


def test_the_fill_mask_pipeline_gives_the_models_answers(model, checkpoint, tokenizer):
    text = "가 나 [MASK] 라"
    answers = pipeline("fill-mask", model=str(checkpoint), framework="tf", top_k=3)(text)
    encoded = tokenizer(text, return_tensors="tf")
    position = encoded["input_ids"][0].numpy().tolist().index(tokenizer.mask_token_id)
    probabilities = tf.nn.softmax(model(dict(encoded)).prediction_logits[0, position]).numpy()
    assert [answer["token"] for answer in answers] == np.argsort(-probabilities)[:3].tolist()
    assert [answer["score"] for answer in answers] == pytest.approx(sorted(probabilities)[:-4:-1], rel=1e-4)


def test_the_tokenizer_comes_back_the_same(checkpoint, tokenizer):
    loaded = AutoTokenizer.from_pretrained(checkpoint)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert loaded("가 나", "다") == tokenizer("가 나", "다")


def test_the_config_names_the_stock_class(checkpoint):
    assert json.loads((checkpoint / "config.json").read_text())["architectures"] == ["BertForPreTraining"]


def test_save_pretrained_names_it_too(model, tmp_path):
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["BertForPreTraining"]


def test_mask_prob_comes_back(tokenizer, tmp_path):
    model = kp.BertPretrainer.from_size("tiny", tokenizer, mask_prob=0.3)
    kp.save_checkpoint(model, tokenizer, tmp_path)
    assert kp.BertPretrainer.from_pretrained(tmp_path).mask_prob == 0.3
    assert kp.BertPretrainer.from_pretrained(tmp_path, mask_prob=0.2).mask_prob == 0.2


def test_training_goes_on_from_a_stock_checkpoint_with_its_own_activation(tokenizer, sentences, tmp_path):
    """A masked-language model of BERT's exact GELU: no pooler, no NSP head, which start anew."""
    config = BertConfig(vocab_size=15, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    stock = TFBertForMaskedLM(config)
    stock.build_in_name_scope()
    kp.save_checkpoint(stock, tokenizer, tmp_path)
    model = kp.BertPretrainer.from_pretrained(tmp_path)
    assert model.config.hidden_act == "gelu"
    table = stock.bert.embeddings.weight.numpy()
    np.testing.assert_array_equal(model.bert.embeddings.weight.numpy(), table)
    model.compile("adam")
    features = kp.build_features(sentences, tokenizer, block_size=32)
    history = model.fit(kp.to_tf_dataset(features, tokenizer, batch_size=8), verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert (model.bert.embeddings.weight.numpy() != table).any()


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
    with pytest.raises(ValueError, match="model type 'roberta'; BertPretrainer continues from 'bert'"):
        kp.BertPretrainer.from_pretrained(tmp_path)


def test_torch_reads_the_same_logits(model, checkpoint, inputs):
    torch = pytest.importorskip("torch", reason="torch is not installed; pip install torch to check its reader")
    from transformers import BertForPreTraining

    loaded, info = BertForPreTraining.from_pretrained(checkpoint, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    with torch.no_grad():
        got = loaded.eval()(**{name: torch.tensor(value) for name, value in inputs.items()})
    expected = model(as_tensors(inputs))
    np.testing.assert_allclose(got.prediction_logits, expected.prediction_logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got.seq_relationship_logits, expected.seq_relationship_logits, rtol=1e-5, atol=1e-5)


def test_writing_needs_no_torch(model, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert (kp.save_checkpoint(model, tokenizer, tmp_path) / "model.safetensors").exists()


def test_a_folder_is_written_again_and_nothing_unfinished_is_left(model, tokenizer, tmp_path):
    kp.save_checkpoint(model, tokenizer, tmp_path / "out")
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    kp.save_checkpoint(model, tokenizer, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == files
    assert {"config.json", "model.safetensors", "tokenizer.json", "vocab.txt"} <= set(files)


def test_a_failed_write_leaves_the_folder_as_it_was(model, tokenizer, checkpoint, monkeypatch):
    before = {path.name: path.read_bytes() for path in checkpoint.iterdir()}

    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("keras_pretrain.export.checkpoint.save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        kp.save_checkpoint(model, tokenizer, checkpoint)
    assert {path.name: path.read_bytes() for path in checkpoint.iterdir()} == before


def test_a_tokenizer_too_large_for_the_model_is_refused(model, tmp_path):
    other = kp.train_tokenizer([" ".join(map(chr, range(0xAC00, 0xAC40)))] * 2, vocab_size=60)
    with pytest.raises(ValueError, match="tokenizer has 60 tokens and the model only 15"):
        kp.save_checkpoint(model, other, tmp_path)
