"""`LossWatch`: distinguishes a loss that explodes from one that only fluctuates."""

from collections import deque

import numpy as np

_WINDOW = 32  # steps


class LossWatch:
    """Follows the loss of a run, step by step, and detects when it has diverged.

    The level is the median of the losses of the last 32 steps. The loss has diverged if its level is above a bound. The
    bound is the highest of:

    - one and a half times the lowest level so far;
    - the middle between the lowest level and the first level of the run, so that the loss of a model that has nearly
      memorized its data may fluctuate;
    - the lowest level plus six times the standard deviation of the 32 losses that gave this level.

    The rule does not apply to the first 32 steps. A few steps with a high loss, for example from an outlier batch, do
    not change the median much, however high the loss is. Steps whose update loss scaling skips have normal losses, so
    they do not matter either. A loss that returns to its first level has diverged if it had decreased by more than a
    third before (and by more than six standard deviations). A loss that is NaN or infinite has diverged at once.
    """

    def __init__(self) -> None:
        self._window: deque[float] = deque(maxlen=_WINDOW)
        self._start: float | None = None
        self._lowest: float | None = None
        self._spread: float | None = None
        self._seen = (-1, 0.0)  # the last batch, and the mean loss from the start of its epoch up to this batch

    @property
    def bound(self) -> float:
        """The bound above which a loss is suspicious; infinite until there are losses to compare with."""
        if self._start is None or self._lowest is None or self._spread is None:
            return float("inf")
        return max(1.5 * self._lowest, (self._start + self._lowest) / 2, self._lowest + 6 * self._spread)

    @property
    def is_suspicious(self) -> bool:
        """Whether the last loss is above the bound or not a number, so that a run should not be resumed from this
        state."""
        return bool(self._window) and not self._window[-1] <= self.bound

    def see(self, batch: int, mean: float) -> str | None:
        """Record the loss of a batch and check it. Keras reports the mean over the epoch so far; the loss of the batch
        itself is computed from this mean and the previous one.

        Args:
          batch: the batch's number in the epoch, from 0; a call may cover several batches (`steps_per_execution`).
          mean: the mean of the epoch's losses up to this batch.

        Returns:
          The problem with the loss, as text, or `None`.
        """
        last, before = self._seen if batch > self._seen[0] else (-1, 0.0)  # else a new epoch has begun
        self._seen = batch, mean
        if not np.isfinite(mean):
            return f"The loss is {mean}"
        self._window.append(((batch + 1) * mean - (last + 1) * before) / (batch - last))
        if len(self._window) < _WINDOW:
            return None
        level = float(np.median(self._window))
        if level > self.bound:
            return f"The loss has exploded: it is {level:.4g}, was {self._lowest:.4g} at its lowest"
        if self._lowest is None or level < self._lowest:
            self._start = level if self._start is None else self._start
            self._lowest, self._spread = level, float(np.std(self._window))
        return None

    def state(self) -> dict:
        """Return the state as JSON values."""
        return {"window": list(self._window), "levels": [self._start, self._lowest, self._spread], "seen": self._seen}

    def restore(self, state: dict) -> None:
        """Restore what `state` returned."""
        self._window.extend(state["window"])
        self._start, self._lowest, self._spread = state["levels"]
        self._seen = tuple(state["seen"])
