"""Layouts that are recognised: files of one row each, numbers without a separator, rows in a file or a table beside."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet
from sklearn import datasets

from loaders import numpy
from pipelines.config.schema import parse_config
from pipelines.errors import SourceError
from pipelines.interface.inspect import inspect
from pipelines.plan.plan import make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.plan.units import Span
from pipelines.reading.columns import read_columns
from pipelines.sources.provenance import source_settings
from pipelines.sources.row_alignment import natural
from pipelines.sources.table import SourceTable, scan
from tests.support.arrays import RamFileSystem, empty_ram, npy_bytes, npz_bytes, write_files
from tests.support.builds import build

DIGITS = datasets.load_digits()
IMAGES, LABELS = DIGITS.images[:30], DIGITS.target[:30]
PICTURE = datasets.load_sample_image("china.jpg")
TILES = np.stack([PICTURE[32 * n : 32 * n + 32, :32] for n in range(12)])
CSV = "file,label\n" + "".join(f"{n:04}.npy,{label}\n" for n, label in reversed(list(enumerate(LABELS))))


def numbered(pattern: str, arrays: Any) -> dict[str, Any]:
    return {pattern.format(n): array for n, array in enumerate(arrays)}


@pytest.fixture
def ram() -> Iterator[str]:
    empty_ram()
    yield "ram://bucket/data"
    empty_ram()


def table(root: pathlib.Path, contents: dict[str, Any], **config: Any) -> SourceTable:
    return scan(write_files(root, contents), parse_config(config))


def rows_of(root: str, config: dict[str, Any] | None = None) -> dict[str, np.ndarray]:
    """All rows, in the order of the parts; what the resolved configuration says gives the same."""
    parsed = parse_config(config or {})
    found = scan(root, parsed)
    resolved = resolve_config(parsed, found)
    again = scan(root, parse_config(resolved.dump()))
    assert again.parts == found.parts
    assert scan(root, parse_config(source_settings(resolved.dump()))).parts == found.parts
    assert resolve_config(parse_config(resolved.dump()), again) == resolved
    plan = make_plan(found, resolved)
    spans = [Span(part=number, start=0, stop=part.rows) for number, part in enumerate(found.parts)]
    return read_columns(plan, spans, stage="test")


def pairs_of(columns: dict[str, np.ndarray], images: str, labels: str) -> set[tuple[bytes, Any]]:
    return {
        (np.asarray(image).tobytes(), label.item())
        for image, label in zip(columns[images], columns[labels], strict=True)
    }


PAIRS = {(image.tobytes(), int(label)) for image, label in zip(IMAGES, LABELS, strict=True)}


@pytest.mark.parametrize(
    ("contents", "feature", "shape"),
    [
        (numbered("images/{:04}.npy", TILES), "images", (32, 32, 3)),
        (numbered("tile-{}.npy", TILES), "tile", (32, 32, 3)),
        (numbered("img{:03}.npy", IMAGES), "img", (8, 8)),
        (numbered("scans/img{}.npy", IMAGES), "img", (8, 8)),
        ({f"scans/{name}.npy": tile for name, tile in zip("abcdefghijkl", TILES, strict=True)}, "scans", (32, 32, 3)),
    ],
)
def test_one_image_a_file(
    tmp_path: pathlib.Path, contents: dict[str, Any], feature: str, shape: tuple[int, ...]
) -> None:
    found = table(tmp_path, contents)
    (only,) = found.features
    assert (found.rows, only.name, only.shape, only.row_axes) == (len(contents), feature, shape, 0)
    assert only.why.startswith(f"one row a file, as {len(contents)} files have the shape")
    assert len(rows_of(str(tmp_path))[feature]) == len(contents)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("images/{:04}.npy", {"labels.npy": LABELS}),
        ("images/{}.npy", {"labels.npy": LABELS}),
        ("img{:03}.npy", {"labels.npy": LABELS}),
        ("img{}.npy", {"labels.npy": LABELS}),
        ("images/img{}.npy", {"meta/labels.npy": LABELS}),
        ("images/{:04}.npy", {"labels.npz": npz_bytes({"labels": LABELS}, compressed=True)}),
        ("images/{}.npy", {"labels.npz": npz_bytes({"labels": LABELS}, compressed=True)}),
        ("images/{:04}.npy", numbered("labels/{:04}.npy", LABELS)),
        ("images/{:04}.npy", {"labels.npy": np.asfortranarray(np.stack([LABELS, LABELS], 1))}),
    ],
)
def test_one_image_a_file_and_the_labels_beside(tmp_path: pathlib.Path, name: str, labels: dict[str, Any]) -> None:
    root = write_files(tmp_path, numbered(name, IMAGES) | labels)
    columns = rows_of(root)
    (images,) = columns.keys() - {"labels"}
    if columns["labels"].ndim == 2:
        columns["labels"] = columns["labels"][:, 1]
    assert pairs_of(columns, images, "labels") == PAIRS


def test_what_was_recognised_is_shown_with_why_it_was_chosen(tmp_path: pathlib.Path) -> None:
    root = write_files(tmp_path, numbered("images/{:04}.npy", TILES) | {"labels.npy": LABELS[:12]})
    shown = str(inspect(root))
    for line in (
        "images: one row a file, as 12 files have the shape (32, 32, 3)",
        "labels: labels.npy has the rows of 12 files, in the natural order of their names",
        "images: input, as its name ends in none of class, classes, gt, label, labels, target, targets, y; ",
        "labels: label, as its name ends in 'labels'; a label is stored as it is",
        "splits: nothing is said of splits, so they are train 0.8, validation 0.1, test 0.1, by a hash of each row's ",
    ):
        assert f"\n  {line}" in shown
    assert "; uint8 with 1, 3 or 4 channels last is taken to be a picture\n" in shown
    assert "; statistics are learned from train, which is called so\n" in shown
    shown = str(inspect(root, {"splits": {"fit": 0.5, "test": 0.5}, "training": "fit"}))
    assert "splits: the splits are as said; statistics are learned from fit, as said" in shown
    assert "statistics are learned from all, the only split" in str(inspect(root, {"splits": {"all": 1}}))


def test_the_numbers_of_classes_are_shown(tmp_path: pathlib.Path) -> None:
    """They follow the order of the directories' names, as in other tools, and not that of numbers in them."""
    root = write_files(tmp_path, {f"{n}/x.npy": np.ones((3, 2)) for n in range(12)})
    shown = str(inspect(root, {"features": {"label": {"source": "directory"}}}))
    assert "label: label, as it is the class that a directory names: 0 is 0, 1 is 1, 2 is 10 and 9 more; a " in shown


def test_one_row_an_archive(tmp_path: pathlib.Path) -> None:
    contents = {
        f"{n:03}.npz": npz_bytes({"image": image, "label": label})
        for n, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True))
    }
    assert pairs_of(rows_of(write_files(tmp_path, contents)), "image", "label") == PAIRS


def test_vectors_of_one_row_each(tmp_path: pathlib.Path) -> None:
    columns = rows_of(write_files(tmp_path, numbered("v{:02}.npy", DIGITS.data[:30]) | {"y.npy": LABELS}))
    assert pairs_of(columns, "v", "y") == PAIRS


def test_labels_of_each_split(tmp_path: pathlib.Path) -> None:
    contents = numbered("train/images/{:02}.npy", IMAGES[:20]) | numbered("test/images/{:02}.npy", IMAGES[20:])
    contents |= {"train/labels.npy": LABELS[:20], "test/labels.npy": LABELS[20:]}
    found = table(tmp_path, contents)
    assert [part.split for part in found.parts] == ["test"] * 10 + ["train"] * 20
    assert pairs_of(rows_of(str(tmp_path)), "images", "labels") == PAIRS


def test_labels_of_several_parts_in_one_file(tmp_path: pathlib.Path) -> None:
    contents = {"x-2.npy": IMAGES[:7], "x-10.npy": IMAGES[7:], "y.npy": LABELS}
    columns = rows_of(write_files(tmp_path, contents))
    assert pairs_of(columns, "x", "y") == PAIRS
    assert [part.rows for part in table(tmp_path, {}).parts] == [23, 7]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("name", ["images/{:04}.npy", "img{:04}.npy"])
def test_a_table_with_the_names_of_files(tmp_path: pathlib.Path, name: str, suffix: str) -> None:
    order = np.random.default_rng(0).permutation(30)
    names = [name.format(n).replace(".npy", ".png" if n % 2 else ".npy") for n in order]
    columns = pa.table({"path": names, "label": LABELS[order], "site": [f"site {n % 3}" for n in order]})
    file = io.BytesIO()
    csv.write_csv(columns, file) if suffix == ".csv" else parquet.write_table(columns, file)
    root = write_files(tmp_path, numbered(name, IMAGES) | {f"about{suffix}": file.getvalue()})
    found = rows_of(root)
    assert found.keys() == {name.partition("/")[0].partition("{")[0], "label", "site"}
    assert pairs_of(found, min(found.keys() - {"label", "site"}), "label") == PAIRS
    sites = {text for _, text in pairs_of(found, "label", "site")}
    assert sites == {b"site 0", b"site 1", b"site 2"}
    assert "whose 'path' names the file" in next(f.why for f in table(tmp_path, {}).features if f.name == "label")


def test_a_table_in_an_object_store(ram: str) -> None:
    for path, content in (numbered("images/{:04}.npy", IMAGES)).items():
        RamFileSystem.contents[f"{ram}/{path}"] = npy_bytes(content)
    RamFileSystem.contents[f"{ram}/labels.csv"] = CSV.encode()
    assert pairs_of(rows_of(ram), "images", "label") == PAIRS


def test_a_table_and_a_file_of_labels_that_the_user_names(tmp_path: pathlib.Path) -> None:
    contents = numbered("scans/{:04}.npy", IMAGES) | {"more/y.npy": LABELS, "about.csv": CSV.encode()}
    features = {
        "x": {"files": "scans/*.npy", "row_axes": 0},
        "label": {"files": "about.csv"},
        "y": {"files": "more/y.npy"},
    }
    columns = rows_of(write_files(tmp_path, contents), {"features": features})
    assert pairs_of(columns, "x", "label") == pairs_of(columns, "x", "y") == PAIRS


def question(root: pathlib.Path, contents: dict[str, Any], **config: Any) -> str:
    with pytest.raises(SourceError) as error:
        table(root, contents, **config)
    (problem,) = error.value.problems
    return str(problem)


def test_labels_that_are_too_few(tmp_path: pathlib.Path) -> None:
    for number, name in enumerate(("images/{:04}.npy", "img{:03}.npy")):
        contents = numbered(name, IMAGES) | {"labels.npy": LABELS[:29]}
        found = question(tmp_path / str(number), contents)
        expected = f"expected 30 rows, one for each of 30 files such as {name.format(0)}; found 29 rows"
        assert found.endswith(f"labels.npy (feature labels): {expected}")
    contents = numbered("x-{}.npy", np.split(IMAGES[:, :, :6], 3)) | {"labels.npy": LABELS[:29]}
    assert "expected 30 rows, as 3 files such as x-0.npy have together; or, with `features: {x:" in question(
        tmp_path / "parts", contents
    )


@pytest.mark.parametrize(
    ("table_text", "expected"),
    [
        (CSV.replace("0007.npy", "0030.npy"), "a row whose 'file' names each file; found none for images/0007.npy"),
        (CSV + "0030.npy,1\n", "a file for each 'file'; found none for 0030.npy"),
        (CSV.replace("0007.npy,7", "0007.npy,-1").replace("label", "images"), "names are those of no other feature"),
    ],
)
def test_a_table_that_does_not_fit(tmp_path: pathlib.Path, table_text: str, expected: str) -> None:
    assert expected in question(tmp_path, numbered("images/{:04}.npy", IMAGES) | {"about.csv": table_text.encode()})


@pytest.mark.parametrize(
    ("contents", "config"),
    [
        (numbered("img{:03}.npy", IMAGES[:, :, :5]), {"img": {"files": "img*.npy", "row_axes": 0}}),
        (numbered("x-{:03}.npy", TILES[:, :, :16].astype("f4")), {"x": {"row_axes": 0}}),
        (
            numbered("w{}.npy", np.stack([IMAGES[:, 0]] * 30)) | {"y.npy": LABELS},
            {"w": {"files": "w*.npy", "row_axes": 0}},
        ),
    ],
)
def test_what_may_be_rows_or_parts_is_a_question(
    tmp_path: pathlib.Path, contents: dict[str, Any], config: dict[str, Any]
) -> None:
    found = question(tmp_path, contents)
    assert "expected an option that says whether a file holds one row" in found
    assert dump_like(config) in found
    assert table(tmp_path, {}, features=config).rows == sum(path != "y.npy" for path in contents)
    assert table(tmp_path, {}, row_axes=1).rows > 0


def dump_like(config: dict[str, Any]) -> str:
    ((name, said),) = config.items()
    files = f'files: "{said["files"]}", ' if "files" in said else ""
    return f"--set 'features.{name}={{{files}row_axes: {said['row_axes']}}}'"


@pytest.mark.parametrize(
    ("contents", "rows"),
    [
        (numbered("x-{:02}.npy", [np.zeros((20, 16), "f4")] * 12), 240),
        (
            numbered("x-{:02}.npy", [np.zeros((32, 32, 3), "u1")] * 12)
            | numbered("y-{:02}.npy", [LABELS[:1].repeat(32)] * 12),
            384,
        ),
        (numbered("band{:02}.npy", [np.zeros((20, 16))] * 12) | {"gt.npy": np.zeros(20)}, 20),
        (numbered("x{}.npy", [np.zeros(20)] * 12), 20),
        ({"w1.npy": IMAGES, "w2.npy": IMAGES}, 30),
        (numbered("x-{:02}.npy", [np.zeros((4, 32, 32, 3), "u1")] * 12), 48),
        (
            numbered("x-{}.npy", [IMAGES] * 12) | numbered("y-{}.npy", [LABELS] * 12)
            | {"parts.csv": b"file,rows\n" + b"".join(b"x-%d.npy,30\n" % n for n in range(12))},
            360,
        ),
    ],
)  # fmt: skip
def test_parts_and_features_stay_what_they_are(tmp_path: pathlib.Path, contents: dict[str, Any], rows: int) -> None:
    found = table(tmp_path, contents)
    assert (found.rows, {feature.row_axes for feature in found.features}) == (rows, {1})
    assert not any(feature.why or feature.files for feature in found.features)


def test_numbers_without_a_separator_count_parts(tmp_path: pathlib.Path) -> None:
    contents = {"x1.npy": IMAGES[:20], "x2.npy": IMAGES[20:], "y1.npy": LABELS[:20], "y2.npy": LABELS[20:]}
    columns = rows_of(write_files(tmp_path, contents))
    assert pairs_of(columns, "x", "y") == PAIRS
    assert table(tmp_path, {}).features[0].why == "numbers that end a name count parts: x*.npy"


def test_a_file_that_is_skipped_keeps_its_place(tmp_path: pathlib.Path) -> None:
    contents = numbered("images/{:04}.npy", IMAGES) | {"labels.npy": LABELS, "images/0007.npy": b"nothing"}
    columns = rows_of(write_files(tmp_path, contents), {"on_error": "skip"})
    assert pairs_of(columns, "images", "labels") == PAIRS - {(IMAGES[7].tobytes(), int(LABELS[7]))}


def test_the_only_file_of_a_feature_is_not_skipped(tmp_path: pathlib.Path) -> None:
    contents = numbered("images/{:04}.npy", IMAGES) | {"labels.npy": npy_bytes(LABELS)[:-1]}
    with pytest.raises(SourceError, match=r"labels.npy.*truncated"):
        table(tmp_path, contents, on_error="skip")


def test_a_pattern_claims_no_other_file(tmp_path: pathlib.Path) -> None:
    contents = numbered("x{}.npy", np.split(IMAGES[:, 0], 3)) | {"xbar.npy": LABELS}
    assert [feature.files for feature in table(tmp_path, contents).features] == [("x?.npy",), None]


@pytest.mark.slow
def test_files_of_one_row_are_built_alike_by_any_number_of_workers(tmp_path: pathlib.Path) -> None:
    root = write_files(tmp_path / "src", numbered("images/{:04}.npy", IMAGES) | {"labels.csv": CSV.encode()})
    for workers in (1, 2):
        build(root, tmp_path / f"out{workers}", {"shard_bytes": 2000}, workers=workers)
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / f"out{workers}").rglob("*.tfrecord")}
        for workers in (1, 2)
    )
    assert len(one) > 3
    assert one == two
    batches = [
        batch
        for split in ("train", "validation", "test")
        for batch in numpy.Loader(str(tmp_path / "out1"), split, batch_size=1, shuffle=False)
    ]
    assert sorted(int(batch["label"][0]) for batch in batches) == sorted(LABELS.tolist())


def test_natural_order() -> None:
    assert sorted(["10", "9", "b2", "a10", "a9", ""], key=natural) == ["", "9", "10", "a9", "a10", "b2"]
