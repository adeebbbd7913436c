"""The output directory: where everything stands in it."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import uuid
from collections.abc import Collection, Iterator
from typing import Any

from loaders.format import names
from loaders.format.manifest import Manifest, ManifestError
from pipelines.plan.plan import Task
from pipelines.runners.failures import errors_beside
from pipelines.statistics.recorded import TrainingStatistics
from pipelines.storage import directories, file_systems, files
from pipelines.storage.temporary import temporary_directory

SHARD_NAME = re.compile(r"(g(\d{3,})-)?\d{5,}-of-\d{5,}\.tfrecord")
"""How the name of a shard ends, after that of its split; what was added, or has replaced others, has a generation."""


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
    """

    root: str
    synced: bool = True  # whether what is published is on the disk before the manifest is

    manifest = _Path(names.MANIFEST)
    transform = _Path(names.TRANSFORM)  # when the data set is finished
    new_transform = _Path(names.STAGED, names.TRANSFORM)  # while it is built
    lock = _Path(names.LOCK)  # says who builds
    build = _Path(names.BUILD)
    state = _Path(names.STATE)  # says which build this is
    description = _Path(names.BUILD, "about.json")  # what is built, without the plan, which may be large
    plan = _Path(names.BUILD, "plan.pickle")  # for the workers
    analysis_done = _Path(names.BUILD, "analysis.done")  # the checksums of what it has made, when all is there
    profile = _Path(names.BUILD, "profile")  # what the new training rows of an append add to the statistics
    tasks = _Path(names.BUILD, "tasks")  # the records of finished ones
    shard_list = _Path(names.BUILD, "shards.json")  # written when all are there
    unfinished = _Path(names.BUILD, "tmp")  # what is being written
    staged = _Path(names.STAGED)  # where the files beside the shards are made
    sources = _Path(names.BUILD, "sources")  # that were arrays in memory

    def __reduce__(self) -> Any:
        """Pickles, with the root, how it is reached."""
        return _restore, (self.root, self.synced, file_systems.shared())

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

    def put(self, name: str, data: bytes, *, synced: bool = False) -> None:
        """Puts a file of the data set into its place: no reader sees half of it, a kill leaves nothing beside it."""
        files.write_bytes(self.path(name), data, temporary=self.temporary(uuid.uuid4().hex), synced=synced)


@contextlib.contextmanager
def local_directory(output: Output) -> Iterator[str]:
    """A directory of this machine for what is unfinished; in the output, on its disk, where that is local."""
    if not files.is_local(output.root):
        with temporary_directory("export") as directory:
            yield directory
        return
    directory = output.temporary(uuid.uuid4().hex)
    files.make_directory(directory)
    try:
        yield directory
    finally:
        directories.remove_tree(directory)


def _restore(root: str, synced: bool, options: dict[str, Any]) -> Output:
    file_systems.configure(options)
    return Output(root, synced)


def read_manifest(root: str) -> Manifest:
    """The manifest of a data set; a ManifestError where there is none, or it says something else than a manifest."""
    path = Output(root).manifest
    try:
        data = files.read_bytes(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ManifestError(f"{root}: expected a finished data set with a {names.MANIFEST}; found none") from error
    return Manifest.loads(data, path=path)


def read_statistics(root: str, manifest: Manifest) -> TrainingStatistics:
    """The statistics of a data set's training rows; none where it has kept none."""
    data = read_listed(root, manifest, names.STATISTICS)
    return TrainingStatistics(statistics={}, classes={}) if data is None else TrainingStatistics.load(data)


def read_listed(root: str, manifest: Manifest, name: str) -> bytes | None:
    """A file beside the shards; None where a data set has none of this name, and a ManifestError if it is another."""
    if not manifest.lists(name):
        return None
    place = manifest.place(name)
    path = Output(root).path(place)
    try:
        data = files.read_bytes(path)
    except FileNotFoundError:
        data = None
    manifest.check_file(place, data, path)
    return data


def last_generation(manifest: Manifest) -> int:
    """How many times a data set was replaced, or added to, by the names of its shards."""
    shards = [(split, shard.file) for split, shards in manifest.splits.items() for shard in shards]
    found = (SHARD_NAME.fullmatch(file.removeprefix(f"{split}/{split}-")) for split, file in shards)
    return max((int(match[2]) for match in found if match and match[2]), default=0)


def remove_shards(output: Output, split: str, *, but: Collection[str]) -> None:
    """Removes all shards of a split `but` those of such paths, and its directory, unless that holds others."""
    directory = output.path(split)
    try:
        found = directories.list_files(directory)
    except OSError:
        return
    for file in found:
        if SHARD_NAME.fullmatch(file.path.removeprefix(f"{split}-")) and f"{split}/{file.path}" not in but:
            files.remove(files.join(directory, file.path))
    if not directories.list_names(directory):
        directories.remove_tree(directory)
