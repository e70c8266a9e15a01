"""Initializes a new model from statistics of the text and with attention to neighbouring tokens, so that the model does
not have to learn these."""

import logging
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

if TYPE_CHECKING:
    import tf_keras
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_TOKENS = 4_000_000  # for counting co-occurrence; larger corpora are sampled at random
_CONTEXTS = 4096  # number of contexts, the most frequent tokens; the matrix is (vocabulary, contexts)
_WINDOW = 10  # maximum distance between a token and its context
_SMOOTHING = 0.75

_FREQUENCIES = 32  # the maximum number of sinusoids of the position embeddings, half of a head's usual width
_HIGHEST_FREQUENCY = 2.4  # radians per position
_LAYERS = 2  # the number of layers whose heads attend to neighbours
_SCORE = 5.0  # of the neighbour of a head, which then gets about a quarter of the attention among 100 tokens


def token_log_frequencies(features: "Dataset", tokenizer: "PreTrainedTokenizerBase", vocab_size: int) -> np.ndarray:
    """The logarithm of each token's share of the ordinary tokens, (vocab_size,) float32.

    Each count is increased by one, so that no token is impossible. Special tokens, which are never predicted, and rows
    beyond the tokenizer's vocabulary count as if they occurred once.
    """
    counts = np.zeros(vocab_size)
    for table in features.select_columns(["input_ids"]).with_format("arrow").iter(10_000):
        counts += np.bincount(pc.list_flatten(table["input_ids"]).to_numpy(), minlength=vocab_size)
    counts[tokenizer.all_special_ids] = 0
    return np.log((counts + 1) / (counts + 1).sum()).astype(np.float32)


def cooccurrence_embeddings(
    features: "Dataset",
    tokenizer: "PreTrainedTokenizerBase",
    vocab_size: int,
    width: int,
    *,
    initializer_range: float = 0.02,
    seed: int = 42,
) -> np.ndarray:
    """Compute word embeddings in which tokens that occur near the same words lie near each other.

    A truncated singular value decomposition factorises the positive pointwise mutual information of tokens that are at
    most ten positions apart, with context counts smoothed by a power of 0.75. Singular vectors are scaled by the square
    roots of the singular values. Levy, Goldberg and Dagan (2015, "Improving Distributional Similarity") found this as
    good as word2vec. The result is centred and rotated at random, so that no axis carries more variance than another.
    Each row is scaled to the length of a row of random weights. Tokens that never occur, special tokens, and rows
    beyond the tokenizer's vocabulary get random weights.

    Args:
      features: examples from `build_features`. The two segments of a pair are counted separately.
      tokenizer: the tokenizer they were made with.
      vocab_size: number of rows; at least the number of the tokenizer's tokens.
      width: the width of the embeddings.
      initializer_range: standard deviation of the weights.
      seed: the seed for the random parts.

    Returns:
      (vocab_size, width) float32. The computation takes some seconds, and about 20 KB of memory per token of the
      vocabulary.
    """
    begun = perf_counter()
    rng = np.random.default_rng(seed)
    tokens, segments = _sample_tokens(features, tokenizer, rng)
    information = positive_mutual_information(tokens, segments, vocab_size)
    vectors = _truncated_svd(information, width, rng)
    known = np.bincount(tokens, minlength=vocab_size) > 0
    known &= np.linalg.norm(vectors, axis=1) > 0
    vectors -= vectors[known].sum(axis=0) / max(known.sum(), 1)
    turn, _ = np.linalg.qr(rng.standard_normal((width, vectors.shape[1]), np.float32))
    vectors = vectors @ turn.T
    vectors *= initializer_range * np.sqrt(width) / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    random = initializer_range * rng.standard_normal((vocab_size, width), np.float32)
    logger.info(
        "Word embeddings start from the co-occurrence of %s tokens (%.0f s).",
        f"{len(tokens):,}", perf_counter() - begun,
    )  # fmt: skip
    return np.where(known[:, None], vectors, random).astype(np.float32)


def attend_to_neighbours(encoder: "tf_keras.layers.Layer", *, seed: int = 42) -> None:
    """Set the position embeddings and the queries and keys of the first two layers so that each head attends to a
    neighbour.

    Trained encoders have such heads (Clark et al., 2019, "What Does BERT Look At?"). With random weights, a small BERT
    first learns for a long time without them, and its loss decreases slowly; `docs/experiments.md` has the figures.

    Position embeddings are sinusoids, as in the first Transformer (Vaswani et al., 2017), in a random subspace of at
    most a quarter of the embeddings' width. They are as long as random word embeddings. The frequencies lie between 0
    and 2.4, denser at the lower end, so that no two distances look alike. Keys read the sinusoids out of the hidden
    states, and queries read them out and shift them. The score of tokens i and j is then highest at `j = i + offset`.
    The heads have the offsets -1, 1, -2, 2 and so on; a single head has -1 and 1. Nothing is frozen.

    Args:
      encoder: the `bert` or `electra` layer of a new model. Networks that share their embeddings need the same seed.
      seed: the seed for the subspace.
    """
    config, embeddings = encoder.config, encoder.embeddings
    positions, width = embeddings.position_embeddings.shape
    heads, depth = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    count = max(1, min(_FREQUENCIES, width // 8))
    frequencies = _HIGHEST_FREQUENCY * (np.arange(1, count + 1) / count) ** 1.5
    # Orthonormal rows: the first half holds the cosine of each frequency, the second half the sine.
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((width, 2 * count)))[0].T
    angles = np.arange(positions)[:, None] * frequencies
    table = np.hstack([np.cos(angles), np.sin(angles)]) @ basis
    embeddings.position_embeddings.assign(table * config.initializer_range * np.sqrt(width / count))

    seen = basis @ encoder.embeddings_project.kernel.numpy() if hasattr(encoder, "embeddings_project") else basis
    read = np.linalg.pinv(seen)  # (hidden, 2 * count)
    kept = np.linspace(0, count - 1, min(count, depth // 2)).round().astype(int)  # a narrow head has room for fewer
    read, frequencies = read[:, np.concatenate([kept, count + kept])], frequencies[kept]
    # After the layer norm, a word and its position share the squared length, `width`, so that the squared amplitude of
    # each sinusoid is width / (2 * count).
    scale = np.sqrt(_SCORE * np.sqrt(depth) * 2 * count / (width * len(kept)))
    queries, keys = (np.zeros((heads, config.hidden_size, depth)) for _ in range(2))
    for head in range(heads):
        offsets = (-1, 1) if heads == 1 else ((-1) ** (head + 1) * (head // 2 + 1),)
        queries[head, :, : 2 * len(kept)] = scale * read @ sum(_shift(frequencies * offset) for offset in offsets)
        keys[head, :, : 2 * len(kept)] = scale * read
    for layer in encoder.encoder.layer[:_LAYERS]:
        attention = layer.attention.self_attention
        for dense, values in ((attention.query, queries), (attention.key, keys)):
            dense.kernel.assign(np.moveaxis(values, 0, 1).reshape(dense.kernel.shape))


def _shift(angles: np.ndarray) -> np.ndarray:
    """The matrix that adds an angle to each pair `(cos, sin)` of a row vector: first all cosines, then all sines."""
    cosines, sines = np.diag(np.cos(angles)), np.diag(np.sin(angles))
    return np.block([[cosines, sines], [-sines, cosines]])


def positive_mutual_information(tokens: np.ndarray, segments: np.ndarray, vocabulary: int) -> np.ndarray:
    """Compute `max(0, log(P(token, context) / (P(token) P(context))))`, with P(context) smoothed.

    Args:
      tokens: (count,) ids in the order of the text.
      segments: (count,) the segment of each token; a window ends at the end of its segment.
      vocabulary: the number of ids.

    Returns:
      (vocabulary, contexts) float32; the contexts are the most frequent tokens.
    """
    frequency = np.bincount(tokens, minlength=vocabulary)
    contexts = np.argsort(-frequency, kind="stable")[: min(_CONTEXTS, vocabulary)]
    column = np.full(vocabulary, -1)
    column[contexts] = np.arange(len(contexts))
    counts = np.zeros(vocabulary * len(contexts), np.float32)
    for distance in range(1, _WINDOW + 1):
        near = segments[distance:] == segments[:-distance]
        left, right = tokens[:-distance][near], tokens[distance:][near]
        for token, context in ((left, column[right]), (right, column[left])):
            is_context = context >= 0
            cells, times = np.unique(token[is_context] * len(contexts) + context[is_context], return_counts=True)
            counts[cells] += times
    counts = counts.reshape(vocabulary, len(contexts))
    expected = counts.sum(axis=0) ** _SMOOTHING
    expected /= max(expected.sum(), 1.0)
    # In place, because the matrix has 400 MB for 25,000 tokens.
    counts /= np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    counts /= np.maximum(expected, np.finfo(np.float32).tiny)
    np.log(counts, out=counts, where=counts > 0)
    return np.maximum(counts, 0.0, out=counts)


def _sample_tokens(
    features: "Dataset", tokenizer: "PreTrainedTokenizerBase", rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The ordinary tokens of random examples, about four million tokens in total, and the number of each token's
    segment."""
    columns = features.select_columns(["input_ids", "token_type_ids"])
    table = columns.with_format("arrow")[:1000]
    mean_length = max(1.0, np.mean(pc.list_value_length(table["input_ids"]).to_numpy()))
    wanted = int(_TOKENS / mean_length)
    if wanted < len(features):
        columns = columns.select(np.sort(rng.choice(len(features), wanted, replace=False)))
    tokens, segments, row = [], [], 0
    for table in columns.with_format("arrow").iter(10_000):
        lengths = pc.list_value_length(table["input_ids"]).to_numpy()
        tokens.append(pc.list_flatten(table["input_ids"]).to_numpy().astype(np.int64))
        types = pc.list_flatten(table["token_type_ids"]).to_numpy()
        segments.append(2 * (row + np.repeat(np.arange(len(lengths)), lengths)) + types)
        row += len(lengths)
    tokens, segments = np.concatenate(tokens), np.concatenate(segments)
    ordinary = ~np.isin(tokens, tokenizer.all_special_ids)
    return tokens[ordinary], segments[ordinary]


def _truncated_svd(matrix: np.ndarray, rank: int, rng: np.random.Generator) -> np.ndarray:
    """The first left singular vectors, multiplied by the square roots of their singular values: (rows, at most `rank`).

    Computed by random projection and two power iterations (Halko, Martinsson and Tropp, 2011).
    """
    rank = min(rank, *matrix.shape)
    basis = rng.standard_normal((matrix.shape[1], min(rank + 32, matrix.shape[1])), np.float32)
    for _ in range(3):
        image, _ = np.linalg.qr(matrix @ basis)
        basis, _ = np.linalg.qr(matrix.T @ image)
    left, values, _ = np.linalg.svd(matrix @ basis, full_matrices=False)
    return left[:, :rank] * np.sqrt(values[:rank])
