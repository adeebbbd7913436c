from __future__ import annotations

import pathlib
from collections.abc import Iterator

import hypothesis
import numpy as np
import pytest
from arrays import DTYPES, RamFileSystem, empty_ram, npy_bytes, values, write_files
from hypothesis import strategies as st

from pipelines import read
from pipelines.config import DatasetConfig
from pipelines.errors import DataError
from pipelines.read import boxes, check_finite, read_rows, requests
from pipelines.sources import Source, scan


def source_of(root: str, row_axes: int = 1) -> Source:
    return scan(root, DatasetConfig(row_axes=row_axes)).parts[0].sources["x"]


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
@hypothesis.given(case=arrays_and_ranges(), given_out=st.booleans(), gap=st.integers(0, 40), buffer=st.integers(8, 200))
def test_equals_numpy(
    tmp_path_factory: pytest.TempPathFactory, case: tuple, given_out: bool, gap: int, buffer: int
) -> None:
    array, version, row_axes, start, stop = case
    data = npy_bytes(array, version=version)
    local = write_files(tmp_path_factory.getbasetemp() / "equals", {"x.npy": data})
    empty_ram()
    RamFileSystem.contents["ram://equals/x.npy"] = data
    loaded = np.load(f"{local}/x.npy")
    expected = loaded.reshape(-1, *array.shape[row_axes:])[start:stop].astype(array.dtype.newbyteorder("="))
    for root in (local, "ram://equals"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(read, "GAP_BYTES", gap)
            patch.setattr(read, "BUFFER_BYTES", buffer)
            out = np.empty_like(expected, order="C") if given_out else None
            rows = read_rows(root, source_of(root, row_axes), start, stop, row_axes=row_axes, out=out)
        assert out is None or rows is out
        assert (rows.dtype, rows.shape, rows.flags.c_contiguous) == (expected.dtype, expected.shape, True)
        assert rows.dtype.isnative
        assert rows.tobytes() == expected.tobytes()


@hypothesis.given(data=st.data(), shape=st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple))
def test_boxes_are_the_range_in_order(data: st.DataObject, shape: tuple[int, ...]) -> None:
    grid = np.arange(np.prod(shape)).reshape(shape)
    start = data.draw(st.integers(0, grid.size))
    stop = data.draw(st.integers(start, grid.size))
    found = boxes(shape, start, stop)
    assert [i for box in found for i in grid[box].ravel()] == list(range(start, stop))
    assert len(found) <= 2 * len(shape) - 1


@hypothesis.given(data=st.data(), shape=st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple))
def test_requests_cover_a_box_once_within_the_limits(data: st.DataObject, shape: tuple[int, ...]) -> None:
    starts = [data.draw(st.integers(0, length - 1)) for length in shape]
    box = tuple(
        slice(start, data.draw(st.integers(start + 1, length))) for start, length in zip(starts, shape, strict=True)
    )
    gap, buffer = data.draw(st.integers(0, 100)), data.draw(st.integers(4, 400))
    grid = 4 * np.arange(np.prod(shape)).reshape(shape, order="F")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read, "GAP_BYTES", gap)
        patch.setattr(read, "BUFFER_BYTES", buffer)
        found = [np.sort(grid[request].ravel()) for request in requests(shape, box, 4)]
    assert np.array_equal(np.sort(np.concatenate(found)), np.sort(grid[box].ravel()))
    assert [places[0] for places in found] == sorted(places[0] for places in found)
    for places in found:
        assert places[-1] + 4 - places[0] <= buffer
        assert np.all(np.diff(places) - 4 <= gap)


def test_large_arrays_with_the_real_limits(tmp_path: pathlib.Path, ram: str) -> None:
    array = np.asfortranarray(values((300_000, 9), ">f4"))
    data = npy_bytes(array)
    root = write_files(tmp_path, {"x.npy": data})
    RamFileSystem.contents[f"{ram}/x.npy"] = data
    for start, stop in [(0, 300_000), (123_456, 234_567), (299_999, 300_000)]:
        for place in (root, ram):
            rows = read_rows(place, source_of(place), start, stop, row_axes=1)
            assert rows.tobytes() == array[start:stop].astype("=f4").tobytes()


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_remote_range_reads_little_more_than_its_rows(ram: str, order: str) -> None:
    array = np.asarray(values((200_000, 6), "<f8"), order=order)  # type: ignore[call-overload]
    RamFileSystem.contents[f"{ram}/x.npy"] = npy_bytes(array)
    source = source_of(ram)
    assert RamFileSystem.bytes_read < 1000
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


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 1), (0, 6), (6, 6)])
def test_a_range_outside_the_file(tmp_path: pathlib.Path, start: int, stop: int) -> None:
    root = write_files(tmp_path, {"x.npy": np.zeros((5, 3))})
    with pytest.raises(IndexError, match=rf"x.npy: expected a range within its 5 rows; found {start} to {stop}"):
        read_rows(root, source_of(root), start, stop, row_axes=1)


@pytest.mark.parametrize(
    "out", [np.empty((2, 3), "f8"), np.empty((3, 3), "f4"), np.empty((3, 2), "f4").T, np.empty((2, 3), ">f4")]
)
def test_an_out_that_does_not_fit(tmp_path: pathlib.Path, out: np.ndarray) -> None:
    root = write_files(tmp_path, {"x.npy": np.zeros((5, 3), "f4")})
    with pytest.raises(ValueError, match=r"x.npy: expected a C-contiguous array for float32 of shape \(2, 3\); found"):
        read_rows(root, source_of(root), 1, 3, row_axes=1, out=out)


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


@hypothesis.given(
    dtype=st.sampled_from(["<f2", ">f2", "<f4", ">f4", "f8"]),
    shape=st.lists(st.integers(1, 40), min_size=1, max_size=3).map(tuple),
    value=st.sampled_from([np.inf, -np.inf]),
    chunk=st.integers(1, 100),
    data=st.data(),
)
def test_finds_the_first_infinity(
    dtype: str, shape: tuple[int, ...], value: float, chunk: int, data: st.DataObject
) -> None:
    array = np.full(shape, np.nan, dtype)
    array[::2] = np.finfo(dtype).max
    check_finite(array, path="x.npy", feature="x", first_row=0)
    rows = sorted(data.draw(st.sets(st.integers(0, shape[0] - 1), min_size=1, max_size=3)))
    for row in rows:
        array.reshape(shape[0], -1)[row, data.draw(st.integers(0, array[row].size - 1))] = value
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read, "CHECK_ELEMENTS", chunk)
        with pytest.raises(DataError) as error:
            check_finite(array, path="x.npy", feature="x", first_row=1000)
    message = f"x.npy (feature x): expected finite values or NaN; found {value} in row {1000 + rows[0]}"
    where = tuple(np.argwhere(np.isinf(array))[0, 1:].tolist())
    assert str(error.value) == (f"{message} at {where}" if where else message)


def test_where_an_infinity_is_in_its_row_and_views() -> None:
    array = np.zeros((4, 3, 6), np.float16)
    array[2, 1, 4] = -np.inf
    with pytest.raises(DataError, match=r"found -inf in row 12 at \(1, 2\)"):
        check_finite(array[:, :, ::2], path="x.npy", feature="x", first_row=10)
    check_finite(array[:2], path="x.npy", feature="x", first_row=0)
    check_finite(array[:0], path="x.npy", feature="x", first_row=0)
    check_finite(np.full(3, 2**62), path="x.npy", feature="x", first_row=0)
