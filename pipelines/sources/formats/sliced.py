"""Arrays that a library opens, and cuts by slices: `h5py`'s and `zarr`'s."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.errors import DataError, Problem
from pipelines.sources.formats.dtypes import as_integer, check_dtype
from pipelines.sources.formats.protocol import FormatError, Header, Member
from pipelines.sources.formats.selection import Selection

OBJECTS = "a dtype of one size, such as NumPy's S8 for text"


def member(name: str, array: Any, chunks: tuple[int, ...] | None) -> Member:
    """What a library's array, with a `dtype` and a `shape`, is as a member of its container.

    `chunks` is the shape of what the container stores together; None where rows can be read alone.
    """
    dtype, shape = np.lib.format.drop_metadata(np.dtype(array.dtype)), array.shape  # h5py keeps notes of its own there
    try:
        if shape is None:
            raise FormatError(expected="an array", found="an empty data set, which has no shape")
        if dtype.hasobject or dtype.kind == "T":
            raise FormatError(expected=OBJECTS, found=f"{dtype}: elements whose lengths vary")
        check_dtype(dtype, str(dtype))
    except FormatError as error:
        return Member(name=name, error=error)
    return Member(name=name, header=Header(dtype=dtype, shape=tuple(shape), chunk=chunks[0] if chunks else 1))


def copy(array: Any, path: str, selection: Selection) -> None:
    """Copies the rows of a selection out of a library's array; a DataError if its dtype or shape has changed."""
    dtype, shape = as_integer(np.dtype(array.dtype)), tuple(array.shape)
    if dtype != selection.dtype or selection.shape not in (shape, (1, *shape)):
        source = selection.source
        expected = f"{source.member or 'array'!r} of {selection.dtype} and shape {source.shape}, as it was at first"
        found = f"{dtype} and shape {shape}: it has changed"
        raise DataError(str(Problem(path=path, expected=expected, found=found)))
    selection.copy_from(array)
