"""Damaged files, each a function of a kind and a seed: what is made of them has to be right, or one named error."""

from __future__ import annotations

import collections
import functools
import io
import json
import random
import warnings
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from loaders.format import manifest_digest, names
from loaders.format.decode import RecordError, check_frames, parse
from loaders.format.encode import encode_records, encode_variable_records
from loaders.format.manifest import Manifest, ManifestError, Shard
from loaders.format.record_layout import FOOTER_BYTES, HEADER_BYTES, record_layout
from loaders.format.spec import FeatureSpec
from loaders.format.stream import read_frames
from pipelines.sources.formats.npy import read_header
from pipelines.sources.formats.npz import MemberStream, read_members
from pipelines.sources.formats.protocol import FormatError
from tests.support.arrays import RamFileSystem, npz_bytes, with_header

TOKENS = [
    *(bytes([code]) for code in b"\t\n\x0b\f\r #'\"()*+,-.01:=L[\\]_beflru{}"),
    *(b"\x00", b"\xa0", b"\xff", b"\\\n", b"1_0", b"0x1", b"01", b"2L", b"None", b"True", b"-1", b"1e400"),
    *(b"9223372036854775807", b"18446744073709551616", b"|O", b"<f8", b"PK\x01\x02", b"PK\x03\x04", b"../", b"NaN"),
]
"""What means something in a header, an archive or a manifest."""


def damage(chance: random.Random, data: bytes, *, near: tuple[int, ...] = ()) -> bytes:
    """Bytes of which some were changed, put in, taken out, or moved; often at a place of `near`."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        at = chance.choice(near) if near and chance.random() < 0.3 else chance.randrange(len(found) + 1)
        kind = chance.randrange(4)
        if kind == 0 and at < len(found):
            found[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            found[at : at + chance.choice((0, 0, 1, 2))] = chance.choice(TOKENS) * chance.choice((1, 1, 2))
        elif kind == 2:
            del found[at : at + chance.choice((1, 1, 2, 8))]
        else:
            other = chance.randrange(len(found) + 1)
            found[at:at] = found[other : other + chance.choice((1, 4, 16))]
    return bytes(found)


HEADERS = {
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }": 24,
    "{'descr': '>i8', 'fortran_order': True, 'shape': (2L, 3L), }": 48,
    "{'descr': [('a', '<i2'), ('1L, b', '|u1', (2,))], 'fortran_order': False, 'shape': (2,), }": 8,
    "{'descr': '|S4', 'fortran_order': False, 'shape': (), }     \n": 4,
}
"""Headers, one of Python 2, and the bytes of their values."""

VERSIONS = ((1, 0), (2, 0), (3, 0))


def check_npy(chance: random.Random) -> bool:
    """A damaged `.npy` file: what is read is what NumPy reads."""
    text, size = chance.choice(list(HEADERS.items()))
    damaged = damage(chance, text.encode("latin-1"), near=(0, len(text)))
    version = chance.choice(VERSIONS)
    begin = with_header("", version=version)[:8]
    data = begin + len(damaged).to_bytes(2 if version == (1, 0) else 4, "little") + damaged
    data += bytes(range(size if chance.random() < 0.8 else chance.choice((24, 48, 8, 4))))
    if chance.random() < 0.2:
        data = damage(chance, data)
    try:
        header = read_header(io.BytesIO(data), size=len(data))
    except FormatError:
        return False
    expected = np.load(io.BytesIO(data), allow_pickle=False)
    found = np.ndarray(header.shape, header.dtype, data, header.locator, order="F" if header.fortran else "C")
    _assert_same(found, expected)
    return True


def _assert_same(found: Any, expected: Any) -> None:
    assert (found.dtype, found.shape, found.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())


@functools.cache
def _archive(compressed: bool) -> bytes:
    arrays = {"x": np.arange(12, dtype="<f4").reshape(4, 3), "y/é": np.array([b"abc", b""]), "empty": np.zeros((0, 2))}
    return npz_bytes(arrays, compressed=compressed)


def check_npz(chance: random.Random) -> bool:
    """A damaged `.npz` archive: what is read of it, checksums compared, is what NumPy reads."""
    data = damage(chance, _archive(chance.random() < 0.5))
    path = "ram://fuzz/a.npz"
    RamFileSystem.contents[path] = data
    try:
        members = read_members(io.BytesIO(data), size=len(data))
    except FormatError:
        return False
    whole = 0
    for member in members:
        if member.header is None:
            continue
        try:
            values = _values(path, data, member.name, member.header)
        except FormatError:
            continue
        order = "F" if member.header.fortran else "C"
        found = np.ndarray(member.header.shape, member.header.dtype, values, order=order)
        # `np.load` refuses what does not begin with an archive; what may stand before one is said in another test.
        with np.lib.npyio.NpzFile(io.BytesIO(data), allow_pickle=False) as archive:
            _assert_same(found, archive[member.name])
        whole += 1
    return whole > 0


def _values(path: str, data: bytes, name: str, header: Any) -> bytes:
    if not header.compressed:
        values = data[header.locator : header.locator + header.nbytes]
        before, expected = header.checksum
        if zlib.crc32(values, before) != expected:
            raise FormatError(expected="the checksum", found="another")
        return values
    stream = MemberStream(path, name)
    try:
        stream.seek(header.locator)
        values = bytearray(header.nbytes)
        view = memoryview(values)
        while view.nbytes:
            view = view[stream.readinto(view) or _ended() :]
        return bytes(values)
    finally:
        stream.close()


def _ended() -> int:
    raise FormatError(expected="all values", found="the end")


FIXED = (FeatureSpec(name="a", dtype="int64", shape=()), FeatureSpec(name="b", dtype="float32", shape=(3,)))
VARIABLE = (FeatureSpec(name="r", dtype="uint8", shape=(None, 2)), FeatureSpec(name="s", dtype="string", shape=()))
ROWS, TOGETHER = 10, 4


@functools.cache
def _manifest() -> dict[str, Any]:
    layout = record_layout(FIXED, rows=TOGETHER, rows_per_record=TOGETHER)
    rest = record_layout(FIXED, rows=ROWS % TOGETHER, rows_per_record=TOGETHER)
    size = ROWS // TOGETHER * layout.frame_bytes + rest.frame_bytes
    shard = Shard(file="train/0.tfrecord", rows=ROWS, bytes=size, crc32c="00000000")
    manifest = Manifest(
        features=FIXED,
        splits={"train": (shard,)},
        files=(),
        rows_per_record=TOGETHER,
        record_bytes=layout.frame_bytes,
        seed=0,
        source_fingerprint="",
        transform=None,
        config={},
        versions={},
    )
    document: dict[str, Any] = json.loads(manifest.dumps())
    del document["sha256"]
    return document


def check_manifest(chance: random.Random) -> bool:
    """A damaged manifest, mostly with the digest of what it says: what is read comes back as it is written."""
    text = json.dumps(_manifest(), indent=1).encode()
    damaged = damage(chance, text)
    if chance.random() < 0.8:
        damaged = manifest_digest.add(damaged.decode("latin-1")).encode("latin-1", "replace")
    try:
        found = Manifest.loads(damaged, path=names.MANIFEST)
    except ManifestError:
        return False
    assert Manifest.loads(found.dumps()) == found
    for shard in found.splits.get("train", ()):
        assert ".." not in shard.file.split("/")
    return True


@functools.cache
def _shard() -> bytes:
    columns = {"a": np.arange(ROWS), "b": np.arange(3.0 * ROWS, dtype=np.float32).reshape(ROWS, 3)}
    pieces = []
    for first in range(0, ROWS, TOGETHER):
        rows = {name: column[first : first + TOGETHER] for name, column in columns.items()}
        layout = record_layout(FIXED, rows=len(rows["a"]), rows_per_record=TOGETHER)
        pieces.append(encode_records(layout, rows).tobytes())
    return b"".join(pieces)


def check_shard(chance: random.Random) -> bool:
    """A damaged shard of records of one size: it is whole, or that is said."""
    data = damage(chance, _shard())
    try:
        for layout, frames in read_frames(io.BytesIO(data).read, FIXED, rows=ROWS, rows_per_record=TOGETHER):
            check_frames(frames, layout)
    except RecordError:
        return False
    assert data[: len(_shard())] == _shard()
    return True


@functools.cache
def _record() -> bytes:
    from pipelines.reading.batches import Ragged

    values = np.arange(12, dtype=np.uint8).reshape(6, 2)
    columns = {"r": Ragged(values=values, lengths=np.array([1, 0, 3, 2])), "s": np.array([b"", b"ab", b"c", b"\0d"])}
    (record,) = encode_variable_records(VARIABLE, columns, rows=TOGETHER, rows_per_record=TOGETHER)
    return bytes(record[HEADER_BYTES:-FOOTER_BYTES])


def check_record(chance: random.Random) -> bool:
    """A damaged record with right checksums, of rows that differ in size: it has its rows, or that is said."""
    data = damage(chance, _record())
    wanted = frozenset(spec.name for spec in VARIABLE)
    try:
        columns = parse(data, VARIABLE, names=wanted, rows=TOGETHER, rows_per_record=TOGETHER)
    except RecordError:
        return False
    assert {name: len(column) for name, column in columns.items()} == dict.fromkeys(wanted, TOGETHER)
    return True


KINDS: dict[str, Callable[[random.Random], bool]] = {
    "npy": check_npy,
    "npz": check_npz,
    "manifest": check_manifest,
    "shard": check_shard,
    "record": check_record,
}


FAILED = {"npy": (35, 151, 443, 454, 626, 1024)}
"""Seeds that have failed once."""


def run(kind: str, seeds: Iterable[int]) -> tuple[dict[bool, int], str]:
    """Tries the case of each seed, until one fails.

    Returns:
        How many were read (True), and how many refused (False); and what is wrong with the one after them, that was
        read as something else, or ended in an error that is none of its own: "" if there is none.
    """
    outcomes = collections.Counter[bool]()
    for seed in seeds:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of odd escapes, and of headers of Python 2
                outcomes[KINDS[kind](random.Random(f"{kind} {seed}"))] += 1
        except Exception as error:
            return dict(outcomes), f"{kind}, seed {seed}: {type(error).__name__}: {error}"
    return dict(outcomes), ""
