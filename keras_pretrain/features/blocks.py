"""Blocks: the parts of a tokenized corpus that examples are built from one at a time, in memory and on the disk."""

import random
from collections.abc import Iterable
from itertools import pairwise

import numpy as np

_BLOCKS = 1000  # a corpus has about so many, within the limits below
_BLOCK_TOKENS = 100_000, 2_000_000
_RANDOM_BLOCKS = 8  # that a block takes its random sentences from


def divide(parts: Iterable[np.ndarray], total: int) -> list[list[tuple[int, int, int]]]:
    """Divide a corpus into blocks of about equal numbers of tokens.

    A document belongs to the block that its first token falls into, whatever the parts the corpus is stored in.

    Args:
      parts: for each part, where its documents begin and where the last one ends, in tokens; (documents + 1,) int64.
      total: tokens of the corpus.

    Returns:
      For each block, from which part it takes which documents: `(part, first, end)`, the last one not included.
    """
    smallest, largest = _BLOCK_TOKENS
    size = min(max(total // _BLOCKS, smallest), largest)
    blocks: dict[int, list[tuple[int, int, int]]] = {}
    offset = 0
    for part, starts in enumerate(parts):
        numbers = (offset + starts[:-1]) // size
        edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
        for first, end in pairwise(edges):
            if end > first:
                blocks.setdefault(int(numbers[first]), []).append((part, first, end))
        offset += int(starts[-1])
    return list(blocks.values())


def draw_blocks(block: int, blocks: int, seed: int) -> list[int]:
    """The blocks that a block takes random sentences from, itself perhaps among them; all are equally likely."""
    draw = random.Random(f"random sentences {seed} {block}")
    return sorted(draw.sample(range(blocks), min(_RANDOM_BLOCKS, blocks)))
