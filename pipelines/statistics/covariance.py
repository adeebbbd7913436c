"""The covariance of a feature's last axis, of data with missing values, exact in one pass."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.statistics import exact
from pipelines.statistics.blas import one_thread
from pipelines.statistics.estimators import OnePass
from pipelines.statistics.exact import F64, I64, Adder, ExactSum

BITS = 20
"""Bits of a digit: a product of two is at most 2**40, and 4096 of them add up exactly in float64, in any order."""

ROWS = 4096
"""How many rows are multiplied at once."""

MOST_TOGETHER = 4
"""Up to how many digits are multiplied at once."""

DIGITS = (2, 4, None)
"""How many digits of a column are taken at most, first for all rows and then for those with a value that needs more.

Two hold a float32 that is not below 2**-16 of its column's largest, four a float64 not below 2**-27. Twice the digits
make four times the products.
"""

NARROW = 512
"""Up to how many columns a product is too small to be worth threads of its own."""


@dataclasses.dataclass(frozen=True)
class Products:
    """The exact sums that a covariance follows from; `[i, j]` is of the observations where both columns are present.

    Attributes:
        count: int64 `[width, width]`.
        total: The sum of column i, `[width, width]`.
        product: The sum of the products of columns i and j, `[width, width]`.
    """

    count: I64
    total: ExactSum
    product: ExactSum


@dataclasses.dataclass(frozen=True, kw_only=True)
class Covariance(OnePass):
    """The covariance of `width` columns; all leading axes of the values are observations.

    The result has `count` (int64, `[width, width]`, observations where both columns are present), `mean` (float64,
    `[width]`, of a column's present values) and `covariance` (float64, `[width, width]`, of the population of the
    observations where both are present, about their own means). Each number is the float64 nearest to the exact one;
    NaN where nothing is present. Integers beyond 2**53 are rounded to float64 first. The state is a `Products`.
    """

    width: int

    def start(self) -> Products:
        shape = (self.width, self.width)
        return Products(np.zeros(shape, dtype=np.int64), exact.zeros(shape), exact.zeros(shape))

    def accumulate(self, state: Products, values: npt.NDArray[Any]) -> Products:
        """The sums of one unit: `[..., width]`, bool, integer or float; an infinity is a ValueError."""
        rows = values.reshape(-1, self.width)
        if not rows.size:
            return self.start()
        with one_thread() if self.width <= NARROW else contextlib.nullcontext():
            return self.merge(self.start(), sum_products(rows))

    def merge(self, a: Products, b: Products) -> Products:
        return Products(a.count + b.count, a.total + b.total, a.product + b.product)

    def result(self, state: Products) -> dict[str, npt.NDArray[Any]]:
        total, total_scale = state.total.integers()
        product, scale = state.product.integers()
        count = state.count.astype(object)
        # product / count - total * total.T / count**2, of integers times powers of two
        common = min(2 * total_scale, scale)
        scatter = (count * product << (scale - common)) - (total * total.T << (2 * total_scale - common))
        covariance = _divide(scatter, count * count, common)
        mean = _divide(np.diagonal(total), np.diagonal(count), total_scale)
        return {"count": state.count, "mean": mean, "covariance": covariance}


def _divide(numerator: Any, denominator: Any, scale: int) -> F64:
    """`numerator / denominator * 2**scale`, correctly rounded; NaN where the denominator is 0."""
    divided = np.frompyfunc(lambda top, bottom: exact.ratio(top, bottom, scale), 2, 1)(numerator, denominator)
    return np.asarray(divided, dtype=np.float64)


def sum_products(values: npt.NDArray[Any]) -> Products:
    """The exact sums of a block of observations, `[rows, width]`, at least one row; NaN is missing.

    Each column is cut into integer digits of 20 bits below the largest of the block, and the digits are multiplied as
    matrices: sums of integers below 2**53, exact whatever the order and the threads of the BLAS.

    Raises:
        ValueError: If a value is infinite.
    """
    width = values.shape[1]
    dense = values.astype(np.float64)
    if np.isinf(dense).any():
        raise ValueError("covariance: expected finite values; found an infinity")
    present = ~np.isnan(dense)
    complete = bool(present.all())
    dense[~present] = 0.0
    tops = np.frexp(np.abs(dense).max(axis=0))[1].astype(np.int64)
    # Of complete rows, a column's sum is the same whatever the other column.
    total, product = Adder((width, 1 if complete else width)), Adder((width, width))
    count = np.full((width, width), len(values) if complete else 0, dtype=np.int64)
    for start in range(0, len(values), ROWS):
        piece, mask = dense[start : start + ROWS], None
        if not complete:
            mask = present[start : start + ROWS].astype(np.float64)
            count += (mask.T @ mask).astype(np.int64)
        for most in DIGITS if values.dtype.itemsize <= 4 else DIGITS[1:]:
            digits, hard = _digits(piece, tops, most)
            if 2 * len(hard) > len(piece):
                continue
            _add_products(total, product, digits, mask)
            if not len(hard):
                break
            piece, mask = piece[hard], None if mask is None else mask[hard]
    sums = total.total(tops[:, None])
    sums = ExactSum(np.broadcast_to(sums.digits, (len(sums.digits), width, width)).copy(), sums.first)
    return Products(count, sums, product.total(tops[:, None] + tops[None, :]))


def _digits(values: F64, tops: I64, most: int | None) -> tuple[list[F64], I64]:
    """Values, of magnitudes below `2**tops`, as digits: `sum(digits[a] * 2**(top - 20 * (a + 1)))`.

    Returns:
        The digits, each `[rows, width]`, `most` at most, and the numbers of the rows that need more, which have zeros.
    """
    rest = values.copy()
    digits: list[F64] = []
    while True:
        place = (tops - BITS * (len(digits) + 1)).astype(np.int32)
        digit = np.trunc(_scaled(rest, -place))
        rest -= _scaled(digit, place)
        digits.append(digit)
        if not rest.any():
            return digits, np.zeros(0, dtype=np.int64)
        if len(digits) == most:
            hard = np.flatnonzero(rest.any(axis=1))
            for digit in digits:
                digit[hard] = 0.0
            return digits, hard


def _scaled(values: F64, exponents: npt.NDArray[np.int32]) -> F64:
    """`np.ldexp`, which is an eighth as fast as a multiplication where one will do."""
    if np.abs(exponents).max(initial=0) > 1000:
        return np.asarray(np.ldexp(values, exponents))
    return values * np.ldexp(1.0, exponents)


def _add_products(total: Adder, product: Adder, digits: list[F64], mask: F64 | None) -> None:
    # Sums of products are at most 2**53, so that 512 of them fit where the adder holds 2,048 rows of at most 2**51.
    for i, j, sums in _blocks(digits):
        product.add(sums, -BITS * (i + j + 2), rows=4)
    for i, digit in enumerate(digits):
        columns = digit.sum(axis=0)[:, None] if mask is None else digit.T @ mask
        total.add(columns.astype(np.int64), -BITS * (i + 1), rows=1)


def _blocks(digits: list[F64]) -> Iterator[tuple[int, int, I64]]:
    """The products of each pair of digits, both orders together."""
    width = digits[0].shape[1]
    if len(digits) <= MOST_TOGETHER:  # one product of all digits: BLAS then computes half of it
        side_by_side = np.concatenate(digits, axis=1)
        whole = side_by_side.T @ side_by_side
        blocks = {
            (i, j): whole[i * width : (i + 1) * width, j * width : (j + 1) * width]
            for i in range(len(digits))
            for j in range(i + 1)
        }
    else:
        blocks = {(i, j): digits[i].T @ digits[j] for i in range(len(digits)) for j in range(i + 1)}
    for (i, j), block in blocks.items():
        yield i, j, (block if i == j else block + block.T).astype(np.int64)


def nearest_psd(covariance: F64) -> F64:
    """A covariance of pairwise complete observations, symmetric and finite, made positive definite.

    Eigenvalues below 1e-12 of the largest are raised to it (Higham, "Computing the nearest correlation matrix", IMA J.
    Numer. Anal. 22 (2002), without the unit diagonal).
    """
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    least = max(float(values.max(initial=0.0)) * 1e-12, 0.0)
    if values.min(initial=least) >= least:
        return covariance
    repaired = (vectors * np.maximum(values, least)) @ vectors.T
    return np.asarray((repaired + repaired.T) / 2, dtype=np.float64)


def principal_components(covariance: F64, k: int, *, rows: int | None = None) -> tuple[F64, F64]:
    """The directions of the largest variances.

    Args:
        covariance: float64 `[width, width]`, of the population, symmetric and finite.
        k: How many directions.
        rows: The number of observations, where the variances of the sample are wanted, as `explained_variance_` of
            scikit-learn's `PCA`: `rows / (rows - 1)` times those of the population.

    Returns:
        The components `[k, width]`, orthonormal, by falling variance, signed as scikit-learn does: the entry of the
        largest magnitude is positive. Their variances `[k]`, not negative.

    Raises:
        ValueError: If k is not in [1, width], or rows is below 2.
    """
    if not 1 <= k <= len(covariance):
        raise ValueError(f"principal components: expected 1 to {len(covariance)}; found {k}")
    if rows is not None and rows < 2:
        raise ValueError(f"principal components: expected 2 observations or more; found {rows}")
    values, vectors = np.linalg.eigh(covariance)
    components = vectors[:, ::-1][:, :k].T
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
    variances = np.maximum(values[::-1][:k], 0.0) * (1.0 if rows is None else rows / (rows - 1))
    return components * np.where(largest < 0, -1.0, 1.0), variances
