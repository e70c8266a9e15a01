"""`save_checkpoint`: a 🤗 folder that the fill-mask pipeline loads."""

import copy
import os
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from transformers.modeling_tf_pytorch_utils import TransposeType, convert_tf_weight_name_to_pt_weight_name

from keras_pretrain.models.pretraining import require_vocabulary


def save_checkpoint(model, tokenizer, directory: str | os.PathLike) -> Path:
    """Write config, tokenizer and weights as a folder that 🤗 readers load; for ELECTRA, as two.

    The weights are one `model.safetensors` in PyTorch's layout and float32, which transformers' TensorFlow classes and
    pipelines load without torch; no torch is needed to write it. Each file is written whole and then moved to its
    place, the weights last: no file is ever half written.

    Args:
      model: a `BertPretrainer` or any of 🤗's TensorFlow models; or an `ElectraPretrainer`, whose networks go to
        `generator/` and `discriminator/`. The discriminator's encoder is what ELECTRA is trained for.
      tokenizer: its tokenizer.
      directory: made where it is missing.

    Returns:
      The directory.

    Raises:
      ValueError: the tokenizer has more tokens than the model, so that its ids would be out of range.

    >>> tokenizer = train_tokenizer(["데이터를 모은다", "데이터를 쓴다"], vocab_size=60)
    >>> model = BertPretrainer.from_size("tiny", tokenizer)
    >>> sorted(path.name for path in save_checkpoint(model, tokenizer, directory).iterdir())[:2]
    ['config.json', 'model.safetensors']
    """
    directory = Path(directory)
    if hasattr(model, "discriminator"):
        for name in ("generator", "discriminator"):
            save_checkpoint(getattr(model, name), tokenizer, directory / name)
        return directory
    require_vocabulary(model.config, tokenizer)
    directory.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(model.config)
    config.architectures = [_architecture(model)]
    with tempfile.TemporaryDirectory(dir=directory, prefix=".unfinished-") as temporary:
        config.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        save_file(pytorch_state(model), Path(temporary) / "model.safetensors", metadata={"format": "pt"})
        for file in sorted(Path(temporary).iterdir(), key=lambda path: path.suffix == ".safetensors"):
            os.replace(file, directory / file.name)
    return directory


def pytorch_state(model) -> dict[str, np.ndarray]:
    """The model's weights under PyTorch's names and in its layout: dense kernels are (out, in) there."""
    if not model.built:
        model.build_in_name_scope()
    state = {}
    for weight in model.weights:
        name, transpose = convert_tf_weight_name_to_pt_weight_name(weight.name, tf_weight_shape=weight.shape)
        value = weight.numpy()
        state[name] = np.ascontiguousarray(value.T if transpose is TransposeType.SIMPLE else value)
    return state


def _architecture(model) -> str:
    """The 🤗 class that readers know the model by: its own, or the one that it is made from."""
    names = (kind.__name__ for kind in type(model).__mro__ if kind.__module__.startswith("transformers."))
    return next(names).removeprefix("TF")
