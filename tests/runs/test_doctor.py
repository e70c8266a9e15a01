import importlib.metadata
import json
import re
import shutil
from collections import namedtuple

import pytest
from packaging.requirements import Requirement

from keras_pretrain.runs import doctor

WITHOUT_GPU = {"keras": "tf_keras", "cuda": True, "gpus": []}
WITH_GPU = WITHOUT_GPU | {"gpus": [{"device_name": "NVIDIA H100", "compute_capability": [9, 0]}]}
CPU = "processor\t: 0\nmodel name\t: Some Xeon\nflags\t\t: fpu avx2 avx512f amx_bf16\n"
MEMORY = "MemTotal:       67108864 kB\nMemFree:  1 kB\nMemAvailable:   33554432 kB\n"


@pytest.fixture(autouse=True)
def sound(monkeypatch):
    """A machine without a GPU on which nothing is wrong."""
    monkeypatch.setattr(doctor, "_ask_tensorflow", lambda: (WITHOUT_GPU, ""))
    monkeypatch.setattr(doctor, "_nvidia_gpus", list)
    monkeypatch.setattr(doctor, "_has_punkt", lambda: True)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(50 << 30))
    set_files(monkeypatch, {"/proc/cpuinfo": CPU, "/proc/meminfo": MEMORY})
    for name in ("TF_CONFIG", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def set_files(monkeypatch, files):
    monkeypatch.setattr(doctor, "_read", lambda path: files.get(path, ""))


def find(topic, folders=(".",)):
    """`(level, text, remedy)` of each finding of a topic."""
    findings = doctor.examine(folders).findings
    return [(each.level, each.text, each.remedy) for each in findings if each.topic == topic]


def test_a_sound_machine_has_no_problems(tmp_path):
    examination = doctor.examine([tmp_path])
    assert examination.problems == []
    assert str(examination).endswith("\nNo problems.")
    assert {each.level for each in examination.findings} <= {"ok", "note"}
    assert not any(each.remedy for each in examination.findings)


def test_processors_are_told_with_their_flags(monkeypatch):
    monkeypatch.setattr(doctor, "available_processors", lambda: 3)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert find("processors") == [("ok", "3 of 8 available; Some Xeon; avx2, avx512f, amx_bf16", "")]
    set_files(monkeypatch, {"/proc/cpuinfo": CPU.replace("avx2 avx512f amx_bf16", "sse")})
    assert find("processors") == [("note", "3 of 8 available; Some Xeon; no AVX2", "")]


@pytest.mark.parametrize("version", [1, 2])
def test_the_limit_of_a_container_is_told(monkeypatch, version):
    assert find("memory") == [("ok", "64.0 GiB, 32.0 GiB available", "")]
    v1, v2 = "/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "/sys/fs/cgroup/box/memory.max"
    files = {"/proc/meminfo": MEMORY, "/proc/self/cgroup": "4:memory:/box\n" if version == 1 else "0::/box\n"}
    set_files(monkeypatch, files | {v1 if version == 1 else v2: f"{2 << 30}\n"})
    assert find("memory") == [("note", "64.0 GiB, 32.0 GiB available; limited to 2.0 GiB", "")]
    for no_limit in ("max\n", "9223372036854771712\n"):
        set_files(monkeypatch, files | {v1 if version == 1 else v2: no_limit})
        assert find("memory") == [("ok", "64.0 GiB, 32.0 GiB available", "")]


@pytest.mark.parametrize(("free", "level"), [(50, "ok"), (5, "note"), (0.5, "problem")])
def test_free_disk_is_told_of_folders_that_are_not_there_yet(monkeypatch, tmp_path, free, level):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(int(free * 2**30)))
    found = find("disk", [tmp_path / "my_bert" / "run"])
    assert found[0][:2] == (level, f"{tmp_path / 'my_bert' / 'run'}: {free:.1f} GiB free")
    assert len(found) == 2  # the cache is the other


def test_a_folder_that_cannot_be_written_to_is_a_problem(tmp_path):
    (tmp_path / "file").write_text("")
    level, text, remedy = find("disk", [tmp_path / "file" / "run"])[0]
    assert (level, text.partition(" ")[0]) == ("problem", str(tmp_path / "file" / "run"))
    assert "written" in text
    assert remedy.startswith("Choose another folder")


def test_packages_are_compared_with_the_supported_ranges(monkeypatch):
    versions = {"transformers": "4.60.0", "datasets": None, "ray": None}
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: versions[name] if name in versions else real(name))
    found = find("packages")
    needed = {Requirement(each).name: Requirement(each) for each in importlib.metadata.requires("keras_pretrain")}
    assert ("problem", "datasets is missing", f"pip install '{needed['datasets']}'") in found
    [(level, text, remedy)] = [each for each in found if each[1].startswith("transformers 4.60.0 ")]
    assert (level, remedy) == ("problem", f"pip install '{needed['transformers']}'")
    assert text.endswith(f" {needed['transformers'].specifier}")
    notes = [text for level, text, _ in found if level == "note" and text.startswith("ray ")]
    assert notes[0].endswith(": pip install 'keras_pretrain[distributed]'")
    assert "pytest" not in str(found)


def test_a_package_that_is_not_installed_is_a_problem(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    [(level, text, remedy)] = find("packages")
    assert (level, text.partition(" ")[0]) == ("problem", "keras_pretrain")
    assert "not installed" in text
    assert remedy.startswith("pip install -e . ")


def test_an_old_python_is_a_problem(monkeypatch):
    monkeypatch.setattr("platform.python_version", lambda: "3.8.1")
    assert find("Python") == [("problem", "3.8.1 (>=3.10)", "Install Python >=3.10.")]


def test_the_model_of_a_backend_that_has_to_be_asked_for_is_a_note(monkeypatch):
    monkeypatch.setattr(doctor, "_has_punkt", lambda: False)
    [(level, text, _)] = find("analysers")
    assert level == "note"
    assert "python -m nltk.downloader punkt_tab" in text


def test_a_gpu_is_told_with_its_memory(monkeypatch):
    monkeypatch.setattr(doctor, "_ask_tensorflow", lambda: (WITH_GPU, ""))
    monkeypatch.setattr(doctor, "_nvidia_gpus", lambda: [("NVIDIA H100", "81559 MiB")])
    assert find("GPU") == [("ok", "NVIDIA H100, 81559 MiB, compute capability 9.0", "")]


@pytest.mark.parametrize(
    ("cuda", "remedy"), [(True, "^Install CUDA's libraries"), (False, "^Install a TensorFlow .*CUDA")]
)
def test_a_gpu_that_tensorflow_does_not_see_is_a_problem(monkeypatch, cuda, remedy):
    monkeypatch.setattr(doctor, "_ask_tensorflow", lambda: (WITHOUT_GPU | {"cuda": cuda}, ""))
    assert find("GPU")[0][0] == "note"
    monkeypatch.setattr(doctor, "_nvidia_gpus", lambda: [("NVIDIA H100", "81559 MiB")])
    ((level, text, found),) = find("GPU")
    assert (level, text.startswith("nvidia-smi sees NVIDIA H100")) == ("problem", True)
    assert re.search(rf"{remedy}: pip install 'tensorflow\[and-cuda\]==", found)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert find("GPU") == [("note", "NVIDIA H100 is hidden by CUDA_VISIBLE_DEVICES='-1'", "")]


def test_nvidia_smi_is_read(monkeypatch, tmp_path):
    monkeypatch.undo()
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559 MiB'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor._nvidia_gpus() == [("NVIDIA H100 80GB HBM3", "81559 MiB")]
    script.unlink()
    assert doctor._nvidia_gpus() == []


def test_a_tensorflow_that_cannot_be_imported_is_a_problem(monkeypatch):
    monkeypatch.setattr(doctor, "_ask_tensorflow", lambda: (None, "ImportError: libfoo.so"))
    ((level, text, remedy),) = find("TensorFlow")
    assert (level, text) == ("problem", "cannot be imported: ImportError: libfoo.so")
    assert "pip install --force-reinstall 'tensorflow==" in remedy


def test_tensorflow_is_asked_in_a_process_of_its_own(monkeypatch, capfd):
    monkeypatch.undo()
    known, error = doctor._ask_tensorflow()
    assert (known["keras"], error) == ("tf_keras", "")
    assert {"cuda", "gpus"} < known.keys()
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr(doctor, "_TENSORFLOW", "import os; os.abort()")
    assert doctor._ask_tensorflow() == (None, "it ended with status -6")
    monkeypatch.setattr(doctor, "_TENSORFLOW", "raise ImportError('libfoo.so')")
    assert doctor._ask_tensorflow() == (None, "ImportError: libfoo.so")


def test_keras_3_is_a_problem(monkeypatch):
    monkeypatch.setattr(doctor, "_ask_tensorflow", lambda: (WITHOUT_GPU | {"keras": "keras"}, ""))
    ((level, _, remedy),) = find("Keras")
    assert (level, remedy) == ("problem", "Set TF_USE_LEGACY_KERAS=1 before Python starts.")


def test_the_hubs_token_is_never_shown(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for token, said in (("hf_secret", "yes"), (None, "no")):
        monkeypatch.setattr("huggingface_hub.get_token", lambda token=token: token)
        (_, text, _), (level, _, _) = find("Hub")
        assert text.endswith(f"token: {said}")
        assert level == "note"
        assert "hf_secret" not in str(doctor.examine())


@pytest.mark.parametrize("text", ["{", "[]", '{"cluster": {}}', '{"cluster": [], "task": {"type": "w", "index": 0}}'])
def test_a_damaged_tf_config_is_a_problem(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    examination = doctor.examine()
    assert [each.topic for each in examination.problems] == ["cluster"]
    assert examination.problems[0].text.startswith("TF_CONFIG cannot be read")
    assert str(examination).endswith("\n1 problem.")


def test_a_tf_config_is_told(monkeypatch):
    config = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert find("cluster") == [("note", "TF_CONFIG: 2 workers; this one is worker 1", "")]
