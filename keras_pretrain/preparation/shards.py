"""Shards: Arrow files that hold one table each, with counts in the metadata. A shard is never half written."""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from tqdm.auto import tqdm

from keras_pretrain.folders import OwnedFolder, seal

_FIGURES = b"keras_pretrain"


class Result(NamedTuple):
    """The result of a stage for a block."""

    name: str  # the shard's path, relative to the folder
    figures: dict  # the counts stored when it was made
    stamp: list | None  # identifies the content of a new shard in the staging folder; None if it existed already


@dataclass(frozen=True)
class Shelf:
    """The place of a stage's shards; any process can write to it."""

    root: Path
    stage: Path  # the staging folder, from which `collect` moves new shards to their places
    folder: str  # the sub-folder for this stage's shards
    compress: bool = False  # compressed shards take a third of the space; others can be memory-mapped

    def provide(self, block: str, content: Iterable, make: Callable[[], tuple[dict, dict]]) -> Result:
        """Return the shard of a block. If it does not exist, call `make`, which returns its columns and counts.

        The shard depends only on `content` (texts and JSON values), whose digest is a part of the shard's name. So an
        existing shard with that name is up to date.
        """
        name = f"{self.folder}/{block}-{digest_content(content)}.arrow"
        if (self.root / name).exists():
            try:
                return Result(name, read_figures(self.root / name), None)
            except (pa.ArrowInvalid, TypeError, KeyError, ValueError):
                raise ValueError(
                    f"{self.root / name} is damaged. Delete it, and start again: it is then rebuilt."
                ) from None
        columns, figures = make()
        target = self.stage / name
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(secrets.token_hex(8))
        _write(unfinished, columns, figures, self.compress)
        stamp = seal(unfinished)
        os.replace(unfinished, target)
        return Result(name, figures, stamp)


def collect(
    folder: OwnedFolder, stage: Path, results: Iterable[Result], bar: tqdm, count: str | None = None
) -> list[Result]:
    """Move new shards to their places as soon as they are ready; returns all results, sorted by name.

    The progress bar counts shards, or sums the count named `count`. Raises a `FileExistsError` if an existing shard has
    changed.
    """
    collected = []
    with bar:
        for result in results:
            if result.stamp is not None:
                folder.move(stage, [result.name], stamps={result.name: result.stamp})
            elif not folder.owns(result.name):
                raise FileExistsError(
                    f"{folder.path / result.name} was changed since it was written. Delete it, and start again: it is "
                    "then rebuilt."
                )
            collected.append(result)
            bar.update(result.figures[count] if count else 1)
    return sorted(collected, key=lambda result: result.name)


def read_shard(path: Path) -> pa.Table:
    """Load the table of a shard. It is memory-mapped, unless the shard is compressed."""
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
        return reader.read_all()


def read_figures(path: Path) -> dict:
    """The counts that were stored when the shard was made."""
    with pa.OSFile(str(path), "rb") as file, pa.ipc.open_stream(file) as reader:
        return json.loads(reader.schema.metadata[_FIGURES])


def is_shard(path: Path) -> bool:
    """Whether a file is a shard of this package, of any version."""
    try:
        return isinstance(read_figures(path), dict)
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError):
        return False


def _write(path: Path, columns: dict, figures: dict, compress: bool) -> None:
    table = pa.table(columns).replace_schema_metadata({_FIGURES: json.dumps(figures)})
    options = pa.ipc.IpcWriteOptions(compression="zstd" if compress else None)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema, options=options) as writer:
        writer.write_table(table)


def digest_content(content: Iterable) -> str:
    """Compute a digest of texts and JSON values."""
    digest = hashlib.blake2b(digest_size=8)
    for part in content:
        encoded = part.encode() if isinstance(part, str) else json.dumps(part).encode()
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()
