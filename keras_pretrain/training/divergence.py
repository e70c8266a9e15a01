"""`LossWatch`: tells a loss that explodes from one that is only restless."""

from collections import deque

import numpy as np

_WINDOW = 32  # steps


class LossWatch:
    """Follows the losses of a run, step by step, and finds out when they are lost for good.

    The rule: of the last 32 steps, at least half lie above a bound, which is the highest of three:

    - one and a half times the lowest level so far, the level being the median of 32 steps' losses;
    - half-way back from the lowest level to the level that the run began with, so that a model that has nearly learned
      its data by heart may be restless;
    - six standard deviations of the losses around the lowest level above it.

    Nothing is judged in the first 32 steps. A few steps with a high loss, such as an outlier among the batches, do not
    count, whatever their height; nor do steps that a loss scale leaves out, whose losses are as good as others. A loss
    that falls back to where it began counts where it had come down by a third. A loss that is no number, or infinite,
    is lost at once.
    """

    def __init__(self) -> None:
        self._window: deque[float] = deque(maxlen=_WINDOW)
        self._start: float | None = None
        self._lowest: float | None = None
        self._spread: float | None = None
        self._seen = (-1, 0.0)  # the last batch of the epoch that was seen, and Keras' mean up to it

    @property
    def bound(self) -> float:
        """Above it a loss is suspicious; infinite until there is something to compare with."""
        if self._start is None or self._lowest is None or self._spread is None:
            return float("inf")
        return max(1.5 * self._lowest, (self._start + self._lowest) / 2, self._lowest + 6 * self._spread)

    @property
    def is_suspicious(self) -> bool:
        """Whether the last loss is above the bound, or none: no state to go on from."""
        return bool(self._window) and not self._window[-1] <= self.bound

    def see(self, batch: int, mean: float) -> str | None:
        """Take Keras' mean loss of an epoch up to a batch.

        Args:
          batch: counted from 0 in the epoch; a call may have several batches (`steps_per_execution`).
          mean: of the epoch's losses up to this batch.

        Returns:
          What is wrong with the loss, or `None`.
        """
        last, before = self._seen if batch > self._seen[0] else (-1, 0.0)  # an epoch begins anew
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
        """For JSON."""
        return {"window": list(self._window), "levels": [self._start, self._lowest, self._spread], "seen": self._seen}

    def restore(self, state: dict) -> None:
        """Take up what `state` gave."""
        self._window.extend(state["window"])
        self._start, self._lowest, self._spread = state["levels"]
        self._seen = tuple(state["seen"])
