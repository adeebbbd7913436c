"""Sources, configurations and data sets as tables and lines that results are made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from loaders.format.manifest import Manifest
from loaders.format.names import FITTED, OF_FUNCTION
from loaders.format.record_layout import record_bytes
from loaders.format.spec import FeatureSpec, is_variable
from pipelines.config.resolved import ResolvedConfig, ResolvedFeature, UserFunction
from pipelines.config.schema import setting_of
from pipelines.errors import Problem, some_of
from pipelines.forecast.estimate import describe, describe_overlap
from pipelines.output.directory import Output, read_listed, read_statistics
from pipelines.plan.plan import Plan
from pipelines.plan.resolve import choose_rows_per_record
from pipelines.results import Block, Table, count_of, list_skipped, show_bytes
from pipelines.sources.checks import directory_of
from pipelines.statistics.frequencies import Distinct
from pipelines.statistics.notable import notable, strangeness
from pipelines.statistics.summary import Statistics
from pipelines.steps.methods import dump_impute, dump_normalize
from pipelines.storage import directories
from pipelines.storage.npz_bytes import load_arrays

STAGES = ("split", "analyze", "profile", "write")
SHOWN_NAMES = 4
SHOWN_STATISTICS = ("min", "max", "mean", "std")
SHOWN_CLASSES = 20
SHOWN_VALUES = 3


def of_sources(plan: Plan) -> list[Block]:
    """The features of sources: files, dtype, shape, order, bytes."""
    table, rows = plan.table, []
    for feature in table.features:
        sources = [part.sources[feature.name] for part in table.parts if feature.name in part.sources]
        orders = {"Fortran" if source.fortran else "C" for source in sources}
        origin = f"the constant {feature.constant}" if feature.origin == "constant" else f"the {feature.origin}"
        endian = "big-endian " if any(source.dtype.startswith(">") for source in sources) else ""
        rows.append(
            (
                feature.name,
                len({source.path for source in sources}),
                endian + show_dtype(feature.kind_name, feature.unit),
                show_shape(feature.shape),
                " and ".join(sorted(orders)),
                round(feature.row_bytes * table.rows) if sources else 0,
                sources[0].path if sources else origin,
            )
        )
    columns = ("feature", "files:", "dtype", "shape of a row", "order", "bytes:", "first file")
    total = f"\n{table.rows:,} rows in {count_of(len(table.parts), 'part')}, {show_bytes(table.nbytes)}"
    why = [f"  {feature.name}: {feature.why}" for feature in table.features if feature.why]
    recognised = ["\nRecognised, as nothing was said:", *why] if why else []
    skipped = list_skipped(map(str, table.skipped))
    return [Table(columns=columns, rows=tuple(rows)), total, *recognised, *_of_directories(plan), *skipped]


def _of_directories(plan: Plan) -> list[Block]:
    """What the directories may be that only tell parts apart, where there is no label."""
    sources = [source for part in plan.table.parts for source in part.sources.values()]
    found = {directory_of(source.path) for source in sources} - {None, *(f.name for f in plan.table.features)}
    if len(found) < 2 or any(feature.spec.role == "label" for feature in plan.config.features):
        return []
    option = setting_of("label", ".source=directory")
    shown = some_of(sorted(map(str, found)), SHOWN_NAMES)
    return [f"\nThere is no label. If the directories {shown} name classes: {option}"]


def show_dtype(dtype: str, unit: str) -> str:
    """The dtype of a feature for people."""
    return f"{dtype} ({unit})" if unit else dtype


def show_shape(shape: tuple[int | None, ...]) -> str:
    """The shape of a row for people."""
    return " x ".join("any" if size is None else str(size) for size in shape) or "one value"


def of_steps(config: ResolvedConfig) -> list[Block]:
    """What is done to each feature, and what a batch holds of it."""
    if config.custom is not None:
        given = of_specs(config.given, title=f"The transform is {config.custom.place}, which gives")
        others = ", ".join(f.name for f in config.declared if not f.takes_part and f.stored)
        stored = [f"\nStored as they are, as the function cannot take them: {others}"] if others else []
        there = {spec.name for spec in config.stored}
        if left := ", ".join(f.name for f in config.features if f.stored and f.name not in there):
            stored.append(f"\nNot stored, as the function does not return them: {left}")
        steps = [_of_features(config.transformed, title="Beside it, by steps")] if config.transformed else []
        return [given, *steps, *stored, f"\n{_show_phases(config.custom)}"]
    why: dict[str, list[str]] = {}
    for f in config.features:
        why.setdefault(f.why, []).append(f.name)
    reasons = [f"  {some_of(names, SHOWN_NAMES)}: {reason}" for reason, names in why.items() if reason]
    reasons += [f"  splits: {config.why}"] if config.why else []
    return ["", _of_features(config.features), "\nWhy:", *reasons]


def _show_phases(custom: UserFunction) -> str:
    if not custom.phases:
        return "It learns nothing of the training rows"
    times = "once" if len(custom.phases) == 1 else f"{len(custom.phases)} times"
    return f"To learn, it reads of the training rows {times}: {'; '.join(', '.join(names) for names in custom.phases)}"


def _of_features(features: Iterable[ResolvedFeature], *, title: str = "") -> Table:
    rows = [(f.name, f.spec.role, show_steps(f), f"{f.spec.dtype}, {show_shape(f.spec.shape)}") for f in features]
    return Table(columns=("feature", "role", "transform", "in a batch"), rows=tuple(rows), title=title)


def show_steps(feature: ResolvedFeature) -> str:
    """What is done to the values of a feature, in one line."""
    normalize = dump_normalize(feature.normalize)
    steps = [] if normalize == "none" else normalize if isinstance(normalize, list) else [normalize]
    said = [f"impute {_show_step(dump_impute(feature.impute))}"] if feature.impute else []
    line = ", ".join([*said, *map(_show_step, steps)])
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


def of_forecast(plan: Plan) -> list[Block]:
    """The splits and shards that a build would write."""
    expected = describe(plan)
    rows = [
        (name, *("?" if split[key] is None else split[key] for key in ("rows", "bytes")), split["shards"])
        for name, split in expected["splits"].items()
    ]
    title = f"Forecast ({expected['note']})" if expected["note"] else "Forecast"
    held = f"\nA worker holds up to {show_bytes(expected['task_bytes'])} of rows at a time"
    records = show_records(plan.specs, plan.rows_per_record)
    table = Table(columns=("split", "rows:", "bytes:", "shards:"), rows=tuple(rows), title=title)
    return [table, *filter(None, [describe_overlap(plan.config)]), held, records]


def show_records(specs: tuple[FeatureSpec, ...], rows_per_record: int) -> str:
    """How many rows a record holds and, where it is one, who reads it and what it costs."""
    said = f"{count_of(rows_per_record, 'row')} a record"
    if rows_per_record > 1:
        return said
    said += ", which other tools read by schema.pbtxt"
    usual = 1 if is_variable(specs) else choose_rows_per_record(sum(spec.row_bytes for spec in specs))
    if usual == 1:
        return said
    times = record_bytes(specs, 1) * usual / record_bytes(specs, usual)
    return f"{said}; shards have {times:.2f} times the bytes of {usual:,} rows a record, and load more slowly"


def dump_config(config: ResolvedConfig) -> str:
    """A resolved configuration as YAML."""
    text: str = yaml.safe_dump(config.dump(), sort_keys=False, allow_unicode=True, default_flow_style=None)
    return text


def of_specs(specs: Iterable[FeatureSpec], *, title: str = "") -> Table:
    """The features of a row."""
    rows = ((spec.name, spec.role, show_dtype(spec.dtype, spec.unit), show_shape(spec.shape)) for spec in specs)
    return Table(columns=("feature", "role", "dtype", "shape of a row"), rows=tuple(rows), title=title)


def of_dataset(root: str, manifest: Manifest) -> list[Block]:
    """The features, splits, shards and statistics of a finished data set."""
    transformed = [] if manifest.transformed is None else [of_specs(manifest.transformed, title=LOADER_APPLIES)]
    about = f"\n{show_records(manifest.features, manifest.rows_per_record)}\nseed {manifest.seed}"
    split = [of_splits(manifest), *of_left_out(manifest)]
    return [of_specs(manifest.features), *transformed, "", *split, about, *of_statistics(root, manifest)]


LOADER_APPLIES = "After the transform, which the loader applies"


def of_splits(manifest: Manifest) -> Table:
    """The rows, bytes and shards of each split."""
    rows = (
        (name, manifest.rows(name), sum(shard.bytes for shard in shards), len(shards))
        for name, shards in manifest.splits.items()
    )
    return Table(columns=("split", "rows:", "bytes:", "shards:"), rows=tuple(rows))


def of_left_out(manifest: Manifest) -> list[Block]:
    """The rows and files of the sources that are not in the data set, and the splits without rows, if there are any."""
    dropped: list[Block] = [f"\n{manifest.dropped:,} rows were dropped"] if manifest.dropped else []
    dropped += [f"\nWarning: split {name} has no rows" for name in manifest.splits if not manifest.rows(name)]
    skipped = (str(Problem(**problem)) for problem in manifest.skipped)
    return dropped + list_skipped(skipped)


def of_unfinished(root: str, state: Mapping[str, Any]) -> str:
    """What an interrupted run has left in a directory."""
    what = "an append" if state.get("work") == "append" else "a build"
    try:
        done = len(directories.list_files(Output(root).tasks))
    except OSError:
        done = 0
    tasks = sum(state["plan"][2:]) if "plan" in state else 0
    how_far = f", with {done:,} of {tasks:,} tasks written" if tasks else ""
    return f"{root}: {what} that is not finished{how_far}; the same command goes on where it stopped"


def splits_to_json(manifest: Manifest) -> dict[str, dict[str, int]]:
    """What each split has."""
    return {row.pop("split"): row for row in of_splits(manifest).to_json()}


def of_counts(counts: Mapping[str, int], *, rows: int) -> list[str]:
    """What was counted when the work is done, for a manifest that has so many rows.

    A line on what was read, one on what was written, and one where the runner gives other numbers than the manifest: a
    cluster may do work twice and count it twice.
    """
    get = counts.get
    passes = [f"{show_bytes(counts[f'{stage}_bytes'])} to {stage}" for stage in STAGES if get(f"{stage}_bytes")]
    said = []
    if passes:
        requests = f"{get('requests', 0):,} requests for {show_bytes(get('bytes_read', 0))}, "
        fetched = requests if get("requests") else ""
        said.append(f"read {' and '.join(passes)}; {fetched}{get('retries', 0):,} retries")
        if get("analyze_bytes"):  # only who has analysed them has counted them
            said[-1] += f", {count_of(get('missing', 0), 'missing value')} in the training rows"
    if "shards" in counts or "found_shards" in counts:
        shards = count_of(get("shards", 0), "shard")
        line = f"wrote {get('rows', 0):,} rows, {show_bytes(get('shard_bytes', 0))}, in {shards}"
        if get("found_shards"):
            line += f"; {counts['found_rows']:,} rows in {count_of(counts['found_shards'], 'shard')} were there already"
        said.append(line)
    counted = get("rows", 0) + get("found_rows", 0)
    if counted != rows:
        known = f"counts {counted:,} rows" if counted else "gives no counts"
        said.append(f"the runner {known}; the manifest has {rows:,}")
    return said


def of_statistics(root: str, manifest: Manifest) -> list[Block]:
    """Of each feature the statistics of its columns, the most notable ones, or how often its classes occur."""
    found = read_statistics(root, manifest)
    of = "the training rows" if manifest.transform_from is None else "the rows that the transform was learned from"
    features = list(dict.fromkeys([*found.statistics, *found.classes]))
    shown = notable([float(_strangest(found.statistics.get(name))) for name in features])
    names = {spec.name: spec.class_names for spec in manifest.features}
    said: list[Block] = [f"\nStatistics of {of}, before the transform" if features else ""]
    for name in (features[number] for number in shown):
        if name in found.classes:
            said += _of_classes(name, found.classes[name], names.get(name, ()))
        else:
            said += _of_columns(name, found.statistics[name])
    left_out = len(features) - len(shown)
    said += [f"\n{count_of(left_out, 'more feature')}"] if left_out else []
    return said + _of_function(root, manifest)


def _of_function(root: str, manifest: Manifest) -> list[Block]:
    """What a function of the user's own has learned by `pipelines.analyzers`."""
    data = read_listed(root, manifest, FITTED)
    arrays = {} if data is None else load_arrays(data)
    if OF_FUNCTION not in arrays:
        return []
    labels = json.loads(arrays[OF_FUNCTION].tobytes())["analyzers"]
    rows = []
    for key, array in arrays.items():
        if key.startswith(f"{OF_FUNCTION}/"):
            analyzer, tensor, constant = key.split("/")[1:]
            shape = " x ".join(map(str, array.shape)) or "one value"
            values = ", ".join(f"{value:.4g}" for value in array.ravel()[:SHOWN_VALUES].tolist())
            more = ", …" if array.size > SHOWN_VALUES else ""
            rows.append((labels[int(analyzer)][int(tensor)], constant, shape, values + more))
    columns = ("analyzer", "constant", "shape", "values")
    title = f"What {manifest.config['preprocessing_fn']} has learned"
    return [Table(columns=columns, rows=tuple(rows), title=title)] if rows else []


def _strangest(statistics: Statistics | None) -> np.float64:
    return np.float64(0) if statistics is None or not statistics.count.size else np.max(strangeness(statistics))


def _of_columns(name: str, statistics: Statistics) -> list[Block]:
    numbers = notable(strangeness(statistics))
    flat = {key: np.ravel(values) for key, values in statistics.arrays().items()}
    places = [", ".join(str(int(axis)) for axis in np.unravel_index(n, statistics.count.shape)) for n in numbers]
    rows: list[tuple[Any, ...]] = [
        (place, int(flat["count"][n]), int(flat["missing"][n]), *(f"{flat[key][n]:.4g}" for key in SHOWN_STATISTICS))
        for place, n in zip(places, numbers, strict=True)
    ]
    columns: tuple[str, ...] = ("column", "values:", "missing:", *(f"{key}:" for key in SHOWN_STATISTICS))
    if statistics.count.ndim == 0:  # one value is no column
        columns, rows = columns[1:], [row[1:] for row in rows]
    left_out = statistics.count.size - len(numbers)
    more = [f"… and {count_of(left_out, 'more column')}"] if left_out else []
    return [Table(columns=columns, rows=tuple(rows), title=name), *more]


def _of_classes(name: str, classes: Distinct, names: Sequence[str]) -> list[Block]:
    total, order = classes.counts.sum(), np.argsort(-classes.counts, kind="stable")[:SHOWN_CLASSES]
    rows: list[tuple[Any, ...]] = []
    for number in sorted(order.tolist()):
        value, count = classes.values[number], int(classes.counts[number])
        named = names[int(value)] if names and 0 <= int(value) < len(names) else None
        rows.append((str(value), named, count, f"{count / total:.1%}"))
    columns: tuple[str, ...] = ("class", "name", "rows:", "share:")
    if not names:
        columns, rows = ("class", "rows:", "share:"), [(row[0], *row[2:]) for row in rows]
    left_out = len(classes.values) - len(order)
    more = [f"… and {left_out:,} more, each of fewer rows"] if left_out else []
    return [Table(columns=columns, rows=tuple(rows), title=name), *more]
