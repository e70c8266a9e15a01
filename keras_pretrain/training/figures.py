"""`RunFigures`: adds the speed of a run, and the share of the time that it waits for data, to the logs."""

from time import perf_counter

import tf_keras

_NAMES = ("learning_rate", "tokens_per_second", "padding", "waiting")


class RunFigures(tf_keras.callbacks.Callback):
    """Adds metrics of the run's speed to the logs, for the callbacks after it: the progress bar, Keras' `History` and
    `CSVLogger`, `TensorBoard`. Put it first in the list of callbacks.

    - `learning_rate`: the rate of the last step;
    - `tokens_per_second`: tokens without padding per second of training steps (without validation and callbacks);
    - `padding`: the share of the positions that are padding;
    - `waiting`: the share of the time of the steps in which they wait for batches (see `InputMeter`).

    Except for the learning rate, values are averages over the current epoch. The first step of a `fit`, which includes
    compilation, is left out as soon as there is a second one.

    All except the learning rate need a model of this package and a `tf.data.Dataset`. With several replicas, the
    dataset must come from `to_tf_dataset`, and there is no `waiting`.

    After `fit`, `tokens_per_second` and `seconds_per_step` are averages over all steps except the first.
    """

    def __init__(self) -> None:
        super().__init__()
        self._all, self._epoch = _Span(), _Span()

    @property
    def seconds_per_step(self) -> float:
        return self._all.seconds / max(self._all.steps, 1)

    @property
    def tokens_per_second(self) -> float:
        return self._all.tokens / self._all.seconds if self._all.steps else 0.0

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._all, self._epoch = _Span(), _Span()
        self._is_compiled = False
        self._meter = getattr(self.model, "input_meter", None)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._epoch = _Span()
        self._replayed: dict[str, float] = {}

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._begun = perf_counter(), batch, self._meter.read() if self._meter else None

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        # Keras waits for the batch's metrics before it calls this, so the device has finished the step.
        begun, first_batch, before = self._begun
        seconds = perf_counter() - begun
        passed = [0.0] * 3
        if self._meter and before:
            passed = [now - then for now, then in zip(self._meter.read(), before, strict=True)]
        if before and not passed[1]:  # no batch was taken: a resumed run replays this step (`replay_step`)
            self._replayed = {name: value for name, value in self.model.replayed_logs.items() if name in _NAMES}
        else:
            self._count(seconds, batch + 1 - first_batch, passed)
        if logs is not None:
            logs.update(self._figures())

    def _count(self, seconds: float, steps: int, passed: list[float]) -> None:
        if self._is_compiled and not self._all.steps:
            self._epoch = _Span()
        self._epoch.add(seconds, steps, *passed)
        if self._is_compiled:
            self._all.add(seconds, steps, *passed)
        self._is_compiled = True

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if logs is not None:
            logs.update(self._figures())

    def _figures(self) -> dict[str, float]:
        figures = dict(self._replayed)
        figures["learning_rate"] = float(tf_keras.backend.get_value(self.model.optimizer.learning_rate))
        span = self._epoch
        if span.positions:
            figures["tokens_per_second"] = span.tokens / span.seconds
            figures["padding"] = 1 - span.tokens / span.positions
        if self._meter and span.positions and self._meter.measures_waiting:
            figures["waiting"] = min(1.0, max(0.0, span.seconds_waited / span.seconds))  # clocks can be set back
        return figures


class _Span:
    """Sums of times and counts over several steps."""

    def __init__(self) -> None:
        self.seconds = self.tokens = self.positions = self.seconds_waited = 0.0
        self.steps = 0

    def add(self, seconds: float, steps: int, tokens: float, positions: float, seconds_waited: float) -> None:
        self.seconds += seconds
        self.steps += steps
        self.tokens += tokens
        self.positions += positions
        self.seconds_waited += seconds_waited
