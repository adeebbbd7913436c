"""Steps that are learned from quantiles of the training rows."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator

from pipelines.statistics.estimators import Estimator
from pipelines.steps import graph_ops
from pipelines.steps.lazy import tf
from pipelines.steps.options import Integer, Number
from pipelines.steps.step import Arrays, Constants, Shape, Step, Tensors, Value, not_zero

MAP_QUANTILES = 1000
"""How many quantiles make the map of `quantile` at most, as in scikit-learn."""

EDGE = 1e-7
"""How near to 0 and 1 a probability may come before it becomes a normal deviate, as in scikit-learn."""


class Robust(Step):
    """Median 0 and interquartile range 1; a range of 0 counts as 1."""

    key = "robust"
    constants = ("shift", "divisor")

    def estimator(self, value: Value) -> Estimator:
        return value.quantiles(0.25, 0.5, 0.75)

    def fit(self, result: Arrays, value: Value) -> Constants:
        lower, middle, upper = result["quantiles"]
        return {"shift": value.broadcast(middle), "divisor": value.broadcast(not_zero(upper - lower))}

    def apply(self, x: tf.Tensor, constants: Tensors) -> tf.Tensor:
        return (x - constants["shift"]) / constants["divisor"]


def _probabilities(pair: tuple[float, ...]) -> tuple[float, ...]:
    if len(pair) != 2 or not 0 <= pair[0] < pair[1] <= 1:
        raise ValueError(f"expected two probabilities, such as [0.01, 0.99]; found {list(pair)}")
    return pair


class Clip(Step):
    """Moves what lies outside two quantiles to them."""

    key = "clip"
    constants = ("low", "high")
    quantiles: Annotated[tuple[Number, ...], AfterValidator(_probabilities)]

    def estimator(self, value: Value) -> Estimator:
        return value.quantiles(*self.quantiles)

    def fit(self, result: Arrays, value: Value) -> Constants:
        low, high = result["quantiles"]
        return {"low": value.broadcast(low), "high": value.broadcast(high)}

    def apply(self, x: tf.Tensor, constants: Tensors) -> tf.Tensor:
        x = tf.where(x < constants["low"], constants["low"], x)
        return tf.where(x > constants["high"], constants["high"], x)


class Quantile(Step):
    """The place of a value among the training values, uniform in [0, 1], or as a normal deviate.

    Source: scikit-learn's QuantileTransformer with 1,000 quantiles, or as many as there are values if these are fewer:
    linear between quantiles, the middle of the places that an often repeated value has.
    """

    key = "quantile"
    constants = ("quantiles",)
    to: Literal["uniform", "normal"]

    def shapes(self, value: Value) -> dict[str, Shape]:
        return {"quantiles": (None, *value.constant_shape)}

    def estimator(self, value: Value) -> Estimator:
        return value.quantiles(*np.linspace(0, 1, MAP_QUANTILES).tolist(), limited=True)

    def fit(self, result: Arrays, value: Value) -> Constants:
        # Ascending whatever the rounding of their interpolation.
        quantiles = np.maximum.accumulate(result["quantiles"], axis=0)
        return {"quantiles": value.broadcast(quantiles)}

    def apply(self, x: tf.Tensor, constants: Tensors) -> tf.Tensor:
        quantiles = constants["quantiles"]
        axes = tuple(axis for axis, size in enumerate(quantiles.shape[1:]) if size > 1)
        columns, order, shape = graph_ops.by_column(x, axes)
        knots = tf.transpose(tf.reshape(quantiles, [-1, math.prod(quantiles.shape[1:])]))
        above = graph_ops.count_below(knots, columns, strict=False)
        last = tf.maximum(above - 1, 0)
        tied = tf.gather(knots, last, batch_dims=1) == columns
        # To search is what takes long: the first place of a repeated value is looked for once a knot.
        places = tf.where(tied, tf.gather(_middles(knots), last, batch_dims=1), _interpolate(columns, knots, above))
        least, greatest = knots[:, :1], knots[:, -1:]
        near = EDGE if self.to == "normal" else 0.0
        places = tf.where(columns + near >= greatest, tf.ones_like(places), places)
        places = tf.where(columns - near <= least, tf.zeros_like(places), places)
        if self.to == "normal":
            low = EDGE - np.spacing(1)
            places = graph_ops.elementwise(tf.math.ndtri, tf.clip_by_value(places, low, 1.0 - low))
        places = tf.where(tf.math.is_nan(columns), columns, places)
        return graph_ops.from_columns(places, order, shape, x)


def _middles(knots: tf.Tensor) -> tf.Tensor:
    """The place of each knot: of repeated ones the middle of their places."""
    ends = (graph_ops.count_below(knots, knots, strict=strict) for strict in (False, True))
    return 0.5 * sum(_interpolate(knots, knots, below) for below in ends)


def _interpolate(x: tf.Tensor, knots: tf.Tensor, below: tf.Tensor) -> tf.Tensor:
    """The place of values on the line through (knot i, i / (n - 1)); a single knot has the place 0.

    Args:
        x: `[statistics, values]`.
        knots: `[statistics, n]`, ascending.
        below: How many knots are below each value, int64 `[statistics, values]`; those that equal it may count.

    Returns:
        `[statistics, values]` in [0, 1].
    """
    intervals = tf.shape(knots, out_type=tf.int64)[-1] - 1
    lower = tf.clip_by_value(below - 1, 0, tf.maximum(intervals - 1, 0))
    low, high = (tf.gather(knots, at, batch_dims=1) for at in (lower, tf.minimum(lower + 1, intervals)))
    inside = tf.math.divide_no_nan(x - low, high - low)
    # A plain division by what is constant in a graph would become a product there.
    place = tf.math.divide_no_nan(tf.cast(lower, tf.float64) + inside, tf.cast(intervals, tf.float64))
    place = tf.where(below == 0, tf.zeros_like(place), place)
    return tf.where(below > intervals, tf.ones_like(place), place)


def _boundaries(found: int | tuple[float, ...]) -> int | tuple[float, ...]:
    if isinstance(found, int):
        if not 2 <= found <= MAP_QUANTILES:
            raise ValueError(f"expected 2 to {MAP_QUANTILES} buckets; found {found}")
    elif not found or any(a >= b for a, b in itertools.pairwise(found)):
        raise ValueError(f"expected a number of buckets, or boundaries in ascending order; found {list(found)}")
    return found


class Buckets(Step):
    """The number of the bucket, from 0: of equally frequent buckets, or between boundaries that the user gives."""

    key = "buckets"
    constants = ("boundaries",)
    buckets: Annotated[Integer | tuple[Number, ...], AfterValidator(_boundaries)]

    @property
    def _count(self) -> int:
        return self.buckets - 1 if isinstance(self.buckets, int) else len(self.buckets)

    def output(self, value: Value) -> Value:
        return dataclasses.replace(value, dtype="int64")

    def shapes(self, value: Value) -> dict[str, Shape]:
        return {"boundaries": (self._count, *value.constant_shape)}

    def estimator(self, value: Value) -> Estimator | None:
        if not isinstance(self.buckets, int):
            return None
        count = self._count + 1
        return value.quantiles(*(place / count for place in range(1, count)))

    def fit(self, result: Arrays, value: Value) -> Constants:
        if isinstance(self.buckets, int):
            return {"boundaries": value.broadcast(np.maximum.accumulate(result["quantiles"], axis=0))}
        given = np.array(self.buckets, np.float64).reshape(-1, *[1] * len(value.shape))
        return {"boundaries": np.broadcast_to(given, (self._count, *value.constant_shape))}

    def apply(self, x: tf.Tensor, constants: Tensors) -> tf.Tensor:
        boundaries = constants["boundaries"]
        axes = tuple(axis for axis, size in enumerate(boundaries.shape[1:]) if size > 1)
        columns, order, shape = graph_ops.by_column(x, axes)
        knots = tf.transpose(tf.reshape(boundaries, [self._count, -1]))
        found = graph_ops.count_below(knots, columns, strict=False)
        return graph_ops.from_columns(found, order, shape, x)


class Gaussian(Step):
    """Nearly normal deviates of long-tailed values, as `tft.scale_to_gaussian` makes them.

    The inverse of a Tukey HH distribution with the training values' first four L-moments. Source: T. C. Headrick and
    M. D. Pant, "Characterizing Tukey h and hh-Distributions through L-Moments and the L-Correlation", 2012. A
    distribution with lighter tails than the normal one is scaled to mean 0 and deviation 1.
    """

    key = "gaussian"
    constants = ("shift", "divisor", "left", "right")

    def estimator(self, value: Value) -> Estimator:
        return value.quantiles(*_nodes()[0].tolist())

    def fit(self, result: Arrays, value: Value) -> Constants:
        quantiles = result["quantiles"]
        columns = quantiles.reshape(MAP_QUANTILES, -1)
        learned = np.array([_tukey(column) for column in columns.T]).T
        return {
            name: value.broadcast(row.reshape(quantiles.shape[1:]))
            for name, row in zip(self.constants, learned, strict=True)
        }

    def apply(self, x: tf.Tensor, constants: Tensors) -> tf.Tensor:
        from tensorflow_transform import gaussianization

        scaled = (x - constants["shift"]) / constants["divisor"]
        shape = tf.shape(scaled)
        left, right = (tf.broadcast_to(constants[name], shape) for name in ("left", "right"))
        return graph_ops.elementwise(gaussianization.inverse_tukey_hh, scaled, left, right)


def _nodes() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Probabilities and weights of integrals over [0, 1]: dense at both ends, where long tails decide."""
    angle = (np.arange(MAP_QUANTILES) + 0.5) * (np.pi / MAP_QUANTILES)
    weights = np.sin(angle)
    return (1 - np.cos(angle)) / 2, weights / weights.sum()


def _tukey(quantiles: npt.NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Location, scale, left and right parameter of the Tukey HH distribution with the L-moments of some quantiles."""
    from tensorflow_transform import gaussianization

    u, weights = _nodes()
    polynomials = (np.ones_like(u), 2 * u - 1, 6 * u**2 - 6 * u + 1, 20 * u**3 - 30 * u**2 + 12 * u - 1)
    middle = float(quantiles[len(quantiles) // 2])  # less which, a constant is exactly 0
    quantiles = quantiles - middle
    first, second, third, fourth = (float(np.sum(weights * quantiles * p)) for p in polynomials)
    parameters = np.zeros(2)
    if second > 0:
        parameters = gaussianization.compute_tukey_hh_params(np.array([third / second, fourth / second]))
    if not parameters.any():
        return (
            middle + first,
            float(not_zero(np.asarray(np.sqrt(np.sum(weights * (quantiles - first) ** 2))))),
            0.0,
            0.0,
        )
    mean, scale = gaussianization.tukey_hh_l_mean_and_scale(parameters)
    divisor = second / float(scale)
    return middle + first - divisor * float(mean), divisor, float(parameters[0]), float(parameters[1])
