"""Steps that scale numbers by what moments tell, or by nothing that is learned."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from pipelines.statistics.summary import Statistics
from pipelines.steps import graph_ops
from pipelines.steps.step import Constants, MomentStep, Step, Tensors, Value, not_zero

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class ZScore(MomentStep):
    """Mean 0 and deviation 1; a constant becomes 0."""

    key: ClassVar[str] = "zscore"
    learns: ClassVar[tuple[str, ...]] = ("shift", "divisor")

    def learn(self, statistics: Statistics, value: Value) -> Constants:
        """Mean and deviation."""
        return {"shift": statistics.mean, "divisor": not_zero(statistics.std)}

    def apply(self, x: tf.Tensor, constants: Tensors) -> tf.Tensor:
        """`(x - mean) / deviation`."""
        return (x - constants["shift"]) / constants["divisor"]


@dataclasses.dataclass(frozen=True)
class MinMax(MomentStep):
    """From `low` (the least training value) to `high` (the greatest); a constant becomes `low`."""

    key: ClassVar[str] = "minmax"
    learns: ClassVar[tuple[str, ...]] = ("shift", "divisor")
    range: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if len(self.range) != 2 or not self.range[0] < self.range[1]:
            raise ValueError(f"minmax: expected two numbers, the lower one first; found {list(self.range)}")

    def dump(self) -> object:
        """The name alone where the range is the usual one."""
        return self.key if self.range == (0.0, 1.0) else {self.key: list(self.range)}

    def learn(self, statistics: Statistics, value: Value) -> Constants:
        """Minimum and range."""
        with np.errstate(over="ignore"):  # a range that is not finite is refused
            width = statistics.max - statistics.min
        return {"shift": statistics.min, "divisor": not_zero(width)}

    def apply(self, x: tf.Tensor, constants: Tensors) -> tf.Tensor:
        """`(x - min) / (max - min) * (high - low) + low`."""
        unit = (x - constants["shift"]) / constants["divisor"]
        low, high = self.range
        if self.range == (0.0, 1.0):
            return unit
        return unit * graph_ops.literal(high - low, like=x) + graph_ops.literal(low, like=x)


@dataclasses.dataclass(frozen=True)
class MaxAbs(MomentStep):
    """Divides by the greatest absolute training value."""

    key: ClassVar[str] = "maxabs"
    learns: ClassVar[tuple[str, ...]] = ("divisor",)

    def learn(self, statistics: Statistics, value: Value) -> Constants:
        """The greatest absolute value."""
        return {"divisor": not_zero(np.maximum(np.abs(statistics.min), np.abs(statistics.max)))}

    def apply(self, x: tf.Tensor, constants: Tensors) -> tf.Tensor:
        """`x / max |x|`."""
        return x / constants["divisor"]


@dataclasses.dataclass(frozen=True)
class Scale(Step):
    """Multiplies with a constant."""

    key: ClassVar[str] = "scale"
    scale: float

    def __post_init__(self) -> None:
        if self.scale == 0:
            raise ValueError("scale: expected a number other than 0, which would make every value 0")

    def apply(self, x: tf.Tensor, constants: Tensors) -> tf.Tensor:
        """`x * scale`."""
        return x * graph_ops.literal(self.scale, like=x)


@dataclasses.dataclass(frozen=True)
class Log1p(Step):
    """The logarithm of 1 + x, for values above -1; others become -inf, which is no value that a feature may have."""

    key: ClassVar[str] = "log1p"

    def apply(self, x: tf.Tensor, constants: Tensors) -> tf.Tensor:
        """`log(1 + x)`."""
        import tensorflow as tf

        found = graph_ops.elementwise(tf.math.log1p, x)
        return tf.where(x <= -1, tf.constant(-np.inf, tf.float64), found)


@dataclasses.dataclass(frozen=True)
class Row(Step):
    """Scales each row by itself.

    `l2` divides by its Euclidean norm, `mean` by its mean; `zscore` gives it mean 0 and deviation 1 (for a spectrum:
    the standard normal variate). A row whose divisor is 0 is divided by 1; one with a missing value is missing.
    """

    key: ClassVar[str] = "row"
    by: Literal["l2", "mean", "zscore"]

    def __post_init__(self) -> None:
        if self.by not in ("l2", "mean", "zscore"):
            raise ValueError(f"row: expected l2, mean or zscore; found {self.by!r}")

    def output(self, value: Value) -> Value:
        """The same, for rows of several elements."""
        if not value.shape:
            raise ValueError("row: expected rows of several elements; found one value a row")
        return super().output(value)

    def apply(self, x: tf.Tensor, constants: Tensors) -> tf.Tensor:
        """Scales each row."""
        import tensorflow as tf

        rows = graph_ops.flat_rows(x)
        count = graph_ops.literal(float(rows.shape[-1]), like=x)
        if self.by == "zscore":
            rows -= graph_ops.sum_last(rows) / count
        divisor = graph_ops.sum_last(rows if self.by == "mean" else rows * rows)
        if self.by != "l2":
            divisor /= count
        if self.by != "mean":
            divisor = tf.sqrt(divisor)
        divisor = tf.where(tf.abs(divisor) < np.finfo(np.float64).tiny, tf.ones_like(divisor), divisor)
        return tf.reshape(rows / divisor, tf.shape(x))
