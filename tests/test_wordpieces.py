import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

import keras_pretrain as kp
from keras_pretrain.wordpieces import extend_tokenizer, old_pieces

LETTERS = "abcdefg"


@pytest.fixture(scope="module")
def letters():
    """Cased, each letter a token: its words are split into a, ##b and so on."""
    tokenizer = kp.train_tokenizer([f"{a}{b} ." for a in LETTERS for b in LETTERS], vocab_size=20)
    assert tokenizer.tokenize("abc d") == ["a", "##b", "##c", "d"]
    return tokenizer


def test_a_new_word_is_found_where_a_word_begins_and_nowhere_else(letters):
    extended = extend_tokenizer(letters, ["bcd", "##ef"])
    assert extended.tokenize("bcd bcda abcd") == ["bcd", "bcd", "##a", "a", "##b", "##c", "##d"]
    assert extended.tokenize("aef ef") == ["a", "##ef", "e", "##f"]
    assert extended.tokenize("[MASK] bcd") == ["[MASK]", "bcd"]


def test_old_ids_stay_and_new_ones_follow(letters):
    before = letters.get_vocab()
    extended = extend_tokenizer(letters, ["bcd", "a", "bcd", "##ef"])
    after = extended.get_vocab()
    assert {token: after[token] for token in before} == before
    assert {token: after[token] for token in after if token not in before} == {"bcd": 20, "##ef": 21}
    assert len(extended) == 22
    assert letters.get_vocab() == before
    assert extended.all_special_ids == letters.all_special_ids
    assert type(extended) is type(letters)


def test_an_extended_tokenizer_is_the_same_after_it_was_saved(letters, tmp_path):
    extended = extend_tokenizer(letters, ["bcd", "##ef"])
    extended.save_pretrained(tmp_path)
    again = type(extended).from_pretrained(tmp_path)
    assert again.get_vocab() == extended.get_vocab()
    assert again("bcdef a.")["input_ids"] == extended("bcdef a.")["input_ids"]
    lines = (tmp_path / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert lines[20:] == ["bcd", "##ef"]


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("", "it is empty"),
        ("##", "'##'.*splits"),
        ("a b", "'a b'.*splits"),
        ("c++", r"'c\+\+'.*splits.*\['c', '\+', '\+'\]"),
        ("a" * 101, "longer.* 100 characters"),
    ],
)
def test_a_token_that_would_never_be_found_is_refused(letters, token, message):
    with pytest.raises(ValueError, match=message):
        extend_tokenizer(letters, ["bcd", token])


def test_a_token_that_normalisation_changes_is_refused(letters, tmp_path):
    letters.save_vocabulary(str(tmp_path))
    base = type(letters)(vocab_file=str(tmp_path / "vocab.txt"), do_lower_case=True)
    with pytest.raises(ValueError, match=r"'Bcd'.*'bcd'.*Add that"):
        extend_tokenizer(base, ["Bcd"])


def test_a_tokenizer_of_another_kind_is_refused():
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(ValueError, match="fast WordPiece tokenizer"):
        extend_tokenizer(other, ["b"])


@pytest.mark.parametrize("word", ["abc", "gfedcba", "a", "b", "xyz", "axb", "가나"])
def test_old_pieces_are_those_of_the_tokenizer(letters, word):
    assert old_pieces(word, letters) == letters(word, add_special_tokens=False)["input_ids"]


def test_old_pieces_inside_a_word(letters):
    assert letters.convert_ids_to_tokens(old_pieces("##abc", letters)) == ["##a", "##b", "##c"]


def test_the_most_frequent_missing_pieces_are_found(letters):
    texts = ["abcd abcd abcd abcdef", "abcd gfg gfg gfg gfg gfg gfg gfg", "a b c"]
    found = kp.find_new_tokens(texts, letters, count=2)
    assert found == ["gfg", "abcd"]
    assert all(token not in letters.get_vocab() for token in kp.find_new_tokens(texts, letters, count=50))
    assert kp.find_new_tokens(texts, letters, count=2) == found


def test_a_count_below_one_and_an_empty_corpus_are_refused(letters):
    with pytest.raises(ValueError, match=r"count .*at least 1, not 0"):
        kp.find_new_tokens(["abc"], letters, count=0)
    with pytest.raises(ValueError, match="no text"):
        kp.find_new_tokens([" "], letters)
