"""Errors of workers as the driver raises them again: each is written to a file in a directory that both share."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.errors import ClusterError, ConfigError, DataError, NpyflowError, WorkerError
from pipelines.runners.handoff import loaded
from pipelines.storage import directories, files

_raised: dict[str, Exception] = {}
"""The last error of each directory that was raised in this process, also where no file can be written."""

_KINDS = {kind.__name__: kind for kind in (ConfigError, DataError, WorkerError)}


def errors_beside(path: str) -> str:
    """The directory for the errors of a job whose plan is at a path."""
    return f"{path.rpartition('/')[0]}/errors"


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A function for workers: it is given the values of references, and its error is recorded in a directory."""

    function: Callable[..., Any]
    directory: str

    def __call__(self, *arguments: Any) -> Any:
        """Calls the function."""
        with recording(self.directory):
            return self.function(*map(loaded, arguments))


@contextmanager
def recording(directory: str) -> Iterator[None]:
    """Records an error that is raised inside the context."""
    try:
        yield
    except Exception as error:
        _raised[directory] = error
        record = {"time": time.time(), "error": type(error).__name__, "message": str(error)}
        if isinstance(error, OSError):
            record |= {"errno": error.errno, "strerror": error.strerror, "path": error.filename2 or error.filename}
        with contextlib.suppress(Exception):  # the disk may be full; then what the runner says is shown
            files.write_text(files.join(directory, f"{uuid.uuid4().hex}.json"), json.dumps(record))
        raise


def recorded(directory: str) -> Exception | None:
    """The last error that a worker has recorded; None where a user could not act on it, or there is none.

    It is the error itself where it was raised in this process, else one of npyflow's own with the same message, or an
    OSError of the same file.
    """
    if (error := _raised.get(directory)) is not None:
        known = isinstance(error, NpyflowError) or (isinstance(error, OSError) and error.filename is not None)
        return error if known else None
    try:
        found = [
            json.loads(files.read_text(files.join(directory, file.path))) for file in directories.list_files(directory)
        ]
    except (OSError, ValueError):
        return None
    last: dict[str, Any] = max(found, key=lambda record: float(record["time"]), default={})
    if last.get("path"):
        return OSError(last["errno"], last["strerror"], last["path"])
    kind = _KINDS.get(last.get("error", ""))
    return kind(last["message"]) if kind else None


@contextmanager
def raising_recorded(directory: str | None) -> Iterator[None]:
    """Raises, for a runner's failure inside the context, the error of the worker that it comes from.

    Some runners raise the worker's own error with the step's name added, some one with a traceback as text. Where no
    directory is given, workers have recorded none.
    """
    if directory is not None:
        _raised.pop(directory, None)  # what an earlier run has recorded
        directories.remove_tree(directory)
    try:
        yield
    except ClusterError:  # whatever its workers did before, and did again
        raise
    except Exception as failure:
        error = recorded(directory) if directory is not None else None
        if error is None:
            raise
        raise error from failure
