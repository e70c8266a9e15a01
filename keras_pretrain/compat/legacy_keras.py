"""Makes sure that `tf.keras` is legacy Keras (`tf_keras`); transformers' TensorFlow models are built on it."""

import os
import sys

_TRUE = ("1", "true", "True")  # the values that TensorFlow's own loader reads as true


def require_legacy_keras() -> None:
    """Set `TF_USE_LEGACY_KERAS=1`, and raise an error if this no longer has an effect.

    Raises:
      ImportError: `tf.keras` was already resolved to Keras 3 in this process, or the environment
        variable has another value. The error is raised here, because a Keras 3 optimizer or callback given
        to a transformers model would only fail deep inside `compile`.
    """
    setting = os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    if setting not in _TRUE:
        raise ImportError(
            f"TF_USE_LEGACY_KERAS is set to {setting!r}, but transformers' TensorFlow models need legacy Keras. "
            "Unset the variable or set it to 1 before Python starts."
        )
    # TensorFlow resolves tf.keras on its first use. Until then, tf.keras is a loader without a module name.
    keras = vars(sys.modules["tensorflow"]).get("keras") if "tensorflow" in sys.modules else None
    if keras is not None and vars(keras).get("__name__") in ("keras._tf_keras.keras", "tensorflow.keras"):
        raise ImportError(
            "tf.keras was already used as Keras 3 in this process, but transformers' TensorFlow models need legacy "
            "Keras. Import keras_pretrain before anything that touches tf.keras, or set TF_USE_LEGACY_KERAS=1 before "
            "Python starts (in a notebook: restart the kernel and import keras_pretrain first)."
        )
