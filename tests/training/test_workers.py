"""Processes that train one model together, on loopback, beside one process with the same batches."""

import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

import keras_pretrain as kp

SCRIPT = """
import json, os, signal, sys
import keras_pretrain as kp
import numpy as np
import tensorflow as tf
from datasets import load_from_disk
from transformers import AutoTokenizer, BertConfig

folder, run, kill_at, how, packed = sys.argv[1:]
workers = "TF_CONFIG" in os.environ
strategy = tf.distribute.MultiWorkerMirroredStrategy() if workers else tf.distribute.get_strategy()
tokenizer = AutoTokenizer.from_pretrained(f"{folder}/tokenizer")
features = load_from_disk(f"{folder}/features")
with strategy.scope():
    tf.keras.utils.set_random_seed(0)
    config = BertConfig(vocab_size=15, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=32, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = kp.BertPretrainer(config)
    model.compile(kp.create_optimizer(learning_rate=1e-2, num_train_steps=24))
if workers and strategy.cluster_resolver.task_id == 1:  # starts from other weights; the chief's are taken
    model.set_weights([weight + 1e-6 for weight in model.get_weights()])
batching = {"batch_size": 8, "packed": packed == "packed"}
data = kp.to_tf_dataset(features, tokenizer, **batching)
validation = kp.to_tf_dataset(features.select(range(20)), tokenizer, training=False, **batching)

class Watch(tf.keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        step = int(self.model.optimizer.iterations.numpy())
        print(json.dumps({"step": step, "loss": logs["loss"]}), flush=True)
        if step == int(kill_at):
            os.kill(os.getpid(), getattr(signal, how))

callbacks = [Watch(), kp.callbacks.Checkpointing(run, every_steps=4)]
# A run that is killed, or goes on, is spared the compilation of the validation.
validation = validation if how == "none" else None
history = model.fit(data.repeat(), epochs=3, steps_per_epoch=8, validation_data=validation, verbose=0,
                    callbacks=callbacks).history
print(json.dumps({"validation": history.get("val_loss"), "history": history["mlm_loss"]}), flush=True)
print(json.dumps({"weights": np.concatenate([each.ravel() for each in model.get_weights()]).tolist()}), flush=True)
"""


@pytest.fixture(scope="module", params=["apart", "packed"])
def packed(request):
    """Whether each example has a row of its own."""
    return request.param


@pytest.fixture(scope="module")
def folder(tokenizer, sentences, packed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    tokenizer.save_pretrained(folder / "tokenizer")
    # Short examples, and room for several of them where they share rows.
    features = kp.build_features(sentences, tokenizer, block_size=16, short_seq_prob=0.0 if packed == "apart" else 1.0)
    features.save_to_disk(folder / "features")
    (folder / "script.py").write_text(SCRIPT)
    return folder


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def train(folder, run, packed, kill_at=-1, how="none"):
    """Train in two processes, of which the second is killed.

    Returns:
      What each printed, as one dictionary with `losses` by step, and each exit status.
    """
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    processes = []
    for index in range(2):
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment["TF_CONFIG"] = json.dumps(task)
        at = kill_at if index == 1 else -1
        command = [sys.executable, folder / "script.py", folder, run, str(at), how, packed]
        pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
        processes.append(subprocess.Popen(command, env=environment, text=True, **pipes))
    if how == "SIGKILL" and kill_at > 0:  # what a scheduler does with the other
        processes[1].wait()
        processes[0].kill()
    results = []
    for process in processes:
        printed, errors = process.communicate(timeout=300)
        results.append(read(printed) | {"errors": errors})
    return results, [process.returncode for process in processes]


def read(printed) -> dict:
    """What the script printed."""
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    result = {"losses": {line["step"]: line["loss"] for line in lines if "step" in line}}
    for line in lines:
        if "step" not in line:
            result |= line
    return result


@pytest.fixture(scope="module")
def two_workers(folder, packed, tmp_path_factory):
    results, status = train(folder, tmp_path_factory.mktemp("two") / "run", packed)
    assert status == [0, 0], results[0]["errors"][-3000:]
    return results


def test_two_workers_end_with_the_same_weights_and_the_losses_of_one_process(
    folder, packed, two_workers, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("sys.argv", ["script", str(folder), str(tmp_path / "run"), "-1", "none", packed])
    exec(SCRIPT, {"__name__": "script"})
    alone = read(capsys.readouterr().out)
    first, second = two_workers
    assert first["weights"] == second["weights"]
    assert first["losses"] == second["losses"]
    assert len(first["losses"]) == 24
    assert list(first["losses"].values()) == pytest.approx(list(alone["losses"].values()), rel=1e-4)
    assert first["history"] == pytest.approx(alone["history"], rel=1e-4)
    assert first["validation"] == pytest.approx(alone["validation"], rel=1e-4)
    np.testing.assert_allclose(first["weights"], alone["weights"], rtol=1e-2, atol=2e-3)


def test_stopped_and_killed_workers_go_on_and_end_with_the_same_weights(folder, packed, two_workers, tmp_path):
    results, status = train(folder, tmp_path / "run", packed, kill_at=6, how="SIGTERM")  # of one of them
    assert status == [143, 143], results[0]["errors"][-3000:]
    assert max(results[0]["losses"]) == max(results[1]["losses"]) == 6
    assert (tmp_path / "run" / "step-0000000006").is_dir()
    results, status = train(folder, tmp_path / "run", packed, kill_at=15, how="SIGKILL")
    assert status == [-signal.SIGKILL] * 2
    assert min(results[1]["losses"]) == 7
    results, status = train(folder, tmp_path / "run", packed, how="resumed")
    assert status == [0, 0], results[0]["errors"][-3000:]
    assert min(results[0]["losses"]) == 13  # saved at 12
    for result, untouched in zip(results, two_workers, strict=True):
        assert result["weights"] == untouched["weights"]
        # The running averages of an epoch are sums of two workers' parts, which are saved as one number.
        losses = [untouched["losses"][step] for step in result["losses"]]
        assert list(result["losses"].values()) == pytest.approx(losses, rel=1e-6)
        assert result["history"] == pytest.approx(untouched["history"], rel=1e-6)
