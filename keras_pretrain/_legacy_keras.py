"""Makes sure that `tf.keras` means legacy Keras (`tf_keras`), which transformers' TensorFlow models are built on."""

import os
import sys

_TRUE = ("1", "true", "True")  # the values that TensorFlow's own loader takes for true


def require_legacy_keras() -> None:
    """Set `TF_USE_LEGACY_KERAS=1`, and refuse to go on where that comes too late.

    Raises:
      ImportError: `tf.keras` was already resolved to Keras 3 in this process, or the environment
        variable was set to something else on purpose. A Keras 3 optimizer or callback given to a
        transformers model fails deep inside `compile`; it is better said here.
    """
    setting = os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    if setting not in _TRUE:
        raise ImportError(
            f"TF_USE_LEGACY_KERAS is set to {setting!r}, but transformers' TensorFlow models need legacy Keras. "
            "Unset the variable or set it to 1 before Python starts."
        )
    if "keras._tf_keras.keras" in sys.modules:  # what tf.keras becomes when it is touched without the setting
        raise ImportError(
            "tf.keras was already used as Keras 3 in this process, but transformers' TensorFlow models need legacy "
            "Keras. Import keras_pretrain before anything that touches tf.keras, or set TF_USE_LEGACY_KERAS=1 before "
            "Python starts (in a notebook: restart the kernel and import keras_pretrain first)."
        )
