"""`.npy` files, whose headers are read as NumPy documents the format (versions 1 to 3). Nothing is ever unpickled.

NumPy's own readers of headers do not do: there is a public one for versions 1 and 2 only, and they accept negative
lengths and bools in a shape.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import math
import tokenize
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from pipelines.sources.formats import contiguous
from pipelines.sources.formats.dtypes import ALLOWED, check_dtype
from pipelines.sources.formats.protocol import Format, FormatError, Header, Member
from pipelines.sources.formats.selection import Selection
from pipelines.storage import files
from pipelines.storage.remote import ReadTask

MAGIC = b"\x93NUMPY"

MAX_HEADER = 10_000
"""NumPy's own limit on a header's bytes, padding included; Python's parser is not safe on much longer text."""

MAX_AXES = 64
MAX_BYTES = 2**63 - 1

_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4, (3, 0): 4}
_KEYS = {"descr", "fortran_order", "shape"}


class Npy(Format):
    """A file of one array."""

    suffix = ".npy"

    def members(self, path: str, *, size: int) -> Sequence[Member]:
        with files.open_input(path, size=size) as file:
            return [Member(name="", header=read_header(file, size=size))]

    def read(self, path: str, selections: Sequence[Selection]) -> None:
        contiguous.read_local(path, selections)

    def pieces(self, path: str, selections: Sequence[Selection]) -> Iterator[ReadTask]:
        return contiguous.pieces(path, selections)


def read_header(file: BinaryIO, *, size: int) -> Header:
    """Reads and checks a header; no memory is taken on its word.

    Args:
        file: The file at its beginning; afterwards it stands at the first value.
        size: The bytes of the whole file.

    Returns:
        The header, whose locator is the offset of the first value. Its shape accounts for every byte of the file.

    Raises:
        FormatError: If the file is not a `.npy` file of a dtype that can be read, is truncated, or goes on after the
            values.
        OSError: If the file cannot be read.
    """
    text, offset = _read_text(file)
    dtype, shape, fortran = _interpret(text)
    header = Header(dtype=dtype, shape=shape, fortran=fortran, locator=offset)
    expected = offset + header.nbytes
    if size != expected:
        what = f"{expected} bytes: {offset} of header and {dtype.name} values of shape {shape}"
        fault = "truncated" if size < expected else f"{size - expected} trailing bytes"
        raise FormatError(expected=what, found=f"{size} bytes ({fault})")
    return header


@functools.lru_cache(maxsize=1024)
def _interpret(text: str) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    """Dtype, shape and Fortran order. Millions of small files have few headers, so equal ones share these."""
    value = _parse(text)
    dtype, shape, fortran = _dtype(value["descr"]), _shape(value["shape"]), value["fortran_order"]
    if not isinstance(fortran, bool):
        raise FormatError(expected="fortran_order to be True or False", found=type(fortran).__name__)
    # NumPy makes no array of more bytes, counting an axis of 0 as 1.
    if math.prod(max(1, length) for length in shape) * dtype.itemsize > MAX_BYTES:
        raise FormatError(expected="an array of fewer than 2**63 bytes", found=f"shape {shape}")
    return dtype, shape, fortran


def _read_text(file: BinaryIO) -> tuple[str, int]:
    """The header's text, and where the values begin."""
    magic = _read(file, len(MAGIC) + 2, "a .npy file, which begins with \\x93NUMPY and a version")
    if not magic.startswith(MAGIC):
        raise FormatError(expected="a .npy file, which begins with \\x93NUMPY", found=f"{magic[: len(MAGIC)]!r}")
    version = (magic[-2], magic[-1])
    if version not in _LENGTH_BYTES:
        raise FormatError(expected=".npy version 1.0, 2.0 or 3.0", found=f"version {version[0]}.{version[1]}")
    count = _LENGTH_BYTES[version]
    length = int.from_bytes(_read(file, count, "the length of the header"), "little")
    if length > MAX_HEADER:
        raise FormatError(expected=f"a header of at most {MAX_HEADER} bytes", found=f"{length} bytes")
    data = _read(file, length, f"a header of {length} bytes")
    try:
        text = data.decode("utf-8" if version == (3, 0) else "latin-1")
    except UnicodeDecodeError as error:
        raise FormatError(expected="a header in UTF-8", found=str(error)) from None
    return _short_integers(text) if version != (3, 0) else text, len(magic) + count + length


@functools.lru_cache(maxsize=1024)
def _short_integers(text: str) -> str:
    """A header without the L of long integers, which NumPy wrote on Python 2: (3L, 4L); any other as it is.

    Source: `_filter_header` of NumPy's `numpy/lib/_format_impl.py`, which takes what Python's tokenizer takes.
    """
    try:
        ast.literal_eval(text)
    except SyntaxError:
        # What the tokenizer does not take either is left: it is no dictionary.
        with contextlib.suppress(SyntaxError, ValueError, tokenize.TokenError):
            tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
            pairs = zip([None, *tokens], tokens, strict=False)
            return tokenize.untokenize(
                token
                for before, token in pairs
                if not (before and before.type == tokenize.NUMBER and token[:2] == (tokenize.NAME, "L"))
            )
    except (ValueError, TypeError, MemoryError, RecursionError):  # as `_parse` says
        pass
    return text


def _read(file: BinaryIO, count: int, what: str) -> bytes:
    """Exactly `count` bytes; an unbuffered file may give fewer at a time."""
    data = b""
    while len(data) < count:
        piece = file.read(count - len(data))
        if not piece:
            raise FormatError(expected=what, found=f"the end of the file after {len(data)} of {count} bytes")
        data += piece
    return data


def _parse(text: str) -> dict[str, Any]:
    expected = "a header that is a dictionary of descr, fortran_order and shape"
    try:
        value = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        # The last two are Python's parser on deeply nested text, which the limit on its length keeps small.
        raise FormatError(expected=expected, found=f"{_show(text.strip())} ({type(error).__name__})") from None
    if not isinstance(value, dict) or value.keys() != _KEYS:
        raise FormatError(expected=expected, found=_show(text.strip()))
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
        raise FormatError(expected=ALLOWED, found=f"descr {_show(descr)}") from None
    check_dtype(dtype, f"descr {_show(descr)}")
    return dtype


def _shape(value: object) -> tuple[int, ...]:
    lengths = value if isinstance(value, tuple) else (None,)
    # A bool is an int to Python.
    if len(lengths) > MAX_AXES or not all(type(length) is int and 0 <= length <= MAX_BYTES for length in lengths):
        expected = f"a shape that is a tuple of at most {MAX_AXES} lengths, each from 0 to 2**63 - 1"
        raise FormatError(expected=expected, found=_show(value))
    return lengths
