"""Undocumented names of 🤗 transformers (4.52). Each is imported when it is used, because some import TensorFlow."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf
    from transformers import PreTrainedTokenizerBase


def torch_name(weight: "tf.Variable") -> tuple[str, bool]:
    """Return the name that a weight of a TensorFlow model has in PyTorch, and whether its matrix is transposed
    there."""
    from transformers.modeling_tf_pytorch_utils import TransposeType, convert_tf_weight_name_to_pt_weight_name

    name, transpose = convert_tf_weight_name_to_pt_weight_name(weight.name, tf_weight_shape=weight.shape)
    return name, transpose is TransposeType.SIMPLE


def activation_named(name: str) -> Callable:
    """The activation that a config names, such as `"gelu"`; raises `KeyError` if the name is unknown."""
    from transformers.activations_tf import get_tf_activation

    return get_tf_activation(name)


def saved_settings(tokenizer: "PreTrainedTokenizerBase") -> dict:
    """The settings that `save_pretrained` writes to `tokenizer_config.json` and `from_pretrained` reads back. The
    dictionary may be changed."""
    return tokenizer.init_kwargs
