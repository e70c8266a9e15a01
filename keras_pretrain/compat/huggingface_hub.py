"""Undocumented names of huggingface_hub (0.36)."""

from huggingface_hub import utils


def ignored_by_uploads() -> list[str]:
    """Patterns of files that `upload_folder` never uploads, such as `".git/*"`."""
    return list(utils.DEFAULT_IGNORE_PATTERNS)
