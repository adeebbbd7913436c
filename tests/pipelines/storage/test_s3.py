"""Builds from and to a real object store that speaks S3; `scripts/s3.sh` gets it and starts it."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from pipelines import counters
from pipelines.config.schema import DatasetConfig, parse_config
from pipelines.maintain.verify import verify
from pipelines.output.directory import Output, read_manifest
from pipelines.plan.plan import make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.plan.units import Span
from pipelines.reading.columns import read_columns
from pipelines.sources.table import scan
from pipelines.storage import directories, file_systems, files, remote, retry
from pipelines.storage.file_systems import configure, connect
from tests.support.arrays import write_files
from tests.support.builds import build
from tests.support.commands import Command
from tests.support.file_systems import CHECKS
from tests.support.s3_options import endpoint, environment, storage_options, through
from tests.support.s3_proxy import Fault, Proxy

pytestmark = pytest.mark.slow

CONFIG = {
    "features": {"x": {"impute": "median", "normalize": "zscore"}, "y": {"role": "label"}},
    "splits": {"train": 0.8, "test": 0.2},
    "shard_bytes": 16_384,
}


@pytest.fixture(autouse=True)
def _options(options: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What this process has in its environment must not matter."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "FSSPEC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.01)
    configure(storage_options(options))
    yield
    configure(storage_options(options))
    directories.remove_tree("s3://data")
    file_systems._options = {}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    root = tmp_path_factory.mktemp("local")
    for part in range(4):
        generator = np.random.default_rng(part)
        x = generator.normal(size=(2000, 4)).astype(np.float32)
        x[::20] = np.nan
        write_files(
            root / "src", {f"x-{part}.npy": np.asfortranarray(x), f"y-{part}.npy": generator.integers(0, 5, 2000)}
        )
    build(root / "src", root / "out", parse_config(CONFIG))
    return str(root / "src"), str(root / "out")


def start(source: str, output: str, options: Sequence[str]) -> Command:
    settings = [f"--set={key}={value}" for key, value in CONFIG.items()]
    return Command("build", source, output, *settings, *options)


def check_equal(remote: str, local: str) -> None:
    """Checks that a data set is that of a local build, byte for byte.

    Left out are TensorFlow's own files, which hold a random number, and what tells when the sources were changed.
    """
    for path in pathlib.Path(local).rglob("*"):
        name = str(path.relative_to(local))
        if path.is_file() and "transform_fn/" not in name and name not in ("manifest.json", "sources.json"):
            assert files.read_bytes(files.join(remote, name)) == path.read_bytes(), name
    assert read_manifest(remote).splits == read_manifest(local).splits
    assert not verify(remote).problems
    with pytest.raises(FileNotFoundError):
        directories.list_files(files.join(remote, "_build"))
    assert not files.exists(Output(remote).lock)


@pytest.mark.parametrize("check", CHECKS)
def test_it_is_a_file_system_like_others(check: Callable[[str], None]) -> None:
    check("s3://data/some")


def test_a_large_object_is_sent_in_parts_and_appears_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PART_BYTES", 5 * 2**20)
    data, path = np.random.default_rng(0).bytes(12_000_000), "s3://data/large"
    with files.create(path) as file:
        for first in range(0, len(data), 1_000_000):
            file.write(data[first : first + 1_000_000])
            assert not files.exists(path)
    with files.open_input(path) as found:
        assert found.read() == data
        found.seek(7_000_000)
        assert found.read(1000) == data[7_000_000:7_001_000]
    with contextlib.suppress(ValueError), files.create("s3://data/half") as file:
        file.write(data)
        raise ValueError
    abandoned = files.create("s3://data/abandoned")
    abandoned.write(data)
    store, _ = connect("s3://data")
    assert [upload["Key"] for upload in store.list_multipart_uploads("data")] == ["abandoned"]
    del abandoned
    directories.remove_unfinished("s3://data/aband")  # no directory
    assert len(store.list_multipart_uploads("data")) == 1
    directories.remove_unfinished("s3://data")
    assert not store.list_multipart_uploads("data")
    assert [file.path for file in directories.list_files("s3://data")] == ["large"]


def test_a_range_takes_little_memory_but_its_own() -> None:
    data, path = np.random.default_rng(0).bytes(16_000_000), "s3://data/large"
    files.write_bytes(path, data)
    assert files.read_range(path, 0, 1) == data[:1]
    tracemalloc.start()
    found = files.read_range(path, 0, len(data))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == data
    assert most < 2 * len(data) + 3 * 2**20  # what has come, and all of it together


def test_a_bucket_is_no_file() -> None:
    assert not files.exists("s3://data")
    with pytest.raises(FileNotFoundError):
        directories.list_files("s3://data")


def test_of_several_who_create_an_object_one_does() -> None:
    assert [files.create_new("s3://data/lock", b"a"), files.create_new("s3://data/lock", b"b")] == [True, False]
    assert files.read_bytes("s3://data/lock") == b"a"


def test_workers_reach_the_store_as_the_program_does(local: tuple[str, str], options: list[str]) -> None:
    source, out = local
    directories.copy_tree(source, "s3://data/src")
    process = start("s3://data/src", "s3://data/out", [*options, "--workers=2"])
    shown, _ = process.communicate()
    assert process.returncode == 0, shown
    check_equal("s3://data/out", out)


def test_requests_that_fail_are_made_again(local: tuple[str, str], options: list[str]) -> None:
    source, out = local
    directories.copy_tree(source, "s3://data/src")

    def faults(number: int, method: str) -> Fault | None:
        return {3: "error", 5: "busy", 7: "slow"}.get(number % 11) or (
            "cut" if number % 13 == 1 and method == "GET" else None
        )  # type: ignore[return-value]

    with Proxy(endpoint(options)) as proxy, counters.counting() as counter:
        proxy.faults = faults
        reached = {"storage_options": storage_options(through(proxy.endpoint, options))}
        build("s3://data/src", "s3://data/out", parse_config(CONFIG | reached))
    assert counter.read(counters.RETRIES).rows > len(proxy.requests) // 11
    configure(storage_options(options))
    check_equal("s3://data/out", out)


def test_a_store_that_refuses_is_not_asked_again(local: tuple[str, str], options: list[str]) -> None:
    wrong = [*options, "--storage_option=s3.secret=wrong"]
    with Proxy(endpoint(options)) as proxy:
        configure(storage_options(through(proxy.endpoint, wrong)))
        with pytest.raises(PermissionError, match="s3://data/x"):
            files.read_bytes("s3://data/x")
    assert len(proxy.requests) == 1


def test_a_killed_build_goes_on_and_nobody_else_builds_there(local: tuple[str, str], options: list[str]) -> None:
    source, out = local
    first = start(source, "s3://data/out", options)
    end = time.monotonic() + 120
    while not files.exists(Output("s3://data/out").lock):
        assert first.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    second = start(source, "s3://data/out", options)
    shown, _ = second.communicate()
    assert second.returncode == 2, shown
    assert f"found one on {socket.gethostname()}, process {first.pid}, since" in shown
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert files.exists(Output("s3://data/out").lock)
    build(source, "s3://data/out", parse_config(CONFIG))
    check_equal("s3://data/out", out)


LOADING = """
import sys
import numpy as np
import loaders
from loaders.numpy import Loader
here, there = sys.argv[1:]
known = loaders.open(here)["train"][:]
found = loaders.open(there)["train"][:]
assert all((known[name] == found[name]).all() for name in known)
expected = list(Loader(here, "train", batch_size=100, seed=3))
for batch, other in zip(expected, Loader(there, "train", batch_size=100, seed=3), strict=True):
    assert all((batch[name] == other[name]).all() for name in batch)
assert "tensorflow" not in sys.modules
for batch, other in zip(expected, loaders.load(there, "train", batch_size=100, seed=3), strict=True):
    assert all((batch[name] == other[name].numpy()).all() for name in batch)
print("read")
"""


def test_loaders_read_a_data_set_there(local: tuple[str, str], options: list[str]) -> None:
    directories.copy_tree(local[1], "s3://data/out")
    with Proxy(endpoint(options)) as proxy:
        done = subprocess.run(
            [sys.executable, "-c", LOADING, local[1], "s3://data/out"],
            env=os.environ | environment(through(proxy.endpoint, options)),
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout.strip()) == (0, "read"), done.stderr
    shards = [headers for method, path, headers in proxy.requests if method == "GET" and path.endswith(".tfrecord")]
    assert shards
    assert all("Range" in headers for headers in shards)


def test_ranges_of_a_task_are_few_requests_for_little_more_than_its_rows(options: list[str]) -> None:
    """Columns of 1.6 MB: rows that lie near come together, rows that lie far apart do not bring what is between."""
    array = np.asfortranarray(np.random.default_rng(0).normal(size=(200_000, 6)))
    with files.create("s3://data/src/x.npy") as file:
        np.lib.format.write_array(file, array)
    with Proxy(endpoint(options)) as proxy, counters.counting() as counter:
        configure(storage_options(through(proxy.endpoint, options)))
        table = scan("s3://data/src", config := DatasetConfig())
        plan = make_plan(table, resolve_config(config, table))
        proxy.requests.clear()
        before = counter.read(counters.BYTES_READ).rows
        near = [(1000, 3000), (4000, 6000), (8000, 9000)]
        spans = [Span(part=0, start=first, stop=last) for first, last in (*near, (150_000, 151_000))]
        found = read_columns(plan, spans, stage="test")["x"]
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, np.concatenate([array[span.start : span.stop] for span in spans]))
    # The size of the file, and two ranges of each column.
    assert sorted(method for method, _, _ in proxy.requests) == ["GET"] * 12 + ["HEAD"]
    read = counter.read(counters.BYTES_READ).rows - before
    assert read == 6 * 8 * ((9000 - 1000) + 1000)
