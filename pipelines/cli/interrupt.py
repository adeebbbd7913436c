"""Ctrl-C: ends a command and its workers at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil

EXIT_INTERRUPTED = 130


@contextmanager
def stopping_at_once(before: Callable[[], object]) -> Iterator[None]:
    """Makes Ctrl-C end this process, whatever a runner and its threads are doing.

    Python's own KeyboardInterrupt can be swallowed on its way through a runner. Nothing needs to be put in order: what
    is half written is not part of a data set, and the next run of the same command removes it.

    Args:
        before: What is done first, such as showing the terminal's cursor again.
    """

    def stop(*_: object) -> None:
        before()
        _kill_descendants()
        os.write(terminal, b"npyflow: interrupted; the same command goes on where it stopped\n")
        os._exit(EXIT_INTERRUPTED)

    if threading.current_thread() is not threading.main_thread():  # only there can a handler be set
        yield
        return
    terminal = os.dup(2)
    handler = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        os.close(terminal)


def _kill_descendants() -> None:
    """Kills the processes below this one: Beam's workers, which would go on with what they have begun."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()
