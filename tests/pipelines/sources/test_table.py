from __future__ import annotations

import os
import pathlib
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from pipelines.config.schema import parse_config
from pipelines.errors import SourceError
from pipelines.sources.headers import Chunk, read_headers
from pipelines.sources.path_layout import match_pattern, place
from pipelines.sources.table import SourceTable, scan
from tests.support.arrays import RamFileSystem, empty_ram, npy_bytes, npz_bytes, with_header, write_files

X = np.zeros((5, 3), np.float32)
Y = np.zeros(5, np.int64)

OUTPUT_ARCHIVES = ("statistics", "fitted", "moments", "transform_moments", "golden")


@pytest.fixture
def ram() -> Iterator[str]:
    empty_ram()
    yield "ram://bucket/data"
    empty_ram()


def table(root: pathlib.Path, contents: dict[str, Any], **config: Any) -> SourceTable:
    return scan(write_files(root, contents), parse_config(config))


SUFFIXES = ".npy, .npz, .h5, .hdf5 or .zarr"


def problems(root: pathlib.Path, contents: dict[str, Any], **config: Any) -> list[str]:
    """What is wrong, with the root taken out of the paths."""
    with pytest.raises(SourceError) as error:
        table(root, contents, **config)
    assert error.value.exit_code == 2
    return [str(problem).replace(f"{root}/", "").replace(str(root), "ROOT") for problem in error.value.problems]


def parts_of(found: SourceTable) -> dict[str, dict[str, str]]:
    return {part.name: {name: source.path for name, source in part.sources.items()} for part in found.parts}


@pytest.mark.parametrize(
    ("path", "feature", "part"),
    [
        ("features.npy", "features", ""),
        ("images-000.npy", "images", "000"),
        ("images_12.npy", "images", "12"),
        ("part.3.npy", "part", "3"),
        ("images-00000-of-00004.npy", "images", "00000-of-00004"),
        ("band2.npy", "band2", ""),
        ("band-2-000.npy", "band-2", "000"),
        ("x-y.npy", "x-y", ""),
        ("-5.npy", "-5", ""),
        ("images/000.npy", "images", "000"),
        ("images/00000-of-00004.npy", "images", "00000-of-00004"),
        ("images/images-000.npy", "images", "000"),
        ("train/images.npy", "images", "train"),
        ("train/images-000.npy", "images", "train/000"),
        ("train/images/000.npy", "images", "train/000"),
        ("images/train/000.npy", "images", "train/000"),
        ("images/train/images-000.npy", "images", "train/000"),
        ("a/b/images/000.npy", "images", "a/b/000"),
        ("images/a/images/000.npy", "images", "images/a/000"),
        ("a/2024/x.npy", "x", "a/2024"),
    ],
)
def test_feature_and_part_of_a_path(path: str, feature: str, part: str) -> None:
    entry = place(path)
    assert entry is not None
    assert (entry.feature, entry.part) == (feature, part)


@pytest.mark.parametrize("path", ["000.npy", "train/000.npy", "val/test/1.npy"])
def test_a_number_alone_names_no_feature(path: str) -> None:
    assert place(path) is None


@pytest.mark.parametrize(
    ("pattern", "path", "part"),
    [
        ("x.npy", "x.npy", ""),
        ("x.npy", "y/x.npy", None),
        ("x.npy", "xanpy", None),
        ("./img*.npy", "img07.npy", "07"),
        ("*.npy", "a/b.npy", None),
        ("*/img-*.npy", "train/img-3.npy", "train/3"),
        ("img-???.npy", "img-012.npy", "012"),
        ("img-???.npy", "img-12.npy", None),
        ("a/**/x-*.npy", "a/x-1.npy", "1"),
        ("a/**/x-*.npy", "a/b/c/x-1.npy", "b/c/1"),
        ("a/**/x-*.npy", "ab/x-1.npy", None),
        ("a/**", "a/b/c.npy", "b/c.npy"),
        ("**/*.npy", "x.npy", "x"),
        ("img[1].npy", "img[1].npy", ""),
        ("img[1].npy", "img1.npy", None),
    ],
)
def test_patterns(pattern: str, path: str, part: str | None) -> None:
    assert match_pattern(pattern, path) == part


def test_the_table_of_two_features_in_numbered_parts(tmp_path: pathlib.Path) -> None:
    big = np.asfortranarray(np.zeros((5, 3), ">f4"))
    found = table(tmp_path, {"x-0.npy": X, "x-1.npy": big, "y-0.npy": Y, "y-1.npy": Y, "notes.txt": b"", ".z.npy": b""})
    assert parts_of(found) == {"0": {"x": "x-0.npy", "y": "y-0.npy"}, "1": {"x": "x-1.npy", "y": "y-1.npy"}}
    x, y = found.features
    assert (x.name, x.dtype, x.shape, x.row_axes) == ("x", np.dtype("=f4"), (3,), 1)
    assert (y.name, y.dtype, y.shape, y.row_axes) == ("y", np.dtype("=i8"), (), 1)
    assert (found.rows, found.row_bytes, found.nbytes, found.by_directory) == (10, 20, 200, False)
    source = found.parts[1].sources["x"]
    assert (source.dtype, source.shape, source.fortran, source.locator) == (">f4", (5, 3), True, 128)
    assert (source.size, source.modified) == (188, os.path.getmtime(tmp_path / "x-1.npy"))
    assert pickle.loads(pickle.dumps(found)) == found


def test_row_axes(tmp_path: pathlib.Path) -> None:
    cube = {"cube.npy": np.zeros((4, 5, 7), np.uint16), "labels.npy": np.zeros((4, 5), np.uint8)}
    found = table(tmp_path, cube, row_axes=2)
    assert [(feature.shape, feature.row_axes) for feature in found.features] == [((7,), 2), ((), 2)]
    assert found.rows == 20
    flat = {"cube.npy": cube["cube.npy"], "labels.npy": np.zeros(20, np.uint8)}
    assert table(tmp_path, flat, features={"cube": {"row_axes": 2}}).rows == 20


def test_one_feature_may_have_an_empty_part(tmp_path: pathlib.Path) -> None:
    found = table(tmp_path, {"x-0.npy": X[:0], "x-1.npy": X})
    assert [part.rows for part in found.parts] == [0, 5]


def test_patterns_claim_files_and_join_their_wildcards(tmp_path: pathlib.Path) -> None:
    contents = {"a/img1.npy": X, "a/img2.npy": X, "b/lab1.npy": Y, "b/lab2.npy": Y}
    features = {"images": {"files": "a/img*.npy"}, "labels": {"files": ["b/lab?.npy", "b/lab1.npy"]}}
    assert parts_of(table(tmp_path, contents, features=features)) == {
        "1": {"images": "a/img1.npy", "labels": "b/lab1.npy"},
        "2": {"images": "a/img2.npy", "labels": "b/lab2.npy"},
    }


def test_a_file_may_hold_two_features(tmp_path: pathlib.Path) -> None:
    found = table(tmp_path, {"x.npy": X}, features={"x": {"files": "x.npy"}, "target": {"files": "x.npy"}})
    assert parts_of(found) == {"": {"target": "x.npy", "x": "x.npy"}}


SPLIT = {"train/x-0.npy": X, "train/x-1.npy": X, "test/x.npy": X}


@pytest.mark.parametrize("path", ["x.npy", "other/x.npy"])
def test_some_directories_of_splits_among_others_are_a_question(tmp_path: pathlib.Path, path: str) -> None:
    root = write_files(tmp_path, SPLIT | {path: X})
    with pytest.raises(SourceError, match=r"expected a directory that names a split, as in .*; or `splits` in"):
        scan(root, parse_config({}))
    assert not scan(root, parse_config({"splits": {"train": 1.0}})).by_directory


def test_row_axes_that_hold_as_many_rows_in_another_shape(tmp_path: pathlib.Path) -> None:
    root = write_files(tmp_path, {"cube.npy": np.zeros((6, 4, 2)), "labels.npy": np.zeros((4, 6))})
    with pytest.raises(SourceError, match=r"labels.npy .*expected row axes \(6, 4\), as in cube.npy .*found \(4, 6\)"):
        scan(root, parse_config({"row_axes": 2}))


@pytest.mark.parametrize(
    ("contents", "config", "splits"),
    [
        (SPLIT, {}, ["test", "train", "train"]),
        (SPLIT, {"splits": "directory"}, ["test", "train", "train"]),
        (SPLIT, {"splits": {"train": 0.5, "test": 0.5}}, [None, None, None]),
        ({"Train/x.npy": X, "TEST/x.npy": X}, {}, ["TEST", "Train"]),
        (SPLIT | {"other/x.npy": X}, {"splits": "directory"}, ["other", "test", "train", "train"]),
        ({"val/x/0.npy": X, "x/train/0.npy": X}, {}, ["train", "val"]),
        ({"train/img.npy": X, "test/img.npy": X}, {"features": {"x": {"files": "*/img.npy"}}}, ["test", "train"]),
        ({"train/img.npy": X}, {"features": {"x": {"files": "train/img.npy"}}}, [None]),
    ],
)
def test_splits(tmp_path: pathlib.Path, contents: dict[str, Any], config: dict[str, Any], splits: list[str]) -> None:
    found = table(tmp_path, contents, **config)
    assert [part.split for part in found.parts] == splits
    assert found.by_directory == (splits[0] is not None)


def test_the_case_of_a_suffix_does_not_matter(tmp_path: pathlib.Path) -> None:
    found = table(tmp_path, {"x-0.npy": X, "y-0.NPY": Y, "a/x.NPZ": npz_bytes({"x": X, "y": Y})})
    assert parts_of(found) == {"0": {"x": "x-0.npy", "y": "y-0.NPY"}, "a/x": {"x": "a/x.NPZ", "y": "a/x.NPZ"}}


def test_follows_links_to_files(tmp_path: pathlib.Path) -> None:
    (tmp_path / "x.npy").symlink_to(write_files(tmp_path.parent / f"{tmp_path.name}-real", {"z.npy": X}) + "/z.npy")
    assert table(tmp_path, {}).rows == 5


@pytest.mark.parametrize(
    ("contents", "config", "expected"),
    [
        ({"notes.txt": b""}, {}, [f"ROOT: expected at least one {SUFFIXES} file; found none"]),
        (
            {"x.npy": npy_bytes(X)[:-4]},
            {},
            ["x.npy (feature x): expected 188 bytes: 128 of header and float32 values of shape (5, 3); found 184"],
        ),
        ({"x.npy": npy_bytes(X) + b"1"}, {}, ["values of shape (5, 3); found 189 bytes (1 trailing bytes)"]),
        ({"x.npy": b"PK\x03\x04....."}, {}, ["x.npy (feature x): expected a .npy file, which begins with"]),
        ({"x.npy": b""}, {}, ["found the end of the file after 0 of 8 bytes"]),
        (
            {"x.npy": npy_bytes(np.array([None]))},
            {},
            ["x.npy (feature x): expected a dtype without objects; found object (it would have to be unpickled)"],
        ),
        ({"x.npy": np.zeros(3, "M8")}, {}, ["datetime64/timedelta64 with a unit; found datetime64 (descr"]),
        (
            {"x.npy": np.zeros(())},
            {},
            [
                "(feature x): expected at least 1 axis to count rows (`row_axes: 0` makes each file a row); "
                "found shape ()"
            ],
        ),
        ({"x.npy": X}, {"row_axes": 3}, ["expected at least 3 axes to count rows; found shape (5, 3)"]),
        ({"x.npy": np.zeros((5, 0))}, {}, ["(feature x): expected a row of at least 1 element; found shape (5, 0)"]),
        ({"x-0.npy": X[:0], "x-1.npy": X[:0]}, {}, ["ROOT: expected at least 1 row; found 2 files without rows"]),
        (
            {"x-0.npy": X[:0], "x-1.npy": X},
            {"features": {"x": {"window": {"size": 6}}}},
            ["x-1.npy (feature x): expected at least 6 steps, as window.size says; found shape (5, 3)"],
        ),
        (
            {"x-0.npy": X, "x-1.npy": X.astype("f8"), "x-2.npy": X[:, :2]},
            {},
            [
                "x-1.npy (feature x): expected float32 rows of shape (3,), as in x-0.npy; found float64 rows",
                "expected float32 rows of shape (3,), as in x-0.npy; found float32 rows of shape (2,)",
            ],
        ),
        (
            {"x-0.npy": X[:0, :2], "x-1.npy": X},
            {},
            ["x-1.npy (feature x): expected float32 rows of shape (2,), as in x-0.npy"],
        ),
        (
            {"x.npy": X, "y.npy": Y[:4]},
            {},
            ["y.npy (feature y): expected 5 rows, as in x.npy (feature x); found 4 rows"],
        ),
        (
            {"images-002.npy": X, "images-003.npy": X, "labels-002.npy": Y},
            {},
            ["ROOT: expected a file of feature labels in part '003'; found images-003.npy only"],
        ),
        (
            {"x-1.npy": X, "x_1.npy": X},
            {},
            ["x_1.npy (feature x): expected one file of the feature in part '1'; found x-1.npy as well"],
        ),
        (
            {"x.npy": X, "x.npz": npz_bytes({"x": X})},
            {},
            ["x.npz (feature x): expected the rows once; `files: x.npy` or `files: x.npz` says where; found x.npy"],
        ),
        (
            {"x.npy": X, "000.npy": X},
            {},
            ["000.npy: expected a file or directory name that names the feature"],
        ),
        (
            {"train/000.npy": X, "test/000.npy": X},
            {},
            ["test/000.npy: expected a file or directory name", "train/000.npy: expected a file or directory name"],
        ),
        (
            {"x.npy": X, "y.npy": Y},
            {"features": {"label": {"role": "label"}}},
            ["ROOT (feature label): expected files of this feature, which the configuration names; found features x, "],
        ),
        (
            {"x.npy": X},
            {"features": {"x": {"files": ["x.npy", "images/*.npy"]}}},
            [f"images/*.npy (feature x): expected at least one {SUFFIXES} file that matches the pattern; found none"],
        ),
        (
            {"train/x.npy": X, "x.npy": X},
            {"splits": "directory"},
            ["x.npy (feature x): expected a file in a directory that names its split, as in train/images-000.npy"],
        ),
        (
            {"train/x.npy": X, "transform/x.npy": X},
            {"splits": "directory"},
            ["train/images-000.npy; found 'transform', which the output needs for something else"],
        ),
    ],
)  # fmt: skip
def test_each_problem(
    tmp_path: pathlib.Path, contents: dict[str, Any], config: dict[str, Any], expected: list[str]
) -> None:
    found = problems(tmp_path, contents, **config)
    assert len(found) == len(expected)
    for one, part in zip(found, expected, strict=True):
        assert part in one


def test_a_file_that_cannot_be_opened(tmp_path: pathlib.Path) -> None:
    (tmp_path / "y.npy").symlink_to(tmp_path / "absent")
    assert problems(tmp_path, {"x.npy": X}) == [
        "y.npy (feature y): expected a file that can be read; found No such file or directory"
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: pathlib.Path) -> None:
    root = write_files(tmp_path, {"x.npy": X})
    (tmp_path / "x.npy").chmod(0)
    with pytest.raises(SourceError, match="Permission denied"):
        scan(root, parse_config({}))


def test_a_root_that_is_absent_or_a_file(tmp_path: pathlib.Path) -> None:
    assert problems(tmp_path / "file.npy", {})[0].startswith(
        "ROOT: expected at least one .npy, .npz, .h5, .hdf5 or .zarr file"
    )
    with pytest.raises(SourceError, match="absent: expected a directory that can be read; found No such file"):
        scan(str(tmp_path / "absent"), parse_config({}))
    (tmp_path / "x.npy").write_bytes(npy_bytes(X))
    with pytest.raises(SourceError, match=r"x.npy: expected a directory that can be read; found Not a directory"):
        scan(str(tmp_path / "x.npy"), parse_config({}))


def test_all_problems_are_listed_together(tmp_path: pathlib.Path) -> None:
    contents = {
        "000.npy": X,
        "x-0.npy": X,
        "x-1.npy": X.astype("f8"),
        "x-2.npy": npy_bytes(X)[:-1],
        "x-3.npy": X,
        "x_3.npy": X,
        "y-0.npy": Y[:3],
        "y-1.npy": Y,
        "y-3.npy": np.array([None] * 5),
    }
    config = {"features": {"z": {"role": "weight"}, "w": {"files": "w*"}}}
    found = problems(tmp_path, contents, **config)
    wanted = {
        "w* (feature w)": "matches the pattern",
        "000.npy": "names the feature",
        "ROOT (feature z)": "found features x, y",
        "x_3.npy (feature x)": "x-3.npy as well",
        "x-2.npy (feature x)": "truncated",
        "y-3.npy (feature y)": "unpickled",
        "x-1.npy (feature x)": "float64 rows",
        "ROOT": "a file of feature y in part '2'",
        "y-0.npy (feature y)": "found 3 rows",
    }
    assert {line.split(": expected")[0] for line in found} == set(wanted)
    assert len(found) == len(wanted)
    for path, text in wanted.items():
        assert any(line.startswith(f"{path}: ") and text in line for line in found)
    with pytest.raises(SourceError, match="9 problems in the sources"):
        table(tmp_path, {}, **config)


def test_a_remote_directory_gives_the_same_parts_and_reads_headers_only(tmp_path: pathlib.Path, ram: str) -> None:
    contents = {"a/x-0.npy": np.zeros((50_000, 3)), "a/x-1.npy": X.astype("f8"), "_t/x.npy": X}
    local = table(tmp_path, contents)
    RamFileSystem.contents.update({f"{ram}/{path}": npy_bytes(array) for path, array in contents.items()})
    remote = scan(ram, parse_config({}))
    assert remote.fingerprint(modified=False) == local.fingerprint(modified=False)
    assert RamFileSystem.bytes_read < 5000  # of 1.2 MB: a request is for 4 KiB at least
    RamFileSystem.contents[f"{ram}/y.npy"] = b"nothing"
    with pytest.raises(SourceError, match=r"ram://bucket/data/y.npy \(feature y\): expected a .npy file"):
        scan(ram, parse_config({}))


def shapes(found: SourceTable) -> dict[str, tuple[str, tuple[int | None, ...]]]:
    return {feature.name: (feature.kind_name, feature.shape) for feature in found.features}


def test_the_members_of_an_archive_are_features_and_the_archive_a_part(tmp_path: pathlib.Path) -> None:
    one, two = npz_bytes({"x": X, "label": Y}), npz_bytes({"x": X[:2], "label": Y[:2]}, compressed=True)
    found = table(tmp_path, {"train/a-000.npz": one, "train/a-001.npz": two, "test/b.npz": one})
    assert [(part.name, part.rows, part.split) for part in found.parts] == [
        ("test/b", 5, "test"),
        ("train/a-000", 5, "train"),
        ("train/a-001", 2, "train"),
    ]
    assert shapes(found) == {"label": ("int64", ()), "x": ("float32", (3,))}
    sources = [part.sources["x"] for part in found.parts]
    assert [(source.member, source.compressed) for source in sources] == [("x", False), ("x", False), ("x", True)]
    assert found.row_bytes == 20


def test_the_fields_of_a_table_are_features(tmp_path: pathlib.Path) -> None:
    dtype = np.dtype([("a", ">f4"), ("b", [("c", "S7"), ("d", "<i2", (2,))])])
    found = table(tmp_path, {"table-000.npy": np.zeros(5, dtype), "001.npy": np.zeros(3, dtype), "y-000.npy": Y,
                             "y-001.npy": Y[:3]})  # fmt: skip
    assert shapes(found) == {
        "a": ("float32", ()),
        "b.c": ("string", ()),
        "b.d": ("int16", (2,)),
        "y": ("int64", ()),
    }
    assert parts_of(found)["001"] == {"a": "001.npy", "b.c": "001.npy", "b.d": "001.npy", "y": "y-001.npy"}
    source = found.parts[0].sources["b.d"]
    assert (source.dtype, source.shape, source.field) == ("<i2", (5, 2), "b.d")
    assert found.row_bytes == 4 + 7 + 4 + 8


def test_a_pattern_chooses_a_member_or_a_field(tmp_path: pathlib.Path) -> None:
    record = np.zeros(5, [("x", "f4"), ("y", "i8")])
    contents = {
        "m/1.npz": npz_bytes({"x": X, "more": Y, "object": np.array([None])}),
        "n/1.npz": npz_bytes({"arr_0": Y}),
        "t/1.npy": record,
    }
    features = {"x": {"files": "m/*.npz"}, "z": {"files": "n/*.npz"}, "y": {"files": "t/*.npy"}}
    found = table(tmp_path, contents, features=features)
    assert shapes(found) == {"x": ("float32", (3,)), "y": ("int64", ()), "z": ("int64", ())}
    assert [(s.member, s.field) for s in found.parts[0].sources.values()] == [("x", ""), ("", "y"), ("arr_0", "")]
    assert problems(tmp_path, {}, features=features | {"q": {"files": "t/*.npy"}}) == [
        "t/1.npy (feature q): expected one array, or one of the name 'q'; found arrays x, y"
    ]


def test_dtypes_and_units(tmp_path: pathlib.Path) -> None:
    arrays = {
        "b-0.npy": np.array([b"abc", b""]),
        "b-1.npy": np.array([b"abcdefg"]),
        "c-0.npy": np.zeros((2, 3), ">c8"),
        "c-1.npy": np.zeros((1, 3), "<c8"),
        "t-0.npy": np.zeros(2, ">M8[ns]"),
        "t-1.npy": np.zeros(1, "<M8[ns]"),
        "u-0.npy": np.array(["ab", "c"]),
        "u-1.npy": np.array(["abcd"]),
    }
    found = table(tmp_path, arrays)
    assert [(f.name, f.kind_name, f.dtype, f.unit, f.shape) for f in found.features] == [
        ("b", "string", np.dtype("S7"), "", ()),
        ("c", "complex64", np.dtype("c8"), "", (3,)),
        ("t", "int64", np.dtype("int64"), "datetime64[ns]", ()),
        ("u", "string", np.dtype("U4"), "", ()),
    ]
    # bytes: 2 rows of 3 and 1 of 7; text: 2 rows of 8 and 1 of 16
    assert found.row_bytes == round(13 / 3 + 24 + 8 + 32 / 3)
    assert "datetime64[s] rows of shape ()" in problems(tmp_path, {"t-1.npy": np.zeros(1, "M8[s]")})[0]
    assert (
        "found bytes rows of shape ()"
        in problems(tmp_path, {"t-1.npy": arrays["t-1.npy"], "u-1.npy": Y[:1].astype("S")})[0]
    )


def test_each_file_is_one_row(tmp_path: pathlib.Path) -> None:
    contents = {
        f"{name}/{n:03}.npy": np.zeros((4, 6), kind) for name, kind in [("x", "u1"), ("m", "?")] for n in range(3)
    }
    found = table(tmp_path, contents, row_axes=0)
    assert (found.rows, found.row_bytes) == (3, 48)
    assert [(feature.shape, feature.row_axes) for feature in found.features] == [((4, 6), 0), ((4, 6), 0)]
    with pytest.raises(SourceError, match="found uint8 rows of shape"):
        table(tmp_path, {"x/003.npy": np.zeros((4, 7), "u1"), "m/003.npy": np.zeros((4, 6), "?")}, row_axes=0)


def test_ragged_rows(tmp_path: pathlib.Path) -> None:
    lengths = [3, 0, 7]
    contents = {f"x-{n}.npy": np.zeros((length, 5), "f4") for n, length in enumerate(lengths)}
    contents |= {f"y-{n}.npy": np.zeros(1, "i8") for n in range(3)}
    found = table(tmp_path, contents, features={"x": {"ragged": True}})
    x, y = found.features
    assert (x.shape, x.ragged, x.inner_shape, x.row_axes) == ((None, 5), True, (5,), 0)
    assert (y.shape, y.ragged, y.row_axes) == ((), False, 1)
    assert (found.rows, found.row_bytes) == (3, round(20 * 10 / 3 + 8))
    (problem,) = problems(tmp_path, {"x-1.npy": np.zeros((2, 4), "f4")}, features={"x": {"ragged": True}})
    assert problem.endswith("as in x-0.npy; found float32 rows of shape (None, 4)")
    problem, *_ = problems(tmp_path, {"x-1.npy": np.zeros((), "f4")}, features={"x": {"ragged": True}})
    assert "expected at least 1 axis, whose length varies; found shape ()" in problem


def test_other_roots(tmp_path: pathlib.Path, ram: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    write_files(elsewhere, {"masks/m-1.npy": Y, "masks/m-2.npy": Y, "masks/other.npy": Y})
    RamFileSystem.contents[f"{ram}/w/1.npy"] = RamFileSystem.contents[f"{ram}/w/2.npy"] = npy_bytes(Y)
    features = {
        "mask": {"files": f"{elsewhere}/masks/m-*.npy"},
        "w": {"files": f"{ram}/w/*.npy"},
        "x": {"files": "in/x-*.npy"},
    }
    found = table(tmp_path / "root", {"in/x-1.npy": X, "in/x-2.npy": X}, features=features)
    assert parts_of(found)["2"] == {
        "mask": f"{elsewhere}/masks/m-2.npy",
        "w": f"{ram}/w/2.npy",
        "x": "in/x-2.npy",
    }
    with pytest.raises(SourceError, match="absent: expected a directory that can be read"):
        table(tmp_path / "root", {}, features={"x": {"files": f"{elsewhere}/absent/*.npy"}})


def test_an_absolute_pattern_may_point_below_the_root(tmp_path: pathlib.Path) -> None:
    found = table(tmp_path, {"m/m-1.npy": Y, "x-1.npy": X}, features={"mask": {"files": f"{tmp_path}/m/m-*.npy"}})
    assert parts_of(found) == {"1": {"mask": f"{tmp_path}/m/m-1.npy", "x": "x-1.npy"}}


def test_features_without_files(tmp_path: pathlib.Path) -> None:
    made = {
        "row": {"source": "index"},
        "label": {"source": "directory"},
        "flag": {"source": {"constant": True}},
        "one": {"source": {"constant": 1}},
        "half": {"source": {"constant": 0.5}},
    }
    contents = {"dog/x-1.npy": X, "cat/x-2.npy": X}
    found = table(tmp_path, contents, features=made)
    assert [(f.name, f.kind_name, f.origin, f.constant) for f in found.features] == [
        ("flag", "bool", "constant", True),
        ("half", "float32", "constant", 0.5),
        ("label", "int64", "directory", None),
        ("one", "int64", "constant", 1),
        ("row", "int64", "index", None),
        ("x", "float32", "files", None),
    ]
    assert found.directories == ("cat", "dog")
    assert [(part.name, part.directory, set(part.sources)) for part in found.parts] == [
        ("cat/2", "cat", {"x"}),
        ("dog/1", "dog", {"x"}),
    ]
    assert table(tmp_path / "plain", contents).directories == ()
    assert (
        "expected no file of this feature, whose source is 'index'"
        in problems(tmp_path, {}, features={"x": {"source": "index"}})[0]
    )


TREE = {f"{split}/{name}/{n:03}.npy": np.zeros((4, 4), "u1") for split in ("train", "test") for name in ("cat", "dog")
        for n in range(2 + (name == "dog"))}  # fmt: skip
TREE_CONFIG = {"image": {"files": "*/*/*.npy", "row_axes": 0}, "label": {"source": "directory"}}


def test_a_directory_for_each_class(tmp_path: pathlib.Path) -> None:
    found = table(tmp_path, TREE, features=TREE_CONFIG)
    assert (found.rows, found.directories, found.by_directory) == (10, ("cat", "dog"), True)
    assert [(part.split, part.directory) for part in found.parts[:3]] == [
        ("test", "cat"),
        ("test", "cat"),
        ("test", "dog"),
    ]
    flat = {path.partition("/")[2]: array for path, array in TREE.items()}
    found = table(
        tmp_path / "flat",
        flat,
        features={"image": {"files": "*/*.npy", "row_axes": 0}, "label": {"source": "directory"}},
    )
    assert (found.rows, found.directories) == (5, ("cat", "dog"))
    masks = {path.replace(".npy", ".mask.npy"): array for path, array in flat.items()}
    features = {"image": {"files": "*/???.npy"}, "mask": {"files": "*/*.mask.npy"}, "label": {"source": "directory"}}
    assert table(tmp_path / "flat", masks, features=features, row_axes=0).directories == ("cat", "dog")
    images = {f"{path.split('/')[0]}/images/{path.split('/')[1]}": array for path, array in flat.items()}
    features = {"image": {"files": "*/images/*.npy"}, "label": {"source": "directory"}}
    assert table(tmp_path / "images", images, features=features).directories == ("cat", "dog")


def test_a_class_needs_a_directory(tmp_path: pathlib.Path) -> None:
    features = {"label": {"source": "directory"}}
    assert problems(tmp_path / "a", {"x.npy": X}, features=features) == [
        "x.npy (feature x): expected a directory that names the class of its rows; found none"
    ]
    assert "names the class of its rows; found none" in problems(tmp_path / "b", SPLIT, features=features)[0]
    features |= {"x": {"files": "cat/x-*.npy"}, "y": {"files": "dog/y-*.npy"}}
    assert problems(tmp_path / "c", {"cat/x-1.npy": X, "dog/y-1.npy": Y}, features=features) == [
        "dog/y-1.npy (feature y): expected directory 'cat' to name the class, as in cat/x-1.npy; found 'dog'"
    ]


@pytest.mark.parametrize("even", [True, False])
def test_a_tree_of_classes_without_any_option(tmp_path: pathlib.Path, even: bool) -> None:
    contents = {f"{name}/{n:03}.npy": np.zeros((8, 8, 3), "u1") for name in ("cat", "dog") for n in range(3)}
    if not even:
        del contents["cat/001.npy"]
    (found,) = problems(tmp_path, contents)
    assert """--set 'features.image={files: "*/*.npy", row_axes: 0}' --set features.label.source=directory""" in found
    assert "found 2 directories (cat, dog) of arrays of one dtype, as in cat/000.npy" in found
    # What is suggested works.
    features = {"image": {"files": "*/*.npy", "row_axes": 0}, "label": {"source": "directory"}}
    assert table(tmp_path, {}, features=features).rows == 5 + even
    features = {name: {"files": f"{name}/*.npy"} for name in ("cat", "dog")}
    if even:
        assert table(tmp_path, {}, features=features).rows == 24


def test_directories_of_features_are_no_classes(tmp_path: pathlib.Path) -> None:
    assert table(tmp_path / "a", {"noisy/000.npy": X, "target/000.npy": X}).rows == 5
    assert table(tmp_path / "b", {"images/000.npy": X, "masks/000.npy": X[:, :1]}).rows == 5
    assert table(tmp_path / "c", {"a/images-0.npy": X, "a/masks-0.npy": X}).rows == 5
    assert "in part '001'" in problems(tmp_path / "d", {"u/000.npy": X, "u/001.npy": X, "v/000.npy": Y})[0]


BAD = {
    "x-0.npy": X,
    "x-1.npy": npy_bytes(X)[:-1],
    "x-2.npy": X.astype("f8"),
    "x-3.npy": np.array([None] * 5),
    "x-4.npy": X,
    "x-5.npy": X,
    "y-0.npy": Y,
    "y-1.npy": Y,
    "y-2.npy": Y,
    "y-3.npy": Y,
    "y-4.npy": with_header("{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000000,)}"),
    "y-5.npy": Y,
}


def test_skips_bad_files_with_the_other_files_of_their_parts(tmp_path: pathlib.Path) -> None:
    found = table(tmp_path, BAD, on_error="skip", max_bad_files=4)
    assert [part.name for part in found.parts] == ["0", "5"]
    assert [os.path.basename(problem.path) for problem in found.skipped] == [
        f"{x}.npy" for x in ("x-1", "x-3", "y-4", "x-2")
    ]
    assert found.skipped[-1].expected == "float32 rows of shape (3,), as in x-0.npy"
    first, *rest = problems(tmp_path, {}, on_error="skip", max_bad_files=3)
    assert first == "ROOT: expected at most 3 bad files (max_bad_files); found 4"
    assert len(rest) == 4
    assert len(problems(tmp_path, {})) == 4
    assert table(tmp_path / "good", {"x.npy": X}, on_error="skip", max_bad_files=0).skipped == ()


def test_skipping_goes_by_the_majority(tmp_path: pathlib.Path) -> None:
    found = table(tmp_path, {"x-0.npy": X[:, :2], "x-1.npy": X, "x-2.npy": X}, on_error="skip")
    assert [part.name for part in found.parts] == ["1", "2"]
    assert found.features[0].shape == (3,)


@pytest.mark.parametrize("marks", [("manifest.json", "statistics.pb"), ("_build/state.json",)])
@pytest.mark.parametrize("place", ["out", "train/out", "."])
def test_the_archives_of_an_output_below_the_sources_are_none(
    tmp_path: pathlib.Path, place: str, marks: tuple[str, ...]
) -> None:
    learned = {f"{place}/{name}.npz": npz_bytes({"x/count": np.zeros(())}) for name in OUTPUT_ARCHIVES}
    write_files(tmp_path, {"x.npy": X} | learned)
    for mark in marks:
        (tmp_path / place / mark).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place / mark).write_text("{}")
    found = scan(str(tmp_path), parse_config({}))
    assert [feature.name for feature in found.features] == ["x"]
    (tmp_path / place / marks[-1]).unlink()  # what is no output holds arrays, whatever their names
    assert len(problems(tmp_path, {}, splits={"train": 1.0})) >= len(OUTPUT_ARCHIVES)


def test_what_is_no_fault_of_a_file_fails_all_the_same(tmp_path: pathlib.Path) -> None:
    assert (
        "a file of feature y in part '1'"
        in problems(tmp_path / "a", {"x-0.npy": X, "x-1.npy": X, "y-0.npy": Y}, on_error="skip")[0]
    )
    assert "expected 5 rows" in problems(tmp_path / "b", {"x-0.npy": X, "y-0.npy": Y[:2]}, on_error="skip")[0]
    found = problems(tmp_path / "c", {"x-0.npy": b"nothing"}, on_error="skip")
    assert "0 files without rows, and 1 problem in files that were skipped" in found[0]
    assert "x-0.npy" in found[1]


def test_skips_archives_and_tables(tmp_path: pathlib.Path) -> None:
    good = npz_bytes({"x": X, "y": Y})
    contents = {"a.npz": good, "b.npz": good[:-30], "c.npz": npz_bytes({"x": X, "y": np.array([None])})}
    found = table(tmp_path / "archives", contents, on_error="skip")
    assert [part.name for part in found.parts] == ["a"]
    assert len(found.skipped) == 2
    record = np.zeros(5, [("a", "f4"), ("b", "i8")])
    found = table(tmp_path / "tables", {"t-0.npy": record, "t-1.npy": npy_bytes(record)[:-1]}, on_error="skip")
    assert [part.name for part in found.parts] == ["0"]
    assert problems(tmp_path / "archives", {}) == [
        "b.npz: expected a .npz archive, whose directory is at its end (it is not while the archive is being written); "
        "found File is not a zip file",
        "c.npz (feature y): expected a dtype without objects; found object (it would have to be unpickled)",
    ]
    assert problems(tmp_path / "tables", {}) == [
        "t-1.npy (feature t): expected 188 bytes: 128 of header and void96 values of shape (5,); "
        "found 187 bytes (truncated)"
    ]


def test_headers_are_read_by_whatever_reads_chunks(tmp_path: pathlib.Path) -> None:
    contents = {f"x-{n:03}.npy": X for n in range(300)} | {"x-007.npy": b"nothing"}
    root, seen = write_files(tmp_path, contents), []

    def elsewhere(where: str, chunks: Sequence[Chunk]) -> Iterator[Any]:
        for chunk in chunks:
            seen.append(len(chunk))
            yield pickle.loads(pickle.dumps(read_headers))(where, pickle.loads(pickle.dumps(chunk)))

    config = parse_config({"on_error": "skip"})
    found = scan(root, config, read_headers=elsewhere)
    assert (sum(seen), len(found.parts), found) == (300, 299, scan(root, config))
    assert len(seen) > 16


def test_the_fingerprint(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {"x-0.npy": X, "x-1.npy": X, "y-0.npy": Y, "y-1.npy": Y}
    first = table(tmp_path / "one", contents)
    plain, timed = first.fingerprint(modified=False), first.fingerprint(modified=True)
    assert len(plain) == 32
    assert plain != timed
    moved = table(tmp_path / "two", contents)
    assert moved.fingerprint(modified=False) == plain
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listdir(path)[::-1])
    assert table(tmp_path / "one", {}).fingerprint(modified=True) == timed
    monkeypatch.undo()
    os.utime(tmp_path / "one" / "x-0.npy", (1, 1))
    touched = table(tmp_path / "one", {})
    assert touched.fingerprint(modified=False) == plain
    assert touched.fingerprint(modified=True) != timed
    for change in ({"x-0.npy": X.astype(">f4")}, {"x-0.npy": np.asfortranarray(X)}, {"x-2.npy": X, "y-2.npy": Y}):
        assert table(tmp_path / f"three{len(change)}", contents | change).fingerprint(modified=False) != plain


@hypothesis.given(
    names=st.sets(st.from_regex(r"[a-z]{1,3}([-_.]?[a-z0-9]{1,2}){0,2}", fullmatch=True), min_size=1, max_size=3),
    numbers=st.sets(st.integers(0, 99), min_size=1, max_size=3),
    style=st.sampled_from(
        ["{name}-{number:03}", "{name}_{number}", "{name}.{number:05}-of-00100", "{name}/{number:02}"]
    ),
    folder=st.sampled_from(["", "train/", "a/b/"]),
)
def test_every_layout_pairs_every_part_with_every_feature(
    names: set[str], numbers: set[int], style: str, folder: str
) -> None:
    paths = {(name, n): folder + style.format(name=name, number=n) + ".npy" for name in names for n in numbers}
    places = {key: place(path) for key, path in paths.items()}
    if not any(name in {"a", "b", "dev", "val"} for name in names):
        assert all(entry is not None and entry.feature == key[0] for key, entry in places.items())
        parts = {(n, entry.part) for (_, n), entry in places.items() if entry is not None}
        assert len(parts) == len(numbers) == len({part for _, part in parts})
