"""New files added to a finished data set: further shards, merged statistics, and how far the rows have drifted."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from loaders.format.manifest import File, Manifest, Shard
from pipelines.analyze.custom import trace_configured
from pipelines.config.schema import parse_config
from pipelines.errors import NpyflowError, Problem, SourceError
from pipelines.maintain.reuse import Existing, check_against, open_existing
from pipelines.output.directory import SOURCES, STATE_FORMAT, Output, OutputError, read_state
from pipelines.output.lock import held
from pipelines.plan.plan import Plan, make_plan
from pipelines.plan.resolve import is_training, resolve_config
from pipelines.runners.versions import versions
from pipelines.sources.provenance import PartRecord, Provenance, changed_parts, source_settings
from pipelines.sources.table import SourceTable, scan
from pipelines.storage import files

if TYPE_CHECKING:
    from pipelines.maintain.growth import FeatureDrift

PROFILE = "profile.npz"
"""What the new training rows add to the statistics, while it is not yet published."""

_GENERATION = re.compile(r"-g(\d{3,})-\d{5,}-of-\d{5,}\.tfrecord")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaterParts(SourceTable):
    """Parts that come after others.

    Attributes:
        rows_before: How many rows came before.
    """

    rows_before: int = 0

    @functools.cached_property
    def first_rows(self) -> npt.NDArray[np.int64]:
        """As of any table, counted on from the rows before."""
        return np.concatenate([[0], np.cumsum(self.part_rows)]) + self.rows_before


@dataclasses.dataclass(frozen=True)
class Addition(Plan):
    """The plan for the rows that are added; as for a build, but for what the data set has decided already.

    Attributes:
        generation: How many times rows have been added, with this time.
        trained: The split whose rows are the training rows.
        chunks: The data set's `chunk_records`.
    """

    generation: int
    trained: str
    chunks: int | None

    @property
    def training_split(self) -> str:
        """The data set's."""
        return self.trained

    @property
    def chunk_records(self) -> int:
        """The data set's, where it has any."""
        return super().chunk_records if self.chunks is None else self.chunks

    def shard_file(self, split: str, index: int) -> str:
        """The path of a shard, which names the generation too."""
        count = self.shard_count(split)
        return f"{split}/{split}-g{self.generation:03d}-{index:05d}-of-{count:05d}.tfrecord"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Appended:
    """What an append has done.

    Attributes:
        manifest: The new manifest.
        drifts: How far each feature of the transform has drifted from the rows that the transform was learned from:
            the new training rows, and all of them together.
    """

    manifest: Manifest
    drifts: Mapping[str, FeatureDrift]


def finish_append(root: str) -> None:
    """Ends an append that was interrupted while it was published, or right after, if there is one."""
    output = Output(files.absolute(root))
    if not _interrupted(output) or not files.exists(output.manifest):
        return
    with held(output):
        state = read_state(output)
        if state is None:
            return
        if state["append_to"] != _digest(output):
            _clear(output)
        elif files.exists(output.path("_build", "publish", "manifest.json")):
            _commit(output)


def clear_append(root: str) -> None:
    """Removes what an append that failed or was interrupted has left, if there is anything; no row was added."""
    output = Output(files.absolute(root))
    if _interrupted(output):
        with held(output):
            _clear(output)


def _interrupted(output: Output) -> bool:
    """Whether there is an append that was not finished; it may go on as well."""
    return "append_to" in (read_state(output) or {})


def _clear(output: Output) -> None:
    state = read_state(output)
    if state is not None:
        _remove_unlisted(output, state["splits"])
        files.remove_tree(output.build)


def plan_append(
    source: str, existing: Existing, *, on_error: str = "fail", max_bad_files: int = 100
) -> Addition | None:
    """Plans an append.

    Args:
        source: A directory that has new files; it may have those of the data set too.
        existing: The data set.
        on_error: Whether a file that cannot be used is an error, or is skipped.
        max_bad_files: How many may be skipped.

    Returns:
        The plan, or None if there is nothing new.

    Raises:
        SourceError: Listing everything that is wrong with the sources, how their features differ, and parts that have
            changed since they were read.
    """
    manifest = existing.manifest
    config = {**manifest.config, "on_error": on_error, "max_bad_files": max_bad_files}
    table = check_against(existing, scan(source, parse_config(source_settings(config))))
    new, changed = changed_parts(existing.provenance, table)
    if changed:
        raise SourceError(changed)
    if not new:
        return None
    later = LaterParts(
        root=table.root,
        features=table.features,
        parts=new,
        directories=table.directories,
        skipped=table.skipped,
        rows_before=sum(record.rows for record in existing.provenance.parts),
    )
    resolved = resolve_config(parse_config(manifest.config), later, learns=False, custom=existing.custom)
    if resolved.stored != manifest.features:
        raise NpyflowError(f"{existing.root}: expected the features of the data set; this version would store others")
    plan = make_plan(later, resolved)
    return Addition(
        **{field.name: getattr(plan, field.name) for field in dataclasses.fields(plan)},
        generation=_last_generation(manifest) + 1,
        trained=next((split for split in manifest.splits if is_training(split)), next(iter(manifest.splits))),
        chunks=manifest.chunk_records,
    )


def _last_generation(manifest: Manifest) -> int:
    shards = [(split, shard.file) for split, shards in manifest.splits.items() for shard in shards]
    found = (_GENERATION.fullmatch(file.removeprefix(f"{split}/{split}")) for split, file in shards)
    return max((int(match[1]) for match in found if match), default=0)


def _digest(output: Output) -> str:
    return hashlib.blake2b(files.read_bytes(output.manifest), digest_size=16).hexdigest()


def begin_append(plan: Addition, output: Output) -> bool:
    """Makes ready for an append: removes what one that was interrupted has left, unless this is the same.

    Returns:
        Whether the new rows have been profiled already.
    """
    state = {
        "format": STATE_FORMAT,
        "append_to": _digest(output),
        "sources": plan.table.fingerprint(modified=True),
        "versions": versions(),
        "plan": [plan.block_rows, plan.analysis_rows, *(group.tasks for group in plan.groups)],
        "splits": list(plan.splits),
    }
    found = read_state(output)
    if found == state:
        files.remove_tree(output.path("_build", "tmp"))
        return files.exists(files.join(output.statistics, PROFILE))
    if found is not None:
        _remove_unlisted(output, found["splits"])
    elif not files.is_empty(output.build):
        raise OutputError(f"{output.build}: expected nothing, or what an interrupted run left; found other files")
    files.remove_tree(output.build)
    files.write_text(output.state, json.dumps(state))
    return False


def _remove_unlisted(output: Output, splits: Sequence[str]) -> None:
    """Removes the shards of an append that was not finished."""
    manifest = Manifest.loads(files.read_bytes(output.manifest), path=output.manifest)
    listed = {shard.file for shards in manifest.splits.values() for shard in shards}
    for split in splits:
        try:
            found = [file.path for file in files.list_files(output.path(split))]
        except OSError:
            continue
        for name in found:
            if _GENERATION.fullmatch(name.removeprefix(split)) and f"{split}/{name}" not in listed:
                files.remove(output.path(split, name))


def publish_append(plan: Addition, existing: Existing, output: Output) -> Appended:
    """Writes the new statistics and the new manifest where nobody looks, and puts them into their places.

    What is half in its place is put there again by `finish_append`; nothing is added to what has been added already.
    """
    from pipelines.maintain.growth import grow
    from pipelines.maintain.profile import load_profile
    from pipelines.publish.manifest import gather
    from pipelines.write.shards import Written

    tasks = [Written.from_json(task) for task in json.loads(files.read_text(output.shard_list))]
    added = gather(plan, tasks)
    profile = load_profile(files.read_bytes(files.join(output.statistics, PROFILE)))
    training = {name: own for (split, name), own in profile.features.items() if split == plan.training_split}
    shards = (*_shards(existing, plan.training_split), *added.get(plan.training_split, ()))
    growth = grow(plan, existing, training, rows=sum(shard.rows for shard in shards))
    staged = {SOURCES: _provenance(plan, existing).dumps().encode(), **growth.files}
    for name, data in staged.items():
        files.write_bytes(output.path("_build", "publish", name), data)
    manifest = _new_manifest(plan, existing, added, staged, dropped=sum(task.dropped for task in tasks))
    files.write_text(output.path("_build", "publish", "manifest.json"), manifest.dumps())
    _commit(output)
    return Appended(manifest=manifest, drifts=growth.drifts)


def _shards(existing: Existing, split: str) -> tuple[Shard, ...]:
    return existing.manifest.splits.get(split, ())


def _provenance(plan: Plan, existing: Existing) -> Provenance:
    records = (*existing.provenance.parts, *map(PartRecord.of, plan.table.parts))
    return dataclasses.replace(existing.provenance, parts=records)


def _commit(output: Output) -> None:
    """Puts what is staged into its place, the manifest last; what is in its place already is put there again."""
    directory = output.path("_build", "publish")
    names = [file.path for file in files.list_files(directory) if file.path != "manifest.json"]
    for name in (*names, "manifest.json"):
        files.write_bytes(output.path(name), files.read_bytes(files.join(directory, name)))
    files.remove_tree(output.build)


def _new_manifest(
    plan: Plan,
    existing: Existing,
    added: Mapping[str, tuple[Shard, ...]],
    staged: Mapping[str, bytes],
    *,
    dropped: int,
) -> Manifest:
    before = existing.manifest
    described = {file.file: file for file in before.files}
    for name, data in staged.items():
        described[name] = File(file=name, bytes=len(data), crc32c=f"{google_crc32c.value(data):08x}")
    root, parts = plan.table.root, plan.table.parts
    mended = {files.absolute(files.locate(root, each.path)) for part in parts for each in part.sources.values()}
    skipped = [problem for problem in before.skipped if files.absolute(problem["path"]) not in mended]
    skipped += [dataclasses.asdict(problem) for problem in plan.table.skipped]
    sources = f"{before.source_fingerprint} {plan.table.fingerprint(modified=False)}"
    return dataclasses.replace(
        before,
        splits={split: (*_shards(existing, split), *added.get(split, ())) for split in {**before.splits, **added}},
        files=tuple(described[name] for name in sorted(described)),
        source_fingerprint=hashlib.blake2b(sources.encode(), digest_size=16).hexdigest(),
        dropped=before.dropped + dropped,
        skipped=tuple({json.dumps(problem, sort_keys=True): problem for problem in skipped}.values()),
        versions=versions(),
    )


def plan_refit(source: str, root: str, *, on_error: str = "fail", max_bad_files: int = 100) -> Plan:
    """Plans a build of all rows anew, with a data set's configuration.

    Args:
        source: The directory that holds all parts of the data set, and may hold more.
        root: The data set, or what an interrupted run of the same has left of it.
        on_error: As in `plan_append`.
        max_bad_files: As in `plan_append`.

    Raises:
        SourceError: Listing everything that is wrong with the sources, and the parts that are not there.
        ConfigError: If there is neither a data set nor what is left of one.
    """
    output = Output(files.absolute(root))
    state, bad = read_state(output), {"on_error": on_error, "max_bad_files": max_bad_files}
    if not files.exists(output.manifest) and state is not None and "config" in state:
        return _plan_all(source, state["config"] | bad)[1]
    existing = open_existing(root)
    table, plan = _plan_all(source, {**existing.manifest.config, **bad})
    there = {part.name for part in table.parts}
    lost = [record.name for record in existing.provenance.parts if record.name not in there]
    if lost:
        raise SourceError(
            Problem(path=table.root, expected=f"part {name!r}, which the data set has", found="none") for name in lost
        )
    return plan


def _plan_all(source: str, config: Mapping[str, Any]) -> tuple[SourceTable, Plan]:
    parsed = parse_config(config)
    table = scan(source, parsed)
    return table, make_plan(table, resolve_config(parsed, table, custom=trace_configured(parsed, table)))
