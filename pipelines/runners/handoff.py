"""Large values that travel to workers as a reference to a file.

Every step of a job has the plan, and a plan has some hundred bytes for each file of the sources.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
import zlib
from collections.abc import Mapping
from typing import Any, Generic, TypeVar, cast

from pipelines.errors import WorkerError
from pipelines.runners.versions import stamp, unstamp
from pipelines.storage import file_systems, files

T = TypeVar("T")

REMEMBERED = 2
"""The values that a process keeps in memory: a worker has one, a program that makes many data sets leaves them."""

_loaded: dict[tuple[str, str], Any] = {}


@dataclasses.dataclass(frozen=True)
class Handoff(Generic[T]):
    """A value that `hand_over` has put into a file; what is pickled is this reference."""

    path: str
    digest: str
    options: Mapping[str, Any] = dataclasses.field(repr=False, hash=False)  # with which its file system is reached

    def load(self) -> T:
        """The value, which a process reads once; a WorkerError where the file holds another one by now."""
        file_systems.configure(self.options)
        known = _loaded.get((self.path, self.digest))
        if known is not None:
            return cast(T, known)
        data = files.read_bytes(self.path)
        if _digest(data) != self.digest:
            raise WorkerError(f"{self.path}: expected the plan of this job; found that of another one")
        return _remember(self, cast(T, pickle.loads(zlib.decompress(unstamp(data, self.path)))))


def hand_over(value: T, path: str) -> Handoff[T]:
    """Writes a value to a file that all workers can read; returns the reference, whose value this process has."""
    data = stamp(zlib.compress(pickle.dumps(value), 1))  # paths are alike: a tenth is left
    files.write_bytes(path, data)
    reference = Handoff[T](path, _digest(data), file_systems.shared())
    _remember(reference, value)
    return reference


def loaded(value: Any) -> Any:
    """What a worker works with: the value of a reference, or what is none."""
    return value.load() if isinstance(value, Handoff) else value


def _remember(reference: Handoff[T], value: T) -> T:
    while len(_loaded) >= REMEMBERED:
        _loaded.pop(next(iter(_loaded)), None)
    _loaded[reference.path, reference.digest] = value
    return value


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
