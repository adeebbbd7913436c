"""Checks a finished data set against its manifest, byte for byte."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import BinaryIO

import google_crc32c

from loaders.format import names
from loaders.format.decode import RecordError, check_frames
from loaders.format.manifest import Manifest, Shard
from loaders.format.stream import Read, read_frames, read_variable
from pipelines import counters
from pipelines.errors import Problem
from pipelines.output.directory import Output, read_manifest
from pipelines.output.state import is_unused, read_state
from pipelines.publish.golden import check_golden
from pipelines.results import Block, Result, Table, count_of, show_bytes
from pipelines.storage import directories, files
from pipelines.storage.file_systems import StorageOptions, configure
from pipelines.storage.files import Path

STAGE = "verify"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verified(Result):
    """What a verification has found.

    Attributes:
        root: The data set.
        shards: How many shards were read.
        rows: How many rows they hold.
        bytes: Their size.
        problems: What is wrong.
    """

    root: str
    shards: int
    rows: int
    bytes: int
    problems: tuple[Problem, ...]

    def blocks(self) -> list[Block]:
        """The problems, or that there is none."""
        if self.problems:
            return [*map(str, self.problems), f"{self.root}: {count_of(len(self.problems), 'problem')}"]
        size = f"{self.shards:,} shards, {self.rows:,} rows, {show_bytes(self.bytes)}"
        return [f"{self.root}: {size}; all is as in the manifest"]

    def table(self) -> Table:
        """The problems."""
        columns = ("path", "expected", "found", "feature")
        rows = (tuple(getattr(problem, column) for column in columns) for problem in self.problems)
        return Table(columns=columns, rows=tuple(rows))


def verify(output: Path, *, trust: bool = False, storage_options: StorageOptions | None = None) -> Verified:
    """Reads every shard of a data set and compares it with the manifest, byte for byte.

    Checked are each shard's size and checksum, the framing and the checksums of each record, the records' layout and
    with it the number of rows, the offsets where records differ in size, that the files beside the shards are there,
    that nothing else lies between them, and that the transform makes of the rows kept for this what it made of them.

    Args:
        output: The data set.
        trust: Whether its transform, which is a program, may do more than compute; otherwise such a one is not run, and
            that is a problem.
        storage_options: As in `refit`.

    Returns:
        What was read, and what is wrong with it.

    Raises:
        ManifestError: If the directory holds no manifest that can be read.
    """
    configure(storage_options or {})
    root = os.fspath(output)
    manifest = read_manifest(root)
    problems = list(_check_files(root, manifest))
    if manifest.transform is not None and not problems:
        problems += check_golden(root, manifest, trust=trust)
    shards = [shard for split in manifest.splits.values() for shard in split]
    for shard in shards:
        problems += _check_shard(files.join(root, shard.file), shard, manifest)
        counters.advance(STAGE, rows=shard.rows, size=shard.bytes)
    return Verified(
        root=root,
        shards=len(shards),
        rows=sum(shard.rows for shard in shards),
        bytes=sum(shard.bytes for shard in shards),
        problems=tuple(problems),
    )


def _check_files(root: str, manifest: Manifest) -> Iterator[Problem]:
    for file in manifest.files:
        path = files.join(root, file.file)
        expected = f"{file.bytes} bytes with CRC-32C {file.crc32c}"
        try:
            data = files.read_bytes(path)
        except OSError as error:
            yield _unreadable(path, expected, error)
            continue
        checksum = f"{google_crc32c.value(data):08x}"
        if (len(data), checksum) != (file.bytes, file.crc32c):
            yield Problem(path=path, expected=expected, found=f"{len(data)} bytes with {checksum}")
    output = Output(root)
    begun = directories.list_names(output.build)
    if begun and (read_state(output) is not None or is_unused(output.build)):
        return  # what is being added, or is to take the place of this, lies between the shards
    if begun or files.exists(output.build):
        yield Problem(path=output.build, expected="nothing of the build to be left", found="its directory")
    known = {shard.file for shards in manifest.splits.values() for shard in shards} | {f.file for f in manifest.files}
    listed = {names.TRANSFORM: "files", **dict.fromkeys(manifest.splits, "shards")}
    for found in directories.list_files(root):
        where = listed.get(found.path.split("/")[0])
        if where and found.path not in known:
            expected = f"only {where} of the manifest"
            yield Problem(path=files.join(root, found.path), expected=expected, found="this file")


def _unreadable(path: str, expected: str, error: OSError) -> Problem:
    found = "no file" if isinstance(error, FileNotFoundError) else str(error.strerror or error)
    return Problem(path=path, expected=expected, found=found)


def _check_shard(path: str, shard: Shard, manifest: Manifest) -> list[Problem]:
    def problem(expected: str, found: str) -> list[Problem]:
        return [Problem(path=path, expected=expected, found=found)]

    try:
        size = files.size(path)
        if size != shard.bytes:
            return problem(f"{shard.bytes} bytes", f"{size} bytes")
        with files.open_input(path) as file:
            summed = _Summed(file)
            offsets = _check_records(summed.read, shard, manifest)
            if file.read(1):
                return problem(f"the end of the file after its {shard.rows} rows", "more bytes")
    except OSError as error:
        return [_unreadable(path, f"a shard of {shard.bytes} bytes", error)]
    except RecordError as error:
        return problem(f"in record {error.record} {error.expected}", error.found)
    if offsets != shard.offsets:
        return problem(f"chunks at the offsets {shard.offsets}", f"{offsets}")
    if (checksum := f"{summed.crc32c:08x}") != shard.crc32c:
        return problem(f"CRC-32C {shard.crc32c}", checksum)
    return []


class _Summed:
    """A file of which all that is read is added to a checksum."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.crc32c = 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.crc32c = google_crc32c.extend(self.crc32c, data)
        return data


def _check_records(read: Read, shard: Shard, manifest: Manifest) -> tuple[int, ...] | None:
    """Checks each record of a shard; returns where chunks begin, where records differ in size.

    A RecordError where one is not as the format says.
    """
    features, size = manifest.features, manifest.rows_per_record
    if manifest.chunk_records is None:
        first = 0
        for layout, frames in read_frames(read, features, rows=shard.rows, rows_per_record=size):
            check_frames(frames, layout, first=first)
            first += len(frames)
        return None
    all_names = frozenset(spec.name for spec in features)
    variable = read_variable(read, features, names=all_names, shard=shard, rows_per_record=size)
    begins = [at for at, _ in variable]
    return tuple(begins[:: manifest.chunk_records])
