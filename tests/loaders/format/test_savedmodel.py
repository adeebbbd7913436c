"""Only transforms that compute are run; what a stranger's does beside is named."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

import loaders
from loaders.format.manifest import ManifestError
from loaders.format.savedmodel import COMPUTING, find_other
from tests.support.fitting import Exported, learn, resolve
from tests.support.programs import plant
from tests.support.raw_features import FIXED, write

MESSAGE = r"saved_model.pb: expected a transform that only computes; found the operation WriteFile; .*trust=True"


@pytest.mark.parametrize("nested", [False, True])
def test_a_data_set_that_would_write_a_file_is_refused_by_name(tmp_path, nested):
    root, victim = tmp_path / "out", tmp_path / "victim"
    write(root, FIXED)
    plant(root, victim, nested=nested)
    with pytest.raises(ManifestError, match=MESSAGE):
        loaders.load(root, "train", batch_size=4)
    with pytest.raises(ManifestError, match=MESSAGE):
        loaders.open(root).load("train", batch_size=4)
    raw = next(iter(loaders.load(root, "train", batch_size=4, transform=False)))  # which runs nothing
    with pytest.raises(ManifestError, match=MESSAGE):
        loaders.open(root).transform(raw)
    assert not victim.exists()
    loaders.open(root, trust=True).transform(raw)
    assert victim.read_text() == "owned"
    victim.unlink()
    next(iter(loaders.load(root, "train", batch_size=4, trust=True)))
    assert victim.read_text() == "owned"


def test_a_transform_that_is_not_as_the_manifest_lists_it_is_not_loaded(tmp_path):
    write(tmp_path, FIXED)
    path = tmp_path / "transform/transform_fn/saved_model.pb"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ManifestError, match=r"saved_model.pb: expected \d+ bytes with CRC-32C .*; found \d+ bytes"):
        loaders.load(tmp_path, "train", batch_size=4)
    path.unlink()
    with pytest.raises(ManifestError, match=r"saved_model.pb: expected .*; found 0 bytes"):
        loaders.load(tmp_path, "train", batch_size=4, trust=True)


def test_a_file_that_is_not_listed_is_not_loaded(tmp_path):
    write(tmp_path, FIXED)
    (tmp_path / "transform/transform_fn/saved_model.cpb").write_bytes(b"which TensorFlow would take instead")
    next(iter(loaders.load(tmp_path, "train", batch_size=4)))


def saved(tmp_path, **functions):
    """The graphs of a SavedModel of some functions without arguments."""
    module = tf.Module()
    for name, function in functions.items():
        setattr(module, name, tf.function(function, input_signature=[]))
    tf.saved_model.save(module, str(tmp_path / "model"))
    return (tmp_path / "model/saved_model.pb").read_bytes()


def save(prefix):
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=["a"], shape_and_slices=[""], tensors=[1])


def old_save(prefix):
    tf.raw_ops.Save(filename=prefix, tensor_names=["a"], data=[1])


def restore(prefix):
    return tf.raw_ops.RestoreV2(prefix=prefix, tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.int32])


def read_each(path):
    def read(x):
        return tf.strings.length(tf.io.read_file(x))

    return tf.map_fn(read, tf.constant([path]), fn_output_signature=tf.int32)


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (tf.io.read_file, "ReadFile"),
        (tf.io.matching_files, "MatchingFiles"),
        (lambda path: tf.py_function(len, [path], tf.int32), "EagerPyFunc"),
        (lambda path: tf.numpy_function(len, [path], tf.int64, stateful=False), "PyFuncStateless"),
        (old_save, "Save"),
        (save, "SaveV2"),
        (restore, "RestoreV2"),
        (read_each, "ReadFile"),
    ],
)
def test_operations_that_do_more_than_compute_are_named(tmp_path, function, found):
    graphs = saved(tmp_path, harmless=lambda: tf.constant(1), transform_fn=lambda: function("/x"))
    assert find_other(graphs) == [f"the operation {found}"]


def test_objects_that_do_more_than_hold_others_are_named(tmp_path):
    module = tf.Module()
    module.asset = tf.saved_model.Asset(str(tmp_path / "words.txt"))
    (tmp_path / "words.txt").write_text("a")
    tf.saved_model.save(module, str(tmp_path / "model"))
    assert "the object asset" in find_other((tmp_path / "model/saved_model.pb").read_bytes())


def test_a_function_that_has_the_name_of_an_operation_is_not_known(tmp_path):
    model = saved_model_pb2.SavedModel()
    model.ParseFromString(saved(tmp_path, transform_fn=lambda: tf.constant(1) + 1))
    library = model.meta_graphs[0].graph_def.library
    disguise = library.function.add()
    disguise.CopyFrom(library.function[0])
    disguise.signature.name = "WriteFile"
    library.function[0].node_def.add(name="w", op="WriteFile")
    assert "the operation WriteFile" in find_other(model.SerializeToString())


def test_what_is_no_saved_model_is_said(tmp_path):
    with pytest.raises(ManifestError, match=r"expected a SavedModel; found"):
        find_other(b"nothing")
    assert find_other(b"") == ["a SavedModel as TensorFlow 1 wrote it"]


def test_what_is_known_only_computes():
    # An error, and calls of functions that are looked at themselves.
    calling = {"Assert", "If", "StatefulPartitionedCall", "While"}
    assert {name for name in COMPUTING if op_def_registry.get(name).is_stateful} == calling
    assert not COMPUTING & {"ReadFile", "WriteFile", "PyFuncStateless", "EagerPyFunc", "PrintV2", "XlaCallModule"}


FEATURES = {
    "zscore": {"impute": "median", "indicator": True},
    "frequent": {"impute": "most_frequent", "normalize": ["log1p", {"minmax": [-1, 1]}], "dtype": "float64"},
    "regression": {"impute": "regression", "normalize": "maxabs"},
    "robust": {"normalize": [{"clip": [0.01, 0.99]}, "robust", {"scale": 2}], "missing": [5]},
    "quantile": {"normalize": {"quantile": "normal"}},
    "gaussian": {"normalize": "gaussian"},
    "buckets": {"normalize": [{"buckets": 7}, {"one_hot": 7}]},
    "pca": {"normalize": ["zscore", {"pca": 2}]},
    "whiten": {"normalize": {"whiten": 2}},
    "grouped": {"by": "site", "impute": "min"},
    "masked": {"mask": "hidden"},
    **{f"row_{how}": {"normalize": {"row": how}} for how in ("l2", "mean", "zscore")},
    "word": {"normalize": {"vocabulary": {"oov_buckets": 2}}},
    "kind": {"normalize": ["vocabulary", {"one_hot": 4}]},
    "site": {"normalize": "none"},
    "hidden": {"store": "none"},
}


@pytest.mark.slow
def test_all_steps_of_npyflow_are_known(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {name: rng.lognormal(size=(60, 3)).astype(np.float32) for name in FEATURES}
    arrays |= {"word": np.array([b"a", b"b", b"c"])[rng.integers(0, 3, 60)], "kind": np.array([b"a", b"b"] * 30)}
    arrays |= {"site": rng.integers(0, 3, 60), "hidden": rng.random((60, 3)) < 0.3}
    config = resolve(arrays, FEATURES)
    exported = Exported(config, learn(config, arrays))
    specs = {f.name: tf.TensorSpec([None, *f.value_shape], "string" if f.source_dtype == "string" else f.graph_dtype)
             for f in config.graph_features}  # fmt: skip
    module = tf.Module()
    module.transform_fn = tf.function(exported.transform_fn, input_signature=[specs])
    tf.saved_model.save(module, str(tmp_path / "model"))
    assert find_other((tmp_path / "model/saved_model.pb").read_bytes()) == []
