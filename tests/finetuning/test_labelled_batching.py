import copy
import random

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertTokenizer, TFBertForSequenceClassification

import keras_pretrain as kp
from keras_pretrain.finetuning.batching import EncodedExamples, encode_examples, pad, plan_batches, to_tf_dataset
from keras_pretrain.finetuning.prediction import Predictor
from keras_pretrain.models.classifier import BertClassifier

KINDS = BertClassifier, TFBertForSequenceClassification
CONFIG = BertConfig(id2label={0: "b", 1: "a"}, label2id={"b": 0, "a": 1})


def encode(tokenizer, counts, **columns):
    texts = [" ".join(["가", "나"] * 100).split()[:count] for count in counts]
    labels = ["a" if count % 2 else "b" for count in counts]
    examples = Dataset.from_dict({"text": [" ".join(text) for text in texts], "label": labels, **columns})
    return encode_examples(examples, tokenizer, CONFIG)


def test_texts_and_pairs_are_encoded_as_bert_wants_them(tokenizer):
    examples = Dataset.from_dict({"text": ["가 나"], "pair": ["다"], "label": ["a"]})
    encoded = encode_examples(examples, tokenizer, CONFIG)
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    ids = tokenizer.convert_tokens_to_ids
    assert encoded.input_ids[0].tolist() == [cls, ids("가"), ids("나"), sep, ids("다"), sep]
    assert encoded.token_type_ids[0].tolist() == [0, 0, 0, 0, 1, 1]
    assert encoded.labels.tolist() == [1]


def test_the_longer_side_is_cut_first(tokenizer):
    examples = Dataset.from_dict({"text": ["가 " * 20], "pair": ["나 다"], "label": ["a"]})
    encoded = encode_examples(examples, tokenizer, CONFIG, max_length=10)
    assert len(encoded.input_ids[0]) == 10
    assert encoded.token_type_ids[0].tolist() == [0] * 7 + [1] * 3


def random_texts(rng, count):
    letters = "가나다라마바사  .,!?'aZ1é中\t\n"
    return ["".join(rng.choice(letters) for _ in range(rng.randrange(40))) for _ in range(count)]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("max_length", [3, 4, 5, 8, 9, 17, 33, 128])
def test_ids_and_types_are_those_of_the_tokenizer(tokenizer, tmp_path, max_length, side):
    rng = random.Random(max_length)
    texts, pairs = (["", "가", *random_texts(rng, 200)] for _ in range(2))
    (tmp_path / "vocab.txt").write_text("\n".join(tokenizer.convert_ids_to_tokens(range(15))), encoding="utf-8")
    slow = BertTokenizer(str(tmp_path / "vocab.txt"), do_lower_case=False)
    for each in (copy.deepcopy(tokenizer), slow):  # the side stays in what a fast tokenizer saves
        each.truncation_side = side
        for columns in (texts,), (texts, pairs):
            expected = each(*columns, truncation="longest_first", max_length=max_length)
            examples = Dataset.from_dict(dict(zip(("text", "pair"), columns, strict=False)))
            encoded = encode_examples(examples, each, max_length=max_length)
            assert [row.tolist() for row in encoded.input_ids] == expected["input_ids"]
            assert [row.tolist() for row in encoded.token_type_ids] == expected["token_type_ids"]


def test_a_label_the_model_does_not_have_is_refused(tokenizer):
    with pytest.raises(ValueError, match=r"label 'c'.* b, a\b"):
        encode_examples(Dataset.from_dict({"text": ["가"], "label": ["c"]}), tokenizer, CONFIG)


LENGTHS = st.lists(st.integers(3, 40), min_size=1, max_size=200).map(np.array)


@given(LENGTHS, st.integers(1, 40), st.sampled_from([1, 2, 4]), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_every_example_has_a_place_in_batches_of_equal_size(lengths, batch_size, multiple, seed):
    plan = plan_batches(lengths, batch_size, multiple)
    assert plan.batch_count == -(-len(lengths) // batch_size)
    assert plan.row_length % 8 == plan.rows % multiple == 0
    drawn = plan.draw(np.random.default_rng(seed))
    assert drawn.shape == (plan.batch_count, plan.rows, plan.most_examples)
    np.testing.assert_array_equal(np.sort(drawn[drawn >= 0]), np.arange(len(lengths)))
    counts = (drawn >= 0).sum(axis=(1, 2))
    assert counts.max() <= batch_size
    assert counts.max() - counts.min() <= 1
    assert np.where(drawn >= 0, lengths[drawn], 0).sum(axis=2).max() <= plan.row_length
    assert (np.diff((drawn >= 0).astype(int), axis=2) <= 0).all()  # the examples of a row stand first


def test_little_is_padding():
    rng = np.random.default_rng(0)
    for lengths in (np.clip(3 + rng.gamma(2, 8, 20_000), 3, 128).astype(int), rng.integers(60, 129, 20_000)):
        assert plan_batches(lengths, 32).padding < 0.08


def test_few_examples_of_unlike_lengths_meet_others_in_each_epoch():
    lengths = np.clip(np.random.default_rng(0).lognormal(4, 0.8, 200), 5, 512).astype(int)
    plan, rng = plan_batches(lengths, 32), np.random.default_rng(1)

    def together() -> np.ndarray:
        batch_of = np.empty(200, int)
        for number, batch in enumerate(plan.draw(rng)):
            batch_of[batch[batch >= 0]] = number
        return batch_of[:, np.newaxis] == batch_of

    first, second = (together() & ~np.eye(200, dtype=bool) for _ in range(2))
    assert (first & second).sum() / first.sum() < 0.3  # by chance 0.14


def test_which_examples_share_a_batch_is_drawn():
    lengths = np.full(64, 10)
    plan, rng = plan_batches(lengths, 8), np.random.default_rng(0)
    with_the_first = np.zeros(64)
    for _ in range(2000):
        batches = plan.draw(rng).reshape(8, -1)
        batches = np.array([batch[batch >= 0] for batch in batches])
        with_the_first[batches[(batches == 0).any(axis=1)]] += 1
    assert with_the_first[0] == 2000
    expected, spread = 2000 * 7 / 63, np.sqrt(2000 * 7 / 63 * 56 / 63)
    assert np.abs(with_the_first[1:] - expected).max() < 4 * spread
    assert np.std(with_the_first[1:]) == pytest.approx(spread, rel=0.3)


@pytest.mark.parametrize("packed", [False, True])
def test_batches_follow_the_seed_and_differ_by_epoch(tokenizer, packed):
    encoded = encode(tokenizer, list(range(3, 43)))

    def epochs(seed):
        dataset = to_tf_dataset(encoded, tokenizer, batch_size=8, packed=packed, seed=seed)
        return [[row for batch in dataset for row in lengths_and_labels(*batch)] for _ in range(2)]

    first, again, other = epochs(1), epochs(1), epochs(2)
    assert first == again
    assert first != other
    assert first[0] != first[1]
    assert sorted(first[0]) == sorted(first[1]) == sorted(other[0])
    assert sorted(first[0]) == sorted(zip(encoded.lengths.tolist(), encoded.labels.tolist(), strict=True))


def lengths_and_labels(inputs, labels):
    if "packed_ids" not in inputs:
        return zip(inputs["attention_mask"].numpy().sum(axis=1).tolist(), labels.numpy().tolist(), strict=True)
    rows, places = np.nonzero(inputs["first_positions"].numpy() >= 0)
    numbers = inputs["example_ids"].numpy()
    lengths = [int((numbers[row] == place + 1).sum()) for row, place in zip(rows, places, strict=True)]
    return list(zip(lengths, labels.numpy()[rows, places].tolist(), strict=True))


@pytest.mark.parametrize("packed", [False, True])
def test_a_share_of_the_ordinary_tokens_is_masked(tokenizer, packed):
    encoded = encode(tokenizer, [60] * 400)
    name = "packed_ids" if packed else "input_ids"

    def epochs(rate, seed=1):
        dataset = to_tf_dataset(encoded, tokenizer, batch_size=40, packed=packed, token_dropout=rate, seed=seed)
        return [np.concatenate([inputs[name].numpy() for inputs, _ in dataset]) for _ in range(2)]

    plain, dropped, again, other = epochs(0.0), epochs(0.2), epochs(0.2), epochs(0.2, seed=2)
    np.testing.assert_array_equal(dropped, again)
    is_ordinary = ~np.isin(plain[0], tokenizer.all_special_ids)
    assert is_ordinary.sum() == 400 * 60
    for before, after in zip(plain, dropped, strict=True):  # the seed draws the same batches with and without
        is_masked = after == tokenizer.mask_token_id
        np.testing.assert_array_equal(after[~is_masked], before[~is_masked])
        assert not is_masked[~is_ordinary].any()
        assert is_masked.sum() == pytest.approx(0.2 * 24_000, abs=4 * np.sqrt(0.16 * 24_000))
    first, second = (each == tokenizer.mask_token_id for each in dropped)
    for masked in (second, other[0] == tokenizer.mask_token_id):  # drawn anew
        assert (first & masked).sum() == pytest.approx(0.04 * 24_000, abs=4 * np.sqrt(0.04 * 24_000))


def test_token_dropout_needs_a_mask_token(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.mask_token = None
    encoded = encode(tokenizer, [3] * 8)
    with pytest.raises(ValueError, match=r"token_dropout .*mask token.*token_dropout at 0"):
        to_tf_dataset(encoded, tokenizer, batch_size=8, token_dropout=0.1)
    assert len(to_tf_dataset(encoded, tokenizer, batch_size=8)) == 1


def test_weights_are_those_of_the_classes(tokenizer):
    encoded = encode(tokenizer, list(range(3, 19)))
    how = {"batch_size": 8, "class_weight": {0: 0.5, 1: 2.0}}
    for packed in (False, True):
        inputs, labels, weights = next(iter(to_tf_dataset(encoded, tokenizer, packed=packed, **how)))
        there = inputs["first_positions"] >= 0 if packed else np.full(8, True)
        np.testing.assert_array_equal(weights[there], np.where(labels[there] == 0, 0.5, 2.0))
        assert int(np.sum(there)) == 8


@pytest.mark.parametrize(
    ("counts", "how", "message"),
    [
        ([], {"packed": True}, "no examples"),
        ([], {"packed": False}, "no examples"),
        ([2], {"batch_size": 0}, "batch_size .*at least 1, not 0"),
        ([2], {"packed": True, "multiple": 0}, "multiple .*at least 1, not 0"),
        ([2], {"packed": True, "token_dropout": 1.0}, "token_dropout .*below 1, not 1.0"),
        ([2], {"batch_size": 1, "token_dropout": -0.1}, "token_dropout .*at least 0.*not -0.1"),
    ],
)
def test_batches_that_cannot_be_made_are_refused(tokenizer, counts, how, message):
    encoded = encode(tokenizer, [2])
    columns = encoded.input_ids, encoded.token_type_ids, encoded.labels
    encoded = EncodedExamples(*(each[: len(counts)] for each in columns))
    with pytest.raises(ValueError, match=message):
        to_tf_dataset(encoded, tokenizer, **how)


def test_a_class_without_a_weight_and_weights_in_fit_are_refused(tokenizer):
    encoded = encode(tokenizer, [2, 5, 6, 7])
    with pytest.raises(ValueError, match=r"class_weight .*\bclass 1\b"):
        to_tf_dataset(encoded, tokenizer, batch_size=2, packed=True, class_weight={0: 1.0})
    model = BertClassifier(BertConfig(vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2))
    model.compile("sgd", jit_compile=False)
    with pytest.raises(ValueError, match=r"class_weight to finetuning\.to_tf_dataset"):
        model.fit(to_tf_dataset(encoded, tokenizer, batch_size=4, packed=True), class_weight={0: 1.0, 1: 2.0})


def test_a_stock_model_refuses_packed_batches(tokenizer):
    dataset = to_tf_dataset(encode(tokenizer, [2, 5]), tokenizer, batch_size=2, packed=True)
    widths = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = TFBertForSequenceClassification(BertConfig(vocab_size=20, **widths))
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises((TypeError, ValueError), match="packed_ids"):
        model.fit(dataset, verbose=0)


def test_rows_are_padded_with_nothing_to_attend_to(tokenizer):
    encoded = encode(tokenizer, [2, 5])
    inputs = pad(encoded, np.array([0, 1]), tokenizer, 8, rows=3)
    assert inputs["attention_mask"].sum(axis=1).tolist() == [4, 7, 0]
    assert inputs["input_ids"][0].tolist()[4:] == [tokenizer.pad_token_id] * 4
    assert inputs["input_ids"].dtype == np.int32


def test_fewer_examples_than_a_batch_are_refused(tokenizer):
    with pytest.raises(ValueError, match=r"\b2 examples.*batch of 8\b.*smaller batch_size"):
        kp.finetuning.to_tf_dataset(encode(tokenizer, [2, 5]), tokenizer, batch_size=8)


def test_packed_predictions_are_those_of_the_stock_model(tokenizer):
    widths = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    ours, stock = (kind(BertConfig(vocab_size=20, num_labels=3, **widths)) for kind in KINDS)
    for model in (ours, stock):
        model.build_in_name_scope()
    rng = np.random.default_rng(0)
    ours.set_weights([rng.normal(0, 0.3, weight.shape) for weight in ours.get_weights()])
    stock.set_weights(ours.get_weights())
    encoded = encode(tokenizer, [*range(1, 41), 2, 7])
    packed, alone = (Predictor(model, tokenizer, batch_size=8).logits(encoded) for model in (ours, stock))
    assert np.ptp(alone, axis=0).min() > 0.01
    np.testing.assert_allclose(packed, alone, atol=1e-5)
