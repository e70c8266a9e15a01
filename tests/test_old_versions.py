"""What commit b074e80 wrote (`data/b074e80/make.py` tells how): read, resumed, refused or adopted."""

import functools
import importlib.util
import json
import shutil
import types
from pathlib import Path

import numpy as np
import pytest

import keras_pretrain as kp
from keras_pretrain.features import blocks
from keras_pretrain.folders import MANIFEST
from keras_pretrain.preparation import documents

OLD = Path(__file__).parent / "data" / "b074e80"
SETTINGS = {
    "language": "en",
    "backend": "punkt",
    "cleaning": "none",
    "vocab_size": 300,
    "block_size": 32,
    "num_proc": 1,
}


@pytest.fixture(scope="module")
def make():
    spec = importlib.util.spec_from_file_location("make_b074e80", OLD / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # That version did not rewrite the rests of words behind gaps.
    module.kp = types.SimpleNamespace(**{name: getattr(kp, name) for name in kp.__all__})
    module.kp.to_tf_dataset = functools.partial(kp.to_tf_dataset, glue_prob=0.0)
    return module


@pytest.fixture
def old(tmp_path):
    """A copy, as a user has it."""
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def contents(directory):
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_prepared_folder_is_read(old):
    before = contents(old)
    prepared = kp.load_prepared(old / "prepared")
    assert {name: len(part) for name, part in prepared.features.items()} == {"train": 69, "validation": 7}
    inputs, labels = next(iter(kp.to_tf_dataset(prepared.features["train"], prepared.tokenizer, batch_size=8)))
    assert inputs["input_ids"].shape == (8, 32)
    assert set(labels) == {"labels", "next_sentence_label"}
    prepared.require_fit("mlm+nsp", prepared.tokenizer)
    assert contents(old) == before


def test_a_prepared_folder_is_only_written_over_where_that_is_asked_for(old, monkeypatch):
    monkeypatch.setattr(documents, "_BLOCK_CHARACTERS", (1000, 1000))
    monkeypatch.setattr(blocks, "_BLOCK_TOKENS", (300, 300))
    (old / "prepared" / "train" / "mine.arrow").write_text("mine")
    (old / "prepared" / "notes.txt").write_text("mine")
    before = contents(old)
    with pytest.raises(FileExistsError, match=r"kept no record.*overwrite=True"):
        kp.prepare_corpus(old / "corpus.csv", old / "prepared", **SETTINGS)
    assert contents(old) == before
    plan = kp.prepare_corpus(old / "corpus.csv", old / "prepared", **SETTINGS, overwrite=True, dry_run=True)
    assert plan.kept == ["notes.txt", "train/mine.arrow"]
    assert len(plan.replaced) == len([path for path in before if path.parts[0] == "prepared"]) - 3
    assert contents(old) == before
    prepared = kp.prepare_corpus(old / "corpus.csv", old / "prepared", **SETTINGS, overwrite=True)
    assert prepared.report["documents"] == 60
    left = contents(old / "prepared")
    assert left[Path("train/mine.arrow")] == left[Path("notes.txt")] == b"mine"
    shards = {str(path) for path in left if path.suffix == ".arrow"}
    assert not shards & {str(path.relative_to("prepared")) for path in before if path.suffix == ".arrow"} - {
        "train/mine.arrow"
    }


def test_a_run_is_resumed_in_its_settings_and_ends_as_it_would_have(old, make, tmp_path):
    before = contents(old / "run")
    tokenizer = make.make_tokenizer()
    expected = make.make_model()
    make.train(expected, tokenizer, tmp_path / "untouched")
    model = make.make_model()
    checkpointing = kp.callbacks.Checkpointing(old / "run", every_steps=2, keep=2, monitor="val_mlm_loss")
    model.fit(**make.make_data(tokenizer), epochs=make.EPOCHS, callbacks=[checkpointing], verbose=0)
    assert checkpointing.step == make.EPOCHS * make.STEPS
    for ours, theirs in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)  # its first steps summed in another order
    now = contents(old / "run")
    assert checkpointing.latest == old / "run" / "step-0000000008"
    # What the old version wrote is not deleted, and `best` is not replaced, without a word from the user.
    kept = {path for path in before if path.name != ".lock"}
    assert {path: now[path] for path in kept} == {path: before[path] for path in kept}


def test_a_run_that_may_be_taken_over_is_pruned_as_any_other(old, make):
    model, tokenizer = make.make_model(), make.make_tokenizer()
    saving = {"every_steps": 1, "keep": 1, "monitor": "val_mlm_loss", "overwrite": True}
    checkpointing = kp.callbacks.Checkpointing(old / "run", **saving)
    model.fit(**make.make_data(tokenizer), epochs=make.EPOCHS, callbacks=[checkpointing], verbose=0)
    assert sorted(path.name for path in (old / "run").iterdir()) == [MANIFEST, ".lock", "best", "step-0000000008"]


def test_a_run_is_not_deleted_to_start_anew(old, make):
    before = contents(old / "run")
    model, tokenizer = make.make_model(), make.make_tokenizer()

    def start(**settings):
        callbacks = [kp.callbacks.Checkpointing(old / "run", every_steps=2, resume=False, **settings)]
        model.fit(**make.make_data(tokenizer), epochs=1, callbacks=callbacks, verbose=0)

    with pytest.raises(FileExistsError, match=r"step-0000000004.*overwrite=True"):
        start()
    now = contents(old / "run")
    assert {path: now[path] for path in before} == before
    start(overwrite=True)
    assert not (old / "run" / "step-0000000006").exists()


def test_other_settings_are_refused_by_name(old, make, monkeypatch):
    tokenizer = make.make_tokenizer()

    def resume(model):
        data = make.make_data(tokenizer)
        model.fit(**data, epochs=2, callbacks=[kp.callbacks.Checkpointing(old / "run")], verbose=0)

    model = make.make_model()
    model.gradient_accumulation_steps = 2
    monkeypatch.setattr(make.kp, "to_tf_dataset", kp.to_tf_dataset)
    with pytest.raises(ValueError, match=r"data.glue_prob is 0.75 and was 0"):
        resume(make.make_model())
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"holds another run: .*gradient_accumulation_steps is 2 and was 1"):
        resume(model)
    model = make.make_model()
    model.head_weights["nsp"] = 2.0  # not recorded then, but known
    with pytest.raises(ValueError, match=r"holds another run: model\.head_weights\.nsp is 2 and was 1"):
        resume(model)


def test_a_run_is_extended(old, make, package_log):
    model, tokenizer = make.make_model(), make.make_tokenizer()
    steps = 3 * make.STEPS
    model.compile(kp.create_optimizer(learning_rate=1e-2, num_train_steps=steps), run_eagerly=True)
    checkpointing = kp.callbacks.Checkpointing(old / "run", every_steps=2)
    history = model.fit(**make.make_data(tokenizer), epochs=3, callbacks=[checkpointing], verbose=0).history
    assert checkpointing.step == int(model.optimizer.iterations) == steps
    assert len(history["val_loss"]) == 3
    assert "The run is extended from 8 to 12 steps at step 6" in package_log.text


def test_a_history_is_not_replaced_without_a_word(old, make):
    before = (old / "history.csv").read_bytes()
    model, tokenizer = make.make_model(), make.make_tokenizer()
    with pytest.raises(FileExistsError, match=r"history\.csv .*overwrite=True"):
        model.fit(**make.make_data(tokenizer), callbacks=[kp.callbacks.CSVHistory(old / "history.csv")], verbose=0)
    assert (old / "history.csv").read_bytes() == before


def test_a_checkpoint_is_loaded_and_only_replaced_where_that_is_asked_for(old, make):
    before = contents(old / "checkpoint")
    model = kp.BertPretrainer.from_pretrained(old / "checkpoint")
    tokenizer = make.make_tokenizer()
    with pytest.raises(FileExistsError, match=r"overwrite=True"):
        kp.save_checkpoint(model, tokenizer, old / "checkpoint")
    assert {path: content for path, content in contents(old / "checkpoint").items() if path in before} == before
    (old / "checkpoint" / "notes.txt").write_text("mine")
    model.set_weights([weight + 1 for weight in model.get_weights()])
    kp.save_checkpoint(model, tokenizer, old / "checkpoint", overwrite=True)
    again = kp.BertPretrainer.from_pretrained(old / "checkpoint")
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])
    assert json.loads((old / "checkpoint" / "metrics.json").read_text()) == json.loads(
        before[Path("metrics.json")].decode()
    )
    assert (old / "checkpoint" / "notes.txt").read_text() == "mine"
