"""The state of a loader: a few numbers that say which rows a training step has consumed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from loaders.format.manifest import Manifest
from loaders.order.epoch import Position, Shuffle

STATE_VERSION = 2


class StateError(ValueError):
    """A state that is not one of this loader; the message says what differs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """What the order of rows depends on, beside the position.

    Attributes:
        fingerprint: A digest of the data set; see `fingerprint`.
        split: The name of the split, or of the rows of it; see `loaders.order.split_slices.View`.
        shuffle: Whether each epoch has its own order; "global" for a permutation of all rows.
        seed: The seed of the order; 0 where there is none.
        streams: How many streams there are.
        chunk_records: How many records a chunk holds.
        window_rows: How many rows a window of one stream alone has.
    """

    fingerprint: str
    split: str
    shuffle: Shuffle
    seed: int
    streams: int
    chunk_records: int
    window_rows: int


def fingerprint(manifest: Manifest) -> str:
    """A digest of what a data set holds: the same for a copy, another for any other rows.

    The BLAKE2b digest, of 16 bytes, over the JSON of the sources' fingerprint, the seed, and each shard's file, rows,
    bytes and checksum.
    """
    shards = {
        split: [[shard.file, shard.rows, shard.bytes, shard.crc32c] for shard in shards]
        for split, shards in manifest.splits.items()
    }
    content = json.dumps([manifest.source_fingerprint, manifest.seed, shards], sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def dump(identity: Identity, position: Position) -> dict[str, Any]:
    """A state as JSON values, well under 1 KB."""
    # Each batch has one, and `dataclasses.asdict` would take longer than a batch of small rows.
    return {"version": STATE_VERSION, **vars(identity), **vars(position)}


def _plain(value: Any) -> Any:
    """A value as JSON has it, of one that a checkpoint gave back as NumPy's: a scalar, or an array of no axis."""
    return value.item() if isinstance(value, (np.generic, np.ndarray)) and value.ndim == 0 else value


def load(state: Any, identity: Identity) -> Position:
    """The position that a state tells: what `dump` gave, of the same data set and order.

    Raises:
        StateError: If it is of another data set or order, or no state at all.
    """
    found = check(state, {"version": STATE_VERSION, **vars(identity)}, numbers=("epoch", "rows"))
    return Position(epoch=found["epoch"], rows=found["rows"])


def check(state: Any, expected: Mapping[str, Any], *, numbers: Collection[str]) -> dict[str, Any]:
    """What may be a state, whose values may be NumPy's scalars, as JSON has it.

    Expected are its version and all that the order depends on, and beside them numbers of at least 0 by their names.

    Raises:
        StateError: If it is another one.
    """
    if not isinstance(state, Mapping) or _plain(state.get("version")) != expected["version"]:
        found = state.get("version") if isinstance(state, Mapping) else state
        raise StateError(f"expected the state of a loader, of version {expected['version']}; found {found!r}")
    plain = {name: _plain(value) for name, value in state.items()}
    fields = {*expected, *numbers}
    if fields != set(plain):
        raise StateError(f"expected a state with {', '.join(sorted(fields))}; found {', '.join(sorted(plain))}")
    for name, value in expected.items():
        if plain[name] != value:
            what = "the state of this data set" if name == "fingerprint" else "a state"
            raise StateError(f"expected {what}, with {name} {value!r}; found {name} {plain[name]!r}")
    for name in numbers:
        if type(plain[name]) is not int or plain[name] < 0:
            raise StateError(f"expected a state with a number as {name}; found {plain[name]!r}")
    return plain
