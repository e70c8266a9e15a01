"""Uploads in the background, to a server on loopback."""

import re

import pytest
from hub_server import TOKEN

import keras_pretrain as kp


@pytest.fixture(scope="module")
def model(tokenizer):
    model = kp.BertPretrainer.from_size("tiny", tokenizer)
    model.compile("sgd")
    return model


@pytest.fixture
def make(model, tokenizer, tmp_path):
    def make(**settings):
        callback = kp.callbacks.PushToHub(
            tmp_path / "my_bert", tokenizer, "me/my_bert", **({"token": TOKEN, "retry_seconds": 0.0} | settings)
        )
        callback.set_model(model)
        model.optimizer.iterations.assign(0)
        return callback

    return make


def end_epoch(callback, epoch):
    """An epoch of ten steps."""
    callback.model.optimizer.iterations.assign(10 * (epoch + 1))
    callback.on_epoch_end(epoch)


def test_epochs_are_uploaded_and_the_last_one_always(hub, make, tmp_path):
    callback = make(every_epochs=2)
    for epoch in range(3):
        end_epoch(callback, epoch)
    callback.on_train_end()
    repository = hub.repositories["me/my_bert"]
    assert repository["messages"] == ["Epoch 2, step 20", "End of training, step 30"]
    assert repository["files"]["model.safetensors"] == (tmp_path / "my_bert" / "model.safetensors").read_bytes()
    assert {"README.md", "config.json", "tokenizer.json"} <= set(repository["files"])
    assert callback.url == f"{hub.url}/me/my_bert/commit/2"


def test_training_does_not_wait_for_an_upload(hub, make):
    callback = make()
    hub.gate.clear()  # the server does not answer
    for epoch in range(3):
        end_epoch(callback, epoch)
    assert callback.url is None
    hub.gate.set()
    callback.on_train_end()
    assert hub.repositories["me/my_bert"]["messages"] == ["Epoch 1, step 10", "End of training, step 30"]


def test_an_upload_that_fails_is_a_warning_and_is_tried_again(hub, make, package_log):
    callback = make()
    hub.failures["/api/models/me/my_bert/commit"] = [500, 500]
    end_epoch(callback, 0)
    callback.on_train_end()
    assert hub.repositories["me/my_bert"]["messages"] == ["End of training, step 10"]
    warnings = [record.getMessage() for record in package_log.records if record.levelname == "WARNING"]
    assert len(warnings) == 2
    assert all(re.search(r"step 10 .*me/my_bert .*tried again.*\b500\b", warning) for warning in warnings)


def test_a_refused_token_ends_no_training_and_is_not_shown(hub, make, package_log, tmp_path, capfd):
    wrong = "hf_" + "wrong" * 6
    callback = make(tries=2, token=wrong)
    end_epoch(callback, 0)
    callback.on_train_end()
    assert hub.repositories == {}
    assert re.search(r"last model is not on the Hub\..*my_bert.*kp\.push_to_hub", package_log.text)
    assert wrong not in package_log.text + "".join(capfd.readouterr())
    assert not any(wrong.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_the_end_of_training_waits_no_longer_than_it_may(hub, make, package_log):
    callback = make(wait_seconds=0.0)
    hub.gate.clear()
    end_epoch(callback, 0)
    callback.on_train_end()
    assert re.search(r"last model is not on the Hub yet.*my_bert.*kp\.push_to_hub", package_log.text)
    hub.gate.set()
    callback.wait_seconds = 10.0
    callback.on_train_end()
    assert hub.repositories["me/my_bert"]["messages"] == ["Epoch 1, step 10"]


def test_an_upload_that_was_not_waited_for_sends_nothing_of_a_newer_model(hub, make, model, tokenizer, tmp_path):
    callback = make(wait_seconds=0.0)
    hub.held = "/api/repos/create"  # before anything was read
    hub.gate.clear()
    end_epoch(callback, 0)
    callback.on_train_end()
    names = [path.name for path in (tmp_path / "my_bert").iterdir() if path.is_file() and path.name[0] != "."]
    first = {name: (tmp_path / "my_bert" / name).read_bytes() for name in names if name != "README.md"}
    assert hub.waiting.wait(30)
    newer = kp.BertPretrainer.from_size("tiny", tokenizer, num_hidden_layers=1)
    kp.save_checkpoint(newer, tokenizer, tmp_path / "my_bert")
    hub.gate.set()
    callback.wait_seconds = 30.0
    callback.on_train_end()
    files = hub.repositories["me/my_bert"]["files"]
    assert {name: data for name, data in files.items() if name != "README.md"} == first
    assert first["model.safetensors"] != (tmp_path / "my_bert" / "model.safetensors").read_bytes()


def test_what_is_wrong_is_said_before_training(tokenizer, tmp_path):
    with pytest.raises(ValueError, match=r"repo_id .*'owner/model'"):
        kp.callbacks.PushToHub(tmp_path, tokenizer, "my bert", token=TOKEN)
    with pytest.raises(ValueError, match=r"every_epochs and tries .*at least 1, not 0 and \d"):
        kp.callbacks.PushToHub(tmp_path, tokenizer, "me/my_bert", token=TOKEN, every_epochs=0)


def test_another_models_tokenizer_is_refused_before_the_first_epoch(model, tmp_path):
    other = kp.train_tokenizer([" ".join(map(chr, range(0xAC00, 0xAC40)))] * 2, vocab_size=60)
    callback = kp.callbacks.PushToHub(tmp_path, other, "me/my_bert", token=TOKEN)
    callback.set_model(model)
    with pytest.raises(ValueError, match=r"tokenizer .*\b60 tokens.*model.*\b15\b"):
        callback.on_train_begin()
