"""Engines run the stages, either in processes of this machine or on a Ray cluster. Both call the same functions."""

import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, as_completed, wait
from typing import Any

from keras_pretrain.compat.joblib import WorkerDied, start_workers
from keras_pretrain.system import available_processors

# A function takes a task and returns a record. Calling it twice must have the same effect as calling it once.
Function = Callable[[object], object]


class LocalEngine:
    """Runs functions in worker processes of this machine.

    The workers are new processes (loky), because a fork of a process with TensorFlow's threads is not safe. A script
    that uses them needs no `if __name__ == "__main__"`.

    Args:
      num_proc: number of processes. Default: one for each processor that this process may use. With 1, no other process
        is started.
    """

    def __init__(self, num_proc: int | None = None) -> None:
        if num_proc is not None and num_proc < 1:
            raise ValueError(f"num_proc must be at least 1, not {num_proc}.")
        self.num_proc = num_proc or available_processors()

    def run(self, function: Function, tasks: Iterable, expand: Callable[[object], Iterable] | None = None) -> Iterator:
        """Call a function with each task. Yields the records in the order in which they are finished.

        Args:
          tasks: the tasks; they are read one by one, a few in advance.
          expand: makes several tasks from each task.
        """
        if expand:
            tasks = itertools.chain.from_iterable(map(expand, tasks))
        if self.num_proc == 1 or (isinstance(tasks, list) and len(tasks) == 1):
            yield from map(function, tasks)
            return
        # Each stage gets new workers. Old ones would keep the libraries of the last stage in memory. Also, loky takes
        # growing memory for a leak, and a worker's memory grows when it loads the libraries of the next stage.
        executor = start_workers(self.num_proc, {"TOKENIZERS_PARALLELISM": "false"})
        waiting = set()
        try:
            for task in tasks:
                waiting.add(executor.submit(function, task))
                if len(waiting) >= 2 * self.num_proc:  # tasks take seconds, so one waiting task per worker is enough
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            yield from (future.result() for future in as_completed(waiting))
            waiting = set()
        except WorkerDied as error:
            raise RuntimeError(
                "A worker process ended before its work was done, most often because the machine ran out of memory. "
                "Finished work is kept: start again, if necessary with a smaller num_proc."
            ) from error
        finally:
            executor.shutdown(kill_workers=bool(waiting))  # after an error, unfinished tasks are dropped


class RayEngine:
    """Runs functions on a Ray cluster, by Ray Data. It needs the extra `distributed`.

    All machines must have this package, and must see the corpus and the prepared folder under the same paths. If a
    worker dies, another one repeats its task, with the same result.

    Args:
      address: as for `ray.init`. Default: `RAY_ADDRESS`, or a new cluster on this machine. If the process has already
        called `ray.init`, its cluster is used.
    """

    def __init__(self, address: str | None = None) -> None:
        try:
            import ray.data
        except ImportError as error:
            raise ImportError("The engine 'ray' needs Ray: pip install 'keras_pretrain[distributed]'.") from error
        if not ray.is_initialized():
            ray.init(address, log_to_driver=False)
        elif address:
            raise ValueError(f"This process has called ray.init already: leave the address {address} out.")

    def run(self, function: Function, tasks: Iterable, expand: Callable[[object], Iterable] | None = None) -> Iterator:
        """As `LocalEngine.run`. The cluster expands the tasks."""
        import ray.data

        tasks = list(tasks)
        if not tasks:
            return
        context = ray.data.DataContext.get_current()
        before = context.enable_progress_bars, context.target_max_block_size
        context.enable_progress_bars = False  # the stages show their own
        context.target_max_block_size = 1  # each row is a block of its own, because a row is a task
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # it would warn of both settings
        try:
            rows = ray.data.from_items([{"cell": _Cell(task)} for task in tasks], override_num_blocks=len(tasks))
            if expand:
                # Different resources, because Ray would otherwise fuse both into one task, which would process all
                # expanded tasks itself.
                rows = rows.flat_map(_on_cells(expand), num_cpus=0.5)
            rows = rows.flat_map(_on_cells(lambda task: [function(task)]), num_cpus=1).iter_rows()
        finally:
            context.enable_progress_bars, context.target_max_block_size = before
        for row in rows:
            if isinstance(row["cell"].value, Exception):
                raise row["cell"].value
            yield row["cell"].value


class _Cell:
    """Holds any Python object in a cell of a table. It can hold an error, which the process that reads the records then
    raises; if the task raised it, Ray would wrap it in an error of its own."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _on_cells(function: Callable[[object], Iterable]) -> Callable[[dict], Iterator[dict]]:
    """Make a function of rows from a function of tasks; an error becomes the value of a cell."""

    def call(row: dict) -> Iterator[dict]:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # each worker has one processor or half of one
        if isinstance(row["cell"].value, Exception):
            yield row
            return
        try:
            for value in function(row["cell"].value):
                yield {"cell": _Cell(value)}
        except Exception as error:
            yield {"cell": _Cell(error)}

    return call
