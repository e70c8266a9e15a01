"""Checks that the output of a preparation would not be read as part of its source, and does not contain the source."""

import fnmatch
import glob
import os
from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset

from keras_pretrain.corpus.loading import Source, source_folders
from keras_pretrain.folders import LOCK, MANIFEST


def refuse_overlap(
    source: Source,
    found: list[Path] | dict[str, Dataset],
    directory: Path,
    folders: Sequence[str],
    files: Sequence[str],
) -> None:
    """Raise an error if source and output share a file, now or after the output is written, also through links.

    Args:
      source, found: the source as the user gave it, and the result of `find_source` for it.
      directory, folders, files: the output, its sub-folders and its files (for sub-folders, example files).
    """
    directory = Path(os.path.realpath(directory))
    places = [Path(os.path.realpath(directory / name)) for name in (*folders, *files, MANIFEST, LOCK)]
    if not isinstance(found, list):
        parts = (part for part in found.values() if isinstance(part, Dataset))
        found = [file["filename"] for part in parts for file in part.cache_files]
    for path in found:
        real = Path(os.path.realpath(path))
        if any(real == place or place in real.parents for place in places):
            raise ValueError(
                f"The source file {path} could be overwritten: the output {directory} has files in the same place. "
                "Choose an output folder that does not contain the source."
            )
    if not isinstance(source, (str, os.PathLike)):
        return
    pattern = os.path.expanduser(os.fspath(source))
    if os.path.isdir(pattern):
        for folder in source_folders(Path(pattern)):
            real = Path(os.path.realpath(folder))
            if directory == real or real in directory.parents:
                raise ValueError(
                    f"The output {directory} lies in the source folder {folder}, so that it would be read as a part of "
                    "the source. Choose an output folder outside of it."
                )
    elif glob.has_magic(pattern):
        for name in (*files, MANIFEST):
            if would_match(pattern, directory / name):
                raise ValueError(
                    f"The glob {source} would match {directory / name}, a file of the output, and read it as a part of "
                    "the source. Choose an output folder whose files it does not match."
                )


def would_match(pattern: str, target: Path) -> bool:
    """Whether a recursive `glob.glob` of `pattern` would find `target`, a path without links, if it existed."""
    root, *parts = Path(os.path.abspath(pattern)).parts
    for count in range(len(parts) + 1):
        # Find the folders that match the first `count` parts, also through links, and match the other parts below them.
        folders = glob.glob(os.path.join(root, *parts[:count], ""), recursive=True) if count else [root]
        for folder in folders:
            real = Path(os.path.realpath(folder))
            if real in target.parents and _match(parts[count:], target.relative_to(real).parts):
                return True
    return False


def _match(patterns: Sequence[str], names: Sequence[str]) -> bool:
    if not patterns:
        return not names
    first, *rest = patterns
    if first == "**":
        hidden = next((i for i, name in enumerate(names) if name.startswith(".")), len(names))
        return any(_match(rest, names[i:]) for i in range(hidden + 1)) or (not rest and hidden == len(names))
    if not names or (names[0].startswith(".") and not first.startswith(".")):
        return False
    return fnmatch.fnmatchcase(names[0], first) and _match(rest, names[1:])
