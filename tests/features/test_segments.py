"""Packed segments: everything once, nothing across documents."""

import numpy as np
import pytest

from keras_pretrain.features.segments import pack_segments, separate_sentences
from keras_pretrain.features.tokenizing import TokenizedCorpus


def corpus_of(*documents):
    """Each document a list of sentence lengths."""
    return TokenizedCorpus.from_documents([[0] * length for length in document] for document in documents)


def segments(corpus, **settings):
    start, end = pack_segments(corpus, short_seq_prob=0, **settings)
    return list(zip(start.tolist(), end.tolist(), strict=True))


def test_whole_sentences_are_packed_as_long_as_they_fit():
    assert segments(corpus_of([3, 3, 3, 3]), max_tokens=7) == [(0, 6), (6, 12)]


def test_a_segment_never_crosses_a_document():
    assert segments(corpus_of([3], [3], [3]), max_tokens=100) == [(0, 3), (3, 6), (6, 9)]


def test_a_sentence_that_is_too_long_goes_on_in_the_next_segment():
    assert segments(corpus_of([2, 11, 2]), max_tokens=5) == [(0, 2), (2, 7), (7, 12), (12, 15)]


@pytest.mark.parametrize("max_tokens", [1, 5, 126])
def test_separate_sentences_are_those_of_a_loop_over_them(max_tokens):
    rng = np.random.default_rng(0)
    lengths = [rng.integers(0, 20, rng.integers(0, 9)).tolist() for _ in range(200)]
    corpus = corpus_of(*lengths, [126, 127, 252, 253])
    expected = []
    for first, last in zip(corpus.sentence_starts[:-1].tolist(), corpus.sentence_starts[1:].tolist(), strict=True):
        expected += [(at, min(at + max_tokens, last)) for at in range(first, last, max_tokens)]
    start, end = separate_sentences(corpus, max_tokens=max_tokens)
    assert list(zip(start.tolist(), end.tolist(), strict=True)) == expected
    assert (start.dtype, end.dtype) == (np.int64, np.int64)


@pytest.mark.parametrize("short_seq_prob", [0.0, 0.1, 1.0])
def test_every_token_is_in_exactly_one_segment(short_seq_prob):
    rng = np.random.default_rng(0)
    corpus = corpus_of(*(rng.integers(1, 200, rng.integers(1, 30)).tolist() for _ in range(500)))
    start, end = pack_segments(corpus, max_tokens=126, short_seq_prob=short_seq_prob)
    np.testing.assert_array_equal(start[1:], end[:-1])
    assert (start[0], end[-1]) == (0, len(corpus.ids))
    assert (end - start).max() <= 126
    assert (end - start).min() >= 1


def test_the_share_of_short_segments_is_as_asked():
    corpus = corpus_of([5] * 100_000)  # one document: the end of each would add a short one
    start, end = pack_segments(corpus, max_tokens=126, short_seq_prob=0.1)
    # Targets are uniform over 2..126 for one segment in ten; 125 is the longest that whole sentences of 5 fill.
    assert np.mean(end - start < 125) == pytest.approx(0.1, abs=0.01)


def test_the_same_seed_gives_the_same_segments():
    corpus = corpus_of(*([5] * 40 for _ in range(300)))
    first, again, other = (pack_segments(corpus, max_tokens=50, seed=seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
