"""Makes directories of `.npy` files, and a file system of Beam's that keeps its files in memory."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata, FileSystem

INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
DTYPES = ("bool", *INTEGERS, "float16", "float32", "float64")


def npy_bytes(array: np.ndarray[Any, Any], *, version: tuple[int, int] | None = None) -> bytes:
    """The `.npy` file that NumPy writes for an array."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version, allow_pickle=True)
    return file.getvalue()


def npz_bytes(arrays: Mapping[str, np.ndarray[Any, Any]], *, compressed: bool = False) -> bytes:
    """The `.npz` archive that NumPy writes."""
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def with_header(text: str, data: bytes = b"", *, version: tuple[int, int] = (1, 0)) -> bytes:
    """A `.npy` file of any header."""
    header = text.encode()
    return b"\x93NUMPY" + bytes(version) + len(header).to_bytes(2 if version == (1, 0) else 4, "little") + header + data


def write_files(root: pathlib.Path, contents: Mapping[str, np.ndarray[Any, Any] | bytes]) -> str:
    """Writes arrays and bytes under paths from `root`, which it returns as text."""
    root.mkdir(parents=True, exist_ok=True)
    for path, content in contents.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else npy_bytes(content))
    return str(root)


def values(shape: tuple[int, ...], dtype: str, *, seed: int = 0) -> np.ndarray[Any, Any]:
    """An array of random bits, so that every value of the dtype occurs, NaN and infinities among them."""
    kind = np.dtype(dtype)
    generator = np.random.default_rng(seed)
    if kind.kind == "b":
        return generator.integers(0, 2, shape).astype(kind)
    if kind.kind == "U":
        codes = generator.integers(1, 0xD800, (*shape, kind.itemsize // 4)).astype(np.uint32)
        return codes.view(kind.newbyteorder("="))[..., 0].astype(kind)
    count = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    return np.frombuffer(generator.bytes(count), dtype=kind).reshape(shape).copy()


class RamFileSystem(FileSystem):
    """`ram://`: an object store in memory that counts the bytes read from it."""

    contents: ClassVar[dict[str, bytes]] = {}
    bytes_read = 0
    requests = 0

    @classmethod
    def scheme(cls) -> str:
        return "ram"

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path: str) -> None:
        pass

    def has_dirs(self) -> bool:
        return False

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        for path, data in sorted(self.contents.items()):
            if path.startswith(dir_or_prefix):
                yield FileMetadata(path, len(data), 1.0)

    def create(self, path: str, mime_type: str = "", compression_type: str = CompressionTypes.AUTO) -> Any:
        assert compression_type == CompressionTypes.UNCOMPRESSED
        return _RamWriter(path)

    def open(self, path: str, mime_type: str = "", compression_type: str = CompressionTypes.AUTO) -> Any:
        assert compression_type == CompressionTypes.UNCOMPRESSED
        return _RamReader(self._get(path))

    def _get(self, path: str) -> bytes:
        if path not in self.contents:
            raise BeamIOError(f"no such object: {path}")
        return self.contents[path]

    def copy(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        for source, destination in zip(source_file_names, destination_file_names, strict=True):
            self.contents[destination] = self._get(source)

    def rename(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        self.copy(source_file_names, destination_file_names)
        self.delete(source_file_names)

    def exists(self, path: str) -> bool:
        return path in self.contents

    def size(self, path: str) -> int:
        return len(self._get(path))

    def last_updated(self, path: str) -> float:
        return 1.0

    def checksum(self, path: str) -> str:
        return str(hash(self._get(path)))

    def metadata(self, path: str) -> FileMetadata:
        return FileMetadata(path, self.size(path), 1.0)

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            self._get(path)
            del self.contents[path]


class _RamReader(io.RawIOBase):
    """Gives at most 64 KiB at a time, as a connection may."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._data)}[whence]
        RamFileSystem.requests += whence == io.SEEK_SET
        return self._position

    def readinto(self, buffer: Any) -> int:
        piece = self._data[self._position : self._position + min(len(buffer), 2**16)]
        buffer[: len(piece)] = piece
        self._position += len(piece)
        RamFileSystem.bytes_read += len(piece)
        return len(piece)


class _RamWriter(io.BytesIO):
    """An object appears when it is closed."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            RamFileSystem.contents[self._path] = self.getvalue()
        super().close()


def empty_ram() -> None:
    """Removes all that is in `ram://`, and counts from zero."""
    RamFileSystem.contents.clear()
    RamFileSystem.bytes_read = RamFileSystem.requests = 0
