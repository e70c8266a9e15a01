"""`AdaptationRun`: continues the pretraining of a checkpoint on other text, and compares the model before and after."""

import logging
import math
import time
from pathlib import Path

from datasets import DatasetDict

from keras_pretrain.evaluation import evaluate_mlm
from keras_pretrain.finetuning import finetune, load_examples
from keras_pretrain.finetuning.metrics import require_metrics
from keras_pretrain.models.vocabulary import add_tokens
from keras_pretrain.runs.run import Run
from keras_pretrain.runs.settings import AdaptSettings
from keras_pretrain.training.forecast import Pace
from keras_pretrain.wordpieces import find_new_tokens

logger = logging.getLogger(__name__)


class AdaptationRun(Run):
    """Like `Run`, but for an `AdaptSettings`. `metrics.json` also compares the model `before` the adaptation and
    `adapted`: by MLM on the validation split, at the same positions if no tokens were added, and, if there are labelled
    texts, by a classifier trained on each of the two."""

    settings: AdaptSettings

    def __init__(self, settings: AdaptSettings, *, begun: float | None = None) -> None:
        super().__init__(settings, begun=begun)
        self._task = self._load_task() if settings.task_train else None
        self._words: list[str] = []
        self.comparison: dict[str, dict] = {}

    def _load_task(self) -> DatasetDict:
        settings = self.settings
        require_metrics()
        return load_examples(
            settings.task_train,
            validation=settings.task_held_out,
            text_column=settings.task_text_column,
            label_column=settings.task_label_column,
            group_column=settings.task_group_column,
            keep_labels=settings.task_keep_labels,
            seed=settings.seed,
        )

    def _change_tokenizer(self) -> None:
        settings = self.settings
        begun = time.perf_counter()
        self.comparison["before"] = self._evaluate(settings.model) | self._judge(settings.model, "before")
        self._seconds_of_comparison = time.perf_counter() - begun  # the second evaluation will take as long
        if settings.add_tokens:
            self._words = settings.add_tokens.read_text(encoding="utf-8").splitlines()
        if settings.new_tokens:
            self._words = find_new_tokens(self.sentences["train"], self.tokenizer, count=settings.new_tokens)
            logger.info("New wordpieces: %s ...", " ".join(self._words[:12]))
        if self._words:
            with self.strategy.scope():
                words = [word for word in self._words if word.strip()]
                self.tokenizer = add_tokens(self.model, self.tokenizer, words)

    def _seconds_to_finish(self, pace: Pace) -> float:
        return super()._seconds_to_finish(pace) + self._seconds_of_comparison

    def save(self, figures: dict) -> None:
        super().save(figures)  # saves before the second evaluation, which takes a while
        adapted = self._evaluate(self.output) | self._judge(self.output, f"adapted-{self.settings.steps}")
        self.comparison["adapted"] = adapted
        super().save(figures | self.comparison)
        logger.info("%s", self.table())
        if self._words:
            logger.info("The tokenizer has new words, so the gaps are not the same: compare loss_per_character.")

    def _evaluate(self, checkpoint: str | Path) -> dict[str, float]:
        block_size, lines = self.settings.shapes[0][0], self.settings.line_by_line
        return evaluate_mlm(checkpoint, self.sentences["validation"], block_size=block_size, line_by_line=lines)

    def _judge(self, checkpoint: str | Path, name: str) -> dict[str, dict]:
        """Fine-tune a checkpoint on the task. After a kill, finished seeds are not trained again."""
        settings = self.settings
        if self._task is None:
            return {}
        logger.info("The task on the model %s:", name.partition("-")[0])
        tuned = finetune(
            checkpoint,
            self._task["train"],
            self._task["validation"],
            epochs=settings.task_epochs,
            seeds=range(settings.seed, settings.seed + settings.task_seeds),
            directory=self.output / f"run-task-{name}",
            resume=settings.resume,
            verbose=2,
        )
        return {f"task_{name}": each for name, each in tuned.metrics.items()}

    def table(self) -> str:
        """The metrics before and after, as text."""
        lines = [f"\n{'':24}{'before':>16}{'adapted':>16}"]
        before, adapted = self.comparison["before"], self.comparison["adapted"]
        for name in before | adapted:  # the model may have more metrics after tokens were added
            cells = [each.get(name, math.nan) for each in (before, adapted)]
            texts = (f"{c['mean']:.3f} ± {c['std']:.3f}" if isinstance(c, dict) else f"{c:,.4g}" for c in cells)
            lines.append(f"{name:24}" + "".join(f"{text:>16}" for text in texts))
        return "\n".join(lines)
