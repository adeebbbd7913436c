"""The random numbers of rows: hashes of (seed, epoch, row). Pure NumPy.

So neither the batch size, the point where a training goes on, nor the number of hosts changes what becomes of a row.
`docs/reference/loading.md` states them in words, and the tests hold golden values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from loaders.order import hashing

AUGMENT = 6
"""The purpose that the seed is derived for, after those of `loaders.order.hashing`."""


class Random:
    """The random numbers of an augmentation for the rows of a batch.

    Args:
        seed: The seed of the loader.
        epoch: The number of the epoch.
        number: The number of the augmentation, from 0.
        rows: The number of each row in the split as it is stored, int64 of shape [rows].
        groups: How many of the rows, one group after the other, each stream has in the batch.
    """

    def __init__(self, seed: int, epoch: int, number: int, *, rows: npt.NDArray[np.int64], groups: Sequence[int]):
        self._words = (seed, AUGMENT, epoch, number)
        self._rows, self._groups = rows, groups

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def _hashes(self, name: str, count: int) -> hashing.U64:
        """64 bits for each of `count` elements of each row: uint64 of shape [rows, count]."""
        rows = hashing.stream(hashing.derive(*self._words, hashing.text_key(name)), self._rows)
        steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(hashing.GAMMA)
        return hashing.mix64(rows[:, np.newaxis] + steps)

    def uniform(self, name: str, *shape: int) -> npt.NDArray[np.float64]:
        """Uniform numbers.

        Args:
            name: What they are for: other names give other numbers.
            *shape: How many for each row.

        Returns:
            Numbers in [0, 1), float64 of shape [rows, *shape].
        """
        if not shape:
            return hashing.unit(hashing.stream(hashing.derive(*self._words, hashing.text_key(name)), self._rows))
        return hashing.unit(self._hashes(name, int(np.prod(shape)))).reshape(len(self), *shape)

    def normal(self, name: str, *shape: int) -> npt.NDArray[np.float32]:
        """Numbers of the normal distribution of mean 0 and deviation 1, by Box and Muller's transform.

        Source: Box and Muller, "A note on the generation of random normal deviates", Annals of Mathematical Statistics
        29, 1958. Each pair comes from the 24 upper and the 24 lower bits of a hash; none is beyond 5.8.

        Args:
            name: As in `uniform`.
            *shape: As in `uniform`.

        Returns:
            float32 of shape [rows, *shape].
        """
        count = int(np.prod(shape))
        hashes = self._hashes(name, -(-count // 2))
        unit = np.float32(2.0**-24)
        radius = ((hashes >> np.uint64(40)).astype(np.float32) + np.float32(1)) * unit
        np.sqrt(np.float32(-2) * np.log(radius), out=radius)
        angle = (hashes & np.uint64(0xFFFFFF)).astype(np.float32) * (unit * np.float32(2 * np.pi))
        pairs = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        return pairs[:, :count].reshape(len(self), *shape)

    def partners(self, name: str) -> npt.NDArray[np.int64]:
        """Another row for each row, by a permutation of the batch's rows that depends on the first one.

        With several streams the rows of each are permuted by themselves, so that hosts need no rows of each other.

        Args:
            name: As in `uniform`.

        Returns:
            Places in the batch, int64 of shape [rows]. A row's partner may be itself.
        """
        result, first = np.arange(len(self)), 0
        for count in self._groups:
            if count:
                key = hashing.derive(*self._words, hashing.text_key(name), int(self._rows[first]))
                result[first : first + count] = first + hashing.shuffled(key, count)
            first += count
        return result

    def beta(self, name: str, alpha: float) -> npt.NDArray[np.float64]:
        """Numbers in [0, 1] of the beta distribution whose two parameters are `alpha`.

        A t-distributed number of 2 alpha degrees, by Bailey's polar form, mapped to [0, 1]: two uniform numbers and no
        rejection. Source: Devroye, "Random variate generation in one line of code", Winter Simulation Conference, 1996.

        Args:
            name: As in `uniform`.
            alpha: Above 0.

        Returns:
            float64 of shape [rows].
        """
        radius, angle = self.uniform(name, 2).T
        power, cosine = (1 - radius) ** (1 / alpha), np.cos(2 * np.pi * angle)
        signed: npt.NDArray[np.float64] = np.sqrt(1 - power) * cosine / np.sqrt(power + (1 - power) * cosine**2)
        return 0.5 + 0.5 * signed
