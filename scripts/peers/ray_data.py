"""Ray Data: `read_numpy`, `SimpleImputer`, `StandardScaler`, `write_tfrecords`."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data.preprocessors import Chain, SimpleImputer, StandardScaler

from peers.data import Data
from peers.tfrecord import load as load_rows

PACKAGES = ("ray", "pandas", "pyarrow", "tensorflow")


def build(data: Data, out: pathlib.Path, *, variant: str) -> None:
    """Builds rows of one axis; Ray's scaler takes columns of numbers, so each element is one."""
    out.mkdir(parents=True)
    ray.init(log_to_driver=False, include_dashboard=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True  # zip pairs rows by their order
    columns = [f"c{number:03d}" for number in range(data.kind.shape[0])]
    paths = [data.paths(part) for part in range(len(data.counts))]
    values = ray.data.read_numpy([str(path) for path, _ in paths])
    labels = ray.data.read_numpy([str(path) for _, path in paths]).rename_columns({"data": "labels"})

    def split(batch: dict[str, Any]) -> pa.Table:
        # Ray's statistics leave out nulls, and NaN is none.
        found = {name: pa.array(batch["data"][:, at], from_pandas=True) for at, name in enumerate(columns)}
        return pa.table(found | {"labels": batch["labels"]})

    def join(batch: dict[str, Any]) -> pa.Table:
        scores = np.stack([batch[name] for name in columns], axis=1).astype(np.float32)
        # A list is written as floats; a tensor would be as bytes.
        lists = pa.FixedSizeListArray.from_arrays(scores.ravel(), len(columns))
        return pa.table({"labels": batch["labels"], data.kind.feature: lists})

    rows = values.zip(labels).map_batches(split)
    scaled = Chain(SimpleImputer(columns, strategy="mean"), StandardScaler(columns)).fit_transform(rows)
    scaled.map_batches(join).write_tfrecords(str(out))


load = load_rows
