"""A suite compares checkpoints on hidden words and fine-tuned tasks, and refuses what is wrong before it computes."""

import json
import logging
import shutil

import pytest
import yaml
from conftest import no_xla
from tasks import save_bert, with_a_sign
from transformers import TFElectraModel

import keras_pretrain as kp
from keras_pretrain.commands import main
from keras_pretrain.runs.suite import read_suite, suite_table

SUITE = {
    "cleaning": "none",
    "text": {"file": "texts"},
    "pairs": {"file": "documents", "language": "en"},
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
    documents = ["\n".join(signs["text"][start : start + 5]) for start in range(0, 200, 5)]  # a line ends a sentence
    (folder / "documents.txt").write_text("\n\n".join(documents), encoding="utf-8")
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
def with_nsp(models, tokenizer, tmp_path_factory):
    """The BERT with an NSP head that looks trained."""
    model = kp.BertPretrainer.from_pretrained(models[0])
    model.nsp.seq_relationship.bias.assign([0.1, -0.1])
    return str(kp.save_checkpoint(model, tokenizer, tmp_path_factory.mktemp("with_nsp")))


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
    judged = kp.evaluation.evaluate_replaced_tokens(models[1], texts, block_size=128, cleaning="none")
    assert {each: found[models[1]][each] for each in judged} == pytest.approx(judged, rel=1e-5)
    for name in (models[0], "untrained"):  # a BERT whose NSP head was never trained
        assert not {*judged, "nsp_accuracy", "order_accuracy"} & found[name].keys()
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


def test_results_of_other_settings_are_kept_and_refused(models, data, figures, tmp_path):
    _, settings = figures
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(with_task(epochs=1), allow_unicode=True))
    results = [path for path in settings["output"].rglob("[!.]*") if path.is_file()]
    before = [path.read_bytes() for path in results]
    with pytest.raises(ValueError, match=r"`output`.*epochs is 1 and was 3.*another output"):
        kp.runs.evaluate_suite(models[:1], data, tmp_path / "other.yaml", **settings)
    assert len(results) > 5
    assert [path.read_bytes() for path in results] == before


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


def test_a_trained_nsp_head_is_asked_for_next_sentences(models, with_nsp, data, package_log):
    package_log.set_level(logging.INFO, logger="keras_pretrain")
    compared = [*models, with_nsp]
    found = kp.runs.evaluate_suite(compared, data, data / "suite.yaml", seeds=0, precision="float32")
    documents = kp.load_corpus(data / "documents.txt", validation_fraction=0)["train"]
    sentences = kp.prepare_sentences(documents, language="en", cleaning="none", backend="lines")
    pairs = kp.evaluation.evaluate_next_sentences(with_nsp, sentences, block_size=32)  # the BERT has 32 positions
    assert pairs["nsp_pairs"] > 40
    assert {each: found[with_nsp][each] for each in pairs} == pairs
    assert not any("nsp_accuracy" in found[name] for name in models)
    assert f"{models[0]} has an NSP head that was never trained" in package_log.text
    table = suite_table(found)
    assert f"| next sentences right | - | - | {pairs['nsp_accuracy']:.3f} |" in table
    assert f"| order of sentences right | - | - | {pairs['order_accuracy']:.3f} |" in table
    judged = found[models[1]]
    assert f"| replaced tokens, AUC | - | {judged['disc_auc']:.3f} | - |" in table
    assert f"| replaced tokens found | - | {judged['replaced_accuracy']:.3f} | - |" in table
    assert f"| original tokens recognized | - | {judged['original_accuracy']:.3f} | - |" in table
    assert f"| originals among the generator's tokens | - | {judged['sampled_original']:.3f} | - |" in table


def test_without_the_sentence_splitter_next_sentences_are_left_out(with_nsp, data, monkeypatch, package_log):
    def missing(*args, **how):
        raise ModuleNotFoundError("Splitting needs nltk: pip install keras_pretrain[english].")

    monkeypatch.setattr("keras_pretrain.runs.suite.prepare_sentences", missing)
    package_log.set_level(logging.INFO, logger="keras_pretrain")
    found = kp.runs.evaluate_suite([with_nsp], data, data / "suite.yaml", seeds=0, precision="float32")
    assert "bits_per_character" in found[with_nsp]
    assert "nsp_accuracy" not in found[with_nsp]
    assert "keras_pretrain[english]" in package_log.text


OF_MLM = {"versions": {"keras_pretrain": "1"}, "settings": {"objective": "mlm"}}


@pytest.mark.parametrize(
    ("files", "is_asked"),
    [
        ({"metrics.json": OF_MLM}, False),
        ({"run.yaml": {"kind": "bert", "objective": "mlm"}}, False),
        ({"metrics.json": {"arguments": {"objective": "mlm"}}}, False),  # of an older version
        ({"metrics.json": [1], "run.yaml": {"kind": "bert", "objective": "mlm"}}, False),
        ({"metrics.json": OF_MLM | {"settings": {"objective": "mlm+nsp"}}}, True),
        ({"metrics.json": OF_MLM | {"settings": {"objective": "mlm+nsp"}}, "run.yaml": {"objective": "mlm"}}, True),
        ({"metrics.json": {"accuracy": 1}, "run.yaml": [1]}, True),
    ],
)
def test_the_nsp_head_of_a_run_without_next_sentences_is_left_out(
    files, is_asked, with_nsp, data, tmp_path, monkeypatch, package_log
):
    package_log.set_level(logging.INFO, logger="keras_pretrain")
    monkeypatch.setattr("keras_pretrain.runs.suite.evaluate_next_sentences", lambda *args, **how: {"nsp_accuracy": 1})
    suite = {"cleaning": "none", "pairs": SUITE["pairs"]}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
    shutil.copytree(with_nsp, tmp_path / "model")
    for name, content in files.items():
        (tmp_path / "model" / name).write_text(json.dumps(content))  # JSON is YAML, too
    name = str(tmp_path / "model")
    found = kp.runs.evaluate_suite([name], data, tmp_path / "suite.yaml")
    assert found == {name: {"nsp_accuracy": 1} if is_asked else {}}
    assert ("objective mlm" in package_log.text) == (not is_asked)


@pytest.mark.parametrize("name", ["korean", "english"])
def test_the_packages_own_suites_can_be_read(name):
    suite = read_suite(name)
    assert suite.tasks
    for task in suite.tasks.values():
        assert task.train["file"].startswith(suite.name[:2])
    assert (suite.pairs or {}).get("language") == (None if name == "korean" else "en")  # Korean: one sentence each


def without(entry):
    return {name: value for name, value in SUITE.items() if name != entry}


def with_task(**changes):
    return SUITE | {"tasks": {"sign": SUITE["tasks"]["sign"] | changes}}


def with_pairs(**changes):
    return SUITE | {"pairs": SUITE["pairs"] | changes}


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
        (SUITE | {"text": {"file": "texts", "column": "a"}}, {}, r"text.*column.*text_column"),
        (SUITE | {"text": {"file": "texts", "language": "en"}}, {}, r"text.*language.*Known"),
        (SUITE | {"text": "texts"}, {}, r"text.*mapping.*'texts'"),
        (SUITE | {"pairs": "documents"}, {}, r"pairs.*mapping.*'documents'"),
        (SUITE | {"pairs": {"language": "en"}}, {}, r"pairs.*file"),
        (SUITE | {"pairs": {"file": "documents"}}, {}, r"pairs.*language.*ko or en"),
        (SUITE | {"pairs": {"file": "documents", "language": "fr"}}, {}, r"pairs.*language.*ko or en.*'fr'"),
        (with_pairs(lang="en"), {}, r"pairs.*lang\b.*language"),
        (with_pairs(part="test"), {}, r"pairs.*part.*'test'"),
        (with_pairs(file="missing"), {}, r"missing \(pairs\)"),
        (with_pairs(file="texts"), {}, r"pairs.*No pair of sentences"),
        (with_task(metric="spearman"), {}, r"sign.*spearman.*accuracy"),
        (with_task(epoch=3), {}, r"sign.*epoch.*epochs"),
        (with_task(epochs=0), {}, r"sign.*epochs .*at least 1.*\b0\b"),
        (with_task(epochs=True), {}, r"sign.*epochs .*whole number.*True"),
        (with_task(learning_rate="low"), {}, r"sign.*learning_rate .*above 0.*'low'"),
        (with_task(token_dropout=1.0), {}, r"sign.*token_dropout .*below 1.*1\.0"),
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
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(with_pairs(file="texts")))  # unused, so no pairs are needed
    assert kp.runs.evaluate_suite([name], data, tmp_path / "suite.yaml", seeds=0) == {name: {}}
    assert "MLM head" in package_log.text
    assert "no generator/ beside" in package_log.text


def test_an_electra_without_its_discriminators_head_is_not_asked_for_replaced_tokens(
    models, tokenizer, data, tmp_path, package_log
):
    package_log.set_level(logging.INFO, logger="keras_pretrain")
    shutil.copytree(models[1], tmp_path / "electra")
    encoder = TFElectraModel.from_pretrained(tmp_path / "electra")
    kp.save_checkpoint(encoder, tokenizer, tmp_path / "encoder")
    shutil.copy(tmp_path / "encoder" / "model.safetensors", tmp_path / "electra")
    name = str(tmp_path / "electra")
    found = kp.runs.evaluate_suite([name], data, data / "suite.yaml", seeds=0)[name]
    assert "bits_per_character" in found
    assert "disc_auc" not in found
    assert "no discriminator's head" in package_log.text
