"""Worker processes from loky. joblib (1.6) contains a copy of loky, which it does not document."""

from joblib.externals import loky
from joblib.externals.loky.process_executor import TerminatedWorkerError

WorkerDied = TerminatedWorkerError  # reading the result of a task raises this, if a worker process was killed


def start_workers(count: int, environment: dict[str, str]) -> loky.ProcessPoolExecutor:
    """Create worker processes, which start with the first task. They are new processes, not forks of this one.

    Args:
      count: number of processes.
      environment: environment variables for the workers, in addition to those of this process.

    Returns:
      An executor; its `shutdown(kill_workers=True)` does not wait for unfinished tasks.
    """
    return loky.ProcessPoolExecutor(count, env=environment)
