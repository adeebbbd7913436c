"""Exact sums: columns of numbers added up as integers of any length, so that no order of adding changes a bit.

A float is an integer times a power of two, and so is every sum of floats. `ExactSum` holds such sums in digits of 32
bits, and adds them without rounding; `float_sums` and `integer_sums` make them from blocks of rows at the speed of a
few passes over the data.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

DIGIT = 32
MASK = np.int64(2**DIGIT - 1)

SEGMENT_ROWS = 2048
"""The most rows that are added in one 64-bit integer: 2048 times 2**51 is 2**62."""

SMALL = 200
"""How many powers of two below the largest of its column a float64 is added up apart, so that no square underflows."""


@dataclasses.dataclass(frozen=True)
class ExactSum:
    """An array of exact numbers, each `sum(digits[k] * 2**(32 * (first + k)))`.

    Equal numbers have equal digits: all but the last are in [0, 2**32), the last holds the sign, and neither end is
    longer than the array as a whole needs.

    Attributes:
        digits: int64, `[n, *shape]`, the lowest digit first.
        first: The place of the lowest digit.
    """

    digits: I64
    first: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array of numbers."""
        return self.digits.shape[1:]

    def __add__(self, other: ExactSum) -> ExactSum:
        first = min(self.first, other.first)
        digits = np.zeros((max(map(_end, (self, other))) - first, *self.shape), dtype=np.int64)
        for own in (self, other):
            digits[own.first - first : _end(own) - first] += own.digits
        return normalized(digits, first)

    def __neg__(self) -> ExactSum:
        return normalized(-self.digits, self.first)

    def __abs__(self) -> ExactSum:
        negative = self.digits[-1] < 0
        return normalized(np.where(negative, -self.digits, self.digits), self.first) if negative.any() else self

    def times(self, other: ExactSum) -> ExactSum:
        """The products of numbers of which none is negative."""
        digits = np.zeros((len(self.digits) + len(other.digits), *self.shape), dtype=np.int64)
        factors = other.digits.astype(np.uint64)
        for place, digit in enumerate(self.digits.astype(np.uint64)):
            products = digit * factors
            digits[place : place + len(factors)] += (products & np.uint64(MASK)).astype(np.int64)
            digits[place + 1 : place + 1 + len(factors)] += (products >> np.uint64(DIGIT)).astype(np.int64)
        return normalized(digits, self.first + other.first)

    def integers(self) -> tuple[npt.NDArray[np.object_], int]:
        """The numbers as an array of Python integers and the exponent of two that they are all to be scaled by."""
        result = self.digits[-1].astype(object)
        for digit in self.digits[-2::-1]:
            result = (result << DIGIT) + digit.astype(object)
        return np.asarray(result, dtype=object), DIGIT * self.first

    def reshape(self, *shape: int) -> ExactSum:
        """The same numbers in another shape."""
        return ExactSum(self.digits.reshape(len(self.digits), *shape), self.first)

    def take(self, columns: I64 | slice) -> ExactSum:
        """Some numbers of an array of one axis."""
        return ExactSum(self.digits[:, columns], self.first)

    def sum(self, axis: int) -> ExactSum:
        """The sums along one axis (of at most 2**30 numbers)."""
        return normalized(self.digits.sum(axis=axis + 1), self.first)

    def to_arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """The arrays that hold these numbers, by names that begin with `name`."""
        return {f"{name}_digits": self.digits, f"{name}_first": np.array(self.first, dtype=np.int64)}

    @staticmethod
    def from_arrays(arrays: dict[str, npt.NDArray[Any]], name: str) -> ExactSum:
        """Reads what `to_arrays` returned."""
        return ExactSum(arrays[f"{name}_digits"], int(arrays[f"{name}_first"]))


def _end(value: ExactSum) -> int:
    return value.first + len(value.digits)


def zeros(shape: tuple[int, ...]) -> ExactSum:
    """Exact zeros."""
    return ExactSum(np.zeros((1, *shape), dtype=np.int64), 0)


def concatenate(sums: Sequence[ExactSum]) -> ExactSum:
    """Arrays of numbers, one after the other along the first axis."""
    ends = list(itertools.accumulate(own.shape[0] for own in sums))
    return added_at([(own, slice(end - own.shape[0], end)) for own, end in zip(sums, ends, strict=True)], ends[-1])


def added_at(sums: Sequence[tuple[ExactSum, I64 | slice]], size: int) -> ExactSum:
    """Arrays of numbers added up in one of `size` along the first axis, each at the places given, which differ."""
    first = min(own.first for own, _ in sums)
    shape = (max(_end(own) for own, _ in sums) - first, size, *sums[0][0].shape[1:])
    digits = np.zeros(shape, dtype=np.int64)
    for own, places in sums:
        for row, digit in zip(digits[own.first - first :], own.digits, strict=False):
            row[places] += digit
    return normalized(digits, first)


def normalized(digits: I64, first: int) -> ExactSum:
    """Numbers from digits of any size below 2**62."""
    # In one array from the beginning: there may be a million groups.
    rows = np.empty((len(digits) + 1, *digits.shape[1:]), dtype=np.int64)
    carry = np.zeros(digits.shape[1:], dtype=np.int64)
    for place, digit in enumerate(digits):
        row = rows[place, ...]
        np.add(digit, carry, out=row)
        np.right_shift(row, DIGIT, out=carry)
        row &= MASK
    rows[-1] = carry
    end = len(rows)
    while end > 1 and ((rows[end - 1] == 0) | (rows[end - 1] == -1)).all():
        end -= 1
        rows[end - 1] += rows[end] << DIGIT
    low = next((k for k in range(end) if rows[k].any()), None)
    return zeros(digits.shape[1:]) if low is None else ExactSum(rows[low:end], first + low)


class Adder:
    """Adds up arrays of 64-bit integers, each times a power of two."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._pending: dict[int, tuple[I64, int]] = {}
        self._halves: dict[int, tuple[I64, I64]] = {}

    def add(self, integers: I64, exponent: int, rows: int = SEGMENT_ROWS) -> None:
        """Adds `integers * 2**exponent`; each is at most `rows * 2**51`, and rows at most `SEGMENT_ROWS`."""
        pending, held = self._pending.pop(exponent, (None, 0))
        if pending is None:
            self._pending[exponent] = (integers, rows)
        elif held + rows <= SEGMENT_ROWS:
            pending += integers
            self._pending[exponent] = (pending, held + rows)
        else:
            self._flush(pending, exponent)
            self._pending[exponent] = (integers, rows)

    def _flush(self, integers: I64, exponent: int) -> None:
        if exponent not in self._halves:
            self._halves[exponent] = (np.zeros(self.shape, np.int64), np.zeros(self.shape, np.int64))
        low, high = self._halves[exponent]
        low += integers & MASK
        high += integers >> DIGIT

    def total(self, scale: I64 | int = 0, fold: int = 1) -> ExactSum:
        """The sums times `2**scale`.

        Args:
            scale: Of the shape of the result, or broadcastable to it.
            fold: How many equal parts of the first axis are added up.
        """
        for exponent, (integers, _) in self._pending.items():
            self._flush(integers, exponent)
        self._pending.clear()
        shape = (self.shape[0] // fold, *self.shape[1:]) if fold > 1 else self.shape
        size = math.prod(shape)
        if not self._halves or not size:
            return zeros(shape)
        halves = [[half.reshape(fold, size).sum(axis=0) for half in pair] for pair in self._halves.values()]
        places = [np.broadcast_to(e + np.asarray(scale, np.int64), shape).ravel() for e in self._halves]
        first = min(int(place.min()) // DIGIT for place in places)
        last = max(int(place.max()) // DIGIT for place in places)
        digits = np.zeros((last - first + 5, size), dtype=np.int64)
        for place, pair in zip(places, halves, strict=True):
            row, shift = place // DIGIT - first, place % DIGIT
            for step, half in enumerate(pair):
                _deposit(digits, row + step, (half & MASK) << shift)
                _deposit(digits, row + step + 1, (half >> DIGIT) << shift)
        return normalized(digits, first).reshape(*shape)


def _deposit(digits: I64, row: I64, integers: I64) -> None:
    """Adds integers below 2**63 to digit `row[k]` of each column k and to the digit after it."""
    if (row == row[0]).all():
        digits[row[0]] += integers & MASK
        digits[row[0] + 1] += integers >> DIGIT
        return
    columns = np.arange(digits.shape[1])
    digits[row, columns] += integers & MASK
    digits[row + 1, columns] += integers >> DIGIT


def levels(values: F64, top: int, starts: I64 | None = None) -> Iterator[tuple[I64, int]]:
    """The exact sums of columns, as integers times powers of two that are to be added up.

    Adding 1.5 * 2**k to a number below 2**(k - 1) rounds it to a multiple of 2**(k - 52), and leaves that multiple
    as an integer in the lowest bits of the result. These are added as integers; what rounding left is below
    2**(k - 53), and goes through the same once more, until nothing is left. (The splitting is that of Rump, Ogita and
    Oishi, "Accurate floating-point summation", SIAM J. Sci. Comput. 31 (2008).)

    Args:
        values: `[rows, width]`, finite, of magnitudes of at most `2**top`; overwritten. At most `SEGMENT_ROWS` rows
            in a segment.
        top: An exponent, at most 1021.
        starts: Where the segments start that are summed apart; all rows are one by default.

    Yields:
        int64 `[width]`, or `[segments, width]`, and the exponent.
    """
    rows: Any = len(values) if starts is None else np.diff(starts, append=len(values))[:, None]
    scratch, k = np.empty_like(values), top + 1
    while True:
        k = max(k, -1022)  # where a multiple of 2**(k - 52) is any float64
        anchor = np.float64(math.ldexp(1.5, k))
        np.add(values, anchor, out=scratch)
        sums = _column_sums(scratch.view(np.int64), starts)
        with np.errstate(over="ignore"):  # the sums wrap around, and back here
            yield sums - rows * anchor.view(np.int64), k - 52
        scratch -= anchor
        if (scratch[:1] == values[:1]).all() and (scratch == values).all():
            return
        values -= scratch
        k -= 52


@dataclasses.dataclass(frozen=True)
class Scaling:
    """How the columns of a block are scaled before their sums are taken.

    Attributes:
        top: All scaled magnitudes are below `2**top`.
        exponents: The power of two that each column has been divided by; None where it is 0 for all.
    """

    top: int
    exponents: I64 | None

    @staticmethod
    def of(low: F64, high: F64) -> Scaling:
        """The scaling for columns of these (finite) extremes; columns alike are left as they are, which is faster."""
        tops = np.frexp(np.maximum(np.abs(low), np.abs(high)))[1].astype(np.int64)
        most = int(tops.max(initial=-1100, where=(low != 0) | (high != 0)))
        least = int(tops.min(initial=1100, where=(low != 0) | (high != 0)))
        if most <= 100 and least >= most - 6 and least >= -100:
            return Scaling(most, None)
        if most == -1100:
            return Scaling(0, None)
        return Scaling(0, np.maximum(tops, -1000))


def add_floats(
    total: Adder, squares: Adder, values: F64, scaling: Scaling, *, single: bool, starts: I64 | None = None
) -> None:
    """Adds the sums of columns, and of their squares, of scaled values; `starts` as in `levels`.

    The values, `[rows, width]`, are overwritten: finite, scaled as `scaling` says, none of a magnitude in (0, 2**(top -
    SMALL)) unless they are `single`: have at most 26 significant bits, so that their squares are float64.
    """
    products: list[tuple[F64, int, int]] = []
    if single:
        products.append((values * values, 2 * scaling.top, 0))
    else:  # Veltkamp's halves of at most 26 bits, whose products are float64
        wide = values * 134217729.0
        high = wide - (wide - values)
        low = values - high
        products.append((high * high, 2 * scaling.top + 1, 0))
        products.append((high * low, 2 * scaling.top - 26, 1))
        products.append((low * low, 2 * scaling.top - 53, 0))
    for sums, exponent in levels(values, scaling.top, starts):
        total.add(sums, exponent, len(values))
    for product, top, doubled in products:
        for sums, exponent in levels(product, top, starts):
            squares.add(sums, exponent + doubled, len(values))


def integer_sums(
    pieces: Sequence[npt.NDArray[Any]], low: int, high: int, *, starts: I64 | None = None, fold: int = 1
) -> tuple[ExactSum, ExactSum]:
    """The sums of columns of integers, and of their squares.

    Args:
        pieces: `[rows, width]`, one after the other; at most `SEGMENT_ROWS` rows in a segment.
        low: The least of all.
        high: The greatest.
        starts: As in `levels`, of one piece.
        fold: As in `Adder.total`.
    """
    size = max(high, -low - 1).bit_length()
    count = 1 if size <= 21 else 2 if size <= 42 else 3  # so many parts of 21 bits hold them, the highest with the sign
    shape = pieces[0].shape[1:] if starts is None else (len(starts), *pieces[0].shape[1:])
    total, squares = Adder(shape), Adder(shape)
    for piece in pieces:
        wide = piece.astype(np.uint64 if piece.dtype.kind == "u" else np.int64, copy=False)
        parts = [(wide >> wide.dtype.type(21 * part)).astype(np.int64) for part in range(count)]
        for part in parts[:-1]:
            part &= np.int64(2**21 - 1)
        for i, part in enumerate(parts):
            total.add(_column_sums(part, starts), 21 * i, len(piece))
            for j in range(i + 1):
                squares.add(_column_sums(part * parts[j], starts), 21 * (i + j) + (i != j), len(piece))
    return total.total(fold=fold), squares.total(fold=fold)


def _column_sums(array: I64, starts: I64 | None) -> I64:
    return np.asarray(np.add.reduce(array, axis=0) if starts is None else np.add.reduceat(array, starts, axis=0))


def take_small(values: F64, scaling: Scaling) -> F64 | None:
    """Takes out what is so far below the largest of its column that products would underflow; None if nothing is."""
    top: Any = scaling.top if scaling.exponents is None else scaling.exponents
    small = np.abs(values) < np.ldexp(1.0, top - SMALL)
    small &= values != 0
    if not small.any():
        return None
    rest = np.where(small, values, 0.0)
    values[small] = 0.0
    return rest


def ratio(numerator: int, denominator: int, scale: int) -> float:
    """`numerator / denominator * 2**scale`, correctly rounded, as Python divides integers.

    Infinite beyond float64, NaN where the denominator is 0.
    """
    if not denominator:
        return math.nan
    try:
        return (numerator << max(scale, 0)) / (denominator << max(-scale, 0))
    except OverflowError:
        return math.inf if numerator > 0 else -math.inf


def float_sums(values: F64, *, single: bool, starts: I64 | None = None) -> tuple[ExactSum, ExactSum]:
    """The sums of columns, and of their squares.

    Args:
        values: `[rows, width]`, finite; overwritten.
        single: Whether the values have at most 26 significant bits, as float16 and float32.
        starts: As in `levels`.

    Returns:
        Two sums of `[width]`, or of `[segments, width]`.
    """
    shape = values.shape[1:] if starts is None else (len(starts), *values.shape[1:])
    sums, rest = (zeros(shape), zeros(shape)), values
    while True:
        scaling = Scaling.of(rest.min(axis=0), rest.max(axis=0))
        small = None if single else take_small(rest, scaling)
        total, squares = Adder(shape), Adder(shape)
        scale: I64 | int = 0
        if scaling.exponents is not None:
            scale = scaling.exponents
            rest *= np.ldexp(1.0, -scale)
        add_floats(total, squares, rest, scaling, single=single, starts=starts)
        sums = sums[0] + total.total(scale), sums[1] + squares.total(2 * scale)
        if small is None:
            return sums
        rest = small
