"""The corpora inside the package are what they are said to be."""

import re

import pytest

from keras_pretrain import clean_text, load_sample, split_sentences


def test_the_korean_sample_has_160_different_documents():
    sample = load_sample()
    assert sample.column_names == ["text"]
    assert len(set(sample["text"])) == len(sample) == 160


def test_each_korean_document_has_four_to_twelve_sentences():
    counts = [len(split_sentences(text, backend="fast")) for text in load_sample("ko")["text"]]
    assert {count for count in counts if not 4 <= count <= 12} == set()


def test_the_korean_sample_is_clean_prose():
    for text in load_sample("ko")["text"]:
        assert clean_text(text) == text
        assert all(re.search("[가-힣].*[.?!]$", paragraph) for paragraph in text.split("\n"))


def test_the_english_sample_is_prose_in_a_fixed_order():
    sample = load_sample("en")
    texts = list(sample["text"])
    assert sample.column_names == ["text"]
    assert texts == list(load_sample("en")["text"])
    assert len(set(texts)) > 50
    assert texts[0].startswith("Assert statements are a convenient way to insert debugging assertions into a program")
    paragraphs = [paragraph for text in texts for paragraph in text.split("\n")]
    assert not [paragraph for paragraph in paragraphs if paragraph != paragraph.strip() or not paragraph]
    assert not [paragraph for paragraph in paragraphs if paragraph.startswith((">>>", "*****", "====", "   "))]


def test_an_unknown_language_is_refused():
    with pytest.raises(ValueError, match=r"no sample in 'fr'.*'ko'.*'en'"):
        load_sample("fr")
