"""Makes directories of `.npy` files, and a file system of fsspec that keeps its files in memory."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar

import fsspec
import numpy as np
from fsspec.spec import AbstractFileSystem

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


def damaged_npz(array: np.ndarray[Any, Any], *, compressed: bool = False) -> bytes:
    """An archive whose member `x` has one bit of its last value, or another checksum, than NumPy wrote.

    Its member `w`, the same array, is whole.
    """
    data = bytearray(npz_bytes({"w": array, "x": array}, compressed=compressed))
    mark = b"PK\x01\x02"  # begins what the directory says of a member
    data[data.rindex(mark) + 16 if compressed else data.index(mark) - 1] ^= 1
    return bytes(data)


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


class RamFileSystem(AbstractFileSystem):
    """`ram://`: files in memory, which are shared by all instances; it counts what is read from them."""

    protocol = "ram"
    contents: ClassVar[dict[str, bytes]] = {}
    """The files by their whole paths."""
    bytes_read = 0
    requests = 0

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """What is directly in a directory, or a file itself."""
        path = self._strip_protocol(path)
        below = {self._strip_protocol(name): len(data) for name, data in self._own().items()}
        if path in below:
            return [self.info(path)] if detail else [path]
        names = {
            path + "/" + name[len(path) + 1 :].split("/")[0] if path else name.split("/")[0]
            for name in below
            if not path or name.startswith(f"{path}/")
        }
        if not names:
            raise FileNotFoundError(path)
        return [self.info(name) for name in sorted(names)] if detail else sorted(names)

    def _own(self) -> dict[str, bytes]:
        return {name: data for name, data in self.contents.items() if name.startswith(f"{self.protocol}://")}

    def _whole(self, path: str) -> str:
        return f"{self.protocol}://{self._strip_protocol(path)}"

    def _get(self, path: str) -> bytes:
        if self._whole(path) not in self.contents:
            raise FileNotFoundError(f"no such object: {self._whole(path)}")
        return self.contents[self._whole(path)]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        path, whole = self._strip_protocol(path), self._whole(path)
        if whole in self.contents:
            return {"name": path, "size": len(self.contents[whole]), "type": "file", "mtime": 1.0}
        if any(name.startswith(f"{whole}/") for name in self.contents):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(f"no such object: {whole}")

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        data = self._get(path)[start:end]
        RamFileSystem.requests += 1
        RamFileSystem.bytes_read += len(data)
        return data

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        if mode == "create" and self._whole(path) in self.contents:
            raise FileExistsError(path)
        self.write(path, bytes(value))

    def write(self, path: str, data: bytes) -> None:
        """What all writing of files goes through."""
        self.contents[self._whole(path)] = data

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        return io.BytesIO(self._get(path)) if mode == "rb" else _RamWriter(self, path)

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        self.contents[self._whole(path2)] = self._get(path1)

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        self.cp_file(path1, path2)
        self.rm_file(path1)

    def rm_file(self, path: str) -> None:
        self._get(path)
        del self.contents[self._whole(path)]

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        assert recursive
        self.info(path)
        for name in [name for name in self.contents if f"{name}/".startswith(f"{self._whole(path)}/")]:
            del self.contents[name]


class _RamWriter(io.BytesIO):
    """A file appears when it is closed."""

    def __init__(self, system: RamFileSystem, path: str) -> None:
        super().__init__()
        self._system = system
        self._path = path

    def close(self) -> None:
        if not self.closed:
            self._system.write(self._path, self.getvalue())
        super().close()


def register(system: type[RamFileSystem]) -> type[RamFileSystem]:
    """Lets fsspec know a file system by its scheme."""
    fsspec.register_implementation(str(system.protocol), system, clobber=True)
    return system


register(RamFileSystem)


def empty_ram() -> None:
    """Removes all that is in `ram://`, and counts from zero."""
    RamFileSystem.contents.clear()
    RamFileSystem.bytes_read = RamFileSystem.requests = 0
