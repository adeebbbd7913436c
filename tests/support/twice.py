"""Writes all shards of a plan on a cluster's worker, while another worker writes the same ones."""

import os
import pathlib
import sys
import time

import apache_beam as beam

from pipelines.config.schema import parse_config
from pipelines.output.directory import Output
from pipelines.plan.plan import make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.runners.beam import run_pipeline
from pipelines.sources.table import scan
from pipelines.write.shards import write_task


def write_all(number, *, source, output, meeting):
    """Writes each task when worker 1 - `number` has come to it, too."""
    config = parse_config({"shard_bytes": "16KiB"})
    table = scan(source, config)
    plan = make_plan(table, resolve_config(config, table))
    for task in plan.tasks():
        here, there = (pathlib.Path(meeting) / f"{task.group}-{task.index}-{worker}" for worker in (number, 1 - number))
        here.write_text(str(os.getpid()))
        end = time.monotonic() + 60
        while not there.exists():
            assert time.monotonic() < end
            time.sleep(0.001)
        write_task(task, plan, Output(output))


def main():
    number, source, output, meeting, *options = sys.argv[1:]
    with run_pipeline(options) as pipeline:
        pipeline | beam.Create([int(number)]) | beam.Map(write_all, source=source, output=output, meeting=meeting)
