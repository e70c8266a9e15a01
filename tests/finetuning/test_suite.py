"""A suite compares checkpoints on hidden words and fine-tuned tasks, and refuses what is wrong before it computes."""

import json
import logging

import pytest
import yaml
from conftest import no_xla
from tasks import save_bert, with_a_sign

import keras_pretrain as kp
from keras_pretrain.commands import main
from keras_pretrain.runs.suite import read_suite

SUITE = {
    "cleaning": "none",
    "text": {"file": "texts"},
    "tasks": {
        "sign": {
            "metric": "accuracy", "train": {"file": "signs"}, "validation": {"file": "others"}, "epochs": 3,
            "batch_size": 16, "max_length": 16, "learning_rate": 5e-3,
        },
        "halves": {"metric": "f1_macro", "train": {"file": "signs"}, "validation": 0.5, "epochs": 1, "max_length": 16},
    },
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def quick():
    with no_xla():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    signs = with_a_sign(200, seed=0)
    signs.to_csv(folder / "signs.csv")
    with_a_sign(60, seed=1).to_json(folder / "others.jsonl", force_ascii=False)
    (folder / "texts.txt").write_text("\n\n".join(signs["text"][:]), encoding="utf-8")
    (folder / "suite.yaml").write_text(yaml.safe_dump(SUITE, allow_unicode=True))
    return folder


@pytest.fixture(scope="module")
def models(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    pair = kp.ElectraPretrainer.from_size("tiny", tokenizer, hidden_size=32, num_attention_heads=2)
    return str(save_bert(tokenizer, folder / "bert", seed=3)), str(
        kp.save_checkpoint(pair, tokenizer, folder / "electra")
    )


@pytest.fixture(scope="module")
def figures(models, data, tmp_path_factory):
    output = tmp_path_factory.mktemp("output")
    settings = {"tasks": ["sign"], "seeds": 2, "output": output, "precision": "float32"}
    return kp.runs.evaluate_suite(models, data, data / "suite.yaml", untrained=True, **settings), settings


def test_each_model_has_the_figures_of_its_parts(models, data, figures):
    found, _ = figures
    assert list(found) == [*models, "untrained"]
    texts = kp.load_corpus(data / "texts.txt", validation_fraction=0)["train"]
    for name in models:
        words = kp.evaluation.evaluate_hidden_words(name, texts, cleaning="none")
        assert {each: found[name][each] for each in words} == pytest.approx(words, rel=1e-5)
    tuned = kp.finetuning.finetune(
        models[0], *(kp.finetuning.load_examples(data / "signs.csv", validation=data / "others.jsonl").values()),
        epochs=3, seeds=(0, 1), learning_rate=5e-3, batch_size=16, max_length=16, cleaning="none", verbose=0,
    )  # fmt: skip
    assert found[models[0]]["sign"] == {"metric": "accuracy", **tuned.metrics["accuracy"]}
    assert found["untrained"]["bits_per_character"] != found[models[0]]["bits_per_character"]
    assert len(found["untrained"]["sign"]["values"]) == 2


def test_finished_seeds_are_not_trained_again(models, data, figures, package_log):
    found, settings = figures
    package_log.set_level(logging.INFO, logger="keras_pretrain")
    again = kp.runs.evaluate_suite(models[:1], data, data / "suite.yaml", **settings)
    assert again == {models[0]: found[models[0]]}
    assert "not trained again: 0, 1" in package_log.text


def test_the_command_prints_a_table_and_writes_json(models, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--model", models[0], "--data", data, "--suite", data / "suite.yaml", "--tasks", "halves", "--seeds", "1"]
    assert main(["evaluate", *map(str, words), "--precision", "float32", "--json-file", "all.json"]) == 0
    table, written = capsys.readouterr().out, json.loads((tmp_path / "all.json").read_text())
    halves = written[models[0]]["halves"]
    assert f"| halves, f1_macro | {halves['mean']:.4f} ± 0.0000 |" in table
    assert f"{written[models[0]]['bits_per_character']:.3f}" in table
    assert "sign," not in table


def test_without_seeds_only_words_are_compared(models, data, tmp_path):
    found = kp.runs.evaluate_suite(models[:1], data, data / "suite.yaml", seeds=0, output=tmp_path / "none")
    assert "bits_per_character" in found[models[0]]
    assert "sign" not in found[models[0]]
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["korean", "english"])
def test_the_packages_own_suites_can_be_read(name):
    suite = read_suite(name)
    assert suite.tasks
    for task in suite.tasks.values():
        assert task.train["file"].startswith(suite.name[:2])


def without(entry):
    return {name: value for name, value in SUITE.items() if name != entry}


def with_task(**changes):
    return SUITE | {"tasks": {"sign": SUITE["tasks"]["sign"] | changes}}


@pytest.mark.parametrize(
    ("suite", "arguments", "words"),
    [
        ("swahili", {}, r"swahili.*korean"),
        ([1], {}, r"bad\.yaml"),
        (SUITE | {"txt": 1}, {}, r"txt.*text"),
        (without("cleaning"), {}, r"cleaning"),
        (SUITE | {"cleaning": "all"}, {}, r"cleaning.*prose.*'all'"),
        ({"cleaning": "none"}, {}, r"text.*tasks"),
        (SUITE | {"text": {"part": "validation"}}, {}, r"text.*file"),
        (SUITE | {"text": {"file": "texts", "part": "test"}}, {}, r"part.*validation.*'test'"),
        (with_task(metric="spearman"), {}, r"sign.*spearman.*accuracy"),
        (with_task(epoch=3), {}, r"sign.*epoch.*epochs"),
        (with_task(train={"file": "signs", "texts": "a"}), {}, r"sign.*texts"),
        (with_task(train={"file": "missing"}), {}, r"missing \(sign\)"),
        (with_task(train={"file": "twice"}), {}, r"twice.*twice\.csv, twice\.tsv"),
        (SUITE, {"tasks": ["sing"]}, r"sing.*sign"),
        (SUITE, {"seeds": -1}, r"seeds.*-1"),
        (SUITE, {"data": "nowhere"}, r"data.*nowhere"),
        (SUITE, {"models": ["./none"]}, r"none"),
        (SUITE, {"models": []}, r"model.*one"),
        (SUITE, {"models": ["untrained"], "untrained": True}, r"untrained.*\./untrained"),
        (SUITE, {"precision": "float8"}, r"precision.*float8"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_computed(
    suite, arguments, words, models, data, tmp_path, monkeypatch
):
    monkeypatch.setattr("keras_pretrain.runs.suite.evaluate_hidden_words", None)  # would be a TypeError
    for name in ("twice.csv", "twice.tsv"):
        (data / name).write_text("text\tlabel\n")
    if not isinstance(suite, str):
        (tmp_path / "bad.yaml").write_text(yaml.safe_dump(suite, allow_unicode=True))
        suite = tmp_path / "bad.yaml"
    settings = {"models": models, "data": data, "suite": suite, "output": tmp_path / "output"} | arguments
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        kp.runs.evaluate_suite(**settings)
    assert not (tmp_path / "output").exists()


def test_an_encoder_without_an_mlm_head_is_compared_on_tasks_alone(tokenizer, data, tmp_path, package_log):
    package_log.set_level(logging.INFO, logger="keras_pretrain")
    pair = kp.ElectraPretrainer.from_size("tiny", tokenizer, hidden_size=32, num_attention_heads=2)
    name = str(kp.save_checkpoint(pair.discriminator, tokenizer, tmp_path / "discriminator"))
    assert kp.runs.evaluate_suite([name], data, data / "suite.yaml", seeds=0) == {name: {}}
    assert "MLM head" in package_log.text
