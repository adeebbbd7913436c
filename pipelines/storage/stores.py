"""File systems that are not local: what `files` asks of one, those that Beam has, and which one a path belongs to."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, Protocol, Self, cast

from pipelines import counters
from pipelines.storage.retry import retrying

FILE_SYSTEM_OPTIONS = (
    *("azure_", "blob_", "hdfs_", "s3_"),
    *("gcp_oauth_scopes", "impersonate_service_account", "no_auth", "project"),
)
"""How the names of Beam's options begin that say how file systems are reached."""

Listing = dict[str, tuple[int, float]]
"""Files by their whole paths, each with its bytes and when it was last changed, in seconds since 1970."""


class Writer(Protocol):
    """A file that is being written. Where an error leaves the context, what was written need not appear."""

    def write(self, data: bytes, /) -> object:
        """Appends bytes."""

    def close(self) -> object:
        """Ends the writing; the file is there."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: Any) -> object: ...


class Part(Protocol):
    """What a request for a range of bytes answers, read forward.

    Attributes:
        size: The bytes of the whole file.
    """

    size: int

    def readinto(self, buffer: memoryview, /) -> int:
        """Fills some of a buffer from its beginning; 0 at the end."""

    def close(self) -> None:
        """Ends the reading, also before the end."""


class Opened(Protocol):
    """A file that can be asked for ranges of bytes; nothing here is tried again."""

    def request(self, start: int, stop: int) -> Part:
        """Asks for bytes; the last ones may lie behind the end of the file."""

    def size(self) -> int:
        """The bytes of the file."""

    def close(self) -> None:
        """Ends the use of the file."""


class Store(Protocol):
    """A file system. Errors are OSErrors; all but `open` and what it gives try again what may pass.

    Attributes:
        writes_whole: Whether a file appears when it is closed, all of it at once, and not at all after an error.
    """

    writes_whole: bool

    def match(self, root: str) -> Listing:
        """Every file under a directory, hidden ones too; an error where there is none, or `root` is a file."""

    def exists(self, path: str) -> bool:
        """Whether there is a file, or, where there are such, a directory."""

    def size(self, path: str) -> int:
        """The bytes of a file."""

    def open(self, path: str, *, exact: bool) -> Opened:
        """Opens a file for reading by range; `exact` if no more than is asked for should be read."""

    def load(self, path: str) -> bytes:
        """The bytes of a file."""

    def create(self, path: str) -> Writer:
        """Opens a file for writing, in place of any that is there."""

    def create_new(self, path: str, data: bytes) -> bool:
        """Writes a file if there is none, and returns whether there was none."""

    def rename(self, source: str, destination: str) -> None:
        """Gives a file another name; one that has it is replaced."""

    def remove(self, paths: Sequence[str]) -> None:
        """Removes files; those that do not exist are no error."""

    def remove_tree(self, path: str) -> None:
        """Removes all that is under a directory; one that does not exist is no error."""

    def remove_unfinished(self, root: str) -> None:
        """Removes what is under a directory of files whose writing was never ended."""

    def make_directory(self, path: str) -> None:
        """Makes a directory, where there are such; one that exists is no error."""


def store_of(path: str) -> Store:
    """The file system of a path.

    Raises:
        OSError: If there is none for its scheme, or the packages for it are not installed.
    """
    if path.startswith("s3://"):
        from pipelines.storage import s3

        return s3.connect()
    return _BeamStore(path)


_shared: dict[str, Any] = {}


def configure(arguments: Sequence[str]) -> None:
    """Lets this process reach file systems with Beam's options, before a pipeline does so, and without any.

    Args:
        arguments: Command-line options of Beam, written `--name=value`; where there is none nothing is changed.
    """
    global _shared
    if not arguments:
        return
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    options = PipelineOptions(list(arguments))
    FileSystems.set_options(options)
    _shared = _of_file_systems(options)


def shared() -> dict[str, Any]:
    """The options of file systems that were given to this process, for those that work for it: `adopt` takes them."""
    return _shared


def adopt(given: Mapping[str, Any]) -> None:
    """Lets a worker reach file systems as the program does that it works for.

    Not every worker has the options of its pipeline: the processes of Beam's direct runner and those of plain worker
    pools have none. So they travel with what is pickled.

    Args:
        given: What `shared` has returned there.
    """
    global _shared
    if not given or given == _shared:
        return
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    own = beam_options().get_all_options(drop_default=True)
    FileSystems.set_options(PipelineOptions(flags=[], **(own | given)))
    _shared = dict(given)


def beam_options() -> Any:
    """Beam's options with which this process reaches file systems; those of a pipeline, once one was made."""
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    return FileSystems._pipeline_options or PipelineOptions([])


def inner_options() -> Any:
    """Options for a pipeline that is run inside a worker.

    They are those of file systems, which a pipeline sets for its process, and nothing of where the worker's own runs.
    """
    from apache_beam.options.pipeline_options import PipelineOptions

    return PipelineOptions(flags=[], pipeline_type_check=False, **_of_file_systems(beam_options()))


def _of_file_systems(options: Any) -> dict[str, Any]:
    found = options.get_all_options(drop_default=True)
    return {name: value for name, value in found.items() if name.startswith(FILE_SYSTEM_OPTIONS)}


def nothing_under(store: Store, root: str) -> OSError:
    """The error for a root below which an object store has nothing: it may be a file itself."""
    code = errno.ENOTDIR if store.exists(root) else errno.ENOENT
    return OSError(code, os.strerror(code), root)


def remove_all(store: Store, root: str) -> None:
    """Removes every file under a directory of an object store; where there is none that is no error."""
    with contextlib.suppress(FileNotFoundError):
        store.remove(list(store.match(root)))


class _BeamStore:
    """A file system of Beam's: Google's object store, HDFS, and others that are registered."""

    writes_whole = False

    def __init__(self, path: str) -> None:
        from apache_beam.io.filesystems import FileSystems

        try:
            self._system: Any = FileSystems.get_filesystem(path)
        except ValueError as error:  # a scheme that Beam does not know, or one whose packages are not installed
            raise OSError(str(error)) from error

    def match(self, root: str) -> Listing:
        """Every file under `root`.

        Object stores list everything below a prefix. File systems that have directories (HDFS) list one level,
        directories among the files, with size 0; listing a file fails there, which is how the two are told apart.
        """
        found: dict[str, Any] = {}
        pending = [root]
        while pending:
            directory = pending.pop()
            try:
                entries = retrying(lambda: self._entries(directory))  # noqa: B023
            except OSError:
                if directory == root:
                    raise
                continue
            found.pop(directory, None)
            for entry in entries:
                if entry.path not in found and entry.path.startswith(f"{directory}/"):
                    found[entry.path] = entry
                    if self._system.has_dirs() and entry.size_in_bytes == 0:
                        pending.append(entry.path)
        if not found and not self._system.has_dirs():
            raise nothing_under(self, root)
        return {path: (each.size_in_bytes, float(each.last_updated_in_seconds or 0)) for path, each in found.items()}

    def _entries(self, directory: str) -> list[Any]:
        # Beam cannot quote a wildcard; `?` stands for each, and what else it matches is left out by the caller.
        pattern = re.sub(r"[*?[]", "?", directory) + "/**"
        return list(self._system.match([pattern])[0].metadata_list)

    def exists(self, path: str) -> bool:
        return bool(retrying(lambda: self._system.exists(path)))

    def size(self, path: str) -> int:
        return int(retrying(lambda: self._system.size(path)))

    def open(self, path: str, *, exact: bool) -> Opened:
        return _BeamOpened(self._system, path, exact=exact)

    def load(self, path: str) -> bytes:
        def read() -> bytes:
            counters.count(counters.REQUESTS)
            with contextlib.closing(_open(self._system, path)) as file:
                return file.read()

        data = retrying(read)
        counters.count(counters.BYTES_READ, len(data))
        return data

    def create(self, path: str) -> Writer:
        from apache_beam.io.filesystem import CompressionTypes

        def create() -> Any:
            self._make_way(path)
            return self._system.create(path, compression_type=CompressionTypes.UNCOMPRESSED)

        return cast(Writer, retrying(create))

    def create_new(self, path: str, data: bytes) -> bool:
        """Beam has no way to write a file only where there is none, so another may come in between."""
        if self.exists(path):
            return False
        with self.create(path) as file:
            file.write(data)
        return True

    def rename(self, source: str, destination: str) -> None:
        def rename() -> None:
            if self._system.exists(destination) and not self._system.exists(source):
                return  # an attempt before this one did it, and only its answer was lost
            self._make_way(destination)
            self._system.rename([source], [destination])

        retrying(rename)

    def _make_way(self, path: str) -> None:
        """Removes a file where the file system would refuse to write over it (HDFS); object stores replace it."""
        if self._system.has_dirs() and self._system.exists(path):
            self._system.delete([path])

    def remove(self, paths: Sequence[str]) -> None:
        retrying(lambda: self._remove(paths))

    def _remove(self, paths: Sequence[str]) -> None:
        there = [path for path in paths if self._system.exists(path)]
        if there:
            self._system.delete(there)

    def remove_tree(self, path: str) -> None:
        if self._system.has_dirs():
            self.remove([path])
        else:
            remove_all(self, path)

    def remove_unfinished(self, root: str) -> None:
        """What was not closed is not there, or lies among the temporary files."""

    def make_directory(self, path: str) -> None:
        if not self.exists(path):
            retrying(lambda: self._system.mkdirs(path))


def _open(system: Any, path: str) -> BinaryIO:
    from apache_beam.io.filesystem import CompressionTypes

    # Without it, Beam would unpack a file by its suffix.
    return cast(BinaryIO, system.open(path, compression_type=CompressionTypes.UNCOMPRESSED))


class _BeamOpened:
    """A file of Beam's: it can seek, and asks for what is read, with a buffer of megabytes unless `exact`."""

    def __init__(self, system: Any, path: str, *, exact: bool) -> None:
        self._file = _open(system, path)
        # Without Beam's buffer: it would read 16 MiB after each seek.
        self._reader: Any = getattr(self._file, "raw", self._file) if exact else self._file
        self._size: int | None = None

    def request(self, start: int, stop: int) -> Part:
        size = self.size()
        counters.count(counters.REQUESTS)
        self._reader.seek(start)
        return _BeamPart(self._reader, size)

    def size(self) -> int:
        if self._size is None:
            self._size = int(self._reader.seek(0, os.SEEK_END))
        return self._size

    def close(self) -> None:
        self._file.close()


class _BeamPart:
    def __init__(self, reader: Any, size: int) -> None:
        self._reader = reader
        self.size = size

    def readinto(self, buffer: memoryview) -> int:
        return int(self._reader.readinto(buffer) or 0)

    def close(self) -> None:
        """The file stays open for further ranges."""
