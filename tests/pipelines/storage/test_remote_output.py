"""Data sets in a file system that is not local: the same bytes as in a local directory, whatever interrupts."""

import contextlib
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow_transform.beam as tft_beam

from pipelines import counters
from pipelines.analyze.export import analysis_context
from pipelines.analyze.user_function import trace_configured
from pipelines.cli import main
from pipelines.config.schema import parse_config
from pipelines.errors import ConfigError
from pipelines.maintain.verify import verify
from pipelines.output.directory import Output, read_manifest
from pipelines.plan.plan import make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.sources.table import scan
from pipelines.storage import directories, file_systems, files, retry
from pipelines.write.transform import load_transform
from tests.support import builds
from tests.support.arrays import RamFileSystem, empty_ram, register, write_files
from tests.support.builds import build
from tests.support.manifests import stored
from tests.support.s3_options import environment

CONFIG = {
    "features": {"x": {"impute": "median", "normalize": "zscore"}, "y": {"role": "label"}},
    "splits": {"train": 0.8, "test": 0.2},
    "shard_bytes": 4096,
}

TRANSFORM_FN = '''"""A function of the user's own, whose analysis writes a file that the transform needs."""

import tensorflow as tf
import tensorflow_transform as tft

from pipelines import analyzers as npa


def preprocessing_fn(inputs):
    x = tf.cast(inputs["x"], tf.float64)
    words = tf.as_string(inputs["y"])
    known = tft.compute_and_apply_vocabulary(words)
    z = npa.scale_to_z_score(x, dtype=tf.float32)
    return {"x": tft.scale_to_0_1(tf.where(tf.math.is_nan(x), tf.zeros_like(x), x)), "known": known, "z": z}
'''


@register
class FlakyFileSystem(RamFileSystem):
    """`flaky://`: fails when something is written whose name holds a text, as a test says for each time."""

    protocol = "flaky"
    failures: ClassVar[dict[str, list[Exception | None]]] = {}

    def write(self, path: str, data: bytes) -> None:
        for part, errors in self.failures.items():
            if part in path and errors and (error := errors.pop(0)) is not None:
                raise error
        super().write(path, data)


@register
class GuardedFileSystem(RamFileSystem):
    """`guarded://`: reached with an option only."""

    protocol = "guarded"

    def __init__(self, user: str | None = None, **options: Any) -> None:
        if user != "me":
            raise ValueError(f"expected the user me; found {user}")
        super().__init__(**options)


class UnavailableError(Exception):
    """What a library of a store raises when the store is overloaded."""

    code = 503


def sources(root: pathlib.Path, *, first: int = 0, parts: int = 3) -> pathlib.Path:
    for part in range(first, first + parts):
        generator = np.random.default_rng(part)
        x = generator.normal(size=(200, 4)).astype(np.float32)
        x[::20] = np.nan
        write_files(
            root, {f"x-{part:02d}.npy": np.asfortranarray(x), f"y-{part:02d}.npy": generator.integers(0, 5, 200)}
        )
    return root


@pytest.fixture(autouse=True)
def _empty(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    empty_ram()
    FlakyFileSystem.failures = {}
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.01)
    yield
    empty_ram()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    root = tmp_path_factory.mktemp("local")
    source = str(sources(root / "src"))
    build(source, root / "out", parse_config(CONFIG))
    return source, str(root / "out")


def contents(root: str) -> dict[str, bytes]:
    """Every file of a data set but the SavedModel's, in which TensorFlow writes a random number."""
    if files.is_local(root):
        found = {
            str(path.relative_to(root)): path.read_bytes() for path in pathlib.Path(root).rglob("*") if path.is_file()
        }
    else:
        found = {
            path[len(root) + 1 :]: data for path, data in RamFileSystem.contents.items() if path.startswith(root + "/")
        }
    return {name: data for name, data in found.items() if "transform_fn/" not in name and name != "manifest.json"}


@pytest.mark.slow
def test_a_data_set_is_the_same_in_every_file_system(local: tuple[str, str]) -> None:
    source, out = local
    manifest = build(source, "ram://bucket/out", parse_config(CONFIG))
    assert contents("ram://bucket/out") == contents(out)
    assert manifest.splits == read_manifest(out).splits
    assert not verify("ram://bucket/out").problems
    assert stored(build(source, "ram://bucket/out", parse_config(CONFIG), overwrite=True)) == stored(manifest)
    replaced = {name.replace("-g001", ""): data for name, data in contents("ram://bucket/out").items()}
    assert replaced == contents(out)


def test_a_transform_elsewhere_does_what_it_does_here(local: tuple[str, str]) -> None:
    source, out = local
    directories.copy_tree(out, "ram://bucket/copy")
    rows = np.load(pathlib.Path(source) / "x-00.npy")
    given = {"x": rows}
    here, there = (load_transform(Output(root).transform) for root in (out, "ram://bucket/copy"))
    for name, expected in here.transform_fn(given).items():
        np.testing.assert_array_equal(there.transform_fn(given)[name].numpy(), expected.numpy())


@pytest.mark.slow
def test_sources_elsewhere_and_their_transform_used_again(local: tuple[str, str]) -> None:
    source, out = local
    directories.copy_tree(source, "ram://bucket/src")
    assert build("ram://bucket/src", "ram://bucket/out", parse_config(CONFIG)).splits == read_manifest(out).splits
    same = parse_config({"splits": read_manifest(out).config["splits"]})
    other = build("ram://bucket/src", "ram://bucket/other", same, transform="ram://bucket/out")
    assert other.splits == read_manifest(out).splits
    assert not verify("ram://bucket/other").problems


@pytest.mark.slow
def test_a_build_that_was_stopped_goes_on_and_leaves_nothing(local: tuple[str, str]) -> None:
    source, out = local
    FlakyFileSystem.failures = {"_build/tasks/": [None, RuntimeError("switched off")]}
    with pytest.raises(Exception, match="switched off"):
        build(source, "flaky://bucket/out", parse_config(CONFIG))
    tasks = {path: data for path, data in RamFileSystem.contents.items() if "/_build/tasks/" in path}
    assert len(tasks) == 1
    assert not files.exists("flaky://bucket/out/manifest.json")
    RamFileSystem.contents["flaky://bucket/out/_build/tmp/half"] = b"what a killed task has left"
    assert build(source, "flaky://bucket/out", parse_config(CONFIG)).splits == read_manifest(out).splits
    assert contents("flaky://bucket/out") == contents(out)
    assert not verify("flaky://bucket/out").problems


@pytest.mark.slow
def test_a_write_that_fails_for_a_while_is_tried_again(local: tuple[str, str]) -> None:
    source, out = local
    error = UnavailableError()
    FlakyFileSystem.failures = {"_build/tmp/": [error, error], "train/": [error, error], "statistics.npz": [error]}
    with counters.counting() as counter:
        build(source, "flaky://bucket/out", parse_config(CONFIG))
    assert contents("flaky://bucket/out") == contents(out)
    assert counter.read(counters.RETRIES).rows == 3


@pytest.mark.slow
def test_a_write_that_is_not_allowed_is_tried_once(local: tuple[str, str]) -> None:
    FlakyFileSystem.failures = {"_build/tmp/": [PermissionError("not allowed")]}
    with counters.counting() as counter, pytest.raises(Exception, match="not allowed"):
        build(local[0], "flaky://bucket/out", parse_config(CONFIG))
    assert counter.read(counters.RETRIES).rows == 0
    assert not files.exists("flaky://bucket/out/manifest.json")


@pytest.mark.slow
def test_appending_elsewhere_gives_what_it_gives_here(local: tuple[str, str], tmp_path: pathlib.Path) -> None:
    source, _ = local
    build(source, tmp_path / "here", parse_config(CONFIG))
    build(source, "ram://bucket/there", parse_config(CONFIG))
    later = sources(tmp_path / "later", first=3, parts=1)
    here, there = builds.append(later, tmp_path / "here"), builds.append(later, "ram://bucket/there")
    assert here is not None
    assert there is not None
    assert here.manifest.splits == there.manifest.splits
    assert contents("ram://bucket/there") == contents(str(tmp_path / "here"))
    assert not verify("ram://bucket/there").problems


def own_function(root: pathlib.Path) -> str:
    (root / "own.py").write_text(TRANSFORM_FN)
    return f"{root / 'own.py'}:preprocessing_fn"


@pytest.mark.slow
def test_a_function_of_the_users_own_with_a_vocabulary(local: tuple[str, str], tmp_path: pathlib.Path) -> None:
    config = parse_config({"preprocessing_fn": own_function(tmp_path), "splits": {"train": 1}})
    there, here = (build(local[0], root, config) for root in ("flaky://bucket/out", tmp_path / "out"))
    assert there.splits == here.splits
    assert not verify("flaky://bucket/out", trust=True).problems
    assert "LookupTableFindV2" in str(verify("flaky://bucket/out"))
    assert any("/assets/" in path for path in RamFileSystem.contents)
    assert files.read_bytes("flaky://bucket/out/fitted.npz") == (tmp_path / "out" / "fitted.npz").read_bytes()


def test_an_analysis_of_the_users_own_needs_a_directory_for_tensorflow(
    local: tuple[str, str], tmp_path: pathlib.Path
) -> None:
    table = scan(local[0], config := parse_config({"preprocessing_fn": own_function(tmp_path)}))
    plan, remote = (
        make_plan(table, resolve_config(config, table, custom=trace_configured(config, table))),
        Output("flaky://bucket/out"),
    )
    with analysis_context(plan, Output(str(tmp_path)), here=False, shared=None):
        assert tft_beam.Context.create_base_temp_dir().startswith(str(tmp_path / "_build" / "tmp"))
    with analysis_context(plan, remote, here=True, shared=None):
        directory = pathlib.Path(tft_beam.Context.create_base_temp_dir())
        assert directory.is_dir()
    assert not directory.parent.exists()
    with analysis_context(plan, remote, here=False, shared=str(tmp_path)):
        assert pathlib.Path(tft_beam.Context.create_base_temp_dir()).parent.parent == tmp_path
    for shared in (None, "flaky://bucket/tmp"):
        with pytest.raises(ConfigError, match=r"--temp_location=DIRECTORY.* flaky://bucket/out; found"):
            contextlib.ExitStack().enter_context(analysis_context(plan, remote, here=False, shared=shared))


def test_verify_finds_what_a_build_has_left_elsewhere(local: tuple[str, str]) -> None:
    directories.copy_tree(local[1], "ram://bucket/out")
    RamFileSystem.contents["ram://bucket/out/_build/tmp/half"] = b"x"
    RamFileSystem.contents["ram://bucket/out/train/train-00000-of-00099.tfrecord"] = b"x"
    assert len(verify("ram://bucket/out").problems) == 2


def run(*arguments: str) -> int:
    """A command as a program of its own runs it, with no options but those that it is given."""
    file_systems._options = {}
    try:
        return main.main(arguments)
    finally:
        file_systems._options = {}


@pytest.mark.slow
def test_options_of_file_systems_are_written_nowhere(local: tuple[str, str], tmp_path: pathlib.Path) -> None:
    given = {"guarded": {"user": "me", "password": "not-for-others"}}
    config = parse_config(CONFIG | {"storage_options": given})
    assert "not-for-others" not in f"{config!r} {config.model_dump_json()}"
    written: list[bytes] = []
    write = GuardedFileSystem.write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            GuardedFileSystem, "write", lambda self, path, data: (written.append(data), write(self, path, data))
        )
        manifest = build(local[0], "guarded://b/out", config)
        later = sources(tmp_path / "later", first=3, parts=1)
        assert builds.append(later, "guarded://b/out", storage_options=given) is not None
    assert manifest.splits == read_manifest(local[1]).splits
    assert len(written) > 20
    assert not any(b"not-for-others" in data for data in written)
    file_systems._options = {}


@pytest.mark.parametrize("given", ["text", {"s3": "secret"}, ["secret"]])
def test_options_of_another_form_are_refused_and_not_shown(given: object) -> None:
    with pytest.raises(ConfigError, match="storage_options: expected for each scheme, such as s3, a mapping") as error:
        parse_config({"storage_options": given})
    assert "secret" not in str(error.value)


def test_an_option_of_beams_is_refused_with_what_to_write(
    local: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (("status", "s3://b/out"), ("build", "src", "s3://b/out"), ("bench", "s3://b/out")):
        with pytest.raises(SystemExit):
            run(*command, "--s3_secret_access_key=secret")
        shown = capsys.readouterr().err
        assert "write --storage_option s3.secret=VALUE, or storage_options in the configuration" in shown
        assert "=secret" not in shown
    with pytest.raises(ConfigError, match=r"--hdfs_host.* --storage_option hdfs.host=VALUE"):
        build(local[0], "hdfs://b/out", beam_options=["--hdfs_host=namenode"])


def test_a_store_whose_package_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(ConfigError, match=r"s3://: expected the package .* found none \(pip install 'npyflow\[s3\]'"):
        files.exists("s3://nowhere/x")


@pytest.mark.parametrize(("command", "code"), [("inspect", 0), ("status", 0), ("verify", 0), ("leakage", 1)])
def test_commands_that_read_reach_a_file_system_with_its_options(
    command: str, code: int, local: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for path in pathlib.Path(local[1]).rglob("*"):
        if path.is_file():
            RamFileSystem.contents[f"guarded://b/out/{path.relative_to(local[1])}"] = path.read_bytes()
    assert run(command, "guarded://b/out") == 1
    assert "expected the user me; found None" in capsys.readouterr().err
    assert run(command, "guarded://b/out", "--storage_option=guarded.user=me") == code
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "rows" in shown.out


@pytest.mark.slow
@pytest.mark.parametrize("how", ["options", "environment"])
def test_every_command_reaches_an_object_store_in_the_same_way(
    how: str, options: list[str], local: tuple[str, str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "FSSPEC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    given = options
    if how == "environment":
        for name, value in environment(options).items():
            monkeypatch.setenv(name, value)
        given = []
    settings = [f"--set={key}={value}" for key, value in CONFIG.items()]
    out = f"s3://data/{how}"
    assert run("build", local[0], out, *settings, *given) == 0
    for command in ("inspect", "status", "verify"):
        assert run(command, out, *given) == 0
    assert run("leakage", out, *given) == 1
    assert run("append", local[0], out, *given) == 0
    assert run("validate", local[0], "--against", out, *given) == 0
