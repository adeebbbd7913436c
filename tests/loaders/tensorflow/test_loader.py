"""`loaders.Loader` against the other loaders; its states; TensorFlow's and Keras's checkpoints."""

import functools
import json
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import loaders
from loaders import Loader, ShardOptions
from loaders import numpy as numpy_loader
from loaders.format.manifest import ManifestError
from loaders.order.epoch import Position
from loaders.order.position import IterationSpan
from loaders.order.state import StateError
from loaders.storage.store import ShardError
from loaders.tensorflow import keras as training
from loaders.tensorflow import last_steps
from tests.support import examples, shards
from tests.support.batches import arrays, assert_same
from tests.support.numbered import numbers, small_chunks, write_numbered
from tests.support.training import Stop, StoppedError, model_of

# Against the other loaders.


@settings(max_examples=examples(12))
@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    rows_per_record=st.integers(1, 4),
    hosts=st.sampled_from([1, 2, 3]),
    per_host=st.integers(1, 2),
    per_stream=st.integers(1, 4),
    shuffle=st.booleans(),
    remainder=st.sampled_from(["keep", "drop", "pad"]),
    supervised=st.booleans(),
    data=st.data(),
)
def test_batches_and_states_are_those_of_the_numpy_loader(
    tmp_path_factory, counts, rows_per_record, hosts, per_host, per_stream, shuffle, remainder, supervised, data
):
    out = tmp_path_factory.mktemp("data") / "out"
    write_numbered(out, counts, rows_per_record=rows_per_record)
    streams = hosts * per_host
    hosts = 1 if remainder == "keep" else hosts  # it is refused for several
    options = {
        "batch_size": streams * per_stream,
        "streams": streams,
        "shard": ShardOptions(index=data.draw(st.integers(0, hosts - 1)), count=hosts),
        "shuffle": shuffle,
        "seed": data.draw(st.integers(-(2**63), 2**64 - 1)),
        "remainder": remainder,
        "as_supervised": supervised,
        "epochs": 2,
    }
    with pytest.MonkeyPatch.context() as patch:
        small_chunks(patch, chunk_bytes=data.draw(st.integers(1, 600)), window_bytes=data.draw(st.integers(1, 800)))
        loader, other = (kind(out, "train", **options) for kind in (Loader, numpy_loader.Loader))
        # Where a batch of another size may have ended, too.
        rows = st.integers(0, -(-sum(counts) // streams) + 2)
        for state in [None, *data.draw(st.lists(st.tuples(st.integers(0, 3), rows), max_size=3))]:
            if state is not None:
                saved = other.state_dict() | {"epoch": state[0], "rows": state[1]}
                loader.load_state_dict(saved)
                other.load_state_dict(saved)
            assert_same(arrays(loader), list(other))
            assert loader.state_dict() == other.state_dict()
            assert (loader.epoch, len(loader)) == (other.epoch, len(other))


@pytest.mark.parametrize("remainder", ["keep", "drop", "pad"])
@pytest.mark.parametrize(("shuffle", "streams", "epochs"), [(True, 1, 3), (False, 1, 2), (True, 4, 2)])
def test_a_state_at_every_step(root, remainder, shuffle, streams, epochs):
    options = {"batch_size": 8, "remainder": remainder, "shuffle": shuffle, "streams": streams, "epochs": epochs}
    other = numpy_loader.Loader(root, "train", **options)
    expected, expected_states = list(other), [other.state_dict()]
    whole = list(numpy_loader.Loader(root, "train", **options))
    following = list(other)
    loader = Loader(root, "train", **options)
    states = [loader.state_dict(), *(loader.state_dict() for _ in loader)]
    counted = Loader(root, "train", **options)

    assert loader.state_dict() == expected_states[0]
    assert len(states) == len(whole) + 1 == len(loader) + 1
    restored, restored_numpy = Loader(root, "train", **options), numpy_loader.Loader(root, "train", **options)
    for step, saved in enumerate(states):
        saved = json.loads(json.dumps(saved))
        assert len(json.dumps(saved)) < 1000
        assert counted.state_dict() == saved
        counted.advance(1)
        if step % 4 and step < len(whole) - 1:
            continue
        restored.load_state_dict(saved)
        assert restored.state_dict() == saved
        assert_same(arrays(restored), expected[step:])
        restored_numpy.load_state_dict(saved)
        assert_same(restored_numpy, expected[step:])
    assert_same(arrays(restored), following)


@pytest.mark.parametrize("remainder", ["keep", "pad"])
@pytest.mark.parametrize("supervised", [False, True])
def test_strings_and_ragged_rows(ragged_root, remainder, supervised):
    options = {"batch_size": 12, "streams": 4, "remainder": remainder, "as_supervised": supervised, "seed": 5}
    for shard in (ShardOptions(), ShardOptions(index=3, count=4))[: 1 + (remainder == "pad")]:
        loader, other = (kind(ragged_root, "train", shard=shard, **options) for kind in (Loader, numpy_loader.Loader))
        saved = other.state_dict() | {"rows": 5}
        loader.load_state_dict(saved)
        other.load_state_dict(saved)
        assert_same(arrays(loader), list(other))


def test_ragged_tensors_are_padded_by_empty_rows(ragged_root):
    padded, ragged = (
        list(Loader(ragged_root, "train", batch_size=20, remainder="pad", ragged=form)) for form in ("padded", "ragged")
    )
    assert len(padded) == len(ragged) == 3
    for first, second in zip(padded, ragged, strict=True):
        np.testing.assert_array_equal(first["mask"], second["mask"])
        assert second["w"].shape[0] == 20
        np.testing.assert_array_equal(second["w"].row_lengths(), first["w_length"])
    assert int(tf.reduce_sum(tf.cast(ragged[-1]["mask"], tf.int32))) == 13


def test_one_stream_is_what_load_yields(root):
    def double(inputs, label):
        return {"twice": 2 * inputs}, label

    options = {
        "batch_size": 10,
        "as_supervised": True,
        "map_fn": double,
        "epochs": 2,
        "seed": 9,
        "drop_remainder": True,
    }
    loader = Loader(root, "train", prefetch=0, device="/cpu:0", **options)

    assert_same(arrays(loader), arrays(loaders.load(root, "train", **options)))
    assert loader.dataset().element_spec[1] == tf.TensorSpec([10], tf.int64)


def test_padded_batches_have_one_shape(root):
    loader = Loader(root, "train", batch_size=8, streams=4, shard=ShardOptions(index=1, count=2), remainder="pad")

    assert loader.dataset().element_spec == {
        "n": tf.TensorSpec([4], tf.int64),
        "x": tf.TensorSpec([4, 2], tf.float32),
        "mask": tf.TensorSpec([4], tf.bool),
    }


# States.


def test_what_was_consumed_is_not_read(root):
    for options in ({"shuffle": False}, {"shuffle": False, "streams": 2}):
        loader = Loader(root, "train", batch_size=10, **options)
        whole = arrays(Loader(root, "train", batch_size=10, **options))
        for step, _ in enumerate(loader):
            if step == 2:
                break
        restored = Loader(root, "train", batch_size=10, **options)
        restored.load_state_dict(loader.state_dict())
        assert_same(arrays(restored), whole[3:])
    path = root / "train" / "train-00000.tfrecord"  # of 20 rows
    path.unlink()

    restored = Loader(root, "train", batch_size=10, shuffle=False)
    restored.load_state_dict(restored.state_dict() | {"rows": 20})

    assert numbers(restored) == list(range(20, 53))
    with pytest.raises(ShardError, match=f"{path}: expected a shard of 520 bytes; found .* No such file"):
        list(Loader(root, "train", batch_size=10, shuffle=False))


def test_windows_that_were_consumed_are_not_read(tmp_path, monkeypatch):
    # Of a window after the other: those before the position's are damaged.
    small_chunks(monkeypatch, chunk_bytes=1, window_bytes=16 * 10)
    manifest = write_numbered(tmp_path / "out", [100], rows_per_record=1)
    order = numbers(Loader(tmp_path / "out", "train", batch_size=7))
    path = tmp_path / "out" / manifest.splits["train"][0].file
    content = bytearray(path.read_bytes())
    for row in order[:40]:
        content[row * manifest.record_bytes + 20] ^= 1
    path.write_bytes(content)

    restored = Loader(tmp_path / "out", "train", batch_size=7)
    restored.load_state_dict(restored.state_dict() | {"rows": 46})

    assert numbers(restored) == order[46:]
    restored.load_state_dict(restored.state_dict() | {"epoch": 0, "rows": 39})
    with pytest.raises(ShardError, match=rf"{path}: record \d+: expected a record of 1 rows in 58 bytes, laid out"):
        list(restored)


def test_the_position_counts_what_was_yielded(root):
    loader = Loader(root, "train", batch_size=4, epochs=None, prefetch=5, device="/cpu:0")
    iterator = iter(loader)
    for number in range(1, 31):
        next(iterator)
        assert (loader.epoch, loader.state_dict()["rows"]) == ((number - 1) // 14, 4 * ((number - 1) % 14 + 1))


def test_iterations_and_the_data_set_go_on_with_the_next_epochs(root):
    expected = numbers(Loader(root, "train", batch_size=10, epochs=8))
    loader = Loader(root, "train", batch_size=10, epochs=2)
    assert numbers(loader) == expected[: 2 * 53]
    next(iter(loader))  # one that was left counts as a whole one
    dataset = loader.dataset()
    assert int(dataset.cardinality()) == 12
    assert numbers(dataset) == expected[4 * 53 : 6 * 53]
    # The loader does not know of these, until it is told.
    loader.advance(11 + 12)
    assert numbers(dataset) == []
    assert numbers(dataset) == expected[6 * 53 :]
    with pytest.raises(ValueError, match="expected a number of batches that the loader has; found -1"):
        loader.advance(-1)


def test_two_iterators_at_once(root):
    loader = Loader(root, "train", batch_size=10)
    expected = numbers(Loader(root, "train", batch_size=10, epochs=2))
    first, second = iter(loader), iter(loader)
    mixed = [[*numbers([one]), *numbers([other])] for one, other in zip(second, first, strict=True)]

    assert sorted(number for pair in mixed for number in pair) == sorted(expected)
    assert numbers([next(iter(loader))]) != expected[:10]


def test_a_pickle_goes_on_with_the_next_batch(root):
    whole = arrays(Loader(root, "train", batch_size=8, epochs=2))
    loader = Loader(root, "train", batch_size=8, epochs=2)
    for step, _ in enumerate(loader):
        if step % 5 == 0:
            assert_same(arrays(pickle.loads(pickle.dumps(loader))), whole[step + 1 :])


@pytest.mark.parametrize("epochs", [1, None])
def test_a_split_without_rows(tmp_path, epochs):
    write_numbered(tmp_path / "out", [0, 0], rows_per_record=2)
    loader = Loader(tmp_path / "out", "train", batch_size=4, epochs=epochs)

    assert list(loader) == list(loader.dataset()) == []
    with pytest.raises(ValueError, match="expected a number of batches that the loader has; found 1"):
        loader.advance(1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size is at least 1; found 0"),
        ({"batch_size": 2.0}, TypeError, "integer"),
        ({"epochs": 0}, ValueError, "epochs is at least 1, or None for ever; found 0"),
        ({"streams": 3}, ValueError, "batch_size is a multiple of the 3 streams; found 10"),
        ({"remainder": "pad", "drop_remainder": True}, ValueError, "remainder is 'keep' or 'drop' with drop_remainder"),
        ({"split": "valid"}, ManifestError, "there is no split 'valid'; the splits are train"),
        ({"split": "train[5:5]"}, ValueError, r"split 'train\[5:5\]': expected rows; found none"),
        ({"features": ["y"]}, ValueError, r"features is a list of names of n, x; found \['y'\]"),
    ],
)
def test_bad_options_are_named(root, options, error, message):
    with pytest.raises(error, match=message):
        Loader(**({"root": root, "split": "train", "batch_size": 10} | options))


def test_a_feature_called_mask(tmp_path):
    rows = {"mask": np.zeros(1, "f4")}
    shards.write(tmp_path / "out", {"train": [rows]}, rows_per_record=1, features=shards.specs(rows))
    with pytest.raises(ValueError, match="mask: the mask of padded batches has this name"):
        Loader(tmp_path / "out", "train", batch_size=1, remainder="pad")


def test_another_order_is_refused(root):
    saved = Loader(root, "train", batch_size=10).state_dict()
    with pytest.raises(StateError, match="with seed 1; found seed 0"):
        Loader(root, "train", batch_size=10, seed=1).load_state_dict(saved)


# Checkpoints.


def test_a_checkpoint_has_the_state(root, tmp_path):
    loader = Loader(root, "train", batch_size=8, epochs=2)
    whole = arrays(Loader(root, "train", batch_size=8, epochs=2))
    step = tf.Variable(0)
    saved = []
    checkpoint = tf.train.Checkpoint(step=step, loader=training.track(loader))
    for _ in loader:
        step.assign_add(1)
        saved.append(checkpoint.save(str(tmp_path / "checkpoints" / "all")))
    for number, path in list(enumerate(saved))[::4]:
        restored, step = Loader(root, "train", batch_size=8, epochs=2), tf.Variable(0)
        tf.train.Checkpoint(step=step, loader=training.track(restored)).restore(path).assert_consumed()
        assert int(step) == number + 1
        assert_same(arrays(restored), whole[number + 1 :])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize(("save_freq", "stops"), [(4, (5, 5, 5)), ("epoch", (8, 3)), (1, (5, 6))])
@pytest.mark.parametrize("first", [True, False])
def test_keras_resumes_at_the_batch(root, tmp_path, save_freq, stops, first):
    def fit(stop=None):
        loader = Loader(root, "train", batch_size=10, as_supervised=True)
        backup = training.BackupAndRestore(tmp_path / "backup", save_freq=save_freq)
        callbacks = [training.KerasState(loader, tmp_path / "states" / "train.json"), backup]
        if stop:
            callbacks.insert(0 if first else 2, Stop(stop))
        model = model_of()
        model.fit(loader.dataset(), epochs=3, callbacks=callbacks, verbose=0)
        return loader, model

    whole = model_of()
    whole.fit(loaders.load(root, "train", batch_size=10, as_supervised=True), epochs=3, verbose=0)
    for stop in stops:
        with pytest.raises(StoppedError):
            fit(stop)
    loader, model = fit()

    assert int(model.optimizer.iterations) == 18
    assert loader.epoch == 2
    for found, expected in zip(model.get_weights(), whole.get_weights(), strict=True):
        assert found.tobytes() == expected.tobytes()


def test_keras_states_of_another_step_are_refused(root, tmp_path):
    path = tmp_path / "train.json"
    loader = Loader(root, "train", batch_size=10, as_supervised=True)
    model = model_of()
    model.fit(loader.dataset(), epochs=2, callbacks=[training.KerasState(loader, path)], verbose=0)
    saved = json.loads(path.read_text())
    assert [state["step"] for state in saved] == [0, 6, 12]

    def message(step):
        model.optimizer.iterations.assign(step)
        with pytest.raises(StateError) as caught:
            model.fit(loader.dataset(), epochs=2, callbacks=[training.KerasState(loader, path)], verbose=0)
        return str(caught.value)

    assert "expected epoch 2, where the model of step 12 is; found 0" in message(12)
    assert "expected epoch 1, where the model of step 7 is; found 0" in message(7)
    path.write_text(json.dumps(saved[1:]))
    assert "train.json: expected a state of step 5 or before; found 6" in message(5)


def test_keras_counts_batches_of_another_size(root, tmp_path):
    path = tmp_path / "train.json"
    loader = Loader(root, "train", batch_size=10, as_supervised=True)
    model = model_of()
    model.fit(loader.dataset(), epochs=2, callbacks=[training.KerasState(loader, path)], verbose=0)
    model.optimizer.iterations.assign(8)  # as restored: of 20 rows of epoch 1
    other = Loader(root, "train", batch_size=3, as_supervised=True)

    callbacks = [training.KerasState(other, path)]
    with pytest.warns(UserWarning, match="Your input ran out of data"):
        model.fit(other.dataset(), epochs=2, initial_epoch=1, callbacks=callbacks, verbose=0)

    assert int(model.optimizer.iterations) == 8 + 33 // 3
    assert (other.epoch, other.state_dict()["rows"]) == (1, 53)
    assert [(state["step"], state["batch_size"]) for state in json.loads(path.read_text())] == [
        (0, 10),
        (6, 10),
        (8, 3),
        (19, 3),
    ]


@pytest.mark.slow
def test_keras_executes_several_steps_at_once(root, tmp_path):
    states = {}
    for steps in (1, 3):
        model = model_of()
        model.compile(keras.optimizers.Adam(0.01), "mse", steps_per_execution=steps)
        loader = Loader(root, "train", batch_size=10, as_supervised=True)
        callback = training.KerasState(loader, tmp_path / f"{steps}.json")
        model.fit(loader.dataset(), epochs=2, callbacks=[callback], verbose=0)
        states[steps] = json.loads((tmp_path / f"{steps}.json").read_text())
    assert states[1] == states[3]
    model.compile("adam", "mse", steps_per_execution=4)
    with pytest.raises(
        ValueError, match="steps_per_execution: expected a divisor of the 6 batches of an epoch; found 4"
    ):
        model.fit(loader.dataset(), callbacks=[callback], verbose=0)
    model.compile(keras.optimizers.Adam(gradient_accumulation_steps=2), "mse")
    with pytest.raises(ValueError, match="optimizer: expected a step for each of 6 batches; found 3 steps"):
        model.fit(loader.dataset(), callbacks=[callback], verbose=0)


def halved(batch, random):
    return batch | {"half": batch["n"] / 2}


@pytest.mark.parametrize("options", [{}, {"remainder": "pad", "as_supervised": True}, {"augment": [halved]}])
def test_tensors_are_what_the_pipeline_yields(root, ragged_root, monkeypatch, options):
    """The same elements in the same structure, of the memory of the arrays and without a pipeline."""
    for data in (root, ragged_root) if "as_supervised" not in options else (ragged_root,):
        make = functools.partial(loaders.Loader, data, "train", batch_size=8, epochs=2, **options)
        expected = list(make().dataset())
        loader = make()
        with monkeypatch.context() as patch:
            patch.setattr(loader, "_pipeline", lambda: pytest.fail("a pipeline was made"))
            found = list(loader)

        tf.nest.map_structure(lambda one, other: None, found, expected)
        assert all(list(one) == list(other) for one, other in zip(found, expected, strict=True) if type(one) is dict)
        assert all(isinstance(values, tf.Tensor) for values in tf.nest.flatten(found))
        assert_same(arrays(found), arrays(expected))


def test_tensors_have_the_memory_of_large_rows(tmp_path):
    rows = {"x": np.arange(64 * 1024, dtype=np.float32).reshape(64, 1024)}
    shards.write(tmp_path / "out", {"train": [rows]}, rows_per_record=4, features=shards.specs(rows))
    loader = loaders.Loader(tmp_path / "out", "train", batch_size=16, shuffle=False)
    next(iter(loader))
    _, batch = next(loader._arrays.ahead(IterationSpan(start=Position(), end=1), prefetch=0))

    found = last_steps.tensors(batch)["x"]
    batch["x"][0, 0] = -1
    assert found[0, 0] == -1
    odd = np.zeros(100, np.uint8)[1:]  # not aligned, for which TensorFlow would end the process
    copied = last_steps.tensors(odd)
    odd[0] = 1
    assert copied[0] == 0


@pytest.mark.parametrize("options", [{"map_fn": lambda batch: batch["n"] + 1}, {"ragged": "ragged"}])
def test_what_tensorflow_makes_comes_from_the_pipeline(ragged_root, options):
    make = functools.partial(loaders.Loader, ragged_root, "train", batch_size=8, **options)

    loader = make()
    next(iter(loader))
    assert loader._arrays is None
    for found, expected in zip(make(), make().dataset(), strict=True):
        tf.nest.map_structure(lambda one, other: tf.debugging.assert_equal(one, other), found, expected)
