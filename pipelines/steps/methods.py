"""The methods of imputation and the steps of normalisation, as a configuration names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pipelines.errors import suggest
from pipelines.steps import encoding, imputation, projection, ranking, scaling
from pipelines.steps.options import read_step, usage
from pipelines.steps.step import Step

IMPUTE: dict[str, type[Step]] = {
    step.key: step
    for step in (
        imputation.Mean,
        imputation.Median,
        imputation.MostFrequent,
        imputation.Min,
        imputation.Max,
        imputation.Zero,
        imputation.Regression,
        imputation.Constant,
    )
}
"""The methods of imputation by name."""

NORMALIZE: dict[str, type[Step]] = {
    step.key: step
    for step in (
        scaling.ZScore,
        scaling.MinMax,
        scaling.MaxAbs,
        scaling.Scale,
        scaling.Log1p,
        scaling.ScaledRow,
        ranking.Robust,
        ranking.Clip,
        ranking.Quantile,
        ranking.Gaussian,
        ranking.Buckets,
        projection.Pca,
        projection.Whiten,
        encoding.Vocabulary,
        encoding.OneHot,
    )
}
"""The steps of normalisation by name."""


def parse_impute(value: object) -> Step | Literal["none", "forbid"] | None:
    """Reads what a configuration says of imputation; None says nothing, and `forbid` that no value may be missing.

    What names no method, or one with a value that is not allowed, is a ValueError.
    """
    if value is None or value in ("none", "forbid"):
        return value
    return parse_step(value, IMPUTE, less=", forbid")


def parse_normalize(value: object) -> tuple[Step, ...] | None:
    """Reads one step, or a list of steps; no step is `none`, and None says nothing. Errors as in `parse_impute`."""
    if value is None:
        return None
    steps = value if isinstance(value, list | tuple) else [] if value == "none" else [value]
    return tuple(parse_step(step, NORMALIZE, more=", or a list of these") for step in steps)


def dump_impute(step: Step | None) -> Any:
    """What `parse_impute` reads."""
    return "none" if step is None else step.dump()


def dump_normalize(steps: tuple[Step, ...]) -> Any:
    """What `parse_normalize` reads."""
    dumped = [step.dump() for step in steps]
    return "none" if not dumped else dumped[0] if len(dumped) == 1 else dumped


def parse_step(value: object, known: Mapping[str, type[Step]], *, less: str = "", more: str = "") -> Step:
    """Reads one step of those that are known; `less` and `more` are what else may stand there.

    Raises:
        ValueError: If it names none, or one with a value that is not allowed.
    """
    if isinstance(value, Step):
        return value
    name, *given = next(iter(value.items())) if isinstance(value, Mapping) and len(value) == 1 else (value,)
    step = known.get(name) if isinstance(name, str) else None
    if step is None:
        raise ValueError(
            f"expected none{less}, {', '.join(map(usage, known.values()))}{more}; found {value!r}{suggest(name, known)}"
        )
    return read_step(step, *given)
