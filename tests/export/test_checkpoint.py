"""A saved folder read back by everyone who should be able to."""

import copy
import json
import re
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from transformers import (
    AutoTokenizer,
    BertConfig,
    TFBertForMaskedLM,
    TFBertForPreTraining,
    TFElectraForMaskedLM,
    TFElectraForPreTraining,
    pipeline,
)

import keras_pretrain as kp
from keras_pretrain.export.checkpoint import pytorch_state
from keras_pretrain.folders import MANIFEST


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
    with pytest.raises(ValueError, match=r"model type 'roberta'.*'bert'"):
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
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json", "vocab.txt"} <= set(files)


def test_a_failed_write_leaves_the_folder_as_it_was(model, tokenizer, checkpoint, monkeypatch):
    before = {path.name: path.read_bytes() for path in checkpoint.iterdir() if path.name != MANIFEST}

    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("keras_pretrain.export.checkpoint.save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        kp.save_checkpoint(model, tokenizer, checkpoint)
    assert {path.name: path.read_bytes() for path in checkpoint.iterdir() if path.name != MANIFEST} == before


def test_a_failed_write_leaves_no_new_folder(model, tokenizer, tmp_path, monkeypatch):
    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("keras_pretrain.export.checkpoint.save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        kp.save_checkpoint(model, tokenizer, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_weights_are_float32_in_pytorchs_layout_after_mixed_precision(tokenizer, inputs, tmp_path):
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = kp.BertPretrainer.from_size("tiny", tokenizer, torch_dtype="bfloat16", num_hidden_layers=1)
        kp.save_checkpoint(model, tokenizer, tmp_path)
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    with safe_open(tmp_path / "model.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}
    weights = load_file(tmp_path / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {np.dtype("float32")}
    assert weights["bert.encoder.layer.0.intermediate.dense.weight"].shape == (512, 128)
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "float32"
    twin = kp.BertPretrainer(model.config)
    twin.build_in_name_scope()
    twin.set_weights(model.get_weights())
    loaded = kp.BertPretrainer.from_pretrained(tmp_path)
    logits = [each(as_tensors(inputs)).prediction_logits for each in (twin, loaded)]
    np.testing.assert_allclose(*logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("file", ["tf_model.h5", "model.safetensors"])
def test_tensorflows_own_formats_are_read(model, tokenizer, inputs, tmp_path, file):
    model.save_pretrained(tmp_path, safe_serialization=file == "model.safetensors")
    assert (tmp_path / file).exists()
    loaded = kp.BertPretrainer.from_pretrained(tmp_path)
    logits = [each(as_tensors(inputs)).prediction_logits for each in (model, loaded)]
    np.testing.assert_allclose(*logits, rtol=1e-5, atol=1e-5)


def test_pytorchs_pickled_weights_need_torch_which_is_said(checkpoint, tmp_path, monkeypatch):
    (tmp_path / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pytorch_model.bin.*pip install 'keras_pretrain\[torch\]'"):
        kp.BertPretrainer.from_pretrained(tmp_path)


def test_pytorchs_pickled_weights_are_read_with_torch(model, checkpoint, inputs, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed; pip install torch to read its pickles")
    (tmp_path / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    weights = load_file(checkpoint / "model.safetensors")
    torch.save({name: torch.tensor(weight) for name, weight in weights.items()}, tmp_path / "pytorch_model.bin")
    loaded = kp.BertPretrainer.from_pretrained(tmp_path)
    logits = [each(as_tensors(inputs)).prediction_logits for each in (model, loaded)]
    np.testing.assert_allclose(*logits, rtol=1e-5, atol=1e-5)


def test_an_encoder_without_heads_keeps_every_weight_and_the_new_heads_are_named(checkpoint, tmp_path):
    """As sentence encoders are: without the prefix `bert.`, and without what comes after the pooler."""
    weights = load_file(checkpoint / "model.safetensors")
    encoder = {name.removeprefix("bert."): value for name, value in weights.items() if name.startswith("bert.")}
    save_file(encoder, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((checkpoint / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    loaded, info = kp.BertPretrainer.from_pretrained(tmp_path, output_loading_info=True)
    kept = pytorch_state(loaded)
    for name, value in encoder.items():
        np.testing.assert_array_equal(kept[f"bert.{name}"], value)
    assert info["unexpected_keys"] == []
    new = {".".join(name.split(".")[:2]) for name in info["missing_keys"]}
    assert new == {"cls.predictions", "cls.seq_relationship"}


def test_electras_two_networks_come_back(tokenizer, inputs, tmp_path):
    model = kp.ElectraPretrainer.from_size("tiny", tokenizer, num_hidden_layers=1)
    kp.save_checkpoint(model, tokenizer, tmp_path)
    for name, reader in (("generator", TFElectraForMaskedLM), ("discriminator", TFElectraForPreTraining)):
        folder = tmp_path / "generator" if name == "generator" else tmp_path
        loaded, info = reader.from_pretrained(folder, output_loading_info=True)
        assert info == {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": []}
        logits = [each(as_tensors(inputs)).logits for each in (getattr(model, name), loaded)]
        np.testing.assert_allclose(*logits, rtol=1e-5, atol=1e-5)


def test_a_tokenizer_too_large_for_the_model_is_refused(model, tmp_path):
    other = kp.train_tokenizer([" ".join(map(chr, range(0xAC00, 0xAC40)))] * 2, vocab_size=60)
    with pytest.raises(ValueError, match=r"tokenizer .*\b60 tokens.*model.*\b15\b"):
        kp.save_checkpoint(model, other, tmp_path)


def test_files_of_others_are_neither_replaced_nor_deleted(model, tokenizer, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "config.json").write_text("mine")
    with pytest.raises(FileExistsError, match=r"config\.json .*overwrite=True"):
        kp.save_checkpoint(model, tokenizer, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "config.json"}
    assert (tmp_path / "config.json").read_text() == "mine"
    kp.save_checkpoint(model, tokenizer, tmp_path, overwrite=True)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "bert"
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_card_that_was_edited_stays(model, tokenizer, tmp_path, package_log):
    kp.save_checkpoint(model, tokenizer, tmp_path)
    card = (tmp_path / "README.md").read_text()
    kp.save_checkpoint(model, tokenizer, tmp_path)
    assert (tmp_path / "README.md").read_text() == card
    (tmp_path / "README.md").write_text(card + "My words.")
    kp.save_checkpoint(model, tokenizer, tmp_path)
    assert (tmp_path / "README.md").read_text() == card + "My words."
    assert re.search(r"README\.md .*\bis kept\b", package_log.text)


def test_files_of_the_checkpoint_before_that_are_not_needed_any_more_go(model, tokenizer, tmp_path):
    electra = kp.ElectraPretrainer.from_size("tiny", tokenizer, num_hidden_layers=1)
    kp.save_checkpoint(electra, tokenizer, tmp_path)
    (tmp_path / "generator" / "notes.txt").write_text("mine")
    kp.save_checkpoint(model, tokenizer, tmp_path)
    assert {path.name for path in (tmp_path / "generator").iterdir()} == {"notes.txt"}


def test_paths_do_not_get_into_config_files(model, tokenizer, checkpoint, tmp_path):
    loaded = kp.BertPretrainer.from_pretrained(checkpoint)
    loaded.config.name_or_path = str(checkpoint)
    given = copy.deepcopy(tokenizer)
    given.init_kwargs |= {"special_tokens_map_file": str(checkpoint / "special_tokens_map.json")}
    kp.save_checkpoint(loaded, given, tmp_path)
    for file in tmp_path.glob("*.json"):
        assert str(checkpoint) not in file.read_text(), file
    assert AutoTokenizer.from_pretrained(tmp_path).get_vocab() == tokenizer.get_vocab()
