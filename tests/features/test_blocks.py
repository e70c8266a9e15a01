"""Blocks: each document in one of them, the same ones however the corpus is stored."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from keras_pretrain.features import blocks
from keras_pretrain.features.blocks import divide, draw_blocks


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK_TOKENS", (100, 100))


def documents_of(divided, firsts):
    return [[firsts[part] + i for part, first, end in block for i in range(first, end)] for block in divided]


@pytest.mark.parametrize("cuts", [[], [500], [1, 2, 499, 998], list(range(0, 1000, 7))])
def test_the_blocks_do_not_depend_on_the_parts(small, cuts):
    lengths = np.random.default_rng(0).integers(1, 400, 1000)
    edges = [0, *cuts, 1000]
    parts = [np.concatenate([[0], np.cumsum(lengths[a:b])]) for a, b in pairwise(edges)]
    divided = documents_of(divide(parts, int(lengths.sum())), edges)
    assert sorted(i for block in divided for i in block) == list(range(1000))
    starts = np.cumsum(lengths) - lengths
    for block in divided:
        assert block == sorted(block)
        assert len({start // 100 for start in starts[block]}) == 1
    assert divided == documents_of(divide([np.concatenate([[0], np.cumsum(lengths)])], int(lengths.sum())), [0])


def test_no_block_is_empty_where_documents_are_longer_than_blocks(small):
    divided = divide([np.array([0, 1000, 2000, 2010])], 2010)
    assert divided == [[(0, 0, 1)], [(0, 1, 2)], [(0, 2, 3)]]


def test_a_larger_corpus_has_larger_blocks():
    lengths = np.full(3000, 1_000_000)
    divided = divide([np.concatenate([[0], np.cumsum(lengths)])], int(lengths.sum()))
    assert len(divided) == 1500  # of two million tokens, the most of a block


def test_every_block_is_drawn_as_often_as_any_other():
    counts = Counter(other for block in range(2000) for other in draw_blocks(block, 40, 1))
    expected = 2000 * 8 / 40
    assert max(abs(counts[block] - expected) for block in range(40)) < 5 * np.sqrt(expected)
    assert draw_blocks(3, 40, 1) == draw_blocks(3, 40, 1) != draw_blocks(3, 40, 2)
    assert draw_blocks(0, 5, 1) == [0, 1, 2, 3, 4]
