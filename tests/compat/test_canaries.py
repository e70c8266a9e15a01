"""What the package relies on in other libraries and they do not document: entries of `keras_pretrain.compat`, and the
attributes and names of weights of 🤗's models.

A canary's docstring is the assumption, which its failure states. Each is tried by renaming in memory what it watches:
it fails, and no other one does.
"""

import contextlib
import functools
import inspect
import re
import sys
import tempfile
from concurrent.futures.process import BrokenProcessPool
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import transformers
from datasets import Dataset
from tf_keras.src import backend
from tokenizers import Tokenizer, models
from transformers import BertConfig, ElectraConfig

from keras_pretrain.compat import datasets as compat_datasets
from keras_pretrain.compat import huggingface_hub as compat_hub
from keras_pretrain.compat import joblib as compat_joblib
from keras_pretrain.compat import legacy_keras
from keras_pretrain.compat import tensorflow as compat_tensorflow
from keras_pretrain.compat import tf_keras as compat_keras
from keras_pretrain.compat import transformers as compat_transformers

CANARIES, RENAMINGS = {}, []
WIDTHS = {
    "vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12,
    "max_position_embeddings": 7,
}  # fmt: skip
ELECTRA_WIDTHS = WIDTHS | {"embedding_size": 6}


def canary(function):
    CANARIES[function.__name__] = function
    return function


def renaming_for(*names):
    """Marks a function that renames something with `monkeypatch`, and the canary that notices."""

    def mark(function):
        RENAMINGS.extend(pytest.param(name, function, id=f"{name}-{function.__name__}") for name in names)
        return function

    return mark


def failure(name) -> str | None:
    """What a canary says; `None` where its assumption holds."""
    try:
        CANARIES[name]()
    except Exception as error:
        return f"{inspect.getdoc(CANARIES[name])} This no longer holds: {type(error).__name__}: {error}"


def rename_attribute(patch, kind, name):
    """As if the instances of a class had another name for an attribute or method."""

    def missing(self):
        raise AttributeError(f"{kind.__name__} has no {name}")

    patch.setattr(kind, name, property(missing, lambda self, value: None), raising=False)


def rename_method(patch, kind, name):
    """As if a class had another name for a method that our classes override."""
    patch.setattr(kind, f"{name}_renamed", getattr(kind, name), raising=False)
    patch.delattr(kind, name)


def rename_entry(patch, instance, name):
    """As if one object had another name for an attribute. Past `setattr`, with which Keras tracks variables."""
    patch.setitem(vars(instance), f"{name}_renamed", vars(instance)[name])
    patch.delitem(vars(instance), name)


# TensorFlow


@canary
def random_state():
    """TensorFlow keeps the state of `tf.random` in `context()._rng` and in `stateful_random_ops.global_generator`."""
    tf.random.set_seed(1)
    tf.random.get_global_generator().uniform(())
    put_back = compat_tensorflow.keep_random_state()

    def draw():
        return tf.compat.v1.get_seed(None), float(tf.random.get_global_generator().uniform(()))

    first = draw()
    assert draw() != first
    put_back()
    again = draw()
    tf.random.set_seed(None)  # other tests are to draw as they would without this one
    assert again == first


@renaming_for("random_state")
def seeds_of_operations(patch):
    patch.setattr(compat_tensorflow, "context", SimpleNamespace(context=SimpleNamespace))


@renaming_for("random_state")
def global_generator(patch):
    patch.setattr(compat_tensorflow, "stateful_random_ops", SimpleNamespace())


@canary
def datasets_behind_a_dataset():
    """A `tf.data.Dataset` lists the datasets that it is made from in `_inputs()`, and the classes that keep the order
    of batches are `_RepeatDataset`, `_PrefetchDataset` and `_OptionsDataset`."""
    dataset = tf.data.Dataset.range(1)
    for name, made in {
        "_RepeatDataset": dataset.repeat(),
        "_PrefetchDataset": dataset.prefetch(1),
        "_OptionsDataset": dataset.with_options(tf.data.Options()),
    }.items():
        assert type(made).__name__ == name
        (behind,) = compat_tensorflow.inputs_of(made)
        assert behind is dataset


@renaming_for("datasets_behind_a_dataset")
def inputs_of_a_dataset(patch):
    rename_attribute(patch, type(tf.data.Dataset.range(1).prefetch(1)), "_inputs")


@renaming_for("datasets_behind_a_dataset")
def class_of_repeated_datasets(patch):
    patch.setattr(tf.data.Dataset, "repeat", lambda self: self.take(-1))


# Keras


@canary
def legacy_keras_switch():
    """With `TF_USE_LEGACY_KERAS=1`, `tf.keras` becomes legacy Keras, which 🤗's TensorFlow models are built on; an
    unused `tf.keras` has no module's name yet, and Keras 3 has the name `keras._tf_keras.keras`."""
    from tensorflow.python.util.lazy_loader import KerasLazyLoader

    assert issubclass(transformers.TFPreTrainedModel, tf.keras.Model)
    with pytest.MonkeyPatch.context() as patch:
        unused = KerasLazyLoader({})
        patch.setitem(vars(tf), "keras", unused)
        legacy_keras.require_legacy_keras()
        assert unused.Model is tf_keras.Model

        patch.setenv("TF_USE_LEGACY_KERAS", "0")
        patch.setitem(sys.modules, "keras", SimpleNamespace(__version__="3.0"))  # the true one takes seconds
        keras_3 = KerasLazyLoader({})
        with contextlib.suppress(ImportError):
            keras_3.Model  # noqa: B018
        patch.setitem(vars(tf), "keras", keras_3)
        patch.setenv("TF_USE_LEGACY_KERAS", "1")
        with pytest.raises(ImportError, match=r"tf\.keras .*Keras 3\b.*TF_USE_LEGACY_KERAS=1"):
            legacy_keras.require_legacy_keras()


@renaming_for("legacy_keras_switch")
def variable_of_the_environment(patch):
    from tensorflow.python.util import lazy_loader

    patch.setattr(lazy_loader, "os", SimpleNamespace(environ={}))
    patch.setitem(sys.modules, "keras", SimpleNamespace(__version__="3.0"))


@renaming_for("legacy_keras_switch")
def keras_of_the_models(patch):
    patch.setattr(transformers, "TFPreTrainedModel", tf.Module)


@canary
def weight_decay_of_a_variable():
    """A Keras optimizer tells by `_use_weight_decay(variable)` what `exclude_from_weight_decay` left out."""
    optimizer = tf_keras.optimizers.SGD(weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    kernel, bias = tf.Variable(1.0, name="kernel"), tf.Variable(1.0, name="bias")
    optimizer.build([kernel, bias])
    assert compat_keras.uses_weight_decay(optimizer, kernel)
    assert not compat_keras.uses_weight_decay(optimizer, bias)


@renaming_for("weight_decay_of_a_variable")
def use_weight_decay(patch):
    rename_attribute(patch, tf_keras.optimizers.SGD, "_use_weight_decay")


@canary
def decay_and_update_of_a_variable():
    """A Keras optimizer decays variables in `_apply_weight_decay(variables)` and updates each in `update_step`, and
    reads `learning_rate` again for each variable."""
    assert hasattr(tf_keras.optimizers.AdamW, "_apply_weight_decay")
    slow, fast = tf.Variable(1.0, name="slow"), tf.Variable(1.0, name="fast")
    changed = []

    class SlowAdamW(compat_keras.AdamWByVariable):
        factor = 1.0

        @property
        def learning_rate(self):
            return super().learning_rate * self.factor

        @contextlib.contextmanager
        def changing(self, variable):
            changed.append(variable.name)
            self.factor = 0.0 if variable is slow else 1.0
            yield
            self.factor = 1.0

    optimizer = SlowAdamW(0.1, weight_decay=0.5, jit_compile=False)
    optimizer.apply_gradients([(tf.constant(0.0), slow), (tf.constant(0.0), fast)])
    assert changed == ["slow:0", "fast:0", "slow:0", "fast:0"]
    np.testing.assert_allclose([slow.numpy(), fast.numpy()], [1.0, 1.0 - 0.1 * 0.5])


@renaming_for("decay_and_update_of_a_variable")
def apply_weight_decay(patch):
    rename_attribute(patch, tf_keras.optimizers.AdamW, "_apply_weight_decay")


@canary
def seed_of_initializers():
    """Initializers of Keras without a seed draw from `backend._SEED_GENERATOR.generator`, which `set_random_seed`
    sets."""

    def draw():
        return tf_keras.layers.Dense(3).kernel_initializer((2, 3)).numpy().tolist()

    tf_keras.utils.set_random_seed(1)
    with compat_keras.initializers_drawing_from(5):
        first = draw()
    after = draw()
    tf_keras.utils.set_random_seed(1)
    assert after == draw(), "the generator was not put back"
    with compat_keras.initializers_drawing_from(5):
        assert first == draw()
    tf_keras.utils.set_random_seed(5)
    assert first == draw()
    assert first != after


@renaming_for("seed_of_initializers")
def seed_generator(patch):
    patch.setattr(backend.RandomGenerator, "_create_seed", lambda self, seed: 1 if seed is None else seed)


@canary
def counters_of_batches():
    """A Keras model counts its batches in `_train_counter`, `_test_counter` and `_predict_counter`."""
    model = tf_keras.Sequential([tf_keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    one = np.ones((1, 1), np.float32)
    for _ in range(2):
        model.train_on_batch(one, one)
    model.test_on_batch(one, one)
    assert [int(counter) for counter in compat_keras.step_counters(model)] == [2, 1, 0]


@renaming_for("counters_of_batches")
def train_counter(patch):
    rename_attribute(patch, tf_keras.Sequential, "_train_counter")


class Resumed(tf_keras.Model):
    """Begins at the second batch of the second epoch."""

    def call(self, inputs):
        return inputs

    def _maybe_load_initial_counters_from_ckpt(self, steps_per_epoch, initial_epoch):
        return 1, 1


@canary
def beginning_within_an_epoch():
    """Keras' `fit` asks `_maybe_load_initial_counters_from_ckpt(steps, epoch)` at which epoch and batch to begin, and
    calls `train_function` anew for each step."""
    assert hasattr(tf_keras.Model, "_maybe_load_initial_counters_from_ckpt")
    seen = []

    class Seeing(tf_keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.model.train_function = lambda iterator: {"loss": 0.0}

        def on_train_batch_begin(self, batch, logs=None):
            seen.append((self.epoch, batch))

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

    model = Resumed()
    model.compile("sgd", run_eagerly=True)  # without a loss: Keras' own step would fail
    model.fit(tf.data.Dataset.range(3).batch(1), epochs=2, verbose=0, callbacks=[Seeing()])
    assert seen == [(1, 1), (1, 2)]


@renaming_for("beginning_within_an_epoch")
def initial_counters(patch):
    rename_method(patch, tf_keras.Model, "_maybe_load_initial_counters_from_ckpt")


@renaming_for("beginning_within_an_epoch")
def train_function(patch):
    rename_attribute(patch, Resumed, "train_function")


class Bar(compat_keras.TextProgressBar):
    def show_step(self, logs):
        self.draw({"step": f"<{logs['loss']}>"})

    def show_epoch(self, logs):
        self.draw({"epoch": f"<{logs['loss']}>"}, is_last=True)


@canary
def texts_in_the_progress_bar():
    """Keras' `ProgbarLogger` begins a bar with `_reset_progbar` and `_maybe_init_progbar`, draws it in
    `_batch_update_progbar` and `_finalize_progbar`, and knows in `_called_in_fit` whether `fit` runs; the bar has its
    values in `_values` and `_values_order`, and writes a text as it is."""
    for name in ("_batch_update_progbar", "_finalize_progbar", "_reset_progbar", "_maybe_init_progbar"):
        assert hasattr(tf_keras.callbacks.ProgbarLogger, name), f"ProgbarLogger has no {name}"
    bar = Bar()
    assert not bar.is_in_fit
    settings = {"model": tf_keras.Sequential(), "verbose": 1, "epochs": 1, "steps": 1}
    callbacks = tf_keras.callbacks.CallbackList([bar], add_progbar=True, **settings)
    assert [each for each in callbacks.callbacks if isinstance(each, tf_keras.callbacks.ProgbarLogger)] == [bar]
    written = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", SimpleNamespace(write=written.append, flush=lambda: None, isatty=lambda: False))
        bar.on_train_begin()
        assert bar.is_in_fit
        bar.start_bar()
        bar.on_train_batch_end(0, {"loss": 1})
        bar.on_epoch_end(0, {"loss": 2})
    text = "".join(written)
    assert "1/1" in text
    assert " - step: <1>" in text
    assert text.endswith(" - epoch: <2>\n")


@renaming_for("texts_in_the_progress_bar")
def drawing_of_the_bar(patch):
    rename_method(patch, tf_keras.callbacks.ProgbarLogger, "_batch_update_progbar")


@renaming_for("texts_in_the_progress_bar")
def end_of_the_bar(patch):
    rename_method(patch, tf_keras.callbacks.ProgbarLogger, "_finalize_progbar")


@renaming_for("texts_in_the_progress_bar")
def beginning_of_the_bar(patch):
    rename_attribute(patch, tf_keras.callbacks.ProgbarLogger, "_reset_progbar")


@renaming_for("texts_in_the_progress_bar")
def mark_of_fit(patch):
    rename_attribute(patch, tf_keras.callbacks.ProgbarLogger, "_called_in_fit")


@renaming_for("texts_in_the_progress_bar")
def values_of_the_bar(patch):
    class OtherBar(tf_keras.utils.Progbar):
        """One that has its values under another name."""

        def update(self, current, values=None, finalize=None):
            self._values_order, self._values = [], {}
            super().update(current, values, finalize)

    patch.setattr(inspect.getmodule(tf_keras.callbacks.ProgbarLogger), "Progbar", OtherBar)


# 🤗 and joblib


@canary
def names_of_readers():
    """`datasets.packaged_modules._PACKAGED_DATASETS_MODULES` has the names of the readers of files."""
    assert all(map(compat_datasets.is_name_of_reader, ("csv", "json", "text", "parquet")))
    assert not compat_datasets.is_name_of_reader("user/csv")


@renaming_for("names_of_readers")
def packaged_modules(patch):
    patch.delattr(datasets.packaged_modules, "_PACKAGED_DATASETS_MODULES")


@canary
def fingerprint_of_a_dataset():
    """`Dataset._fingerprint` is equal for equal data."""
    one, same, other = (Dataset.from_dict({"text": [text]}) for text in ("a", "a", "b"))
    assert compat_datasets.fingerprint(one) == compat_datasets.fingerprint(same)
    assert compat_datasets.fingerprint(one) != compat_datasets.fingerprint(other)


@renaming_for("fingerprint_of_a_dataset")
def fingerprint(patch):
    rename_attribute(patch, Dataset, "_fingerprint")


@canary
def cache_of_datasets():
    """`datasets.config.HF_DATASETS_CACHE` is the cache's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", "/somewhere")
        assert str(compat_datasets.cache_folder()) == "/somewhere"


@renaming_for("cache_of_datasets")
def folder_of_the_cache(patch):
    patch.delattr(datasets.config, "HF_DATASETS_CACHE")


@canary
def files_that_are_never_uploaded():
    """`huggingface_hub.utils.DEFAULT_IGNORE_PATTERNS` lists what `upload_folder` leaves out."""
    assert {".git/*", ".cache/huggingface/*"} <= set(compat_hub.ignored_by_uploads())


@renaming_for("files_that_are_never_uploaded")
def ignored_patterns(patch):
    patch.delattr(compat_hub.utils, "DEFAULT_IGNORE_PATTERNS")


@canary
def worker_processes():
    """`joblib.externals.loky` has `ProcessPoolExecutor(count, env=...)`, whose `shutdown` takes `kill_workers`, and
    raises its `TerminatedWorkerError` where a worker was killed."""
    executor = compat_joblib.start_workers(1, {"A": "1"})  # starts no process before the first task
    assert "kill_workers" in inspect.signature(executor.shutdown).parameters
    executor.shutdown()
    assert issubclass(compat_joblib.WorkerDied, BrokenProcessPool)
    assert compat_joblib.loky.process_executor.TerminatedWorkerError is compat_joblib.WorkerDied


@renaming_for("worker_processes")
def executor(patch):
    patch.delattr(compat_joblib.loky, "ProcessPoolExecutor")


@renaming_for("worker_processes")
def error_of_a_killed_worker(patch):
    patch.delattr(compat_joblib.loky.process_executor, "TerminatedWorkerError")


@canary
def names_in_pytorch():
    """`convert_tf_weight_name_to_pt_weight_name` gives a weight's name in PyTorch, and `TransposeType.SIMPLE` for dense
    kernels, which are transposed there."""
    kernel = SimpleNamespace(name="model/bert/encoder/layer_._3/intermediate/dense/kernel:0", shape=(2, 3))
    assert compat_transformers.torch_name(kernel) == ("bert.encoder.layer.3.intermediate.dense.weight", True)
    table = SimpleNamespace(name="model/bert/embeddings/word_embeddings/weight:0", shape=(2, 3))
    assert compat_transformers.torch_name(table) == ("bert.embeddings.word_embeddings.weight", False)


@renaming_for("names_in_pytorch")
def conversion_of_names(patch):
    patch.delattr("transformers.modeling_tf_pytorch_utils.convert_tf_weight_name_to_pt_weight_name")


@canary
def activations():
    """`transformers.activations_tf.get_tf_activation` knows the activation that a config names."""
    values = tf.constant([-1.0, 0.0, 2.0])
    np.testing.assert_allclose(compat_transformers.activation_named("gelu")(values), tf.nn.gelu(values), atol=1e-6)
    with pytest.raises(KeyError):
        compat_transformers.activation_named("no activation")


@renaming_for("activations")
def activation_by_name(patch):
    patch.delattr("transformers.activations_tf.get_tf_activation")


@canary
def settings_of_a_tokenizer():
    """`tokenizer.init_kwargs` is what `tokenizer_config.json` gets and gives back, own entries included."""
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words)
    compat_transformers.saved_settings(tokenizer)["cleaning"] = "prose"
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        read = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    assert compat_transformers.saved_settings(read)["cleaning"] == "prose"


@renaming_for("settings_of_a_tokenizer")
def initial_arguments(patch):
    rename_attribute(patch, transformers.PreTrainedTokenizerFast, "init_kwargs")


# 🤗's models: the training step and the heads are computed from these attributes


@functools.cache
def network(kind):
    config = BertConfig(**WIDTHS) if "Bert" in kind else ElectraConfig(**ELECTRA_WIDTHS)
    model = getattr(transformers, kind)(config)
    model.build_in_name_scope()
    return model


def follow(place, path):
    for name in filter(None, path.split(".")):
        place = place[int(name)] if name.isdigit() else getattr(place, name)
    return place


def check_shapes(place, shapes: dict):
    for path, shape in shapes.items():
        assert tuple(follow(place, path).shape) == shape, path


def dense(path, inputs, outputs):
    return {f"{path}.kernel": (inputs, outputs), f"{path}.bias": (outputs,)}


def layer_norm(path, width):
    return {f"{path}.gamma": (width,), f"{path}.beta": (width,)}


NETWORKS = (
    "TFBertForPreTraining", "TFBertForSequenceClassification", "TFElectraForMaskedLM", "TFElectraForPreTraining",
    "TFElectraForSequenceClassification",
)  # fmt: skip
ENCODERS = {"bert": "TFBertForPreTraining", "electra": "TFElectraForMaskedLM"}


def encoders():
    return [getattr(network(kind), name) for name, kind in ENCODERS.items()]


@canary
def embeddings():
    """The embeddings of BERT and ELECTRA are `embeddings.weight`, `.token_type_embeddings`, `.position_embeddings` and
    `.LayerNorm`."""
    for encoder, width in zip(encoders(), (8, 6), strict=True):
        tables = {"weight": (11, width), "token_type_embeddings": (2, width), "position_embeddings": (7, width)}
        check_shapes(encoder.embeddings, tables | layer_norm("LayerNorm", width))
        assert encoder.embeddings.LayerNorm.epsilon == pytest.approx(1e-12)


@canary
def attention():
    """The attention of layer i is `encoder.layer[i].attention`: `self_attention.query`, `.key`, `.value`, and
    `dense_output.dense` and `.LayerNorm`."""
    for encoder in encoders():
        assert len(encoder.encoder.layer) == 2
        for layer in encoder.encoder.layer:
            inner = {}
            for name in ("query", "key", "value"):
                inner |= dense(f"self_attention.{name}", 8, 8)
            check_shapes(layer.attention, inner | dense("dense_output.dense", 8, 8))
            check_shapes(layer.attention, layer_norm("dense_output.LayerNorm", 8))


@canary
def feed_forward():
    """The feed-forward part of layer i is `encoder.layer[i].intermediate.dense`, `.bert_output.dense` and
    `.bert_output.LayerNorm`."""
    for encoder in encoders():
        for layer in encoder.encoder.layer:
            check_shapes(layer, dense("intermediate.dense", 8, 12) | dense("bert_output.dense", 12, 8))
            check_shapes(layer, layer_norm("bert_output.LayerNorm", 8))


@canary
def projection_of_embeddings():
    """ELECTRA has `electra.embeddings_project` where embeddings have another width, and BERT has none."""
    check_shapes(network("TFElectraForMaskedLM").electra, dense("embeddings_project", 6, 8))
    assert not hasattr(network("TFBertForPreTraining").bert, "embeddings_project")


@canary
def masked_language_model_of_bert():
    """BERT's MLM head is `mlm.predictions`: `transform.dense`, `transform.LayerNorm`, `bias`, and the word embeddings
    as `input_embeddings`; `mlm(sequence_output=...)` computes it."""
    model = network("TFBertForPreTraining")
    shapes = dense("transform.dense", 8, 8) | layer_norm("transform.LayerNorm", 8)
    check_shapes(model.mlm.predictions, shapes | {"bias": (11,)})
    assert model.mlm.predictions.input_embeddings is model.bert.embeddings
    assert model.get_lm_head() is model.mlm.predictions
    assert "sequence_output" in inspect.signature(model.mlm.call).parameters


@canary
def next_sentence_prediction_of_bert():
    """BERT's NSP head is `bert.pooler.dense` and `nsp.seq_relationship`."""
    model = network("TFBertForPreTraining")
    check_shapes(model, dense("bert.pooler.dense", 8, 8) | dense("nsp.seq_relationship", 8, 2))


@canary
def generator_of_electra():
    """The generator's head is `generator_predictions.dense` and `.LayerNorm`, and `generator_lm_head.bias`."""
    model = network("TFElectraForMaskedLM")
    shapes = dense("dense", 8, 6) | layer_norm("LayerNorm", 6)
    check_shapes(model.generator_predictions, shapes)
    check_shapes(model.generator_lm_head, {"bias": (11,)})


@canary
def discriminator_of_electra():
    """The discriminator's head is `discriminator_predictions.dense` and `.dense_prediction`."""
    head = network("TFElectraForPreTraining").discriminator_predictions
    check_shapes(head, dense("dense", 8, 8) | dense("dense_prediction", 8, 1))


@canary
def classifiers():
    """BERT's classifier is a dense layer `classifier`, ELECTRA's `classifier.dense` and `classifier.out_proj`."""
    check_shapes(network("TFBertForSequenceClassification"), dense("classifier", 8, 2))
    head = network("TFElectraForSequenceClassification").classifier
    check_shapes(head, dense("dense", 8, 8) | dense("out_proj", 8, 2))


@canary
def names_of_weights():
    """Weights have names like `…/layer_._0/…` and `…/embeddings/…`, with `LayerNorm`, `bias`, `gamma` and `beta`."""
    for kind in ENCODERS.values():
        names = [variable.name for variable in network(kind).trainable_variables]
        assert sum("/encoder/layer_._1/" in name for name in names) == 16
        assert sum("/embeddings/" in name for name in names) == 5
        for layer_norm in ("gamma", "beta"):
            assert any(name.endswith(f"/layer_._0/output/LayerNorm/{layer_norm}:0") for name in names)
        assert any(name.endswith("/layer_._0/attention/self/query/bias:0") for name in names)


@canary
def building_of_a_model():
    """`build_in_name_scope` makes all weights, with the model's name in front of theirs."""
    model = transformers.TFBertModel(BertConfig(**WIDTHS), name="mine")
    model.build_in_name_scope()
    assert model.built
    assert all(variable.name.startswith("mine/bert/") for variable in model.weights)


# Canary, model, path of a layer, and the attribute that is renamed there.
for canary_name, kind, path, attribute in [
    ("embeddings", "TFBertForPreTraining", "bert.embeddings", "token_type_embeddings"),
    ("embeddings", "TFElectraForMaskedLM", "electra.embeddings", "position_embeddings"),
    ("attention", "TFBertForPreTraining", "bert.encoder.layer.0.attention.self_attention", "query"),
    ("attention", "TFElectraForMaskedLM", "electra.encoder.layer.1.attention", "dense_output"),
    ("feed_forward", "TFBertForPreTraining", "bert.encoder.layer.0", "bert_output"),
    ("feed_forward", "TFElectraForMaskedLM", "electra.encoder.layer.1.intermediate", "dense"),
    ("projection_of_embeddings", "TFElectraForMaskedLM", "electra", "embeddings_project"),
    ("masked_language_model_of_bert", "TFBertForPreTraining", "mlm.predictions", "transform"),
    ("masked_language_model_of_bert", "TFBertForPreTraining", "mlm.predictions", "input_embeddings"),
    ("next_sentence_prediction_of_bert", "TFBertForPreTraining", "nsp", "seq_relationship"),
    ("generator_of_electra", "TFElectraForMaskedLM", "", "generator_predictions"),
    ("generator_of_electra", "TFElectraForMaskedLM", "", "generator_lm_head"),
    ("discriminator_of_electra", "TFElectraForPreTraining", "", "discriminator_predictions"),
    ("classifiers", "TFElectraForSequenceClassification", "classifier", "out_proj"),
]:

    def rename_in_layer(patch, kind=kind, path=path, attribute=attribute):
        rename_entry(patch, follow(network(kind), path), attribute)

    RENAMINGS.append(pytest.param(canary_name, rename_in_layer, id=f"{canary_name}-{attribute}"))


@renaming_for("names_of_weights")
def numbered_layers(patch):
    model = network("TFElectraForMaskedLM")
    renamed = [SimpleNamespace(name=each.name.replace("layer_._", "layers/")) for each in model.trainable_variables]
    patch.setattr(type(model), "trainable_variables", renamed)


@renaming_for("building_of_a_model")
def build_in_name_scope(patch):
    rename_attribute(patch, transformers.TFBertModel, "build_in_name_scope")


@pytest.mark.parametrize("name", CANARIES)
def test_the_assumption_holds(name):
    message = failure(name)
    assert message is None, message


@pytest.mark.parametrize(("name", "rename"), RENAMINGS)
def test_a_renaming_is_noticed_by_one_canary(name, rename, monkeypatch):
    list(map(network, NETWORKS))  # as they were before
    rename(monkeypatch)
    messages = {each: message for each in CANARIES if (message := failure(each))}
    assert messages.keys() == {name}
    assert messages[name].startswith(inspect.getdoc(CANARIES[name]))


def test_each_canary_has_a_renaming():
    assert {each.values[0] for each in RENAMINGS} == CANARIES.keys()


def test_each_entry_of_compat_has_a_canary():
    source = inspect.getsource(sys.modules[__name__])
    modules = (compat_datasets, compat_hub, compat_joblib, compat_tensorflow, compat_keras, compat_transformers)
    for module in (*modules, legacy_keras):
        own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        assert own
        for name in own:
            assert re.search(rf"\.{name}\b", source), f"{module.__name__}.{name} has no canary"
