"""`ReadNpy`: what its elements are, and that a runner can split it."""

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.io.restriction_trackers import OffsetRange
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

import pipelines
from loaders import buffers
from pipelines.beam import read
from tests.support.arrays import RamFileSystem, damaged_npz, empty_ram, npy_bytes, npz_bytes, write_files
from tests.support.collecting import collect

ROWS = 50


def arrays():
    rng = np.random.default_rng(0)
    return {
        "x-0.npy": rng.normal(size=(30, 2, 3)).astype(">f4"),
        "x-1.npy": np.asfortranarray(rng.normal(size=(20, 2, 3)).astype(">f4")),
        "name-0.npy": np.array([f"é{number}" for number in range(30)]),
        "name-1.npy": np.array([f"b{number}" for number in range(20)]),
    }


@pytest.fixture
def source(tmp_path):
    return write_files(tmp_path / "src", arrays())


def joined(batches, name):
    return np.concatenate([batch[name] for batch in batches])


def in_order(batches):
    return sorted(batches, key=lambda batch: batch["row"][0])


def expected(name):
    found = np.concatenate([array for path, array in arrays().items() if path.startswith(name)])
    return np.strings.encode(found, "utf-8") if name == "name" else found


def test_batches_hold_all_rows_of_all_features_beside_each_other(source):
    batches = in_order(collect(pipelines.ReadNpy(source, batch_bytes=400, key="row")))
    assert len(batches) > 5
    assert len({len(batch["x"]) for batch in batches[:-1]}) == 1
    assert joined(batches, "x").dtype == np.float32
    assert np.array_equal(joined(batches, "x"), expected("x"))
    assert np.array_equal(joined(batches, "name"), expected("name"))
    assert joined(batches, "row").tolist() == list(range(ROWS))


def test_a_larger_batch_has_more_rows(source):
    assert len(collect(pipelines.ReadNpy(source))) == 1


def test_memory_is_used_again_unless_a_batch_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(buffers, "REUSED_BYTES", 1)
    array = np.arange(400).reshape(100, 4)
    read_all = pipelines.ReadNpy(write_files(tmp_path, {"x.npy": array}), batch_bytes=160, key="row")
    places = collect(read_all | beam.Map(lambda batch: batch["x"].__array_interface__["data"][0]))
    assert len(places) == 25
    assert len(set(places)) <= 2  # Beam has the last batch while the next one is read
    held = in_order(collect(read_all))
    assert np.array_equal(joined(held, "x"), array)


def test_only_the_features_that_were_named_are_read(source):
    (batch,) = collect(pipelines.ReadNpy(source, ["x"]))
    assert batch.keys() == {"x"}


@pytest.mark.parametrize("as_list", [False, True])
def test_patterns_name_the_files(source, as_list):
    pattern = f"{source}/*-1.npy"
    (batch,) = collect(pipelines.ReadNpy([pattern, f"{source}/no*.npy"] if as_list else pattern))
    assert np.array_equal(batch["x"], arrays()["x-1.npy"])


def test_features_are_what_their_patterns_say(source):
    pattern = f"{source}/*-1.npy"
    (batch,) = collect(pipelines.ReadNpy(pattern, {"image": "x-*.npy", "name": {"files": "name-*.npy"}}))
    assert batch.keys() == {"image", "name"}


def test_a_configuration_says_more(source):
    (batch,) = collect(pipelines.ReadNpy(f"{source}/x-1.npy", config={"row_axes": 2}))
    assert batch["x"].shape == (40, 3)


def test_record_batches_have_the_schema(source):
    transform = pipelines.ReadNpy(source, batch_bytes=400, form="arrow", key="row")
    batches = collect(transform)
    table = pa.Table.from_batches(batches, transform.schema).sort_by("row")
    assert transform.schema.field("x").type == pa.list_(pa.list_(pa.float32(), 3), 2)
    assert np.array_equal(np.array(table["x"].to_pylist(), np.float32), expected("x"))
    assert table["name"].to_pylist()[:2] == ["é0", "é1"]


def test_rows_have_a_schema(source):
    rows = sorted(collect(pipelines.ReadNpy(source, form="rows", key="row")), key=lambda row: row.row)
    assert len(rows) == ROWS
    assert (rows[0].name, rows[0].row) == ("é0", 0)
    assert np.array_equal(np.array(rows[31].x, np.float32), expected("x")[31])


@pytest.mark.parametrize("form", ["arrays", "arrow", "rows"])
def test_rows_that_differ_in_length(tmp_path, form):
    pieces = [np.arange(length * 2, dtype=np.int16).reshape(length, 2) for length in (3, 0, 5)]
    source = write_files(tmp_path, {f"x/{number}.npy": piece for number, piece in enumerate(pieces)})
    found = collect(pipelines.ReadNpy(source, config={"features": {"x": {"ragged": True}}}, form=form))
    if form == "arrays":
        (batch,) = found
        assert isinstance(batch["x"], pipelines.Ragged)
        rows = [batch["x"][row : row + 1].values.tolist() for row in range(3)]
    else:
        rows = found[0]["x"].to_pylist() if form == "arrow" else [row.x for row in found]
    assert sorted(rows) == sorted(piece.tolist() for piece in pieces)


def test_compressed_archives_are_read_in_batches_too(tmp_path):
    x = np.arange(1000, dtype=np.int64)
    source = write_files(tmp_path, {"all.npz": npz_bytes({"x": x}, compressed=True)})
    batches = in_order(collect(pipelines.ReadNpy(source, batch_bytes=1000, key="row")))
    assert max(len(batch["x"]) for batch in batches) < 126
    assert np.array_equal(joined(batches, "x"), x)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_damaged_archive_is_an_error(tmp_path, compressed):
    source = write_files(tmp_path, {"all.npz": damaged_npz(np.arange(1000), compressed=compressed)})
    with pytest.raises(Exception, match=r"all.npz: expected member 'x.npy' to .*CRC-32"):
        collect(pipelines.ReadNpy(source, batch_bytes=1000))
    assert len(collect(pipelines.ReadNpy(source, ["w"]))) == 1, "what is not read need not be whole"


def test_an_object_store():
    empty_ram()
    RamFileSystem.contents["ram://bucket/src/x-0.npy"] = npy_bytes(np.arange(10))
    RamFileSystem.contents["ram://bucket/src/x-1.npy"] = npy_bytes(np.arange(10, 15))
    for source in ("ram://bucket/src", "ram://bucket/src/x-*.npy"):
        (batch,) = collect(pipelines.ReadNpy(source))
        assert batch["x"].tolist() == list(range(15))


@pytest.mark.parametrize("fraction", [0, 0.3, 0.9])
def test_what_is_split_off_is_read_once(source, fraction):
    """As a runner does it to a worker that is slow: after some batches the rest is given away."""
    transform = pipelines.ReadNpy(source, batch_bytes=200, key="row")
    (reading,) = _dofns(transform)
    tracker = reading.create_tracker(reading.initial_restriction(_all(reading)))
    rows, generator = [], reading.process(_all(reading), tracker=tracker)
    for _ in range(2):
        rows += next(generator)["row"].tolist()
    _, residual = tracker.try_split(fraction)
    for batch in generator:
        rows += batch["row"].tolist()
    assert 0 < residual.size() < len(reading._units)
    for batch in reading.process(_all(reading), tracker=reading.create_tracker(residual)):
        rows += batch["row"].tolist()
    tracker.check_done()
    assert sorted(rows) == list(range(ROWS))


def test_progress_and_size_are_known(source):
    (reading,) = _dofns(pipelines.ReadNpy(source, ["x"], batch_bytes=24 * 5))
    assert reading.restriction_size(_all(reading), OffsetRange(*_all(reading))) == ROWS * 24
    tracker = reading.create_tracker(OffsetRange(*_all(reading)))
    for _ in zip(range(6), reading.process(_all(reading), tracker=tracker), strict=False):
        pass
    assert tracker.current_progress().fraction_completed == pytest.approx(0.5)


def _dofns(transform):
    pipeline = beam.Pipeline(runner=FnApiRunner())
    transform.expand(pipeline)
    found = []

    class Visitor(beam.pipeline.PipelineVisitor):
        def visit_transform(self, node):
            if isinstance(node.transform, beam.ParDo) and isinstance(node.transform.fn, read._ReadUnits):
                found.append(node.transform.fn)

    pipeline.visit(Visitor())
    return found


def _all(reading):
    return 0, len(reading._units)


def test_large_sources_are_many_runs(source, monkeypatch):
    monkeypatch.setattr(read, "RUN_BYTES", 24 * 10)
    batches = collect(pipelines.ReadNpy(source, ["x"], batch_bytes=24 * 5, key="row"))
    assert sorted(joined(batches, "row").tolist()) == list(range(ROWS))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": ["y"]}, "features: expected some of name, x; found 'y'"),
        ({"features": []}, "features: expected at least one; found none"),
        ({"batch_bytes": 0}, "batch_bytes: expected at least 1; found 0"),
        ({"form": "lists"}, "form: expected one of arrays, arrow, rows; found 'lists'"),
        ({"key": "x"}, "key: expected a name that no feature has; found 'x'"),
    ],
)
def test_what_is_refused(source, arguments, message):
    with pytest.raises(pipelines.ConfigError, match=message):
        pipelines.ReadNpy(source, **arguments)


@pytest.mark.parametrize("form", ["arrow", "rows"])
def test_complex_numbers_are_arrays_only(tmp_path, form):
    source = write_files(tmp_path, {"x.npy": np.ones(3, np.complex64)})
    with pytest.raises(pipelines.ConfigError, match=r"features\.x: .* no complex numbers"):
        beam.Pipeline(runner=FnApiRunner()) | pipelines.ReadNpy(source, form=form)
    with pytest.raises(pipelines.SourceError, match="expected at least one"):
        pipelines.ReadNpy(f"{source}/*.npz")
