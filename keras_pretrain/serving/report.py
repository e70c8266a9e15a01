"""`report_run`: reports the progress of a run from the files that it writes."""

import json
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_pretrain.export.privacy import public_metrics
from keras_pretrain.runs.metrics import METRICS, as_json
from keras_pretrain.runs.recipes import curves_file
from keras_pretrain.runs.settings import RECORD, Phase, PretrainingSettings, Settings, read_yaml
from keras_pretrain.serving.contents import HISTORY, read_record, seed_histories
from keras_pretrain.training.curves import panels_of, read_history
from keras_pretrain.training.previews import read_previews

_PREVIEWS = 3  # number of previews to show
_SPEED = ("tokens_per_second", "padding", "waiting", "learning_rate")


def report_run(folder: Path, *, is_public: bool = False) -> dict[str, Any]:
    """Return what the page shows of a run, as JSON values.

    Args:
      folder: the folder of the run.
      is_public: whether to leave out private settings, such as paths and names of this machine.

    Returns:
      A dictionary with these keys:

      - `kind`: the kind of run in its record; `None` without a record;
      - `step`, `steps`: the steps done, and the steps of the whole run (`None` if no record states them). For a
        fine-tuning, `step` is the step of the seed whose history was written last;
      - `panels`: a list of `{title, series}`. Each of the `series` has a `name` and `points`, `(step, value)`;
      - `recipe`: the name of the run's recipe;
      - `reference`: for each curve of the recipe, its points;
      - `speed`: the last values of the metrics that `RunFigures` adds to the logs;
      - `seconds_left`: the time left at the pace so far;
      - `seconds_since`: the time since the last row of the history was written;
      - `previews`: the last previews, the latest first;
      - `metrics`: the final metrics of a finished run;
      - `settings`: the settings of the run.
    """
    settings = read_record(folder)
    phases = settings.plan() if isinstance(settings, PretrainingSettings) and settings.steps else []
    parts = [phase.name for phase in phases] or _parts(folder)
    seeds = {} if isinstance(settings, PretrainingSettings) else seed_histories(folder)
    history = _read_seeds(seeds) if seeds else _read_phases(folder, parts, phases)
    panels = _panels_of_seeds(history.curves) if seeds else panels_of(history.curves)
    steps = sum(phase.steps for phase in phases) if phases else None
    left = steps - history.step if steps else 0
    since = None if history.written is None else max(0.0, time.time() - history.written)
    shown = {} if settings is None else settings.public() if is_public else read_yaml(folder / RECORD)
    return as_json(
        {
            "kind": None if settings is None else settings.kind,
            "step": history.step,
            "steps": steps,
            "panels": [
                {"title": title, "series": [{"name": name, "points": history.curves[name]} for name in names]}
                for title, names in panels.items()
            ],
            "recipe": getattr(settings, "recipe", None),
            "reference": _reference(settings),
            "speed": history.speed,
            "seconds_left": None if not left or since is None else history.seconds_left(folder, left, since),
            "seconds_since": since,
            "previews": [{"step": at, "text": text} for at, text in _previews(folder, parts)],
            "metrics": {} if left else _metrics(folder),
            "settings": {name: value for name, value in shown.items() if value is not None and name != "kind"},
        }
    )


@dataclass
class _History:
    """The histories of all phases (or seeds), joined.

    Attributes:
      curves: the points `(step, value)` of each column.
      step: the steps done.
      phase: the current or last phase; `None` if the record has no phases.
      phase_step: the steps done in this phase.
      written: the time at which the last history was written, in seconds since the epoch.
    """

    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    step: int = 0
    phase: Phase | None = None
    phase_step: int = 0
    written: float | None = None

    @property
    def speed(self) -> dict[str, float]:
        return {name: self.curves[name][-1][1] for name in _SPEED if name in self.curves}

    def seconds_left(self, folder: Path, steps: int, since: float) -> float | None:
        """Estimate the time left from the larger of two estimates of the seconds per step.

        The first comes from `tokens_per_second`, which covers training steps only. The second is the time since the
        record was written, divided by the steps of the phase. The record is written whenever a phase starts or is
        resumed, so after a resume the second estimate is too small: it also counts the steps before the resume.

        Args:
          folder: the folder of the run.
          steps: the number of steps left.
          since: the seconds since the history was written.
        """
        if self.phase is None or self.written is None or not self.phase_step:
            return None
        speed = self.speed
        positions = self.phase.batch_size * self.phase.block_size
        tokens = positions * (1 - speed.get("padding", 0.0))
        in_steps = tokens / speed["tokens_per_second"] if speed.get("tokens_per_second") else 0.0
        by_clock = (self.written - (folder / RECORD).stat().st_mtime) / self.phase_step
        return max(0.0, steps * max(in_steps, by_clock) - since)


def _parts(folder: Path) -> list[str]:
    """For a run without a record, the suffixes that its phases append to the names of their files."""
    return sorted(file.stem.removeprefix("history") for file in folder.glob(HISTORY.format("*")))


def _read_phases(folder: Path, parts: list[str], phases: list[Phase]) -> _History:
    joined, begun = _History(), 0
    for number, part in enumerate(parts):
        file = folder / HISTORY.format(part)
        try:
            curves, step, joined.written = *_read_curves(file, begun), file.stat().st_mtime
        except (FileNotFoundError, ValueError):  # the phase has not started, or the file is not a history
            break
        for name, points in curves.items():
            joined.curves.setdefault(name, []).extend(points)
        joined.phase_step, joined.step = step, begun + step
        joined.phase = phases[number] if phases else None
        begun += phases[number].steps if phases else step
    return joined


def _read_seeds(seeds: dict[int, Path]) -> _History:
    """Join the histories of the seeds of a fine-tuning, with separate curves for each seed."""
    shown = _History()
    for seed, file in seeds.items():
        try:
            curves, step, written = *_read_curves(file), file.stat().st_mtime
        except (FileNotFoundError, ValueError):  # a new run deleted the file, or it is not a history
            continue
        shown.curves |= {f"{name}, seed {seed}": points for name, points in curves.items()}
        if shown.written is None or written >= shown.written:
            shown.step, shown.written = step, written
    return shown


def _panels_of_seeds(curves: Iterable[str]) -> dict[str, list[str]]:
    """Like `panels_of`, but with a panel for each metric, because the colours distinguish the seeds."""
    panels: dict[str, list[str]] = {"loss": []}  # so that "loss" is the first panel
    for name in curves:
        panels.setdefault(name.removeprefix("val_").rpartition(", seed ")[0], []).append(name)
    return {title: names for title, names in panels.items() if names}


def _read_curves(file: Path, begun: int = 0) -> tuple[dict[str, list[tuple[float, float]]], int]:
    """Return the finite points of each column of a history, and the last step in the file. `begun` is added to the
    steps of the points, but not to the last step."""
    table = read_history(file)
    steps = [int(step or 0) for step in table.pop("step")]
    curves: dict[str, list[tuple[float, float]]] = {}
    for name, values in table.items():
        points = [(begun + step, value) for step, value in zip(steps, values, strict=True) if value is not None]
        curves[name] = [point for point in points if math.isfinite(point[1])]
    return {name: points for name, points in curves.items() if points}, steps[-1]


def _reference(settings: Settings | None) -> dict[str, list[tuple[float, float]]]:
    """The curves of a run's recipe over all phases, without steps beyond the end of the run's phases."""
    curves: dict[str, list[tuple[float, float]]] = {}
    if not isinstance(settings, PretrainingSettings) or not settings.recipe:
        return curves
    begun = 0
    for phase in settings.plan() if settings.steps else ():
        if file := curves_file(settings.recipe, phase.name):
            for name, points in _read_curves(file, begun)[0].items():
                within = [point for point in points if point[0] <= begun + phase.steps]
                curves.setdefault(name, []).extend(within)
        begun += phase.steps
    return curves


def _previews(folder: Path, parts: list[str]) -> list[tuple[int, str]]:
    looks = [look for part in parts for look in read_previews(folder / f"previews{part}.txt")]
    return looks[: -_PREVIEWS - 1 : -1]


def _metrics(folder: Path) -> dict[str, float]:
    """The numbers in the `metrics.json` of a finished run; empty if there is no such file."""
    try:
        metrics = public_metrics(json.loads((folder / METRICS).read_text(encoding="utf-8")))
        return {
            name: value for name, value in metrics.items() if isinstance(value, (int, float)) and "seed" not in name
        }
    except (FileNotFoundError, ValueError, AttributeError):
        return {}
