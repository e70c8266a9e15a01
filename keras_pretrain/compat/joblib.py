"""Worker processes: joblib (1.6) has a copy of loky inside, which it does not document."""

from joblib.externals import loky
from joblib.externals.loky.process_executor import TerminatedWorkerError

WorkerDied = TerminatedWorkerError  # raised by the results of tasks when a worker process was killed


def start_workers(count: int, environment: dict[str, str]) -> loky.ProcessPoolExecutor:
    """New processes, not forks of this one, that start with the first task.

    Args:
      count: of processes.
      environment: variables that they have besides those of this process.

    Returns:
      An executor; its `shutdown(kill_workers=True)` does not wait for unfinished tasks.
    """
    return loky.ProcessPoolExecutor(count, env=environment)
