"""Makes the items of an iterator in a thread of its own, some before they are asked for."""

from __future__ import annotations

import atexit
import collections
import os
import queue
import threading
import weakref
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

AUTOTUNE = -1
"""Lets the loader choose how many batches are kept ready; it is `tf.data.AUTOTUNE`, without importing TensorFlow."""

THREAD_NAME = "npyflow-prefetch"

# The thread hands over a quarter of what it keeps ready at once: each time costs both threads a change of the GIL.
BUNDLES = 4


class Prefetcher(Iterator[T], Generic[T]):
    """The items of an iterator, in its order, of which a thread keeps some ready.

    The thread begins when the first item is asked for. It ends after the last one, after an error, and soon after this
    object is gone. Nobody else may use the iterator. At least one item is made before it is asked for.
    """

    def __init__(self, items: Iterator[T], *, depth: int) -> None:
        self._thread: _PrefetchThread[T] | None = _PrefetchThread(items, depth)
        self._process: int | None = None
        self._bundle: collections.deque[T | _End] = collections.deque()
        weakref.finalize(self, self._thread.stop).atexit = False

    def __next__(self) -> T:
        """The next item; what the iterator raises in its place is raised here.

        Raises:
            RuntimeError: If the process was forked from the one that began; threads are not copied.
        """
        thread = self._thread
        if thread is None:
            raise StopIteration
        if self._process is None:
            self._process = os.getpid()
            thread.start()
            _THREADS.add(thread)
        if self._process != os.getpid():
            raise RuntimeError("an iteration that reads ahead goes on only in its own process; begin another one here")
        if not self._bundle:
            self._bundle.extend(thread.ready.get())
            thread.wanted.put(True)
        item = self._bundle.popleft()
        if not isinstance(item, _End):
            return item
        self._thread = None
        try:
            raise item.error or StopIteration
        finally:
            del item  # the error's traceback has this frame, which would keep the error


class _End:
    """What comes after the last item."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _PrefetchThread(threading.Thread, Generic[T]):
    """The thread; it has no reference to the `Prefetcher`, so that this can be gone while it waits."""

    def __init__(self, items: Iterator[T], depth: int) -> None:
        # A program that ends does not wait for a batch that nobody wants; `_stop_all` does, which has stopped it.
        super().__init__(name=THREAD_NAME, daemon=True)
        self._items: Iterator[T] | None = items
        self.ready: queue.SimpleQueue[list[T | _End]] = queue.SimpleQueue()
        self.wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._size = size = max(1, depth // BUNDLES)
        for _ in range((depth - size + 1) // size):  # the others of a bundle are ready too when its first is taken
            self.wanted.put(True)
        self._stopped = False

    def stop(self) -> None:
        """Lets the thread end after the item that it makes. It is called where no lock may be waited for."""
        self._stopped = True
        self.wanted.put(True)

    def run(self) -> None:
        items, self._items = self._items, None
        assert items is not None
        size = 1  # nobody waits longer for the first one
        while self.wanted.get() and not self._stopped:
            bundle: list[T | _End] = []
            try:
                while len(bundle) < size and not self._stopped:
                    bundle.append(next(items))
            except StopIteration:
                bundle.append(_End(None))
            except BaseException as error:
                bundle.append(_End(error))  # it is raised where the item is asked for
            ended = bool(bundle) and isinstance(bundle[-1], _End)
            self.ready.put(bundle)
            if ended:
                return
            size = self._size


_THREADS: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """Ends the threads before what they use is torn down."""
    threads = [thread for thread in _THREADS if isinstance(thread, _PrefetchThread) and thread.is_alive()]
    for thread in threads:
        thread.stop()
    for thread in threads:
        thread.join()
