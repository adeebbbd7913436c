"""The row filter of a build: which rows a data set has. `loaders.order.where` has its grammar, which loaders share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator

from loaders.format.spec import FeatureSpec
from loaders.order.where import expected_of_filter, parse_filter
from pipelines.config.splits import single_valued
from pipelines.errors import ConfigError


def _filter(text: str) -> str:
    parse_filter(text)
    return text


Filter = Annotated[str, AfterValidator(_filter)]


def check_filter(text: str, features: Mapping[str, FeatureSpec]) -> None:
    """Checks that a filter fits the features as the sources hold them.

    Raises:
        ConfigError: If it does not.
    """
    row_filter = parse_filter(text)
    spec = single_valued("filter", row_filter.feature, features)
    if expected := expected_of_filter(row_filter, spec):
        raise ConfigError(f"filter: expected {expected}; found {text!r}")
