"""Data sets of numbered rows, and the order in which an epoch has them."""

import numpy as np

from loaders.order import chunks, hashing
from tests.support import shards


def small_chunks(monkeypatch, *, chunk_bytes, window_bytes):
    """Chunks and windows of a few rows, so that a small data set has many."""
    monkeypatch.setattr(chunks, "CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(chunks, "WINDOW_BYTES", window_bytes)


def write_numbered(root, counts, *, rows_per_record, split="train"):
    """Shards of consecutive numbers as int64 `n`, with float32 `x` of shape [2] made from them."""
    ends = np.cumsum(counts)
    parts = []
    for end, count in zip(ends, counts, strict=True):
        # Negative, because varints of negative numbers have one length.
        n = np.arange(end - count, end) - 1_000_000
        parts.append({"n": n, "x": np.stack([n, 2 * n], axis=1).astype(np.float32)})
    features = shards.specs(parts[0], {"n": "label"})
    return shards.write(root, {split: parts}, rows_per_record=rows_per_record, features=features)


def numbers(batches):
    return [int(n) + 1_000_000 for batch in batches for n in np.asarray(batch["n"])]


def oracle(manifest, split, seed, epoch):
    """The order of an epoch, row by row, as the module's docstring says it."""
    records = manifest.chunk_records or max(1, chunks.CHUNK_BYTES // manifest.record_bytes)
    per_chunk = records * manifest.rows_per_record
    pieces, first = [], 0
    for shard in manifest.splits[split]:
        rows = range(first, first + shard.rows)
        pieces += [rows[start : start + per_chunk] for start in range(0, shard.rows, per_chunk)]
        first += shard.rows
    key = hashing.derive(seed, hashing.CHUNKS, epoch)
    places = hashing.permute(key, np.arange(len(pieces)), len(pieces)) if pieces else []
    sequence = [row for place in places for row in pieces[place]]
    if manifest.chunk_records:
        row_bytes = max(1, sum(shard.bytes for shard in manifest.splits[split]) // max(1, first))
    else:
        row_bytes = sum(feature.row_bytes for feature in manifest.features)
    size = max(1, chunks.WINDOW_BYTES // row_bytes)
    result = []
    for number, start in enumerate(range(0, len(sequence), size)):
        window = sequence[start : start + size]
        result += [
            window[j] for j in hashing.shuffled(hashing.derive(seed, hashing.WINDOW_ROWS, epoch, number), len(window))
        ]
    return result
