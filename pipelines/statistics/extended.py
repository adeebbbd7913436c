"""Means and deviations of exact sums, where 64-bit significands tell which float64 is the nearest.

Python's integers take microseconds a column. Here each number is an interval that holds the exact one, and where both
ends round to the same float64, so does the exact number: the result is that of integer arithmetic, bit for bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipelines.statistics.exact import DIGIT, F64, I64, ExactSum, normalized

Extended = npt.NDArray[np.longdouble]

SIGNIFICAND_BITS = 64
AVAILABLE = np.finfo(np.longdouble).nmant in (63, 112)
"""Whether `np.longdouble` is IEEE arithmetic of at least so many bits."""

UNIT = np.longdouble(2.0) ** -SIGNIFICAND_BITS
"""The relative error of one operation."""

SMALLEST = np.float64(2.0**-1000)
"""A variance below it may be no normal float64, and its root would lose digits."""


def mean_and_std(total: ExactSum, squares: ExactSum, count: I64) -> tuple[F64, F64, npt.NDArray[np.bool_]]:
    """The mean and the deviation of the population of columns, of sums and counts of the shape [columns].

    Returns:
        Means, deviations, and where both are known to be what integer arithmetic gives; elsewhere they mean nothing.
        The deviation is the root of the float64 that is nearest to the variance, as in `exact.ratio`.
    """
    if not AVAILABLE:  # as on ARM and under Windows
        return np.zeros(count.shape), np.zeros(count.shape), np.zeros(count.shape, dtype=bool)
    number, magnitude = normalized(count[None], 0), abs(total)
    # n**2 times the variance, exact: of rows far from zero nearly all digits cancel.
    scatter = number.times(squares) + -magnitude.times(magnitude)
    with np.errstate(all="ignore"):  # what comes of it is not sure
        n = count.astype(np.longdouble)
        mean, mean_sure = _rounded(*_near(magnitude), n)
        variance, variance_sure = _rounded(*_near(scatter), n * n)
        mean, std = np.where(total.digits[-1] < 0, -mean, mean), np.sqrt(variance)
    return mean, std, mean_sure & variance_sure & (variance > SMALLEST)


def _near(value: ExactSum) -> tuple[Extended, Extended]:
    """Numbers, none of them negative, and bounds of their errors."""
    result = np.zeros(value.shape, dtype=np.longdouble)
    for digit in value.digits[::-1]:
        result = result * np.longdouble(2.0) ** DIGIT + digit
    result *= np.ldexp(np.longdouble(1), DIGIT * value.first)
    return result, len(value.digits) * UNIT * result


def _rounded(numerator: Extended, error: Extended, denominator: Extended) -> tuple[F64, npt.NDArray[np.bool_]]:
    """The float64 nearest to a ratio, and where it is known to be."""
    # The ends, the division and the denominator are rounded too.
    slack = 1 + 8 * UNIT
    low = ((numerator - error) / denominator / slack).astype(np.float64)
    high = ((numerator + error) / denominator * slack).astype(np.float64)
    return low, (low == high) & np.isfinite(low)
