"""What is asked of the operating system in more than one place."""

import logging
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TextIO

logger = logging.getLogger(__name__)

_PACKAGE = "keras_pretrain"


def enable_logging(level: int | str = "INFO", stream: TextIO | None = None) -> None:
    """Show the reports of this package: counts, choices, forecasts and warnings, a line each, without a prefix.

    Importing the package sets up no logging. Without this call, its loggers (`keras_pretrain` and those below it) are
    as the application has configured them, and Python shows warnings alone. The commands and the examples make this
    call. A second call replaces the first.

    Args:
      level: of the reports: `"INFO"`, `"WARNING"`, `"ERROR"`, or a number of the module `logging`.
      stream: where they go; by default standard output, whatever it is when a line is written.

    Raises:
      ValueError: an unknown level.
    """
    package = logging.getLogger(_PACKAGE)
    package.setLevel(level)
    handler = _Reports(stream)
    package.handlers = [each for each in package.handlers if not isinstance(each, _Reports)] + [handler]
    package.propagate = False  # or an application's own handler would show each line a second time


class _Reports(logging.StreamHandler):
    """Writes to a stream, or to the standard output of the moment, which notebooks and tests replace."""

    def __init__(self, stream: TextIO | None):
        super().__init__(stream)
        self._given = stream

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = self._given or sys.stdout
        super().emit(record)


def available_processors() -> int:
    """How many processors this process may use, at least 1.

    The fewest of: the machine's, those that the process is bound to, a container's quota (cgroups v1 and v2, rounded
    up), and the environment variable `LOKY_MAX_CPU_COUNT`.
    """
    from joblib import cpu_count  # here: `import keras_pretrain` stays quick

    return cpu_count()


def memory_bytes() -> int:
    """How much memory this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def lock(path: Path, message: str) -> int:
    """Lock a file for this process; returns its descriptor, which holds the lock until it is closed.

    The system takes the lock from a process that is killed.

    Raises:
      BlockingIOError: another process holds it; with `message`.
    """
    import fcntl  # not on Windows, where the rest of this module works

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
    """The version of an installed package, by the name that pip knows it by; `None` where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def require_packages(purpose: str, distributions: tuple[str, ...], extra: str, instead: str = "") -> None:
    """Refuse, before work starts, what needs a package that is not installed.

    Args:
      purpose: what they are needed for.
      distributions: the packages, by the names that pip knows them by.
      extra: of this package, which installs them.
      instead: a sentence about what works without them.

    Raises:
      ModuleNotFoundError: names the first package that is missing, and the extra.
    """
    missing = next((name for name in distributions if installed_version(name) is None), None)
    if missing is not None:
        text = f"{missing} is not installed, and is needed for {purpose}: pip install '{_PACKAGE}[{extra}]'."
        raise ModuleNotFoundError(f"{text} {instead}".rstrip(), name=missing)


def can_draw(what: str) -> bool:
    """Whether matplotlib is installed; a line in the log says what is not drawn without it."""
    if installed_version("matplotlib") is None:
        logger.info("%s are not drawn: that needs matplotlib (pip install '%s[plots]').", what, _PACKAGE)
        return False
    return True
