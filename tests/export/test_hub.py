"""The real client of the Hub, and a server on loopback."""

import os
import traceback

import pytest
from hub_server import TOKEN

import keras_pretrain as kp


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "my_bert"
    (folder / "run" / "step-0000000001").mkdir(parents=True)
    (folder / "README.md").write_text("---\ntags:\n- keras_pretrain\n---\n# 모델\n", encoding="utf-8")
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "model.safetensors").write_bytes(os.urandom(3000))
    (folder / "run" / "step-0000000001" / "state.index").write_text("the run's own")
    return folder


UPLOADED = ["README.md", "config.json", "model.safetensors"]


def test_a_folder_is_uploaded_without_the_run(hub, folder):
    url = kp.push_to_hub(folder, "me/my_bert", private=True, token=TOKEN, message="First")
    repository = hub.repositories["me/my_bert"]
    assert repository["files"] == {name: (folder / name).read_bytes() for name in UPLOADED}
    assert repository["private"] is True
    assert repository["messages"] == ["First"]
    assert url == f"{hub.url}/me/my_bert/commit/1"


def test_a_second_upload_sends_no_large_file_again(hub, folder):
    kp.push_to_hub(folder, "my_bert", token=TOKEN)
    (folder / "config.json").write_text("{}")
    kp.push_to_hub(folder, "my_bert", token=TOKEN)
    assert hub.repositories["me/my_bert"]["files"]["config.json"] == b"{}"
    assert hub.count("PUT", "/lfs/") == 1


def test_after_an_error_in_the_middle_the_same_call_goes_on(hub, folder):
    hub.failures["/api/models/me/my_bert/commit"] = [500]
    with pytest.raises(ConnectionError, match="failed with status 500, and me/my_bert is not complete"):
        kp.push_to_hub(folder, "me/my_bert", token=TOKEN)
    assert hub.repositories["me/my_bert"]["files"] == {}
    kp.push_to_hub(folder, "me/my_bert", token=TOKEN)
    assert sorted(hub.repositories["me/my_bert"]["files"]) == UPLOADED
    assert hub.count("PUT", "/lfs/") == 1  # before the error


def test_a_wrong_token_is_said_and_not_shown(hub, folder):
    wrong = "hf_" + "wrong" * 6
    with pytest.raises(PermissionError, match=r"refused the token for me/my_bert \(401\)") as caught:
        kp.push_to_hub(folder, "me/my_bert", token=wrong)
    assert wrong not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None  # the client's error has the request, and that the token
    assert hub.repositories == {}


def test_a_token_with_a_line_break_is_refused_before_a_library_quotes_it(hub, folder):
    with pytest.raises(ValueError, match="The token has a space, a line break") as caught:
        kp.push_to_hub(folder, "me/my_bert", token=f"{TOKEN}\n")
    assert TOKEN not in str(caught.value)
    assert hub.requests == []


def test_no_token_is_said(hub, folder, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(PermissionError, match="run `hf auth login`, set HF_TOKEN"):
        kp.push_to_hub(folder, "me/my_bert")


def test_a_server_that_is_not_there_is_said(folder, monkeypatch, hub):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match="The Hub could not be reached") as caught:
        kp.push_to_hub(folder, "me/my_bert", token=TOKEN)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("name", ["a/b/c", "my bert", ""])
def test_a_name_that_is_none_is_refused(hub, folder, name):
    with pytest.raises(ValueError, match="repo_id must be a name such as 'owner/model'"):
        kp.push_to_hub(folder, name, token=TOKEN)
    assert hub.requests == []


def test_an_empty_folder_is_refused(hub, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing to upload"):
        kp.push_to_hub(tmp_path / "missing", "me/my_bert", token=TOKEN)
