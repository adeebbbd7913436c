"""The resolved configuration, in which nothing is left open."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from loaders.format.names import INDICATOR_SUFFIX, OF_FUNCTION
from loaders.format.spec import FeatureSpec
from pipelines.config.split_rules import SplitRule
from pipelines.config.window import Cut
from pipelines.errors import ConfigError
from pipelines.statistics.passes import Subject
from pipelines.statistics.summary import Over
from pipelines.steps.methods import dump_impute, dump_normalize
from pipelines.steps.step import Step, ValueSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResolvedFeature:
    """One feature with every choice made; what is not described here is what a user says, as docs/options.md has it.

    Attributes:
        source_dtype: The dtype in which the sources' values are read, one of `loaders.format.spec.DTYPES`.
        source_shape: The shape of a row in the sources; the first axis is None where each row has its own length.
        spec: The feature as a batch holds it, after the transform.
        files: The patterns of its files, or None where they are found by name.
        source: What gives its values where no file does, as the user said it, or None.
        why: Why it has its role and its steps, in words.
    """

    source_dtype: str
    source_shape: tuple[int | None, ...]
    spec: FeatureSpec
    store: Literal["transformed", "raw", "none"]
    missing: tuple[float, ...]
    mask: str | None
    impute: Step | None
    forbids_missing: bool
    indicator: bool
    normalize: tuple[Step, ...]
    over: Over
    by: str | None
    row_axes: int
    files: tuple[str, ...] | None
    window: Cut | None = None
    source: Any = None
    why: str = dataclasses.field(default="", compare=False)

    @property
    def name(self) -> str:
        """The feature's name."""
        return self.spec.name

    @property
    def ragged(self) -> bool:
        """Whether each row has its own length."""
        return self.source_shape[:1] == (None,)

    @property
    def value_shape(self) -> tuple[int, ...]:
        """The shape of a row; of one step along it, where each row has its own length."""
        return tuple(size for size in self.source_shape if size is not None)

    @property
    def steps(self) -> tuple[Step, ...]:
        """All that is done to the values."""
        return (*((self.impute,) if self.impute else ()), *self.normalize)

    @property
    def declares_missing(self) -> bool:
        """Whether other values than NaN are missing."""
        return bool(self.missing) or self.mask is not None

    @property
    def fills_integers(self) -> bool:
        """Whether missing integers become integers of the same dtype, so that none passes through float64."""
        return self.impute is not None and self.impute.keeps_integers(self.source_dtype)

    @property
    def values(self) -> tuple[ValueSpec, ...]:
        """What each of the steps takes, and last what the last one gives."""
        found = [ValueSpec(dtype=self.source_dtype, shape=self.value_shape, over=self.over)]
        for step in self.steps:
            found.append(step.output(found[-1]))
        return tuple(found)

    @property
    def graph_dtype(self) -> np.dtype[Any]:
        """The dtype in which the transform takes it; Arrow and tf.transform have neither float16 nor bool."""
        other = {"float16": "float32", "bool": "uint8", "string": "object"}
        return np.dtype(other.get(self.source_dtype, self.source_dtype))

    @property
    def graph_kind(self) -> str:
        """The name of the dtype that TensorFlow has it in."""
        return "string" if self.source_dtype == "string" else self.graph_dtype.name

    @property
    def takes_part(self) -> bool:
        """Whether a user's own function can take it: dense numbers and strings."""
        return not self.ragged and not self.source_dtype.startswith("complex")

    @property
    def has_steps(self) -> bool:
        """Whether the configuration says what becomes of its values, and not only which are missing."""
        return bool(self.steps) or self.indicator

    @property
    def taken_kind(self) -> str:
        """The dtype in which a user's own function takes it, by TensorFlow's name: NaN needs floats."""
        dtype = self.source_dtype if self.has_steps else self.spec.dtype
        if self.declares_missing and not dtype.startswith("float"):
            return "float64"
        return {"float16": "float32", "bool": "uint8"}.get(dtype, dtype)

    @property
    def stored(self) -> tuple[FeatureSpec, ...]:
        """What the shards hold of this feature."""
        if self.store == "none":
            return ()
        return (self.raw,) if self.store == "raw" else self.outputs

    @property
    def raw(self) -> FeatureSpec:
        """The feature as the sources have it."""
        return dataclasses.replace(self.spec, dtype=self.source_dtype, shape=self.source_shape)

    @property
    def outputs(self) -> tuple[FeatureSpec, ...]:
        """What the transform makes of it: the feature, and which of its values were missing where that is wanted."""
        name = f"{self.name}{INDICATOR_SUFFIX}"
        indicator = FeatureSpec(name=name, dtype="bool", shape=self.source_shape)
        return (self.spec, indicator) if self.indicator else (self.spec,)

    @property
    def transformed(self) -> bool:
        """Whether the transform changes the values (a change of dtype alone is not one)."""
        marked = self.declares_missing and self.source_dtype.startswith("float")
        return self.store != "none" and (self.has_steps or marked)

    @property
    def described(self) -> bool:
        """Whether it has statistics: numbers that are stored, other than ids."""
        numbers = self.source_dtype not in ("string", "complex64", "complex128")
        return numbers and self.store != "none" and self.spec.role != "id"

    @property
    def has_classes(self) -> bool:
        """Whether its values are classes: labels of integers, bools or text."""
        return self.spec.role == "label" and self.source_dtype.startswith(("bool", "int", "uint", "string"))

    @property
    def counts_classes(self) -> bool:
        """Whether it is counted how often each class occurs: of a label of one class a row."""
        return self.has_classes and self.store != "none" and self.source_shape == ()

    @property
    def sampled(self) -> bool:
        """Whether some of its values are looked at for histograms: numbers and text that are stored, other than ids."""
        return self.described or (self.source_dtype == "string" and self.store != "none" and self.spec.role != "id")

    @property
    def analyzed(self) -> bool:
        """Whether something is learned of it from the training rows."""
        return self.described or self.transformed or self.counts_classes or self.sampled


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TracedFunction:
    """A user's function as it travels to workers.

    Attributes:
        place: Where it is, for errors.
    """

    place: str
    function: bytes
    features: tuple[ResolvedFeature, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class AnalyzerCall:
    """One of `pipelines.analyzers` that a user's function calls, and when it reads which rows.

    Attributes:
        first: The round of its first pass; each later pass is a round later.
        reads: For each pass, the features that its values are computed of.
        after: For each pass, the numbers of the analyzers that its values are computed of.
        direct: For each pass the features that are its values as the sources have them; None where a graph makes them.
    """

    number: int
    subjects: tuple[Subject, ...]
    first: int
    reads: tuple[tuple[str, ...], ...]
    after: tuple[tuple[int, ...], ...]
    direct: tuple[tuple[str, ...] | None, ...]
    traced: TracedFunction = dataclasses.field(repr=False)

    @property
    def name(self) -> str:
        """What it is called beside features, whose names have no slash."""
        return f"{OF_FUNCTION}/{self.number}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class UserFunction:
    """A user's function, and what it makes of a row.

    Attributes:
        digest: A BLAKE2b digest of the file.
        specs: The features that it gives, sorted by name.
        phases: The features that each phase of its analysis reads of the training rows.
        learned: What it does by `pipelines.analyzers`, as JSON has it; empty of a finished data set.
        traced: The function as it travels, where all that it asks of the rows are `pipelines.analyzers`: these learn in
            the rounds of the build. None where tf.transform's own analysis is needed, and of a finished data set.
    """

    place: str
    digest: str
    specs: tuple[FeatureSpec, ...]
    phases: tuple[tuple[str, ...], ...] = ()
    learned: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    traced: TracedFunction | None = dataclasses.field(default=None, compare=False)
    asked: tuple[AnalyzerCall, ...] = dataclasses.field(default=(), compare=False)


def declared(features: Iterable[ResolvedFeature], custom: UserFunction | None) -> tuple[ResolvedFeature, ...]:
    """The features that the configuration makes: all; beside a function those with steps, and those it cannot take."""
    return tuple(feature for feature in features if custom is None or feature.has_steps or not feature.takes_part)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResolvedConfig:
    """A configuration with every choice made.

    Attributes:
        splits: `directory`, the fraction of rows of each split, or a rule that reads a feature.
        training: The split whose rows are analysed, where its name does not say so.
        filter: Which rows are kept, as `row_filter.parse_filter` reads it; or None for all.
        shard_bytes: About how many bytes the largest split's shards hold.
        custom: The user's own function, which makes all that is not declared, or None.
        why: Why the splits are what they are, and which is learned from, in words.
    """

    features: tuple[ResolvedFeature, ...]
    splits: str | Mapping[str, float] | SplitRule
    training: str | None = None
    filter: str | None = None
    seed: int
    shard_bytes: int
    rows_per_record: int
    custom: UserFunction | None = None
    on_error: Literal["fail", "skip"] = "fail"
    max_bad_files: int = 100
    why: str = dataclasses.field(default="", compare=False)

    def __post_init__(self) -> None:
        """A ConfigError if a mask or a group is no feature or does not fit, or two features have one name."""
        _check_references(self.features)

    @property
    def declared(self) -> tuple[ResolvedFeature, ...]:
        """The features that the configuration makes, not a user's own function."""
        return declared(self.features, self.custom)

    @property
    def transformed(self) -> tuple[ResolvedFeature, ...]:
        """The features whose steps are in the transform."""
        return tuple(feature for feature in self.declared if feature.transformed)

    @property
    def graph_features(self) -> tuple[ResolvedFeature, ...]:
        """The features that the transform takes: those that it changes, their masks and their groups.

        A user's own function takes all that are dense numbers or strings.
        """
        if self.custom is not None:
            return tuple(feature for feature in self.features if feature.takes_part)
        names = {name for f in self.transformed for name in (f.name, f.mask, f.by)}
        return tuple(feature for feature in self.features if feature.name in names)

    @property
    def given(self) -> tuple[FeatureSpec, ...]:
        """What a user's own function gives, sorted by name; of a finished data set, its manifest names both."""
        if self.custom is None:
            return ()
        others = {spec.name for feature in self.declared for spec in feature.stored}
        return tuple(spec for spec in self.custom.specs if spec.name not in others)

    @property
    def has_transform(self) -> bool:
        """Whether there is a transform."""
        return self.custom is not None or bool(self.transformed)

    @property
    def stored(self) -> tuple[FeatureSpec, ...]:
        """The features that the shards hold, sorted by name."""
        specs = (*self.given, *(spec for feature in self.declared for spec in feature.stored))
        return tuple(sorted(specs, key=lambda spec: spec.name))

    def dump(self) -> dict[str, Any]:
        """This configuration as a user would write it; `parse_config` reads it and it resolves to itself."""
        return {
            "features": {feature.name: _dump_feature(feature) for feature in self.features},
            "splits": self.splits.model_dump(mode="json") if isinstance(self.splits, SplitRule) else self.splits,
            **({} if self.training is None else {"training": self.training}),
            **({} if self.filter is None else {"filter": self.filter}),
            **({} if self.custom is None else {"preprocessing_fn": self.custom.place}),
            **({} if self.on_error == "fail" else {"on_error": self.on_error, "max_bad_files": self.max_bad_files}),
            "seed": self.seed,
            "shard_bytes": self.shard_bytes,
            "rows_per_record": self.rows_per_record,
        }


def _dump_feature(feature: ResolvedFeature) -> dict[str, Any]:
    value: dict[str, Any] = {
        "role": feature.spec.role,
        "row_axes": feature.row_axes,
        "impute": "forbid" if feature.forbids_missing else dump_impute(feature.impute),
        "normalize": dump_normalize(feature.normalize),
        "over": list(feature.over) if isinstance(feature.over, tuple) else feature.over,
        "dtype": feature.spec.dtype,
    }
    optional = {
        "files": list(feature.files) if feature.files is not None else None,
        "source": feature.source,
        **({} if (cut := feature.window) is None else {cut.KEY: cut.model_dump(mode="json", exclude_none=True)}),
        "ragged": feature.ragged or None,
        "missing": [value if math.isfinite(value) else str(value) for value in feature.missing] or None,
        "mask": feature.mask,
        "indicator": feature.indicator or None,
        "by": feature.by,
        "store": feature.store if feature.store != "transformed" else None,
        "class_names": list(feature.spec.class_names) or None,
    }
    return value | {key: said for key, said in optional.items() if said is not None}


def _check_references(features: tuple[ResolvedFeature, ...]) -> None:
    known = {feature.name: feature for feature in features}
    names = [spec.name for feature in features for spec in feature.outputs]
    for name in names:
        if names.count(name) > 1:
            feature = name.removesuffix(INDICATOR_SUFFIX)
            raise ConfigError(f"features.{feature}.indicator: there is a feature {name} already")
    for own in features:
        for key, other in (("mask", own.mask), ("by", own.by)):
            if other is None:
                continue
            where = f"features.{own.name}.{key}"
            if other not in known:
                raise ConfigError(f"{where}: expected one of the features {', '.join(known)}; found {other!r}")
            if other == own.name:
                raise ConfigError(f"{where}: expected another feature; found {other!r} itself")
            _check_reference(where, key, own, known[other])


def _check_reference(where: str, key: str, feature: ResolvedFeature, other: ResolvedFeature) -> None:
    found = f"{other.name}, {other.source_dtype} rows of shape {other.source_shape}"
    kind = "" if other.source_dtype == "string" else np.dtype(other.source_dtype).kind
    if key == "mask" and (kind not in ("b", "i", "u") or other.source_shape not in ((), feature.source_shape)):
        shape = feature.source_shape
        raise ConfigError(f"{where}: expected bool or integer rows of shape {shape} or one value a row; found {found}")
    if key == "by" and (kind not in ("", "b", "i", "u") or other.source_shape != ()):
        raise ConfigError(f"{where}: expected one integer, bool or string a row; found {found}")
    if feature.ragged and (key == "by" or not other.ragged):
        allowed = "rows of the same lengths" if key == "mask" else "a feature whose rows have one shape"
        raise ConfigError(f"{where}: expected {allowed}; found {found}")
    if feature.store == "raw" and (other.store == "none" or (other.store == "transformed" and other.transformed)):
        raise ConfigError(f"{where}: {feature.name} is stored raw, so expected {other.name} in the shards as it is")
