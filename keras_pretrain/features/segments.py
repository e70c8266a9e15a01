"""Joins sentences of one document to single segments, for MLM without next-sentence prediction and for ELECTRA."""

import random
from array import array
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from keras_pretrain.features.tokenizing import TokenizedCorpus, seeded_documents


def pack_segments(
    corpus: TokenizedCorpus, *, max_tokens: int, short_seq_prob: float = 0.1, seed: int | Sequence[int] = 42
) -> tuple[np.ndarray, np.ndarray]:
    """Pack whole sentences of one document into segments; every token of the corpus is in exactly one.

    Sentences are added to a segment while they fit into its target length: `max_tokens`, or with `short_seq_prob` a
    length drawn from 2 to `max_tokens` (as in BERT and ELECTRA, so that the model also sees short inputs). A sentence
    longer than the target fills a segment of `max_tokens` and continues in the next one.

    Args:
      corpus: the documents.
      max_tokens: maximum number of tokens of a segment, without special tokens.
      short_seq_prob: the probability that a segment gets a random target length.
      seed: one or more numbers; the same seed gives the same segments.

    Returns:
      `(start, end)`, each (segments,) int64: segment `i` is `corpus.ids[start[i]:end[i]]`.
    """
    ends = array("q")
    for rng, document in seeded_documents(corpus, "Packing", seed):
        _pack_document(corpus, document, max_tokens, short_seq_prob, rng, ends)
    ends = np.frombuffer(ends, np.int64) if ends else np.zeros(0, np.int64)
    return np.concatenate([[0], ends])[:-1].astype(np.int64), ends  # a segment starts at the end of the one before it


def separate_sentences(corpus: TokenizedCorpus, *, max_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Make each sentence a segment of its own; one with more than `max_tokens` tokens is divided into several.

    Args:
      corpus: the documents.
      max_tokens: maximum number of tokens of a segment, without special tokens.

    Returns:
      `(start, end)`, each (segments,) int64, as `pack_segments` returns them.
    """
    starts, ends = corpus.sentence_starts[:-1], corpus.sentence_starts[1:]
    counts = -(-(ends - starts) // max_tokens)  # of segments in each sentence
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    begin = np.repeat(starts, counts) + within * max_tokens
    return begin, np.minimum(begin + max_tokens, np.repeat(ends, counts))


def _pack_document(
    corpus: TokenizedCorpus, document: int, max_tokens: int, short_seq_prob: float, rng: random.Random, ends: array
) -> None:
    first, last = corpus.document_starts[document : document + 2].tolist()
    boundaries = corpus.sentence_starts[first : last + 1].tolist()
    position = boundaries[0]
    while position < boundaries[-1]:
        target = max_tokens
        if rng.random() < short_seq_prob:
            target = rng.randint(2, max_tokens)
        end = boundaries[bisect_right(boundaries, position + target) - 1]
        if end <= position:  # the next sentence is longer than the target
            end = min(boundaries[bisect_right(boundaries, position)], position + max_tokens)
        ends.append(end)
        position = end
