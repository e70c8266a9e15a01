"""Makes A/B pairs for next-sentence prediction with BERT's algorithm, as slices of a tokenized corpus."""

import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_pretrain.features.tokenizing import TokenizedCorpus, seeded_documents


@dataclass(frozen=True)
class SentencePairs:
    """Pairs as slices of the corpus' ids: A is `ids[a_start:a_end]`, B is `ids[b_start:b_end]`.

    Attributes:
      a_start, a_end, b_start, b_end: (pairs,) int64.
      next_sentence_label: (pairs,) int64; 0 if B follows A, 1 if B is random.
      one_sentence_documents: number of documents that made no pair, because they have one sentence.
      leftover_sentences: number of longer documents whose last sentence was left alone, and so made no pair.
    """

    a_start: np.ndarray
    a_end: np.ndarray
    b_start: np.ndarray
    b_end: np.ndarray
    next_sentence_label: np.ndarray
    one_sentence_documents: int
    leftover_sentences: int

    def __len__(self) -> int:
        return len(self.next_sentence_label)

    @classmethod
    def join(cls, passes: list["SentencePairs"]) -> "SentencePairs":
        """Join the pairs of several passes over one corpus, one pass after the other."""
        names = ("a_start", "a_end", "b_start", "b_end", "next_sentence_label")
        columns = {name: np.concatenate([getattr(pairs, name) for pairs in passes]) for name in names}
        leftover = sum(pairs.leftover_sentences for pairs in passes)
        return cls(**columns, one_sentence_documents=passes[0].one_sentence_documents, leftover_sentences=leftover)


def pair_sentences(
    corpus: TokenizedCorpus,
    *,
    max_tokens: int,
    short_seq_prob: float = 0.1,
    seed: int | Sequence[int] = 42,
    documents: int | None = None,
    random_from: int = 0,
) -> SentencePairs:
    """Make pairs as `create_pretraining_data.py` of google-research/bert does (Devlin et al., 2019).

    Sentences of a document are gathered until they reach a target length: `max_tokens`, or with `short_seq_prob` a
    length drawn from 2 to `max_tokens`. The chunk is cut at a random sentence boundary; the part before it is A. With
    probability 0.5, B is the rest of the chunk. Otherwise, B starts at a random sentence of any other document and ends
    when A and B together reach the target; the unused sentences of the chunk are put back. If a pair is longer than
    `max_tokens`, tokens of its longer side are removed, each at a random end.

    Where this differs from BERT's code:

    - In BERT's code, a chunk of one sentence always gets a random B, so the model can learn that short means random.
      Here a chunk always has two sentences or more: if the first sentence reaches the target, the chunk still takes the
      next one. A sentence that is left alone at the end of its document makes no pair, and neither does a document of
      one sentence, but such sentences can be a random B. So both labels are equally likely for every pair, however long
      its document is.
    - The target length is drawn for each pair. BERT's code draws it once per document, so a long document with a short
      target makes many short pairs.
    - The random document is never the same document. In BERT's code it can be, after ten tries.

    Args:
      corpus: at least two documents, at least one of them with two sentences.
      max_tokens: maximum number of tokens of A and B together, without special tokens.
      short_seq_prob: the probability that a pair gets a random target length.
      seed: one or more numbers; the same seed gives the same pairs.
      documents: only this number of documents, from the first on, make pairs. Default: all.
      random_from: the first document from which random sentences are taken. With `documents` and `random_from`, one
        part of a corpus can make pairs, while the other parts only provide random sentences.

    Returns:
      The pairs, in the order of the documents.

    Raises:
      ValueError: no document has two sentences, or there is no other document to take a random B from.
    """
    if documents is None:  # else the caller has checked the whole corpus; a part may have no pair
        check_pairable(corpus.num_documents, bool(np.any(np.diff(corpus.document_starts) > 1)))
    pairs, one_sentence, leftover = array("q"), 0, 0
    for rng, document in seeded_documents(corpus, "Pairing", seed, documents):
        alone = _pair_document(corpus, document, max_tokens, short_seq_prob, random_from, rng, pairs)
        one_sentence += alone == "document"
        leftover += alone == "leftover"
    table = np.array(pairs, np.int64).reshape(-1, 5)
    spans = _truncate(
        table[:, 0], table[:, 1], table[:, 2], table[:, 3], max_tokens, np.random.default_rng([*np.atleast_1d(seed), 1])
    )
    return SentencePairs(*spans, table[:, 4], one_sentence, leftover)


def check_pairable(num_documents: int, has_two_sentences: bool) -> None:
    """Raise an error if a corpus allows no pairs for next-sentence prediction.

    Args:
      num_documents: the number of documents with text.
      has_two_sentences: whether any of them has two sentences.
    """
    if num_documents < 2:
        raise ValueError(
            "Next-sentence prediction takes random sentences from other documents, so it needs two documents with "
            f"text, and the corpus has {num_documents}. Give more documents, or use objective='mlm'."
        )
    if not has_two_sentences:
        raise ValueError(
            "Next-sentence prediction needs documents of two sentences or more, but each document of this corpus has "
            "only one. Use objective='mlm', or join the sentences that belong together into documents."
        )


def _pair_document(
    corpus: TokenizedCorpus,
    document: int,
    max_tokens: int,
    short_seq_prob: float,
    random_from: int,
    rng: random.Random,
    pairs: array,
) -> str | None:
    """Append the pairs of one document, `(a_start, a_end, b_start, b_end, label)` in tokens, not yet truncated.

    Returns:
      `"document"` for a document of one sentence, `"leftover"` if the last sentence was left alone.
    """
    first, end = corpus.document_starts[document : document + 2].tolist()
    starts = corpus.sentence_starts[first : end + 1].tolist()  # starts of this document's sentences, in tokens
    count = end - first
    if count == 1:
        return "document"
    i = 0
    while count - i >= 2:
        target = max_tokens
        if rng.random() < short_seq_prob:
            target = rng.randint(2, max_tokens)
        chunk_end = i + 2
        while chunk_end < count and starts[chunk_end] - starts[i] < target:
            chunk_end += 1
        split = rng.randint(i + 1, chunk_end - 1)
        a_start, a_end = starts[i], starts[split]
        if rng.random() < 0.5:
            pairs.extend((a_start, a_end, a_end, starts[chunk_end], 0))
            i = chunk_end
        else:
            b_start, b_end = _random_sentences(corpus, document, random_from, target - (a_end - a_start), rng)
            pairs.extend((a_start, a_end, b_start, b_end, 1))
            i = split
    return "leftover" if i < count else None


def _random_sentences(
    corpus: TokenizedCorpus, document: int, random_from: int, target: int, rng: random.Random
) -> tuple[int, int]:
    """Choose whole sentences of another document, from a random one on, until they have `target` tokens or the document
    ends. Returns the first token and the end."""
    is_candidate = document >= random_from
    other = random_from + rng.randrange(corpus.num_documents - random_from - is_candidate)
    other += is_candidate and other >= document
    first, end = corpus.document_starts[other : other + 2].tolist()
    start = rng.randrange(first, end)
    b_start = int(corpus.sentence_starts[start])
    # The first sentence boundary at which the span has `target` tokens.
    stop = int(np.searchsorted(corpus.sentence_starts[start + 1 : end], b_start + target)) + start + 1
    return b_start, int(corpus.sentence_starts[stop])


def _truncate(
    a_start: np.ndarray,
    a_end: np.ndarray,
    b_start: np.ndarray,
    b_end: np.ndarray,
    max_tokens: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cut pairs down to `max_tokens` as BERT does: token by token from the longer side (from B if both are equally
    long), at the front or the back with equal probability. All tokens are cut at once: their number is computed, and
    the number cut at the front is drawn from a binomial distribution."""
    a_length, b_length = a_end - a_start, b_end - b_start
    excess = np.maximum(a_length + b_length - max_tokens, 0)
    # First the longer side is cut to the length of the other. Both sides then lose equally much, B first.
    gap = np.abs(a_length - b_length)
    from_longer = np.minimum(excess, gap)
    shared = excess - from_longer
    a_is_longer = a_length > b_length
    from_a = np.where(a_is_longer, from_longer, 0) + shared // 2
    from_b = np.where(a_is_longer, 0, from_longer) + (shared + 1) // 2
    a_front, b_front = rng.binomial(from_a, 0.5), rng.binomial(from_b, 0.5)
    return a_start + a_front, a_end - (from_a - a_front), b_start + b_front, b_end - (from_b - b_front)
