"""`where`: the rows that a filter keeps come as a part of the split that names them, whoever reads them."""

import itertools
import json
import pickle

import numpy as np
import pytest

import loaders
from loaders import Mixture, ShardOptions
from loaders import numpy as numpy_loader
from loaders.format.spec import FeatureSpec
from loaders.order.state import StateError
from loaders.reading import filtered_rows
from loaders.storage.store import ShardError
from tests.support import ragged, scripts, shards
from tests.support.batches import assert_same, break_record
from tests.support.numbered import numbers, small_chunks

COUNTS = [20, 0, 30, 3]
KINDS = np.arange(53) * 7919 % 5
FILTERS = {
    "kind != 3": KINDS != 3,
    "kind": KINDS != 0,
    "kind==2": KINDS == 2,
    "n >= -999975": np.arange(53) >= 25,
    "site == 'c'": KINDS == 2,
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """53 rows of five kinds, whose names are strings: records differ in size."""
    small_chunks(monkeypatch, chunk_bytes=300, window_bytes=200)
    return write(tmp_path / "out", chunk_records=2)


@pytest.fixture
def fixed(tmp_path, monkeypatch):
    """The same without the names."""
    small_chunks(monkeypatch, chunk_bytes=300, window_bytes=200)
    return write(tmp_path / "fixed")


def write(out, chunk_records=None):
    parts, ends = [], np.cumsum(COUNTS)
    for end, count in zip(ends, COUNTS, strict=True):
        n = np.arange(end - count, end)
        part = {"n": n - 1_000_000, "kind": KINDS[n].astype(np.uint8), "x": np.stack([n, 2 * n], 1).astype(np.float32)}
        parts.append(
            part | ({"site": np.array([b"abcde"[k : k + 1] for k in KINDS[n]], "S1")} if chunk_records else {})
        )
    features = shards.specs({name: values for name, values in parts[0].items() if name != "site"})
    if chunk_records:
        features += (FeatureSpec(name="site", dtype="string", shape=()),)
    shards.write(out, {"train": parts}, rows_per_record=4, features=features, chunk_records=chunk_records)
    return out


def part_of(kept):
    """The text of the part that has just these rows."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], kept, [0]]).astype(int)))
    return "+".join(f"train[{start}:{stop}]" for start, stop in edges.reshape(-1, 2))


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("text", FILTERS)
def test_rows_come_as_those_of_a_part(root, text, shuffle):
    options = {"batch_size": 4, "seed": 3, "shuffle": shuffle, "epochs": 2}
    loader = numpy_loader.Loader(root, "train", where=text, **options)
    expected = list(numpy_loader.Loader(root, part_of(FILTERS[text]), **options))

    assert len(loader) == len(expected) == 2 * -(-FILTERS[text].sum() // 4)
    assert_same(loader, expected)
    assert_same(numpy_loader.Loader(root, "train", where=text, in_memory=True, **options), expected)


@pytest.mark.parametrize("together_bytes", [1, 1 << 19])
@pytest.mark.parametrize("streams", [1, 2])
def test_so_they_do_where_records_have_one_size(fixed, monkeypatch, tmp_path, streams, together_bytes):
    monkeypatch.setattr("loaders.storage.shards.TOGETHER_BYTES", together_bytes)
    monkeypatch.setattr("loaders.storage.shards.SCATTERED_BYTES", 8)  # `x` goes to its places at once
    options = {"batch_size": 4, "seed": 3, "streams": streams, "epochs": 2}
    expected = list(numpy_loader.Loader(fixed, part_of(KINDS != 3), **options))

    assert_same(numpy_loader.Loader(fixed, "train", where="kind != 3", **options), expected)
    assert_same(numpy_loader.Loader(fixed, "train", where="kind != 3", cache_dir=tmp_path / "c", **options), expected)


def test_a_part_may_be_filtered_too_and_a_feature_that_is_not_read(root):
    kept = (KINDS != 3) & (np.arange(53) < 26)
    options = {"batch_size": 4, "features": ["n"]}
    found = list(numpy_loader.Loader(root, "train[:50%]", where="kind != 3", **options))

    assert set(found[0]) == {"n"}
    assert_same(found, numpy_loader.Loader(root, part_of(kept), **options))


@pytest.mark.parametrize("remainder", ["keep", "pad"])
def test_tensors_are_the_same(root, remainder):
    options = {"batch_size": 4, "seed": 3, "where": "kind != 3", "remainder": remainder, "epochs": 2}
    arrays = list(numpy_loader.Loader(root, "train", **options))
    loaded = loaders.load(root, "train", **options)

    assert int(loaded.cardinality()) == len(arrays) == len(loaders.Loader(root, "train", **options))
    assert_same(loaded.as_numpy_iterator(), arrays)
    assert numbers(loaders.Loader(root, "train", **options)) == numbers(arrays)


def test_hosts_share_what_one_has(root):
    options = {"batch_size": 8, "streams": 4, "remainder": "drop", "where": "kind != 3"}
    hosts = [numpy_loader.Loader(root, "train", shard=ShardOptions(index=i, count=2), **options) for i in range(2)]
    whole = list(numpy_loader.Loader(root, "train", **options))

    assert [len(host) for host in hosts] == [len(whole)] * 2
    for batch, *shares in zip(whole, *hosts, strict=True):
        assert batch["n"].tolist() == np.concatenate([share["n"] for share in shares]).tolist()


@pytest.mark.parametrize("kind", [numpy_loader.Loader, loaders.Loader])
def test_a_state_at_every_step(root, kind):
    def make(where="kind != 3"):
        return kind(root, "train", batch_size=9, where=where, epochs=2)

    rows, whole, loader = int((KINDS != 3).sum()), numbers(make()), make()
    steps = -(-rows // 9)
    states = [loader.state_dict(), *(loader.state_dict() for _ in loader)]
    for step, state in enumerate(states[:-1]):
        resumed = make("kind!= 3")
        resumed.load_state_dict(json.loads(json.dumps(state)))
        assert numbers(resumed) == whole[step // steps * rows + step % steps * 9 :]
    for other in ("kind != 2", None):
        with pytest.raises(
            StateError, match=r"expected a state, with split .*; found split 'train where [0-9a-f]{32}'"
        ):
            make(other).load_state_dict(states[1])
    make("n < 0").load_state_dict(make(None).state_dict())  # all rows pass


def test_values_are_read_once(root, monkeypatch):
    found = []
    kept = filtered_rows._matching
    monkeypatch.setattr(filtered_rows, "_matching", lambda *given: found.append(given) or kept(*given))
    loader = numpy_loader.Loader(root, "train", batch_size=9, where="kind != 4")
    again = pickle.loads(pickle.dumps(loader))
    loaders.Loader(root, "train", batch_size=9, where="kind !=4", seed=1)

    assert numbers(again) == numbers(loader)
    assert len(found) == 1


def test_a_mixture_of_kinds(root):
    common = {"batch_size": 2, "epochs": None, "remainder": "drop"}
    mixture = Mixture([numpy_loader.Loader(root, "train", where=f"kind == {k}", **common) for k in range(5)])

    for batch in itertools.islice(mixture, 8):
        assert batch["kind"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize("kind", [numpy_loader.Loader, loaders.Loader, loaders.load])
@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (3, TypeError, "where is a row filter such as 'label != 3', or None; found 3"),
        (
            "kind = 3",
            ValueError,
            "where is a feature, or a feature, one of == != <= >= < >, and a value; found 'kind = 3'",
        ),
        ("label", ValueError, "where: expected a feature, one of kind, n, site, x; found 'label'"),
        ("x > 1", ValueError, r"where: expected a feature of one value a row, and x has rows of shape \[2\]; found 'x"),
        ("kind > a", ValueError, "where: expected a number to compare uint8 with; found 'kind > a'"),
        ("site", ValueError, "where: expected a comparison, such as site == \"word\"; found 'site'"),
        ("kind > 9", ValueError, "where: expected a filter that keeps rows of train; found 'kind > 9', which has none"),
    ],
)
def test_what_is_no_filter_is_named(root, kind, text, error, message):
    with pytest.raises(error, match=message):
        kind(root, "train", batch_size=4, where=text)


def test_a_damaged_record_is_an_error_or_stays_and_is_left_out(fixed):
    break_record(fixed, loaders.open(fixed).manifest, 0, 1, at=40)
    with pytest.raises(ShardError, match="record 1: expected"):
        numpy_loader.Loader(fixed, "train", batch_size=4, where="kind != 3")
    options = {"batch_size": 4, "remainder": "pad", "on_corrupt": "skip", "where": "kind != 3"}
    loader = numpy_loader.Loader(fixed, "train", **options)
    found = sorted(numbers({"n": batch["n"][batch["mask"]]} for batch in loader))

    assert found == [n for n in np.flatnonzero(KINDS != 3) if n not in range(4, 8)]
    assert [record.record for record in loader.skipped] == [1]


def test_ragged_rows(tmp_path):
    lengths = ragged.lengths_of(53)
    ragged.write(tmp_path / "out", [lengths[:20], [], lengths[20:50], lengths[50:]])
    found = ragged.numbers_of(
        numpy_loader.Loader(tmp_path / "out", "train", batch_size=7, where="n >= -999990"), lengths
    )

    assert sorted(found) == list(range(10, 53))


@pytest.mark.slow
def test_tensors_of_pytorch_and_jax(root):
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    options = {"batch_size": 4, "where": "kind != 3"}
    expected = numbers(numpy_loader.Loader(root, "train", **options))

    assert numbers(loaders.torch.Loader(root, "train", **options)) == expected
    assert numbers(loaders.jax.Loader(root, "train", **options)) == expected


def test_the_script_of_the_page(tmp_path, monkeypatch, capsys):
    scripts.write_dataset(tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(scripts.script("filtered"), {})
    assert capsys.readouterr().out.startswith("batches ")
