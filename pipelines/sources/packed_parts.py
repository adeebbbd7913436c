"""The parts of a table as workers have them: packed, so that they take a twentieth of the memory, and load at once.

As objects, the parts of a million files take 700 MB and ten seconds to unpickle, in every worker process.
"""

from __future__ import annotations

import functools
import operator
import pickle
import zlib
from collections.abc import Sequence
from typing import overload

from pipelines.sources.parts import Part

TOGETHER = 8
"""Parts that are packed together. The blocks of a task come from everywhere; to unpack so many takes 0.1 ms."""

UNPACKED = 1024
"""Packs that a process remembers unpacked: those of a task, which asks for each part several times."""


class PackedParts(Sequence[Part]):
    """Parts that are unpacked when they are asked for; equal to any sequence of the same."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._count = len(parts)
        starts = range(0, self._count, TOGETHER)
        self._packs = [zlib.compress(pickle.dumps(tuple(parts[start : start + TOGETHER])), 1) for start in starts]

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, number: int) -> Part: ...
    @overload
    def __getitem__(self, number: slice) -> tuple[Part, ...]: ...
    def __getitem__(self, number: int | slice) -> Part | tuple[Part, ...]:
        """One part, or several."""
        if isinstance(number, slice):
            return tuple(self[place] for place in range(*number.indices(self._count)))
        if not -self._count <= number < self._count:
            raise IndexError(number)
        pack, place = divmod(number % self._count, TOGETHER)
        return _unpack(self._packs[pack])[place]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # as that of any parts: their sources are a mapping


@functools.lru_cache(maxsize=UNPACKED)
def _unpack(pack: bytes) -> tuple[Part, ...]:
    parts: tuple[Part, ...] = pickle.loads(zlib.decompress(pack))
    return parts
