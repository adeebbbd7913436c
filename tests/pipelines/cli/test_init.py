"""`npyflow init`: a configuration to change, which no file that is there makes room for."""

import numpy as np
import pytest

from pipelines.cli import main
from tests.support.arrays import write_files


def run(*arguments):
    return main.main([str(argument) for argument in arguments])


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_files(tmp_path / "my arrays", {"x.npy": np.ones((9, 4)), "labels.npy": np.arange(9) % 3})


def test_init_writes_a_configuration_that_inspect_takes(source, tmp_path, capsys):
    assert run("init", source, "--seed", 3) == 0
    assert capsys.readouterr().out == (
        f"dataset.yaml is written; change what you like, then: npyflow build '{source}' OUT --config dataset.yaml\n"
    )
    text = (tmp_path / "dataset.yaml").read_text()
    assert "\nseed: 3  # " in text
    assert run("init", source, "--seed", 3, "-o", "-") == 0
    assert capsys.readouterr().out == text
    assert run("inspect", source, "--config", "dataset.yaml") == 0


def test_init_leaves_a_file_that_is_there(source, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("seed: 1\n")
    assert run("init", source, "-o", "mine.yaml") == 2
    assert capsys.readouterr().err == "npyflow: mine.yaml: expected no such file, or --overwrite; found one\n"
    assert (tmp_path / "mine.yaml").read_text() == "seed: 1\n"
    assert run("init", source, "-o", "mine.yaml", "--overwrite") == 0
    assert "normalize: zscore" in (tmp_path / "mine.yaml").read_text()


def test_init_makes_no_directory_and_no_file_of_what_is_wrong(source, tmp_path, capsys):
    assert run("init", source, "-o", "none/mine.yaml") == 1
    assert "none/mine.yaml: expected a file that can be written" in capsys.readouterr().err
    assert run("init", tmp_path / "nothing") == 2
    assert not (tmp_path / "dataset.yaml").exists()
    assert not (tmp_path / "none").exists()
