"""`loaders.tfrecords`: rows parsed by TensorFlow alone, here and on the workers of its service."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

import loaders
from tests.support import ragged, shards
from tests.support.bits import DTYPES, any_bits, assert_same_bits
from tests.support.numbered import numbers, write_numbered

SHAPES = ((), (2, 3))
SERVICE = tf.data.experimental.service


@pytest.fixture
def root(tmp_path):
    write_numbered(tmp_path / "out", [20, 0, 30, 3], rows_per_record=1)
    return tmp_path / "out"


@pytest.fixture
def service():
    """The address of a dispatcher with two workers."""
    dispatcher = SERVICE.DispatchServer(SERVICE.DispatcherConfig(port=0))
    address = dispatcher.target.partition("://")[2]
    workers = [SERVICE.WorkerServer(SERVICE.WorkerConfig(dispatcher_address=address)) for _ in range(2)]
    yield dispatcher.target
    del workers


def test_every_dtype_bit_for_bit(tmp_path):
    part = {f"{d}_{len(s)}": any_bits(d, (18, *s), 3) for d in DTYPES for s in SHAPES}
    part |= {name: array | np.int64(-(2**63)) for name, array in part.items() if array.dtype == np.int64}
    shards.write(tmp_path / "out", {"train": [part]}, rows_per_record=1, features=shards.specs(part))

    (batch,) = loaders.tfrecords(tmp_path / "out", "train", batch_size=20, shuffle_buffer=0)

    for name, array in part.items():
        assert_same_bits(batch[name], array)


def test_rows_of_any_length_are_those_of_load(tmp_path):
    ragged.write(tmp_path / "out", [ragged.lengths_of(20), ragged.lengths_of(9)], rows_per_record=1)
    found = list(loaders.tfrecords(tmp_path / "out", "train", batch_size=8, shuffle_buffer=0))
    expected = list(loaders.load(tmp_path / "out", "train", batch_size=8, shuffle=False))
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_it_can_be_made_inside_a_traced_function(root, caplog, monkeypatch):
    """As interleave, and the workers of a parameter server, make it: and AutoGraph does not complain."""
    monkeypatch.setattr(tf.get_logger(), "propagate", True)
    seen = tf.data.Dataset.range(2).interleave(
        lambda seed: loaders.tfrecords(root, "train", batch_size=10, shuffle_buffer=0)
    )
    assert sorted(numbers(seen)) == sorted([*range(53)] * 2)
    assert not [line for line in caplog.messages if "loaders" in line]


def test_what_reads_by_python_is_refused_inside_a_traced_function(root):
    with pytest.raises(ValueError, match=r"made outside of functions that TensorFlow traces.*use loaders\.tfrecords"):
        tf.data.Dataset.range(2).interleave(lambda seed: loaders.load(root, "train", batch_size=10))


def test_each_option_changes_what_comes(root):
    def read(**options):
        return list(loaders.tfrecords(root, "train", batch_size=10, **{"shuffle_buffer": 0} | options))

    assert numbers(read()) == list(range(53))
    mixed = numbers(read(shuffle_buffer=40, seed=1))
    assert sorted(mixed) == list(range(53)) != mixed
    assert numbers(read(shuffle_buffer=40, seed=1)) == mixed != numbers(read(shuffle_buffer=40, seed=2))
    assert [len(batch["n"]) for batch in read(drop_remainder=True)] == [10] * 5
    assert read(features=["x"])[0].keys() == {"x"}
    x, n = read(as_supervised=True)[0]
    assert (x.shape, n.shape) == ((10, 2), (10,))


def test_the_service_gives_each_row_once(root, service):
    rows = loaders.tfrecords(root, "train", batch_size=10, seed=1)
    sent = rows.apply(SERVICE.distribute(processing_mode=SERVICE.ShardingPolicy.DYNAMIC, service=service))
    assert sorted(numbers(sent)) == list(range(53))


def test_the_service_refuses_what_reads_by_python(root, service):
    rows = loaders.load(root, "train", batch_size=10)
    with pytest.raises(tf.errors.FailedPreconditionError, match="PyFunc is stateful"):
        rows.apply(SERVICE.distribute(processing_mode=SERVICE.ShardingPolicy.DYNAMIC, service=service))


@pytest.mark.parametrize("load", [loaders.tfrecords, loaders.load])
def test_what_is_saved_is_read_again(load, root, tmp_path):
    rows = load(root, "train", batch_size=10)
    rows.save(str(tmp_path / "saved"))
    assert sorted(numbers(tf.data.Dataset.load(str(tmp_path / "saved")))) == list(range(53))
    snapshot = rows.snapshot(str(tmp_path / "snapshot"))
    assert numbers(snapshot) == numbers(snapshot)


def test_what_it_cannot_read_is_refused(root, tmp_path):
    write_numbered(tmp_path / "many", [20], rows_per_record=4)
    with pytest.raises(ValueError, match=r"many: expected a record for each row, as layout: interchange .*of 4 rows"):
        loaders.tfrecords(tmp_path / "many", "train", batch_size=2)
    with pytest.raises(loaders.ManifestError, match=r"out: expected one of the splits train; found 'train\[:10%\]'"):
        loaders.tfrecords(root, "train[:10%]", batch_size=2)
    manifest = write_numbered(tmp_path / "raw", [20], rows_per_record=1)
    raw = dataclasses.replace(manifest, transform="transform", transformed=manifest.features)
    (tmp_path / "raw" / "manifest.json").write_text(raw.dumps())
    with pytest.raises(ValueError, match=r"raw: expected features as the transform gives them; found .* store: raw"):
        loaders.tfrecords(tmp_path / "raw", "train", batch_size=2)
