"""Starting weights against plain loops, a plain singular value decomposition, and the stock attention."""

import numpy as np
import pytest
import tensorflow as tf
from datasets import Dataset

import keras_pretrain as kp
from keras_pretrain.models import initialization
from keras_pretrain.models.initialization import (
    cooccurrence_embeddings,
    positive_mutual_information,
    token_log_frequencies,
)


def plain_information(tokens, segments, vocabulary):
    """Counted pair by pair."""
    counts = np.zeros((vocabulary, vocabulary))
    for i in range(len(tokens)):
        for j in range(max(0, i - 10), min(len(tokens), i + 11)):
            if i != j and segments[i] == segments[j]:
                counts[tokens[i], tokens[j]] += 1
    smoothed = counts.sum(axis=0) ** 0.75
    information = np.zeros_like(counts)
    for i, j in zip(*np.nonzero(counts), strict=True):
        joint = counts[i, j] / counts[i].sum()
        information[i, j] = max(0.0, np.log(joint / (smoothed[j] / smoothed.sum())))
    return information


def test_mutual_information_equals_plain_loops():
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 12, 300)
    segments = np.sort(rng.integers(0, 20, 300))
    got = positive_mutual_information(tokens, segments, 14)
    order = np.argsort(-np.bincount(tokens, minlength=14), kind="stable")
    np.testing.assert_allclose(got, plain_information(tokens, segments, 14)[:, order], atol=1e-5)


def test_only_the_most_frequent_tokens_are_contexts(monkeypatch):
    monkeypatch.setattr(initialization, "_CONTEXTS", 3)
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 5, 200) * rng.integers(0, 2, 200)
    got = positive_mutual_information(tokens, np.zeros(200, int), 5)
    assert got.shape == (5, 3)
    assert np.isfinite(got).all()


def test_the_quick_decomposition_is_the_plain_one():
    """On a matrix whose singular values fall off, as those of text do; singular vectors have no fixed sign."""
    rng = np.random.default_rng(1)
    left, _ = np.linalg.qr(rng.standard_normal((80, 60)))
    right, _ = np.linalg.qr(rng.standard_normal((60, 60)))
    values = 10.0 / np.arange(1, 61)
    matrix = (left * values) @ right.T
    got = initialization._truncated_svd(matrix.astype(np.float32), 8, rng)
    expected = left[:, :8] * np.sqrt(values[:8])
    np.testing.assert_allclose(got @ got.T, expected @ expected.T, atol=1e-3)


@pytest.fixture
def topical_features(tokenizer):
    """Segments of one topic each: tokens 5 to 8, or 9 to 12; 13 and 14 never occur."""
    rng = np.random.default_rng(0)
    rows = [[2, *(4 * (i % 2) + rng.integers(5, 9, 20)).tolist(), 3] for i in range(100)]
    return Dataset.from_dict({"input_ids": rows, "token_type_ids": [[0] * 22] * 100})


def test_tokens_of_one_topic_lie_near_each_other(topical_features, tokenizer):
    table = cooccurrence_embeddings(topical_features, tokenizer, len(tokenizer), 16)
    assert (table.shape, table.dtype) == ((15, 16), np.float32)
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    cosine = unit @ unit.T
    assert cosine[5:9, 5:9].min() > 0.5
    assert cosine[5:9, 9:13].max() < -0.5
    np.testing.assert_allclose(np.linalg.norm(table[5:13], axis=1), 0.02 * 4, rtol=1e-5)
    assert table[[0, 1, 2, 3, 4, 13, 14]].std() == pytest.approx(0.02, rel=0.3)


def test_the_segments_of_a_pair_are_kept_apart(tokenizer):
    """A of one topic and B of the other, always: side by side, but not together."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(5, 9, (100, 10)), rng.integers(9, 13, (100, 10))
    rows = [[2, *a, 3, *b, 3] for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    features = Dataset.from_dict({"input_ids": rows, "token_type_ids": [[0] * 12 + [1] * 11] * 100})
    table = cooccurrence_embeddings(features, tokenizer, len(tokenizer), 16)
    assert (table[5:9] @ table[9:13].T).max() < 0


def test_a_large_corpus_is_sampled_and_the_seed_decides(topical_features, tokenizer, monkeypatch):
    monkeypatch.setattr(initialization, "_TOKENS", 500)
    first, again, other = (
        cooccurrence_embeddings(topical_features, tokenizer, len(tokenizer), 16, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_an_empty_window_gives_random_weights(tokenizer):
    """Examples of one ordinary token have nothing beside it."""
    features = Dataset.from_dict({"input_ids": [[2, 5, 3]] * 10, "token_type_ids": [[0, 0, 0]] * 10})
    table = cooccurrence_embeddings(features, tokenizer, len(tokenizer), 16)
    assert np.isfinite(table).all()
    assert table.std() == pytest.approx(0.02, rel=0.3)


@pytest.mark.parametrize("cls", [kp.BertPretrainer, kp.ElectraPretrainer])
def test_a_vocabulary_may_have_rows_beyond_the_tokenizer(sentences, tokenizer, cls):
    features = kp.build_features(sentences, tokenizer, block_size=32)
    plain, rounded = (
        cls.from_size("tiny", tokenizer, features=features, vocab_size=size) for size in (len(tokenizer), 64)
    )
    networks = [model.bert if cls is kp.BertPretrainer else model.generator.electra for model in (plain, rounded)]
    tables = [network.embeddings.weight.numpy() for network in networks]
    assert tables[1].shape == (64, tables[0].shape[1])
    assert tables[1][len(tokenizer) :].std() == pytest.approx(0.02, rel=0.1)
    few, many = (token_log_frequencies(features, tokenizer, size) for size in (len(tokenizer), 64))
    assert np.exp(many).sum() == pytest.approx(1.0, rel=1e-5)
    np.testing.assert_allclose(many[: len(few)] - many[0], few - few[0], atol=1e-5)
    np.testing.assert_allclose(many[len(few) :], many[tokenizer.pad_token_id], atol=1e-6)
    with pytest.raises(ValueError, match=rf"vocab_size .*\b9\b.*\b{len(tokenizer)} tokens.*leave vocab_size out"):
        cls.from_size("tiny", tokenizer, vocab_size=9)


def test_from_size_starts_from_both(sentences, tokenizer):
    features = kp.build_features(sentences, tokenizer, block_size=32)
    model = kp.BertPretrainer.from_size("tiny", tokenizer, features=features, seed=3)
    table = cooccurrence_embeddings(features, tokenizer, len(tokenizer), 128, seed=3)
    np.testing.assert_array_equal(model.bert.embeddings.weight, table)


@pytest.mark.parametrize("kind", [kp.BertPretrainer, kp.ElectraPretrainer])
def test_new_weights_follow_from_the_seed_alone(tokenizer, kind):
    def draw(global_seed, **settings):
        tf.keras.utils.set_random_seed(global_seed)
        size = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
        model = kind.from_size("tiny", tokenizer, **size, **settings)
        return np.concatenate([weight.numpy().ravel() for weight in model.weights]), tf.random.uniform(()).numpy()

    first, after = draw(1, seed=5)
    again, _ = draw(2, seed=5)
    other, after_other = draw(1, seed=6)
    np.testing.assert_array_equal(first, again)
    assert np.mean(first != other) > 0.5
    assert after == after_other  # the global generator is not touched


def attention_of(network, tokens):
    """For each layer (heads, tokens, tokens): the attention of the stock network to random tokens."""
    ids = np.random.default_rng(0).integers(5, network.config.vocab_size, (1, tokens))
    return [each.numpy()[0] for each in network({"input_ids": ids}, output_attentions=True).attentions]


def test_heads_of_the_first_two_layers_attend_to_neighbours(tokenizer):
    bert = kp.BertPretrainer.from_size("mini", tokenizer, vocab_size=512, num_hidden_layers=3)
    electra = kp.ElectraPretrainer.from_size("small", tokenizer, vocab_size=512, num_hidden_layers=3)
    inside = np.arange(2, 98)
    for network in (bert.bert, electra.discriminator.electra):
        *first, last = attention_of(network, 100)
        for attention in first:
            for weights, offset in zip(attention, (-1, 1, -2, 2), strict=True):
                assert np.mean(weights[inside].argmax(axis=-1) == inside + offset) > 0.9
                assert 0.15 < weights[inside, inside + offset].mean() < 0.7
        assert last.max() < 0.05
    for (weights,) in attention_of(electra.generator.electra, 100)[:2]:  # a single head attends to both
        for offset in (-1, 1):
            assert np.diagonal(weights, offset).mean() > 0.05


def test_position_embeddings_are_sinusoids_as_long_as_words(tokenizer):
    model = kp.BertPretrainer.from_size("mini", tokenizer, vocab_size=512, num_hidden_layers=2)
    positions, words = (getattr(model.bert.embeddings, name).numpy() for name in ("position_embeddings", "weight"))
    length = 0.02 * np.sqrt(256)
    np.testing.assert_allclose(np.linalg.norm(positions, axis=1), length, rtol=1e-5)
    assert np.linalg.norm(words, axis=1).mean() == pytest.approx(length, rel=0.15)  # truncated at two deviations
    similarity = positions @ positions.T / length**2
    frequencies = 2.4 * (np.arange(1, 33) / 32) ** 1.5
    for distance in (1, 2, 10, 300):  # depends on the distance alone
        expected = np.cos(frequencies * distance).mean()
        np.testing.assert_allclose(np.diagonal(similarity, distance), expected, atol=1e-4)
    far = similarity - np.triu(np.tril(similarity, 4), -4)
    assert far.max() < 0.35


@pytest.mark.parametrize("cls", [kp.BertPretrainer, kp.ElectraPretrainer])
@pytest.mark.parametrize(("hidden", "heads"), [(6, 3), (64, 16), (32, 1)])
def test_narrow_heads_have_fewer_frequencies(tokenizer, cls, hidden, heads):
    model = cls.from_size("tiny", tokenizer, hidden_size=hidden, num_attention_heads=heads, num_hidden_layers=1)
    assert all(np.isfinite(weight.numpy()).all() for weight in model.weights)
