"""The benchmark compares equal rows: its data, its digests, its arithmetic, and a small run of it."""

import dataclasses
import json
import pathlib
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import benchmark  # noqa: E402  # found by the line above
from peers import arrays, digest, plots, process, tables  # noqa: E402
from peers import data as sources  # noqa: E402
from peers.measured import FailedError, Measured, compare  # noqa: E402
from peers.table_of_peers import BUILDERS, LOADERS, Peer  # noqa: E402

FLOOR = next(peer for peer in LOADERS if peer.name == "floor")


def whole(rows):
    """All rows at once."""
    blocks = list(rows.blocks())
    return np.concatenate([values for values, _ in blocks]), np.concatenate([labels for _, labels in blocks])


@pytest.mark.parametrize("name", sources.KINDS)
def test_blocks_are_the_rows_of_the_files(tmp_path, name):
    data = sources.make(tmp_path, name, "nothing")
    kind = data.kind
    values, labels = whole(data.raw())
    files = [[np.load(path) for path in data.paths(part)] for part in range(len(data.counts))]
    if kind.row_axes == 2:
        assert all(array.flags.f_contiguous for array, _ in files)
    np.testing.assert_array_equal(values, np.concatenate([array.reshape(-1, *kind.shape) for array, _ in files]))
    np.testing.assert_array_equal(labels, np.concatenate([array.reshape(-1) for _, array in files]))
    assert values.dtype == kind.dtype
    assert values.shape == (data.count, *kind.shape)
    assert sources.open_data(data.root.parent) == data


def test_layouts_hold_the_rows_in_one_file_or_in_one_each(tmp_path):
    size = 40 * sources.TABULAR.row_bytes
    one, many = (sources.make(tmp_path, name, size) for name in sources.LAYOUTS)
    assert one.counts == (40,)
    assert many.counts == (1,) * 40
    assert len(list(many.root.iterdir())) == 80
    values, _ = whole(many.raw())
    assert values.shape == (40, 32)


def test_results_are_drawn(tmp_path):
    results = compare([measured("npyflow", ran(4.0), startup=[1.0]), measured("other", ran(8.0), startup=[1.0])])
    plots.draw({"command": "build", "results": results}, tmp_path / "bars.svg")
    drawn = (tmp_path / "bars.svg").read_text()
    assert "the tool other" in drawn
    for record, layout in zip(results, ("tabular", "one-row-a-file"), strict=True):
        record["kind"] = layout
    plots.draw({"command": "sizes", "results": results}, tmp_path / "lines.svg")
    again = (tmp_path / "lines.svg").read_text()
    assert "one row a file" in again
    plots.draw({"command": "sizes", "results": results}, tmp_path / "lines.svg")
    assert (tmp_path / "lines.svg").read_text() == again


def test_small_data_has_the_size_that_it_is_called_by_and_missing_values(tmp_path):
    data = sources.make(tmp_path, "tabular", "tiny")
    assert data.count * data.kind.row_bytes == pytest.approx(sources.SIZES["tiny"], rel=0.01)
    values, labels = whole(data.raw())
    assert np.isnan(values).mean() == pytest.approx(0.05, abs=0.005)
    assert set(labels.tolist()) == set(range(sources.CLASSES))


@pytest.mark.parametrize("name", ["tabular", "images", "cube"])
def test_normalised_rows_are_those_of_scikit_learn(tmp_path, name):
    data = sources.make(tmp_path, name, "nothing")
    values, _ = whole(data.raw())
    flat = values.reshape(-1, data.kind.channels).astype(np.float64)
    expected = make_pipeline(SimpleImputer(), StandardScaler()).fit_transform(flat).reshape(values.shape)
    np.testing.assert_allclose(whole(data.normalised())[0], expected, atol=2e-5)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_floor_builds_every_row_once(tmp_path, workers):
    data = sources.make(tmp_path, "cube", "nothing")
    arrays.build(data, tmp_path / "out", variant=workers)
    rows = data.normalised()
    built = digest.digest(arrays.load(rows, tmp_path / "out", batch=7, variant=workers))
    assert built.same_values(digest.digest(rows.blocks()))


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.sampled_from(["uint8", "float32", "uint16"]))
def test_a_digest_does_not_depend_on_order_and_blocks(seed, rows, dtype):
    rng = np.random.default_rng(seed)
    values, labels = rng.integers(0, 200, (rows, 5)).astype(dtype), rng.integers(0, 10, rows)
    order, cut = rng.permutation(rows), rng.integers(0, rows + 1)
    shuffled = [(values[some], labels[some]) for some in (order[:cut], order[cut:]) if len(some)]
    a, b = digest.digest([(values, labels)]), digest.digest(shuffled)
    assert a.same_values(b)
    assert a.near(b)


def test_a_digest_sees_every_kind_of_wrong_row():
    rng = np.random.default_rng(0)
    values, labels = rng.normal(size=(500, 6)).astype(np.float32), rng.integers(0, 10, 500)
    values -= values.mean(axis=0)  # sums of what is normalised cancel, and yet a wrong scale is to be seen
    right = digest.digest([(values, labels)])
    changed = values.copy()
    changed[17, 3] = np.nextafter(changed[17, 3], np.float32(9))
    assert digest.digest([(changed, labels)]).near(right)
    assert not digest.digest([(changed, labels)]).same_values(right)
    for wrong in (
        (values[:-1], labels[:-1]),
        (np.roll(values, 1, axis=0), labels),
        (np.roll(values, 1, axis=1), labels),
        (values * np.float32(1.001), labels),
        (values, np.where(np.arange(500) == 3, labels + 1, labels)),
    ):
        found = digest.digest([wrong])
        assert not found.same_values(right)
        assert not found.near(right)


def test_a_tool_that_delivers_other_rows_fails(tmp_path):
    data = sources.make(tmp_path, "tabular", "nothing")
    bench = benchmark.Bench(work=tmp_path, environments=tmp_path, seconds=1, cap=())
    benchmark.store(bench, FLOOR, data, tmp_path / "out")
    benchmark.check(bench, FLOOR, data, tmp_path / "out", normalised=False)
    values = np.load(tmp_path / "out" / "values.npy", mmap_mode="r+")
    values[2, 5] = 1
    values.flush()
    with pytest.raises(FailedError, match="expected the rows"):
        benchmark.check(bench, FLOOR, data, tmp_path / "out", normalised=False)


def ran(seconds, **result):
    """What a run came to."""
    return process.Ran(seconds=seconds, peak_bytes=5, result=result, error="")


def measured(name, *runs, startup=(), rows=1000):
    """A peer's runs."""
    peer = Peer(name=name, module="arrays", says=f"the tool {name}")
    one = Measured(peer=peer, kind="tabular", batch=0, bytes=4000, rows=rows, startup=list(startup))
    for run in runs:
        one.add(run)
    return one


def test_ratios_are_of_medians_with_and_without_start_up():
    ours = measured("npyflow", ran(7.0), ran(3.0), ran(4.0), startup=[2.0])
    other = measured("other", ran(20.0), ran(22.0), ran(90.0), startup=[12.0])
    records = compare([ours, other])
    assert [record["median"] for record in records] == [4.0, 22.0]
    assert [record["ratio"] for record in records] == [1.0, 5.5]
    assert [record["rows_per_second"] for record in records] == [500.0, 100.0]
    assert [record["ratio_after_startup"] for record in records] == [1.0, 5.0]


def test_what_is_lost_in_the_start_up_has_no_rate():
    ours, other = compare([measured("npyflow", ran(4.1), startup=[4.0]), measured("other", ran(8.2), startup=[1.0])])
    assert ours["rows_per_second"] is None
    assert other["ratio_after_startup"] is None
    assert other["ratio"] == pytest.approx(2)


def test_an_epoch_that_was_cut_short_counts_as_a_whole_one():
    cut = {"startup": 3.0, "first_batch": 1.0, "first_rows": 100, "pace": 0.01, "complete": False}
    one = measured("npyflow", ran(5.0, **cut))
    assert one.seconds == [3.0 + 1.0 + 0.01 * 900]
    (record,) = compare([one])
    assert record["rows_per_second"] == pytest.approx(100)  # in the 10 s after the start-up
    assert not record["complete"]


def test_a_table_shows_ratios_failures_and_what_is_missing():
    failed = measured("broken")
    failed.error = "ValueError: a | b"
    records = compare(
        [measured("npyflow", ran(4.0), startup=[2.0]), measured("other", ran(22.0), startup=[12.0]), failed]
    )
    found = {"command": "build", "date": "", "runs": 1, "memory": None, "machine": benchmark.machine()}
    shown = tables.show(found | {"results": records, "missing": {"ray": "no wheel"}})
    assert "| the tool other | 5.5 | 5 |" in shown
    assert "| the tool broken | failed: ValueError: a \\| b |" in shown
    assert "- ray: not measured: no wheel" in shown


def test_a_failed_command_tells_its_last_line():
    failed = process.run([sys.executable, "-c", "raise SystemExit('no such thing')"], environment={})
    assert failed.error == "no such thing"
    fine = process.run([sys.executable, "-c", "print('{\"a\": 1}')"], environment={})
    assert (fine.error, fine.result) == ("", {"a": 1})


@pytest.mark.parametrize("ask", [10, 3000])
def test_a_cap_of_memory_holds(ask):
    with process.memory_cap(300 * 2**20) as cap:
        command = [sys.executable, "-c", f"len(bytearray(b'x') * ({ask} << 20))"]
        assert bool(process.run(command, environment={}, cap=cap).error) == (ask > 300)


def test_an_environment_that_is_not_there_says_why(tmp_path):
    bench = benchmark.Bench(work=tmp_path, environments=tmp_path, seconds=1, cap=())
    (tmp_path / "ray.failed").write_text("no wheel\n")
    (tmp_path / "tfds.made").touch()
    peers, missing = benchmark.chosen(bench, BUILDERS, ["floor", "ray", "tfds", "mds"])
    assert [peer.name for peer in peers] == ["npyflow", "floor", "tfds"]
    assert missing == {"mds": "not installed: scripts/benchmark_peers.sh was not run", "ray": "no wheel"}


def test_a_peer_that_is_not_known_is_refused(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["load", "--peers", "floor,nothing"])
    assert "found nothing" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("command", "peers"),
    [("build", "floor,analysis,sklearn"), ("load", "floor,npyflow-numpy")],
    ids=["build", "load"],
)
def test_a_small_benchmark_verifies_all_rows(tmp_path, capsys, command, peers):
    into = tmp_path / "results.json"
    options = ["--size", "tiny", "--kinds", "tabular", "--runs", "1", "--peers", peers]
    options += ["--batches", "1024", "--shards", "3"] if command == "load" else []
    assert benchmark.main([command, *options, "--work", str(tmp_path / "work"), "--json", str(into)]) == 0
    found = json.loads(into.read_text())
    results = {record["peer"]["name"]: record for record in found["results"] if record["kind"] == "tabular"}
    assert set(results) == {"npyflow", *peers.split(",")}
    for name, record in results.items():
        assert record["verified"] is (name != "analysis")  # which writes nothing
        assert record["complete"]
        assert record["ratio"] > 0
        assert record["peak_bytes"] > 0
    assert results["npyflow"]["ratio"] == 1
    assert benchmark.main(["table", str(into)]) == 0
    assert capsys.readouterr().out.count("the floor") == 2
    assert {path.name for path in (tmp_path / "work").iterdir()} <= {"tabular-tiny", "tabular-nothing"}


def test_records_can_be_written_as_json():
    (record,) = compare([measured("npyflow", ran(4.0), startup=[2.0])])
    assert json.loads(json.dumps(record))["peer"] == dataclasses.asdict(measured("npyflow").peer) | {
        "kinds": list(sources.KINDS)
    }
