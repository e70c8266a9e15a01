"""What a checkpoint holds, before 🤗 reads it."""

import importlib.util
import os
from pathlib import Path

from transformers.utils import cached_file

_WEIGHTS = {  # in the order in which 🤗 takes them
    "tensorflow": ("model.safetensors", "model.safetensors.index.json", "tf_model.h5", "tf_model.h5.index.json"),
    "torch": ("pytorch_model.bin", "pytorch_model.bin.index.json"),
}


def weights_format(name: str | os.PathLike, **settings) -> dict[str, bool]:
    """What `from_pretrained` of a TensorFlow class must be told of a checkpoint's weights.

    Args:
      name: a folder or a name on the Hub.
      **settings: of the download, as for `from_pretrained`: `revision`, `token`, `cache_dir`, `local_files_only`.

    Returns:
      `{"from_pt": True}` for a checkpoint that has PyTorch's pickled weights alone, else nothing.

    Raises:
      ModuleNotFoundError: these weights, which torch alone can read, and no torch.
    """
    if any(_has(name, file, settings) for file in _WEIGHTS["tensorflow"]):
        return {}
    if not any(_has(name, file, settings) for file in _WEIGHTS["torch"]):
        return {}  # 🤗 says what is missing
    if importlib.util.find_spec("torch") is None:
        raise ModuleNotFoundError(
            f"{name} has its weights as pytorch_model.bin, which only torch can read: "
            "pip install 'keras_pretrain[torch]', or save the checkpoint as safetensors."
        )
    return {"from_pt": True}


def _has(name, file: str, settings: dict) -> bool:
    if Path(name).is_dir():
        return (Path(name) / file).is_file()
    missing = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    return cached_file(name, file, **missing, **settings) is not None
