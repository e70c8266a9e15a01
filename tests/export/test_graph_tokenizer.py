"""Ids from inside a graph beside those of the 🤗 tokenizer."""

import copy
import itertools
import random
import sys

import pytest
import tensorflow as tf
from tokenizers import normalizers
from transformers import BertTokenizerFast

import keras_pretrain as kp
from keras_pretrain.export.graph_tokenizer import GraphTokenizer

NOISE = [
    "\U0001f469\u200d\U0001f467", "\x00", "\x07", "\u200b", "ＡＢＣ１２", "！？", "\ue123", "[MASK]", "[SEP]", "\ufffd",
    "中文", "é", "e\u0301", "\U0001faa8", "\uffff", "ﷺ", "\u1112\u1161\u11ab", "a" * 120, "가" * 40, "", "새단어",
    "x\u302e\u08d4\u1b44",
]  # fmt: skip
SETTINGS = {
    "cased": {"do_lower_case": False, "strip_accents": False},
    "uncased": {"do_lower_case": True},
    "lower-cased, with accents": {"do_lower_case": True, "strip_accents": False},
}


@pytest.fixture(scope="module")
def texts():
    documents = [text for language in ("ko", "en") for text in kp.load_sample(language)["text"]]
    rng = random.Random(0)
    texts = [""]
    for text in documents:
        place = rng.randrange(len(text) + 1)
        texts += [text, text[:place] + rng.choice(NOISE) + text[place:]]
    return [*texts, *NOISE]


@pytest.fixture(scope="module", params=SETTINGS)
def pair(request, texts, tmp_path_factory):
    """A 🤗 tokenizer and its twin."""
    pytest.importorskip("tensorflow_text", reason="tensorflow-text is not installed: pip install -e '.[serving]'")
    vocabulary = kp.train_tokenizer(texts, vocab_size=2000).get_vocab()
    file = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    file.write_text("\n".join(sorted(vocabulary, key=vocabulary.get)), encoding="utf-8")
    tokenizer = BertTokenizerFast(str(file), model_max_length=64, **SETTINGS[request.param])
    if request.param == "uncased":
        tokenizer.add_tokens(["새단어", "Data 中"])  # found after normalisation
    twin = GraphTokenizer(tokenizer, 64)
    return tokenizer, tf.function(twin.tokenize, input_signature=[tf.TensorSpec((None,), tf.string)]), twin


def differing(tokenizer, tokenize, texts):
    got = tokenize(tf.constant(texts)).to_list()
    expected = tokenizer(texts, add_special_tokens=False, verbose=False).input_ids
    return [text for text, ours, theirs in zip(texts, got, expected, strict=True) if ours != theirs]


def test_real_and_hard_texts_have_the_same_ids(pair, texts):
    tokenizer, tokenize, _ = pair
    assert len(texts) > 300
    assert differing(tokenizer, tokenize, texts) == []


def test_every_character_of_unicode_does_what_it_does(pair):
    tokenizer, tokenize, _ = pair
    # The planes that have characters, and the ends of the others.
    planes = [range(0xD800), range(0xE000, 0x32000), range(0xE0000, 0xE0400), range(0xFFF00, 0x100100), [0x10FFFF]]
    characters = [chr(code) for plane in planes for code in plane]
    texts = ["가" + "가 나".join(characters[start : start + 500]) + "a" for start in range(0, len(characters), 500)]
    assert differing(tokenizer, tokenize, texts) == []


def test_inputs_are_those_of_the_tokenizer(pair, texts):
    tokenizer, _, twin = pair
    batch = texts[:20]
    expected = tokenizer(batch, truncation=True, max_length=64, padding=True, return_tensors="np")
    got = twin(tf.constant(batch))
    assert expected["input_ids"].shape == (20, 64)
    assert set(got) == set(expected)
    for name, value in got.items():
        assert value.dtype == tf.int32
        assert value.numpy().tolist() == expected[name].tolist()


@pytest.mark.parametrize("max_length", [8, 9])  # the odd token goes to the longer side
def test_pairs_are_cut_as_the_tokenizer_cuts_them(pair, max_length):
    tokenizer, _, twin = pair
    texts = ["", *("가 " * length for length in range(1, 9))]
    first, second = zip(*itertools.product(texts, texts), strict=True)
    expected = tokenizer(
        list(first), list(second), truncation=True, max_length=max_length, padding=True, return_tensors="np"
    )
    shorter = copy.copy(twin)
    shorter.max_length = max_length
    got = shorter(tf.constant(first), tf.constant(second))
    assert expected["input_ids"].shape == (81, max_length)
    for name, value in got.items():
        assert value.dtype == tf.int32
        assert value.numpy().tolist() == expected[name].tolist()


def test_texts_without_their_pairs_are_refused(pair):
    with pytest.raises(tf.errors.InvalidArgumentError, match="text_pair must have as many texts as text"):
        pair[2](tf.constant(["가", "나"]), tf.constant(["다"]))


def test_words_of_the_length_limit(pair):
    tokenizer, tokenize, _ = pair
    texts = [letter * length for letter in ("a", "가", "\U00020000") for length in (99, 100, 101)]
    assert differing(tokenizer, tokenize, texts) == []


def test_bytes_that_are_no_text_count_as_replacement_characters(pair):
    tokenizer, tokenize, _ = pair
    broken = "데이터".encode()[:-1] + b" a"
    assert (
        tokenize(tf.constant([broken])).to_list()
        == tokenizer([broken.decode(errors="replace")], add_special_tokens=False)["input_ids"]
    )


def refused(tokenizer, match):
    with pytest.raises(ValueError, match=match):
        GraphTokenizer(tokenizer, 64)


def test_a_normaliser_that_looks_at_several_characters_is_refused(tokenizer):
    other = kp.train_tokenizer(["가 나 다"] * 2, vocab_size=8)
    other.backend_tokenizer.normalizer = normalizers.NFKC()
    refused(other, "normalizer .*NFKC.*BertNormalizer")


def test_kept_control_characters_are_refused(tokenizer):
    other = kp.train_tokenizer(["가 나 다"] * 2, vocab_size=8)
    other.backend_tokenizer.normalizer = normalizers.BertNormalizer(clean_text=False)
    refused(other, "clean_text=False")


def test_padding_on_the_left_is_refused():
    other = kp.train_tokenizer(["가 나 다"] * 2, vocab_size=8)
    other.padding_side = "left"
    refused(other, "on the left.*right")


def test_what_differs_in_the_end_is_refused(tokenizer, monkeypatch):
    """Should a version of a library do something new."""
    pytest.importorskip("tensorflow_text", reason="tensorflow-text is not installed: pip install -e '.[serving]'")
    monkeypatch.setattr(
        "keras_pretrain.export.graph_tokenizer.GraphTokenizer.tokenize",
        lambda self, texts: tf.ragged.constant([[1]] * len(texts)),
    )
    refused(tokenizer, "graph, '.*other tokens.*instead of")


def test_without_tensorflow_text_the_extra_is_named(tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_text", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'keras_pretrain\[serving\]'"):
        GraphTokenizer(tokenizer, 64)
