import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loaders.order import hashing

KEYS = st.integers(0, 2**64 - 1)


def test_stream_is_splitmix64():
    # The first outputs of the reference implementation (Vigna, splitmix64.c) seeded with 1234567.
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]

    assert hashing.stream(1234567, np.arange(5)).tolist() == expected


def test_golden_orders():
    assert hashing.derive(0) == hashing.stream(0, np.array([0]))[0]
    assert hashing.derive(7, hashing.CHUNKS, 3) == 13090181044139511462
    assert hashing.derive(-1, 2) == hashing.derive(2**64 - 1, 2)
    assert hashing.text_key("part-000") == 10011720661729169359
    assert hashing.shuffled(42, 10).tolist() == [4, 1, 6, 2, 8, 3, 9, 0, 7, 5]
    assert hashing.permute(42, np.arange(10), 10).tolist() == [7, 8, 5, 9, 1, 0, 6, 4, 3, 2]


def test_derive_tells_words_apart():
    keys = {hashing.derive(seed, a, b) for seed in range(10) for a in range(10) for b in range(10)}

    assert len(keys) == 1000


def test_unit_spans_zero_to_one():
    assert hashing.unit(np.array([0, 2**64 - 1], dtype=np.uint64)).tolist() == [0.0, 1.0 - 2.0**-53]
    assert abs(hashing.unit(hashing.stream(5, np.arange(100_000))).mean() - 0.5) < 0.005


@given(key=KEYS, rows=st.integers(0, 200))
def test_shuffled_is_a_permutation(key, rows):
    assert sorted(hashing.shuffled(key, rows)) == list(range(rows))


@given(
    hashes=st.lists(st.integers(0, 2**64 - 1), max_size=20),
    repeats=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 40)), max_size=60),
)
@example(hashes=[], repeats=[])
@example(hashes=[2**63 + 5], repeats=[])
@example(hashes=[2**64 - 1], repeats=[(0, 0)] * 40)
@example(hashes=[2**63, 0, 2**64 - 1], repeats=[(0, 1), (0, 0), (2, 3), (0, 1)])
def test_argsort_hashes_is_the_stable_argsort(hashes, repeats):
    # Besides the hashes themselves, some that differ from them in the lower bits, or not at all.
    numbers = hashes + [hashes[i % len(hashes)] ^ low for i, low in repeats if hashes]
    array = np.array(numbers, dtype=np.uint64)

    found = hashing.argsort_hashes(array)

    assert found.dtype == np.int64
    assert found.tolist() == np.argsort(array, kind="stable").tolist()
    assert array.tolist() == numbers


@pytest.mark.parametrize("kept", [2**64 - 1, 2**64 - 2**34, 2**64 - 2**62, 2**16 - 1, 0])
def test_argsort_hashes_of_many_rows(kept):
    hashes = hashing.stream(3, np.arange(300_001)) & np.uint64(kept)

    np.testing.assert_array_equal(hashing.argsort_hashes(hashes), np.argsort(hashes, kind="stable"))


@given(key=KEYS, size=st.integers(1, 300))
def test_permute_is_a_permutation(key, size):
    assert sorted(hashing.permute(key, np.arange(size), size)) == list(range(size))


@pytest.mark.parametrize(
    "permutation", [hashing.shuffled, lambda key, size: hashing.permute(key, np.arange(size), size)]
)
def test_permutations_are_uniform(permutation):
    # All 24 orders of 4 things, over fixed keys: chi-square with 23 degrees of freedom exceeds 49.7 once in 1000.
    draws = 2400
    found = [tuple(permutation(hashing.derive(99, key), 4)) for key in range(draws)]
    counts = np.unique(found, axis=0, return_counts=True)[1]

    assert len(counts) == 24
    assert ((counts - draws / 24) ** 2 / (draws / 24)).sum() < 49.7


@pytest.mark.parametrize("size", [37, 64])
def test_permute_sends_each_index_anywhere(size):
    draws = 1500
    image = np.stack([hashing.permute(hashing.derive(5, key), np.arange(size), size) for key in range(draws)])
    expected = draws / size

    for index in (0, 1, size // 2, size - 1):
        chi = ((np.bincount(image[:, index], minlength=size) - expected) ** 2 / expected).sum()
        assert chi < size - 1 + 4 * np.sqrt(2 * (size - 1))
    # Neighbours do not stay neighbours.
    assert np.mean((image[:, 1] - image[:, 0]) % size == 1) < 2 / size


@pytest.mark.parametrize("numbers", [[], [3], [3, 3], [5, -2, 5, 7, -2, 0]], ids=str)
def test_distinct_numbers_are_those_of_numpy(numbers):
    numbers = np.array(numbers, np.int64)
    assert hashing.distinct(numbers).tolist() == np.unique(numbers).tolist()
