"""`.npz` archives: the headers of their members, and their rows, read by range or streamed.

Nothing is unpacked as a whole. Where a member is stored as it is, its values lie at an offset of the archive's file;
where it is compressed, it is read forward. The archive has a CRC-32 of each member, which whoever reads a compressed
one to its end compares by the way; a stored one is read once more for that.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import io
import math
import os
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from pipelines.errors import DataError, Problem
from pipelines.sources.formats import contiguous
from pipelines.sources.formats.npy import Npy, read_header
from pipelines.sources.formats.protocol import Format, FormatError, Member, naming_container
from pipelines.sources.formats.requests import Remote, Request, fulfil, join_requests
from pipelines.sources.formats.selection import Selection
from pipelines.sources.formats.unchanged import check_local, check_size, check_status
from pipelines.sources.parts import SourceArray
from pipelines.storage import files
from pipelines.storage.remote import ReadTask

SUFFIX = Npy.suffix

SKIP_BYTES = 2**20
"""The most that is unpacked at a time on the way to the bytes that are wanted."""

CHECKED_BYTES = 2**20
"""What is read at a time to be compared with a checksum: it stays in the processor's cache."""

CHECKED = 4096
"""Stored members that a process remembers to have compared: several passes need not do it again."""

OPEN_STREAMS = 8
"""Compressed members that a process keeps open, each with the place it has reached: some 100 KiB of memory each."""

FAULTS = (
    zipfile.BadZipFile,
    NotImplementedError,
    EOFError,
    zlib.error,
    struct.error,
    OverflowError,
    ValueError,
)
"""What Python's reader raises on archives that are damaged, or that it cannot read."""

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_MAX_DEFLATION = 1032
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_ENCRYPTED = 1


class Npz(Format):
    """An archive of arrays, which have names: each is a feature."""

    suffix = ".npz"
    named = True

    def members(self, path: str, *, size: int) -> Sequence[Member]:
        with files.open_input(path, size=size) as file:
            return read_members(file, size=size)

    def read(self, path: str, selections: Sequence[Selection]) -> None:
        packed, stored = _by_compression(selections)
        if packed:
            _unpack(path, packed)
        if stored:
            contiguous.read_local(path, stored)

    def check(self, path: str, selections: Sequence[Selection]) -> None:
        for selection in _by_compression(selections)[1]:
            _check_stored(path, selection.source, math.prod(selection.shape) * selection.dtype.itemsize)

    def pieces(self, path: str, selections: Sequence[Selection]) -> Iterator[ReadTask]:
        packed, stored = _by_compression(selections)
        if packed:
            yield functools.partial(_unpack, path, packed)
        if stored:
            yield from contiguous.pieces(path, stored)


def _by_compression(selections: Sequence[Selection]) -> tuple[list[Selection], list[Selection]]:
    """Selections of compressed members, and of others."""
    return (
        [selection for selection in selections if selection.source.compressed],
        [selection for selection in selections if not selection.source.compressed],
    )


def _unpack(path: str, selections: Iterable[Selection]) -> None:
    """Reads compressed members, one after the other: on in a stream that a read has left open, or in a new one."""
    with naming_container(path):
        for selection in selections:
            source = selection.source
            check_local(path, source)
            key = (path, source.member, source.size, source.modified)
            stream = streams.take(key) or MemberStream(path, source.member)
            try:
                check_size(stream.size, path, source)
                contiguous.read_from(stream, selection)
            except BaseException:
                stream.close()
                raise
            streams.give(key, stream)


@functools.lru_cache(CHECKED)
def _check_stored(path: str, source: SourceArray, size: int) -> None:
    """Compares a stored member, whose values have this size, with its CRC-32."""
    found: int
    found, expected = source.checksum

    def add(data: npt.NDArray[np.uint8]) -> None:
        nonlocal found
        found = zlib.crc32(data.data, found)

    cuts = range(source.locator, source.locator + size, CHECKED_BYTES)
    asked = (Request(offset=at, size=min(CHECKED_BYTES, cuts.stop - at), place=add) for at in cuts)
    if files.is_local(path):
        with open(path, "rb", buffering=0) as file:
            check_status(os.fstat(file.fileno()), path, source)
            fulfil(file, asked, source)
    else:
        for piece in join_requests(Remote(path, source), [asked]):
            piece()
    if found != expected:
        what = f"member {source.member + SUFFIX!r} to have CRC-32 {expected:08x}, as the archive says"
        raise DataError(str(Problem(path=path, expected=what, found=f"{found:08x}: the archive is damaged")))


def open_archive(file: BinaryIO) -> zipfile.ZipFile:
    """Reads the directory of an archive, whose file can seek."""
    if isinstance(file, io.RawIOBase):  # it may give fewer bytes than were asked for, which zipfile does not expect
        file = cast(BinaryIO, io.BufferedReader(file))
    try:
        return zipfile.ZipFile(file)
    except FAULTS as error:
        expected = "a .npz archive, whose directory is at its end (it is not while the archive is being written)"
        raise FormatError(expected=expected, found=str(error) or type(error).__name__) from None


def read_members(file: BinaryIO, *, size: int) -> list[Member]:
    """Reads the headers of all arrays in an archive; no memory is taken on their word.

    Returns:
        A member for each array, in the order of the archive's directory. Files in the archive that do not end in
        `.npy` are left out.

    Raises:
        FormatError: If the file is no archive, or holds no array, or two of the same name.
        OSError: If it cannot be read.
    """
    if (found := file.seek(0, os.SEEK_END)) != size:
        raise FormatError(expected=f"{size} bytes, as when it was listed", found=f"{found} bytes: the file has changed")
    with open_archive(file) as archive:
        infos = [info for info in archive.infolist() if info.filename.endswith(SUFFIX)]
        counts = collections.Counter(info.filename for info in infos)
        if not infos:
            raise FormatError(
                expected="an archive of at least one .npy file", found=f"{len(archive.infolist())} others"
            )
        if len(counts) < len(infos):
            raise FormatError(expected="members of different names", found=f"{counts.most_common(1)[0][0]!r} twice")
        return [_read_member(archive, info) for info in infos]


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    name = info.filename.removesuffix(SUFFIX)
    compressed = info.compress_type != zipfile.ZIP_STORED
    try:
        _check_member(info)
        start = None if compressed else _stored_start(archive, info)
        with archive.open(info) as stream:  # compares what stands before the member with the directory
            header = read_header(cast(BinaryIO, stream), size=info.file_size)
        if start is None:
            header = dataclasses.replace(header, compressed=True)
        else:  # its values lie in the archive's file; what stands before them is part of the checksum
            file = cast(BinaryIO, archive.fp)
            file.seek(start)
            before = zlib.crc32(file.read(header.locator))
            header = dataclasses.replace(header, locator=start + header.locator, checksum=(before, info.CRC))
    except FormatError as error:
        return Member(name=name, error=error)
    except (*FAULTS, RuntimeError) as error:
        fault = FormatError(expected=f"member {name!r} to be readable", found=str(error) or type(error).__name__)
        return Member(name=name, error=fault)
    return Member(name=name, header=header)


def _check_member(info: zipfile.ZipInfo) -> None:
    if info.flag_bits & _ENCRYPTED:
        raise FormatError(expected="members without a password", found=f"{info.filename!r}, which is encrypted")
    if info.compress_type not in _METHODS:
        found = f"{info.filename!r} with method {info.compress_type}"
        # Python unpacks bzip2 and lzma too, but takes whatever memory the archive says; NumPy writes neither.
        raise FormatError(expected="members that are stored or deflated, as NumPy writes them", found=found)
    if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
        found = f"{info.compress_size} for member {info.filename!r}"
        raise FormatError(expected=f"{info.file_size} bytes stored", found=found)
    if info.compress_type == zipfile.ZIP_DEFLATED and info.file_size > _MAX_DEFLATION * (info.compress_size + 1):
        # The best that deflation can do: RFC 1951 codes at most 258 bytes in 2 bits.
        found = f"{info.compress_size} bytes, too few for the {info.file_size} bytes of member {info.filename!r}"
        raise FormatError(expected="a deflated member", found=found)


def _stored_start(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> int:
    """Where a member begins that lies in the archive's file as it is, behind a header of its own."""
    file = cast(BinaryIO, archive.fp)
    file.seek(info.header_offset)
    data = file.read(_LOCAL_HEADER.size)
    expected = f"the header of member {info.filename!r} at byte {info.header_offset}"
    if len(data) < _LOCAL_HEADER.size:
        raise FormatError(expected=expected, found="the end of the file")
    signature, *_, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(data)
    if signature != b"PK\x03\x04":
        raise FormatError(expected=expected, found=f"{signature!r}")
    start: int = info.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
    if start + info.file_size > archive.start_dir:
        found = f"its {info.file_size} bytes to begin at byte {start}"
        raise FormatError(expected=f"member {info.filename!r} to end before byte {archive.start_dir}", found=found)
    return start


class MemberStream:
    """The bytes of a compressed member, read forward; going back starts again.

    Reading to the end checks the member's CRC-32. What cannot be read is a FormatError, of the file an OSError.
    """

    def __init__(self, path: str, member: str) -> None:
        self._name = member + SUFFIX
        self._position = 0
        file = files.open_input(path)
        try:
            self._archive = open_archive(file)
            self._stream = self._open()
        except FormatError:
            file.close()
            raise

    def _open(self) -> Any:
        try:
            return self._archive.open(self._name)
        except (*FAULTS, KeyError, RuntimeError) as error:
            raise FormatError(expected=f"an archive with member {self._name!r}", found=str(error)) from None

    @property
    def size(self) -> int:
        """The bytes of the archive's file."""
        return cast(BinaryIO, self._archive.fp).seek(0, os.SEEK_END)

    def seek(self, offset: int) -> int:
        """Goes to a place, by unpacking all that is before it."""
        if offset < self._position:
            self._stream.close()
            self._stream, self._position = self._open(), 0
        while self._position < offset and self.readinto(bytearray(min(SKIP_BYTES, offset - self._position))):
            pass
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fills some of a buffer from its beginning; says how many bytes were read, 0 at the end of the member."""
        view = memoryview(buffer).cast("B")[:SKIP_BYTES]
        try:
            count: int = self._stream.readinto(view)
        except FAULTS as error:
            raise FormatError(expected=f"member {self._name!r} to unpack", found=str(error) or "its end") from None
        self._position += count
        return count

    def close(self) -> None:
        """Closes the archive's file."""
        self._stream.close()
        file = self._archive.fp
        self._archive.close()
        if file is not None:  # an archive leaves open what it did not open
            file.close()


class StreamCache:
    """The open streams of this process: rows that are read in ascending order are unpacked once.

    A stream is in use by one thread at a time; the others open their own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: collections.OrderedDict[tuple[Any, ...], MemberStream] = collections.OrderedDict()

    def take(self, key: tuple[Any, ...]) -> MemberStream | None:
        """The stream that was given back under a key, if there is one."""
        with self._lock:  # a process that was forked off shares the file's place with its parent: so the process counts
            return self._streams.pop((os.getpid(), *key), None)

    def give(self, key: tuple[Any, ...], stream: MemberStream) -> None:
        """Keeps a stream for later, in place of one that has been kept for long."""
        with self._lock:
            others = [self._streams.pop((os.getpid(), *key), None)]
            self._streams[(os.getpid(), *key)] = stream
            if len(self._streams) > OPEN_STREAMS:
                others.append(self._streams.popitem(last=False)[1])
        for other in others:
            if other is not None:
                other.close()


streams = StreamCache()
"""Shared by all threads of the process."""
