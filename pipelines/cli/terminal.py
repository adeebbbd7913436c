"""What a command does to its process: it is quiet, its GPUs are left alone, and Ctrl-C ends it and its workers."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import psutil
from rich.console import Console

from pipelines.cli.common import has_begun
from pipelines.errors import EXIT_INTERRUPTED, GOES_ON
from pipelines.runners import flink, process_setup
from pipelines.runners.beam import runs_here
from pipelines.storage import files


@contextmanager
def quiet_work(*, debug: bool) -> Iterator[None]:
    """Hides what libraries write to the standard error, unless an error is to be found."""
    process_setup.keep_off_gpus()
    with ExitStack() as stack:
        if not debug:
            stack.enter_context(process_setup.hidden_stderr())
        yield


@contextmanager
def long_work(options: argparse.Namespace, console: Console) -> Iterator[None]:
    """Makes Ctrl-C end what is run inside the context at once; hides what libraries and local workers write.

    Nothing is hidden to `debug`. Where an output is written to, a message says whether the same command goes on.
    """
    placed = options.beam_options
    with ExitStack() as stack:
        stack.enter_context(stopping_at_once(console.show_cursor, getattr(options, "output", "")))
        hidden = not options.debug and bool(runs_here(placed) or flink.Cluster.of(placed))
        if hidden:
            process_setup.silence_worker_tracebacks()
        stack.enter_context(quiet_work(debug=not hidden))
        yield


@contextmanager
def stopping_at_once(before: Callable[[], object], output: str) -> Iterator[None]:
    """Makes Ctrl-C and SIGTERM end this process, whatever a runner and its threads do, and do something `before`.

    Python's own KeyboardInterrupt can be swallowed on its way through a runner. Nothing needs to be put in order: what
    is half written is not part of a data set, and the next run of the same command removes it.
    """

    def stop(number: int, _: object) -> None:
        before()
        for process in psutil.Process().children(recursive=True):  # which would go on with their work
            with suppress(psutil.NoSuchProcess):
                process.kill()
        goes_on = f"; {GOES_ON[0].lower()}{GOES_ON[1:]}" if not files.is_local(output) or has_begun(output) else ""
        os.write(terminal, f"npyflow: interrupted{goes_on}\n".encode())
        os._exit(EXIT_INTERRUPTED if number == signal.SIGINT else 128 + number)

    if threading.current_thread() is not threading.main_thread():  # only there can a handler be set
        yield
        return
    terminal = os.dup(2)
    handlers = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(terminal)
