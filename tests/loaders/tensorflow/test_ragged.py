"""Rows that differ in size: strings and ragged features, from shards to batches."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import loaders
from loaders.format.spec import FeatureSpec
from loaders.order import chunks
from loaders.reading.columns import Arrangement
from loaders.tensorflow import ragged
from tests.support import examples, shards
from tests.support.bits import DTYPES, any_bits, assert_same_bits
from tests.support.manifests import change_manifest
from tests.support.numbered import oracle
from tests.support.ragged import FEATURES, GOLDEN, check_batch, lengths_of, make_rows, numbers_of, write


@pytest.fixture
def root(tmp_path, monkeypatch):
    """53 rows in four shards, one of them empty, and small windows."""
    monkeypatch.setattr(chunks, "WINDOW_BYTES", 2000)
    lengths = lengths_of(53)
    write(tmp_path / "out", [lengths[:20], [], lengths[20:50], lengths[50:]])
    return tmp_path / "out"


@settings(max_examples=examples(8))
@given(
    counts=st.lists(st.integers(0, 25), min_size=1, max_size=4),
    rows_per_record=st.integers(1, 5),
    chunk_records=st.integers(1, 4),
    window_bytes=st.integers(1, 4000),
    batch_size=st.integers(1, 17),
    seed=st.integers(0, 2**64 - 1),
)
def test_epochs_equal_the_oracle(
    tmp_path_factory, counts, rows_per_record, chunk_records, window_bytes, batch_size, seed
):
    out = tmp_path_factory.mktemp("data") / "out"
    lengths, ends = lengths_of(sum(counts)), np.cumsum(counts)
    parts = [lengths[end - count : end] for end, count in zip(ends, counts, strict=True)]
    manifest = write(out, parts, rows_per_record=rows_per_record, chunk_records=chunk_records)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "WINDOW_BYTES", window_bytes)
        loaded = loaders.load(out, "train", batch_size=batch_size, seed=seed, epochs=2)
        found = numbers_of(loaded.as_numpy_iterator(), lengths)
        expected = [oracle(manifest, "train", seed, epoch) for epoch in range(2)]

    assert found == expected[0] + expected[1]
    assert sorted(expected[0]) == list(range(sum(counts)))


def test_the_golden_order(root):
    """The order of an epoch never changes without a new format version."""
    loaded = loaders.load(root, "train", batch_size=7, seed=11)

    assert numbers_of(loaded, lengths_of(53))[: len(GOLDEN)] == GOLDEN


@pytest.mark.slow
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("rows_per_record", [1, 4])
def test_every_dtype_comes_back_bit_for_bit(tmp_path, rows_per_record, shuffle):
    shapes = [(), (2,), (1, 3)]
    lengths = [0, 5, 1, 0, 3, 2, 4, 0, 0]
    features = (
        *(FeatureSpec(name=f"{d}_{len(s)}", dtype=d, shape=(None, *s)) for d in DTYPES for s in shapes),
        FeatureSpec(name="row", dtype="int32", shape=()),
    )
    rows = {
        f.name: [any_bits(f.dtype, (k, *f.inner_shape), seed=i) for i, k in enumerate(lengths)] for f in features[:-1]
    } | {"row": np.arange(9, dtype=np.int32)}
    parts = [{name: values[:5] for name, values in rows.items()}, {name: values[5:] for name, values in rows.items()}]
    shards.write(tmp_path, {"s": parts}, rows_per_record=rows_per_record, features=features, chunk_records=1)

    for form in ("padded", "ragged"):
        for batch in loaders.load(tmp_path, "s", batch_size=4, shuffle=shuffle, ragged=form):
            for place, row in enumerate(batch["row"].numpy()):
                for feature in features[:-1]:
                    values = batch[feature.name][place]
                    if form == "padded":
                        values = values[: batch[f"{feature.name}_length"][place]]
                    assert_same_bits(values, rows[feature.name][row])


@pytest.mark.parametrize("drop_remainder", [False, True])
@pytest.mark.parametrize("form", ["padded", "ragged"])
def test_shapes_and_cardinality_are_known(root, form, drop_remainder):
    loaded = loaders.load(root, "train", batch_size=10, ragged=form, drop_remainder=drop_remainder)

    size = 10 if drop_remainder else None
    expected = {"n": tf.TensorSpec([size], tf.int64), "s": tf.TensorSpec([size, 2], tf.string)}
    if form == "padded":
        expected |= {"v": tf.TensorSpec([size, None, 3], tf.float32), "w": tf.TensorSpec([size, None], tf.uint16)}
        expected |= {f"{name}_length": tf.TensorSpec([size], tf.int64) for name in "vw"}
    else:
        expected |= {
            "v": tf.RaggedTensorSpec([size, None, 3], tf.float32, 1, tf.int64),
            "w": tf.RaggedTensorSpec([size, None], tf.uint16, 1, tf.int64),
        }
    assert loaded.element_spec == expected
    assert len(list(loaded)) == int(loaded.cardinality()) == (5 if drop_remainder else 6)


def test_ragged_and_padded_hold_the_same(root):
    padded = loaders.load(root, "train", batch_size=9)
    as_ragged = loaders.load(root, "train", batch_size=9, ragged="ragged")

    for first, second in zip(padded, as_ragged, strict=True):
        np.testing.assert_array_equal(second["v"].to_tensor(), first["v"])
        np.testing.assert_array_equal(second["v"].row_lengths(), first["v_length"])


def test_supervised_has_the_lengths_with_the_inputs(root):
    plain = loaders.load(root, "train", batch_size=9)
    loaded = loaders.load(root, "train", batch_size=9, as_supervised=True)
    as_ragged = loaders.load(root, "train", batch_size=9, as_supervised=True, ragged="ragged")

    for batch, (inputs, label), (others, _) in zip(plain, loaded, as_ragged, strict=True):
        assert set(inputs) == {"s", "v", "v_length", "w", "w_length"}
        assert set(others) == {"s", "v", "w"}
        np.testing.assert_array_equal(inputs["v"], batch["v"])
        np.testing.assert_array_equal(label, batch["n"])


def test_supervised_reads_what_it_needs(tmp_path):
    features = (*FEATURES[:2], *(dataclasses.replace(feature, role="id") for feature in FEATURES[2:]))
    write(tmp_path / "out", [[1, 2, 3]], features=features)

    ((inputs, label),) = loaders.load(tmp_path / "out", "train", batch_size=9, as_supervised=True)
    ((bucketed, _),) = loaders.load(
        tmp_path / "out", "train", batch_size=9, as_supervised=True, bucket_boundaries=[5], bucket_by="v"
    )

    assert (inputs.dtype, inputs.shape, label.shape) == (tf.string, (3, 2), (3,))
    np.testing.assert_array_equal(inputs, bucketed)


def expected_buckets(sequence, all_lengths, boundaries, batch_size, *, drop_remainder=False):
    """Deals rows to buckets one by one."""
    waiting, batches = [[] for _ in range(len(boundaries) + 1)], []
    for row in sequence:
        bucket = waiting[sum(all_lengths[row] > boundary for boundary in boundaries)]
        bucket.append(row)
        if len(bucket) == batch_size:
            batches.append(bucket[:])
            bucket.clear()
    return batches if drop_remainder else batches + [bucket for bucket in waiting if bucket]


@settings(max_examples=examples(8))
@given(
    lengths=st.lists(st.integers(0, 9), max_size=60),
    boundaries=st.sets(st.integers(1, 9), min_size=1).map(sorted),
    batch_size=st.integers(1, 9),
    window_bytes=st.integers(1, 4000),
    shuffle=st.booleans(),
    drop_remainder=st.booleans(),
)
def test_buckets_equal_the_oracle(
    tmp_path_factory, lengths, boundaries, batch_size, window_bytes, shuffle, drop_remainder
):
    out = tmp_path_factory.mktemp("data") / "out"
    manifest = write(out, [lengths[:13], lengths[13:]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "WINDOW_BYTES", window_bytes)
        loaded = loaders.load(
            out,
            "train",
            batch_size=batch_size,
            shuffle=shuffle,
            epochs=2,
            drop_remainder=drop_remainder,
            bucket_boundaries=boundaries,
            bucket_by="v",
        )
        found = [check_batch(batch, lengths, boundaries=boundaries) for batch in loaded.as_numpy_iterator()]
        sequences = [oracle(manifest, "train", 0, e) if shuffle else range(len(lengths)) for e in range(2)]
    options = {"drop_remainder": drop_remainder}
    assert found == [
        batch for rows in sequences for batch in expected_buckets(rows, lengths, boundaries, batch_size, **options)
    ]


def test_shapes_of_buckets(root):
    options = {"bucket_boundaries": [2, 4], "bucket_by": "w"}
    loaded = loaders.load(root, "train", batch_size=4, drop_remainder=True, **options)
    as_ragged = loaders.load(root, "train", batch_size=4, ragged="ragged", **options)

    assert loaded.element_spec["w"] == tf.TensorSpec([4, None], tf.uint16)
    assert loaded.element_spec["n"] == tf.TensorSpec([4], tf.int64)
    assert loaded.cardinality() == tf.data.UNKNOWN_CARDINALITY
    assert {batch["w"].shape[1] for batch in loaded} <= {2, 4, 5}
    assert sum(len(batch["n"]) for batch in as_ragged) == 53


def test_buckets_without_an_end(root):
    options = {"bucket_boundaries": [3], "bucket_by": "v", "epochs": None}
    once = numbers_of(
        loaders.load(root, "train", batch_size=4, **options | {"epochs": 2}), lengths_of(53), boundaries=[3]
    )
    loaded = loaders.load(root, "train", batch_size=4, **options)

    assert numbers_of(loaded.take(20), lengths_of(53), boundaries=[3])[:70] == once[:70]
    with pytest.raises(ValueError, match="train: expected 59 rows, so that a bucket fills a batch; found 53"):
        loaders.load(root, "train", batch_size=30, drop_remainder=True, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ragged": "dense"}, "ragged is one of padded, ragged; found 'dense'"),
        ({"bucket_boundaries": [2]}, r"bucket_by is one of .* \(v, w\); found None"),
        ({"bucket_boundaries": [2], "bucket_by": "n"}, r"bucket_by is one of .* \(v, w\); found 'n'"),
        ({"bucket_by": "v"}, "bucket_by needs bucket_boundaries; found bucket_by 'v' alone"),
        ({"bucket_boundaries": [], "bucket_by": "v"}, r"ascending order.*found \[\]"),
        ({"bucket_boundaries": [4, 4], "bucket_by": "v"}, r"ascending order.*found \[4, 4\]"),
        ({"bucket_boundaries": [0, 4], "bucket_by": "v"}, r"the first at least 1; found \[0, 4\]"),
    ],
)
def test_bad_options_are_named(root, options, message):
    with pytest.raises(ValueError, match=message):
        loaders.load(root, "train", batch_size=3, **options)


def test_the_only_ragged_feature_needs_no_name(tmp_path):
    write(tmp_path / "out", [[1, 2, 6]], features=FEATURES[:3])

    batches = list(loaders.load(tmp_path / "out", "train", batch_size=3, bucket_boundaries=[2, 8]))

    assert [batch["v"].shape[1] for batch in batches] == [2, 8]


def test_a_name_that_the_lengths_have(tmp_path):
    features = (dataclasses.replace(FEATURES[2], name="n"), dataclasses.replace(FEATURES[0], name="n_length"))
    rows = {"n": make_rows(0, [1])["v"], "n_length": np.array([-1])}
    shards.write(tmp_path / "out", {"train": [rows]}, rows_per_record=1, features=features, chunk_records=1)

    with pytest.raises(ValueError, match="n_length: the lengths of a padded feature have this name"):
        loaders.load(tmp_path / "out", "train", batch_size=1)
    (batch,) = loaders.load(tmp_path / "out", "train", batch_size=1, ragged="ragged")
    assert batch["n_length"].numpy().tolist() == [-1]


def test_strings_alone_come_as_they_are(tmp_path):
    rows = {"s": np.array([[b"a\xff", b""], [b"\0b", b"c"]], object), "t": np.array([b"one", b"two"], object)}
    features = tuple(FeatureSpec(name=name, dtype="string", shape=rows[name].shape[1:]) for name in "st")
    shards.write(tmp_path / "out", {"train": [rows]}, rows_per_record=2, features=features, chunk_records=1)

    loaded = loaders.load(tmp_path / "out", "train", batch_size=2, shuffle=False)
    (batch,) = loaded

    assert loaded.element_spec == {"s": tf.TensorSpec([None, 2], tf.string), "t": tf.TensorSpec([None], tf.string)}
    assert batch["s"].numpy().tolist() == rows["s"].tolist()
    assert batch["t"].numpy().tolist() == [b"one", b"two"]


@pytest.mark.parametrize("options", [{}, {"bucket_boundaries": [2], "bucket_by": "v"}, {"ragged": "ragged"}])
@pytest.mark.parametrize("epochs", [1, None])
def test_a_split_without_rows(tmp_path, options, epochs):
    write(tmp_path / "out", [[], []])

    assert list(loaders.load(tmp_path / "out", "train", batch_size=3, epochs=epochs, **options)) == []


def test_a_damaged_offset_is_an_error(root):
    def move(value):
        value["splits"]["train"]["shards"][0]["offsets"][1] += 1

    change_manifest(root, move)

    with pytest.raises(tf.errors.InvalidArgumentError, match=r"record \d+: expected"):
        list(loaders.load(root, "train", batch_size=3))


def test_a_ragged_feature_counts_as_two():
    arrange = Arrangement(FEATURES[:1] + FEATURES[3:], supervised=True)

    assert len(arrange.features) == 2
    assert arrange({"n": 1, "w": 2, "w_length": 3}) == ({"w": 2, "w_length": 3}, 1)


def test_rows_of_no_length_alone():
    feature = FEATURES[2]
    found = ragged.decode_padded(tf.constant([b"", b""]), feature)
    limited = ragged.decode_padded(tf.constant([b"", b""]), feature, boundaries=[4, 9])
    nothing = ragged.decode_padded(tf.constant([], tf.string), feature)

    assert (found["v"].shape, limited["v"].shape, nothing["v"].shape) == ((2, 0, 3), (2, 4, 3), (0, 0, 3))
    assert ragged.decode_ragged(tf.constant([], tf.string), feature).shape == (0, None, 3)
