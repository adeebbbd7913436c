"""Two data sets are compared as plain Python compares them."""

import collections
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders.format.manifest import ManifestError
from loaders.format.names import STATISTICS
from loaders.format.spec import FeatureSpec
from pipelines.cli import main
from pipelines.maintain.diff import diff
from pipelines.statistics.recorded import TrainingStatistics
from pipelines.statistics.summary import Statistics
from tests.support import shards
from tests.support.manifests import write_beside


def write(root, splits, **more):
    """A data set with the rows of each split in one shard."""
    first = next(iter(splits.values()))
    shards.write(root, {name: [rows] for name, rows in splits.items()}, rows_per_record=4, features=shards.specs(first))
    if more:
        statistics = {"x": Statistics(**{key: np.asarray(value) for key, value in more.items()})}
        write_beside(root, STATISTICS, TrainingStatistics(statistics=statistics, classes={}).dump())
    return root


def rows_of(values):
    values = np.array(values, dtype=np.int64)
    return {"x": values, "y": (values * 2).astype(np.float32)}


@settings(max_examples=20, deadline=None)
@given(
    one=st.lists(st.integers(0, 5), min_size=1, max_size=30),
    other=st.lists(st.integers(0, 5), min_size=1, max_size=30),
)
def test_rows_are_counted_as_often_as_they_are_there(tmp_path_factory, one, other):
    roots = [write(tmp_path_factory.mktemp("set"), {"train": rows_of(values)}) for values in (one, other)]
    found = diff(*roots)
    counts = collections.Counter(one), collections.Counter(other)
    assert found.shared == (counts[0] & counts[1]).total()
    assert found.only == ((counts[0] - counts[1]).total(), (counts[1] - counts[0]).total())
    assert found.same == (counts[0] == counts[1])


def test_order_and_splits_do_not_matter_but_sizes_of_splits_are_told(tmp_path):
    one = write(tmp_path / "one", {"train": rows_of([1, 2, 3]), "test": rows_of([4])})
    other = write(tmp_path / "other", {"train": rows_of([4, 3, 1]), "test": rows_of([2])})
    assert diff(one, other).same
    third = write(tmp_path / "third", {"train": rows_of([1, 2]), "test": rows_of([3, 4])})
    found = diff(one, third)
    assert (found.only, found.splits) == ((0, 0), {"train": (3, 2), "test": (1, 2)})
    assert not found.same


def test_rows_are_the_same_whatever_records_hold_them(tmp_path):
    rows = {"x": np.array([1, 2, 3, 4, 4], np.int16)}
    texts = [FeatureSpec(name="t", dtype="string", shape=()), *shards.specs(rows)]
    shards.write(tmp_path / "one", {"train": [rows]}, rows_per_record=4, features=shards.specs(rows))
    shards.write(tmp_path / "single", {"train": [rows]}, rows_per_record=1, features=shards.specs(rows))
    more = {"t": np.array([b"a", b"bb", b"", b"c", b"d"])} | rows
    shards.write(tmp_path / "texts", {"train": [more]}, rows_per_record=2, features=texts, chunk_records=1)
    assert [diff(tmp_path / "one", tmp_path / other).shared for other in ("single", "texts")] == [5, 5]


def test_features_that_differ_are_named_and_the_others_compared(tmp_path):
    one = write(tmp_path / "one", {"train": rows_of([1, 2])})
    changed = rows_of([1, 2])
    changed = {"x": changed["x"], "y": changed["y"].astype(np.float64), "z": changed["x"]}
    other = write(tmp_path / "other", {"train": changed})
    found = diff(one, other)
    assert {(each.feature, each.what, each.first, each.second) for each in found.features} == {
        ("y", "dtype", "float32", "float64"),
        ("z", "feature", "", "there"),
    }
    assert (found.compared, found.shared) == (("x",), 2)
    apart = write(tmp_path / "apart", {"train": {"w": np.arange(2)}})
    found = diff(one, apart)
    assert (found.compared, found.shared, found.only) == ((), None, None)
    assert "Rows are not compared" in str(found)


def test_the_element_of_a_statistic_that_differs_most_is_told(tmp_path):
    fields = {"count": [3, 3], "missing": [0, 0], "min": [0.0, np.nan], "max": [1.0, np.nan], "std": [1.0, 2.0]}
    one = write(tmp_path / "one", {"train": rows_of([1])}, mean=[0.5, 7.0], **fields)
    other = write(tmp_path / "other", {"train": rows_of([1])}, mean=[0.5, 9.0], **fields)
    (found,) = diff(one, other).statistics
    assert (found.feature, found.what, found.column, found.first, found.second) == ("x", "mean", 1, "7", "9")


def test_the_command_line(tmp_path, capsys):
    one = write(tmp_path / "one", {"train": rows_of([1, 2])})
    other = write(tmp_path / "other", {"train": rows_of([1, 3])})
    assert main.main(["diff", str(one), str(one)]) == 0
    assert "the same features, statistics and rows" in capsys.readouterr().out
    assert main.main(["diff", str(one), str(other)]) == 1
    assert "1 rows are in both, 1 in the first alone, 1 in the second" in capsys.readouterr().out
    assert main.main(["diff", str(one), str(other), "--json", "-"]) == 1
    assert json.loads(capsys.readouterr().out)["only"] == [1, 1]
    assert main.main(["diff", str(one), str(tmp_path)]) == 2
    with pytest.raises(ManifestError):
        diff(one, tmp_path)
