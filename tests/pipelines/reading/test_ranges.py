from __future__ import annotations

import concurrent.futures
import io
import os
import pathlib
import tracemalloc
import zipfile
from collections.abc import Iterator

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from pipelines.config.schema import DatasetConfig, parse_config
from pipelines.errors import DataError
from pipelines.reading.ranges import Wanted, read_files, value_dtype
from pipelines.sources.formats import boxes, contiguous, npz
from pipelines.sources.parts import SourceArray
from pipelines.sources.table import scan
from tests.support.arrays import (
    DTYPES,
    RamFileSystem,
    damaged_npz,
    empty_ram,
    npy_bytes,
    npz_bytes,
    values,
    write_files,
)


def source_of(root: str, row_axes: int = 1) -> SourceArray:
    return scan(root, DatasetConfig(row_axes=row_axes)).parts[0].sources["x"]


def read_rows(root: str, source: SourceArray, start: int, stop: int, *, row_axes: int) -> np.ndarray:
    """Consecutive rows of one source."""
    out = np.empty((stop - start, *source.shape[row_axes:]), value_dtype(source))
    read_files(root, [Wanted(source=source, row_axes=row_axes, start=start, out=out)])
    return out


@pytest.fixture
def ram() -> Iterator[str]:
    empty_ram()
    yield "ram://bucket/data"
    empty_ram()


@st.composite
def arrays_and_ranges(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, int], int, int, int]:
    row_axes = draw(st.integers(1, 3))
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=row_axes, max_size=row_axes + 2)))
    dtype = np.dtype(draw(st.sampled_from(DTYPES))).newbyteorder(draw(st.sampled_from("<>")))
    array = np.asarray(values(shape, dtype.str), order=draw(st.sampled_from("CF")))
    rows = int(np.prod(shape[:row_axes]))
    start = draw(st.integers(0, rows))
    version = draw(st.sampled_from([(1, 0), (2, 0), (3, 0)]))
    return array, version, row_axes, start, draw(st.integers(start, rows))


@hypothesis.settings(max_examples=200)
@hypothesis.given(case=arrays_and_ranges(), gap=st.integers(0, 40), buffer=st.integers(8, 200))
def test_equals_numpy(tmp_path_factory: pytest.TempPathFactory, case: tuple, gap: int, buffer: int) -> None:
    array, version, row_axes, start, stop = case
    data = npy_bytes(array, version=version)
    local = write_files(tmp_path_factory.getbasetemp() / "equals", {"x.npy": data})
    empty_ram()
    RamFileSystem.contents["ram://equals/x.npy"] = data
    loaded = np.load(f"{local}/x.npy")
    expected = loaded.reshape(-1, *array.shape[row_axes:])[start:stop].astype(array.dtype.newbyteorder("="))
    for root in (local, "ram://equals"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(boxes, "GAP_BYTES", gap)
            patch.setattr(boxes, "BUFFER_BYTES", buffer)
            rows = read_rows(root, source_of(root, row_axes), start, stop, row_axes=row_axes)
        assert (rows.dtype, rows.shape) == (expected.dtype, expected.shape)
        assert rows.tobytes() == expected.tobytes()


FIELDS = ("?", "<f4", ">f8", "i2", "S3", "<U2", ">U2", "<M8[ns]", ">m8[25s]", ">c8")


@st.composite
def columns_and_ranges(draw: st.DrawFn) -> tuple[np.ndarray, int, int, int]:
    """An array of any dtype that can be read, plain or structured, how many axes count rows, and a range of rows."""
    row_axes = draw(st.integers(0, 2))
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=row_axes, max_size=row_axes + 2)))
    kinds = draw(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=3))
    order = draw(st.sampled_from("CF"))
    if draw(st.booleans()):
        array = np.asarray(values(shape, kinds[0]), order=order)
    else:
        nested = np.dtype([("u", kinds[-1], (2,)), ("v", "u1")])
        fields = [(f"f{n}", kind, (2,) * (n % 2)) for n, kind in enumerate(kinds)]
        array = np.zeros(shape, np.dtype([*fields, ("nested", nested)], align=draw(st.booleans())), order=order)
        for name, kind, inner in fields:
            array[name] = values(shape + inner, kind)
        array["nested"]["u"] = values((*shape, 2), kinds[-1])
        array["nested"]["v"] = values(shape, "u1")
    rows = int(np.prod(shape[:row_axes]))
    start = draw(st.integers(0, rows))
    return array, row_axes, start, draw(st.integers(start, rows))


def columns_of(array: np.ndarray, name: str) -> dict[str, np.ndarray]:
    return {name: array} if array.dtype.names is None else _fields(array, "")


def _fields(array: np.ndarray, prefix: str) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name in array.dtype.names:
        column = array[name]
        found |= {prefix + name: column} if column.dtype.names is None else _fields(column, f"{prefix}{name}.")
    return found


@hypothesis.settings(max_examples=200)
@hypothesis.given(
    case=columns_and_ranges(),
    container=st.sampled_from(["npy", "stored", "compressed"]),
    small=st.sampled_from([0, 2**16]),
    buffer=st.integers(8, 200),
    mapped=st.sampled_from([1, 50, 2**28]),
    columns=st.sampled_from([1, 3, 1024]),
)
def test_every_kind_of_array_in_every_container_equals_numpy(
    tmp_path_factory: pytest.TempPathFactory,
    case: tuple,
    container: str,
    small: int,
    buffer: int,
    mapped: int,
    columns: int,
) -> None:
    array, row_axes, start, stop = case
    archive = {"x": array, "other": np.zeros(3)}
    name, data = (
        ("x.npy", npy_bytes(array))
        if container == "npy"
        else ("a.npz", npz_bytes(archive, compressed=container == "compressed"))
    )
    local = write_files(tmp_path_factory.mktemp("every"), {name: data})
    empty_ram()
    remote = f"ram:/{local}"  # a place of its own: streams that are kept open are known by path, size and time
    RamFileSystem.contents[f"{remote}/{name}"] = data
    expected = columns_of(array, "x")
    config = parse_config({"row_axes": row_axes, "features": {field: {"files": name} for field in expected}})
    for root in (local, remote):
        sources = scan(root, config).parts[0].sources
        assert {source.compressed for source in sources.values()} == {container == "compressed"}
        outs = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(contiguous, "SMALL_BYTES", small)
            patch.setattr(boxes, "BUFFER_BYTES", buffer)
            patch.setattr(contiguous, "MAPPED_BYTES", mapped)
            patch.setattr(boxes, "TILE_COLUMNS", columns)
            patch.setattr(contiguous, "SWAPPED_BYTES", buffer)
            rows = 1 if row_axes == 0 else stop - start
            first, last = (0, 1) if row_axes == 0 else (start, stop)
            for field, source in sources.items():
                outs[field] = np.empty((rows, *source.shape[row_axes:]), value_dtype(source))
            asked = {"row_axes": row_axes, "start": first}
            read_files(root, [Wanted(source=sources[field], out=out, **asked) for field, out in outs.items()])
            alone = {
                field: read_rows(root, source, first, last, row_axes=row_axes) for field, source in sources.items()
            }
        for field, column in expected.items():
            whole = column.reshape(-1, *column.shape[row_axes:])[first:last]
            if whole.dtype.kind in "mM":
                whole = whole.astype(whole.dtype.newbyteorder("=")).view(np.int64)
            whole = whole.astype(whole.dtype.newbyteorder("="))
            for found in (outs[field], alone[field]):
                assert (found.dtype, found.shape) == (whole.dtype, whole.shape)
                assert found.tobytes() == whole.tobytes()


@hypothesis.settings(max_examples=100)
@hypothesis.given(
    case=columns_and_ranges(),
    places=st.lists(st.floats(0, 1), max_size=4),
    container=st.sampled_from(["npy", "stored", "compressed"]),
    mapped=st.sampled_from([1, 50, 2**28]),
    columns=st.sampled_from([1, 3, 1024]),
)
def test_several_ranges_of_several_arrays_of_one_file(
    tmp_path_factory: pytest.TempPathFactory, case: tuple, places: list, container: str, mapped: int, columns: int
) -> None:
    array, row_axes, start, stop = case
    array = array.reshape(1, *array.shape) if row_axes == 0 else array
    row_axes = max(1, row_axes)
    rows = int(np.prod(array.shape[:row_axes]))
    kinds = {"x": array, "y": np.asfortranarray(values((*array.shape[:row_axes], 3), "<u2"))}
    name, data = (
        ("x.npy", npy_bytes(array))
        if container == "npy"
        else ("a.npz", npz_bytes(kinds, compressed=container == "compressed"))
    )
    expected = columns_of(array, "x") | ({} if container == "npy" else columns_of(kinds["y"], "y"))
    config = parse_config({"row_axes": row_axes, "features": {field: {"files": name} for field in expected}})
    local = write_files(tmp_path_factory.mktemp("several"), {name: data})
    empty_ram()
    remote = f"ram:/{local}"
    RamFileSystem.contents[f"{remote}/{name}"] = data
    bounds = [(start, stop), *((int(place * rows), rows) for place in places), (start, stop)]
    for root in (local, remote):
        sources = scan(root, config).parts[0].sources
        reads = [
            [
                Wanted(
                    source=s,
                    row_axes=row_axes,
                    start=first,
                    out=np.empty((last - first, *s.shape[row_axes:]), value_dtype(s)),
                )
                for s in sources.values()
            ]
            for first, last in bounds
        ]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(contiguous, "SMALL_BYTES", 0)
            patch.setattr(contiguous, "MAPPED_BYTES", mapped)
            patch.setattr(boxes, "TILE_COLUMNS", columns)
            read_files(root, [wanted for of_bound in reads for wanted in of_bound])
        for wanted, (first, last) in zip(reads, bounds, strict=True):
            for field, one in zip(sources, wanted, strict=True):
                alone = read_rows(root, sources[field], first, last, row_axes=row_axes)
                whole = expected[field].reshape(rows, *expected[field].shape[row_axes:])[first:last]
                whole = whole.astype(whole.dtype.newbyteorder("="))
                assert one.out.tobytes() == alone.tobytes() == whole.tobytes()


def test_the_records_of_a_remote_table_are_read_once(ram: str) -> None:
    array = np.zeros(10_000, [("a", "<f4"), ("b", "<i8", (3,)), ("c", "S4")])
    array["a"], array["b"] = np.arange(10_000), np.arange(30_000).reshape(-1, 3)
    RamFileSystem.contents[f"{ram}/x.npy"] = npy_bytes(array)
    sources = scan(ram, DatasetConfig()).parts[0].sources
    outs = {name: np.empty((4000, *source.shape[1:]), source.dtype) for name, source in sources.items()}
    RamFileSystem.bytes_read = RamFileSystem.requests = 0
    read_files(ram, [Wanted(source=sources[name], row_axes=1, start=5000, out=out) for name, out in outs.items()])
    assert RamFileSystem.bytes_read == 4000 * array.dtype.itemsize
    assert RamFileSystem.requests == 1
    assert all(np.array_equal(out, array[name][5000:9000]) for name, out in outs.items())


def test_a_stored_member_is_read_by_range_and_a_compressed_one_forward(ram: str) -> None:
    array = values((200_000, 6), "<f4")
    other = {"before": np.zeros(100_000), "x": array, "after": np.zeros(10)}
    RamFileSystem.contents[f"{ram}/s/a.npz"] = npz_bytes(other)
    RamFileSystem.contents[f"{ram}/c/a.npz"] = npz_bytes(other, compressed=True)
    only = parse_config({"features": {"x": {"files": "a.npz"}}})
    stored = scan(f"{ram}/s", only).parts[0].sources["x"]
    compressed = scan(f"{ram}/c", only).parts[0].sources["x"]
    assert RamFileSystem.bytes_read < 200_000
    RamFileSystem.bytes_read = 0
    assert read_rows(f"{ram}/s", stored, 5000, 9000, row_axes=1).tobytes() == array[5000:9000].tobytes()
    assert RamFileSystem.bytes_read == 4000 * 24
    RamFileSystem.bytes_read = 0
    for start in range(0, 200_000, 10_000):
        rows = read_rows(f"{ram}/c", compressed, start, start + 10_000, row_axes=1)
        assert rows.tobytes() == array[start : start + 10_000].tobytes()
    assert RamFileSystem.bytes_read < 1.1 * len(RamFileSystem.contents[f"{ram}/c/a.npz"])
    before = RamFileSystem.bytes_read
    assert read_rows(f"{ram}/c", compressed, 7, 9, row_axes=1).tobytes() == array[7:9].tobytes()
    assert RamFileSystem.bytes_read - before < 300_000  # started again, and read no further than needed


def test_a_compressed_member_takes_little_memory(tmp_path: pathlib.Path) -> None:
    root = write_files(tmp_path, {"a.npz": npz_bytes({"x": np.zeros((40_000, 100))}, compressed=True)})
    source = source_of(root)
    tracemalloc.start()
    assert not read_rows(root, source, 39_000, 39_100, row_axes=1).any()
    assert tracemalloc.get_traced_memory()[1] < 6 * 2**20
    tracemalloc.stop()


def test_threads_share_the_streams_of_an_archive(tmp_path: pathlib.Path) -> None:
    array = values((20_000, 4), "<f4")
    root = write_files(tmp_path, {"a.npz": npz_bytes({"x": array}, compressed=True)})
    source = source_of(root)
    starts = list(range(0, 20_000, 500)) * 2

    def right(start: int) -> bool:
        rows = read_rows(root, source, start, start + 500, row_axes=1)
        return rows.tobytes() == array[start : start + 500].tobytes()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(right, starts))


@pytest.mark.parametrize("place", ["local", "ram"])
def test_a_compressed_member_that_is_damaged(tmp_path: pathlib.Path, ram: str, place: str) -> None:
    data = npz_bytes({"x": values((50_000,), "<i4")}, compressed=True)
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 0xFF
    root = write_files(tmp_path, {"a.npz": bytes(damaged)})
    RamFileSystem.contents[f"{ram}/a.npz"] = bytes(damaged)
    root = root if place == "local" else ram
    source = source_of(root)
    with pytest.raises(DataError, match=r"a.npz: expected member 'x.npy' to unpack; found"):
        read_rows(root, source, 0, 50_000, row_axes=1)


def test_an_archive_that_changed_while_a_stream_was_open(tmp_path: pathlib.Path) -> None:
    root = write_files(tmp_path, {"a.npz": npz_bytes({"x": np.zeros(1000)}, compressed=True)})
    source = source_of(root)
    read_rows(root, source, 0, 500, row_axes=1)
    write_files(tmp_path, {"a.npz": npz_bytes({"x": values((1000,), "f8")}, compressed=True)})
    with pytest.raises(DataError, match=r"a.npz: expected .* as when the sources were checked"):
        read_rows(root, source, 500, 1000, row_axes=1)


@pytest.mark.parametrize("place", ["local", "ram"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_stored_member_that_is_damaged(tmp_path: pathlib.Path, ram: str, place: str, order: str) -> None:
    array = np.asarray(values((50_000, 6), "<f4"), order=order)
    data = damaged_npz(array)
    with pytest.raises(zipfile.BadZipFile, match=r"Bad CRC-32 for file .x\.npy."):
        np.load(io.BytesIO(data))["x"]
    root = write_files(tmp_path, {"a.npz": data})
    RamFileSystem.contents[f"{ram}/a.npz"] = data
    root = root if place == "local" else ram
    sources = scan(root, DatasetConfig()).parts[0].sources

    def read(name: str, start: int) -> np.ndarray:
        out = np.empty((100, 6), "<f4")
        read_files(root, [Wanted(source=sources[name], row_axes=1, start=start, out=out)], checked=True)
        return out

    with pytest.raises(DataError, match=r"a.npz: expected member 'x.npy' to have CRC-32 \w{8}, .*; found \w{8}: the"):
        read("x", 0)  # of rows that are as they were
    assert read("w", 0).tobytes() == array[:100].tobytes()
    assert read("x", 100).tobytes() == array[100:200].tobytes(), "the reader of the first row compares the whole"


def test_a_stored_member_is_compared_once_in_a_process(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_files(tmp_path, {"a.npz": npz_bytes({"x": values((50_000, 6), "<f4")})})
    source, summed = source_of(root), []
    crc32 = npz.zlib.crc32
    monkeypatch.setattr(npz.zlib, "crc32", lambda data, before=0: summed.append(len(data)) or crc32(data, before))
    for start in (0, 10, 0):
        out = np.empty((10, 6), "<f4")
        read_files(root, [Wanted(source=source, row_axes=1, start=start, out=out)], checked=True)
    assert sum(summed) == 50_000 * 24


def test_large_arrays_with_the_real_limits(tmp_path: pathlib.Path, ram: str) -> None:
    array = np.asfortranarray(values((300_000, 9), ">f4"))
    data = npy_bytes(array)
    root = write_files(tmp_path, {"x.npy": data})
    RamFileSystem.contents[f"{ram}/x.npy"] = data
    for start, stop in [(0, 300_000), (123_456, 234_567), (299_999, 300_000)]:
        for place in (root, ram):
            rows = read_rows(place, source_of(place), start, stop, row_axes=1)
            assert rows.tobytes() == array[start:stop].astype("=f4").tobytes()


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", ">f4", "f8"])
@pytest.mark.parametrize(
    ("shape", "row_axes"), [((4000, 300), 1), ((300, 70, 50), 2), ((90, 40, 30, 8), 2), ((500, 700), 0)]
)
def test_fortran_arrays_with_the_real_limits(
    tmp_path: pathlib.Path, dtype: str, shape: tuple[int, ...], row_axes: int
) -> None:
    array = np.asfortranarray(values(shape, dtype))
    root = write_files(tmp_path, {"x.npy": array})
    source = source_of(root, row_axes)
    expected = array.astype(array.dtype.newbyteorder("=")).reshape(-1, *shape[row_axes:])
    rows = len(expected) if row_axes else 1
    for start, stop in [(0, rows), (rows // 3, rows // 2 + 1), (rows // 2, rows // 2 + 1)]:
        start, stop = (start, stop) if row_axes else (0, 1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(contiguous, "MAPPED_BYTES", array.nbytes // 3)
            found = read_rows(root, source, start, stop, row_axes=row_axes)
        assert found.tobytes() == (expected[start:stop].tobytes() if row_axes else expected.tobytes())


@pytest.mark.parametrize("axes", [(0, 1), (1, 0), (1, 2)])
def test_features_of_one_array_whose_rows_are_counted_by_other_axes(
    tmp_path: pathlib.Path, ram: str, axes: tuple[int, int]
) -> None:
    array = np.asfortranarray(values((1, 1, 5, 3), "<f4"))
    config = parse_config({"features": {f"x{n}": {"files": "x.npy", "row_axes": n} for n in axes}})
    RamFileSystem.contents[f"{ram}/x.npy"] = npy_bytes(array)
    for root in (write_files(tmp_path, {"x.npy": array}), ram):
        sources = scan(root, config).parts[0].sources
        outs = {n: np.empty((1, *array.shape[n:]), np.float32) for n in axes}
        read_files(root, [Wanted(source=sources[f"x{n}"], row_axes=n, start=0, out=out) for n, out in outs.items()])
        assert all(out.tobytes() == array.tobytes() for out in outs.values())


def test_little_of_a_large_file_is_mapped_at_a_time(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.asfortranarray(values((1000, 60, 4), "<f4"))
    source = source_of(write_files(tmp_path, {"x.npy": array}), 2)
    made, memmap = [], np.memmap
    monkeypatch.setattr(contiguous, "MAPPED_BYTES", 500_000)
    monkeypatch.setattr(np, "memmap", lambda *args: made.append(memmap(*args)) or made[-1])
    outs = [np.empty((2000, 4), np.float32) for _ in range(3)]
    asked = [
        Wanted(source=source, row_axes=2, start=first, out=out) for out, first in zip(outs, (0, 9, 5000), strict=True)
    ]
    read_files(str(tmp_path), asked)
    assert [window.shape for window in made] == [(1000, 60, 2), (1000, 60, 2)]
    for out, first in zip(outs, (0, 9, 5000), strict=True):
        assert out.tobytes() == array.reshape(-1, 4)[first : first + 2000].tobytes()


def test_a_local_file_that_ends_while_it_is_read(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_files(tmp_path, {"x.npy": np.zeros((5000, 3))})
    source = source_of(root)
    monkeypatch.setattr(contiguous, "check_status", lambda *args: os.truncate(f"{root}/x.npy", 60_000))
    with pytest.raises(DataError, match=r"x.npy: expected 120128 bytes; found the end of the file 60128 bytes before"):
        read_rows(root, source, 0, 5000, row_axes=1)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_remote_range_reads_little_more_than_its_rows(ram: str, order: str) -> None:
    array = np.asarray(values((200_000, 6), "<f8"), order=order)  # type: ignore[call-overload]
    RamFileSystem.contents[f"{ram}/x.npy"] = npy_bytes(array)
    source = source_of(ram)
    assert RamFileSystem.bytes_read < 10_000
    RamFileSystem.bytes_read = RamFileSystem.requests = 0
    rows = read_rows(ram, source, 5000, 9000, row_axes=1)
    assert rows.tobytes() == array[5000:9000].tobytes()
    assert RamFileSystem.bytes_read == rows.nbytes
    assert RamFileSystem.requests == (1 if order == "C" else 6)


def test_small_gaps_are_read_not_asked_for(ram: str) -> None:
    array = np.asfortranarray(values((100, 100, 20), "<u2"))
    RamFileSystem.contents[f"{ram}/x.npy"] = npy_bytes(array)
    source = source_of(ram, 2)
    RamFileSystem.requests = 0
    rows = read_rows(ram, source, 150, 850, row_axes=2)
    assert rows.tobytes() == array.reshape(-1, 20)[150:850].tobytes()
    assert RamFileSystem.requests <= 3  # one for each box


def test_rows_of_every_column_of_a_remote_array_are_read_by_windows(ram: str, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.asfortranarray(values((300, 70, 50), ">u2"))
    RamFileSystem.contents[f"{ram}/x.npy"] = npy_bytes(array)
    source = source_of(ram, 2)
    bounds = [(first, first + 200) for first in range(100, 20_000, 900)]
    for together, asked in [(contiguous.TOGETHER_BYTES, 1), (100_000, 25)]:  # a plane has 42,000 bytes
        monkeypatch.setattr(contiguous, "TOGETHER_BYTES", together)
        outs = [np.empty((200, 50), np.uint16) for _ in bounds]
        RamFileSystem.requests = RamFileSystem.bytes_read = 0
        starts = [start for start, _ in bounds]
        read_files(ram, [Wanted(source=source, row_axes=2, start=s, out=o) for s, o in zip(starts, outs, strict=True)])
        for out, (first, last) in zip(outs, bounds, strict=True):
            assert out.tobytes() == array.reshape(-1, 50)[first:last].astype("=u2").tobytes()
        assert (RamFileSystem.requests, RamFileSystem.bytes_read) == (asked, array.nbytes)


def test_an_archive_in_which_only_some_members_are_compressed(tmp_path: pathlib.Path, ram: str) -> None:
    arrays = {name: values((3000, 2), "<f4", seed=seed) for seed, name in enumerate("xy")}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for method, (name, array) in zip((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED), arrays.items(), strict=True):
            archive.writestr(f"{name}.npy", npy_bytes(array), method)
    RamFileSystem.contents[f"{ram}/a.npz"] = file.getvalue()
    for root in (ram, write_files(tmp_path, {"a.npz": file.getvalue()})):
        sources = scan(root, DatasetConfig()).parts[0].sources
        assert [sources[name].compressed for name in "xy"] == [False, True]
        outs = {name: np.empty((1500, 2), np.float32) for name in "xy"}
        read_files(root, [Wanted(source=sources[name], row_axes=1, start=1000, out=outs[name]) for name in "xy"])
        assert all(outs[name].tobytes() == arrays[name][1000:2500].tobytes() for name in "xy")


def test_other_rows_are_not_held_in_memory_after_a_local_read(tmp_path: pathlib.Path) -> None:
    array = values((4_000_000, 4), "<f4")
    root = write_files(tmp_path, {"x.npy": array})
    source = source_of(root)

    def file_bytes_in_memory() -> int:
        status = pathlib.Path("/proc/self/status").read_text().split()
        return 1024 * int(status[status.index("RssFile:") + 1])

    if not pathlib.Path("/proc/self/status").exists():
        pytest.skip("needs Linux's /proc")
    before = file_bytes_in_memory()
    for start in range(0, len(array), 500_000):
        read_rows(root, source, start, start + 500_000, row_axes=1)
    assert file_bytes_in_memory() - before < array.nbytes / 8


def test_an_empty_range_and_an_empty_file(tmp_path: pathlib.Path) -> None:
    root = write_files(tmp_path, {"x-0.npy": np.zeros((0, 3)), "x-1.npy": np.zeros((2, 3))})
    for part in scan(root, DatasetConfig()).parts:
        assert read_rows(root, part.sources["x"], 0, 0, row_axes=1).shape == (0, 3)


@pytest.mark.parametrize("rows", [4, 6])
def test_a_file_that_changed_since_it_was_checked(tmp_path: pathlib.Path, ram: str, rows: int) -> None:
    root = write_files(tmp_path, {"x.npy": np.zeros((5, 3))})
    RamFileSystem.contents[f"{ram}/x.npy"] = npy_bytes(np.zeros((5, 3)))
    sources = {place: source_of(place) for place in (root, ram)}
    write_files(tmp_path, {"x.npy": np.zeros((rows, 3))})
    RamFileSystem.contents[f"{ram}/x.npy"] = npy_bytes(np.zeros((rows, 3)))
    for place, source in sources.items():
        found = f"x.npy: expected 248 bytes, as when the sources were checked; found {128 + 24 * rows} bytes"
        with pytest.raises(DataError, match=found):
            read_rows(place, source, 0, 2, row_axes=1)


def test_a_file_that_is_gone(tmp_path: pathlib.Path) -> None:
    root = write_files(tmp_path, {"x.npy": np.zeros((5, 3))})
    source = source_of(root)
    (tmp_path / "x.npy").unlink()
    with pytest.raises(FileNotFoundError):
        read_rows(root, source, 0, 2, row_axes=1)
