"""The output directory: where everything stands in it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from loaders.format import names
from loaders.format.manifest import Manifest, ManifestError
from pipelines.errors import EXIT_BAD_INPUT, NpyflowError
from pipelines.plan.plan import Task
from pipelines.runners.failures import errors_beside
from pipelines.storage import connections, files

SHARD_NAME = re.compile(r"[^/]+-\d{5,}-of-\d{5,}\.tfrecord")


class OutputError(NpyflowError):
    """An output directory that may not be written to."""

    exit_code = EXIT_BAD_INPUT


class _Path:
    """An attribute of `Output`: the path of something in the directory."""

    def __init__(self, *parts: str) -> None:
        self._parts = parts

    def __get__(self, output: Output, owner: type[Output]) -> str:
        return output.path(*self._parts)


@dataclasses.dataclass(frozen=True)
class Output:
    """The paths in an output directory.

    Everything that is not part of the finished data set lies under `_build/`, which goes when the manifest comes.

    Attributes:
        root: The directory.
        manifest: The manifest.
        transform: The directory of the transform.
        lock: The file that says who builds.
        build: The directory of everything that is not part of the finished data set.
        state: The file that says which build this is.
        description: What is built, for those who ask how far it is: a plan may be large.
        plan: The plan, for the workers.
        statistics: The directory for statistics that are not yet published.
        analysis_done: A file that is there when the transform and the statistics are.
        tasks: The directory of the records of finished tasks.
        shard_list: The list of all shards, written when all are there.
        unfinished: The directory of what is being written.
        staged: The directory of what an append is about to publish.
        sources: The directory of sources that were arrays in memory.
    """

    root: str

    manifest = _Path(names.MANIFEST)
    transform = _Path(names.TRANSFORM)
    lock = _Path(names.LOCK)
    build = _Path(names.BUILD)
    state = _Path(names.STATE)
    description = _Path(names.BUILD, "about.json")
    plan = _Path(names.BUILD, "plan.pickle")
    statistics = _Path(names.BUILD, "statistics")
    analysis_done = _Path(names.BUILD, "analysis.done")
    tasks = _Path(names.BUILD, "tasks")
    shard_list = _Path(names.BUILD, "shards.json")
    unfinished = _Path(names.BUILD, "tmp")
    staged = _Path(names.BUILD, "publish")
    sources = _Path(names.BUILD, "sources")

    def __reduce__(self) -> Any:
        """Pickles, with the root, how it is reached."""
        return _restore, (self.root, connections.shared())

    def path(self, *parts: str) -> str:
        """The path of something in the directory."""
        return files.join(self.root, *parts)

    @property
    def errors(self) -> str:
        """The directory where workers record their errors."""
        return errors_beside(self.plan)

    def task_record(self, task: Task) -> str:
        """The file that is there when a task's shards are."""
        return files.join(self.tasks, f"{task.group}-{task.index:05d}.json")

    def temporary(self, name: str) -> str:
        """A path for something unfinished."""
        return files.join(self.unfinished, name)


def _restore(root: str, options: dict[str, Any]) -> Output:
    connections.adopt(options)
    return Output(root)


def read_manifest(root: str) -> Manifest:
    """The manifest of a data set.

    Raises:
        ManifestError: If there is none, or it cannot be read.
    """
    path = Output(root).manifest
    if not files.exists(path):
        raise ManifestError(f"{root}: expected a finished data set with a {names.MANIFEST}; found none")
    return Manifest.loads(files.read_bytes(path), path=path)


def remove_shards(output: Output, split: str, which: Callable[[str], object]) -> None:
    """Removes those files of a split's directory whose names are such, and the directory, unless it holds others."""
    directory = output.path(split)
    try:
        found = files.list_files(directory)
    except OSError:
        return
    for file in found:
        if which(file.path):
            files.remove(files.join(directory, file.path))
    if files.is_empty(directory):
        files.remove_tree(directory)
