"""Profiles of rows: the same for any cut, and what NumPy says of the rows of each split."""

import dataclasses

import numpy as np
import pytest

from pipelines.config.schema import parse_config
from pipelines.maintain import profile
from pipelines.maintain.profile import Profile, merge_profiles, profile_units, profiled, read_profile, write_profile
from pipelines.plan.plan import make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.reading.split_assignment import assign
from pipelines.sources.table import scan
from pipelines.statistics.summary import summarize
from tests.support.arrays import write_files


def make(root, arrays, **config):
    source, said = write_files(root, arrays), parse_config(config)
    table = scan(source, said)
    return make_plan(table, resolve_config(said, table, learns=False))


def table(rows=200):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(rows, 3))
    x[generator.random(x.shape) < 0.2] = np.nan
    return {
        "x.npy": x,
        "labels.npy": generator.integers(0, 9, rows),
        "name.npy": generator.choice(["a", "bb"], rows),
        "row.npy": np.arange(rows),
    }


FEATURES = {"name": {"role": "label"}, "row": {"role": "id"}}


def whole(plan, **said):
    said = {"bounds": {}, "only": None, **said}
    return profile_units((0, len(plan.units)), plan, *said.values())


def same(one, other):
    return (dict(one.rows), in_bits(one)) == (dict(other.rows), in_bits(other))


def in_bits(profile):
    """What is known of each feature of each split, bit for bit."""
    found = {}
    for key, own in profile.features.items():
        arrays = {} if own.moments is None else {"moments": own.moments.to_arrays()}
        arrays |= {} if own.classes is None else {"classes": vars(own.classes)}
        bits = {(k, name): (a.dtype, a.shape, a.tobytes()) for k, named in arrays.items() for name, a in named.items()}
        found[key] = (own.outside, bits)
    return found


def test_each_split_has_the_moments_and_classes_of_its_rows(tmp_path):
    arrays = table()
    plan = make(tmp_path, arrays, features=FEATURES)
    found = whole(plan)
    numbers = assign(plan, plan.units.spans(0))
    assert set(found.features) == {(split, name) for split in plan.splits for name in ("x", "labels", "name")}
    for number, split in enumerate(plan.splits):
        rows = numbers == number
        assert found.rows[split] == rows.sum()
        statistics = summarize(found.features[split, "x"].moments)
        np.testing.assert_allclose(statistics.mean, np.nanmean(arrays["x.npy"][rows], axis=0), rtol=1e-14)
        np.testing.assert_array_equal(statistics.missing, np.isnan(arrays["x.npy"][rows]).sum(axis=0))
        assert found.features[split, "x"].classes is None
        for name in ("labels", "name"):
            values, counts = np.unique(arrays[f"{name}.npy"][rows].astype(str), return_counts=True)
            classes = found.features[split, name].classes
            assert dict(zip(classes.values.astype(str), classes.counts, strict=True)) == dict(
                zip(values, counts, strict=True)
            )


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
def test_the_cut_into_units_changes_nothing(rows, tmp_path):
    arrays = table()
    parts = {f"{name.removesuffix('.npy')}-{n}.npy": a[n::3] for name, a in arrays.items() for n in range(3)}
    plan = make(tmp_path, parts, features=FEATURES)
    cut = dataclasses.replace(plan, analysis_rows=rows)
    spans = [span for unit in range(len(cut.units)) for span in cut.units.spans(unit)]
    assert sum(span.rows for span in spans) == 200
    assert max(span.rows for span in spans) <= rows
    merged = Profile(rows={}, features={})
    for unit in reversed(range(len(cut.units))):
        merged = merge_profiles(profiled(plan), merged, profile_units((unit, unit + 1), cut, {}, None))
    expected = whole(plan)
    assert dict(merged.rows) == dict(expected.rows)
    for key, own in expected.features.items():
        one, other = (Profile(rows={}, features={key: found}) for found in (own, merged.features[key]))
        assert same(one, other)


def test_only_some_splits(tmp_path):
    plan = make(tmp_path, table(), features=FEATURES)
    found = whole(plan, only=("test",))
    assert list(found.rows) == ["test"]
    assert same(
        found, Profile(rows=found.rows, features={k: v for k, v in whole(plan).features.items() if k[0] == "test"})
    )


def test_directories_are_splits_and_a_filter_drops_rows(tmp_path):
    arrays = {f"{split}/x-0.npy": np.arange(rows, dtype=float) for split, rows in (("test", 5), ("train", 9))}
    found = whole(make(tmp_path, arrays, filter="x > 1"))
    assert found.rows == {"test": 3, "train": 7}
    assert summarize(found.features["test", "x"].moments).mean == 3


def test_values_outside_bounds_are_counted(tmp_path):
    x = np.array([[-1.0, 5], [0, 6], [1, 7], [np.nan, 8]])
    plan = make(tmp_path, {"x.npy": x}, splits={"train": 1})
    bounds = {"x": (np.array([0.0, 6.0]), np.array([0.5, np.nan]))}
    assert whole(plan, bounds=bounds).features["train", "x"].outside == 3


def test_too_many_values_are_no_classes(tmp_path, monkeypatch):
    plan = make(tmp_path, {"labels.npy": np.arange(50)}, splits={"train": 1})
    monkeypatch.setattr(profile, "MAX_CLASSES", 50)
    assert len(whole(plan).features["train", "labels"].classes.values) == 50
    monkeypatch.setattr(profile, "MAX_CLASSES", 49)
    assert whole(plan).features["train", "labels"].classes is None
    cut = dataclasses.replace(plan, analysis_rows=20)
    assert whole(cut).features["train", "labels"].classes is None


def test_a_profile_is_read_as_it_was_written(tmp_path):
    found = whole(make(tmp_path, table(), features=FEATURES))
    write_profile(found, str(tmp_path / "profile"))
    again = read_profile(str(tmp_path / "profile"))
    assert (again.rows, set(again.features)) == (found.rows, set(found.features))
    assert same(again, found)
