"""`Progress`: shows Keras' progress bar in a terminal, and lines elsewhere."""

import shutil
import sys
from time import perf_counter
from typing import Any

import numpy as np

from keras_pretrain.compat.tf_keras import TextProgressBar

# Short names of metrics for the bar, and the formats of their values.
_WRITTEN = {
    "learning_rate": ("lr", "{:.2e}"),
    "tokens_per_second": ("tokens/s", "{:,.0f}"),
    "padding": ("padding", "{:.0%}"),
    "waiting": ("waiting", "{:.0%}"),
}
_TIMES = 22  # columns to reserve for Keras' " - ETA: 12:34:56" or " - 1234s 1234ms/step"


class Progress(TextProgressBar):
    """Shows the progress of a run, as a bar or as lines. It replaces Keras' own bar.

    A terminal shows Keras' bar with as many metrics as fit into one line; the loss, the metrics of `RunFigures` and
    accuracies come first. Above each epoch are the steps done and the time left, and below it the other metrics.
    Other outputs, such as a file, show a line from time to time and one for each epoch, without control characters:

        step 1,200 of 20,000 - 6:16:00 left - loss: 6.1234 - lr: 4.80e-04 - tokens/s: 12,345 - padding: 12% - ...

    The time left is extrapolated from the pace since the start of `fit`, including validation and everything else.

    Args:
      every_seconds: seconds between two lines. The first line comes after the first step, which compiles.
      live: a bar (`True`) or lines (`False`). Default: a bar in a terminal or notebook.

    Raises:
      ValueError: every_seconds is not above 0.
    """

    def __init__(self, *, every_seconds: float = 60.0, live: bool | None = None) -> None:
        super().__init__()
        if every_seconds <= 0:
            raise ValueError(f"every_seconds must be above 0, not {every_seconds}.")
        self.every_seconds = every_seconds
        self.live = sys.stdout.isatty() or "ipykernel" in sys.modules if live is None else live

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        super().on_train_begin(logs)
        self._first_step: int | None = None
        self._said_at: float | None = None
        self._has_validated = False

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        super().on_test_begin(logs)
        if self.is_in_fit and self.live and self.verbose == 1 and not self._has_validated:
            self._has_validated = True
            print(flush=True)  # the first validation logs that it compiles; this must not be in the line of the bar

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._epoch = epoch
        self.start_bar()
        if self.verbose == 1 and self.live:
            header = [f"Epoch {epoch + 1}/{self.epochs}", *self._place(epoch * (self.target or 0))]
            print(_fitting(header, _columns()), flush=True)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        now, step = perf_counter(), self._epoch * (self.target or 0) + batch + 1
        if self._first_step is None:  # the first step compiles, so measure the pace from its end
            self._first_step, self._begun = step, now
        if self.live or self.verbose != 1:
            super().on_train_batch_end(batch, logs)
            return
        self.seen = batch + 1
        if self._said_at is None or now - self._said_at >= self.every_seconds:
            self._said_at = now
            print(_fitting([*self._place(step), *(text for _, text in _written(logs or {}))], _columns()), flush=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self.verbose != 1 or self.live:
            super().on_epoch_end(epoch, logs)
            return
        self._said_at = perf_counter()
        self.target = self.target or self.seen  # in the first epoch, Keras may not know the length
        figures = [_text(name, value) for name, value in (logs or {}).items()]
        print(
            " - ".join([f"epoch {epoch + 1} of {self.epochs}", *self._place((epoch + 1) * self.target), *figures]),
            flush=True,
        )

    def show_step(self, logs: dict) -> None:
        self.draw(self._chosen_texts(logs))

    def show_epoch(self, logs: dict) -> None:
        shown = self._chosen_texts(logs)
        self.draw(shown, is_last=True)
        rest = [text for _, text in _written(logs) if text.split(": ")[0] not in shown]
        while rest:
            line = _fitting(rest, _columns() - 2)
            rest = rest[line.count(" - ") + 1 :]
            print(f"  {line}")

    def _chosen_texts(self, logs: dict) -> dict[str, str]:
        """Set the bar's width, and return the metrics that fit into its line, `{label: value}`."""
        columns = _columns()
        self.progbar.width = 30 if columns >= 100 else 10
        count = len(str(self.target or 0))
        left = columns - (2 * count + self.progbar.width + 4) - _TIMES
        chosen = {}
        for _, text in _written(logs):
            if len(text) + 3 <= left:
                left -= len(text) + 3
                label, value = text.split(": ")
                chosen[label] = value
        return chosen

    def _place(self, step: int) -> list[str]:
        """Texts for the steps done and the time left, as far as they are known."""
        if not self.target:
            return [f"step {step:,}"] if step else []
        total = self.epochs * self.target
        texts = [f"step {step:,} of {total:,}"]
        if self._first_step is not None and step > self._first_step:
            pace = (perf_counter() - self._begun) / (step - self._first_step)
            texts.append(f"{format_duration(pace * (total - step))} left")
        return texts


def _columns() -> int:
    return shutil.get_terminal_size((160, 24)).columns - 1  # a full line would wrap in some terminals


def _fitting(texts: list[str], columns: int) -> str:
    """Join as many of the texts as fit into the columns, but at least one."""
    line = texts[0]
    for text in texts[1:]:
        if len(line) + 3 + len(text) > columns:
            break
        line += f" - {text}"
    return line


def _written(logs: dict) -> list[tuple[str, str]]:
    """The name and text of each metric, the most important first."""

    def rank(name: str) -> int:
        if name.startswith("val_"):
            return 4
        if name == "loss":
            return 0
        if name in _WRITTEN:
            return 1
        return 2 if name.endswith("accuracy") else 3

    return [(name, _text(name, logs[name])) for name in sorted(logs, key=rank)]


def _text(name: str, value: Any) -> str:
    number = float(np.mean(value))
    label, form = _WRITTEN.get(name, (name, "{:.4f}" if abs(number) > 1e-3 or number == 0 else "{:.4e}"))
    return f"{label}: {form.format(number)}"


def format_duration(seconds: float) -> str:
    """Format a duration: 183,845 s as `2 days 3:04:05`, 245 s as `4:05`."""
    days, rest = divmod(round(seconds), 86_400)
    hours, rest = divmod(rest, 3600)
    clock = f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours or days else f"{rest // 60}:{rest % 60:02d}"
    return clock if not days else f"{days} {'day' if days == 1 else 'days'} {clock}"
