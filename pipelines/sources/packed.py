"""The parts of a table as columns, as workers have them: a tenth of the memory, and loaded at once.

As objects, the parts of a million files take 700 MB and ten seconds to unpickle, in every worker process.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Protocol, overload

import numpy as np
import numpy.typing as npt

from pipelines.sources.parts import Part, Source


class _Column(Protocol):
    """The values of one attribute, by number."""

    def __getitem__(self, number: int, /) -> Any: ...


@dataclasses.dataclass(frozen=True)
class _Few:
    """Values of which there are few different ones."""

    values: tuple[Any, ...]
    codes: npt.NDArray[np.uint8]

    def __getitem__(self, number: int, /) -> Any:
        return self.values[self.codes.item(number)]


@dataclasses.dataclass(frozen=True)
class _Numbers:
    """Integers or floats, or tuples of integers of one length."""

    values: npt.NDArray[Any]

    def __getitem__(self, number: int, /) -> Any:
        found = self.values[number].tolist()
        return tuple(found) if isinstance(found, list) else found


@dataclasses.dataclass(frozen=True)
class _Texts:
    """Text as UTF-8, one after the other."""

    data: bytes
    ends: npt.NDArray[np.int64]

    def __getitem__(self, number: int, /) -> str:
        start = self.ends.item(number - 1) if number else 0
        return self.data[start : self.ends.item(number)].decode(errors="surrogateescape")


MAX_DIFFERENT = 256


def _column(values: Sequence[Hashable]) -> _Column:
    """The smallest form of some values."""
    kinds = {type(value) for value in values}
    different = tuple(dict.fromkeys(values))
    if len(different) <= MAX_DIFFERENT and len(kinds | {type(None)}) <= 2:
        codes = {value: code for code, value in enumerate(different)}
        return _Few(different, np.array([codes[value] for value in values], np.uint8))
    if kinds == {str}:
        texts = [str(value).encode(errors="surrogateescape") for value in values]
        return _Texts(b"".join(texts), np.cumsum([len(text) for text in texts], dtype=np.int64))
    if kinds in ({int}, {float}):
        return _Numbers(np.array(values))
    if kinds == {tuple} and len({len(value) for value in values}) == 1:  # type: ignore[arg-type]
        return _Numbers(np.array(values, np.int64))
    return tuple(values)


_OF_PART = ("name", "rows", "split", "directory")
_OF_SOURCE = tuple(field.name for field in dataclasses.fields(Source))


class _Sources(Mapping[str, Source]):
    """The sources of one part, made when they are asked for: a task asks for each once or twice."""

    def __init__(self, features: Mapping[str, Mapping[str, _Column]], number: int) -> None:
        self._features = features
        self._number = number

    def __getitem__(self, feature: str) -> Source:
        columns = self._features[feature]
        return Source(**{name: column[self._number] for name, column in columns.items()})

    def __iter__(self) -> Iterator[str]:
        return iter(self._features)

    def __len__(self) -> int:
        return len(self._features)


class PackedParts(Sequence[Part]):
    """Parts that are made when they are asked for; equal to any sequence of the same."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._count = len(parts)
        self._columns = {name: _column([getattr(part, name) for part in parts]) for name in _OF_PART}
        self._features: dict[str, dict[str, _Column]] = {}
        for feature in parts[0].sources:
            sources = [part.sources[feature] for part in parts]
            self._features[feature] = {
                name: _column([getattr(source, name) for source in sources]) for name in _OF_SOURCE
            }

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, number: int) -> Part: ...
    @overload
    def __getitem__(self, number: slice) -> tuple[Part, ...]: ...
    def __getitem__(self, number: int | slice) -> Part | tuple[Part, ...]:
        """One part, or several."""
        if isinstance(number, slice):
            return tuple(self[each] for each in range(*number.indices(self._count)))
        if not -self._count <= number < self._count:
            raise IndexError(number)
        number %= self._count
        own = {name: column[number] for name, column in self._columns.items()}
        return Part(**own, sources=_Sources(self._features, number))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # as that of any parts: their sources are a mapping


def pack(parts: Sequence[Part]) -> Sequence[Part]:
    """Parts as columns, where all have the same features, as those of a table that was checked have."""
    if isinstance(parts, PackedParts) or not parts or len({frozenset(part.sources) for part in parts}) > 1:
        return parts
    return PackedParts(parts)
