"""A configuration as the `preprocessing_fn` that it means, in Python, to be copied and changed."""

from __future__ import annotations

import math

from loaders.format.names import INDICATOR_SUFFIX
from pipelines.config.resolved import ResolvedConfig, ResolvedFeature
from pipelines.errors import ConfigError
from pipelines.steps.step import Step

HEAD = '''"""What the configuration does to each row, as a preprocessing_fn of tf.transform."""

import tensorflow as tf

from pipelines import analyzers as npa


def preprocess(inputs):
    """Maps a batch of raw features to what a training gets."""
    outputs = {}
'''

MAPPERS = {
    "zscore": "scale_to_z_score",
    "minmax": "scale_to_min_max",
    "maxabs": "scale_by_max_abs",
    "robust": "scale_robust",
    "clip": "clip",
    "quantile": "quantile_transform",
    "gaussian": "scale_to_gaussian",
    "row": "scale_rows",
    "buckets": "bucketize",
    "pca": "pca",
    "whiten": "whiten",
    "vocabulary": "vocabulary",
}
"""The analyzers by the names of the steps that they are."""

FILLS = ("constant", "mean", "median", "most_frequent", "min", "max", "zero", "regression")
"""The imputations that `pipelines.analyzers.impute` takes."""

WRITTEN = ("log1p", "scale", "one_hot")
"""Steps that learn nothing, and are written as TensorFlow's own functions."""

WITHOUT_OVER = ("row", "pca", "whiten", "vocabulary")
"""Steps that no statistic of theirs is shared by."""

WITH_GROUPS = ("mean", "min", "max", "zscore", "minmax", "maxabs")
"""Steps that groups of rows may have statistics of their own for."""

INTEGERS = ("buckets", "vocabulary")
"""Steps that give int64, whatever is asked for."""


def as_function(config: ResolvedConfig) -> str:
    """The program of a function that does what a configuration says, in phases of tf.transform.

    Values are float64 between the steps, as in a build. Only what moments tell after an imputation differs, in the last
    digits: a build computes it in closed form, and the function of the imputed rows. A ConfigError where a step has no
    analyzer.
    """
    parts = ["".join(f"    {line}\n" for line in _of_feature(feature)) for feature in config.features]
    return "\n".join([HEAD, *parts]) + "    return outputs\n"


def _of_feature(feature: ResolvedFeature) -> list[str]:
    if feature.store == "none":
        return [f"# {feature.name}: it is not stored"]
    if not feature.takes_part:
        return [f"# {feature.name}: no dense real numbers or strings, so it is no input; it is stored as it is"]
    raw, missing = f"inputs[{feature.name!r}]", _missing(feature)
    lines = [f"x = {raw}"]
    if feature.indicator:
        said = "" if missing is None else f", missing={missing}"
        lines.append(f"outputs[{feature.name + INDICATOR_SUFFIX!r}] = npa.missing_indicator(x{said})")
    if missing is not None and not _says_missing(feature):
        if feature.steps or feature.source_dtype.startswith("float"):
            lines.append(f"absent = npa.missing_indicator(x, missing={missing}) == 1")
            lines.append('x = tf.where(absent, tf.constant(float("nan"), tf.float64), tf.cast(x, tf.float64))')
        missing = None
    for number, step in enumerate(feature.steps):
        lines.append(f"x = {_call(feature, step, None if number else missing)}")
    return [*lines, f"outputs[{feature.name!r}] = {_cast(feature)}"]


def _says_missing(feature: ResolvedFeature) -> bool:
    """Whether the first step is an analyzer, which can be told what is missing."""
    return bool(feature.steps) and (feature.impute is not None or feature.steps[0].key in MAPPERS)


def _missing(feature: ResolvedFeature) -> str | None:
    """The expression that says which values of a feature are missing besides NaN."""
    values = list(feature.missing)
    texts = [_number(value) for value in values]
    if feature.mask is None:
        return None if not values else f"[{', '.join(texts)}]"
    mask = f"tf.cast(inputs[{feature.mask!r}], tf.bool)"
    return " | ".join([mask, *(f"(x == tf.constant({text}, x.dtype))" for text in texts)])


def _number(value: float) -> str:
    return repr(value) if math.isfinite(value) else f"float({str(value)!r})"


def _call(feature: ResolvedFeature, step: Step, missing: str | None) -> str:
    """What a step makes of `x`."""
    if step.key not in (FILLS if step is feature.impute else (*MAPPERS, *WRITTEN)):
        raise ConfigError(f"{feature.name}: expected steps that pipelines.analyzers has; found {step.key}")
    wide = "" if step.key in INTEGERS else ", dtype=tf.float64"
    said = "" if missing is None else f", missing={missing}"
    by = "" if feature.by is None or step.key not in WITH_GROUPS else f", by=inputs[{feature.by!r}]"
    over = "" if step.key in WITHOUT_OVER or feature.over == "element" else f", over={feature.over!r}"
    if step is feature.impute:
        method = step.model_dump().get("constant", step.key)
        shared = "" if step.key == "regression" else over
        return f"npa.impute(x, {method!r}{shared}{by}{said}{'' if feature.fills_integers else wide})"
    if step.key == "log1p":
        return "tf.math.log1p(tf.cast(x, tf.float64))"
    if step.key == "scale":
        return f"tf.cast(x, tf.float64) * {step.model_dump()['scale']!r}"
    if step.key == "one_hot":
        return f"tf.one_hot(tf.cast(x, tf.int64), {step.model_dump()['classes']!r}, dtype=tf.float64)"
    return f"npa.{MAPPERS[step.key]}(x{_arguments(step)}{over}{by}{said}{wide})"


def _arguments(step: Step) -> str:
    options = step.model_dump()
    if step.key == "vocabulary":
        return "".join(f", {name}={value!r}" for name, value in options.items() if value is not None)
    values = [list(value) if isinstance(value, tuple) else value for value in options.values()]
    if step.key in ("minmax", "clip"):
        values = values[0]
    return "".join(f", {value!r}" for value in values)


def _cast(feature: ResolvedFeature) -> str:
    """The last value in a dtype that tf.transform's schema has."""
    if feature.spec.dtype == "string":
        return "x"
    return f"tf.cast(x, tf.{'float32' if feature.spec.dtype.startswith('float') else 'int64'})"
