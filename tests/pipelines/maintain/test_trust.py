"""A stranger's data set is no program that npyflow runs without being told."""

import pathlib
import pickle
import shutil

import numpy as np
import pytest

import pipelines
from loaders.format.manifest import ManifestError
from pipelines.cli.main import main
from pipelines.errors import ConfigError, WorkerError
from pipelines.maintain.profile import read_profile
from pipelines.storage.checksummed import write_checked
from tests.support.arrays import write_files
from tests.support.builds import append, build
from tests.support.manifests import change_manifest
from tests.support.programs import plant

FOUND = r"only computes.*; found the operation WriteFile"


def arrays(first):
    x = np.random.default_rng(first).normal(size=(60, 3)).astype(np.float32)
    return {f"x-{first}.npy": x, f"labels-{first}.npy": np.arange(60) % 2}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A data set in `out`, and sources of its features in `src` and `more`."""
    root = tmp_path_factory.mktemp("trust")
    write_files(root / "src", arrays(0))
    write_files(root / "more", arrays(1))
    build(root / "src", root / "out")
    return root


@pytest.fixture
def planted(base, tmp_path):
    """The data set with a transform that also writes the file `victim` beside it."""
    root = pathlib.Path(shutil.copytree(base / "out", tmp_path / "out"))
    plant(root, tmp_path / "victim")
    return root


def test_what_would_write_a_file_is_run_by_nothing(base, planted, capsys):
    (problem,) = pipelines.verify(planted).problems
    assert (problem.path, problem.found) == (str(planted / "transform"), "the operation WriteFile")
    with pytest.raises(ManifestError, match=FOUND):
        build(base / "more", planted.parent / "served", transform=planted)
    with pytest.raises(ManifestError, match=FOUND):
        append(base / "more", planted)
    assert main(["verify", str(planted)]) == 1
    assert "a transform that only computes (--trust runs any); found the operation WriteFile" in capsys.readouterr().out
    assert main(["append", str(base / "more"), str(planted)]) == 2
    assert main(["build", str(base / "more"), str(planted.parent / "served"), f"--transform={planted}"]) == 2
    assert "expected a transform that only computes; found the operation WriteFile" in capsys.readouterr().err
    assert not (planted.parent / "victim").exists()
    assert not (planted.parent / "served").exists()


@pytest.mark.slow
def test_a_data_set_that_is_trusted_is_run(base, planted):
    victim = planted.parent / "victim"

    def ran():
        found = victim.exists()
        victim.unlink(missing_ok=True)
        return found

    assert pipelines.verify(planted, trust=True).problems == ()
    assert ran()
    assert main(["verify", "--trust", str(planted)]) == 0
    assert ran()
    build(base / "more", planted.parent / "served", transform=planted, trust=True)
    assert ran()
    append(base / "more", planted, trust=True)
    assert ran()


def test_files_that_the_manifest_does_not_list_are_not_run(base, tmp_path):
    root = pathlib.Path(shutil.copytree(base / "out", tmp_path / "out"))
    (root / "transform/transform_fn/saved_model.cpb").write_bytes(b"which TensorFlow would take instead")
    message = "saved_model.cpb: expected only files of the manifest; found this file"
    assert [str(problem).endswith(message) for problem in pipelines.verify(root).problems] == [True]
    with pytest.raises(ManifestError, match=message):
        append(base / "more", root)
    with pytest.raises(ManifestError, match=message):
        build(base / "more", tmp_path / "served", transform=root)


def test_what_an_unfinished_append_has_learned_is_no_program(tmp_path):
    class Program:
        def __reduce__(self):
            return pathlib.Path.touch, (tmp_path / "victim",)

    write_checked(str(tmp_path / "profile"), pickle.dumps(Program()))
    with pytest.raises(WorkerError, match="profile: expected accumulators of npyflow; found pathlib"):
        read_profile(str(tmp_path / "profile"))
    assert not (tmp_path / "victim").exists()


def test_a_function_that_a_data_set_names_is_not_run_without_being_told(base, tmp_path):
    root = pathlib.Path(shutil.copytree(base / "out", tmp_path / "out"))
    program = tmp_path / "program.py"
    program.write_text(f"open({str(tmp_path / 'victim')!r}, 'w')\n")
    change_manifest(root, lambda document: document["config"].update(preprocessing_fn=f"{program}:f", features={}))
    with pytest.raises(ConfigError, match=r"names no program, or one that is trusted .*; found preprocessing_fn .*:f"):
        pipelines.refit(base / "src", root)
    assert not (tmp_path / "victim").exists()
    with pytest.raises(ConfigError, match=r"program\.py"):
        pipelines.refit(base / "src", root, trust=True)
    assert (tmp_path / "victim").exists()
