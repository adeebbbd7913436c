"""Windows and patches: the same as NumPy's padded and strided windows, and none that two splits share."""

from __future__ import annotations

import itertools
import pathlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders.numpy import Loader
from pipelines.config.schema import parse_config
from pipelines.errors import ConfigError, SourceError
from pipelines.interface.inspect import inspect
from pipelines.plan.plan import Plan, make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.plan.units import Span
from pipelines.reading.columns import read_columns
from pipelines.reading.split_assignment import assign
from pipelines.sources.table import scan
from tests.support.arrays import write_files
from tests.support.builds import make

MODES = {"reflect": "reflect", "edge": "edge", "zeros": "constant"}


def plan_of(root: str, **config: Any) -> Plan:
    said = parse_config(config)
    table = scan(root, said)
    return make_plan(table, resolve_config(said, table))


def windows(array: np.ndarray[Any, Any], size: int, stride: int, pad: str) -> np.ndarray[Any, Any]:
    """The windows along the first axis, as NumPy pads and cuts them: `[rows, size, *shape of a step]`."""
    if pad != "none":
        margins = [((size - 1) // 2, size // 2)] + [(0, 0)] * (array.ndim - 1)
        array = np.pad(array, margins, mode=MODES[pad])  # type: ignore[call-overload]
    if len(array) < size:
        return np.empty((0, size, *array.shape[1:]), array.dtype)
    return np.moveaxis(np.lib.stride_tricks.sliding_window_view(array, size, axis=0)[::stride], -1, 1)


def patches(array: np.ndarray[Any, Any], size: tuple[int, ...], pad: str) -> np.ndarray[Any, Any]:
    """The patch of each row, as NumPy pads and cuts them: `[rows, *size, *shape of a row]`."""
    axes, margins = len(size), [(each // 2, each // 2) for each in size]
    padded = np.pad(array, margins + [(0, 0)] * (array.ndim - axes), mode=MODES[pad])  # type: ignore[call-overload]
    places = itertools.product(*map(range, array.shape[:axes]))
    return np.stack([padded[tuple(slice(p, p + s) for p, s in zip(place, size, strict=True))] for place in places])


CASES = [
    (np.arange(9 * 7 * 3, dtype="<u2").reshape(9, 7, 3), (3, 5), "reflect"),
    (np.arange(9 * 7 * 3, dtype=">f4").reshape(9, 7, 3), (5, 3), "edge"),
    (np.asfortranarray(np.arange(9 * 7, dtype="<i8").reshape(9, 7)), (3, 3), "zeros"),
    (np.arange(40 * 2, dtype="<f8").reshape(40, 2), (11,), "reflect"),
    (np.arange(40, dtype="<f8"), (1,), "edge"),
    (np.arange(4 * 5, dtype="<f4").reshape(4, 5), (9, 3), "edge"),
]


@pytest.mark.parametrize(("array", "size", "pad"), CASES)
def test_patches_are_those_of_numpy(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray[Any, Any], size: tuple[int, ...], pad: str
) -> None:
    root = write_files(tmp_path_factory.mktemp("src"), {"x.npy": array})
    plan = plan_of(root, row_axes=len(size), features={"x": {"patch": {"size": list(size), "pad": pad}}})
    expected = patches(array, size, pad)

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, len(expected)), st.integers(0, len(expected))), max_size=3))
    def check(ranges: list[tuple[int, int]]) -> None:
        spans = [Span(part=0, start=min(pair), stop=max(pair)) for pair in ranges]
        found = read_columns(plan, spans, stage="test")["x"]
        rows = np.concatenate([np.arange(span.start, span.stop) for span in spans] + [np.zeros(0, int)])
        np.testing.assert_array_equal(found, expected[rows])
        assert found.dtype == array.dtype.newbyteorder("=")

    check()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_windows_are_those_of_numpy(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Of every size, stride and pad, in whichever cuts they are read, in series of several lengths."""
    size, stride = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 25))
    pad = data.draw(st.sampled_from(["none", *MODES]))
    axis, order = data.draw(st.integers(0, 1)), data.draw(st.sampled_from("CF"))
    inner = data.draw(st.sampled_from([(), (2,)]))
    shortest = size // 2 + 1 if pad == "reflect" else 1
    lengths = data.draw(st.lists(st.integers(shortest, 60), min_size=1, max_size=2))
    lengths.append(60)  # so that there is a row
    arrays = [np.random.default_rng(0).normal(size=(*(3,) * axis, length, *inner)) for length in lengths]
    files = {f"x-{number}.npy": np.asarray(array, order=order) for number, array in enumerate(arrays)}
    said = {"axis": axis, "size": size, "stride": stride, "pad": pad}
    plan = plan_of(write_files(tmp_path_factory.mktemp("src"), files), features={"x": {"window": said}})
    for part, array in enumerate(arrays):
        expected = np.concatenate([windows(each, size, stride, pad) for each in (array if axis else [array])])
        assert plan.table.parts[part].rows == len(expected)
        first = data.draw(st.integers(0, len(expected)))
        cuts = [0, first, data.draw(st.integers(first, len(expected))), len(expected)]
        spans = [Span(part=part, start=start, stop=stop) for start, stop in itertools.pairwise(cuts)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pipelines.reading.windows.SPARSE_BYTES", data.draw(st.sampled_from([1, 500, 2**20])))
            np.testing.assert_array_equal(read_columns(plan, spans, stage="test")["x"], expected)


def test_patches_with_a_stride_are_each_second_one(tmp_path: pathlib.Path) -> None:
    array = np.arange(9 * 8 * 2).reshape(9, 8, 2)
    root = write_files(tmp_path, {"x.npy": array})
    plan = plan_of(root, row_axes=2, features={"x": {"patch": {"size": [3, 5], "stride": [2, 3]}}})
    expected = patches(array, (3, 5), "reflect").reshape(9, 8, 3, 5, 2)[::2, ::3].reshape(-1, 3, 5, 2)
    assert plan.table.rows == len(expected)
    for start in range(len(expected)):
        spans = [Span(part=0, start=0, stop=start), Span(part=0, start=start, stop=len(expected))]
        np.testing.assert_array_equal(read_columns(plan, spans, stage="test")["x"], expected)


def test_windows_of_series_are_built_and_loaded(tmp_path: pathlib.Path) -> None:
    """Each window pairs with the label of its middle step, and the build reads no more than it needs."""
    series = [np.random.default_rng(n).normal(size=(length, 2)).astype(np.float32) for n, length in enumerate((40, 33))]
    for number, each in enumerate(series):
        each[:, 0] = np.arange(len(each)) + 100 * number
    files = {f"x-{n}.npy": each for n, each in enumerate(series)} | {
        f"labels-{n}.npy": each[:, 0].astype(np.int64) for n, each in enumerate(series)
    }
    features = {
        "x": {"window": {"size": 8, "stride": 4, "pad": "edge"}, "normalize": "none"},
        "labels": {"window": {"size": 1, "stride": 4, "pad": "edge"}},
    }
    make(write_files(tmp_path / "src", files), tmp_path / "out", features=features, splits={"train": 1})
    expected, seen = [windows(each, 8, 4, "edge") for each in series], []
    for batch in Loader(tmp_path / "out", "train", batch_size=10, epochs=1):
        for row, label in zip(batch["x"], batch["labels"], strict=True):
            number, step = divmod(int(label[0]), 100)
            np.testing.assert_array_equal(row, expected[number][step // 4])
            seen.append(int(label[0]))
    assert sorted(seen) == [*range(0, 40, 4), *range(100, 133, 4)]


def test_patches_of_a_cube_are_built_and_loaded(tmp_path: pathlib.Path) -> None:
    """One band of the middle pixel is its number, so that each loaded patch can be looked up."""
    cube = np.random.default_rng(0).normal(size=(12, 9, 2)).astype(np.float32)
    cube[..., 0] = np.arange(12 * 9).reshape(12, 9)
    labels = np.arange(12 * 9).reshape(12, 9) % 4
    root = write_files(tmp_path / "src", {"cube.npy": cube, "labels.npy": labels})
    feature = {"patch": {"size": [3, 5]}, "normalize": "none"}
    make(root, tmp_path / "out", row_axes=2, filter="labels != 0", features={"cube": feature}, splits={"train": 1})
    expected, seen = patches(cube, (3, 5), "reflect"), []
    for batch in Loader(tmp_path / "out", "train", batch_size=10, epochs=1):
        assert batch["cube"].shape[1:] == (3, 5, 2)
        for patch, label in zip(batch["cube"], batch["labels"], strict=True):
            number = int(patch[1, 2, 0])
            np.testing.assert_array_equal(patch, expected[number])
            assert label == labels.reshape(-1)[number]
            seen.append(number)
    assert sorted(seen) == np.flatnonzero(labels.reshape(-1)).tolist()


@pytest.mark.parametrize(("shape", "size", "statistics"), [((12, 9, 2), [3, 5], (2,)), ((40,), [5], ())])
def test_all_rows_of_a_patch_have_the_statistics_of_their_channel(
    tmp_path: pathlib.Path, shape: tuple[int, ...], size: list[int], statistics: tuple[int, ...]
) -> None:
    """Each row counts as often as it is in a patch."""
    array = np.random.default_rng(0).normal(size=shape)
    root = write_files(tmp_path / "src", {"x.npy": array})
    make(root, tmp_path / "out", row_axes=len(size), features={"x": {"patch": {"size": size}}}, splits={"train": 1})
    with np.load(tmp_path / "out" / "statistics.npz") as found:
        mean = found["x/mean"]
    cut = patches(array, tuple(size), "reflect")
    np.testing.assert_allclose(mean, cut.mean(axis=tuple(range(cut.ndim - len(statistics)))), rtol=1e-12)
    assert mean.shape == statistics


def test_what_does_not_fit_is_said(tmp_path: pathlib.Path) -> None:
    root = write_files(tmp_path, {"x.npy": np.zeros((4, 30, 2))})

    def found(size: list[int]) -> str:
        with pytest.raises(SourceError) as error:
            plan_of(root, row_axes=2, features={"x": {"patch": {"size": size}}})
        return str(error.value)

    assert "x.npy (feature x): expected as many axes that count rows (row_axes) as patch.size has" in found([3])
    assert "expected more than (4, 1) rows along the axes that count them, to be mirrored" in found([9, 3])
    for said, message in {
        "even": ({"size": [4, 3]}, "an odd number, as the row itself is in the middle; found 4"),
        "pad": ({"size": [3], "pad": "wrap"}, "expected 'reflect', 'edge' or 'zeros'; found 'wrap'"),
        "key": ({"size": [3], "padding": "edge"}, "unknown key; the keys are size, stride, pad"),
        "nothing": ({}, "expected the key size; found none"),
        "stride": ({"size": [3], "stride": [2, 2]}, "stride: expected 1 numbers, as size has; found [2, 2]"),
        "ragged": ({"size": [3]}, "patches and windows are cut from arrays; found ragged True and source None"),
    }.values():
        with pytest.raises(ConfigError) as error:
            parse_config({"features": {"x": {"patch": said, "ragged": "ragged" in message}}})
        assert message in str(error.value)
    for feature, message in (
        ({"patch": {"size": [3]}, "window": {"size": 3}}, "patch and window exclude each other; found both"),
        ({"window": {"size": 3}, "row_axes": 2}, "row_axes: expected 1, the axes up to that of the window; found 2"),
        ({"window": {"size": 3, "step": 2}}, "unknown key; the keys are axis, size, stride, pad"),
    ):
        with pytest.raises(ConfigError) as error:
            parse_config({"features": {"x": feature}})
        assert message in str(error.value)


def test_no_window_lies_in_the_rows_of_two_files(tmp_path: pathlib.Path) -> None:
    files = {f"images/{number}.npy": np.zeros((2, 4, 3)) for number in range(3)} | {"x.npy": np.zeros(6)}
    with pytest.raises(SourceError, match="expected an array beside each of 3 files, as no window lies in two; found"):
        plan_of(write_files(tmp_path, files), features={"x": {"window": {"size": 1}}})


@pytest.mark.parametrize("said", [None, (1, 1), (3, 5)])
def test_patches_of_two_splits_share_no_row(tmp_path: pathlib.Path, said: tuple[int, int] | None) -> None:
    patch = said or (1, 1)
    shape = (60, 45)
    root = write_files(tmp_path, {"x-0.npy": np.zeros(shape), "x-1.npy": np.zeros(shape)})
    rule = {"blocks": "x", "size": [10, 15], "fractions": {"train": 0.5, "test": 0.5}}
    plan = plan_of(root, row_axes=2, features={"x": {"patch": {"size": list(said)}} if said else {}}, splits=rule)
    rows, dropped = np.prod(shape), 0
    for part in (0, 1):
        splits = assign(plan, [Span(part=part, start=0, stop=int(rows))])
        np.testing.assert_array_equal(splits[100:700], assign(plan, [Span(part=part, start=100, stop=700)]))
        reached = {}
        for split in (0, 1):
            mask = np.pad((splits == split).reshape(shape), [(each // 2,) * 2 for each in patch])
            windows = np.lib.stride_tricks.sliding_window_view(mask, patch)
            reached[split] = windows.any(axis=(2, 3))  # rows that lie in a patch of the split
            assert (splits == split).sum() > 300
        assert not (reached[0] & reached[1]).any()
        dropped += int((splits == -1).sum())
        blocks = splits.reshape(6, 10, 3, 15)[:, 5, :, 7]  # the middle of each block keeps its split
        assert set(blocks.reshape(-1)) == {0, 1}
    assert (dropped > 0) == (patch != (1, 1))


def told(split: int, splits: np.ndarray[Any, Any], reached: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Which steps lie in a window of a split."""
    return np.isin(np.arange(reached.max() + 1), reached[splits == split])


@pytest.mark.parametrize("pad", ["none", *MODES])
@pytest.mark.parametrize(("size", "stride"), [(8, 2), (5, 1), (6, 7)])
@pytest.mark.parametrize("by", ["blocks", "group", "column", "time"])
def test_windows_of_two_splits_share_no_step(tmp_path: pathlib.Path, by: str, size: int, stride: int, pad: str) -> None:
    steps = np.arange(400)
    values = np.random.default_rng(0).integers(0, 2, 40).repeat(10) if by == "column" else steps // 10
    root = write_files(tmp_path, {"x.npy": steps, "v.npy": values})
    fractions = {"train": 0.5, "test": 0.5}
    rule = {
        "blocks": {"blocks": "x", "size": [20], "fractions": fractions},
        "group": {"group": "v", "fractions": fractions},
        "column": {"column": "v", "names": ["train", "test"]},
        "time": {"time": "v", "until": {"train": 20}, "rest": "test"},
    }[by]
    window = {"size": size, "stride": stride, "pad": "edge" if pad == "zeros" else pad}
    plan = plan_of(root, features={name: {"window": window} for name in ("x", "v")}, splits=rule)
    rows = plan.table.rows
    splits = assign(plan, [Span(part=0, start=0, stop=rows)])
    np.testing.assert_array_equal(splits[3:30], assign(plan, [Span(part=0, start=3, stop=30)]))
    columns = read_columns(plan, [Span(part=0, start=0, stop=rows)], stage="test")
    assert not (told(0, splits, columns["x"]) & told(1, splits, columns["x"])).any()
    assert {0, 1} <= set(splits)
    if by == "group":
        assert all(len(set(row)) == 1 for row in columns["v"][splits >= 0])
    if stride < size:
        assert -1 in splits
    whole = [
        len(set((row if by != "blocks" else row // 20).tolist())) for row in columns["x" if by == "blocks" else "v"]
    ]
    assert (splits[np.array(whole) == 1] >= 0).all()


def test_inspect_says_how_splits_share_nothing() -> None:
    x = np.zeros((500, 2))

    def found(splits: Any, **window: int) -> str:
        feature = {"x": {"window": {"size": 8} | window}}
        config = {"features": feature} | ({} if splits is None else {"splits": splits})
        return str(
            inspect({"x": x, "y": np.zeros(500 // window["stride"])[: (500 - 8) // window["stride"] + 1]}, config)
        )

    blocks = {"blocks": "x", "size": [80], "fractions": {"train": 0.5, "test": 0.5}}
    said = "two splits share values; `splits: {blocks: x, size: [80], fractions: {…}}` keeps them apart"
    assert said in " ".join(found(None, stride=2).split())
    assert said in " ".join(found({"group": "y", "fractions": blocks["fractions"]}, stride=2).split())
    for splits, stride in ((None, 8), (blocks, 2), ({"train": 1}, 2)):
        assert "share values" not in found(splits, stride=stride)


def test_blocks_that_do_not_fit_are_said(tmp_path: pathlib.Path) -> None:
    root = write_files(tmp_path, {"x.npy": np.zeros((40, 30))})

    def found(size: list[int], blocks: str = "x") -> str:
        rule = {"blocks": blocks, "size": size, "fractions": {"train": 0.5, "test": 0.5}}
        with pytest.raises(ConfigError) as error:
            plan_of(root, row_axes=2, features={"x": {"patch": {"size": [5, 5]}}}, splits=rule)
        return str(error.value)

    assert "splits.size: expected a number for each axis that counts rows of x; found 1, and 2 such axes" in found([10])
    assert "splits.size: expected blocks as large as a patch, (5, 5), or larger; found (10, 4)" in found([10, 4])
    assert "splits.blocks: expected a feature, one of x; found 'y'" in found([10, 10], blocks="y")


@pytest.mark.parametrize("rule", ["group", "blocks"])
def test_rows_are_split_by_the_widest_windows(tmp_path: pathlib.Path, rule: str) -> None:
    root = write_files(tmp_path, {"x.npy": np.zeros(40), "y.npy": np.zeros(40)})
    features = {name: {"window": {"size": size, "pad": "edge"}} for name, size in (("x", 5), ("y", 1))}
    splits = {rule: "y", "fractions": {"train": 1}} | ({"size": [10]} if rule == "blocks" else {})
    with pytest.raises(ConfigError) as error:
        plan_of(root, features=features, splits=splits)
    expected = f"splits.{rule}: expected a feature whose rows are as wide as those of x, (5,); found y, of (1,)"
    assert expected in str(error.value)
