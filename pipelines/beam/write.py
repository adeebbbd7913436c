"""`WriteDataset`: a data set of the rows of any pipeline, which one shuffle brings to their shards."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import pickle
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np

from pipelines.analyze import fit, rounds
from pipelines.analyze.accumulate import accumulate
from pipelines.analyze.rounds import Accumulated
from pipelines.beam.learned_transform import Learned
from pipelines.beam.read import ReadNpy
from pipelines.beam.row_placement import by_key, by_source
from pipelines.beam.rows import Batch, ToBatches, features_of, joined, source_feature
from pipelines.config.feature import Feature
from pipelines.config.schema import DatasetConfig, parse_config
from pipelines.config.split_rules import BlockSplits, StratifiedSplits
from pipelines.errors import ConfigError, DataError, OutputError
from pipelines.output.commit import finish, name_anew, prepare
from pipelines.output.directory import Output
from pipelines.output.state import is_committed, read_state, write_description
from pipelines.output.tasks import Written, write_shard_list
from pipelines.plan.plan import Plan, make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.publish.manifest import publish
from pipelines.reading.batches import Columns, Ragged, take, values_of
from pipelines.runners.handoff import Handoff, hand_over
from pipelines.runners.process_setup import quick_imports
from pipelines.sources.parts import Part
from pipelines.sources.table import SourceTable
from pipelines.storage import files
from pipelines.storage.file_systems import StorageOptions, configure
from pipelines.storage.files import Path
from pipelines.write.shards import find_finished, write_rows
from pipelines.write.transform import apply_transform

DIGESTED_ROWS = 4096
PART = "rows"


class WriteDataset(beam.PTransform):  # type: ignore[misc]
    """Writes the rows of a pipeline as a data set: shards, manifest, schema and statistics, as of `pipelines.build`.

    Expects a PCollection of rows with keys, in one of these forms: batches, each a `dict` of arrays `[rows, *shape]`
    (or `pipelines.Ragged`) of which one column is the key; pairs of a key and a `dict` of one row's values; or
    `beam.Row` of which one field is the key. Outputs a PCollection of one element, the path of the manifest, there when
    the data set is complete.

    A key is an integer, text or bytes, or several in a row of an array, and each row has one of its own. By hashes of
    the seed and its key a row comes to its split, to its shard, and to its place there. So the same rows with the same
    keys give the same bytes, whatever the runner, the number of workers, and the batches in which they come. To bring
    rows to their shards is one shuffle; a worker holds the rows of one shard of each split at a time, about three
    times.

    Until the manifest is there, the directory is no data set. A shard that was finished is found by a digest of
    its rows, when a runner repeats the work or the same pipeline runs again, and is not written again.
    """

    def __init__(
        self,
        output: Path,
        features: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        splits: Any = None,
        training: str | None = None,
        seed: int | None = None,
        shard_bytes: int | str | None = None,
        rows_per_record: int | None = None,
        source: ReadNpy | None = None,
        transform: beam.PCollection[Any] | None = None,
        overwrite: bool = False,
        storage_options: StorageOptions | None = None,
    ) -> None:
        """Checks what is said.

        Args:
            output: The directory for the data set, here or in an object store.
            features: The features by name, each a `loaders.FeatureSpec` or a mapping of its fields, such as
                `{"dtype": "float32", "shape": [28, 28]}`. Other columns are left out.
            key: The name of the column, or field, of keys; `key` unless said. Of pairs it is the first.
            splits: As in a configuration: fractions by name, or `group`, `column` or `time`.
            training: The split whose rows the statistics are of, where its name does not say so.
            seed: The seed of splits and orders, 0 unless said.
            shard_bytes: About how many bytes a shard of the largest split has, 128 MiB unless said.
            rows_per_record: How many rows a record has; chosen by their size unless said.
            source: Takes the place of all of these: the `ReadNpy(…, key=…)` that gave the keys. The data set is that
                which `pipelines.build` makes of the same files and configuration, byte for byte, as far as rows were
                not left out.
            transform: What `Analyze` has learned from the rows of `source`, which `Transform` has been applied to.
            overwrite: Whether a data set or an unfinished one in the output is replaced.
            storage_options: How object stores are reached, as a configuration says it.

        Raises:
            ConfigError: If something is not allowed.
        """
        super().__init__()
        configure(storage_options or {})
        self._output = Output(files.absolute(os.fspath(output)))
        self._overwrite = overwrite
        self._learned = transform
        said = {
            "splits": splits,
            "training": training,
            "seed": seed,
            "shard_bytes": shard_bytes,
            "rows_per_record": rows_per_record,
        }
        said = {name: value for name, value in said.items() if value is not None}
        if source is None:
            self._rows = Rows.declared(features or {}, key or "key", said)
        else:
            self._rows = Rows.of_source(
                source, {"features": features, "key": key, **said}, transformed=transform is not None
            )
        if transform is None and self._rows.has_transform:
            raise ConfigError(
                "transform: expected what Analyze has learned, as the configuration has steps; found none"
            )
        if transform is not None and source is None:
            raise ConfigError("transform: expected a source, from whose rows it was learned; found none")

    def expand(self, rows: beam.PCollection[Any]) -> beam.PCollection[str]:
        """Wires the writing.

        Raises:
            OutputError: If the output holds something that may not be replaced.
        """
        if files.exists(self._output.manifest) and not self._overwrite:
            raise OutputError(f"{self._output.root}: holds a finished data set; overwrite=True replaces it")
        own, pipeline = self._rows, rows.pipeline
        batches = rows | "ToBatches" >> beam.ParDo(ToBatches(own.features, own.key)).with_output_types(Batch)
        if own.plan is not None:
            plan = pipeline | "Plan" >> beam.Create([own.plan], reshuffle=False)
        else:
            sizes = batches | "Measure" >> beam.Map(measure, own) | "AddUp" >> beam.CombineGlobally(_add)
            plan = sizes | "Plan" >> beam.Map(plan_rows, own)
        ready = plan | "Prepare" >> beam.Map(_prepare, self._output, overwrite=self._overwrite)
        here = beam.pvalue.AsSingleton(ready)
        placed = batches | "Place" >> beam.FlatMap(place, own.by_source, own.key, here).with_output_types(
            tuple[int, bytes]
        )
        tasks = ready | "ListTasks" >> beam.FlatMap(_list_tasks).with_output_types(tuple[int, bytes])
        written = (
            (placed, tasks)
            | "WithTasks" >> beam.Flatten()
            | "ToShards" >> beam.GroupByKey()
            | "WriteShards" >> beam.Map(write_shards, self._output, here, transformed=self._learned is not None)
        )
        learned = () if self._learned is None else (beam.pvalue.AsSingleton(self._learned),)
        gathered = written | "Gather" >> beam.combiners.ToList()
        return gathered | "Publish" >> beam.Map(_publish, self._output, here, *learned).with_output_types(str)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """What a pipeline's rows are, before it runs."""

    features: tuple[Feature, ...]  # the columns that rows come with
    key: str  # the column of keys
    config: DatasetConfig | None = None  # what was said, where the rows are none of a source's
    plan: Plan | None = None  # where they are

    @property
    def by_source(self) -> bool:
        """Whether keys are the numbers of rows of sources."""
        return self.plan is not None

    @property
    def has_transform(self) -> bool:
        """Whether rows have to be transformed."""
        return self.plan is not None and self.plan.config.has_transform

    @classmethod
    def of_source(cls, source: ReadNpy, said: Mapping[str, Any], *, transformed: bool) -> Rows:
        """Rows that were read by a `ReadNpy`."""
        for name, value in said.items():
            if value is not None:
                raise ConfigError(f"{name}: expected nothing beside a source, which says it; found {value!r}")
        if source.key is None:
            raise ConfigError("source: expected ReadNpy(…, key=NAME), by which rows are known again; found no key")
        plan = source.plan
        features = plan.table.features
        if transformed:
            features = tuple(map(source_feature, plan.specs))
        return cls(features=features, key=source.key, plan=plan)

    @classmethod
    def declared(cls, features: Mapping[str, Any], key: str, said: Mapping[str, Any]) -> Rows:
        """Rows of features that the user declares."""
        specs = features_of(features)
        if key in features:
            raise ConfigError(f"key: expected a name that no feature has; found {key!r}")
        steps = {"impute": "none", "normalize": "none"}
        of_features = {
            spec.name: steps
            | ({"role": spec.role} if spec.role != "input" or _says_role(features[spec.name]) else {})
            | ({"class_names": spec.class_names} if spec.class_names else {})
            | ({"ragged": True} if spec.ragged else {})
            for spec in specs
        }
        config = parse_config({**said, "features": of_features})
        if config.splits == "directory" or isinstance(config.splits, StratifiedSplits | BlockSplits):
            raise ConfigError(f"splits: expected fractions, group, column or time; found {said['splits']!r}")
        rows = cls(features=tuple(map(source_feature, specs)), key=key, config=config)
        plan_rows([1, *(1 for _ in rows.features)], rows)  # what does not fit is said before anything runs
        return rows


def _says_role(said: Any) -> bool:
    return not isinstance(said, Mapping) or "role" in said


def measure(batch: Columns, rows: Rows) -> list[int]:
    """How many rows a batch has, and how many bytes of each feature."""
    return [len(batch[rows.key]), *(int(values_of(batch[feature.name]).nbytes) for feature in rows.features)]


def _add(sizes: Iterable[list[int]]) -> list[int]:
    return list(map(sum, zip(*sizes, strict=True)))


def plan_rows(sizes: list[int], rows: Rows) -> Plan:
    """The plan of so many rows, as of one part that no file holds.

    Raises:
        DataError: If there are none.
        ConfigError: If what was said does not fit.
    """
    assert rows.config is not None
    if not sizes:
        raise DataError("rows: expected at least one; found none")
    count, *sizes = sizes
    varies = [feature.ragged or feature.dtype.kind == "S" for feature in rows.features]
    features = tuple(
        dataclasses.replace(feature, average_bytes=size / count if vary else None)
        for feature, size, vary in zip(rows.features, sizes, varies, strict=True)
    )
    part = Part(name=PART, rows=count, sources={}, split=None)
    table = SourceTable(root="", features=features, parts=(part,))
    return make_plan(table, resolve_config(rows.config, table))


def _prepare(plan: Plan, output: Output, *, overwrite: bool) -> Handoff[Plan]:
    """Makes the directory ready; an unfinished data set of the same plan that is there goes on."""
    if prepare(output, plan, overwrite=overwrite) == "finished":
        prepare(output, plan, overwrite=True)
    plan = name_anew(plan, output)
    write_description(output, plan)
    return hand_over(plan, output.plan)


def _list_tasks(ready: Handoff[Plan]) -> Iterator[tuple[int, bytes]]:
    """Every task, so that also those that no row comes to write their shards."""
    for number in range(ready.load().task_count):
        yield number, b""


def place(batch: Columns, is_source: bool, key: str, ready: Handoff[Plan]) -> Iterator[tuple[int, bytes]]:
    """The rows of a batch by the tasks that write them."""
    plan = ready.load()
    columns = dict(batch)
    keys = columns.pop(key)
    places = by_source(plan, keys) if is_source else by_key(plan, keys, columns)
    in_order = np.argsort(places.task, kind="stable")
    numbers, starts = np.unique(places.task[in_order], return_index=True)
    for number, rows in zip(numbers.tolist(), np.split(in_order, starts[1:]), strict=True):
        found = (take(columns, rows), places.split[rows], places.order[rows], places.tie[rows])
        yield number, pickle.dumps(found, protocol=5)


def write_shards(
    element: tuple[int, Iterable[bytes]], output: Output, ready: Handoff[Plan], *, transformed: bool
) -> tuple[Written, Accumulated | None]:
    """Writes the shards of a task; with what its training rows add to the statistics, unless those are known.

    Raises:
        DataError: If two rows have one key, or a value cannot be stored.
    """
    number, encoded = element
    plan = ready.load()
    pieces = [pickle.loads(piece) for piece in encoded if piece]
    task = plan.task(number)
    if not pieces:
        return write_rows(task, plan, output, {}, np.zeros(0, np.int64), np.zeros(0, np.intp), stored=_same), None
    columns = joined([piece[0] for piece in pieces])
    split, order, tie = (np.concatenate([piece[place] for piece in pieces]) for place in (1, 2, 3))
    pieces.clear()
    rows = np.lexsort((tie, order))
    in_order, ties = order[rows], tie[rows]
    if ((in_order[1:] == in_order[:-1]) & (ties[1:] == ties[:-1])).any():
        raise DataError("rows: expected a key of its own for each; found several rows of one key")
    stored = _same if transformed else functools.partial(apply_transform, None, plan.config)
    digest = _digest(columns, rows, split)
    written = find_finished(task, plan, output, digest=digest)
    if written is None:
        written = write_rows(task, plan, output, columns, rows, split[rows], stored=stored, digest=digest)
    features, added = rounds.analyzed_features(plan), None
    group = plan.groups[task.group].splits
    if not transformed and plan.training_split in group and (needs := rounds.schedule(features.values())):
        training = split == group.index(plan.training_split)
        known, own = fit.begin(features.values()), take(columns, training)
        added = accumulate(needs[0], features, known, own, order[training], of=plan.table.rows_in_all)
    return written, added


def _same(columns: Columns) -> Columns:
    return columns


def _digest(columns: Columns, rows: Any, split: Any) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for start in range(0, len(rows), DIGESTED_ROWS):
        some = rows[start : start + DIGESTED_ROWS]
        digest.update(split[some].astype(np.int64).tobytes())
        for name, column in sorted(take(columns, some).items()):
            digest.update(f"{name} {values_of(column).dtype}".encode())
            if isinstance(column, Ragged):
                digest.update(column.lengths.tobytes())
            digest.update(np.ascontiguousarray(values_of(column)).data)
    return digest.hexdigest()


def _publish(
    found: list[tuple[Written, Accumulated | None]],
    output: Output,
    ready: Handoff[Plan],
    learned: Learned | None = None,
) -> str:
    """Makes a data set of the shards; the manifest is written last."""
    state = read_state(output)
    if state is None or is_committed(output, state):  # the runner repeats this step, whose answer was lost
        finish(output)
        return output.manifest
    plan = ready.load()
    written = [dataclasses.replace(task, dropped=0) for task, _ in found]
    dropped = plan.table.rows - sum(task.rows for task in written)
    write_shard_list([*written, Written(shards={}, dropped=dropped)], output)
    if learned is not None:
        learned.put(output)
    else:
        _describe([added for _, added in found if added is not None], plan, output)
    publish(plan, output)
    finish(output)
    return output.manifest


def _describe(added: list[Accumulated], plan: Plan, output: Output) -> None:
    with quick_imports():
        from pipelines.analyze.beam import write_fitted

    features = rounds.analyzed_features(plan)
    known = fit.begin(features.values())
    if rounds.schedule(features.values()):
        if not added:
            raise DataError(f"rows: expected some of the split {plan.training_split}; found none")
        known = fit.update(features, known, functools.reduce(functools.partial(rounds.merge, features), added))
    write_fitted(known, plan, output.staged)
