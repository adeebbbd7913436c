"""Which build an output directory holds, so that the same command goes on with one that was interrupted."""

from __future__ import annotations

import json
from typing import Any, Literal

from loaders.format import names
from loaders.format.manifest import Manifest, ManifestError
from pipelines.output.directory import SHARD_NAME, Output, OutputError, read_manifest, remove_shards
from pipelines.plan.plan import Plan
from pipelines.runners.versions import versions
from pipelines.storage import files

FORMAT = "npyflow-build"

Begin = Literal["fresh", "resume", "finished"]
State = dict[str, Any]


def state_of_build(plan: Plan, *, transform_from: str | None) -> State:
    """What two builds must have in common for one to go on where the other stopped, and what clearing up needs."""
    custom = plan.config.custom
    return _state(
        plan,
        config=plan.config.dump(),
        preprocessing_fn=custom.digest if custom else None,
        transform_from=transform_from,
    )


def state_of_append(plan: Plan, *, manifest: str) -> State:
    """The same for rows that are added to a data set, given the digest of its manifest."""
    return _state(plan, append_to=manifest)


def _state(plan: Plan, **own: Any) -> State:
    state = {
        "format": FORMAT,
        "sources": plan.table.fingerprint(modified=True),
        "versions": versions(),
        "plan": [plan.block_rows, plan.analysis_rows, *(group.tasks for group in plan.groups)],
        "splits": list(plan.splits),
    }
    return dict(json.loads(json.dumps(state | own)))


def read_state(output: Output) -> State | None:
    """The state of an unfinished build; None where there is none, or another program's file of that name.

    Raises:
        OutputError: If it names other directories than those of splits: what it names is cleared up.
    """
    try:
        state = json.loads(files.read_text(output.state)) if files.exists(output.state) else None
    except ValueError:
        return None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        return None
    found = state.get("splits")
    if not isinstance(found, list) or not all(map(names.is_split_name, found)):
        raise OutputError(
            f"{output.state}: expected names of splits; found {found!r}. Nothing was changed; name another directory"
        )
    return state


def write_state(output: Output, state: State) -> None:
    """Says which build is at work."""
    files.write_text(output.state, json.dumps(state))


def write_description(output: Output, plan: Plan) -> None:
    """Says beside the plan what is built."""
    shards = sum(group.tasks * len(group.splits) for group in plan.groups)
    about = {"sources": plan.table.root, "rows": plan.table.rows, "tasks": plan.task_count, "shards": shards}
    files.write_text(output.description, json.dumps(about))


def check(output: Output, plan: Plan, *, overwrite: bool, transform_from: str | None = None) -> Begin:
    """How a build into the directory, which need not exist, would begin. Nothing is changed.

    Args:
        output: The directory.
        plan: What is to be built.
        overwrite: Whether a data set or an unfinished build that is there may be removed.
        transform_from: The fingerprint of the transform that is used, where none is learned.

    Returns:
        `resume` where an interrupted run of the same build is there, `finished` where only its clearing up is left,
        and `fresh` otherwise.

    Raises:
        OutputError: If the directory holds something that may not be removed.
    """
    if files.absolute(output.root) == plan.table.root:
        raise OutputError(f"{output.root}: expected another directory than that of the sources")
    manifest, state = _found_manifest(output), read_state(output)
    if manifest is None and state is None and not _is_free(output.root):
        raise OutputError(
            f"{output.root}: expected an empty directory or an output of npyflow; found other files. "
            "Nothing was changed; name another directory"
        )
    now = state_of_build(plan, transform_from=transform_from)
    same = state == now
    # also when overwriting: this is what an interrupted --overwrite has left
    if manifest is None and state is not None and _of_shards(state) == _of_shards(now):
        return "resume"
    if overwrite or (manifest is None and state is None):
        return "fresh"
    if manifest is not None and not same:
        raise OutputError(f"{output.root}: holds a finished data set; --overwrite replaces it")
    if not same:
        raise OutputError(
            f"{output.root}: holds an unfinished build of other sources, another configuration or other versions; "
            "--overwrite starts again"
        )
    return "finished"


def _of_shards(state: State) -> State:
    """What of a state shards and transform depend on: not the names of classes, which come with the manifest."""
    config = state.get("config")
    if not isinstance(config, dict) or not isinstance(config.get("features"), dict):
        return state
    features = {name: {**said, "class_names": None} for name, said in config["features"].items()}
    return {**state, "config": {**config, "features": features}}


def _is_free(root: str) -> bool:
    try:
        return files.is_empty(root, but=names.LOCK)
    except NotADirectoryError as error:
        raise OutputError(f"{root}: expected a directory; found a file") from error


def _found_manifest(output: Output) -> Manifest | None:
    if not files.exists(output.manifest):
        return None
    try:
        return read_manifest(output.root)
    except ManifestError as error:
        raise OutputError(f"{error}. Nothing was changed; name another directory") from error


def prepare(output: Output, plan: Plan, *, overwrite: bool, transform_from: str | None = None) -> Begin:
    """Makes the directory ready for a build; arguments, result and errors are those of `check`."""
    begin = check(output, plan, overwrite=overwrite, transform_from=transform_from)
    if begin == "finished":
        files.remove_tree(output.build)
    elif begin == "resume":
        files.remove_tree(output.unfinished)
        write_state(output, state_of_build(plan, transform_from=transform_from))
    else:
        _clear(output, plan)
        write_state(output, state_of_build(plan, transform_from=transform_from))
    return begin


def _clear(output: Output, plan: Plan) -> None:
    """Removes a data set or an unfinished build: the manifest first, so that at no time half of one looks whole.

    The state is there from before the manifest goes, so that clearing up that is interrupted can be begun again; so is
    the configuration of what is built, which a data set that is built anew from itself has nowhere else.
    """
    manifest, state = _found_manifest(output), read_state(output)
    if manifest is None and state is None:
        return
    splits = sorted({*(manifest.splits if manifest else ()), *(state["splits"] if state else ())})
    write_state(output, {"format": FORMAT, "splits": splits, "config": plan.config.dump()})
    for name in (names.MANIFEST, *names.OPTIONAL, *names.ALWAYS, names.REPORT):
        files.remove(output.path(name))
    for split in splits:
        remove_shards(output, split, SHARD_NAME.fullmatch)
    for path in (output.transform, output.tasks, output.unfinished, output.statistics):
        files.remove_tree(path)
    for path in (output.analysis_done, output.shard_list):
        files.remove(path)
