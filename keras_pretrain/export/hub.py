"""`push_to_hub`: uploads a saved folder to the Hugging Face Hub."""

import contextlib
import importlib.util
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import filter_repo_objects, validate_repo_id

from keras_pretrain.compat.huggingface_hub import ignored_by_uploads
from keras_pretrain.export.model_card import card_on_hub
from keras_pretrain.export.privacy import remove_paths
from keras_pretrain.folders import LOCK, MANIFEST, UNFINISHED, OwnedFolder

logger = logging.getLogger(__name__)

# These are not uploaded: files of a run that contain paths or names of this machine or text of the corpus, and
# unfinished files.
_NOT_UPLOADED = [
    "run/*", "*/run/*", "run-*/*", "*/run-*/*", "run.yaml", "*/run.yaml", "previews*.txt",
    "*/previews*.txt", "*events.out.tfevents.*", f"*{UNFINISHED}*", f"*{MANIFEST}", LOCK, f"*/{LOCK}",
    *ignored_by_uploads(),
]  # fmt: skip
_LARGE = 1 << 20  # bytes; files of at least this size are linked, not copied


class Snapshot(NamedTuple):
    """A folder as it was when `snapshot` was called.

    Attributes:
      origin: the folder.
      folder: a temporary folder with the files to upload.
      cards: those of the files that are model cards of this package and were not edited.
    """

    origin: Path
    folder: Path
    cards: list[str]


def push_to_hub(
    directory: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    message: str = "Upload model",
) -> str:
    """Upload a folder that `save_checkpoint` or `export_saved_model` wrote, in one commit.

    The repository is created if it does not exist. Files that it already has are not sent again, so a second call
    continues an upload that was interrupted. Files that are in the repository but not in the folder are kept, and the
    log names them. `HF_ENDPOINT`, set before Python starts, selects a server other than huggingface.co.

    The folder may be changed while the upload runs: the upload contains the files as they were at the call. The
    checkpoints of a run (`run/`), its record (`run.yaml`), its previews and its files for TensorBoard are not uploaded.
    Paths of this machine in `metrics.json` and the config files are left out, and model cards that you did not edit
    name the repository in their examples.

    Args:
      directory: the folder.
      repo_id: `"name"` or `"owner/name"`.
      private: whether a repository that is created now is private. Default: the owner's setting.
      token: a Hub token with write access. Default: the token of `hf auth login` or `HF_TOKEN`. Error messages never
        contain it.
      message: the commit message.

    Returns:
      The commit's URL.

    Raises:
      FileNotFoundError: no such folder, or no model in it.
      ValueError: the name is not valid on the Hub, the token has an invalid form, or the folder is a prepared corpus.
      PermissionError: no token, or one that the Hub refuses.
      ConnectionError: the Hub could not be reached, or failed.
    """
    with snapshot(directory) as taken:
        return upload(taken, repo_id, private=private, token=token, message=message)


@contextlib.contextmanager
def snapshot(directory: str | os.PathLike[str]) -> Iterator[Snapshot]:
    """Keep a copy of a folder as it is now, for an upload. The copy is deleted at the end of the block; after a kill,
    by the next process that writes to the folder.

    Large files that this package wrote are copied as hard links, which take no space. This is safe because the package
    replaces files and never writes into them. All other files are real copies.

    Raises:
      FileNotFoundError: no such folder, or nothing to upload in it.
    """
    directory = Path(directory).expanduser()
    files = (path.relative_to(directory).as_posix() for path in sorted(directory.rglob("*")) if path.is_file())
    names = list(filter_repo_objects(files, ignore_patterns=_NOT_UPLOADED))
    if not names:
        raise FileNotFoundError(f"There is nothing to upload in {directory}; kp.save_checkpoint writes such a folder.")
    owner = OwnedFolder(directory, "upload")
    if "preparation" in owner.writers:
        raise ValueError(
            f"{directory} is a prepared corpus, not a model. It is not uploaded, because it contains the texts."
        )
    if not any(Path(name).name in ("config.json", "saved_model.pb") for name in names):
        raise FileNotFoundError(f"There is no model in {directory}: no config.json and no saved_model.pb.")
    can_stage = os.access(directory, os.W_OK) and importlib.util.find_spec("fcntl")
    with owner.staging() if can_stage else tempfile.TemporaryDirectory() as stage:
        stage = Path(stage)
        for name in names:
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            _take(directory / name, stage / name, is_ours=owner.owns(name))
        cards = [name for name in names if name.endswith("README.md") and owner.owns(name)]
        for name in remove_paths(stage):
            logger.info("%s contains paths of this machine; they are removed from the uploaded copy.", directory / name)
        yield Snapshot(directory, stage, cards)


def upload(
    taken: Snapshot, repo_id: str, *, private: bool | None = None, token: str | None = None, message: str
) -> str:
    """Upload a snapshot. The other arguments, the result and the errors are those of `push_to_hub`."""
    token = check_target(repo_id, token)
    failure = None
    try:
        api = HfApi(token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        for name in taken.cards:
            card = taken.folder / name
            part = Path(name).parent.as_posix().removeprefix(".")
            card.write_text(card_on_hub(card.read_text(encoding="utf-8"), repo_id, part), encoding="utf-8")
        commit = api.upload_folder(repo_id=repo_id, folder_path=taken.folder, commit_message=message)
        _report_others(api, repo_id, taken)
    except (OSError, OfflineModeIsEnabled) as error:  # all errors of requests and of the Hub's client are OSErrors
        failure = _explain(error, repo_id, token)
    # Raised outside of `except`, so that the error is not chained to the client's error, whose request has the token in
    # its headers.
    if failure is not None:
        raise failure
    return commit.commit_url


def check_target(repo_id: str, token: str | None) -> str:
    """Check the repository's name and the token, before anything is sent. Returns the token to use.

    Raises:
      ValueError, PermissionError: as `push_to_hub`.
    """
    reason = None
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        reason = error
    if reason is not None:
        raise ValueError(f"repo_id must be a name such as 'owner/model': {reason}")
    token = token or get_token()
    if not token:
        raise PermissionError(
            "There is no token for the Hub: run `hf auth login`, set HF_TOKEN or pass a token. The token needs write "
            "access."
        )
    if not token.isascii() or any(character.isspace() for character in token):
        # Without this check, an HTTP library would show the token in its error.
        raise ValueError("The token has a space, a line break or another invalid character: copy it again.")
    return token


def _explain(error: Exception, repo_id: str, token: str) -> OSError:
    """Make an error that explains the client's error and does not contain the token."""
    reason = str(error).replace(token, "hf_…").strip()
    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else None
    if status in (401, 403):
        return PermissionError(
            f"The Hub refused the token for {repo_id} ({status}). The token needs write access to it: see "
            f"https://huggingface.co/settings/tokens. {reason}"
        )
    happened = f"failed with status {status}" if status else "could not be reached"
    return ConnectionError(
        f"The Hub {happened}, and {repo_id} is incomplete. Repeat the same call to upload the rest. {reason}"
    )


def _take(source: Path, target: Path, *, is_ours: bool) -> None:
    if is_ours and source.stat().st_size >= _LARGE and source.suffix not in (".json", ".md"):
        with contextlib.suppress(OSError):  # links fail between devices, and on file systems without links
            os.link(source, target)
            return
    shutil.copy(source, target)


def _report_others(api: HfApi, repo_id: str, taken: Snapshot) -> None:
    """Log the files that are in the repository but not in the folder."""
    sent = {path.relative_to(taken.folder).as_posix() for path in taken.folder.rglob("*")}
    with contextlib.suppress(OSError):  # an error here does not matter: the upload is complete
        others = sorted(set(api.list_repo_files(repo_id)) - sent - {".gitattributes"})
        if others:
            logger.info(
                "%s also has files that are not in %s. They are kept: %s.", repo_id, taken.origin, ", ".join(others)
            )
