"""The dtypes that can be read, and the columns of structured ones."""

from __future__ import annotations

import ast
import dataclasses
import functools
from typing import Any

import numpy as np

from pipelines.sources.formats.protocol import FormatError

ALLOWED = "bool, an integer, float16/32/64, complex64/128, bytes, text, or datetime64/timedelta64 with a unit"


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
def leaves(dtype: np.dtype[Any], path: tuple[str, ...] = (), shape: tuple[int, ...] = ()) -> tuple[Leaf, ...]:
    """The columns of an array, in the order of the dtype; fields of fields are columns too."""
    if dtype.subdtype is not None:
        base, axes = dtype.subdtype
        return leaves(base, path, shape + axes)
    if dtype.names is None:
        return (Leaf(name=".".join(path), path=path, dtype=dtype, shape=shape),)
    return tuple(leaf for name in dtype.names for leaf in leaves(dtype[name], (*path, name), shape))


@functools.lru_cache(maxsize=1024)
def record_text(dtype: np.dtype[Any]) -> str:
    """A structured dtype as text that `record_dtype` reads; empty for a plain one."""
    return repr(np.lib.format.dtype_to_descr(dtype)) if dtype.names is not None else ""


@functools.lru_cache(maxsize=1024)
def record_dtype(text: str) -> np.dtype[Any]:
    """The structured dtype that `record_text` wrote down."""
    return np.lib.format.descr_to_dtype(ast.literal_eval(text))


def as_integer(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The integers in which times are kept, in the same byte order; any other dtype as it is."""
    return np.dtype(np.int64).newbyteorder(dtype.byteorder) if dtype.kind in "mM" else dtype


def check_dtype(dtype: np.dtype[Any], described: str) -> None:
    """A FormatError if a dtype, or a field of it, is not one of `ALLOWED`, or two fields have one name."""
    if dtype.hasobject:
        raise FormatError(expected="a dtype without objects", found="object (it would have to be unpickled)")
    if dtype.subdtype is not None:
        raise FormatError(expected=ALLOWED, found=f"{described}, which has axes of its own")
    columns = leaves(dtype)
    for leaf in columns:
        if not is_allowed(leaf.dtype):
            field = f" in field {ascii(leaf.name)[:80]}" if leaf.name else ""
            raise FormatError(expected=ALLOWED, found=f"{leaf.dtype.name} ({described}){field}")
    if len({leaf.name for leaf in columns}) < max(1, len(columns)):
        raise FormatError(expected="fields, each of its own name", found=described)


def is_allowed(dtype: np.dtype[Any]) -> bool:
    """Whether values of a plain dtype can be read: NumPy's own numbers up to 64 bits, text, and times with a unit."""
    if dtype.kind in "mM":
        return np.datetime_data(dtype)[0] != "generic"
    if dtype.kind in "SU":
        return dtype.itemsize > 0
    return dtype.kind in "biu" or (dtype.kind, dtype.itemsize) in {("f", 2), ("f", 4), ("f", 8), ("c", 8), ("c", 16)}
