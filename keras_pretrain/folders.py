"""`OwnedFolder`: records the files that this package writes into a folder, so that other files are never replaced or
deleted."""

import contextlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import xxhash

logger = logging.getLogger(__name__)

MANIFEST = ".keras_pretrain-manifest"
LOCK = ".lock"
UNFINISHED = ".unfinished-"
_FORMAT = 1
_ALWAYS_HASHED = 1 << 20  # bytes; a longer file is not hashed if its size and modification time are unchanged


class OwnedFolder:
    """A folder whose manifest names each file that this package wrote there.

    A file is replaced or deleted only if it is in the manifest and its content has not changed since. All writers of
    the package share the manifest (preparation, checkpoints, history, curves, cards and exports).

    The manifest (`.keras_pretrain-manifest`) is a journal of JSON lines. New files are written to a staging folder
    in the folder, recorded in the manifest, and then moved to their places. A process that is killed leaves either the
    old files or a record from which the next writer completes the move; staging folders that were never recorded as
    complete are deleted. Staging folders in use are protected by a shared lock on the manifest, which the operating
    system releases when a process dies.

    Args:
      path: the folder; it is created by the first write.
      writer: the name of the part of the package that writes, for example `"preparation"`; recorded with each file.
      overwrite: also replace files that the manifest does not name or that have changed since. Such files are never
        deleted.

    Raises:
      FileExistsError: a later version wrote the manifest, or the file with the manifest's name is not a manifest.
    """

    def __init__(self, path: str | os.PathLike[str], writer: str, *, overwrite: bool = False) -> None:
        self.path = Path(path).expanduser()
        self.writer = writer
        self.overwrite = overwrite
        self._stamps: dict[str, list[list]] = {}  # for each file, the seals of all its recorded versions
        self._writers: dict[str, str] = {}
        self._staged: dict[str, dict] = {}  # staging folders still in use, and the files to move from them
        self._read_to = 0  # bytes of the manifest that were read; 0 if it does not exist
        self._read()

    @property
    def writers(self) -> set[str]:
        """The names of the writers whose files the manifest names."""
        self._read()
        return set(self._writers.values())

    def names(self, below: str = "") -> list[str]:
        """The existing files of this writer (in the sub-folder `below`), as sorted paths relative to the folder."""
        self._read()
        prefix = f"{below}/" if below else ""
        mine = (name for name, writer in self._writers.items() if writer == self.writer and name.startswith(prefix))
        return sorted(name for name in mine if (self.path / name).exists())

    def owns(self, name: str) -> bool:
        """Whether a file was written by this package and has not changed since."""
        self._read()
        path, stamps = self.path / name, self._stamps.get(name, ())
        if not stamps or path.is_symlink() or not path.is_file():
            return False
        size, modified = path.stat().st_size, path.stat().st_mtime_ns
        if size > _ALWAYS_HASHED and any(stamp[:2] == [size, modified] for stamp in stamps):
            return True
        digests = [stamp[2] for stamp in stamps if stamp[0] == size]
        return bool(digests) and _digest(path) in digests

    def foreign(self) -> list[str]:
        """Everything in the folder that this package does not own, as sorted relative paths.

        The manifest, the lock and staging folders are left out; empty sub-folders are included.
        """
        found = []
        for folder, folders, files in os.walk(self.path):
            here = Path(folder).relative_to(self.path)
            folders[:] = [name for name in folders if str(here / name) not in self._staged]
            links = [name for name in folders if (Path(folder) / name).is_symlink()]
            is_empty = here.parts and not files and not folders
            found += [str(here)] if is_empty else [str(here / name) for name in [*files, *links]]
        return sorted(name for name in found if name not in (MANIFEST, LOCK) and not self.owns(name))

    def require_replaceable(self, names: Iterable[str]) -> None:
        """Raise an error if a write would replace files that this package does not own.

        Raises:
          FileExistsError: one of the files exists and is not owned, and `overwrite` is off; or a folder has the name of
            one of the files.
        """
        foreign = [name for name in names if self._is_in_the_way(name, self.overwrite)]
        if foreign:
            raise FileExistsError(
                f"{self.path / foreign[0]} exists, and this version of keras_pretrain did not write it, or it was "
                f"changed since{f'; so do {len(foreign) - 1} other files' if len(foreign) > 1 else ''}. Choose another "
                "folder, move the file away, or pass overwrite=True to replace it."
            )

    def _is_in_the_way(self, name: str, overwrite: bool) -> bool:
        path = self.path / name
        if any(parent.exists() and not parent.is_dir() for parent in path.parents) or path.is_dir():
            return True
        return os.path.lexists(path) and not overwrite and not self.owns(name)

    def finish_interrupted(self) -> None:
        """Complete or undo the writes of a killed process, unless another process is writing."""
        if self._read_to:
            with self._shared_lock():
                pass

    @contextlib.contextmanager
    def writing(
        self, *, last: str = "\0", replace_all: bool = False, remove_first: str | None = None
    ) -> Iterator[Path]:
        """Open a staging folder to write files to. If the block ends without an error, all of them are moved to their
        places.

        Args:
          last: the ending of the names of the files that are moved last. Their presence tells readers that the other
            files are complete.
          replace_all: afterwards delete the earlier files of the same writer that were not written now.
          remove_first: a file to delete before anything is moved, so that no reader sees new files beside an old one.
        """
        with self.staging() as stage:
            yield stage
            names = sorted(str(path.relative_to(stage)) for path in stage.rglob("*") if not path.is_dir())
            self.move(stage, sorted(names, key=lambda name: name.endswith(last)), remove_first=remove_first)
            if replace_all:
                self.delete({*self.names()} - {*names})

    def write_text(self, name: str, text: str) -> None:
        """Write one file, UTF-8."""
        with self.writing() as stage:
            (stage / name).write_text(text, encoding="utf-8")

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """Open a staging folder, from which `move` can take files. The folder is deleted at the end of the block."""
        is_new, is_first = not self.path.exists(), not self._read_to
        self.path.mkdir(parents=True, exist_ok=True)
        with self._shared_lock():
            stage = self.path / f"{UNFINISHED}{secrets.token_hex(8)}"
            self._append({"staging": stage.name}, sync=False)
            stage.mkdir()
            try:
                yield stage
            finally:
                self._close(stage.name, overwrite=self.overwrite)  # completes an interrupted move
                if is_first and not self._stamps and not self._staged:  # nothing was moved, and nobody else is writing
                    (self.path / MANIFEST).unlink(missing_ok=True)
                    self._read_to = 0
                    if is_new and not any(self.path.iterdir()):
                        self.path.rmdir()

    def move(
        self, stage: Path, names: Collection[str], *, remove_first: str | None = None, stamps: dict | None = None
    ) -> None:
        """Record files of a staging folder, and move them to their places in the given order.

        Args:
          names: the paths of the files, relative to the staging folder and later to the folder.
          remove_first: as for `writing`.
          stamps: the result of `seal` for each name, if another process has sealed the files.

        Raises:
          FileExistsError: as for `require_replaceable`, before anything is moved.
        """
        self.require_replaceable(names)
        stamps = stamps or {name: seal(stage / name) for name in names}
        for folder in {(stage / name).parent for name in names}:
            sync(folder)
        self._append({"staging": stage.name, "files": stamps, "writer": self.writer}, sync=True)
        self.delete([remove_first] if remove_first else [])
        self._complete(stage.name, stamps, overwrite=self.overwrite)

    def delete(self, names: Iterable[str]) -> list[str]:
        """Delete owned files of this writer, and folders that become empty.

        Returns:
          The files that were kept because this writer does not own them.
        """
        kept = []
        for name in names:
            path = self.path / name
            if not self.owns(name) or self._writers[name] != self.writer:
                kept += [name] if os.path.lexists(path) else []
                continue
            path.unlink()
            for folder in path.parents:
                if folder == self.path or any(folder.iterdir()):
                    break
                folder.rmdir()
        return kept

    def adopt(self, names: Iterable[str]) -> None:
        """Record existing files as owned: files that an older version wrote without a manifest."""
        self.path.mkdir(parents=True, exist_ok=True)
        stamps = {name: seal(self.path / name) for name in names}
        if stamps:
            with self._shared_lock():
                self._append({"files": stamps, "writer": self.writer}, sync=True)

    def _complete(self, staging: str, names: Iterable[str], *, overwrite: bool) -> None:
        """Move recorded files from a staging folder to their places. If others have changed the file at such a place
        meanwhile, it stays."""
        folders = set()
        for name in names:
            source, target = self.path / staging / name, self.path / name
            if source.exists() and self._is_in_the_way(name, overwrite):
                logger.warning("%s was changed while it was to be replaced, and stays.", target)
            elif source.exists():  # if it is missing, it was moved before the process died
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(source, target)
                folders.add(target.parent)
        for folder in folders:
            sync(folder)

    def _close(self, staging: str, *, overwrite: bool) -> None:
        """Move the recorded files of a staging folder to their places, and delete the rest."""
        if staging.startswith(UNFINISHED) and os.sep not in staging:  # or a damaged manifest could delete others
            self._complete(staging, self._staged.get(staging, ()), overwrite=overwrite)
            shutil.rmtree(self.path / staging, ignore_errors=True)
        self._append({"done": staging}, sync=False)

    @contextlib.contextmanager
    def _shared_lock(self) -> Iterator[None]:
        """Protect the staging folders of this process; first complete or undo the writes of killed processes."""
        import fcntl  # missing on Windows, where folders can still be read

        with open(self.path / MANIFEST, "a+b") as manifest:
            with contextlib.suppress(BlockingIOError):  # another writer is active; it or a later writer completes them
                fcntl.flock(manifest, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._read()
                for staging in list(self._staged):
                    self._close(staging, overwrite=False)
            fcntl.flock(manifest, fcntl.LOCK_SH)
            yield

    def _append(self, record: dict, *, sync: bool) -> None:
        path, line = self.path / MANIFEST, json.dumps(record) + "\n"
        self._read()
        if not self._read_to:
            line = json.dumps({"keras_pretrain_manifest": _FORMAT}) + "\n" + line
        if path.stat().st_size > self._read_to:  # a killed process left an unfinished line
            line = "\n" + line
        # A single write at the end of the file, so that processes that append at the same time do not mix their lines.
        with open(path, "ab", buffering=0) as file:
            data = line.encode()
            while data:  # one write may accept only a part, if the disk is nearly full
                data = data[os.write(file.fileno(), data) :]
            if sync:
                os.fsync(file.fileno())
        self._read()

    def _read(self) -> None:
        """Read the new lines of the manifest."""
        try:
            with open(self.path / MANIFEST, "rb") as file:
                file.seek(self._read_to)
                new = file.read()
        except FileNotFoundError:
            return
        lines = new[: new.rfind(b"\n") + 1].splitlines(keepends=True)
        if lines and not self._read_to:
            self._check_header(lines[0])
        for line in lines:
            with contextlib.suppress(ValueError):  # an incomplete line of a killed process
                self._take_in(json.loads(line))
        self._read_to += sum(map(len, lines))

    def _check_header(self, line: bytes) -> None:
        version = None
        with contextlib.suppress(ValueError, KeyError, TypeError):
            version = json.loads(line)["keras_pretrain_manifest"]
        if version != _FORMAT:
            what = "is not a manifest of keras_pretrain" if version is None else f"has format {version}"
            raise FileExistsError(
                f"{self.path / MANIFEST} {what}; this version reads format {_FORMAT}. Choose another folder, or "
                "install the version of keras_pretrain that wrote it."
            )

    def _take_in(self, record: object) -> None:
        if not isinstance(record, dict):
            return
        if "done" in record:
            self._staged.pop(record["done"], None)
            return
        files = record.get("files", {})
        files = {name: files[name] for name in files if not os.path.isabs(name) and ".." not in Path(name).parts}
        if "staging" in record:
            self._staged.setdefault(record["staging"], {}).update(files)
        for name, stamp in files.items():
            self._stamps.setdefault(name, []).append(stamp)
            self._writers[name] = record["writer"]


def seal(path: Path) -> list:
    """Wait until a file is on the disk, and return its seal, which identifies it: size, modification time (ns) and
    digest."""
    sync(path)
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, _digest(path)]


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, have reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(path: Path) -> str:
    digest = xxhash.xxh3_128()  # ten times as fast as a cryptographic digest, because checkpoints have gigabytes
    with open(path, "rb") as file:
        while part := file.read(1 << 20):  # Python 3.10 has no `hashlib.file_digest`
            digest.update(part)
    return digest.hexdigest()
