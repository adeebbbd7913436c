"""A worker process of this machine: how it is started, and the loop in which it answers calls."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import psutil

from pipelines import counters
from pipelines.runners.process_setup import keep_off_gpus

Process = Any
"""A `psutil.Process` that can be waited for."""

Function = Callable[..., Any]
"""A function of an item, what all workers share, and further arguments."""


def can_fork() -> bool:
    """Whether a process that is forked from this one would work.

    TensorFlow's threads are not there in a fork, nor are JAX's; on systems other than Linux libraries break.
    """
    return sys.platform == "linux" and not jax_was_used() and not tensorflow_was_used()


def jax_was_used() -> bool:
    """Whether JAX has begun its threads in this process: where it is installed, TensorFlow imports it and no more."""
    if "jax" not in sys.modules:
        return False
    has_begun = getattr(sys.modules.get("jax._src.xla_bridge"), "backends_are_initialized", None)
    return has_begun is None or bool(has_begun())


def tensorflow_was_used() -> bool:
    """Whether TensorFlow has begun its threads in this process."""
    if "tensorflow" not in sys.modules:
        return False
    threads = sys.modules["tensorflow"].config.threading
    count = threads.get_inter_op_parallelism_threads()
    try:
        threads.set_inter_op_parallelism_threads(count + 1)
    except RuntimeError:  # it can be set until then
        return True
    threads.set_inter_op_parallelism_threads(count)
    return False


def fork(shared: Any) -> tuple[Connection, Process]:
    """Starts a worker that has all that this process has imported and read."""
    gc.freeze()  # the collector would write to pages that the processes share
    here, there = multiprocessing.Pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    number = os.fork()
    if number == 0:
        try:
            here.close()
            # Another thread of the parent may have held the locks of these.
            sys.stdout, sys.stderr = (os.fdopen(descriptor, "w", closefd=False) for descriptor in (1, 2))
            _serve(there, shared)
        finally:
            os._exit(1)
    there.close()  # or this process would never see that the other one has ended
    return here, psutil.Process(number)


def spawn(shared: Any) -> tuple[Connection, Process]:
    """Starts a worker that is a program of its own and imports what it needs.

    `multiprocessing` would run the user's program in it once more, up to its `if __name__ == "__main__"`.
    """
    here, there = multiprocessing.Pipe()
    process = psutil.Popen(
        [sys.executable, "-c", "from pipelines.runners import worker; worker.main()", str(there.fileno())],
        pass_fds=[there.fileno()],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # the chatter of TensorFlow; errors come through the pipe
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    there.close()
    here.send(shared)
    return here, process


def main() -> None:
    """The program of a worker that was spawned; its argument is the number of its pipe."""
    connection = Connection(int(sys.argv[1]))
    _serve(connection, connection.recv())


def _serve(connection: Connection, shared: Any) -> None:
    """Answers calls, in their order, until the parent has ended; the next one may come while one is worked on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    keep_off_gpus()
    os.environ["TF_NUM_INTRAOP_THREADS"] = "1"  # the processes are the parallelism
    calls: queue.SimpleQueue[tuple[bytes, bytes]] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, calls), daemon=True).start()
    while True:
        connection.send_bytes(_answer(*calls.get(), shared))


def _receive(connection: Connection, calls: queue.SimpleQueue[tuple[bytes, bytes]]) -> None:
    try:
        while True:
            calls.put((connection.recv_bytes(), connection.recv_bytes()))
    except (EOFError, OSError):  # the parent has ended, however busy this process is
        os._exit(1)


def _answer(call: bytes, item: bytes, shared: Any) -> bytes:
    """What a call comes to: the pickle of its result, its error or None, and what it has counted."""
    try:
        function, arguments = pickle.loads(call)
        with counters.counting() as counter:
            result = function(pickle.loads(item), shared, *arguments)
        return pickle.dumps((result, None, counter.counts()), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        return _pickle_error(error)


def _pickle_error(error: Exception) -> bytes:
    try:
        data = pickle.dumps((None, error, {}))
        pickle.loads(data)
    except Exception:  # one that only the library knows that has raised it
        data = pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}"), {}))
    return data
