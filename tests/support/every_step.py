"""Configurations of every step that arrays can take, columns for them, and what is learned of those."""

import numpy as np

from loaders.transform.forward import Forward
from loaders.transform.inverse import Inverse
from pipelines.analyze import graph
from tests.support.fitting import learn, resolve

ROWS = 60


def learned(columns, said):
    """The transform and its inverse."""
    config = resolve(columns, said)
    fitted = graph.fitted_arrays(config.transformed, learn(config, columns))
    outputs = [spec for feature in config.features for spec in feature.outputs]
    sources = [feature.raw for feature in config.features]
    return Forward(config.dump(), fitted, features=outputs, sources=sources), Inverse(config.dump(), fitted)


def numbers(seed=0, rows=ROWS):
    x = np.abs(np.random.default_rng(seed).normal(3, 2, (rows, 4)))
    x[::7, 1] = np.nan
    x[3] = np.nan
    return x


EXACT = [
    {"normalize": "zscore"},
    {"impute": "median", "normalize": {"minmax": [-1, 3]}},
    {"impute": {"constant": 2.5}, "normalize": "none"},
    {"impute": "most_frequent", "normalize": "maxabs", "indicator": True},
    {"impute": "zero", "normalize": ["robust", {"scale": 0.3}]},
    {"impute": "min", "normalize": {"row": "l2"}},
    {"impute": "max", "normalize": {"row": "mean"}},
    {"impute": "mean", "normalize": {"row": "zscore"}},
    {"normalize": [{"clip": [0.1, 0.9]}, "zscore"], "over": "all"},
    {"normalize": {"quantile": "uniform"}},
    {"impute": "mean", "normalize": {"buckets": 5}},
    {"impute": "mean", "normalize": [{"buckets": [1, 2.5, 4]}, {"one_hot": 4}]},
    {"impute": "mean", "normalize": {"pca": 2}},
    {"impute": "mean", "normalize": {"whiten": 3}, "dtype": "float64"},
    {"missing": [-1], "impute": "mean"},
    {"mask": "bad", "impute": "mean", "indicator": True},
    {"by": "group", "impute": "mean", "normalize": "zscore"},
]
NEARLY = [
    {"impute": "regression", "dtype": "float64"},
    {"normalize": "log1p", "dtype": "float64"},
    {"normalize": {"quantile": "normal"}, "dtype": "float64"},
    {"normalize": "gaussian", "dtype": "float64"},
]


def columns_of(said):
    columns = {"x": numbers()}
    columns["x"][::9, 2] = -1 if "missing" in said else 1
    if "mask" in said:
        columns["bad"] = np.random.default_rng(2).random((ROWS, 4)) < 0.2
    if "by" in said:
        columns["group"] = np.arange(ROWS) % 3
    return columns
