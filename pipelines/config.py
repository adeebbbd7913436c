"""The configuration: what a user may write, checked, and the resolved form in which nothing is left open."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import yaml
from pydantic import AfterValidator, BeforeValidator, ByteSize, ConfigDict, Field

from loaders.spec import DTYPES, FeatureSpec, Role
from pipelines.errors import ConfigError

Over = Literal["element", "channel", "all"]

LABEL_NAMES = frozenset({"label", "labels", "target", "targets", "class", "classes", "y", "gt"})
SPLIT_DIRECTORIES = frozenset({"train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval"})
DEFAULT_SPLITS = {"train": 0.8, "validation": 0.1, "test": 0.1}
DEFAULT_SHARD_BYTES = 128 * 2**20
IMAGE_CHANNELS = (1, 3, 4)


RESERVED_SUFFIX = "/float64_bits"
"""The end of the names under which float64 leaves the transform's graph."""


class _Model(pydantic.BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _number(value: object) -> object:
    """Reads a fraction such as `1/255`, which YAML gives as text."""
    if isinstance(value, str):
        try:
            dividend, slash, divisor = value.partition("/")
            return float(dividend) / float(divisor) if slash else float(value)
        except (ValueError, ZeroDivisionError) as error:
            raise ValueError(f"a number or a fraction such as 1/255; found {value!r}") from error
    return value


Number = Annotated[float, BeforeValidator(_number)]


class Constant(_Model):
    """Imputation by one constant for the whole feature."""

    constant: Number


def _not_zero(value: float) -> float:
    if value == 0:
        raise ValueError("a number other than 0, which would make every value 0")
    return value


class Scale(_Model):
    """Normalisation by multiplying with a constant."""

    scale: Annotated[Number, AfterValidator(_not_zero)]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class FeatureConfig(_Model):
    """What a user may say about one feature; None is "choose for me"."""

    files: Annotated[tuple[str, ...], BeforeValidator(_as_list), Field(min_length=1)] | None = None
    role: Role | None = None
    row_axes: Annotated[int, Field(ge=1, strict=True)] | None = None
    impute: Literal["none", "mean"] | Constant | None = None
    normalize: Literal["none", "zscore", "minmax"] | Scale | None = None
    over: Over | None = None
    dtype: Literal[DTYPES] | None = None  # type: ignore[valid-type]  # a tuple of literals, known at run time only
    class_names: tuple[str, ...] = ()


def _fractions(splits: dict[str, float]) -> dict[str, float]:
    if not splits:
        raise ValueError("at least one split")
    for name, fraction in splits.items():
        if not name or set(name) & set("/\\") or name.startswith((".", "_")):
            raise ValueError(f"a split's name is a directory's name that begins with neither . nor _; found {name!r}")
        if len(name.encode()) > 100:
            raise ValueError(f"a split's name has at most 100 bytes; found {name!r}")
        if name in RESERVED_NAMES:
            raise ValueError(f"a split is not called {name!r}: the output has that directory for something else")
        if not 0 < fraction <= 1:
            raise ValueError(f"each fraction is in (0, 1]; found {name}: {fraction}")
    if not math.isclose(math.fsum(splits.values()), 1.0, abs_tol=1e-9):
        raise ValueError(f"the fractions add up to 1; found {math.fsum(splits.values())}")
    return splits


RESERVED_NAMES = frozenset({"transform", "manifest.json", "schema.pbtxt", "statistics.npz", "statistics.pb"})

Fractions = Annotated[dict[str, Number], AfterValidator(_fractions)]


def _nothing_said(value: object) -> object:
    """What YAML gives for a key with nothing after it."""
    return {} if value is None else value


class DatasetConfig(_Model):
    """What a user may say about a data set; everything is optional."""

    features: Annotated[
        dict[str, Annotated[FeatureConfig, BeforeValidator(_nothing_said)]], BeforeValidator(_nothing_said)
    ] = Field(default_factory=dict)
    splits: Literal["directory"] | Fractions | None = None
    row_axes: Annotated[int, Field(ge=1, strict=True)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**64, strict=True)] = 0
    shard_bytes: Annotated[ByteSize, Field(ge=1)] = ByteSize(DEFAULT_SHARD_BYTES)
    rows_per_record: Annotated[int, Field(ge=1, strict=True)] | None = None

    def row_axes_of(self, feature: str) -> int:
        """How many leading axes of this feature's arrays count rows."""
        own = self.features[feature].row_axes if feature in self.features else None
        return own or self.row_axes


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResolvedFeature:
    """One feature with every choice made.

    Attributes:
        source_dtype: The dtype in the sources, in this machine's byte order.
        spec: The feature as the shards hold it.
        impute: `none`, `mean`, or a `Constant`.
        normalize: `none`, `zscore`, `minmax`, or a `Scale`.
        over: What shares one statistic: each `element` alone, the elements of one index of the last axis (`channel`),
            or `all` elements of the feature.
        row_axes: How many leading axes of the arrays count rows.
        files: The patterns of its files, or None where they are found by name.
    """

    source_dtype: str
    spec: FeatureSpec
    impute: str | Constant
    normalize: str | Scale
    over: Over
    row_axes: int
    files: tuple[str, ...] | None

    @property
    def name(self) -> str:
        """The feature's name."""
        return self.spec.name

    @property
    def transformed(self) -> bool:
        """Whether the transform changes the values (a change of dtype alone is not one)."""
        return self.impute != "none" or self.normalize != "none"

    @property
    def statistics_shape(self) -> tuple[int, ...]:
        """The shape of each statistic."""
        return {"element": self.spec.shape, "channel": self.spec.shape[-1:], "all": ()}[self.over]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResolvedConfig:
    """A configuration with every choice made.

    Attributes:
        features: The features, sorted by name.
        splits: `directory`, or the fraction of rows of each split.
        seed: The seed of the splits and of the order of rows.
        shard_bytes: About how many bytes the largest split's shards hold.
        rows_per_record: How many rows a record holds.
    """

    features: tuple[ResolvedFeature, ...]
    splits: str | Mapping[str, float]
    seed: int
    shard_bytes: int
    rows_per_record: int

    @property
    def transformed(self) -> tuple[ResolvedFeature, ...]:
        """The features that go through the transform."""
        return tuple(feature for feature in self.features if feature.transformed)

    def dump(self) -> dict[str, Any]:
        """This configuration as a user would write it; `parse_config` reads it and it resolves to itself."""
        return {
            "features": {feature.name: _dump_feature(feature) for feature in self.features},
            "splits": self.splits if isinstance(self.splits, str) else dict(self.splits),
            "seed": self.seed,
            "shard_bytes": self.shard_bytes,
            "rows_per_record": self.rows_per_record,
        }


def _dump_feature(feature: ResolvedFeature) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        return value.model_dump() if isinstance(value, pydantic.BaseModel) else value

    value: dict[str, Any] = {
        "role": feature.spec.role,
        "row_axes": feature.row_axes,
        "impute": plain(feature.impute),
        "normalize": plain(feature.normalize),
        "over": feature.over,
        "dtype": feature.spec.dtype,
    }
    if feature.files is not None:
        value["files"] = list(feature.files)
    if feature.spec.class_names:
        value["class_names"] = list(feature.spec.class_names)
    return value


def parse_config(value: Mapping[str, Any]) -> DatasetConfig:
    """Checks a configuration.

    Raises:
        ConfigError: Naming each unknown key and each bad value, and what is allowed.
    """
    try:
        return DatasetConfig.model_validate(value)
    except pydantic.ValidationError as error:
        raise ConfigError(_explain(error)) from error


def load_config(text: str, overrides: Sequence[str] = (), *, path: str = "the configuration") -> DatasetConfig:
    """Reads a YAML configuration and changes single keys of it.

    Args:
        text: YAML; may be empty.
        overrides: Settings such as `features.images.normalize=none` or `splits.train=0.9`; the value is YAML.
        path: Where the text was found, for messages.

    Raises:
        ConfigError: If the text is not a YAML mapping, or a key or value is not allowed.
    """
    try:
        value = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: expected YAML; found {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a mapping of keys to values; found {type(value).__name__}")
    for override in overrides:
        _override(value, override)
    return parse_config(value)


def _override(value: dict[str, Any], setting: str) -> None:
    key, separator, text = setting.partition("=")
    if not separator or not key:
        raise ConfigError(f"a setting is KEY=VALUE, such as features.images.normalize=none; found {setting!r}")
    *parents, last = key.split(".")
    for parent in parents:
        value = value.setdefault(parent, {})
        if not isinstance(value, dict):
            raise ConfigError(f"{setting!r}: {parent} has a value already, so it can have no keys")
    try:
        value[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{setting!r}: expected YAML after =; found {error}") from error


def _explain(error: pydantic.ValidationError) -> str:
    """One line for each problem: the key, what is allowed, what was found."""
    lines: dict[str, list[str]] = {}
    for problem in error.errors():
        keys = [str(part) for part in problem["loc"]]
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            # The key's parents end with the name of the model where it is one branch of a union.
            branches: dict[str, type[_Model]] = {"Constant": Constant, "Scale": Scale}
            branch = branches.get(keys[-2] if len(keys) > 1 else "")
            allowed = branch or (FeatureConfig if keys[0] == "features" and len(keys) == 3 else DatasetConfig)
            message = f"unknown key{f' {keys[-1]}' if branch else ''}; the keys are {', '.join(allowed.model_fields)}"
        elif problem["type"] != "value_error":
            message += f"; found {problem['input']!r}"
        # A union reports each of its branches, with the branch's name last in the key.
        depth = 3 if keys[0] == "features" else 1
        lines.setdefault(".".join(keys[:depth]), []).append(message)
    return "the configuration is not valid\n" + "\n".join(
        f"  {key}: {' | '.join(dict.fromkeys(messages))}" for key, messages in lines.items()
    )


def resolve_feature(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], config: DatasetConfig) -> ResolvedFeature:
    """Makes every choice that the user left open for one feature.

    Args:
        name: The feature.
        dtype: Its dtype in the sources.
        shape: The shape of one row.
        config: What the user said.

    Raises:
        ConfigError: If what the user said does not fit the dtype or the shape.
    """
    said = config.features.get(name, FeatureConfig())
    _check_name(name, said, dtype)
    role = said.role or _default_role(name)
    default_impute, default_normalize, default_over = _default_transform(role, dtype, shape)
    impute = said.impute if said.impute is not None else default_impute
    normalize = said.normalize if said.normalize is not None else default_normalize
    over = said.over or default_over
    _check_transform(name, dtype, shape, impute, normalize, over)
    return ResolvedFeature(
        source_dtype=dtype.name,
        spec=FeatureSpec(
            name=name,
            dtype=_output_dtype(name, dtype, said.dtype, impute, normalize),
            shape=shape,
            role=role,
            class_names=said.class_names,
        ),
        impute=impute,
        normalize=normalize,
        over=over,
        row_axes=config.row_axes_of(name),
        files=said.files,
    )


def _default_role(name: str) -> Role:
    """A feature whose name ends in a word such as `label` or `gt` is a label, whatever its dtype and shape."""
    words = name.lower().replace("-", "_").replace("/", "_").split("_")
    return "label" if words[-1] in LABEL_NAMES else "input"


def _default_transform(role: Role, dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[str, str, Over]:
    """The imputation, normalisation and grouping of a feature of which nothing is said.

    Floats are measurements. Integers of at most 16 bits with an axis are too (pixels, bands). Other integers are as
    likely to be classes, counts or identifiers, for which a z-score would be wrong, and are left alone.
    """
    if role == "input" and dtype.kind == "f":
        return "mean", "zscore", "element"
    if role == "input" and dtype.kind in "iu" and dtype.itemsize <= 2 and shape:
        if dtype == np.uint8 and len(shape) == 3 and shape[-1] in IMAGE_CHANNELS:
            return "none", "zscore", "channel"
        return "none", "zscore", "all" if dtype == np.uint8 and len(shape) >= 2 else "element"
    return "none", "none", "element"


def _check_name(name: str, said: FeatureConfig, dtype: np.dtype[Any]) -> None:
    if not name or name.endswith(RESERVED_SUFFIX) or not name.isprintable():
        raise ConfigError(f"features: a name is printable text that does not end in {RESERVED_SUFFIX}; found {name!r}")
    if said.class_names and dtype.kind not in "biu":
        raise ConfigError(f"features.{name}.class_names: classes are integers; found {dtype}")


def _check_transform(
    name: str, dtype: np.dtype[Any], shape: tuple[int, ...], impute: object, normalize: object, over: Over
) -> None:
    key = f"features.{name}"
    if impute != "none" and dtype.kind != "f":
        raise ConfigError(f"{key}.impute: {dtype} has no missing value, so only none is allowed; found {impute!r}")
    if normalize != "none" and dtype.kind == "b":
        raise ConfigError(f"{key}.normalize: bool allows none only; found {normalize!r}")
    if over == "channel" and not shape:
        raise ConfigError(f"{key}.over: channel needs an axis, and a row is one value; element and all are allowed")


def _output_dtype(name: str, dtype: np.dtype[Any], said: str | None, impute: object, normalize: object) -> str:
    default = dtype.name if normalize == "none" else "float32"
    if said is None or said == default:
        return default
    key = f"features.{name}.dtype"
    if impute != "none" or normalize != "none":
        if np.dtype(said).kind != "f":
            raise ConfigError(f"{key}: a transformed feature is float16, float32 or float64; found {said}")
    elif not (np.can_cast(dtype, said) or (dtype.kind == "f" and np.dtype(said).kind == "f")):
        raise ConfigError(f"{key}: {said} does not hold every value of {dtype}")
    return said
