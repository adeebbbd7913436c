"""A format that the project does not know is one class and its registration: nothing else has to change."""

from __future__ import annotations

import json
import pathlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from pipelines.config.schema import parse_config
from pipelines.errors import SourceError
from pipelines.reading.ranges import Wanted, read_files, value_dtype
from pipelines.sources import formats
from pipelines.sources.formats.dtypes import check_dtype, record_text
from pipelines.sources.formats.protocol import Format, FormatError, Header, Member
from pipelines.sources.formats.selection import Selection
from pipelines.sources.table import scan
from pipelines.storage import directories, files
from tests.support.arrays import RamFileSystem, empty_ram, npy_bytes, npz_bytes, values, write_files
from tests.support.builds import make

CHUNK_ROWS = 7

RECORD = np.dtype([("a", ">f4"), ("b", [("c", "S3"), ("d", "<i2", (2,))])])


class Chunked(Format):
    """A directory of one array: `header.json`, and a compressed file for every few indices of its first axis."""

    suffix = ".chunks"
    directory = True

    def members(self, path: str, *, size: int) -> Sequence[Member]:
        return [_member("", path)]

    def read(self, path: str, selections: Sequence[Selection]) -> None:
        for selection in selections:
            selection.copy_from(Chunks(files.join(path, selection.source.member)))


class Group(Chunked):
    """A directory of such directories, each an array of the directory's name."""

    suffix = ".group"
    named = True

    def members(self, path: str, *, size: int) -> Sequence[Member]:
        names = sorted({info.path.split("/")[0] for info in directories.list_files(path)})
        return [_member(name, files.join(path, name)) for name in names]


def _member(name: str, path: str) -> Member:
    said = json.loads(files.read_text(files.join(path, "header.json")))
    dtype = np.lib.format.descr_to_dtype(_as_descr(said["dtype"]))
    try:
        check_dtype(dtype, said["dtype"])
    except FormatError as error:
        return Member(name=name, error=error)
    return Member(name=name, header=Header(dtype=dtype, shape=tuple(said["shape"])))


def _as_descr(said: Any) -> Any:
    return (
        said
        if isinstance(said, str)
        else [tuple(map(_as_descr, field[:2])) + tuple(map(tuple, field[2:])) for field in said]
    )


class Chunks:
    """An array that is cut by slices, as a library's is; only chunks that are needed are read."""

    def __init__(self, path: str) -> None:
        self._path = path
        header = _member("", path).header
        assert header is not None
        self.shape, self.dtype = header.shape, header.dtype

    def __getitem__(self, box: tuple[slice, ...]) -> np.ndarray[Any, Any]:
        rows = box[0] if box else slice(0, 1)
        first, last = rows.start // CHUNK_ROWS, -(-rows.stop // CHUNK_ROWS)
        data = b"".join(zlib.decompress(files.read_bytes(files.join(self._path, f"{n}"))) for n in range(first, last))
        array = np.frombuffer(data, self.dtype).reshape(-1, *self.shape[1:])
        array = array[rows.start - first * CHUNK_ROWS : rows.stop - first * CHUNK_ROWS]
        return array[(slice(None), *box[1:])] if box else array.reshape(())


def chunked(array: np.ndarray[Any, Any]) -> dict[str, bytes]:
    """The files of a directory of one array."""
    rows = array.reshape(array.shape or (1,))
    header = {"dtype": np.lib.format.dtype_to_descr(array.dtype), "shape": array.shape}
    chunks = [rows[first : first + CHUNK_ROWS].tobytes() for first in range(0, len(rows), CHUNK_ROWS)]
    return {"header.json": json.dumps(header).encode()} | {f"{n}": zlib.compress(data) for n, data in enumerate(chunks)}


def below(directory: str, contents: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{directory}/{name}": content for name, content in contents.items()}


def as_chunks(arrays: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, bytes]:
    """The same arrays as `{name}.chunks` for `{name}.npy`."""
    found: dict[str, bytes] = {}
    for name, array in arrays.items():
        found |= below(f"{name.removesuffix('.npy')}.chunks", chunked(array))
    return found


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for known in (Chunked(), Group()):
        monkeypatch.setitem(formats.FORMATS, known.suffix, known)
    empty_ram()
    yield
    empty_ram()


def shards(output: pathlib.Path) -> dict[str, bytes]:
    found = {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob("*.tfrecord"))}
    assert len(found) > 4
    return found


ARRAYS = {
    f"{name}-{part}.npy": array
    for part, rows in enumerate((40, 9, 63))
    for name, array in {
        "x": np.asarray(np.random.default_rng(part).normal(size=(rows, 5)), ">f4"),
        "label": np.arange(rows) % 3,
        "time": (np.arange(rows) * 10**9).astype("M8[ns]"),
        "word": np.array([f"w{n}" for n in range(rows)]),
    }.items()
}


@pytest.mark.slow
def test_a_build_over_it_has_the_shards_of_a_build_over_npy(tmp_path: pathlib.Path) -> None:
    config: dict[str, Any] = {"shard_bytes": 1500, "features": {"x": {"normalize": "minmax"}}}
    make(write_files(tmp_path / "npy", ARRAYS), tmp_path / "of_npy", **config)
    make(write_files(tmp_path / "chunks", as_chunks(ARRAYS)), tmp_path / "of_chunks", **config)
    assert shards(tmp_path / "of_chunks") == shards(tmp_path / "of_npy")
    for name in ("fitted.npz", "moments.npz"):
        assert (tmp_path / "of_chunks" / name).read_bytes() == (tmp_path / "of_npy" / name).read_bytes()


def test_a_build_over_containers_of_several_arrays_has_the_shards_of_a_build_over_npz(tmp_path: pathlib.Path) -> None:
    parts = {f"train/{n}": {"x": values((30 + n, 4), "<i4"), "y": np.arange(30 + n)} for n in range(3)}
    parts |= {"test/0": parts["train/0"]}
    npz = {f"{part}.npz": npz_bytes(arrays) for part, arrays in parts.items()}
    groups: dict[str, bytes] = {}
    for part, arrays in parts.items():
        for name, array in arrays.items():
            groups |= below(f"{part}.group/{name}", chunked(array))
    make(write_files(tmp_path / "npz", npz), tmp_path / "of_npz", shard_bytes=400)
    make(write_files(tmp_path / "groups", groups), tmp_path / "of_groups", shard_bytes=400)
    assert shards(tmp_path / "of_groups") == shards(tmp_path / "of_npz")


@pytest.mark.parametrize(
    ("array", "row_axes"),
    [
        (values((30, 5), ">f8"), 1),
        (values((6, 5, 4), "<u2"), 2),
        (values((6, 5), "<u2"), 0),
        (np.array(7.5), 0),
        (np.arange(30).astype("M8[s]"), 1),
        (np.zeros(30, RECORD), 1),
    ],
)
@pytest.mark.parametrize("remote", [False, True])
def test_its_rows_are_those_of_npy(
    tmp_path: pathlib.Path, array: np.ndarray[Any, Any], row_axes: int, remote: bool
) -> None:
    if array.dtype.names:
        array["a"], array["b"]["c"] = np.arange(30), b"abc"
    found = {}
    for kind, contents in {"npy": {"x.npy": npy_bytes(array)}, "chunks": as_chunks({"x": array})}.items():
        root = write_files(tmp_path / kind, contents)
        if remote:
            root = f"ram://bucket/{kind}"
            RamFileSystem.contents.update(below(root, contents))
        (part,) = scan(root, parse_config({"row_axes": row_axes})).parts
        first, last = (0, 1) if row_axes == 0 else (part.rows // 3, part.rows - 1)
        outs = {
            name: np.zeros((last - first, *source.shape[row_axes:]), value_dtype(source))
            for name, source in part.sources.items()
        }
        asked = {"row_axes": row_axes, "start": first}
        read_files(root, [Wanted(source=part.sources[name], out=out, **asked) for name, out in outs.items()])
        found[kind] = {name: (out.dtype, out.shape, out.tobytes()) for name, out in outs.items()}
        assert all(source.record == record_text(array.dtype) for source in part.sources.values())
    assert found["chunks"] == found["npy"]


def test_a_directory_is_one_container(tmp_path: pathlib.Path) -> None:
    contents = as_chunks({"train/x-0.npy": np.zeros((30, 2)), "test/x-0.npy": np.zeros((3, 2))})
    found = scan(write_files(tmp_path, contents | {"notes.chunks.txt": b""}), parse_config({}))
    assert [(part.name, part.split, part.rows) for part in found.parts] == [
        ("test/0", "test", 3),
        ("train/0", "train", 30),
    ]
    source = found.parts[1].sources["x"]
    assert source.path == "train/x-0.chunks"
    assert source.size == sum(len(data) for name, data in contents.items() if name.startswith("train/"))
    assert source.modified == max(path.stat().st_mtime for path in (tmp_path / "train/x-0.chunks").iterdir())


def test_patterns_and_messages_name_it(tmp_path: pathlib.Path) -> None:
    root = write_files(tmp_path, as_chunks({"a.npy": np.zeros((3, 2)), "b.npy": np.zeros((3, 2), "c32")}))
    config = parse_config({"features": {"x": {"files": "[a].chunks"}}})
    with pytest.raises(SourceError) as error:
        scan(root, config)
    found = [str(problem).replace(f"{root}/", "") for problem in error.value.problems]
    known = ".npy, .npz, .h5, .hdf5, .zarr, .chunks or .group"
    assert f"[a].chunks (feature x): expected at least one {known} file that matches" in found[0]
    assert any(line.startswith("b.chunks (feature b): expected bool, an integer") for line in found)
    only = parse_config({"features": {"x": {"files": f"{root}/a.chunks"}}})
    assert scan(write_files(tmp_path / "empty", {}), only).parts[0].sources["x"].path == f"{root}/a.chunks"
