"""Shards: files of one table each, that are there whole or not at all and know what they count."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

_FIGURES = b"keras_pretrain"


def name_shard(block: str, *content) -> str:
    """A file's name, made of its block's and of all that its content follows from: what has a name is up to date."""
    digest = hashlib.blake2b(digest_size=8)
    for part in content:
        encoded = part.encode() if isinstance(part, str) else json.dumps(part).encode()
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return f"{block}-{digest.hexdigest()}.arrow"


def block_of(shard: str) -> str:
    """The block whose shard it is."""
    return shard.rsplit("-", 1)[0]


def write_shard(path: Path, columns: dict, figures: dict, *, compress: bool = False) -> None:
    """Write a table in Arrow's stream format, which `Dataset.from_file` reads.

    Args:
      columns: of the table.
      figures: counts, kept in the file.
      compress: a third of the space; without it, the file can be used where it lies, without being read into memory.
    """
    table = pa.table(columns).replace_schema_metadata({_FIGURES: json.dumps(figures)})
    options = pa.ipc.IpcWriteOptions(compression="zstd" if compress else None)
    with (
        finished_or_absent(path) as unfinished,
        pa.OSFile(str(unfinished), "wb") as file,
        pa.ipc.new_stream(file, table.schema, options=options) as writer,
    ):
        writer.write_table(table)


def read_shard(path: Path) -> pa.Table:
    """The whole table, in memory."""
    with pa.OSFile(str(path), "rb") as file, pa.ipc.open_stream(file) as reader:
        return reader.read_all()


def read_figures(path: Path) -> dict | None:
    """What was counted when the shard was made; `None` where there is no such shard yet."""
    try:
        with pa.OSFile(str(path), "rb") as file, pa.ipc.open_stream(file) as reader:
            return json.loads(reader.schema.metadata[_FIGURES])
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def finished_or_absent(path: Path) -> Iterator[Path]:
    """A name to write to; the file gets its own when it is written and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=".unfinished-")
    os.close(handle)
    try:
        yield Path(unfinished)
        with open(unfinished, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(unfinished, 0o666 & ~_umask())
        os.replace(unfinished, path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def forget_others(folder: Path, shards: list[tuple[Path, dict]]) -> None:
    """Delete what earlier settings or an earlier corpus left, and what a killed process did not finish."""
    keep = {path.name for path, _ in shards}
    for path in folder.iterdir() if folder.exists() else ():
        if path.name not in keep and path.is_file():
            path.unlink()
