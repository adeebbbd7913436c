"""Patches: each row with its neighbours, the same as NumPy's padded windows, and none that two splits share."""

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
from pipelines.plan.plan import Plan, make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.plan.units import Span
from pipelines.reading.columns import read_columns
from pipelines.reading.splits import assign
from pipelines.sources.table import scan
from tests.support.arrays import write_files
from tests.support.builds import make

MODES = {"reflect": "reflect", "edge": "edge", "zeros": "constant"}


def plan_of(root: str, **config: Any) -> Plan:
    said = parse_config(config)
    table = scan(root, said)
    return make_plan(table, resolve_config(said, table))


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
        "key": ({"size": [3], "padding": "edge"}, "unknown key; the keys are size, pad"),
        "nothing": ({}, "expected the key size; found none"),
        "ragged": ({"size": [3]}, "patches are cut from arrays; found ragged True and source None"),
    }.values():
        with pytest.raises(ConfigError) as error:
            parse_config({"features": {"x": {"patch": said, "ragged": "ragged" in message}}})
        assert message in str(error.value)


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
