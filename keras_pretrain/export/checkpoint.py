"""`save_checkpoint`: a 🤗 folder that every reader loads."""

import copy
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from transformers.modeling_tf_pytorch_utils import TransposeType, convert_tf_weight_name_to_pt_weight_name

from keras_pretrain.export.model_card import MARK, model_card
from keras_pretrain.models.pretraining import require_vocabulary


def save_checkpoint(model, tokenizer, directory: str | os.PathLike, *, run: dict | None = None) -> Path:
    """Write config, tokenizer, weights and model card as a folder that 🤗 readers load; for ELECTRA, as two.

    The weights are one `model.safetensors` in PyTorch's layout and float32, also after mixed-precision training, which
    transformers' TensorFlow classes and pipelines load without torch; no torch is needed to write it. A new folder
    appears when it is whole. In one that is there, each file is written whole and then moved to its place, the weights
    last, and other files stay: no file is ever half written.

    Args:
      model: a `BertPretrainer` or any of 🤗's TensorFlow models; or an `ElectraPretrainer`, whose networks go to
        `generator/` and `discriminator/`. The discriminator's encoder is what ELECTRA is trained for.
      tokenizer: its tokenizer.
      directory: made where it is missing.
      run: facts for the model card, as in the examples' `metrics.json`; by default those of a `metrics.json` in the
        directory, where there is one. Pictures `training_curves*.png` there are shown. A `README.md` of yours, without
        the line that this package puts into its own, stays.

    Returns:
      The directory.

    Raises:
      ValueError: the tokenizer has more tokens than the model, so that its ids would be out of range.

    >>> tokenizer = train_tokenizer(["데이터를 모은다", "데이터를 쓴다"], vocab_size=60)
    >>> model = BertPretrainer.from_size("tiny", tokenizer)
    >>> sorted(path.name for path in save_checkpoint(model, tokenizer, directory).iterdir())[:3]
    ['README.md', 'config.json', 'model.safetensors']
    """
    directory = Path(directory)
    if run is None and (directory / "metrics.json").exists():
        run = json.loads((directory / "metrics.json").read_text())
    curves = sorted(directory.glob("training_curves*.png"))
    if not hasattr(model, "discriminator"):
        return _save(model, tokenizer, directory, directory.resolve().name, run, curves)
    for part in ("generator", "discriminator"):
        name = f"{directory.resolve().name}/{part}"
        _save(getattr(model, part), tokenizer, directory / part, name, run, curves)
    return directory


def _save(model, tokenizer, directory: Path, name: str, run: dict | None, curves: list[Path]) -> Path:
    require_vocabulary(model.config, tokenizer)
    if not model.built:
        model.build_in_name_scope()
    architecture = _architecture(model)
    config = copy.deepcopy(model.config)
    config.architectures = [architecture]
    config.torch_dtype = "float32"  # transformers 5 would load the weights in what a base checkpoint had
    is_new = not directory.exists()
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent if is_new else directory, prefix=".unfinished-") as temporary:
        unfinished = Path(temporary) / "checkpoint"
        unfinished.mkdir()
        config.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        for picture in curves:
            if picture.parent != directory:
                shutil.copy(picture, unfinished)
        if _may_write_card(directory / "README.md"):
            card = model_card(model, tokenizer, architecture, name, run, [picture.name for picture in curves])
            (unfinished / "README.md").write_text(card, encoding="utf-8")
        save_file(pytorch_state(model), unfinished / "model.safetensors", metadata={"format": "pt"})
        if is_new:
            os.replace(unfinished, directory)
            return directory
        for file in sorted(unfinished.iterdir(), key=lambda path: path.suffix == ".safetensors"):
            os.replace(file, directory / file.name)
    return directory


def _may_write_card(readme: Path) -> bool:
    return not readme.exists() or MARK in readme.read_text(encoding="utf-8")


def pytorch_state(model) -> dict[str, np.ndarray]:
    """The model's weights under PyTorch's names and in its layout: dense kernels are (out, in) there."""
    if not model.built:
        model.build_in_name_scope()
    state = {}
    for weight in model.weights:
        name, transpose = convert_tf_weight_name_to_pt_weight_name(weight.name, tf_weight_shape=weight.shape)
        value = weight.numpy().astype(np.float32)  # a model made under a pure bfloat16 policy has weights in that
        state[name] = np.ascontiguousarray(value.T if transpose is TransposeType.SIMPLE else value)
    return state


def _architecture(model) -> str:
    """The 🤗 class that readers know the model by: its own, or the one that it is made from."""
    names = (kind.__name__ for kind in type(model).__mro__ if kind.__module__.startswith("transformers."))
    return next(names).removeprefix("TF")
