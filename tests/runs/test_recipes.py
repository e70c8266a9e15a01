"""Every recipe inside the package runs, in a setting of seconds, and its curves stand beside those of the run."""

import dataclasses
import logging

import pytest
import yaml
from conftest import no_xla

from keras_pretrain.commands import main
from keras_pretrain.runs import ElectraSettings, read_settings, recipes
from keras_pretrain.training import balance
from keras_pretrain.training.reference import read_reference

NAMES = recipes.recipe_names()
SMALL = {"size": "tiny", "vocab_size": 600, "batch_size": 4, "block_size": 32, "steps": 4, "steps_per_epoch": 1,
         "passes": 1, "validation_every": 1, "packed": False, "precision": "float32", "num_proc": 1}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def quick():
    with no_xla():
        yield


def flags_of(settings) -> list[str]:
    named = {name.replace("_", "-"): value for name, value in settings.items()}
    return [f"--no-{name}" if value is False else f"--{name}={value}" for name, value in named.items()]


def kind_of(name) -> str:
    return yaml.safe_load(recipes.recipe_file(name).read_text(encoding="utf-8"))["kind"]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_runs_and_is_recorded(name, tmp_path, package_log):
    package_log.set_level(logging.INFO, logger="keras_pretrain")
    assert main([kind_of(name), "--config", name, *flags_of(SMALL), "--output", str(tmp_path)]) == 0
    record = read_settings(tmp_path / "run.yaml")
    assert record.recipe == name
    assert "recipe" not in record.public()  # the card does not name a recipe that the run did not follow
    assert (tmp_path / "model.safetensors").is_file()
    (line,) = (message for message in package_log.messages if f"recipe {name}" in message)
    assert all(part in line for part in ("steps", "size", "corpus"))


@pytest.mark.parametrize("name", NAMES)
def test_the_results_of_a_recipe_belong_to_its_settings(name, capsys):
    assert main([kind_of(name), "--config", name, "--print-config"]) == 0
    settings = yaml.safe_load(capsys.readouterr().out)
    assert settings["recipe"] == name
    written = yaml.safe_load(recipes.recipe_file(name).read_text(encoding="utf-8"))
    assert {key: settings[key] for key in written} == written
    assert written.keys() >= {"packed", "validation_every"}  # which a run would choose
    assert recipes.recipe_results(name)["documents"] > 1000
    parts = [phase.name for phase in read_settings(recipes.recipe_file(name)).completed().plan()]
    for part in parts:
        assert read_reference(recipes.curves_file(name, part)).curves["val_loss"]


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 9900}, {"dropout": 0.3}, {"glue_prob": 0.0}, {"glue_after": 0}, {"packed": False},
        {"cleaning": "none"}, {"backend": "rules"}, {"learning_rate": 1e-5}, {"beta_2": 0.5}, {"validation_every": 9},
        {"line_by_line": True},
    ],
)  # fmt: skip
def test_a_run_follows_its_recipe_only_with_the_same_settings(change):
    name = "korean-minutes"
    record = dataclasses.replace(
        read_settings(recipes.recipe_file(name)), recipe=name, seed=7, precision="float32", num_proc=3, hours=9.0
    )
    assert record.differences_from_recipe() == []
    assert set(change) <= set(dataclasses.replace(record, **change).differences_from_recipe())


@pytest.fixture
def own_recipes(tmp_path, monkeypatch):
    """A folder of recipes with one that the sample follows."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "small.yaml").write_text(yaml.safe_dump({"kind": "bert", "objective": "mlm"} | SMALL))
    (folder / "results.yaml").write_text("small: {documents: 160}\n")
    monkeypatch.setattr(recipes, "_folder", lambda: folder)
    return folder


def test_a_run_that_leaves_the_curves_of_its_recipe_is_told(own_recipes, tmp_path, package_log):
    rows = ["step,val_loss,val_loss_spread", *(f"{step},99,0.1" for step in (1, 2, 3, 4))]
    (own_recipes / "small.csv").write_text("\n".join(rows))
    assert main(["bert", "--config", "small", "--seed=5", f"--output={tmp_path / 'run'}"]) == 0
    (record,) = (each for each in package_log.records if each.levelno == logging.WARNING and "val_loss" in each.message)
    assert all(part in record.message for part in ("recipe small", "step 2;", "99.000", "0.100"))
    assert read_settings(tmp_path / "run" / "run.yaml").public()["recipe"] == "small"


def test_an_electra_is_told_of_a_discriminator_that_learns_nothing(tmp_path, package_log, monkeypatch):
    monkeypatch.setattr(balance, "_LEAST_AUC", 1.1)
    assert main(["electra", *flags_of(SMALL), "--output", str(tmp_path)]) == 0
    (record,) = (each for each in package_log.records if each.levelno == logging.WARNING)
    assert "val_disc_auc" in record.message


def test_unknown_recipes_are_refused_with_the_known_ones(capsys):
    for words in (["--config", "korean-decade"], ["--recipe", "korean-decade"], ["--recipe=korean-decade"]):
        assert main(["bert", *words]) == 2
        error = capsys.readouterr().err
        assert "korean-decade" in error
        assert all(name in error for name in NAMES)
    other = {"bert": "electra", "electra": "bert"}[kind_of(NAMES[0])]
    for flag in ("--config", "--recipe"):
        assert main([other, flag, NAMES[0]]) == 2
        assert kind_of(NAMES[0]) in capsys.readouterr().err


def test_a_recipe_that_a_later_version_does_not_have_stops_no_run(tmp_path):
    settings = ElectraSettings(recipe="retired", output=tmp_path)
    assert "recipe" not in settings.public()
