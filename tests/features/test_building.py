"""Examples: what they look like, what is said about them, what is refused."""

import copy
import re

import pytest
from datasets import Dataset, DatasetDict

import keras_pretrain as kp
from keras_pretrain.features.building import choose_objective, recorded_settings
from keras_pretrain.settings import attach
from keras_pretrain.tokenization import cleaning_of


def test_a_pair_is_cls_a_sep_b_sep_as_the_tokenizer_builds_it(sentences, tokenizer):
    features = kp.build_features(sentences, tokenizer, block_size=32)
    sep = tokenizer.sep_token_id
    for example in features:
        ids = example["input_ids"]
        assert ids.count(sep) == 2
        a, b = ids[1 : ids.index(sep)], ids[ids.index(sep) + 1 : -1]
        assert ids == tokenizer.build_inputs_with_special_tokens(a, b)
        assert example["token_type_ids"] == tokenizer.create_token_type_ids_from_sequences(a, b)
        assert len(ids) <= 32


def test_a_positive_pair_reads_on_in_its_document(tokenizer):
    document = ["가 나", "다 라", "마 바", "사 아"]
    sentences = Dataset.from_dict({"sentences": [document, ["자 차"] * 4]})
    features = kp.build_features(sentences, tokenizer, block_size=32, short_seq_prob=0, dupe_factor=10)
    texts = {"".join(tokenizer.decode(e["input_ids"], skip_special_tokens=True).split()) for e in features
             if e["next_sentence_label"] == 0}  # fmt: skip
    assert texts
    assert all(text in "가나다라마바사아" or set(text) <= set("자차") for text in texts)


@pytest.mark.parametrize("objective", ["mlm", "rtd"])
def test_segments_keep_every_token_in_order(sentences, tokenizer, objective):
    features = kp.build_features(sentences, tokenizer, objective=objective, block_size=16)
    assert features.column_names == ["input_ids", "token_type_ids"]
    inner = [token for ids in features["input_ids"] for token in ids[1:-1]]
    flat = [sentence for document in sentences["sentences"] for sentence in document]
    assert inner == [token for ids in tokenizer(flat, add_special_tokens=False)["input_ids"] for token in ids]
    assert {(ids[0], ids[-1]) for ids in features["input_ids"]} == {(tokenizer.cls_token_id, tokenizer.sep_token_id)}
    assert max(map(len, features["input_ids"])) <= 16
    assert not any(any(types) for types in features["token_type_ids"])


@pytest.mark.parametrize("objective", ["mlm", "rtd"])
def test_line_by_line_makes_an_example_of_each_line(tokenizer, objective, package_log):
    long = ["다 라 마 바 사 아"]
    sentences = Dataset.from_dict({"sentences": [["가 나", "다"], [], long, ["라 마 바", "가 나"]]})
    settings = {"objective": objective, "block_size": 6, "line_by_line": True}
    features = kp.build_features(sentences, tokenizer, **settings)
    lines = ["가 나", "다", "다 라 마 바", "사 아", "라 마 바", "가 나"]
    assert features["input_ids"][:] == tokenizer(lines)["input_ids"]
    assert "6 segments" in package_log.text
    again = kp.build_features(sentences, tokenizer, **settings, dupe_factor=3, short_seq_prob=1.0, seed=1)
    assert again.data.table.equals(features.data.table)


def test_the_same_seed_gives_the_same_bytes(sentences, tokenizer):
    first, again, other = (kp.build_features(sentences, tokenizer, block_size=32, seed=seed) for seed in (1, 1, 2))
    assert first.data.table.equals(again.data.table)
    assert not first.data.table.equals(other.data.table)


def test_each_pass_cuts_otherwise_and_only_training_is_multiplied(sentences, tokenizer, package_log):
    once = kp.build_features(sentences, tokenizer, block_size=32)
    splits = DatasetDict(train=sentences, validation=sentences)
    features = kp.build_features(splits, tokenizer, block_size=32, dupe_factor=3)
    assert len(features["validation"]) == len(once)
    first, rest = features["train"].select(range(len(once))), features["train"].select(range(len(once), 2 * len(once)))
    assert first["input_ids"][:] == once["input_ids"][:]
    assert 2.5 * len(once) < len(features["train"]) < 3.5 * len(once)
    common = set(map(tuple, first["input_ids"])) & set(map(tuple, rest["input_ids"]))
    assert len(common) < 0.1 * len(once)
    assert "in 3 passes" in package_log.text


def test_the_report_counts_what_fell_away(tokenizer, package_log):
    sentences = Dataset.from_dict({"sentences": [["가 나", "다"], ["라"], [], ["마", "바 사", "아"]]})
    kp.build_features(sentences, tokenizer, block_size=16)
    report = package_log.messages[-1]
    assert re.search(r"with a random B\b.*\b1 documents of one sentence.*random B only", report)
    assert re.search(r"\b3 documents \(1 more.*\), 6 sentences, 8 tokens", report)


def test_splits_are_built_alike_and_know_what_they_were_built_for(sentences, tokenizer):
    features = kp.build_features(DatasetDict(train=sentences, validation=sentences), tokenizer, block_size=24)
    assert features["train"].data.table.equals(features["validation"].data.table)
    assert recorded_settings(features["train"]) == {"objective": "mlm+nsp", "block_size": 24}


def test_examples_that_lost_their_objective_are_asked_about(sentences, tokenizer, tmp_path):
    features = kp.build_features(sentences, tokenizer, objective="rtd", block_size=24)
    features.to_parquet(tmp_path / "features.parquet")
    for lost in (Dataset.from_parquet(str(tmp_path / "features.parquet")), features.select(range(40))):
        with pytest.raises(ValueError, match=r"objective='mlm' or objective='rtd'"):
            kp.to_tf_dataset(lost, tokenizer, batch_size=4)
        dataset = kp.to_tf_dataset(lost, tokenizer, batch_size=4, objective="rtd")
        assert set(dataset.element_spec) == {"input_ids", "token_type_ids", "attention_mask"}  # not masked
    with pytest.raises(ValueError, match="objective 'rtd', not 'mlm'"):
        kp.to_tf_dataset(features, tokenizer, batch_size=4, objective="mlm")
    pairs = kp.build_features(sentences, tokenizer, block_size=24).select(range(8))
    assert recorded_settings(pairs) == {"objective": "mlm+nsp", "block_size": None}  # their labels say so


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "nsp"}, r"objective .*mlm\+nsp, mlm, rtd, not 'nsp'"),
        ({"block_size": 4}, "block_size .*at least 5, not 4"),
        ({"block_size": 1024}, "block_size 1024 .*model_max_length, 512"),
        ({"short_seq_prob": 1.5}, "short_seq_prob .*from 0 to 1, not 1.5"),
        ({"dupe_factor": 0}, "dupe_factor .*at least 1, not 0"),
        ({"line_by_line": True}, r"line_by_line .*mlm\+nsp.*objective mlm"),
    ],
)
def test_wrong_settings_are_refused(sentences, tokenizer, settings, message):
    with pytest.raises(ValueError, match=message):
        kp.build_features(sentences, tokenizer, **settings)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["가."]}, r"column 'sentences'.* text\. prepare_sentences"),
        ({"body": ["가."]}, r"column 'sentences'.* body\.$"),
        ({"sentences": [[""], [" "]]}, "corpus is empty: 2 documents.*no token"),
    ],
)
def test_a_corpus_without_sentences_is_refused(tokenizer, columns, message):
    with pytest.raises(ValueError, match=message):
        kp.build_features(Dataset.from_dict(columns), tokenizer)


def test_a_tokenizer_without_a_mask_token_is_refused(sentences, tokenizer):
    from transformers import PreTrainedTokenizerFast

    other = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, pad_token="[PAD]")
    with pytest.raises(ValueError, match="no cls, sep, mask token"):
        kp.build_features(sentences, other)


def test_a_corpus_of_single_sentences_is_recognised(tokenizer, package_log):
    documents = Dataset.from_dict({"text": ["가 나."] * 4 + ["가 나 3.5 다!"] * 4 + ["가 나. 다 라", "가\n나", " "]})
    assert choose_objective(documents) == "mlm"
    assert re.search(r"\b8 of 10 documents .*objective mlm\b", package_log.text)
    sentences = Dataset.from_dict({"sentences": [["가 나"]] * 8 + [["가 나", "다 라"]] * 2})
    kp.build_features(sentences, tokenizer, block_size=16)
    assert re.search(r"\b8 of 10 documents .*no pair.*objective='mlm'", package_log.text)


def test_a_corpus_of_documents_gets_pairs(sentences, package_log):
    documents = Dataset.from_dict({"text": [". ".join(document) for document in sentences["sentences"]]})
    assert choose_objective(documents) == "mlm+nsp"
    assert "one sentence" not in package_log.text


def test_the_cleaning_of_the_sentences_is_kept_with_a_tokenizer_that_has_none(sentences, tokenizer, package_log):
    tokenizer = copy.deepcopy(tokenizer)
    known = attach(sentences.select(range(40)), cleaning="prose")
    kp.build_features(known, tokenizer, block_size=24)
    assert cleaning_of(tokenizer) == "prose"
    kp.build_features(attach(known, cleaning="comments"), tokenizer, block_size=24)
    assert cleaning_of(tokenizer) == "prose"
    assert re.search(r"sentences .*'comments'.*tokenizer.*'prose'.*record_cleaning", package_log.text)
