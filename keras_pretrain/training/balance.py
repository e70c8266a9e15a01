"""`BalanceWatch`: warns if one of the two networks of an ELECTRA is too good for the other."""

import logging

import tf_keras

logger = logging.getLogger(__name__)

_LEAST_AUC = 0.55  # 0.5 is chance
_MOST_ORIGINAL = 0.75  # the share of the chosen tokens for which the generator may draw the original


class BalanceWatch(tf_keras.callbacks.Callback):
    """Warns after a validation in the second half of a `fit`, at most once for each of two problems:

    - The generator is too good: it draws the original for more than three quarters of the chosen tokens, so that the
      discriminator has almost nothing to find.
    - The discriminator is no better than one that calls every token original: the AUC of "replaced" is below 0.55.

    Args:
      steps: number of steps of the `fit`.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self._reported: set[str] = set()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        logs = logs or {}
        if (epoch + 1) * (self.params["steps"] or 0) < self.steps / 2:
            return
        original, auc = logs.get("val_sampled_original"), logs.get("val_disc_auc")
        if original is not None and original > _MOST_ORIGINAL:
            self._report(
                "val_sampled_original",
                f"val_sampled_original is {original:.2f}: the generator restores most tokens, and few are left for the "
                "discriminator to find. Mask more tokens (mask_prob), or make the generator smaller (in Python).",
            )
        if auc is not None and auc < _LEAST_AUC:
            self._report(
                "val_disc_auc",
                f"val_disc_auc is {auc:.2f}: the discriminator is hardly better than one that calls every token "
                "original. Train for more steps, or with half of the learning_rate.",
            )

    def _report(self, metric: str, text: str) -> None:
        if metric not in self._reported:
            self._reported.add(metric)
            logger.warning("%s", text)
