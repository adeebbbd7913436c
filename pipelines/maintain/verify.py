"""Checks a finished data set against its manifest, byte for byte."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import BinaryIO

import google_crc32c

from loaders.format.frames import FOOTER_BYTES, HEADER_BYTES, RecordLayout, masked_crc32c, record_layout
from loaders.format.manifest import Manifest, ManifestError, Shard
from pipelines.errors import Problem
from pipelines.output.directory import GOLDEN, Output
from pipelines.publish.golden import check_golden
from pipelines.storage import files
from pipelines.write.encode import is_variable, record_bytes
from pipelines.write.wire import WireError, read_record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verified:
    """What a verification has found.

    Attributes:
        shards: How many shards were read.
        rows: How many rows they hold.
        bytes: Their size.
        problems: What is wrong.
    """

    shards: int
    rows: int
    bytes: int
    problems: tuple[Problem, ...]


def verify(root: str) -> Verified:
    """Reads every shard of a data set and compares it with the manifest.

    Checked are each shard's size and checksum, the framing and the checksums of each record, the records' layout and
    with it the number of rows, the offsets where records differ in size, that the files beside the shards are there,
    that nothing else lies between them, and that the transform makes of the rows kept for this what it made of them.

    Raises:
        ManifestError: If the directory holds no manifest that can be read.
    """
    manifest = read_manifest(root)
    problems = list(_check_files(root, manifest))
    if not is_variable(manifest.features):
        expected = record_bytes(manifest.features, manifest.rows_per_record)
        if manifest.record_bytes != expected:
            found = f"{manifest.record_bytes}"
            problems.append(Problem(path=Output(root).manifest, expected=f"record_bytes {expected}", found=found))
    if manifest.transform is not None and not problems:
        problems += check_golden(files.join(root, GOLDEN), files.join(root, manifest.transform))
    shards = [shard for split in manifest.splits.values() for shard in split]
    for shard in shards:
        problems += _check_shard(files.join(root, shard.file), shard, manifest)
    return Verified(
        shards=len(shards),
        rows=sum(shard.rows for shard in shards),
        bytes=sum(shard.bytes for shard in shards),
        problems=tuple(problems),
    )


def read_manifest(root: str) -> Manifest:
    """The manifest of a data set.

    Raises:
        ManifestError: If there is none, or it cannot be read.
    """
    path = Output(root).manifest
    if not files.exists(path):
        raise ManifestError(f"{root}: expected a finished data set with a manifest.json; found none")
    return Manifest.loads(files.read_bytes(path), path=path)


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
    if not files.is_empty(Output(root).build) or files.exists(Output(root).build):
        yield Problem(path=Output(root).build, expected="nothing of the build to be left", found="its directory")
    known = {shard.file for shards in manifest.splits.values() for shard in shards}
    for found in files.list_files(root):
        if found.path.split("/")[0] in manifest.splits and found.path not in known:
            yield Problem(path=files.join(root, found.path), expected="only shards of the manifest", found="this file")


def _unreadable(path: str, expected: str, error: OSError) -> Problem:
    found = "no file" if isinstance(error, FileNotFoundError) else str(error.strerror or error)
    return Problem(path=path, expected=expected, found=found)


def _check_shard(path: str, shard: Shard, manifest: Manifest) -> list[Problem]:
    try:
        size = files.size(path)
        if size != shard.bytes:
            return [Problem(path=path, expected=f"{shard.bytes} bytes", found=f"{size} bytes")]
        with files.open_input(path) as file:
            check = _check_variable_records if is_variable(manifest.features) else _check_records
            checksum = check(file, shard, manifest)
    except OSError as error:
        return [_unreadable(path, f"a shard of {shard.bytes} bytes", error)]
    except _BadRecordError as error:
        return [Problem(path=path, expected=error.expected, found=error.found)]
    if checksum != shard.crc32c:
        return [Problem(path=path, expected=f"CRC-32C {shard.crc32c}", found=checksum)]
    return []


class _BadRecordError(Exception):
    def __init__(self, expected: str, found: str) -> None:
        super().__init__(expected, found)
        self.expected = expected
        self.found = found


def _check_records(file: BinaryIO, shard: Shard, manifest: Manifest) -> str:
    """Reads a shard record by record, and returns the checksum of the file."""
    checksum, record, left = 0, 0, shard.rows
    while left:
        rows = min(left, manifest.rows_per_record)
        layout = record_layout(manifest.features, rows=rows, rows_per_record=manifest.rows_per_record)
        frame = file.read(layout.frame_bytes)
        checksum = google_crc32c.extend(checksum, frame)
        _check_frame(frame, layout, record)
        left -= rows
        record += 1
    if file.read(1):
        raise _BadRecordError(f"the end of the file after {record} records of {shard.rows} rows", "more bytes")
    return f"{checksum:08x}"


def _check_frame(frame: bytes, layout: RecordLayout, record: int) -> None:
    expected = f"record {record} to be a frame of {layout.frame_bytes} bytes with {layout.rows} rows"
    if len(frame) < layout.frame_bytes:
        raise _BadRecordError(expected, f"{len(frame)} bytes")
    (_, header), *fixed = layout.fixed
    if frame[:HEADER_BYTES] != header:
        raise _BadRecordError(expected, f"the header {frame[:HEADER_BYTES].hex()}")
    if int.from_bytes(frame[-FOOTER_BYTES:], "little") != masked_crc32c(frame[HEADER_BYTES:-FOOTER_BYTES]):
        raise _BadRecordError(f"record {record} to match its checksum", "other bytes")
    for offset, piece in fixed:
        if frame[offset : offset + len(piece)] != piece:
            raise _BadRecordError(expected, f"another layout at byte {offset} of the frame")


def _check_variable_records(file: BinaryIO, shard: Shard, manifest: Manifest) -> str:
    """`_check_records` where records differ in size."""
    checksum, record, left, position, offsets = 0, 0, shard.rows, 0, []
    assert manifest.chunk_records is not None, "a manifest of features that vary has it"
    while left:
        if record % manifest.chunk_records == 0:
            offsets.append(position)
        rows = min(left, manifest.rows_per_record)
        frame = _read_frame(file, record, shard.bytes - position)
        checksum = google_crc32c.extend(checksum, frame)
        try:
            read_record(frame[HEADER_BYTES:-FOOTER_BYTES], manifest.features, rows, manifest.rows_per_record)
        except WireError as error:
            raise _BadRecordError(f"record {record} to hold {rows} rows of the features", str(error)) from error
        left -= rows
        record += 1
        position += len(frame)
    if position != shard.bytes:
        raise _BadRecordError(f"the end of the file after {record} records of {shard.rows} rows", "more bytes")
    if tuple(offsets) != shard.offsets:
        raise _BadRecordError(f"chunks at the offsets {shard.offsets}", f"{tuple(offsets)}")
    return f"{checksum:08x}"


def _read_frame(file: BinaryIO, record: int, left: int) -> bytes:
    """A frame whose two checksums are right; `left` is how many bytes of the file are left."""
    header = file.read(HEADER_BYTES)
    length = int.from_bytes(header[:8], "little")
    if len(header) < HEADER_BYTES or int.from_bytes(header[8:], "little") != masked_crc32c(header[:8]):
        raise _BadRecordError(f"record {record} to begin with a length and its checksum", f"{header.hex()}")
    if length > left - HEADER_BYTES - FOOTER_BYTES:
        raise _BadRecordError(f"record {record} of {length} bytes", f"{left} bytes to the end of the file")
    data, footer = file.read(length), file.read(FOOTER_BYTES)
    if int.from_bytes(footer, "little") != masked_crc32c(data):
        raise _BadRecordError(f"record {record} to match its checksum", "other bytes")
    return header + data + footer
