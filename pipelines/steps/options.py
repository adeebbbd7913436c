"""The options of a step as YAML gives them: numbers, how a step is written, and what is said of a mistake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import pydantic
from pydantic import BeforeValidator, Field

from pipelines.errors import suggest

if TYPE_CHECKING:
    from pipelines.steps.step import Step


def read_number(value: object) -> object:
    """Reads a fraction such as `1/255`, which YAML gives as text."""
    if isinstance(value, str):
        try:
            dividend, slash, divisor = value.partition("/")
            return float(dividend) / float(divisor) if slash else float(value)
        except (ValueError, ZeroDivisionError) as error:
            raise ValueError(f"expected a number or a fraction such as 1/255; found {value!r}") from error
    return value


Number = Annotated[float, Field(strict=True, allow_inf_nan=False), BeforeValidator(read_number)]
Integer = Annotated[int, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=1)]


def read_step(step: type[Step], *given: object) -> Step:
    """Makes a step of what a configuration gives: nothing, or a mapping of several options, or its one option.

    A value that does not fit is a ValueError, and so is none where there should be one.
    """
    options = step.model_fields
    if not given:
        if any(option.is_required() for option in options.values()):
            raise ValueError(f"{step.key}: expected a value, as in {_usage_with_value(step)}")
        return step()
    (value,) = given
    if not options:
        raise ValueError(f"{step.key} takes no value; found {value!r}")
    if len(options) > 1 and not isinstance(value, Mapping):
        raise ValueError(f"{step.key}: expected {_usage_with_value(step)}; found {value!r}")
    try:
        return step.model_validate({next(iter(options)): value} if len(options) == 1 else value)
    except pydantic.ValidationError as error:
        raise ValueError(_explain(step, error)) from error


def _explain(step: type[Step], error: pydantic.ValidationError) -> str:
    problems = error.errors(include_url=False)
    unknown = [str(problem["loc"][0]) for problem in problems if problem["type"] in ("extra_forbidden", "invalid_key")]
    if unknown:
        keys = f"the keys are {', '.join(step.model_fields)}{suggest(unknown[0], step.model_fields)}"
        return f"{step.key}: unknown key {', '.join(unknown)}; {keys}"
    problem = max(problems, key=lambda found: len(found["loc"]))  # of several kinds, the one that fits best
    option, *within = problem["loc"]
    where = step.key if len(step.model_fields) == 1 else f"{step.key}.{option}"
    match problem["type"]:
        case "value_error":
            return f"{where}: {problem['msg'].removeprefix('Value error, ')}"
        case "finite_number":
            expected = "a finite number"
        case "greater_than_equal":
            expected = f"an integer of at least {problem['ctx']['ge']}"
        case _:
            in_a_list = any(isinstance(place, int) for place in within)
            expected = "a number" if in_a_list else _describe(step.model_json_schema()["properties"][option])
    return f"{where}: expected {expected}; found {problem['input']!r}"


def _describe(schema: Mapping[str, Any]) -> str:
    """What a value may be, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(map(_describe, schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(schema["enum"])
    kinds = {"integer": "an integer", "number": "a number", "array": "a list of numbers"}
    return kinds.get(schema["type"]) or str(schema["type"])


def usage(step: type[Step]) -> str:
    """How a step is written."""
    required = any(option.is_required() for option in step.model_fields.values())
    return _usage_with_value(step) if required else step.key


def _usage_with_value(step: type[Step]) -> str:
    said = {name: _describe(schema).upper() for name, schema in step.model_json_schema()["properties"].items()}
    keys = ", ".join(f"{name}: {value}" for name, value in said.items())
    return f"{{{step.key}: {next(iter(said.values())) if len(said) == 1 else f'{{{keys}}}'}}}"
