"""The transform in NumPy, PyTorch and JAX against TensorFlow's graph."""

import numpy as np
import pytest

from loaders.format.manifest import ManifestError
from loaders.transform.forward import Forward
from pipelines.reading.batches import Ragged
from pipelines.write.transform import apply_transform
from tests.support.bits import assert_same_bits
from tests.support.every_step import EXACT, NEARLY, columns_of, learned, numbers
from tests.support.fitting import Exported, learn, resolve


def both(columns, said):
    """What TensorFlow's graph makes of columns, and the same in arrays; each learned from the columns themselves."""
    config = resolve(columns, said)
    return apply_transform(Exported(config, learn(config, columns)), config, columns), learned(columns, said)[0]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("said", EXACT, ids=str)
def test_numpy_has_the_bits_of_the_graph(said, dtype):
    columns = columns_of(said)
    columns["x"] = columns["x"].astype(dtype)
    expected, forward = both(columns, {"x": said})

    found = forward(columns)

    assert set(found) == set(expected)
    for name, values in expected.items():
        assert_same_bits(found[name], values)


@pytest.mark.parametrize("said", NEARLY, ids=str)
def test_transcendental_functions_and_equations_differ_in_the_last_bits(said):
    columns = columns_of(said)
    expected, forward = both(columns, {"x": said})
    np.testing.assert_allclose(forward(columns)["x"], expected["x"], rtol=1e-12, atol=1e-14)


def test_integers_beyond_what_float64_holds():
    columns = {"x": np.array([[2**60 + 1, -1], [7, 2**53 + 1], [-1, 3]], np.int64)}
    expected, forward = both(columns, {"x": {"missing": [-1], "impute": "most_frequent", "normalize": "none"}})
    found = forward(columns)
    assert found["x"][0, 0] == 2**60 + 1
    assert_same_bits(found["x"], expected["x"])


@pytest.mark.parametrize("said", [{}, {"size": 2}, {"oov_buckets": 0}, {"oov_buckets": 3, "size": 1}], ids=str)
def test_words_and_classes(said):
    columns = {"x": np.array([b"a", b"bb", b"", b"a", b"ccc"] * 4), "n": np.arange(20, dtype=np.int16) % 7}
    expected, forward = both(columns, {name: {"normalize": {"vocabulary": said}} for name in columns})
    columns["x"] = columns["x"].astype(object)  # as loaders give them
    found = forward(columns)
    for name, values in expected.items():
        assert_same_bits(found[name], values)
    new = forward({"x": [b"none of them", b"a"]})["x"]
    assert (new[0] == -1) == (said.get("oov_buckets") == 0)


def test_groups_of_words():
    columns = {"x": numbers(rows=6), "who": np.array([b"a", b"b", b"a", b"", b"b", b"b"])}
    expected, forward = both(columns, {"x": {"by": "who", "normalize": "zscore", "impute": "min"}})
    assert_same_bits(forward(columns)["x"], expected["x"])


def test_rows_of_varying_length():
    values, lengths = numbers(rows=30), np.array([5, 0, 20, 5])
    rows = {"x": Ragged(values=values, lengths=lengths)}
    expected, forward = both(rows, {"x": {"impute": "median", "normalize": "zscore", "indicator": True}})
    there = np.arange(20) < lengths[:, None]
    padded = np.zeros((4, 20, 4))
    padded[there] = values

    found = forward({"x": padded, "x_length": lengths})

    assert_same_bits(found["x"][there], expected["x"].values)
    assert_same_bits(found["x_missing"][there], expected["x_missing"].values)
    assert not found["x"][~there].any()
    np.testing.assert_array_equal(found["x_length"], lengths)
    np.testing.assert_array_equal(found["x_missing_length"], lengths)


def test_what_is_not_there_is_not_made_and_what_is_needed_is_named():
    columns = columns_of({"mask": 1, "by": 1})
    _, forward = both(columns, {"x": {"mask": "bad", "impute": "mean"}, "group": {"normalize": "none"}})
    assert set(forward({"group": columns["group"]})) == {"group"}
    with pytest.raises(ValueError, match="feature x: expected bad, which it needs, beside it; found none"):
        forward({"x": columns["x"]})
    with pytest.raises(ValueError, match=r"feature x: expected rows of shape \[4\]; found \[3\]"):
        forward({"x": columns["x"][:, :3], "bad": columns["bad"]})
    with pytest.raises(ValueError, match="expected features of bad, group, x; found y"):
        forward({"y": columns["x"]})


def test_steps_that_it_does_not_know():
    with pytest.raises(ManifestError, match=r"feature x: expected one of the steps .*; found root"):
        Forward({"features": {"x": {"normalize": "root"}}}, {}, features=(), sources=())
    with pytest.raises(ManifestError, match=r"found the function mine.py:f, which takes tensors of TensorFlow alone"):
        Forward({"features": {}, "preprocessing_fn": "mine.py:f"}, {}, features=(), sources=())


def torch_of(values):
    return pytest.importorskip("torch").from_numpy(values)


def jax_of(values):
    return pytest.importorskip("jax").numpy.asarray(values)


@pytest.mark.slow
@pytest.mark.parametrize("made", [torch_of, jax_of])
def test_other_frameworks(made):
    """In float32, which JAX has unless it is told otherwise; computed in float64 all the same."""
    for said in [*EXACT, *NEARLY]:
        columns = columns_of(said) | {"x": columns_of(said)["x"].astype(np.float32)}
        forward, _ = learned(columns, {"x": said | {"dtype": "float32"} if said.get("dtype") else said})
        given = {name: made(values) for name, values in columns.items()}

        found = forward(given)

        for name, values in forward(columns).items():
            assert type(found[name]) is type(given["x"])
            assert np.asarray(found[name]).dtype.kind == values.dtype.kind
            np.testing.assert_allclose(np.asarray(found[name]), values, rtol=2e-7, atol=1e-7, err_msg=str(said))


@pytest.mark.slow
@pytest.mark.parametrize("made", [torch_of, jax_of])
def test_other_frameworks_and_back(made):
    for step in ("zscore", {"minmax": [-1, 3]}, {"quantile": "normal"}, "log1p", {"pca": 4}):
        columns = {"x": numbers().astype(np.float32)}
        forward, inverse = learned(columns, {"x": {"impute": "mean", "normalize": step}})
        transformed = forward(columns)["x"]

        found = inverse("x", made(transformed))

        assert type(found) is type(made(transformed))
        np.testing.assert_allclose(np.asarray(found), inverse("x", transformed), rtol=1e-6)


@pytest.mark.slow
def test_strings_beside_tensors():
    torch = pytest.importorskip("torch")
    columns = {"x": numbers(rows=6), "who": np.array([b"a", b"b", b"a", b"", b"b", b"b"])}
    said = {"x": {"by": "who", "normalize": "zscore", "impute": "min"}, "who": {"normalize": "vocabulary"}}
    forward, _ = learned(columns, said)
    found = forward({"x": torch.from_numpy(columns["x"]), "who": columns["who"].tolist()})
    assert found["who"].dtype == torch.int64
    for name, values in forward(columns).items():
        np.testing.assert_array_equal(found[name].numpy(), values)
