import random

import numpy as np
import pytest
from datasets import Dataset
from transformers import BertConfig, BertTokenizer

import keras_pretrain as kp
from keras_pretrain.finetuning.batching import choose_lengths, encode_examples, pad, plan_batches, to_tf_dataset

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
    for each in (tokenizer, slow):
        for columns in (texts,), (texts, pairs):
            each.truncation_side = side
            try:
                expected = each(*columns, truncation="longest_first", max_length=max_length)
                examples = Dataset.from_dict(dict(zip(("text", "pair"), columns, strict=False)))
                encoded = encode_examples(examples, each, max_length=max_length)
            finally:
                each.truncation_side = "right"
            assert [row.tolist() for row in encoded.input_ids] == expected["input_ids"]
            assert [row.tolist() for row in encoded.token_type_ids] == expected["token_type_ids"]


def test_a_label_the_model_does_not_have_is_refused(tokenizer):
    with pytest.raises(ValueError, match="no label 'c'; it has b, a"):
        encode_examples(Dataset.from_dict({"text": ["가"], "label": ["c"]}), tokenizer, CONFIG)


def test_lengths_are_a_few_multiples_of_eight():
    assert choose_lengths(np.array([3, 4, 5, 6, 7])) == (8,)
    lengths = np.concatenate([np.full(50, 10), np.full(35, 30), np.full(15, 100)])
    assert choose_lengths(lengths) == (16, 32, 104)


def test_each_batch_holds_one_length_and_all_but_a_last_rest_are_there():
    lengths = np.random.default_rng(0).integers(3, 100, 203)
    fixed = choose_lengths(lengths)
    batches = plan_batches(lengths, fixed, 8, np.random.default_rng(1))
    assert all(len(batch) == 8 for batch in batches)
    assert len(batches) == 203 // 8
    chosen = np.concatenate(batches)
    assert len(set(chosen.tolist())) == len(chosen)
    # Less than a batch goes on from one length to the next.
    classes = [np.searchsorted(fixed, lengths[batch]) for batch in batches]
    assert 0 < sum((each < each.max()).sum() for each in classes) <= 7 * (len(fixed) - 1)


def test_without_a_generator_every_example_comes_once():
    lengths = np.random.default_rng(0).integers(3, 100, 203)
    batches = plan_batches(lengths, choose_lengths(lengths), 8)
    assert sorted(np.concatenate(batches).tolist()) == list(range(203))


def test_batches_follow_the_seed_and_differ_by_epoch(tokenizer):
    encoded = encode(tokenizer, list(range(3, 43)))

    def epochs(seed):
        dataset = to_tf_dataset(encoded, tokenizer, batch_size=8, seed=seed)
        return [[row for batch in dataset for row in lengths_and_labels(*batch)] for _ in range(2)]

    first, again, other = epochs(1), epochs(1), epochs(2)
    assert first == again
    assert first != other
    assert first[0] != first[1]
    assert sorted(first[0]) == sorted(first[1]) == sorted(other[0])


def lengths_and_labels(inputs, labels):
    return zip(inputs["attention_mask"].numpy().sum(axis=1).tolist(), labels.numpy().tolist(), strict=True)


def test_rows_are_padded_with_nothing_to_attend_to(tokenizer):
    encoded = encode(tokenizer, [2, 5])
    inputs = pad(encoded, np.array([0, 1]), tokenizer, 8, rows=3)
    assert inputs["attention_mask"].sum(axis=1).tolist() == [4, 7, 0]
    assert inputs["input_ids"][0].tolist()[4:] == [tokenizer.pad_token_id] * 4
    assert inputs["input_ids"].dtype == np.int32


def test_fewer_examples_than_a_batch_are_refused(tokenizer):
    with pytest.raises(ValueError, match="2 examples do not fill one batch of 8"):
        kp.finetuning.to_tf_dataset(encode(tokenizer, [2, 5]), tokenizer, batch_size=8)
