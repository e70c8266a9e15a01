"""The quick way to tokenize a corpus gives what the tokenizer itself gives."""

import random

import numpy as np
import pytest
from tokenizers import normalizers, pre_tokenizers
from transformers import BertTokenizer, BertTokenizerFast

import keras_pretrain as kp
from keras_pretrain.features import tokenizing
from keras_pretrain.features.tokenizing import TokenizedCorpus, WordByWord, choose_tokenize, tokenize_documents

ODD = [
    "", " ", "  가  나 ", "가\t나\n다", "가\u00a0나\u3000다", "a\x1cb \x00c", "[MASK] 가[SEP]나 [ MASK ]",
    "x" * 120 + " 가", "ΣΑΣ ΣΑΣ. naïve Café", "中文 and 日本", "👩\u200d💻 좋아요ㅋㅋ", "e\u0301 e \u0301a",
    "don't 3.14, (a)b", "\ufeff가 \u200b나", "가" * 101, "İstanbul ẞ",
]  # fmt: skip


def letters(rng):
    alphabet = "가나다abcÉé .,!?'[]()\t\u00a0\u3000中ㅋ\u0301\u200b1"
    return "".join(rng.choice(alphabet) for _ in range(rng.randrange(30)))


@pytest.fixture(scope="module")
def documents():
    rng = random.Random(0)
    return [ODD, [], [""], *([letters(rng) for _ in range(rng.randrange(6))] for _ in range(300))]


def make_tokenizer(**settings):
    trained = kp.train_tokenizer([" ".join("가나다라abcdeÉé中ㅋ1.,!?'[]()") * 3] * 2, vocab_size=120)
    vocabulary = trained.get_vocab()
    tokenizer = BertTokenizerFast(tokenizer_object=trained.backend_tokenizer, **settings)
    assert len(vocabulary) > 20
    return tokenizer


def assert_equal(corpus, expected):
    for name in ("ids", "sentence_starts", "document_starts", "empty_documents"):
        np.testing.assert_array_equal(getattr(corpus, name), getattr(expected, name))


def slowly(documents, tokenizer):
    """Sentence by sentence."""
    return TokenizedCorpus.from_documents(
        [[tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in each] for each in documents]
    )


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("strip_accents", [False, True])
def test_word_by_word_is_as_whole(documents, lowercase, strip_accents, monkeypatch):
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=lowercase, strip_accents=strip_accents
    )
    tokenize = choose_tokenize(tokenizer)
    assert isinstance(tokenize, WordByWord)
    monkeypatch.setattr(tokenizing, "_MOST_WORDS", 400)  # some are forgotten on the way
    batches = [documents[first : first + 50] for first in range(0, len(documents), 50)]
    corpus = tokenize_documents(batches, tokenize)
    expected = slowly(documents, tokenizer)
    assert corpus.empty_documents > 2
    assert corpus.num_sentences > 500
    assert_equal(corpus, expected)


def test_other_tokenizers_are_given_whole_sentences(documents):
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenize = choose_tokenize(tokenizer)
    assert not isinstance(tokenize, WordByWord)
    assert_equal(tokenize_documents([documents], tokenize), slowly(documents, tokenizer))


def test_a_slow_tokenizer_works_as_well(tokenizer, tmp_path):
    tokenizer.save_vocabulary(str(tmp_path))
    slow = BertTokenizer(str(tmp_path / "vocab.txt"), do_lower_case=False)
    documents = [["가 나", "다"], ["라"]]
    assert_equal(tokenize_documents([documents], choose_tokenize(slow)), slowly(documents, tokenizer))


def test_padding_and_truncation_of_an_earlier_call_do_not_matter(documents):
    tokenizer = make_tokenizer()
    expected = slowly(documents, tokenizer)
    tokenizer(["가 나", "다"], padding=True, truncation=True, max_length=2)
    assert_equal(tokenize_documents([documents], choose_tokenize(tokenizer)), expected)


def test_a_token_with_a_blank_in_it_is_found():
    tokenizer = make_tokenizer()
    assert isinstance(choose_tokenize(tokenizer), WordByWord)
    tokenizer.add_tokens(["가 나"])
    documents = [["다 가 나 라", "가  나"], ["가 나"]]
    corpus = tokenize_documents([documents], choose_tokenize(tokenizer))
    assert_equal(corpus, slowly(documents, tokenizer))
    assert tokenizer.convert_tokens_to_ids("가 나") in corpus.ids


def test_nothing_is_tokenized_to_nothing():
    corpus = tokenize_documents([[[], [""]]], choose_tokenize(make_tokenizer()))
    assert (corpus.num_documents, corpus.num_sentences, len(corpus.ids), corpus.empty_documents) == (0, 0, 0, 2)
