"""Rows that are added become part of a data set all at once: what is staged is put into its place, or nothing is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from loaders.format import names
from pipelines.maintain.append import GENERATION, Addition
from pipelines.output.directory import Output, OutputError, read_manifest, remove_shards
from pipelines.output.lock import held
from pipelines.output.state import read_state, state_of_append, write_state
from pipelines.storage import files

PROFILE = "profile.pickle"
"""What the new training rows add to the statistics, while it is not yet published."""


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
            _clear(output, state["splits"])
        elif files.exists(files.join(output.staged, names.MANIFEST)):
            commit(output)


def clear_append(root: str) -> None:
    """Removes what an append that failed or was interrupted has left, if there is anything; no row was added."""
    output = Output(files.absolute(root))
    if _interrupted(output):
        with held(output):
            if (state := read_state(output)) is not None:
                _clear(output, state["splits"])


def _interrupted(output: Output) -> bool:
    """Whether there is an append that was not finished; it may go on as well."""
    return "append_to" in (read_state(output) or {})


def _clear(output: Output, splits: Sequence[str]) -> None:
    """Removes the shards, and all else, of an append that was not finished."""
    listed = {shard.file for shards in read_manifest(output.root).splits.values() for shard in shards}
    for split in splits:

        def unlisted(name: str, split: str = split) -> bool:
            return f"{split}/{name}" not in listed and GENERATION.fullmatch(name.removeprefix(split)) is not None

        remove_shards(output, split, unlisted)
    files.remove_tree(output.build)


def _digest(output: Output) -> str:
    return hashlib.blake2b(files.read_bytes(output.manifest), digest_size=16).hexdigest()


def begin_append(plan: Addition, output: Output) -> bool:
    """Makes ready for an append: removes what one that was interrupted has left, unless this is the same.

    Returns:
        Whether the new rows have been profiled already.
    """
    state, found = state_of_append(plan, manifest=_digest(output)), read_state(output)
    if found == state:
        files.remove_tree(output.unfinished)
        return files.exists(files.join(output.statistics, PROFILE))
    if found is not None:
        _clear(output, found["splits"])
    elif not files.is_empty(output.build):
        raise OutputError(f"{output.build}: expected nothing, or what an interrupted run left; found other files")
    write_state(output, state)
    return False


def commit(output: Output) -> None:
    """Puts what is staged into its place, the manifest last; what is in its place already is put there again."""
    staged = [file.path for file in files.list_files(output.staged) if file.path != names.MANIFEST]
    for name in (*staged, names.MANIFEST):
        files.write_bytes(output.path(name), files.read_bytes(files.join(output.staged, name)))
    files.remove_tree(output.build)
