"""A configuration as the `preprocessing_fn` that it means, in Python, to be copied and changed."""

from __future__ import annotations

import math

from loaders.format.names import INDICATOR_SUFFIX
from pipelines.config.resolved import ResolvedConfig, ResolvedFeature
from pipelines.steps.step import MomentStep, Step

HEAD = '''"""What the configuration does to each row, as a preprocessing_fn of tf.transform."""

import tensorflow as tf

from pipelines import analyzers as npa


def preprocess(inputs):
    """Maps a batch of raw features to what a training gets."""
    outputs = {}
'''


def as_function(config: ResolvedConfig) -> str:
    """The program of a function that does what a configuration says, in phases of tf.transform.

    Values are float64 between the steps, as in a build. Only what moments tell after an imputation differs, in the last
    digits: a build computes it in closed form, and the function of the imputed rows.
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
        told = "" if missing is None else f", missing={missing}"
        lines.append(f"outputs[{feature.name + INDICATOR_SUFFIX!r}] = npa.missing_indicator(x{told})")
    if missing is not None and (not feature.steps or feature.steps[0].expression):  # no analyzer that can be told
        if feature.steps or feature.source_dtype.startswith("float"):
            lines.append(f"absent = npa.missing_indicator(x, missing={missing}) == 1")
            lines.append('x = tf.where(absent, tf.constant(float("nan"), tf.float64), tf.cast(x, tf.float64))')
        missing = None
    for step, gives in zip(feature.steps, feature.values[1:], strict=True):
        written = (step.expression or "").format(**step.model_dump())
        lines.append(f"x = {written or _call(feature, step, missing, wide=gives.dtype == 'float64')}")
        missing = None
    return [*lines, f"outputs[{feature.name!r}] = {_cast(feature)}"]


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


def _call(feature: ResolvedFeature, step: Step, missing: str | None, *, wide: bool) -> str:
    """The call of the analyzer that a step is, for float64 where it gives no integers (`wide`)."""
    name = step.analyzer or ("impute" if step is feature.impute else "normalize")
    groups = feature.by is not None and isinstance(step, MomentStep) and step.number is None
    said = {
        "over": repr(feature.over) if step.takes_over and feature.over != "element" else None,
        "by": f"inputs[{feature.by!r}]" if groups else None,
        "missing": missing,
        "dtype": "tf.float64" if wide else None,
    }
    named = [f"{key}={text}" for key, text in said.items() if text is not None]
    return f"npa.{name}({', '.join(['x', *step.arguments, *named])})"


def _cast(feature: ResolvedFeature) -> str:
    """The last value in a dtype that tf.transform's schema has."""
    if feature.spec.dtype == "string":
        return "x"
    return f"tf.cast(x, tf.{'float32' if feature.spec.dtype.startswith('float') else 'int64'})"
