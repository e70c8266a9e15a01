"""The examples run through their own entry points, with smaller settings."""

import importlib
import json
import sys
from pathlib import Path

import pytest
from hub_server import TOKEN

EXAMPLES = Path(__file__).parent.parent / "examples"
SMALL = ["--steps", "4", "--batch-size", "4", "--block-size", "32", "--vocab-size", "600", "--num-proc", "1"]


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
    pretrain_bert.main([*SMALL, "--output", str(output)])
    return output


def test_the_sample_is_pretrained_and_the_figures_are_written(first_run):
    metrics = json.loads((first_run / "metrics.json").read_text())
    names = {"loss", "mlm_loss", "mlm_accuracy", "nsp_loss", "nsp_accuracy"}
    assert names | {f"val_{name}" for name in names} <= set(metrics)
    assert metrics["tokens_per_second"] > 0
    assert metrics["arguments"]["steps"] == 4
    assert metrics["seed"] == 42
    assert {"keras_pretrain", "tensorflow", "transformers"} <= set(metrics["versions"])


def test_the_model_card_tells_the_run(first_run):
    card = (first_run / "README.md").read_text(encoding="utf-8")
    assert (
        "Corpus: the sample inside keras_pretrain; Korean; 144 documents for train, 16 documents for validation."
        in card
    )
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
    pretrain_bert.main([*SMALL, "--output", str(first_run)])
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
    pretrain_electra.main([*SMALL, "--output", str(output)])
    return output


def test_an_electra_is_pretrained_and_the_figures_are_written(electra_run):
    metrics = json.loads((electra_run / "metrics.json").read_text())
    names = {"loss", "mlm_loss", "disc_loss", "disc_auc", "replaced_accuracy", "original_accuracy"}
    assert names | {f"val_{name}" for name in names} <= set(metrics)
    assert {path.name for path in electra_run.iterdir()} == {"generator", "discriminator", "metrics.json", "run"}


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
    assert (tmp_path / "model.safetensors").exists()


def test_a_generator_without_its_discriminator_is_refused(pretrain_electra, capsys):
    with pytest.raises(SystemExit):
        pretrain_electra.main(["--init-generator-from", "somewhere"])
    assert "needs --init-from" in capsys.readouterr().err
