"""Parts of a data set that are named by a text: `train[:10%]`, `train[100:200]+train[-50:]`, folds. NumPy only.

A *view* is ranges of the rows of splits as they are stored. `docs/reference/loading.md` states its order in words.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from loaders.format.manifest import Manifest
from loaders.order import hashing
from loaders.order.chunks import Chunks

I64 = npt.NDArray[np.int64]
Range = tuple[int, int]

TERM = re.compile(r"(?P<split>[^\[\]]+?)\s*(?:\[(?P<start>[^:\]]*):(?P<stop>[^:\]]*)\])?")
BOUND = re.compile(r"(?P<sign>-?)(?P<number>[0-9]+)(?:(?P<percent>%)|/(?P<parts>[0-9]+))?")

# A state has the name, and is under 1 KB.
NAME_LENGTH = 200


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """Rows of a data set.

    Attributes:
        name: A text for them, which is the same for all texts that mean the same rows: the name of a split that is
            meant as a whole, or `split[start:stop]` for each range, joined by `+`; a digest of that where it is long.
            Where a filter chose the rows, their digest comes after it.
        manifest: The data set, in which `split` has the shards of all splits that are named, in the manifest's order.
        split: The name of that split.
        ranges: The rows that are meant, by their numbers from 0 over these shards as they are stored: the first and
            the one after the last of each range, ascending, with rows left out between one range and the next: int64
            of shape [ranges, 2].
    """

    name: str
    manifest: Manifest
    split: str
    ranges: I64

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return int((self.ranges[:, 1] - self.ranges[:, 0]).sum())

    def stored(self, index: I64) -> I64:
        """The numbers, over the shards as they are stored, of rows by their numbers in the view: int64, any shape."""
        starts, stops = self.ranges.T
        ends = np.cumsum(stops - starts)
        shifts = stops - ends
        return index + shifts[np.searchsorted(ends, index, side="right")] if index.size else index

    def only(self, chosen: npt.NDArray[np.bool_]) -> View:
        """Those of the rows, at least one, that are chosen: bool of shape [rows]."""
        if chosen.all():
            return self
        rows = self.stored(np.flatnonzero(chosen))
        gaps = np.flatnonzero(np.diff(rows) > 1) + 1
        ranges = np.stack([rows[np.append(0, gaps)], rows[np.append(gaps, len(rows)) - 1] + 1], axis=1)
        digest = hashlib.blake2b(ranges.astype("<i8").tobytes(), digest_size=16).hexdigest()
        return dataclasses.replace(self, name=f"{self.name} where {digest}", ranges=ranges)


def resolve(manifest: Manifest, text: str) -> View:
    """The rows that a text means.

    Args:
        manifest: The data set.
        text: The name of a split; or rows of it, `name[start:stop]`, as Python counts them, each bound a number of
            rows, a percentage (`10%` of n rows is row `n * 10 // 100`), or a fraction (`2/3` is row `n * 2 // 3`), or
            none; a minus counts from the end. Or several of these joined by `+`, of one split or of many.

    Returns:
        The view.

    Raises:
        ManifestError: If there is no such split.
        TypeError: If it is no text.
        ValueError: If the text is not written so, a bound lies outside the split, or no row or one row twice is meant.
    """
    if not isinstance(text, str):
        raise TypeError(f"split is the name of a split, or rows of it such as 'train[:10%]'; found {text!r}")
    if text in manifest.splits:
        rows = manifest.rows(text)
        return View(name=text, manifest=manifest, split=text, ranges=_as_ranges([(0, rows)] if rows else []))
    meant: dict[str, list[Range]] = {}
    for term in text.split("+"):
        found = TERM.fullmatch(term.strip())
        if found is None:
            raise ValueError(
                f"split {text!r}: expected the name of a split, or rows of it such as train[:10%], train[100:200] or "
                f"train[1/3:], joined by +; found {term!r}"
            )
        rows = manifest.rows(found["split"])
        start, stop = _bound(text, found["start"], rows, default=0), _bound(text, found["stop"], rows, default=rows)
        if start < stop:
            meant.setdefault(found["split"], []).append((start, stop))
    if not meant:
        raise ValueError(f"split {text!r}: expected rows; found none")
    return _view(manifest, text, {split: meant[split] for split in manifest.splits if split in meant})


def _bound(text: str, bound: str | None, rows: int, *, default: int) -> int:
    if bound is None or not bound.strip():
        return default
    found = BOUND.fullmatch(bound.strip())
    parts = 0 if found is None else 100 if found["percent"] else int(found["parts"] or 1)
    if found is None or not parts:
        raise ValueError(f"split {text!r}: expected a number of rows, or one such as 10% or 2/3; found {bound!r}")
    # In integers, so that a split of any size is cut at the row that the formula says.
    share = int(found["number"]) * (rows if found["percent"] or found["parts"] else 1)
    row = rows + -share // parts if found["sign"] else share // parts
    # 101% of few rows is all of them, but hardly meant.
    if not 0 <= row <= rows or share > parts * rows:
        raise ValueError(f"split {text!r}: expected a bound in the {rows} rows of the split; found {bound!r}")
    return row


def _view(manifest: Manifest, text: str, meant: Mapping[str, Iterable[Range]]) -> View:
    ranges: list[Range] = []
    names: list[str] = []
    first = 0
    for split, wanted in meant.items():
        rows = manifest.rows(split)
        merged = _merge(text, wanted)
        names += [split] if merged == [(0, rows)] else [f"{split}[{start}:{stop}]" for start, stop in merged]
        ranges += [(first + start, first + stop) for start, stop in merged]
        first += rows
    name = "+".join(names)
    if len(name) > NAME_LENGTH:
        name = f"{'+'.join(meant)}[{hashlib.blake2b(name.encode(), digest_size=16).hexdigest()}]"[-NAME_LENGTH:]
    if len(meant) == 1:
        return View(name=name, manifest=manifest, split=next(iter(meant)), ranges=_as_ranges(ranges))
    joined = "+".join(meant)
    shards = tuple(shard for split in meant for shard in manifest.shards(split))
    return View(
        name=name,
        manifest=dataclasses.replace(manifest, splits={joined: shards}),
        split=joined,
        ranges=_as_ranges(_merge(text, ranges)),
    )


def _as_ranges(ranges: Iterable[Range]) -> I64:
    return np.array(list(ranges), dtype=np.int64).reshape(-1, 2)


def _merge(text: str, ranges: Iterable[Range]) -> list[Range]:
    """Ranges in ascending order, those that touch as one."""
    result: list[Range] = []
    for start, stop in sorted(ranges):
        if result and start < result[-1][1]:
            raise ValueError(f"split {text!r}: expected every row once; found row {start} twice")
        if result and start == result[-1][1]:
            start = result.pop()[0]
        result.append((start, stop))
    return result


def fold(split: str, number: int, *, of: int) -> tuple[str, str]:
    """The splits of a cross-validation: its folds are disjoint, and together the whole split.

    Fold k of n is the rows `split[(k - 1)/n:k/n]`; their numbers differ by at most one. As rows are stored in a random
    order, a fold is a random sample.

    Args:
        split: The name of a split.
        number: Which fold is for validation, 1 to `of`.
        of: How many folds there are, at least 2.

    Returns:
        The texts for training (all other folds) and validation, which loaders take as a split.

    Raises:
        ValueError: If there is no such fold.
    """
    if of < 2 or not 1 <= number <= of:
        raise ValueError(f"a fold is a number of 1 to the number of folds, which is 2 or more; found {number} of {of}")
    before, after = f"{split}[:{number - 1}/{of}]", f"{split}[{number}/{of}:]"
    training = after if number == 1 else before if number == of else f"{before}+{after}"
    return training, f"{split}[{number - 1}/{of}:{number}/{of}]"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewChunks:
    """The chunks of a split that hold rows of a view, cut to it and numbered from 0 in their order.

    Attributes:
        chunks: The chunks of the split.
        numbers: The number in the split of the first of each run of consecutive chunks, int64 of shape [runs].
        starts: The number in the view of each of them, and last the count of all: int64 of shape [runs + 1].
        short: The numbers in the view, ascending, of the chunks of which it has fewer rows than a full one: int64 of
            shape [n].
        rows: How many rows of these it has, int64 of shape [n].
        cut: The numbers in the split, ascending, of the chunks that the view has only in part: int64 of shape [cut].
        cut_starts: Where the parts of each of them begin in `parts`, and last the count of all: int64 of shape
            [cut + 1].
        parts: The rows of the shard that it has of them, ascending: the first and the one after the last of each range,
            int64 of shape [parts, 2].
    """

    chunks: Chunks
    numbers: I64
    starts: I64
    short: I64
    rows: I64
    cut: I64
    cut_starts: I64
    parts: I64

    @property
    def size(self) -> int:
        """How many chunks there are."""
        return int(self.starts[-1])

    def runs(self, index: I64) -> tuple[I64, I64, I64]:
        """The rows of chunks that are of the view, by the chunks' numbers in it, at least one: int64 of shape [n].

        Returns:
            The shard of each run of consecutive rows, its first row, and the row after its last one: int64 of shape
            [runs] each, those of one chunk after those of the one before.
        """
        run = np.searchsorted(self.starts, index, side="right") - 1
        numbers = self.numbers[run] + index - self.starts[run]
        shard, begin, end = chunk_rows(self.chunks, numbers)
        if not len(self.cut):
            return shard, begin, end
        place = np.searchsorted(self.cut, numbers, side="right") - 1
        cut = self.cut[place] == numbers
        counts = np.where(cut, np.diff(self.cut_starts)[place], 1)
        shard, begin, end, cut, first = (
            np.repeat(values, counts) for values in (shard, begin, end, cut, self.cut_starts[place])
        )
        rank = np.arange(len(shard)) - np.repeat(np.cumsum(counts) - counts, counts)
        begin[cut], end[cut] = self.parts[(first + rank)[cut]].T
        return shard, begin, end

    @classmethod
    def of(cls, chunks: Chunks, ranges: I64 | None = None) -> ViewChunks:
        """The chunks of a view with these ranges, int64 of shape [ranges, 2]; of the whole split for None.

        In time proportional to the shards and the ranges, whatever the number of chunks.
        """
        shard_ends = np.cumsum(chunks.rows, dtype=np.int64)
        rows = int(shard_ends[-1]) if len(shard_ends) else 0
        bounds = _as_ranges([(0, rows)]) if ranges is None else ranges
        bounds = bounds[bounds[:, 0] < bounds[:, 1]]
        shard_starts, full = shard_ends - chunks.rows, chunks.records * chunks.rows_per_record

        def chunk(row: I64) -> I64:
            shard = np.searchsorted(shard_ends, row, side="right")
            return chunks.holding(shard, row - shard_starts[shard])

        low, high = chunk(bounds[:, 0]), chunk(bounds[:, 1] - 1)
        # Two ranges may share a chunk.
        begins = np.concatenate([np.ones(min(1, len(low)), np.bool_), low[1:] > high[:-1]])
        numbers, last = low[begins], high[np.concatenate([begins[1:], np.ones(min(1, len(low)), np.bool_)])]
        starts = np.concatenate([[0], np.cumsum(last - numbers + 1)]).astype(np.int64)
        cut, cut_starts, parts = _cut(chunks, bounds, np.stack([low, high], axis=1), shard_starts)
        short = hashing.distinct(np.concatenate([chunks.starts[1:][chunks.rows % full != 0] - 1, cut]))
        run = np.searchsorted(numbers, short, side="right") - 1
        inside = run >= 0
        inside[inside] = short[inside] <= last[run[inside]]
        short, run = short[inside], run[inside]
        _, begin, end = chunk_rows(chunks, short)
        held_rows = end - begin
        held_until = np.concatenate([[0], np.cumsum(parts[:, 1] - parts[:, 0])])
        held_rows[np.searchsorted(short, cut)] = np.diff(held_until[cut_starts])
        return cls(
            chunks=chunks,
            numbers=numbers,
            starts=starts,
            short=starts[run] + short - numbers[run],
            rows=held_rows,
            cut=cut,
            cut_starts=cut_starts,
            parts=parts,
        )


def _cut(chunks: Chunks, bounds: I64, edges: I64, shard_starts: I64) -> tuple[I64, I64, I64]:
    """The chunks that a view of some ranges has only in part: `cut`, `cut_starts` and `parts` of `ViewChunks`.

    The edges are the numbers of the chunks in which each range begins and ends; of those between it has all.
    """
    shard, begin, end = chunk_rows(chunks, edges)
    held = bounds[:, np.newaxis] - shard_starts[shard][..., np.newaxis]
    held = np.clip(held, begin[..., np.newaxis], end[..., np.newaxis])
    is_part = (held[..., 0] > begin) | (held[..., 1] < end)
    is_part[:, 1] &= edges[:, 0] < edges[:, 1]
    parts = edges[is_part]  # in ascending order
    cut = hashing.distinct(parts)
    return cut, np.append(np.searchsorted(parts, cut), len(parts)), held[is_part]


def chunk_rows(chunks: Chunks, index: I64) -> tuple[I64, I64, I64]:
    """The shards of chunks, their first rows in these, and the rows after their last ones: int64 of any one shape."""
    shard, record, _ = chunks.locate(index)
    begin = record * chunks.rows_per_record
    return shard, begin, np.minimum(begin + chunks.records * chunks.rows_per_record, chunks.rows[shard])
