"""What a row is: the features of a data set and how a record stores them."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

Role = Literal["input", "label", "weight", "id"]
Encoding = Literal["float_list", "int64_list", "bytes_list"]

ROLES: tuple[Role, ...] = ("input", "label", "weight", "id")

DTYPES = (
    "bool",
    *(f"{sign}int{bits}" for bits in (8, 16, 32, 64) for sign in ("", "u")),
    *("float16", "float32", "float64"),
    *("complex64", "complex128"),
    "string",
)
"""The dtypes that a record can hold; a `string` is bytes of any length."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """One feature as the shards hold it.

    Attributes:
        name: The key of the feature in a batch.
        dtype: The stored dtype, one of `DTYPES`.
        shape: The shape of one row; `()` is one value a row. The first axis is None where each row has its own length.
        role: What the feature is to a model.
        class_names: The names of an integer label's classes, or `()`.
        unit: What an integer counts, as NumPy writes it, such as `datetime64[ns]`; or "".

    Raises:
        ValueError: If a value is outside what is allowed.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    role: Role = "input"
    class_names: tuple[str, ...] = ()
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a feature needs a name, found ''")
        if self.dtype not in DTYPES:
            raise ValueError(f"{self.name}: dtype is one of {', '.join(DTYPES)}; found {self.dtype!r}")
        if self.role not in ROLES:
            raise ValueError(f"{self.name}: role is one of {', '.join(ROLES)}; found {self.role!r}")
        if any(size is None or size < 1 for size in self.shape[self.ragged :]) or (
            self.ragged and self.dtype == "string"
        ):
            raise ValueError(
                f"{self.name}: every axis of a row has at least 1 element, and only the first axis may be None; "
                f"found {self.dtype} of shape {self.shape}"
            )

    @functools.cached_property
    def ragged(self) -> bool:
        """Whether each row has its own length along the first axis."""
        return self.shape[:1] == (None,)

    @functools.cached_property
    def variable(self) -> bool:
        """Whether rows differ in their number of bytes: ragged ones, and strings."""
        return self.ragged or self.dtype == "string"

    @functools.cached_property
    def inner_shape(self) -> tuple[int, ...]:
        """The shape of a row without the axis that varies."""
        return tuple(size for size in self.shape[self.ragged :] if size is not None)

    @functools.cached_property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The stored dtype, little-endian; that of Python objects for strings."""
        return np.dtype(object if self.dtype == "string" else self.dtype).newbyteorder("<")

    @functools.cached_property
    def row_elements(self) -> int:
        """The number of elements in one row, or in one step along the axis that varies."""
        return math.prod(self.inner_shape)

    @functools.cached_property
    def row_bytes(self) -> int:
        """The bytes of one row as an array.

        Raises:
            ValueError: If rows differ in it.
        """
        if self.variable:
            raise ValueError(f"{self.name}: rows of {self.dtype} of shape {self.shape} have no common size")
        return self.step_bytes

    @functools.cached_property
    def step_bytes(self) -> int:
        """The bytes of one row as an array, or of one step along the axis that varies; of numbers."""
        return self.row_elements * self.numpy_dtype.itemsize

    def encoding(self, rows_per_record: int) -> Encoding:
        """Which list of a `tf.train.Feature` holds this feature.

        float32 is a packed `float_list`. int64 is an `int64_list` where a record is one row, so that any TFRecord
        tool can parse it with `tf.io.FixedLenFeature`. Everything else is one string of little-endian bytes in C order;
        a ragged feature one for each row, and a string feature its strings themselves.
        """
        if self.variable:
            return "bytes_list"
        if self.dtype == "float32":
            return "float_list"
        if self.dtype == "int64" and rows_per_record == 1:
            return "int64_list"
        return "bytes_list"


def is_variable(features: Iterable[FeatureSpec]) -> bool:
    """Whether rows, and so records, differ in size."""
    return any(spec.variable for spec in features)
