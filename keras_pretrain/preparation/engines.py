"""Who does the work: the processors of this machine, or a Ray cluster. Both call the same functions."""

import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED

import numpy as np
from joblib.externals.loky import ProcessPoolExecutor, as_completed, wait
from joblib.externals.loky.process_executor import TerminatedWorkerError

from keras_pretrain.system import available_processors

# A function that is given a task and has an effect that does not change when it is done twice; it returns a record.
Function = Callable[[object], object]


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
        # Workers of their own for each stage: what one has loaded would stay, and loky takes a worker whose memory
        # grows, because it loads what another stage needs, for one that leaks.
        executor = ProcessPoolExecutor(self.num_proc, env={"TOKENIZERS_PARALLELISM": "false"})
        waiting = set()
        try:
            for task in tasks:
                waiting.add(executor.submit(function, task))
                if len(waiting) >= 2 * self.num_proc:  # a task has seconds of work: as many again may wait in line
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            yield from (future.result() for future in as_completed(waiting))
            waiting = set()
        except TerminatedWorkerError as error:
            raise RuntimeError(
                "A worker process ended before its work was done; most often the machine had no memory left for it. "
                "What is finished is kept: start again, with a smaller num_proc if need be."
            ) from error
        finally:
            executor.shutdown(kill_workers=bool(waiting))  # where not all is done, nobody waits for the rest


class RayEngine:
    """A Ray cluster, through Ray Data: `pip install keras_pretrain[distributed]`.

    All machines see the corpus and the prepared folder under the same paths, and have this package installed. A task
    whose worker dies is done again by another; what it leaves does not depend on how often that happens.

    Args:
      address: of the cluster, as `ray.init` takes it; by default what `RAY_ADDRESS` says, or a new one on this
        machine. A process that has called `ray.init` already uses what it has.
    """

    def __init__(self, address: str | None = None):
        try:
            import ray.data
        except ImportError as error:
            raise ImportError("The engine 'ray' needs Ray: pip install 'keras_pretrain[distributed]'.") from error
        if not ray.is_initialized():
            ray.init(address, log_to_driver=False)
        elif address:
            raise ValueError(f"This process has called ray.init already: leave the address {address} out.")

    def run(self, function: Function, tasks: Iterable, expand: Callable[[object], Iterable] | None = None) -> Iterator:
        """As `LocalEngine.run`. Tasks that are expanded are expanded by the cluster."""
        import ray.data

        tasks = list(tasks)
        if not tasks:
            return
        context = ray.data.DataContext.get_current()
        before = context.enable_progress_bars, context.target_max_block_size
        context.enable_progress_bars = False  # there is one of ours
        context.target_max_block_size = 1  # each row is a block and so a task: the rows are work, not data
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # it warns of both
        try:
            rows = ray.data.from_items([{"task": _Held(task)} for task in tasks], override_num_blocks=len(tasks))
            if expand:
                # Other resources, or Ray would fuse both into one task, which would do all that is expanded.
                rows = rows.map_batches(_expanding(expand), batch_size=1, num_cpus=0.5)
            records = rows.map(_calling(function), num_cpus=1).iter_rows()
        finally:
            context.enable_progress_bars, context.target_max_block_size = before
        for row in records:
            if isinstance(row["record"].value, Exception):
                raise row["record"].value
            yield row["record"].value


class _Held:
    """A Python object as a cell of a table."""

    def __init__(self, value):
        self.value = value


def _expanding(expand: Callable[[object], Iterable]):
    def expand_row(batch):
        for task in _or_error(expand, batch["task"][0].value):
            cell = np.empty(1, object)
            cell[0] = _Held(task)
            yield {"task": cell}

    return expand_row


def _or_error(expand, task) -> Iterator:
    """What is wrong is raised where the records are taken: Ray would raise it as an error of its own."""
    try:
        yield from expand(task)
    except Exception as error:
        yield error


def _calling(function: Function):
    def call_row(row):
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # each worker has one processor
        task = row["task"].value
        if isinstance(task, Exception):
            return {"record": _Held(task)}
        try:
            return {"record": _Held(function(task))}
        except Exception as error:
            return {"record": _Held(error)}

    return call_row
