"""What a container of arrays can do: `Format`, and what it says of the arrays."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from pipelines.errors import DataError, Problem
from pipelines.sources.formats.selection import Selection
from pipelines.storage.remote import ReadTask


class FormatError(ValueError):
    """A container whose arrays cannot be read."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(expected, found)
        self.expected, self.found = expected, found

    def __str__(self) -> str:
        return f"expected {self.expected}; found {self.found}"


@contextlib.contextmanager
def naming_container(path: str) -> Iterator[None]:
    """A FormatError inside becomes a DataError that names the container: its headers were read before."""
    try:
        yield
    except FormatError as error:
        raise DataError(str(Problem(path=path, expected=error.expected, found=error.found))) from None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What a container says of one array.

    Attributes:
        dtype: The dtype in the file, in the file's byte order; may be structured. `dtypes.check_dtype` accepts it.
        fortran: Whether the first axis varies fastest.
        compressed: Whether the middle of the array can only be read by way of what is before it; the plan then has
            larger blocks.
        locator: Where the array is found in its container: a number or text, for the format alone.
        chunk: How many indices of the first axis are stored together, so that none is read alone; the plan then has
            blocks of whole chunks.
        checksum: What `Format.check` compares the values with, for the format alone; None where there is nothing.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool = False
    compressed: bool = False
    locator: Any = None
    chunk: int = 1
    checksum: Any = None

    @property
    def nbytes(self) -> int:
        """The bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One array of a container.

    Attributes:
        name: Its name; empty where the container holds one array, which the file's name names.
        header: What its header says, or None if the array cannot be read.
        error: Why it cannot be read, or None.
    """

    name: str
    header: Header | None = None
    error: FormatError | None = None


class Format(abc.ABC):
    """A kind of container of arrays.

    Attributes:
        suffix: How the paths of such containers end.
        named: Whether arrays have names of their own, which are those of features; else a container holds one array.
        directory: Whether a container is a directory, all files of which belong to it.
    """

    suffix: str
    named: ClassVar[bool] = False
    directory: ClassVar[bool] = False

    def __init__(self, suffix: str = "") -> None:
        """Takes the suffix of one of several kinds of paths that a class is for."""
        self.suffix = suffix or self.suffix

    @abc.abstractmethod
    def members(self, path: str, *, size: int) -> Sequence[Member]:
        """Reads the headers of all arrays in a container; no memory is taken on their word, and nothing is unpickled.

        Args:
            path: The container, as `storage.files` takes it.
            size: Its bytes when it was listed.

        Returns:
            The arrays in the order of the container; one at least.

        Raises:
            FormatError: If the container cannot be read. What is wrong with one array only is in the result.
            OSError: If the file cannot be read.
        """

    @abc.abstractmethod
    def read(self, path: str, selections: Sequence[Selection]) -> None:
        """Reads rows of arrays into their places.

        Args:
            path: The container.
            selections: Rows of its arrays, not all of which need be different.

        Raises:
            DataError: If the container has changed since its headers were read, or cannot be unpacked.
            OSError: If it cannot be read.
        """

    def check(self, path: str, selections: Sequence[Selection]) -> None:  # noqa: B027  # most have nothing to compare
        """Compares whole arrays, of some rows each, with the container's checksums, where `read` does not.

        Raises:
            DataError: If one differs, or as `read`.
        """

    def pieces(self, path: str, selections: Sequence[Selection]) -> Iterator[ReadTask]:
        """What `read` does, as pieces of work that may be done at the same time, in any order.

        The container is not local: each piece waits for its first byte.
        """
        yield functools.partial(self.read, path, selections)
