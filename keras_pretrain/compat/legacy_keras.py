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
    # TensorFlow decides what tf.keras is when it is first touched; until then it is a loader without a module's name.
    keras = vars(sys.modules["tensorflow"]).get("keras") if "tensorflow" in sys.modules else None
    if keras is not None and vars(keras).get("__name__") in ("keras._tf_keras.keras", "tensorflow.keras"):
        raise ImportError(
            "tf.keras was already used as Keras 3 in this process, but transformers' TensorFlow models need legacy "
            "Keras. Import keras_pretrain before anything that touches tf.keras, or set TF_USE_LEGACY_KERAS=1 before "
            "Python starts (in a notebook: restart the kernel and import keras_pretrain first)."
        )
