"""The command line as a person uses it: what it prints, and its exit codes."""

import contextlib
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml

import loaders
from pipelines.cli import main
from pipelines.errors import NpyflowError
from pipelines.storage import files
from tests.support import commands, shards
from tests.support.arrays import write_files
from tests.support.numbered import small_chunks, write_numbered


def run(*arguments):
    return main.main([str(argument) for argument in arguments])


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


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("verify OUT", ["--storage_optoin=s3.secret=hunter2"]),
        ("verify OUT", ["--storage_optoin", "s3.secret=hunter2"]),
        ("verify OUT", ["--storage_option=hunter2"]),
        ("verify OUT", ["--storage_option=s3.secret:hunter2"]),
        ("verify OUT", ["--storage_option=s3.secret={hunter2"]),
        ("verify OUT", ["--storage_option=s3=hunter2", "--storage_option=s3.secret=hunter2"]),
        ("build SRC OUT", ["--storage_optoin=s3.secret=hunter2"]),
        ("build SRC OUT", ["--s3_secret_access_key=hunter2"]),
        ("build SRC OUT", ["--set=storage_options.s3.secret.hunter2"]),
        ("build SRC OUT", ["--set=storage_options.s3.secret=!hunter2 hunter2"]),
        ("build SRC OUT", ["--set=storage_optoins.s3.secret=hunter2"]),
    ],
)
def test_a_mistyped_option_is_not_shown_with_its_value(command, options, source, tmp_path, capsys):
    with contextlib.suppress(SystemExit):
        assert run(*command.replace("SRC", source).replace("OUT", str(tmp_path / "out")).split(), *options) == 2
    found = capsys.readouterr()
    assert "npyflow: " in found.err
    assert "hunter2" not in found.out + found.err


@pytest.mark.parametrize("name", ["a\x1b[2Jb", "a\rb", "a\u202eb", "a\udcffb", "a\nb"], ids=ascii)
def test_what_a_file_name_would_tell_a_terminal_is_shown(name, tmp_path, capsys):
    write_files(tmp_path / name, {"x-0.npy": np.zeros((3, 2)), "x-1.npy": b"no array"})
    for command in ("inspect", "validate", "view"):
        run(command, tmp_path / name)
    run("verify", tmp_path / name)
    run("inspect", tmp_path / name, "--on_error=skip")
    found = capsys.readouterr()
    shown = name.encode("unicode_escape").decode()
    for text in (found.out, found.err):
        assert shown in text
        assert text.replace("\n", "").isprintable()
        assert name not in text or name == "a\nb", "a text of several lines may be one that npyflow wrote"


def test_build_inspect_verify(source, tmp_path, capsys):
    out = tmp_path / "out"
    report = tmp_path / "built.json"
    assert run("build", source, out, "--seed", 3, "--set", "splits={train: 0.5, test: 0.5}", "--json", report) == 0
    built = json.loads(report.read_text())
    assert (built["rows"], sum(split["rows"] for split in built["splits"].values())) == (500, 500)
    assert built["counts"]["missing"] > 0
    shown = capsys.readouterr().out
    for text in (
        "analyze: 500 of 500 rows",
        "write: 500 of 500 rows",
        "wrote 500 rows",
        "missing values in the training rows",
        "train",
        "test",
        "is built in",
    ):
        assert text in shown
    assert json.loads((out / "manifest.json").read_text())["seed"] == 3
    assert run("inspect", out) == 0
    shown = capsys.readouterr().out
    for text in ("labels", "label", "int64", "train", "missing", "seed 3"):
        assert text in shown
    assert run("verify", out) == 0
    assert "500 rows" in capsys.readouterr().out
    (out / "statistics.pb").unlink()
    assert run("verify", out) == 1
    assert "statistics.pb: expected" in capsys.readouterr().out


@pytest.mark.slow
def test_inspect_shows_statistics_only_where_there_are_some(source, tmp_path, capsys):
    assert run("build", source, tmp_path / "numbers") == 0
    assert run("build", write_files(tmp_path / "text", {"w.npy": np.array(["a", "b"] * 9)}), tmp_path / "words") == 0
    for name, shown in (("numbers", True), ("words", False)):
        capsys.readouterr()
        assert run("inspect", tmp_path / name) == 0
        assert ("Statistics of the training rows" in capsys.readouterr().out) is shown


@pytest.mark.slow
def test_a_dry_run_writes_nothing_and_its_configuration_gives_the_same(source, tmp_path, capsys):
    prices = "{region: europe-west4, date: 2026-11-01, currency: EUR, vcpu_hour: 1, memory_gb_hour: 0, shuffle_gb: 0}"
    (tmp_path / "prices.yaml").write_text(prices)
    assert (
        run("build", source, tmp_path / "out", "--dry_run", "--set", "seed=9", "--prices", tmp_path / "prices.yaml")
        == 0
    )
    shown = capsys.readouterr()
    assert not (tmp_path / "out").exists()
    for text in (
        "Forecast",
        "It reads",
        "to analyze",
        "A worker needs",
        "workers  begin",
        "list prices of europe-west4",
    ):
        assert text in shown.err
    assert "workers  vCPU-hours  GB-hours  shuffled GB   EUR" in shown.err
    assert yaml.safe_load(shown.out)["seed"] == 9
    (tmp_path / "config.yaml").write_text(shown.out)
    assert run("build", source, tmp_path / "out", "--dry_run", "--config", tmp_path / "config.yaml") == 0
    assert capsys.readouterr().out == shown.out


def test_a_key_that_is_there_twice_is_an_error(source, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("seed: 1\nfeatures:\n  x: {impute: none}\n  x: {impute: mean}\n")
    assert run("inspect", source, "--config", tmp_path / "config.yaml") == 2
    shown = capsys.readouterr().err
    assert "the key 'x' twice" in shown
    assert "line 4" in shown
    (tmp_path / "config.yaml").write_text("a: &a {impute: none}\nfeatures: {x: {<<: *a, impute: mean}}\n")
    assert run("inspect", source, "--config", tmp_path / "config.yaml") == 2
    assert "a: unknown key" in capsys.readouterr().err


def test_inspect_shows_every_kind_of_feature(tmp_path, capsys):
    arrays = {f"x-{n}.npy": np.ones((n + 1, 3), ">f4") for n in range(2)}
    arrays |= {f"name-{n}.npy": np.full(1, "abc") for n in range(2)} | {
        f"day-{n}.npy": np.full(1, 3, "M8[D]") for n in range(2)
    }
    said = {
        "features": {
            "x": {"ragged": True},
            "row": {"source": "index"},
            "one": {"source": {"constant": 2.5}},
            "day": {"role": "input"},
        },
        "splits": {"column": "day", "names": ["train", "test", "a", "b"]},
    }
    source = write_files(tmp_path / "src", arrays)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(said))
    assert run("inspect", source, "--config", tmp_path / "config.yaml") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    table = {name: " ".join(lines[name].split()) for name in lines}
    assert "any x 3" in table["x"]
    assert "string" in table["name"]
    assert table["train"].split()[1:3] == ["?", "?"]


def test_the_steps_of_a_feature_are_one_line(source, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    steps = "features.x={impute: {constant: -4}, normalize: [{clip: [0.01, 0.99]}, zscore], indicator: true}"
    assert run("inspect", source, "--set", steps) == 0
    line = " ".join(capsys.readouterr().out.split())
    assert "x input impute constant -4.0, clip [0.01, 0.99], zscore over element; with indicator float32, 4" in line


@pytest.mark.slow
def test_an_unfinished_build_is_inspected_as_such(source, tmp_path, capsys, monkeypatch):
    write = files.write_bytes

    def stop(path, data, **options):
        if path.endswith("manifest.json"):
            raise OSError("no space")
        write(path, data, **options)

    monkeypatch.setattr(files, "write_bytes", stop)
    assert run("build", source, tmp_path / "out") == 1
    capsys.readouterr()
    assert run("inspect", tmp_path / "out") == 0
    shown = capsys.readouterr().out
    assert "a build that is not finished, with 1 of 1 tasks written; the same command goes on" in shown


@pytest.mark.slow
def test_bad_files_and_dropped_rows_are_in_the_summary(tmp_path, capsys):
    arrays = {f"x-{n}.npy": np.ones((10, 2)) * n for n in range(4)} | {
        f"keep-{n}.npy": np.arange(10) % 2 for n in range(4)
    }
    source = write_files(tmp_path / "src", arrays | {"x-2.npy": b"nonsense"})
    assert run("build", source, tmp_path / "out") == 2
    assert "x-2.npy" in capsys.readouterr().err
    assert run("build", source, tmp_path / "out", "--on_error", "skip", "--max_bad_files", "0") == 2
    capsys.readouterr()
    assert (
        run("build", source, tmp_path / "out", "--on_error=skip", "--set", "filter=keep", "--set", "splits={train: 1}")
        == 0
    )
    shown = capsys.readouterr().out
    for text in ("15 rows were dropped", "in files that were skipped", "x-2.npy"):
        assert text in shown
    assert run("inspect", tmp_path / "out") == 0
    assert "15 rows were dropped" in capsys.readouterr().out


@pytest.mark.slow
def test_a_function_of_the_users_own(source, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "import tensorflow_transform as tft\n"
        "def prepare(inputs):\n"
        "    return {'first': tft.scale_to_0_1(inputs['x'][:, 0]), 'labels': inputs['labels']}\n"
    )
    place = f"{tmp_path / 'mine.py'}:prepare"
    assert run("build", source, tmp_path / "out", "--preprocessing_fn", place) == 0
    assert f"{place}, which gives" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [feature["name"] for feature in manifest["features"]] == ["first", "labels"]
    (tmp_path / "mine.py").unlink()
    assert run("build", source, tmp_path / "again", "--transform", tmp_path / "out") == 0
    assert run("append", source, tmp_path / "out") == 0
    capsys.readouterr()
    write_files(tmp_path / "more", {"x-1.npy": np.full((500, 4), 100, np.float32), "labels-1.npy": np.arange(500)})
    assert run("append", tmp_path / "more", tmp_path / "out") == 0
    assert "no longer fits labels, x" in capsys.readouterr().out
    (first,) = [batch["first"] for batch in loaders.load(str(tmp_path / "out"), "test", batch_size=10**6)]
    assert float(np.max(first)) > 10


@pytest.mark.slow
def test_leaks_are_exit_code_1(tmp_path, capsys):
    rows = np.arange(400.0).reshape(200, 2)
    for repeats, code in ((1, 0), (2, 1)):
        source = write_files(tmp_path / f"src{repeats}", {"x.npy": np.concatenate([rows] * repeats)})
        assert run("build", source, tmp_path / f"out{repeats}") == 0
        capsys.readouterr()
        assert run("leakage", tmp_path / f"out{repeats}") == code
        assert ("No row is in more than one split" in capsys.readouterr().out) == (code == 0)
    assert run("leakage", tmp_path / "out1", "--features", "z") == 2
    assert run("leakage", tmp_path / "src1") == 2


@pytest.mark.slow
def test_the_shuffle_of_sources_that_were_sorted_by_class(tmp_path, capsys):
    labels = np.repeat(np.arange(5, dtype=np.int32), 800)
    source = write_files(tmp_path / "src", {"labels.npy": labels, "x.npy": np.arange(8000.0).reshape(4000, 2)})
    assert run("build", source, tmp_path / "out", "--set", "splits={train: 1}") == 0
    capsys.readouterr()
    assert run("inspect", tmp_path / "out", "--shuffle", "--batch_size", 64) == 0
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines() if line.startswith("labels")]
    assert [line[:4] for line in lines] == [["labels", "0", "62", "5"], ["labels", "1", "62", "5"]]
    assert [line[-1] for line in lines] == ["yes", "yes"]
    assert "Batches have their classes as those of a true permutation have" in shown
    assert run("inspect", tmp_path / "out", "--shuffle", "--batch_size", 4000) == 2
    assert "labels, batches of 4000 rows of train: expected two batches" in capsys.readouterr().err


def write_sorted_by_class(root, monkeypatch):
    rows = {"y": np.repeat(np.arange(10, dtype=np.int32), 2000)}
    shards.write(root, {"train": [rows]}, rows_per_record=20, features=shards.specs(rows, {"y": "label"}))
    small_chunks(monkeypatch, chunk_bytes=200 * 5, window_bytes=6400 * 4)


def test_a_shuffle_that_does_not_mix_is_exit_code_1(tmp_path, monkeypatch, capsys):
    write_sorted_by_class(tmp_path / "out", monkeypatch)
    assert run("inspect", tmp_path / "out", "--shuffle") == 1
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines() if line.startswith("y ")]
    assert [line[-1] for line in lines] == ["no", "no"]
    assert "y, epoch 1: the classes differ between batches" in shown


def test_a_shuffle_is_told_of_labels_with_classes_only(source, tmp_path, capsys):
    rows = {"x": np.ones((9, 2), np.float32), "y": np.ones(9, np.float32)}
    shards.write(tmp_path / "out", {"a": [rows]}, rows_per_record=2, features=shards.specs(rows, {"y": "label"}))
    assert run("inspect", tmp_path / "out", "--shuffle") == 2
    found = "found x (input, float32, 2), y (label, float32, one value)"
    assert f"expected a label that tells the class of a row, one value that is no float; {found}" in (
        capsys.readouterr().err
    )
    assert run("inspect", source, "--shuffle") == 2
    assert "not a finished data set" in capsys.readouterr().err
    assert run("inspect", source, "--batch_size", 3) == 2
    assert "--batch_size: expected --shuffle" in capsys.readouterr().err


def test_bench_shows_and_writes_what_it_measured(tmp_path, capsys):
    write_numbered(tmp_path / "out", [40, 60], rows_per_record=4)
    options = ("--loader", "numpy", "--batch_size", 10, "--seconds", 0.02)
    assert run("bench", tmp_path / "out", *options, "--step_ms", 40, "--json", tmp_path / "bench.json") == 0
    shown = capsys.readouterr().out
    found = json.loads((tmp_path / "bench.json").read_text())
    assert f"{found['rows_per_second']:,.0f} rows/s" in shown
    for stage in found["stages"]:
        assert f"{stage['name']} " in shown
    assert f"A training step of 40 ms would wait for its batches {found['step']['waiting']:.1%} of the time" in shown
    assert run("bench", tmp_path / "out", *options, "--json", tmp_path) == 1
    assert f"{tmp_path}: expected a file that can be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["build", "SRC/none", "OUT"], ["SRC/none"]),
        (["inspect", "SRC/none"], ["SRC/none"]),
        (["build", "SRC", "OUT", "--set", "bogus=1"], ["bogus: unknown key; the keys are features"]),
        (["build", "SRC", "OUT", "--config", "SRC/none.yaml"], ["none.yaml"]),
        (["build", "SRC", "OUT", "--sed=3"], ["unknown option --sed; neither", "; did you mean --seed?"]),
        (
            ["build", "SRC", "OUT", "--owerwrite"],
            ["--owerwrite; neither", "; did you mean --overwrite?"],
        ),
        (["build", "SRC", "OUT", "--sed=3", "--dry_run"], ["unknown option --sed; neither"]),
        (["build", "--direct_num_workers", "2", "SRC", "OUT"], ["expected --direct_num_workers=VALUE"]),
        (["build", "SRC", "OUT", "--runner=FlinkRunnr"], ["--runner", "'FlinkRunnr'"]),
        (["build", "SRC", "SRC/x.npy"], ["x.npy: expected a directory; found a file"]),
        (["build", "SRC", "OUT", "--config", "SRC/x.npy"], ["x.npy: expected UTF-8 text"]),
        (["build", "SRC", "SRC"], ["expected another directory than that of the sources"]),
        (["verify", "SRC", "--fast"], ["--fast"]),
        (["append", "SRC", "OUT"], ["expected a finished data set with a manifest.json; found none"]),
        (["append", "SRC", "OUT", "--sed=3"], ["unknown option --sed; neither"]),
        (["build", "SRC", "OUT", "--transform", "SRC"], ["expected a finished data set"]),
        (["build", "SRC", "OUT", "--preprocessing_fn", "none.py:f"], ["expected FILE.py:FUNCTION"]),
        (["build", "SRC", "OUT", "--on_error", "ignore"], ["--on_error", "'ignore'"]),
        (["build", "SRC", "OUT", "--workers", "0"], ["--workers: expected a whole number of at least 1; found '0'"]),
        (["build", "SRC", "OUT", "--max_bad_files", "-1"], ["max_bad_files"]),
        (["validate", "SRC", "--against", "OUT"], ["expected a finished data set"]),
        (["validate", "SRC", "--max_drift", "much"], ["--max_drift", "'much'"]),
        (["inspect", "SRC", "--sed", "3"], ["--sed"]),
        (["inspect", "SRC", "--shuffle", "--batch_size", "0"], ["--batch_size", "'0'"]),
        (["bench", "SRC"], ["expected manifest.json"]),
        (["bench", "SRC", "--batch_size", "1.5"], ["--batch_size", "'1.5'"]),
        (["bench", "SRC", "--step_ms", "nan"], ["--step_ms", "'nan'"]),
        (["bench", "SRC", "--loader", "torch"], ["--loader", "'torch'"]),
        (["bench", "gs://bucket/out", "--loader", "numpy"], ["expected a local directory"]),
        (["status", "SRC"], ["expected a data set, finished or being built; found none"]),
        (["status", "SRC", "--wach"], ["unknown argument --wach; did you mean --watch?"]),
        (["status", "SRC", "--runner=FlinkRunner"], ["unknown argument --runner; ", "of file systems"]),
        (["inspect", "SRC", "--s3_endpoint=x"], ["--s3_endpoint: ", "write --storage_option s3.NAME=VALUE"]),
        (
            ["verify", "SRC", "--s3_endpoint_url", "x"],
            ["--s3_endpoint_url: ", "write --storage_option s3.endpoint_url=VALUE"],
        ),
        (["bench", "SRC", "--s3_endpoint_url=x"], ["write --storage_option s3.endpoint_url=VALUE"]),
        (["status", "SRC", "--storage_option", "s3.key"], ["KEY=VALUE", "found a storage option of another form"]),
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
    assert error == f"npyflow: {source}/x.npy (feature x): expected finite values or NaN; found inf in row 1 at (0,)\n"


GOES_ON = "The same command goes on where it stopped"
LARGEST_FILE = 500_000


@pytest.mark.slow
def test_a_shard_that_cannot_be_written_is_one_line_that_names_it(tmp_path, capsys):
    source, out = write_files(tmp_path / "src", {"x.npy": np.ones((100_000, 4))}), tmp_path / "out"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, hard))
    try:
        assert run("build", source, out, "--set", "splits={train: 1}") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    shard = out / "train" / "train-00000-of-00001.tfrecord"
    assert capsys.readouterr().err == f"npyflow: {shard}: File too large. {GOES_ON}\n"
    assert run("build", source, out, "--set", "splits={train: 1}") == 0
    assert run("verify", out) == 0
    shard.unlink()
    capsys.readouterr()
    assert run("leakage", out) == 1
    assert capsys.readouterr().err == f"npyflow: {shard}: No such file or directory\n"


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--workers=2", "--direct_num_workers=2"], ids=["forked", "threads"])
def test_a_worker_that_cannot_write_is_one_line(option, tmp_path):
    source = write_files(tmp_path / "src", {"x.npy": np.ones((100_000, 4))})
    program = (
        "import resource, sys\n"
        "from pipelines.cli import main\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({LARGEST_FILE}, {LARGEST_FILE}))\n"
        "sys.exit(main.main())"
    )
    done = commands.run("build", source, tmp_path / "out", "--set=splits={train: 1}", option, code=program)
    assert done.returncode == 1
    assert done.stderr == f"npyflow: {tmp_path}/out/train/train-00000-of-00001.tfrecord: File too large. {GOES_ON}\n"


@pytest.fixture
def small(tmp_path):
    """A data set of six rows to train and four to test, of which two are the same."""
    train, test = {"x": np.arange(6, dtype=np.int64)}, {"x": np.arange(4, 8, dtype=np.int64)}
    shards.write(
        tmp_path / "small", {"train": [train], "test": [test]}, rows_per_record=2, features=shards.specs(train)
    )
    return tmp_path / "small"


def damage(root):
    """Changes one bit of a shard."""
    path = next(root.glob("test/*.tfrecord"))
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def test_each_command_tells_machines_what_it_has_found(small, source, capsys):
    def told(*command):
        run(*command, "--json", "-")
        return json.loads(capsys.readouterr().out)  # and nothing else

    leaks = told("leakage", small)
    assert (leaks["rows"], leaks["distinct"], leaks["pairs"][0]["splits"]) == (10, 2, ["train", "test"])
    found = told("inspect", small)
    assert [feature["name"] for feature in found["features"]] == ["x"]
    assert {name: split["rows"] for name, split in found["splits"].items()} == {"train": 6, "test": 4}
    sources = told("inspect", source)
    assert {feature["feature"] for feature in sources["features"]} == {"x", "labels"}
    assert sources["config"]["splits"]
    damage(small)
    verified = told("verify", small)
    assert (verified["rows"], verified["shards"]) == (10, 2)
    (problem,) = verified["problems"]
    assert problem["expected"].startswith("in record 1 checksum ")


def test_quiet_commands_print_errors_alone(small, capsys):
    assert run("inspect", small, "--quiet") == run("verify", small, "--quiet") == 0
    damage(small)
    assert run("verify", small, "--quiet") == 1
    assert run("verify", small / "nothing", "--quiet") == 1
    captured = capsys.readouterr()
    assert not captured.out
    assert captured.err.count("\n") == 1


def test_a_report_makes_no_directory(small, tmp_path, capsys):
    assert run("verify", small, "--json", tmp_path / "none" / "report.json") == 1
    assert "expected a file that can be written; found No such file or directory" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("command", [["inspect", ""], ["build", "SRC", ""], ["verify", ""], ["append", "", "OUT"]])
def test_an_empty_path_is_an_error(command, capsys):
    with pytest.raises(SystemExit) as raised:
        run(*command)
    assert raised.value.code == 2
    assert "expected a path; found an empty one" in capsys.readouterr().err


def test_what_writes_nothing_does_not_say_so(tmp_path, capsys):
    assert run("inspect", tmp_path / "nothing") == 2
    assert "nothing was written" not in capsys.readouterr().err
    assert run("build", tmp_path / "nothing", tmp_path / "out") == 2
    assert "1 problem in the sources; nothing was written\n" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_found_before_anything_begins(source, capsys, monkeypatch):
    monkeypatch.setattr("pipelines.run.check_space", lambda *_: None)  # there is none either
    assert run("build", source, "/proc/npyflow", "--set=splits={train: 1}") == 2
    assert capsys.readouterr().err == "npyflow: /proc/npyflow: No such file or directory\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_has_not_begun_does_not_go_on(number, code, tmp_path):
    program = (
        "import os, sys\n"
        "from pipelines.cli.terminal import stopping_at_once\n"
        "with stopping_at_once(lambda: None, sys.argv[1]):\n"
        "    os.kill(os.getpid(), int(sys.argv[2]))"
    )
    state = tmp_path / "_build" / "state.json"
    for goes_on in ("", "; the same command goes on where it stopped"):
        command = [sys.executable, "-c", program, str(tmp_path), str(int(number))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert done.stderr == f"npyflow: interrupted{goes_on}\n"
        state.parent.mkdir(exist_ok=True)
        state.write_text("{}")


def test_ctrl_c_while_the_program_is_imported_is_one_line():
    program = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'numpy':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from pipelines.cli import main\n"
        "sys.exit(main.main(['--help']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "npyflow: interrupted\n")


def test_without_the_extra_the_message_says_what_to_install(source):
    program = (
        "import sys\n"
        "sys.modules['pydantic'] = None\n"
        "from pipelines.cli import main\n"
        f"sys.exit(main.main(['inspect', {source!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "npyflow: pydantic is not installed; this command needs pip install 'npyflow[pipelines]'\n"


def test_debug_shows_where(source):
    with pytest.raises(NpyflowError):
        run("build", source, source, "--debug")


def test_help_names_the_exit_codes(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as exit:
        run("--help")
    assert exit.value.code == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    for text in ("exit codes", "inspect", "build", "append", "validate", "status", "verify", "leakage", "bench", "130"):
        assert text in shown


@pytest.mark.slow
def test_neither_help_nor_inspect_loads_heavy_packages(source, tmp_path, monkeypatch):
    write_sorted_by_class(tmp_path / "out", monkeypatch)
    out = str(tmp_path / "out")
    bench = ["bench", out, "--loader", "numpy", "--seconds", "0.01"]
    for arguments in (["--help"], ["inspect", source], ["inspect", out, "--shuffle"], ["status", out], bench):
        program = (
            "import contextlib, sys\n"
            "from pipelines.cli import main\n"
            "with contextlib.suppress(SystemExit):\n"
            f"    main.main({arguments!r})\n"
            "heavy = {'tensorflow', 'apache_beam', 'tensorflow_transform', 'pyarrow', 'pandas'} & set(sys.modules)\n"
            "print('heavy:', *heavy)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "heavy:"


@pytest.mark.parametrize("options", [[], ["--no_sync"]])
def test_the_option_no_sync_waits_for_no_disk(source, tmp_path, monkeypatch, options):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (synced.append(os.readlink(f"/proc/self/fd/{handle}")), fsync(handle))
    )
    plain = ["--workers=1", "--no_report", "--set=features.x={normalize: none, impute: none}"]
    assert run("build", source, tmp_path / "out", *plain, *options) == 0
    written = [path for path in synced if path.startswith(str(tmp_path / "out"))]
    assert not written if options else str(tmp_path / "out") in written
    (tmp_path / "later").mkdir()
    for path in pathlib.Path(source).iterdir():
        shutil.copy(path, tmp_path / "later" / f"{path.stem}-1.npy")
    synced.clear()
    assert run("append", tmp_path / "later", tmp_path / "out", "--workers=1", *options) == 0
    assert bool([path for path in synced if path.startswith(str(tmp_path / "out"))]) == (not options)
