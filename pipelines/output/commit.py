"""How a build or an append begins in a directory, and how its data set takes its place: at once, whatever was there."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import PurePosixPath

from loaders.format import names
from loaders.format.manifest import Manifest
from pipelines.errors import OutputError
from pipelines.output.directory import Output, last_generation, read_manifest, remove_shards
from pipelines.output.lock import held
from pipelines.output.state import (
    Begin,
    State,
    check,
    is_committed,
    is_unused,
    read_state,
    state_of_append,
    state_of_build,
    write_state,
)
from pipelines.plan.plan import Plan
from pipelines.storage import directories, files
from pipelines.storage.checksummed import read_checked

STATE_NAME = names.STATE.rpartition("/")[2]


def prepare(output: Output, plan: Plan, *, overwrite: bool, transform_from: str | None = None) -> Begin:
    """Makes the directory ready for a build; arguments, result and errors are those of `check`.

    A data set that is there stays as it is.
    """
    begin = check(output, plan, overwrite=overwrite, transform_from=transform_from)
    if begin == "resume":
        directories.remove_tree(output.unfinished)
        write_state(output, state_of_build(plan, output, transform_from=transform_from))  # classes may have other names
        return begin
    finish(output)
    if begin == "fresh":
        begin_anew(output, state_of_build(plan, output, transform_from=transform_from))
    return begin


def begin_append(plan: Plan, output: Output) -> bool:
    """Makes ready for an append: removes what another run that was interrupted has left, unless this is the same.

    Returns whether the new rows have been profiled already.
    """
    state, found = state_of_append(plan, output), read_state(output)
    if found == state:
        directories.remove_tree(output.unfinished)
        return read_checked(output.profile) is not None
    if found is None and not is_unused(output.build):
        raise OutputError(f"{output.build}: expected nothing, or what an interrupted run left; found other files")
    begin_anew(output, state)
    return False


def name_anew(plan: Plan, output: Output) -> Plan:
    """The plan, with names for its shards that a data set which is there does not have."""
    if not files.exists(output.manifest):
        return plan
    return dataclasses.replace(plan, generation=last_generation(read_manifest(output.root)) + 1)


def begin_anew(output: Output, state: State) -> None:
    """Removes what an unfinished run has left, and says which one is at work now."""
    clear(output, keep_state=True)
    write_state(output, state)


def clear(output: Output, *, keep_state: bool = False) -> None:
    """Removes all that a run that was not finished has left; what the manifest lists stays.

    The state goes last, so that clearing up that is interrupted can be begun again.
    """
    state = read_state(output)
    if state is not None:
        manifest = read_manifest(output.root) if files.exists(output.manifest) else None
        _remove_unlisted(output, state, manifest)
    for name in sorted(directories.list_names(output.build) - {STATE_NAME}):
        directories.remove_tree(files.join(output.build, name))
    if not keep_state:
        directories.remove_tree(output.build)


def commit(output: Output, manifest: Manifest, *, staged: Collection[str]) -> None:
    """Makes the shards, and what is staged beside them, the data set that a manifest describes, with all in its place.

    The new manifest takes the place of one that is there while the files beside the shards still lie where they were
    made, and lists them there: a data set is whole, the one before or the new one, at every moment.

    `finish` removes what is left then.
    """
    if files.exists(output.manifest):
        _put_manifest(output, manifest.with_staged(staged))
    _settle(output, manifest, staged)


def finish(output: Output) -> None:
    """Ends a run whose manifest has come, if there is one: all goes that the manifest does not list.

    What has no manifest yet is left as it is.
    """
    state = read_state(output)
    if state is None or not is_committed(output, state):
        return
    manifest = read_manifest(output.root)
    if manifest.staged:
        manifest, staged = manifest.with_staged(()), manifest.staged
        _settle(output, manifest, staged)
    _remove_unlisted(output, state, manifest)
    directories.remove_tree(output.build, last=STATE_NAME)
    directories.remove_unfinished(output.root)


def finish_append(root: str) -> None:
    """Ends a run that was interrupted after its manifest had come, if there is one."""
    output = Output(files.absolute(root))
    if read_state(output) is not None:
        with held(output):
            finish(output)


def clear_append(root: str) -> None:
    """Removes what an append that failed or was interrupted has left, if there is anything; no row was added."""
    output = Output(files.absolute(root))
    if (read_state(output) or {}).get("work") == "append":
        with held(output):
            clear(output)


def _settle(output: Output, manifest: Manifest, staged: Collection[str]) -> None:
    """Puts what is staged into its place, and lets the manifest say so; what tells of other rows goes."""
    for name in staged:
        output.put(name, files.read_bytes(files.join(output.staged, name)))
    for name in {names.REPORT, *names.OF_RECORDS} - {file.file for file in manifest.files}:
        files.remove(output.path(name))
    _put_manifest(output, manifest)


def _put_manifest(output: Output, manifest: Manifest) -> None:
    """Lets a manifest count, when all that it lists is on the disk; shards are since they were written."""
    if output.synced and files.is_local(output.root):
        beside = [file.file for file in manifest.files]
        shards = [shard.file for split in manifest.splits.values() for shard in split]
        directories = {str(parent) for path in (*beside, *shards) for parent in PurePosixPath(path).parents}
        for path in (*beside, *sorted(directories)):
            files.sync(output.path(path))
    output.put(names.MANIFEST, manifest.dumps().encode(), synced=output.synced)


def _remove_unlisted(output: Output, state: State, manifest: Manifest | None) -> None:
    """Removes shards of the splits that a state names, and, after a build, other files, that no manifest lists."""
    shards = {shard.file for split in (manifest.splits.values() if manifest else ()) for shard in split}
    for split in sorted({*state["splits"], *(manifest.splits if manifest else ())}):
        remove_shards(output, split, but=shards)
    if state.get("work") == "append":
        return
    beside = {file.file for file in manifest.files} if manifest else set()
    for name in {*names.ALWAYS, *names.OPTIONAL} - beside:
        files.remove(output.path(name))
    if manifest is None:
        files.remove(output.path(names.REPORT))
    listed = {name.removeprefix(f"{names.TRANSFORM}/") for name in beside if name.startswith(f"{names.TRANSFORM}/")}
    if not listed:
        directories.remove_tree(output.transform)
    for file in directories.list_files(output.transform) if listed else ():
        if file.path not in listed:
            files.remove(files.join(output.transform, file.path))
