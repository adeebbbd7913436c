"""The output directory: its names, and the state by which an interrupted build is recognised and resumed."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from loaders.format.manifest import FILE_NAME, Manifest, ManifestError
from pipelines.errors import EXIT_BAD_INPUT, NpyflowError
from pipelines.plan.plan import Plan, Task
from pipelines.runners.failures import errors_beside
from pipelines.runners.versions import versions
from pipelines.storage import connections, files

TRANSFORM = "transform"
STATISTICS = "statistics.npz"
FITTED = "fitted.npz"
MOMENTS = "moments.npz"
GOLDEN = "golden.npz"
LEARNED = (FITTED, MOMENTS, GOLDEN)
"""What is known of the transform, where there is one: its constants, what statistics are made of, and some rows."""

STATISTICS_PROTO = "statistics.pb"
BESIDE = ("schema.pbtxt", STATISTICS, STATISTICS_PROTO)
"""The files beside the shards and the transform."""

SOURCES = "sources.json"
"""The parts that a data set was made of, by which rows that are appended are told from those that are there."""

TRANSFORM_MOMENTS = "transform_moments.npz"
"""The moments of the rows that the transform was learned from, where rows have been appended since."""

KEPT = (STATISTICS, STATISTICS_PROTO, *LEARNED, TRANSFORM_MOMENTS)
"""What is learned from training rows; a data set that takes another's transform takes these with it."""

LOCK = "_lock"
"""The file that says who builds; it goes when the build ends, and one that is left is in nobody's way."""

STATE_FORMAT = "npyflow-build"
SHARD_NAME = re.compile(r"[^/]+-\d{5,}-of-\d{5,}\.tfrecord")


Begin = Literal["fresh", "resume", "finished"]


class OutputError(NpyflowError):
    """An output directory that may not be written to."""

    exit_code = EXIT_BAD_INPUT


@dataclasses.dataclass(frozen=True)
class Output:
    """The names in an output directory.

    Everything that is not part of the finished data set lies under `_build/`, which goes when the manifest comes.

    Attributes:
        root: The directory.
    """

    root: str

    def __reduce__(self) -> Any:
        """Pickles, with the root, how it is reached."""
        return _restore, (self.root, connections.shared())

    def path(self, *parts: str) -> str:
        """The path of something in the directory."""
        return files.join(self.root, *parts)

    @property
    def manifest(self) -> str:
        """The manifest."""
        return self.path(FILE_NAME)

    @property
    def transform(self) -> str:
        """The directory of the transform."""
        return self.path(TRANSFORM)

    @property
    def build(self) -> str:
        """The directory of everything that is not part of the finished data set."""
        return self.path("_build")

    @property
    def state(self) -> str:
        """The file that says which build this is."""
        return self.path("_build", "state.json")

    @property
    def lock(self) -> str:
        """The file that says who builds."""
        return self.path(LOCK)

    @property
    def statistics(self) -> str:
        """The directory for statistics that are not yet published."""
        return self.path("_build", "statistics")

    @property
    def shard_list(self) -> str:
        """The list of all shards, written when all are there."""
        return self.path("_build", "shards.json")

    @property
    def analysis_done(self) -> str:
        """A file that is there when the transform and the statistics are."""
        return self.path("_build", "analysis.done")

    @property
    def plan(self) -> str:
        """The plan, for the workers."""
        return self.path("_build", "plan.pickle")

    @property
    def errors(self) -> str:
        """The directory where workers record their errors."""
        return errors_beside(self.plan)

    def task_record(self, task: Task) -> str:
        """The file that is there when a task's shards are."""
        return self.path("_build", "tasks", f"{task.group}-{task.index:05d}.json")

    def temporary(self, name: str) -> str:
        """A path for something unfinished."""
        return self.path("_build", "tmp", name)


def _restore(root: str, options: dict[str, Any]) -> Output:
    connections.adopt(options)
    return Output(root)


def _state(plan: Plan, transform_from: str | None) -> dict[str, Any]:
    """What two builds must have in common for one to go on where the other stopped, and what clearing up needs."""
    state = {
        "format": STATE_FORMAT,
        "sources": plan.table.fingerprint(modified=True),
        "config": plan.config.dump(),
        "preprocessing_fn": plan.config.custom.digest if plan.config.custom else None,
        "transform_from": transform_from,
        "versions": versions(),
        "plan": [plan.block_rows, plan.analysis_rows, *(group.tasks for group in plan.groups)],
        "splits": list(plan.splits),
    }
    return dict(json.loads(json.dumps(state)))


def check(output: Output, plan: Plan, *, overwrite: bool, transform_from: str | None = None) -> Begin:
    """How a build into the directory would begin. Nothing is changed.

    Args:
        output: The directory; it need not exist.
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
    manifest, state = _read_manifest(output), read_state(output)
    if manifest is None and state is None and not _is_free(output.root):
        raise OutputError(
            f"{output.root}: expected an empty directory or an output of npyflow; found other files. "
            "Nothing was changed; name another directory"
        )
    same = state == _state(plan, transform_from)
    if manifest is None and same:  # also when overwriting: this is what an interrupted --overwrite has left
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


def _is_free(root: str) -> bool:
    try:
        return files.is_empty(root, but=LOCK)
    except NotADirectoryError as error:
        raise OutputError(f"{root}: expected a directory; found a file") from error


def prepare(output: Output, plan: Plan, *, overwrite: bool, transform_from: str | None = None) -> Begin:
    """Makes the directory ready for a build; arguments, result and errors are those of `check`."""
    begin = check(output, plan, overwrite=overwrite, transform_from=transform_from)
    if begin == "finished":
        files.remove_tree(output.build)
    elif begin == "resume":
        files.remove_tree(output.path("_build", "tmp"))
    else:
        _clear(output, plan)
        files.write_text(output.state, json.dumps(_state(plan, transform_from)))
    return begin


def _read_manifest(output: Output) -> Manifest | None:
    if not files.exists(output.manifest):
        return None
    try:
        return Manifest.loads(files.read_bytes(output.manifest), path=output.manifest)
    except ManifestError as error:
        raise OutputError(f"{error}. Nothing was changed; name another directory") from error


def read_state(output: Output) -> dict[str, Any] | None:
    """The state of an unfinished build; None where there is none, or another program's file of that name."""
    try:
        state = json.loads(files.read_text(output.state)) if files.exists(output.state) else None
    except ValueError:
        return None
    return state if isinstance(state, dict) and state.get("format") == STATE_FORMAT else None


def _clear(output: Output, plan: Plan) -> None:
    """Removes a data set or an unfinished build: the manifest first, so that at no time half of one looks whole.

    The state is there from before the manifest goes, so that clearing up that is interrupted can be begun again; so is
    the configuration of what is built, which a data set that is built anew from itself has nowhere else.
    """
    manifest, state = _read_manifest(output), read_state(output)
    if manifest is None and state is None:
        return
    splits = sorted({*(manifest.splits if manifest else ()), *(state["splits"] if state else ())})
    left = {"format": STATE_FORMAT, "splits": splits, "config": plan.config.dump()}
    files.write_text(output.state, json.dumps(left))
    for name in (FILE_NAME, *LEARNED, SOURCES, TRANSFORM_MOMENTS, *BESIDE):
        files.remove(output.path(name))
    for split in splits:
        _remove_shards(output.path(split))
    files.remove_tree(output.transform)
    for name in ("tasks", "tmp", "statistics"):
        files.remove_tree(output.path("_build", name))
    for path in (output.analysis_done, output.shard_list):
        files.remove(path)


def _remove_shards(directory: str) -> None:
    """Removes a split's directory, unless it holds something else than shards, which stays."""
    try:
        found = files.list_files(directory)
    except OSError:
        return
    for file in found:
        if SHARD_NAME.fullmatch(file.path):
            files.remove(files.join(directory, file.path))
    if files.is_empty(directory):
        files.remove_tree(directory)


def totals(record: Mapping[str, Any]) -> tuple[int, int, int]:
    """What a task's record says: the rows of the sources that it had, and the bytes and the number of its shards."""
    shards = record["shards"].values()
    rows = record["dropped"] + sum(shard["rows"] for shard in shards)
    return rows, sum(shard["bytes"] for shard in shards), len(shards)


class FinishedTasks:
    """Counts the rows of finished tasks by their records, for tasks that run in other processes."""

    def __init__(self, output: Output) -> None:
        self._directory = output.path("_build", "tasks")
        self._rows: dict[str, int] = {}

    def rows(self) -> int:
        """How many rows have been written so far."""
        try:
            names = [file.path for file in files.list_files(self._directory)]
            for name in set(names) - set(self._rows):
                self._rows[name], _, _ = totals(json.loads(files.read_text(files.join(self._directory, name))))
        except OSError:
            pass  # not there yet, or no longer
        return sum(self._rows.values())
