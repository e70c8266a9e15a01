"""Which documents validate: reproducible, stable when documents are added, and never on both sides."""

import numpy as np
import pytest

from keras_pretrain.corpus import validation
from keras_pretrain.corpus.validation import (
    document_hash,
    first_occurrences,
    is_validation,
    split_keys,
    validation_bound,
)


def hashes_of(texts):
    return np.array([document_hash(text) for text in texts], np.uint64)


def chosen(texts, fraction=0.1, seed=42):
    hashes = hashes_of(texts)
    bound = validation_bound(hashes, np.array(list(map(len, texts))), fraction, seed)
    return is_validation(hashes, bound, seed)


def texts(count, first=0):
    return [f"문서 {i}" for i in range(first, first + count)]


@pytest.mark.parametrize("fraction", [0.02, 0.1, 0.5])
def test_the_share_is_what_was_asked_for(fraction):
    share = chosen(texts(20_000), fraction).mean()
    assert share == pytest.approx(fraction, abs=4 * np.sqrt(fraction / 20_000))


def test_seeds_give_independent_splits():
    one, same, other = (chosen(texts(20_000), seed=seed) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one & other).mean() == pytest.approx(0.01, abs=0.004)


@pytest.mark.parametrize("cap", [10**9, 3000], ids=["share", "cap"])
@pytest.mark.parametrize("count", [4, 50, 2000])
def test_adding_documents_moves_none_to_validation(monkeypatch, cap, count):
    monkeypatch.setattr(validation, "VALIDATION_CHARACTERS", cap)
    for seed in range(20):
        before = chosen(texts(count), seed=seed)
        after = chosen(texts(count) + texts(max(1, count // 10), first=10**6), seed=seed)[:count]
        assert not (after & ~before).any()


def test_the_cap_holds_and_what_falls_out_is_for_training(monkeypatch):
    monkeypatch.setattr(validation, "VALIDATION_CHARACTERS", 500)
    documents = texts(5000)
    held_out = chosen(documents)
    characters = sum(len(text) for text, is_held_out in zip(documents, held_out, strict=True) if is_held_out)
    assert 480 < characters <= 500
    monkeypatch.undo()
    assert not (held_out & ~chosen(documents)).any()


def test_the_same_text_is_on_one_side_however_it_is_spaced():
    documents = texts(500)
    again = [f"  {text.replace(' ', chr(10))} " for text in documents]
    both = chosen(documents + again)
    assert (both[:500] == both[500:]).all()
    assert 20 < both[:500].sum() < 90


@pytest.mark.parametrize(("count", "fewest"), [(2, 1), (3, 1), (4, 2), (5, 2), (9, 2)])
def test_few_documents_give_validation_what_it_needs_and_leave_some(count, fewest):
    for seed in range(50):
        held_out = chosen(texts(count), fraction=0.001, seed=seed).sum()
        assert held_out == fewest
        assert chosen(texts(count), fraction=0.9, seed=seed).sum() < count


def test_no_validation_where_none_is_asked_for():
    assert not chosen(texts(100), fraction=0).any()


def test_documents_that_are_all_the_same_cannot_be_split():
    with pytest.raises(ValueError, match=r"one document, many times.*sample_by='line'.*validation_fraction=0"):
        chosen(["가", " 가", "가 "])


def test_composed_and_decomposed_hangul_are_the_same_text():
    assert document_hash("한글") == document_hash("\u1112\u1161\u11ab\u1100\u1173\u11af")


def test_first_occurrences_are_kept():
    hashes = hashes_of(["가", "나", "가", "다", "나"])
    assert first_occurrences(hashes).tolist() == [True, True, False, True, False]


def test_keys_are_spread_evenly():
    keys = split_keys(np.arange(100_000, dtype=np.uint64), 7)
    counts, _ = np.histogram(keys.astype(np.float64), 64, (0, 2.0**64))
    assert abs(counts - 100_000 / 64).max() < 6 * np.sqrt(100_000 / 64)
    assert len(np.unique(keys)) == 100_000
