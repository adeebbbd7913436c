"""The output directory: what is ours is resumed or replaced, what is not is never touched."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from pipelines.config.schema import parse_config
from pipelines.maintain.verify import verify
from pipelines.output.directory import OutputError
from pipelines.storage import files
from tests.support.arrays import write_files
from tests.support.builds import build
from tests.support.manifests import change_manifest


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
    """Lets a function of `files` stop the build, as a kill would, just before it works on a path."""
    work = getattr(files, name)

    def stop(target, *arguments):
        if target.endswith(path):
            raise KeyboardInterrupt
        return work(target, *arguments)

    monkeypatch.setattr(files, name, stop)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "path"), [("remove", "manifest.json"), ("remove", "statistics.npz"), ("remove_tree", "transform")]
)
def test_clearing_that_was_interrupted_is_begun_again(built, dataset, monkeypatch, name, path):
    with monkeypatch.context() as patch:
        stop_at(patch, name, path)
        with pytest.raises(KeyboardInterrupt):
            run(built[0] / "src", dataset, overwrite=True)
    manifest = run(built[0] / "src", dataset, overwrite=True)
    assert manifest.splits == built[1].splits
    assert not verify(str(dataset)).problems


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "path"), [("write_text", "schema.pbtxt"), ("write_text", "manifest.json"), ("remove_tree", "_build")]
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
        stop_at(patch, "write_text", "manifest.json")
        with pytest.raises(KeyboardInterrupt):
            run(built[0] / "src", dataset, seed=1, overwrite=True)
    written = {path: path.stat().st_mtime_ns for path in dataset.rglob("*.tfrecord")}
    assert run(built[0] / "src", dataset, seed=1, overwrite=True).seed == 1
    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*.tfrecord")} == written


@pytest.mark.slow
def test_a_state_of_other_versions_is_not_resumed(built, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        stop_at(patch, "write_text", "manifest.json")
        with pytest.raises(KeyboardInterrupt):
            run(built[0] / "src", out)
    monkeypatch.setattr("pipelines.runners.versions.VERSION", "0.0.9")
    with pytest.raises(OutputError, match="another configuration or other versions"):
        run(built[0] / "src", out)
    assert json.loads((out / "_build/state.json").read_text())["versions"]["npyflow"] != "0.0.9"
