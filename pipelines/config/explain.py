"""What is wrong with a configuration, in a user's words: the key, what is expected, what was found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic

from pipelines.errors import suggest

EXPECTED = {
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "byte_size": "a size such as 64MiB",
    "byte_size_unit": "a size such as 64MiB",
    "dict_type": "a mapping of keys to values",
    "finite_number": "a finite number",
    "float_type": "a number",
    "float_parsing": "a number",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "list_type": "a list",
    "mapping_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "string_type": "text",
    "tuple_type": "a list",
}
"""What pydantic's errors mean, by their type."""

BOUNDS = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "too_short": "at least {min_length} item",
    "too_long": "at most {max_length} items",
}


def explain(error: pydantic.ValidationError, keys_of: Mapping[str, type[pydantic.BaseModel]]) -> str:
    """One line for each problem.

    Args:
        error: What pydantic says.
        keys_of: The models whose keys may be there: of the whole as "", of a feature as "features", and of what else
            stands in a union by its name.
    """
    lines: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False):
        keys = [str(part) for part in problem["loc"]]
        if problem["type"] == "extra_forbidden":
            model = keys_of["features" if keys[0] == "features" and len(keys) == 3 else ""]
            model = next((keys_of[key] for key in reversed(keys[2:-1]) if key in keys_of), model)
            known = model.model_fields
            message = f"unknown key; the keys are {', '.join(known)}{suggest(keys[-1], known)}"
        else:
            message = _say(problem)
        # A union reports each of its branches, with the branch's name last in the key.
        depth = 3 if keys[0] == "features" else 1
        lines.setdefault(".".join(keys[:depth]), []).append(message)
    return "the configuration is not valid\n" + "\n".join(
        f"  {key}: {' | '.join(dict.fromkeys(messages))}" for key, messages in lines.items()
    )


def _say(problem: Any) -> str:
    kind, context, found = problem["type"], problem.get("ctx", {}), problem["input"]
    if kind == "value_error":
        return str(problem["msg"]).removeprefix("Value error, ")
    if kind == "literal_error":
        known = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        return f"expected {context['expected']}; found {found!r}{suggest(found, known)}"
    if kind == "missing":
        return f"expected the key {problem['loc'][-1]}; found {', '.join(map(str, found)) or 'none'}"
    if kind in BOUNDS:
        return f"expected {BOUNDS[kind].format(**context)}; found {found!r}"
    said = str(problem["msg"]).removeprefix("Input should be ")
    return f"expected {EXPECTED.get(kind, said)}; found {found!r}"
