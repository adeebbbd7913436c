"""The statistics that a person is shown: a table a feature, a line a column, within 80 columns of text."""

import io

import numpy as np
from rich.console import Console

from loaders.format.names import STATISTICS
from loaders.format.spec import FeatureSpec
from pipelines.interface.tables import of_statistics
from pipelines.output.directory import read_manifest
from pipelines.results import print_blocks
from pipelines.statistics.frequencies import Distinct
from pipelines.statistics.notable import notable, strangeness
from pipelines.statistics.recorded import TrainingStatistics
from pipelines.statistics.summary import Statistics
from tests.support import shards
from tests.support.manifests import write_beside


def statistics_of(values):
    """The statistics of each column, as NumPy has them; NaN is missing."""
    present = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        numbers = (np.nanmin(values, 0), np.nanmax(values, 0), np.nanmean(values, 0), np.nanstd(values, 0))
    low, high, mean, std = map(np.asarray, numbers)
    return Statistics(count=present.sum(0), missing=(~present).sum(0), min=low, max=high, mean=mean, std=std)


def show(root, statistics, classes, specs):
    rows = {spec.name: np.zeros((4, *spec.shape), spec.dtype) for spec in specs}
    shards.write(root, {"train": [rows]}, rows_per_record=4, features=specs)
    write_beside(root, STATISTICS, TrainingStatistics(statistics=statistics, classes=classes).dump())
    out = io.StringIO()
    blocks = of_statistics(str(root), read_manifest(str(root)))
    print_blocks(Console(file=out, soft_wrap=True, width=80), blocks)
    return out.getvalue()


def test_a_table_a_feature_a_line_a_column(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(-12345.678, 1e-3, (1000, 100))
    values[:, 50], values[::2, 60] = 3, np.nan
    wide, single = statistics_of(values), statistics_of(rng.normal(size=50))
    classes = {"kind": Distinct(np.array([0, 2]), np.array([30, 10]), np.array([2]))}
    specs = (
        FeatureSpec(name="wide", dtype="float32", shape=(100,), role="input"),
        FeatureSpec(name="single", dtype="float32", shape=(), role="input"),
        FeatureSpec(name="kind", dtype="int64", shape=(), role="label", class_names=("ash", "oak", "fir")),
    )
    shown = show(tmp_path / "set", {"wide": wide, "single": single}, classes, specs)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    columns = [line.split() for line in lines[lines.index("wide:") : lines.index("single:")]]
    numbers = [int(words[0]) for words in columns if words and words[0].isdecimal()]
    assert numbers[:8] == list(range(8))
    assert numbers[-4:] == [96, 97, 98, 99]
    assert {50, 60} < set(numbers)
    assert len(numbers) == 20
    assert "… and 80 more columns" in shown
    assert ["60", "500", "500"] in [words[:3] for words in columns]
    assert lines[lines.index("single:") + 2].split() == ["values", "missing", "min", "max", "mean", "std"]
    of_kind = [line.split() for line in lines[lines.index("kind:") :]]
    assert ["0", "ash", "30", "75.0%"] in of_kind
    assert ["2", "fir", "10", "25.0%"] in of_kind


def test_many_classes_and_many_features_are_cut_short(tmp_path):
    specs = tuple(FeatureSpec(name=f"x{n}", dtype="float32", shape=(), role="input") for n in range(30))
    classes = {"x0": Distinct(np.arange(40), np.arange(40, 0, -1), np.array([40]))}
    statistics = {spec.name: statistics_of(np.array([1.0, 2.0, 4.0])) for spec in specs[1:]}
    statistics["x15"] = statistics_of(np.full(3, 7.0))  # the constant one
    shown = show(tmp_path / "set", statistics, classes, specs)
    assert "… and 20 more, each of fewer rows" in shown
    assert "10 more features" in shown
    assert "x15:" in shown


def test_the_strangest_come_first():
    strange = strangeness(
        statistics_of(np.array([[1.0, 5.0, 0.0, np.nan], [2.0, 5.0, 0.1, 1.0], [3.0, 5.0, 9.0, 2.0]]))
    )
    assert np.argsort(-strange).tolist() == [1, 3, 2, 0]
    assert notable([0.0] * 10) == list(range(10))
    assert notable([0, 0, 9, 0, 8, 0, 0], many=(1, 2, 1)) == [0, 2, 4, 6]
