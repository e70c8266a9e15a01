"""`RunFigures`: how fast a run goes and what it waits for, beside its losses."""

from time import perf_counter

import tf_keras


class RunFigures(tf_keras.callbacks.Callback):
    """Adds figures of the run to the logs, where the callbacks after it find them: the progress bar, Keras' `History`
    and `CSVLogger`, `TensorBoard`. It therefore stands first in the list of callbacks.

    - `learning_rate`: of the step just done;
    - `tokens_per_second`: without padding, in the training steps alone: validation and callbacks are not counted;
    - `padding`: share of the positions that hold no token;
    - `waiting`: share of the steps' time in which they wait for their batch (see `InputMeter`).

    All but the learning rate are of the epoch so far, as Keras' metrics are. The first step of a `fit`, which compiles,
    is left out as soon as there is a second.

    The data's figures are there for this package's pretrainers given a `tf.data.Dataset`; with several replicas, given
    one of `to_tf_dataset`, and without `waiting`. Other models get the learning rate alone.

    After `fit`, `tokens_per_second` and `seconds_per_step` hold the figures of the whole of it, without the first step.
    """

    def __init__(self):
        super().__init__()
        self._all, self._epoch = _Span(), _Span()

    @property
    def seconds_per_step(self) -> float:
        return self._all.seconds / max(self._all.steps, 1)

    @property
    def tokens_per_second(self) -> float:
        return self._all.tokens / self._all.seconds if self._all.steps else 0.0

    def on_train_begin(self, logs=None):
        self._all, self._epoch = _Span(), _Span()
        self._begun_at_all = self._compiled = False
        self._meter = getattr(self.model, "input_meter", None)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = _Span()

    def on_train_batch_begin(self, batch, logs=None):
        if self._begun_at_all and not self._compiled:
            self._compiled, self._epoch = True, _Span()
        self._begun_at_all = True
        self._begun = perf_counter(), batch, self._meter.read() if self._meter else None

    def on_train_batch_end(self, batch, logs=None):
        # Keras has waited for the batch's figures before it calls this, so the device is done.
        begun, first_batch, before = self._begun
        seconds = perf_counter() - begun
        passed = [now - then for now, then in zip(self._meter.read(), before, strict=True)] if before else [0.0] * 3
        self._epoch.add(seconds, batch + 1 - first_batch, *passed)
        if self._compiled:
            self._all.add(seconds, batch + 1 - first_batch, *passed)
        logs.update(self._figures())

    def on_epoch_end(self, epoch, logs=None):
        logs.update(self._figures())

    def _figures(self) -> dict[str, float]:
        figures = {"learning_rate": float(tf_keras.backend.get_value(self.model.optimizer.learning_rate))}
        span = self._epoch
        if span.positions:
            figures["tokens_per_second"] = span.tokens / span.seconds
            figures["padding"] = 1 - span.tokens / span.positions
        if span.positions and self._meter.measures_waiting:
            figures["waiting"] = min(1.0, max(0.0, span.seconds_waited / span.seconds))  # a clock may be set
        return figures


class _Span:
    """Sums over some steps."""

    def __init__(self):
        self.seconds = self.tokens = self.positions = self.seconds_waited = 0.0
        self.steps = 0

    def add(self, seconds, steps, tokens, positions, seconds_waited) -> None:
        self.seconds += seconds
        self.steps += steps
        self.tokens += tokens
        self.positions += positions
        self.seconds_waited += seconds_waited
