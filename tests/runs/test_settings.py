"""The record of a run: what it checks, what it publishes, and how it goes on with one that is stored."""

import dataclasses
import subprocess
import sys

import pytest
import yaml

from keras_pretrain.runs import (
    AdaptSettings,
    BertSettings,
    ElectraSettings,
    FinetuneSettings,
    PrepareSettings,
    read_settings,
)
from keras_pretrain.runs.settings import public_name


def test_a_record_is_written_and_read(tmp_path):
    settings = BertSettings(phases=("64:0.5", "128:0.5"), steps=400, output=tmp_path / "이름", corpus_name="내 글")
    file = tmp_path / "run.yaml"
    file.write_text(settings.completed().to_yaml(), encoding="utf-8")
    assert read_settings(file) == settings.completed()
    assert yaml.safe_load(file.read_text(encoding="utf-8"))["kind"] == "bert"


@pytest.mark.parametrize(
    ("text", "message"),
    [("kind: bert\nstepz: 5\n", "stepz"), ("kind: tree\n", "tree"), ("- 1\n", "name: value"), ("a: [", "YAML")],
)
def test_a_file_that_is_no_record_is_refused(tmp_path, text, message):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_settings(tmp_path / "run.yaml")


def test_a_run_is_resumed_when_its_corpus_has_moved(tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("글")
    (tmp_path / "run.yaml").write_text(BertSettings(corpus=str(corpus)).completed().to_yaml())
    corpus.rename(tmp_path / "moved.txt")
    with pytest.raises(FileNotFoundError, match="corpus"):
        read_settings(tmp_path / "run.yaml")
    stored = read_settings(tmp_path / "run.yaml", check=False)
    assert BertSettings(corpus=str(tmp_path / "moved.txt")).continued(stored).steps == 600


def test_nothing_private_is_published(tmp_path):
    (tmp_path / "secret_corpus.txt").write_text("글")
    settings = BertSettings(
        corpus=str(tmp_path / "secret_corpus.txt"),
        output=tmp_path / "secret_output",
        tensorboard=tmp_path / "secret_board",
        text_column="secret_column",
        size="mini",
    )
    public = settings.public()
    assert "secret" not in str(public)
    assert public["size"] == "mini"
    for record in (BertSettings, ElectraSettings, AdaptSettings, FinetuneSettings):
        paths = {field.name for field in dataclasses.fields(record) if "Path" in str(field.type)}
        assert all(field.metadata["private"] for field in dataclasses.fields(record) if field.name in paths)


def test_a_name_on_the_hub_is_public_and_a_folder_never_becomes_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "acme").write_text("글")
    settings = BertSettings(corpus="clients/acme")
    assert settings.corpus == str(tmp_path / "clients" / "acme")  # also when it is moved while the run trains
    assert public_name("klue/bert-base") == "klue/bert-base"
    assert public_name("bert-base-multilingual-cased") == "bert-base-multilingual-cased"
    assert [public_name(name) for name in (settings.corpus, "/home/me/bert", "~/bert", "./bert", None)] == [None] * 5


@pytest.mark.parametrize(
    "settings",
    [
        {"size": "huge"}, {"objective": "foo"}, {"steps": 10.5}, {"steps": True}, {"learning_rate": "1e-4"},
        {"output": 5}, {"resume": "yes"}, {"phases": "128:1"}, {"corpus": 3},
    ],
    ids=str,
)  # fmt: skip
def test_a_setting_of_another_type_is_refused_by_name(settings):
    with pytest.raises(ValueError, match=f"`{next(iter(settings))}` must be "):
        BertSettings(**settings)


def test_yaml_is_read_as_people_write_it(tmp_path):
    (tmp_path / "a.yaml").write_text("kind: bert\nphases: [64:0.3, 128:0.7]\nlearning_rate: 1e-4\nsteps: 1000\n")
    settings = read_settings(tmp_path / "a.yaml")
    assert (settings.phases, settings.learning_rate, settings.steps) == (("64:0.3", "128:0.7"), 1e-4, 1000)


def test_a_record_does_not_ask_for_deletions(tmp_path):
    text = BertSettings(resume=False, overwrite=True).to_yaml()
    assert "resume" not in text
    assert "overwrite" not in text


def test_a_cluster_needs_steps_and_has_them(monkeypatch, tmp_path):
    monkeypatch.setenv("TF_CONFIG", "{}")
    settings = {"strategy": "multiworker", "prepared": tmp_path}
    assert BertSettings(steps=4, **settings).completed().steps == 100
    with pytest.raises(ValueError, match="`hours`"):
        BertSettings(hours=1.0, **settings)


def test_what_has_no_effect_is_refused_or_not_published(tmp_path):
    with pytest.raises(ValueError, match=r"`passes` .*`prepared`.*Leave it out"):
        BertSettings(prepared=tmp_path, passes=3)
    with pytest.raises(ValueError, match=r"`lowercase` .*`prepared`.*Leave it out"):
        BertSettings(prepared=tmp_path, lowercase=True)
    public = BertSettings(prepared=tmp_path).completed().public()
    assert not {"passes", "vocab_size", "lowercase", "sample_by"} & public.keys()
    assert not {"vocab_size", "lowercase", "prepared"} & {field.name for field in dataclasses.fields(AdaptSettings)}


def test_lines_are_not_examples_of_a_run_with_pairs(tmp_path):
    for kind, given in ((BertSettings, {}), (PrepareSettings, {"corpus": str(tmp_path), "output": tmp_path})):
        with pytest.raises(ValueError, match=r"`line_by_line` .*`objective`.*mlm\b.*leave"):
            kind(line_by_line=True, **given)
        public = kind(line_by_line=True, objective="mlm", **given).public()
        assert public["line_by_line"] is True
    assert "passes" not in ElectraSettings(line_by_line=True).public()


def test_lower_case_is_for_a_new_tokenizer(tmp_path):
    (tmp_path / "texts.jsonl").touch()
    required = {"corpus": str(tmp_path / "texts.jsonl"), "output": tmp_path / "out"}
    for kind, name, given in ((BertSettings, "init_from", {}), (PrepareSettings, "tokenizer", required)):
        assert kind(lowercase=True, **given).public()["lowercase"] is True
        with pytest.raises(ValueError, match=rf"`lowercase` .*`{name}`.*[Ll]eave"):
            kind(lowercase=True, **given | {name: "klue/bert-base"})


def test_what_is_not_given_is_chosen():
    completed = BertSettings(steps=250).completed()
    assert (completed.steps, completed.block_size, completed.learning_rate) == (300, 128, 1e-3)
    assert BertSettings(size="base").completed().learning_rate == 1e-4


def test_phases_share_the_steps_in_whole_epochs():
    settings = BertSettings(phases=("64:0.3", "128:0.6", "512:0.1"), steps=950).completed()
    assert [(p.block_size, p.batch_size, p.steps) for p in settings.plan()] == [
        (64, 32, 300), (128, 16, 600), (512, 4, 100)
    ]  # fmt: skip
    assert sum(phase.steps for phase in settings.plan()) == settings.steps


def test_an_extension_lengthens_the_last_phase():
    stored = BertSettings(phases=("64:0.5", "128:0.5"), steps=600).completed()
    longer = BertSettings(phases=("64:0.5", "128:0.5"), steps=1000).continued(stored).completed()
    assert [phase.steps for phase in longer.plan()] == [300, 700]
    again = BertSettings(phases=("64:0.5", "128:0.5"), steps=1000).continued(longer).completed()
    assert again.plan() == longer.plan()


def test_a_run_continues_with_what_was_chosen():
    stored = dataclasses.replace(BertSettings(hours=1.0).completed(), steps=4200, learning_rate=2e-3)
    again = BertSettings(hours=1.0).continued(stored)
    assert (again.steps, again.hours, again.learning_rate) == (4200, 1.0, 2e-3)
    assert BertSettings(steps=5000).continued(stored).steps == 5000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": "mini"}, "`size` is mini and was tiny"),
        ({"steps": 100}, "`steps` is 100 and was 600"),
        ({"hours": 2.0}, "`hours` is 2"),
        ({"dropout": 0.1}, "`dropout` is 0.1 and was None"),
        ({"seed": 0}, "`seed` is 0 and was 42"),
        ({"beta_2": 0.98}, "`beta_2` is 0.98"),
        ({"precision": "mixed_bfloat16"}, "precision"),
    ],
)
def test_other_settings_are_refused_by_name_and_value(changes, message):
    with pytest.raises(ValueError, match=message):
        BertSettings(**changes).continued(BertSettings().completed())


def test_what_does_not_change_the_result_may_differ(tmp_path):
    changes = {"num_proc": 3, "checkpoint_every": 7, "tensorboard": tmp_path, "corpus_name": "글"}
    assert BertSettings(**changes).continued(BertSettings().completed()).checkpoint_every == 7


def test_records_need_no_tensorflow():
    code = "import sys, keras_pretrain.runs; assert 'tensorflow' not in sys.modules and 'datasets' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
