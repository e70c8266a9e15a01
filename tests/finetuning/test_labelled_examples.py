import re

import datasets
import pytest
from datasets import Dataset, DatasetDict

import keras_pretrain as kp

load_examples = kp.finetuning.load_examples


def table(labels, **columns):
    return Dataset.from_dict({"text": [f"글 {i}" for i in range(len(labels))], "label": labels, **columns})


def test_a_file_is_read_with_its_columns_named(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("a,b,same\n하나,둘,yes\n셋,넷,no\n다섯,여섯,yes\n일곱,여덟,no\n", encoding="utf-8")
    data = load_examples(path, validation=0.5, text_column="a", pair_column="b", label_column="same")
    rows = [*data["train"], *data["validation"]]
    assert sorted((row["text"], row["pair"], row["label"]) for row in rows) == sorted(
        [("하나", "둘", "yes"), ("셋", "넷", "no"), ("다섯", "여섯", "yes"), ("일곱", "여덟", "no")]
    )
    assert sorted(data["validation"]["label"]) == ["no", "yes"]


def test_validation_has_the_same_share_of_each_class_and_follows_the_seed():
    examples = table(["a"] * 80 + ["b"] * 20)
    first, again, other = (load_examples(examples, validation=0.2, seed=seed) for seed in (1, 1, 2))
    assert sorted(first["validation"]["label"]) == ["a"] * 16 + ["b"] * 4
    assert first["validation"]["text"][:] == again["validation"]["text"][:]
    assert first["validation"]["text"][:] != other["validation"]["text"][:]
    assert sorted([*first["train"]["text"], *first["validation"]["text"]]) == sorted(examples["text"])


def test_groups_are_never_divided():
    groups = [i // 5 for i in range(100)]
    examples = table(["a", "b"] * 50, group=groups)
    data = load_examples(examples, validation=0.3, group_column="group")
    where = dict(zip(examples["text"], groups, strict=True))
    train, validation = ({where[text] for text in data[name]["text"]} for name in ("train", "validation"))
    assert not train & validation
    assert len(validation) == 6
    assert data["train"].column_names == ["text", "label"]


def test_labels_may_be_whole_numbers_or_class_labels():
    assert kp.finetuning.check_examples(table([10, 9, 10, 9])) == ["9", "10"]
    named = table([0, 1, 1, 0]).cast_column("label", datasets.ClassLabel(names=["bad", "good"]))
    assert kp.finetuning.check_examples(named) == ["0", "1"]  # as encode_examples reads them
    data = load_examples(named, validation=0.5)
    assert set(data["train"]["label"]) == {"bad", "good"}


def test_other_labels_are_left_out_and_counted(package_log):
    data = load_examples(table(["a", "b"] * 4 + ["c"] * 3), validation=0.5, keep_labels=["a", "b"])
    assert set(data["train"]["label"]) | set(data["validation"]["label"]) == {"a", "b"}
    assert re.search(r"\b3 examples .*\(c 3\)", package_log.text)


def test_a_validation_of_its_own_is_taken(tmp_path):
    path = tmp_path / "validation.jsonl"
    path.write_text('{"text": "글", "label": "b"}\n', encoding="utf-8")
    data = load_examples(table(["a", "b"]), validation=path)
    assert (len(data["train"]), data["validation"]["label"][:]) == (2, ["b"])
    both = DatasetDict(train=table(["a", "b"]), validation=table(["a"]))
    assert len(load_examples(both)["validation"]) == 1


def test_repeats_are_said(package_log):
    load_examples(DatasetDict(train=table(["a", "b"]), validation=table(["a", "b", "a"])))
    assert re.search(r"\b2 of 3 examples of validation .*\btrain\b.*group_column", package_log.text)


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        (["a"] * 10, {}, "examples of train .*label 'a'.*two"),
        ([0.5, 1.5] * 5, {}, r"label 0\.5, .*fraction.*regression=True"),
        (["0.5", "1.5"] * 5, {}, r"label '0\.5', .*fraction.*regression=True"),
        (["1e3", "2"] * 5, {}, "label '1e3', .*fraction.*regression=True"),
        (["a", None] * 5, {}, "train, example 2, has no label"),
        (["a", ""] * 5, {}, "example 2, has no label"),
        (["a", "b"] * 5, {"regression": True}, "label 'a'.*regression.*numbers"),
        (["1", "nan"] * 5, {"regression": True}, "label 'nan'.*regression.*numbers"),
        ([2.0] * 10, {"regression": True}, r"labels of train .*\b2\.0"),
        (["a"] * 9 + ["b"], {}, "label 'b' .*one example.*Leave it out"),
        (["a", "b"] * 5, {"label_column": "class"}, "no column 'class'.*text, label"),
        (["a", "b"] * 5, {"pair_column": "second"}, "no column 'second'"),
        (["a", "b"] * 5, {"validation": 1.5}, "validation .*above 0 and below 1, not 1.5"),
        (["a", "b"] * 5, {"keep_labels": ["a", "c"]}, r"no example .*label 'c'.*\['a', 'b'\]"),
    ],
)
def test_unsound_labels_and_settings_are_refused(labels, settings, message):
    with pytest.raises(ValueError, match=message):
        load_examples(table(labels), **settings)


def test_empty_texts_are_refused():
    examples = Dataset.from_dict({"text": ["글", " ", "글 둘", None], "label": ["a", "b", "a", "b"]})
    with pytest.raises(ValueError, match=r"\b2 of 4 examples of train .*empty text.*example 2\b"):
        kp.finetuning.check_examples(examples)


def test_labels_that_training_does_not_have_are_refused():
    with pytest.raises(ValueError, match=r"validation .*'c'.*\btrain .*'a', 'b'.*keep_labels"):
        load_examples(DatasetDict(train=table(["a", "b"]), validation=table(["a", "c"])))


def test_numbers_as_text_are_refused():
    with pytest.raises(ValueError, match=r"'text' of train .*\b5, not text"):
        load_examples(Dataset.from_dict({"text": [5, 6], "label": ["a", "b"]}))


def test_a_missing_file_and_a_file_without_columns_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file missing\.csv\b"):
        load_examples("missing.csv")
    (tmp_path / "a.txt").write_text("글\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.txt has no columns.*\.csv"):
        load_examples(tmp_path / "a.txt")


def rows_of(data):
    return sorted((row["text"], row["label"]) for part in data.values() for row in part)


def test_quotation_marks_in_tsv_are_text(tmp_path):
    lines = ["document\tlabel", *(f'"글 {i}\t{i % 2}' for i in range(40))]
    (tmp_path / "a.tsv").write_text("\n".join(lines), encoding="utf-8")
    data = load_examples(tmp_path / "a.tsv", text_column="document")
    assert rows_of(data) == sorted((f'"글 {i}', str(i % 2)) for i in range(40))


def test_encoding_and_dialect_are_of_the_file(tmp_path):
    content = "text;label\n" + "".join(f'"글; {i}";{i % 2}\n' for i in range(10))
    (tmp_path / "a.csv").write_text(content, encoding="cp949")
    with pytest.raises(ValueError, match=r"a\.csv.* no column 'text'.*dialect=';'"):
        load_examples(tmp_path / "a.csv", encoding="cp949")
    with pytest.raises(ValueError, match=r"a\.csv, line 2, is not UTF-8.*first of 10 bad rows.*encoding="):
        load_examples(tmp_path / "a.csv", dialect=";")
    data = load_examples(tmp_path / "a.csv", encoding="cp949", dialect=";", validation=0.2)
    assert rows_of(data) == sorted((f"글; {i}", str(i % 2)) for i in range(10))
    with pytest.raises(ValueError, match=r"on_bad_rows .*'error' or 'skip', not 'no'"):
        load_examples(tmp_path / "a.csv", on_bad_rows="no")


def test_bad_rows_are_refused_or_skipped_and_counted(tmp_path, package_log):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "글,a\n글,b\n" * 4 + "글, 둘,a\n글\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.csv, line 10, has 3 fields.*first of 2 bad rows.*on_bad_rows='skip'"):
        load_examples(path)
    data = load_examples(path, validation=0.25, on_bad_rows="skip")
    assert rows_of(data) == [("글", "a")] * 4 + [("글", "b")] * 4
    place = re.escape(str(path))
    assert re.search(rf"{place}: 2 of 10 .*\b2 bad .*{place}, line 10, .*\b3 fields", package_log.text)


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("a.csv", 'text,label\n"글\n둘",a\n글,\n', "line 4, has no label"),
        ("a.jsonl", '{"text": "글", "label": "a"}\n\n{"text": "글"}', "line 3, has no label"),
        ("a.json", '[{"text": "글", "label": "a"}, {"text": "글", "label": 0.5}]', "item 1, has the label 0.5"),
        ("a.csv", 'text,label\n"글\n둘",a\n,b\n', r"\b1 of 2 examples of .*a\.csv .*empty text.*line 4"),
        ("a.csv", "text,label\n글,x\n글,a\n ,b\n", r"\b1 of 2 examples of .*a\.csv .*empty text.*line 4"),
    ],
)
def test_what_is_wrong_with_an_example_of_a_file_is_said_with_its_line(tmp_path, name, content, place):
    (tmp_path / name).write_text(content, encoding="utf-8")
    keep = ["a", "b"] if "글,x" in content else None
    with pytest.raises(ValueError, match=rf"(?s){name}.*{place}|{place}"):
        load_examples(tmp_path / name, keep_labels=keep)


def test_a_file_without_the_label_column_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text,class\n글,a\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"'label'.* text, class\..*label_column"):
        load_examples(tmp_path / "a.csv")


def test_one_group_cannot_be_split():
    with pytest.raises(ValueError, match=r"group '1'.*validation"):
        load_examples(table(["a", "b"], group=[1, 1]), group_column="group")
