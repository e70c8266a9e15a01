"""The examples run through their own entry points, with smaller settings."""

import csv
import importlib
import json
import re
import sys
from pathlib import Path

import pytest
from conftest import no_xla
from hub_server import TOKEN

from keras_pretrain.folders import MANIFEST

# The first run, which is a module's fixture, has XLA.
pytestmark = pytest.mark.usefixtures("without_xla")
EXAMPLES = Path(__file__).parent.parent / "examples"
SMALL = ["--steps", "4", "--steps-per-epoch", "1", "--batch-size", "4", "--block-size", "32", "--vocab-size", "600",
         "--num-proc", "1"]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def examples_folder():
    """A script finds what stands beside it."""
    sys.path.insert(0, str(EXAMPLES))
    yield
    sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def pretrain_bert():
    return importlib.import_module("pretrain_bert")


@pytest.fixture(scope="module")
def pretrain_electra():
    return importlib.import_module("pretrain_electra")


@pytest.fixture(scope="module")
def first_run(pretrain_bert, tmp_path_factory):
    output = tmp_path_factory.mktemp("first_run")
    pretrain_bert.main([*SMALL, "--tensorboard", str(output / "tensorboard"), "--output", str(output)])
    return output


def test_the_sample_is_pretrained_and_the_figures_are_written(first_run):
    metrics = json.loads((first_run / "metrics.json").read_text())
    names = {"loss", "mlm_loss", "mlm_accuracy", "nsp_loss", "nsp_accuracy"}
    assert names | {f"val_{name}" for name in names} <= set(metrics)
    assert metrics["tokens_per_second"] > 0
    assert metrics["arguments"]["steps"] == 4
    assert metrics["seed"] == 42
    assert {"keras_pretrain", "tensorflow", "transformers"} <= set(metrics["versions"])


def test_what_can_be_watched_is_there(first_run):
    with (first_run / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[-1]["learning_rate"]) < float(rows[0]["learning_rate"])  # BERT's default falls linearly
    assert 0 <= float(rows[-1]["padding"]) < 1
    assert 0 <= float(rows[-1]["waiting"]) <= 1
    assert (first_run / "training_curves.png").read_bytes().startswith(b"\x89PNG")
    written = {path.parent.relative_to(first_run / "tensorboard").as_posix() for path in first_run.rglob("events.out*")}
    assert written == {"figures/train", "figures/validation", "preview"}


def test_the_model_card_tells_the_run(first_run):
    card = (first_run / "README.md").read_text(encoding="utf-8")
    counts = json.loads((first_run / "metrics.json").read_text())["corpus"]
    assert counts["train"] + counts["validation"] == 160
    assert (
        f"Corpus: the sample inside keras_pretrain; Korean; {counts['train']} documents for train, "
        f"{counts['validation']} documents for validation." in card
    )
    assert '"comments"' in card
    assert "| learning rate | 0.001 |" in card
    assert "| val_mlm_loss | " in card


def test_a_checkpoint_is_asked_about_two_gaps(first_run, capsys):
    importlib.import_module("fill_mask").main(["--model", str(first_run), "--top-k", "2", "컴퓨터는 [MASK]를 [MASK]."])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["컴퓨터는", "gap"]
    assert len(lines) == 1 + 2 * 3


def test_a_model_is_exported_uploaded_and_asked(first_run, hub, tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorflow_text", reason="tensorflow-text is not installed: pip install -e '.[serving]'")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    served = tmp_path / "served" / "1"
    importlib.import_module("export_model").main(
        ["--model", str(first_run), "--saved-model", str(served), "--push-to", "me/my_bert"]
    )
    assert {"README.md", "model.safetensors", "metrics.json"} <= set(hub.repositories["me/my_bert"]["files"])
    assert not any(name.startswith("run/") for name in hub.repositories["me/my_bert"]["files"])
    capsys.readouterr()
    question = ["--top-k", "3", "컴퓨터는 데이터를 [MASK]에 저장한다."]
    fill_mask = importlib.import_module("fill_mask")
    for folder in (first_run, served):
        fill_mask.main(["--model", str(folder), *question])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert lines[:4] == lines[4:]


def test_what_the_examples_are_not_told_is_asked_for(first_run, tmp_path, capsys):
    export_model, fill_mask = (importlib.import_module(name) for name in ("export_model", "fill_mask"))
    for main, arguments, message in (
        (export_model.main, ["--model", str(first_run)], "say where to"),
        (export_model.main, ["--model", str(tmp_path / "none"), "--saved-model", "x"], "there is no folder"),
        (fill_mask.main, ["--model", str(first_run), "가나다"], "there is no [MASK] in '가나다'"),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        assert message in capsys.readouterr().err


def test_the_same_command_again_finds_its_run_finished(pretrain_bert, first_run, package_log):
    weights = (first_run / "model.safetensors").read_bytes()
    metrics = json.loads((first_run / "metrics.json").read_text())
    pretrain_bert.main([*SMALL, "--tensorboard", str(first_run / "tensorboard"), "--output", str(first_run)])
    assert "is finished: 4 of 4 steps" in package_log.text
    assert (first_run / "model.safetensors").read_bytes() == weights
    again = json.loads((first_run / "metrics.json").read_text())
    assert again == metrics


def test_another_run_in_the_same_folder_is_refused(pretrain_bert, first_run):
    with pytest.raises(ValueError, match=r"holds another run: .*model.seed is 7 and was 42"):
        pretrain_bert.main([*SMALL, "--seed", "7", "--output", str(first_run)])


def test_a_learning_rate_of_zero_is_refused_before_anything_is_read(pretrain_bert, tmp_path):
    with pytest.raises(ValueError, match="learning_rate must be above 0"):
        pretrain_bert.main(["--learning-rate", "0", "--corpus", "missing.txt", "--output", str(tmp_path)])


def test_training_goes_on_from_a_checkpoint_with_its_tokenizer(pretrain_bert, first_run, tmp_path, capsys):
    text = tmp_path / "corpus.txt"
    text.write_text(
        "\n\n".join(f"문서 {i}번이다. 데이터를 모은다. 모델을 배운다." for i in range(40)), encoding="utf-8"
    )
    pretrain_bert.main([*SMALL, "--corpus", str(text), "--init-from", str(first_run), "--objective", "mlm",
                        "--output", str(tmp_path / "out")])  # fmt: skip
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert "val_mlm_loss" in metrics
    assert "val_nsp_loss" not in metrics
    assert (tmp_path / "out" / "vocab.txt").read_text() == (first_run / "vocab.txt").read_text()
    assert "컴퓨터는 데이터를" in capsys.readouterr().out.split("is ready")[1]


@pytest.fixture(scope="module")
def prepared_corpus(tmp_path_factory):
    text = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    documents = (f"문서 {i}번이다.\n데이터를 모은다.\n모델을 배운다.\n파일을 지운다." for i in range(60))
    text.write_text("\n\n".join(documents), encoding="utf-8")
    output = tmp_path_factory.mktemp("prepared")
    importlib.import_module("prepare_corpus").main(
        ["--corpus", str(text), "--output", str(output), "--block-size", "16", "--vocab-size", "300", "--num-proc", "1"]
    )
    return output


def test_a_prepared_corpus_is_trained_on(pretrain_bert, prepared_corpus, tmp_path, capsys):
    pretrain_bert.main(["--prepared", str(prepared_corpus), "--steps", "20", "--batch-size", "8",
                        "--output", str(tmp_path)])  # fmt: skip
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["arguments"]["block_size"] == 16
    assert metrics["corpus"]["train"] + metrics["corpus"]["validation"] == 60
    assert "val_nsp_accuracy" in metrics
    assert (tmp_path / "vocab.txt").read_text() == (prepared_corpus / "tokenizer" / "vocab.txt").read_text()
    assert "prepare_corpus.py --passes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--block-size", "32"], "blocks of 16 tokens, not of 32"), (["--objective", "mlm"], "or prepare it again with")],
)
def test_a_prepared_corpus_that_does_not_fit_is_refused(pretrain_bert, prepared_corpus, arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        pretrain_bert.main(["--prepared", str(prepared_corpus), *arguments, "--output", str(tmp_path)])


def test_arguments_of_the_other_engine_are_refused(tmp_path, capsys):
    prepare_corpus = importlib.import_module("prepare_corpus")
    for more, message in (
        (["--ray-address", "auto"], "--ray-address is for --engine ray"),
        (["--engine", "ray", "--num-proc", "2"], "--num-proc is for --engine local"),
    ):
        with pytest.raises(SystemExit):
            prepare_corpus.main(["--corpus", "x.txt", "--output", str(tmp_path), *more])
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environment", "arguments", "message"),
    [({}, ["--prepared"], "needs TF_CONFIG"), ({"TF_CONFIG": "{}"}, [], "needs --prepared")],
)
def test_several_machines_need_an_address_and_a_prepared_corpus(
    pretrain_bert, prepared_corpus, environment, arguments, message, tmp_path, monkeypatch
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    arguments = [*arguments, str(prepared_corpus)] if arguments else []
    with pytest.raises(ValueError, match=message):
        pretrain_bert.main([*arguments, "--strategy", "multiworker", "--output", str(tmp_path)])


def test_a_worker_of_ray_runs_the_script_as_one_of_several(monkeypatch):
    pretrain_on_ray = importlib.import_module("pretrain_on_ray")
    args = pretrain_on_ray.parse_arguments(["--workers", "2", "pretrain_bert", "--steps", "10", "--output", "x"])
    assert args.arguments == ["--steps", "10", "--output", "x"]
    seen = []
    monkeypatch.setattr("pretrain_bert.main", seen.append)
    monkeypatch.setattr("sys.path", list(sys.path))
    pretrain_on_ray.work({"examples": str(EXAMPLES), "script": args.script, "arguments": args.arguments})
    assert seen == [["--steps", "10", "--output", "x", "--strategy", "multiworker"]]


def test_english_runs_too(pretrain_bert, tmp_path):
    text = tmp_path / "corpus.csv"
    rows = [f'{i},"Dr. Smith has {i} cats. They don\'t sleep. The cats eat fish."' for i in range(40)]
    text.write_text("\n".join(["id,story", *rows]), encoding="utf-8")
    pretrain_bert.main([*SMALL, "--corpus", str(text), "--text-column", "story", "--language", "en",
                        "--output", str(tmp_path / "out")])  # fmt: skip
    assert "##'" not in (tmp_path / "out" / "vocab.txt").read_text()
    assert "val_nsp_accuracy" in json.loads((tmp_path / "out" / "metrics.json").read_text())


@pytest.fixture(scope="module")
def electra_run(pretrain_electra, tmp_path_factory):
    output = tmp_path_factory.mktemp("electra_run")
    with no_xla():
        pretrain_electra.main([*SMALL, "--output", str(output)])
    return output


def test_an_electra_is_pretrained_and_the_figures_are_written(electra_run):
    metrics = json.loads((electra_run / "metrics.json").read_text())
    names = {"loss", "mlm_loss", "disc_loss", "disc_auc", "replaced_accuracy", "original_accuracy"}
    assert names | {f"val_{name}" for name in names} <= set(metrics)
    assert {path.name for path in electra_run.iterdir()} == {
        "generator", "discriminator", "metrics.json", "run", "history.csv", "training_curves.png", MANIFEST
    }  # fmt: skip


def test_an_electra_goes_on_from_its_two_folders(pretrain_electra, electra_run, tmp_path, capsys):
    parts = ["--init-from", electra_run / "discriminator", "--init-generator-from", electra_run / "generator"]
    pretrain_electra.main([*SMALL, *map(str, parts), "--output", str(tmp_path)])
    vocabularies = [(folder / "discriminator" / "vocab.txt").read_text() for folder in (electra_run, tmp_path)]
    assert vocabularies[0] == vocabularies[1]
    assert "replaced tokens found" in capsys.readouterr().out.split("is ready")[1]


def test_two_phases_train_one_model_with_one_schedule(tmp_path):
    pretrain_in_phases = importlib.import_module("pretrain_in_phases")
    pretrain_in_phases.main([*SMALL, "--long-block-size", "64", "--long-share", "0.5", "--output", str(tmp_path)])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["arguments"]["block_size"], metrics["arguments"]["batch_size"]) == (32, 4)
    assert metrics["val_mlm_loss"] < 8
    assert {path.name for path in tmp_path.glob("run-*")} == {"run-short", "run-long"}
    assert {path.name for path in tmp_path.glob("*.png")} == {"training_curves-short.png", "training_curves-long.png"}
    assert (tmp_path / "model.safetensors").exists()


def test_a_generator_without_its_discriminator_is_refused(pretrain_electra, capsys):
    with pytest.raises(SystemExit):
        pretrain_electra.main(["--init-generator-from", "somewhere"])
    assert "needs --init-from" in capsys.readouterr().err


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Forty texts on two subjects, as a CSV file."""
    path = tmp_path_factory.mktemp("labelled") / "texts.csv"
    rows = [f"모델을 배운다 {i},배움" if i % 2 else f"파일을 지운다 {i},파일" for i in range(40)]
    path.write_text("\n".join(["글,종류", *rows]), encoding="utf-8")
    return path


def test_a_classifier_is_fine_tuned_and_its_figures_are_written(first_run, labelled, tmp_path, capsys):
    finetune_classifier = importlib.import_module("finetune_classifier")
    finetune_classifier.main(["--model", str(first_run), "--train", str(labelled), "--validation", "0.25",
                              "--text-column", "글", "--label-column", "종류", "--batch-size", "8", "--epochs", "10",
                              "--learning-rate", "1e-3", "--seeds", "2", "--output", str(tmp_path)])  # fmt: skip
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert {"accuracy", "f1", "f1_macro", "loss"} <= set(metrics)
    assert set(metrics["by_seed"]) == {"42", "43"}
    mean = sum(run["accuracy"] for run in metrics["by_seed"].values()) / 2
    assert metrics["accuracy"] == pytest.approx(mean)
    assert metrics["accuracy"] > 0.9
    assert metrics["arguments"]["epochs"] == 10
    assert json.loads((tmp_path / "config.json").read_text())["id2label"] == {"0": "배움", "1": "파일"}
    assert "it is 배움" in capsys.readouterr().out


def test_labels_with_a_fraction_are_refused_before_training(first_run, tmp_path):
    finetune_classifier = importlib.import_module("finetune_classifier")
    path = tmp_path / "scores.csv"
    path.write_text("text,label\n글,0.5\n글 둘,1.5\n", encoding="utf-8")
    with pytest.raises(ValueError, match="give regression=True"):
        finetune_classifier.main(["--model", str(first_run), "--train", str(path), "--output", str(tmp_path)])


def test_a_bert_is_adapted_and_judged_before_and_after(first_run, labelled, tmp_path, capsys, package_log):
    """A CSV of single sentences, new words, and a task."""
    adapt_bert = importlib.import_module("adapt_bert")
    sentences = tmp_path / "sentences.csv"
    rows = [f"딥러닝 모델은 텐서플로로 {i}번 배운다" for i in range(60)]
    sentences.write_text("\n".join(["sen", *rows]), encoding="utf-8")
    words = tmp_path / "words.txt"
    words.write_text("딥러닝\n텐서플로\n", encoding="utf-8")
    output = tmp_path / "out"
    adapt_bert.main([*SMALL, "--model", str(first_run), "--corpus", str(sentences), "--text-column", "sen",
                     "--add-tokens", str(words), "--task-train", str(labelled), "--task-text-column", "글",
                     "--task-label-column", "종류", "--task-seeds", "1", "--task-epochs", "1",
                     "--output", str(output)])  # fmt: skip
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["adapted"]["mlm_loss"] != metrics["before"]["mlm_loss"]
    assert {"task_accuracy", "loss_per_character"} <= set(metrics["adapted"])
    assert "nsp_loss" not in metrics  # single sentences
    vocabularies = [(folder / "vocab.txt").read_text().splitlines() for folder in (first_run, output)]
    assert vocabularies[1] == [*vocabularies[0], "딥러닝", "텐서플로"]
    assert re.search(r"(\d+) of \1 documents have one sentence: objective mlm", package_log.text)
    assert "task_accuracy" in capsys.readouterr().out
