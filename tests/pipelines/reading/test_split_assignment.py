"""Splits by rule, and the row filter: against plain NumPy and scikit-learn, and no row ever moves."""

import collections
import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupShuffleSplit, StratifiedShuffleSplit

from loaders.order import hashing
from pipelines import counters
from pipelines.config.schema import parse_config
from pipelines.errors import ConfigError, DataError
from pipelines.plan.plan import make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.plan.units import Span
from pipelines.reading import split_assignment
from pipelines.reading.split_assignment import SEGMENT_ROWS, assign, hash_values
from pipelines.sources.table import scan
from tests.support.arrays import write_files

FRACTIONS = {"train": 0.6, "validation": 0.25, "test": 0.15}
BOUNDS = np.array([0.6, 0.85])

RULES = {
    "fractions": FRACTIONS,
    "group": {"group": "patient", "fractions": FRACTIONS},
    "text": {"group": "site", "fractions": FRACTIONS},
    "stratify": {"stratify": "label", "fractions": FRACTIONS},
    "column": {"column": "fold", "names": ["train", "validation", "test"]},
    "time": {"time": "at", "until": {"train": "2020-01-01", "validation": "2020-07-01"}, "rest": "test"},
}
READ_ONLY = {name: {"store": "none"} for name in ("patient", "site", "fold", "at", "keep")}


def columns_of(rows, seed=0):
    generator = np.random.default_rng(seed)
    days = generator.integers(0, 1000, rows).astype("timedelta64[D]")
    return {
        "x": generator.normal(size=(rows, 2)).astype(np.float32),
        "label": generator.choice(4, rows, p=[0.6, 0.3, 0.09, 0.01]),
        "patient": generator.integers(0, max(rows // 4, 1), rows).astype(np.int32),
        "site": generator.choice(np.array([b"north", b"south", b"a much longer name", b""]), rows),
        "fold": generator.integers(-1, 3, rows).astype(np.int8),
        "at": np.datetime64("2018-06-01") + days,
        "keep": generator.integers(0, 2, rows).astype(bool),
    }


def plan_of(root, parts, *, shard_bytes=2000, features=READ_ONLY, **config):
    """The plan for parts, each a name and its columns, written as `.npy` files."""
    contents = {f"{name}/{key}.npy": array for name, columns in parts.items() for key, array in columns.items()}
    used = {name: said for name, said in features.items() if any(name in columns for columns in parts.values())}
    parsed = parse_config({"features": used, "shard_bytes": shard_bytes, **config})
    table = scan(write_files(root, contents), parsed)
    return make_plan(table, resolve_config(parsed, table))


def whole(plan):
    """All rows, as one span for each part."""
    return [Span(part=number, start=0, stop=part.rows) for number, part in enumerate(plan.table.parts)]


def by_key(plan):
    """The split of each row by its key."""
    names = [(plan.table.parts[span.part].name, row) for span in whole(plan) for row in range(span.rows)]
    return dict(zip(names, assign(plan, whole(plan)).tolist(), strict=True))


def cut(position):
    return np.searchsorted(BOUNDS, position, side="right")


@settings(max_examples=25, deadline=None)
@given(
    rule=st.sampled_from(sorted(RULES)),
    row_filter=st.sampled_from([None, "keep", "label != 0"]),
    rows=st.lists(st.integers(0, 60), min_size=1, max_size=4).filter(any),
    more=st.lists(st.integers(0, 60), max_size=3),
    seed=st.integers(0, 2**64 - 1),
    data=st.data(),
)
def test_files_that_come_later_move_no_row(tmp_path_factory, rule, row_filter, rows, more, seed, data):
    names = data.draw(st.permutations([f"{number:02d}" for number in range(len(rows) + len(more))]))
    parts = {name: columns_of(count, seed=int(name)) for name, count in zip(names, rows + more, strict=True)}
    first = dict(itertools.islice(parts.items(), len(rows)))
    said = {"splits": RULES[rule], "seed": seed, **({"filter": row_filter} if row_filter else {})}
    before = by_key(plan_of(tmp_path_factory.mktemp("a"), first, **said))
    after = by_key(plan_of(tmp_path_factory.mktemp("b"), parts, **said))
    assert before == {key: split for key, split in after.items() if key[0] in first}
    kept = {None: lambda part: np.ones(len(part["keep"]), bool), "keep": lambda part: part["keep"]}.get(
        row_filter, lambda part: part["label"] != 0
    )
    for name, columns in parts.items():
        drops = ~kept(columns) | ((columns["fold"] < 0) if rule == "column" else False)
        assert [after[name, row] < 0 for row in range(len(drops))] == drops.tolist()


@settings(max_examples=25, deadline=None)
@given(
    rule=st.sampled_from(sorted(RULES)),
    rows=st.lists(st.integers(0, 60), min_size=1, max_size=3).filter(any),
    data=st.data(),
)
def test_a_row_keeps_its_split_whatever_spans_are_asked_for(tmp_path_factory, rule, rows, data):
    parts = {f"{number}": columns_of(count, seed=number) for number, count in enumerate(rows)}
    plan = plan_of(tmp_path_factory.mktemp("a"), parts, splits=RULES[rule], filter="label < 3")
    pieces = []
    for span in whole(plan):
        edges = [0, *sorted(data.draw(st.lists(st.integers(0, span.rows), max_size=3))), span.rows]
        pieces += [dataclasses.replace(span, start=a, stop=b) for a, b in itertools.pairwise(edges)]
    expected = by_key(plan)
    for spans in (pieces, list(reversed(pieces))):
        keys = [(plan.table.parts[span.part].name, row) for span in spans for row in range(span.start, span.stop)]
        assert [expected[key] for key in keys] == assign(plan, spans).tolist()


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_row_is_in_the_shards_of_one_split(tmp_path, rule):
    parts = {name: columns_of(300, seed=ord(name)) for name in "abc"}
    plan = plan_of(tmp_path, parts, splits=RULES[rule], filter="keep", shard_bytes=500)
    expected = by_key(plan)
    found = collections.Counter()
    for task in plan.tasks():
        spans = plan.blocks(task)
        keys = [(plan.table.parts[span.part].name, row) for span in spans for row in range(span.start, span.stop)]
        for key, split in zip(keys, assign(plan, spans).tolist(), strict=True):
            assert split == expected[key]
            found[key] += 1
    assert plan.shard_count("train") > 3
    assert set(found) == set(expected)
    assert set(found.values()) == {1}


@pytest.mark.parametrize("rule", ["fractions", "group", "text", "stratify"])
def test_another_seed_gives_other_splits(tmp_path, rule):
    parts = {"a": columns_of(400)}
    one, again, other = (by_key(plan_of(tmp_path, parts, splits=RULES[rule], seed=seed)) for seed in (1, 1, 2))
    assert one == again != other


def test_rows_without_a_rule_read_nothing(tmp_path, monkeypatch):
    parts = {"a": columns_of(50)}
    plans = [plan_of(tmp_path / "f", parts, splits=FRACTIONS)]
    plans.append(plan_of(tmp_path / "d", {f"train/{name}": part for name, part in parts.items()}, splits="directory"))
    monkeypatch.setattr(split_assignment, "read_columns", None)
    for plan in plans:
        assert len(assign(plan, whole(plan))) == 50
        assert assign(plan, []).tolist() == []
    hashes = hashing.stream(hashing.derive(0, hashing.SPLIT, hashing.text_key("a")), np.arange(50))
    np.testing.assert_array_equal(assign(plans[0], whole(plans[0])), cut(hashing.unit(hashes)))


def test_only_the_features_of_the_rule_are_read_and_no_progress_is_shown(tmp_path, monkeypatch):
    plan = plan_of(tmp_path, {"a": columns_of(50)}, splits=RULES["group"], filter="keep")
    asked = []
    read = split_assignment.read_columns
    monkeypatch.setattr(split_assignment, "read_columns", lambda *a, **k: asked.append(k["features"]) or read(*a, **k))
    with counters.counting() as counter:
        assign(plan, whole(plan))
    assert asked == [("keep", "patient")]
    assert counter.read("analyze").rows == counter.read("write").rows == 0


def test_the_training_index_is_that_of_the_training_split(tmp_path):
    rule = {"column": "fold", "names": ["test", "train", "validation"]}
    columns = columns_of(100)
    plan = plan_of(tmp_path, {"a": columns}, splits=rule)
    assert (plan.training_split, plan.training_index) == ("train", 1)
    np.testing.assert_array_equal(assign(plan, whole(plan)) == plan.training_index, columns["fold"] == 1)
    rule = {"column": "fold", "names": ["a", "b", "c"]}
    named = plan_of(tmp_path, {"a": columns}, splits=rule, training="b")
    assert (named.training_split, named.training_index) == ("b", 1)


# Groups.


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).integers(-50, 50, 3000).astype(np.int16),
        np.random.default_rng(0).integers(0, 2**63, 60).astype(np.uint64)[np.arange(3000) % 60],
        np.random.default_rng(0).choice([0.5, -0.0, 0.0, np.nan, 1e300, -7.25], 3000),
        np.random.default_rng(0).choice(np.array([b"", b"p1", b"p11", b"a name of many characters"]), 3000),
        np.random.default_rng(0).choice(np.array(["", "p1", "Zürich", "a name of many characters"]), 3000),
        np.random.default_rng(0).integers(0, 6, (3000, 2)).astype(np.uint8),
        np.random.default_rng(0).integers(0, 90, 3000).astype("datetime64[D]"),
    ],
    ids=lambda values: str(values.dtype),
)
def test_a_group_is_never_in_two_splits(tmp_path, values):
    """The oracle: the property that GroupShuffleSplit keeps, over all parts."""
    parts = {f"{n}": {"x": np.zeros(1000, np.float32), "g": values[n * 1000 : (n + 1) * 1000]} for n in range(3)}
    plan = plan_of(tmp_path, parts, splits={"group": "g", "fractions": FRACTIONS}, features={"g": {"store": "none"}})
    found = assign(plan, whole(plan))
    _, groups = np.unique(values, return_inverse=True, axis=0)
    for group in np.unique(groups):
        assert len(set(found[groups.reshape(-1) == group].tolist())) == 1
    train, test = next(GroupShuffleSplit(1, test_size=0.4, random_state=0).split(groups, groups=groups.reshape(-1)))
    assert not set(groups.reshape(-1)[train]) & set(groups.reshape(-1)[test])


def test_groups_have_about_the_fractions(tmp_path):
    patients = np.arange(20_000, dtype=np.int32)
    plan = plan_of(
        tmp_path,
        {"a": {"x": np.zeros(20_000, np.float32), "patient": patients}},
        splits={"group": "patient", "fractions": FRACTIONS},
        features={},
    )
    shares = np.bincount(assign(plan, whole(plan)), minlength=3) / 20_000
    np.testing.assert_allclose(shares, list(FRACTIONS.values()), atol=4 * np.sqrt(0.25 / 20_000))


def test_the_hash_of_a_value_is_that_of_its_words():
    """The words of `docs/format.md`, one at a time in Python."""
    key = hashing.derive(3, 1, 1)

    def chain(start, *words):
        for word in words:
            start = int(hashing.mix64(np.array([start ^ (word % 2**64)], np.uint64) + np.uint64(hashing.GAMMA))[0])
        return start

    assert hash_values(np.array([-5], np.int8), key).tolist() == [chain(key, -5)]
    assert hash_values(np.array([[1, 2]], np.uint16), key).tolist() == [chain(key, 1, 2)]
    bits = [int(np.float64(value).view(np.uint64)) for value in (1.5, 0.25)]
    assert hash_values(np.array([1.5 + 0.25j], np.complex64), key).tolist() == [chain(key, *bits)]
    for text in (b"", b"abc", b"12345678", b"123456789", b"with\0zero"):
        words = [int.from_bytes(text[at : at + 8], "little") for at in range(0, len(text), 8)]
        assert hash_values(np.array([text]), key).tolist() == [chain(key, chain(0, *words, len(text)))]


@given(st.integers(-128, 127))
def test_equal_integers_have_equal_hashes_whatever_their_width(value):
    signed = {int(hash_values(np.array([value], f"int{bits}"), 7)[0]) for bits in (8, 16, 32, 64)}
    unsigned = {int(hash_values(np.array([abs(value)], f"uint{bits}"), 7)[0]) for bits in (8, 16, 32, 64)}
    assert len(signed) == len(unsigned) == 1
    assert (signed == unsigned) == (value >= 0)


@given(st.lists(st.binary(max_size=20).map(lambda text: text.rstrip(b"\0")), min_size=1), st.integers(0, 30))
def test_strings_have_equal_hashes_just_where_they_are_equal(texts, wider):
    narrow = np.array(texts)
    wide = narrow.astype(f"S{narrow.itemsize + wider}")
    np.testing.assert_array_equal(hash_values(narrow, 7), hash_values(wide, 7))
    assert len(np.unique(hash_values(narrow, 7))) == len(set(texts))


# Classes.


@pytest.mark.parametrize("label", [np.int64, "S3", np.float32])
def test_each_class_has_its_fractions_to_within_one_row(tmp_path, label, monkeypatch):
    """The oracle: StratifiedShuffleSplit, which also rounds each class's share of the rows."""
    monkeypatch.setattr(split_assignment, "SEGMENT_ROWS", 1000)
    classes = columns_of(2500)["label"].astype(label)
    parts = {
        "a": {"x": np.zeros(2500, np.float32), "y": classes},
        "b": {"x": np.zeros(7, np.float32), "y": classes[:7]},
    }
    plan = plan_of(tmp_path, parts, splits={"stratify": "y", "fractions": {"train": 0.7, "test": 0.3}}, features={})
    found = assign(plan, whole(plan))
    for start, stop in ((0, 1000), (1000, 2000), (2000, 2500), (2500, 2507)):
        own = np.concatenate([classes, classes[:7]])[start:stop]
        for value, count in zip(*np.unique(own, return_counts=True), strict=True):
            share = np.count_nonzero(found[start:stop][own == value] == 0)
            assert abs(share - 0.7 * count) < 1
    own, labels = found[:1000], np.unique(classes[:1000], return_inverse=True)[1]
    train, _ = next(StratifiedShuffleSplit(1, train_size=0.7, random_state=0).split(labels, labels))
    oracle = np.bincount(labels[train], minlength=labels.max() + 1)
    assert np.abs(np.bincount(labels[own == 0], minlength=labels.max() + 1) - oracle).max() <= 1


def test_stratified_rows_are_those_of_plain_python(tmp_path, monkeypatch):
    monkeypatch.setattr(split_assignment, "SEGMENT_ROWS", 200)
    columns = columns_of(450)
    plan = plan_of(tmp_path, {"p": columns}, splits=RULES["stratify"], filter="keep", seed=5)
    name = hashing.text_key("p")
    hashes = hashing.stream(hashing.derive(5, hashing.SPLIT, name), np.arange(450)).tolist()
    expected = np.full(450, -1)
    for segment in range(3):
        rows = [row for row in range(segment * 200, min(segment * 200 + 200, 450)) if columns["keep"][row]]
        for value in range(4):
            own = sorted((row for row in rows if columns["label"][row] == value), key=lambda row: hashes[row])
            key = hashing.derive(5, hashing.SPLIT, 3, name, segment)
            word = hash_values(np.array([value]), hashing.derive(5, hashing.SPLIT, 2))
            first = hashing.unit(hashing.mix64((np.uint64(key) ^ word) + np.uint64(hashing.GAMMA)))[0]
            for rank, row in enumerate(own):
                expected[row] = cut((rank + first) / len(own))
    np.testing.assert_array_equal(assign(plan, whole(plan)), expected)


def test_rare_classes_are_not_all_in_one_split(tmp_path):
    """One row of a class in each part: its split is drawn, as nothing is left to share out."""
    parts = {f"{n:03d}": {"x": np.zeros(1, np.float32), "label": np.zeros(1, np.int64)} for n in range(300)}
    found = assign(plan := plan_of(tmp_path, parts, splits=RULES["stratify"], features={}), whole(plan))
    assert abs(np.count_nonzero(found == 0) - 180) < 4 * np.sqrt(300 * 0.6 * 0.4)


def test_a_segments_answer_is_kept(tmp_path, monkeypatch):
    rows = SEGMENT_ROWS + 100
    columns = {"x": np.zeros(rows, np.int8), "label": np.arange(rows) % 5}
    plan = plan_of(tmp_path, {"a": columns}, splits=RULES["stratify"], features={})
    asked = []
    read = split_assignment.read_columns
    monkeypatch.setattr(
        split_assignment, "read_columns", lambda plan, spans, **k: asked.extend(spans) or read(plan, spans, **k)
    )
    pieces = [Span(part=0, start=start, stop=min(start + 5000, rows)) for start in range(0, rows, 5000)]
    np.testing.assert_array_equal(np.concatenate([assign(plan, [span]) for span in pieces]), assign(plan, whole(plan)))
    assert asked == [Span(part=0, start=0, stop=SEGMENT_ROWS), Span(part=0, start=SEGMENT_ROWS, stop=rows)]
    monkeypatch.setattr(split_assignment, "CACHED_SEGMENTS", 1)
    assign(plan_of(tmp_path, {"a": columns}, splits=RULES["stratify"], features={}, seed=1), whole(plan))
    assert len(asked) == 4


def test_changed_labels_are_read_again(tmp_path):
    columns = columns_of(500)
    first = by_key(plan_of(tmp_path, {"a": columns}, splits=RULES["stratify"]))
    columns["label"] = columns["label"][::-1].astype(np.int32)
    assert by_key(plan_of(tmp_path, {"a": columns}, splits=RULES["stratify"])) != first


# Columns and times.


def test_a_column_of_split_numbers(tmp_path):
    columns = columns_of(200)
    plan = plan_of(tmp_path, {"a": columns}, splits=RULES["column"])
    np.testing.assert_array_equal(assign(plan, whole(plan)), columns["fold"])
    columns["fold"] = columns["fold"].astype(np.uint64) % 2
    np.testing.assert_array_equal(
        assign(plan := plan_of(tmp_path, {"a": columns}, splits=RULES["column"]), whole(plan)), columns["fold"]
    )


def test_a_number_that_names_no_split(tmp_path):
    parts = {name: columns_of(50) for name in "ab"}
    parts["b"]["fold"][31] = 3
    plan = plan_of(tmp_path, parts, splits=RULES["column"])
    with pytest.raises(DataError) as raised:
        assign(plan, [Span(part=0, start=10, stop=50), Span(part=1, start=20, stop=50)])
    expected = f"{tmp_path}/b/fold.npy (feature fold): expected the number of a split, at most 2; found 3 in row 31"
    assert str(raised.value) == expected
    parts["b"]["keep"][31] = False
    plan = plan_of(tmp_path, parts, splits=RULES["column"], filter="keep")
    assert assign(plan, [Span(part=1, start=31, stop=32)]).tolist() == [-1]


@pytest.mark.parametrize("unit", ["D", "s", "ns"])
def test_times_are_split_by_dates(tmp_path, unit):
    columns = columns_of(300)
    columns["at"] = columns["at"].astype(f"datetime64[{unit}]")
    columns["at"][:3] = [np.datetime64(day, unit) for day in ("2019-12-31", "2020-01-01", "2020-07-01")]
    plan = plan_of(tmp_path, {"a": columns}, splits=RULES["time"])
    expected = (columns["at"] >= np.datetime64("2020-01-01")).astype(int) + (
        columns["at"] >= np.datetime64("2020-07-01")
    )
    np.testing.assert_array_equal(assign(plan, whole(plan)), expected)
    assert expected[:3].tolist() == [0, 1, 2]


@pytest.mark.parametrize("dtype", ["int16", "uint64", "float32", "float64"])
def test_times_are_split_by_numbers(tmp_path, dtype):
    at = np.random.default_rng(0).integers(0, 100, 300).astype(dtype)
    rule = {"time": "at", "until": {"train": 40.5, "test": 70}, "rest": "later"}
    plan = plan_of(tmp_path, {"a": {"x": np.zeros(300, np.int8), "at": at}}, splits=rule)
    np.testing.assert_array_equal(assign(plan, whole(plan)), np.digitize(at, [40.5, 70]))


@pytest.mark.parametrize("missing", [np.float64("nan"), np.datetime64("NaT", "s")])
def test_a_missing_time(tmp_path, missing):
    at = np.arange(40).astype(missing.dtype)
    at[17] = missing
    rule = {"time": "at", "until": {"train": 30}, "rest": "test"}
    plan = plan_of(tmp_path, {"a": {"x": np.zeros(40, np.int8), "at": at}}, splits=rule)
    with pytest.raises(DataError) as raised:
        assign(plan, [Span(part=0, start=5, stop=40)])
    expected = f"{tmp_path}/a/at.npy (feature at): expected a value that is not missing, by which rows are split; found"
    assert str(raised.value).startswith(expected)
    assert str(raised.value).endswith(f"{missing} in row 17")


# The filter.


@pytest.mark.parametrize("sign", ["==", "!=", "<", "<=", ">", ">="])
@pytest.mark.parametrize(
    ("values", "text", "operand"),
    [
        (np.arange(-3, 30).astype(np.int8), "7", 7),
        (np.arange(30).astype(np.uint64) + 2**63, f"{2**63 + 7}", 2**63 + 7),
        (np.array([0.1, 0.2, np.nan, -0.0, np.inf], np.float32), "0.1", 0.1),
        (np.array([0.1, 0.2, np.nan, -0.0, 0.0]), "0", 0),
        (np.array([b"north", b"south", b"", b"north "]), '"north"', b"north"),
        (np.array(["north", "süd", "", "north "]), "süd", "süd"),
    ],
)
def test_a_filter_compares_as_numpy_does(tmp_path, sign, values, text, operand):
    said = {"v": {"store": "none", "impute": "none", "normalize": "none"}}
    parts = {"a": {"x": np.zeros(len(values), np.int8), "v": values}}
    plan = plan_of(tmp_path, parts, filter=f"v {sign} {text}", features=said, splits={"train": 1.0})
    expected = {
        "==": values == operand, "!=": values != operand, "<": values < operand,
        "<=": values <= operand, ">": values > operand, ">=": values >= operand,
    }[sign]  # fmt: skip
    np.testing.assert_array_equal(assign(plan, whole(plan)) == 0, expected)


@pytest.mark.parametrize("values", [np.array([True, False, True]), np.array([0, -2, 3]), np.array([0.0, np.nan, 1])])
def test_a_feature_alone_keeps_what_is_true(tmp_path, values):
    plan = plan_of(
        tmp_path, {"a": {"x": np.zeros(3, np.int8), "v": values}}, filter="v", features={"v": {"store": "none"}}
    )
    np.testing.assert_array_equal(assign(plan, whole(plan)) >= 0, values.astype(bool))


def test_a_filter_goes_with_directories(tmp_path):
    parts = {name: columns_of(40, seed=len(name)) for name in ("train/a", "test/a")}
    contents = {f"{name}/{key}.npy": array for name, part in parts.items() for key, array in part.items()}
    parsed = parse_config({"filter": "keep", "features": READ_ONLY, "splits": "directory"})
    table = scan(write_files(tmp_path, contents), parsed)
    plan = make_plan(table, resolve_config(parsed, table))
    for number, part in enumerate(table.parts):
        found = assign(plan, [Span(part=number, start=0, stop=40)])
        np.testing.assert_array_equal(found, np.where(parts[part.name]["keep"], 0, -1))


def test_a_rule_or_filter_that_does_not_fit_is_told_before_anything_is_read(tmp_path):
    for config, message in (
        ({"splits": {"group": "who", "fractions": {"a": 1}}}, "splits.group: expected a feature, one of"),
        ({"filter": "who"}, "filter: expected a feature, one of"),
    ):
        with pytest.raises(ConfigError, match=message):
            plan_of(tmp_path, {"a": columns_of(5)}, **config)
