"""Steps that are learned from quantiles of the training rows."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator

from pipelines.lazy import Lazy
from pipelines.statistics.estimators import Estimator
from pipelines.steps.options import Integer, Number
from pipelines.steps.step import Arrays, Constants, Shape, Step, ValueSpec, not_zero

gaussianization = Lazy("tensorflow_transform.gaussianization")

MAP_QUANTILES = 1000
"""How many quantiles make the map of `quantile` at most, as in scikit-learn."""


class Robust(Step):
    """Median 0 and interquartile range 1; a range of 0 counts as 1."""

    key = "robust"
    analyzer = "scale_robust"
    constants = ("shift", "divisor")

    def estimator(self, value: ValueSpec) -> Estimator:
        return value.quantiles(0.25, 0.5, 0.75)

    def fit(self, result: Arrays, value: ValueSpec) -> Constants:
        lower, middle, upper = result["quantiles"]
        return {"shift": value.broadcast(middle), "divisor": value.broadcast(not_zero(upper - lower))}

    def exact_quantiles(self, constants: Arrays) -> dict[float, npt.NDArray[Any]]:
        return {50.0: constants["shift"]}


def _probabilities(pair: tuple[float, ...]) -> tuple[float, ...]:
    if len(pair) != 2 or not 0 <= pair[0] < pair[1] <= 1:
        raise ValueError(f"expected two probabilities, such as [0.01, 0.99]; found {list(pair)}")
    return pair


class Clip(Step):
    """Moves what lies outside two quantiles to them."""

    key = "clip"
    analyzer = "clip"
    constants = ("low", "high")
    quantiles: Annotated[tuple[Number, ...], AfterValidator(_probabilities)]

    @property
    def arguments(self) -> tuple[str, ...]:
        return tuple(map(repr, self.quantiles))

    def estimator(self, value: ValueSpec) -> Estimator:
        return value.quantiles(*self.quantiles)

    def fit(self, result: Arrays, value: ValueSpec) -> Constants:
        low, high = result["quantiles"]
        return {"low": value.broadcast(low), "high": value.broadcast(high)}

    def exact_quantiles(self, constants: Arrays) -> dict[float, npt.NDArray[Any]]:
        return {round(100 * at, 9): constants[name] for at, name in zip(self.quantiles, self.constants, strict=True)}


class Quantile(Step):
    """The place of a value among the training values, uniform in [0, 1], or as a normal deviate.

    Source: scikit-learn's QuantileTransformer with 1,000 quantiles, or as many as there are values if these are fewer:
    linear between quantiles, the middle of the places that an often repeated value has.
    """

    key = "quantile"
    analyzer = "quantile_transform"
    constants = ("quantiles",)
    to: Literal["uniform", "normal"]

    def shapes(self, value: ValueSpec) -> dict[str, Shape]:
        return {"quantiles": (None, *value.constant_shape)}

    def estimator(self, value: ValueSpec) -> Estimator:
        return value.quantiles(*np.linspace(0, 1, MAP_QUANTILES).tolist(), limited=True)

    def fit(self, result: Arrays, value: ValueSpec) -> Constants:
        # Ascending whatever the rounding of their interpolation.
        quantiles = np.maximum.accumulate(result["quantiles"], axis=0)
        return {"quantiles": value.broadcast(quantiles)}


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
    analyzer = "bucketize"
    constants = ("boundaries",)
    buckets: Annotated[Integer | tuple[Number, ...], AfterValidator(_boundaries)]

    @property
    def _count(self) -> int:
        return self.buckets - 1 if isinstance(self.buckets, int) else len(self.buckets)

    def output(self, value: ValueSpec) -> ValueSpec:
        return dataclasses.replace(value, dtype="int64")

    def shapes(self, value: ValueSpec) -> dict[str, Shape]:
        return {"boundaries": (self._count, *value.constant_shape)}

    def estimator(self, value: ValueSpec) -> Estimator | None:
        if not isinstance(self.buckets, int):
            return None
        count = self._count + 1
        return value.quantiles(*(place / count for place in range(1, count)))

    def fit(self, result: Arrays, value: ValueSpec) -> Constants:
        if isinstance(self.buckets, int):
            return {"boundaries": value.broadcast(np.maximum.accumulate(result["quantiles"], axis=0))}
        given = np.array(self.buckets, np.float64).reshape(-1, *[1] * len(value.shape))
        return {"boundaries": np.broadcast_to(given, (self._count, *value.constant_shape))}

    def exact_quantiles(self, constants: Arrays) -> dict[float, npt.NDArray[Any]]:
        if not isinstance(self.buckets, int):
            return {}
        return {round(100 * n / self.buckets, 9): own for n, own in enumerate(constants["boundaries"], 1)}


class Gaussian(Step):
    """Nearly normal deviates of long-tailed values, as `tft.scale_to_gaussian` makes them.

    The inverse of a Tukey HH distribution with the training values' first four L-moments. Source: T. C. Headrick and
    M. D. Pant, "Characterizing Tukey h and hh-Distributions through L-Moments and the L-Correlation", 2012. A
    distribution with lighter tails than the normal one is scaled to mean 0 and deviation 1.
    """

    key = "gaussian"
    analyzer = "scale_to_gaussian"
    constants = ("shift", "divisor", "left", "right")

    def estimator(self, value: ValueSpec) -> Estimator:
        return value.quantiles(*_nodes()[0].tolist())

    def fit(self, result: Arrays, value: ValueSpec) -> Constants:
        quantiles = result["quantiles"]
        columns = quantiles.reshape(MAP_QUANTILES, -1)
        learned = np.array([_tukey(column) for column in columns.T]).T
        return {
            name: value.broadcast(row.reshape(quantiles.shape[1:]))
            for name, row in zip(self.constants, learned, strict=True)
        }


def _nodes() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Probabilities and weights of integrals over [0, 1]: dense at both ends, where long tails decide."""
    angle = (np.arange(MAP_QUANTILES) + 0.5) * (np.pi / MAP_QUANTILES)
    weights = np.sin(angle)
    return (1 - np.cos(angle)) / 2, weights / weights.sum()


def _tukey(quantiles: npt.NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Location, scale, left and right parameter of the Tukey HH distribution with the L-moments of some quantiles."""
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
