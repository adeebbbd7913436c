from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from pipelines.config.schema import parse_config
from pipelines.errors import DataError
from pipelines.plan.plan import Plan, make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.plan.units import Span
from pipelines.reading.batches import Ragged, take
from pipelines.reading.columns import encode_text, read_columns
from pipelines.sources.table import scan
from pipelines.storage import files
from tests.support.arrays import RamFileSystem, empty_ram, npy_bytes, npz_bytes, values, write_files


@pytest.fixture
def ram() -> Iterator[str]:
    empty_ram()
    yield "ram://bucket/data"
    empty_ram()


def plan_of(root: str, **config: Any) -> Plan:
    parsed = parse_config(config)
    table = scan(root, parsed)
    return make_plan(table, resolve_config(parsed, table))


def all_spans(plan: Plan) -> list[Span]:
    return [Span(part=number, start=0, stop=part.rows) for number, part in enumerate(plan.table.parts)]


def read_all(plan: Plan, **options: Any) -> dict[str, Any]:
    return read_columns(plan, all_spans(plan), stage="test", **options)


def rows_of(ragged: Ragged) -> list[np.ndarray]:
    return np.split(ragged.values, np.cumsum(ragged.lengths)[:-1])


@hypothesis.given(
    lengths=st.lists(st.integers(0, 4), max_size=6),
    inner=st.lists(st.integers(1, 2), max_size=2).map(tuple),
    data=st.data(),
)
def test_ragged_rows_are_taken_as_a_list_of_arrays_would_be(
    lengths: list[int], inner: tuple[int, ...], data: st.DataObject
) -> None:
    ragged = Ragged(values=values((sum(lengths), *inner), "i4"), lengths=np.array(lengths, np.int64))
    rows = rows_of(ragged) if lengths else []
    numbers = data.draw(st.lists(st.integers(-len(lengths), len(lengths) - 1), max_size=6)) if lengths else []
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths))), bool)
    cut = data.draw(st.slices(len(lengths)))
    for taken, expected in [
        (ragged[np.array(numbers, int)], [rows[number] for number in numbers]),
        (ragged[mask], [row for row, wanted in zip(rows, mask, strict=True) if wanted]),
        (ragged[cut], rows[cut]),
    ]:
        assert len(taken) == len(expected)
        assert taken.lengths.tolist() == [len(row) for row in expected]
        assert taken.values.tobytes() == b"".join(row.tobytes() for row in expected)
        assert taken.values.shape[1:] == inner


def test_ragged_values_without_lengths() -> None:
    with pytest.raises(ValueError, match="found 3 values for lengths that add up to 2"):
        Ragged(values=np.zeros(3), lengths=np.array([1, 1]))


def test_reads_files_of_one_row_and_ragged_ones(tmp_path: pathlib.Path) -> None:
    images = [values((4, 3), "u1", seed=n) for n in range(5)]
    sequences = [values((length, 2), ">i4", seed=n) for n, length in enumerate([3, 0, 1, 7, 2])]
    contents = {f"image/{n}.npy": image for n, image in enumerate(images)}
    contents |= {f"seq/{n}.npy": np.asfortranarray(seq) for n, seq in enumerate(sequences)}
    plan = plan_of(write_files(tmp_path, contents), row_axes=0, features={"seq": {"ragged": True}})
    spans = [Span(part=part, start=0, stop=1) for part in (3, 0, 1, 4)]
    found = read_columns(plan, spans, stage="test")
    np.testing.assert_array_equal(found["image"], [images[3], images[0], images[1], images[4]])
    assert found["seq"].lengths.tolist() == [7, 3, 0, 2]
    np.testing.assert_array_equal(found["seq"].values, np.concatenate([sequences[n] for n in (3, 0, 1, 4)]))
    assert found["seq"].values.dtype == np.dtype("=i4")
    half = take(found, np.array([True, False, True, True]))
    assert half["seq"].lengths.tolist() == [7, 0, 2]
    np.testing.assert_array_equal(half["image"], [images[3], images[1], images[4]])
    nothing = read_columns(plan, [], stage="test")
    assert (nothing["seq"].values.shape, len(nothing["seq"]), nothing["image"].shape) == ((0, 2), 0, (0, 4, 3))


TEXTS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4), min_size=1, max_size=5)


@hypothesis.given(texts=TEXTS, order=st.sampled_from("<>"), ascii_only=st.booleans())
def test_text_is_encoded_as_python_does_it(texts: list[str], order: str, ascii_only: bool) -> None:
    if ascii_only:
        texts = [text.encode("ascii", "ignore").decode() for text in texts]
    array = np.array(texts).astype(np.dtype(f"{order}U4"))
    encoded = encode_text(array.astype("=U4"))
    assert encoded.dtype.kind == "S"
    assert encoded.tolist() == [text.encode() for text in texts]


def test_reads_text_and_bytes_of_different_widths(tmp_path: pathlib.Path) -> None:
    contents = {
        "u-0.npy": np.array([["ab", "ü"], ["c", ""]], ">U2"),
        "u-1.npy": np.array([["naïve", "日本"]]),
        "b-0.npy": np.array([b"x", b"\xff\x00y"]),
        "b-1.npy": np.array([b"longer"]),
    }
    plan = plan_of(write_files(tmp_path, contents))
    found = read_all(plan)
    assert found["u"].tolist() == [[b"ab", "ü".encode()], [b"c", b""], ["naïve".encode(), "日本".encode()]]
    assert (found["b"].dtype, found["b"].tolist()) == (np.dtype("S6"), [b"x", b"\xff\x00y", b"longer"])
    assert read_columns(plan, [], stage="test")["u"].shape == (0, 2)


@pytest.mark.parametrize(("code", "reason"), [(0xD800, "surrogates not allowed"), (0x110000, "code point 0x110000")])
def test_what_is_no_text_names_its_row(tmp_path: pathlib.Path, code: int, reason: str) -> None:
    bad = np.array([ord("a"), 0x4E00, code, ord("b")], np.uint32).view("U1")
    root = write_files(tmp_path, {"u-0.npy": np.array(["ok"]), "u-1.npy": bad})
    with pytest.raises(DataError, match=rf"u-1.npy \(feature u\): expected text .*; found {reason} in row 2"):
        read_all(plan_of(root))


def test_times_are_read_as_integers(tmp_path: pathlib.Path) -> None:
    times = np.array(["2020-01-01", "NaT", "1960-05-05"], ">M8[ms]")
    plan = plan_of(write_files(tmp_path, {"t.npy": times, "x.npy": np.zeros(3)}))
    found = read_all(plan)["t"]
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found.view("M8[ms]"), times)


def test_features_without_files(tmp_path: pathlib.Path) -> None:
    contents = {f"{name}/x-{n}.npy": np.zeros(n + 1) for n, name in enumerate(["dog", "cat", "ant"])}
    made = {
        "row": {"source": "index"},
        "label": {"source": "directory"},
        "weight": {"source": {"constant": 0.5}},
        "flag": {"source": {"constant": True}},
    }
    plan = plan_of(write_files(tmp_path, contents), features=made)
    assert [part.rows for part in plan.table.parts] == [3, 2, 1]
    found = read_all(plan)
    assert found["row"].tolist() == [0, 1, 2, 3, 4, 5]
    assert found["label"].tolist() == [0, 0, 0, 1, 1, 2]
    assert (found["weight"].dtype, found["flag"].dtype) == (np.float32, np.bool_)
    assert found["weight"].tolist() == [0.5] * 6
    assert found["flag"].all()
    some = read_columns(plan, [Span(part=2, start=0, stop=1), Span(part=0, start=1, stop=3)], stage="test")
    assert some["row"].tolist() == [5, 1, 2]
    assert some["label"].tolist() == [2, 0, 0]


def test_reads_only_the_features_that_are_asked_for(ram: str) -> None:
    for name in "xyz":
        RamFileSystem.contents[f"{ram}/{name}.npy"] = npy_bytes(np.zeros(10_000))
    plan = plan_of(ram)
    RamFileSystem.bytes_read = 0
    assert set(read_all(plan, features=["y"])) == {"y"}
    assert RamFileSystem.bytes_read == 80_000
    assert list(read_all(plan)) == ["x", "y", "z"]


@pytest.mark.parametrize("kind", ["table", "archive"])
def test_a_file_of_several_features_and_spans_is_asked_for_its_size_once(
    tmp_path: pathlib.Path, ram: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = {"a": values((50,), "i4"), "b": values((50, 3), "u1"), "c": values((50,), "S4")}
    table = np.zeros(50, [(name, array.dtype, array.shape[1:]) for name, array in arrays.items()])
    for name, array in arrays.items():
        table[name] = array
    name, data = ("t.npy", npy_bytes(table)) if kind == "table" else ("t.npz", npz_bytes(arrays))
    RamFileSystem.contents[f"{ram}/{name}"] = data
    for root in (ram, write_files(tmp_path, {name: data})):
        plan, asked = plan_of(root), []
        size = files.size
        with monkeypatch.context() as patch:
            patch.setattr(files, "size", lambda path: asked.append(path) or size(path))  # noqa: B023
            found = read_columns(plan, [Span(part=0, start=5, stop=20), Span(part=0, start=30, stop=40)], stage="test")
        assert len(asked) == (1 if root is ram else 0)  # the operating system says it of a file that is open
        for feature, array in arrays.items():
            assert found[feature].tobytes() == np.concatenate([array[5:20], array[30:40]]).tobytes()


def test_an_infinity_names_its_file_and_row(tmp_path: pathlib.Path) -> None:
    arrays = {f"x-{n}.npy": np.ones((4, 2), "f4") for n in range(3)}
    arrays["x-1.npy"][2, 1] = -np.inf
    root = write_files(tmp_path, arrays)
    with pytest.raises(DataError, match=r"x-1.npy \(feature x\): .* found -inf in row 2 at \(1,\)"):
        read_all(plan_of(root))
    assert np.isinf(read_all(plan_of(root, features={"x": {"missing": "-inf"}}))["x"]).sum() == 1
    assert np.isinf(read_all(plan_of(root, features={"x": {"normalize": "none", "impute": "none"}}))["x"]).sum() == 1


def test_a_missing_label_names_its_file_and_row(tmp_path: pathlib.Path) -> None:
    y = np.ones((6, 2))
    y[3, 1] = np.nan
    root = write_files(
        tmp_path, {"x-0.npy": np.ones(6), "x-1.npy": np.ones(6), "y-0.npy": np.ones((6, 2)), "y-1.npy": y}
    )
    with pytest.raises(DataError, match=r"y-1.npy \(feature y\): expected a value in every row \(`features: {y: {imp"):
        read_all(plan_of(root))
    with pytest.raises(DataError, match=r"found NaN in row 3 at \(1,\)"):
        read_all(plan_of(root))
    found = read_all(plan_of(root, features={"y": {"impute": "none"}}))
    np.testing.assert_array_equal(found["y"][6:], y)


def test_an_infinity_in_a_ragged_row(tmp_path: pathlib.Path) -> None:
    arrays = {f"x-{n}.npy": np.ones((n + 2, 2), "f4") for n in range(3)}
    arrays["x-1.npy"][2, 1] = np.inf
    plan = plan_of(
        write_files(tmp_path, arrays), features={"x": {"ragged": True, "normalize": "zscore", "over": "all"}}
    )
    with pytest.raises(DataError, match=r"x-1.npy \(feature x\): .* found inf in row 0 at \(2, 1\)"):
        read_all(plan)


@pytest.mark.parametrize("per_row", [False, True])
def test_an_infinity_that_a_mask_hides_is_no_error(tmp_path: pathlib.Path, per_row: bool) -> None:
    arrays = {"x.npy": np.ones((4, 2), "f4"), "m.npy": np.zeros(4 if per_row else (4, 2), "?")}
    arrays["x.npy"][2, 1] = np.inf
    arrays["m.npy"][2] = True
    said = {"features": {"x": {"mask": "m"}}}
    assert np.isinf(read_all(plan_of(write_files(tmp_path / "hidden", arrays), **said))["x"]).sum() == 1
    arrays["x.npy"][3, 0] = -np.inf
    with pytest.raises(DataError, match=r"x.npy \(feature x\): .* found -inf in row 3 at \(0,\)"):
        read_all(plan_of(write_files(tmp_path / "seen", arrays), **said))


def test_an_infinity_that_a_mask_hides_in_a_ragged_row(tmp_path: pathlib.Path) -> None:
    arrays = {f"x-{n}.npy": np.ones((n + 2, 2), "f4") for n in range(3)}
    arrays |= {f"m-{n}.npy": np.zeros((n + 2, 2), "?") for n in range(3)}
    arrays["x-1.npy"][2, 1], arrays["m-1.npy"][2, 1] = np.inf, True
    features = {"x": {"ragged": True, "over": "all", "mask": "m"}, "m": {"ragged": True}}
    assert np.isinf(read_all(plan_of(write_files(tmp_path, arrays), features=features))["x"].values).sum() == 1
