"""Which rows there are and which split each goes to, as a user says it: by fractions, groups, a column, a time."""

from __future__ import annotations

import datetime
import itertools
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pydantic
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from loaders.format.names import RESERVED
from loaders.format.spec import FeatureSpec
from loaders.order.row_filter import expected_of_filter, parse_filter
from pipelines.errors import ConfigError
from pipelines.steps.options import Number, read_number

_DATE = re.compile(r"\d{4}(-\d\d(-\d\d([T ]\d\d(:\d\d(:\d\d(\.\d+)?)?)?)?)?)?")


def check_split_name(name: str) -> str:
    """A name, if it can be a split's, which is the name of a directory in the output; else a ValueError."""
    if not name or set(name) & set("/\\") or name.startswith((".", "_")):
        raise ValueError(f"a split's name is a directory's name that begins with neither . nor _; found {name!r}")
    if len(name.encode()) > 100:
        raise ValueError(f"a split's name has at most 100 bytes; found {name!r}")
    if name in RESERVED:
        raise ValueError(f"a split is not called {name!r}: the output has that directory for something else")
    return name


def _fractions(splits: dict[str, float]) -> dict[str, float]:
    if not splits:
        raise ValueError("at least one split")
    for name, fraction in splits.items():
        check_split_name(name)
        if not 0 < fraction <= 1:
            raise ValueError(f"each fraction is in (0, 1]; found {name}: {fraction}")
    if not math.isclose(math.fsum(splits.values()), 1.0, abs_tol=1e-9):
        raise ValueError(f"the fractions add up to 1; found {math.fsum(splits.values())}")
    return splits


def _threshold(value: object) -> object:
    """A number, or the text of a date; YAML gives dates as objects, and `1e3` as text."""
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        value = value.astimezone(datetime.UTC).replace(tzinfo=None)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, str):
        if _DATE.fullmatch(value):
            np.datetime64(value)  # a ValueError, with a message of its own, for a 13th month
            return value
        try:
            return read_number(value)
        except ValueError as error:
            raise ValueError(f"a number, or a date such as 2020-01-31 or 2020-01-31T12:00; found {value!r}") from error
    if isinstance(value, bool):
        raise ValueError(f"a number or a date; found {value}")
    return value


def _check_unique(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError(f"each split is named once; found {', '.join(names)}")
    return names


SplitName = Annotated[str, AfterValidator(check_split_name)]
Fractions = Annotated[dict[str, Number], AfterValidator(_fractions)]
Threshold = Annotated[int | float | str, BeforeValidator(_threshold)]


class SplitRule(pydantic.BaseModel):
    """A way of splitting that reads a feature."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    KEY: ClassVar[str]
    """The key under which the feature is named: the first of a rule."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls.KEY = next(iter(cls.model_fields))

    @pydantic.model_validator(mode="before")
    @classmethod
    def _check_keys(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and set(value) != set(cls.model_fields):
            keys, found = ", ".join(cls.model_fields), ", ".join(map(str, value))
            raise ValueError(f"splits by {cls.KEY} have the keys {keys}; found {found}")
        return value

    @property
    def feature(self) -> str:
        """The feature that is read."""
        return str(getattr(self, self.KEY))

    @property
    def shares(self) -> Mapping[str, float | None]:
        """The splits, each with its fraction of the rows where there are fractions; None where only the values tell."""
        return dict(vars(self)["fractions"])


class GroupSplits(SplitRule):
    """Rows of equal value stay together; a group's split is a hash of its value.

    Attributes:
        fractions: The fraction of groups of each split.
    """

    group: str
    fractions: Fractions


class StratifiedSplits(SplitRule):
    """Every class has the same fractions."""

    stratify: str
    fractions: Fractions


class ColumnSplits(SplitRule):
    """A feature holds the number of each row's split; rows of a negative number are dropped.

    Attributes:
        names: The splits that the numbers 0, 1, … stand for.
    """

    column: str
    names: Annotated[tuple[SplitName, ...], Field(min_length=1), AfterValidator(_check_unique)]

    @property
    def shares(self) -> Mapping[str, float | None]:
        """The splits."""
        return dict.fromkeys(self.names)


class TimeSplits(SplitRule):
    """A row belongs to the first split whose threshold is greater than its value.

    Attributes:
        until: Each split's threshold, ascending: a number, or a date in ISO 8601 for a feature of dates.
    """

    time: str
    until: Annotated[dict[SplitName, Threshold], Field(min_length=1)]
    rest: SplitName

    @pydantic.model_validator(mode="after")
    def _check_until(self) -> TimeSplits:
        kinds = {isinstance(value, str) for value in self.until.values()}
        if len(kinds) > 1:
            raise ValueError(f"the thresholds are all numbers or all dates; found {list(self.until.values())}")
        values: list[Any] = [np.datetime64(v) if isinstance(v, str) else v for v in self.until.values()]
        if any(low >= high for low, high in itertools.pairwise(values)):
            raise ValueError(f"the thresholds ascend; found {', '.join(map(str, self.until.values()))}")
        _check_unique((*self.until, self.rest))
        return self

    @property
    def shares(self) -> Mapping[str, float | None]:
        """The splits."""
        return dict.fromkeys((*self.until, self.rest))


class BlockSplits(SplitRule):
    """Rows are split by blocks of the axes that count them, so that patches of different splits share no row.

    A block's split is a hash of its place. Rows are dropped whose patches reach into a block of another split.

    Attributes:
        blocks: The feature whose rows are meant: pixels of an image, say.
        size: How many rows a block has along each axis that counts rows.
        fractions: The fraction of the blocks of each split.
    """

    blocks: str
    size: Annotated[tuple[Annotated[int, Field(ge=1, strict=True)], ...], Field(min_length=1, max_length=2)]
    fractions: Fractions


RULES: Mapping[str, type[SplitRule]] = {
    rule.KEY: rule for rule in (GroupSplits, StratifiedSplits, ColumnSplits, TimeSplits, BlockSplits)
}


def _kind(value: object) -> str:
    """Which way of splitting a value is; a split may be called `group`, and then it has a fraction."""
    if isinstance(value, SplitRule):
        return value.KEY
    if isinstance(value, Mapping):
        for key in RULES:
            if key in value and not _is_number(value[key]):
                return key
        return "fractions"
    return "directory"


def _is_number(value: object) -> bool:
    try:
        return isinstance(read_number(value), int | float)
    except ValueError:
        return False


Splits = Annotated[
    Annotated[Literal["directory"], Tag("directory")]
    | Annotated[Fractions, Tag("fractions")]
    | Annotated[GroupSplits, Tag("group")]
    | Annotated[StratifiedSplits, Tag("stratify")]
    | Annotated[ColumnSplits, Tag("column")]
    | Annotated[TimeSplits, Tag("time")]
    | Annotated[BlockSplits, Tag("blocks")],
    Discriminator(_kind),
]
"""`directory`, fractions by name, or a rule."""


def check_rule(rule: SplitRule, features: Mapping[str, FeatureSpec]) -> None:
    """Checks that a rule fits the features as the sources hold them; a ConfigError if it does not."""
    key = f"splits.{rule.KEY}"
    if not isinstance(rule, ColumnSplits | TimeSplits):
        spec = _feature(key, rule.feature, features)
        if spec.ragged and not isinstance(rule, BlockSplits):
            raise ConfigError(f"{key}: expected rows of one shape; found {spec.name}, whose rows differ in length")
        return
    spec = single_valued(key, rule.feature, features)
    kind = np.dtype(spec.dtype).kind if spec.dtype != "string" else "S"
    allowed = (
        ("biu", "integers, the numbers of splits") if isinstance(rule, ColumnSplits) else ("iuf", "numbers or dates")
    )
    if kind not in allowed[0]:
        raise ConfigError(f"{key}: expected {allowed[1]}; found {spec.dtype}")
    if isinstance(rule, TimeSplits):
        time_thresholds(rule, spec.unit)


def _feature(key: str, name: str, features: Mapping[str, FeatureSpec]) -> FeatureSpec:
    if name not in features:
        raise ConfigError(f"{key}: expected a feature, one of {', '.join(features)}; found {name!r}")
    return features[name]


def single_valued(key: str, name: str, features: Mapping[str, FeatureSpec]) -> FeatureSpec:
    """A feature that has one value a row.

    Raises:
        ConfigError: If there is none of this name, or it has more; naming the key that says so.
    """
    spec = _feature(key, name, features)
    if spec.ragged or spec.row_elements != 1:
        raise ConfigError(f"{key}: expected one value a row; found {name}, with rows of shape {spec.shape}")
    return spec


def time_thresholds(rule: TimeSplits, unit: str) -> tuple[int | float, ...]:
    """The thresholds as numbers, with which a feature's values are compared that count a unit.

    A date between two counts is the later of them, so that exactly the values before the date are less.

    Raises:
        ConfigError: If a threshold is a date and the feature does not hold dates, or not that one.
    """
    thresholds: list[int | float] = []
    for name, value in rule.until.items():
        if not isinstance(value, str):
            thresholds.append(value)
            continue
        key = f"splits.until.{name}"
        if not unit.startswith("datetime64"):
            raise ConfigError(f"{key}: expected a number; found {value}, and {rule.time} is not of datetime64")
        thresholds.append(_ticks(key, value, unit))
    return tuple(thresholds)


def _ticks(key: str, text: str, unit: str) -> int:
    exact = np.datetime64(text)
    try:
        date = exact.astype(unit)
    except OverflowError:
        date = np.datetime64("NaT")
    # NumPy wraps around where the unit does not reach that far.
    years = [int(day.astype("datetime64[Y]").astype(np.int64)) for day in (date, exact)]
    if abs(years[0] - years[1]) > 1:
        raise ConfigError(f"{key}: expected a date that {unit} can hold; found {text}")
    return int(date.astype(np.int64)) + bool(date.astype(exact.dtype) < exact)


def _filter(text: str) -> str:
    parse_filter(text)
    return text


Filter = Annotated[str, AfterValidator(_filter)]
"""Which rows are kept; `loaders.order.row_filter` has its grammar, which loaders share."""


def check_filter(text: str, features: Mapping[str, FeatureSpec]) -> None:
    """Checks that a filter fits the features as the sources hold them; a ConfigError if it does not."""
    row_filter = parse_filter(text)
    spec = single_valued("filter", row_filter.feature, features)
    if expected := expected_of_filter(row_filter, spec):
        raise ConfigError(f"filter: expected {expected}; found {text!r}")
