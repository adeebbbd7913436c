"""What a step of a feature's transform is: what it takes and gives, what it learns from the training rows, its graph.

The steps themselves are in `imputation`, `scaling`, `ranking`, `projection` and `encoding`. A step is a value: it holds
what the user said. What it has learned are its *constants*, arrays by name that broadcast against a batch; with
statistics for each group of rows they have one more axis in front, whose last place is for rows of groups that were not
seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pydantic
from pydantic import ConfigDict

from loaders.format.step_formulas import FORMULAS, TINY
from pipelines.lazy import tf
from pipelines.statistics.estimators import Estimator
from pipelines.statistics.quantiles import Quantiles
from pipelines.statistics.summary import F64, ColumnMoments, Over, broadcast_shape, statistics_shape
from pipelines.steps import graph_ops

Arrays = Mapping[str, npt.NDArray[Any]]
Constants = dict[str, npt.NDArray[Any]]
Tensors = Mapping[str, "tf.Tensor"]
Shape = tuple[int | None, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValueSpec:
    """What a step takes or gives.

    Attributes:
        dtype: `float64` (NaN is missing), `int64` or `string`; before the first step, the dtype of the sources. Any
            real number is float64 to a step that takes that.
        shape: The shape of a row; of one step along it, where rows have lengths of their own.
    """

    dtype: str
    shape: tuple[int, ...]
    over: Over

    @property
    def constant_shape(self) -> tuple[int, ...]:
        """The shape of a statistic, as it broadcasts against a row."""
        return broadcast_shape(self.over, self.shape)

    def broadcast(self, statistic: npt.NDArray[Any]) -> F64:
        """A statistic in the shape that broadcasts; axes before those of a statistic stay."""
        before = statistic.ndim - len(statistics_shape(self.over, self.shape))
        return np.asarray(statistic, np.float64).reshape((*statistic.shape[:before], *self.constant_shape))

    def quantiles(self, *probabilities: float, limited: bool = False) -> Estimator:
        """What finds the quantiles of such values; `limited` as in `Quantiles`."""
        return Quantiles(
            probabilities=probabilities, dtype=self.dtype, shape=self.shape, over=self.over, limited=limited
        )


class Step(pydantic.BaseModel):
    """One step. A subclass says everything about it; its fields are the options that a user has."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    key: ClassVar[str]
    """What the step is called in a configuration."""

    constants: ClassVar[tuple[str, ...]] = ()
    """The names of the constants that its graph takes."""

    integers: ClassVar[frozenset[str]] = frozenset()
    """Those of them that are int64; the others are float64."""

    takes_ragged: ClassVar[bool] = True
    """Whether it takes rows that have lengths of their own, of which it sees each step along them as a row."""

    analyzer: ClassVar[str | None] = None
    """The function of `pipelines.analyzers` that is this step; None where `impute` or `normalize` is told its name."""

    expression: ClassVar[str | None] = None
    """What it makes of `x` in TensorFlow's own functions, to be formatted by its options; None where it needs more."""

    takes_over: ClassVar[bool] = True
    """Whether that function takes `over`."""

    cubic: ClassVar[bool] = False
    """Whether what it costs a row grows with the cube of the row's elements."""

    fills: ClassVar[bool] = False
    """Whether all it does is to put its constant `fill` where a value is missing."""

    domain: ClassVar[str] = ""
    """The values that it has a number for, such as "values above 0", where it has none for others (`outside`)."""

    bounded: ClassVar[bool] = True
    """Whether it makes of integers of 16 bits only what float32 holds, whatever the options."""

    def dump(self) -> Any:
        """The step as a configuration says it."""
        return self.key if self.said is None else {self.key: self.said}

    @property
    def said(self) -> Any:
        """What a configuration says beside its key: its one option, or those that are no defaults; None if nothing."""
        said = self.model_dump(mode="json", exclude_defaults=True)
        if not said:
            return None
        return next(iter(said.values())) if len(type(self).model_fields) == 1 else said

    @property
    def arguments(self) -> tuple[str, ...]:
        """What its analyzer takes after the values, as Python: one option alone, and several by their names."""
        if self.analyzer is None:
            return (repr(self.dump()),)
        options = self.model_dump(mode="json", exclude_none=True).items()
        return tuple(f"{name}={value!r}" if len(options) > 1 else repr(value) for name, value in options)

    @property
    def number(self) -> float | None:
        """What it fills in, whatever the rows are; None where it is no such step."""
        return None

    @property
    def inputs(self) -> frozenset[str]:
        """The dtypes that it takes; `float64` is any real number."""
        return FORMULAS[self.key].inputs

    def takes(self, dtype: str) -> bool:
        """Whether it takes values of a dtype."""
        if dtype.startswith(("int", "uint")):
            return bool(self.inputs & {"float64", "int64"})
        return ("float64" if dtype.startswith("float") else dtype) in self.inputs

    def output(self, value: ValueSpec) -> ValueSpec:
        """What it gives.

        Raises:
            ValueError: If it cannot take rows of this shape.
        """
        return dataclasses.replace(value, dtype="float64")

    def holds(self, dtype: np.dtype[Any]) -> bool:
        """Whether what it fills in (`fills`) is always a value of an integer dtype."""
        return False

    def keeps_integers(self, dtype: str) -> bool:
        """Whether it makes of integers of a dtype, some of them missing, integers of the same dtype."""
        return dtype.startswith(("int", "uint")) and self.holds(np.dtype(dtype))

    def shapes(self, value: ValueSpec) -> dict[str, Shape]:
        """The shape of each constant; None is a length that the training rows decide."""
        return dict.fromkeys(self.constants, value.constant_shape)

    def estimator(self, value: ValueSpec) -> Estimator | None:
        """The statistic of the training values that it learns from; None where the user has said all."""
        return None

    def fit(self, result: Arrays, value: ValueSpec) -> Constants:
        """The constants, in the shapes of `shapes`; of moments there may be one more axis in front, for groups.

        Raises:
            ValueError: If the training rows do not fit the step.
        """
        return {}

    def exact_quantiles(self, constants: Arrays) -> dict[float, npt.NDArray[Any]]:
        """The quantiles of what it takes that are among its constants, by per cent of the values."""
        return {}

    def cast(self, x: tf.Tensor) -> tf.Tensor:
        """Values as it takes them: integers as they are where it takes those, other numbers as float64."""
        return tf.cast(x, tf.float64) if "float64" in self.inputs else x

    def apply(self, x: tf.Tensor, constants: Tensors) -> tf.Tensor:
        """The graph, for `[batch, *shape]`, as `cast` gives them."""
        return FORMULAS[self.key].forward(x, constants, self.said, graph_ops)

    def outside(self, x: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Which values are not of its `domain`; the graph makes infinities of them."""
        return np.zeros(x.shape, np.bool_)


class MomentStep(Step):
    """A step that count, extremes, mean and deviation are enough for; it may have statistics for groups of rows."""

    def estimator(self, value: ValueSpec) -> Estimator | None:
        """The moments."""
        return ColumnMoments(over=value.over)


def not_zero(divisor: npt.NDArray[Any]) -> F64:
    """Divisors, with 1 for those that are 0 to TensorFlow."""
    return np.where(np.abs(divisor) < TINY, 1.0, divisor)
