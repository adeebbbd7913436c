"""What is said of values, beside NumPy and pandas."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from loaders.format.spec import FeatureSpec
from pipelines.page import findings, shapes
from pipelines.page.facts import Facts, Feature


def feature(name, rows, *, places=(), said=None, classes=None, **spec):
    """A feature of which these rows are in the training split."""
    rows = np.asarray(rows)
    dtype = "string" if rows.dtype.kind in "SO" else rows.dtype.name
    return Feature(
        source=FeatureSpec(name=name, dtype=dtype, shape=rows.shape[1:]),
        batch=None,
        said={**spec, **(said or {})},
        statistics=None,
        classes=classes,
        raw={"train": rows},
        made={},
        places={"train": np.asarray(places)} if len(places) else {},
    )


def facts(*features):
    return Facts(
        built=False,
        features={one.name: one for one in features},
        splits=(),
        training="train",
        sampled={},
        whole=True,
        config={},
    )


@given(
    arrays.arrays(np.float32, st.integers(1, 60), elements=st.floats(-1e6, 1e6, width=32) | st.just(np.float32(np.nan)))
)
def test_histograms_count_every_value_that_is_there(values):
    found = findings.histogram_of(feature("x", values).spec, {}, {"train": values})
    known = values[~np.isnan(values)].astype(np.float64)
    if not known.size:
        assert found is None
        return
    assert np.isclose(found.shares["train"].sum(), 100)
    clipped = np.clip(known, found.edges[0], found.edges[-1])
    expected = np.histogram(clipped, found.edges)[0] / len(known) * 100
    np.testing.assert_allclose(found.shares["train"], expected)
    np.testing.assert_allclose(found.quantiles["train"], np.quantile(known, np.array(findings.QUANTILES) / 100))


def test_quantiles_of_a_random_sample_are_off_by_no_more_than_is_said():
    """Of uniform values the share below x is x."""
    samples = np.sort(np.random.default_rng(0).random((2000, 100)), axis=1)
    steps = np.arange(101) / 100
    off = np.maximum(abs(samples - steps[1:]), abs(samples - steps[:-1])).max(axis=1)
    assert 0.95 <= (off <= findings.rank_error(100)).mean() < 0.97
    assert findings.rank_error(1) == 1


def test_integers_have_a_bin_each():
    found = findings.histogram_of(feature("x", np.array([3, 3, 5])).spec, {}, {"train": np.array([3, 3, 5])})
    np.testing.assert_allclose(found.edges, [2.5, 3.5, 4.5, 5.5])
    np.testing.assert_allclose(found.shares["train"], [200 / 3, 0, 100 / 3])


def test_a_few_far_values_are_counted_in_the_outer_bins():
    values = np.concatenate([np.random.default_rng(0).normal(size=5000), [1e9]])
    found = findings.histogram_of(feature("x", values).spec, {}, {"train": values})
    assert found.beyond
    assert found.edges[-1] < 10
    assert np.isclose(found.shares["train"].sum(), 100)


@given(st.integers(0, 1000))
def test_statistics_of_a_sample_are_those_of_numpy(seed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(int(rng.integers(1, 30)), 4)) * 10.0 ** rng.integers(-3, 4)
    rows[rng.random(rows.shape) < 0.3] = np.nan
    found = feature("x", rows).estimates["train"]
    frame = pd.DataFrame(rows)
    np.testing.assert_array_equal(found.count, frame.count())
    np.testing.assert_array_equal(found.missing, frame.isna().sum())
    np.testing.assert_allclose(found.mean, frame.mean(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.std, frame.std(ddof=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(found.min, frame.min())
    np.testing.assert_array_equal(found.max, frame.max())


def test_declared_missing_values_are_missing():
    assert feature("x", np.array([1.0, -9999, 3]), missing=[-9999]).estimates["train"].missing == 1


def test_missing_values_are_shown_where_they_lie():
    rows = np.where(np.arange(1000) < 250, np.nan, 1.0)
    found = findings.missing_by_place(feature("x", rows, places=np.arange(1000) / 1000), buckets=4)
    np.testing.assert_allclose(found, [1, 0, 0, 0])
    assert findings.missing_by_place(feature("x", np.ones(1000), places=np.arange(1000) / 1000)).size == 0


def test_correlations_are_those_of_numpy_and_columns_that_are_equal_are_found():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 4))
    rows[:, 3] = -rows[:, 0] + 0.1 * rng.normal(size=200)
    found = findings.correlations_of(facts(feature("a", rows), feature("b", rows[:, 1])))
    np.testing.assert_allclose(found.matrix, np.corrcoef(np.column_stack([rows, rows[:, 1]]).T), atol=1e-12)
    assert [pair[:2] for pair in found.strongest(2)] == [("a[1]", "b"), ("a[0]", "a[3]")]
    assert findings.duplicates_of(facts(feature("a", rows), feature("b", rows[:, 1]))) == [("a[1]", "b")]
    assert findings.correlations_of(facts(feature("a", rng.normal(size=(200, 101))))) is None


def test_columns_of_other_rows_are_not_compared():
    """An indicator is known of stored rows alone, which are others than those of the sources."""
    rng = np.random.default_rng(0)
    rows, places = rng.normal(size=(200, 2)), np.arange(200) / 200
    stored = feature("x_missing", rng.random((90, 2)) < 0.5)
    found = facts(feature("x", rows, places=places), stored, feature("y", rows[:, 1], places=places))
    assert findings.correlations_of(found).names == ("x[0]", "x[1]", "y")
    assert findings.duplicates_of(found) == [("x[1]", "y")]
    assert findings.correlations_of(facts(stored)).names == ("x_missing[0]", "x_missing[1]")


def test_classes_are_counted_and_named():
    rows = np.array([0, 0, 2, 1, 0, 2])
    one = feature("label", rows, role="label", class_names=["ash", "beech", "oak"])
    found = findings.counts_of(one, "train", most=2)
    assert (found.names, found.distinct) == (("ash", "oak"), 3)
    np.testing.assert_allclose(found.shares["train"], [50, 100 / 3])
    exact = feature("label", rows, role="label", classes=(np.array([0, 1]), np.array([1, 3])))
    np.testing.assert_allclose(findings.counts_of(exact, "train", most=2).shares["train"], [25, 75])


def test_infinite_values_are_said():
    said = findings.warnings_of(feature("x", np.array([1.0, np.inf, 2.0])), facts())
    assert "infinite values in the sample of train" in said


WAVES = np.sin(np.arange(64) / 8) + np.arange(20)[:, np.newaxis]
NOISE = np.random.default_rng(0).normal(size=(20, 64))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (np.zeros((2, 28, 28), np.uint8), "image"),
        (np.zeros((2, 8, 9, 3), np.float32), "image"),
        (np.zeros((2, 3, 8, 9), np.float32), "image"),
        (np.zeros((2, 8, 9, 30), np.float32), "cube"),
        (WAVES, "curve"),
        (np.where(np.arange(64) % 9 == 4, np.nan, WAVES), "curve"),
        (np.where(np.arange(20)[:, np.newaxis] < 5, np.nan, WAVES), "curve"),
        (np.full_like(WAVES, np.nan), "numbers"),
        (NOISE, "numbers"),
        (np.stack([WAVES, WAVES], axis=-1), "curve"),
        (np.zeros((2, 4)), "numbers"),
        (np.zeros(2), "number"),
        (np.array([b"a"]), "text"),
    ],
)
def test_rows_are_known_for_what_they_are(rows, expected):
    spec = feature("x", rows).spec
    assert shapes.shape_of(spec, rows) == expected


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 1), (8, 9, 3), (8, 9, 4), (1, 8, 9), (3, 8, 9), (8, 9, 30)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_pictures_are_of_the_size_of_the_row(shape, dtype):
    rows = (np.random.default_rng(0).random((4, *shape)) * 200).astype(dtype)
    pixels = shapes.as_pixels(rows[0], shapes.limits_of(rows))
    assert (pixels.shape, pixels.dtype) == ((8, 9, 3), np.uint8)
    assert pixels.max() > pixels.min()


def test_an_image_of_bytes_is_shown_as_it_is():
    rows = np.random.default_rng(0).integers(0, 256, (3, 8, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(shapes.as_pixels(rows[1], shapes.limits_of(rows)), rows[1])


def test_a_constant_image_is_a_picture_too():
    rows = np.full((2, 8, 8), np.nan, np.float32)
    assert shapes.as_pixels(rows[0], shapes.limits_of(rows)).shape == (8, 8, 3)


def test_numbers_and_times_are_read_at_once():
    values = [0.000123456, 3, 54321.5, -123456789, 2e12, float("nan")]
    assert [shapes.as_number(value, digits=5) for value in values] == [
        "0.00012346",
        "3",
        "54,322",
        "-123,456,789",
        "2e+12",
        "-",
    ]
    assert shapes.as_time(18262.4, "datetime64[D]") == "2020-01-01"
    assert shapes.as_time(1e300, "datetime64[D]") == ""
    assert shapes.as_time(5, "timedelta64[s]") == ""


def test_values_are_short_text():
    assert shapes.as_text(np.float32(0.123456789)) == "0.12346"
    assert shapes.as_text(float("nan")) == "missing"
    assert shapes.as_text(np.arange(8)) == "0, 1, 2, 3, 4, 5, … (8)"
    assert shapes.as_text(b"s\xc3\xb6me") == "söme"
    assert len(shapes.as_text("x" * 500)) == 80
