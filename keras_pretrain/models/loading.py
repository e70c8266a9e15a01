"""Finds checkpoints in a folder or on the Hub, locates each network and its weights, and reports damaged files."""

import contextlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypedDict

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from typing_extensions import Unpack  # Python 3.10 does not have it

DOWNLOAD = ("subfolder", "revision", "token", "cache_dir", "local_files_only")  # arguments that all loaders pass on
_KINDS = ("bert", "electra")
_TENSORFLOW = ("model.safetensors", "model.safetensors.index.json", "tf_model.h5", "tf_model.h5.index.json")
_TORCH = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
_SMALL = ("*.json", "*.txt", "*.model")  # all files of a repository except the weights


class Download(TypedDict, total=False):
    """The arguments that all loaders pass to `find_checkpoint`; `DOWNLOAD` lists their names."""

    subfolder: str | None
    revision: str | None
    token: str | bool | None
    cache_dir: str | os.PathLike[str] | None
    local_files_only: bool


@dataclass(frozen=True)
class Checkpoint:
    """One network of a checkpoint. Files of a checkpoint on the Hub are downloaded to the Hub's cache: config and
    tokenizer at once, the weights when they are needed.

    Attributes:
      name: the folder or name as the user gave it, with the sub-folder in which the network was found.
      folder: the folder that contains `config.json`.
      config: the content of `config.json`.
    """

    name: str
    folder: Path
    config: dict
    _hub: dict | None = field(default=None, repr=False)  # arguments of `hf_hub_download`; `None` for a local folder

    @property
    def model_type(self) -> str:
        """The model type in the config; a config without `model_type` is taken for an old config of a BERT."""
        return self.config.get("model_type", "bert")

    def check(self, *, tokenizer: bool = True) -> None:
        """Check that the checkpoint can be loaded, without TensorFlow and without reading the weights.

        The weights of a checkpoint on the Hub are neither checked nor downloaded.

        Args:
          tokenizer: whether the checkpoint must have a tokenizer.

        Raises:
          FileNotFoundError: the weights, one of their shards or the tokenizer is missing.
          ValueError: the weights are damaged or cut off.
          ModuleNotFoundError: only torch can read the weights, and it is not installed.
        """
        if self._hub is None:
            self.weights()
        if tokenizer:
            self._require_tokenizer()

    def weights(self) -> list[Path]:
        """The weight files (one, or all shards) in the best available format; downloaded if needed.

        Raises:
          FileNotFoundError, ValueError, ModuleNotFoundError: as `check`.
        """
        for name in _TENSORFLOW + _TORCH:
            file = self._find(name)
            if file is None:
                continue
            if name in _TORCH and importlib.util.find_spec("torch") is None:
                raise ModuleNotFoundError(
                    f"{self.name} has its weights as {name}, which only torch can read: "
                    "pip install 'keras_pretrain[torch]', or save the checkpoint as safetensors."
                )
            files = [file] if file.suffix != ".json" else self._shards(file)
            for each in files:
                _check_weights(each, self.name)
            return files
        raise FileNotFoundError(
            f"{self.name} has no weights: one of {', '.join(_TENSORFLOW + _TORCH[:1])} is needed. "
            + ("Save the model again." if self._hub is None else "If you are offline, they are not in the Hub's cache.")
        )

    @contextlib.contextmanager
    def readable(self) -> Iterator[Path]:
        """Yield a folder that `from_pretrained` of a TensorFlow class can read, for every format of weights.

        Weights pickled by torch are converted in a temporary folder, because transformers' own conversion cannot skip a
        head of another size.

        Raises:
          FileNotFoundError, ValueError, ModuleNotFoundError: as `check`.
        """
        files = self.weights()
        if files[0].suffix != ".bin":
            yield self.folder
            return
        import torch
        from safetensors.numpy import save_file

        state: dict[str, Any] = {}
        for file in files:
            state |= torch.load(file, map_location="cpu", weights_only=True)
        with tempfile.TemporaryDirectory() as converted:
            shutil.copy(self.folder / "config.json", converted)
            weights = {name: value.float().numpy().copy() for name, value in state.items()}
            save_file(weights, Path(converted) / "model.safetensors", metadata={"format": "pt"})
            yield Path(converted)

    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """Load the checkpoint's tokenizer.

        Raises:
          FileNotFoundError: the checkpoint has no tokenizer.
          ValueError: the tokenizer cannot be read.
        """
        from transformers import AutoTokenizer

        self._require_tokenizer()
        try:
            return AutoTokenizer.from_pretrained(self.folder)
        except Exception as error:  # the tokenizers library raises plain `Exception`s
            raise ValueError(f"The tokenizer of {self.name} cannot be read; save it again. {error}") from error

    def _require_tokenizer(self) -> None:
        if not any(any(self.folder.glob(pattern)) for pattern in _TOKENIZERS):
            raise FileNotFoundError(
                f"{self.name} has no tokenizer (tokenizer.json or vocab.txt): save it there with "
                "tokenizer.save_pretrained, or give another tokenizer."
            )

    def _find(self, name: str) -> Path | None:
        file = self.folder / name
        if self._hub is None or file.is_file():
            return file if file.is_file() else None
        try:
            return Path(_ask(self.name, hf_hub_download, filename=name, **self._hub))
        except EntryNotFoundError:  # not in the repository, or not in the cache and offline
            return None

    def _shards(self, index: Path) -> list[Path]:
        names = sorted(set(_read_json(index, self.name).get("weight_map", {}).values()))
        found = {name: self._find(name) for name in names}
        files = {name: file for name, file in found.items() if file is not None}
        missing = [name for name in names if name not in files]
        if missing or not names:
            raise FileNotFoundError(
                f"{self.name} lacks weights that {index.name} lists: {', '.join(missing) or 'all'}."
            )
        return list(files.values())


def find_checkpoint(
    name: str | os.PathLike[str],
    kinds: Sequence[str] = _KINDS,
    *,
    generator: bool = False,
    subfolder: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Checkpoint:
    """Find a network by the folder or the Hub name of its checkpoint. The weights are not read.

    For a checkpoint of an ELECTRA that `save_checkpoint` wrote, this finds the discriminator, at the root (older
    versions: in `discriminator/`); with `generator=True`, it finds the generator, in `generator/`.

    Args:
      name: a folder or, if there is no folder of this name, a name on the Hub.
      kinds: the model types that are accepted.
      generator: choose an ELECTRA's generator, if the checkpoint has one beside the discriminator.
      subfolder: the sub-folder of the folder or repository that contains the checkpoint.
      revision, token, cache_dir, local_files_only: settings of the download, as for
        `huggingface_hub.snapshot_download`.

    Returns:
      A `Checkpoint`.

    Raises:
      FileNotFoundError: no such folder and no such model on the Hub, or no `config.json` in it.
      PermissionError: the model on the Hub is gated, and the token has no access.
      ConnectionError: the request to the Hub failed.
      ValueError: the config cannot be read, or names a model type that is not among `kinds`.
    """
    hub, shown = None, os.fspath(name)
    root = Path(name).expanduser()
    if not root.is_dir():
        download = {"revision": revision, "token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
        root = _download(shown, subfolder, download)
        hub = download | {"repo_id": shown, "revision": root.name}
    parts = ["", "discriminator"]
    if (root / (subfolder or "") / "generator" / "config.json").is_file():
        whole = root / (subfolder or "") / "config.json"
        is_electra = not whole.is_file() or _read_json(whole, shown).get("model_type") == "electra"
        parts = ["generator"] if generator and is_electra else parts
    places = [os.path.join(subfolder or "", part).rstrip("/") for part in parts]
    place = next((place for place in places if (root / place / "config.json").is_file()), places[0])
    folder, shown = root / place, os.path.join(shown, place).rstrip("/")
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{shown} is no checkpoint: it has no config.json. kp.save_checkpoint writes one.")
    if hub is not None:
        hub["subfolder"] = place or None
    checkpoint = Checkpoint(shown, folder, _read_json(folder / "config.json", shown), hub)
    if checkpoint.model_type not in kinds:
        raise ValueError(
            f"{shown} is a checkpoint of model type {checkpoint.model_type!r}; what is needed here is "
            f"{' or '.join(map(repr, kinds))}."
        )
    return checkpoint


def find_electra(
    discriminator: str | os.PathLike[str],
    generator: str | os.PathLike[str] | None = None,
    **download: "Unpack[Download]",
) -> tuple[Checkpoint, Checkpoint]:
    """Find both networks of an ELECTRA.

    Args:
      discriminator: a folder or a name on the Hub.
      generator: a folder or a name on the Hub. Default: the generator beside the discriminator.
      **download: as for `find_checkpoint`. If `generator` is given, `subfolder` and `revision` apply only to the
        discriminator.

    Returns:
      The `Checkpoint`s of the discriminator and of the generator.

    Raises:
      FileNotFoundError, PermissionError, ConnectionError: as `find_checkpoint`.
      ValueError: as `find_checkpoint`; or no generator is given, and the checkpoint has none.
    """
    found = find_checkpoint(discriminator, ("electra",), **download)
    if generator is not None:
        own = download.copy()
        own.pop("subfolder", None)
        own.pop("revision", None)
        return found, find_checkpoint(generator, ("electra",), generator=True, **own)
    beside = find_checkpoint(discriminator, ("electra",), generator=True, **download)
    if beside.folder == found.folder:
        raise ValueError(
            f"{found.name} has no generator/ beside the discriminator: name the generator's checkpoint, too, or give "
            "ElectraPretrainer a config for a new one."
        )
    return found, beside


def check_checkpoint(
    name: str | os.PathLike[str], kinds: Sequence[str] = _KINDS, *, tokenizer: bool = True, **where: "Unpack[Download]"
) -> Checkpoint:
    """Raise an error if a checkpoint could not be loaded; takes a fraction of a second and does not need TensorFlow.

    For a checkpoint on the Hub, config and tokenizer are downloaded, and the weights are not checked.

    Args:
      name: a folder or a name on the Hub.
      kinds: the model types that are accepted.
      tokenizer: whether the checkpoint must have a tokenizer.
      **where: as for `find_checkpoint`.

    Returns:
      The `Checkpoint`.

    Raises:
      FileNotFoundError, PermissionError, ConnectionError, ValueError: as `find_checkpoint` and `Checkpoint.check`.
      ModuleNotFoundError: as `Checkpoint.check`.
    """
    checkpoint = find_checkpoint(name, kinds, **where)
    checkpoint.check(tokenizer=tokenizer)
    return checkpoint


def take_download(settings: dict) -> dict:
    """Remove the arguments of a download (`DOWNLOAD`) from a function's keyword arguments, and return them."""
    return {key: settings.pop(key) for key in DOWNLOAD if key in settings}


def _download(name: str, subfolder: str | None, download: dict) -> Path:
    """Download everything except the weights; returns the repository's folder in the Hub's cache."""
    if os.path.lexists(os.path.expanduser(name)):
        raise FileNotFoundError(f"{name} is a file, not a checkpoint's folder.")
    patterns = [f"{subfolder}/{pattern}" if subfolder else pattern for pattern in _SMALL]
    try:
        return Path(_ask(name, snapshot_download, repo_id=name, allow_patterns=patterns, **download))
    except LocalEntryNotFoundError:
        pass
    raise FileNotFoundError(
        f"There is no folder {name} (current folder: {os.getcwd()}), and no model of that name in the Hub's cache. The "
        "Hub could not be reached: are you offline?"
    )


def _ask(name: str, request: Callable, **arguments: Any) -> str:
    """Send a request with the Hub's client. Replace its errors, except `EntryNotFoundError`, with errors that have
    one-line messages."""
    try:
        validate_repo_id(arguments["repo_id"])
        return request(**arguments)
    except EntryNotFoundError:
        raise
    except HFValidationError:
        failure = FileNotFoundError(f"There is no folder {name} (current folder: {os.getcwd()}).")
    except GatedRepoError:
        failure = PermissionError(f"{name} is gated: ask for access on its page on the Hub, and give a token.")
    except RevisionNotFoundError:
        failure = FileNotFoundError(f"{name} has no such revision on the Hub.")
    except RepositoryNotFoundError:
        failure = FileNotFoundError(
            f"There is no folder {name} (current folder: {os.getcwd()}), and the Hub has no model of that name, or "
            "none that your token may read."
        )
    except OSError as error:
        failure = ConnectionError(f"The Hub failed in the search for {name}: {type(error).__name__}. Try again.")
    # Raise outside of `except`, so that this error is not chained to the client's error, which holds a request with the
    # token in its headers.
    raise failure


def _read_json(file: Path, name: str) -> dict:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
        reason = "it is not an object"
    except ValueError as error:
        reason = str(error)
    raise ValueError(f"{file.name} of {name} is not valid JSON ({reason}): save or download the checkpoint again.")


def _check_weights(file: Path, name: str) -> None:
    """Check, without reading the weights, that the file has the right format and is complete."""
    size, damage = file.stat().st_size, None
    with file.open("rb") as opened:
        start = opened.read(8)
        if start == b"version ":
            damage = "is a pointer of Git LFS: `git lfs pull` fetches the weights"
        elif file.suffix == ".h5" and start != b"\x89HDF\r\n\x1a\n":
            damage = "is not in HDF5's format"
        elif file.suffix == ".safetensors":
            damage = _safetensors_damage(start, opened, size)
    if damage:
        raise ValueError(f"{file.name} of {name} {damage}. Save or download the checkpoint again.")


def _safetensors_damage(start: bytes, opened: BinaryIO, size: int) -> str | None:
    length = int.from_bytes(start, "little")
    try:
        header: Any = json.loads(opened.read(length)) if len(start) == 8 and 8 + length <= size else None
        layout = header.pop("__metadata__", {}).get("format")
        end = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (ValueError, AttributeError, KeyError, TypeError):
        return "has no header of the safetensors format"
    if end != size:
        return f"is cut off or damaged: it has {size:,} bytes, and by its header it should have {end:,}"
    if layout is None:
        return "does not state the layout of its weights: its metadata need a 'format', 'pt' or 'tf'"
    return None
