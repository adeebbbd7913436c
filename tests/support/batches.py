"""Batches compared, and shards that are damaged."""

import tensorflow as tf


def assert_same_batch(found, expected):
    assert type(found) is type(expected)
    if isinstance(found, tuple):
        assert len(found) == len(expected)
        for first, second in zip(found, expected, strict=True):
            assert_same_batch(first, second)
    elif isinstance(found, dict):
        assert set(found) == set(expected)
        for name in found:
            assert_same_batch(found[name], expected[name])
    else:
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.tolist() == expected.tolist() if found.dtype == object else found.tobytes() == expected.tobytes()


def assert_same(found, expected):
    found = list(found)
    expected = list(expected)
    assert len(found) == len(expected)
    for first, second in zip(found, expected, strict=True):
        assert_same_batch(first, second)


def damage(root, manifest, shard, row):
    """Changes a byte of the record that holds a row."""
    path = root / manifest.splits["train"][shard].file
    content = bytearray(path.read_bytes())
    content[row // manifest.rows_per_record * manifest.record_bytes + 40] ^= 1
    path.write_bytes(content)


def arrays(batches):
    return [tf.nest.map_structure(lambda values: values.numpy(), batch) for batch in batches]


def break_record(root, manifest, shard, record, *, at):
    path = root / manifest.splits["train"][shard].file
    content = bytearray(path.read_bytes())
    content[record * manifest.record_bytes + at] ^= 1
    path.write_bytes(content)
