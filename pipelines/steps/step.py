"""What a step of a feature's transform is: what it takes and gives, what it learns from the training rows, its graph.

The steps themselves are in `imputation`, `scaling`, `ranking`, `projection` and `encoding`. A step is a value: it holds
what the user said. What it learns are its *constants*, arrays by name that broadcast against a batch; with statistics
for each group of rows they have one more axis in front, whose last place is for rows of groups that were not seen.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from pipelines.statistics.estimators import Estimator
from pipelines.statistics.summary import Over, Statistics, broadcast_shape

if TYPE_CHECKING:
    import tensorflow as tf

F64 = npt.NDArray[np.float64]
Constants = dict[str, npt.NDArray[Any]]
Tensors = dict[str, "tf.Tensor"]
Shape = tuple[int | None, ...]

TINY = np.finfo(np.float64).tiny
"""The least number that TensorFlow does not take for 0."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Value:
    """What a step takes or gives.

    Attributes:
        dtype: `float64` (NaN is missing), `int64` or `string`; before the first step, the dtype of the sources. Any
            real number is float64 to a step that takes that.
        shape: The shape of a row; of one step along it, where rows have lengths of their own.
        over: What shares one statistic.
    """

    dtype: str
    shape: tuple[int, ...]
    over: Over

    @property
    def constant_shape(self) -> tuple[int, ...]:
        """The shape of a statistic, as it broadcasts against a row."""
        return broadcast_shape(self.over, self.shape)

    def broadcast(self, statistic: npt.NDArray[Any], *, before: int = 0) -> F64:
        """A statistic in the shape that broadcasts, with `before` more axes in front."""
        return np.asarray(statistic, np.float64).reshape((*statistic.shape[:before], *self.constant_shape))


class Step:
    """One step; subclasses are frozen dataclasses of what the user may say."""

    key: ClassVar[str]
    """What the step is called in a configuration."""

    inputs: ClassVar[frozenset[str]] = frozenset({"float64"})
    """The dtypes that it takes; `float64` is any real number."""

    learns: ClassVar[tuple[str, ...]] = ()
    """The names of its constants."""

    def dump(self) -> Any:
        """The step as a configuration says it."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        fields = {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
        if not fields:
            return self.key
        return {self.key: next(iter(fields.values())) if len(fields) == 1 else fields}

    def output(self, value: Value) -> Value:
        """What it gives.

        Raises:
            ValueError: If it cannot take rows of this shape.
        """
        return dataclasses.replace(value, dtype="float64")

    def shapes(self, value: Value) -> dict[str, Shape]:
        """The shape of each constant; None is a length that the training rows decide."""
        return dict.fromkeys(self.learns, value.constant_shape)

    def apply(self, x: tf.Tensor, constants: Tensors) -> tf.Tensor:
        """The graph.

        Args:
            x: `[batch, *shape]`.
            constants: What was learned, float64 (or int64, where `learn` gave integers).
        """
        raise NotImplementedError


class MomentStep(Step):
    """A step that count, extremes, mean and deviation are enough for, so that it needs no pass of its own."""

    def learn(self, statistics: Statistics, value: Value) -> Constants:
        """The constants, of the statistic's shape, which may have one more axis in front."""
        raise NotImplementedError


class PassStep(Step):
    """A step that reads the training rows for itself."""

    def estimator(self, value: Value) -> Estimator | None:
        """What reads them; None where the user has said all that is to be learned."""
        raise NotImplementedError

    def learn(self, result: dict[str, npt.NDArray[Any]], value: Value) -> Constants:
        """The constants, in the shapes of `shapes`.

        Raises:
            ValueError: If the training rows do not fit the step.
        """
        raise NotImplementedError


def accepted(step: Step, x: tf.Tensor) -> tf.Tensor:
    """Values as a step takes them: integers as they are where it takes those, other numbers as float64."""
    import tensorflow as tf

    return tf.cast(x, tf.float64) if "float64" in step.inputs else x


def not_zero(divisor: npt.NDArray[Any]) -> F64:
    """Divisors, with 1 for those that are 0 to TensorFlow."""
    return np.where(np.abs(divisor) < TINY, 1.0, divisor)
