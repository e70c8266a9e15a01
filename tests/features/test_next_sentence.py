"""Pairs hold the properties that BERT's algorithm promises, over thousands of them."""

import random

import numpy as np
import pytest

from keras_pretrain.features.next_sentence import _truncate, pair_sentences
from keras_pretrain.features.tokenizing import TokenizedCorpus


def make_corpus(document_sizes, low=3, high=30, seed=0):
    """Documents of so many sentences each; every token id is its own position, so a slice tells where it is from."""
    rng = random.Random(seed)
    position, documents = 0, []
    for size in document_sizes:
        document = []
        for _ in range(size):
            length = rng.randint(low, high)
            document.append(list(range(position, position + length)))
            position += length
        documents.append(document)
    return TokenizedCorpus.from_documents(documents)


def document_of(corpus, positions):
    sentence = np.searchsorted(corpus.sentence_starts, positions, side="right") - 1
    return np.searchsorted(corpus.document_starts, sentence, side="right") - 1


@pytest.fixture(scope="module")
def long_corpus():
    return make_corpus([40] * 600)


@pytest.fixture(scope="module")
def long_pairs(long_corpus):
    return pair_sentences(long_corpus, max_tokens=125, seed=1)


def test_thousands_of_pairs_fit_and_neither_side_is_empty(long_pairs):
    a, b = long_pairs.a_end - long_pairs.a_start, long_pairs.b_end - long_pairs.b_start
    assert len(long_pairs) > 3000
    assert (a + b).max() <= 125
    assert a.min() >= 1
    assert b.min() >= 1


def test_labels_are_balanced(long_pairs):
    assert long_pairs.next_sentence_label.mean() == pytest.approx(0.5, abs=0.03)


def test_the_label_is_a_fair_coin_however_short_the_documents():
    corpus = make_corpus([2] * 3000 + [3] * 3000)
    pairs = pair_sentences(corpus, max_tokens=125)
    size = np.diff(corpus.document_starts)[document_of(corpus, pairs.a_start)]
    for sentences in (2, 3):
        assert pairs.next_sentence_label[size == sentences].mean() == pytest.approx(0.5, abs=0.03)


def test_random_b_is_never_from_the_same_document(long_corpus, long_pairs):
    random_b = long_pairs.next_sentence_label == 1
    a, b = document_of(long_corpus, long_pairs.a_start), document_of(long_corpus, long_pairs.b_start)
    assert (a[random_b] != b[random_b]).all()
    assert (a[~random_b] == b[~random_b]).all()


def test_random_b_comes_from_anywhere_in_the_corpus(long_corpus, long_pairs):
    sources = document_of(long_corpus, long_pairs.b_start[long_pairs.next_sentence_label == 1])
    assert len(np.unique(sources)) > 0.95 * long_corpus.num_documents
    # Not only from documents nearby: the distance is as far as it can be on average (a third of the corpus).
    targets = document_of(long_corpus, long_pairs.a_start[long_pairs.next_sentence_label == 1])
    assert np.abs(sources - targets).mean() == pytest.approx(long_corpus.num_documents / 3, rel=0.05)


def test_a_side_is_a_run_of_one_document(long_corpus, long_pairs):
    for start, end in ((long_pairs.a_start, long_pairs.a_end), (long_pairs.b_start, long_pairs.b_end)):
        assert (document_of(long_corpus, start) == document_of(long_corpus, end - 1)).all()


def test_positives_are_truly_adjacent_and_cut_only_where_they_are_too_long():
    corpus = make_corpus([30] * 200, low=5, high=10)
    pairs = pair_sentences(corpus, max_tokens=1000, short_seq_prob=0)
    positive = pairs.next_sentence_label == 0
    assert positive.sum() > 80
    np.testing.assert_array_equal(pairs.a_end[positive], pairs.b_start[positive])
    sentence_boundaries = set(corpus.sentence_starts.tolist())
    assert sentence_boundaries.issuperset(pairs.a_end.tolist())
    assert sentence_boundaries.issuperset(pairs.b_end.tolist())


def test_nothing_is_lost_and_nothing_is_repeated():
    """Without truncation, the A sides and the true B sides cover each document once, up to a leftover sentence."""
    corpus = make_corpus([2, 3, 5, 9, 20] * 60, low=2, high=12)
    pairs = pair_sentences(corpus, max_tokens=10_000, short_seq_prob=0.5)
    used = np.zeros(len(corpus.ids), int)
    for i in range(len(pairs)):
        used[pairs.a_start[i] : pairs.a_end[i]] += 1
        if pairs.next_sentence_label[i] == 0:
            used[pairs.b_start[i] : pairs.b_end[i]] += 1
    assert used.max() == 1
    unused_sentences = np.add.reduceat(used, corpus.sentence_starts[:-1]) == 0
    assert unused_sentences.sum() == pairs.leftover_sentences
    last_sentences = corpus.document_starts[1:] - 1
    assert set(np.flatnonzero(unused_sentences)) <= set(last_sentences)


def test_documents_of_one_sentence_make_no_pair_but_serve_as_random_b():
    corpus = make_corpus([1] * 500 + [20] * 500)
    pairs = pair_sentences(corpus, max_tokens=125)
    assert pairs.one_sentence_documents == 500
    assert document_of(corpus, pairs.a_start).min() >= 500
    assert document_of(corpus, pairs.b_start[pairs.next_sentence_label == 1]).min() < 500


def test_most_pairs_fill_the_length_and_the_share_of_short_ones_is_as_asked():
    corpus = make_corpus([200] * 100)
    lengths = {}
    for probability in (0.0, 0.1, 1.0):
        pairs = pair_sentences(corpus, max_tokens=125, short_seq_prob=probability)
        total = pairs.a_end - pairs.a_start + pairs.b_end - pairs.b_start
        lengths[probability] = np.mean(total < 100)
    assert lengths[0.0] < 0.03  # only where a document ends
    # A target below 100 is drawn for 79% of the short ones, and a gathered sentence may carry a pair beyond it.
    assert 0.05 < lengths[0.1] < 0.10
    assert 0.5 < lengths[1.0] < 0.8


def test_the_same_seed_gives_the_same_pairs_and_another_seed_others(long_corpus, long_pairs):
    again, other = (pair_sentences(long_corpus, max_tokens=125, seed=seed) for seed in (1, 2))
    np.testing.assert_array_equal(again.b_start, long_pairs.b_start)
    assert len(other) != len(long_pairs) or (other.b_start != long_pairs.b_start).any()


def test_truncation_equals_berts_loop():
    """The arithmetic against `truncate_seq_pair` of google-research/bert: lengths exactly, ends by their mean."""
    rng = np.random.default_rng(0)
    a_length, b_length = rng.integers(1, 200, (2, 4000))
    a_start, b_start = np.zeros(4000, int), np.full(4000, 1000)
    got = _truncate(a_start, a_start + a_length, b_start, b_start + b_length, 125, rng)
    expected = np.array([truncate_by_loop(a, b, 125, rng) for a, b in zip(a_length, b_length, strict=True)])
    np.testing.assert_array_equal(got[1] - got[0], expected[:, 1] - expected[:, 0])
    np.testing.assert_array_equal(got[3] - got[2], expected[:, 3] - expected[:, 2])
    assert (got[0] - a_start).mean() == pytest.approx(expected[:, 0].mean(), rel=0.05)
    assert (got[2] - b_start).mean() == pytest.approx(expected[:, 2].mean(), rel=0.05)


def truncate_by_loop(a_length, b_length, max_tokens, rng):
    ends = [0, a_length, 0, b_length]
    while ends[1] - ends[0] + ends[3] - ends[2] > max_tokens:
        side = 0 if ends[1] - ends[0] > ends[3] - ends[2] else 2
        if rng.random() < 0.5:
            ends[side] += 1
        else:
            ends[side + 1] -= 1
    return ends


def test_one_document_is_refused():
    with pytest.raises(ValueError, match=r"other documents.*corpus has 1\..*objective='mlm'"):
        pair_sentences(make_corpus([10]), max_tokens=125)


def test_documents_of_one_sentence_alone_are_refused():
    with pytest.raises(ValueError, match=r"two sentences or more.*objective='mlm'"):
        pair_sentences(make_corpus([1] * 10), max_tokens=125)


def test_a_part_takes_its_random_sentences_from_other_parts_all_documents_alike():
    corpus = make_corpus([6] * 400)
    pairs = pair_sentences(corpus, max_tokens=60, documents=300, random_from=300)
    assert document_of(corpus, pairs.a_start).max() == 299
    is_random = pairs.next_sentence_label == 1
    assert is_random.mean() == pytest.approx(0.5, abs=0.05)
    sources = document_of(corpus, pairs.b_start[is_random])
    assert sources.min() >= 300
    counts = np.bincount(sources - 300, minlength=100)
    expected = len(sources) / 100
    assert ((counts - expected) ** 2 / expected).sum() < 149  # chi-squared, 99 degrees of freedom, p = 0.001


def test_a_part_among_others_never_meets_its_own_document():
    corpus = make_corpus([40] * 20)
    pairs = pair_sentences(corpus, max_tokens=60, documents=10, random_from=5)
    is_random = pairs.next_sentence_label == 1
    a, b = (document_of(corpus, starts[is_random]) for starts in (pairs.a_start, pairs.b_start))
    assert set(b) == set(range(5, 20))
    assert not np.any(a == b)


def test_joined_corpora_are_one():
    parts = make_corpus([3, 1, 4]), make_corpus([2, 5])
    joined = TokenizedCorpus.join(list(parts))
    assert joined.num_documents == 5
    assert joined.num_sentences == 15
    np.testing.assert_array_equal(joined.ids, np.concatenate([part.ids for part in parts]))
    start = joined.sentence_starts[joined.document_starts[3]]
    np.testing.assert_array_equal(joined.ids[start:], parts[1].ids)
