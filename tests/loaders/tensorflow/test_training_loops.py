"""`loaders.Loader` under `tf.distribute`, TensorFlow's profiler, with raw features, and its state in other formats."""

import json
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from loaders import Loader, ShardOptions
from loaders import numpy as numpy_loader
from tests.support import raw_features
from tests.support.batches import arrays, assert_same
from tests.support.numbered import numbers

ROOT = pathlib.Path(__file__).parents[3]

# The devices of a process are set before TensorFlow is used.
MIRRORED = """
import sys
import keras
import numpy as np
import tensorflow as tf
from loaders import Loader, ShardOptions
from loaders.order import chunks

chunks.CHUNK_BYTES, chunks.WINDOW_BYTES = 300, 200
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
options = {"seed": 3, "as_supervised": True, "remainder": "pad"}

def loader(batch_size, **more):
    return Loader(sys.argv[1], "train", batch_size=batch_size, **options, **more)

def rows(batches):
    return [(n.numpy()[mask.numpy()] + 1_000_000).tolist() for _, n, mask in batches]

whole = rows(loader(8))
assert sorted(sum(whole, [])) == list(range(53))

def parts(distributed):
    return [list(zip(*(strategy.experimental_local_results(part) for part in batch))) for batch in distributed]

# Each batch is split between the two.
split = parts(strategy.experimental_distribute_dataset(loader(8).dataset()))
assert all(len(part[1]) == 4 for batch in split for part in batch)
assert [sum(rows(batch), []) for batch in split] == whole

# Each gets batches of its own.
def input_fn(context):
    assert context.num_replicas_in_sync == 2
    share = ShardOptions(index=context.input_pipeline_id, count=context.num_input_pipelines)
    return loader(context.get_per_replica_batch_size(8), shard=share).dataset()

own = parts(strategy.distribute_datasets_from_function(input_fn))
assert sorted(sum((sum(rows(batch), []) for batch in own), [])) == list(range(53))
assert all(len(part[1]) == 4 for batch in own for part in batch)

def as_weights(inputs, labels, mask):
    return inputs, labels, tf.cast(mask, tf.float32)

def fit():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Rescaling(1e-6), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model

plain = fit()
plain.fit(loader(8, map_fn=as_weights).dataset(), epochs=2, verbose=0)
with strategy.scope():
    mirrored = fit()
mirrored.fit(loader(8, map_fn=as_weights).dataset(), epochs=2, verbose=0)
for first, second in zip(plain.get_weights(), mirrored.get_weights()):
    np.testing.assert_allclose(first, second, rtol=1e-4)
print("steps", len(split), len(own))
"""


@pytest.mark.slow
def test_two_devices_share_each_batch(root):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MIRRORED, str(root)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "steps 7 7\n"
    assert "is not a valid node name" not in done.stderr


@pytest.mark.parametrize("remainder", ["drop", "pad"])
def test_every_batch_has_one_static_shape(root, remainder):
    for shard, streams in ((ShardOptions(), 1), (ShardOptions(index=1, count=2), 4)):
        loader = Loader(root, "train", batch_size=8, streams=streams, shard=shard, remainder=remainder)
        dataset, size = loader.dataset(), 8 // shard.count
        assert all(spec.shape.is_fully_defined() and spec.shape[0] == size for spec in dataset.element_spec.values())

        @tf.function(input_signature=[dataset.element_spec])
        def total(batch):  # one that is compiled for a TPU has such a signature
            return tf.reduce_sum(batch["n"])

        assert len([total(batch) for batch in dataset]) == len(loader)


def test_the_profiler_names_the_stages_of_the_pipeline(root, tmp_path):
    loader = Loader(root, "train", batch_size=8)
    tf.profiler.experimental.start(str(tmp_path))
    try:
        for step, batch in enumerate(loader.dataset()):
            with tf.profiler.experimental.Trace("train", step_num=step, _r=1):
                tf.reduce_sum(batch["x"])
    finally:
        tf.profiler.experimental.stop()
    (trace,) = tmp_path.glob("plugins/profile/*/*.xplane.pb")
    content = trace.read_bytes()
    for name in (b"Iterator::Root", b"::Map", b"Rebatch", b"Prefetch", b"train"):
        assert name in content, name


# Features that are stored raw.


@pytest.mark.slow
@pytest.mark.parametrize("features", [raw_features.FIXED, (*raw_features.FIXED[1:4], *raw_features.VARIABLE)])
def test_raw_features_are_transformed_by_the_loader(tmp_path, features):
    manifest = raw_features.write(tmp_path / "out", features)
    names = [feature.name for feature in manifest.transformed]
    names += [feature.name + "_length" for feature in manifest.transformed if feature.ragged]
    count = raw_features.COUNT
    loader = Loader(tmp_path / "out", "train", batch_size=4, epochs=2)
    batches = []
    for batch in loader:
        raw_features.check(batch, raw_features.by_hand(), names)
        batches.append(batch)
        restored = Loader(tmp_path / "out", "train", batch_size=4, epochs=2)
        restored.load_state_dict(loader.state_dict())
        assert len(list(restored)) == len(loader) - len(batches)
    assert sorted(numbers([{"n": batch["label"]} for batch in batches])) == sorted(2 * [*range(count)])

    # Before or after the copy to a device; and what augments, sees what is transformed.
    raw = Loader(tmp_path / "out", "train", batch_size=4, epochs=2, transform=False)
    stored = numpy_loader.Loader(tmp_path / "out", "train", batch_size=4, epochs=2, transform=False)
    assert_same(arrays(raw), list(stored))

    def doubled(batch, rng):
        assert batch["image"].dtype == np.float32
        return batch | {"image": 2 * batch["image"]}

    augmented = Loader(tmp_path / "out", "train", batch_size=4, augment=[doubled], remainder="pad")
    for batch, plain in zip(augmented, batches, strict=False):
        rows = int(tf.reduce_sum(tf.cast(batch["mask"], tf.int32)))
        np.testing.assert_array_equal(batch["image"][:rows], 2 * plain["image"])
        assert not np.asarray(batch["image"][rows:]).any()


# States.


def test_states_pass_through_other_formats(root, tmp_path):
    options = {"batch_size": 8, "seed": 2**64 - 1, "epochs": 2}
    whole = arrays(Loader(root, "train", **options))
    for kind in (Loader, numpy_loader.Loader):
        loader = kind(root, "train", **options)
        iterator = iter(loader)
        for _ in range(9):
            next(iterator)
        saved = loader.state_dict()
        # As Orbax gives back a tree: integers as NumPy's or as arrays of no axis, texts as NumPy's.
        tree = {"model": {"step": 9}, "input": {"train": {name: np.asarray(value) for name, value in saved.items()}}}
        np.savez(tmp_path / "state.npz", **tree["input"]["train"])
        with np.load(tmp_path / "state.npz") as file:
            arrays_of_no_axis = dict(file)
        for state in (
            json.loads(json.dumps(saved)),
            pickle.loads(pickle.dumps(saved)),
            tree["input"]["train"],
            arrays_of_no_axis,
            {name: value[()] for name, value in arrays_of_no_axis.items()},
        ):
            restored = kind(root, "train", **options)
            restored.load_state_dict(state)
            assert restored.state_dict() == saved
            found = arrays(restored) if kind is Loader else list(restored)
            assert_same(found, whole[9:])
