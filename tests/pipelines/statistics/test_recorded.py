"""What is recorded of the training rows is read as it was written."""

import numpy as np

from pipelines.statistics.frequencies import Distinct
from pipelines.statistics.recorded import TrainingStatistics, dump_moments, load_moments
from pipelines.statistics.summary import moments, summarize


def test_statistics_and_classes_are_read_as_they_were_written():
    found = {
        "a": summarize(moments(np.arange(6.0).reshape(3, 2), "element")),
        "b/c": summarize(moments(np.arange(3), "all")),
    }
    classes = {"b/c": Distinct(np.array([0, 1, 2]), np.array([1, 1, 1]), np.array([3]))}
    written = TrainingStatistics(statistics=found, classes=classes).dump()
    again = TrainingStatistics.load(written)
    assert (list(again.statistics), list(again.classes)) == (["a", "b/c"], ["b/c"])
    np.testing.assert_array_equal(again.statistics["a"].mean, [2.0, 3.0])
    np.testing.assert_array_equal(again.classes["b/c"].values, [0, 1, 2])
    assert again.dump() == written


def test_moments_are_read_as_they_were_written():
    found = {"a": moments(np.random.default_rng(0).normal(size=(9, 2)), "element"), "b/c": moments(np.arange(3), "all")}
    again = load_moments(dump_moments(found))
    assert list(again) == ["a", "b/c"]
    assert dump_moments(again) == dump_moments(found)
