"""Single segments for MLM alone and for ELECTRA: sentences of one document packed up to a length."""

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

    A segment takes sentences as long as they fit into its target length: `max_tokens`, or with `short_seq_prob` a
    length drawn from 2 to `max_tokens` (as BERT and ELECTRA do, so that short inputs are not new to the model). A
    sentence that does not fit even alone fills a segment of `max_tokens` and goes on in the next.

    Args:
      corpus: the documents.
      max_tokens: of a segment, special tokens not counted.
      short_seq_prob: share of the segments that aim at a shorter length.
      seed: one number or several; the same seed gives the same segments.

    Returns:
      `(start, end)`, each (segments,) int64: segment `i` is `corpus.ids[start[i]:end[i]]`.
    """
    ends = array("q")
    for rng, document in seeded_documents(corpus, "Packing", seed):
        _pack_document(corpus, document, max_tokens, short_seq_prob, rng, ends)
    ends = np.frombuffer(ends, np.int64) if ends else np.zeros(0, np.int64)
    return np.concatenate([[0], ends])[:-1].astype(np.int64), ends  # a segment begins where the one before it ended


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
