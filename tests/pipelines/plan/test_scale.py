"""A million source files and a hundred thousand tasks: the plan is small, and what one task needs is found at once."""

import dataclasses
import itertools
import os
import pickle
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders.format import names
from loaders.format.manifest import Manifest, Shard
from loaders.format.record_layout import record_bytes
from loaders.numpy import Loader
from pipelines.config.feature import Feature
from pipelines.config.schema import DatasetConfig
from pipelines.plan.plan import make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.plan.units import MOST_RUNS
from pipelines.runners import handoff
from pipelines.runners.handoff import hand_over
from pipelines.sources.packed_parts import PackedParts
from pipelines.sources.parts import Part, SourceArray
from pipelines.sources.table import SourceTable, scan
from scripts.scale import manifest_of
from tests.support import shards
from tests.support.arrays import npy_bytes, write_files

ROWS, WIDTH = 73_000, 340


def source(path, dtype, shape, **other):
    size = 128 + int(np.prod(shape)) * np.dtype(dtype).itemsize
    return SourceArray(path=path, dtype=dtype, shape=shape, fortran=False, locator=128, size=size, **other)


def table_of(parts, *, rows=ROWS):
    """Parts of two files each, as a scan of 100 MB a part would find them."""
    names = [f"{number:07d}-of-{parts:07d}" for number in range(parts)]
    found = tuple(
        Part(
            name=name,
            rows=rows + number % 3,
            split=None,
            sources={
                "features": source(
                    f"features-{name}.npy", "<f4", (rows + number % 3, WIDTH), modified=1e9 + number / 7
                ),
                "labels": source(f"labels-{name}.npy", "<i8", (rows + number % 3,), modified=1e9 + number / 7),
            },
        )
        for number, name in enumerate(names)
    )
    features = (
        Feature(name="features", dtype=np.dtype("f4"), shape=(WIDTH,), row_axes=1),
        Feature(name="labels", dtype=np.dtype("i8"), shape=(), row_axes=1),
    )
    return SourceTable(root="/data", features=features, parts=found)


def plan_of(table, *, shard_bytes=400 * 2**20):
    config = DatasetConfig(shard_bytes=shard_bytes)
    return make_plan(table, resolve_config(config, table))


class Clock:
    """Asserts that what is done inside takes no longer than it may; several times as long as it took when written."""

    def __init__(self, most):
        self.most = most

    def __enter__(self):
        self.begun = time.process_time()

    def __exit__(self, *error):
        if error == (None, None, None):
            took = time.process_time() - self.begun
            assert took < self.most, f"expected at most {self.most} s; found {took:.2f} s"


WORKER = """
import pickle, sys, time
import numpy, pipelines.plan.plan

def memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

before, begun = memory(), time.process_time()
plan = pickle.load(open(sys.argv[1], "rb")).load()
blocks = [len(plan.blocks(plan.task(number))) for number in (0, plan.task_count // 2, plan.task_count - 1)]
spans = plan.training_units.spans(len(plan.training_units) - 1)
plan.row_hashes(1, plan.blocks(plan.task(0)))
print(memory() - before, time.process_time() - begun, min(blocks), spans[-1].stop)
"""


@pytest.mark.slow
def test_a_million_files_and_a_hundred_thousand_tasks(tmp_path):
    table = table_of(500_000)
    with Clock(10):
        plan = plan_of(table)
    assert table.nbytes > 49e12
    assert plan.task_count > 90_000
    with Clock(3):
        assert sum(1 for _ in plan.tasks()) == plan.task_count
    with Clock(40):
        reference = hand_over(plan, str(tmp_path / "plan.pickle"))
    assert (tmp_path / "plan.pickle").stat().st_size < 30e6
    assert len(pickle.dumps(reference)) < 1000
    assert len(plan.training_units.runs()) <= MOST_RUNS
    (tmp_path / "plan").write_bytes(pickle.dumps(reference))
    command = [sys.executable, "-c", WORKER, str(tmp_path / "plan")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split()
    assert float(done[0]) < 500e6
    assert float(done[1]) < 5
    assert int(done[2]) > 100
    assert int(done[3]) == ROWS + (len(table.parts) - 1) % 3


@pytest.mark.slow
def test_the_manifest_of_three_hundred_thousand_shards():
    plan = plan_of(table_of(10))
    splits = {
        split: tuple(
            Shard(
                file=f"{split}/{split}-{n:06d}-of-100000.tfrecord",
                rows=n * plan.rows_per_record,
                bytes=n * record_bytes(plan.specs, plan.rows_per_record),
                crc32c=f"{n:08x}",
            )
            for n in range(100_000)
        )
        for split in plan.splits
    }
    manifest = manifest_of(plan, splits)
    with Clock(20):
        text = manifest.dumps()
    assert len(text) < 60e6
    with Clock(10):
        assert Manifest.loads(text) == manifest


@pytest.mark.slow
def test_a_batch_of_a_hundred_thousand_shards_opens_its_own(tmp_path, monkeypatch):
    x = {"x": np.arange(32, dtype=np.float32).reshape(16, 2)}
    manifest = shards.write(tmp_path, {"train": [x]}, rows_per_record=16, features=shards.specs(x))
    (one,) = manifest.splits["train"]
    files = [dataclasses.replace(one, file=f"train/{number:05d}.tfrecord") for number in range(100_000)]
    many = dataclasses.replace(manifest, splits={"train": tuple(files)})
    for copy, start in (("a", 0), ("b", 50_000)):  # a file has at most 65,000 names
        shutil.copyfile(tmp_path / one.file, tmp_path / copy)
        for shard in files[start : start + 50_000]:
            os.link(tmp_path / copy, tmp_path / shard.file)
    (tmp_path / names.MANIFEST).write_text(many.dumps())
    opened, original = [], os.open
    monkeypatch.setattr(
        os, "open", lambda path, *rest, **fields: opened.append(path) or original(path, *rest, **fields)
    )

    with Clock(20):
        loader = Loader(tmp_path, "train", batch_size=64, prefetch=0)
        batch = next(iter(loader))

    assert batch["x"].shape == (64, 2)
    assert (batch["x"][:, 1] - batch["x"][:, 0] == 1).all()
    assert 0 < len(opened) <= 64
    assert len(loader) == 25_000


@pytest.mark.slow
def test_many_small_files_are_listed_and_planned(tmp_path):
    x, y = npy_bytes(np.ones((2, 4), np.float32)), npy_bytes(np.arange(2))
    write_files(tmp_path, {f"{name}-{n:05d}.npy": data for n in range(10_000) for name, data in (("x", x), ("y", y))})
    with Clock(20):
        plan = plan_of(scan(str(tmp_path), DatasetConfig()), shard_bytes=2000)
    assert plan.table.rows == 20_000
    assert sum(span.rows for task in plan.tasks() for span in plan.blocks(task)) == 20_000


def test_the_numbers_of_tasks_and_of_ranges_do_not_grow_without_end():
    plan = plan_of(table_of(2000, rows=50_000_000))
    assert len(plan.training_units) > 5_000_000
    ranges = plan.training_units.runs()
    assert len(ranges) <= MOST_RUNS
    assert ranges[0][0] == 0
    assert ranges[-1][1] == len(plan.training_units)
    assert all(first[1] == second[0] for first, second in itertools.pairwise(ranges))


@pytest.mark.slow
def test_a_task_costs_no_more_where_there_are_more_files():
    """Both tasks have as many blocks; to find them must not take a pass over all files."""
    seconds = []
    for parts in (300, 30_000):
        plan = plan_of(table_of(parts), shard_bytes=100 * 2**20)
        count = len(plan.blocks(plan.task(0)))
        assert 100 < count < 1000
        best = float("inf")
        for number in range(1, 20):
            begun = time.process_time()
            plan.blocks(plan.task(number))
            best = min(best, time.process_time() - begun)
        seconds.append(best / count)
    assert seconds[1] < 5 * seconds[0] + 1e-5


def test_a_task_by_its_number_is_that_of_all_tasks(tmp_path):
    arrays = {f"{split}/x-{n}.npy": np.ones((500 * (n + 1), 4)) for split in ("train", "test") for n in range(3)}
    plan = plan_of(scan(write_files(tmp_path, arrays), DatasetConfig()), shard_bytes=9000)
    tasks = list(plan.tasks())
    assert len(tasks) == plan.task_count == sum(group.tasks for group in plan.groups) > 4
    assert [plan.task(number) for number in range(len(tasks))] == tasks
    assert len({(task.group, task.index) for task in tasks}) == len(tasks)
    with pytest.raises(IndexError):
        plan.task(len(tasks))


TEXTS = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(["a\nb", "\udcff", ""])
SOURCES = st.builds(
    SourceArray,
    path=TEXTS,
    dtype=st.sampled_from(["<f4", ">i8", "<U7"]),
    shape=st.lists(st.integers(0, 2**40), max_size=3).map(tuple),
    fortran=st.booleans(),
    locator=st.integers(0, 2**40),
    size=st.integers(0, 2**60),
    modified=st.floats(0, 2e9),
    member=TEXTS,
    compressed=st.booleans(),
    record=TEXTS,
    field=TEXTS,
)
PARTS = st.builds(
    Part,
    name=TEXTS,
    rows=st.integers(0, 2**40),
    split=st.none() | TEXTS,
    directory=st.none() | TEXTS,
    sources=st.fixed_dictionaries({"x": SOURCES, "y": SOURCES}),
)


@pytest.mark.slow
@settings(max_examples=30)
@given(parts=st.lists(PARTS, min_size=1, max_size=5), repeats=st.sampled_from([1, 2, 300]))
def test_packed_parts_are_the_same_parts(parts, repeats):
    parts = tuple(parts * repeats)
    table = SourceTable(root="/data", features=(), parts=parts)
    packed = pickle.loads(pickle.dumps(table))
    assert isinstance(packed.parts, PackedParts)
    assert packed == table
    for one, other in zip(packed.parts[-10:], parts[-10:], strict=True):
        assert dict(one.sources) == dict(other.sources)
        for name, source in one.sources.items():
            assert repr(source) == repr(other.sources[name])  # also the types
    np.testing.assert_array_equal(packed.part_rows, table.part_rows)
    np.testing.assert_array_equal(packed.part_compressed, table.part_compressed)
    assert packed.parts[-1] == parts[-1]
    with pytest.raises(IndexError):
        packed.parts[len(parts)]
    if "\udcff" not in repr(parts):
        for modified in (False, True):
            assert packed.fingerprint(modified=modified) == table.fingerprint(modified=modified)


def test_another_part_makes_packed_parts_differ():
    table = table_of(5)
    packed = pickle.loads(pickle.dumps(table)).parts
    assert packed == table.parts
    assert packed != table.parts[:4]
    assert packed != (*table.parts[:4], table.parts[0])


def test_parts_of_different_features_are_packed_too():
    table = table_of(2)
    odd = Part(name="odd", rows=1, split=None, sources={"x": source("x", "<f4", (1,), modified=0.0)})
    both = SourceTable(root="/", features=(), parts=(*table.parts, odd))
    packed = pickle.loads(pickle.dumps(both)).parts
    assert isinstance(packed, PackedParts)
    assert packed == both.parts


def test_a_plan_that_was_loaded_finds_the_same_rows(tmp_path, monkeypatch):
    arrays = {f"x-{n}.npy": np.ones((100 + n, 4)) for n in range(9)}
    plan = plan_of(scan(write_files(tmp_path / "src", arrays), DatasetConfig()), shard_bytes=3000)
    pickled = pickle.dumps(hand_over(plan, str(tmp_path / "plan")))
    monkeypatch.setattr(handoff, "_loaded", {})
    loaded = pickle.loads(pickled).load()
    assert isinstance(loaded.table.parts, PackedParts)
    assert loaded == plan
    for task in plan.tasks():
        spans = plan.blocks(task)
        assert loaded.blocks(task) == spans
        np.testing.assert_array_equal(loaded.row_order(spans), plan.row_order(spans))
    for unit in range(len(plan.training_units)):
        assert loaded.training_units.spans(unit) == plan.training_units.spans(unit)
