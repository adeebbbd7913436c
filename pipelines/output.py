"""The output directory: its names, and the state by which an interrupted build is recognised and resumed."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
from typing import Any

from loaders.manifest import FILE_NAME
from loaders.version import VERSION
from pipelines import files
from pipelines.errors import EXIT_BAD_INPUT, NpyflowError
from pipelines.plan import Plan, Task

TRANSFORM = "transform"
STATISTICS = "statistics.npz"
PACKAGES = ("apache-beam", "numpy", "tensorflow", "tensorflow-transform")


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

    def task_record(self, task: Task) -> str:
        """The file that is there when a task's shards are."""
        return self.path("_build", "tasks", f"{task.group}-{task.index:05d}.json")

    def temporary(self, name: str) -> str:
        """A path for something unfinished."""
        return self.path("_build", "tmp", name)


def versions() -> dict[str, str]:
    """The versions that decide what is written."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"npyflow": VERSION, "python": platform.python_version(), **found}


def _state(plan: Plan) -> dict[str, Any]:
    """What two builds must have in common for one to go on where the other stopped, and what clearing up needs."""
    state = {
        "sources": plan.table.fingerprint(modified=True),
        "config": plan.config.dump(),
        "versions": versions(),
        "splits": list(plan.splits),
    }
    return dict(json.loads(json.dumps(state)))


def check(output: Output, plan: Plan, *, overwrite: bool) -> bool:
    """Whether a build may write to the directory, and how it would begin. Nothing is changed.

    Args:
        output: The directory; it need not exist.
        plan: What is to be built.
        overwrite: Whether a data set or an unfinished build that is there may be removed.

    Returns:
        Whether an interrupted run of the same build is there, to be resumed.

    Raises:
        OutputError: If the directory holds something that may not be removed.
    """
    if output.root.rstrip("/") == plan.table.root.rstrip("/"):
        raise OutputError(f"{output.root}: expected another directory than that of the sources")
    finished, unfinished = files.exists(output.manifest), files.exists(output.state)
    if not finished and not unfinished and _occupied(output.root):
        raise OutputError(
            f"{output.root}: expected an empty directory or an output of npyflow; found other files. "
            "Nothing was changed; name another directory"
        )
    if finished and not overwrite:
        raise OutputError(f"{output.root}: holds a finished data set; --overwrite replaces it")
    if overwrite or not unfinished:
        return False
    if json.loads(files.read_text(output.state)) != _state(plan):
        raise OutputError(
            f"{output.root}: holds an unfinished build of other sources, another configuration or other versions; "
            "--overwrite starts again"
        )
    return True


def prepare(output: Output, plan: Plan, *, overwrite: bool) -> bool:
    """Makes the directory ready for a build; arguments, result and errors are those of `check`."""
    if check(output, plan, overwrite=overwrite):
        files.remove_tree(output.path("_build", "tmp"))
        return True
    _clear(output)
    files.write_text(output.state, json.dumps(_state(plan)))
    return False


def _occupied(root: str) -> bool:
    try:
        return bool(files.list_files(root))
    except FileNotFoundError:  # not `exists`: an object store has no directories that could exist
        return False


def _clear(output: Output) -> None:
    """Removes a data set or an unfinished build, the manifest first, so that at no time half of one looks whole."""
    splits: set[str] = set()
    for path in (output.manifest, output.state):
        if files.exists(path):
            splits |= set(json.loads(files.read_text(path))["splits"])
    files.remove(output.manifest)
    for directory in (*splits, TRANSFORM):
        files.remove_tree(output.path(directory))
    for name in (STATISTICS, "statistics.pb", "schema.pbtxt"):
        files.remove(output.path(name))
    files.remove_tree(output.build)
