"""What `npyflow inspect` shows of a directory of arrays, and of a finished data set."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from loaders.manifest import Manifest
from pipelines import files
from pipelines.config import ResolvedConfig
from pipelines.output import STATISTICS
from pipelines.plan import Plan, describe
from pipelines.report import show_bytes
from pipelines.sources import SourceTable


def _table(*columns: str) -> Table:
    """A table whose columns are numbers (right-aligned) where their heading ends in a colon."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.rstrip(":"), justify="right" if column.endswith(":") else "left", overflow="fold")
    return table


def show_sources(console: Console, plan: Plan) -> None:
    """Shows the features of a directory of arrays, the forecast, and the configuration that a build would use."""
    show_features(console, plan.table)
    show_forecast(console, plan)
    console.print("\nConfiguration of a build (a file with these lines gives the same):\n", style="bold")
    console.print(dump_config(plan.config), end="", highlight=False, markup=False, soft_wrap=True)


def show_features(console: Console, table: SourceTable) -> None:
    """Shows the features: files, dtype, shape, order and bytes."""
    rows = _table("feature", "files:", "dtype", "shape of a row", "order", "bytes:", "first file")
    for feature in table.features:
        sources = [part.sources[feature.name] for part in table.parts]
        orders = {"Fortran" if source.fortran else "C" for source in sources}
        endian = "big-endian " if any(source.dtype.startswith(">") for source in sources) else ""
        rows.add_row(
            feature.name,
            f"{len(sources):,}",
            endian + feature.dtype.name,
            _shape(feature.shape),
            " and ".join(sorted(orders)),
            show_bytes(sum(source.size for source in sources)),
            sources[0].path,
        )
    console.print(rows)
    parts = f"{len(table.parts):,} part{'s' if len(table.parts) != 1 else ''}"
    console.print(f"\n{table.rows:,} rows in {parts}, {show_bytes(table.nbytes)}", highlight=False)


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "one value"


def show_forecast(console: Console, plan: Plan) -> None:
    """Shows the splits and shards that a build would write."""
    rows, forecast = _table("split", "rows:", "bytes:", "shards:"), describe(plan)
    for name, split in forecast["splits"].items():
        rows.add_row(name, f"{split['rows']:,}", show_bytes(split["bytes"]), f"{split['shards']:,}")
    about = "" if isinstance(plan.config.splits, str) else " (expected; each row's split is drawn by its hash)"
    console.print(f"\nForecast{about}:\n", style="bold")
    console.print(rows)
    console.print(f"\nA worker holds up to {show_bytes(forecast['task_bytes'])} of rows at a time", highlight=False)


def dump_config(config: ResolvedConfig) -> str:
    """A resolved configuration as YAML."""
    text: str = yaml.safe_dump(config.dump(), sort_keys=False, allow_unicode=True, default_flow_style=None)
    return text


def show_dataset(console: Console, root: str, manifest: Manifest) -> None:
    """Shows the features, splits, shards and statistics of a finished data set."""
    rows = _table("feature", "role", "dtype", "shape of a row")
    for feature in manifest.features:
        rows.add_row(feature.name, feature.role, feature.dtype, _shape(feature.shape))
    console.print(rows)
    console.print()
    show_splits(console, manifest)
    console.print(f"\n{manifest.rows_per_record} rows a record, seed {manifest.seed}", highlight=False)
    path = files.join(root, STATISTICS)
    if files.exists(path):
        console.print("\nStatistics of the training rows, before the transform:\n", style="bold")
        _show_statistics(console, files.read_bytes(path))


def show_splits(console: Console, manifest: Manifest) -> None:
    """Shows the rows, bytes and shards of each split."""
    rows = _table("split", "rows:", "bytes:", "shards:")
    for name, shards in manifest.splits.items():
        size = sum(shard.bytes for shard in shards)
        rows.add_row(name, f"{manifest.rows(name):,}", show_bytes(size), f"{len(shards):,}")
    console.print(rows)


def _show_statistics(console: Console, data: bytes) -> None:
    rows = _table("feature", "values:", "missing:", "min:", "max:", "mean:", "std:")
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        for name in dict.fromkeys(key.rpartition("/")[0] for key in archive.files):
            values = {key: archive[f"{name}/{key}"] for key in ("count", "missing", "min", "max", "mean", "std")}
            counts = [f"{int(values[key].sum()):,}" for key in ("count", "missing")]
            rows.add_row(name, *counts, *(_range(values[key]) for key in ("min", "max", "mean", "std")))
    console.print(rows)


def _range(values: np.ndarray[Any, Any]) -> str:
    """One number, or the range of several."""
    low, high = np.fmin.reduce(values, None), np.fmax.reduce(values, None)
    return f"{low:.6g}" if low == high or np.isnan(low) else f"{low:.4g} … {high:.4g}"
