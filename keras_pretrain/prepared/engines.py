"""Who does the work: the processors of this machine, or a Ray cluster. Both call the same functions."""

import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator

import numpy as np

# A function that is given a task and has an effect that does not change when it is done twice; it returns a record.
Function = Callable[[object], object]


def available_processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LocalEngine:
    """Worker processes of this machine.

    They are new ones (loky), not copies of this one, in which TensorFlow may have threads; a script needs no
    `if __name__ == "__main__"` for them.

    Args:
      num_proc: how many; by default one for each processor that this process may use. With one, this process works.
    """

    def __init__(self, num_proc: int | None = None):
        if num_proc is not None and num_proc < 1:
            raise ValueError(f"num_proc must be at least 1, not {num_proc}.")
        self.num_proc = num_proc or available_processors()

    def run(self, function: Function, tasks: Iterable, expand: Callable[[object], Iterable] | None = None) -> Iterator:
        """Call a function with each task; records come as they are ready, in any order.

        Args:
          tasks: taken one by one, a few in advance.
          expand: makes several tasks of each.
        """
        if expand:
            tasks = itertools.chain.from_iterable(map(expand, tasks))
        if self.num_proc == 1 or (isinstance(tasks, list) and len(tasks) == 1):
            yield from map(function, tasks)
            return
        import joblib
        from joblib.externals.loky import get_reusable_executor
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        # One block has seconds of work; two for each process are enough to wait in line.
        parallel = joblib.Parallel(
            self.num_proc, return_as="generator_unordered", pre_dispatch=2 * self.num_proc, batch_size=1
        )
        try:
            yield from parallel(joblib.delayed(_alone)(function, task) for task in tasks)
        except TerminatedWorkerError as error:
            raise RuntimeError(
                "A worker process ended before its work was done; most often the machine had no memory left for it. "
                "What is finished is kept: start again, with a smaller num_proc if need be."
            ) from error
        finally:
            # The next stage has workers of its own: what this one has loaded would stay, and loky takes a worker
            # whose memory grows, because it loads what another stage needs, for one that leaks.
            get_reusable_executor().shutdown()


def _alone(function: Function, task):
    """In a worker, which has one processor to itself and no terminal."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["TQDM_DISABLE"] = "1"
    return function(task)


class RayEngine:
    """A Ray cluster, through Ray Data: `pip install keras_pretrain[distributed]`.

    All machines see the corpus and the prepared folder under the same paths, and have this package installed. A task
    whose worker dies is done again by another; what it leaves does not depend on how often that happens.

    Args:
      address: of the cluster, as `ray.init` takes it; by default what `RAY_ADDRESS` says, or a new one on this
        machine.
    """

    def __init__(self, address: str | None = None):
        try:
            import ray.data
        except ImportError as error:
            raise ImportError("The engine 'ray' needs Ray: pip install 'keras_pretrain[distributed]'.") from error
        if not ray.is_initialized():
            ray.init(address, log_to_driver=False)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False  # there is one of ours
        context.target_max_block_size = 1  # each row is a block and so a task: the rows are work, not data
        logging.getLogger("ray.data").setLevel(logging.WARNING)

    def run(self, function: Function, tasks: Iterable, expand: Callable[[object], Iterable] | None = None) -> Iterator:
        """As `LocalEngine.run`. Tasks that are expanded are expanded by the cluster."""
        import ray.data

        tasks = list(tasks)
        if not tasks:
            return
        # A block of one row is a task of Ray's.
        rows = ray.data.from_items([{"task": _Held(task)} for task in tasks], override_num_blocks=len(tasks))
        if expand:
            # Other resources, or Ray would fuse both into one task, and what is expanded would stay in one process.
            rows = rows.map_batches(_expanding(expand), batch_size=1, num_cpus=0.5)
        for row in rows.map(_calling(function), num_cpus=1).iter_rows():
            yield row["record"].value


class _Held:
    """A Python object as a cell of a table."""

    def __init__(self, value):
        self.value = value


def _expanding(expand: Callable[[object], Iterable]):
    def expand_row(batch):
        for task in expand(batch["task"][0].value):
            cell = np.empty(1, object)
            cell[0] = _Held(task)
            yield {"task": cell}

    return expand_row


def _calling(function: Function):
    return lambda row: {"record": _Held(_alone(function, row["task"].value))}
