"""Statistics of all rows for any `preprocessing_fn` of tf.transform: exact, aware of missing values, by axis or group.

Each function is an analyzer of tf.transform (`tft.experimental.CacheablePTransformAnalyzer`) over the statistics that a
build learns from, so it works in any pipeline of tf.transform, which needs nothing else of this library. What it
computes is float64, and has the same bits however rows are cut into batches and whatever the runner. Several tensors in
one call are one analyzer.
"""

from __future__ import annotations

from pipelines.analyzers.estimates import (
    Moments,
    covariance,
    frequencies,
    max,
    mean,
    median,
    min,
    moments,
    most_frequent,
    quantiles,
    std,
    var,
)
from pipelines.analyzers.mappers import (
    bucketize,
    clip,
    impute,
    missing_indicator,
    normalize,
    pca,
    quantile_transform,
    scale_by_max_abs,
    scale_robust,
    scale_rows,
    scale_to_gaussian,
    scale_to_min_max,
    scale_to_z_score,
    vocabulary,
    whiten,
)

__all__ = [
    "Moments", "bucketize", "clip", "covariance", "frequencies", "impute", "max", "mean", "median", "min",
    "missing_indicator", "moments", "most_frequent", "normalize", "pca", "quantile_transform", "quantiles",
    "scale_by_max_abs", "scale_robust", "scale_rows", "scale_to_gaussian", "scale_to_min_max", "scale_to_z_score",
    "std", "var", "vocabulary", "whiten",
]  # fmt: skip
