"""`examine`: describe this machine and installation, and find what would prevent a run."""

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from keras_pretrain.system import available_processors

_PACKAGE = "keras_pretrain"
_CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile")
_LITTLE_MEMORY, _LITTLE_DISK, _NO_DISK = 4 << 30, 10 << 30, 1 << 30  # bytes
_EXTRAS = {
    "korean": "to split Korean sentences and to clean comments",
    "english": "to split English sentences",
    "finetune": "to fine-tune and to evaluate",
    "plots": "to draw the curves of a run",
    "tensorboard": "to log metrics for TensorBoard",
    "serving": "to export a SavedModel that takes strings",
    "distributed": "to prepare a corpus and train on several machines",
    "torch": "to read checkpoints whose weights are a pytorch_model.bin",
}
# Runs in a separate process, so that start-up messages are hidden, and a crash during the import is reported as a
# finding.
_TENSORFLOW = """
import json, tensorflow as tf
gpus = tf.config.list_physical_devices("GPU")
print(json.dumps({
    "keras": tf.keras.Model.__module__.split(".")[0],
    "cuda": tf.test.is_built_with_cuda(),
    "gpus": [tf.config.experimental.get_device_details(gpu) for gpu in gpus],
}))
"""


@dataclass(frozen=True)
class Finding:
    """One fact about the machine or the installation, its level, and for a problem the remedy."""

    topic: str
    text: str
    level: str = "ok"  # or "note" or "problem"
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.level:8} {self.topic:12} {self.text}" + (f"\n{'':22}→ {self.remedy}" if self.remedy else "")


@dataclass(frozen=True)
class Examination:
    """All findings. As a string: one line for each finding, and the number of problems."""

    findings: list[Finding]

    @property
    def problems(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == "problem"]

    def __str__(self) -> str:
        count = len(self.problems)
        summary = "No problems." if count == 0 else "1 problem." if count == 1 else f"{count} problems."
        return "\n".join([*map(str, self.findings), summary])


def examine(folders: Sequence[str | os.PathLike[str]] = (".",)) -> Examination:
    """Examine this machine and this installation; nothing is changed, and the network is not used.

    Args:
      folders: the folders to which output will be written; they need not exist yet.
    """
    from huggingface_hub import constants

    probes = (
        _examine_processors(), _examine_memory(), *map(_examine_disk, [*folders, constants.HF_HOME]),
        _examine_packages(), _examine_analysers(), _examine_tensorflow(), _examine_hub(), _examine_cluster(),
    )  # fmt: skip
    return Examination(list(chain.from_iterable(probes)))


def _examine_processors() -> Iterator[Finding]:
    info = _read("/proc/cpuinfo")
    values = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in info.splitlines())}
    flags = [flag for flag in _CPU_FLAGS if flag in values.get("flags", "").split()]
    model = values.get("model name") or platform.processor() or platform.machine()
    text = f"{available_processors()} of {os.cpu_count()} available; {model}; {', '.join(flags) or 'no AVX2'}"
    yield Finding("processors", text, "note" if info and not flags else "ok")


def _examine_memory() -> Iterator[Finding]:
    table = dict(line.split(":") for line in _read("/proc/meminfo").splitlines())
    total, available = (int(table.get(name, "0").split()[0]) << 10 for name in ("MemTotal", "MemAvailable"))
    # Files that may hold a memory limit, in cgroups v2 and v1: the root's (a container's limit), and those of this
    # process's own group.
    groups = ["", *re.findall(r"^\d+:(?:memory)?:(.*)", _read("/proc/self/cgroup"), re.MULTILINE)]
    files = [f"/sys/fs/cgroup{group}/memory.max" for group in groups]
    files += [f"/sys/fs/cgroup/memory{group}/memory.limit_in_bytes" for group in groups]
    limits = [int(text) for text in map(_read, files) if text.strip().isdigit()]
    limit = min((limit for limit in limits if limit < total), default=None)
    if total:
        text = f"{_size(total)}, {_size(available)} available" + (f"; limited to {_size(limit)}" if limit else "")
        yield Finding("memory", text, "note" if min(available, limit or available) < _LITTLE_MEMORY else "ok")


def _examine_disk(folder: str | os.PathLike[str]) -> Iterator[Finding]:
    path = Path(folder).expanduser().absolute()
    existing = next(each for each in (path, *path.parents) if each.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        remedy = "Choose another folder, or change its permissions."
        yield Finding("disk", f"{path} cannot be written to", "problem", remedy)
        return
    free = shutil.disk_usage(existing).free
    level = "problem" if free < _NO_DISK else "note" if free < _LITTLE_DISK else "ok"
    remedy = "Make room, or choose another folder." if level == "problem" else ""
    yield Finding("disk", f"{path}: {_size(free)} free", level, remedy)


def _examine_packages() -> Iterator[Finding]:
    """Compare Python and the installed packages with the ranges in this package's metadata."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    if _version(_PACKAGE) is None:
        remedy = "pip install -e . in its source folder"
        yield Finding("packages", f"{_PACKAGE} itself is not installed", "problem", remedy)
        return
    python, supported = platform.python_version(), importlib.metadata.metadata(_PACKAGE)["Requires-Python"]
    remedy = "" if SpecifierSet(supported).contains(python, prereleases=True) else f"Install Python {supported}."
    yield Finding("Python", f"{python} ({supported})", "problem" if remedy else "ok", remedy)
    fine = []
    for requirement in map(Requirement, importlib.metadata.requires(_PACKAGE) or ()):
        marker, requirement.marker = requirement.marker, None
        if requirement.name.replace("-", "_") == _PACKAGE:  # an extra that only combines other extras, such as `all`
            continue
        extras = (extra for extra in ("", *_EXTRAS) if marker is None or marker.evaluate({"extra": extra}))
        extra = next(extras, None)
        name, version, install = requirement.name, _version(requirement.name), f"pip install '{requirement}'"
        if extra is None:  # only needed by an extra that is not examined, such as `test`
            continue
        if version is None and extra:
            install = f"pip install '{_PACKAGE}[{extra}]'"
            yield Finding("packages", f"{name} is missing; it is needed {_EXTRAS[extra]}: {install}", "note")
        elif version is None:
            yield Finding("packages", f"{name} is missing", "problem", install)
        elif not requirement.specifier.contains(version, prereleases=True):
            text = f"{name} {version} is outside the supported range {requirement.specifier}"
            yield Finding("packages", text, "problem", install)
        else:
            fine.append(f"{name} {version}")
    yield Finding("packages", f"in their supported ranges: {', '.join(fine)}")


def _examine_analysers() -> Iterator[Finding]:
    if importlib.util.find_spec("nltk") and not _has_punkt():
        text = "nltk's punkt_tab is missing; only the backend of that name needs it"
        yield Finding("analysers", f"{text}: python -m nltk.downloader punkt_tab", "note")


def _examine_tensorflow() -> Iterator[Finding]:
    if _version("tf_keras") is None:
        yield Finding("Keras", "tf_keras (legacy Keras) is missing", "problem", "pip install tf-keras")
    known, error = _ask_tensorflow()
    version = _version("tensorflow") or "2.*"
    if known is None:
        remedy = f"Install it again: pip install --force-reinstall 'tensorflow=={version}'"
        yield Finding("TensorFlow", f"cannot be imported: {error}", "problem", remedy)
        return
    setting = f"TF_USE_LEGACY_KERAS={os.environ.get('TF_USE_LEGACY_KERAS', '')}"
    if known["keras"] == "tf_keras":
        yield Finding("Keras", f"tf.keras is legacy Keras ({setting})")
    else:
        remedy = "Set TF_USE_LEGACY_KERAS=1 before Python starts."
        yield Finding("Keras", f"tf.keras is Keras 3 ({setting})", "problem", remedy)
    yield from _examine_gpus(known, version)


def _examine_gpus(known: dict, version: str) -> Iterator[Finding]:
    seen = dict(_nvidia_gpus())
    for details in known["gpus"]:
        name, capability = details.get("device_name", "unknown GPU"), details.get("compute_capability")
        facts = [name, seen.get(name), capability and f"compute capability {'.'.join(map(str, capability))}"]
        yield Finding("GPU", ", ".join(filter(None, facts)))
    if known["gpus"]:
        return
    first, hidden = next(iter(seen), None), os.environ.get("CUDA_VISIBLE_DEVICES")
    cuda = "with" if known["cuda"] else "without"
    if first is None:
        yield Finding("GPU", f"none; training runs on the CPU (TensorFlow is built {cuda} CUDA)", "note")
    elif hidden in ("", "-1"):
        yield Finding("GPU", f"{first} is hidden by CUDA_VISIBLE_DEVICES={hidden!r}", "note")
    else:
        what = "CUDA's libraries" if known["cuda"] else "a TensorFlow that is built with CUDA"
        remedy = f"Install {what}: pip install 'tensorflow[and-cuda]=={version}'"
        text = f"nvidia-smi sees {first}, and TensorFlow (built {cuda} CUDA) does not"
        yield Finding("GPU", text, "problem", remedy)


def _examine_hub() -> Iterator[Finding]:
    from huggingface_hub import constants, get_token

    yield Finding("Hub", f"HF_HOME {constants.HF_HOME}; token: {'yes' if get_token() else 'no'}")
    if constants.HF_HUB_OFFLINE:
        yield Finding("Hub", "HF_HUB_OFFLINE is set: nothing is downloaded or uploaded", "note")


def _examine_cluster() -> Iterator[Finding]:
    text = os.environ.get("TF_CONFIG")
    if not text:
        return
    try:
        config = json.loads(text)
        count = sum(len(config["cluster"].get(job, ())) for job in ("chief", "worker"))
        task = f"{config['task']['type']} {config['task']['index']}"
        yield Finding("cluster", f"TF_CONFIG: {count} workers; this one is {task}", "note")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        wanted = """{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}"""
        text = f"TF_CONFIG cannot be read: {type(error).__name__}: {error}"
        yield Finding("cluster", text, "problem", f"Unset it, or set it to JSON such as {wanted}.")


def _ask_tensorflow() -> tuple[dict | None, str]:
    """Return TensorFlow's report about itself and its GPUs; or `None` and the reason why it cannot be imported."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", _TENSORFLOW]
    try:
        result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
        return json.loads(result.stdout.strip().splitlines()[-1]), ""
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    except (IndexError, ValueError):
        return None, (result.stderr.strip().splitlines() or [f"it ended with status {result.returncode}"])[-1]


def _nvidia_gpus() -> list[tuple[str, str]]:
    """The name and memory of each GPU that the driver reports."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return re.findall(r"^([^,\n]+), ([^,\n]+)$", output, re.MULTILINE)


def _has_punkt() -> bool:
    import nltk

    with contextlib.suppress(LookupError):
        return bool(nltk.data.find("tokenizers/punkt_tab/english"))
    return False


def _version(name: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return None


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
