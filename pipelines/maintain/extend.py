"""What a data set has beside its shards once rows were added: manifest, sources, statistics of all training rows."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping

from loaders.format import names
from loaders.format.manifest import Manifest, Shard
from pipelines.maintain.append import Appended
from pipelines.maintain.growth import grow
from pipelines.maintain.profile import read_profile
from pipelines.maintain.reuse import Existing
from pipelines.output.commit import commit
from pipelines.output.directory import Output
from pipelines.output.tasks import read_shard_list
from pipelines.plan.plan import Plan
from pipelines.publish.gather import gather
from pipelines.publish.manifest import describe_file, describe_for_others
from pipelines.runners.versions import versions
from pipelines.sources.provenance import PartRecord
from pipelines.storage import files


def publish_append(plan: Plan, existing: Existing, output: Output) -> Appended:
    """Makes the new statistics where nobody looks, and commits them with the new shards; nothing is added twice."""
    tasks = read_shard_list(output)
    added = gather(plan, tasks)
    profile = read_profile(output.profile)
    training = {name: own for (split, name), own in profile.features.items() if split == plan.training_split}
    shards = _shards_of(existing, added, plan.training_split)
    described_rows, drifts = grow(plan, existing, training, rows=sum(shard.rows for shard in shards))
    records = (*existing.provenance.parts, *map(PartRecord.of, plan.table.parts))
    provenance = dataclasses.replace(existing.provenance, parts=records)
    staged = {names.SOURCES: provenance.dumps().encode(), **described_rows}
    for name, data in staged.items():
        files.write_bytes(files.join(output.staged, name), data)
    manifest = _new_manifest(plan, existing, added, staged, dropped=sum(task.dropped for task in tasks))
    manifest, described = describe_for_others(manifest, output)
    commit(output, manifest, staged={*staged, *described})
    return Appended(before=existing.manifest, manifest=manifest, drifts=drifts)


def _shards_of(existing: Existing, added: Mapping[str, tuple[Shard, ...]], split: str) -> tuple[Shard, ...]:
    return (*existing.manifest.splits.get(split, ()), *added.get(split, ()))


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
        described[name] = describe_file(name, data)
    root, parts = plan.table.root, plan.table.parts
    mended = {files.absolute(files.locate(root, source.path)) for part in parts for source in part.sources.values()}
    skipped = [problem for problem in before.skipped if files.absolute(problem["path"]) not in mended]
    skipped += [dataclasses.asdict(problem) for problem in plan.table.skipped]
    sources = f"{before.source_fingerprint} {plan.table.fingerprint(modified=False)}"
    return dataclasses.replace(
        before,
        splits={split: _shards_of(existing, added, split) for split in {**before.splits, **added}},
        files=tuple(described[name] for name in sorted(described)),
        source_fingerprint=hashlib.blake2b(sources.encode(), digest_size=16).hexdigest(),
        dropped=before.dropped + dropped,
        skipped=tuple({json.dumps(problem, sort_keys=True): problem for problem in skipped}.values()),
        versions=versions(),
    )
