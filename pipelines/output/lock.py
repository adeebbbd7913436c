"""Keeps two builds out of one output: the second is told who the first is; one that was killed is in nobody's way."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import os
import pathlib
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Annotated, Self

import msgspec
import psutil
from filelock import FileLock, Timeout

from pipelines.errors import OutputError
from pipelines.output.directory import Output
from pipelines.storage import files

BEAT_SECONDS = 10.0
"""How often a build says in an object store that it goes on."""

STALE_SECONDS = 60.0
"""After so long without a word another machine's build counts as dead; clocks may differ by less than half of it."""

SETTLE_SECONDS = 1.0
"""After a lock was taken over, how long another may need who saw it stale in the same moment."""

CLOCK_SECONDS = 2.0
"""How far two answers may differ on when a process began: the system counts from when it was booted."""

ATTEMPTS = 3

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
"""File systems that have no locks, some of a network."""


Seconds = Annotated[float, msgspec.Meta(ge=0, lt=1e11)]
"""Seconds since 1970; those that a date can be made of."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holder:
    """Who builds; times are seconds since 1970."""

    owner: str  # a random name of the run
    host: str
    pid: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
    started: Seconds  # when the process began: a number may be given to another one later
    since: Seconds  # when the build began
    beat: Seconds  # when it was last known to go on

    @classmethod
    def this(cls) -> Self:
        """This process, now."""
        now, pid = time.time(), os.getpid()
        return cls(owner=uuid.uuid4().hex, host=socket.gethostname(), pid=pid, started=_start(pid), since=now, beat=now)

    @classmethod
    def loads(cls, data: bytes) -> Self | None:
        """Reads what `dumps` wrote; None for anything else."""
        try:
            return msgspec.json.decode(data, type=cls)
        except (ValueError, RecursionError):
            return None

    def dumps(self) -> bytes:
        """This as JSON."""
        return msgspec.json.encode(self)

    @property
    def gone(self) -> bool:
        """Whether the build is known to have ended, or has not been heard of for long."""
        if self.host == socket.gethostname():
            return abs(_start(self.pid) - self.started) > CLOCK_SECONDS
        return time.time() - self.beat > STALE_SECONDS

    def __str__(self) -> str:
        since = datetime.datetime.fromtimestamp(self.since).isoformat(sep=" ", timespec="seconds")
        return f"{self.host}, process {self.pid}, since {since}"

    def refuse(self, root: str) -> OutputError:
        """The error for another build."""
        return OutputError(
            f"{root}: expected no other build of this output; found one on {self}. "
            "Wait for it, or stop it and give the command again"
        )


def _start(pid: int) -> float:
    """When a process began, in seconds since 1970; 0 if there is none."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0


@contextlib.contextmanager
def held(output: Output) -> Iterator[None]:
    """Holds the lock of an output while the context is open; an OutputError where another build holds it.

    In a local directory the operating system locks a file, and ends the lock with the process. In other file systems it
    is an object that says who builds, written anew every `BEAT_SECONDS`: one whose process has ended on this machine,
    or that has not been written for `STALE_SECONDS`, is taken over. Where the store cannot write an object only if
    there is none, two builds that begin in the same moment may both hold it.
    """
    with _held_locally(output) if files.is_local(output.root) else _held_by_object(output):
        yield


@contextlib.contextmanager
def _held_locally(output: Output) -> Iterator[None]:
    mine, new = Holder.this(), not os.path.isdir(output.root)
    files.make_directory(output.root)
    _refuse_links(output.root)
    lock = FileLock(output.lock, blocking=False, fallback_to_soft=False)
    try:
        _lock_file(lock, output, mine)
        try:
            yield
        finally:
            _remove(output, mine)  # while it is held: who has opened it since sees that it is gone
            lock.release()
    finally:
        if new:
            with contextlib.suppress(OSError):  # there is something in it
                os.rmdir(output.root)


def _refuse_links(root: str) -> None:
    """Checks that what is written to, emptied or removed in the directory lies in it."""
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.is_symlink():
                raise OutputError(
                    f"{entry.path}: expected files and directories of the data set's own; found a link to "
                    f"{os.readlink(entry.path)}. Nothing was changed; name another directory"
                )


def _lock_file(lock: FileLock, output: Output, mine: Holder) -> None:
    """Locks the file, and says in it who has."""
    while True:
        try:
            lock.acquire()
        except Timeout:
            found = _read(output)
            if found is None:  # its build ended in this moment
                continue
            who = found if found.host else dataclasses.replace(mine, host="another machine", pid=0)
            raise who.refuse(output.root) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        pathlib.Path(output.lock).write_bytes(mine.dumps())  # in place: it is this file that is locked
        return


@contextlib.contextmanager
def _held_by_object(output: Output) -> Iterator[None]:
    mine = Holder.this()
    _acquire(output, mine)
    ended = threading.Event()
    thread = threading.Thread(target=_beat, args=(output, mine, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _remove(output, mine)


def _acquire(output: Output, mine: Holder) -> None:
    for _ in range(ATTEMPTS):
        if files.create_new(output.lock, mine.dumps()):
            break
        found = _read(output)
        if found is None:  # removed since
            continue
        if found.owner == mine.owner:  # an attempt before did it, and only its answer was lost
            break
        if not found.gone:
            raise found.refuse(output.root)
        # Others may do the same in this moment; all write, and after a while the last one is there.
        files.write_bytes(output.lock, mine.dumps())
        time.sleep(SETTLE_SECONDS)
        break
    found = _read(output)
    if found is None or found.owner != mine.owner:
        raise (found or mine).refuse(output.root)


def _read(output: Output) -> Holder | None:
    """Who holds the lock; None if nobody does."""
    if not files.exists(output.lock):
        return None
    data = files.read_bytes(output.lock)
    return Holder.loads(data) or Holder(owner="", host="", pid=0, started=0.0, since=0.0, beat=0.0)


def _remove(output: Output, mine: Holder) -> None:
    """Removes the lock, unless another has it by now."""
    with contextlib.suppress(OSError):  # it is stale soon
        found = _read(output)
        if found is not None and found.owner == mine.owner:
            files.remove(output.lock)


def _beat(output: Output, mine: Holder, ended: threading.Event) -> None:
    """Writes the lock anew, unless another has taken it over, until the build ends."""
    while not ended.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):  # the next time may do
            found = _read(output)
            if found is None or found.owner != mine.owner:
                return
            files.write_bytes(output.lock, dataclasses.replace(mine, beat=time.time()).dumps())
