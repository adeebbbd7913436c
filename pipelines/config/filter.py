"""The row filter: which rows a data set has, as a user says it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator

from loaders.format.spec import FeatureSpec
from pipelines.config.splits import single_valued
from pipelines.errors import ConfigError

OPERATORS = ("==", "!=", "<=", ">=", "<", ">")

_COMPARISON = re.compile(r"(?P<feature>.+?)\s*(?P<operator>==|!=|<=|>=|<|>)\s*(?P<value>.+)", re.DOTALL)
_QUOTED = re.compile(r"""(?P<quote>["'])(?P<word>.*)(?P=quote)""", re.DOTALL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowFilter:
    """The rows that are kept.

    Attributes:
        feature: The feature that is looked at.
        operator: One of `OPERATORS`; or "", which keeps the rows whose value is true, or not 0.
        value: The text that the feature is compared with, without quotes.
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


def _filter(text: str) -> str:
    parse_filter(text)
    return text


Filter = Annotated[str, AfterValidator(_filter)]


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


def check_filter(text: str, features: Mapping[str, FeatureSpec]) -> None:
    """Checks that a filter fits the features as the sources hold them.

    Raises:
        ConfigError: If it does not.
    """
    row_filter = parse_filter(text)
    spec = single_valued("filter", row_filter.feature, features)
    expected = None
    if not row_filter.operator:
        expected = f'a comparison, such as {spec.name} == "word"' if spec.dtype == "string" else None
    elif spec.dtype.startswith("complex") and row_filter.operator not in ("==", "!="):
        expected = f"== or != for {spec.dtype}"
    else:
        try:
            filter_operand(row_filter, spec.dtype)
        except ValueError:
            expected = f"a number to compare {spec.dtype} with"
    if expected:
        raise ConfigError(f"filter: expected {expected}; found {text!r}")
