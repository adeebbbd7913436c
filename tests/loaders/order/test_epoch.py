"""Streams, hosts and the ends of epochs: every row exactly once, whoever reads it."""

import collections
import hashlib

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from loaders.format.manifest import Manifest, Shard
from loaders.format.record_layout import record_bytes
from loaders.format.spec import FeatureSpec, is_variable
from loaders.options import Options
from loaders.order import hashing
from loaders.order.chunks import Chunks
from loaders.order.epoch import BatchShare, Position, RowSequence, ShardOptions, window
from loaders.order.hashing import unpermute
from loaders.order.position import make_cursor
from loaders.order.split_slices import ViewChunks, resolve
from tests.support.orders import make_chunks

REMAINDERS = ("keep", "drop", "pad")


def whole_sequence(chunks, key):
    """The rows of an epoch before windows are put in order, as (shard, row), chunk by chunk."""
    full, result = chunks.records * chunks.rows_per_record, []
    numbers = np.arange(chunks.size)
    if key is not None and chunks.size:
        numbers = hashing.permute(key, numbers, chunks.size)
    for number in numbers:
        shard = int(np.searchsorted(chunks.starts, number, side="right")) - 1
        first = int(number - chunks.starts[shard]) * full
        result += [(shard, row) for row in range(first, min(first + full, int(chunks.rows[shard])))]
    return result


@given(key=st.integers(0, 2**64 - 1), size=st.integers(1, 300))
def test_unpermute_is_the_inverse(key, size):
    index = np.arange(size)

    assert unpermute(key, hashing.permute(key, index, size), size).tolist() == index.tolist()


@given(
    rows=st.lists(st.integers(0, 30), min_size=1, max_size=6),
    records=st.integers(1, 4),
    rows_per_record=st.integers(1, 4),
    key=st.none() | st.integers(0, 2**64 - 1),
    data=st.data(),
)
def test_runs_find_rows_by_arithmetic(rows, records, rows_per_record, key, data):
    chunks = make_chunks(rows, records=records, rows_per_record=rows_per_record)
    start = data.draw(st.integers(0, sum(rows)))
    stop = data.draw(st.integers(start, sum(rows)))

    runs = list(RowSequence(ViewChunks.of(chunks), key).runs(start, stop))

    found = [(run.shard, row) for run in runs for row in range(run.start, run.stop)]
    assert found == whole_sequence(chunks, key)[start:stop]


def test_a_place_in_a_million_chunks_is_found_at_once(monkeypatch):
    chunks = make_chunks([6 * 10**6 + 1, 5], records=1, rows_per_record=1)
    asked = []
    permute = hashing.permute
    monkeypatch.setattr(
        hashing, "permute", lambda key, index, size: asked.append(len(index)) or permute(key, index, size)
    )

    (run,) = RowSequence(ViewChunks.of(chunks), 3).runs(5_000_000, 5_000_001)

    assert (run.shard, run.stop - run.start) == (0, 1)
    assert asked == [1]


def host_rows(chunks, deal, position, *, window_rows, seed):
    """The rows of a host's batch, stream by stream, by the words of the format."""
    key = hashing.derive(seed, hashing.CHUNKS, position.epoch)
    sequence = whole_sequence(chunks, key)
    size = max(1, window_rows // deal.streams)
    result = []
    for stream in deal.own:
        first, end = deal.bounds(stream)
        rows = []
        for number, start in enumerate(range(first, end, size)):
            found = window(deal, stream, number, rows=window_rows, seed=seed, epoch=position.epoch)
            assert (found.start, found.stop) == (start, min(end, start + size))
            rows += [sequence[start + place] for place in found.places]
        result += rows[position.rows : position.rows + deal.stream_batch]
    return result


@settings(max_examples=60)
@given(
    rows=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    hosts=st.integers(1, 4),
    per_host=st.integers(1, 3),
    per_stream=st.integers(1, 4),
    remainder=st.sampled_from(REMAINDERS),
    window_rows=st.integers(1, 60),
    seed=st.integers(0, 2**64 - 1),
)
def test_hosts_share_every_batch_and_every_row_comes_once(
    rows, hosts, per_host, per_stream, remainder, window_rows, seed
):
    chunks, streams = make_chunks(rows), hosts * per_host

    def deal(count, index):
        return BatchShare(
            rows=sum(rows),
            batch_size=streams * per_stream,
            streams=streams,
            shard=ShardOptions(index=index, count=count),
            remainder=remainder,
        )

    alone = deal(1, 0)
    seen = collections.Counter()
    for number in range(alone.batches()):
        position = Position(epoch=2, rows=number * per_stream)
        batch = host_rows(chunks, alone, position, window_rows=window_rows, seed=seed)
        shares = [
            host_rows(chunks, deal(hosts, index), position, window_rows=window_rows, seed=seed)
            for index in range(hosts)
        ]
        assert [row for share in shares for row in share] == batch
        if remainder == "drop":
            assert len(batch) == alone.batch_size
        seen.update(batch)
    assert not seen or max(seen.values()) == 1
    steps = {deal(hosts, index).batches() for index in range(hosts)}
    if remainder == "drop":
        assert sum(rows) - len(seen) < alone.batch_size
        assert len(steps) == 1
    else:
        assert len(seen) == sum(rows)
        assert max(steps) == alone.batches()
        assert remainder == "keep" or len(steps) == 1


@given(
    rows=st.integers(0, 200),
    streams=st.integers(1, 5),
    per_stream=st.integers(1, 7),
    remainder=st.sampled_from(REMAINDERS),
    start=st.integers(0, 40),
    steps=st.integers(0, 100),
)
def test_advance_is_one_step_many_times(rows, streams, per_stream, remainder, start, steps):
    deal = BatchShare(
        rows=rows, batch_size=streams * per_stream, streams=streams, shard=ShardOptions(), remainder=remainder
    )
    first = Position(epoch=1, rows=start)
    expected, position = [], first
    while len(expected) <= steps:
        if deal.batches(position.rows):
            expected.append(position)
            position = Position(epoch=position.epoch, rows=position.rows + per_stream)
        elif position.epoch == 4 or not deal.batches():
            break
        else:
            position = Position(epoch=position.epoch + 1)

    found = [deal.advance(first, number, end=5) for number in range(steps + 1)]

    assert [position for position in found if position] == expected
    assert None not in found[: len(expected)]


def test_one_stream_is_the_order_of_the_format():
    deal = BatchShare(rows=100, batch_size=10, streams=1, shard=ShardOptions(), remainder="keep")

    found = window(deal, 0, 3, rows=30, seed=5, epoch=2)

    assert (found.start, found.stop) == (90, 100)
    assert found.places.tolist() == hashing.shuffled(hashing.derive(5, hashing.WINDOW_ROWS, 2, 3), 10).tolist()


def test_windows_of_streams_have_orders_of_their_own():
    deal = BatchShare(rows=400, batch_size=4, streams=4, shard=ShardOptions(), remainder="keep")

    found = {
        tuple(window(deal, stream, number, rows=80, seed=5, epoch=0).places)
        for stream in range(4)
        for number in range(5)
    }

    assert len(found) == 20


# The first windows of an epoch in four streams; they never change without a new format version.
GOLDEN_WINDOWS = [
    (0, 25, [21, 24, 16, 19]),
    (25, 50, [4, 21, 23, 20]),
    (50, 75, [21, 9, 14, 3]),
    (75, 100, [19, 5, 2, 22]),
]


def test_the_golden_order_of_four_streams():
    deal = BatchShare(rows=100, batch_size=8, streams=4, shard=ShardOptions(), remainder="keep")
    found = [window(deal, stream, 0, rows=120, seed=11, epoch=1) for stream in range(4)]

    assert [(w.start, w.stop, w.places[:4].tolist()) for w in found] == GOLDEN_WINDOWS


# Orders at the real sizes of chunks and windows, on which every saved training depends.

IMAGES = FeatureSpec(name="image", dtype="uint8", shape=(64, 64, 3))
TABLE = FeatureSpec(name="x", dtype="float32", shape=(32,))
TEXT = FeatureSpec(name="text", dtype="string", shape=())

# For each: features, rows a record, rows of each shard, records of a chunk, rows of a window, and of epoch 1, in 1 and
# in 12 streams: the digest of where all rows lie, the shard and the row of the first three.
GOLDEN_ORDERS = [
    (
        (IMAGES,),
        8,
        (4000, 5, 3000),
        10,
        2730,
        [
            ("0123faeab73a45a1", [[0, 3979], [2, 800], [0, 2696]]),
            ("4a513ee19f8c1267", [[0, 2461], [2, 2950], [0, 2429]]),
        ],
    ),
    (
        (TABLE,),
        1024,
        (300_000, 100_001),
        7,
        262_144,
        [
            ("aff963bdcd4233ac", [[0, 69577], [0, 47566], [1, 92781]]),
            ("715e8798ffd67e90", [[0, 47566], [0, 299927], [1, 64530]]),
        ],
    ),
    (
        (TABLE, TEXT),
        4,
        (30_000, 30_000),
        50,
        335_544,
        [
            ("a18565ed61abd3b1", [[0, 526], [1, 22115], [0, 24290]]),
            ("f3a11b2b8a006512", [[1, 139], [1, 5030], [1, 3640]]),
        ],
    ),
]


def real_manifest(features, rows_per_record, rows):
    """A data set of which there is no file."""
    fixed = not is_variable(features)
    size = record_bytes(features, rows_per_record) if fixed else None

    def shard(number, count):
        file = f"train/train-{number:05d}.tfrecord"
        full, rest = divmod(count, rows_per_record)
        if fixed:
            end = full * size + (record_bytes(features, rows_per_record, rows=rest) if rest else 0)
            return Shard(file=file, rows=count, bytes=end, crc32c="00000000")
        offsets = tuple(range(0, 100 * count, 100 * rows_per_record * 50))
        return Shard(file=file, rows=count, bytes=100 * count, crc32c="00000000", offsets=offsets)

    return Manifest(
        features=features,
        splits={"train": tuple(shard(number, count) for number, count in enumerate(rows))},
        files=(),
        rows_per_record=rows_per_record,
        record_bytes=size,
        chunk_records=None if fixed else 50,
        seed=0,
        source_fingerprint="",
        transform=None,
        config={},
        versions={},
    )


@pytest.mark.parametrize("golden", GOLDEN_ORDERS)
def test_the_golden_orders_at_the_real_sizes(golden):
    features, rows_per_record, rows, records, window_size, orders = golden
    manifest = real_manifest(features, rows_per_record, rows)

    found = []
    for streams in (1, 12):
        options = Options(batch_size=240, seed=7, remainder="pad", streams=streams)
        cursor = make_cursor(resolve(manifest, "train"), "", options)
        sizes = cursor.identity.chunk_records, cursor.identity.window_rows
        order = rows_of_epoch(manifest, cursor.deal, window_size, seed=7, epoch=1)
        digest = hashlib.blake2b(order.astype("<i8").tobytes(), digest_size=8).hexdigest()
        found.append((digest, order[:3].tolist()))

    assert sizes == (records, window_size)
    assert found == orders


def rows_of_epoch(manifest, deal, rows, *, seed, epoch):
    """Where all rows lie, stream after stream: int64 of shape [rows, 2], the shard and the row in it."""
    chunks = Chunks.of(manifest, "train")
    sequence = RowSequence(ViewChunks.of(chunks), hashing.derive(seed, hashing.CHUNKS, epoch))
    runs = list(sequence.runs(0, deal.rows))
    places = np.concatenate(
        [np.stack(np.broadcast_arrays(run.shard, np.arange(run.start, run.stop)), 1) for run in runs]
    )
    parts = []
    for stream in range(deal.streams):
        first, end = deal.bounds(stream)
        for number in range(-(-(end - first) // max(1, rows // deal.streams))):
            found = window(deal, stream, number, rows=rows, seed=seed, epoch=epoch)
            parts.append(places[found.start : found.stop][found.places])
    return np.concatenate(parts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is at least 1; found 0"),
        ({"streams": 0}, "streams is a multiple of the 1 hosts; found 0"),
        ({"shard": ShardOptions(index=0, count=2)}, "streams is a multiple of the 2 hosts; found 3"),
        ({"batch_size": 10}, "batch_size is a multiple of the 3 streams; found 10"),
        ({"remainder": "cut"}, "remainder is one of keep, drop, pad; found 'cut'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        BatchShare(**{"rows": 9, "batch_size": 6, "streams": 3, "shard": ShardOptions(), "remainder": "keep"} | options)


@given(index=st.integers(-3, 5), count=st.integers(-1, 4))
def test_a_host_that_is_not_there_is_an_error(index, count):
    assume(not 0 <= index < count)
    with pytest.raises(ValueError, match=f"found index {index}, count {count}"):
        ShardOptions(index=index, count=count)
