"""New files for a finished data set: which rows are added, as which shards; or a build of all rows anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loaders.format.manifest import Manifest
from pipelines.analyze.user_function import trace_configured
from pipelines.config.schema import DatasetConfig, parse_config
from pipelines.errors import ConfigError, NpyflowError, Problem, SourceError
from pipelines.maintain.reuse import Existing, check_against, open_existing
from pipelines.output.directory import last_generation
from pipelines.plan.plan import Plan, make_plan
from pipelines.plan.resolve import resolve_config, training_split_of
from pipelines.results import Block, Result, Table
from pipelines.sources.arrays import Arrays
from pipelines.sources.headers import HeaderReader, read_here
from pipelines.sources.provenance import changed_parts, source_settings
from pipelines.sources.table import scan

if TYPE_CHECKING:
    from pipelines.maintain.publish_append import FeatureDrift


@dataclasses.dataclass(frozen=True, kw_only=True)
class Appended(Result):
    """What an append has done.

    Attributes:
        before: The manifest as it was.
        manifest: The new manifest.
        drifts: How far each feature of the transform has drifted from the rows that the transform was learned from:
            the new training rows, and all of them together.
        counts: What was read and written, by name.
    """

    before: Manifest = dataclasses.field(repr=False)
    manifest: Manifest = dataclasses.field(repr=False)
    drifts: Mapping[str, FeatureDrift]
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def added(self) -> int:
        """How many rows were added."""
        now, then = (sum(map(manifest.rows, manifest.splits)) for manifest in (self.manifest, self.before))
        return now - then

    def to_json(self) -> dict[str, Any]:
        """How many rows were added, how far they have drifted, and what was counted."""
        drifts = {name: dataclasses.asdict(found) for name, found in self.drifts.items()}
        return {"rows": self.added, "drifts": drifts, "counts": dict(self.counts)}

    def blocks(self) -> list[Block]:
        """The rows that were added, and how far the rows have drifted from the transform."""
        rows = []
        for name, shards in self.manifest.splits.items():
            old = self.before.rows(name) if name in self.before.splits else 0
            rows.append((name, old, self.manifest.rows(name) - old, len(shards)))
        added = Table(columns=("split", "rows before:", "rows added:", "shards:"), rows=tuple(rows))
        if not self.drifts:
            return [added]
        drifts = [
            (name, which, drift.shift, drift.ratio, drift.missing)
            for name, found in self.drifts.items()
            for which, drift in (("added", found.added), ("all", found.total))
        ]
        large = ", ".join(name for name, found in self.drifts.items() if found.large)
        table = Table(
            columns=("feature", "rows", "mean, in deviations:", "deviation, ratio:", "missing, rate:"),
            rows=tuple(drifts),
            title="Drift of the training rows from those that the transform was learned from",
        )
        warning = f"\nWarning: the transform no longer fits {large}; append --refit learns a new one"
        return [added, table, *([warning] if large else [])]


def plan_append(
    source: str | Arrays,
    existing: Existing,
    *,
    on_error: str = "fail",
    max_bad_files: int = 100,
    trust: bool = False,
) -> Plan | None:
    """Plans an append of new files; None where there is nothing new. Errors are those of `append`."""
    manifest = existing.manifest
    config = {**manifest.config, "on_error": on_error, "max_bad_files": max_bad_files}
    table = check_against(existing, scan(source, parse_config(source_settings(config))))
    new, changed = changed_parts(existing.provenance, table)
    if changed:
        raise SourceError(changed)
    if not new:
        return None
    rows_before = sum(record.rows for record in existing.provenance.parts)
    later = dataclasses.replace(table, parts=new, rows_before=rows_before)
    if manifest.transform is not None:
        existing.check_transform(trust=trust)
    resolved = resolve_config(parse_config(manifest.config), later, learns=False, custom=existing.custom)
    if resolved.stored != manifest.features:
        raise NpyflowError(f"{existing.root}: expected the features of the data set; this version would store others")
    return dataclasses.replace(
        make_plan(later, dataclasses.replace(resolved, training=training_split_of(manifest))),
        generation=last_generation(manifest) + 1,
        adds_rows=True,
        chunks=manifest.chunk_records,
    )


def plan_refit(
    source: str | Arrays, root: str, *, on_error: str = "fail", max_bad_files: int = 100, trust: bool = False
) -> Plan:
    """Plans a build of all rows anew, with the configuration of a data set; errors are those of `refit`."""
    existing, bad = open_existing(root), {"on_error": on_error, "max_bad_files": max_bad_files}
    if (place := existing.manifest.config.get("preprocessing_fn")) is not None and not trust:
        expected = "a data set whose configuration names no program, or one that is trusted (--trust, or trust=True)"
        raise ConfigError(f"{root}: expected {expected}; found preprocessing_fn {place}")
    plan = plan_sources(source, parse_config({**existing.manifest.config, **bad}))
    there = {part.name for part in plan.table.parts}
    lost = [record.name for record in existing.provenance.parts if record.name not in there]
    if lost:
        raise SourceError(
            Problem(path=plan.table.root, expected=f"part {name!r}, which the data set has", found="none")
            for name in lost
        )
    return plan


def plan_sources(source: str | Arrays, config: DatasetConfig, *, read_headers: HeaderReader = read_here) -> Plan:
    """Checks sources, makes every choice that is open, and plans a build of all rows; errors are those of `build`."""
    table = scan(source, config, read_headers=read_headers)
    return make_plan(table, resolve_config(config, table, custom=trace_configured(config, table)))
