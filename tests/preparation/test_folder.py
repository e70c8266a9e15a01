"""A prepared folder: the same whoever prepares it and however often it is interrupted; and what it holds."""

import csv
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from itertools import islice

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict
from transformers import BertTokenizer

import keras_pretrain as kp
from keras_pretrain.features import blocks
from keras_pretrain.folders import LOCK, MANIFEST
from keras_pretrain.preparation import LocalEngine, documents
from keras_pretrain.preparation.stages import digest_tokenizer
from keras_pretrain.tokenization import empty_tokenizer

WORDS = [
    "the",
    "cat",
    "dog",
    "bird",
    "fish",
    "sees",
    "eats",
    "finds",
    "takes",
    "one",
    "big",
    "small",
    "red",
    "old",
    "house",
    "tree",
    "river",
    "road",
]


def write_corpus(path, count=120, first=0):
    """Documents of two to seven sentences, each sentence with its document's number in it."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text"])
        for i in range(first, first + count):
            sentences = [f"Number {i} {WORDS[(i + k) % 18]} {WORDS[(i * k) % 18]} it." for k in range(2 + i % 6)]
            rows.writerow(["\n".join(sentences)])
    return path


@pytest.fixture
def small_blocks(monkeypatch):
    """A corpus of ten thousand characters in a dozen blocks, and about as many blocks of examples."""
    monkeypatch.setattr(documents, "_BLOCK_CHARACTERS", (1000, 1000))
    monkeypatch.setattr(blocks, "_BLOCK_TOKENS", (300, 300))


SETTINGS = {"language": "en", "backend": "punkt", "cleaning": "none", "vocab_size": 300, "block_size": 32}


def prepare(source, directory, **settings):
    return kp.prepare_corpus(source, directory, **({"num_proc": 1} | SETTINGS | settings))


def contents(directory):
    """Every file with its bytes, but for the record of what was written when."""
    files = (path for path in directory.rglob("*") if path.is_file() and path.name not in (MANIFEST, LOCK))
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path / "corpus.csv")


@pytest.fixture
def prepared(corpus, small_blocks, tmp_path):
    return prepare(corpus, tmp_path / "prepared")


def test_two_processes_prepare_the_same_files_as_one(corpus, prepared, tmp_path):
    prepare(corpus, tmp_path / "two", num_proc=2)
    expected = contents(tmp_path / "prepared")
    assert len([name for name in expected if name.startswith("train/")]) > 8
    assert contents(tmp_path / "two") == expected


def test_ray_prepares_the_same_files_too(corpus, prepared, ray_engine, tmp_path):
    prepare(corpus, tmp_path / "ray", engine=ray_engine)
    assert contents(tmp_path / "ray") == contents(tmp_path / "prepared")


SCRIPT = """
import sys
import test_folder
from keras_pretrain.features import blocks
from keras_pretrain.preparation import LocalEngine, documents
documents._BLOCK_CHARACTERS, blocks._BLOCK_TOKENS = (1000, 1000), (300, 300)

class Telling(LocalEngine):
    def run(self, function, tasks, expand=None):
        for record in super().run(function, tasks, expand):
            yield record  # after which its shard is moved to its folder
            print(record.name.rpartition("/")[0], flush=True)

test_folder.prepare(sys.argv[1], sys.argv[2], engine=Telling(1))
"""


def test_a_killed_preparation_goes_on_and_ends_with_the_same_files(corpus, prepared, tmp_path):
    directory = tmp_path / "killed"
    folder = os.path.dirname(__file__)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])}
    ends = []
    for stage in ("sentences", "tokens/train", "train"):
        command = [sys.executable, "-c", SCRIPT, corpus, directory]
        pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
        with subprocess.Popen(command, **pipes, text=True, env=environment) as process:
            of_the_stage = (line for line in process.stdout if line.strip() == stage)
            assert len(list(islice(of_the_stage, 3))) == 3, process.stderr.read()
            process.send_signal(signal.SIGKILL)
            ends.append(process.wait())
            assert ends[-1] in (0, -signal.SIGKILL), process.stderr.read()
    assert -signal.SIGKILL in ends
    prepare(corpus, directory)
    assert contents(directory) == contents(tmp_path / "prepared")


class Interrupted(Exception):
    pass


class Failing(LocalEngine):
    """Breaks off before a task."""

    def __init__(self, at):
        super().__init__(1)
        self.left = at

    def run(self, function, tasks, expand=None):
        for record in super().run(function, tasks, expand):
            if self.left == 0:
                raise Interrupted
            self.left -= 1
            yield record


@pytest.mark.parametrize("at", [1, 5, 18, 30])
def test_wherever_it_breaks_off_it_goes_on(at, corpus, prepared, tmp_path):
    with pytest.raises(Interrupted):
        prepare(corpus, tmp_path / "broken", engine=Failing(at))
    with pytest.raises(FileNotFoundError, match=r"/broken .*no prepared corpus.*report\.json"):
        kp.load_prepared(tmp_path / "broken")
    prepare(corpus, tmp_path / "broken")
    assert contents(tmp_path / "broken") == contents(tmp_path / "prepared")


def numbers(tokenizer, ids):
    """The documents that a part of an example comes from, as far as their numbers stand whole in it."""
    words = tokenizer.decode(ids).split()
    return {words[i + 1] for i, word in enumerate(words[:-1]) if word == "Number"}


def test_pairs_are_of_one_document_or_of_two(prepared):
    tokenizer = prepared.tokenizer
    seen = Counter()
    for example in prepared.features["train"]:
        ids, types = np.array(example["input_ids"]), np.array(example["token_type_ids"])
        a, b = (numbers(tokenizer, ids[types == side]) for side in (0, 1))
        if len(a) == len(b) == 1 and all(number.isdigit() for number in a | b):
            seen[example["next_sentence_label"], a == b] += 1
    assert seen[0, True] > 50
    assert seen[1, False] > 50
    assert seen[0, False] == 0
    assert seen[1, True] == 0


def test_no_document_is_in_both_parts_and_none_is_missing(corpus, small_blocks, tmp_path):
    prepared = prepare(corpus, tmp_path / "out", objective="mlm")
    seen = {
        split: set().union(*(numbers(prepared.tokenizer, example["input_ids"]) for example in features))
        for split, features in prepared.features.items()
    }
    assert not seen["train"] & seen["validation"]
    whole = {number for split in seen.values() for number in split if number.isdigit() and int(number) < 120}
    assert len(whole) == 120
    assert prepared.report["train"]["documents"] + prepared.report["validation"]["documents"] == 120
    assert 3 <= prepared.report["validation"]["documents"] <= 24


def test_segments_hold_each_token_once(corpus, small_blocks, tmp_path):
    prepared = prepare(corpus, tmp_path / "out", objective="rtd", validation_fraction=0)
    assert list(prepared.features) == ["train"]
    with corpus.open(newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    expected = Counter(id_ for text in texts for id_ in prepared.tokenizer(text, add_special_tokens=False)["input_ids"])
    found = Counter(id_ for example in prepared.features["train"] for id_ in example["input_ids"][1:-1])
    assert found == expected


def test_the_report_counts_what_is_there(prepared, tmp_path):
    report = json.loads((tmp_path / "prepared" / "report.json").read_text())
    assert report == prepared.report
    assert report["documents"] == 120
    assert report["sentences"] == sum(2 + i % 6 for i in range(120))
    assert (report["duplicates"], report["documents_not_split"]) == (0, 0)
    for split, features in prepared.features.items():
        lengths = Counter(map(len, features["input_ids"]))
        assert report[split]["lengths"] == [lengths[n] for n in range(33)]
        assert report[split]["random_pair_rate"] == pytest.approx(np.mean(features["next_sentence_label"]))
        assert report[split]["examples"] == len(features)
        assert report[split]["unknown_token_rate"] < 0.02
    assert (tmp_path / "prepared" / "lengths.png").read_bytes().startswith(b"\x89PNG")


def test_it_trains_as_what_build_features_gives(prepared):
    batches = kp.to_tf_dataset(prepared.features["train"], prepared.tokenizer, batch_size=8)
    inputs, labels = next(iter(batches))
    assert inputs["input_ids"].shape == (8, 32)
    assert set(labels) == {"labels", "next_sentence_label"}


def test_passes_make_other_pairs(corpus, small_blocks, prepared, tmp_path):
    twice = prepare(corpus, tmp_path / "twice", dupe_factor=2)
    assert len(twice.features["train"]) > 1.7 * len(prepared.features["train"])
    assert len(twice.features["validation"]) == len(prepared.features["validation"])
    distinct = {tuple(ids) for ids in twice.features["train"]["input_ids"]}
    assert len(distinct) > 1.4 * len(prepared.features["train"])


def times(directory):
    return {path.name: path.stat().st_mtime_ns for path in directory.iterdir()}


def test_other_settings_redo_only_what_follows_from_them(corpus, small_blocks, prepared, tmp_path):
    directory = tmp_path / "prepared"
    sentences, tokens, examples = (times(directory / name) for name in ("sentences", "tokens/train", "train"))
    longer = prepare(corpus, directory, block_size=64)
    assert times(directory / "sentences") == sentences
    assert times(directory / "tokens/train") == tokens
    assert not set(times(directory / "train")) & set(examples)
    assert max(map(len, longer.features["train"]["input_ids"])) > 32


def test_a_corpus_that_grew_keeps_what_has_not_changed(corpus, small_blocks, prepared, tmp_path):
    directory = tmp_path / "prepared"
    before = times(directory / "sentences")
    write_corpus(corpus, 160)
    prepare(corpus, directory)
    after = times(directory / "sentences")
    kept = before.items() & after.items()
    assert len(kept) >= len(before) - 1  # the last one was not full
    assert len(after) > len(before)


def test_a_source_with_its_own_validation_keeps_it(small_blocks, tmp_path):
    texts = [f"Number {i} the cat sees it.\nNumber {i} the dog eats it." for i in range(60)]
    parts = {"train": Dataset.from_dict({"text": texts[:40]}), "test": Dataset.from_dict({"text": texts[40:]})}
    prepared = prepare(DatasetDict(parts), tmp_path)
    assert prepared.report["train"]["documents"] == 40
    assert prepared.report["validation"]["documents"] == 20


def test_a_tokenizer_of_ones_own_is_used(corpus, small_blocks, prepared, tmp_path):
    other = prepare(corpus, tmp_path / "other", tokenizer=tmp_path / "prepared" / "tokenizer", seed=7)
    assert other.tokenizer.get_vocab() == prepared.tokenizer.get_vocab()
    assert other.report["settings"]["tokenizer"] == prepared.report["settings"]["tokenizer"]


def test_a_folder_that_is_prepared_anew_is_not_taken_for_the_old_one(corpus, prepared, tokenizer, tmp_path):
    directory = tmp_path / "prepared"
    with pytest.raises(Interrupted):
        prepare(corpus, directory, tokenizer=tokenizer, engine=Failing(16))
    with pytest.raises(FileNotFoundError, match=r"/prepared .*unfinished.*same command"):
        kp.load_prepared(directory)


def test_another_tokenizer_in_the_folder_is_found(prepared, tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "prepared" / "tokenizer")
    with pytest.raises(ValueError, match=r"/prepared/tokenizer is not the tokenizer.*examples"):
        kp.load_prepared(tmp_path / "prepared")


def test_files_may_be_links(corpus, small_blocks, prepared, tmp_path):
    (tmp_path / "blob").write_bytes(corpus.read_bytes())
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "corpus.csv").symlink_to(tmp_path / "blob")
    linked = prepare(tmp_path / "links", tmp_path / "linked")
    assert linked.features["train"][:] == prepared.features["train"][:]


def test_documents_as_long_as_blocks_are_for_validation_too(small_blocks, tmp_path):
    texts = ["\n".join(f"Number {i} sees {WORDS[k % 18]} it." for k in range(60)) for i in range(5)]
    prepared = prepare(Dataset.from_dict({"text": texts}), tmp_path)
    assert prepared.report["train"]["documents"] == 3
    assert prepared.report["validation"]["documents"] == 2


def test_padding_that_a_tokenizer_was_used_with_does_not_matter(prepared):
    prepared.tokenizer(["a b", "c"], padding=True, truncation=True, max_length=8)
    assert prepared.tokenizer.backend_tokenizer.padding
    assert digest_tokenizer(prepared.tokenizer) == prepared.report["settings"]["tokenizer"]
    prepared.require_fit("mlm+nsp", prepared.tokenizer)


def test_an_output_among_the_input_is_refused(corpus, tmp_path):
    with pytest.raises(ValueError, match=r"lies in the source folder .*outside"):
        prepare(tmp_path, tmp_path / "prepared")


def test_a_second_process_is_refused(corpus, prepared, tmp_path):
    with open(tmp_path / "prepared" / ".lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match=f"Another process.* {tmp_path / 'prepared'}\\b.*another folder"):
            prepare(corpus, tmp_path / "prepared")


def test_a_slow_tokenizer_is_refused(corpus, prepared, tmp_path):
    slow = BertTokenizer(str(tmp_path / "prepared" / "tokenizer" / "vocab.txt"))
    with pytest.raises(ValueError, match=r"slow.*\bBertTokenizer\b.*fast"):
        prepare(corpus, tmp_path / "other", tokenizer=slow)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "nsp"}, "objective must be .*'nsp'"),
        ({"block_size": 3}, "block_size .*at least 5, not 3"),
        ({"block_size": 1000}, "block_size 1000 .*model_max_length"),
        ({"vocab_size": 5}, r"vocab_size .*\b5\b.*too small"),
        ({"validation_fraction": 1.0}, "validation_fraction must be"),
        ({"text_column": "body"}, r"no column 'body'.* text\. "),
        ({"sample_by": "page"}, "sample_by must be"),
        ({"num_proc": 0}, "num_proc .*at least 1, not 0"),
        ({"dupe_factor": 0}, "dupe_factor .*at least 1, not 0"),
        ({"language": "de"}, "'ko' and 'en'.*'de'"),
        ({"lowercase": True, "tokenizer": empty_tokenizer(100)}, "lowercase .*given tokenizer"),
        ({"line_by_line": True, "objective": "mlm+nsp"}, r"line_by_line .*mlm\+nsp.*objective mlm"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_read(settings, message, corpus, tmp_path):
    with pytest.raises(ValueError, match=message):
        prepare(corpus, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text\n" + b"A cat. A dog.\n" * 5000 + "고양이\n".encode("cp949"), "corpus.csv, line 5002, .*encoding="),
        (b"text\n  \n\n", "The corpus is empty"),
        (b"text\nOne cat. One dog.\n", "one document, and validation.*validation_fraction=0"),
        ("text\n" + "".join(f"Cat {i} sees it.\n" for i in range(50)), "two sentences.*objective='mlm'"),
    ],
)
def test_a_corpus_that_cannot_be_prepared_is_named(content, message, tmp_path):
    (tmp_path / "corpus.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path / "corpus.csv", tmp_path / "out")


def test_rows_without_text_are_counted(corpus, small_blocks, package_log, tmp_path):
    with corpus.open("a") as file:
        file.write('""\n" "\n')
    assert prepare(corpus, tmp_path / "out").report["skipped_rows"] == {"empty": 2, "missing": 0, "bad": 0}
    assert re.search(r"\b2 of 122 .*\b2 empty", package_log.text)


def test_a_folder_that_is_not_whole_is_named(prepared, tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path} .*no prepared corpus.*report\.json"):
        kp.load_prepared(tmp_path)
    directory = tmp_path / "prepared"
    first = directory / "train" / prepared.report["train"]["files"][0]
    first.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{directory} .*incomplete.*\b1 files .* {first}"):
        kp.load_prepared(directory)


def test_another_model_is_refused(prepared, tokenizer):
    prepared.require_fit("mlm+nsp", prepared.tokenizer)
    with pytest.raises(ValueError, match=r"objective 'mlm\+nsp', not 'rtd'.*objective='rtd'"):
        prepared.require_fit("rtd")
    with pytest.raises(ValueError, match=r"another tokenizer.*model's folder as tokenizer"):
        prepared.require_fit("mlm+nsp", tokenizer)


def test_rows_that_cannot_be_read_are_counted_or_refused(corpus, small_blocks, package_log, tmp_path):
    with corpus.open("a") as file:
        file.write("one, two\n")
    line = len(corpus.read_text().splitlines())
    with pytest.raises(ValueError, match=rf"corpus\.csv, line {line}, .*on_bad_rows"):
        prepare(corpus, tmp_path / "out")
    prepared = prepare(corpus, tmp_path / "out", on_bad_rows="skip")
    assert prepared.report["skipped_rows"] == {"empty": 0, "missing": 0, "bad": 1}
    assert prepared.report["documents"] == 120
    assert re.search(rf"\b1 of 121 .*\b0 empty, 0 missing.*\b1 bad .* {re.escape(str(corpus))}", package_log.text)


def in_memory(source, cache, **changed):
    """What `prepare` gives, by the other way."""
    settings = SETTINGS | {"objective": "mlm+nsp", "dupe_factor": 1, "drop_duplicates": False, "line_by_line": False}
    settings |= {"lowercase": False} | changed
    corpus = kp.load_corpus(source, drop_duplicates=settings["drop_duplicates"])
    how = {name: settings[name] for name in ("language", "backend", "cleaning", "objective")}
    sentences = kp.prepare_sentences(corpus, **how, cache_dir=cache, num_proc=1)
    how = {name: settings[name] for name in ("vocab_size", "lowercase")}
    tokenizer = kp.train_tokenizer(sentences["train"], **how)
    how = {name: settings[name] for name in ("objective", "block_size", "dupe_factor", "line_by_line")}
    return corpus, tokenizer, kp.build_features(sentences, tokenizer, **how)


@pytest.mark.parametrize(
    "settings",
    [
        {"dupe_factor": 3},
        {"objective": "rtd", "backend": None, "lowercase": True},
        {"objective": "mlm", "cleaning": "prose", "drop_duplicates": True},
        {"objective": "mlm", "line_by_line": True, "dupe_factor": 2},
    ],
    ids=lambda settings: "lines" if "line_by_line" in settings else settings.get("objective", "mlm+nsp"),
)
def test_both_ways_give_the_same_split_vocabulary_and_examples(corpus, small_blocks, tmp_path, settings):
    write_corpus(corpus, count=130)
    with corpus.open(newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    with corpus.open("a", newline="") as file:
        csv.writer(file).writerows([text] for text in texts[:9])
    prepared = prepare(corpus, tmp_path / "prepared", **settings)
    documents, tokenizer, features = in_memory(corpus, tmp_path / "cache", **settings)
    assert tokenizer.get_vocab() == prepared.tokenizer.get_vocab()
    assert digest_tokenizer(tokenizer) == digest_tokenizer(prepared.tokenizer)
    assert {split: len(part) for split, part in documents.items()} == {
        split: prepared.report[split]["documents"] for split in ("train", "validation")
    }
    assert prepared.report["duplicates"] == 9
    for split in ("train", "validation"):
        assert len(features[split]) > 10
        assert features[split].column_names == prepared.features[split].column_names
        assert features[split].features == prepared.features[split].features
        assert features[split][:] == prepared.features[split][:]
    assert len([name for name in contents(tmp_path / "prepared") if name.startswith("train/")]) > 3


def test_dropped_duplicates_are_gone(corpus, small_blocks, tmp_path):
    rows = corpus.read_text()
    corpus.write_text(rows + rows.split("\n", 1)[1])
    twice = prepare(corpus, tmp_path / "twice")
    once = prepare(corpus, tmp_path / "once", drop_duplicates=True)
    assert (twice.report["duplicates"], once.report["duplicates"]) == (120, 120)
    assert (twice.report["documents"], once.report["documents"]) == (240, 120)


def test_duplicates_across_a_split_of_the_users_are_counted(small_blocks, package_log, tmp_path):
    texts = [f"Number {i} the cat sees it.\nNumber {i} the dog eats it." for i in range(60)]
    parts = {"train": Dataset.from_dict({"text": texts[:40]}), "validation": Dataset.from_dict({"text": texts[35:]})}
    assert prepare(DatasetDict(parts), tmp_path / "out").report["duplicates_across_splits"] == 5
    assert re.search(r"\b5 validation documents.*training split", package_log.text)


def test_a_dry_run_writes_nothing_and_says_what_it_would(corpus, small_blocks, tmp_path):
    plan = prepare(corpus, tmp_path / "out", dry_run=True)
    assert not (tmp_path / "out").exists()
    assert {"report.json", "tokenizer/", "train/"} <= set(plan.written)
    assert (plan.replaced, plan.kept) == ([], [])
    prepare(corpus, tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    before = contents(tmp_path / "out")
    plan = prepare(corpus, tmp_path / "out", dry_run=True, block_size=64)
    assert contents(tmp_path / "out") == before
    assert plan.kept == ["notes.txt"]
    assert {*plan.replaced, "notes.txt"} == set(before)


def test_a_folder_of_something_else_is_refused(corpus, tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "model")
    before = contents(tmp_path / "model")
    with pytest.raises(FileExistsError, match=r"/model .*do not belong.*folder that is empty"):
        prepare(corpus, tmp_path / "model", overwrite=True)
    assert contents(tmp_path / "model") == before


def test_a_file_that_was_changed_is_neither_used_nor_replaced(corpus, small_blocks, prepared, tmp_path):
    directory = tmp_path / "prepared"
    report = directory / "report.json"
    text = report.read_text()
    report.write_text(text + " ")
    with pytest.raises(FileExistsError, match=r"report\.json .*changed since"):
        prepare(corpus, directory)
    report.write_text(text)
    shard = next((directory / "sentences").iterdir())
    content = shard.read_bytes()
    shard.write_bytes(content + b"mine")
    with pytest.raises(FileExistsError, match=f"{shard.name} was changed.*Delete it"):
        prepare(corpus, directory)
    assert shard.read_bytes() == content + b"mine"
    shard.unlink()
    assert len(prepare(corpus, directory).features["train"]) == len(prepared.features["train"])


def test_a_full_disk_is_named_and_loses_nothing(corpus, small_blocks, prepared, monkeypatch, tmp_path):
    open_file, left = pa.OSFile, iter(range(20))

    def open_on_a_full_disk(path, mode):
        if mode == "wb" and next(left, None) is None:
            raise OSError(28, "No space left on device")
        return open_file(path, mode)

    with monkeypatch.context() as patch:
        patch.setattr(pa, "OSFile", open_on_a_full_disk)
        with pytest.raises(OSError, match=r"disk .*/broken is full.*make room"):
            prepare(corpus, tmp_path / "broken")
    prepare(corpus, tmp_path / "broken")
    assert contents(tmp_path / "broken") == contents(tmp_path / "prepared")


def test_a_model_in_the_same_folder_is_not_deleted(corpus, small_blocks, prepared, tokenizer, tmp_path):
    model = kp.BertPretrainer.from_size("tiny", tokenizer, num_hidden_layers=1)
    kp.save_checkpoint(model, tokenizer, tmp_path / "prepared")
    before = (tmp_path / "prepared" / "model.safetensors").read_bytes()
    prepare(corpus, tmp_path / "prepared", block_size=64)
    assert (tmp_path / "prepared" / "model.safetensors").read_bytes() == before


def test_a_call_that_fails_early_leaves_a_finished_folder_finished(corpus, small_blocks, prepared, tmp_path):
    with corpus.open("a") as file:
        file.write("one, two\n")
    with pytest.raises(ValueError, match="on_bad_rows"):
        prepare(corpus, tmp_path / "prepared")
    again = kp.load_prepared(tmp_path / "prepared")
    assert again.features["train"][:] == prepared.features["train"][:]


def test_a_damaged_shard_is_named(corpus, small_blocks, prepared, tmp_path):
    shard = next((tmp_path / "prepared" / "sentences").iterdir())
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(ValueError, match=rf"{shard.name} is damaged\. Delete it"):
        prepare(corpus, tmp_path / "prepared")


def test_a_split_that_is_left_empty_is_refused(small_blocks, tmp_path):
    texts = [f"Number {i} the cat sees it.\nNumber {i} the dog eats it." for i in range(40)]
    parts = {"train": Dataset.from_dict({"text": texts}), "validation": Dataset.from_dict({"text": texts[:5]})}
    with pytest.raises(ValueError, match="validation: the corpus is empty"):
        prepare(DatasetDict(parts), tmp_path / "out", drop_duplicates=True)
