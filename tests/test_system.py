"""Processors and locks."""

import os

import pytest

from keras_pretrain.system import available_processors, lock


def test_a_lock_keeps_others_out_until_it_is_closed(tmp_path):
    descriptor = lock(tmp_path / "lock", "somebody is here")
    with pytest.raises(BlockingIOError, match="somebody is here"):
        lock(tmp_path / "lock", "somebody is here")
    os.close(descriptor)
    os.close(lock(tmp_path / "lock", "somebody is here"))


def test_a_lock_in_no_folder_says_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        lock(tmp_path / "missing" / "lock", "")


def test_as_many_processors_as_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert available_processors() == 3
