"""Divides a tokenized corpus into blocks. Examples are built from one block at a time."""

import random
from collections.abc import Iterable
from itertools import pairwise

import numpy as np

_BLOCKS = 1000  # target number of blocks of a corpus, if the limits below allow it
_BLOCK_TOKENS = 100_000, 2_000_000  # minimum and maximum number of tokens of a block
_RANDOM_BLOCKS = 8  # number of blocks from which a block takes its random sentences


def divide(parts: Iterable[np.ndarray], total: int) -> list[list[tuple[int, int, int]]]:
    """Divide a corpus into blocks of about equal numbers of tokens.

    A document belongs to the block that contains its first token. The blocks are the same, however the corpus is
    divided into parts (files).

    Args:
      parts: for each part, the token at which each document starts, and the end of the last one; (documents + 1,)
        int64.
      total: number of tokens of the corpus.

    Returns:
      For each block, a list of `(part, first, end)`: the documents that it takes from a part, `end` not included.
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
    """Draw the blocks from which a block takes random sentences. All blocks are equally likely, including itself."""
    draw = random.Random(f"random sentences {seed} {block}")
    return sorted(draw.sample(range(blocks), min(_RANDOM_BLOCKS, blocks)))
