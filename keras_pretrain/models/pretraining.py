"""`PretrainingStep`: the compiled training step of all models of this package."""

import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from keras_pretrain.compat.tf_keras import step_counters
from keras_pretrain.features.batching import Batches, Position, batches_behind, dataset_from, dataset_of_part
from keras_pretrain.features.input_meter import InputMeter, TokenCount
from keras_pretrain.models.encoder import Dropout
from keras_pretrain.models.objectives import accumulate, part_of
from keras_pretrain.models.precision import precision_of_products
from keras_pretrain.models.products import KernelProducts, add_kernel_gradients, computing_in
from keras_pretrain.training.workers import Workers

logger = logging.getLogger(__name__)

# The tensors of a batch. Those from `position_ids` to `masked_positions` exist only for packed rows.
_BATCH = (
    "input_ids", "token_type_ids", "attention_mask", "position_ids", "example_ids", "masked_positions", "labels",
    "next_sentence_label", "first_positions",
)  # fmt: skip
_NO_WEIGHTS = (
    "Pretraining takes no sample_weight or class_weight, as an argument or in the data: every masked token, pair and "
    "judged token counts alike. Leave the weights out; to let some examples count more, repeat them in the data."
)

if TYPE_CHECKING:
    from tf_keras import Model as _Mixed  # `PretrainingStep` is mixed into a model
else:
    _Mixed = object


class PretrainingStep(_Mixed):
    """Defines `compile`, `fit`, `train_step` and `test_step` for a Keras model with one or several heads.

    The forward and backward pass is one XLA program. The optimizer's update is not a part of it, because
    `tf.distribute` sums gradients before the update. On a single device the update is a second XLA program, which
    passes over each variable once instead of ten times; on a CPU, the gradients' norm is computed between the two
    programs. Each head's loss is averaged over its items (masked tokens or pairs), across all replicas and accumulated
    parts of a batch.

    A subclass sets `seed`, `gradient_accumulation_steps` and `head_weights` (each head's weight in the total loss), and
    has these methods. A `batch` is a dictionary of int32 tensors whose first axis is the batch:

    - `_unpack(data)` → batch;
    - `_check(batch)` → assertions, because XLA does not check its inputs;
    - `_counts(batch)` → `{head: number of items over which the loss of the head is averaged}`;
    - `_prepare(batch, seed, training=)` → batch, after the random draws that need the whole batch; compiled;
    - `_sums(batch, seed, part, dropout)` → `{name: sum over the batch}`, with `{head}_loss` for each head; compiled;
    - `_report(sums)` → Keras' logs;
    - `_trained_variables(batch)`;
    - `description()` → the model's settings, for JSON.

    A model that uses weights of examples sets `takes_weights`. Other models refuse `sample_weight` and `class_weight`.
    """

    takes_weights = False
    train_function: Callable | None

    def compile(
        self,
        optimizer: str | tf_keras.optimizers.Optimizer = "adam",
        *,
        precision: str = "float32",
        jit_compile: bool = True,
        run_eagerly: bool = False,
        **kwargs: Any,
    ) -> None:
        """Like `keras.Model.compile`, but without losses and metrics, which the model defines itself.

        Args:
          optimizer: a legacy Keras optimizer or its name.
          precision: `"float32"`, `"bfloat16"` (the operands of matrix products are rounded to bfloat16, everything else
            is float32; fast on processors with AMX), or `"auto"` (the faster of the two on this machine). For GPUs, set
            Keras' policy `mixed_bfloat16` before the model is made.
          jit_compile: `False` trains without XLA.
          run_eagerly: `True` runs the step line by line, for a debugger.

        Raises:
          ValueError: the optimizer is one of Keras 3; a loss, metrics or loss weights are given, which would have no
            effect; or the precision is unknown, or this machine does not compute correctly in it.
        """
        ignored = [name for name in ("loss", "metrics", "weighted_metrics", "loss_weights") if kwargs.get(name)]
        if ignored:
            raise ValueError(
                f"{type(self).__name__} has losses and metrics of its own; leave out {', '.join(ignored)}."
            )
        if type(optimizer).__module__.startswith("keras."):
            raise ValueError(
                f"{type(optimizer).__name__} is an optimizer of Keras 3, and 🤗's TensorFlow models are legacy Keras: "
                "take it from tf_keras.optimizers, or use kp.create_optimizer."
            )
        self._chooses_precision = precision == "auto"
        precision = precision_of_products(precision)
        super().compile(optimizer, run_eagerly=run_eagerly, **kwargs)
        # Our metrics already cover all replicas; Keras would sum the metrics of the workers.
        self.distribute_reduction_method = "first"
        self.uses_xla = jit_compile and not run_eagerly
        self._precision_of_products = precision
        self._make_functions()
        self._gradients, self._apply = self._differentiate, self._update
        with self.distribute_strategy.scope():
            is_distributed = tf.distribute.has_strategy()  # also with one replica: a function cannot sum over replicas
        is_compiled = self.uses_xla and not is_distributed
        self._norms_apart = is_compiled and not tf.config.get_visible_devices("GPU")
        if is_compiled:
            self._apply = tf.function(self._update, jit_compile=True, autograph=False)

    def _make_functions(self) -> None:
        self._forward, self._forward_backward = self._evaluate, self._differentiate_part
        if not self.run_eagerly:
            self._forward = tf.function(self._evaluate, jit_compile=self.uses_xla, autograph=False)
            self._forward_backward = tf.function(self._differentiate_part, jit_compile=self.uses_xla, autograph=False)

    def adopt_precision(self, precision: str) -> None:
        """Use the precision of the run that is resumed, if the model was compiled with `precision="auto"`.

        Raises:
          ValueError: this machine does not compute correctly in the precision.
        """
        if not self._chooses_precision or {precision, self.precision} != {"float32", "bfloat16"}:
            return
        logger.info("Precision: %s, as at the start of the run.", precision)
        self._precision_of_products = precision_of_products(precision)
        self._make_functions()
        self.test_function = None
        if self.train_function is not None:  # already made by `fit`
            self.make_train_function(force=True)

    @property
    def precision(self) -> str:
        """`"float32"`, `"bfloat16"`, or the current Keras policy, which is usually the one under which the model was
        made."""
        policy = tf_keras.mixed_precision.global_policy().name
        return self._precision_of_products if policy == "float32" else policy

    def replace_optimizer(self, optimizer: tf_keras.optimizers.Optimizer) -> None:
        """Compile the model with another optimizer, and keep the compiled forward and backward pass.

        Args:
          optimizer: as for `compile`.
        """
        names = ("_forward", "_forward_backward", "_gradients", "test_function")
        kept = {name: getattr(self, name) for name in names}
        settings = {"jit_compile": self.uses_xla, "run_eagerly": self.run_eagerly}
        self.compile(optimizer, precision=self._precision_of_products, **settings)
        for name, function in kept.items():
            setattr(self, name, function)

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> tf_keras.callbacks.History:
        """Like `keras.Model.fit`.

        Under a `tf.distribute` strategy with several replicas, each replica builds its own part of the batches of
        `to_tf_dataset`, whose `batch_size` is the global batch size. With several workers, all start from the chief's
        weights.

        Raises:
          ValueError: weights of examples or classes are given, but the model does not use them.
        """
        self._refuse_weights(kwargs)
        batches, is_repeated = batches_behind(x)
        # Avoids Keras' __setattr__, which would track these objects.
        self.__dict__.update(training_batches=batches, input_meter=None, replayed_logs={}, _resume_at=None, _at_end=[])
        if batches is not None and not batches.training:
            batches = None  # their order is always the same, so there is no position to keep
        if batches is not None:
            self._check_batches(batches)
            self._note_batches(batches)
        is_parted = batches is not None and self.distribute_strategy.num_replicas_in_sync > 1
        with self.distribute_strategy.scope():
            self._steps_in_fit.assign(0)  # Keras does this later; a `fit` that fails earlier has trained 0 steps
        if batches is not None:
            position = batches.start(is_repeated)
            batches.next_step = position.step
            self.__dict__.update(_position=position, _first_step=position.step)
            x = self._parted(batches, position, kwargs) if is_parted else _continued(x, batches, position)
        self._drop_function_for_other_shapes("train_function", x)
        self._build_optimizer()
        Workers(self.distribute_strategy).copy_from_chief(self.variables)
        if isinstance(x, tf.data.Dataset) and self.distribute_strategy.num_replicas_in_sync == 1:
            self.__dict__["input_meter"] = InputMeter()  # for `RunFigures`
            x = self.input_meter.watch(x)
        try:
            return super().fit(x, *args, **kwargs)
        finally:
            for function in self._at_end:
                function()
            if batches is not None:
                end = self._first_step + int(self._steps_in_fit.numpy())
                batches.next_step = end if is_repeated else batches.whole_epochs(end)

    @property
    def _steps_in_fit(self) -> tf.Variable:
        return step_counters(self)[0]

    def _parted(self, batches: Batches, position: Position, fit_arguments: dict) -> tf.distribute.DistributedDataset:
        """Make a distributed dataset of the training batches, in which each replica makes its own rows. It repeats
        without end, because Keras cannot count its batches."""
        self.__dict__["input_meter"] = TokenCount(batches, lambda: int(self._steps_in_fit.numpy()))
        if fit_arguments.get("steps_per_epoch") is None:
            fit_arguments["steps_per_epoch"] = len(batches)
        position.is_repeated = True
        return self.distribute_strategy.distribute_datasets_from_function(
            lambda context: dataset_of_part(
                batches,
                True,
                context.input_pipeline_id,
                context.num_input_pipelines,
                context.num_replicas_in_sync,
                position,
            )
        )

    def call_at_end(self, function: Callable[[], object]) -> None:
        """Register a function to call at the end of `fit`, even after an exception, of which callbacks are not
        notified."""
        self._at_end.append(function)

    def resume(self, step: int, first_step: int, at: tuple[int, int]) -> None:
        """Make `fit` continue a run; call this in `on_train_begin`.

        Args:
          step: the number of steps that the run has done.
          first_step: the step of the data at which the run started, counted over all epochs.
          at: the epoch and the batch to start with.
        """
        self.__dict__.update(_resume_at=at, _first_step=first_step)
        self._position.step = first_step + step
        self._steps_in_fit.assign(step)  # TensorBoard's step counter; Keras has just set it to 0

    def replay_step(self, logs: dict) -> None:
        """Make the next step of `fit` report these logs, without training and without taking a batch."""
        train_function = self.train_function

        def put_back() -> None:
            self.train_function = train_function

        def replay(_: object) -> dict:
            put_back()
            return {name: logs[name] for name in self.metrics_names if name in logs}

        self.train_function = replay
        self.__dict__["replayed_logs"] = logs  # for `RunFigures`
        self.call_at_end(put_back)

    def _maybe_load_initial_counters_from_ckpt(
        self, steps_per_epoch: int | None, initial_epoch: int
    ) -> tuple[int, int]:
        """Return the epoch and the batch to start with. Keras calls this private method in `fit`, for
        `BackupAndRestore`."""
        if self._resume_at is not None:
            return self._resume_at
        return super()._maybe_load_initial_counters_from_ckpt(steps_per_epoch, initial_epoch)

    def evaluate(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Like `keras.Model.evaluate`; raises the same errors for weights and batches as `fit`."""
        self._refuse_weights(kwargs)
        batches, _ = batches_behind(x)
        if batches is not None:
            self._check_batches(batches)
        self._drop_function_for_other_shapes("test_function", x)
        return super().evaluate(x, *args, **kwargs)

    def _refuse_weights(self, arguments: dict) -> None:
        """Raise an error for weights before training. `unpack_batch` would find weights in validation data only after
        an epoch, and would not find weights without labels, because Keras drops these."""
        validation = arguments.get("validation_data")
        _, _, weights = tf_keras.utils.unpack_x_y_sample_weight(getattr(validation, "element_spec", validation))
        given = (weights, arguments.get("sample_weight"), arguments.get("class_weight"))
        if not self.takes_weights and any(each is not None for each in given):
            raise ValueError(_NO_WEIGHTS)

    def _drop_function_for_other_shapes(self, name: str, data: Any) -> None:
        """Drop the compiled function of Keras if the shape of the batches changes, because Keras would retrace it with
        relaxed shapes."""
        spec = getattr(data, "element_spec", None)
        if self.__dict__.get(f"_{name}_spec") != spec:
            self.__dict__[f"_{name}_spec"] = spec
            setattr(self, name, None)

    def _build_optimizer(self) -> None:
        """Create the optimizer's variables. Keras would create them in the first step, which is then traced twice.

        They are created for all trainable variables of the model, so that a later `fit` can train heads that have no
        labels now.
        """
        if hasattr(self.optimizer, "build"):  # the optimizers of `tf_keras.optimizers.legacy` have no `build`
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)

    @tf.autograph.experimental.do_not_convert  # it has only Python conditions
    def train_step(self, data: Any) -> dict:
        batch = self._checked(self._unpack(data))
        replica = tf.distribute.get_replica_context()
        # The losses are divided by counts over all replicas, because the optimizer sums the gradients of all replicas.
        counts = replica.all_reduce(tf.distribute.ReduceOp.SUM, self._counts(batch))
        step = tf.cast(self.optimizer.iterations, tf.int32)
        seed = tf.stack([self.seed + 65_537 * tf.cast(replica.replica_id_in_sync_group, tf.int32), step])
        scale = self._loss_scale()
        sums, gradients = self._gradients(batch, counts, seed, scale)
        if scale is not None:
            gradients = self.optimizer.get_unscaled_gradients(gradients)
        self._apply(gradients, self._trained_variables(batch), self._norm_to_clip(gradients))
        return self._report(sums)

    @tf.autograph.experimental.do_not_convert
    def test_step(self, data: Any) -> dict:
        return self._report(self._forward(self._checked(self._unpack(data))))

    def _arithmetic(
        self, batch: dict[str, tf.Tensor], collected: KernelProducts | None = None
    ) -> contextlib.AbstractContextManager[None]:
        opaque_true = None
        if self.uses_xla and self._precision_of_products != "float32":
            opaque_true = tf.reduce_min(batch["input_ids"]) >= 0  # true: `check_ids` has checked it; also for 0 rows
        return computing_in(self._precision_of_products, opaque_true=opaque_true, collected=collected)

    def _evaluate(self, batch: dict[str, tf.Tensor]) -> dict:
        """Compute the sums of a batch without dropout. Random draws, such as the masks of ELECTRA, depend on the
        model's seed and the ids of the batch, so that the same batch always gives the same result."""
        _say_compiling("validation", batch)
        seed = tf.stack([self.seed, _hash(batch["input_ids"])])
        with self._arithmetic(batch):
            return self._sums(self._prepare(batch, seed), seed, 0, dropout=None)

    def _differentiate(
        self, batch: dict[str, tf.Tensor], counts: dict[str, tf.Tensor], seed: tf.Tensor, scale: tf.Tensor | None
    ) -> tuple[dict, list[tf.Tensor]]:
        """Compute the sums of a batch with dropout, and the gradients of the (scaled) loss for each trained variable.

        The loss is the sum of the heads' losses, weighted by `head_weights`. The loss of a head is the sum over its
        items divided by `counts[head]`.
        """

        def part(number: tf.Tensor) -> tuple[dict, list[tf.Tensor]]:
            sums, gradients, factors = self._forward_backward(batch, counts, seed, number, scale)
            return sums, add_kernel_gradients(gradients, factors)

        return accumulate(part, self.gradient_accumulation_steps)

    def _differentiate_part(
        self,
        batch: dict[str, tf.Tensor],
        counts: dict[str, tf.Tensor],
        seed: tf.Tensor,
        number: tf.Tensor,
        scale: tf.Tensor | None,
    ) -> tuple[dict, list, dict]:
        """Compute one part of a batch for `_differentiate`: the sums, the gradients from the tape, and the factors of
        those gradients that are computed outside XLA (see `models.products`)."""
        _say_compiling("training", batch)
        variables = self._trained_variables(batch)
        products = KernelProducts(variables)
        arithmetic = self._arithmetic(batch, products)
        batch = part_of(self._prepare(batch, seed, training=True), number, self.gradient_accumulation_steps)
        with tf.GradientTape() as tape, arithmetic:
            sums = self._sums(batch, seed, number, Dropout(seed, number))
            losses = [
                self.head_weights[head] * sums[f"{head}_loss"] / tf.maximum(count, 1.0)
                for head, count in counts.items()
            ]
            loss = tf.add_n(losses) if scale is None else tf.add_n(losses) * scale
        gradients = tape.gradient(loss, [*variables, *products.outputs])
        factors = products.factors(gradients[len(variables) :])
        gradients = [
            each if each is None or (place,) in factors else tf.convert_to_tensor(each)
            for place, each in enumerate(gradients[: len(variables)])
        ]
        return sums, gradients, factors

    def _norm_to_clip(self, gradients: list) -> tf.Tensor | None:
        """Compute the global norm for the optimizer's clipping, if this is faster outside the update; else return
        `None`.

        On a CPU, XLA writes the squares to memory: for 25 million gradients, XLA took 20 ms, and TensorFlow's own
        operation took 5 ms.
        """
        optimizer = _inner(self.optimizer)
        clips = getattr(optimizer, "global_clipnorm", None) and not optimizer.clipvalue
        return tf.linalg.global_norm(gradients) if self._norms_apart and clips else None

    def _update(self, gradients: list, variables: list[tf.Variable], norm: tf.Tensor | None) -> None:
        """Do one step of the optimizer. `norm` is the global norm with which to clip the gradients; if it is `None`,
        the optimizer computes the norm."""
        if norm is None:
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
            return
        optimizer = _inner(self.optimizer)
        clipnorm = optimizer.global_clipnorm
        gradients, _ = tf.clip_by_global_norm(gradients, clipnorm, use_norm=norm)
        optimizer.global_clipnorm = None  # while this is traced: the gradients are clipped already
        try:
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        finally:
            optimizer.global_clipnorm = clipnorm

    def _prepare(self, batch: dict, seed: tf.Tensor, *, training: bool = False) -> dict:
        return batch

    def _check_batches(self, batches: Batches) -> None:
        """Raise an error for `Batches` that do not fit the model's settings."""

    def _note_batches(self, batches: Batches) -> None:
        """Store in the config the settings of the `Batches` that readers of the checkpoint need."""

    def _checked(self, batch: dict) -> dict:
        """Check the batch and return it. Without these checks, XLA could silently return wrong numbers or NaN."""
        length = batch["input_ids"].shape[1]
        if length is None:
            raise ValueError("The batches have no fixed length, and XLA needs one: pad them all to the same length.")
        with tf.control_dependencies([check for check in self._check(batch) if check is not None]):  # None when eager
            return {name: tf.identity(value) for name, value in batch.items()}

    def _loss_scale(self) -> tf.Tensor | None:
        """The factor by which mixed_float16 multiplies the loss, so that small gradients do not vanish."""
        if isinstance(self.optimizer, tf_keras.mixed_precision.LossScaleOptimizer):
            return self.optimizer.get_scaled_loss(tf.ones(()))
        return None


def _continued(dataset: tf.data.Dataset, batches: Batches, position: Position) -> tf.data.Dataset:
    """Make a dataset that continues with `batches` from a position on, with the options of `dataset`."""
    return dataset_from(batches, position).with_options(dataset.options())


def _inner(optimizer: tf_keras.optimizers.Optimizer) -> tf_keras.optimizers.Optimizer:
    """The optimizer inside the wrapper for mixed_float16's loss scaling, or the optimizer itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def check_ids(batch: dict, *configs: PretrainedConfig) -> list:
    """Check that every network has embeddings for the batch's ids, token types and positions.

    For values outside these ranges, XLA raises no error: it uses the nearest id, and no embedding for a token type.

    Args:
      batch: `input_ids` and `token_type_ids`, each (batch, length) int32.
      *configs: the configs of the networks.

    Returns:
      Assertions, which raise `tf.errors.InvalidArgumentError`. In eager mode, each check was already made, and is
      `None` here.

    Raises:
      ValueError: the rows of the batch have more tokens than a network has positions.
    """
    length = batch["input_ids"].shape[1]
    positions = min(config.max_position_embeddings for config in configs)
    if length > positions and "position_ids" not in batch:
        raise ValueError(
            f"The batches are {length} tokens long, and the model has {positions} positions. Build the features with "
            "a smaller block_size."
        )
    checks = []
    for name, size, remedy in (
        ("input_ids", "vocab_size", "Build the features with the tokenizer that the model was made for."),
        ("token_type_ids", "type_vocab_size", "Leave token_type_ids out where each row is a single segment."),
        ("position_ids", "max_position_embeddings", "to_tf_dataset makes them."),
    ):
        if name not in batch:
            continue
        bound = min(getattr(config, size) for config in configs)
        lowest, highest = tf.reduce_min(batch[name]), tf.reduce_max(batch[name])
        message = f"{name} must be from 0 to {bound - 1} (the model's {size} is {bound}). {remedy} Range of the batch:"
        checks.append(tf.debugging.Assert((lowest >= 0) & (highest < bound), [message, lowest, highest]))
    return checks


def unpack_batch(data: Any) -> dict:
    """Return inputs and labels as one dictionary of int32 tensors; a collator may have put the labels among the inputs.

    As in the stock models, missing token types are 0, and without an attention mask everything is attended to. The ids
    of packed rows (`to_tf_dataset`) become `input_ids`, and an `attention_mask` is added.

    Raises:
      ValueError: the data also have weights.
    """
    inputs, labels, weights = tf_keras.utils.unpack_x_y_sample_weight(data)
    if weights is not None:
        raise ValueError(_NO_WEIGHTS)
    batch = dict(inputs) if isinstance(inputs, dict) else {"input_ids": inputs}
    if labels is not None:
        batch |= labels if isinstance(labels, dict) else {"labels": labels}
    if "packed_ids" in batch:
        batch["input_ids"] = batch["packed_ids"]
        batch["attention_mask"] = batch["example_ids"] > 0
    for name, default in (("token_type_ids", tf.zeros_like), ("attention_mask", tf.ones_like)):
        batch.setdefault(name, default(batch["input_ids"]))
    # Collators use different integer types, and comparisons with -100 need a single type.
    return {name: tf.cast(batch[name], tf.int32) for name in _BATCH if name in batch}


def first_positions(example_ids: tf.Tensor, count: int) -> tf.Tensor:
    """Find the start of each example in packed rows.

    Args:
      example_ids: (rows, length) int32, the number of each token's example, from 1 on in each row; 0 for padding.
      count: the maximum number of examples in a row.

    Returns:
      (rows, count) int32; 0 where a row has fewer examples.
    """
    is_of_example = example_ids[:, tf.newaxis] == tf.range(1, count + 1)[:, tf.newaxis]
    return tf.argmax(is_of_example, axis=-1, output_type=tf.int32)


def label_capacity(mask_prob: float, length: int) -> int:
    """The number of positions that can be predicted in a sequence of `length` tokens, of which at least two are
    special."""
    return min(length, max(1, round(mask_prob * (length - 2))))


def require_fit(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, block_size: int) -> None:
    """Raise an error, before training, for a tokenizer or block size for which a model has too few embeddings.

    Raises:
      ValueError: more tokens than `vocab_size`, or longer blocks than `max_position_embeddings`.
    """
    require_vocabulary(config, tokenizer)
    if block_size > config.max_position_embeddings:
        raise ValueError(
            f"Blocks of {block_size} tokens are too long for the model, which has {config.max_position_embeddings} "
            "positions. Choose a smaller block_size."
        )


def require_vocabulary(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise an error for a tokenizer whose ids would be out of range.

    Raises:
      ValueError: the tokenizer has more tokens than `vocab_size`.
    """
    if len(tokenizer) > config.vocab_size:
        raise ValueError(
            f"The tokenizer has {len(tokenizer)} tokens and the model only {config.vocab_size}: this is not the "
            "tokenizer that the model was made with."
        )


def _hash(ids: tf.Tensor) -> tf.Tensor:
    """A hash of (batch, length) int32 ids, a scalar int32."""
    rows = tf.reduce_sum(ids * (2 * tf.range(ids.shape[1]) + 2_654_435), axis=1)
    return tf.reduce_sum(rows * (2 * tf.range(tf.shape(ids)[0]) + 1_540_483))


def _say_compiling(step: str, batch: dict) -> None:
    """Log that a function is being traced. A second line for the same function shows that it compiles again. Nothing is
    logged if batches run eagerly."""
    if not tf.executing_eagerly():
        logger.info("Compiling the %s step for batches of %s.", step, tuple(batch["input_ids"].shape))
