from __future__ import annotations

import io
import pathlib
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from pipelines.sources.formats import npz
from pipelines.sources.formats.npz import MemberStream, StreamCache, read_members
from pipelines.sources.formats.protocol import FormatError, Member
from tests.support.arrays import DTYPES, RamFileSystem, empty_ram, npy_bytes, npz_bytes, values, with_header

X = np.arange(12, dtype="<f4").reshape(4, 3)


@pytest.fixture
def ram() -> Iterator[str]:
    empty_ram()
    yield "ram://bucket/a.npz"
    empty_ram()


def members(data: bytes) -> dict[str, Member]:
    return {member.name: member for member in read_members(io.BytesIO(data), size=len(data))}


def zipped(contents: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return file.getvalue()


def fault(data: bytes, name: str = "x") -> str:
    """What is wrong with the archive, or else with a member."""
    try:
        return str(members(data)[name].error)
    except FormatError as error:
        return str(error)


@hypothesis.given(
    shapes=st.lists(st.lists(st.integers(0, 4), max_size=3).map(tuple), min_size=1, max_size=4),
    dtype=st.sampled_from(DTYPES),
    order=st.sampled_from("CF"),
    compressed=st.booleans(),
)
def test_reads_what_numpy_writes(shapes: list[tuple[int, ...]], dtype: str, order: str, compressed: bool) -> None:
    arrays = {f"m{n}/ä": np.asarray(values(shape, dtype, seed=n), order=order) for n, shape in enumerate(shapes)}
    data = npz_bytes(arrays, compressed=compressed)
    found = members(data)
    assert list(found) == list(arrays)
    for name, member in found.items():
        header = member.header
        assert header is not None
        assert (header.dtype, header.shape, header.compressed) == (arrays[name].dtype, arrays[name].shape, compressed)
        whole = zipfile.ZipFile(io.BytesIO(data)).read(f"{name}.npy") if compressed else data
        again = np.ndarray(header.shape, header.dtype, whole, header.locator, order="F" if header.fortran else "C")
        assert again.tobytes() == arrays[name].tobytes()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_stream_reads_stored_members_too(tmp_path: pathlib.Path, method: int) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(zipped({"x.npy": npy_bytes(X), "notes.txt": b"nothing"}, method))
    (member,) = members(path.read_bytes()).values()
    assert member.header is not None
    assert member.header.compressed == (method != zipfile.ZIP_STORED)
    stream = MemberStream(str(path), "x")
    out = np.empty_like(X)
    stream.seek(member.header.locator if member.header.compressed else 128)
    assert stream.readinto(out.reshape(-1).view(np.uint8).data) == X.nbytes
    assert np.array_equal(out, X)
    stream.close()


def test_members_behind_zip64_headers_and_other_extra_fields() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open("x.npy", "w", force_zip64=True) as member:
            member.write(npy_bytes(X))
        info = zipfile.ZipInfo("y.npy")
        info.extra = struct.pack("<HH4s", 0xCAFE, 4, b"abcd")
        archive.writestr(info, npy_bytes(X * 2))
    data = b"#!program\n" + file.getvalue()  # an archive may follow something else
    for name, array in [("x", X), ("y", X * 2)]:
        header = members(data)[name].header
        assert header is not None
        assert np.array_equal(np.ndarray(header.shape, header.dtype, data, header.locator), array)


LONG = npz_bytes({"x": np.zeros(1000)}, compressed=True)
DIRECTORY = LONG.index(b"PK\x01\x02")


def patched(data: bytes, at: int, piece: bytes) -> bytes:
    return data[:at] + piece + data[at + len(piece) :]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected a .npz archive, whose directory is at its end"),
        (npz_bytes({"x": X})[:-1], "expected a .npz archive, whose directory is at its end"),
        (npy_bytes(X), "expected a .npz archive"),
        (zipped({}), "expected an archive of at least one .npy file; found 0 others"),
        (zipped({"x.txt": b""}), "expected an archive of at least one .npy file; found 1 others"),
        (npz_bytes({"x": np.array([None])}), "a dtype without objects; found object (it would have to be unpickled)"),
        (zipped({"x.npy": npy_bytes(X)[:-1]}), "of header and float32 values of shape (4, 3); found 175 bytes (trunc"),
        (zipped({"x.npy": npy_bytes(X)[:-1]}, zipfile.ZIP_DEFLATED), "found 175 bytes (truncated)"),
        (zipped({"x.npy": b"nothing"}), "expected a .npy file, which begins with"),
        (zipped({"x.npy": npy_bytes(X)}, zipfile.ZIP_LZMA), "stored or deflated, as NumPy writes them; found 'x.npy'"),
        (zipped({"x.npy": npy_bytes(X)}, zipfile.ZIP_BZIP2), "found 'x.npy' with method 12"),
        (patched(LONG, DIRECTORY + 8, b"\x01"), "members without a password; found 'x.npy', which is encrypted"),
        (patched(LONG, DIRECTORY + 10, b"\x5d"), "as NumPy writes them; found 'x.npy' with method 93"),
        (patched(LONG, DIRECTORY + 10, b"\x00"), "bytes stored; found"),
        (patched(LONG, DIRECTORY + 24, b"\xff\xff\xff\x7f"), "too few for the 2147483647 bytes of member 'x.npy'"),
        (patched(LONG, 0, b"nope"), "expected member 'x' to be readable; found Bad magic number for file header"),
        (patched(zipped({"x.npy": npy_bytes(X)}), 0, b"nope"), "the header of member 'x.npy' at byte 0; found b'nope'"),
        (patched(zipped({"x.npy": npy_bytes(X)}), 30, b"y"), "in directory 'x.npy' and header b'y.npy' differ"),
        (patched(zipped({"x.npy": npy_bytes(X[:0])}), 160, b"\t"), "expected member 'x' to be readable; found Bad CRC"),
        (patched(zipped({"x.npy": npy_bytes(X)}), 28, b"\xff"), "member 'x.npy' to end before byte"),
    ],
)  # fmt: skip
def test_says_what_is_wrong(data: bytes, message: str) -> None:
    assert message in fault(data)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", npy_bytes(X))
        archive.writestr("x.npy", npy_bytes(X))
    assert "expected members of different names; found 'x.npy' twice" in fault(file.getvalue())


def test_a_file_of_another_size_than_was_listed() -> None:
    with pytest.raises(FormatError, match="as when it was listed; found"):
        read_members(io.BytesIO(LONG), size=len(LONG) - 1)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_header_that_asks_for_petabytes_takes_no_memory(method: int) -> None:
    text = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 1000)}"
    data = zipped({"x.npy": with_header(text, bytes(1000))}, method)
    tracemalloc.start()
    message = fault(data)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert "(truncated)" in message


@hypothesis.settings(max_examples=300)
@hypothesis.given(data=st.data(), method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
def test_damage_gives_an_error_and_takes_little_memory(data: st.DataObject, method: int) -> None:
    archive = bytearray(zipped({"x.npy": npy_bytes(X), "y.npy": npy_bytes(X)}, method))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(archive) - 1))
        archive[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    tracemalloc.start()
    try:
        for member in members(bytes(archive)).values():
            assert (member.header is None) == (member.error is not None)
    except FormatError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 * 2**20


def test_a_stream_goes_forward_and_starts_again(ram: str) -> None:
    array = values((300_000,), "<i4")
    RamFileSystem.contents[ram] = npz_bytes({"x": array}, compressed=True)
    whole = npy_bytes(array)
    stream = MemberStream(ram, "x")
    assert stream.size == len(RamFileSystem.contents[ram])
    for start, stop in [(0, 10), (5, 9), (1_000_000, 1_000_100), (100, 200), (len(whole) - 5, len(whole))]:
        assert stream.seek(start) == start
        out = bytearray(stop - start)
        assert stream.readinto(out) == len(out)
        assert out == whole[start:stop]
    assert stream.readinto(bytearray(1)) == 0
    assert stream.seek(len(whole) + 1) == len(whole)
    stream.close()


def test_reading_to_the_end_checks_the_sum(ram: str) -> None:
    data = npz_bytes({"x": X}, compressed=True)
    RamFileSystem.contents[ram] = patched(data, data.index(b"PK\x01\x02") + 16, b"\x00\x00\x00\x00")
    stream = MemberStream(ram, "x")
    with pytest.raises(FormatError, match=r"expected member .x.npy. to unpack; found Bad CRC-32"):
        stream.readinto(bytearray(len(npy_bytes(X))))
    stream.close()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_stream_that_has_read_all_values_has_compared_the_sum(ram: str, method: int) -> None:
    for rows in range(1, 50):
        array = values((rows, 7), "<f4")
        data = zipped({"x.npy": npy_bytes(array)}, method)
        RamFileSystem.contents[ram] = patched(data, data.index(b"PK\x01\x02") + 16, b"\x00\x00\x00\x00")
        stream = MemberStream(ram, "x")
        with pytest.raises(FormatError, match="Bad CRC-32"):
            stream.seek(len(npy_bytes(array)))
        stream.close()


def test_a_member_that_is_not_there(ram: str) -> None:
    RamFileSystem.contents[ram] = npz_bytes({"y": X}, compressed=True)
    with pytest.raises(FormatError, match=r"an archive with member 'x.npy'"):
        MemberStream(ram, "x")


def test_the_cache_keeps_a_few_streams_and_closes_the_others(ram: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "OPEN_STREAMS", 2)
    RamFileSystem.contents[ram] = npz_bytes({"x": X}, compressed=True)
    cache, opened = StreamCache(), [MemberStream(ram, "x") for _ in range(4)]
    for number, stream in enumerate(opened[:3]):
        cache.give((number,), stream)
    assert cache.take((0,)) is None
    assert cache.take((2,)) is opened[2]
    assert cache.take((2,)) is None  # in use
    cache.give((1,), opened[3])
    assert cache.take((1,)) is opened[3]
    for closed in opened[:2]:
        with pytest.raises(ValueError, match="closed"):
            closed.readinto(bytearray(1))
