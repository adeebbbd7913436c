"""Everything that looks random: hashes of (seed, key), and the permutations made from them. Pure NumPy.

No generator of NumPy or TensorFlow is used, so an order never changes with their versions. `docs/format.md` states
the same functions in words, and the tests hold golden values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]

GAMMA = 0x9E3779B97F4A7C15
"""The increment of splitmix64: 2**64 divided by the golden ratio, made odd."""

MASK = (1 << 64) - 1
PERMUTE_ROUNDS = 32

# The purposes that a seed is derived for; each gives an independent stream.
SPLIT, DEAL, SHARD_ROWS, CHUNKS, WINDOW_ROWS = range(1, 6)
ALL_ROWS = 8
"""6 and 7 are those of `loaders.augment.random` and `loaders.sampling.weighted`."""


def mix64(x: U64) -> U64:
    """The output function of splitmix64, a bijection of 64-bit integers.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, with the constants
    of Stafford's variant 13.

    What it takes and returns is uint64 of any shape.
    """
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def derive(seed: int, *words: int) -> int:
    """A 64-bit key from a seed and words, from which no other seed with other words can be expected to come.

    `key = mix64(seed + GAMMA)`, and then `key = mix64((key ^ word) + GAMMA)` for each word, both modulo 2**64.
    """
    # Unless the seed were mixed first, seed 0 with word 1 and seed 1 with word 0 would give one key.
    key = _mix(seed + GAMMA)
    for word in words:
        key = _mix((key ^ (word & MASK)) + GAMMA)
    return key


def derive_all(key: int | U64, words: U64) -> U64:
    """`derive(seed, *before, word)` for each of many last words, where `key` is `derive(seed, *before)`.

    All are uint64, of any one shape; the key may be one for all.
    """
    return mix64((np.asarray(key, np.uint64) ^ words) + np.uint64(GAMMA))


def _mix(x: int) -> int:
    """`mix64` of one number modulo 2**64, for which arrays would take 50 times as long."""
    x &= MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def text_key(text: str) -> int:
    """A 64-bit key of a text: the first 8 bytes of its BLAKE2b digest (of 8 bytes, over UTF-8), little-endian."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def stream(key: int | U64, index: npt.NDArray[Any]) -> U64:
    """The hashes `mix64(key + (index + 1) * GAMMA)`: output number `index` of splitmix64 seeded with `key`.

    The indexes are non-negative, of any shape, and each may have a key of its own.
    """
    steps = (index.astype(np.uint64) + np.uint64(1)) * np.uint64(GAMMA)
    return mix64(steps + np.asarray(key, dtype=np.uint64))


def unit(hashes: U64) -> npt.NDArray[np.float64]:
    """Hashes as numbers in [0, 1): the upper 53 bits over 2**53."""
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53


def shuffled(key: int, rows: int) -> npt.NDArray[np.int64]:
    """A permutation of `range(rows)`: the stable argsort of `stream(key, range(rows)) >> 1`.

    The shift leaves 63 bits, which sort alike as signed and as unsigned numbers.
    """
    return argsort_hashes(stream(key, np.arange(rows)) >> np.uint64(1))


def argsort_hashes(hashes: U64) -> npt.NDArray[np.int64]:
    """The stable argsort of hashes, several times as fast as `np.argsort(hashes, kind="stable")`.

    The index of each hash takes the place of its lower bits, and the numbers that this makes are sorted: NumPy sorts
    64-bit numbers with vector instructions, and index and hash need not be moved apart. Only where the upper bits of
    neighbours are equal, as they seldom are, do the whole hashes have to be compared.

    Any uint64 will do as hashes, but where most share their upper bits nothing is gained.
    """
    bits = np.uint64((len(hashes) - 1).bit_length())
    packed = (hashes >> bits << bits) | np.arange(len(hashes), dtype=np.uint64)
    packed.sort()
    tied = np.flatnonzero((packed[1:] ^ packed[:-1]) >> bits == 0)
    packed &= np.uint64((1 << int(bits)) - 1)
    index = packed.view(np.int64)
    if tied.size:
        # Equal upper bits lie together with their indexes ascending, so one stable sort mends all such runs in place.
        places = distinct(np.concatenate([tied, tied + 1]))
        index[places] = index[places][np.argsort(hashes[index[places]], kind="stable")]
    return index


def distinct(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The distinct ones of some numbers, ascending: `np.unique` would import `numpy.ma`, before the first batch."""
    found: npt.NDArray[np.int64] = np.sort(numbers)
    is_first: npt.NDArray[np.bool_] = np.diff(found, prepend=found[:1] - 1) != 0
    return found[is_first]


def permute(key: int, index: npt.NDArray[Any], size: int) -> npt.NDArray[np.int64]:
    """The images of `index` under a pseudorandom permutation of `range(size)`, without making the whole of it.

    The swap-or-not shuffle: in round r, x and its partner `(k_r - x) mod size` change places if one bit of a hash of
    the larger of the two says so. Source: Hoang, Morris and Rogaway, "An enciphering scheme based on a card shuffle",
    CRYPTO 2012. 32 rounds mix well and keep no secrets, which is all that is asked here.

    Each key of 64 bits is another permutation. The index, integers in `[0, size)` of any shape, becomes int64 of this
    shape; the size is below 2**63.
    """
    return _swap_or_not(key, index, size, range(PERMUTE_ROUNDS))


def unpermute(key: int, index: npt.NDArray[Any], size: int) -> npt.NDArray[np.int64]:
    """The inverse of `permute`: the same rounds in reverse, as each is its own inverse."""
    return _swap_or_not(key, index, size, reversed(range(PERMUTE_ROUNDS)))


def _swap_or_not(key: int, index: npt.NDArray[Any], size: int, rounds: Iterable[int]) -> npt.NDArray[np.int64]:
    x, n = index.astype(np.uint64), np.uint64(size)
    for step in rounds:
        round_key = derive(key, step)
        pivot = np.uint64(round_key % size)
        partner = np.where(x <= pivot, pivot - x, pivot + (n - x))
        swap = stream(round_key, np.maximum(x, partner)) & np.uint64(1)
        x = np.where(swap == 1, partner, x)
    return x.astype(np.int64)
