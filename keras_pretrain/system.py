"""What is asked of the operating system in more than one place."""

import os
from pathlib import Path


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
