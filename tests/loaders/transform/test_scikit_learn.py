"""The transform of a feature in scikit-learn's pipelines."""

import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import loaders
from loaders.transform.scikit_learn import FeatureTransformer
from tests.support.arrays import write_files
from tests.support.builds import build

X = np.random.default_rng(0).normal(3, 2, (120, 4)).astype(np.float32)
IMAGES = np.random.default_rng(1).normal(9, 2, (120, 2, 3))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    directory = tmp_path_factory.mktemp("estimator")
    label = (X[:, 0] > 3).astype(np.int64)
    arrays = {"x.npy": X, "image.npy": IMAGES, "label.npy": label, "site.npy": np.arange(120) % 3}
    write_files(directory / "src", arrays)
    said = {"x": {"normalize": "zscore"}, "image": {"normalize": "minmax"}, "site": {"normalize": "none"}}
    said["z"] = {"normalize": "zscore", "by": "site"}
    write_files(directory / "src", {"z.npy": X})
    build(directory / "src", directory / "out", {"features": said})
    return directory / "out"


def test_it_gives_what_the_data_set_holds_and_goes_back(root):
    made = FeatureTransformer(root, "x").fit(X)

    np.testing.assert_array_equal(made.transform(X), loaders.forward(root)({"x": X})["x"])
    np.testing.assert_array_equal(made.fit_transform(X), made.transform(X))
    np.testing.assert_allclose(made.inverse_transform(made.transform(X)), X, rtol=1e-5, atol=1e-6)


def test_rows_with_axes_come_as_they_are_or_flat(root):
    made = FeatureTransformer(root, "image")
    flat = IMAGES.reshape(120, 6)

    assert made.transform(IMAGES).shape == (120, 2, 3)
    np.testing.assert_array_equal(made.transform(flat), made.transform(IMAGES).reshape(120, 6))
    np.testing.assert_allclose(made.inverse_transform(made.transform(flat)), flat, rtol=1e-6)
    with pytest.raises(ValueError, match=r"feature image: expected rows of shape \[2, 3\], or of all their elem"):
        made.transform(flat[:, 1:])


def test_it_is_a_step_of_a_pipeline(root):
    label = X[:, 0] > 3
    pipeline = make_pipeline(FeatureTransformer(root, "x"), LogisticRegression()).fit(X, label)
    columns = ColumnTransformer([("x", clone(FeatureTransformer(root, "x")), slice(0, 4))])

    assert pipeline.score(X, label) > 0.95
    assert pipeline.set_params(featuretransformer__feature="z").named_steps["featuretransformer"].feature == "z"
    np.testing.assert_array_equal(columns.fit_transform(X), FeatureTransformer(root, "x").transform(X))


def test_a_pickle_needs_neither_the_data_set_nor_scikit_learn(root, tmp_path):
    shutil.copytree(root, tmp_path / "set")
    kept = pickle.dumps((FeatureTransformer(tmp_path / "set", "x"), X[:5]))
    shutil.rmtree(tmp_path / "set")
    program = (
        "import pickle, sys; made, x = pickle.loads(sys.stdin.buffer.read()); "
        "sys.stdout.buffer.write(made.transform(x).tobytes()); "
        "assert not {'sklearn', 'tensorflow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], input=kept, capture_output=True, check=True)

    assert done.stdout == FeatureTransformer(root, "x").transform(X[:5]).tobytes()


def test_what_is_refused(root):
    with pytest.raises(ValueError, match="feature z: expected one that needs no other; found that it needs site"):
        FeatureTransformer(root, "z").fit()
    with pytest.raises(ValueError, match=r"expected a feature of .*out; found 'y'"):
        FeatureTransformer(root, "y").fit()
    with pytest.raises(ValueError, match="expected one of root, feature; found name"):
        FeatureTransformer(root, "x").set_params(name="y")
