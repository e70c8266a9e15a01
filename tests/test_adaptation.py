"""Flows of public tutorials through the package's own functions: text of one kind or another, from a checkpoint on."""

import re

import numpy as np
import pytest
from transformers import BertConfig, ElectraConfig

import keras_pretrain as kp

WIDTHS = {
    "vocab_size": 15, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip


@pytest.fixture
def csv_of_sentences(tmp_path):
    path = tmp_path / "books.csv"
    rows = [f'{i},"{"가 나 다 라 마 " * (1 + i % 3)}."' for i in range(40)]
    path.write_text("\n".join([",sen", *rows]), encoding="utf-8")
    return path


def sentences_of(source, **settings):
    corpus = kp.load_corpus(source, **settings)
    return kp.prepare_sentences(corpus, language="en", cleaning="none", num_proc=1, backend="punkt")


def test_a_bert_goes_on_with_a_csv_of_sentences(csv_of_sentences, tokenizer, tmp_path):
    kp.save_checkpoint(kp.BertPretrainer(BertConfig(**WIDTHS)), tokenizer, tmp_path / "start")
    sentences = sentences_of(csv_of_sentences, text_column="sen")
    features = kp.build_features(sentences, tokenizer, objective="mlm", block_size=128)
    assert len(features["train"]) + len(features["validation"]) == 40
    assert not {*map(tuple, features["train"]["input_ids"])} & {*map(tuple, features["validation"]["input_ids"])}
    model = kp.BertPretrainer.from_pretrained(tmp_path / "start")
    before = kp.evaluation.evaluate_mlm(model, sentences["validation"], tokenizer)
    model.compile(kp.create_optimizer(learning_rate=1e-2, num_train_steps=20), jit_compile=False)
    model.fit(kp.to_tf_dataset(features["train"], tokenizer, batch_size=8).repeat(), steps_per_epoch=20, verbose=0)
    after = kp.evaluation.evaluate_mlm(model, sentences["validation"], tokenizer)
    assert after["masked_tokens"] == before["masked_tokens"]
    assert after["mlm_loss"] < 0.8 * before["mlm_loss"]


def test_an_electra_goes_on_with_a_csv_of_sentences(csv_of_sentences, tokenizer, tmp_path):
    configs = [ElectraConfig(embedding_size=16, **WIDTHS) for _ in range(2)]
    kp.save_checkpoint(kp.ElectraPretrainer(*configs, tokenizer), tokenizer, tmp_path / "start")
    sentences = sentences_of(csv_of_sentences, text_column="sen")
    model = kp.ElectraPretrainer.from_pretrained(tmp_path / "start")
    extended = kp.add_tokens(model, model.tokenizer, ["가나"])
    features = kp.build_features(sentences["train"], extended, objective="rtd", block_size=32)
    model.compile(kp.create_optimizer(learning_rate=1e-2, num_train_steps=8), jit_compile=False)
    history = model.fit(kp.to_tf_dataset(features, extended, batch_size=8).repeat(), steps_per_epoch=8, verbose=0)
    assert np.isfinite(history.history["loss"][0])
    kp.save_checkpoint(model, extended, tmp_path / "end")
    assert kp.ElectraPretrainer.from_pretrained(tmp_path / "end").config.vocab_size == 16


def test_paragraphs_one_a_line_make_pairs(tmp_path, package_log):
    """Each line a paragraph, split at its full stops; paragraphs of one sentence are random partners only."""
    lines = [line for text in kp.load_sample("en")["text"] for line in text.splitlines()][:200]
    path = tmp_path / "paragraphs.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    sentences = sentences_of(path, sample_by="line", validation_fraction=0)["train"]
    assert len(sentences) == 200
    counts = np.array([len(document) for document in sentences["sentences"]])
    assert counts.max() > 4
    tokenizer = kp.train_tokenizer(sentences, vocab_size=500)
    features = kp.build_features(sentences, tokenizer, block_size=512, short_seq_prob=0, dupe_factor=4)
    assert re.search(rf"\b{(counts == 1).sum()} documents of one sentence.*random B only", package_log.text)
    labels = np.array(features["next_sentence_label"])
    assert 0.4 < labels.mean() < 0.6

    paragraphs = [" ".join(map(str, _ids(document, tokenizer))) for document in sentences["sentences"]]
    follows = []
    for example in features:
        ids, types = np.array(example["input_ids"]), np.array(example["token_type_ids"])
        both = " ".join(map(str, [*ids[types == 0][1:-1], *ids[types == 1][:-1]]))
        follows.append(any(both in paragraph for paragraph in paragraphs))
    assert follows == (labels == 0).tolist()


def _ids(document: list[str], tokenizer) -> list[int]:
    return [number for ids in tokenizer(document, add_special_tokens=False)["input_ids"] for number in ids]
