"""A tiny BERT, and tasks that it learns in a few steps."""

import numpy as np
import tensorflow as tf
from datasets import Dataset
from transformers import BertConfig

import keras_pretrain as kp

WORDS = ["가", "나", "다", "라", "마", "바", "사", "아", "자", "차"]
WIDTHS = {
    "vocab_size": 15, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 32,
}  # fmt: skip
SETTINGS = {"learning_rate": 5e-3, "batch_size": 16, "dropout": 0.0, "max_length": 16, "verbose": 0}


def save_bert(tokenizer, folder, seed=0):
    tf.keras.utils.set_random_seed(seed)
    return kp.save_checkpoint(kp.BertPretrainer(BertConfig(**WIDTHS)), tokenizer, folder)


def random_words(rng, count):
    return [WORDS[i] for i in rng.integers(1, 10, count)]


def with_a_sign(count, seed, longest=5):
    """긍정 where the word 가 stands somewhere, 부정 elsewhere."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for i in range(count):
        words = random_words(rng, rng.integers(3, longest + 1))
        if i % 2:
            words[rng.integers(len(words))] = "가"
        texts.append(" ".join(words))
        labels.append("긍정" if i % 2 else "부정")
    return Dataset.from_dict({"text": texts, "label": labels})


def with_a_sign_on_either_side(count, seed):
    """Pairs, each a text of `with_a_sign` cut in two."""
    data = with_a_sign(count, seed)
    halves = [(text.split()[:2], text.split()[2:]) for text in data["text"]]
    texts, pairs = ([" ".join(half) for half in side] for side in zip(*halves, strict=True))
    return Dataset.from_dict({"text": texts, "pair": pairs, "label": data["label"]})


def with_a_number(count, seed):
    """How many of six words of both texts are 가."""
    rng = np.random.default_rng(seed)
    words = np.where(rng.random((count, 6)) < rng.random((count, 1)), "가", "나")
    texts, pairs = ([" ".join(row) for row in half] for half in (words[:, :3], words[:, 3:]))
    return Dataset.from_dict(
        {"text": texts, "pair": pairs, "label": (words == "가").sum(axis=1).astype(float).tolist()}
    )
