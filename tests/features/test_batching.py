"""Batches: shapes that never change, every example counted, epochs that differ and can be had again."""

import numpy as np
import pytest
from datasets import Dataset, concatenate_datasets

import keras_pretrain as kp
from keras_pretrain.features.batching import Batches, Position, batches_behind, dataset_of_part
from keras_pretrain.features.masking import IGNORED

MASKING = {"mask_prob": 0.15, "glue_prob": 0.0}


@pytest.fixture(scope="module")
def features(sentences, tokenizer):
    return kp.build_features(sentences, tokenizer, block_size=32)


MASKING = {"mask_prob": 0.15, "glue_prob": 0.0}


def collect(dataset):
    return [({k: v.numpy() for k, v in x.items()}, {k: v.numpy() for k, v in y.items()}) for x, y in dataset]


def originals(batches):
    """The unmasked rows of batches, without padding, as tuples."""
    rows = []
    for inputs, labels in batches:
        ids = np.where(labels["labels"] == IGNORED, inputs["input_ids"], labels["labels"])
        rows += [tuple(row[mask == 1]) for row, mask in zip(ids, inputs["attention_mask"], strict=True) if mask.any()]
    return rows


def test_shapes_and_dtypes_are_static(features, tokenizer):
    dataset = kp.to_tf_dataset(features, tokenizer, batch_size=7)
    inputs, labels = dataset.element_spec
    assert {name: tuple(spec.shape) for name, spec in inputs.items()} == {
        "input_ids": (7, 32), "token_type_ids": (7, 32), "attention_mask": (7, 32),
    }  # fmt: skip
    assert {name: tuple(spec.shape) for name, spec in labels.items()} == {
        "labels": (7, 32),
        "next_sentence_label": (7,),
    }
    assert {spec.dtype.name for part in (inputs, labels) for spec in part.values()} == {"int32"}
    assert int(dataset.cardinality()) == len(features) // 7 == len(collect(dataset))


def test_without_nsp_there_is_no_nsp_label(sentences, tokenizer):
    features = kp.build_features(sentences, tokenizer, objective="mlm", block_size=16)
    _, labels = kp.to_tf_dataset(features, tokenizer, batch_size=4).element_spec
    assert set(labels) == {"labels"}


def test_for_electra_there_are_inputs_alone_and_not_masked(sentences, tokenizer):
    features = kp.build_features(sentences, tokenizer, objective="rtd", block_size=16)
    rows = []
    for inputs in kp.to_tf_dataset(features, tokenizer, batch_size=4, training=False):
        assert set(inputs) == {"input_ids", "token_type_ids", "attention_mask"}
        ids, mask = inputs["input_ids"].numpy(), inputs["attention_mask"].numpy()
        rows += [row[real == 1].tolist() for row, real in zip(ids, mask, strict=True) if real.any()]
    assert rows == features["input_ids"]


def test_rows_are_the_examples_padded(features, tokenizer):
    batches = collect(kp.to_tf_dataset(features, tokenizer, batch_size=8, training=False))
    assert originals(batches) == [tuple(ids) for ids in features["input_ids"]]
    for (inputs, _), start in zip(batches, range(0, len(features), 8), strict=True):
        for row, example in enumerate(features.select(range(start, min(start + 8, len(features))))):
            types = inputs["token_type_ids"][row]
            assert types[: len(example["token_type_ids"])].tolist() == example["token_type_ids"]
            assert not types[len(example["token_type_ids"]) :].any()
            assert (inputs["input_ids"][row][inputs["attention_mask"][row] == 0] == tokenizer.pad_token_id).all()


def test_validation_keeps_its_last_batch_filled_up_with_rows_that_do_not_count(features, tokenizer):
    size = 64
    assert len(features) % size
    batches = collect(kp.to_tf_dataset(features, tokenizer, batch_size=size, training=False))
    inputs, labels = batches[-1]
    real = len(features) % size
    assert inputs["input_ids"].shape == (size, 32)
    assert not inputs["attention_mask"][real:].any()
    assert (labels["labels"][real:] == IGNORED).all()
    assert (labels["next_sentence_label"][real:] == IGNORED).all()
    np.testing.assert_array_equal(labels["next_sentence_label"][:real], features["next_sentence_label"][-real:])


def test_validation_is_the_same_each_time(features, tokenizer):
    dataset = kp.to_tf_dataset(features, tokenizer, batch_size=16, training=False)
    for (x1, y1), (x2, y2) in zip(collect(dataset), collect(dataset), strict=True):
        np.testing.assert_array_equal(x1["input_ids"], x2["input_ids"])
        np.testing.assert_array_equal(y1["labels"], y2["labels"])


def test_training_epochs_differ_in_order_and_masks_and_hold_the_same_examples(features, tokenizer):
    features = features.select(range(len(features) // 8 * 8))
    dataset = kp.to_tf_dataset(features, tokenizer, batch_size=8)
    first, second = collect(dataset), collect(dataset)
    assert originals(first) != originals(second)
    assert sorted(originals(first)) == sorted(originals(second)) == sorted(map(tuple, features["input_ids"]))
    masks = [{(row, tuple(m)) for x, y in part for row, m in zip(originals([(x, y)]), y["labels"], strict=True)}
             for part in (first, second)]  # fmt: skip
    assert len(masks[0] & masks[1]) < 0.5 * len(masks[0])


def test_the_same_seed_gives_the_same_epochs(features, tokenizer):
    def two_epochs(seed):
        dataset = kp.to_tf_dataset(features, tokenizer, batch_size=8, seed=seed)
        return np.concatenate([inputs["input_ids"] for _ in range(2) for inputs, _ in collect(dataset)])

    np.testing.assert_array_equal(two_epochs(0), two_epochs(0))
    assert (two_epochs(0) != two_epochs(1)).any()


@pytest.fixture
def batches(features, tokenizer, monkeypatch):
    monkeypatch.setattr("keras_pretrain.features.batching._ROWS_AT_ONCE", 24)
    return Batches(features, tokenizer, 8, MASKING, 3, True)


def passes(batches, count, position=None):
    """Single steps of several passes, as rows of ids and labels."""
    steps = [group for _ in range(count) for group in batches.next_pass(position=position)]
    return [
        np.stack([inputs["input_ids"][i], labels["labels"][i]])
        for inputs, labels in steps
        for i in range(len(inputs["input_ids"]))
    ]


def assert_steps(got, expected):
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_batch_is_computed_from_its_number_alone(batches, features, tokenizer):
    assert 1 < batches.steps_at_once < len(batches)
    whole = passes(batches, 3)
    assert len(whole) == 3 * len(batches)
    fresh = Batches(features, tokenizer, 8, MASKING, 3, True)
    for step in (2 * len(batches) + 5, 0, 3 * len(batches) - 1):
        inputs, labels = fresh.batch(step)
        np.testing.assert_array_equal(np.stack([inputs["input_ids"], labels["labels"]]), whole[step])


@pytest.mark.parametrize("step", [0, 1, 33, 40])
def test_from_a_position_the_stream_goes_on(batches, step):
    length = len(batches)
    whole = passes(batches, 3 + 40 // length)
    next_step = batches.next_step
    position = Position(step, is_repeated=True)
    assert_steps(passes(batches, 2, position), whole[step : step + 2 * length])
    assert position.step == step + 2 * length
    # Not repeated: what is left of the epoch, then whole epochs.
    position = Position(step, is_repeated=False)
    left = length - step % length
    first = passes(batches, 1, position)
    assert len(first) == length
    assert_steps(first[:left], whole[step : step + left])
    assert_steps(passes(batches, 1, position), whole[step + left : step + left + length])
    assert batches.next_step == next_step


def test_a_look_at_the_batches_within_an_epoch_is_the_next_epoch(batches):
    length = len(batches)
    whole = passes(batches, 3)
    batches.next_step = length + 3  # where a `fit` of repeated data ended
    assert_steps(passes(batches, 1), whole[2 * length :])
    assert batches.next_step == 3 * length


def test_the_batches_behind_a_dataset_are_found_where_their_order_is_kept(features, tokenizer):
    dataset = kp.to_tf_dataset(features, tokenizer, batch_size=8)
    batches, is_repeated = batches_behind(dataset)
    assert (len(batches), is_repeated) == (len(dataset), False)
    assert batches_behind(dataset.repeat().prefetch(2)) == (batches, True)
    assert batches_behind(dataset.take(3)) == batches_behind(dataset.repeat(2)) == (None, False)
    assert batches_behind(dataset.map(lambda x, y: (x, y))) == (None, False)


def test_the_checksum_tells_selections_apart(features, tokenizer):
    def checksum(chosen, objective=None):
        dataset = kp.to_tf_dataset(chosen, tokenizer, batch_size=4, block_size=32, objective=objective)
        return dataset.keras_pretrain_batches.description()["checksum"]

    rows = Dataset.from_dict({"input_ids": [[2, 5, 3], [2, 6, 3]] * 8, "token_type_ids": [[0] * 3] * 16})
    assert checksum(rows.select(range(8)), "mlm") == checksum(rows.select(range(8, 16)), "mlm")
    assert checksum(rows.select(range(8)), "mlm") != checksum(rows.select(range(1, 9)), "mlm")
    assert checksum(features) != checksum(features.select(range(len(features) - 1)))


def test_masks_do_not_depend_on_how_many_steps_are_made_at_once(tokenizer, features):
    """Not for the same seed, but in kind: each row keeps its own share."""
    for batch_size in (1, 8, 300):
        dataset = kp.to_tf_dataset(features, tokenizer, batch_size=batch_size, training=False)
        inputs, labels = next(iter(dataset))
        ids = np.where(labels["labels"] == IGNORED, inputs["input_ids"], labels["labels"])
        ordinary = ~np.isin(ids, tokenizer.all_special_ids)
        expected = np.where(ordinary.any(axis=1), np.maximum(1, np.rint(0.15 * ordinary.sum(axis=1))), 0)
        np.testing.assert_array_equal(np.sum(labels["labels"] != IGNORED, axis=1), expected)


def test_shuffled_selected_and_joined_features_are_read_right(features, tokenizer):
    chosen = concatenate_datasets([features.shuffle(seed=0).select(range(30)), features.select(range(5))])
    batches = collect(kp.to_tf_dataset(chosen, tokenizer, batch_size=10, training=False, block_size=32))
    assert originals(batches) == [tuple(ids) for ids in chosen["input_ids"]]


def test_ready_made_features_are_padded_to_their_longest(tokenizer):
    features = Dataset.from_dict({"input_ids": [[2, 5, 3], [2, 5, 6, 7, 3]], "token_type_ids": [[0] * 3, [0] * 5]})
    inputs, _ = kp.to_tf_dataset(features, tokenizer, batch_size=2, objective="mlm").element_spec
    assert inputs["input_ids"].shape == (2, 5)


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        ({"text": ["가"]}, {}, r"no column input_ids, token_type_ids.*\btext\b.*build_features"),
        ({"input_ids": [], "token_type_ids": []}, {}, "no examples"),
        ({"input_ids": [[2, 3]], "token_type_ids": [[0, 0]]}, {"batch_size": 0}, "batch_size .*at least 1, not 0"),
        ({"input_ids": [[2, 3]], "token_type_ids": [[0, 0]]}, {"batch_size": 2}, r"1 examples.*batch of 2\b"),
        ({"input_ids": [[2, 3]], "token_type_ids": [[0, 0]]}, {"seed": -1}, "seed .*0 or above, not -1"),
        ({"input_ids": [[2, 99, 3]], "token_type_ids": [[0] * 3]}, {}, "id 99, outside .* vocabulary of 15"),
        ({"input_ids": [[2, -1, 3]], "token_type_ids": [[0] * 3]}, {}, "id -1, outside"),
        ({"input_ids": [[2, 3]], "token_type_ids": [[0]]}, {}, "differ in length"),
        ({"input_ids": [[2, 5, 3]], "token_type_ids": [[0] * 3]}, {"block_size": 2}, r"3 tokens.* 2\."),
    ],
)  # fmt: skip
def test_wrong_features_are_refused(tokenizer, columns, settings, message):
    with pytest.raises(ValueError, match=message):
        kp.to_tf_dataset(Dataset.from_dict(columns), tokenizer, **({"batch_size": 1, "objective": "mlm"} | settings))


@pytest.mark.parametrize("batch_size", [12, 60])  # of one group of masks and less, and of several
@pytest.mark.parametrize(("pipelines", "replicas"), [(1, 2), (2, 2), (3, 6)])
def test_the_parts_of_all_replicas_are_the_whole_batch(
    features, tokenizer, monkeypatch, batch_size, pipelines, replicas
):
    monkeypatch.setattr("keras_pretrain.features.batching._ROWS_AT_ONCE", 24)
    whole = collect(kp.to_tf_dataset(features, tokenizer, batch_size=batch_size))
    parts = []
    for pipeline in range(pipelines):
        batches = kp.to_tf_dataset(features, tokenizer, batch_size=batch_size).keras_pretrain_batches
        parts.append(collect(dataset_of_part(batches, False, pipeline, pipelines, replicas)))
    here = replicas // pipelines
    assert {len(part) for part in parts} == {len(whole) * here}
    for step, (inputs, labels) in enumerate(whole):
        of_replicas = [part[step * here + i] for part in parts for i in range(here)]
        for name, values in inputs.items():
            np.testing.assert_array_equal(np.concatenate([each[0][name] for each in of_replicas]), values)
        for name, values in labels.items():
            np.testing.assert_array_equal(np.concatenate([each[1][name] for each in of_replicas]), values)


def test_masks_of_a_large_batch_are_all_different(features, tokenizer, monkeypatch):
    monkeypatch.setattr("keras_pretrain.features.batching._ROWS_AT_ONCE", 8)
    same = features.select([0] * 32)
    _, labels = collect(kp.to_tf_dataset(same, tokenizer, batch_size=32))[0]
    assert len({tuple(row) for row in labels["labels"]}) > 20


def test_a_batch_that_cannot_be_divided_is_refused(features, tokenizer):
    batches = kp.to_tf_dataset(features, tokenizer, batch_size=8).keras_pretrain_batches
    with pytest.raises(ValueError, match=r"batch of 8 .*\b3 replicas.*batch_size"):
        dataset_of_part(batches, True, 0, 1, 3)
