"""Tables that name no files: row i is row i of the arrays beside them. The oracle is the table as it was made."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from loaders import numpy
from pipelines.config.schema import parse_config
from pipelines.errors import SourceError
from pipelines.plan.resolve import resolve_config
from pipelines.sources.table import SourceTable, scan
from tests.support.arrays import write_files
from tests.support.builds import build

ROWS = 60
X = np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32)
LABELS = np.arange(ROWS) % 7
FOLDS = np.arange(ROWS) // 40
COLUMNS = {"label": LABELS, "fold": FOLDS, "site": np.array([f"site {n % 3}" for n in range(ROWS)])}
TABLE = pa.table(COLUMNS)
RAW = {"x": {"impute": "none", "normalize": "none"}}


def file_of(columns: pa.Table, suffix: str = ".csv") -> bytes:
    file = io.BytesIO()
    csv.write_csv(columns, file) if suffix == ".csv" else parquet.write_table(columns, file)
    return file.getvalue()


def rows_of(root: str, output: pathlib.Path, config: Mapping[str, Any]) -> dict[str, set[tuple[Any, ...]]]:
    """By the name of a split its rows, each the bytes of `x` and the values of the table's columns."""
    manifest = build(root, output, {"features": RAW, **config})
    found = {}
    for split in manifest.splits:
        batches = list(numpy.Loader(str(output), split, batch_size=10, shuffle=False, drop_remainder=False))
        read = {name: np.concatenate([batch[name] for batch in batches]) for name in ("x", *COLUMNS)}
        values = (read[name].tolist() for name in COLUMNS)
        found[split] = {(x.tobytes(), *row) for x, *row in zip(read["x"], *values, strict=True)}
    return found


def expected(start: int = 0, stop: int = ROWS) -> set[tuple[Any, ...]]:
    rows = zip(X, LABELS.tolist(), FOLDS.tolist(), COLUMNS["site"].tolist(), strict=True)
    return {(x.tobytes(), label, fold, site.encode()) for x, label, fold, site in list(rows)[start:stop]}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_row_by_row_and_split_by_a_column_of_the_table(tmp_path: pathlib.Path, suffix: str) -> None:
    root = write_files(tmp_path / "src", {"x.npy": X, f"labels{suffix}": file_of(TABLE, suffix)})
    found = rows_of(root, tmp_path / "out", {"splits": {"column": "fold", "names": ["train", "test"]}})
    assert found == {"train": expected(0, 40), "test": expected(40)}


@pytest.mark.parametrize(
    ("arrays", "tables", "files"),
    [
        (("x-000.npy", "x-001.npy"), ("about-000.csv", "about-001.csv"), "about-*.csv"),
        (("x/000.npy", "x/001.npy"), ("about/000.csv", "about/001.csv"), "about/*.csv"),
        (("a/x.npy", "b/x.npy"), ("a/about.csv", "b/about.csv"), "*/about.csv"),
        (("x-2.npy", "x-10.npy"), ("about.csv",), "about.csv"),
    ],
)
def test_a_table_for_each_part_or_one_for_all(
    tmp_path: pathlib.Path, arrays: tuple[str, ...], tables: tuple[str, ...], files: str
) -> None:
    pieces = [TABLE.slice(0, 25), TABLE.slice(25)] if len(tables) > 1 else [TABLE]
    contents = dict(zip(arrays, (X[:25], X[25:]), strict=True))
    contents |= {name: file_of(piece) for name, piece in zip(tables, pieces, strict=True)}
    root = write_files(tmp_path / "src", contents)
    assert rows_of(root, tmp_path / "out", {"splits": {"all": 1}}) == {"all": expected()}
    table = scan(root, parse_config({}))
    assert {feature.files for feature in table.features if feature.name != "x"} == {(files,)}
    resolved = resolve_config(parse_config({}), table)
    assert scan(root, parse_config(resolved.dump())).parts == table.parts  # which says `files` of each column


def test_one_image_a_file_in_the_order_of_names(tmp_path: pathlib.Path) -> None:
    contents: dict[str, Any] = {f"x/{n}.npy": row for n, row in enumerate(X)}
    root = write_files(tmp_path / "src", contents | {"about.csv": file_of(TABLE)})
    assert rows_of(root, tmp_path / "out", {"splits": {"all": 1}}) == {"all": expected()}


def features_of(root: pathlib.Path, contents: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> list[str]:
    return [feature.name for feature in table_of(root, contents, config).features]


def table_of(root: pathlib.Path, contents: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> SourceTable:
    return scan(write_files(root, contents), parse_config(config or {}))


def test_what_the_user_says_of_columns(tmp_path: pathlib.Path) -> None:
    contents = {"x.npy": X, "labels.csv": file_of(TABLE)}
    said = {"fold": {"files": "labels.csv"}}
    assert features_of(tmp_path, contents, {"features": said}) == ["fold", "x"]
    assert features_of(tmp_path, contents, {"row_axes": 1}) == ["x"]
    assert features_of(tmp_path, contents, {"features": {"fold": {"role": "input"}}}) == ["fold", "label", "site", "x"]
    table = table_of(tmp_path, contents)
    assert table.features[0].why == "a column of labels.csv, whose rows are those of the arrays beside it"


def test_a_column_without_a_name_is_none(tmp_path: pathlib.Path) -> None:
    """So pandas writes the numbers of the rows."""
    numbered = b",label\n" + b"".join(b"%d,%d\n" % row for row in enumerate(LABELS))
    for config in ({}, {"features": {"label": {"files": "labels.csv"}}}):
        assert features_of(tmp_path, {"x.npy": X, "labels.csv": numbered}, config) == ["label", "x"]


def test_tables_that_lie_beside_no_array(tmp_path: pathlib.Path) -> None:
    assert features_of(tmp_path, {"data/x.npy": X, "notes/about.csv": file_of(TABLE), "more.csv": b"a\n1\n"}) == ["x"]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (
            {"about.csv": file_of(TABLE.slice(1).select(["label"]))},
            "/about.csv (feature label): expected 60 rows, as in x.npy (feature x){}; found 59 rows",
        ),
        (
            {"about.parquet": file_of(TABLE.append_column("boxes", [[[n] for n in range(ROWS)]]), ".parquet")},
            "/about.parquet (feature boxes): expected a column of bool, numbers, text or times{}; "
            "found one of list<element: int64>",
        ),
        (
            {"about.parquet": file_of(TABLE.append_column("name", [[None] + ["a"] * (ROWS - 1)]), ".parquet")},
            "/about.parquet (feature name): expected a string in every row{}; found 1 rows without",
        ),
        (
            {"about.csv": b"a,b\n1\n"},
            "/about.csv (feature about): expected a CSV file with a line of names{}; "
            "found CSV parse error: Expected 2 columns, got 1: 1",
        ),
        (
            {"about.csv": b'""\n1\n'},
            "/about.csv (feature about): expected columns with names{}; found none",
        ),
        (
            {"label.npy": LABELS, "more.csv": file_of(TABLE)},
            "/more.csv (feature label): expected one file of the feature in part ''{}; found label.npy as well",
        ),
    ],
)
def test_a_table_that_does_not_fit(tmp_path: pathlib.Path, contents: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError) as error:
        table_of(tmp_path, {"x.npy": X, **contents})
    (problem,) = error.value.problems
    assert str(problem) == f"{tmp_path}{message}".replace("{}", " (or row_axes: 1, if it is no source)")


@pytest.mark.parametrize("second", [["label", "fold"], ["fold"], ["fold", "label", "site"]])
def test_tables_of_one_kind_have_the_same_columns(tmp_path: pathlib.Path, second: list[str]) -> None:
    """The only column of one is not taken for another column of the other."""
    tables = {"about-1.csv": TABLE.select(["label"]), "about-2.csv": TABLE.select(second)}
    contents = {name: file_of(columns) for name, columns in tables.items()}
    with pytest.raises(SourceError) as error:
        table_of(tmp_path, {"x-1.npy": X, "x-2.npy": X, **contents})
    (problem,) = error.value.problems
    expected = "expected columns label, as in other tables (or row_axes: 1, if it is no source)"
    assert str(problem) == f"{tmp_path}/about-2.csv: {expected}; found {', '.join(second)}"


def test_a_table_that_cannot_be_read_is_skipped_with_its_part(tmp_path: pathlib.Path) -> None:
    contents = {"x-1.npy": X, "x-2.npy": X, "about-1.csv": b"label,fold\n1\n", "about-2.csv": file_of(TABLE)}
    table = table_of(tmp_path, contents, {"on_error": "skip"})
    assert [part.name for part in table.parts] == ["2"]
    assert [feature.name for feature in table.features] == ["fold", "label", "site", "x"]
