"""Statistics that grow: counts of classes go on, and nothing is added to files that are not as they were listed."""

import numpy as np
import pytest

from pipelines.config.schema import parse_config
from pipelines.maintain import profile, publish_append
from pipelines.maintain.profile import FeatureProfile, profile_columns
from pipelines.maintain.publish_append import measure_drift
from pipelines.plan.resolve import resolve_config
from pipelines.sources.table import scan
from pipelines.statistics.frequencies import Distinct
from pipelines.statistics.summary import moments, summarize
from tests.support.arrays import write_files


def label(root, values):
    source, said = write_files(root, {"labels.npy": values}), parse_config({"splits": {"train": 1}})
    table = scan(source, said)
    (feature,) = resolve_config(said, table).features
    return feature


def classes(values):
    found, counts = np.unique(values, return_counts=True)
    return {"labels": Distinct(found, counts, np.array([len(found)]))}


@pytest.mark.parametrize("dtype", ["int64", "uint8", "S3"])
def test_counts_of_classes_go_on(dtype, tmp_path):
    old, new = np.random.default_rng(0).integers(0, 40, (2, 50)).astype(dtype)
    feature = label(tmp_path, old)
    before = classes(old)
    added = profile_columns([feature], {"labels": new}, {})
    found = publish_append.count_on(before, {"labels": feature}, added)
    values, counts = np.unique(np.concatenate([old, new]), return_counts=True)
    np.testing.assert_array_equal(found["labels"].values, values)
    np.testing.assert_array_equal(found["labels"].counts, counts)


def test_too_many_classes_are_no_longer_counted(tmp_path, monkeypatch):
    feature = label(tmp_path, np.arange(50))
    added = profile_columns([feature], {"labels": np.arange(50, 60)}, {})
    assert set(publish_append.count_on(classes(np.arange(50)), {"labels": feature}, added)) == {"labels"}
    monkeypatch.setattr(profile, "MAX_CLASSES", 59)
    assert not publish_append.count_on(classes(np.arange(50)), {"labels": feature}, added)
    uncounted = {"labels": FeatureProfile(moments=None)}
    assert not publish_append.count_on(classes(np.arange(5)), {"labels": feature}, uncounted)


def test_drift_of_new_rows_and_of_all():
    old, new = np.random.default_rng(0).normal(size=(2, 1000, 1))
    both = np.concatenate([old, new + 3])
    found = measure_drift(*(summarize(moments(rows, "element")) for rows in (old, new + 3, both)))
    assert found.added.shift == pytest.approx(abs((new + 3).mean() - old.mean()) / old.std())
    assert found.total.shift == pytest.approx(abs(both.mean() - old.mean()) / old.std())
    assert 0 < found.certain.shift < found.total.shift
    assert found.large
