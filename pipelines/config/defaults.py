"""The choices that the user left open for a feature, and whether what the user said fits its dtype and shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from loaders.format.spec import FeatureSpec, Role
from pipelines.config.feature import Feature
from pipelines.config.resolved import ResolvedFeature
from pipelines.config.schema import (
    IMAGE_CHANNELS,
    LABEL_NAMES,
    RESERVED_SUFFIX,
    ConstantSource,
    DatasetConfig,
    FeatureConfig,
)
from pipelines.errors import ConfigError
from pipelines.statistics.summary import ColumnMoments, Over, statistics_axes
from pipelines.steps.imputation import Mean
from pipelines.steps.methods import dump_impute, dump_normalize
from pipelines.steps.scaling import ZScore
from pipelines.steps.step import Step, ValueSpec

SHOWN_CLASSES = 3


def resolve_feature(feature: Feature, config: DatasetConfig, *, class_names: tuple[str, ...] = ()) -> ResolvedFeature:
    """Makes every choice that the user left open for one feature, whose classes may have names.

    Raises:
        ConfigError: If what the user said does not fit the dtype or the shape.
    """
    name, dtype = feature.name, feature.kind_name
    said = config.features.get(name, FeatureConfig())
    if not name or name.endswith(RESERVED_SUFFIX) or not name.isprintable():
        raise ConfigError(f"features: a name is printable text that does not end in {RESERVED_SUFFIX}; found {name!r}")
    if said.class_names and not dtype.startswith(("bool", "int", "uint")):
        raise ConfigError(f"features.{name}.class_names: classes are integers; found {dtype}")
    chosen = _default_role(feature, said.class_names or class_names)
    role = said.role or chosen.role
    # A number that counts something, such as nanoseconds since 1970, is no measurement.
    default = _default_transform(role, "times" if feature.unit else dtype, feature.shape, said)
    impute, normalize, over = default.impute, default.normalize, default.over
    if feature.window is not None:  # each of whose steps is a value of the same thing
        over = "channel" if len(feature.shape) > len(feature.window.shape) else "all"
    # A loss of NaN ruins a training, so whoever wants NaN in labels has to say so.
    measured = dtype.startswith("float") and not said.missing and said.mask is None
    forbids_missing = said.impute == "forbid" or (said.impute is None and measured and role in ("label", "weight"))
    if said.impute is not None:
        impute = said.impute if isinstance(said.impute, Step) else None
    if forbids_missing and not measured:
        raise ConfigError(f"features.{name}.impute: forbid is for floats without `missing` or `mask`; found {dtype}")
    if said.normalize is not None:
        normalize = said.normalize
    resolved = ResolvedFeature(
        source_dtype=dtype,
        source_shape=feature.shape,
        spec=FeatureSpec(
            name=name,
            dtype=dtype,
            shape=feature.shape,
            role=role,
            class_names=said.class_names or class_names,
            unit=feature.unit,
        ),
        store=said.store,
        missing=said.missing,
        mask=said.mask,
        impute=impute,
        forbids_missing=forbids_missing,
        indicator=said.indicator,
        normalize=normalize,
        over=said.over if said.over is not None else over,
        by=said.by,
        row_axes=feature.row_axes,
        window=feature.window,
        files=feature.files,
        source=said.source.model_dump() if isinstance(said.source, ConstantSource) else said.source,
        why=f"{role}, as {'it is said' if said.role else chosen.why}; {_why_steps(default, said)}",
    )
    _check_transform(resolved, said)
    last = resolved.values[-1]
    shape = (None, *last.shape) if resolved.ragged else last.shape
    unit = "" if resolved.steps else feature.unit
    spec = dataclasses.replace(resolved.spec, dtype=_output_dtype(resolved, said.dtype), shape=shape, unit=unit)
    return dataclasses.replace(resolved, spec=spec)


def without_defaults(config: DatasetConfig, names: Sequence[str]) -> DatasetConfig:
    """A configuration in which a feature has steps only if the user has said some: the function makes the others.

    A feature that is to be stored raw is a ConfigError, as a loader would have to run the function.
    """
    features = {}
    for name in names:
        said = config.features.get(name, FeatureConfig())
        if said.store == "raw":
            raise ConfigError(
                f"features.{name}.store: expected transformed or none beside a preprocessing_fn; found raw"
            )
        if said.impute in (None, "none", "forbid") and not said.normalize and not said.indicator:
            impute = "forbid" if said.impute == "forbid" else "none"
            said = said.model_copy(update={"impute": impute, "normalize": ()})
        features[name] = said
    return config.model_copy(update={"features": config.features | features})


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Chosen:
    """What is chosen where nothing is said, and why."""

    why: str
    role: Role = "input"
    impute: Step | None = None
    normalize: tuple[Step, ...] = ()
    over: Over = "element"


def _default_role(feature: Feature, class_names: tuple[str, ...]) -> _Chosen:
    """A feature whose name ends in a word such as `label` or `gt` is a label, whatever its dtype and shape."""
    if feature.origin == "index":
        return _Chosen(role="id", why="it is the row's number")
    if feature.origin == "directory":
        # Directories are numbered in the order of their names, in which 10 comes before 2.
        shown = ", ".join(f"{number} is {name}" for number, name in enumerate(class_names[:SHOWN_CLASSES]))
        more = f" and {len(class_names) - SHOWN_CLASSES} more" if class_names[SHOWN_CLASSES:] else ""
        return _Chosen(role="label", why=f"it is the class that a directory names: {shown}{more}")
    word = feature.name.lower().replace("-", "_").replace("/", "_").split("_")[-1]
    if word in LABEL_NAMES:
        return _Chosen(role="label", why=f"its name ends in {word!r}")
    return _Chosen(role="input", why=f"its name ends in none of {', '.join(sorted(LABEL_NAMES))}")


def _default_transform(role: Role, dtype: str, shape: tuple[int | None, ...], said: FeatureConfig) -> _Chosen:
    """The imputation, normalisation and grouping of a feature of which nothing is said.

    Floats are measurements. Integers of at most 16 bits with an axis are too (pixels, bands). Other integers are as
    likely to be classes, counts or identifiers, for which a z-score would be wrong, and are left alone.
    """
    if role != "input":
        keeps = ", and NaN is an error" if role != "id" and dtype.startswith("float") else ""
        return _Chosen(why=f"{'an' if role == 'id' else 'a'} {role} is stored as it is{keeps}")
    if dtype in ("float16", "float32", "float64"):
        return _Chosen(impute=Mean(), normalize=(ZScore(),), why="floats are taken to be measurements")
    impute = Mean() if said.missing or said.mask else None
    if dtype in ("int8", "uint8", "int16", "uint16") and shape:
        if dtype == "uint8" and len(shape) == 3 and shape[-1] in IMAGE_CHANNELS:
            why = "uint8 with 1, 3 or 4 channels last is taken to be a picture"
            return _Chosen(impute=impute, normalize=(ZScore(),), over="channel", why=why)
        over: Over = "all" if dtype == "uint8" and len(shape) >= 2 else "element"
        why = f"{dtype} along an axis is taken to be a measurement, such as pixels or bands"
        return _Chosen(impute=impute, normalize=(ZScore(),), over=over, why=why)
    if dtype.startswith(("int", "uint")):
        number = "one a row" if not shape else "of more than 16 bits"
        return _Chosen(impute=impute, why=f"integers, {number}, may be classes or numbers and are stored as they are")
    return _Chosen(impute=impute, why=f"{dtype} is stored as it is")


def _why_steps(chosen: _Chosen, said: FeatureConfig) -> str:
    keys = [key for key in ("impute", "normalize") if getattr(said, key) is not None]
    rest = [chosen.why] if len(keys) < 2 else []
    return ", ".join([*(f"{key} as it is said" for key in keys), *rest])


def _check_transform(feature: ResolvedFeature, said: FeatureConfig) -> None:
    key, dtype = f"features.{feature.name}", feature.source_dtype
    number = dtype.startswith(("int", "uint", "float"))
    for name, value in (("missing", feature.missing), ("mask", feature.mask)):
        if value and not number:
            raise ConfigError(
                f"{key}.{name}: only numbers can be missing, and this feature is {dtype}; found {value!r}"
            )
    can_miss = (dtype.startswith("float") or feature.declares_missing) and not feature.forbids_missing
    for name, found in (("impute", feature.impute and feature.impute.dump()), ("indicator", feature.indicator)):
        if found and not can_miss:
            raise ConfigError(
                f"{key}.{name}: {dtype} has no missing value, unless `missing` or `mask` says which, so only none is "
                f"allowed; found {found!r}"
            )
    if said.over == "channel" and not feature.value_shape:
        raise ConfigError(f"{key}.over: channel needs an axis, and a row is one value; element and all are allowed")
    try:
        statistics_axes(feature.over, feature.value_shape)
    except ValueError as error:
        raise ConfigError(f"{key}.{error}") from error
    _check_steps(key, feature, can_miss=can_miss)
    if feature.by is not None:
        _check_by(key, feature)
    if feature.store == "raw" and not feature.steps:
        raise ConfigError(f"{key}.store: raw is for a feature that is transformed; found neither impute nor normalize")


def _check_steps(key: str, feature: ResolvedFeature, *, can_miss: bool) -> None:
    value = ValueSpec(dtype=feature.source_dtype, shape=feature.value_shape, over=feature.over)
    for step in feature.steps:
        where = f"{key}.{'impute' if step is feature.impute else 'normalize'}"
        if not step.takes(value.dtype):
            names = {"float64": "numbers", "int64": "integers", "string": "strings"}
            allowed = " or ".join(name for dtype, name in names.items() if dtype in step.inputs)
            raise ConfigError(f"{where}: {step.key} takes {allowed}; found {value.dtype}")
        if feature.ragged and not step.takes_ragged:
            raise ConfigError(f"{where}: {step.key} takes rows of one shape; found rows of varying length")
        takes_missing = "float64" in step.inputs
        try:
            value = step.output(value)
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from error
        if (value.dtype == "int64" or not takes_missing) and can_miss and feature.impute is None:
            raise ConfigError(f"{where}: {step.key} has no number for a missing value; `impute` says what replaces it")


def _check_by(key: str, feature: ResolvedFeature) -> None:
    """Statistics of groups are moments, so what uses them comes first, and no other step learns anything."""
    if feature.ragged:
        raise ConfigError(f"{key}.by: expected rows of one shape; found rows of varying length")
    pairs = zip(feature.steps, feature.values, strict=False)
    learned = [step.estimator(value) for step, value in pairs if step.constants]
    late = any(step.constants for step in feature.normalize[1:])
    if not learned or late or not all(isinstance(estimator, ColumnMoments) for estimator in learned):
        raise ConfigError(
            f"{key}.by: expected a method with a statistic for each group: impute mean, min or max, or normalize "
            f"zscore, minmax or maxabs first; found impute {dump_impute(feature.impute)}, "
            f"normalize {dump_normalize(feature.normalize)}"
        )


def _output_dtype(feature: ResolvedFeature, said: str | None) -> str:
    source, key = np.dtype(feature.raw.numpy_dtype), f"features.{feature.name}.dtype"
    default = _default_dtype(feature, source)
    if said is None or said == default:
        return default
    if default == "string" or said == "string" or said.startswith("complex") != default.startswith("complex"):
        raise ConfigError(f"{key}: {feature.source_dtype} values do not become {said}")
    wanted = np.dtype(said)
    if feature.normalize:
        allowed = wanted.kind == "f" if default == "float32" else wanted.kind in "iu"
    elif feature.impute:
        # Filled integers stay integers where the dtype holds them and what they are filled with.
        integers = source.kind in "iu" and feature.impute.keeps_integers(said) and np.can_cast(source, wanted)
        allowed = integers if wanted.kind in "iu" else wanted.kind == "f"
    else:
        allowed = np.can_cast(source, wanted) or (source.kind == "f" and wanted.kind == "f")
        if not allowed:
            raise ConfigError(f"{key}: {said} does not hold every value of {source}")
    if not allowed:
        expected = "an integer" if default == "int64" else "float16, float32 or float64"
        raise ConfigError(f"{key}: a transformed feature is {expected}; found {said}")
    return said


def _default_dtype(feature: ResolvedFeature, source: np.dtype[Any]) -> str:
    if feature.normalize:
        return "int64" if feature.values[-1].dtype == "int64" else "float32"
    if feature.impute and source.kind in "iu" and not feature.fills_integers:
        return "float32"
    return feature.source_dtype
