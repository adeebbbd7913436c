"""Shares a stage's work among forked processes of this machine.

Beam's own local workers are programs of their own: each imports TensorFlow and all else anew, for seconds, before it
does any work. A fork has at once all that its parent has imported and read.
"""

from __future__ import annotations

import functools
import gc
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, ClassVar, Self

from pipelines import progress
from pipelines.allocator import keep_freed_memory
from pipelines.errors import WorkerError
from pipelines.quiet import keep_off_gpus

WORKER_BYTES = 2 * 2**30
"""The memory of the machine that there should be for each process."""

WATCH_SECONDS = 0.5

Call = Callable[..., Any]
"""A function of an item, what all processes have been given, and further arguments."""


def choose_workers(tasks: int) -> int:
    """How many processes share so many tasks on this machine, as far as its cores and its memory go."""
    if sys.platform != "linux":  # elsewhere libraries may not survive a fork
        return 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(len(os.sched_getaffinity(0)), tasks, memory // WORKER_BYTES))


def tensorflow_was_used() -> bool:
    """Whether TensorFlow has begun its threads in this process, which are not there in one that is forked from it."""
    if "tensorflow" not in sys.modules:
        return False
    threading = sys.modules["tensorflow"].config.threading
    count = threading.get_inter_op_parallelism_threads()
    try:
        threading.set_inter_op_parallelism_threads(count + 1)
    except RuntimeError:  # it can be set until then
        return True
    threading.set_inter_op_parallelism_threads(count)
    return False


class Workers:
    """Forked processes, there while the context is open.

    They have what the process had when the context was entered. TensorFlow may have been imported by then, but not
    used: its threads do not survive a fork.
    """

    def __init__(self, count: int, given: Any) -> None:
        """Says what is forked.

        Args:
            count: The number of processes.
            given: The second argument of every call: the processes have it without its being sent to them.
        """
        self.count = count
        self._given = given

    def __enter__(self) -> Self:
        gc.freeze()  # the collector would write to pages that the processes share
        self._pool = ProcessPoolExecutor(
            self.count,
            mp_context=multiprocessing.get_context("fork"),
            initializer=_begin,
            initargs=(self._given, os.getpid()),
        )
        self._pool.submit(os.getpid)  # the first call forks all of them
        return self

    def __exit__(self, *_: object) -> None:
        processes = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:  # after an error nothing that is still being done is of use
            process.kill()
        for process in processes:
            process.join()

    def share(self, function: Call, items: Sequence[Any], *arguments: Any) -> Iterator[Any]:
        """Begins to call a function on each item.

        Args:
            function: Called as `function(item, given, *arguments)`; found by its name, like everything that is pickled.
            items: The items.
            arguments: Further arguments.

        Returns:
            What the calls return, in the order of the items. An error of a call is raised in its place, and a
            WorkerError where a process ended that should not have.
        """
        return _results(deque(self._submit(function, item, arguments) for item in items))

    def _submit(self, function: Call, item: Any, arguments: Sequence[Any]) -> Future[Any]:
        future = self._pool.submit(_call, function, item, arguments)
        future.add_done_callback(_count)
        return future


def _results(futures: deque[Future[Any]]) -> Iterator[Any]:
    """Hands results on without keeping them."""
    try:
        while futures:
            yield futures.popleft().result()[0]
    except BrokenProcessPool as error:
        raise WorkerError(
            "a worker process was killed; where memory ran out, --workers=1 needs the least. "
            "The same command goes on where it stopped"
        ) from error
    finally:
        for future in futures:
            future.cancel()


def _count(future: Future[Any]) -> None:
    """Counts here what has been done there."""
    if not future.cancelled() and future.exception() is None:
        for stage, count in future.result()[1].items():
            progress.advance(stage, rows=count.rows, size=count.size)


_given: Any = None


def _begin(given: Any, parent: int) -> None:
    """Makes a forked process a worker."""
    global _given
    _given = given
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    # Another thread of the parent may have held the locks of these when the process was forked.
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    keep_freed_memory()
    keep_off_gpus()
    if "tensorflow" in sys.modules and not tensorflow_was_used():
        # The processes are the parallelism.
        sys.modules["tensorflow"].config.threading.set_intra_op_parallelism_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Ends this process when its parent has ended, which cannot say so if it was killed."""
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os._exit(1)


def _call(function: Call, item: Any, arguments: Sequence[Any]) -> tuple[Any, dict[str, progress.Count]]:
    with progress.counting() as counter:
        result = function(item, _given, *arguments)
    return result, counter.counts()


class Job:
    """A function to be called on each of many items, which a pipeline in this process can run by the job's number.

    A pipeline is pickled, even where it runs in the process that made it, and processes cannot be.
    """

    _numbers: ClassVar = itertools.count()
    _jobs: ClassVar[dict[int, Job]] = {}

    def __init__(self, workers: Workers, function: Call, items: Sequence[Any]) -> None:
        self._share = functools.partial(workers.share, function, items)
        self._begun: Future[Any] | None = None
        self.number = next(Job._numbers)
        Job._jobs[self.number] = self

    def begin(self, *arguments: Any, merge: Callable[[Any, Any], Any]) -> Self:
        """Begins before the pipeline is there, with arguments that are known already.

        Results are merged as they come, by a thread: nobody else takes them yet, and all of them might be large.
        """
        thread = ThreadPoolExecutor(1)
        results = self._share(*arguments)
        self._begun = thread.submit(lambda: functools.reduce(merge, results))
        thread.shutdown(wait=False)
        return self

    @staticmethod
    def run(number: int, *arguments: Any) -> Iterator[Any]:
        """Runs a job, or waits for one that was begun and yields what all of it came to; it is run once."""
        job = Job._jobs.pop(number)
        return job._share(*arguments) if job._begun is None else iter([job._begun.result()])
