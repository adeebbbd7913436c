"""The sample of sources: rows as they are, from everywhere, bounded, and each in its split."""

import numpy as np
import pytest

from pipelines.config.schema import parse_config
from pipelines.plan.plan import make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.reading import sample
from pipelines.reading.columns import read_columns
from pipelines.reading.split_assignment import splits_of
from pipelines.sources.table import scan
from tests.support.arrays import npz_bytes, write_files


def plan_of(root, **config):
    parsed = parse_config(config)
    table = scan(str(root), parsed)
    return make_plan(table, resolve_config(parsed, table))


def test_rows_are_those_of_the_sources_from_everywhere_each_in_its_split(tmp_path):
    rows = 50_000
    write_files(tmp_path, {"x-0.npy": np.arange(rows), "x-1.npy": rows + np.arange(rows)})
    plan = plan_of(tmp_path)
    found = sample.sample_sources(plan)
    values = found.columns["x"]
    assert len(values) == len(set(values.tolist())) == sample.ROWS
    assert not found.whole
    np.testing.assert_allclose(found.places, values / (2 * rows))
    assert np.histogram(values, 8, (0, 2 * rows))[0].min() >= sample.ROWS // 16
    for span in sample.choose_spans(plan):
        own = read_columns(plan, [span], stage="test")["x"]
        np.testing.assert_array_equal(found.splits[np.isin(values, own)], splits_of(plan, [span]))
    again = sample.sample_sources(plan)
    np.testing.assert_array_equal(again.columns["x"], values)


def test_few_rows_are_all_there_whatever_their_values(tmp_path):
    values = np.array([1, np.inf, np.nan, -np.inf, 3.0])
    write_files(tmp_path, {"x.npy": values})
    found = sample.sample_sources(plan_of(tmp_path))
    assert found.whole
    np.testing.assert_array_equal(found.columns["x"], values)


@pytest.mark.parametrize("kind", ["large rows", "many files", "compressed"])
def test_bytes_files_and_what_is_read_before_are_bounded(tmp_path, kind):
    if kind == "large rows":
        write_files(tmp_path, {"x.npy": np.zeros((40, 2**18), np.float32)})
    elif kind == "many files":
        write_files(tmp_path, {f"x-{n:04d}.npy": np.zeros(1) for n in range(600)})
    else:
        write_files(tmp_path, {"x.npz": npz_bytes({"x": np.zeros(200_000)}, compressed=True)})
    plan = plan_of(tmp_path)
    spans = sample.choose_spans(plan)
    assert sum(span.rows for span in spans) * plan.table.row_bytes <= sample.BYTES
    assert len(spans) <= sample.READS
    if kind == "compressed":
        assert max(span.stop for span in spans) <= sample.ROWS


def test_splits_by_directory(tmp_path):
    write_files(tmp_path, {"train/x.npy": np.zeros(30), "test/x.npy": np.ones(10)})
    plan = plan_of(tmp_path)
    found = sample.sample_sources(plan)
    assert [plan.splits[number] for number in found.splits] == [
        "train" if x == 0 else "test" for x in found.columns["x"]
    ]
