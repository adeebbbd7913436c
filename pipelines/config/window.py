"""What of an array each row holds, where rows are cut from it: windows along an axis, or patches around points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pydantic
from pydantic import AfterValidator, Field

MAX_SIZE = 4097

Padding = Literal["none", "reflect", "edge", "zeros"]
"""What stands beyond the edges of an array: its values mirrored at the first and the last one, which do not appear
twice; the outermost values again; zeros; or nothing, where boxes lie within."""

Index = TypeVar("Index", int, npt.NDArray[np.intp])


class Cut(pydantic.BaseModel):
    """A box that is moved along the leading axes of an array, and at each of its places cuts a row."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    KEY: ClassVar[str]
    """The key of a feature under which it is said."""

    if TYPE_CHECKING:
        pad: Padding

    @property
    def sizes(self) -> tuple[int, ...]:
        """The lengths of the box along the axes on which it is moved."""
        raise NotImplementedError

    @property
    def strides(self) -> tuple[int, ...]:
        """How far it is moved along each of these axes."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, ...]:
        """The first axes of a row."""
        return self.sizes

    @property
    def before(self) -> tuple[int, ...]:
        """How far the box reaches before its place: nowhere without a padding, else the place is in the middle."""
        return tuple(0 if self.pad == "none" else (size - 1) // 2 for size in self.sizes)

    def grid(self, lengths: tuple[int, ...]) -> tuple[int, ...]:
        """How many places there are along each axis of an array: together they are its rows, in C order."""
        if self.pad != "none":
            return tuple(-(-length // stride) for length, stride in zip(lengths, self.strides, strict=True))
        axes = zip(lengths, self.sizes, self.strides, strict=True)
        return tuple(max((length - size) // stride + 1, 0) for length, size, stride in axes)

    def span(self, axis: int, first: Index, last: Index) -> tuple[Index, Index]:
        """The first and the last index of the boxes at two places and between; it may lie beyond the edges."""
        begin = -self.before[axis]
        return first * self.strides[axis] + begin, last * self.strides[axis] + begin + self.sizes[axis] - 1

    def reach(self, axis: int, first: Index, last: Index, length: int) -> tuple[Index, Index]:
        """The first and the last index of the array whose values these boxes hold, also mirrored."""
        begin, end = self.span(axis, first, last)
        low, high = np.maximum(begin, 0), np.minimum(end, length - 1)
        if self.pad == "reflect":
            low, high = np.minimum(low, 2 * (length - 1) - end), np.maximum(high, -begin)
        return low, high


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise ValueError(f"an odd number, as the row itself is in the middle; found {size}")
    return size


Positive = Annotated[int, Field(ge=1, strict=True)]
Odd = Annotated[int, Field(ge=1, le=MAX_SIZE, strict=True), AfterValidator(_odd)]


class Patch(Cut):
    """A point together with its neighbours along the axes that count rows: a pixel and the pixels around it.

    Attributes:
        size: How many points there are along each of these axes; one is in the middle.
        stride: Which points have a row: each (1), each second (2) along each axis; None for all.
        pad: What stands beyond the edges, as in `Padding`.
    """

    KEY: ClassVar[str] = "patch"

    size: Annotated[tuple[Odd, ...], Field(min_length=1, max_length=2)]
    stride: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=2)] | None = None
    pad: Literal["reflect", "edge", "zeros"] = "reflect"

    @pydantic.model_validator(mode="after")
    def _check_stride(self) -> Patch:
        if self.stride is not None and len(self.stride) != len(self.size):
            raise ValueError(f"stride: expected {len(self.size)} numbers, as size has; found {list(self.stride)}")
        return self

    @property
    def sizes(self) -> tuple[int, ...]:
        """The size."""
        return self.size

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride."""
        return self.stride or (1,) * len(self.size)


class Window(Cut):
    """A run of steps of a series; the next row begins a stride later.

    Attributes:
        axis: The axis of the steps. Where it is 1, axis 0 counts series, and no window reaches into another one.
        size: How many steps a row holds.
        stride: How many steps later the next row begins.
        pad: What stands beyond the edges, as in `Padding`. With `none`, the first window begins with the first step,
            and the last one ends within the series; else windows are around the steps 0, stride, 2 * stride, ….
    """

    KEY: ClassVar[str] = "window"

    axis: Annotated[int, Field(ge=0, le=1, strict=True)] = 0
    size: Positive
    stride: Positive = 1
    pad: Padding = "none"

    @property
    def sizes(self) -> tuple[int, ...]:
        """1 along the axis that counts series, and the size."""
        return (1,) * self.axis + (self.size,)

    @property
    def strides(self) -> tuple[int, ...]:
        """1 along the axis that counts series, and the stride."""
        return (1,) * self.axis + (self.stride,)

    @property
    def shape(self) -> tuple[int, ...]:
        """The size."""
        return (self.size,)
