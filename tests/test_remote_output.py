"""Data sets in a file system that is not local: the same bytes as in a local directory, whatever interrupts."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_transform.beam as tft_beam
from apache_beam.io.filesystem import BeamIOError

from pipelines import build as builds
from pipelines import files, metrics, progress, retry
from pipelines.build import build
from pipelines.config import parse_config
from pipelines.errors import ConfigError
from pipelines.export import analysis_context
from pipelines.output import Output
from pipelines.plan import make_plan, resolve_config
from pipelines.sources.table import scan
from pipelines.transform import load_transform
from pipelines.verify import read_manifest, verify
from tests.arrays import RamFileSystem, empty_ram, write_files

CONFIG = {
    "features": {"x": {"impute": "median", "normalize": "zscore"}, "y": {"role": "label"}},
    "splits": {"train": 0.8, "test": 0.2},
    "shard_bytes": 4096,
}

TRANSFORM_FN = '''"""A function of the user's own, whose analysis writes a file that the transform needs."""

import tensorflow as tf
import tensorflow_transform as tft


def preprocessing_fn(inputs):
    x = tf.cast(inputs["x"], tf.float64)
    words = tf.as_string(inputs["y"])
    known = tft.compute_and_apply_vocabulary(words)
    return {"x": tft.scale_to_0_1(tf.where(tf.math.is_nan(x), tf.zeros_like(x), x)), "known": known}
'''


class FlakyFileSystem(RamFileSystem):
    """`flaky://`: fails when something is written whose name holds a text, as a test says for each time."""

    failures: ClassVar[dict[str, list[Exception | None]]] = {}

    @classmethod
    def scheme(cls) -> str:
        return "flaky"

    def create(self, path, *args, **kwargs):  # type: ignore[no-untyped-def]
        for part, errors in self.failures.items():
            if part in path and errors and (error := errors.pop(0)) is not None:
                raise error
        return super().create(path, *args, **kwargs)


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


def test_a_data_set_is_the_same_in_every_file_system(local: tuple[str, str]) -> None:
    source, out = local
    manifest = build(source, "ram://bucket/out", parse_config(CONFIG))
    assert contents("ram://bucket/out") == contents(out)
    assert manifest.splits == read_manifest(out).splits
    assert not verify("ram://bucket/out").problems
    assert build(source, "ram://bucket/out", parse_config(CONFIG), overwrite=True).splits == manifest.splits
    assert contents("ram://bucket/out") == contents(out)


def test_a_transform_elsewhere_does_what_it_does_here(local: tuple[str, str]) -> None:
    source, out = local
    files.copy_tree(out, "ram://bucket/copy")
    rows = np.load(pathlib.Path(source) / "x-00.npy")
    given = {"x": rows}
    here, there = (load_transform(Output(root).transform) for root in (out, "ram://bucket/copy"))
    for name, expected in here.transform_fn(given).items():
        np.testing.assert_array_equal(there.transform_fn(given)[name].numpy(), expected.numpy())


def test_sources_elsewhere_and_their_transform_used_again(local: tuple[str, str]) -> None:
    source, out = local
    files.copy_tree(source, "ram://bucket/src")
    assert build("ram://bucket/src", "ram://bucket/out", parse_config(CONFIG)).splits == read_manifest(out).splits
    other = build("ram://bucket/src", "ram://bucket/other", transform="ram://bucket/out")
    assert other.splits == read_manifest(out).splits
    assert not verify("ram://bucket/other").problems


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


def test_a_write_that_fails_for_a_while_is_tried_again(local: tuple[str, str]) -> None:
    source, out = local
    error = BeamIOError("create failed", {"path": UnavailableError()})
    FlakyFileSystem.failures = {"_build/tmp/": [error, error], "train/": [error, error], "statistics.npz": [error]}
    with progress.counting() as counter:
        build(source, "flaky://bucket/out", parse_config(CONFIG))
    assert contents("flaky://bucket/out") == contents(out)
    assert counter.read(metrics.RETRIES).rows == 3


def test_a_write_that_is_not_allowed_is_tried_once(local: tuple[str, str]) -> None:
    FlakyFileSystem.failures = {"_build/tmp/": [PermissionError("not allowed")]}
    with progress.counting() as counter, pytest.raises(Exception, match="not allowed"):
        build(local[0], "flaky://bucket/out", parse_config(CONFIG))
    assert counter.read(metrics.RETRIES).rows == 0
    assert not files.exists("flaky://bucket/out/manifest.json")


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


def test_a_function_of_the_users_own_with_a_vocabulary(local: tuple[str, str], tmp_path: pathlib.Path) -> None:
    config = parse_config({"preprocessing_fn": own_function(tmp_path), "splits": {"train": 1}})
    there, here = (build(local[0], root, config) for root in ("flaky://bucket/out", tmp_path / "out"))
    assert there.splits == here.splits
    assert not verify("flaky://bucket/out").problems
    assert any("/assets/" in path for path in RamFileSystem.contents)


def test_an_analysis_of_the_users_own_needs_a_directory_for_tensorflow(
    local: tuple[str, str], tmp_path: pathlib.Path
) -> None:
    table = scan(local[0], config := parse_config({"preprocessing_fn": own_function(tmp_path)}))
    plan, remote = make_plan(table, resolve_config(config, table)), Output("flaky://bucket/out")
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
    files.copy_tree(local[1], "ram://bucket/out")
    RamFileSystem.contents["ram://bucket/out/_build/tmp/half"] = b"x"
    RamFileSystem.contents["ram://bucket/out/train/train-00000-of-00099.tfrecord"] = b"x"
    assert len(verify("ram://bucket/out").problems) == 2
