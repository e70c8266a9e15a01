"""Fine-tuning on two devices, in a process of its own: processors can only be divided before TensorFlow starts."""

import subprocess
import sys
from pathlib import Path

from tasks import save_bert

SCRIPT = """
import re
import sys
sys.path.insert(0, sys.argv[2])
import keras_pretrain as kp
import numpy as np
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from tasks import SETTINGS, with_a_sign

train, validation = with_a_sign(320, 0, longest=12), with_a_sign(40, 1, longest=12)
settings = SETTINGS | {"epochs": 4, "class_weight": "balanced", "patience": 3}
tuned = []
for devices in (["/cpu:0"], ["/cpu:0", "/cpu:1"]):
    with tf.distribute.MirroredStrategy(devices, cross_device_ops=tf.distribute.ReductionToOneDevice()).scope():
        tuned.append(kp.finetuning.finetune(sys.argv[1], train, validation, **settings))
one, two = tuned
assert two.metrics["accuracy"]["mean"] > 0.9, two.metrics
assert np.isfinite([each["mean"] for each in two.metrics.values()]).all()
for ours, theirs in zip(one.model.weights, two.model.weights, strict=True):
    if "key/bias" not in ours.name:  # its gradient is 0 up to rounding, and it changes nothing
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5, err_msg=ours.name)
predicted = [kp.finetuning.predict(each.model, validation["text"][:], tokenizer=each.tokenizer) for each in tuned]
np.testing.assert_allclose(*(each.probabilities for each in predicted), atol=1e-4)

settings |= {"epochs": 1, "dropout": 0.1, "jit_compile": False}
with tf.distribute.MirroredStrategy(devices, cross_device_ops=tf.distribute.ReductionToOneDevice()).scope():
    few = kp.finetuning.finetune(sys.argv[1], train.select(range(3)), validation, **settings)
    assert few.settings["batch_size"] == 2
    try:
        kp.finetuning.finetune(sys.argv[1], train, validation, **(settings | {"batch_size": 15}))
    except ValueError as error:
        assert re.search(r"batch_size .*\\b15\\b.*\\b2 replicas.*multiple of 2", str(error)), error
    else:
        raise AssertionError("15 examples on two devices")
"""


def test_two_replicas_give_the_weights_of_one(tokenizer, tmp_path):
    here = Path(__file__).parent
    command = [sys.executable, "-c", SCRIPT, save_bert(tokenizer, tmp_path), here]
    result = subprocess.run(command, capture_output=True, text=True, cwd=here.parents[1])
    assert result.returncode == 0, result.stderr[-3000:]
