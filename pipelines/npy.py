"""The header of a `.npy` file, read as NumPy documents the format (versions 1 to 3). Nothing is ever unpickled."""

from __future__ import annotations

import ast
import dataclasses
import math
import re
from typing import Any, BinaryIO

import numpy as np

from loaders.spec import DTYPES

MAGIC = b"\x93NUMPY"

MAX_HEADER = 10_000
"""NumPy's own limit on a header's bytes, padding included; Python's parser is not safe on much longer text."""

MAX_AXES = 64
MAX_BYTES = 2**63 - 1

_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4, (3, 0): 4}
_KEYS = {"descr", "fortran_order", "shape"}


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Header:
    """What the header of a `.npy` file says.

    Attributes:
        dtype: The dtype in the file, in the file's byte order.
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
        The header. Its dtype is bool, an integer, or float16, float32 or float64; its shape accounts for every byte
        of the file.

    Raises:
        NpyError: If the file is not a `.npy` file of such a dtype, or is truncated, or goes on after the values.
        OSError: If the file cannot be read.
    """
    text, offset = _read_text(file)
    value = _parse(text)
    header = Header(
        dtype=_dtype(value["descr"]),
        shape=_shape(value["shape"]),
        fortran=_fortran(value["fortran_order"]),
        offset=offset,
    )
    # NumPy makes no array of more bytes, counting an axis of 0 as 1.
    if math.prod(max(1, length) for length in header.shape) * header.dtype.itemsize > MAX_BYTES:
        raise NpyError(expected="an array of fewer than 2**63 bytes", found=f"shape {header.shape}")
    _check_size(header, size)
    return header


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


def _dtype(descr: object) -> np.dtype[Any]:
    expected = "bool, an integer, or float16/32/64"
    if isinstance(descr, (list, tuple)):
        raise NpyError(expected=expected, found=f"a structured dtype, {_show(descr)}")
    if not isinstance(descr, str):
        raise NpyError(expected=expected, found=f"descr {_show(descr)}")
    try:
        dtype = np.dtype(descr)
    except Exception:  # which errors NumPy raises on odd text is not documented
        raise NpyError(expected=expected, found=f"descr {_show(descr)}") from None
    if dtype.hasobject:
        raise NpyError(expected="a numeric dtype", found="object (it would have to be unpickled)")
    if dtype.newbyteorder("=").name not in DTYPES:
        raise NpyError(expected=expected, found=f"{dtype.name} (descr {_show(descr)})")
    return dtype


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
