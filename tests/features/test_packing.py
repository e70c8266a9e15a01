"""Rows of several examples: nothing is lost, little is padding, and everything follows from the seed."""

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_pretrain as kp
from keras_pretrain.features.batching import Batches
from keras_pretrain.features.masking import IGNORED
from keras_pretrain.features.packing import pack, plan_rows, unpack


def fewest_rows(lengths, block_size):
    """A bound that no packing can be better than: Martello and Toth's L2."""
    best = -(-lengths.sum() // block_size)
    for small in range(block_size // 2 + 1):
        alone, half = lengths > block_size - small, (lengths <= block_size - small) & (lengths > block_size / 2)
        rest = lengths[(lengths >= small) & (lengths <= block_size / 2)].sum()
        room = block_size * half.sum() - lengths[half].sum()
        best = max(best, alone.sum() + half.sum() + max(0, -(-(rest - room) // block_size)))
    return best


@given(st.lists(st.integers(1, 32), min_size=1, max_size=300), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_every_example_has_a_place_and_no_row_is_too_long(lengths, seed):
    lengths = np.array(lengths)
    packing = pack(lengths, 32, mask_prob=0.15, seed=seed)
    members, counts = packing.of_rows(np.arange(len(packing)))
    np.testing.assert_array_equal(np.sort(members), np.arange(len(lengths)))
    rows = np.add.reduceat(lengths[members], np.cumsum(counts) - counts)
    assert rows.max() <= 32
    assert counts.max() == packing.most_examples
    few, _ = packing.of_rows(np.array([len(packing) - 1, 0]))
    np.testing.assert_array_equal(few[: counts[-1]], members[len(members) - counts[-1] :])


@pytest.mark.parametrize("draw", ["uniform", "short", "long", "one"])
def test_padding_is_within_a_point_of_the_best_possible(draw):
    rng = np.random.default_rng(0)
    lengths = {
        "uniform": rng.integers(3, 129, 20_000),
        "short": np.clip(rng.geometric(1 / 12, 20_000) + 3, 3, 128),
        "long": 128 - np.clip(rng.geometric(1 / 10, 20_000), 0, 100),
        "one": np.full(500, 14),
    }[draw]
    rows = len(pack(lengths, 128, mask_prob=0.15, seed=1))
    best = fewest_rows(lengths, 128)
    tokens = lengths.sum()
    if draw == "one":
        assert rows == -(-500 // 9)  # a row has room for nine
        assert 1 - tokens / (rows * 128) < 0.03
    else:
        assert (1 - tokens / (rows * 128)) - (1 - tokens / (best * 128)) < 0.01


def test_the_same_seed_gives_the_same_rows_and_another_others():
    lengths = np.random.default_rng(0).integers(3, 40, 1000)
    first, again, other = (pack(lengths, 64, mask_prob=0.15, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.members, again.members)
    assert len(first) == len(other)
    assert (first.members != other.members).mean() > 0.9


def test_a_plan_of_equal_lengths_fills_rows():
    assert sorted(plan_rows(np.bincount([5] * 7, minlength=17), 16)) == [((5,), 1), ((5, 5, 5), 2)]


@pytest.fixture(scope="module")
def features(sentences, tokenizer):
    """Pairs of many lengths."""
    return kp.build_features(sentences, tokenizer, block_size=32, short_seq_prob=0.7)


def make(features, tokenizer, **arguments):
    masking = {"mask_prob": 0.15, "glue_prob": 0.0}
    arguments = {"masking": masking, "seed": 3, "training": False, "packed": True} | arguments
    return Batches(features, tokenizer, 8, **arguments)


def as_examples(batches):
    """Ids as they were before masking, of all of the batches' examples, and NSP labels."""
    found = []
    for step in range(len(batches)):
        inputs, labels = batches.batch(step)
        inputs, labels = unpack(inputs, labels)
        ids = np.where(labels["labels"] == IGNORED, inputs["input_ids"], labels["labels"])
        for row in range(len(ids)):
            length = inputs["attention_mask"][row].sum()
            types = inputs["token_type_ids"][row, :length]
            found.append((ids[row, :length].tolist(), types.tolist(), int(labels["next_sentence_label"][row])))
    return sorted(found)


def test_the_rows_hold_the_examples(features, tokenizer):
    expected = sorted(zip(*(features[name][:] for name in features.column_names), strict=True))
    assert features.column_names == ["input_ids", "token_type_ids", "next_sentence_label"]
    assert as_examples(make(features, tokenizer)) == [(list(ids), list(types), label) for ids, types, label in expected]


def test_each_example_has_its_own_positions_and_number(features, tokenizer):
    inputs, labels = make(features, tokenizer).batch(0)
    assert {name: values.dtype.name for name, values in inputs.items()} == dict.fromkeys(inputs, "int32")
    for row in range(8):
        numbers = inputs["example_ids"][row]
        for number in range(1, numbers.max() + 1):
            columns = np.flatnonzero(numbers == number)
            np.testing.assert_array_equal(np.diff(columns), 1)
            np.testing.assert_array_equal(inputs["position_ids"][row, columns], np.arange(len(columns)))
            assert inputs["packed_ids"][row, columns[0]] == tokenizer.cls_token_id
        assert not inputs["packed_ids"][row, numbers == 0].any()
        places = inputs["masked_positions"][row]
        np.testing.assert_array_equal(places >= 0, labels["labels"][row] != IGNORED)
        assert (np.diff(places[places >= 0]) > 0).all()


def test_as_many_tokens_of_each_example_are_masked_as_without_packing(features, tokenizer):
    batches = make(features, tokenizer)
    masks = 0
    for step in range(len(batches)):
        inputs, labels = unpack(*batches.batch(step))
        for row in range(len(inputs["input_ids"])):
            is_label = labels["labels"][row] != IGNORED
            ids = np.where(is_label, labels["labels"][row], inputs["input_ids"][row])
            ordinary = (~np.isin(ids, tokenizer.all_special_ids)) & (inputs["attention_mask"][row] > 0)
            assert is_label.sum() == max(1, np.rint(0.15 * ordinary.sum()))
            assert not (is_label & ~ordinary).any()
            masks += is_label.sum()
    assert masks > 100


def test_no_label_is_lost_in_rows_of_the_shortest_examples(tokenizer):
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    rows = {"input_ids": [[cls, 5 + i % 10, sep] for i in range(100)], "token_type_ids": [[0, 0, 0]] * 100}
    batches = make(Dataset.from_dict(rows), tokenizer, block_size=32, objective="mlm")
    inputs, labels = batches.batch(0)
    assert inputs["example_ids"].max() == 10
    assert (labels["labels"] != IGNORED).sum() == 10 * 8
    assert batches.padding == pytest.approx(1 - 300 / (10 * 32))


def test_masks_are_spread_evenly_and_hidden_as_bert_does(tokenizer):
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    rng = np.random.default_rng(0)
    ids = [[cls, *rng.integers(5, 15, 20), sep] for _ in range(3999)]
    rows = Dataset.from_dict({"input_ids": ids, "token_type_ids": [[0] * 22] * 3999})
    batches = make(rows, tokenizer, block_size=66, objective="mlm", training=True)
    at, masked, kept, total = np.zeros(22), 0, 0, 0
    for step in range(100):
        inputs, labels = unpack(*batches.batch(step))
        is_label = labels["labels"] != IGNORED
        at += is_label[:, :22].sum(axis=0)
        masked += (inputs["input_ids"][is_label] == tokenizer.mask_token_id).sum()
        kept += (inputs["input_ids"] == labels["labels"])[is_label].sum()
        total += is_label.sum()
    assert total == 3 * 24 * 100
    np.testing.assert_allclose(at[1:21], total / 20, rtol=6 / np.sqrt(total / 20))
    assert at[0] == at[21] == 0
    assert masked / total == pytest.approx(0.8, abs=0.02)
    assert kept / total == pytest.approx(0.1 + 0.1 / 10, abs=0.015)  # drawn at random from ten tokens, too


def test_order_and_masks_are_a_function_of_seed_and_step(features, tokenizer):
    first, again, other = (make(features, tokenizer, training=True, seed=seed) for seed in (3, 3, 4))
    for step in (0, len(first), 7 * len(first) + 1):
        for got, expected in zip(first.batch(step), again.batch(step), strict=True):
            for name in expected:
                np.testing.assert_array_equal(got[name], expected[name])
    assert not np.array_equal(first.batch(0)[0]["packed_ids"], first.batch(len(first))[0]["packed_ids"])
    assert not np.array_equal(first.batch(0)[0]["packed_ids"], other.batch(0)[0]["packed_ids"])


def test_the_dataset_says_its_shapes_and_a_stock_model_refuses_it(features, tokenizer):
    dataset = kp.to_tf_dataset(features, tokenizer, batch_size=8, packed=True)
    inputs, labels = dataset.element_spec
    assert inputs["packed_ids"].shape == (8, 32)
    assert inputs["masked_positions"].shape == labels["labels"].shape
    assert labels["next_sentence_label"].shape[1] == dataset.keras_pretrain_batches.packing.most_examples
    from transformers import BertConfig, TFBertForPreTraining

    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    stock = TFBertForPreTraining(BertConfig(vocab_size=len(tokenizer), **size))
    stock.compile("adam")
    with pytest.raises(TypeError, match="packed_ids"):
        stock.fit(dataset, steps_per_epoch=1, verbose=0)


def test_too_few_rows_are_refused_before_training(tokenizer):
    rows = Dataset.from_dict({"input_ids": [[2, 5, 3]] * 100, "token_type_ids": [[0, 0, 0]] * 100})
    with pytest.raises(ValueError, match=r"10 packed rows.*batch_size"):
        kp.to_tf_dataset(rows, tokenizer, batch_size=11, packed=True, objective="mlm", block_size=32)
