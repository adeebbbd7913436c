"""What an append that was interrupted has left: it is ended, gone on with, or cleared up."""

from __future__ import annotations

from pipelines.maintain.append import Addition
from pipelines.output.commit import begin_anew, clear, finish
from pipelines.output.directory import Output, OutputError
from pipelines.output.lock import held
from pipelines.output.state import is_unused, read_state, state_of_append
from pipelines.storage import directories, files
from pipelines.storage.checked import read_checked


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


def begin_append(plan: Addition, output: Output) -> bool:
    """Makes ready for an append: removes what another run that was interrupted has left, unless this is the same.

    Returns:
        Whether the new rows have been profiled already.
    """
    state, found = state_of_append(plan, output), read_state(output)
    if found == state:
        directories.remove_tree(output.unfinished)
        return read_checked(output.profile) is not None
    if found is None and not is_unused(output.build):
        raise OutputError(f"{output.build}: expected nothing, or what an interrupted run left; found other files")
    begin_anew(output, state)
    return False
