"""A trained model, read by torch with a transformers of its own (5, say), by TensorFlow and as a SavedModel.

Runs where the environment variable KERAS_PRETRAIN_TORCH_PYTHON names the Python of an environment with torch and
transformers.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from transformers import pipeline

import keras_pretrain as kp

PYTHON = os.environ.get("KERAS_PRETRAIN_TORCH_PYTHON")
pytestmark = pytest.mark.skipif(not PYTHON, reason="KERAS_PRETRAIN_TORCH_PYTHON names no Python that has torch")

WORDS = ["가", "나", "다", "라", "마", "바", "사", "아", "자", "차"]
SENTENCES = [" ".join(WORDS[(start + i) % 10] if i != 3 else "[MASK]" for i in range(7)) for start in range(10)]


@pytest.fixture(params=["float32", "mixed_bfloat16"])
def policy(request):
    tf_keras.mixed_precision.set_global_policy(request.param)
    yield request.param
    tf_keras.mixed_precision.set_global_policy("float32")


def trained(model, features, tokenizer):
    model.compile(kp.create_optimizer(learning_rate=1e-3, num_train_steps=60, warmup_ratio=0.1))
    batches = kp.to_tf_dataset(features, tokenizer, batch_size=16)
    model.fit(batches.repeat(), steps_per_epoch=60, verbose=0)
    return model


def read_with_torch(kind, checkpoint, inputs, folder, *others) -> dict:
    np.savez(folder / "inputs.npz", **inputs)
    script = Path(__file__).with_name("read_with_torch.py")
    arguments = [kind, checkpoint, folder / "inputs.npz", folder / "outputs.npz", *others]
    # Neither this package nor this environment's libraries.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([PYTHON, script, *map(str, arguments)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "outputs.npz"))


def in_float32(model):
    """The same weights in a network that computes in float32."""
    policy = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy("float32")
    twin = type(model)(model.config)
    twin.build_in_name_scope()
    twin.set_weights(model.get_weights())
    tf_keras.mixed_precision.set_global_policy(policy)
    return twin


def check(model, kind, checkpoint, inputs, folder):
    """Trained model → folder → TensorFlow, and → torch: the same logits, to 1e-5."""
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    expected = in_float32(model)(tensors)
    policy = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy("float32")
    reloaded = type(model).from_pretrained(checkpoint)(tensors)
    tf_keras.mixed_precision.set_global_policy(policy)
    in_torch = read_with_torch(kind, checkpoint, inputs, folder)
    assert in_torch
    for name, value in in_torch.items():
        np.testing.assert_allclose(reloaded[name], expected[name], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-5)
        print(f"{kind} {name}: largest {np.abs(value).max():.3g}, off by {np.abs(value - expected[name]).max():.2g}")


def test_a_trained_bert_is_the_same_everywhere(policy, tokenizer, sentences, tmp_path):
    features = kp.build_features(sentences, tokenizer, block_size=32)
    model = trained(kp.BertPretrainer.from_size("tiny", tokenizer), features, tokenizer)
    checkpoint = kp.save_checkpoint(model, tokenizer, tmp_path / "bert")
    inputs = dict(tokenizer(["가 [MASK] 다", "라 마"], ["바 사", "아"], padding=True, return_tensors="np"))
    check(model, "BertForPreTraining", checkpoint, inputs, tmp_path)


def test_a_trained_electra_is_the_same_everywhere(policy, tokenizer, sentences, tmp_path):
    features = kp.build_features(sentences, tokenizer, objective="rtd", block_size=32)
    model = trained(kp.ElectraPretrainer.from_size("tiny", tokenizer), features, tokenizer)
    checkpoint = kp.save_checkpoint(model, tokenizer, tmp_path / "electra")
    inputs = dict(tokenizer(["가 [MASK] 다", "라 마 바"], padding=True, return_tensors="np"))
    check(model.generator, "ElectraForMaskedLM", checkpoint / "generator", inputs, tmp_path)
    check(model.discriminator, "ElectraForPreTraining", checkpoint, inputs, tmp_path)


def test_ten_sentences_have_the_same_five_answers_everywhere(tokenizer, tmp_path):
    """Random weights, so that sentences have different ones: what was trained for a minute gives the same to all."""
    pytest.importorskip("tensorflow_text", reason="tensorflow-text is not installed: pip install -e '.[serving]'")
    model = kp.BertPretrainer.from_size("tiny", tokenizer)
    model.build_in_name_scope()
    rng = np.random.default_rng(0)
    # Wider ones leave nothing but zeros behind the first answer, and zeros have no order.
    model.set_weights([rng.normal(0, 0.5, weight.shape) for weight in model.get_weights()])
    checkpoint = kp.save_checkpoint(model, tokenizer, tmp_path / "bert")
    questions, answers = tmp_path / "sentences.json", tmp_path / "answers.json"
    questions.write_text(json.dumps(SENTENCES), encoding="utf-8")
    inputs = dict(tokenizer(SENTENCES, return_tensors="np"))
    read_with_torch("BertForPreTraining", checkpoint, inputs, tmp_path, questions, answers)

    in_torch = json.loads(answers.read_text())
    assert len({tuple(tokens) for tokens in in_torch}) > 3
    fill_mask = pipeline("fill-mask", model=str(checkpoint), framework="tf", top_k=5)
    assert [[answer["token"] for answer in each] for each in fill_mask(SENTENCES)] == in_torch
    served = tf.saved_model.load(str(kp.export_saved_model(model, tokenizer, tmp_path / "served"))).signatures
    assert served["fill_mask"](text=tf.constant(SENTENCES))["token_ids"][:, 0].numpy().tolist() == in_torch
