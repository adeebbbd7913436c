"""HDF5 files and Zarr stores: the same rows as `.npy` files, and clear errors."""

from __future__ import annotations

import json
import os
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

from pipelines.config.schema import parse_config
from pipelines.errors import DataError, SourceError
from pipelines.plan.plan import COMPRESSED_BLOCK_BYTES, make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.reading.ranges import Wanted, read_files, value_dtype
from pipelines.sources import formats
from pipelines.sources.table import scan
from tests.support.arrays import RamFileSystem, empty_ram, npy_bytes, values, write_files
from tests.support.builds import make

Arrays = Mapping[str, np.ndarray[Any, Any]]

RECORD = np.dtype([("a", "<f4"), ("b", "S3")])


@pytest.fixture(autouse=True)
def _empty() -> None:
    empty_ram()


def write_hdf5(root: pathlib.Path, arrays: Arrays, **options: Any) -> None:
    """All arrays in one file, in chunks."""
    root.mkdir(parents=True, exist_ok=True)
    with h5py.File(root / "all.h5", "w") as file:
        for name, array in arrays.items():
            chunks = (7, *array.shape[1:]) if array.ndim and len(array) >= 7 else None
            kind = h5py.opaque_dtype(array.dtype) if array.dtype.kind in "mM" else array.dtype
            file.create_dataset(name, data=array.astype(kind), chunks=chunks, **options)


def write_group(root: pathlib.Path, arrays: Arrays, version: int) -> None:
    """All arrays in one group, in chunks."""
    group = zarr.open_group(root / "all.zarr", mode="w", zarr_format=version)
    for name, array in arrays.items():
        chunks = (7, *array.shape[1:]) if array.ndim else "auto"
        group.create_array(name, data=array, chunks=chunks)


def write_sharded(root: pathlib.Path, arrays: Arrays) -> None:
    """A store of its own for each array, whose chunks are put together in shards."""
    for name, array in arrays.items():
        plain = array.ndim and not array.dtype.names  # records in shards are more than this library can write
        cut = {"chunks": (7, *array.shape[1:]), "shards": (14, *array.shape[1:])} if plain else {}
        zarr.create_array(root / f"{name}.zarr", data=array, **cut)


WRITERS: dict[str, Callable[[pathlib.Path, Arrays], None]] = {
    "hdf5": lambda root, arrays: write_hdf5(root, arrays),
    "hdf5 compressed": lambda root, arrays: write_hdf5(
        root, arrays, **({"compression": "gzip", "shuffle": True} if all(a.ndim for a in arrays.values()) else {})
    ),
    "zarr 2": lambda root, arrays: write_group(root, arrays, 2),
    "zarr 3": lambda root, arrays: write_group(root, arrays, 3),
    "zarr shards": write_sharded,
}


def to_ram(directory: pathlib.Path) -> str:
    """Copies a directory into memory, hidden files too."""
    for path in directory.rglob("*"):
        if path.is_file():
            RamFileSystem.contents[f"ram://bucket/{path.relative_to(directory)}"] = path.read_bytes()
    return "ram://bucket"


def read(root: str, row_axes: int) -> dict[str, Any]:
    """Some rows in the middle, of each feature."""
    (part,) = scan(root, parse_config({"row_axes": row_axes})).parts
    first, last = (0, 1) if row_axes == 0 else (part.rows // 3, part.rows - 1)
    outs = {
        name: np.zeros((last - first, *source.shape[row_axes:]), value_dtype(source))
        for name, source in part.sources.items()
    }
    read_files(
        root,
        [Wanted(source=part.sources[name], out=out, row_axes=row_axes, start=first) for name, out in outs.items()],
    )
    return {name: (out.dtype, out.shape, out.tobytes()) for name, out in outs.items()}


@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_rows_are_those_of_npy(tmp_path: pathlib.Path, writer: str, remote: bool) -> None:
    records = np.zeros(30, RECORD)
    records["a"], records["b"] = np.arange(30), b"abc"
    kinds = [
        ({"x": values((30, 5), "<f8"), "y": np.arange(30) % 3 == 0, "z": values((30, 2, 3), "<c8")}, 1),
        ({"time": np.arange(30).astype("M8[s]"), "word": np.array([b"w%d" % n for n in range(30)])}, 1),
        ({"records": records}, 1),
        ({"cube": values((16, 5, 4), "<u2")}, 2),
        ({"one": values((16, 5), "<u2")}, 0),
        ({"scalar": np.array(7.5)}, 0),
    ]
    for number, (arrays, row_axes) in enumerate(kinds):
        directory = tmp_path / str(number)
        write_files(directory / "npy", {f"{name}.npy": npy_bytes(array) for name, array in arrays.items()})
        WRITERS[writer](directory / "other", arrays)
        root = to_ram(directory / "other") if remote else str(directory / "other")
        assert read(root, row_axes) == read(str(directory / "npy"), row_axes)
        empty_ram()


def test_a_file_is_a_part(tmp_path: pathlib.Path) -> None:
    """As an archive is, whatever groups its data sets are in."""
    for split, rows in (("train", 30), ("test", 7)):
        write_hdf5(tmp_path / split, {"x": np.zeros((rows, 2)), "label": np.arange(rows)})
    found = scan(str(tmp_path), parse_config({}))
    assert [(part.name, part.split, part.rows) for part in found.parts] == [
        ("test/all", "test", 7),
        ("train/all", "train", 30),
    ]
    assert sorted(found.parts[0].sources) == ["label", "x"]


def test_a_store_is_named_as_a_file_is(tmp_path: pathlib.Path) -> None:
    write_sharded(tmp_path, {"images-0": np.zeros((30, 2)), "images-1": np.zeros((20, 2)), "labels-0": np.arange(30)})
    write_files(tmp_path, {"labels-1.npy": np.arange(20)})
    found = scan(str(tmp_path), parse_config({}))
    assert [(part.name, part.rows, sorted(part.sources)) for part in found.parts] == [
        ("0", 30, ["images", "labels"]),
        ("1", 20, ["images", "labels"]),
    ]


@pytest.mark.parametrize("writer", ["hdf5 compressed", "zarr 3"])
def test_a_build_has_the_rows_of_one_over_npy(tmp_path: pathlib.Path, writer: str) -> None:
    arrays = {"x": np.random.default_rng(0).normal(size=(40, 5)), "label": np.arange(40) % 3}
    write_files(tmp_path / "npy", {f"{name}.npy": npy_bytes(array) for name, array in arrays.items()})
    WRITERS[writer](tmp_path / "other", arrays)
    # One block holds all rows, so that the order is the same; the name of the part is in the order, too.
    config = {"features": {name: {"files": f"{name}.npy"} for name in arrays}, "splits": {"train": 1}}
    expected = make(str(tmp_path / "npy"), tmp_path / "of_npy", **config)
    found = make(str(tmp_path / "other"), tmp_path / "of_other", splits={"train": 1})
    assert found.rows("train") == expected.rows("train") == 40
    for name in ("fitted.npz", "moments.npz"):
        with np.load(tmp_path / "of_npy" / name) as one, np.load(tmp_path / "of_other" / name) as other:
            assert {key: one[key].tobytes() for key in one} == {key: other[key].tobytes() for key in other}


@pytest.mark.parametrize("writer", ["hdf5", "zarr 2"])
def test_each_chunk_is_read_once(tmp_path: pathlib.Path, writer: str) -> None:
    """Blocks begin where chunks do; without chunks they would be of one row here."""
    rows = np.zeros((70, 1000))
    WRITERS[writer](tmp_path, {"x": rows})
    config = parse_config({"shard_bytes": 100_000})
    table = scan(str(tmp_path), config)
    plan = make_plan(table, resolve_config(config, table))
    spans = [span for task in plan.tasks() for span in plan.blocks(task)]
    assert plan.block_rows < 7
    assert {(span.start % 7, span.rows) for span in spans} == {(0, 7)}
    assert sum(span.rows for span in spans) == 70
    assert 7 * table.row_bytes < COMPRESSED_BLOCK_BYTES  # beyond which a chunk is read by several blocks


def problem(root: pathlib.Path) -> str:
    with pytest.raises(SourceError) as error:
        scan(str(root), parse_config({}))
    (found,) = error.value.problems
    return str(found).replace(f"{root}/", "")


def test_what_is_wrong_with_an_hdf5_file_is_said(tmp_path: pathlib.Path) -> None:
    path, found = tmp_path / "a.h5", {}

    def with_file(name: str, fill: Callable[[h5py.File], Any]) -> None:
        with h5py.File(path, "w") as file:
            fill(file)
        found[name] = problem(tmp_path)

    secret = tmp_path / "secret"
    secret.write_bytes(b"0123456789")
    with_file("text", lambda file: file.create_dataset("x", data=["a", "bc"]))
    with_file("empty", lambda file: file.create_dataset("x", data=h5py.Empty("f4")))
    with_file("nothing", lambda file: file.create_group("x"))
    with_file("external", lambda file: file.create_dataset("x", (10,), "u1", external=[(str(secret), 0, 10)]))
    with_file("elsewhere", lambda file: file.create_virtual_dataset("x", _virtual(str(secret))))
    path.write_bytes(b"no such file")
    found["none"] = problem(tmp_path)
    own = "expected values that lie in the file itself; found 'x', whose do not"
    sizes = "expected a dtype of one size, such as NumPy's S8 for text; found object: elements whose lengths vary"
    assert found == {
        "text": f"a.h5 (feature x): {sizes}",
        "empty": "a.h5 (feature x): expected an array; found an empty data set, which has no shape",
        "nothing": "a.h5: expected at least one data set; found none",
        "external": f"a.h5 (feature x): {own}",
        "elsewhere": f"a.h5 (feature x): {own}",
        "none": "a.h5: expected an HDF5 file; found Unable to synchronously open file (file signature not found)",
    }


def _virtual(path: str) -> Any:
    layout = h5py.VirtualLayout((10,), "u1")
    layout[:] = h5py.VirtualSource(path, "y", (10,))
    return layout


def test_what_is_wrong_with_a_zarr_store_is_said(tmp_path: pathlib.Path) -> None:
    found = {}
    array = zarr.create_array(tmp_path / "x.zarr", data=np.arange(30.0), chunks=(7,), zarr_format=2)
    metadata = tmp_path / "x.zarr" / ".zarray"
    said = json.loads(metadata.read_text())
    metadata.write_text(json.dumps(said | {"compressor": {"id": "pickle", "protocol": 5}}))
    found["pickle"] = problem(tmp_path)
    metadata.write_text("{")
    found["json"] = problem(tmp_path)
    metadata.unlink()
    found["nothing"] = problem(tmp_path)
    assert array.shape == (30,)
    expected = "x.zarr (feature x): expected a Zarr array, or a group of arrays, that can be read; found "
    assert found["pickle"].startswith(f"{expected}ValueError: ")
    assert "'pickle'" in found["pickle"]
    assert found["json"].startswith(f"{expected}JSONDecodeError: ")
    assert found["nothing"].startswith(f"{expected}GroupNotFoundError: ")


@pytest.mark.parametrize("kind", ["hdf5", "zarr"])
def test_a_container_that_changed_or_is_damaged_is_named(tmp_path: pathlib.Path, kind: str) -> None:
    rows = np.arange(60.0).reshape(30, 2)
    write = WRITERS["hdf5 compressed" if kind == "hdf5" else "zarr 3"]
    write(tmp_path, {"x": rows})
    (part,) = scan(str(tmp_path), parse_config({})).parts
    wanted = [Wanted(source=part.sources["x"], out=np.zeros((30, 2)), row_axes=1, start=0)]
    read_files(str(tmp_path), wanted)
    if kind == "hdf5":
        path = tmp_path / "all.h5"
        status, data = path.stat(), bytearray(path.read_bytes())
        with h5py.File(path) as file:
            data[file["x"].id.get_chunk_info(1).byte_offset + 5] ^= 0xFF
        path.write_bytes(data)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        expected = r"all\.h5: expected data set 'x' to be readable; found Can't synchronously read data"
    else:
        (tmp_path / "all.zarr/x/c/1/0").write_bytes(b"damaged")
        expected = r"all\.zarr: expected a Zarr array, or a group of arrays, that can be read; found "
    with pytest.raises(DataError, match=expected):
        read_files(str(tmp_path), wanted)
    write(tmp_path, {"x": rows[:20]})
    with pytest.raises(DataError, match="changed"):
        read_files(str(tmp_path), wanted)


@pytest.mark.parametrize(("suffix", "module"), [(".h5", "h5py"), (".zarr", "zarr")])
def test_the_package_that_lacks_is_named(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, suffix: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    extra = "hdf5" if module == "h5py" else module
    with pytest.raises(formats.protocol.FormatError, match=rf"expected the package {module}; .*npyflow\[{extra}\]"):
        formats.FORMATS[suffix].members(str(tmp_path / f"x{suffix}"), size=0)
