"""What commands show of directories of arrays and of data sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from loaders.format.manifest import Manifest
from loaders.format.names import STATISTICS
from loaders.format.spec import FeatureSpec
from pipelines.cli.progress import show_bytes
from pipelines.config.feature import Feature
from pipelines.config.resolved import ResolvedConfig, ResolvedFeature
from pipelines.forecast.estimate import describe
from pipelines.output.directory import Output
from pipelines.plan.plan import Plan
from pipelines.statistics.recorded import TrainingStatistics
from pipelines.steps.methods import dump_impute, dump_normalize
from pipelines.storage import files

if TYPE_CHECKING:
    from loaders.diagnostics.bench import Bench
    from loaders.diagnostics.shuffle_quality import ShuffleQuality
    from pipelines.maintain.extend import Appended
    from pipelines.maintain.validate import Validation

SHOWN_FILES = 10


def make_table(*columns: str) -> Table:
    """A table whose columns are numbers (right-aligned) where their heading ends in a colon."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        # The name of a split is short enough never to be cut.
        width = 10 if column in ("split", "against") else None
        number = column.endswith(":")
        table.add_column(column.rstrip(":"), justify="right" if number else "left", overflow="fold", min_width=width)
    return table


def show_sources(console: Console, plan: Plan) -> None:
    """Shows the features of a directory of arrays, the forecast, and the configuration that a build would use."""
    show_forecast_of(console, plan)
    console.print("\nConfiguration of a build (a file with these lines gives the same):\n", style="bold")
    console.print(dump_config(plan.config), end="", highlight=False, markup=False, soft_wrap=True)


def show_forecast_of(console: Console, plan: Plan) -> None:
    """Shows the features of a directory of arrays, what is done to them, and the forecast."""
    show_features(console, plan)
    show_transform(console, plan.config)
    show_forecast(console, plan)


def show_transform(console: Console, config: ResolvedConfig) -> None:
    """Shows what is done to each feature, and what a batch holds of it."""
    if config.custom is not None:
        console.print(f"\nThe transform is {config.custom.place}, which gives:\n", style="bold")
        _show_specs(console, config.custom.specs)
        return
    rows = make_table("feature", "role", "transform", "in a batch")
    for feature in config.features:
        shape = show_shape(feature.spec.shape)
        rows.add_row(feature.name, feature.spec.role, show_steps(feature), f"{feature.spec.dtype}, {shape}")
    console.print()
    console.print(rows)


def show_features(console: Console, plan: Plan) -> None:
    """Shows the features: files, dtype, shape, order, bytes, and what is done to the values."""
    table = plan.table
    rows = make_table("feature", "files:", "dtype", "shape of a row", "order", "bytes:", "first file")
    for feature in table.features:
        sources = [part.sources[feature.name] for part in table.parts if feature.name in part.sources]
        orders = {"Fortran" if source.fortran else "C" for source in sources}
        endian = "big-endian " if any(source.dtype.startswith(">") for source in sources) else ""
        rows.add_row(
            feature.name,
            f"{len({source.path for source in sources}):,}",
            endian + _dtype(feature.kind_name, feature.unit),
            show_shape(feature.shape),
            " and ".join(sorted(orders)),
            show_bytes(feature.row_bytes * table.rows if sources else 0),
            sources[0].path if sources else _origin(feature),
        )
    console.print(rows)
    parts = f"{len(table.parts):,} part{'s' if len(table.parts) != 1 else ''}"
    console.print(f"\n{table.rows:,} rows in {parts}, {show_bytes(table.nbytes)}", highlight=False)
    _show_skipped(console, [str(problem) for problem in table.skipped])


def _origin(feature: Feature) -> str:
    return f"the constant {feature.constant}" if feature.origin == "constant" else f"the {feature.origin}"


def _dtype(dtype: str, unit: str) -> str:
    return f"{dtype} ({unit})" if unit else dtype


def show_shape(shape: tuple[int | None, ...]) -> str:
    """The shape of a row for people."""
    return " x ".join("any" if size is None else str(size) for size in shape) or "one value"


def show_steps(feature: ResolvedFeature) -> str:
    """What is done to the values of a feature, in one line."""
    normalize = dump_normalize(feature.normalize)
    steps = [] if normalize == "none" else normalize if isinstance(normalize, list) else [normalize]
    said = [f"impute {_show_step(dump_impute(feature.impute))}"] if feature.impute else []
    said += map(_show_step, steps)
    line = ", ".join(said)
    if any(step.constants for step in feature.steps):
        line += f" by {feature.by}" if feature.by else ""
        line += f" over {feature.over if isinstance(feature.over, str) else 'axes ' + str(list(feature.over))}"
    stored = {"transformed": "", "raw": "stored raw", "none": "not stored"}[feature.store]
    indicator = "with indicator" if feature.indicator else ""
    return "; ".join(filter(None, (line, indicator, stored)))


def _show_step(step: Any) -> str:
    """A step as a configuration has it, on one line."""
    if not isinstance(step, Mapping):
        return str(step)
    ((name, argument),) = step.items()
    inner = ", ".join(f"{k} {v}" for k, v in argument.items()) if isinstance(argument, Mapping) else argument
    return f"{name} {inner}"


def show_forecast(console: Console, plan: Plan) -> None:
    """Shows the splits and shards that a build would write."""
    rows, expected = make_table("split", "rows:", "bytes:", "shards:"), describe(plan)
    for name, split in expected["splits"].items():
        known = split["rows"] is not None
        sizes = (f"{split['rows']:,}", show_bytes(split["bytes"])) if known else ("?", "?")
        rows.add_row(name, *sizes, f"{split['shards']:,}")
    about = f" ({expected['note']})" if expected["note"] else ""
    console.print(f"\nForecast{about}:\n", style="bold")
    console.print(rows)
    console.print(f"\nA worker holds up to {show_bytes(expected['task_bytes'])} of rows at a time", highlight=False)


def dump_config(config: ResolvedConfig) -> str:
    """A resolved configuration as YAML."""
    text: str = yaml.safe_dump(config.dump(), sort_keys=False, allow_unicode=True, default_flow_style=None)
    return text


def show_dataset(console: Console, root: str, manifest: Manifest) -> None:
    """Shows the features, splits, shards and statistics of a finished data set."""
    _show_specs(console, manifest.features)
    if manifest.transformed is not None:
        console.print("\nAfter the transform, which the loader applies:\n", style="bold")
        _show_specs(console, manifest.transformed)
    console.print()
    show_splits(console, manifest)
    show_left_out(console, manifest)
    console.print(f"\n{manifest.rows_per_record} rows a record, seed {manifest.seed}", highlight=False)
    _show_statistics(console, root, manifest)


def _show_specs(console: Console, specs: tuple[FeatureSpec, ...]) -> None:
    rows = make_table("feature", "role", "dtype", "shape of a row")
    for spec in specs:
        rows.add_row(spec.name, spec.role, _dtype(spec.dtype, spec.unit), show_shape(spec.shape))
    console.print(rows)


def show_unfinished(console: Console, output: Output, state: Mapping[str, Any]) -> None:
    """Says what an interrupted run has left in a directory."""
    what = "an append" if "append_to" in state else "a build"
    try:
        done = len(files.list_files(output.tasks))
    except OSError:
        done = 0
    tasks = sum(state["plan"][2:]) if "plan" in state else 0
    how_far = f", with {done:,} of {tasks:,} tasks written" if tasks else ""
    goes_on = "the same command goes on where it stopped"
    console.print(f"{output.root}: {what} that is not finished{how_far}; {goes_on}", highlight=False)


def show_splits(console: Console, manifest: Manifest) -> None:
    """Shows the rows, bytes and shards of each split."""
    rows = make_table("split", "rows:", "bytes:", "shards:")
    for name, shards in manifest.splits.items():
        size = sum(shard.bytes for shard in shards)
        rows.add_row(name, f"{manifest.rows(name):,}", show_bytes(size), f"{len(shards):,}")
    console.print(rows)


def show_left_out(console: Console, manifest: Manifest) -> None:
    """Shows the rows and files of the sources that are not in the data set, if there are any."""
    if manifest.dropped:
        console.print(f"\n{manifest.dropped:,} rows were dropped", highlight=False)
    _show_skipped(
        console, [f"{each['path']}: expected {each['expected']}; found {each['found']}" for each in manifest.skipped]
    )


def _show_skipped(console: Console, problems: list[str]) -> None:
    if not problems:
        return
    console.print(
        f"\n{len(problems):,} problem{'s' if len(problems) != 1 else ''} in files that were skipped:", highlight=False
    )
    for problem in problems[:SHOWN_FILES]:
        console.print(f"  {problem}", highlight=False, markup=False)
    if len(problems) > SHOWN_FILES:
        console.print(f"  … and {len(problems) - SHOWN_FILES:,} more", highlight=False)


def show_appended(console: Console, before: Manifest, appended: Appended) -> None:
    """Shows the rows that were added, and how far the rows have drifted from the transform."""
    rows = make_table("split", "rows before:", "rows added:", "shards:")
    for name, shards in appended.manifest.splits.items():
        old = before.rows(name) if name in before.splits else 0
        rows.add_row(name, f"{old:,}", f"{appended.manifest.rows(name) - old:,}", f"{len(shards):,}")
    console.print()
    console.print(rows)
    if not appended.drifts:
        return
    console.print("\nDrift of the training rows from those that the transform was learned from:\n", style="bold")
    drifts = make_table("feature", "rows", "mean, in deviations:", "deviation, ratio:", "missing, rate:")
    for name, found in appended.drifts.items():
        for which, drift in (("added", found.added), ("all", found.total)):
            drifts.add_row(name, which, f"{drift.shift:.3g}", f"{drift.ratio:.3g}", f"{drift.missing:.3g}")
    console.print(drifts)
    large = [name for name, found in appended.drifts.items() if found.large]
    if large:
        console.print(
            f"\nWarning: the transform no longer fits {', '.join(large)}; append --refit learns a new one",
            highlight=False,
            markup=False,
        )


_MEASURES = {
    "drift": "mean:",
    "spread": "std:",
    "missing": "missing:",
    "outside": "outside:",
    "new_classes": "new:",
    "class_drift": "classes:",
}


def show_validation(console: Console, found: Validation) -> None:
    """Shows what a validation has measured, each split and reference on a line; `!` marks what is too much."""
    for problem in found.schema:
        console.print(str(problem), highlight=False, markup=False)
    _show_skipped(console, [str(problem) for problem in found.skipped])
    console.print("\n" + ", ".join(f"{split} {rows:,} rows" for split, rows in found.rows.items()), highlight=False)
    lines: dict[tuple[str, str, str], dict[str, str]] = {}
    for measure in found.measures:
        line = lines.setdefault((measure.feature, measure.split, measure.reference), {})
        line[measure.kind] = f"{'!' if measure.exceeded else ''}{measure.value:.3g}"
    if lines:
        kinds = [kind for kind in _MEASURES if any(kind in line for line in lines.values())]
        rows = make_table("feature", "split", "against", *(_MEASURES[kind] for kind in kinds))
        for (feature, split, reference), line in lines.items():
            rows.add_row(feature, split, reference.rpartition("/")[2], *(line.get(kind, "") for kind in kinds))
        console.print()
        console.print(rows)
    console.print()
    for measure in found.measures:
        if measure.exceeded:
            certain = "" if measure.certain == measure.value else f", {measure.certain:.3g} of it not by chance"
            detail = f" ({measure.detail})" if measure.detail else ""
            console.print(
                f"{measure.feature}, {measure.split} against {measure.reference}: {measure.kind} expected at most "
                f"{measure.limit:g}; found {measure.value:.4g}{certain}{detail}",
                highlight=False,
                markup=False,
            )
    problems = f"{found.problems:,} problem{'s' if found.problems != 1 else ''}" if found.problems else "no problem"
    console.print(f"{sum(found.rows.values()):,} rows: {problems}", highlight=False)


def _show_statistics(console: Console, root: str, manifest: Manifest) -> None:
    path = files.join(root, STATISTICS)
    statistics = TrainingStatistics.load(files.read_bytes(path)).statistics if files.exists(path) else {}
    if not statistics:
        return
    shown = ("min", "max", "mean", "std")
    rows = make_table("feature", "values:", "missing:", *(f"{key}:" for key in shown))
    for name, own in statistics.items():
        counts = [f"{int(count.sum()):,}" for count in (own.count, own.missing)]
        rows.add_row(name, *counts, *(_range(getattr(own, key)) for key in shown))
    of = "the training rows" if manifest.transform_from is None else "the rows that the transform was learned from"
    console.print(f"\nStatistics of {of}, before the transform:\n", style="bold")
    console.print(rows)


def _range(values: np.ndarray[Any, Any]) -> str:
    """One number, or the range of several."""
    low, high = np.fmin.reduce(values, None), np.fmax.reduce(values, None)
    return f"{low:.6g}" if low == high or np.isnan(low) else f"{low:.4g} … {high:.4g}"


def show_shuffle(
    console: Console, found: Mapping[tuple[str, int], ShuffleQuality], *, split: str, batch_size: int
) -> None:
    """Shows how well epochs mix classes.

    Args:
        console: Where to.
        found: For a label and the number of an epoch, what was found.
        split: The name of the split.
        batch_size: The rows of a batch.
    """
    console.print(f"The classes in batches of {batch_size:,} rows of {split}, shuffled:\n", style="bold")
    rows = make_table("label", "epoch:", "batches:", "classes:", "chi-square:", "by chance:", "p:", "mixed")
    for (label, epoch), one in found.items():
        chance = f"{one.expected:,.1f} ± {one.deviation:,.1f}"
        p = f"{one.p:.4f}" if one.like_chance else f"{one.p:.1e}"
        numbers = (f"{epoch}", f"{one.batches:,}", f"{one.classes:,}", f"{one.chi_square:,.1f}")
        rows.add_row(label, *numbers, chance, p, "yes" if one.like_chance else "no")
    console.print(rows)
    console.print(
        "\nChi-square is how unevenly the batches have the classes, and p how many of all permutations of the rows "
        "have them as unevenly.\n",
        highlight=False,
    )
    worse = {key: one for key, one in found.items() if not one.like_chance}
    for (label, epoch), one in worse.items():
        console.print(
            f"{label}, epoch {epoch}: the classes differ between batches {one.chi_square / one.expected:.2f} times as "
            "much as by chance",
            highlight=False,
            markup=False,
        )
    if not worse:
        console.print("Batches have their classes as those of a true permutation have", highlight=False)


def show_bench(console: Console, found: Bench) -> None:
    """Shows how fast a loader was, where its time goes, and what would change it."""
    name = {"tf": "loaders.load", "numpy": "loaders.numpy.Loader"}[found.loader]
    console.print(f"{name}, batches of {found.batch_size:,} rows of {found.split}, shuffled:\n", style="bold")
    for what, value in (
        ("speed", f"{found.rows_per_second:,.0f} rows/s, {found.bytes_per_second / 1e6:,.1f} MB/s of the shards"),
        ("a batch", f"{_milliseconds(found.batch_seconds)}, the shortest step that it can feed"),
        ("first batch", f"after {found.first_batch_seconds:.2f} s, imports not counted"),
        (
            "memory",
            f"{show_bytes(found.peak_bytes)} at most, {show_bytes(found.base_bytes)} of it before the loader was made",
        ),
    ):
        console.print(f"{what:<13}{value}", highlight=False)
    rows = make_table("stage", "time:", "a million rows:")
    for stage in found.stages:
        rows.add_row(stage.name, f"{stage.share:.0%}", f"{stage.seconds_per_row * 1e6:.3g} s")
    console.print()
    console.print(rows)
    console.print(f"\nHow the time was measured: {found.stages_how}.", highlight=False)
    if found.step is not None:
        verdict = "it would starve" if found.step.starves else "it would not starve"
        console.print(
            f"\nA training step of {_milliseconds(found.step.seconds)} would wait for its batches "
            f"{found.step.waiting:.1%} of the time: {verdict}. Measured with {found.step.steps:,} steps that sleep.",
            highlight=False,
        )
        if not found.step.starves:
            return
    _show_advice(console, found)


def _show_advice(console: Console, found: Bench) -> None:
    if not found.advice:
        console.print("\nNothing that was tried makes it faster", highlight=False)
        return
    console.print("\nWhat makes it faster, each measured alone:\n", style="bold")
    for advice in found.advice:
        console.print(f"{advice.factor:6.2f} times: {advice.change}", highlight=False, markup=False)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
