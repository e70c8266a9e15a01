"""`push_to_hub`: a saved folder → the Hugging Face Hub."""

import os
from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id

from keras_pretrain.folders import LOCK, MANIFEST, UNFINISHED

# What a run leaves beside its model, and what was not finished.
_NOT_UPLOADED = ["run/*", "run-*/*", f"*{UNFINISHED}*", f"*{MANIFEST}", LOCK, f"*/{LOCK}"]


def push_to_hub(
    directory: str | os.PathLike,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    message: str = "Upload model",
) -> str:
    """Upload a folder, such as `save_checkpoint` or `export_saved_model` wrote, in one commit.

    The repository is made where it is missing. What it has already is not sent again: after an upload that was cut
    off, another goes on with the files that are left. The checkpoints of a run (`run/`) stay at home. `HF_ENDPOINT`,
    set before Python starts, names another server than huggingface.co.

    Args:
      directory: the folder.
      repo_id: `"name"` or `"owner/name"`.
      private: whether a repository that is made now is; by default the owner's setting.
      token: of the Hub, with the right to write; by default that of `hf auth login` or `HF_TOKEN`. It is in no message
        of the errors raised here.
      message: of the commit.

    Returns:
      The commit's URL.

    Raises:
      FileNotFoundError: no such folder, or nothing in it.
      ValueError: a name that the Hub does not take, or a token that cannot be one.
      PermissionError: no token, or one that the Hub refuses.
      ConnectionError: the Hub could not be reached, or failed.
    """
    directory = Path(directory)
    if not directory.is_dir() or not any(directory.iterdir()):
        raise FileNotFoundError(f"There is nothing to upload in {directory}; kp.save_checkpoint writes such a folder.")
    token = check_target(repo_id, token)
    failure = None
    try:
        api = HfApi(token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        commit = api.upload_folder(
            repo_id=repo_id, folder_path=directory, commit_message=message, ignore_patterns=_NOT_UPLOADED
        )
    except (OSError, OfflineModeIsEnabled) as error:  # all of requests' and the Hub's errors are OSErrors
        failure = _explain(error, repo_id, token)
    # Outside of `except`: the error that is raised carries no other, whose request would have the token in its headers.
    if failure is not None:
        raise failure
    return commit.commit_url


def check_target(repo_id: str, token: str | None) -> str:
    """The token to use, before anything is sent.

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
            "There is no token for the Hub: run `hf auth login`, set HF_TOKEN, or give token=…, one with the right to "
            "write."
        )
    if not token.isascii() or any(character.isspace() for character in token):
        # An HTTP library would quote it in its error.
        raise ValueError("The token has a space, a line break or another character that no token has; copy it again.")
    return token


def _explain(error: Exception, repo_id: str, token: str) -> OSError:
    """What happened, without the token."""
    reason = str(error).replace(token, "hf_…").strip()
    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else None
    if status in (401, 403):
        return PermissionError(
            f"The Hub refused the token for {repo_id} ({status}). It needs the right to write there: see "
            f"https://huggingface.co/settings/tokens. {reason}"
        )
    happened = f"failed with status {status}" if status else "could not be reached"
    return ConnectionError(
        f"The Hub {happened}, and {repo_id} is not complete. The same call again sends what is missing. {reason}"
    )
