"""`PushToHub`: uploads the model of a run to the Hub while it trains."""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import tf_keras
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from transformers import PreTrainedTokenizerBase

from keras_pretrain.export.checkpoint import require_writable, save_checkpoint
from keras_pretrain.export.hub import Snapshot, check_target, snapshot, upload
from keras_pretrain.models.pretraining import require_vocabulary

logger = logging.getLogger(__name__)


class PushToHub(tf_keras.callbacks.Callback):
    """Saves the model at the end of epochs and uploads it in the background.

    Until its end, training never waits for an upload. No failed upload ends the training. If an upload is still running
    at the end of an epoch, that epoch is skipped. If an upload fails, the log has a warning, and a new upload
    starts at the next epoch that is due for one. At the end of training, `fit` uploads the last model and waits for it,
    for at most `wait_seconds`.

        model.fit(train, epochs=10, callbacks=[kp.callbacks.PushToHub("my_bert", tokenizer, "me/my_bert")])

    The token is never written to a log, message or file.

    Args:
      directory: the folder to which `save_checkpoint` writes the model, and from which it is uploaded.
      tokenizer: the model's tokenizer.
      repo_id: `"name"` or `"owner/name"`; created if it does not exist.
      private, token: as for `push_to_hub`.
      every_epochs: epochs between two uploads.
      wait_seconds: maximum time to wait at the end of training for unfinished uploads.
      tries: maximum number of tries for the upload of the last model.
      retry_seconds: seconds between two tries.
      overwrite: as for `save_checkpoint`.

    Raises:
      ValueError, PermissionError: at once, if the name is not valid on the Hub, or there is no token. At the start of
        `fit`, if the tokenizer is not the model's.
      FileExistsError: as `save_checkpoint`, at the start of `fit`.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        tokenizer: PreTrainedTokenizerBase,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        every_epochs: int = 1,
        wait_seconds: float = 600.0,
        tries: int = 3,
        retry_seconds: float = 10.0,
        overwrite: bool = False,
    ) -> None:
        super().__init__()
        if every_epochs < 1 or tries < 1:
            raise ValueError(f"every_epochs and tries must be at least 1, not {every_epochs} and {tries}.")
        self.directory = Path(directory)
        self.tokenizer = tokenizer
        self.repo_id = repo_id
        self.every_epochs = every_epochs
        self.wait_seconds = wait_seconds
        self.tries = tries
        self.retry_seconds = retry_seconds
        self.overwrite = overwrite
        self.url: str | None = None  # the URL of the last commit
        self._private, self._token = private, check_target(repo_id, token)
        self._upload: threading.Thread | None = None
        self._uploaded_step: int | None = None

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        require_vocabulary(self.model.config, self.tokenizer)  # here, so that an error comes before the first epoch
        require_writable(self.directory, overwrite=self.overwrite)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if (epoch + 1) % self.every_epochs == 0 and not self._is_uploading():
            self._start(f"Epoch {epoch + 1}")

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        deadline = monotonic() + self.wait_seconds
        self._wait(deadline)
        for number in range(self.tries):
            if self._is_uploading() or self._uploaded_step == self._step():
                break
            if number:
                sleep(max(0.0, min(self.retry_seconds, deadline - monotonic())))
            self._start("End of training")
            self._wait(deadline)
        if self._uploaded_step != self._step():
            logger.warning(
                "The last model is not on the Hub%s. It is in %s: kp.push_to_hub(%r, %r) uploads it.",
                " yet" if self._is_uploading() else "", self.directory, str(self.directory), self.repo_id,
            )  # fmt: skip

    def _step(self) -> int:
        return int(tf_keras.backend.get_value(self.model.optimizer.iterations))

    def _is_uploading(self) -> bool:
        return self._upload is not None and self._upload.is_alive()

    def _wait(self, deadline: float) -> None:
        if self._upload is not None:
            self._upload.join(max(0.0, deadline - monotonic()))

    def _start(self, message: str) -> None:
        """Save the model and keep a snapshot of the folder while training pauses; upload the snapshot in a thread."""
        kept = contextlib.ExitStack()
        try:
            save_checkpoint(self.model, self.tokenizer, self.directory, overwrite=self.overwrite)
            taken = kept.enter_context(snapshot(self.directory))
        except OSError as error:
            logger.warning("The model could not be saved for the Hub: %s.", error)
            return
        # A daemon thread, because an upload that hangs must not keep the process from ending.
        self._upload = threading.Thread(target=self._push, args=(kept, taken, message, self._step()), daemon=True)
        self._upload.start()

    def _push(self, kept: contextlib.ExitStack, taken: Snapshot, message: str, step: int) -> None:
        try:
            with kept, _no_progress_bars():
                self.url = upload(
                    taken, self.repo_id, private=self._private, token=self._token, message=f"{message}, step {step}"
                )
            self._uploaded_step = step
        except Exception as error:  # training continues after any error
            reason = str(error).replace(self._token, "hf_…")
            logger.warning("The upload of step %d to %s failed and is tried again: %s", step, self.repo_id, reason)


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Turn off the client's progress bars, which would be mixed with Keras' bar."""
    were_on = not are_progress_bars_disabled()
    if were_on:
        disable_progress_bars()
    try:
        yield
    finally:
        if were_on:
            enable_progress_bars()
