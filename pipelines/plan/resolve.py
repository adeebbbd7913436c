"""The configuration with every choice made that the user left open, for sources that are known."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

from loaders.format.manifest import Manifest
from pipelines.config.defaults import resolve_feature, without_defaults
from pipelines.config.resolved import ResolvedConfig, ResolvedFeature, UserFunction, declared
from pipelines.config.schema import DEFAULT_SPLITS, SPLIT_DIRECTORIES, DatasetConfig
from pipelines.config.split_rules import BlockSplits, SplitRule, check_filter, check_rule
from pipelines.errors import ConfigError
from pipelines.sources.provenance import raw_specs
from pipelines.sources.table import SourceTable

TRAINING_NAMES = ("train", "training")

RECORD_BYTES = 128 * 2**10
MAX_RECORD_BYTES = 2**30  # protobuf messages end at 2 GiB


def is_training(split: str) -> bool:
    """Whether a split's name is one of those that training rows usually have."""
    return split.lower() in TRAINING_NAMES


def training_of(splits: Iterable[str]) -> str:
    """The split whose name is one that training rows usually have, or else the first."""
    first, *others = splits
    return next(filter(is_training, (first, *others)), first)


def training_split_of(manifest: Manifest) -> str:
    """The split that a data set has learned from: that which its configuration names, or else as `training_of` says."""
    named: str | None = manifest.config.get("training")
    return named or training_of(manifest.splits)


def resolve_config(
    config: DatasetConfig, table: SourceTable, *, learns: bool = True, custom: UserFunction | None = None
) -> ResolvedConfig:
    """Makes every choice that the user left open, for sources; `custom` is what a function of the user's own gives.

    There have to be training rows if it `learns`, and does not use another data set's transform.

    Raises:
        ConfigError: If what the user said does not fit the sources.
    """
    if config.preprocessing_fn is not None and custom is None:
        raise ValueError(f"expected what {config.preprocessing_fn} gives, which tracing it tells; found None")
    features = resolve_features(config, table)
    splits = "directory" if table.by_directory else config.splits or DEFAULT_SPLITS
    sources = {spec.name: spec for spec in raw_specs(table)}
    if isinstance(splits, SplitRule):
        steps = {f.name: f.shape[len(f.window.shape) :] for f in table.features if f.window is not None}
        of_steps = {name: dataclasses.replace(sources[name], shape=shape) for name, shape in steps.items()}
        check_rule(splits, sources | of_steps)
        _check_windows(splits, table)
    if isinstance(splits, BlockSplits):
        _check_blocks(splits, table)
    check_training(config.training, splits, table, learns=learns)
    if config.filter is not None:
        check_filter(config.filter, sources)
    if not any(feature.stored for feature in features):
        raise ConfigError("features: at least one feature is stored; found store: none for each")
    stored = stored_row_bytes(features, table, custom)
    if config.layout is not None and config.rows_per_record not in (None, 1):
        raise ConfigError(f"layout: interchange has one row a record; found rows_per_record {config.rows_per_record}")
    said = config.rows_per_record if config.layout is None else 1
    rows_per_record = said or choose_rows_per_record(stored)
    if rows_per_record * stored > MAX_RECORD_BYTES:
        raise ConfigError(
            f"rows_per_record: a record holds at most {MAX_RECORD_BYTES} bytes, and a row has {stored}; "
            f"found {rows_per_record}"
        )
    why = "the directories name the splits" if table.by_directory else "the splits are as said"
    if not table.by_directory and config.splits is None:
        shares = ", ".join(f"{name} {share:g}" for name, share in DEFAULT_SPLITS.items())
        why = f"nothing is said of splits, so they are {shares}, by a hash of each row's place"
    return ResolvedConfig(
        features=features,
        splits=splits,
        training=config.training,
        filter=config.filter,
        seed=config.seed,
        shard_bytes=int(config.shard_bytes),
        rows_per_record=rows_per_record,
        custom=custom,
        on_error=config.on_error,
        max_bad_files=config.max_bad_files,
        why=why + (f"; {_why_training(config.training, splits, table)}" if learns else ""),
    )


def _check_blocks(rule: BlockSplits, table: SourceTable) -> None:
    """Checks that blocks can be cut, and that a patch reaches into its neighbours' at most."""
    feature = next(feature for feature in table.features if feature.name == rule.blocks)
    if feature.origin != "files" or feature.row_axes != len(rule.size):
        axes = f"{feature.row_axes} such axes" if feature.origin == "files" else "no array"
        raise ConfigError(
            f"splits.size: expected a number for each axis that counts rows of {rule.blocks}; found "
            f"{len(rule.size)}, and {axes}"
        )
    if feature.window is not None and any(b < size for b, size in zip(rule.size, feature.window.sizes, strict=True)):
        expected = f"blocks as large as a {feature.window.KEY}, {feature.window.sizes}, or larger"
        raise ConfigError(f"splits.size: expected {expected}; found {rule.size}")


def _check_windows(rule: SplitRule, table: SourceTable) -> None:
    """Checks that no feature's windows reach further than those by which rows are split."""
    own = next(feature.window for feature in table.features if feature.name == rule.feature)
    if own is None and not isinstance(rule, BlockSplits):
        return
    for feature in table.features:
        if feature.window is None:
            continue
        sizes = (1,) * len(feature.window.sizes) if own is None else own.sizes
        if any(wide > size for wide, size in zip(feature.window.sizes, sizes, strict=False)):
            expected = f"a feature whose rows are as wide as those of {feature.name}, {feature.window.sizes}"
            raise ConfigError(f"splits.{rule.KEY}: expected {expected}; found {rule.feature}, of {sizes}")


def _why_training(training: str | None, splits: str | Mapping[str, float] | SplitRule, table: SourceTable) -> str:
    names = _split_names(splits, table)
    if training is not None:
        return f"statistics are learned from {training}, as said"
    known = training_of(names)
    if not is_training(known):
        return f"statistics are learned from {known}, the only split" if len(names) == 1 else ""
    return f"statistics are learned from {known}, which is called so"


def _split_names(splits: str | Mapping[str, float] | SplitRule, table: SourceTable) -> list[str]:
    if isinstance(splits, str):
        return sorted({str(part.split) for part in table.parts})
    return list(splits.shares if isinstance(splits, SplitRule) else splits)


def check_training(
    training: str | None, splits: str | Mapping[str, float] | SplitRule, table: SourceTable, *, learns: bool
) -> None:
    """Checks that it is said, or known by a name, from which split's rows the statistics come, if they are learned."""
    names = _split_names(splits, table)
    if training is not None and training not in names:
        raise ConfigError(f"training: expected a split, one of {', '.join(names)}; found {training}")
    known = training is not None or any(map(is_training, names)) or (len(names) == 1 and not table.by_directory)
    if learns and not known:
        likely = next((name for name in names if name.lower() not in SPLIT_DIRECTORIES), names[0])
        raise ConfigError(
            f"splits: statistics are learned from the split called {' or '.join(TRAINING_NAMES)}; found "
            f"{', '.join(names)}. Rename one, or say which it is: training: {likely}"
        )


def resolve_features(config: DatasetConfig, table: SourceTable) -> tuple[ResolvedFeature, ...]:
    """Makes every choice about features; where the user has a function, none has a step that is not said."""
    if config.preprocessing_fn is not None:
        config = without_defaults(config, [feature.name for feature in table.features])
    features = tuple(
        resolve_feature(f, config, class_names=table.directories if f.origin == "directory" else ())
        for f in table.features
    )
    for feature in features if config.preprocessing_fn is not None else ():
        if not feature.takes_part and (feature.has_steps or feature.declares_missing):
            raise ConfigError(
                f"features.{feature.name}: expected no steps and no missing values of rows of varying length, which "
                "are stored as they are beside a preprocessing_fn; found some"
            )
    return features


def stored_row_bytes(
    features: Iterable[ResolvedFeature], table: SourceTable, custom: UserFunction | None = None
) -> int:
    """The bytes of one row as the shards hold it, at least 1; the average over the sources where rows vary.

    Strings that a function of the user's own gives are taken to be as long as a row of the sources.
    """
    features, total = tuple(features), 0.0
    if custom is not None:
        features = declared(features, custom)
        others = {spec.name for feature in features for spec in feature.stored}
        given = [spec for spec in custom.specs if spec.name not in others]
        total += sum(table.row_bytes if spec.variable else spec.row_bytes for spec in given)
    sources = {feature.name: feature for feature in table.features}
    for feature in features:
        source = sources[feature.name]
        # Of text, NumPy's `U` has four bytes a character, and UTF-8 mostly one.
        values = source.row_bytes / (4 if source.dtype.kind == "U" else source.dtype.itemsize)
        for spec in feature.stored:
            if spec.dtype == "string":
                total += values if source.dtype.kind == "U" else source.row_bytes
            else:
                total += values * spec.numpy_dtype.itemsize if spec.variable else spec.row_bytes
    return max(round(total), 1)


def choose_rows_per_record(row_bytes: int) -> int:
    """The power of two that makes a record nearest to 128 KiB, and at least 1."""
    return int(2 ** max(round(math.log2(RECORD_BYTES / row_bytes)), 0))
