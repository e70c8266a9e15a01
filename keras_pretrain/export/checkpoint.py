"""`save_checkpoint`: writes a 🤗 checkpoint that all versions of the library load."""

import copy
import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras
from safetensors.numpy import save_file
from transformers import PreTrainedTokenizerBase

from keras_pretrain.compat.transformers import torch_name
from keras_pretrain.export.model_card import MARK, model_card
from keras_pretrain.export.privacy import public_metrics, remove_paths
from keras_pretrain.folders import OwnedFolder
from keras_pretrain.models.pretraining import require_vocabulary

logger = logging.getLogger(__name__)

_FILES = (
    "config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json",
    "vocab.txt",
)  # fmt: skip


def save_checkpoint(
    model: tf_keras.Model,
    tokenizer: PreTrainedTokenizerBase,
    directory: str | os.PathLike[str],
    *,
    run: dict | None = None,
    overwrite: bool = False,
) -> Path:
    """Write config, tokenizer, weights and model card as a folder that 🤗 readers load.

    The weights are a single `model.safetensors` in PyTorch's layout and in float32, even after mixed-precision
    training. transformers' TensorFlow classes and pipelines load it without torch, and writing it does not need torch
    either. Each file is written completely and then moved to its place, the weights last, so no file is ever half
    written. The files of an earlier `save_checkpoint` in the same folder are replaced, or deleted if this model has no
    file of that name; all other files stay.

    Args:
      model: a `BertPretrainer` or any of 🤗's TensorFlow models; or an `ElectraPretrainer`. Its discriminator (the
        encoder to fine-tune) is written to the directory itself, and its generator to `generator/`.
      tokenizer: the model's tokenizer.
      directory: where to write; created if it does not exist.
      run: facts for the model card, as in the `metrics.json` of a run (see `model_card`); by default the content of a
        `metrics.json` that a run of this package wrote into the directory. Paths that older versions recorded are left
        out. If the directory has pictures `training_curves*.png`, the card shows them. A `README.md` that you wrote or
        edited is kept.
      overwrite: also replace files with the checkpoint's names that this function did not write, or that were changed
        after it wrote them.

    Returns:
      The directory.

    Raises:
      ValueError: the tokenizer has more tokens than the model, so that its ids would be out of range.
      FileExistsError: the directory has other files under the checkpoint's names, and `overwrite` is off.

    >>> tokenizer = train_tokenizer(["데이터를 모은다", "데이터를 쓴다"], vocab_size=60)
    >>> model = BertPretrainer.from_size("tiny", tokenizer)
    >>> sorted(path.name for path in save_checkpoint(model, tokenizer, directory).iterdir())[1:4]
    ['README.md', 'config.json', 'model.safetensors']
    """
    directory = Path(directory).expanduser()
    networks = {"": model}
    if hasattr(model, "discriminator"):
        networks = {"": model.discriminator, "generator": model.generator}
    for network in networks.values():
        require_vocabulary(network.config, tokenizer)
    run = public_metrics(run or _read_metrics(directory / "metrics.json") or {})
    curves = sorted(filter(Path.is_file, directory.glob("training_curves*.png")))
    folder = OwnedFolder(directory, "checkpoint", overwrite=overwrite)
    with folder.writing(last=".safetensors", replace_all=True) as stage:
        for part, network in networks.items():
            (stage / part).mkdir(exist_ok=True)
            about = {"name": directory.resolve().name, "part": part, "is_pair": len(networks) > 1 and not part}
            pictures = [] if part else [picture.name for picture in curves]
            _write(network, tokenizer, stage / part, run=run, curves=pictures, **about)
            card = os.path.join(part, "README.md")
            if (
                os.path.lexists(directory / card)
                and not folder.owns(card)
                and not _is_old_card(directory / card, folder)
            ):
                (stage / card).unlink()
                logger.info("%s was not written by this package, or was changed since, and is kept.", directory / card)
    return directory


def require_writable(directory: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Check, before a run, that `save_checkpoint` will be able to write into a directory.

    Raises:
      FileExistsError: as `save_checkpoint`.
    """
    names = [os.path.join(part, name) for part in ("", "generator") for name in _FILES]
    OwnedFolder(directory, "checkpoint", overwrite=overwrite).require_replaceable(names)


def _write(model: tf_keras.Model, tokenizer: PreTrainedTokenizerBase, directory: Path, **about: Any) -> None:
    if not model.built:
        model.build_in_name_scope()
    architecture = _architecture(model)
    config = copy.deepcopy(model.config)
    config.architectures = [architecture]
    config.torch_dtype = "float32"  # transformers 5 would load the weights in the dtype of the base checkpoint
    config.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    remove_paths(directory)
    (directory / "README.md").write_text(model_card(model, tokenizer, architecture, **about), encoding="utf-8")
    save_file(pytorch_state(model), directory / "model.safetensors", metadata={"format": "pt"})


def _is_old_card(file: Path, folder: OwnedFolder) -> bool:
    """Whether a file is a card that a version without a manifest wrote, and the user allows replacing it."""
    return folder.overwrite and file.is_file() and MARK[:30] in file.read_text(encoding="utf-8")


def _read_metrics(file: Path) -> dict | None:
    """Read the `metrics.json` that a run of this package wrote; a file of that name from another source is not read."""
    try:
        metrics = json.loads(file.read_text(encoding="utf-8"))
        return metrics if "keras_pretrain" in metrics["versions"] else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def pytorch_state(model: tf_keras.Model) -> dict[str, np.ndarray]:
    """The model's weights with PyTorch's names and layout, in which dense kernels are (out, in)."""
    if not model.built:
        model.build_in_name_scope()
    state = {}
    for weight in model.weights:
        name, is_transposed = torch_name(weight)
        value = weight.numpy().astype(np.float32)  # a model made under a pure bfloat16 policy has bfloat16 weights
        state[name] = np.ascontiguousarray(value.T if is_transposed else value)
    return state


def _architecture(model: tf_keras.Model) -> str:
    """The 🤗 class to load the model with: its own class, or the one that it is derived from."""
    names = (kind.__name__ for kind in type(model).__mro__ if kind.__module__.startswith("transformers."))
    return next(names).removeprefix("TF")
