"""What is asked of the operating system in more than one place."""

import os
from pathlib import Path


def available_processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
