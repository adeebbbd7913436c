"""Data sets of rows that differ in size."""

import numpy as np

from loaders.format.spec import FeatureSpec
from tests.support import shards

FEATURES = (
    FeatureSpec(name="n", dtype="int64", shape=(), role="label"),
    FeatureSpec(name="s", dtype="string", shape=(2,)),
    FeatureSpec(name="v", dtype="float32", shape=(None, 3)),
    FeatureSpec(name="w", dtype="uint16", shape=(None,)),
)


FIRST = -1_000_000  # varints of negative numbers have one length


def make_rows(first, lengths):
    """Rows numbered from `first`: row i has `lengths[i]` steps of `v`, one step of `w` less, and its number as text."""
    numbers = range(first, first + len(lengths))
    return {
        "n": np.array(numbers, np.int64) + FIRST,
        "s": np.array([[f"{n}".encode(), b"x" * (n % 5)] for n in numbers], "S").reshape(-1, 2),
        "v": [np.arange(3 * k, dtype=np.float32).reshape(k, 3) + n for n, k in zip(numbers, lengths, strict=True)],
        "w": [np.full(max(k - 1, 0), n, np.uint16) for n, k in zip(numbers, lengths, strict=True)],
    }


def write(root, shard_lengths, *, rows_per_record=3, chunk_records=2, features=FEATURES):
    parts, first = [], 0
    for lengths in shard_lengths:
        parts.append(make_rows(first, lengths))
        first += len(lengths)
    return shards.write(
        root, {"train": parts}, rows_per_record=rows_per_record, features=features, chunk_records=chunk_records
    )


def lengths_of(count, seed=0):
    return np.random.default_rng(seed).integers(0, 7, count).tolist()


def check_batch(batch, all_lengths, *, boundaries=()):
    """Compares every value of a padded batch with the rows that its numbers stand for; returns the numbers."""
    numbers = (np.asarray(batch["n"]) - FIRST).tolist()
    expected = [all_lengths[n] for n in numbers]
    longest = max(expected, default=0)
    limit = next((b for b in boundaries if b >= longest), longest)
    assert batch["v"].shape == (len(numbers), limit, 3)
    assert batch["w"].shape == (len(numbers), max(longest - 1, 0))
    assert np.asarray(batch["v_length"]).tolist() == expected
    assert np.asarray(batch["w_length"]).tolist() == [max(k - 1, 0) for k in expected]
    for place, n in enumerate(numbers):
        row = make_rows(n, [all_lengths[n]])
        assert np.asarray(batch["s"])[place].tolist() == row["s"][0].tolist()
        for name in ("v", "w"):
            values, length = np.asarray(batch[name])[place], len(row[name][0])
            np.testing.assert_array_equal(values[:length], row[name][0])
            assert not values[length:].any()
    return numbers


def numbers_of(batches, all_lengths, **options):
    return [n for batch in batches for n in check_batch(batch, all_lengths, **options)]


GOLDEN = [28, 48, 49, 39, 41, 31, 38, 46, 30, 45, 7, 10, 18, 8, 47, 40, 44, 9, 6, 29, 19, 42, 11, 26, 27, 43]
