"""Validation: what each threshold and each reference finds, and what chance does not."""

import json
import shutil

import numpy as np
import pytest

from pipelines.cli import main
from pipelines.config.schema import parse_config
from pipelines.errors import ConfigError, SourceError
from pipelines.maintain.profile import profile_units
from pipelines.maintain.reuse import open_existing
from pipelines.maintain.validate import Thresholds, Validation, measure, plan_validation
from pipelines.statistics.drift import CHANCE
from pipelines.storage.npz_bytes import dump_arrays, load_arrays
from tests.support.arrays import write_files
from tests.support.builds import build
from tests.support.manifests import write_beside

ROWS = 2000


def arrays(split, *, rows=ROWS, seed=0):
    generator = np.random.default_rng(seed)
    return {
        f"{split}/x-0.npy": generator.normal(size=(rows, 3)),
        f"{split}/labels-0.npy": generator.integers(0, 4, rows),
    }


def run(root, thresholds=None, *, existing=None, **config):
    """Validates without Beam."""
    planned = plan_validation(str(root), parse_config(config), existing)
    bounds = {name: (own.min, own.max) for name, own in planned.statistics.items()}
    profile = profile_units((0, len(planned.plan.units)), planned.plan, bounds, None)
    measures = tuple(measure(planned, profile, thresholds or Thresholds()))
    return Validation(rows=profile.rows, schema=planned.schema, skipped=planned.plan.table.skipped, measures=measures)


def exceeded(found):
    return {(each.split, each.feature, each.kind) for each in found.measures if each.exceeded}


def shift(values, by):
    values["test/x-0.npy"] += by


def widen(values, by):
    values["test/x-0.npy"][:, 1] *= by


def lose(values, share):
    values["test/x-0.npy"][: int(share * ROWS), 2] = np.nan


def relabel(values, share):
    values["test/labels-0.npy"][: int(share * ROWS)] = 0


def invent(values, number):
    values["test/labels-0.npy"][:3] = number


@pytest.mark.parametrize(
    ("change", "amount", "feature", "kind", "above"),
    [
        (shift, 0.5, "x", "drift", 0.6),
        (widen, 2, "x", "spread", 2.5),
        (lose, 0.2, "x", "missing", 0.3),
        (relabel, 0.5, "labels", "class_drift", 0.6),
        (invent, 9, "labels", "new_classes", 1),
    ],
)
def test_each_threshold_between_splits(change, amount, feature, kind, above, tmp_path):
    values = arrays("train") | arrays("test", seed=1)
    assert not exceeded(run(write_files(tmp_path / "same", values)))
    change(values, amount)
    source = write_files(tmp_path / "src", values)
    assert exceeded(run(source)) == {("test", feature, kind)}
    assert not exceeded(run(source, Thresholds(**{kind: above})))


def test_the_measures_are_those_of_the_rows(tmp_path):
    values = arrays("train") | arrays("test", seed=1)
    shift(values, 0.5)
    relabel(values, 0.5)
    found = {(m.feature, m.kind): m.value for m in run(write_files(tmp_path, values)).measures}
    train, test = (values[f"{split}/x-0.npy"] for split in ("train", "test"))
    assert found["x", "drift"] == pytest.approx(
        np.max(np.abs(test.mean(axis=0) - train.mean(axis=0)) / train.std(axis=0))
    )
    shares = [np.bincount(values[f"{split}/labels-0.npy"], minlength=4) / ROWS for split in ("train", "test")]
    assert found["labels", "class_drift"] == pytest.approx(np.max(np.abs(shares[0] - shares[1])))
    assert CHANCE * np.sqrt(2 / ROWS) < 0.2


def test_a_few_rows_differ_by_chance(tmp_path):
    values = arrays("train") | arrays("test", rows=20, seed=1)
    found = run(write_files(tmp_path, values))
    assert max(each.value for each in found.measures if each.kind == "drift") > 0.1
    assert not found.problems


@pytest.mark.parametrize("limit", [-1, float("nan")])
def test_a_threshold_that_says_nothing(limit, tmp_path, capsys):
    with pytest.raises(ConfigError, match=f"max_drift: expected a number that is not negative; found {limit}"):
        Thresholds(drift=limit)
    assert main.main(["validate", str(tmp_path), f"--max_drift={limit}"]) == 2
    assert "max_drift" in capsys.readouterr().err


@pytest.mark.slow
def test_a_report_that_cannot_be_written(tmp_path, capsys):
    write_files(tmp_path / "src", arrays("train"))
    assert main.main(["validate", str(tmp_path / "src"), "--json", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert "2,000 rows: no problem" in shown.out
    assert f"npyflow: {tmp_path}: expected a file that can be written; found Is a directory" in shown.err


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("validate")
    write_files(root / "src", arrays("train") | arrays("test", seed=1))
    build(root / "src", root / "out", parse_config({"features": {"x": {"missing": -9}}}))
    return root


@pytest.mark.slow
def test_against_a_data_set(built, tmp_path):
    existing = open_existing(str(built / "out"))
    assert not run(built / "src", existing=existing).problems
    values = arrays("test", seed=2)
    values["test/x-0.npy"][:100] = 50
    found = run(write_files(tmp_path / "far", values), existing=existing)
    assert {("test", "x", "outside"), ("test", "x", "spread")} <= exceeded(found)
    share = next(each for each in found.measures if each.kind == "outside" and each.feature == "x")
    low, high = (f(np.load(built / "src/train/x-0.npy"), axis=0) for f in (np.min, np.max))
    x = values["test/x-0.npy"]
    assert share.value == pytest.approx(np.mean((x < low) | (x > high)))
    larger = Thresholds(outside=0.1, spread=100, drift=100)
    assert not run(tmp_path / "far", larger, existing=existing).problems
    values = arrays("test", seed=2)
    values["test/x-0.npy"][:500] = -9  # which stands for a missing value there
    found = run(write_files(tmp_path / "missing", values), existing=existing)
    assert exceeded(found) == {("test", "x", "missing")}


@pytest.mark.slow
def test_classes_against_those_that_a_data_set_has_kept(built, tmp_path):
    shutil.copytree(built / "out", tmp_path / "out")
    old = (tmp_path / "out" / "statistics.npz").read_bytes()
    kept = {"labels/class_values": np.arange(3), "labels/class_counts": np.full(3, ROWS // 3)}
    write_beside(tmp_path / "out", "statistics.npz", dump_arrays({**load_arrays(old), **kept}))
    found = run(built / "src", existing=open_existing(str(tmp_path / "out")))
    assert exceeded(found) == {
        (split, "labels", kind) for split in ("train", "test") for kind in ("new_classes", "class_drift")
    }
    assert {each.detail for each in found.measures if each.kind == "new_classes" and each.exceeded} == {"3"}


@pytest.mark.slow
def test_a_schema_that_differs_is_listed_and_the_rest_is_measured(built, tmp_path):
    existing = open_existing(str(built / "out"))
    other = {"test/labels-0.npy": np.zeros(50, np.int8), "test/x-0.npy": np.ones((50, 3)), "test/z-0.npy": np.ones(50)}
    found = run(write_files(tmp_path / "src", other), existing=existing)
    shown = [str(problem) for problem in found.schema]
    assert len(shown) == 2
    assert "(feature labels): expected dtype int64" in shown[0]
    assert "(feature z): expected no such feature" in shown[1]
    assert ("test", "x", "drift") in exceeded(found)
    assert {each.feature for each in found.measures} == {"x"}
    with pytest.raises(ConfigError, match=r"features\.x: only files can be said"):
        plan_validation(str(built / "src"), parse_config({"features": {"x": {"impute": "none"}}}), existing)
    with pytest.raises(SourceError):
        plan_validation(str(tmp_path / "none"), parse_config({}), existing)


@pytest.mark.slow
def test_the_command_line(built, tmp_path, capsys):
    def command(*arguments):
        code = main.main(["validate", *map(str, arguments)])
        return code, capsys.readouterr()

    source = tmp_path / "src"
    shutil.copytree(built / "src", source)
    code, shown = command(source, "--against", built / "out", "--json", tmp_path / "report.json")
    assert code == 0, shown.err
    for text in ("profile: 4,000 of 4,000 rows", "test 2,000 rows", "no problem"):
        assert text in shown.out
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["problems"], report["rows"]) == (0, {"test": ROWS, "train": ROWS})
    labels = np.load(source / "test/labels-0.npy")
    labels[:5] = 77
    np.save(source / "test/labels-0.npy", labels)
    code, shown = command(source, "--json", tmp_path / "report.json")
    assert (code, "1 problem" in shown.out, "(77)" in shown.out) == (1, True, True)
    measures = json.loads((tmp_path / "report.json").read_text())["measures"]
    assert [each["kind"] for each in measures if each["exceeded"]] == ["new_classes"]
    assert command(source, "--max_new_classes", "1")[0] == 0
    assert command(source, "--against", tmp_path / "none")[0] == 2
    assert command(source, "--set", "bogus=1")[0] == 2
