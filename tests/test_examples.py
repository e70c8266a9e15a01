"""The examples run through their own entry points, with smaller settings."""

import ast
import csv
import importlib
import json
import sys
from pathlib import Path

import pytest
from conftest import no_xla
from hub_server import TOKEN

from keras_pretrain.folders import MANIFEST

pytestmark = pytest.mark.usefixtures("without_xla")
EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
SMALL = ["--steps", "4", "--steps-per-epoch", "1", "--batch-size", "4", "--vocab-size", "600", "--num-proc", "1",
         "--passes", "1"]  # fmt: skip
BLOCK = ["--block-size", "32"]


@pytest.fixture(scope="module", autouse=True)
def examples_folder():
    sys.path.insert(0, str(EXAMPLES))
    yield
    sys.path.remove(str(EXAMPLES))


def run(script: str, *arguments) -> None:
    importlib.import_module(script).main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    output = tmp_path_factory.mktemp("first_run")
    with no_xla():
        run("pretrain_bert", *SMALL, *BLOCK, "--tensorboard", output / "tensorboard", "--output", output)
    return output


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_short_and_complete_in_itself(script):
    text = script.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    neighbours = {path.stem for path in SCRIPTS}
    for node in ast.walk(ast.parse(text)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert not neighbours & {name.split(".")[0] for name in names}


def test_the_sample_is_pretrained_and_the_metrics_are_written(first_run):
    metrics = json.loads((first_run / "metrics.json").read_text())
    names = {"loss", "mlm_loss", "mlm_accuracy", "nsp_loss", "nsp_accuracy"}
    assert names | {f"val_{name}" for name in names} <= set(metrics)
    assert metrics["tokens_per_second"] > 0
    assert metrics["settings"]["steps"] == 4
    assert metrics["seed"] == 42
    assert metrics["corpus"]["train"] + metrics["corpus"]["validation"] == 160
    assert {"keras_pretrain", "tensorflow", "transformers"} <= set(metrics["versions"])


def test_what_can_be_watched_is_there(first_run):
    with (first_run / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[-1]["learning_rate"]) < float(rows[0]["learning_rate"])  # BERT's default falls linearly
    assert 0 <= float(rows[-1]["padding"]) < 1
    assert (first_run / "training_curves.png").read_bytes().startswith(b"\x89PNG")
    written = {path.parent.relative_to(first_run / "tensorboard").as_posix() for path in first_run.rglob("events.out*")}
    assert written == {"figures/train", "figures/validation", "preview"}


def test_the_model_card_tells_the_run(first_run):
    card = (first_run / "README.md").read_text(encoding="utf-8")
    assert "the sample inside keras_pretrain" in card
    assert "Korean" in card
    assert "| learning rate | 0.001 |" in card
    assert "| val_mlm_loss | " in card
    assert str(first_run) not in card


def test_the_same_command_again_finds_its_run_finished(first_run, package_log):
    weights = (first_run / "model.safetensors").read_bytes()
    metrics = json.loads((first_run / "metrics.json").read_text())
    run("pretrain_bert", *SMALL, *BLOCK, "--tensorboard", first_run / "tensorboard", "--output", first_run)
    assert "is finished: 4 of 4 steps" in package_log.text
    assert (first_run / "model.safetensors").read_bytes() == weights
    assert json.loads((first_run / "metrics.json").read_text()) == metrics


def test_another_run_in_the_same_folder_is_refused(first_run):
    with pytest.raises(ValueError, match=r"holds another run: .*model.seed is 7 and was 42"):
        run("pretrain_bert", *SMALL, *BLOCK, "--seed", "7", "--output", first_run)


def test_wrong_arguments_end_a_script_with_one_line(capsys, tmp_path):
    for script, arguments, word in (
        ("pretrain_bert", ["--learning-rate", "0"], "--learning-rate"),
        ("pretrain_bert", ["--corpus", "./none"], "none"),
        ("pretrain_electra", ["--init-generator-from", str(tmp_path)], "--init-from"),
        ("prepare_corpus", ["--corpus", "./none", "--output", str(tmp_path)], "none"),
    ):
        with pytest.raises(SystemExit) as ended:
            run(script, *arguments)
        assert ended.value.code == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert word in lines[0]


def test_training_goes_on_from_a_checkpoint_with_its_tokenizer(first_run, tmp_path, capsys):
    text = tmp_path / "corpus.csv"
    rows = [f'{i},"문서 {i}번이다. 데이터를 모은다. 모델을 배운다."' for i in range(40)]
    text.write_text("\n".join(["id,story", *rows]), encoding="utf-8")
    run("pretrain_bert", *SMALL, *BLOCK, "--corpus", text, "--text-column", "story", "--init-from", first_run,
        "--objective", "mlm", "--output", tmp_path / "out")  # fmt: skip
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert "val_mlm_loss" in metrics
    assert "val_nsp_loss" not in metrics
    assert (tmp_path / "out" / "vocab.txt").read_text() == (first_run / "vocab.txt").read_text()
    assert "질문 하나에는" in capsys.readouterr().out.split("is ready")[1]


def test_a_corpus_is_prepared(tmp_path, capsys):
    text = tmp_path / "corpus.txt"
    documents = (f"문서 {i}번이다.\n데이터를 모은다.\n모델을 배운다." for i in range(60))
    text.write_text("\n\n".join(documents), encoding="utf-8")
    arguments = ["--corpus", text, "--output", tmp_path / "out", "--block-size", "16", "--vocab-size", "300"]
    run("prepare_corpus", *arguments, "--num-proc", "1")
    assert "'train': " in capsys.readouterr().out
    assert (tmp_path / "out" / "report.json").exists()


@pytest.fixture(scope="module")
def electra_run(tmp_path_factory):
    output = tmp_path_factory.mktemp("electra_run")
    with no_xla():
        run("pretrain_electra", *SMALL, *BLOCK, "--output", output)
    return output


def test_an_electra_is_pretrained_and_the_metrics_are_written(electra_run):
    metrics = json.loads((electra_run / "metrics.json").read_text())
    names = {"loss", "mlm_loss", "disc_loss", "disc_auc", "replaced_accuracy", "original_accuracy"}
    assert names | {f"val_{name}" for name in names} <= set(metrics)
    assert {path.name for path in electra_run.iterdir()} >= {"generator", "model.safetensors", "run", MANIFEST}


def test_an_electra_goes_on_from_its_folder(electra_run, tmp_path, capsys):
    run("pretrain_electra", *SMALL, *BLOCK, "--init-from", electra_run, "--output", tmp_path)
    assert (tmp_path / "vocab.txt").read_text() == (electra_run / "vocab.txt").read_text()
    assert "replaced tokens found" in capsys.readouterr().out.split("is ready")[1]


def test_two_phases_train_one_model_with_one_schedule(tmp_path):
    run("pretrain_in_phases", *SMALL, "--phases", "32:0.5", "64:0.5", "--output", tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["settings"]["phases"] == ["32:0.5", "64:0.5"]
    assert metrics["val_mlm_loss"] < 8
    assert {path.name for path in tmp_path.glob("run-*")} == {"run-32", "run-64"}
    assert {path.name for path in tmp_path.glob("*.png")} == {"training_curves-32.png", "training_curves-64.png"}
    assert (tmp_path / "model.safetensors").exists()


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Forty texts on two subjects, as a CSV file."""
    path = tmp_path_factory.mktemp("labelled") / "texts.csv"
    rows = [f"모델을 배운다 {i},배움" if i % 2 else f"파일을 지운다 {i},파일" for i in range(40)]
    path.write_text("\n".join(["글,종류", *rows]), encoding="utf-8")
    return path


def test_a_classifier_is_fine_tuned_and_its_metrics_are_written(first_run, labelled, tmp_path, capsys):
    run("finetune_classifier", "--model", first_run, "--train", labelled, "--validation", "0.25", "--text-column", "글",
        "--label-column", "종류", "--batch-size", "8", "--epochs", "10", "--learning-rate", "1e-3", "--seeds", "2",
        "--output", tmp_path)  # fmt: skip
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert {"accuracy", "f1", "f1_macro", "loss"} <= set(metrics)
    assert set(metrics["by_seed"]) == {"42", "43"}
    mean = sum(each["accuracy"] for each in metrics["by_seed"].values()) / 2
    assert metrics["accuracy"] == pytest.approx(mean)
    assert metrics["accuracy"] > 0.9
    assert json.loads((tmp_path / "config.json").read_text())["id2label"] == {"0": "배움", "1": "파일"}
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert f"{metrics['accuracy']:.4g}" in card
    assert "accuracy" in capsys.readouterr().out


def test_a_bert_is_adapted_and_evaluated_before_and_after(first_run, tmp_path, capsys):
    sentences = tmp_path / "sentences.csv"
    rows = [f"딥러닝 모델은 텐서플로로 {i}번 배운다" for i in range(60)]
    sentences.write_text("\n".join(["sen", *rows]), encoding="utf-8")
    arguments = [each for each in SMALL if each not in ("--vocab-size", "600")]
    run("adapt_bert", *arguments, *BLOCK, "--model", first_run, "--corpus", sentences, "--text-column", "sen",
        "--new-tokens", "2", "--output", tmp_path / "out")  # fmt: skip
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["adapted"]["mlm_loss"] != metrics["before"]["mlm_loss"]
    assert "nsp_loss" not in metrics  # single sentences
    vocabularies = [(folder / "vocab.txt").read_text().splitlines() for folder in (first_run, tmp_path / "out")]
    assert vocabularies[1][:-2] == vocabularies[0]
    assert "loss_per_character" in capsys.readouterr().out


def test_a_model_is_exported_uploaded_and_asked(first_run, hub, tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorflow_text", reason="tensorflow-text is not installed: pip install -e '.[serving]'")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    served = tmp_path / "served" / "1"
    run("export_model", "--model", first_run, "--saved-model", served, "--push-to", "me/my_bert")
    assert {"README.md", "model.safetensors", "metrics.json"} <= set(hub.repositories["me/my_bert"]["files"])
    assert not any(name.startswith("run") for name in hub.repositories["me/my_bert"]["files"])
    capsys.readouterr()
    run("fill_mask", "--model", first_run, "--top-k", "2", "컴퓨터는 [MASK]를 [MASK].")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["컴퓨터는", "gap"]
    assert len(lines) == 1 + 2 * 3


def test_what_the_scripts_are_not_told_is_asked_for(first_run, tmp_path, capsys):
    for script, arguments, message in (
        ("export_model", ["--model", first_run], "say where to"),
        ("export_model", ["--model", tmp_path / "none", "--saved-model", "x"], "--model: there is no folder"),
        ("fill_mask", ["--model", first_run, "가나다"], "there is no [MASK] in '가나다'"),
    ):
        with pytest.raises(SystemExit):
            run(script, *arguments)
        assert message in capsys.readouterr().err
