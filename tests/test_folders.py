"""`OwnedFolder`: what is not ours stays as it is, whatever happens; what is ours is whole or not there."""

import json
import os
import signal
import stat
import subprocess
import sys

import pytest

from keras_pretrain import folders
from keras_pretrain.folders import MANIFEST, OwnedFolder


def write(folder, **files):
    with folder.writing() as stage:
        for name, text in files.items():
            (stage / name).write_text(text)


def visible(path):
    return {str(each.relative_to(path)) for each in path.rglob("*") if each.is_file()} - {MANIFEST}


def test_what_is_written_is_owned_and_can_be_replaced_and_deleted(tmp_path):
    folder = OwnedFolder(tmp_path / "new", "test")
    write(folder, a="one", b="two")
    write(folder, a="three")
    assert (tmp_path / "new" / "a").read_text() == "three"
    assert OwnedFolder(tmp_path / "new", "other").owns("a")
    assert folder.names() == ["a", "b"]
    assert folder.writers == {"test"}
    assert folder.delete(["a", "b", "c"]) == []
    assert visible(tmp_path / "new") == set()


@pytest.mark.parametrize("text", ["changed", "ons"], ids=["longer", "same length"])
def test_a_changed_file_is_neither_replaced_nor_deleted(tmp_path, text):
    folder = OwnedFolder(tmp_path, "test")
    write(folder, a="one")
    stamp = (tmp_path / "a").stat().st_mtime_ns
    (tmp_path / "a").write_text(text)
    os.utime(tmp_path / "a", ns=(stamp, stamp))
    with pytest.raises(FileExistsError, match=f"{tmp_path / 'a'} .*overwrite=True"):
        write(folder, a="two", b="three")
    assert folder.delete(["a"]) == ["a"]
    assert folder.foreign() == ["a"]
    assert (tmp_path / "a").read_text() == text
    assert visible(tmp_path) == {"a"}  # nothing half written


def test_overwrite_replaces_and_never_deletes(tmp_path):
    (tmp_path / "a").write_text("mine")
    folder = OwnedFolder(tmp_path, "test", overwrite=True)
    assert folder.delete(["a"]) == ["a"]
    write(folder, a="ours")
    assert (tmp_path / "a").read_text() == "ours"


def test_a_link_in_the_place_of_a_file_is_not_ours(tmp_path):
    folder = OwnedFolder(tmp_path / "out", "test")
    write(folder, a="one")
    (tmp_path / "elsewhere").write_text("one")
    (tmp_path / "out" / "a").unlink()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "elsewhere")
    assert folder.delete(["a"]) == ["a"]
    with pytest.raises(FileExistsError):
        write(folder, a="two")
    assert (tmp_path / "elsewhere").read_text() == "one"


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "train").write_text("mine")
    folder = OwnedFolder(tmp_path, "test")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        folder.require_replaceable(["train/shard"])
    assert (tmp_path / "train").read_text() == "mine"


def test_an_error_while_writing_leaves_nothing(tmp_path):
    folder = OwnedFolder(tmp_path, "test")
    write(folder, a="one")
    with pytest.raises(TypeError):
        write(folder, a="two", b=None)
    assert (tmp_path / "a").read_text() == "one"
    assert visible(tmp_path) == {"a"}


def test_files_of_the_same_writer_that_are_not_written_again_go(tmp_path):
    write(OwnedFolder(tmp_path, "other"), kept="x")
    folder = OwnedFolder(tmp_path, "test")
    write(folder, a="1", b="2", edited="3")
    (tmp_path / "edited").write_text("mine")
    with folder.writing(replace_all=True) as stage:
        (stage / "a").write_text("new")
    assert visible(tmp_path) == {"a", "kept", "edited"}


def test_the_umask_is_respected_and_not_touched(tmp_path, monkeypatch):
    before = os.umask(0o027)
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask is the whole process'"))
    try:
        write(OwnedFolder(tmp_path / "out", "test"), a="one")
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out" / "a").stat().st_mode) == 0o640


KILLED = """
import os, signal, sys
from keras_pretrain import folders
left = int(sys.argv[2])

def die_or(function):
    def call(*args, **kwargs):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return function(*args, **kwargs)
    return call

os.replace, os.write = die_or(os.replace), die_or(os.write)  # a move, and a line of the record
folder = folders.OwnedFolder(sys.argv[1], "test")
with folder.writing(remove_first="c") as stage:
    for name in "abc":
        (stage / name).write_text("new " + name)
"""


@pytest.mark.parametrize("moment", range(7))
def test_a_kill_at_any_moment_leaves_all_old_or_all_new_files_once_somebody_writes_again(tmp_path, moment):
    folder = OwnedFolder(tmp_path, "test")
    write(folder, a="old a", b="old b", c="old c")
    (tmp_path / "foreign").write_text("mine")
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path, str(moment)], check=False)
    assert done.returncode == (-signal.SIGKILL if moment < 6 else 0)
    again = OwnedFolder(tmp_path, "test")
    again.finish_interrupted()
    texts = {(tmp_path / name).read_text().split()[0] for name in "abc"}
    assert texts == ({"old"} if moment < 2 else {"new"})
    assert visible(tmp_path) == {"a", "b", "c", "foreign"}
    assert all(again.owns(name) for name in "abc")


def test_an_interrupt_between_two_moves_loses_nothing(tmp_path, monkeypatch):
    folder = OwnedFolder(tmp_path, "test")
    write(folder, a="old", b="old")
    replace, calls = os.replace, []

    def interrupted(*paths):
        calls.append(paths)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(folder, a="new", b="new")
    assert [(tmp_path / name).read_text() for name in "ab"] == ["new", "new"]
    assert visible(tmp_path) == {"a", "b"}


def test_a_staging_folder_in_use_is_left_alone(tmp_path):
    with OwnedFolder(tmp_path, "test").staging() as stage:
        (stage / "a").write_text("half")
        write(OwnedFolder(tmp_path, "other"), b="whole")
        assert (stage / "a").read_text() == "half"
        assert OwnedFolder(tmp_path, "other").foreign() == []


def test_half_a_line_at_the_end_of_the_manifest_costs_that_line(tmp_path):
    write(OwnedFolder(tmp_path, "test"), a="one")
    with open(tmp_path / MANIFEST, "a") as file:
        file.write('{"files": {"b": [3, ')
    folder = OwnedFolder(tmp_path, "test")
    write(folder, c="three")
    again = OwnedFolder(tmp_path, "test")
    assert again.names() == ["a", "c"]
    assert again.owns("a")
    assert again.owns("c")


@pytest.mark.parametrize(
    ("manifest", "message"),
    [("my notes\n", "not a manifest of keras_pretrain"), ('{"keras_pretrain_manifest": 9}\n', "has format 9")],
)
def test_another_manifest_is_refused(tmp_path, manifest, message):
    (tmp_path / MANIFEST).write_text(manifest)
    with pytest.raises(FileExistsError, match=f"{tmp_path / MANIFEST} .*{message}.*Choose another folder"):
        OwnedFolder(tmp_path, "test")
    assert (tmp_path / MANIFEST).read_text() == manifest


@pytest.mark.parametrize("staging", ["..", "", "train", ".unfinished-/../train"])
def test_a_damaged_manifest_deletes_nothing(tmp_path, staging):
    write(OwnedFolder(tmp_path / "out", "test"), a="one")
    (tmp_path / "out" / "train").mkdir()
    (tmp_path / "out" / "train" / "mine").write_text("mine")
    with open(tmp_path / "out" / MANIFEST, "a") as file:
        file.write(json.dumps({"staging": staging}) + "\n")
    OwnedFolder(tmp_path / "out", "test").finish_interrupted()
    assert visible(tmp_path / "out") == {"a", "train/mine"}


def test_files_of_another_writer_are_not_deleted(tmp_path):
    write(OwnedFolder(tmp_path, "checkpoint"), model="a week")
    folder = OwnedFolder(tmp_path, "preparation")
    write(folder, report="ours")
    assert folder.names() == ["report"]
    assert folder.delete(["report", "model"]) == ["model"]
    assert visible(tmp_path) == {"model"}


def test_what_a_user_edits_after_a_kill_stays(tmp_path, package_log):
    write(OwnedFolder(tmp_path, "test"), c="old c", other="old")
    # Killed after the record, before the move.
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path, "2"], check=False)
    assert done.returncode == -signal.SIGKILL
    (tmp_path / "a").write_text("mine")
    write(OwnedFolder(tmp_path, "other"), z="z")
    assert (tmp_path / "a").read_text() == "mine"
    assert (tmp_path / "b").read_text() == "new b"
    assert f"{tmp_path / 'a'} was changed" in package_log.text
    write(OwnedFolder(tmp_path, "other"), z="again")  # the folder is not stuck


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_in_the_place_of_a_file_is_refused_and_breaks_nothing(tmp_path, overwrite):
    (tmp_path / "x" / "mine").mkdir(parents=True)
    with pytest.raises(FileExistsError):
        write(OwnedFolder(tmp_path, "test", overwrite=overwrite), x="new")
    write(OwnedFolder(tmp_path, "test"), y="fine")
    assert (tmp_path / "x" / "mine").is_dir()


@pytest.mark.parametrize(
    "line", ['{"files": {"한글'.encode()[:-1], b"[1]\n", b'{"files": {"../victim": [1, 2, "3"]}}\n']
)
def test_a_line_that_cannot_be_used_costs_that_line(tmp_path, line):
    write(OwnedFolder(tmp_path / "out", "test"), a="one")
    with open(tmp_path / "out" / MANIFEST, "ab") as file:
        file.write(line)
    folder = OwnedFolder(tmp_path / "out", "test")
    write(folder, b="two")
    assert OwnedFolder(tmp_path / "out", "test").names() == ["a", "b"]


def test_a_disk_that_takes_half_a_line_loses_no_record(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[: max(1, len(data) // 2)]))
    write(OwnedFolder(tmp_path, "test"), a="one")
    monkeypatch.undo()
    assert OwnedFolder(tmp_path, "test").owns("a")


def test_files_of_an_older_version_can_be_adopted(tmp_path):
    (tmp_path / "old").write_text("old")
    folder = OwnedFolder(tmp_path, "test")
    folder.adopt(["old"])
    assert folder.owns("old")
    assert folder.foreign() == []
    OwnedFolder(tmp_path, "test").finish_interrupted()
    assert visible(tmp_path) == {"old"}


def test_a_long_file_is_known_by_its_size_and_time(tmp_path, monkeypatch):
    folder = OwnedFolder(tmp_path, "test")
    write(folder, a="x" * (1 << 20) + "y")
    monkeypatch.setattr(folders, "_digest", lambda path: pytest.fail("it need not be read"))
    assert folder.owns("a")


def test_a_copy_of_a_folder_is_owned_too(tmp_path):
    import shutil

    write(OwnedFolder(tmp_path / "one", "test"), a="x" * (1 << 21), b="y")
    shutil.copytree(tmp_path / "one", tmp_path / "two", copy_function=shutil.copy)
    os.utime(tmp_path / "two" / "a", (1, 1))
    assert OwnedFolder(tmp_path / "two", "test").foreign() == []
