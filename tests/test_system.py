"""Processors and locks."""

import builtins
import io
import os
import subprocess
import sys

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


@pytest.fixture
def eight_processors(monkeypatch):
    """A machine of eight processors, the process bound to none of them, without a quota."""
    files = {"/sys/fs/cgroup/cpu.max": "max 100000"}
    really_exists, really_open = os.path.exists, builtins.open

    def exists(path):
        return path in files if str(path).startswith("/sys/fs/cgroup/") else really_exists(path)

    def open_(path, *args, **settings):
        return io.StringIO(files[path]) if path in files else really_open(path, *args, **settings)

    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(os.path, "exists", exists)
    monkeypatch.setattr(builtins, "open", open_)
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT", raising=False)
    return files


def test_without_a_limit_all_processors_are_used(eight_processors):
    assert available_processors() == 8


def test_as_many_processors_as_the_process_is_bound_to(eight_processors, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert available_processors() == 3


def test_an_environment_variable_limits_the_processors(eight_processors, monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")
    assert available_processors() == 2


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "200000 100000"}, 2),
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_a_containers_quota_limits_the_processors(eight_processors, files, expected):
    """Of cgroups v2 (cpu.max) and v1."""
    eight_processors.clear()
    eight_processors.update({f"/sys/fs/cgroup/{name}": content for name, content in files.items()})
    assert available_processors() == expected


def test_the_package_is_imported_without_joblib():
    code = "import sys, keras_pretrain, keras_pretrain.system; print('joblib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
