"""Sets up logging, and finds out about processors, memory, locks and installed packages."""

import logging
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TextIO

logger = logging.getLogger(__name__)

_PACKAGE = "keras_pretrain"


def enable_logging(level: int | str = "INFO", stream: TextIO | None = None) -> None:
    """Show the reports of this package: counts, choices, forecasts and warnings. The lines have no prefix.

    Importing the package sets up no logging. Without this call, its loggers (`keras_pretrain` and those below it)
    follow the application's configuration; without one, Python shows only warnings. The commands and the examples make
    this call. A second call replaces the first.

    Args:
      level: the level of the reports: `"INFO"`, `"WARNING"`, `"ERROR"`, or a number of the module `logging`.
      stream: the stream to write to. Default: the standard output at the time of each line.

    Raises:
      ValueError: an unknown level.
    """
    package = logging.getLogger(_PACKAGE)
    package.setLevel(level)
    handler = _Reports(stream)
    package.handlers = [each for each in package.handlers if not isinstance(each, _Reports)] + [handler]
    package.propagate = False  # otherwise an application's own handler would show each line again


class _Reports(logging.StreamHandler):
    """Writes to the given stream. Without one, it looks up `sys.stdout` for each line, because notebooks and tests
    replace that."""

    def __init__(self, stream: TextIO | None):
        super().__init__(stream)
        self._given = stream

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = self._given or sys.stdout
        super().emit(record)


def available_processors() -> int:
    """The number of processors that this process may use, at least 1.

    It is the minimum of the machine's processors, the processors that the process is bound to, a container's quota
    (cgroups v1 and v2, rounded up), and the environment variable `LOKY_MAX_CPU_COUNT`.
    """
    from joblib import cpu_count  # here, so that `import keras_pretrain` stays fast

    return cpu_count()


def memory_bytes() -> int:
    """The memory of this machine in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def lock(path: Path, message: str) -> int:
    """Lock a file for this process; returns its descriptor, which holds the lock until it is closed.

    If the process is killed, the system releases the lock.

    Raises:
      BlockingIOError: another process holds the lock; the text of the error is `message`.
    """
    import fcntl  # missing on Windows, where the rest of this module works

    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise BlockingIOError(message) from error
        raise
    return descriptor


def installed_version(distribution: str) -> str | None:
    """The version of an installed package, given its name for pip; `None` if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def require_packages(purpose: str, distributions: tuple[str, ...], extra: str, instead: str = "") -> None:
    """Raise an error, before work starts, if a required package is not installed.

    Args:
      purpose: the task that needs the packages, for the message.
      distributions: the packages, by their names for pip.
      extra: the extra of this package that installs them.
      instead: a sentence that describes the alternative without the packages.

    Raises:
      ModuleNotFoundError: a package is missing; the message names the first one, and the extra.
    """
    missing = next((name for name in distributions if installed_version(name) is None), None)
    if missing is not None:
        text = f"{missing} is not installed, and is needed for {purpose}: pip install '{_PACKAGE}[{extra}]'."
        raise ModuleNotFoundError(f"{text} {instead}".rstrip(), name=missing)


def can_draw(what: str) -> bool:
    """Whether matplotlib is installed. If it is not, the log says what will not be drawn."""
    if installed_version("matplotlib") is None:
        logger.info("%s are not drawn: that needs matplotlib (pip install '%s[plots]').", what, _PACKAGE)
        return False
    return True
