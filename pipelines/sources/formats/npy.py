"""The header of a `.npy` file, read as NumPy documents the format (versions 1 to 3). Nothing is ever unpickled."""

from __future__ import annotations

import ast
import dataclasses
import functools
import math
import re
from typing import Any, BinaryIO

import numpy as np

MAGIC = b"\x93NUMPY"

MAX_HEADER = 10_000
"""NumPy's own limit on a header's bytes, padding included; Python's parser is not safe on much longer text."""

MAX_AXES = 64
MAX_BYTES = 2**63 - 1

_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4, (3, 0): 4}
_KEYS = {"descr", "fortran_order", "shape"}
_ALLOWED = "bool, an integer, float16/32/64, complex64/128, bytes, text, or datetime64/timedelta64 with a unit"


class NpyError(ValueError):
    """A file that is not a `.npy` file whose rows can be read.

    Attributes:
        expected: What was expected of the file.
        found: What was found.
    """

    def __init__(self, *, expected: str, found: str) -> None:
        super().__init__(expected, found)
        self.expected = expected
        self.found = found

    def __reduce__(self) -> tuple[Any, ...]:
        return _npy_error, (self.expected, self.found)

    def __str__(self) -> str:
        return f"expected {self.expected}; found {self.found}"


def _npy_error(expected: str, found: str) -> NpyError:
    return NpyError(expected=expected, found=found)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Leaf:
    """One column of values: a whole array of a plain dtype, or a field of a structured one.

    Attributes:
        name: The names of the field and of those that hold it, joined by `.`; empty for a plain dtype.
        path: The same names, from the outermost.
        dtype: The dtype of the values, in the file's byte order.
        shape: The shape that the field adds to that of the array.
    """

    name: str
    path: tuple[str, ...]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@functools.lru_cache(maxsize=1024)
def leaves(dtype: np.dtype[Any]) -> tuple[Leaf, ...]:
    """The columns of an array, in the order of the dtype; fields of fields are columns too.

    Args:
        dtype: The dtype of the array.
    """
    return tuple(_leaves(dtype, (), ()))


def _leaves(dtype: np.dtype[Any], path: tuple[str, ...], shape: tuple[int, ...]) -> list[Leaf]:
    if dtype.subdtype is not None:
        base, axes = dtype.subdtype
        return _leaves(base, path, shape + axes)
    if dtype.names is None:
        return [Leaf(name=".".join(path), path=path, dtype=dtype, shape=shape)]
    return [leaf for name in dtype.names for leaf in _leaves(dtype[name], (*path, name), shape)]


@functools.lru_cache(maxsize=1024)
def record_text(dtype: np.dtype[Any]) -> str:
    """A structured dtype as text that `record_dtype` reads; empty for a plain one."""
    return repr(np.lib.format.dtype_to_descr(dtype)) if dtype.names is not None else ""


@functools.lru_cache(maxsize=1024)
def record_dtype(text: str) -> np.dtype[Any]:
    """The structured dtype that `record_text` wrote down."""
    return np.lib.format.descr_to_dtype(ast.literal_eval(text))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What the header of a `.npy` file says.

    Attributes:
        dtype: The dtype in the file, in the file's byte order; may be structured.
        shape: The shape of the array.
        fortran: Whether the first axis varies fastest.
        offset: Where the values begin, in bytes.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    offset: int

    @property
    def nbytes(self) -> int:
        """The bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(file: BinaryIO, *, size: int) -> Header:
    """Reads and checks a header; no memory is taken on its word.

    Args:
        file: The file at its beginning; afterwards it stands at the first value.
        size: The bytes of the whole file.

    Returns:
        The header. Its dtype, or that of each field, is bool, an integer, a float or a complex of at most 64 bits a
        component, bytes, text, or a datetime64 or timedelta64 with a unit. Its shape accounts for every byte of the
        file.

    Raises:
        NpyError: If the file is not a `.npy` file of such a dtype, or is truncated, or goes on after the values.
        OSError: If the file cannot be read.
    """
    text, offset = _read_text(file)
    dtype, shape, fortran = _interpret(text)
    header = Header(dtype=dtype, shape=shape, fortran=fortran, offset=offset)
    _check_size(header, size)
    return header


@functools.lru_cache(maxsize=1024)
def _interpret(text: str) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    """Dtype, shape and Fortran order. Millions of small files have few headers, so equal ones share these."""
    value = _parse(text)
    dtype, shape, fortran = _dtype(value["descr"]), _shape(value["shape"]), _fortran(value["fortran_order"])
    # NumPy makes no array of more bytes, counting an axis of 0 as 1.
    if math.prod(max(1, length) for length in shape) * dtype.itemsize > MAX_BYTES:
        raise NpyError(expected="an array of fewer than 2**63 bytes", found=f"shape {shape}")
    return dtype, shape, fortran


def _read_text(file: BinaryIO) -> tuple[str, int]:
    """The header's text, and where the values begin."""
    magic = _read(file, len(MAGIC) + 2, "a .npy file, which begins with \\x93NUMPY and a version")
    if not magic.startswith(MAGIC):
        raise NpyError(expected="a .npy file, which begins with \\x93NUMPY", found=f"{magic[: len(MAGIC)]!r}")
    version = (magic[-2], magic[-1])
    if version not in _LENGTH_BYTES:
        raise NpyError(expected=".npy version 1.0, 2.0 or 3.0", found=f"version {version[0]}.{version[1]}")
    count = _LENGTH_BYTES[version]
    length = int.from_bytes(_read(file, count, "the length of the header"), "little")
    if length > MAX_HEADER:
        raise NpyError(expected=f"a header of at most {MAX_HEADER} bytes", found=f"{length} bytes")
    data = _read(file, length, f"a header of {length} bytes")
    try:
        text = data.decode("utf-8" if version == (3, 0) else "latin-1")
    except UnicodeDecodeError as error:
        raise NpyError(expected="a header in UTF-8", found=str(error)) from None
    if version != (3, 0):
        # NumPy on Python 2 wrote long integers, such as (3L, 4L).
        text = re.sub(r"(?<=\d)L(?=\s*[,)])", "", text)
    return text, len(magic) + count + length


def _read(file: BinaryIO, count: int, what: str) -> bytes:
    """Exactly `count` bytes; an unbuffered file may give fewer at a time."""
    data = b""
    while len(data) < count:
        piece = file.read(count - len(data))
        if not piece:
            raise NpyError(expected=what, found=f"the end of the file after {len(data)} of {count} bytes")
        data += piece
    return data


def _parse(text: str) -> dict[str, Any]:
    expected = "a header that is a dictionary of descr, fortran_order and shape"
    text = text.strip()
    try:
        value = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        # The last two are Python's parser on deeply nested text, which the limit on its length keeps small.
        raise NpyError(expected=expected, found=f"{_show(text)} ({type(error).__name__})") from None
    if not isinstance(value, dict) or value.keys() != _KEYS:
        raise NpyError(expected=expected, found=_show(text))
    return value


def _show(value: object, limit: int = 80) -> str:
    try:
        shown = ascii(value)
    except ValueError:  # Python does not print integers of more than 4,300 digits
        return "a number of thousands of digits"
    return shown if len(shown) <= limit else f"{shown[:limit]}..."


def _dtype(descr: Any) -> np.dtype[Any]:
    try:
        dtype = np.lib.format.descr_to_dtype(descr)
    except Exception:  # which errors NumPy raises on odd text is not documented
        raise NpyError(expected=_ALLOWED, found=f"descr {_show(descr)}") from None
    if dtype.hasobject:
        raise NpyError(expected="a dtype without objects", found="object (it would have to be unpickled)")
    if dtype.subdtype is not None:
        raise NpyError(expected=_ALLOWED, found=f"descr {_show(descr)}, which has axes of its own")
    columns = leaves(dtype)
    for leaf in columns:
        if not is_allowed(leaf.dtype):
            field = f" in field {_show(leaf.name)}" if leaf.name else ""
            raise NpyError(expected=_ALLOWED, found=f"{leaf.dtype.name} (descr {_show(descr)}){field}")
    if len({leaf.name for leaf in columns}) < max(1, len(columns)):
        raise NpyError(expected="fields, each of its own name", found=f"descr {_show(descr)}")
    return dtype


def is_allowed(dtype: np.dtype[Any]) -> bool:
    """Whether values of a plain dtype can be read: NumPy's own numbers up to 64 bits, text, and times with a unit."""
    if dtype.kind in "mM":
        return np.datetime_data(dtype)[0] != "generic"
    if dtype.kind in "SU":
        return dtype.itemsize > 0
    return dtype.kind in "biu" or (dtype.kind, dtype.itemsize) in {("f", 2), ("f", 4), ("f", 8), ("c", 8), ("c", 16)}


def _shape(value: object) -> tuple[int, ...]:
    expected = f"a shape that is a tuple of at most {MAX_AXES} lengths, each from 0 to 2**63 - 1"
    if not isinstance(value, tuple) or len(value) > MAX_AXES:
        raise NpyError(expected=expected, found=_show(value))
    # A bool is an int to Python.
    if not all(type(length) is int and 0 <= length <= MAX_BYTES for length in value):
        raise NpyError(expected=expected, found=_show(value))
    return value


def _fortran(value: object) -> bool:
    if not isinstance(value, bool):
        raise NpyError(expected="fortran_order to be True or False", found=type(value).__name__)
    return value


def _check_size(header: Header, size: int) -> None:
    expected = header.offset + header.nbytes
    if size == expected:
        return
    what = f"{expected} bytes: {header.offset} of header and {header.dtype.name} values of shape {header.shape}"
    fault = "truncated" if size < expected else f"{size - expected} trailing bytes"
    raise NpyError(expected=what, found=f"{size} bytes ({fault})")
