"""Steps that are learned from quantiles against scikit-learn and NumPy in float64."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.preprocessing import KBinsDiscretizer, MinMaxScaler, QuantileTransformer, RobustScaler
from tensorflow_transform import gaussianization

from tests.support import examples
from tests.support.fitting import columns, fitted, transform

KEEP = {"impute": "none", "dtype": "float64"}


def run(x, **said):
    if x.dtype.kind in "iu":
        said.pop("impute", None)
    return transform({"x": x}, {"x": said})["x"]


@pytest.mark.parametrize("name", [name for name in columns() if name not in ("tiny", "huge mean64")])
def test_robust_scaling_is_that_of_scikit_learn(name):
    x = columns()[name]
    expected = RobustScaler().fit_transform(x.astype(np.float64))
    np.testing.assert_allclose(run(x, normalize="robust", **KEEP), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["tiny", "huge mean64"])
def test_robust_scaling_where_scikit_learn_rounds(name):
    x = columns()[name]
    lower, middle, upper = np.quantile(x, [0.25, 0.5, 0.75], axis=0)
    np.testing.assert_allclose(run(x, normalize="robust", **KEEP), (x - middle) / (upper - lower), rtol=1e-12)


NUMBERS = st.integers(-5, 5).map(float) | st.integers(-(10**6), 10**6).map(lambda n: n / 100) | st.just(np.nan)
COLUMNS = hnp.arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=NUMBERS).filter(
    lambda x: (~np.isnan(x)).any(axis=0).all()
)


@settings(max_examples=examples(15), deadline=None)
@given(COLUMNS)
def test_robust_scaling_of_any_values(x):
    expected = RobustScaler().fit_transform(x.astype(np.float64))
    np.testing.assert_allclose(run(x, normalize="robust", **KEEP), expected, rtol=1e-9, atol=1e-9)


@settings(max_examples=examples(15), deadline=None)
@given(COLUMNS, st.sampled_from([(0.0, 1.0), (0.01, 0.99), (0.25, 0.5)]))
def test_clip_is_that_of_numpy(x, quantiles):
    low, high = np.nanquantile(x.astype(np.float64), quantiles, axis=0)
    found = run(x, normalize={"clip": list(quantiles)}, **KEEP)
    np.testing.assert_allclose(found, np.clip(x.astype(np.float64), low, high), rtol=1e-12)


def test_clip_and_minmax():
    x = np.random.default_rng(0).standard_cauchy((500, 2))
    clipped = np.clip(x, *np.quantile(x, [0.01, 0.99], axis=0))
    expected = MinMaxScaler().fit_transform(clipped)
    np.testing.assert_allclose(run(x, normalize=[{"clip": [0.01, 0.99]}, "minmax"], **KEEP), expected, atol=1e-12)


def shapes_of_data():
    random = np.random.default_rng(1)
    normal = random.normal(size=(1500, 3))
    return {
        "normal": normal,
        "missing": np.where(random.random(normal.shape) < 0.2, np.nan, normal),
        "ties": random.integers(-3, 4, (1200, 3)).astype(np.float32),
        "zeros": np.maximum(normal, 0),
        "constant": np.full((1000, 3), 2.5),
        "integers": random.poisson(3, (2000, 3)).astype(np.int16),
    }


@pytest.mark.parametrize("name", shapes_of_data())
@pytest.mark.parametrize("to", ["uniform", "normal"])
def test_quantiles_are_those_of_scikit_learn(name, to):
    x = shapes_of_data()[name]
    wide = x.astype(np.float64)
    theirs = QuantileTransformer(n_quantiles=1000, subsample=None, output_distribution=to).fit(wide)
    apply = fitted({"x": x}, {"x": {"normalize": {"quantile": to}, **({} if x.dtype.kind == "i" else KEEP)}})
    new = (wide[:300] * 1.7 + 0.123).astype(x.dtype)
    tolerance = 1e-5 if x.dtype.kind == "i" else 1e-8
    for values in (x, new):
        found, expected = apply({"x": values})["x"], theirs.transform(values.astype(np.float64))
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("rows", [2, 3, 100, 999])
@pytest.mark.parametrize("to", ["uniform", "normal"])
def test_few_rows_have_as_many_quantiles_as_rows(rows, to):
    random = np.random.default_rng(rows)
    x = random.normal(size=(rows, 3))
    x[1:][random.random((rows - 1, 3)) < 0.2] = np.nan  # they count as rows, as in scikit-learn
    theirs = QuantileTransformer(n_quantiles=rows, subsample=None, output_distribution=to).fit(x)
    apply = fitted({"x": x}, {"x": {"normalize": {"quantile": to}, **KEEP}}, units=2)
    for values in (x, x * 1.7 + 0.123):
        np.testing.assert_allclose(apply({"x": values})["x"], theirs.transform(values), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("count", [2, 5, 10])
def test_buckets_are_those_of_scikit_learn(count):
    x = np.random.default_rng(2).normal(size=(997, 3))
    theirs = KBinsDiscretizer(count, encode="ordinal", strategy="quantile", subsample=None, quantile_method="linear")
    found = run(x, normalize={"buckets": count})
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, theirs.fit_transform(x))


def test_buckets_of_repeated_values_are_those_of_numpy():
    x = np.random.default_rng(3).integers(0, 4, (300, 2)).astype(np.uint8)
    found = run(x, normalize={"buckets": 10})
    for column, values in zip(found.T, x.T, strict=True):
        np.testing.assert_array_equal(column, np.digitize(values, np.quantile(values, np.arange(1, 10) / 10)))


@pytest.mark.parametrize("shape", [(50,), (50, 3), (20, 3, 2)])
def test_boundaries_that_are_given(shape):
    x = np.random.default_rng(4).integers(-3, 4, shape) / 2
    found = run(x, normalize={"buckets": [-1.0, 0.5, 1.0]})
    np.testing.assert_array_equal(found, np.digitize(x, [-1.0, 0.5, 1.0]))


@pytest.mark.parametrize("over", ["element", "channel", "all", [0], [-1], [0, 2]])
@pytest.mark.parametrize("step", ["robust", {"quantile": "uniform"}, {"buckets": 4}, {"clip": [0.1, 0.9]}])
def test_what_shares_quantiles(over, step):
    x = np.random.default_rng(5).normal(size=(60, 3, 4, 2)) * np.arange(1, 25).reshape(3, 4, 2)
    named = {"element": (0, 1, 2), "channel": (2,), "all": ()}
    kept = named[over] if isinstance(over, str) else tuple(axis % 3 for axis in over)
    pooled = (0, *(axis + 1 for axis in range(3) if axis not in kept))
    columns = np.moveaxis(x, pooled, range(len(pooled)))
    flat = columns.reshape(int(np.prod(columns.shape[: len(pooled)])), -1)
    alone = transform({"x": flat}, {"x": {"normalize": step}})["x"]
    expected = np.moveaxis(alone.reshape(columns.shape), range(len(pooled)), pooled)
    found = run(x, normalize=step, over=over)
    np.testing.assert_array_equal(found, expected)


def test_gaussian_makes_long_tails_normal():
    random = np.random.default_rng(6)
    normal = random.normal(size=20000)
    for left, right in ((0.1, 0.1), (0.0, 0.3), (0.4, 0.05)):
        heavy = normal * np.exp(np.where(normal < 0, left, right) * normal**2)
        found = run((5 + 3 * heavy)[:, None], normalize="gaussian", dtype="float64")[:, 0]
        assert np.sqrt(np.mean((found - normal) ** 2)) < 0.1


def test_gaussian_is_the_zscore_where_tails_are_short():
    x = np.random.default_rng(7).uniform(size=(5000, 2))
    found = run(x, normalize="gaussian", dtype="float64")
    np.testing.assert_allclose(found, (x - x.mean(0)) / x.std(0), atol=0.002)
    np.testing.assert_array_equal(run(np.full((5, 1), 3.3), normalize="gaussian", dtype="float64"), np.zeros((5, 1)))


def test_gaussian_has_the_parameters_of_the_samples_moments():
    random = np.random.default_rng(9)
    normal = np.sort(random.normal(size=3000))
    x, place = np.sort(2 + normal * np.exp(np.where(normal < 0, 0.05, 0.2) * normal**2)), np.arange(3000)
    b0, b1 = x.mean(), np.sum(place * x) / 3000 / 2999
    b2 = np.sum(place * (place - 1) * x) / 3000 / 2999 / 2998
    b3 = np.sum(place * (place - 1.0) * (place - 2) * x) / 3000 / 2999 / 2998 / 2997
    second, third, fourth = 2 * b1 - b0, 6 * b2 - 6 * b1 + b0, 20 * b3 - 30 * b2 + 12 * b1 - b0
    parameters = gaussianization.compute_tukey_hh_params(np.array([third / second, fourth / second]))
    mean, scale = gaussianization.tukey_hh_l_mean_and_scale(parameters)
    divisor = second / scale
    scaled = (x - b0) / divisor + mean
    expected = gaussianization.inverse_tukey_hh(tf.constant(scaled), *(tf.constant(p, tf.float64) for p in parameters))
    found = run(x[:, None], normalize="gaussian", dtype="float64")[:, 0]
    np.testing.assert_allclose(found, expected.numpy(), rtol=0.02, atol=0.02)


@pytest.mark.slow
def test_gaussian_is_that_of_tensorflow_transform(tmp_path, monkeypatch):
    import tensorflow_transform as tft
    import tensorflow_transform.beam as tft_beam
    from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

    monkeypatch.setattr("sys.argv", ["pytest"])  # Beam reads its options there
    random = np.random.default_rng(8)
    normal = random.normal(size=3000)
    x = np.stack(
        [normal * np.exp(0.2 * normal**2), np.exp(0.5 * random.normal(size=3000)), random.uniform(size=3000)], 1
    )
    schema = schema_utils.schema_from_feature_spec(
        {"x": tf.io.FixedLenFeature([3], tf.float32), "row": tf.io.FixedLenFeature([], tf.int64)}
    )
    with tft_beam.Context(temp_dir=str(tmp_path)):
        rows = [{"x": row, "row": number} for number, row in enumerate(x.astype(np.float32))]
        (made, _), _ = (rows, dataset_metadata.DatasetMetadata(schema)) | tft_beam.AnalyzeAndTransformDataset(
            lambda inputs: {"x": tft.scale_to_gaussian(inputs["x"], elementwise=True), "row": inputs["row"]}
        )
    expected = np.stack([row["x"] for row in sorted(made, key=lambda row: row["row"])])
    found = run(x.astype(np.float32), normalize="gaussian", dtype="float64")
    # Its moments depend on its batches, and its search for the parameters stops after a few steps.
    np.testing.assert_allclose(found, expected, rtol=0.06, atol=0.05)
