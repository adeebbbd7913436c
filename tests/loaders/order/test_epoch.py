"""Streams, hosts and the ends of epochs: every row exactly once, whoever reads it."""

import collections

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from loaders.order import hashing
from loaders.order.epoch import Deal, Position, RowSequence, ShardOptions, window
from loaders.order.hashing import unpermute
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

    runs = list(RowSequence(chunks, key).runs(start, stop))

    found = [(run.shard, row) for run in runs for row in range(run.start, run.stop)]
    assert found == whole_sequence(chunks, key)[start:stop]


def test_a_place_in_a_million_chunks_is_found_at_once(monkeypatch):
    chunks = make_chunks([6 * 10**6 + 1, 5], records=1, rows_per_record=1)
    asked = []
    permute = hashing.permute
    monkeypatch.setattr(
        hashing, "permute", lambda key, index, size: asked.append(len(index)) or permute(key, index, size)
    )

    (run,) = RowSequence(chunks, 3).runs(5_000_000, 5_000_001)

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
        return Deal(
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
        assert sorted(row for share in shares for row in share) == sorted(batch)
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
    deal = Deal(rows=rows, batch_size=streams * per_stream, streams=streams, shard=ShardOptions(), remainder=remainder)
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
    deal = Deal(rows=100, batch_size=10, streams=1, shard=ShardOptions(), remainder="keep")

    found = window(deal, 0, 3, rows=30, seed=5, epoch=2)

    assert (found.start, found.stop) == (90, 100)
    assert found.places.tolist() == hashing.shuffled(hashing.derive(5, hashing.WINDOW_ROWS, 2, 3), 10).tolist()


def test_windows_of_streams_have_orders_of_their_own():
    deal = Deal(rows=400, batch_size=4, streams=4, shard=ShardOptions(), remainder="keep")

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
    deal = Deal(rows=100, batch_size=8, streams=4, shard=ShardOptions(), remainder="keep")
    found = [window(deal, stream, 0, rows=120, seed=11, epoch=1) for stream in range(4)]

    assert [(w.start, w.stop, w.places[:4].tolist()) for w in found] == GOLDEN_WINDOWS


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
        Deal(**{"rows": 9, "batch_size": 6, "streams": 3, "shard": ShardOptions(), "remainder": "keep"} | options)


@given(index=st.integers(-3, 5), count=st.integers(-1, 4))
def test_a_host_that_is_not_there_is_an_error(index, count):
    assume(not 0 <= index < count)
    with pytest.raises(ValueError, match=f"found index {index}, count {count}"):
        ShardOptions(index=index, count=count)
