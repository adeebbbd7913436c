"""The methods of imputation and the steps of normalisation, as a configuration names them."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from pipelines.config.splits import read_number
from pipelines.steps import encoding, imputation, projection, ranking, scaling
from pipelines.steps.step import Step

NORMALIZE: dict[str, type[Step]] = {
    step.key: step
    for step in (
        scaling.ZScore,
        scaling.MinMax,
        scaling.MaxAbs,
        scaling.Scale,
        scaling.Log1p,
        scaling.Row,
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


def parse_impute(value: object) -> Step | Literal["none"] | None:
    """Reads what a configuration says of imputation; None says nothing.

    Raises:
        ValueError: If it names no method, or a method with a value that is not allowed.
    """
    if value is None or isinstance(value, Step):
        return value
    if isinstance(value, str) and value == "none":
        return "none"
    return _parse(value, imputation.METHODS, "impute")


def parse_normalize(value: object) -> tuple[Step, ...] | None:
    """Reads one step, or a list of steps; no step is `none`, and None says nothing.

    Raises:
        ValueError: If it names no step, or a step with a value that is not allowed.
    """
    if value is None:
        return None
    steps = value if isinstance(value, list | tuple) else [] if value == "none" else [value]
    return tuple(step if isinstance(step, Step) else _parse(step, NORMALIZE, "normalize") for step in steps)


def dump_impute(step: Step | None) -> Any:
    """What `parse_impute` reads."""
    return "none" if step is None else step.dump()


def dump_normalize(steps: tuple[Step, ...]) -> Any:
    """What `parse_normalize` reads."""
    dumped = [step.dump() for step in steps]
    return "none" if not dumped else dumped[0] if len(dumped) == 1 else dumped


def _parse(value: object, known: Mapping[str, type[Step]], what: str) -> Step:
    name, argument, given = value, None, False
    or_list = ", or a list of these" if what == "normalize" else ""
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, argument),) = value.items()
        given = True
    step = known.get(name) if isinstance(name, str) else None
    if step is None:
        names = ", ".join(_usage(step) for step in known.values())
        raise ValueError(f"expected none, {names}{or_list}; found {value!r}")
    fields = [field for field in dataclasses.fields(step) if field.init]  # type: ignore[arg-type]
    if not given:
        if any(field.default is dataclasses.MISSING for field in fields):
            raise ValueError(f"{name}: expected a value, as in {_usage(step)}")
        return step()
    return step(**_arguments(step, fields, argument))


def _arguments(step: type[Step], fields: list[dataclasses.Field[Any]], argument: object) -> dict[str, Any]:
    if not fields:
        raise ValueError(f"{step.key} takes no value; found {argument!r}")
    if len(fields) == 1:
        argument = {fields[0].name: argument}
    if not isinstance(argument, Mapping):
        raise ValueError(f"{step.key}: expected {_usage_with_value(step)}; found {argument!r}")
    unknown = set(argument) - {field.name for field in fields}
    if unknown:
        found = ", ".join(map(str, sorted(unknown, key=str)))
        raise ValueError(f"{step.key}: unknown key {found}; the keys are {', '.join(field.name for field in fields)}")
    hints = typing.get_type_hints(step)
    where = {name: step.key if len(fields) == 1 else f"{step.key}.{name}" for name in argument}
    return {name: _convert(where[name], hints[name], value) for name, value in argument.items()}


def _convert(key: str, hint: Any, value: Any) -> Any:
    """A value as YAML gives it, as a field's type."""
    kinds = _kinds(hint)
    if value is None and type(None) in kinds:
        return None
    if isinstance(value, list | tuple) and any(typing.get_origin(kind) is tuple for kind in kinds):
        return tuple(_number(key, item) for item in value)
    if int in kinds and isinstance(value, int) and not isinstance(value, bool):
        return value
    if float in kinds:
        return _number(key, value)
    if any(typing.get_origin(kind) is Literal for kind in kinds):
        return value
    raise ValueError(f"{key}: expected {_describe(kinds)}; found {value!r}")


def _number(key: str, value: Any) -> float:
    try:
        found = read_number(value)
    except ValueError as error:
        raise ValueError(f"{key}: expected {error}") from error
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ValueError(f"{key}: expected a number; found {value!r}")
    try:
        number = float(found)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{key}: expected a finite number; found {value!r}")
    return number


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The types of which a value may be one."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _describe(kinds: tuple[Any, ...]) -> str:
    names = {int: "an integer", float: "a number", type(None): "null"}
    return " or ".join(
        " or ".join(typing.get_args(kind))
        if typing.get_origin(kind) is Literal
        else names.get(kind, "a list of numbers")
        for kind in kinds
    )


def _usage(step: type[Step]) -> str:
    """How a step is written."""
    fields = [field for field in dataclasses.fields(step) if field.init]  # type: ignore[arg-type]
    if all(field.default is not dataclasses.MISSING for field in fields):
        return step.key
    return _usage_with_value(step)


def _usage_with_value(step: type[Step]) -> str:
    fields = [field for field in dataclasses.fields(step) if field.init]  # type: ignore[arg-type]
    hints = typing.get_type_hints(step)
    said = {field.name: _describe(_kinds(hints[field.name])).upper() for field in fields}
    if len(said) == 1:
        return f"{{{step.key}: {next(iter(said.values()))}}}"
    keys = ", ".join(f"{name}: {value}" for name, value in said.items())
    return f"{{{step.key}: {{{keys}}}}}"
