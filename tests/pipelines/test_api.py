"""What `pipelines` exports, as a program calls it."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

import pipelines
from pipelines.config.schema import parse_config
from pipelines.storage import files
from tests.support import commands
from tests.support.arrays import write_files

ROWS = 300


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(ROWS, 4)).astype(np.float32)
    features[::7, 1] = np.nan
    return {"features": features, "labels": np.arange(ROWS) % 3}


def content(root):
    """The files that rows go into, and what is known of them, by path."""
    root = pathlib.Path(root)
    paths = sorted(path for path in root.rglob("*") if path.is_file() and "transform_fn" not in path.parts)
    return {str(path.relative_to(root)): path.read_bytes() for path in paths if path.name != "sources.json"}


def save(root, arrays):
    return write_files(root, {f"{name}.npy": array for name, array in arrays.items()})


def run(code, *arguments, **options):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_all_of_it_is_shown_documented_and_imported_late():
    code = (
        "import sys, pipelines\n"
        "print(*dir(pipelines))\n"
        "print(*{name.split('.')[0] for name in sys.modules} & {'tensorflow', 'apache_beam', 'pandas', 'pydantic'})\n"
        "late = {*pipelines._HOMES['pipelines.beam'].split(), 'analyzers'}\n"
        "names = [name for name in dir(pipelines) if name not in late]\n"
        "print(*(name for name in names if not getattr(pipelines, name).__doc__))\n"
        "print(*{name.split('.')[0] for name in sys.modules} & {'tensorflow', 'apache_beam', 'pandas'})\n"
        "print(pipelines.ReadNpy.__doc__.split()[0], 'tensorflow' in sys.modules)\n"
    )
    done = run(code)
    assert done.stderr == ""
    names, *others = done.stdout.splitlines()
    assert {"append", "build", "inspect", "leakage", "validate", "verify", "DatasetConfig", "SourceError"} <= {
        *names.split()
    }
    assert others == ["", "", "", "Reads False"]  # Beam's transforms are classes of Beam
    with pytest.raises(AttributeError, match="has no attribute 'biuld'"):
        _ = pipelines.biuld


@pytest.mark.slow
def test_the_function_stays_a_function_whatever_is_imported():
    code = (
        "import pkgutil, importlib, pipelines\n"
        "for module in pkgutil.walk_packages(pipelines.__path__, 'pipelines.'):\n"
        "    if '.cli' not in module.name: importlib.import_module(module.name)\n"
        "print(all(callable(getattr(pipelines, name)) for name in {*dir(pipelines)} - {'analyzers'}))\n"
    )
    assert run(code).stdout.splitlines()[-1:] == ["True"]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_arrays_give_the_same_bytes_as_the_files_of_them(tmp_path, arrays, workers):
    arrays |= {
        "fortran": np.asfortranarray(np.arange(ROWS * 6, dtype=np.int16).reshape(ROWS, 3, 2)),
        "big": np.arange(ROWS, dtype=">f8"),
        "strided": np.arange(ROWS * 2, dtype=np.uint8)[::2],
        "day": np.arange(ROWS).astype("M8[D]"),
        "name": np.array(["a", "bcd"] * (ROWS // 2)),
    }
    source = save(tmp_path / "src", arrays)
    code = (
        "import sys, numpy as np, pathlib, pipelines\n"
        "source, files, memory, workers = sys.argv[1:]\n"
        "config = {'shard_bytes': 4096, 'seed': 3}\n"
        "arrays = {path.stem: np.load(path) for path in pathlib.Path(source).glob('*.npy')}\n"
        "pipelines.build(arrays, memory, config, workers=int(workers))\n"
        "pipelines.build(source, files, config, workers=1)\n"
    )
    done = commands.run(source, tmp_path / "files", tmp_path / "memory", workers, code=code)
    assert done.returncode == 0, done.stderr
    expected, found = content(tmp_path / "files"), content(tmp_path / "memory")
    manifests = [json.loads(files.pop("manifest.json")) for files in (expected, found)]
    assert found == expected
    assert len(manifests[0]["splits"]["train"]["shards"]) > 1
    for manifest in manifests:
        del manifest["files"], manifest["sha256"]  # sources.json has the times of the files, which arrays have not
    assert manifests[0] == manifests[1]
    for file in ("manifest.json", "sources.json"):
        assert str(tmp_path) not in (tmp_path / "memory" / file).read_text()
    assert not (tmp_path / "memory" / "_build").exists()


@pytest.mark.slow
def test_a_mapped_file_is_read_from_where_it_is(tmp_path, arrays, monkeypatch):
    source = pathlib.Path(save(tmp_path / "src", arrays))
    mapped = {name: np.load(source / f"{name}.npy", mmap_mode="r") for name in arrays}
    written, write = [], files.create
    monkeypatch.setattr(files, "create", lambda path, **said: (written.append(path), write(path, **said))[1])
    expected = pipelines.build(source, tmp_path / "files")
    built = pipelines.build(mapped, tmp_path / "mapped")
    assert not [path for path in written if "sources" in path.split("/")]
    assert (tmp_path / "mapped" / "sources.json").read_text() == (tmp_path / "files" / "sources.json").read_text()
    assert content(tmp_path / "mapped").keys() == content(tmp_path / "files").keys()
    assert built.manifest.splits == expected.manifest.splits
    # What is no whole file, or may differ from its file, is written.
    parts = {"back": mapped["features"][::-1], "copied": np.load(source / "labels.npy", mmap_mode="c")}
    (tmp_path / "raw").write_bytes(np.arange(ROWS, dtype=np.int32).tobytes())
    pipelines.build(parts | {"raw": np.memmap(tmp_path / "raw", np.int32)}, tmp_path / "parts")
    assert len([path for path in written if "sources" in path.split("/")]) == 3
    np.testing.assert_array_equal(np.load(source / "features.npy"), arrays["features"])


@pytest.mark.slow
def test_names_of_arrays_are_names_of_features(tmp_path):
    bands = {f"band_{n}": np.full(90, n, np.float32) + np.arange(90) for n in range(3)} | {"0": np.arange(90)}
    built = pipelines.build(bands, tmp_path / "out")
    assert [feature.name for feature in built.manifest.features] == ["0", "band_0", "band_1", "band_2"]
    assert built.rows == 90
    assert pipelines.append({name: array + 1 for name, array in bands.items()}, tmp_path / "out").added == 90


def test_mappings_in_a_mapping_are_splits(tmp_path, arrays):
    half = {name: array[:100] for name, array in arrays.items()}
    built = pipelines.build({"train": arrays, "test": half}, tmp_path / "out")
    assert {split: built.manifest.rows(split) for split in built.manifest.splits} == {"test": 100, "train": ROWS}
    appended = pipelines.append({"test": half}, tmp_path / "out")
    assert {split: appended.manifest.rows(split) for split in appended.manifest.splits}["test"] == 200


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "the mapping: expected at least one array; found none"),
        ({"x": np.array([1, None])}, "array 'x': expected a dtype without objects; found object"),
        ({"x": [[1, 2], [3]]}, "array 'x': expected rows of one shape; .*ragged.*; found several shapes"),
        ({"x": np.float32(1)}, "array 'x' .*expected at least 1 axis to count rows"),
        ({"x": np.ones(3), "y": np.ones(4)}, "array 'y' .*expected 3 rows, as in x.npy .*found 4 rows"),
        ({"a/b": np.ones(3)}, "array 'a/b': expected a name that a file can have"),
        ({3: np.ones(3)}, "array 3: expected a name"),
        ({"x": np.ma.masked_array([1.0, 2.0], [True, False])}, "array 'x': expected a plain array, .*found a masked"),
        ({"x": np.ones(3, np.longdouble)}, "array 'x': expected bool, an integer"),
    ],
)
def test_arrays_that_can_be_no_sources_are_an_error_before_anything_is_written(tmp_path, given, message):
    for call in (pipelines.build, pipelines.validate):
        with pytest.raises(pipelines.SourceError, match=message):
            call(given, *([tmp_path / "out"] if call is pipelines.build else []))
    with pytest.raises(pipelines.SourceError, match=message):
        pipelines.inspect(given)
    assert not (tmp_path / "out").exists()


def test_lists_are_arrays(tmp_path):
    built = pipelines.build({"x": [[1.0, 2.0]] * 50, "y": list(range(50))}, tmp_path / "out")
    assert [feature.shape for feature in built.manifest.features] == [(2,), ()]


@pytest.mark.slow
def test_a_build_of_arrays_goes_on_only_with_the_same_arrays(tmp_path, arrays, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.publish.manifest.publish", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pipelines.build(arrays, out)
    task = out / "_build" / "tasks" / "0-00000.json"
    before = task.stat().st_mtime_ns
    assert (out / "_build" / "sources" / "features.npy").exists()
    others = arrays | {"labels": arrays["labels"][::-1].copy()}
    with pytest.raises(pipelines.OutputError, match="an unfinished build of other sources"):
        pipelines.build(others, out)
    assert task.stat().st_mtime_ns == before
    built = pipelines.build({name: array.copy() for name, array in arrays.items()}, out)
    assert built.counts["found_shards"] == 3
    assert pipelines.verify(out).problems == ()
    assert pipelines.build(others, out, overwrite=True).counts["rows"] == ROWS


@pytest.mark.slow
def test_appended_arrays_are_known_again(tmp_path, arrays):
    out = tmp_path / "out"
    pipelines.build(arrays, out)
    more = {"features": arrays["features"] + 1, "labels": arrays["labels"]}
    appended = pipelines.append(more, out)
    assert appended.added == ROWS
    assert "features" in appended.drifts
    assert pipelines.append(more, out) is None
    assert pipelines.verify(out).problems == ()
    source = save(tmp_path / "src", {f"{name}-7": array for name, array in more.items()})
    assert pipelines.append(source, out).added == ROWS


@pytest.mark.slow
def test_a_transform_serves_arrays(tmp_path, arrays):
    pipelines.build(arrays, tmp_path / "out")
    more = {"features": arrays["features"][:50], "labels": arrays["labels"][:50]}
    built = pipelines.build(more, tmp_path / "serving", {"splits": {"test": 1}}, transform=tmp_path / "out")
    assert built.manifest.rows("test") == 50
    assert built.manifest.transform_from is not None


def test_a_configuration_has_many_forms(tmp_path, arrays):
    said = {"seed": 5, "features": {"features": {"normalize": "minmax"}}, "splits": {"train": 1}}
    (tmp_path / "config.yaml").write_text("seed: 5\nfeatures: {features: {normalize: minmax}}\nsplits: {train: 1}\n")
    configs = [
        pipelines.inspect(arrays, config).config
        for config in (said, parse_config(said), tmp_path / "config.yaml", str(tmp_path / "config.yaml"))
    ]
    assert configs == configs[:1] * 4
    assert pipelines.inspect(arrays, configs[0]).config == configs[0]
    with pytest.raises(pipelines.ConfigError, match="sed: unknown key"):
        pipelines.inspect(arrays, {"sed": 5})
    with pytest.raises(pipelines.ConfigError, match=r"none\.yaml: expected a file that can be read"):
        pipelines.build(arrays, tmp_path / "out", tmp_path / "none.yaml")


@pytest.mark.slow
def test_progress_is_told_to_who_asks(tmp_path, arrays, capsys):
    told = []
    pipelines.build(arrays, tmp_path / "a", progress=lambda *stage: told.append(stage))
    assert told[-1] == ("write", ROWS, ROWS)
    assert ("analyze", ROWS, ROWS) in told
    pipelines.build(arrays, tmp_path / "b")
    pipelines.append({name: array[:9] for name, array in arrays.items()}, tmp_path / "b", progress=False)
    pipelines.verify(tmp_path / "b"), pipelines.leakage(tmp_path / "b"), pipelines.inspect(tmp_path / "b")
    assert capsys.readouterr().out == ""
    pipelines.build(arrays, tmp_path / "c", progress=True)
    assert f"write: {ROWS} of {ROWS} rows" in capsys.readouterr().out

    def fail(*_):
        raise RuntimeError("who asked")

    with pytest.raises(RuntimeError, match="who asked"):
        pipelines.build(arrays, tmp_path / "d", progress=fail)
    assert pipelines.status(tmp_path / "d").state == "finished"


@pytest.mark.slow
def test_nothing_of_the_process_is_changed(tmp_path, arrays):
    def state():
        return (dict(os.environ), signal.getsignal(signal.SIGINT), os.fstat(2), os.fstat(1), os.getcwd(), sys.stderr)

    before = state()
    pipelines.build(arrays, tmp_path / "out")
    pipelines.append({name: array[:9] for name, array in arrays.items()}, tmp_path / "out")
    pipelines.verify(tmp_path / "out")
    pipelines.validate(arrays, against=tmp_path / "out")
    assert state() == before


def test_results_show_themselves(tmp_path, arrays):
    out = tmp_path / "<b>out"
    built = pipelines.build(arrays, out)
    inspected = pipelines.inspect(out)
    validated = pipelines.validate(arrays, against=out)
    leaks, verified = pipelines.leakage(out), pipelines.verify(out)
    for result in (built, inspected, validated, leaks, verified, pipelines.status(out)):
        shown = result._repr_html_()
        assert shown
        assert "<b>" not in shown
        assert str(result)
        assert len(repr(result)) < 5000
    assert "&lt;b&gt;out" in verified._repr_html_()
    splits = built.to_frame()
    assert splits["rows"].sum() == ROWS
    assert list(splits.columns) == ["split", "rows", "bytes", "shards"]
    measures = validated.to_frame()
    assert len(measures) == len(validated.measures)
    assert measures["exceeded"].dtype == bool
    assert validated.to_json()["problems"] == validated.problems
    assert inspected.to_frame()["feature"].tolist() == ["features", "labels"]
    assert "float32" in str(inspected)


USED = """
import sys, types, numpy as np, tensorflow as tf
tf.constant(1.0) + 1.0
class NoFile:
    def write(self, text): return len(text)
    def flush(self): pass
sys.stdout, out, sys.stderr = NoFile(), sys.stdout, NoFile()
sys.modules["IPython"] = types.ModuleType("IPython")
sys.modules["IPython"].get_ipython = lambda: types.SimpleNamespace(execution_count=3, config={"IPKernelApp": {}})
import pipelines
x = np.arange(3000.0).reshape(600, 5)
built = pipelines.build({"x": x}, sys.argv[1], {"shard_bytes": 4096}, workers=int(sys.argv[2]), progress=True)
pipelines.append({"x": x + 1}, sys.argv[1], workers=int(sys.argv[2]))
assert pipelines.verify(sys.argv[1]).problems == ()
print(built.rows, file=out)
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_notebook_where_tensorflow_was_used(tmp_path, workers):
    done = commands.run(tmp_path / "out", workers, code=USED)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "600\n"
