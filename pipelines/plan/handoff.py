"""Large values that travel to workers as the path of a file."""

from __future__ import annotations

import hashlib
import pickle
import zlib
from typing import Any, TypeVar

from pipelines.errors import WorkerError
from pipelines.runners.failures import errors_beside, recording
from pipelines.runners.versions import stamp, unstamp
from pipelines.storage import connections, files

REMEMBERED = 2
"""The values that a process keeps in memory: a worker has one, a program that makes many data sets leaves them."""

_PLACE = "_place"
_loaded: dict[tuple[str, str], Kept] = {}


class Kept:
    """A value that is pickled as the path of the file where `keep` has put it.

    Every step of a job has the plan, and a plan has some hundred bytes for each file of the sources.
    """

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickles the way to get it; itself, if it lies nowhere."""
        place = vars(self).get(_PLACE)
        return super().__reduce_ex__(protocol) if place is None else (_load, (*place, connections.shared()))


K = TypeVar("K", bound=Kept)


def keep(value: K, path: str) -> K:
    """Writes a value to a file.

    Args:
        value: The value.
        path: The file, which all workers can read.

    Returns:
        The same value, which is pickled as the path from now on.
    """
    kept = _copy(value)
    data = stamp(zlib.compress(pickle.dumps(kept), 1))  # paths are alike: a tenth is left
    files.write_bytes(path, data)
    return _remember((path, _digest(data)), kept)


def _copy(value: K) -> K:
    """A copy that lies nowhere."""
    copied = object.__new__(type(value))
    vars(copied).update({name: own for name, own in vars(value).items() if name != _PLACE})
    return copied


def _load(path: str, digest: str, options: dict[str, Any]) -> Kept:
    """Reads a value, once in each process.

    Args:
        path: The file.
        digest: That of the value.
        options: With which the file system is reached.

    Raises:
        WorkerError: If the file holds another one by now, or this process has other versions than the driver.
    """
    connections.adopt(options)
    known = _loaded.get((path, digest))
    if known is not None:
        return known
    with recording(errors_beside(path)):
        data = files.read_bytes(path)
        if _digest(data) != digest:
            raise WorkerError(f"{path}: expected the plan of this job; found that of another one")
        value: Kept = pickle.loads(zlib.decompress(unstamp(data, path)))
    return _remember((path, digest), value)


def _remember(place: tuple[str, str], value: K) -> K:
    vars(value)[_PLACE] = place
    while len(_loaded) >= REMEMBERED:
        _loaded.pop(next(iter(_loaded)), None)
    _loaded[place] = value
    return value


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
