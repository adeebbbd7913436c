"""Steps that scale numbers by what moments tell, or by nothing that is learned."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator

from pipelines.steps.options import Number
from pipelines.steps.step import Arrays, Constants, MomentStep, Step, ValueSpec, not_zero


class ZScore(MomentStep):
    """Mean 0 and deviation 1; a constant becomes 0."""

    key = "zscore"
    analyzer = "scale_to_z_score"
    constants = ("shift", "divisor")

    def fit(self, result: Arrays, value: ValueSpec) -> Constants:
        return {"shift": value.broadcast(result["mean"]), "divisor": value.broadcast(not_zero(result["std"]))}


def _ascending(pair: tuple[float, ...]) -> tuple[float, ...]:
    if len(pair) != 2 or not pair[0] < pair[1]:
        raise ValueError(f"expected two numbers, the lower one first; found {list(pair)}")
    return pair


class MinMax(MomentStep):
    """From `low` (the least training value) to `high` (the greatest); a constant becomes `low`."""

    key = "minmax"
    analyzer = "scale_to_min_max"
    constants = ("shift", "divisor")
    range: Annotated[tuple[Number, ...], AfterValidator(_ascending)] = (0.0, 1.0)

    @property
    def arguments(self) -> tuple[str, ...]:
        return tuple(map(repr, self.range))

    def fit(self, result: Arrays, value: ValueSpec) -> Constants:
        with np.errstate(over="ignore"):  # a range that is not finite is refused
            width = result["max"] - result["min"]
        return {"shift": value.broadcast(result["min"]), "divisor": value.broadcast(not_zero(width))}


class MaxAbs(MomentStep):
    """Divides by the greatest absolute training value."""

    key = "maxabs"
    analyzer = "scale_by_max_abs"
    constants = ("divisor",)

    def fit(self, result: Arrays, value: ValueSpec) -> Constants:
        return {"divisor": value.broadcast(not_zero(np.maximum(np.abs(result["min"]), np.abs(result["max"]))))}


def _not_zero(factor: float) -> float:
    if factor == 0:
        raise ValueError("expected a number other than 0, which would make every value 0")
    return factor


class Scale(Step):
    """Multiplies with a constant."""

    key = "scale"
    bounded = False
    expression = "tf.cast(x, tf.float64) * {scale!r}"
    scale: Annotated[Number, AfterValidator(_not_zero)]


class Log1p(Step):
    """The logarithm of 1 + x, for values above -1; others become -inf, which is no value that a feature may have."""

    key = "log1p"
    domain = "values above -1"
    expression = "tf.math.log1p(tf.cast(x, tf.float64))"

    def outside(self, x: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        return np.asarray(x <= -1)


class ScaledRow(Step):
    """Scales each row by itself.

    `l2` divides by its Euclidean norm, `mean` by its mean; `zscore` gives it mean 0 and deviation 1 (for a spectrum:
    the standard normal variate). A row whose divisor is 0 is divided by 1; one with a missing value is missing.
    """

    key = "row"
    analyzer = "scale_rows"
    takes_over = False
    takes_ragged = False
    by: Literal["l2", "mean", "zscore"]

    def output(self, value: ValueSpec) -> ValueSpec:
        if not value.shape:
            raise ValueError("row: expected rows of several elements; found one value a row")
        return super().output(value)
