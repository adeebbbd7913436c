"""Which build an output directory holds, so that the same command goes on with one that was interrupted."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from typing import Any, Literal

import msgspec

from loaders.format import names
from loaders.format.manifest import Manifest, ManifestError
from pipelines.errors import OutputError
from pipelines.output.directory import Output, read_manifest
from pipelines.plan.plan import Plan
from pipelines.runners.versions import versions
from pipelines.storage import directories, files

FORMAT = "npyflow-build"

OF_BEFORE = ("before", "splits")
"""What of a state depends on the data set that is there when a build begins."""

NEW_STATE = re.compile(r"\.state\.json\.[0-9a-f]{32}")
"""The name that `files.write_bytes` gives to a state before it has its own."""


class Description(msgspec.Struct, kw_only=True):
    """What an unfinished build will be: where its rows come from, and how many rows, tasks and shards there are."""

    sources: str | None = None
    rows: int | None = None
    tasks: int | None = None
    shards: int | None = None


Begin = Literal["fresh", "resume", "finished"]
State = dict[str, Any]


def state_of_build(plan: Plan, output: Output, *, transform_from: str | None) -> State:
    """What two builds must have in common for one to go on where the other stopped, and what clearing up needs."""
    custom = plan.config.custom
    return _state(
        plan,
        output,
        work="build",
        config=plan.config.dump(),
        preprocessing_fn=custom.digest if custom else None,
        transform_from=transform_from,
    )


def state_of_append(plan: Plan, output: Output) -> State:
    """The same for rows that are added to a data set."""
    return _state(plan, output, work="append")


def _state(plan: Plan, output: Output, **own: Any) -> State:
    before = read_manifest(output.root).splits if files.exists(output.manifest) else ()
    state = {
        "format": FORMAT,
        "before": manifest_digest(output),
        "sources": plan.table.fingerprint(modified=True),
        "versions": versions(),
        "plan": [plan.block_rows, plan.analysis_rows, *(group.tasks for group in plan.groups)],
        "splits": sorted({*plan.splits, *before}),
    }
    return dict(json.loads(json.dumps(state | own)))


def manifest_digest(output: Output) -> str | None:
    """A digest of the manifest that is there; None if there is none."""
    if not files.exists(output.manifest):
        return None
    return hashlib.blake2b(files.read_bytes(output.manifest), digest_size=16).hexdigest()


def is_committed(output: Output, state: State) -> bool:
    """Whether what a state says has become the data set, and only clearing up is left."""
    found = manifest_digest(output)
    return found is not None and found != state.get("before")


def read_state(output: Output) -> State | None:
    """The state of an unfinished build; None where there is none, or another program's file of that name.

    Raises an OutputError where it names other directories than those of splits, as what it names is cleared up, or
    counts something else than tasks.
    """
    try:
        state = json.loads(files.read_bytes(output.state)) if files.exists(output.state) else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        return None
    found = state.get("splits")
    if not isinstance(found, list) or not all(map(names.is_split_name, found)):
        raise OutputError(
            f"{output.state}: expected names of splits; found {found!r}. Nothing was changed; name another directory"
        )
    counts = state.get("plan", [])  # a pipeline of one's own has none
    if not isinstance(counts, list) or not all(type(count) is int for count in counts):
        raise OutputError(
            f"{output.state}: expected numbers of tasks; found {counts!r}. Nothing was changed; name another directory"
        )
    return state


def write_state(output: Output, state: State) -> None:
    """Says which build is at work: by this the directory is known as npyflow's own before it has a manifest."""
    files.write_bytes(output.state, json.dumps(state).encode(), synced=output.synced)
    if output.synced:
        files.sync(output.root)


def write_description(output: Output, plan: Plan) -> None:
    """Says beside the plan what is built."""
    shards = sum(group.tasks * len(group.splits) for group in plan.groups)
    about = Description(sources=plan.table.root, rows=plan.table.rows, tasks=plan.task_count, shards=shards)
    files.write_bytes(output.description, msgspec.json.encode(about))


def read_description(output: Output) -> Description:
    """What `write_description` wrote; nothing where it is not there yet, or no longer, or cannot be read."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        return msgspec.json.decode(files.read_bytes(output.description), type=Description)
    return Description()


def check(output: Output, plan: Plan, *, overwrite: bool, transform_from: str | None = None) -> Begin:
    """How a build into the directory, which need not exist, would begin. Nothing is changed.

    It would `resume` where an interrupted run of the same build is there, be `finished` where only its clearing up is
    left, and begin `fresh` otherwise.

    Raises:
        OutputError: If the directory holds something that may not be removed; `overwrite` allows a data set and an
            unfinished build.
    """
    if files.absolute(output.root) == plan.table.root:
        raise OutputError(f"{output.root}: expected another directory than that of the sources")
    manifest, state = _found_manifest(output), read_state(output)
    if manifest is None and state is None and not _is_free(output):
        raise OutputError(
            f"{output.root}: expected an empty directory or an output of npyflow; found other files. "
            "Nothing was changed; name another directory"
        )
    own = state_of_build(plan, output, transform_from=transform_from)
    if state is not None and is_committed(output, state) and state | {key: own[key] for key in OF_BEFORE} == own:
        return "finished"
    if state is not None and _of_shards(state) == _of_shards(own) and (manifest is None or overwrite):
        return "resume"
    if overwrite or (manifest is None and state is None):
        return "fresh"
    if manifest is not None:
        raise OutputError(f"{output.root}: holds a finished data set; --overwrite replaces it")
    raise OutputError(
        f"{output.root}: holds an unfinished build of other sources, another configuration or other versions; "
        "--overwrite starts again"
    )


def _of_shards(state: State) -> State:
    """What of a state shards and transform depend on: not the names of classes, which come with the manifest."""
    config = state.get("config")
    if not isinstance(config, dict) or not isinstance(config.get("features"), dict):
        return state
    features = {name: {**said, "class_names": None} for name, said in config["features"].items()}
    return {**state, "config": {**config, "features": features}}


def _is_free(output: Output) -> bool:
    try:
        return directories.list_names(output.root) <= {names.LOCK, names.BUILD} and is_unused(output.build)
    except NotADirectoryError as error:
        raise OutputError(f"{output.root}: expected a directory; found a file") from error


def is_unused(build: str) -> bool:
    """Whether nothing lies in `_build`, or only a state that a run was about to put there when it was killed."""
    return all(map(NEW_STATE.fullmatch, directories.list_names(build)))


def _found_manifest(output: Output) -> Manifest | None:
    if not files.exists(output.manifest):
        return None
    try:
        return read_manifest(output.root)
    except ManifestError as error:
        raise OutputError(f"{error}. Nothing was changed; name another directory") from error
