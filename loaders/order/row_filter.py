"""Rows that are chosen by a value, as a person says it: `label != 3`. NumPy only."""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format.spec import FeatureSpec

OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}

_COMPARISON = re.compile(r"(?P<feature>.+?)\s*(?P<operator>==|!=|<=|>=|<|>)\s*(?P<value>.+)", re.DOTALL)
_QUOTED = re.compile(r"""(?P<quote>["'])(?P<word>.*)(?P=quote)""", re.DOTALL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowFilter:
    """The rows that are kept: by a feature, one of `OPERATORS`, and the text of a value without quotes.

    The operator "" keeps the rows whose value is true, or not 0.
    """

    feature: str
    operator: str
    value: str


def parse_filter(text: str) -> RowFilter:
    """Reads a row filter: `keep`, or `label != 0`, or `site == "north"`.

    Raises:
        ValueError: If it is neither a feature nor a comparison.
    """
    text = text.strip()
    match = _COMPARISON.fullmatch(text)
    if match is None:
        if not text or any(character in text for character in "=<>!"):
            allowed = f"a feature, or a feature, one of {' '.join(OPERATORS)}, and a value"
            raise ValueError(f"{allowed}; found {text!r}")
        return RowFilter(feature=text, operator="", value="")
    quoted = _QUOTED.fullmatch(match["value"])
    return RowFilter(
        feature=match["feature"], operator=match["operator"], value=quoted["word"] if quoted else match["value"]
    )


def filter_operand(row_filter: RowFilter, dtype: str) -> int | float | bytes:
    """What a feature of this dtype is compared with: bytes for strings, otherwise a number.

    Raises:
        ValueError: If the value is no number and the dtype is one of numbers.
    """
    if dtype == "string":
        return row_filter.value.encode()
    try:
        return int(row_filter.value)
    except ValueError:
        return float(row_filter.value)


def expected_of_filter(row_filter: RowFilter, spec: FeatureSpec) -> str | None:
    """What a filter should be to fit a feature of one value a row; None where it fits."""
    if not row_filter.operator:
        return f'a comparison, such as {spec.name} == "word"' if spec.dtype == "string" else None
    if spec.dtype.startswith("complex") and row_filter.operator not in ("==", "!="):
        return f"== or != for {spec.dtype}"
    try:
        filter_operand(row_filter, spec.dtype)
    except ValueError:
        return f"a number to compare {spec.dtype} with"
    return None


def passes(row_filter: RowFilter, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which rows a filter keeps, by the values of its feature, one a row: bool of shape [rows].

    Values are compared as NumPy does it: NaN equals nothing. Strings are of dtype S, or objects of `bytes`.
    """
    values = values.reshape(-1)
    if not row_filter.operator:
        return np.asarray(values != 0, dtype=np.bool_)
    operand = filter_operand(row_filter, "string" if values.dtype.kind in "SO" else values.dtype.name)
    return np.asarray(OPERATORS[row_filter.operator](values, operand), dtype=np.bool_)
