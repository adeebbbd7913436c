"""`statistics.pb` as TFDV reads it: histograms, quantiles, texts, types, and the distances by which drift is found."""

import numpy as np
import pytest

from loaders.order import hashing
from pipelines.config.schema import parse_config
from pipelines.maintain.append import plan_sources
from pipelines.publish.schema import make_schema
from pipelines.publish.statistics import make_statistics
from pipelines.statistics.frequencies import Classes
from pipelines.statistics.recorded import TrainingStatistics
from pipelines.statistics.sample import Sample, choose
from pipelines.statistics.summary import moments, summarize
from tests.support.arrays import write_files

ROWS = 4000


def arrays(seed=0, shift=0.0, oak=0.15):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(ROWS, 3)) + shift).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = np.nan
    return {
        "x": x,
        "image": rng.integers(0, 256, (ROWS, 4, 4), dtype=np.uint8),
        "label": rng.choice(3, ROWS, p=[0.5, 0.3, 0.2]),
        "word": rng.choice([b"ash", b"oak", "größer".encode()], ROWS, p=[0.8 - oak, oak, 0.2]),
        "file": rng.choice([b"\xff\xfe" * 50, b"\xff"], ROWS),
        "same": np.full(ROWS, 7.5),
        "endless": np.where(rng.random(ROWS) < 0.25, np.inf, rng.random(ROWS)),
    }


CONFIG = {
    "features": {
        "label": {"role": "label", "class_names": ["ash", "beech", "oak"]},
        **{name: {"impute": "none", "normalize": "none"} for name in ("x", "image", "same", "endless")},
    },
    "splits": {"train": 1.0},
}


def describe(root, columns, **config):
    """What a build would describe of these rows, all of them training rows, and the plan."""
    write_files(root, {f"{name}.npy": array for name, array in columns.items()})
    plan = plan_sources(str(root), parse_config({**CONFIG, **config}))
    rows, hashes = choose(hashing.stream(1, np.arange(ROWS)), of=ROWS)
    samples = {name: Sample.of(array[rows], hashes) for name, array in columns.items()}
    numbers = {name: array for name, array in columns.items() if array.dtype.kind != "S"}
    statistics = {name: summarize(moments(array, "element")) for name, array in numbers.items()}
    counter = Classes()
    classes = {"label": counter.accumulate(counter.start(), columns["label"])}
    recorded = TrainingStatistics(statistics=statistics, classes=classes)
    (dataset,) = make_statistics(plan, recorded, samples, rows=ROWS).datasets
    return {entry.path.step[0]: entry for entry in dataset.features}, plan


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    return describe(tmp_path_factory.mktemp("a"), arrays())[0]


def test_histograms_are_those_of_the_values(described):
    values = arrays()["x"]
    known = values[~np.isnan(values)]
    numbers = described["x"].num_stats
    standard, quantiles = numbers.histograms
    assert (standard.type, quantiles.type) == (standard.STANDARD, quantiles.QUANTILES)
    assert standard.num_nan == quantiles.num_nan == np.isnan(values).sum()
    edges = np.linspace(known.min(), known.max(), len(standard.buckets) + 1)
    np.testing.assert_allclose([bucket.low_value for bucket in standard.buckets], edges[:-1], atol=1e-5)
    np.testing.assert_allclose([bucket.high_value for bucket in standard.buckets], edges[1:], atol=1e-5)
    expected = np.histogram(known, edges)[0]
    counts = np.array([bucket.sample_count for bucket in standard.buckets])
    np.testing.assert_allclose(counts.sum(), known.size)
    assert np.abs(counts - expected).max() < 0.02 * known.size
    assert sum(bucket.sample_count for bucket in quantiles.buckets) == pytest.approx(known.size)
    found = [quantiles.buckets[0].low_value, *(bucket.high_value for bucket in quantiles.buckets)]
    np.testing.assert_allclose(found[1:-1], np.quantile(known, np.linspace(0.1, 0.9, 9)), atol=0.1)
    assert [found[0], found[-1]] == [known.min(), known.max()]
    assert numbers.median == pytest.approx(np.median(known), abs=0.05)


def test_zeros_constants_and_infinities(described):
    zeros = (arrays()["image"] == 0).sum()
    assert described["image"].num_stats.num_zeros == pytest.approx(zeros, abs=4 * np.sqrt(zeros))
    (bucket,) = described["same"].num_stats.histograms[0].buckets
    assert (bucket.low_value, bucket.high_value, bucket.sample_count) == (7.5, 7.5, ROWS)
    *finite, infinite = described["endless"].num_stats.histograms[0].buckets
    assert infinite.high_value == np.inf
    assert infinite.sample_count == pytest.approx(ROWS / 4, rel=0.1)
    assert finite[-1].high_value == infinite.low_value < 1.01
    assert sum(bucket.sample_count for bucket in finite) == pytest.approx(ROWS - infinite.sample_count)


def test_text_has_its_most_frequent_values_and_bytes_their_sizes(described):
    word, file = described["word"], described["file"]
    assert word.type == word.STRING
    assert [top.value for top in word.string_stats.top_values] == ["ash", "größer", "oak"]
    assert sum(top.frequency for top in word.string_stats.top_values) == pytest.approx(ROWS)
    assert word.string_stats.avg_length == pytest.approx(3 + 0.2 * 5, abs=0.1)
    assert word.string_stats.common_stats.tot_num_values == ROWS
    assert file.type == file.BYTES
    sizes = file.bytes_stats
    assert (sizes.unique, sizes.min_num_bytes, sizes.max_num_bytes_int) == (2, 1, 100)
    assert sizes.avg_num_bytes == pytest.approx(50.5, rel=0.1)


def test_where_a_record_is_a_row_types_and_numbers_of_values_are_those_of_the_schema(described, tmp_path):
    rows, plan = describe(tmp_path / "src", arrays(), layout="interchange")
    schema = {feature.name: feature for feature in make_schema(plan.specs).feature}
    for name, entry in rows.items():
        expected = {"INT": "INT", "FLOAT": "FLOAT", "BYTES": "BYTES", "STRING": "BYTES"}[entry.Type.Name(entry.type)]
        assert expected == {1: "BYTES", 2: "INT", 3: "FLOAT"}[schema[name].type], name
        common = getattr(entry, entry.WhichOneof("stats")).common_stats
        values = int(np.prod([dim.size for dim in schema[name].shape.dim]))
        assert common.min_num_values == common.max_num_values == values
        assert common.tot_num_values == values * ROWS
    assert schema["label"].int_domain.is_categorical
    counts = np.bincount(arrays()["label"])
    assert {top.value: top.frequency for top in rows["label"].string_stats.top_values} == dict(
        zip("012", counts.tolist(), strict=True)
    )
    assert described["image"].type == described["image"].INT
    assert described["label"].num_stats.max == 2


def shares(histogram, edges):
    """The share of values between edges, with the values of each bucket evenly spread in it, as TFDV takes them."""
    low, high, size = (
        np.array([getattr(bucket, field) for bucket in histogram.buckets])
        for field in ("low_value", "high_value", "sample_count")
    )
    wide = np.where(high > low, high - low, 1)
    overlap = np.clip(np.minimum(high, edges[1:, None]) - np.maximum(low, edges[:-1, None]), 0, None) / wide
    return overlap @ (size / size.sum())


def jensen_shannon(a, b):
    """The divergence of two features' histograms of equal width, in bits."""
    one, other = a.num_stats.histograms[0], b.num_stats.histograms[0]
    buckets = [*one.buckets, *other.buckets]
    edges = np.unique([[bucket.low_value, bucket.high_value] for bucket in buckets])
    p, q = (shares(histogram, edges) for histogram in (one, other))
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return sum(np.nansum(each * np.log2(each / middle)) for each in (p, q)) / 2


def l_infinity(a, b):
    """The largest difference of a value's share."""
    ranks = (each.string_stats.rank_histogram.buckets for each in (a, b))
    p, q = ({bucket.label: bucket.sample_count / ROWS for bucket in each} for each in ranks)
    return max(abs(p.get(value, 0) - q.get(value, 0)) for value in {*p, *q})


def test_drift_is_found_and_chance_is_not_taken_for_it(described, tmp_path):
    again, _ = describe(tmp_path / "again", arrays(seed=1))
    moved, _ = describe(tmp_path / "moved", arrays(seed=1, shift=0.5, oak=0.4))
    for name in ("x", "image"):
        assert jensen_shannon(described[name], again[name]) < 0.01
    assert jensen_shannon(described["x"], moved["x"]) > 0.02
    assert l_infinity(described["word"], again["word"]) < 0.05
    assert l_infinity(described["word"], moved["word"]) == pytest.approx(0.25, abs=0.05)
