"""Scaling by moments against scikit-learn and NumPy in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler, normalize

from pipelines.errors import DataError
from pipelines.write.transform import apply_transform
from tests.support import examples
from tests.support.fitting import columns, fitted, resolve, transform

KEEP = {"impute": "none", "dtype": "float64"}
SCALERS = {
    "zscore": StandardScaler(),
    "minmax": MinMaxScaler(),
    "maxabs": MaxAbsScaler(),
}


def run(x, **said):
    if x.dtype.kind in "iu":
        said.pop("impute", None)
    return transform({"x": x}, {"x": said})["x"]


@pytest.mark.parametrize("name", columns())
@pytest.mark.parametrize("method", SCALERS)
def test_scaling_is_that_of_scikit_learn(method, name):
    x = columns()[name]
    expected = SCALERS[method].fit_transform(x.astype(np.float64))
    if name in ("tiny", "large", "nearly constant", "huge mean64"):  # where scikit-learn rounds, or calls it constant
        wide = (x - x[0]) / np.abs(x - x[0]).max()
        expected = {
            "zscore": (wide - wide.mean(0)) / wide.std(0),
            "minmax": (wide - wide.min(0)) / np.ptp(wide, axis=0),
            "maxabs": x / np.abs(x).max(0),
        }[method]
    found = run(x, normalize=method, **KEEP)
    hard = name in ("huge mean64", "nearly constant")
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-6 if hard and method == "zscore" else 1e-10)


NUMBERS = st.integers(-(10**9), 10**9).map(lambda number: number / 1000) | st.just(np.nan)
COLUMNS = hnp.arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 4)), elements=NUMBERS).filter(
    lambda x: (~np.isnan(x)).any(axis=0).all()
)


@settings(max_examples=examples(25), deadline=None)
@given(COLUMNS, st.sampled_from(sorted(SCALERS)))
def test_scaling_of_any_values_is_that_of_scikit_learn(x, method):
    wide = x.astype(np.float64)
    scaler = SCALERS[method].fit(wide)
    # A column that scikit-learn calls constant although it is not has its true deviation here.
    nearly = (np.nanstd(wide, axis=0) > 0) & (np.nanstd(wide, axis=0) <= 1e-6 * np.nanmax(np.abs(wide), axis=0))
    found, expected = run(x, normalize=method, **KEEP), scaler.transform(wide)
    np.testing.assert_allclose(found[:, ~nearly], expected[:, ~nearly], rtol=1e-7, atol=1e-7)
    constant = np.nanmin(wide, axis=0) == np.nanmax(wide, axis=0)
    if method != "maxabs":
        assert (np.nan_to_num(found[:, constant]) == 0).all()


@pytest.mark.parametrize("range_", [(-1.0, 1.0), (5.0, 7.5)])
def test_the_range_of_minmax(range_):
    x = columns()["missing"]
    found = run(x, normalize={"minmax": list(range_)}, **KEEP)
    np.testing.assert_allclose(
        found, MinMaxScaler(feature_range=range_).fit_transform(x.astype(np.float64)), rtol=1e-12
    )
    assert (np.nanmin(found), np.nanmax(found)) == range_


@pytest.mark.parametrize("name", columns())
def test_scale_multiplies(name):
    x = columns()[name]
    expected = x.astype(np.float64) * (1 / 255)
    np.testing.assert_array_equal(run(x, normalize={"scale": "1/255"}, **KEEP), expected)


def test_log1p_is_that_of_numpy():
    x = np.array([[0.0, 1e-20, 5.0, -0.5, np.nan, 1e300, -1 + 1e-12]])
    np.testing.assert_allclose(run(x, normalize="log1p", **KEEP), np.log1p(x), rtol=1e-15)


@pytest.mark.parametrize("steps", ["log1p", ["log1p", "zscore"], ["log1p", "robust"]])
def test_values_that_have_no_logarithm_are_named(steps):
    for value in (-1.0, -3.0):
        x = np.array([[2.0], [value], [5.0]], np.float32)
        with pytest.raises(DataError, match=rf"feature x: expected values above -1 for log1p; found {value}"):
            run(x, normalize=steps)


def test_values_without_a_logarithm_may_be_missing():
    x = np.array([[2.0], [-9999.0], [5.0]], np.float32)
    found = run(x, normalize="log1p", missing=-9999, **KEEP)
    np.testing.assert_allclose(found, np.log1p([[2.0], [np.nan], [5.0]]))


@pytest.mark.parametrize("shape", [(7,), (4, 3), (2, 3, 5)])
@pytest.mark.parametrize("by", ["l2", "mean", "zscore"])
def test_rows_by_themselves(by, shape):
    x = np.random.default_rng(1).normal(3, 1, (20, *shape)).astype(np.float32)
    x[3] = 0
    x[4] = 7
    flat = x.reshape(20, -1).astype(np.float64)
    if by == "l2":
        expected = normalize(flat)
    elif by == "mean":
        means = flat.mean(1, keepdims=True)
        expected = flat / np.where(means == 0, 1, means)
    else:
        spread = flat.std(1, keepdims=True)
        expected = (flat - flat.mean(1, keepdims=True)) / np.where(spread == 0, 1, spread)
    found = run(x, normalize={"row": by}, dtype="float64")
    np.testing.assert_allclose(found, expected.reshape(x.shape), rtol=1e-12, atol=1e-14)


OVERS = {
    "element": (0, 1, 2),
    "channel": (2,),
    "all": (),
    "first": (0,),
    "last": (2,),
    "outer": (0, 2),
}
SAID = {"first": [0], "last": [-1], "outer": [0, 2]}


@pytest.mark.parametrize("over", OVERS)
@pytest.mark.parametrize("method", ["zscore", "minmax", "maxabs"])
def test_what_shares_a_statistic(over, method):
    x = np.random.default_rng(2).normal(5, 2, (40, 3, 4, 2))
    x[np.random.default_rng(3).random(x.shape) < 0.1] = np.nan
    pooled = (0, *(axis + 1 for axis in range(3) if axis not in OVERS[over]))
    least, greatest = np.nanmin(x, axis=pooled, keepdims=True), np.nanmax(x, axis=pooled, keepdims=True)
    expected = {
        "zscore": (x - np.nanmean(x, axis=pooled, keepdims=True)) / np.nanstd(x, axis=pooled, keepdims=True),
        "minmax": (x - least) / (greatest - least),
        "maxabs": x / np.maximum(np.abs(least), np.abs(greatest)),
    }[method]
    found = run(x, normalize=method, over=SAID.get(over, over), **KEEP)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "keys", [[3, -2, 3, 9, -2, 3, 9, 9], [True, False] * 4, ["ä", "b", "", "b", "ä", "", "b", "ä"]]
)
@pytest.mark.parametrize("method", ["zscore", "minmax", "maxabs"])
def test_statistics_of_groups(keys, method):
    group = np.array(keys)
    group = np.char.encode(group, "utf-8") if group.dtype.kind == "U" else group
    x = np.random.default_rng(4).normal(size=(8, 3))
    x[1, 2] = np.nan
    expected = np.empty_like(x)
    for key in np.unique(group):
        expected[group == key] = SCALERS[method].fit_transform(x[group == key])
    apply = fitted({"x": x, "g": group}, {"x": {"normalize": method, "by": "g", **KEEP}})
    np.testing.assert_allclose(apply({"x": x, "g": group})["x"], expected, rtol=1e-9, atol=1e-12)
    other = np.full(8, b"new") if group.dtype.kind == "S" else np.full(8, 77).astype(group.dtype)
    if group.dtype.kind != "b":
        whole = SCALERS[method].fit_transform(x)
        np.testing.assert_allclose(apply({"x": x, "g": other})["x"], whole, rtol=1e-9, atol=1e-12)


def test_a_group_without_a_value_has_the_statistics_of_all_rows():
    x = np.array([[1.0, np.nan], [3.0, np.nan], [5.0, 2.0], [9.0, 4.0]])
    group = np.array([0, 0, 1, 1])
    apply = fitted({"x": x, "g": group}, {"x": {"normalize": "minmax", "by": "g", **KEEP}})
    found = apply({"x": np.array([[1.0, 3.0], [5.0, 3.5]]), "g": np.array([0, 1])})["x"]
    np.testing.assert_allclose(found, [[0.0, 0.5], [0.0, 0.75]])


def test_statistics_after_imputation_follow():
    x = columns()["missing64"]
    for impute, fill in (("mean", np.nanmean(x, axis=0)), ("median", np.nanmedian(x, axis=0)), ("zero", np.zeros(3))):
        expected = StandardScaler().fit_transform(np.where(np.isnan(x), fill, x))
        np.testing.assert_allclose(run(x, impute=impute, normalize="zscore", dtype="float64"), expected, atol=1e-9)


def test_a_chain_learns_from_what_the_steps_before_make():
    x = np.abs(columns()["missing64"]) + 0.1
    filled = np.where(np.isnan(x), np.nanmean(x, axis=0), x)
    expected = StandardScaler().fit_transform(np.log1p(filled))
    np.testing.assert_allclose(run(x, normalize=["log1p", "zscore"], dtype="float64"), expected, rtol=1e-8)
    expected = np.log1p(MinMaxScaler().fit_transform(filled))
    np.testing.assert_allclose(run(x, normalize=["minmax", "log1p"], dtype="float64"), expected, rtol=1e-8, atol=1e-12)


def test_values_that_overflow_are_named():
    with pytest.raises(DataError, match="feature x: expected statistics within float64 for minmax; they overflow"):
        run(np.array([[1e308], [-1e308]]), normalize="minmax")
    with pytest.raises(DataError, match="feature x: expected values that fit float32; found inf"):
        run(np.array([[1e300], [1.0]]), normalize={"scale": 1}, impute="none")


def test_scaling_by_a_constant_needs_no_value():
    assert np.isnan(run(np.full((3, 1), np.nan), normalize={"scale": 2}, **KEEP)).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_dtype_is_that_asked_for(dtype):
    x = columns()["normal"]
    found = run(x, dtype=dtype)
    assert found.dtype == dtype
    expected = StandardScaler().fit_transform(x.astype(np.float64))
    np.testing.assert_allclose(found, expected, rtol=4 * np.finfo(dtype).eps, atol=1e-9 + np.finfo(dtype).eps)


@pytest.mark.parametrize("steps", [["log1p", {"row": "l2"}], ["log1p", {"buckets": [0.5]}]])
def test_values_outside_log1p_are_named_whatever_follows(steps):
    training = np.ones((5, 2), np.float32)
    apply = fitted({"x": training}, {"x": {"normalize": steps, "impute": "mean"}})
    apply({"x": training})
    with pytest.raises(DataError, match=r"feature x: expected values above -1 for log1p; found -2\.0"):
        apply({"x": np.array([[1.0, -2.0]], np.float32)})


@pytest.mark.parametrize(
    ("x", "said", "message"),
    [
        (np.array([[1.0, -2.0]], np.float32), {"normalize": "log1p"}, "expected values above -1 for log1p; found -2"),
        (np.array([[1.0, 1e5]]), {"normalize": {"scale": 10}, "dtype": "float16"}, "expected values that fit float16"),
        (np.array([[1.0, 1e300]]), {"normalize": {"scale": 10}}, "expected values that fit float32"),
        (np.arange(300)[:, None], {"normalize": "vocabulary", "dtype": "int8"}, "expected values that fit int8"),
    ],
)
def test_values_that_the_loader_could_not_transform_are_named(x, said, message):
    said = {"x": said | ({"impute": "none"} if x.dtype.kind == "f" else {})}
    apply = fitted({"x": x if x.dtype.kind == "i" else np.ones((3, 2), x.dtype)}, {"x": said["x"] | {"store": "raw"}})
    fits = x[:1, :1] if x.dtype.kind == "i" else np.ones((1, 2), x.dtype)
    assert apply({"x": fits})["x"].tobytes() == fits.tobytes()
    with pytest.raises(DataError, match=message):
        apply({"x": x})


def test_small_integers_that_are_stored_raw_need_no_graph():
    x = np.arange(12, dtype=np.uint8).reshape(4, 3)
    config = resolve({"x": x}, {"x": {"store": "raw", "normalize": "zscore"}})
    assert apply_transform(None, config, {"x": x})["x"].tobytes() == x.tobytes()
