"""Parts of splits: what a text means, the order of its rows, and its states."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import loaders
from loaders.format.manifest import Manifest, ManifestError, Shard
from loaders.numpy import Loader
from loaders.order import chunks, hashing, split_slices
from loaders.order.epoch import RowSequence
from loaders.order.state import StateError
from tests.support import ragged, scripts, shards
from tests.support.numbered import numbers, small_chunks, write_numbered
from tests.support.orders import make_chunks

SHARD = Shard(file="s", rows=0, bytes=0, crc32c="")
EMPTY = Manifest(
    features=(),
    splits={},
    files=(),
    rows_per_record=1,
    record_bytes=1,
    seed=0,
    source_fingerprint="",
    transform=None,
    config={},
    versions={},
)


def fake_manifest(rows):
    return dataclasses.replace(EMPTY, splits={"s": (dataclasses.replace(SHARD, rows=rows),)})


@pytest.fixture
def root(tmp_path, monkeypatch):
    """53 rows in four shards, one of them empty, in small chunks and windows."""
    small_chunks(monkeypatch, chunk_bytes=300, window_bytes=200)
    write_numbered(tmp_path / "out", [20, 0, 30, 3], rows_per_record=4)
    return tmp_path / "out"


@pytest.fixture
def manifest(root):
    return loaders.open(root).manifest


@pytest.mark.parametrize(
    ("text", "ranges", "name"),
    [
        ("train", [(0, 53)], "train"),
        ("train[:]", [(0, 53)], "train"),
        ("train[:10%]", [(0, 5)], "train[0:5]"),
        ("train[10%:]", [(5, 53)], "train[5:53]"),
        ("train[33%:66%]", [(17, 34)], "train[17:34]"),
        ("train[-10%:]", [(47, 53)], "train[47:53]"),
        ("train[:-10%]", [(0, 47)], "train[0:47]"),
        ("train[:90%]", [(0, 47)], "train[0:47]"),
        ("train[10:20]", [(10, 20)], "train[10:20]"),
        ("train[:-50]", [(0, 3)], "train[0:3]"),
        ("train[-50:53]", [(3, 53)], "train[3:53]"),
        ("train[1/3:2/3]", [(17, 35)], "train[17:35]"),
        ("train[:1/1]", [(0, 53)], "train"),
        ("train[-1/3:]", [(35, 53)], "train[35:53]"),
        ("train[ 10 : 50% ]", [(10, 26)], "train[10:26]"),
        ("train[:10%]+train[20%:]", [(0, 5), (10, 53)], "train[0:5]+train[10:53]"),
        ("train[20%:] + train[:10%]", [(0, 5), (10, 53)], "train[0:5]+train[10:53]"),
        ("train[:10]+train[10:20]", [(0, 20)], "train[0:20]"),
        ("train[50%:]+train[:50%]", [(0, 53)], "train"),
        ("train[7:7]+train[8:9]", [(8, 9)], "train[8:9]"),
    ],
)
def test_what_a_text_means(manifest, text, ranges, name):
    view = split_slices.resolve(manifest, text)

    assert view.ranges.tolist() == [list(bounds) for bounds in ranges]
    assert (view.name, view.split, view.rows) == (name, "train", sum(stop - start for start, stop in ranges))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("valid", ManifestError, "there is no split 'valid'; the splits are train"),
        ("valid[:10]", ManifestError, "there is no split 'valid'; the splits are train"),
        ("train[:54]", ValueError, r"split 'train\[:54\]': expected a bound in the 53 rows of the split; found '54'"),
        ("train[-54:]", ValueError, "expected a bound in the 53 rows of the split; found '-54'"),
        ("train[:101%]", ValueError, "expected a bound in the 53 rows of the split; found '101%'"),
        ("train[:x]", ValueError, "expected a number of rows, or one such as 10% or 2/3; found 'x'"),
        ("train[:1.5%]", ValueError, "expected a number of rows, .*; found '1.5%'"),
        ("train[:1/0]", ValueError, "expected a number of rows, .*; found '1/0'"),
        ("train[5]", ValueError, r"expected the name of a split, .*; found 'train\[5\]'"),
        ("train[1:2:3]", ValueError, "expected the name of a split"),
        ("train[:5", ValueError, "expected the name of a split"),
        ("train[:5]+", ValueError, "expected the name of a split, .* joined by \\+; found ''"),
        ("", ValueError, "expected the name of a split"),
        ("train[5:5]", ValueError, r"split 'train\[5:5\]': expected rows; found none"),
        ("train[60%:40%]", ValueError, "expected rows; found none"),
        ("train[:20]+train[19:]", ValueError, "expected every row once; found row 19 twice"),
        ("train+train", ValueError, "expected every row once; found row 0 twice"),
    ],
)
def test_what_means_nothing_is_an_error(root, text, error, message):
    with pytest.raises(error, match=message):
        Loader(root, text, batch_size=1)
    with pytest.raises(error, match=message):
        loaders.open(root)[text]


@given(percents=st.lists(st.integers(0, 100), max_size=4), rows=st.integers(1, 10**12))
def test_pieces_by_percent_are_disjoint_and_complete(percents, rows):
    manifest = fake_manifest(rows)
    bounds = [0, *sorted(percents), 100]
    pieces = [f"s[{low}%:{high}%]" for low, high in itertools.pairwise(bounds)]

    assert split_slices.resolve(manifest, "+".join(pieces)).name == "s"
    for low, high, piece in zip(bounds[:-1], bounds[1:], pieces, strict=True):
        if rows * low // 100 < rows * high // 100:
            assert split_slices.resolve(manifest, piece).ranges.tolist() == [[rows * low // 100, rows * high // 100]]


@given(folds=st.integers(2, 60), rows=st.integers(60, 500))
def test_folds_are_disjoint_and_complete(folds, rows):
    manifest = fake_manifest(rows)
    found = []
    for number in range(1, folds + 1):
        training, validation = split_slices.fold("s", number, of=folds)
        held = split_slices.resolve(manifest, validation)
        assert split_slices.resolve(manifest, f"{validation} + {training}").name == "s"
        assert held.rows in (rows // folds, -(-rows // folds))
        assert held.rows + split_slices.resolve(manifest, training).rows == rows
        found += [row for start, stop in held.ranges for row in range(start, stop)]
    assert found == list(range(rows))


def test_the_texts_of_folds():
    assert split_slices.fold("train", 3, of=5) == ("train[:2/5]+train[3/5:]", "train[2/5:3/5]")
    assert split_slices.fold("train", 1, of=5) == ("train[1/5:]", "train[0/5:1/5]")
    assert split_slices.fold("train", 5, of=5) == ("train[:4/5]", "train[4/5:5/5]")
    for number, of in ((0, 5), (6, 5), (1, 1)):
        with pytest.raises(ValueError, match=f"a fold is a number of 1 .*; found {number} of {of}"):
            split_slices.fold("train", number, of=of)


# The order.


def view_oracle(manifest, wanted, *, seed, epoch, split="train"):
    """The order of an epoch of a view, row by row, by the words of docs/format.md."""
    records = manifest.chunk_records or max(1, chunks.CHUNK_BYTES // manifest.record_bytes)
    per_chunk = records * manifest.rows_per_record
    pieces, first = [], 0
    for shard in manifest.splits[split]:
        rows = range(first, first + shard.rows)
        pieces += [rows[start : start + per_chunk] for start in range(0, shard.rows, per_chunk)]
        first += shard.rows
    pieces = [held for piece in pieces if (held := [row for row in piece if row in wanted])]
    places = hashing.permute(hashing.derive(seed, hashing.CHUNKS, epoch), np.arange(len(pieces)), len(pieces))
    sequence = [row for place in places for row in pieces[place]]
    size, result = chunks.window_rows(manifest, split), []
    for number, start in enumerate(range(0, len(sequence), size)):
        window = sequence[start : start + size]
        result += [
            window[j] for j in hashing.shuffled(hashing.derive(seed, hashing.WINDOW_ROWS, epoch, number), len(window))
        ]
    return result


def cut(rows, data):
    """Some disjoint ranges of rows as a text, and the rows."""
    bounds = sorted(data.draw(st.lists(st.integers(0, rows), min_size=2, max_size=8)))
    ranges = list(zip(bounds[::2], bounds[1::2], strict=False))
    wanted = {row for start, stop in ranges for row in range(start, stop)}
    assume(wanted)
    return "+".join(f"train[{start}:{stop}]" for start, stop in ranges), wanted


@settings(max_examples=40)
@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    rows_per_record=st.integers(1, 5),
    chunk_bytes=st.integers(1, 600),
    window_bytes=st.integers(1, 800),
    batch_size=st.integers(1, 17),
    seed=st.integers(0, 2**64 - 1),
    data=st.data(),
)
def test_epochs_of_a_view_equal_the_oracle(
    tmp_path_factory, counts, rows_per_record, chunk_bytes, window_bytes, batch_size, seed, data
):
    text, wanted = cut(sum(counts), data)
    out = tmp_path_factory.mktemp("data") / "out"
    manifest = write_numbered(out, counts, rows_per_record=rows_per_record)
    with pytest.MonkeyPatch.context() as patch:
        small_chunks(patch, chunk_bytes=chunk_bytes, window_bytes=window_bytes)
        loader = Loader(out, text, batch_size=batch_size, seed=seed, epochs=2)
        batches = list(loader)
        expected = [view_oracle(manifest, wanted, seed=seed, epoch=epoch) for epoch in range(2)]
        stored = numbers(Loader(out, text, batch_size=batch_size, shuffle=False))

    assert numbers(batches) == expected[0] + expected[1]
    assert len(batches) == len(loader)
    assert stored == sorted(wanted) == sorted(expected[0])
    assert all(np.array_equal(batch["x"][:, 1], 2 * batch["x"][:, 0]) for batch in batches)


@given(
    rows=st.lists(st.integers(0, 30), min_size=1, max_size=6),
    records=st.integers(1, 4),
    rows_per_record=st.integers(1, 4),
    key=st.none() | st.integers(0, 2**64 - 1),
    data=st.data(),
)
def test_runs_of_a_view_are_found_by_arithmetic(rows, records, rows_per_record, key, data):
    split = make_chunks(rows, records=records, rows_per_record=rows_per_record)
    _, wanted = cut(sum(rows), data)
    edges = [row for row in range(sum(rows) + 1) if (row in wanted) != (row - 1 in wanted)]
    ranges = list(zip(edges[::2], edges[1::2], strict=True))
    start = data.draw(st.integers(0, len(wanted)))
    stop = data.draw(st.integers(start, len(wanted)))
    held = split_slices.ViewChunks.of(split, np.array(ranges))
    pieces, first = [], 0
    for shard, count in enumerate(rows):
        for begin in range(0, count, records * rows_per_record):
            chunk = range(begin, min(count, begin + records * rows_per_record))
            pieces.append([(shard, row) for row in chunk if first + row in wanted])
        first += count
    pieces = [piece for piece in pieces if piece]
    places = np.arange(len(pieces)) if key is None else hashing.permute(key, np.arange(len(pieces)), len(pieces))

    runs = list(RowSequence(held, key).runs(start, stop))

    found = [(run.shard, row) for run in runs for row in range(run.start, run.stop)]
    assert found == [row for place in places for row in pieces[place]][start:stop]
    assert all(run.start < run.stop for run in runs)
    assert held.size == len(pieces)
    short = {place: len(piece) for place, piece in enumerate(pieces) if len(piece) < records * rows_per_record}
    assert dict(zip(held.short.tolist(), held.rows.tolist(), strict=True)) == short


def test_a_view_of_a_million_chunks_costs_no_more(monkeypatch):
    split = make_chunks([6 * 10**6 + 1, 5], records=1, rows_per_record=1)
    asked = []
    locate = type(split).locate
    monkeypatch.setattr(type(split), "locate", lambda self, index: asked.append(np.size(index)) or locate(self, index))

    held = split_slices.ViewChunks.of(split, np.array([(10, 2_000_000), (3_000_000, 6_000_003)]))
    (run,) = RowSequence(held, 3).runs(4_000_000, 4_000_001)

    assert run.stop - run.start == 1
    assert held.size == 1_999_990 + 3_000_003
    assert sum(asked) < 20


# It never changes without a new format version.
GOLDEN = [4, 5, 44, 43, 37, 40, 38, 45, 42, 39, 36, 41, 30, 33, 28, 7, 6, 34, 32, 25, 26, 27, 31, 29, 35]


def test_the_golden_order_of_a_view(root):
    found = numbers(Loader(root, "train[4:8]+train[25:46]", batch_size=7, seed=11))

    assert found == GOLDEN == view_oracle(loaders.open(root).manifest, {*range(4, 8), *range(25, 46)}, seed=11, epoch=0)


def test_ragged_rows_of_a_view(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "WINDOW_BYTES", 2000)
    lengths = ragged.lengths_of(53)
    ragged.write(tmp_path / "out", [lengths[:20], [], lengths[20:50], lengths[50:]])
    loader = Loader(tmp_path / "out", "train[3:22]+train[40:]", batch_size=7, seed=11)

    found = ragged.numbers_of(loader, lengths)

    wanted = {*range(3, 22), *range(40, 53)}
    assert found == view_oracle(loaders.open(tmp_path / "out").manifest, wanted, seed=11, epoch=0)
    rows = loaders.open(tmp_path / "out")["train[3:22]+train[40:]"]
    assert ragged.check_batch(rows[[0, 18, 19, -1]], lengths) == [3, 21, 40, 52]


def test_every_row_of_a_view_comes_once_from_streams_and_hosts(root):
    shares = [
        Loader(
            root,
            "train[5:30]+train[33:]",
            batch_size=8,
            streams=4,
            remainder="pad",
            shard=loaders.ShardOptions(index=index, count=2),
        )
        for index in range(2)
    ]
    found = numbers({"n": batch["n"][batch["mask"]]} for loader in shares for batch in loader)

    assert sorted(found) == [*range(5, 30), *range(33, 53)]


def test_rows_of_a_view_by_their_number(root):
    rows = loaders.open(root)["train[10:20]+train[-30:50]"]
    stored = np.r_[10:20, 23:50] - 1_000_000

    assert len(rows) == 37
    assert rows[:]["n"].tolist() == stored.tolist()
    assert rows[10]["n"] == stored[10]
    assert rows[[-1, 0, 9, 10]]["n"].tolist() == stored[[-1, 0, 9, 10]].tolist()
    assert rows[5:5]["n"].shape == (0,)
    with pytest.raises(IndexError, match=r"train\[10:20\]\+train\[-30:50\] has 37 rows; found index 37"):
        rows[37]


def test_several_splits(tmp_path):
    parts = {name: [{"x": np.arange(rows) + start}] for name, start, rows in (("b", 0, 6), ("a", 10, 4), ("c", 20, 3))}
    features = shards.specs(parts["a"][0])
    parts = {name: [{"x": rows[0]["x"] | np.int64(-(2**63))}] for name, rows in parts.items()}
    shards.write(tmp_path / "out", parts, rows_per_record=2, features=features)

    def stored(text):
        found = loaders.open(tmp_path / "out")[text][:]["x"] ^ np.int64(-(2**63))
        (batch,) = Loader(tmp_path / "out", text, batch_size=99, shuffle=False)
        assert (batch["x"] ^ np.int64(-(2**63))).tolist() == found.tolist()
        assert sorted(np.concatenate([b["x"] for b in Loader(tmp_path / "out", text, batch_size=3)])) == sorted(
            batch["x"]
        )
        return found.tolist()

    assert stored("a[1:]+b[-50%:]") == [3, 4, 5, 11, 12, 13]
    assert stored("c+b") == [0, 1, 2, 3, 4, 5, 20, 21, 22]
    manifest = loaders.open(tmp_path / "out").manifest
    assert split_slices.resolve(manifest, "c + b").name == "b+c"
    assert split_slices.resolve(manifest, "c[:2]+b").name == "b+c[0:2]"


# States.


def test_states_of_views(root):
    def make(text):
        return Loader(root, text, batch_size=4, seed=2, epochs=2)

    whole = list(make("train[:50%]"))
    loader = make("train[:50%]")
    states = [loader.state_dict(), *(loader.state_dict() for _ in loader)]
    for step, saved in enumerate(states):
        restored = make("train[0:26]")  # the same rows
        restored.load_state_dict(json.loads(json.dumps(saved)))
        assert numbers(restored) == numbers(whole[step:])
    for other in ("train", "train[:27]", "train[:10]+train[11:27]"):
        with pytest.raises(StateError, match=r"expected a state, with split .*; found split 'train\[0:26\]'"):
            make(other).load_state_dict(states[1])
    make("train").load_state_dict(make("train[:20]+train[20:]").state_dict())


def test_a_state_of_many_ranges_is_small(root):
    def make(skip):
        return Loader(root, "+".join(f"train[{row}:{row + 1}]" for row in range(0, 53, 2) if row != skip), batch_size=4)

    saved = make(None).state_dict()

    assert len(json.dumps(saved)) < 1000
    make(None).load_state_dict(saved)
    with pytest.raises(StateError, match="with split"):
        make(20).load_state_dict(saved)


def test_the_script_of_the_page(tmp_path):
    done = scripts.run(scripts.script("folds"), tmp_path / "run")

    assert done.returncode == 0, done.stderr
    assert float(done.stdout.removeprefix("accuracy ")) > 0.95


@pytest.mark.slow
def test_views_of_pytorch_and_jax(root):
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    expected = numbers(Loader(root, "train[:20]+train[-9:]", batch_size=7))

    assert numbers(loaders.torch.Loader(root, "train[:20]+train[-9:]", batch_size=7)) == expected
    assert numbers(loaders.jax.Loader(root, "train[:20]+train[-9:]", batch_size=7)) == expected
