"""Shares a stage's work among forked processes of this machine.

Beam's own local workers are programs of their own: each imports TensorFlow and all else anew, for seconds, before it
does any work. A fork has at once all that its parent has imported and read.
"""

from __future__ import annotations

import dataclasses
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
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, ClassVar, Self

from pipelines import counters
from pipelines.errors import GOES_ON, WorkerError
from pipelines.runners.allocator import keep_freed_memory
from pipelines.runners.quiet import keep_off_gpus

WORKER_BYTES = 2 * 2**30
"""The memory of the machine that there should be for each process."""

KEPT_BYTES = 128 * 2**20
"""How much memory that is freed a process of a build keeps."""

WATCH_SECONDS = 0.5

AHEAD = 2
"""Calls that a process has at hand: it goes on with the next one at once, however busy its parent is."""

RETRIES = 1
"""How often a call is made again whose process was killed: anything may kill a process once, too little memory always
does."""

ADVICE = f"where memory ran out, --workers=1 needs the least. {GOES_ON}"

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


@dataclasses.dataclass(eq=False)
class _Piece:
    """One call that is to be made.

    Attributes:
        call: What `_call` takes.
        future: What comes of it.
        deaths: How many processes have ended while they worked on it.
    """

    call: tuple[Call, Any, Sequence[Any]]
    future: Future[Any] = dataclasses.field(default_factory=Future)
    deaths: int = 0

    def settle(self, result: Any, error: BaseException | None) -> None:
        """Says what came of it, unless nobody wants to know."""
        if not self.future.set_running_or_notify_cancel():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


@dataclasses.dataclass(eq=False)
class _Worker:
    """One process.

    Attributes:
        pool: What brings calls to it.
        process: The process itself.
        held: How many calls it has at hand.
        alive: Whether it takes more.
    """

    pool: ProcessPoolExecutor
    process: Any
    held: int = 0
    alive: bool = True


class Workers:
    """Forked processes, there while the context is open.

    They have what the process had when the context was entered. TensorFlow may have been imported by then, but not
    used: its threads do not survive a fork. So a process that was killed cannot be replaced: the others take over what
    it had at hand, which must do no harm when it is done twice.
    """

    def __init__(self, count: int, given: Any) -> None:
        """Says what is forked.

        Args:
            count: The number of processes.
            given: The second argument of every call: the processes have it without its being sent to them.
        """
        self.count = count
        self._given = given
        self._lock = threading.Lock()
        self._waiting: deque[_Piece] = deque()
        self._workers: list[_Worker] = []
        self._others: Workers | None = None

    def __enter__(self) -> Self:
        gc.freeze()  # the collector would write to pages that the processes share
        self._workers = [self._fork() for _ in range(self.count)]
        return self

    def _fork(self) -> _Worker:
        """Forks a process, with queues of its own: one that is killed may hold the locks of its queues."""
        pool = ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context("fork"),
            initializer=_begin,
            initargs=(self._given, os.getpid()),
        )
        pool.submit(os.getpid)  # the first call forks
        (process,) = pool._processes.values()
        return _Worker(pool, process)

    @property
    def processes(self) -> list[int]:
        """The ids of the processes, also of those that have ended."""
        return [worker.process.pid for worker in self._workers]

    def __exit__(self, *_: object) -> None:
        with self._lock:
            for worker in self._workers:
                worker.alive = False
        for worker in self._workers:
            worker.pool.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:  # after an error nothing that is still being done is of use
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()

    def share(self, function: Call, items: Sequence[Any], *arguments: Any) -> Iterator[Any]:
        """Begins to call a function on each item.

        Args:
            function: Called as `function(item, given, *arguments)`; found by its name, like everything that is pickled.
                Where a process is killed it is called again on the same item.
            items: The items.
            arguments: Further arguments.

        Returns:
            What the calls return, in the order of the items. An error of a call is raised in its place, and a
            WorkerError where two processes were killed over one item, or no process is left.
        """
        return _results(deque(self._submit(function, item, arguments) for item in items))

    @property
    def handed_over(self) -> bool:
        """Whether others do what is not at hand here."""
        return self._others is not None

    def hand_over(self, others: Workers) -> None:
        """Lets others, which were given the same, do what no process has at hand yet, or one has that is killed."""
        with self._lock:
            self._others = others
        self._feed()

    def _submit(self, function: Call, item: Any, arguments: Sequence[Any]) -> Future[Any]:
        piece = _Piece((function, item, arguments))
        piece.future.add_done_callback(_count)
        self._put([piece])
        return piece.future

    def _put(self, pieces: Iterable[_Piece]) -> None:
        with self._lock:
            self._waiting.extend(pieces)
        self._feed()

    def _feed(self) -> None:
        """Gives what waits to processes that have room, or to the others."""
        if self._others is not None:
            with self._lock:
                left, self._waiting = self._waiting, deque()
            self._others._put(left)
            return
        while (found := self._next()) is not None:
            worker, piece = found
            try:
                done = worker.pool.submit(_call, *piece.call)
            except RuntimeError:  # it was killed before, or is shut down
                worker.alive = False
                self._bury(worker, piece)
            else:
                done.add_done_callback(functools.partial(self._take, worker, piece))

    def _next(self) -> tuple[_Worker, _Piece] | None:
        """What can be given to whom, without holding the lock any longer: a pool has locks of its own."""
        with self._lock:
            room = [worker for worker in self._workers if worker.alive and worker.held < AHEAD]
            while room and self._waiting:
                piece = self._waiting.popleft()
                if not piece.future.cancelled():
                    worker = min(room, key=lambda worker: worker.held)
                    worker.held += 1
                    return worker, piece
            left = any(worker.alive for worker in self._workers)
            lost = [] if left else list(self._waiting)
            if lost:
                self._waiting.clear()
        for piece in lost:
            piece.settle(None, WorkerError(f"a worker process was killed, and no other one is left; {ADVICE}"))
        return None

    def _take(self, worker: _Worker, piece: _Piece, done: Future[Any]) -> None:
        """Hands on what a process has done."""
        if done.cancelled():
            piece.future.cancel()
            return
        error = done.exception()
        if isinstance(error, BrokenProcessPool):
            self._bury(worker, piece)
            return
        with self._lock:
            worker.held -= 1
        self._feed()
        piece.settle(None if error else done.result(), error)

    def _bury(self, worker: _Worker, piece: _Piece) -> None:
        """Lets others do what a process had at hand when it was killed."""
        with self._lock:
            if worker.alive:  # its first piece is what it was working on; the next one is not to blame
                worker.alive = False
                piece.deaths += 1
            blamed = piece.deaths > RETRIES
            if not blamed:
                self._waiting.appendleft(piece)
        if blamed:
            message = f"a worker process was killed{_signal(worker.process)}, and another one over the same work before"
            piece.settle(None, WorkerError(f"{message}; {ADVICE}"))
        self._feed()


def _signal(process: Any) -> str:
    """How a process was killed, where that is known."""
    process.join(WATCH_SECONDS)  # its pipes are closed before it has a code
    code = process.exitcode
    return f" by {signal.Signals(-code).name}" if code is not None and code < 0 else ""


def _results(futures: deque[Future[Any]]) -> Iterator[Any]:
    """Hands results on without keeping them."""
    try:
        while futures:
            yield futures.popleft().result()[0]
    finally:
        for future in futures:
            future.cancel()


def _count(future: Future[Any]) -> None:
    """Counts here what has been done there."""
    if not future.cancelled() and future.exception() is None:
        for stage, count in future.result()[1].items():
            counters.advance(stage, rows=count.rows, size=count.size)


_given: Any = None


def _begin(given: Any, parent: int) -> None:
    """Makes a forked process a worker."""
    global _given
    _given = given
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    # Another thread of the parent may have held the locks of these when the process was forked.
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    keep_freed_memory(KEPT_BYTES)
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


def _call(function: Call, item: Any, arguments: Sequence[Any]) -> tuple[Any, dict[str, counters.Count]]:
    with counters.counting() as counter:
        result = function(item, _given, *arguments)
    return result, counter.counts()


class Job:
    """A function to be called on each of many items, which a pipeline in this process can run by the job's number.

    A pipeline is pickled, even where it runs in the process that made it, and processes cannot be.
    """

    _numbers: ClassVar = itertools.count()
    _jobs: ClassVar[dict[int, Job]] = {}

    def __init__(self, workers: Workers, function: Call, items: Sequence[Any]) -> None:
        self._workers = workers
        self._function = function
        self._items = items
        self._begun: Future[Any] | None = None
        self.number = next(Job._numbers)
        Job._jobs[self.number] = self

    def begin(self, *arguments: Any, merge: Callable[[Any, Any], Any]) -> Self:
        """Begins before the pipeline is there, with arguments that are known already.

        Results are merged as they come, by a thread: nobody else takes them yet, and all of them might be large.
        """
        thread = ThreadPoolExecutor(1)
        results = self._workers.share(self._function, self._items, *arguments)
        self._begun = thread.submit(lambda: functools.reduce(merge, results))
        thread.shutdown(wait=False)
        return self

    def join(self, others: Workers) -> Self:
        """Lets others do what has not been begun, and all of it where a process was killed before they were there."""
        self._workers.hand_over(others)
        return self

    @staticmethod
    def run(number: int, *arguments: Any) -> Iterator[Any]:
        """Runs a job, or waits for one that was begun and yields what all of it came to; it is run once."""
        job = Job._jobs.pop(number)
        if job._begun is None:
            return job._workers.share(job._function, job._items, *arguments)
        try:
            return iter([job._begun.result()])
        except WorkerError:
            if not job._workers.handed_over:
                raise
            return job._workers.share(job._function, job._items, *arguments)
