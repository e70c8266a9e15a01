"""The quick way to tokenize a corpus gives what the tokenizer itself gives."""

import random

import numpy as np
import pytest
from datasets import Dataset
from tokenizers import AddedToken, models, normalizers, pre_tokenizers
from transformers import BertTokenizer, BertTokenizerFast, ElectraTokenizerFast

import keras_pretrain as kp
from keras_pretrain.features import tokenizing
from keras_pretrain.features.tokenizing import (
    TokenizedCorpus,
    WordByWord,
    choose_tokenize,
    plain_text,
    plain_text_backend,
    tokenize_documents,
)

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
    settings = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
    return TokenizedCorpus.from_documents(
        [[tokenizer(text, **settings)["input_ids"] for text in each] for each in documents]
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
    monkeypatch.setattr(tokenizing, "_CHARACTERS_AT_ONCE", 2000)
    corpus = tokenize_documents(documents, tokenize)
    expected = slowly(documents, tokenizer)
    assert corpus.empty_documents > 2
    assert corpus.num_sentences > 500
    assert_equal(corpus, expected)


def test_other_tokenizers_are_given_whole_sentences(documents):
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenize = choose_tokenize(tokenizer)
    assert not isinstance(tokenize, WordByWord)
    assert_equal(tokenize_documents(documents, tokenize), slowly(documents, tokenizer))


def test_a_slow_tokenizer_works_as_well(tokenizer, tmp_path):
    tokenizer.save_vocabulary(str(tmp_path))
    slow = BertTokenizer(str(tmp_path / "vocab.txt"), do_lower_case=False)
    documents = [["가 나", "다"], ["라"]]
    assert_equal(tokenize_documents(documents, choose_tokenize(slow)), slowly(documents, tokenizer))


def test_padding_and_truncation_of_an_earlier_call_do_not_matter(documents):
    tokenizer = make_tokenizer()
    expected = slowly(documents, tokenizer)
    tokenizer(["가 나", "다"], padding=True, truncation=True, max_length=2)
    assert_equal(tokenize_documents(documents, choose_tokenize(tokenizer)), expected)


def test_a_token_with_a_blank_in_it_is_found():
    tokenizer = make_tokenizer()
    assert isinstance(choose_tokenize(tokenizer), WordByWord)
    tokenizer.add_tokens(["가 나"])
    documents = [["다 가 나 라", "가  나"], ["가 나"]]
    corpus = tokenize_documents(documents, choose_tokenize(tokenizer))
    assert_equal(corpus, slowly(documents, tokenizer))
    assert tokenizer.convert_tokens_to_ids("가 나") in corpus.ids


def test_nothing_is_tokenized_to_nothing():
    corpus = tokenize_documents([[], [""]], choose_tokenize(make_tokenizer()))
    assert (corpus.num_documents, corpus.num_sentences, len(corpus.ids), corpus.empty_documents) == (0, 0, 0, 2)


WRITTEN = "[SEP] 가[MASK]나 [PAD][CLS] [UNK]\t[이름]가다 <br>[SEP ] b"


def make_tokenizer_with_tokens(kind=BertTokenizerFast):
    letters = "가나다[]SEPMASKUNKPADCLSb sepmaskunkpadcls"
    trained = kp.train_tokenizer([f"{letter} b{letter}" for letter in dict.fromkeys(letters)], vocab_size=120)
    tokenizer = kind(tokenizer_object=trained.backend_tokenizer, do_lower_case=False)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[이름]"]})
    tokenizer.add_tokens(["가다", AddedToken("<br>", special=True)])
    return tokenizer


def tokens_of(tokenize, tokenizer, text):
    ids, _ = tokenize([text])
    return tokenizer.convert_ids_to_tokens(ids.tolist())


PARTS = {
    "[SEP]": ["[", "S", "E", "P", "]"],
    "[MASK]": ["[", "M", "A", "S", "K", "]"],
    "[PAD]": ["[", "P", "A", "D", "]"],
    "[CLS]": ["[", "C", "L", "S", "]"],
    "[UNK]": ["[", "U", "N", "K", "]"],
}


@pytest.mark.parametrize("kind", [BertTokenizerFast, ElectraTokenizerFast])
def test_special_tokens_in_a_text_are_characters_and_added_tokens_stay(kind):
    tokenizer = make_tokenizer_with_tokens(kind)
    tokenize = choose_tokenize(tokenizer)
    assert isinstance(tokenize, WordByWord)
    tokens = tokens_of(tokenize, tokenizer, WRITTEN)
    assert not {*PARTS} & {*tokens}
    # Letter by letter, as the vocabulary has it.
    assert [token.removeprefix("##") for token in tokens] == [
        *PARTS["[SEP]"], "가", *PARTS["[MASK]"], "나", *PARTS["[PAD]"], *PARTS["[CLS]"], *PARTS["[UNK]"],
        "[이름]", "가다", "<br>", *PARTS["[SEP]"], "b",
    ]  # fmt: skip
    ids, _ = tokenize([WRITTEN])
    for token in ("[이름]", "가다", "<br>"):
        assert tokenizer.convert_tokens_to_ids(token) in ids


@pytest.mark.parametrize("splitter", [pre_tokenizers.WhitespaceSplit, pre_tokenizers.Metaspace])
def test_a_pre_tokenizer_that_leaves_brackets_alone_makes_no_special_token(splitter):
    tokenizer = make_tokenizer_with_tokens()
    tokenizer.backend_tokenizer.pre_tokenizer = splitter()
    tokenize = choose_tokenize(tokenizer)
    assert not isinstance(tokenize, WordByWord)
    tokens = tokens_of(tokenize, tokenizer, WRITTEN)
    assert not {"[SEP]", "[MASK]", "[PAD]", "[CLS]"} & {*tokens}
    assert {"[이름]", "가다", "<br>"} <= {*tokens}


@pytest.mark.parametrize("lowercase", [False, True])
def test_a_slow_tokenizer_does_the_same(tmp_path, lowercase):
    fast = make_tokenizer_with_tokens()
    fast.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=False)
    (tmp_path / "vocab.txt").write_text("\n".join(fast.convert_ids_to_tokens(range(len(fast) - 3))), encoding="utf-8")
    slow = BertTokenizer(str(tmp_path / "vocab.txt"), do_lower_case=lowercase, strip_accents=False)
    slow.add_special_tokens({"additional_special_tokens": ["[이름]"]})
    slow.add_tokens(["가다", AddedToken("<br>", special=True)])
    ids = [choose_tokenize(tokenizer)([WRITTEN])[0].tolist() for tokenizer in (fast, slow)]
    assert ids[0] == ids[1]
    assert plain_text(slow, "가 [이름] [SEP ]") == "가 [이름] [SEP ]"


def test_a_tokenizer_of_a_class_without_pieces_is_copied_as_well():
    tokenizer = make_tokenizer_with_tokens()
    vocabulary = tokenizer.get_vocab()
    tokenizer.backend_tokenizer.model = models.WordLevel(vocabulary, unk_token="[UNK]")
    assert tokens_of(choose_tokenize(tokenizer), tokenizer, "[SEP] 가 [이름]") == ["[", "[UNK]", "]", "가", "[이름]"]


def test_ids_of_special_tokens_beyond_the_vocabulary_stay():
    tokenizer = make_tokenizer_with_tokens()
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    tokenizer.add_tokens(["끝"])
    backend = plain_text_backend(tokenizer)
    tokens = tokenizer.convert_ids_to_tokens(backend.encode("가 끝 [이름] <s>", add_special_tokens=False).ids)
    assert tokens[:3] == ["가", "끝", "[이름]"]
    assert "<s>" not in tokens


def test_the_tokenizer_itself_is_not_changed():
    tokenizer = make_tokenizer_with_tokens()
    tokenizer(["가 나", "다"], padding="max_length", truncation=True, max_length=3)
    before = tokenizer.backend_tokenizer.to_str()
    sentences = Dataset.from_dict({"sentences": [[WRITTEN, "가 나"], [WRITTEN]]})
    features = kp.build_features(sentences, tokenizer, block_size=64)
    assert tokenizer.backend_tokenizer.to_str() == before
    assert tokenizer.backend_tokenizer.encode_special_tokens is False
    assert tokenizer("[MASK]")["input_ids"][1] == tokenizer.mask_token_id
    # [CLS] A [SEP] B [SEP], and not one more.
    for row in features["input_ids"]:
        assert sorted(i for i in row if i <= tokenizer.mask_token_id) == [2, 3, 3]


def test_added_tokens_of_later_are_not_known_to_a_copy():
    tokenizer = make_tokenizer_with_tokens()
    tokenize = choose_tokenize(tokenizer)
    tokenizer.add_tokens(["가나"])
    assert tokens_of(tokenize, tokenizer, "가나")[0] == "가"
