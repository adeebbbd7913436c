"""The parts of a table as columns, as workers have them: a tenth of the memory, and loaded at once.

As objects, the parts of a million files take 700 MB and ten seconds to unpickle, in every worker process.
"""

from __future__ import annotations

import dataclasses
import zlib
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
class _Same:
    """One value for all."""

    value: Any

    def __getitem__(self, number: int, /) -> Any:
        return self.value


@dataclasses.dataclass(frozen=True)
class _Numbers:
    """Integers or floats, or tuples of integers of one length; pickled compressed."""

    values: npt.NDArray[Any]

    def __getitem__(self, number: int, /) -> Any:
        found = self.values[number].tolist()
        return tuple(found) if isinstance(found, list) else found

    def __reduce__(self) -> Any:
        values = np.ascontiguousarray(self.values)
        return _numbers, (zlib.compress(values.tobytes(), 1), values.dtype.str, values.shape)


def _numbers(compressed: bytes, dtype: str, shape: tuple[int, ...]) -> _Numbers:
    return _Numbers(np.frombuffer(zlib.decompress(compressed), dtype).reshape(shape))


class _Texts:
    """Text as UTF-8, one after the other; pickled compressed, as paths are alike."""

    def __init__(self, data: bytes, ends: npt.NDArray[np.int64]) -> None:
        self._data = data
        self._ends = ends

    def __getitem__(self, number: int, /) -> str:
        start = self._ends.item(number - 1) if number else 0
        return self._data[start : self._ends.item(number)].decode(errors="surrogateescape")

    def __reduce__(self) -> Any:
        lengths = np.diff(self._ends, prepend=0).astype(np.int32)
        return _texts, (zlib.compress(self._data, 1), lengths)


def _texts(compressed: bytes, lengths: npt.NDArray[np.int32]) -> _Texts:
    return _Texts(zlib.decompress(compressed), np.cumsum(lengths, dtype=np.int64))


MAX_DIFFERENT = 256


def _column(values: Sequence[Hashable]) -> _Column:
    """The smallest form of some values."""
    kinds = {type(value) for value in values}
    different = tuple(dict.fromkeys(values))
    if len(different) == 1 and len(kinds) == 1:
        return _Same(different[0])
    if kinds == {str} and len(different) > MAX_DIFFERENT:
        texts = [str(value).encode(errors="surrogateescape") for value in values]
        return _Texts(b"".join(texts), np.cumsum([len(text) for text in texts], dtype=np.int64))
    if kinds in ({int}, {float}):
        return _Numbers(np.array(values))
    if kinds == {tuple} and len({len(value) for value in values}) == 1:  # type: ignore[arg-type]
        return _Numbers(np.array(values, np.int64))
    if len(different) <= MAX_DIFFERENT and len(kinds | {type(None)}) <= 2:
        codes = {value: code for code, value in enumerate(different)}
        return _Few(different, np.array([codes[value] for value in values], np.uint8))
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
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_equal, self, other))

    __hash__ = None  # type: ignore[assignment]  # as that of any parts: their sources are a mapping

    def rows(self) -> npt.NDArray[np.int64]:
        """The rows of each part."""
        return self._array(self._columns["rows"], np.dtype(np.int64))

    def compressed(self) -> npt.NDArray[np.bool_]:
        """Whether a source of each part is compressed."""
        found = np.zeros(self._count, bool)
        for columns in self._features.values():
            found |= self._array(columns["compressed"], np.dtype(bool))
        return found

    def _array(self, column: _Column, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        if isinstance(column, _Same):
            return np.full(self._count, column.value, dtype)
        if isinstance(column, _Few):
            return np.array(column.values, dtype)[column.codes]
        assert isinstance(column, _Numbers)
        return column.values.astype(dtype)


def _equal(one: object, other: object) -> bool:
    return one == other


def pack(parts: Sequence[Part]) -> Sequence[Part]:
    """Parts as columns, where all have the same features, as those of a table that was checked have."""
    if isinstance(parts, PackedParts) or not parts or len({frozenset(part.sources) for part in parts}) > 1:
        return parts
    return PackedParts(parts)
