"""The configuration: what a user may write, checked."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from pydantic import AfterValidator, BeforeValidator, ByteSize, ConfigDict, Field

from loaders.format.spec import DTYPES, Role
from pipelines.config.explain import explain
from pipelines.config.split_rules import Filter, SplitName, Splits
from pipelines.config.window import Cut, Patch, Window
from pipelines.config.yaml_text import read_yaml
from pipelines.errors import ConfigError
from pipelines.statistics.summary import Over
from pipelines.steps.methods import parse_impute, parse_normalize
from pipelines.steps.options import read_number

LABEL_NAMES = frozenset({"label", "labels", "target", "targets", "class", "classes", "y", "gt"})
SPLIT_DIRECTORIES = frozenset({"train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval"})
DEFAULT_SPLITS = {"train": 0.8, "validation": 0.1, "test": 0.1}
DEFAULT_SHARD_BYTES = 128 * 2**20
IMAGE_CHANNELS = (1, 3, 4)


RESERVED_SUFFIX = "/float64_bits"
"""The end of the names under which float64 leaves the transform's graph."""


_KEYS = re.compile(r"['\"]([^'\"]+)['\"]|([^.'\"]+)")
_KEY = re.compile(rf"(?:{_KEYS.pattern})(?:\.(?:{_KEYS.pattern}))*")
"""The key of a setting: names with dots between them, in quotes those that hold dots themselves."""


class _Model(pydantic.BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


SpecialNumber = Annotated[float, Field(allow_inf_nan=True), BeforeValidator(read_number)]
"""A number that may be infinite."""


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str | int | float) else value


def _storable(value: float) -> float:
    fits = abs(value) <= float(np.finfo(np.float32).max) if isinstance(value, float) else -(2**63) <= value < 2**63
    if not fits:
        raise ValueError(f"true, false, an integer of 64 bits or a float of 32 bits; found {value!r}")
    return value


class ConstantSource(_Model):
    """A feature that is the same in every row."""

    constant: Annotated[pydantic.StrictBool | pydantic.StrictInt | pydantic.StrictFloat, AfterValidator(_storable)]


class FeatureConfig(_Model):
    """What a user may say about one feature; None is "choose for me". docs/options.md describes each key."""

    files: Annotated[tuple[str, ...], BeforeValidator(_as_list), Field(min_length=1)] | None = None
    role: Role | None = None
    source: Literal["index", "directory"] | ConstantSource | None = None
    row_axes: Annotated[int, Field(ge=0, strict=True)] | None = None
    patch: Patch | None = None
    window: Window | None = None
    ragged: bool = False
    missing: Annotated[tuple[SpecialNumber, ...], BeforeValidator(_as_list)] = ()
    mask: str | None = None
    impute: Annotated[Any, BeforeValidator(parse_impute)] = None
    indicator: bool = False
    normalize: Annotated[Any, BeforeValidator(parse_normalize)] = None
    over: Over | None = None
    by: str | None = None
    dtype: Literal[DTYPES] | None = None  # type: ignore[valid-type]  # a tuple of literals, known at run time only
    class_names: tuple[str, ...] = ()
    store: Literal["transformed", "raw", "none"] = "transformed"

    @pydantic.model_validator(mode="after")
    def _check_source(self) -> FeatureConfig:
        if self.files is not None and self.source is not None:
            raise ValueError(
                f"files and source exclude each other; found files {self.files} and source {self.source!r}"
            )
        if self.ragged and (self.row_axes or self.source is not None):
            raise ValueError(
                "ragged means that each file is one row, so row_axes is 0 and there is no source; "
                f"found row_axes {self.row_axes} and source {self.source!r}"
            )
        if self.cut is not None and (self.ragged or self.source is not None):
            found = f"ragged {self.ragged} and source {self.source!r}"
            raise ValueError(f"patches and windows are cut from arrays; found {found}")
        if self.window is not None and self.row_axes not in (None, self.window.axis + 1):
            raise ValueError(
                f"row_axes: expected {self.window.axis + 1}, the axes up to that of the window; found {self.row_axes}"
            )
        if self.window is not None and self.patch is not None:
            raise ValueError("patch and window exclude each other; found both")
        return self

    @property
    def cut(self) -> Cut | None:
        """What of an array each row holds, where rows are cut from it."""
        return self.patch or self.window


def _nothing_said(value: object) -> object:
    """What YAML gives for a key with nothing after it."""
    return {} if value is None else value


def _storage_options(value: object) -> object:
    """Lets mappings of mappings pass; what is wrong is not shown, as it may be a secret."""
    if value is None:
        return {}
    if not (isinstance(value, dict) and all(isinstance(options, dict) for options in value.values())):
        raise ValueError("expected for each scheme, such as s3, a mapping of options to values; found something else")
    return value


class DatasetConfig(_Model):
    """What a user may say about a data set; everything is optional. docs/options.md describes each key.

    `layout: interchange` makes each row a record, so that other tools read the shards by `schema.pbtxt`.

    `storage_options` says for each scheme how fsspec reaches its file system. It is no part of what is built: it is
    written nowhere.
    """

    features: Annotated[
        dict[str, Annotated[FeatureConfig, BeforeValidator(_nothing_said)]], BeforeValidator(_nothing_said)
    ] = Field(default_factory=dict)
    splits: Splits | None = None
    training: SplitName | None = None
    filter: Filter | None = None
    row_axes: Annotated[int, Field(ge=0, strict=True)] = 1
    on_error: Literal["fail", "skip"] = "fail"
    max_bad_files: Annotated[int, Field(ge=0, strict=True)] = 100
    preprocessing_fn: str | None = None
    seed: Annotated[int, Field(ge=0, lt=2**64, strict=True)] = 0
    shard_bytes: Annotated[ByteSize, Field(ge=1)] = ByteSize(DEFAULT_SHARD_BYTES)
    rows_per_record: Annotated[int, Field(ge=1, strict=True)] | None = None
    layout: Literal["interchange"] | None = None
    storage_options: Annotated[dict[str, dict[str, Any]], BeforeValidator(_storage_options)] = Field(
        default_factory=dict, exclude=True, repr=False
    )

    def row_axes_of(self, feature: str) -> int:
        """How many leading axes of this feature's arrays count rows."""
        said = self.features.get(feature)
        if said is not None and said.window is not None:
            return said.window.axis + 1
        if said is None or (said.row_axes is None and not said.ragged):
            return self.row_axes
        return said.row_axes or 0


def parse_config(value: Mapping[str, Any]) -> DatasetConfig:
    """Checks a configuration.

    Raises:
        ConfigError: Naming each unknown key and each bad value, and what is allowed.
    """
    try:
        return DatasetConfig.model_validate(value)
    except pydantic.ValidationError as error:
        keys_of: dict[str, type[pydantic.BaseModel]] = {
            "": DatasetConfig,
            "features": FeatureConfig,
            "patch": Patch,
            "window": Window,
            "ConstantSource": ConstantSource,
        }
        raise ConfigError(explain(error, keys_of)) from error


def load_config(text: str, overrides: Sequence[str] = (), *, path: str = "the configuration") -> DatasetConfig:
    """Reads a YAML configuration and changes single keys of it.

    Args:
        text: YAML; may be empty.
        overrides: Settings such as `features.images.normalize=none` or `splits.train=0.9`; the value is YAML.
        path: Where the text was found, for messages.

    Raises:
        ConfigError: If the text is not a YAML mapping, or a key or value is not allowed.
    """
    value = read_yaml(text, path) or {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a mapping of keys to values; found {type(value).__name__}")
    for override in overrides:
        _override(value, override)
    return parse_config(value)


def setting_of(feature: str, said: str) -> str:
    """What a command is given to say something of a feature, `.source=directory` or `={row_axes: 0}`, for messages."""
    name = f'"{feature}"' if "." in feature else feature
    return f"--set {shlex.quote(f'features.{name}{said}')}"


def _override(value: dict[str, Any], setting: str) -> None:
    key, separator, text = setting.partition("=")
    keys = [quoted or plain for quoted, plain in _KEYS.findall(key)] if _KEY.fullmatch(key) else []
    secret = setting.startswith("storage_options")
    shown = key if secret and separator else setting
    if not separator or not keys:
        raise ConfigError(
            "a setting is KEY=VALUE, such as features.images.normalize=none, or features.'a.b'.normalize=none for a "
            f"feature with a dot in its name; found {'a storage option of another form' if secret else repr(setting)}"
        )
    *parents, last = keys
    for parent in parents:
        value = value.setdefault(parent, {})
        if not isinstance(value, dict):
            raise ConfigError(f"{shown!r}: {parent} has a value already, so it can have no keys")
    try:
        value[last] = read_yaml(text, repr(shown))
    except ConfigError:
        if secret:
            raise ConfigError(f"{shown!r}: expected a value in YAML; found something else") from None
        raise
