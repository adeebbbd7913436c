"""A pool of worker processes of this machine, which share the calls of a function on many items.

Beam's own local workers are programs of their own: each imports TensorFlow and all else anew, for seconds, before it
does any work. A fork has at once all that its parent has imported and read. And where a process of
`concurrent.futures` is killed, all of its pool is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pickle
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, Self

import psutil

from pipelines import counters
from pipelines.errors import GOES_ON, ConfigError, WorkerError
from pipelines.runners.worker import Function, Process, can_fork, fork, spawn

WORKER_BYTES = 2 * 2**30
"""The memory of the machine that there should be for each process."""

END_SECONDS = 5.0

AHEAD = 2
"""Tasks that a worker has at hand: it goes on with the next one at once, however busy its parent is."""

RETRIES = 1
"""How often a task is done again whose worker was killed: anything may kill a process once, too little memory always
does."""

TIMEOUT_VARIABLE = "NPYFLOW_WORKER_TIMEOUT"
TIMEOUT_SECONDS = 300.0
"""How long a worker may use no processor time over a task, unless the variable says so. It was stopped, or hangs."""

ADVICE = f"where memory ran out, --workers=1 needs the least. {GOES_ON}"


def cores() -> int:
    """How many cores of this machine this process may use."""
    process = psutil.Process()
    return int((len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count()) or 1)


def choose_workers(tasks: int) -> int:
    """How many processes share so many tasks on this machine, as far as its cores and its memory go."""
    return int(max(1, min(cores(), tasks, psutil.virtual_memory().total // WORKER_BYTES)))


@dataclasses.dataclass(eq=False)
class _Task:
    """One call that is to be made."""

    call: bytes  # the pickled function and its further arguments
    item: bytes
    future: Future[Any] = dataclasses.field(default_factory=Future)
    deaths: int = 0  # how many workers have ended while they worked on it

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
    """One process."""

    connection: Connection
    process: Process
    tasks: deque[_Task] = dataclasses.field(default_factory=deque)  # what it has at hand; it works on the first
    retired: bool = False  # takes no more
    stuck: bool = False  # was given up, as it did nothing
    used: float = -1.0  # seconds of processor time, when they were last seen to grow
    since: float = 0.0  # when that was

    def idle_seconds(self, now: float) -> float:
        """For how long it has used no processor time over what it has at hand."""
        with contextlib.suppress(psutil.Error):
            times = self.process.cpu_times()
            if not self.tasks or times.user + times.system > self.used:
                self.used, self.since = times.user + times.system, now
            return now - self.since
        return 0.0  # it has ended, which its pipe says

    def give_up(self) -> None:
        """Ends it, and its pipe, should it hang in a call that nothing ends."""
        self.stuck = True
        _kill(self)
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self.connection.fileno())) as pipe:
            pipe.shutdown(socket.SHUT_RDWR)


class WorkerPool:
    """Worker processes, there while the context is open; a thread for each hands it its tasks.

    They are forked where that is possible, and have what this process has at that time: TensorFlow may have been
    imported by then, but not used. Elsewhere, in a notebook say, they are spawned: each imports TensorFlow, for
    seconds, and takes 0.4 GB (a fork: some milliseconds, and 3 MB of its own).

    A forked worker that was killed cannot be replaced: the others take over what it had at hand, which must do no harm
    when it is done twice. One that uses no processor time for long, stopped or waiting for a read, is killed.
    """

    def __init__(self, shared: Any) -> None:
        """Says what the second argument of every call is. Forked processes have it without its being sent to them."""
        self._shared = shared
        self._start = fork if can_fork() else spawn
        self._changed = threading.Condition()
        self._waiting: deque[_Task] = deque()
        self._workers: list[_Worker] = []
        self._more_come = False
        self._closed = False
        self._end = threading.Event()
        self._timeout = _timeout()
        self._lost = "a worker process was killed"

    def __enter__(self) -> Self:
        return self

    def start_early(self, count: int) -> Self:
        """Starts workers for what needs nothing that takes long to import; `start` replaces them."""
        self._more_come = True
        return self._add(count)

    def start(self, count: int) -> Self:
        """Starts workers. Those that were forked early lack what was imported since: they end with what they have."""
        early = list(self._workers) if self._start is fork else []
        self._add(count - len(self._workers) + len(early))
        with self._changed:
            self._more_come = False
            for worker in early:
                worker.retired = True
            self._changed.notify_all()
        self._fail_if_alone()
        return self

    def _add(self, count: int) -> Self:
        first = not self._workers
        added = [_Worker(*self._start(self._shared)) for _ in range(count)]
        with self._changed:
            self._workers += added
        for worker in added:
            threading.Thread(target=self._drive, args=(worker,), daemon=True).start()
        if first:
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    @property
    def processes(self) -> list[int]:
        """The ids of the processes, also of those that have ended."""
        return [worker.process.pid for worker in self._workers]

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            waiting, self._waiting = self._waiting, deque()
            self._changed.notify_all()
        self._end.set()
        for task in waiting:
            task.future.cancel()
        for worker in self._workers:  # after an error nothing that is still being done is of use
            _kill(worker)
        for worker in self._workers:
            with contextlib.suppress(psutil.TimeoutExpired):
                worker.process.wait(END_SECONDS)

    def map(self, function: Function, items: Sequence[Any], *arguments: Any) -> Iterator[Any]:
        """Begins to call `function(item, shared, *arguments)` on each item, again where a worker is killed.

        The function is found by its name, like everything that is pickled. The results are in the order of the items.
        An error of a call is raised in its place, and a WorkerError where two workers were killed over one item, or
        none is left.
        """
        call = pickle.dumps((function, arguments))
        tasks = [_Task(call, pickle.dumps(item)) for item in items]
        with self._changed:
            self._waiting.extend(tasks)
            self._changed.notify_all()
        self._fail_if_alone()
        return results_of(deque(task.future for task in tasks))

    def reduce(
        self, merge: Callable[[Any, Any], Any], function: Function, items: Sequence[Any], *arguments: Any
    ) -> Future[Any]:
        """Begins to call a function on each item, and to merge results as they come: all of them might be large."""
        results = self.map(function, items, *arguments)
        thread = ThreadPoolExecutor(1)
        merged = thread.submit(functools.reduce, merge, results)
        thread.shutdown(wait=False)
        return merged

    def _drive(self, worker: _Worker) -> None:
        """Hands a worker its tasks until there are no more for it, or it has ended."""
        try:
            while (tasks := self._next(worker)) is not None:
                for task in tasks:
                    worker.connection.send_bytes(task.call)
                    worker.connection.send_bytes(task.item)
                answer = worker.connection.recv_bytes()
                with self._changed:
                    task = worker.tasks.popleft()
                _settle(task, answer)
        except (EOFError, OSError):
            self._lose(worker)
        _kill(worker)
        worker.connection.close()

    def _watch(self) -> None:
        """Gives up workers that do nothing over what they have at hand."""
        pause = min(self._timeout / 4, 10)
        seen = time.monotonic()
        while not self._end.wait(pause):
            before, seen = seen, time.monotonic()
            for worker in list(self._workers):
                if seen - before > 2 * pause:  # this process was stopped, and its workers maybe with it
                    worker.used = -1.0
                if worker.idle_seconds(seen) > self._timeout and not worker.stuck:
                    counters.count(counters.STUCK)  # before others can do its work, and all be done
                    worker.give_up()

    def _next(self, worker: _Worker) -> list[_Task] | None:
        """Takes as many tasks for a worker as it has room for, and waits until it has one; None where it gets none."""
        found: list[_Task] = []
        with self._changed:
            while not self._closed:
                while self._waiting and self._has_room(worker):
                    task = self._waiting.popleft()
                    if not task.future.cancelled():
                        worker.tasks.append(task)
                        found.append(task)
                if worker.tasks:
                    return found
                if worker.retired:
                    return None
                self._changed.wait()
        return None

    def _has_room(self, worker: _Worker) -> bool:
        idle = any(not other.tasks for other in self._workers if not other.retired)
        return not worker.retired and (not worker.tasks or (len(worker.tasks) < AHEAD and not idle))

    def _lose(self, worker: _Worker) -> None:
        """Lets others do what a worker had at hand when it was killed."""
        with self._changed:
            worker.retired = True
            how = f"did nothing for {self._timeout:g} s" if worker.stuck else "was killed"
            self._lost = f"a worker process {how}"
            tasks = list(worker.tasks)
            worker.tasks.clear()
            if self._closed:
                for task in tasks:
                    task.future.cancel()
                return
            blamed = tasks[0] if tasks else None  # what it was working on; the next one is not to blame
            if blamed is not None:
                blamed.deaths += 1
                if blamed.deaths > RETRIES:
                    tasks = tasks[1:]
            self._waiting.extendleft(reversed(tasks))
            self._changed.notify_all()
        if blamed is not None and blamed.deaths > RETRIES:
            by = "" if worker.stuck else _signal(worker.process)
            message = f"a worker process {how}{by}, and another one was lost over the same work before"
            blamed.settle(None, WorkerError(f"{message}; {ADVICE}"))
        self._fail_if_alone()

    def _fail_if_alone(self) -> None:
        """Says of all that waits that nobody will do it, where no worker is left."""
        with self._changed:
            if self._more_come or not all(worker.retired for worker in self._workers):
                return
            lost, self._waiting = self._waiting, deque()
        for task in lost:
            task.settle(None, WorkerError(f"{self._lost}, and no other one is left; {ADVICE}"))


class ThisProcess:
    """Calls that this process makes itself, one after another. For Beam to place them takes longer than many a call."""

    def __init__(self, shared: Any) -> None:
        """Says what the second argument of every call is."""
        self._shared = shared

    def map(self, function: Function, items: Sequence[Any], *arguments: Any) -> Iterator[Any]:
        """What calls on the items return, each made when its result is asked for; arguments are as of a pool."""
        return (function(item, self._shared, *arguments) for item in items)


Workers = WorkerPool | ThisProcess
"""Who makes the calls that a runner does not place."""


def this_process(shared: Any, beam_options: Sequence[str]) -> ThisProcess | None:
    """This process; None where Beam's options say that a runner places the work."""
    return None if beam_options else ThisProcess(shared)


@contextmanager
def started(workers: int, shared: Any, beam_options: Sequence[str]) -> Iterator[Workers | None]:
    """A pool of so many workers, or this process; None where Beam's options say that a runner places the work."""
    if workers == 1:
        yield this_process(shared, beam_options)
        return
    with WorkerPool(shared) as pool:
        yield pool.start(workers)


def _timeout() -> float:
    """How long a worker may do nothing; a ConfigError where the environment says no number above 0."""
    said = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        seconds = float(said or TIMEOUT_SECONDS)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ConfigError(f"{TIMEOUT_VARIABLE}: expected seconds, above 0; found {said!r}")
    return seconds


def _kill(worker: _Worker) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        worker.process.kill()


def _signal(process: Process) -> str:
    """How a process was killed, where that is known."""
    with contextlib.suppress(psutil.Error):
        code = process.wait(END_SECONDS)  # its pipe is closed before it has a code
        return f" by {signal.Signals(-code).name}" if code is not None and code < 0 else ""
    return ""


def _settle(task: _Task, answer: bytes) -> None:
    """Hands on what a worker has answered, and counts here what has been done there."""
    try:
        result, error, counts = pickle.loads(answer)
    except Exception as unreadable:
        result, error, counts = None, unreadable, {}
    for stage, count in counts.items():
        counters.advance(stage, rows=count.rows, size=count.size)
    task.settle(result, error)


def results_of(futures: deque[Future[Any]]) -> Iterator[Any]:
    """Hands results on, as they are there, without keeping them."""
    try:
        while futures:
            yield futures.popleft().result()
    finally:
        for future in futures:
            future.cancel()
