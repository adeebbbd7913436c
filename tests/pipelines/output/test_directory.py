"""The output directory: what is ours is resumed or replaced, what is not is never touched."""

import json
import os
import pathlib
import shutil

import google_crc32c
import numpy as np
import pytest

from pipelines.config.schema import parse_config
from pipelines.errors import DataError, NoBuildError, OutputError
from pipelines.maintain.status import Watcher
from pipelines.maintain.verify import verify
from pipelines.output.directory import read_manifest
from pipelines.storage import directories, files
from tests.support.arrays import write_files
from tests.support.builds import build
from tests.support.manifests import change_manifest, stored


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("built")
    write_files(root / "src", {"labels.npy": np.arange(50)})
    return root, run(root / "src", root / "out")


@pytest.fixture
def dataset(built, tmp_path):
    return pathlib.Path(shutil.copytree(built[0] / "out", tmp_path / "out"))


def run(source, root, *, seed=0, overwrite=False):
    return build(str(source), str(root), parse_config({"seed": seed}), overwrite=overwrite)


def tree(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "contents",
    [
        {"thesis.txt": "ten years"},
        {".hidden": "x"},
        {"_build/html/index.html": "another program's documents"},
        {"_build/state.json": '{"splits": ["_build"]}'},
        {"_build/state.json": "not JSON"},
        {"manifest.json": '{"name": "a web application"}'},
        {"manifest.json": '{"splits": {"raw": 1}}', "raw/precious.txt": "x"},
        {"manifest.json": "not JSON", "train/precious.txt": "x"},
    ],
)
def test_what_is_not_ours_is_never_touched(built, tmp_path, contents, overwrite):
    out = tmp_path / "out"
    for path, text in contents.items():
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_text(text)
    before = tree(out)
    with pytest.raises(OutputError, match="name another directory"):
        run(built[0] / "src", out, overwrite=overwrite)
    assert tree(out) == before


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "names", [["../victim/train"], ["train", "/victim"], [".."], ["_build"], ["transform"], "train", [3]]
)
def test_a_state_that_names_other_directories_is_refused(built, dataset, names, overwrite):
    """As one who means harm would write it: `--overwrite` removes the shards of the splits that it names."""
    victim = shutil.copytree(built[0] / "out", dataset.parent / "victim")
    (dataset / "manifest.json").unlink()
    (dataset / "_build").mkdir()
    (dataset / "_build" / "state.json").write_text(json.dumps({"format": "npyflow-build", "splits": names}))
    before = tree(dataset.parent)
    with pytest.raises(OutputError, match=r"state\.json: expected names of splits; found .* name another directory"):
        run(built[0] / "src", dataset, overwrite=overwrite)
    assert tree(dataset.parent) == before
    assert verify(str(victim)).problems == ()


@pytest.mark.parametrize("counts", ["abc", [1, 2, "x"], {"a": 1}])
def test_a_state_that_counts_something_else_is_refused(built, dataset, counts):
    (dataset / "manifest.json").unlink()
    (dataset / "_build").mkdir()
    state = {"format": "npyflow-build", "splits": ["train"], "plan": counts}
    (dataset / "_build" / "state.json").write_text(json.dumps(state))
    for call in (Watcher(str(dataset)).read, lambda: run(built[0] / "src", dataset, overwrite=True)):
        with pytest.raises(OutputError, match=r"state\.json: expected numbers of tasks; found"):
            call()


@pytest.mark.parametrize("deep", ["_build/state.json", "_build/about.json", "_lock"])
def test_what_is_nested_too_deep_says_nothing(dataset, deep):
    (dataset / "_build").mkdir()
    (dataset / "_build" / "state.json").write_text('{"format": "npyflow-build", "splits": ["train"]}')
    (dataset / "manifest.json").unlink()
    (dataset / deep).write_text("[" * 100_000)
    if deep == "_build/state.json":
        with pytest.raises(NoBuildError):
            Watcher(str(dataset)).read()
    else:
        assert Watcher(str(dataset)).read().tasks is None


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_manifest_that_names_other_directories_is_refused(built, dataset, overwrite):
    shutil.copytree(built[0] / "out", dataset.parent / "victim")
    change_manifest(dataset, lambda value: value["splits"].update({"../victim/train": {"rows": 0, "shards": []}}))
    before = tree(dataset.parent)
    with pytest.raises(
        OutputError, match=r"split \.\./victim/train: expected a name of a directory.*Nothing was changed"
    ):
        run(built[0] / "src", dataset, seed=1, overwrite=overwrite)
    assert tree(dataset.parent) == before


@pytest.mark.parametrize("name", ["_lock", "train", "statistics.npz", "transform", "_build"])
def test_what_is_behind_a_link_is_not_touched(built, dataset, name):
    elsewhere = dataset.parent / "elsewhere"
    if (dataset / name).exists():
        shutil.move(dataset / name, elsewhere)
    else:
        elsewhere.write_text("precious")
    (dataset / name).symlink_to(elsewhere)
    before = tree(dataset.parent)
    with pytest.raises(
        OutputError, match=rf"{name}: expected files and directories of the data set's own; found a link to"
    ):
        run(built[0] / "src", dataset, seed=1, overwrite=True)
    assert tree(dataset.parent) == before


@pytest.mark.slow
def test_overwriting_leaves_what_was_put_beside(built, dataset):
    (dataset / "train" / "notes.txt").write_text("mine")
    (dataset / "notes.txt").write_text("mine too")
    manifest = run(built[0] / "src", dataset, seed=1, overwrite=True)
    assert (dataset / "train" / "notes.txt").read_text() == "mine"
    assert (dataset / "notes.txt").read_text() == "mine too"
    assert manifest.seed == 1


def stop_at(monkeypatch, name, path):
    """Lets a function of `storage` stop the build, as a kill would, just before it works on a path."""
    module = directories if name == "remove_tree" else files
    work = getattr(module, name)

    def stop(target, *arguments, **options):
        begun = name == "write_bytes" or files.exists(target)
        if target.endswith(path) and begun:
            raise KeyboardInterrupt
        return work(target, *arguments, **options)

    monkeypatch.setattr(module, name, stop)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("write_bytes", "_build/state.json"),
        ("write_bytes", "_build/tasks/0-00000.json"),
        ("write_bytes", "out/manifest.json"),
        ("write_bytes", "out/statistics.npz"),
        ("remove", "train-00000-of-00001.tfrecord"),
        ("remove_tree", "_build"),
    ],
)
def test_a_data_set_is_whole_until_another_takes_its_place(built, dataset, monkeypatch, name, path):
    """An `--overwrite` that is stopped anywhere leaves the old data set or the new one; the same command ends it."""
    with monkeypatch.context() as patch:
        stop_at(patch, name, path)
        with pytest.raises(BaseException, match=r"^$|KeyboardInterrupt"):
            run(built[0] / "src", dataset, seed=1, overwrite=True)
    replaced = path not in ("_build/state.json", "_build/tasks/0-00000.json", "out/manifest.json")
    assert read_manifest(str(dataset)).seed == replaced
    assert not verify(str(dataset)).problems
    assert run(built[0] / "src", dataset, seed=1, overwrite=True).seed == 1
    assert not verify(str(dataset)).problems
    listed = {shard.file for shards in read_manifest(str(dataset)).splits.values() for shard in shards}
    listed |= {file.file for file in read_manifest(str(dataset)).files} | {"manifest.json"}
    assert set(map(str, tree(dataset))) == listed


@pytest.mark.slow
def test_an_overwrite_that_fails_leaves_the_data_set_as_it_was(built, dataset, tmp_path):
    before = tree(dataset)
    write_files(tmp_path / "bad", {"labels.npy": np.arange(50), "x.npy": np.full(50, np.inf)})
    with pytest.raises(DataError, match="found inf"):
        run(tmp_path / "bad", dataset, overwrite=True)
    assert {path: data for path, data in tree(dataset).items() if path.parts[0] != "_build"} == before
    assert not verify(str(dataset)).problems
    with pytest.raises(OutputError, match="holds a finished data set; --overwrite replaces it"):
        run(tmp_path / "bad", dataset)
    assert run(built[0] / "src", dataset, seed=2, overwrite=True).seed == 2  # another command than the one that failed
    assert not verify(str(dataset)).problems


@pytest.mark.slow
def test_a_reader_of_the_data_set_before_has_its_files_or_is_told_that_they_are_gone(built, dataset):
    """Never rows of another data set, as sizes agree; files that are open stay."""
    opened = next(iter(built[1].splits["train"]))
    with (dataset / opened.file).open("rb") as file:
        made = run(built[0] / "src", dataset, seed=1, overwrite=True)
        assert f"{google_crc32c.value(file.read()):08x}" == opened.crc32c
    assert not (dataset / opened.file).exists()
    assert {shard.file for shard in made.splits["train"]}.isdisjoint({opened.file})
    again = run(built[0] / "src", dataset, seed=1, overwrite=True)
    assert stored(again) == stored(made)
    assert {shard.file for shard in again.splits["train"]}.isdisjoint({shard.file for shard in made.splits["train"]})


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("contents", [(), (".state.json.0123456789abcdef0123456789abcdef",)])
def test_what_a_run_that_ended_at_once_has_left_is_in_nobodys_way(built, tmp_path, contents, overwrite):
    out = tmp_path / "out"
    (out / "_build").mkdir(parents=True)
    for name in contents:
        (out / "_build" / name).write_text("")
    (out / "_lock").write_text("")
    assert run(built[0] / "src", out, overwrite=overwrite).splits == built[1].splits
    assert not {"_build", "_lock"} & {*os.listdir(out)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "path"),
    [("write_bytes", "publish/statistics.pb"), ("write_bytes", "out/manifest.json"), ("remove_tree", "_build")],
)
def test_publishing_that_was_interrupted_is_finished_by_the_same_command(built, tmp_path, monkeypatch, name, path):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        stop_at(patch, name, path)
        with pytest.raises(KeyboardInterrupt):
            run(built[0] / "src", out)
    assert (out / "manifest.json").exists() == (path == "_build")
    assert run(built[0] / "src", out).splits == built[1].splits
    assert not verify(str(out)).problems
    with pytest.raises(OutputError, match="holds a finished data set"):
        run(built[0] / "src", out)


@pytest.mark.slow
def test_overwriting_that_was_interrupted_goes_on(built, dataset, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, "write_bytes", "manifest.json")
        with pytest.raises(KeyboardInterrupt):
            run(built[0] / "src", dataset, seed=1, overwrite=True)
    written = {path: path.stat().st_mtime_ns for path in dataset.rglob("*-g001-*.tfrecord")}
    assert run(built[0] / "src", dataset, seed=1, overwrite=True).seed == 1
    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*.tfrecord")} == written


@pytest.mark.slow
def test_a_state_of_other_versions_is_not_resumed(built, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        stop_at(patch, "write_bytes", "manifest.json")
        with pytest.raises(KeyboardInterrupt):
            run(built[0] / "src", out)
    monkeypatch.setattr("pipelines.runners.versions.VERSION", "0.0.9")
    with pytest.raises(OutputError, match="another configuration or other versions"):
        run(built[0] / "src", out)
    assert json.loads((out / "_build/state.json").read_text())["versions"]["npyflow"] != "0.0.9"
