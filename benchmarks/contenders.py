"""Run one of the compared training steps (a contender) in a process of its own, a few steps per request.

    python benchmarks/contenders.py NAME '{"layers": 4, "hidden": 512, ...}'

reads a number of steps from each line of standard input, runs them, and answers with one JSON line: the seconds per
step, and the peak memory so far. A process imports only what its contender needs, so the torch contenders run without
TensorFlow.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np


def make_batch(shape: dict) -> tuple[dict, dict]:
    """Make a batch of random full-length sequences. 15% of the positions are masked and have a label."""
    rng = np.random.default_rng(0)
    batch, length, vocabulary = shape["batch"], shape["length"], shape["vocabulary"]
    predicted = round(0.15 * (length - 2))
    input_ids = rng.integers(5, vocabulary, (batch, length)).astype(np.int32)
    labels = np.full((batch, length), -100, np.int32)
    for row in range(batch):
        chosen = rng.choice(np.arange(1, length - 1), predicted, replace=False)
        labels[row, chosen] = input_ids[row, chosen]
        input_ids[row, chosen] = 4
    inputs = {
        "input_ids": input_ids,
        "token_type_ids": np.repeat([np.arange(length) >= length // 2], batch, axis=0).astype(np.int32),
        "attention_mask": np.ones((batch, length), np.int32),
    }
    return inputs, {"labels": labels, "next_sentence_label": rng.integers(0, 2, batch).astype(np.int32)}


def pad_batch(batch: tuple[dict, dict], length: int) -> tuple[dict, dict]:
    """Return the batch, padded to `length`."""
    inputs, labels = batch
    more = [(0, 0), (0, length - inputs["input_ids"].shape[1])]
    inputs = {name: np.pad(value, more) for name, value in inputs.items()}
    return inputs, labels | {"labels": np.pad(labels["labels"], more, constant_values=-100)}


def make_unmasked_batch(shape: dict) -> dict:
    """Return the inputs of `make_batch` without masks and labels, for models that mask in their training step."""
    inputs, labels = make_batch(shape)
    return {**inputs, "input_ids": np.where(labels["labels"] == -100, inputs["input_ids"], labels["labels"])}


def config_settings(shape: dict) -> dict:
    return {
        "vocab_size": shape["vocabulary"],
        "hidden_size": shape["hidden"],
        "num_hidden_layers": shape["layers"],
        "num_attention_heads": shape["hidden"] // 64,
        "intermediate_size": 4 * shape["hidden"],
    }


def _rate(dtype: str):
    """Measure the machine's rate. Each "step" is one product of two 2,048 × 2,048 matrices."""
    import tensorflow as tf

    matrix = tf.cast(tf.random.normal((2048, 2048)), dtype)
    product = tf.function(lambda: tf.matmul(matrix, matrix))

    def run(steps):
        begun = time.perf_counter()
        for _ in range(steps):
            result = product()
        result.numpy()
        return time.perf_counter() - begun

    return run


def rate_float32(shape: dict):
    return _rate("float32")


def rate_bfloat16(shape: dict):
    return _rate("bfloat16")


def _fit(model, shape: dict, make=make_batch):
    """Time steps of `fit`. One extra step comes first and is not counted, because it includes the start of `fit`."""
    import tensorflow as tf
    import tf_keras

    class Clock(tf_keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.ends = []

        def on_train_batch_end(self, batch, logs=None):
            self.ends.append(time.perf_counter())

    batch = tf.nest.map_structure(tf.constant, make(shape))
    options = tf.data.Options()
    options.autotune.enabled = False  # else `fit` waits at its end for the autotuner's thread, up to as long as it took
    dataset = tf.data.Dataset.from_tensors(batch).repeat().with_options(options)
    clock = Clock()

    def run(steps):
        model.fit(dataset, steps_per_epoch=steps + 1, verbose=0, callbacks=[clock])
        return clock.ends[-1] - clock.ends[0]

    return run


def _ours(shape: dict, precision: str):
    from transformers import BertConfig

    import keras_pretrain as kp

    model = kp.BertPretrainer(BertConfig(**config_settings(shape), hidden_act="gelu_new"))
    model.compile(kp.create_optimizer(num_train_steps=10_000), precision=precision)
    return _fit(model, shape)


def ours_float32(shape: dict):
    """`BertPretrainer`, trained with `fit` and AdamW with gradient clipping."""
    return _ours(shape, "float32")


def ours_bfloat16(shape: dict):
    """The same with the operands of products in bfloat16."""
    return _ours(shape, "bfloat16")


def _stock(shape: dict, make=make_batch, **compile_settings):
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tf_keras
    from transformers import BertConfig, TFBertForPreTraining

    model = TFBertForPreTraining(BertConfig(**config_settings(shape), hidden_act="gelu_new"))
    model.compile(tf_keras.optimizers.Adam(1e-4), **compile_settings)
    return _fit(model, shape, make)


def stock(shape: dict):
    """`TFBertForPreTraining`, trained with `fit`, without XLA."""
    return _stock(shape)


def tutorial(shape: dict):
    """`TFBertForPreTraining`, trained with `fit` as in the tutorials: blocks are padded to the 512 positions."""
    return _stock(shape, make=lambda shape: pad_batch(make_batch(shape), 512))


def stock_xla(shape: dict):
    """`stock` with `jit_compile=True`."""
    return _stock(shape, jit_compile=True)


def _torch_run(model, loss_of, precision: str):
    """Time steps of AdamW (fused) with clipping by the global norm. `loss_of()` runs the forward pass."""
    import torch

    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)

    def run(steps):
        begun = time.perf_counter()
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                loss = loss_of()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        float(loss.detach())
        return time.perf_counter() - begun

    return run


def _torch(shape: dict, precision: str, compiled: bool = False):
    import torch
    from transformers import BertConfig, BertForPreTraining

    model = BertForPreTraining(BertConfig(**config_settings(shape), hidden_act="gelu_pytorch_tanh"))
    inputs, labels = make_batch(shape)
    batch = {name: torch.tensor(value, dtype=torch.long) for name, value in (inputs | labels).items()}
    forward = torch.compile(model) if compiled else model
    return _torch_run(model, lambda: forward(**batch).loss, precision)


def torch_float32(shape: dict):
    """torch's `BertForPreTraining` in eager mode, with AdamW (fused) and gradient clipping."""
    return _torch(shape, "float32")


def torch_bfloat16(shape: dict):
    """The same under `torch.autocast("cpu", torch.bfloat16)`."""
    return _torch(shape, "bfloat16")


def torch_compiled_float32(shape: dict):
    """`torch_float32` with `torch.compile`."""
    return _torch(shape, "float32", compiled=True)


def torch_compiled_bfloat16(shape: dict):
    """`torch_bfloat16` with `torch.compile`."""
    return _torch(shape, "bfloat16", compiled=True)


def _electra_configs(shape: dict, **settings) -> list:
    """Make the configs of the generator and of the discriminator."""
    from transformers import ElectraConfig

    return [ElectraConfig(**widths, vocab_size=shape["vocabulary"], **settings) for widths in shape["electra"]]


def _electra(shape: dict, precision: str):
    import keras_pretrain as kp

    class Tokenizer:
        mask_token_id, all_special_ids, all_special_tokens = 4, (0, 1, 2, 3, 4), ()

        def __len__(self):
            return shape["vocabulary"]

        def get_vocab(self):
            return {}

    model = kp.ElectraPretrainer(*_electra_configs(shape, hidden_act="gelu_new"), Tokenizer())
    model.compile(kp.create_optimizer(num_train_steps=10_000), precision=precision)
    return _fit(model, shape, make_unmasked_batch)


def electra_float32(shape: dict):
    """`ElectraPretrainer`, trained with `fit` and AdamW with gradient clipping."""
    return _electra(shape, "float32")


def electra_bfloat16(shape: dict):
    """The same with the operands of products in bfloat16."""
    return _electra(shape, "bfloat16")


def electra_tutorial(shape: dict):
    """ELECTRA as in the tutorials: 🤗's forward passes, with logits and argmax over the whole vocabulary at every
    position, without XLA."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tensorflow as tf
    import tf_keras
    from transformers import TFElectraForMaskedLM, TFElectraForPreTraining

    class Electra(tf_keras.Model):
        def __init__(self, generator, discriminator):
            super().__init__()
            self.generator = TFElectraForMaskedLM(generator)
            self.discriminator = TFElectraForPreTraining(discriminator)

        def train_step(self, inputs):
            ids = inputs["input_ids"]
            others = {name: inputs[name] for name in ("token_type_ids", "attention_mask")}
            is_chosen = (tf.random.uniform(tf.shape(ids)) < 0.15) & (ids > 4)
            is_masked = is_chosen & (tf.random.uniform(tf.shape(ids)) < 0.85)
            with tf.GradientTape() as tape:
                logits = self.generator(input_ids=tf.where(is_masked, 4, ids), **others, training=True).logits
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=ids, logits=logits)
                mlm_loss = tf.reduce_mean(tf.boolean_mask(losses, is_chosen))
                chosen_logits = tf.boolean_mask(logits, is_chosen)
                noise = -tf.math.log(-tf.math.log(tf.random.uniform(tf.shape(chosen_logits), minval=1e-20)))
                samples = tf.argmax(chosen_logits + noise, axis=-1, output_type=tf.int32)
                sampled = tf.tensor_scatter_nd_update(ids, tf.where(is_chosen), samples)
                judged = self.discriminator(input_ids=sampled, **others, training=True).logits
                is_replaced = tf.cast(sampled != ids, tf.float32)
                disc_loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=is_replaced, logits=judged))
                loss = mlm_loss + 50.0 * disc_loss
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            is_right = tf.cast(tf.argmax(logits, axis=-1, output_type=tf.int32) == ids, tf.float32)
            is_right_judgement = tf.cast((judged > 0) == (is_replaced > 0), tf.float32)
            return {
                "loss": loss,
                "mlm_accuracy": tf.reduce_mean(tf.boolean_mask(is_right, is_chosen)),
                "chosen_accuracy": tf.reduce_mean(tf.boolean_mask(is_right_judgement, is_chosen)),
                "other_accuracy": tf.reduce_mean(tf.boolean_mask(is_right_judgement, ~is_chosen)),
            }

    model = Electra(*_electra_configs(shape, hidden_act="gelu_new"))
    model.compile(tf_keras.optimizers.Adam(1e-4))
    return _fit(model, shape, make_unmasked_batch)


def _electra_torch(shape: dict, precision: str):
    import torch
    from torch.nn import functional
    from transformers import ElectraForMaskedLM, ElectraForPreTraining

    generator_config, discriminator_config = _electra_configs(shape, hidden_act="gelu_pytorch_tanh")
    networks = torch.nn.ModuleList([ElectraForMaskedLM(generator_config), ElectraForPreTraining(discriminator_config)])
    generator, discriminator = networks
    inputs = {name: torch.tensor(value, dtype=torch.long) for name, value in make_unmasked_batch(shape).items()}
    ids = inputs.pop("input_ids")

    def loss_of():
        is_chosen = (torch.rand(ids.shape) < 0.15) & (ids > 4)
        is_masked = is_chosen & (torch.rand(ids.shape) < 0.85)
        logits = generator(input_ids=ids.masked_fill(is_masked, 4), **inputs).logits
        chosen = logits[is_chosen].float()
        mlm_loss = functional.cross_entropy(chosen, ids[is_chosen])
        noise = -torch.log(-torch.log(torch.rand(chosen.shape).clamp_min(1e-20)))
        sampled = ids.clone()
        sampled[is_chosen] = (chosen.detach() + noise).argmax(-1)
        judged = discriminator(input_ids=sampled, **inputs).logits.float()
        disc_loss = functional.binary_cross_entropy_with_logits(judged, (sampled != ids).float())
        return mlm_loss + 50.0 * disc_loss

    return _torch_run(networks, loss_of, precision)


def electra_torch_float32(shape: dict):
    """ELECTRA as in the tutorials, but with torch's networks, AdamW (fused) and gradient clipping."""
    return _electra_torch(shape, "float32")


def electra_torch_bfloat16(shape: dict):
    """The same under `torch.autocast("cpu", torch.bfloat16)`."""
    return _electra_torch(shape, "bfloat16")


def _classifier(shape: dict, precision: str):
    import tensorflow as tf
    from transformers import BertConfig

    import keras_pretrain as kp
    from keras_pretrain.models.classifier import BertClassifier

    model = BertClassifier(BertConfig(**config_settings(shape), hidden_act="gelu_new", num_labels=2))
    model.compile(kp.create_optimizer(num_train_steps=10_000), precision=precision)

    def make(shape):
        inputs, labels = make_batch(shape)
        return inputs, tf.constant(labels["next_sentence_label"])

    return _fit(model, shape, make)


def classifier_float32(shape: dict):
    """Fine-tuning: a `BertClassifier` with two classes, trained with `fit`."""
    return _classifier(shape, "float32")


def classifier_bfloat16(shape: dict):
    """The same with the operands of products in bfloat16."""
    return _classifier(shape, "bfloat16")


CONTENDERS = {
    maker.__name__: maker
    for maker in (
        rate_float32, rate_bfloat16,
        ours_float32, ours_bfloat16, stock, stock_xla, tutorial,
        torch_float32, torch_bfloat16, torch_compiled_float32, torch_compiled_bfloat16,
        electra_float32, electra_bfloat16, electra_tutorial, electra_torch_float32, electra_torch_bfloat16,
        classifier_float32, classifier_bfloat16,
    )
}  # fmt: skip


def main(name: str, shape: str):
    sys.path.insert(0, str(Path(__file__).parent.parent))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # standard output carries the answers, so what libraries print goes to standard error
    run = CONTENDERS[name](json.loads(shape))
    run(2)  # compiles
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        steps = int(line)
        seconds = run(steps) / steps
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({"seconds": seconds, "memory_gib": memory}), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
