"""What the tools read: rows of every dtype as data sets and exports, and the same rows as NumPy has them.

`python -m interop.data DIRECTORY` makes it, with the packages of this project alone.
"""

from __future__ import annotations

import pathlib
import pickle
import sys

import numpy as np

import pipelines
from tests.support.every_dtype import rows_of_every_dtype, write_rows

ROWS = 60
TRUTH = "rows.pickle"
EXPORTS = {
    "parquet": "dataset",
    "webdataset": "dataset",
    "arrayrecord": "dataset",
    "mds": "texts",
    "npy": "plain",
    "zarr": "plain",
}
"""For each format of `npyflow export` what is exported; it lies in a directory of the format's name."""

SHARED = {"shard_bytes": 15_000, "splits": {"train": 0.8, "test": 0.2}}


def make(directory: pathlib.Path) -> None:
    """Makes `dataset`, `records` (a row a record), `plain` (what every tool makes batches of), and others.

    `texts` has all but rows of several texts. `scaled` has features that are normalised, whose raw rows are `raw.npy`.
    """
    rows = rows_of_every_dtype(ROWS)
    generator = np.random.default_rng(0)
    # What a model trains on: the label is the greatest of the features.
    rows["features"] = list(generator.normal(size=(ROWS, 4)).astype(np.float32))
    rows["label"] = [int(row.argmax()) for row in rows["features"]]
    # PyTorch makes no batch of rows of one uint64 each.
    lacks = [name for name in rows if name.startswith("ragged") or "string" in name or name == "one_uint64"]
    plain = {name: rows[name] for name in rows if name not in lacks}
    texts = {name: rows[name] for name in rows if name != "axes_string"}
    for name, chosen in (("dataset", rows), ("plain", plain), ("texts", texts)):
        sources = directory / f"{name}_sources"
        config = write_rows(sources, chosen) | SHARED
        built = pipelines.build(sources, directory / name, config, report=False)
        if chosen is rows:
            count = built.manifest.rows("train")
            pipelines.build(sources, directory / "records", config | {"layout": "interchange"}, report=False)
    raw = np.stack(rows["features"])
    np.save(directory / "raw.npy", raw)
    said = {"features": {"features": {"normalize": "zscore"}, "row": {"normalize": "none"}}, "splits": {"train": 1}}
    pipelines.build({"features": raw, "row": np.arange(ROWS)}, directory / "scaled", said, report=False)
    for to, source in EXPORTS.items():
        pipelines.export(directory / source, directory / to, to=to, workers=1)
    (directory / TRUTH).write_bytes(pickle.dumps((count, rows)))


if __name__ == "__main__":
    make(pathlib.Path(sys.argv[1]))
