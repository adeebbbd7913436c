"""Inverse transforms against NumPy and scikit-learn, in NumPy and in TensorFlow."""

import json

import numpy as np
import pytest
import tensorflow as tf
from sklearn.decomposition import PCA
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, QuantileTransformer, RobustScaler, StandardScaler

import loaders
from loaders.format.manifest import ManifestError
from loaders.transform.inverse import Inverse
from pipelines.storage.npz_bytes import dump_arrays
from tests.support import shards
from tests.support.manifests import write_beside

RAW = np.random.default_rng(0).normal(3.0, 2.0, (200, 4)) ** 3


def make(normalize, constants=()):
    """The inverse for a feature `x`; constants by step number and name."""
    fitted = {f"x/{key}": np.asarray(value) for key, value in dict(constants).items()}
    return Inverse({"features": {"x": {"normalize": normalize}, "y": {}}}, fitted | {"x/impute/fill": np.zeros(4)})


def both(inverse, values, name="x", **options):
    """What NumPy and TensorFlow give, after a comparison of the two."""
    found = inverse(name, values, **options)
    graph = tf.function(lambda given: inverse(name, given, **options))(tf.constant(values))
    assert isinstance(found, np.ndarray)
    assert found.dtype == graph.dtype.as_numpy_dtype == np.float64
    np.testing.assert_allclose(graph, found, rtol=1e-9, atol=1e-12)
    return found


SCALERS = [
    ("zscore", StandardScaler(), lambda s: {"0/shift": s.mean_, "0/divisor": s.scale_}),
    ("robust", RobustScaler(), lambda s: {"0/shift": s.center_, "0/divisor": s.scale_}),
    ("minmax", MinMaxScaler(), lambda s: {"0/shift": s.data_min_, "0/divisor": s.data_range_}),
    ({"minmax": [-1, 3]}, MinMaxScaler((-1, 3)), lambda s: {"0/shift": s.data_min_, "0/divisor": s.data_range_}),
    ("maxabs", MaxAbsScaler(), lambda s: {"0/divisor": s.scale_}),
    ({"pca": 3}, PCA(3), lambda s: {"0/mean": s.mean_, "0/components": s.components_, "0/scale": np.ones(3)}),
    (
        {"whiten": 4},
        PCA(4, whiten=True),
        lambda s: {"0/mean": s.mean_, "0/components": s.components_, "0/scale": np.sqrt(s.explained_variance_)},
    ),
    ({"quantile": "uniform"}, QuantileTransformer(n_quantiles=100), lambda s: {"0/quantiles": s.quantiles_}),
    (
        {"quantile": "normal"},
        QuantileTransformer(n_quantiles=100, output_distribution="normal"),
        lambda s: {"0/quantiles": s.quantiles_},
    ),
]


@pytest.mark.parametrize(
    ("normalize", "scaler", "constants"), SCALERS, ids=lambda value: "" if callable(value) else str(value)[:30]
)
def test_steps_equal_scikit_learn(normalize, scaler, constants):
    transformed = scaler.fit_transform(RAW)
    found = both(make(normalize, constants(scaler)), transformed)

    np.testing.assert_allclose(found, scaler.inverse_transform(transformed), rtol=1e-9, atol=1e-9)
    assert found.shape == RAW.shape
    assert np.abs(found[:, :3] - transformed[:, :3]).max() > 0.1


def test_quantiles_beyond_their_ends_and_nan():
    scaler = QuantileTransformer(n_quantiles=50, output_distribution="normal").fit(RAW)
    values = np.array([[-9.0, 9.0, 5.19, -5.19], [np.nan, 0.0, 30.0, -30.0]])

    found = both(make({"quantile": "normal"}, {"0/quantiles": scaler.quantiles_}), values)

    np.testing.assert_allclose(found, scaler.inverse_transform(values), rtol=1e-9)
    assert np.isnan(found[1, 0])


def test_the_quantile_of_a_single_row():
    scaler = QuantileTransformer(n_quantiles=1).fit(RAW[:1])
    values = np.array([[0.0, 1.0, 0.5, np.nan]])

    found = both(make({"quantile": "uniform"}, {"0/quantiles": scaler.quantiles_}), values)

    np.testing.assert_array_equal(found, scaler.inverse_transform(values))
    np.testing.assert_array_equal(found[0, :3], RAW[0, :3])


@pytest.mark.parametrize(
    ("normalize", "forward"),
    [
        ("log1p", np.log1p),
        ({"scale": 1 / 255}, lambda x: x / 255),
        ({"clip": [0.01, 0.99]}, lambda x: x),
        ("none", lambda x: x),
        (None, lambda x: x),
        ([], lambda x: x),
    ],
)
def test_steps_without_constants(normalize, forward):
    raw = np.abs(RAW)
    np.testing.assert_allclose(both(make(normalize), forward(raw)), raw, rtol=1e-12)


def test_steps_are_inverted_last_first():
    raw = np.abs(RAW)
    logs = np.log1p(raw)
    shift, divisor = logs.mean(0), logs.std(0)
    inverse = make(["log1p", "zscore", {"scale": 2.0}], {"1/shift": shift, "1/divisor": divisor})

    np.testing.assert_allclose(both(inverse, (logs - shift) / divisor * 2.0), raw, rtol=1e-9, atol=1e-12)


def test_float32_is_inverted_in_float64():
    inverse = make("zscore", {"0/shift": np.float64(1.7e9), "0/divisor": np.float64(0.5)})

    assert both(inverse, np.array([[1.0, -1.0]], np.float32)).tolist() == [[1.7e9 + 0.5, 1.7e9 - 0.5]]


@pytest.mark.parametrize("shape", [(), (3,), (3, 1, 1), (5, 4)])
def test_constants_are_broadcast(shape):
    rng = np.random.default_rng(1)
    full = (3, 5, 4)
    shift, divisor = rng.normal(size=shape), rng.uniform(1, 2, shape)
    if shape == (3,):  # of the last axis
        full = (5, 4, 3)
    raw = rng.normal(size=(7, *full))

    inverse = make("zscore", {"0/shift": shift, "0/divisor": divisor})

    np.testing.assert_allclose(both(inverse, (raw - shift) / divisor), raw, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(), (3, 1), (4,)])
def test_quantiles_are_broadcast(shape):
    rng = np.random.default_rng(1)
    quantiles = np.sort(rng.normal(size=(11, *shape)), axis=0)
    places = rng.uniform(size=(6, 3, 4))

    found = both(make({"quantile": "uniform"}, {"0/quantiles": quantiles}), places)

    spread = np.broadcast_to(quantiles.reshape(11, *[1] * (2 - len(shape)), *shape), (11, 3, 4))
    for at in np.ndindex(places.shape):
        expected = np.interp(places[at], np.linspace(0, 1, 11), spread[(slice(None), *at[1:])])
        np.testing.assert_allclose(found[at], expected, rtol=1e-9, atol=1e-12)


def test_a_projection_of_the_last_axis_of_a_cube():
    cubes = np.random.default_rng(2).normal(size=(5, 2, 3, 6))
    pca = PCA(6).fit(cubes.reshape(-1, 6))
    transformed = pca.transform(cubes.reshape(-1, 6)).reshape(cubes.shape)
    constants = {"0/mean": pca.mean_, "0/components": pca.components_, "0/scale": np.ones(6)}

    np.testing.assert_allclose(both(make({"pca": 6}, constants), transformed), cubes, atol=1e-9)


KEYS = np.array([-4, 2, 9])
ROWS = np.array([2, 9, 9, -4, 2])
GROUPED = [
    ("zscore", {"0/shift": (4,), "0/divisor": (4,)}, (4,)),
    ("zscore", {"0/shift": (4,), "0/divisor": ()}, (3, 4)),
    ("zscore", {"0/shift": (), "0/divisor": ()}, ()),
    ({"quantile": "uniform"}, {"0/quantiles": (10, 4)}, (3, 4)),
    ({"pca": 4}, {"0/mean": (6,), "0/components": (4, 6), "0/scale": (4,)}, (3, 4)),
]


@pytest.mark.parametrize(("normalize", "shapes", "row"), GROUPED)
def test_each_group_has_its_constants(normalize, shapes, row):
    rng = np.random.default_rng(3)
    constants = {
        name: np.sort(rng.uniform(1, 2, (3, *shape)), axis=1 if shape else 0) for name, shape in shapes.items()
    }
    values = rng.uniform(size=(5, *row))

    found = both(make(normalize, constants | {"0/keys": KEYS}), values, keys=ROWS)

    for place, group in enumerate([1, 2, 2, 0, 1]):
        alone = make(normalize, {name: array[group] for name, array in constants.items()})
        np.testing.assert_allclose(found[place], alone("x", values[place : place + 1])[0], rtol=1e-12)


def test_groups_that_are_not_known():
    constants = {"0/shift": np.array([1.0, 2.0, 3.0]), "0/divisor": np.ones(3), "0/keys": KEYS}
    values, unknown = np.zeros(2), np.array([9, 3])
    inverse = make("zscore", constants)

    with pytest.raises(ValueError, match="feature x: expected keys of groups that are known; found 3"):
        inverse("x", values, keys=unknown)
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected keys of groups that are known"):
        inverse("x", tf.constant(values), keys=unknown)
    with pytest.raises(ValueError, match="feature x: expected keys, the groups of the rows"):
        inverse("x", values)
    # One place more is for groups that the training rows did not have.
    others = make("zscore", constants | {"0/shift": np.array([1.0, 2.0, 3.0, 7.0]), "0/divisor": np.ones(4)})
    assert both(others, values, keys=unknown).tolist() == [3.0, 7.0]


@pytest.mark.parametrize("step", [{"buckets": 4}, {"vocabulary": {}}, {"row": "l2"}, "gaussian", "onehot"])
def test_a_step_without_an_inverse_is_named(step):
    name = step if isinstance(step, str) else next(iter(step))
    with pytest.raises(ValueError, match=rf"feature x: expected steps that have an inverse; found {name} \(step 1\)"):
        make(["log1p", step])("x", RAW)


def test_what_is_missing_is_named():
    with pytest.raises(ManifestError, match="expected the constant x/0/divisor; found none"):
        make("zscore", {"0/shift": np.zeros(4)})("x", RAW)
    with pytest.raises(ValueError, match="there is no feature 'z'; the features are x, y"):
        make("zscore")("z", RAW)


def test_a_data_set_has_an_inverse(tmp_path):
    rows = {"x": np.zeros((3, 2), "f4"), "y": np.zeros((3, 2), "f4")}
    config = {"features": {"x": {"normalize": "zscore"}, "y": {"normalize": {"scale": 2.0}}}}
    shards.write(tmp_path, {"train": [rows]}, rows_per_record=2, features=shards.specs(rows), config=config)

    inverse = loaders.inverse(tmp_path)
    assert inverse("y", np.array([[3.0, 4.0]])).tolist() == [[1.5, 2.0]]
    with pytest.raises(ManifestError, match="expected the constant x/0/divisor"):
        inverse("x", rows["x"])
    constants = {"x/0/shift": np.array([5.0, 6.0]), "x/0/divisor": np.array([2.0, 2.0])}
    write_beside(tmp_path, "fitted.npz", dump_arrays(constants))

    assert loaders.inverse(tmp_path)("x", np.array([[1.0, -1.0]])).tolist() == [[7.0, 4.0]]
    assert json.loads((tmp_path / "manifest.json").read_text())["config"] == config
    with pytest.raises(ManifestError, match="not a finished data set"):
        loaders.inverse(tmp_path / "nothing")


@pytest.mark.parametrize("normalize", ["zscore", {"pca": 2}])
def test_rows_of_varying_length(normalize):
    known = {"0/shift": [1.0, 2.0, 3.0], "0/divisor": [2.0, 3.0, 4.0]}
    if normalize != "zscore":
        known = {"0/mean": [1.0, 2.0, 3.0], "0/components": np.eye(3)[:2], "0/scale": [2.0, 3.0]}
    inverse, width = make(normalize, known), 3 if normalize == "zscore" else 2
    steps = np.random.default_rng(0).normal(size=(5, width))
    found = inverse("x", tf.RaggedTensor.from_row_lengths(steps, [2, 0, 3]))
    assert found.row_lengths().numpy().tolist() == [2, 0, 3]
    np.testing.assert_allclose(found.flat_values, inverse("x", steps), rtol=1e-12)


def test_groups_of_strings():
    names = ["a", "ä", ""]
    hashes = tf.strings.to_hash_bucket_fast(names, 2**63 - 1).numpy()
    order = np.argsort(hashes)
    constants = {"0/keys": hashes[order], "0/shift": np.append(order, 9.0), "0/divisor": np.ones(4)}
    inverse = make("zscore", constants)
    keys = np.array(["ä", "a", "unknown", ""])
    for given in (keys, np.array([key.encode() for key in keys], object)):
        assert both(inverse, np.zeros(4), keys=given).tolist() == [1.0, 0.0, 9.0, 2.0]
