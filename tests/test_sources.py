from __future__ import annotations

import os
import pathlib
import pickle
from collections.abc import Iterator
from typing import Any

import hypothesis
import numpy as np
import pytest
from arrays import RamFileSystem, empty_ram, npy_bytes, write_files
from hypothesis import strategies as st

from pipelines.config import parse_config
from pipelines.errors import SourceError
from pipelines.layout import match_pattern, place
from pipelines.sources import SourceTable, scan

X = np.zeros((5, 3), np.float32)
Y = np.zeros(5, np.int64)


@pytest.fixture
def ram() -> Iterator[str]:
    empty_ram()
    yield "ram://bucket/data"
    empty_ram()


def table(root: pathlib.Path, contents: dict[str, Any], **config: Any) -> SourceTable:
    return scan(write_files(root, contents), parse_config(config))


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
    assert (source.dtype, source.shape, source.fortran, source.offset) == (">f4", (5, 3), True, 128)
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


def test_follows_links_to_files(tmp_path: pathlib.Path) -> None:
    (tmp_path / "x.npy").symlink_to(write_files(tmp_path.parent / f"{tmp_path.name}-real", {"z.npy": X}) + "/z.npy")
    assert table(tmp_path, {}).rows == 5


@pytest.mark.parametrize(
    ("contents", "config", "expected"),
    [
        ({"notes.txt": b""}, {}, ["ROOT: expected at least one .npy file; found none"]),
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
            ["x.npy (feature x): expected a numeric dtype; found object (it would have to be unpickled)"],
        ),
        ({"x.npy": np.zeros(3, "c8")}, {}, ["expected bool, an integer, or float16/32/64; found complex64"]),
        ({"x.npy": np.zeros(())}, {}, ["(feature x): expected at least 1 axis to count rows; found shape ()"]),
        ({"x.npy": X}, {"row_axes": 3}, ["expected at least 3 axes to count rows; found shape (5, 3)"]),
        ({"x.npy": np.zeros((5, 0))}, {}, ["(feature x): expected a row of at least 1 element; found shape (5, 0)"]),
        ({"x-0.npy": X[:0], "x-1.npy": X[:0]}, {}, ["ROOT: expected at least 1 row; found 2 files without rows"]),
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
            ["images/*.npy (feature x): expected at least one .npy file that matches the pattern; found none"],
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
    assert problems(tmp_path / "file.npy", {})[0].startswith("ROOT: expected at least one .npy file")
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
    with pytest.raises(SourceError, match="9 problems in the sources; nothing was written"):
        table(tmp_path, {}, **config)


def test_a_remote_directory_gives_the_same_parts_and_reads_headers_only(tmp_path: pathlib.Path, ram: str) -> None:
    contents = {"a/x-0.npy": np.zeros((50_000, 3)), "a/x-1.npy": X.astype("f8"), "_t/x.npy": X}
    local = table(tmp_path, contents)
    RamFileSystem.contents.update({f"{ram}/{path}": npy_bytes(array) for path, array in contents.items()})
    remote = scan(ram, parse_config({}))
    assert remote.fingerprint(modified=False) == local.fingerprint(modified=False)
    assert RamFileSystem.bytes_read < 1000
    RamFileSystem.contents[f"{ram}/y.npy"] = b"nothing"
    with pytest.raises(SourceError, match=r"ram://bucket/data/y.npy \(feature y\): expected a .npy file"):
        scan(ram, parse_config({}))


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
