"""The real client of the Hub, and a server on loopback."""

import json
import os
import re
import socket
import threading
import traceback

import pytest
from hub_server import TOKEN

import keras_pretrain as kp
from keras_pretrain.export.hub import snapshot
from keras_pretrain.folders import MANIFEST, UNFINISHED, OwnedFolder


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
    with pytest.raises(ConnectionError, match=r"status 500\b.*me/my_bert is incomplete.*same call"):
        kp.push_to_hub(folder, "me/my_bert", token=TOKEN)
    assert hub.repositories["me/my_bert"]["files"] == {}
    kp.push_to_hub(folder, "me/my_bert", token=TOKEN)
    assert sorted(hub.repositories["me/my_bert"]["files"]) == UPLOADED
    assert hub.count("PUT", "/lfs/") == 1  # before the error


def test_a_wrong_token_is_said_and_not_shown(hub, folder):
    wrong = "hf_" + "wrong" * 6
    with pytest.raises(PermissionError, match=r"token for me/my_bert \(401\).*/settings/tokens") as caught:
        kp.push_to_hub(folder, "me/my_bert", token=wrong)
    assert wrong not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None  # the client's error has the request, and that the token
    assert hub.repositories == {}


def test_a_token_with_a_line_break_is_refused_before_a_library_quotes_it(hub, folder):
    with pytest.raises(ValueError, match=r"token .*line break.*copy it again") as caught:
        kp.push_to_hub(folder, "me/my_bert", token=f"{TOKEN}\n")
    assert TOKEN not in str(caught.value)
    assert hub.requests == []


def test_no_token_is_said(hub, folder, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(PermissionError, match="run `hf auth login`, set HF_TOKEN"):
        kp.push_to_hub(folder, "me/my_bert")


def test_a_server_that_is_not_there_is_said(folder, monkeypatch, hub):
    with socket.socket() as taken:  # a port at which nobody listens
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ConnectionError, match=r"Hub could not be reached.*me/my_bert.*same call") as caught:
            kp.push_to_hub(folder, "me/my_bert", token=TOKEN)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("name", ["a/b/c", "my bert", ""])
def test_a_name_that_is_none_is_refused(hub, folder, name):
    with pytest.raises(ValueError, match=r"repo_id .*'owner/model'"):
        kp.push_to_hub(folder, name, token=TOKEN)
    assert hub.requests == []


def test_an_empty_folder_is_refused(hub, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing to upload .*/missing\b.*kp\.save_checkpoint"):
        kp.push_to_hub(tmp_path / "missing", "me/my_bert", token=TOKEN)


def write(folder, content: dict):
    """As the package's writers do."""
    with OwnedFolder(folder, "checkpoint").writing(replace_all=True) as stage:
        for name, data in content.items():
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            (stage / name).write_bytes(data)


@pytest.mark.parametrize("held", ["/api/repos/create", "/preupload/", "/lfs/", "/commit/"])
def test_what_is_uploaded_is_the_folder_at_the_time_of_the_call(hub, tmp_path, held):
    first = {"model.safetensors": os.urandom(1 << 21), "config.json": b"{}", "generator/config.json": b'{"a": 1}'}
    write(tmp_path, first)
    hub.held = held
    hub.gate.clear()
    push = threading.Thread(target=kp.push_to_hub, args=(tmp_path, "me/my_bert"), kwargs={"token": TOKEN})
    push.start()
    assert hub.waiting.wait(30)
    write(tmp_path, {"model.safetensors": os.urandom(1 << 21), "config.json": b'{"b": 2}'})
    hub.gate.set()
    push.join(30)
    assert hub.repositories["me/my_bert"]["files"] == first
    assert sorted(path.name for path in tmp_path.iterdir()) == [MANIFEST, "config.json", "model.safetensors"]


def test_large_files_of_the_package_are_linked_and_others_copied(tmp_path):
    write(tmp_path, {"model.safetensors": bytes(1 << 20), "config.json": b"{}"})
    (tmp_path / "mine.bin").write_bytes(bytes(1 << 20))
    with snapshot(tmp_path) as taken:
        is_linked = {
            name: (taken.folder / name).samefile(tmp_path / name)
            for name in ("model.safetensors", "config.json", "mine.bin")
        }
    assert is_linked == {"model.safetensors": True, "config.json": False, "mine.bin": False}


def test_a_snapshot_that_a_killed_process_left_goes_with_the_next_writer(tmp_path):
    write(tmp_path, {"config.json": b"{}"})
    with snapshot(tmp_path) as taken:
        taken.folder.rename(tmp_path / "kept")
        record = [line for line in (tmp_path / MANIFEST).read_text().splitlines() if "staging" in line][-1]
    (tmp_path / "kept").rename(taken.folder)
    with (tmp_path / MANIFEST).open("a") as file:  # as if its end had not been recorded
        file.write(f"{record}\n")
    write(tmp_path, {"config.json": b"{}"})
    assert not [path for path in tmp_path.iterdir() if UNFINISHED in path.name]


def test_a_folder_that_cannot_be_written_to_is_uploaded(hub, folder, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    kp.push_to_hub(folder, "me/my_bert", token=TOKEN)
    assert sorted(hub.repositories["me/my_bert"]["files"]) == UPLOADED
    assert not (folder / MANIFEST).exists()


def test_files_that_the_folder_has_no_more_are_named_and_kept(hub, tmp_path, package_log):
    write(tmp_path, {"discriminator/config.json": b"{}", "generator/config.json": b"{}"})
    kp.push_to_hub(tmp_path, "me/my_electra", token=TOKEN)
    assert "are kept" not in package_log.text
    write(tmp_path, {"config.json": b"{}", "generator/config.json": b"{}"})
    kp.push_to_hub(tmp_path, "me/my_electra", token=TOKEN)
    assert re.search(rf"me/my_electra .*{tmp_path}.*are kept: discriminator/config\.json\.$", package_log.messages[-1])
    assert "discriminator/config.json" in hub.repositories["me/my_electra"]["files"]


def test_cards_name_the_repository_until_they_are_edited(hub, tokenizer, tmp_path):
    folder = tmp_path / "my_electra"
    kp.save_checkpoint(kp.ElectraPretrainer.from_size("tiny", tokenizer, num_hidden_layers=1), tokenizer, folder)
    at_home = (folder / "README.md").read_text()
    edited = (folder / "generator" / "README.md").read_text() + "My words."
    kp.push_to_hub(folder, "other_name", token=TOKEN)
    files = hub.repositories["me/other_name"]["files"]
    assert b'from_pretrained("me/other_name")' in files["README.md"]
    assert b'from_pretrained("me/other_name", subfolder="generator")' in files["generator/README.md"]
    assert b"my_electra" not in files["README.md"] + files["generator/README.md"]
    assert (folder / "README.md").read_text() == at_home
    (folder / "generator" / "README.md").write_text(edited)
    kp.push_to_hub(folder, "other_name", token=TOKEN)
    assert files["generator/README.md"].decode() == edited


def test_what_a_run_keeps_for_itself_is_not_uploaded(hub, folder):
    (folder / "run.yaml").write_text("corpus: /home/kim/secret.txt")
    (folder / "tensorboard").mkdir()
    (folder / "tensorboard" / "events.out.tfevents.1.host_of_kim").write_text("")
    (folder / "metrics.json").write_text(json.dumps({"arguments": {"corpus": "/home/kim/secret.txt", "steps": 8}}))
    kp.push_to_hub(folder, "me/my_bert", token=TOKEN)
    files = hub.repositories["me/my_bert"]["files"]
    assert sorted(files) == sorted([*UPLOADED, "metrics.json"])
    assert json.loads(files["metrics.json"]) == {"settings": {"steps": 8}}
