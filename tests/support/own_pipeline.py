"""A pipeline of a user's own, for the tests on clusters: reads arrays, leaves rows out, and writes a data set.

python own_pipeline.py SOURCE OUTPUT [OPTIONS OF BEAM]
"""

import sys

import apache_beam as beam

import pipelines
from pipelines.runners.beam import run_pipeline

FEATURES = {"features": {"dtype": "float32", "shape": [16]}, "labels": {"dtype": "int64"}}


def keep(batch):
    wanted = batch["labels"] > 0
    return {name: column[wanted] for name, column in batch.items()}


def run(source, output, options=()):
    with run_pipeline(options, output=output) as pipeline:
        rows = pipeline | pipelines.ReadNpy(source, batch_bytes=100_000, key="row")
        kept = rows | "Keep" >> beam.Map(keep)
        kept | pipelines.WriteDataset(output, FEATURES, key="row", shard_bytes=50_000)


if __name__ == "__main__":
    run(*sys.argv[1:3], sys.argv[3:])
