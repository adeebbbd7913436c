"""Appending: the same rows, splits and statistics as one build over everything, whatever interrupts it."""

import dataclasses
import json
import os
import pathlib
import shutil

import numpy as np
import pytest

import loaders
from loaders.format.manifest import ManifestError
from pipelines.cli import main
from pipelines.config.schema import parse_config
from pipelines.errors import ConfigError, DataError, OutputError, SourceError
from pipelines.maintain import append
from pipelines.maintain.append import plan_append
from pipelines.maintain.publish_append import FeatureDrift
from pipelines.maintain.reuse import open_existing
from pipelines.maintain.verify import verify
from pipelines.output.commit import clear_append, finish_append
from pipelines.output.directory import Output, read_manifest
from pipelines.output.state import read_state
from pipelines.run import Build
from pipelines.sources.provenance import PartRecord, Provenance, changed_parts
from pipelines.sources.table import scan
from pipelines.statistics.drift import Drift
from pipelines.storage import directories, files
from tests.support import builds
from tests.support.arrays import RamFileSystem, empty_ram, write_files
from tests.support.builds import build
from tests.support.manifests import stored

FEATURES = {
    "row": {"source": "index"},
    "x": {"missing": -9},
    "name": {"role": "label"},
    "raw": {"store": "raw", "normalize": "robust"},
}
STATISTICS = ("statistics.npz", "statistics.pb", "moments.npz")
ROWS = 300


def part(number, *, rows=ROWS, shift=0.0):
    generator = np.random.default_rng(number)
    x = (generator.normal(size=(rows, 4)) + shift).astype(np.float32)
    x[generator.random(x.shape) < 0.1] = np.nan
    x[::50] = -9
    return {
        f"x-{number:03d}.npy": x,
        f"raw-{number:03d}.npy": generator.integers(0, 200, (rows, 2)).astype(np.uint8),
        f"labels-{number:03d}.npy": generator.integers(0, 6, rows),
        f"name-{number:03d}.npy": generator.choice(["a", "bc", "ä"], rows),
    }


def parts(*numbers, **said):
    return {path: array for number in numbers for path, array in part(number, **said).items()}


def make(source, output, **config):
    return build(str(source), str(output), parse_config({"features": FEATURES, "shard_bytes": 4000, **config}))


def read(output, split):
    """All stored rows of a split, in the order of the feature `row`."""
    batches = list(loaders.load(str(output), split, batch_size=64).as_numpy_iterator())
    rows = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    order = np.argsort(rows["row"], kind="stable")
    return {name: array[order] for name, array in rows.items()}


def bytes_of(output, names):
    return {name: (pathlib.Path(output) / name).read_bytes() for name in names}


def move(source, target, number):
    """Moves a part's files, with their times."""
    target.mkdir(exist_ok=True)
    for name in part(number, rows=1):
        os.rename(source / name, target / name)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Parts 0 and 1 built in `out`, part 2 apart in `later`, and in `grown` what appending it gives."""
    root = tmp_path_factory.mktemp("append")
    write_files(root / "src", parts(0, 1))
    make(root / "src", root / "out")
    write_files(root / "later", parts(2))
    shutil.copytree(root / "out", root / "grown")
    builds.append(root / "later", root / "grown")
    return root


@pytest.fixture
def dataset(base, tmp_path):
    return pathlib.Path(shutil.copytree(base / "out", tmp_path / "out"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"splits": {"stratify": "labels", "fractions": {"train": 0.7, "test": 0.3}}, "filter": "labels != 0"},
        {"splits": {"group": "labels", "fractions": {"train": 0.5, "test": 0.5}}, "seed": 3},
        {"splits": {"column": "labels", "names": ["train", "a", "b", "c", "d", "e"]}},
    ],
)
def test_appending_gives_the_rows_and_statistics_of_one_build(config, tmp_path):
    source = tmp_path / "src"
    write_files(source, parts(0, 1, 2, 3))
    whole = make(source, tmp_path / "whole", **config)
    for number in (2, 3):
        move(source, tmp_path / f"later{number}", number)
    make(source, tmp_path / "out", **config)
    before = np.load(tmp_path / "out" / "statistics.npz")
    mean, std = before["x/mean"], before["x/std"]
    for number in (2, 3):
        builds.append(tmp_path / f"later{number}", tmp_path / "out")
    assert bytes_of(tmp_path / "out", STATISTICS) == bytes_of(tmp_path / "whole", STATISTICS)
    grown = read_manifest(str(tmp_path / "out"))
    assert not verify(str(tmp_path / "out")).problems
    assert grown.dropped == whole.dropped
    raw = np.concatenate([part(number)[f"x-{number:03d}.npy"] for number in range(4)]).astype(float)
    raw[raw == -9] = np.nan
    for split in whole.splits:
        found, expected = read(tmp_path / "out", split), read(tmp_path / "whole", split)
        for name in ("row", "labels", "name"):
            np.testing.assert_array_equal(found[name], expected[name])
        filled = np.where(np.isnan(raw), mean, raw)[found["row"]]
        # The transform stays: filling with the mean leaves it, and makes the deviation smaller.
        present = before["x/count"] / (before["x/count"] + before["x/missing"])
        np.testing.assert_allclose(found["x"], (filled - mean) / (std * np.sqrt(present)), atol=1e-5)
    assert [shard.file for shard in grown.splits["train"]][-1].startswith("train/train-g002-")


@pytest.mark.slow
def test_new_classes_of_directories_and_new_splits(tmp_path):
    def rows(seed):
        return np.random.default_rng(seed).normal(size=(20, 3))

    source = tmp_path / "src"
    write_files(source, {f"{split}/x-0.npy": rows(1) for split in ("train", "test")})
    build(source, tmp_path / "out")
    before = bytes_of(tmp_path / "out", STATISTICS)
    write_files(tmp_path / "later", {"test/x-1.npy": rows(2), "extra/x-0.npy": rows(3) * 100})
    appended = builds.append(tmp_path / "later", tmp_path / "out")
    assert bytes_of(tmp_path / "out", STATISTICS) == before
    assert {split: appended.manifest.rows(split) for split in appended.manifest.splits} == {
        "test": 40,
        "train": 20,
        "extra": 20,
    }
    write_files(tmp_path / "more", {"train/x-1.npy": rows(4)})
    builds.append(tmp_path / "more", tmp_path / "out")
    mean = np.load(tmp_path / "out" / "statistics.npz")["x/mean"]
    np.testing.assert_allclose(mean, np.concatenate([rows(1), rows(4)]).mean(axis=0), rtol=1e-14)


@pytest.mark.slow
def test_a_directory_that_names_no_class_is_refused_and_others_keep_their_numbers(tmp_path):
    features = {"label": {"source": "directory"}, "x": {"row_axes": 0}}
    config = parse_config({"features": features, "splits": {"train": 1}})
    write_files(tmp_path / "src", {f"{name}/x-{n}.npy": np.ones(3) * n for name in "bc" for n in range(4)})
    build(tmp_path / "src", tmp_path / "out", config)
    write_files(tmp_path / "later", {"c/x-9.npy": np.ones(3)})
    builds.append(tmp_path / "later", tmp_path / "out")
    found = [batch["label"] for batch in loaders.load(str(tmp_path / "out"), "train", batch_size=1)]
    assert np.bincount(np.concatenate(found)).tolist() == [4, 5]
    write_files(tmp_path / "later", {"a/x-9.npy": np.ones(3)})
    with pytest.raises(SourceError, match="a directory that names a class"):
        builds.append(tmp_path / "later", tmp_path / "out")


class StopError(Exception):
    """Stands for a kill."""


STOPS = {
    "while shards are written": ("write_bytes", "_build/tasks/0-00001.json"),
    "before the profile is kept": ("write_bytes", "_build/profile"),
    "before the list of shards": ("write_bytes", "shards.json"),
    "while it is staged": ("write_bytes", "publish/statistics.npz"),
    "before the manifest": ("write_bytes", "out/manifest.json"),
    "before the moments are in place": ("write_bytes", "out/moments.npz"),
    "before the statistics are in place": ("write_bytes", "out/statistics.npz"),
    "before clearing up": ("remove_tree", "_build"),
}


def stop_at(monkeypatch, name, path):
    """Lets a function of `storage` stop the work just before it works on a path, once there is work to be stopped."""
    module = directories if name == "remove_tree" else files
    work = getattr(module, name)

    def stop(target, *arguments, **options):
        begun = files.exists(target) if name == "remove_tree" else True
        if target.endswith(path) and begun:
            raise StopError(path)
        return work(target, *arguments, **options)

    monkeypatch.setattr(module, name, stop)


@pytest.mark.slow
@pytest.mark.parametrize("when", STOPS)
def test_an_append_that_was_killed_goes_on_and_doubles_nothing(when, base, dataset, monkeypatch):
    before = read_manifest(str(dataset))
    with monkeypatch.context() as patch:
        stop_at(patch, *STOPS[when])
        with pytest.raises(Exception, match=STOPS[when][1]):
            builds.append(base / "later", dataset)
    now = read_manifest(str(dataset))
    committed = when in [*STOPS][-3:]
    assert now.splits == (read_manifest(str(base / "grown")).splits if committed else before.splits)
    assert not verify(str(dataset)).problems, "the data set before, or the new one, is whole at every moment"
    assert loaders.open(dataset).statistics["x"]["count"].sum() > 0
    assert len(read(dataset, "train")["row"]) == now.rows("train")
    builds.append(base / "later", dataset)
    assert read_manifest(str(dataset)) == read_manifest(str(base / "grown"))
    assert bytes_of(dataset, STATISTICS) == bytes_of(base / "grown", STATISTICS)
    assert not verify(str(dataset)).problems
    assert builds.append(base / "later", dataset) is None


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before the list of shards", "before the statistics are in place"])
def test_another_append_after_one_that_was_killed(when, base, dataset, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, *STOPS[when])
        with pytest.raises(Exception, match=STOPS[when][1]):
            builds.append(base / "later", dataset)
    shutil.copytree(base / "later", tmp_path / "both")
    write_files(tmp_path / "both", parts(3))
    appended = builds.append(tmp_path / "both", dataset)
    assert sum(appended.manifest.rows(split) for split in appended.manifest.splits) == 4 * ROWS
    write_files(tmp_path / "all", parts(0, 1, 2, 3))
    make(tmp_path / "all", tmp_path / "whole")
    assert bytes_of(dataset, STATISTICS) == bytes_of(tmp_path / "whole", STATISTICS)
    assert not verify(str(dataset)).problems


@pytest.mark.slow
def test_a_failed_append_leaves_the_data_set_as_it_was(base, dataset, tmp_path, capsys):
    before = read_manifest(str(dataset))
    bad = parts(2)
    bad["x-002.npy"][5, 1] = np.inf
    write_files(tmp_path / "bad", bad)
    with pytest.raises(DataError, match="found inf in row 5"):
        builds.append(tmp_path / "bad", dataset)
    assert read_manifest(str(dataset)) == before
    assert main.main(["inspect", str(dataset)]) == 0
    assert "an append that is not finished" in capsys.readouterr().out
    assert main.main(["append", str(base / "src"), str(dataset)]) == 0  # the bad file is no longer to be added
    assert not verify(str(dataset)).problems
    with pytest.raises(DataError):
        builds.append(tmp_path / "bad", dataset)
    assert builds.append(base / "src", dataset) is None
    assert not verify(str(dataset)).problems
    builds.append(base / "later", dataset)
    assert read_manifest(str(dataset)).splits == read_manifest(str(base / "grown")).splits


@pytest.mark.slow
def test_a_file_that_was_skipped_is_no_longer_listed_when_its_rows_are_added(base, dataset, tmp_path):
    source = tmp_path / "src"
    write_files(source, parts(3, 4) | {"x-004.npy": b"bad"})
    run = ["append", str(source), str(dataset)]
    assert main.main([*run, "--on_error=skip"]) == 0
    assert [problem["path"] for problem in read_manifest(str(dataset)).skipped] == [str(source / "x-004.npy")]
    write_files(source, parts(4, 5) | {"raw-005.npy": b"bad"})
    assert main.main([*run, "--on_error=skip"]) == 0
    assert [problem["path"] for problem in read_manifest(str(dataset)).skipped] == [str(source / "raw-005.npy")]


@pytest.mark.slow
def test_what_is_refused(base, dataset, tmp_path):
    with pytest.raises(ManifestError, match="expected a finished data set"):
        builds.append(base / "later", tmp_path / "none")
    write_files(tmp_path / "changed", parts(0, 1, 2, rows=ROWS - 1))
    with pytest.raises(SourceError, match="2 problems") as error:
        builds.append(tmp_path / "changed", dataset)
    assert "part '000' as it was when its rows were read; found 299 rows instead of 300" in str(error.value)
    write_files(tmp_path / "later", {name: array for name, array in parts(2).items() if "raw" not in name})
    write_files(tmp_path / "later", {"x-002.npy": np.ones((ROWS, 5)), "new-002.npy": np.ones(ROWS)})
    with pytest.raises(SourceError, match="4 problems") as error:
        builds.append(tmp_path / "later", dataset)
    for text in ("dtype float32", "shape (4,)", "(feature raw): expected the feature", "(feature new)"):
        assert text in str(error.value)
    (dataset / "moments.npz").write_bytes((base / "grown" / "moments.npz").read_bytes())
    with pytest.raises(ManifestError, match=r"moments\.npz: expected"):
        builds.append(base / "later", dataset)
    (dataset / "sources.json").unlink()
    with pytest.raises(ConfigError, match="found an older one"):
        builds.append(base / "later", dataset)


@pytest.mark.slow
def test_the_command_line(base, dataset, tmp_path, capsys):
    def run(*arguments):
        code = main.main([str(argument) for argument in arguments])
        return code, capsys.readouterr()

    source = pathlib.Path(shutil.copytree(base / "src", tmp_path / "src"))
    code, shown = run("append", source, dataset)
    assert (code, "nothing was added" in shown.out) == (0, True)
    write_files(source, parts(2, shift=100.0))
    code, shown = run("append", source, dataset, "--on_error", "fail")
    assert code == 0, shown.err
    for text in ("profile: 300 of 300 rows", "rows added", "Drift", "no longer fits x", "has grown in"):
        assert text in shown.out
    drifted = float(next(line for line in shown.out.splitlines() if line.split()[:2] == ["x", "added"]).split()[2])
    assert 80 < drifted < 120
    (source / "x-001.npy").unlink()
    code, shown = run("append", source, dataset, "--refit")
    assert code == 2
    write_files(source, parts(1))
    for name in part(0, rows=1):
        (source / name).rename(tmp_path / name)
    code, shown = run("append", source, dataset, "--refit")
    assert (code, "expected part '000'" in shown.err) == (2, True)
    for name in part(0, rows=1):
        (tmp_path / name).rename(source / name)
    code, shown = run("append", source, dataset, "--refit")
    assert (code, "is built in" in shown.out) == (0, True)
    assert bytes_of(dataset, STATISTICS) == bytes_of(_whole(source, tmp_path), STATISTICS)
    assert run("append", source, tmp_path / "none")[0] == 2


def _whole(source, tmp_path):
    make(source, tmp_path / "whole")
    return tmp_path / "whole"


@pytest.mark.parametrize("names", [["../victim/train"], ["/victim"], "train"])
def test_the_state_of_an_append_that_names_other_directories_is_refused(tmp_path, names):
    """What an append has left is cleared up in the splits that its state names."""
    state = {"format": "npyflow-build", "splits": names, "work": "append", "before": "another manifest"}
    write_files(tmp_path / "out", {"manifest.json": b"{}", "_build/state.json": json.dumps(state).encode()})
    victim = tmp_path / "victim" / "train" / "train-g001-00000-of-00001.tfrecord"
    victim.parent.mkdir(parents=True)
    victim.write_bytes(b"rows")
    for clear in (finish_append, clear_append):
        with pytest.raises(OutputError, match=r"state\.json: expected names of splits; found"):
            clear(str(tmp_path / "out"))
    assert victim.read_bytes() == b"rows"


@pytest.mark.slow
@pytest.mark.parametrize("when", [("write_bytes", "out/manifest.json"), ("write_bytes", "out/golden.npz")])
def test_a_refit_that_was_killed_goes_on(when, base, dataset, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, *when)
        with pytest.raises(StopError):
            Build(plan=append.plan_refit(str(base / "src"), str(dataset)), root=str(dataset), overwrite=True).run()
    assert not verify(str(dataset)).problems
    Build(plan=append.plan_refit(str(base / "src"), str(dataset)), root=str(dataset), overwrite=True).run()
    assert stored(read_manifest(str(dataset))) == stored(read_manifest(str(base / "out")))
    assert not verify(str(dataset)).problems


@pytest.mark.slow
def test_appending_in_another_file_system(base, tmp_path):
    """TensorFlow does not know `ram://`, so there is no transform."""
    empty_ram()
    features = {name: {"normalize": "none", "impute": "none"} for name in ("x", "raw")}
    write_files(tmp_path / "src", {name: np.load(base / "src" / name) for name in part(0, rows=1)})
    build(tmp_path / "src", "ram://out", parse_config({"features": features}))
    write_files(tmp_path / "later", parts(1))
    builds.append(tmp_path / "later", "ram://out")
    build(base / "src", tmp_path / "whole", parse_config({"features": features}))
    found = {name: RamFileSystem.contents[f"ram://out/{name}"] for name in STATISTICS}
    assert found == bytes_of(tmp_path / "whole", STATISTICS)
    assert not verify("ram://out").problems


@pytest.mark.slow
def test_threads_and_a_transform_from_another_file_system(base, dataset, tmp_path):
    empty_ram()
    for path in (base / "out").rglob("*"):
        if path.is_file():
            RamFileSystem.contents[f"ram://out/{path.relative_to(base / 'out').as_posix()}"] = path.read_bytes()
    before = read_manifest(str(base / "out"))
    same = parse_config({"splits": before.config["splits"]})
    assert build(base / "src", tmp_path / "reused", same, transform="ram://out").splits == before.splits
    options = ["--direct_num_workers=2"]
    builds.append(base / "later", dataset, beam_options=options)
    assert read_manifest(str(dataset)) == read_manifest(str(base / "grown"))


def test_rows_that_come_later_are_counted_on(tmp_path):
    write_files(tmp_path, {f"x-{number}.npy": np.ones((number + 1, 2)) for number in range(3)})
    table = scan(str(tmp_path), parse_config({}))
    assert table.first_rows.tolist() == [0, 1, 3, 6]
    assert dataclasses.replace(table, rows_before=10).first_rows.tolist() == [10, 11, 13, 16]


def test_new_and_changed_parts(tmp_path):
    write_files(tmp_path, {f"x-{number}.npy": np.ones((4, 2)) for number in range(3)})
    table = scan(str(tmp_path), parse_config({}))
    before = Provenance.of(dataclasses.replace(table, parts=table.parts[:2]))
    assert Provenance.loads(before.dumps(), path="") == before
    new, changed = changed_parts(before, table)
    assert ([one.name for one in new], changed) == (["2"], [])
    os.utime(tmp_path / "x-1.npy", (1, 1))
    touched = scan(str(tmp_path), parse_config({}))
    new, (problem,) = changed_parts(before, touched)
    assert "x-1.npy: expected part '1' as it was" in str(problem)
    assert PartRecord.of(touched.parts[0]) == before.parts[0]
    with pytest.raises(ManifestError, match=r"sources\.json: expected the parts"):
        Provenance.loads('{"parts": [{}]}', path="sources.json")


@pytest.mark.parametrize(
    ("said", "large"),
    [({}, False), ({"shift": 0.3}, True), ({"ratio": 1.6}, True), ({"ratio": 0.6}, True), ({"missing": 0.06}, True)],
)
def test_large_drift_is_worth_a_warning(said, large):
    drift = Drift(**{"shift": 0.2, "ratio": 1.4, "missing": 0.04, **said})
    assert FeatureDrift(added=drift, total=drift, certain=drift).large is large


def test_nothing_to_finish(tmp_path):
    finish_append(str(tmp_path / "none"))
    (tmp_path / "_build").mkdir()
    state = {"format": "npyflow-build", "splits": [], "work": "append", "before": "x"}
    (tmp_path / "_build" / "state.json").write_text(json.dumps(state))
    finish_append(str(tmp_path))
    assert read_state(Output(str(tmp_path))) is not None


def test_the_plan_of_an_addition_is_what_the_data_set_has_decided(base):
    existing = open_existing(str(base / "out"))
    plan = plan_append(str(base / "later"), existing)
    assert (plan.generation, plan.training_split) == (1, "train")
    assert plan.chunk_records == existing.manifest.chunk_records
    assert plan.shard_file("test", 0).startswith("test/test-g001-00000-of-")
    assert plan_append(str(base / "later"), open_existing(str(base / "grown"))) is None


def test_training_rows_that_are_added_are_of_the_split_that_was_named(tmp_path):
    write_files(tmp_path / "src", {"x-0.npy": np.ones((40, 2))})
    as_it_is = {"impute": "none", "normalize": "none"}
    said = {"splits": {"a": 0.5, "b": 0.5}, "training": "b", "features": {"x": as_it_is}}
    build(tmp_path / "src", tmp_path / "out", parse_config(said))
    write_files(tmp_path / "src", {"x-1.npy": np.ones((40, 2))})
    plan = plan_append(str(tmp_path / "src"), open_existing(str(tmp_path / "out")))
    assert plan.training_split == "b"
