"""The command line as a person uses it: what it prints, and its exit codes."""

import json
import subprocess
import sys

import numpy as np
import pytest
import yaml
from arrays import write_files

from pipelines import cli


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture
def source(tmp_path):
    x = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    x[::7, 1] = np.nan
    return write_files(tmp_path / "src", {"x.npy": x, "labels.npy": np.arange(500) % 3})


def test_inspect_shows_the_arrays_and_the_configuration(source, capsys):
    assert run("inspect", source) == 0
    shown = capsys.readouterr().out
    for text in ("500 rows in 1 part", "float32", "labels.npy", "rows_per_record: ", "impute: mean", "train"):
        assert text in shown


def test_build_inspect_verify(source, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("build", source, out, "--seed", 3, "--set", "splits={train: 0.5, test: 0.5}") == 0
    shown = capsys.readouterr().out
    for text in ("analyze: 500 of 500 rows", "write: 500 of 500 rows", "train", "test", "is built in"):
        assert text in shown
    assert json.loads((out / "manifest.json").read_text())["seed"] == 3
    assert run("inspect", out) == 0
    shown = capsys.readouterr().out
    for text in ("labels", "label", "int64", "train", "missing", "seed 3"):
        assert text in shown
    assert run("verify", out) == 0
    assert "500 rows" in capsys.readouterr().out
    (out / "schema.pbtxt").unlink()
    assert run("verify", out) == 1
    assert "schema.pbtxt: expected" in capsys.readouterr().out


def test_a_dry_run_writes_nothing_and_its_configuration_gives_the_same(source, tmp_path, capsys):
    assert run("build", source, tmp_path / "out", "--dry_run", "--set", "seed=9") == 0
    shown = capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    (tmp_path / "config.yaml").write_text(shown[shown.index("features:\n") :])
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["seed"] == 9
    assert run("build", source, tmp_path / "out", "--dry_run", "--config", tmp_path / "config.yaml") == 0
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["build", "SRC/none", "OUT"], ["SRC/none"]),
        (["inspect", "SRC/none"], ["SRC/none"]),
        (["build", "SRC", "OUT", "--set", "bogus=1"], ["bogus: unknown key; the keys are features"]),
        (["build", "SRC", "OUT", "--config", "SRC/none.yaml"], ["none.yaml"]),
        (["build", "SRC", "OUT", "--sed=3"], ["unknown option --sed=3"]),
        (["build", "SRC", "OUT", "--sed=3", "--dry_run"], ["unknown option --sed=3"]),
        (["build", "--direct_num_workers", "2", "SRC", "OUT"], ["expected --direct_num_workers=VALUE"]),
        (["build", "SRC", "OUT", "--runner=FlinkRunnr"], ["--runner", "'FlinkRunnr'"]),
        (["build", "SRC", "SRC/x.npy"], ["x.npy: expected a directory; found a file"]),
        (["build", "SRC", "OUT", "--config", "SRC/x.npy"], ["x.npy: expected UTF-8 text"]),
        (["build", "SRC", "SRC"], ["expected another directory than that of the sources"]),
        (["verify", "SRC", "--fast"], ["--fast"]),
        (["inspect", "SRC", "--sed", "3"], ["--sed"]),
        (["biuld", "SRC"], ["biuld"]),
    ],
)
def test_mistakes_are_one_readable_message_and_exit_code_2(source, tmp_path, capsys, arguments, messages):
    try:
        code = run(*(text.replace("SRC", source).replace("OUT", str(tmp_path / "out")) for text in arguments))
    except SystemExit as exit:  # argparse's own
        code = exit.code
    assert code == 2
    shown = capsys.readouterr()
    for message in messages:
        assert message.replace("SRC", source) in shown.err
    assert "Traceback" not in shown.err
    assert not (tmp_path / "out").exists()


def test_what_is_no_data_set_does_not_verify(source, capsys):
    assert run("verify", source) == 1
    assert "expected a finished data set with a manifest.json; found none" in capsys.readouterr().err


def test_names_are_shown_as_they_are(tmp_path, capsys):
    source = write_files(tmp_path / "[bold]", {"x[red].npy": np.ones((4, 2)), "y[:heart:]/000.npy": np.ones(4)})
    assert run("inspect", source) in (0, 2)
    shown = capsys.readouterr()
    assert "x[red]" in shown.out + shown.err


def test_bad_values_are_exit_code_1(tmp_path, capsys):
    source = write_files(tmp_path / "src", {"x.npy": np.array([[1.0], [np.inf], [2.0]])})
    assert run("build", source, tmp_path / "out", "--set", "splits={train: 1}") == 1
    error = capsys.readouterr().err
    assert error == "npyflow: x.npy (feature x): expected finite values or NaN; found inf in row 1 at (0,)\n"


def test_without_the_extra_the_message_says_what_to_install(source):
    program = (
        "import sys\n"
        "sys.modules['pydantic'] = None\n"
        "from pipelines import cli\n"
        f"sys.exit(cli.main(['inspect', {source!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "npyflow: pydantic is not installed; this command needs pip install 'npyflow[pipelines]'\n"


def test_debug_shows_where(source):
    with pytest.raises(cli.NpyflowError):
        run("build", source, source, "--debug")


def test_help_names_the_exit_codes(capsys):
    with pytest.raises(SystemExit) as exit:
        run("--help")
    assert exit.value.code == 0
    shown = capsys.readouterr().out
    for text in ("exit codes", "inspect", "build", "verify", "130"):
        assert text in shown


def test_neither_help_nor_inspect_loads_heavy_packages(source):
    for arguments in (["--help"], ["inspect", source]):
        program = (
            "import contextlib, sys\n"
            "from pipelines import cli\n"
            "with contextlib.suppress(SystemExit):\n"
            f"    cli.main({arguments!r})\n"
            "heavy = {'tensorflow', 'apache_beam', 'tensorflow_transform', 'pyarrow', 'pandas'} & set(sys.modules)\n"
            "print('heavy:', *heavy)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "heavy:"
