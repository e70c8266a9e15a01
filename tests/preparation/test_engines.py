"""Engines call a function with each task, once or, where a worker dies, once more; no record is lost or doubled."""

import os
import signal

import pytest

from keras_pretrain.preparation import LocalEngine, RayEngine


@pytest.fixture(params=["one process", "two processes", "ray"])
def engine(request):
    if request.param == "ray":
        return request.getfixturevalue("ray_engine")
    return LocalEngine(1 if request.param == "one process" else 2)


def test_each_task_gives_one_record(engine):
    assert sorted(engine.run(lambda task: task * 2, range(20))) == [task * 2 for task in range(20)]
    assert list(engine.run(lambda task: task, [])) == []


def test_tasks_can_be_expanded(engine):
    records = engine.run(lambda task: task * 10, range(5), expand=lambda task: iter(range(task)))
    assert sorted(records) == sorted(each * 10 for task in range(5) for each in range(task))


def test_what_is_wrong_with_a_task_is_said(engine):
    def fail(task):
        raise ValueError(f"there is no file {task}")

    with pytest.raises(ValueError, match=r"^there is no file 3$"):
        list(engine.run(fail, [3, 3]))
    with pytest.raises(ValueError, match=r"^there is no file 4$"):
        list(engine.run(lambda task: task, [4, 4], expand=fail))


def dying_once(folder):
    """A function whose process is killed when it is first called with 3."""

    def function(task):
        mark = folder / "died"
        if task == 3 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return task

    return function


def test_ray_replaces_a_worker_that_dies(ray_engine, tmp_path):
    assert sorted(ray_engine.run(dying_once(tmp_path), range(8))) == list(range(8))
    assert (tmp_path / "died").exists()


def test_a_local_worker_that_dies_is_named(tmp_path):
    with pytest.raises(RuntimeError, match=r"worker process ended.*smaller num_proc"):
        list(LocalEngine(2).run(dying_once(tmp_path), range(8)))
    assert sorted(LocalEngine(2).run(dying_once(tmp_path), range(8))) == list(range(8))


def test_a_cluster_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray.data", None)
    with pytest.raises(ImportError, match=r"'ray'.*pip install 'keras_pretrain\[distributed\]'"):
        RayEngine()
