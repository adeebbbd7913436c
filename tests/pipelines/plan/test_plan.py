"""The plan: every row exactly once, by hashes that nothing but seed and key changes."""

import collections
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config.feature import Feature
from pipelines.config.schema import DatasetConfig, parse_config
from pipelines.errors import ConfigError
from pipelines.forecast.estimate import describe
from pipelines.plan.plan import COMPRESSED_BLOCK_BYTES, Task, make_plan
from pipelines.plan.resolve import choose_rows_per_record, resolve_config, stored_row_bytes
from pipelines.plan.units import Span
from pipelines.reading.split_assignment import assign
from pipelines.sources.parts import Part, SourceArray
from pipelines.sources.table import SourceTable


def make_table(rows, *, names=None, splits=None, shape=(4,), dtype="float32"):
    """A source table without files: the plan reads none."""
    feature = Feature(name="x", dtype=np.dtype(dtype), shape=shape, row_axes=1)
    names = names or [f"{number:03d}" for number in range(len(rows))]
    parts = tuple(
        Part(
            name=name,
            rows=count,
            sources={
                "x": SourceArray(
                    path=f"x-{name}.npy",
                    dtype=np.dtype(dtype).str,
                    shape=(count, *shape),
                    fortran=False,
                    locator=128,
                    size=128 + count * int(np.prod(shape)) * np.dtype(dtype).itemsize,
                    modified=0.0,
                )
            },
            split=split,
        )
        for name, count, split in zip(names, rows, splits or [None] * len(rows), strict=True)
    )
    return SourceTable(root="nowhere", features=(feature,), parts=parts)


def plan_of(table, **config):
    parsed = parse_config(config)
    return make_plan(table, resolve_config(parsed, table))


def rows_of_shards(plan):
    """The rows of every shard as (part, index), in order, by split."""
    found = collections.defaultdict(list)
    for task in plan.tasks():
        spans = plan.blocks(task)
        keys = [(span.part, index) for span in spans for index in range(span.start, span.stop)]
        number = assign(plan, spans)
        order = plan.row_order(spans)
        for index, split in enumerate(plan.groups[task.group].splits):
            found[split].append([keys[row] for row in order if number[row] == index])
    return found


ROWS = st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any)


@pytest.mark.slow
@settings(max_examples=60)
@given(rows=ROWS, shard_bytes=st.integers(16, 3000), seed=st.integers(0, 2**64 - 1), directory=st.booleans())
def test_every_row_is_in_one_shard(rows, shard_bytes, seed, directory):
    splits = [("train", "test")[number % 2] for number in range(len(rows))] if directory else None
    table = make_table(rows, splits=splits)
    plan = plan_of(table, seed=seed, shard_bytes=shard_bytes)
    shards = rows_of_shards(plan)
    found = [key for split in shards.values() for shard in split for key in shard]
    assert sorted(found) == [(part, index) for part, count in enumerate(rows) for index in range(count)]
    if directory:
        assert all(splits[part] == split for split in shards for shard in shards[split] for part, _ in shard)
    for split in plan.splits:
        assert len(shards[split]) == plan.shard_count(split)


@given(rows=ROWS, shard_bytes=st.integers(16, 3000), seed=st.integers(0, 2**64 - 1), directory=st.booleans())
def test_a_row_is_owned_by_the_task_whose_blocks_hold_it(rows, shard_bytes, seed, directory):
    splits = ["train" if number % 2 else "test" for number in range(len(rows))] if directory else None
    table = make_table([count + 1 for count in rows], splits=splits)
    plan = plan_of(table, shard_bytes=shard_bytes, seed=seed, training="test" if directory else None)
    for number, task in enumerate(plan.tasks()):
        spans = plan.blocks(task)
        assert set(plan.owners(spans).tolist()) <= {number}
        assert len(plan.owners(spans)) == sum(span.rows for span in spans)


@given(rows=ROWS, analysis_rows=st.integers(1, 50))
def test_every_row_is_analyzed_once_in_file_order(rows, analysis_rows):
    plan = dataclasses.replace(plan_of(make_table(rows)), analysis_rows=analysis_rows)
    units = [plan.training_units.spans(unit) for unit in range(len(plan.training_units))]
    found = [(span.part, index) for spans in units for span in spans for index in range(span.start, span.stop)]
    assert found == [(part, index) for part, count in enumerate(rows) for index in range(count)]
    assert [sum(span.rows for span in spans) for spans in units[:-1]] == [analysis_rows] * (len(units) - 1)


def test_only_the_directory_of_training_is_analyzed():
    plan = plan_of(make_table([5, 6, 7], splits=["test", "train", "train"]))
    assert plan.training_split == "train"
    assert plan.training_units.rows == 13
    assert [span.part for span in plan.training_units.spans(0)] == [1, 2]
    assert (assign(plan, plan.training_units.spans(0)) == plan.training_index).all()


@pytest.mark.parametrize(
    "splits",
    [
        {"test": 0.2, "fit": 0.8},
        {f"fold{number}": 0.25 for number in range(4)},
        {"group": "x", "fractions": {"a": 0.5, "b": 0.5}},
        {"column": "x", "names": ["a", "b"]},
    ],
)
def test_statistics_come_from_no_split_that_nobody_called_training(splits):
    table = make_table([5], shape=(), dtype="int64")
    with pytest.raises(
        ConfigError, match=r"from the split called train or training; found .* training: (fit|fold0|a)$"
    ):
        plan_of(table, splits=splits)
    name = list(splits.get("fractions", splits.get("names", splits)))[1]
    plan = plan_of(table, splits=splits, training=name)
    assert (plan.training_split, plan.config.dump()["training"]) == (name, name)
    assert plan_of(table, **plan.config.dump()).config == plan.config


def test_the_training_split_is_one_of_the_splits():
    with pytest.raises(ConfigError, match="training: expected a split, one of train, test; found fit"):
        plan_of(make_table([5]), splits={"train": 0.5, "test": 0.5}, training="fit")
    assert plan_of(make_table([5]), splits={"train": 0.5, "test": 0.5}, training="test").training_split == "test"


def test_the_only_split_is_the_training_split():
    assert plan_of(make_table([5]), splits={"everything": 1}).training_split == "everything"


def test_the_analyzed_rows_are_those_of_the_training_shards():
    plan = plan_of(make_table([300, 41]), splits={"a": 0.3, "train": 0.5, "b": 0.2}, shard_bytes=400)
    spans = [span for unit in range(len(plan.training_units)) for span in plan.training_units.spans(unit)]
    mask = assign(plan, spans) == plan.training_index
    keys = [(span.part, index) for span in spans for index in range(span.start, span.stop)]
    expected = sorted(key for shard in rows_of_shards(plan)["train"] for key in shard)
    assert [key for key, train in zip(keys, mask, strict=True) if train] == expected


def test_splits_have_about_their_fractions():
    plan = plan_of(make_table([100_000]), splits={"train": 0.7, "test": 0.3})
    share = np.mean(assign(plan, [Span(part=0, start=0, stop=100_000)]) == 0)
    assert abs(share - 0.7) < 4 * np.sqrt(0.7 * 0.3 / 100_000)


def test_files_that_come_later_move_no_row_to_another_split():
    before = plan_of(make_table([50, 60], names=["b", "d"]))
    after = plan_of(make_table([9, 50, 70, 60], names=["a", "b", "c", "d"]))
    for old, new, rows in ((0, 1, 50), (1, 3, 60)):
        np.testing.assert_array_equal(
            assign(before, [Span(part=old, start=0, stop=rows)]), assign(after, [Span(part=new, start=0, stop=rows)])
        )


def test_a_row_keeps_its_split_whatever_span_it_is_in():
    plan = plan_of(make_table([500]))
    whole = assign(plan, [Span(part=0, start=0, stop=500)])
    np.testing.assert_array_equal(assign(plan, [Span(part=0, start=123, stop=400)]), whole[123:400])


def test_another_seed_gives_other_splits_and_another_order():
    table = make_table([200, 300])
    one, again, other = (rows_of_shards(plan_of(table, seed=seed, shard_bytes=800)) for seed in (1, 1, 2))
    assert one == again
    assert {key for shard in one["train"] for key in shard} != {key for shard in other["train"] for key in shard}
    assert one["train"] != other["train"]


def test_each_shard_draws_from_the_whole_data_set():
    plan = plan_of(make_table([1000] * 8), splits={"train": 1.0}, shard_bytes=16 * 1000)
    for shard in rows_of_shards(plan)["train"]:
        parts = collections.Counter(part for part, _ in shard)
        assert len(parts) == 8
        assert max(parts.values()) < 2.5 * len(shard) / 8


def test_rows_of_sorted_classes_are_mixed_evenly_within_a_shard():
    plan = plan_of(make_table([20_000]), splits={"train": 1.0})
    (order,) = rows_of_shards(plan)["train"]
    halves = np.array([index for _, index in order]) // 10_000
    batches = halves.reshape(-1, 100).sum(axis=1)
    # The number of rows of one class in batches of 100 has the variance of a draw without replacement, about 25.
    assert 18 < batches.var() < 33


def test_golden_plan():
    """A plan never changes: it decides the bytes of every shard."""
    plan = plan_of(make_table([7, 5], names=["a", "b"]), seed=3, shard_bytes=64, splits={"train": 0.75, "test": 0.25})
    assert dict(rows_of_shards(plan)) == GOLDEN


GOLDEN = {
    "train": [[(1, 3), (0, 3), (1, 4), (0, 5)], [(0, 2), (0, 0), (0, 1)], [(1, 0), (1, 1), (0, 4)]],
    "test": [[], [(0, 6)], [(1, 2)]],
}


@pytest.mark.parametrize(
    ("row_bytes", "rows"),
    [(136, 1024), (784, 128), (12_288 * 4, 2), (131_072, 1), (200_000, 1), (10**7, 1), (8, 16384)],
)
def test_a_record_is_about_128_kib(row_bytes, rows):
    assert choose_rows_per_record(row_bytes) == rows


def test_shards_are_about_as_large_as_asked():
    plan = plan_of(make_table([100_000]), shard_bytes=100_000)
    sizes = [len(shard) * 16 for shard in rows_of_shards(plan)["train"]]
    assert 80_000 < np.mean(sizes) < 100_000
    assert max(sizes) < 110_000


def test_names_of_shards():
    plan = plan_of(make_table([1000]), shard_bytes=5000)
    assert plan.shard_file("test", 2) == f"test/test-00002-of-{plan.shard_count('test'):05d}.tfrecord"
    assert Task(group=0, index=2) in list(plan.tasks())


def test_a_task_holds_a_bounded_part_of_its_sources():
    twenty = {f"part{number}": 0.05 for number in range(20)}
    plan = plan_of(make_table([40_000_000], shape=(8,)), splits=twenty, training="part0")
    assert 200 * 2**20 < describe(plan)["task_bytes"] <= 256 * 2**20
    larger = plan_of(make_table([400_000_000], shape=(8,)), splits={"train": 1.0}, shard_bytes="1GiB")
    assert 900 * 2**20 < describe(larger)["task_bytes"] <= 2**30


def test_a_record_is_not_larger_than_a_message_can_be():
    with pytest.raises(ConfigError, match="rows_per_record: a record holds at most 1073741824 bytes, and a row has 16"):
        plan_of(make_table([5]), rows_per_record=10**9)


def test_the_training_directory_may_be_capitalized():
    assert plan_of(make_table([4, 5], splits=["Test", "Train"])).training_split == "Train"


def test_directories_without_a_training_split_are_an_error():
    for names in (["holdout", "fit"], ["test", "test"]):
        with pytest.raises(
            ConfigError, match=f"from the split called train or training; found {', '.join(sorted({*names}))}"
        ):
            plan_of(make_table([4, 5], splits=names))
        assert plan_of(make_table([4, 5], splits=names), training=names[1]).training_split == names[1]


def test_no_more_tasks_than_blocks():
    assert plan_of(make_table([3]), shard_bytes=1).shard_count("train") == 3


def test_the_resolved_configuration_resolves_to_itself():
    table = make_table([100], dtype="float64")
    config = DatasetConfig.model_validate(
        {"features": {"x": {"impute": {"constant": 1}, "normalize": {"scale": "1/3"}}}}
    )
    resolved = resolve_config(config, table)
    assert resolve_config(parse_config(resolved.dump()), table) == resolved
    by_directory = make_table([100], splits=["train"])
    resolved = resolve_config(config, by_directory)
    assert resolve_config(parse_config(resolved.dump()), by_directory) == resolved


def test_a_plan_of_many_files_and_shards_takes_no_time():
    table = make_table([1000] * 20_000)
    plan = plan_of(table, shard_bytes=16 * 1000)
    assert plan.shard_count("train") > 10_000
    assert len(plan.training_units) == -(-20_000_000 // plan.analysis_rows)
    assert sum(span.rows for span in plan.blocks(Task(group=0, index=77))) == pytest.approx(1250, rel=0.1)


def with_features(table, *features):
    """The table with other features, whose values nobody reads."""
    return dataclasses.replace(table, features=tuple(sorted(features, key=lambda feature: feature.name)))


def feature(name, dtype="int64", shape=(), **fields):
    return Feature(name=name, dtype=np.dtype(dtype), shape=shape, row_axes=1, **fields)


RULES = {
    "group": {"group": "y", "fractions": {"train": 0.75, "test": 0.25}},
    "stratify": {"stratify": "y", "fractions": {"train": 0.75, "test": 0.25}},
    "column": {"column": "y", "names": ["test", "train"]},
    "time": {"time": "y", "until": {"test": 10}, "rest": "train"},
}


@pytest.mark.parametrize("rule", sorted(RULES))
def test_the_forecast_of_a_rule(rule):
    table = with_features(make_table([4000, 2000]), feature("x", "float32", (4,)), feature("y"))
    plan = plan_of(table, splits=RULES[rule], shard_bytes=6000)
    forecast = describe(plan)
    row_bytes = 16 + 8
    assert plan.training_split == "train"
    assert plan.splits[plan.training_index] == "train"
    if rule in ("group", "stratify"):
        assert plan.splits == ("train", "test")
        shards = -(-4500 * row_bytes // 6000)
        assert forecast["splits"] == {
            "train": {"rows": 4500, "bytes": pytest.approx(4500 * row_bytes, rel=0.01), "shards": shards},
            "test": {"rows": 1500, "bytes": pytest.approx(1500 * row_bytes, rel=0.01), "shards": shards},
        }
        assert forecast["note"].startswith("expected; ")
    else:
        assert plan.splits == ("test", "train")
        unknown = {"rows": None, "bytes": None, "shards": 6000 * row_bytes // 6000}
        assert forecast["splits"] == {"test": unknown, "train": unknown}
        assert forecast["note"] == "the values of y tell each row's split"


def test_the_note_of_a_forecast():
    directory = make_table([5, 6], splits=["train", "test"])
    assert describe(plan_of(directory))["note"] == ""
    assert describe(plan_of(make_table([5])))["note"] == "expected; each row's split is drawn by its hash"
    filtered = with_features(directory, feature("x", "float32", (4,)), feature("y"))
    assert describe(plan_of(filtered, filter="y > 0"))["note"] == "before rows are dropped by the filter"


def test_rules_and_filters_are_resolved_to_themselves():
    table = with_features(make_table([100]), feature("x", "float32", (4,)), feature("y"))
    for rule in RULES.values():
        resolved = resolve_config(parse_config({"splits": rule, "filter": "y != 3"}), table)
        assert resolve_config(parse_config(resolved.dump()), table) == resolved
        assert resolved.dump()["filter"] == "y != 3"


@given(rows=ROWS, compressed=st.lists(st.booleans(), min_size=6, max_size=6), limit=st.integers(16, 500))
def test_blocks_of_compressed_parts_are_larger(rows, compressed, limit):
    table = make_table(rows)
    parts = tuple(
        dataclasses.replace(part, sources={"x": dataclasses.replace(part.sources["x"], compressed=packed)})
        for part, packed in zip(table.parts, compressed, strict=False)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.plan.plan.COMPRESSED_BLOCK_BYTES", limit)
        plan = plan_of(dataclasses.replace(table, parts=parts), shard_bytes=128 * 32)
        shards = rows_of_shards(plan)
        spans = [span for task in plan.tasks() for span in plan.blocks(task)]
    assert plan.block_rows == 2
    for span in spans:
        length = max(limit // 16, 2) if compressed[span.part] else 2
        assert span.start % length == 0
        assert span.rows == min(length, rows[span.part] - span.start)
    found = sorted(key for split in shards.values() for shard in split for key in shard)
    assert found == [(part, index) for part, count in enumerate(rows) for index in range(count)]


def test_a_block_of_a_compressed_part_is_64_mib():
    table = make_table([10_000_000])
    (part,) = table.parts
    packed = dataclasses.replace(part, sources={"x": dataclasses.replace(part.sources["x"], compressed=True)})
    plan = plan_of(dataclasses.replace(table, parts=(packed,)))
    assert max(span.rows for span in plan.blocks(Task(group=0, index=0))) * 16 == COMPRESSED_BLOCK_BYTES == 2**26


def test_the_bytes_of_rows_that_vary_are_their_average():
    table = with_features(
        make_table([100]),
        feature("x", "float32", (4,)),
        feature("steps", "uint8", (None, 3), average_bytes=30.5),
        feature("name", "S40", average_bytes=12.0),
        feature("text", "U10"),
    )
    features = {"x": {"store": "none"}, "text": {"role": "id"}}
    resolved = resolve_config(parse_config({"features": features}), table)
    plan = make_plan(table, resolved)
    row_bytes = round(30.5 * 4 + 12 + 10)  # steps become float32; text is mostly one byte a character
    assert stored_row_bytes(resolved.features, table) == row_bytes
    assert resolved.rows_per_record == choose_rows_per_record(row_bytes)
    assert plan.chunk_records == 2**20 // (row_bytes * resolved.rows_per_record)
    wide = plan_of(table, features=features, rows_per_record=2**15)
    assert wide.chunk_records == 1


def test_something_is_stored():
    with pytest.raises(ConfigError, match="features: at least one feature is stored; found store: none for each"):
        plan_of(make_table([5]), features={"x": {"store": "none"}})
