from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import pytest
from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow.fs import LocalFileSystem

from pipelines.storage import directories, files
from tests.support.arrays import RamFileSystem, empty_ram, register
from tests.support.file_systems import (
    CHECKS,
    listed,
    lists_below_a_directory_whose_name_looks_like_a_pattern,
    put,
)


class _Arrow(ArrowFSWrapper):
    """`arrow://`: files of this machine through Arrow, as those of HDFS are reached."""

    def __init__(self, **options: Any) -> None:
        super().__init__(LocalFileSystem(), **options)


fsspec.register_implementation("arrow", _Arrow, clobber=True)


@pytest.fixture(params=["local", "ram", "arrow"])
def root(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[str]:
    empty_ram()
    yield {"local": f"{tmp_path}/data", "ram": "ram://bucket/data", "arrow": f"arrow://{tmp_path}/data"}[request.param]
    empty_ram()


def test_a_local_path_needs_no_beam(tmp_path: pathlib.Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"")
    program = (
        "import sys; from pipelines.storage import directories; from pipelines.sources import table;"
        "from pipelines.reading import ranges; directories.list_files(sys.argv[1]);"
        "print([name for name in sys.modules if name.split('.')[0] in ('apache_beam', 'tensorflow')])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("check", CHECKS)
def test_it_does_what_every_file_system_does(check: Callable[[str], None], root: str) -> None:
    if root.startswith("arrow") and check is lists_below_a_directory_whose_name_looks_like_a_pattern:
        pytest.skip("fsspec takes what is behind a question mark for options of HDFS")
    check(root)


def test_lists_times_of_modification(tmp_path: pathlib.Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    os.utime(tmp_path / "x", (5, 7.5))
    assert [info.modified for info in directories.list_files(str(tmp_path))] == [7.5]


def test_follows_links_but_not_in_circles(tmp_path: pathlib.Path) -> None:
    data = tmp_path / "data"
    (data / "real").mkdir(parents=True)
    (data / "real" / "x.npy").write_bytes(b"abcd")
    (data / "real" / "up").symlink_to(data)
    (data / "link").symlink_to(data / "real")
    (data / "file.npy").symlink_to(data / "real" / "x.npy")
    (data / "nothing.npy").symlink_to(tmp_path / "absent")
    (data / "self.npy").symlink_to("self.npy")
    sizes = {info.path: info.size for info in directories.list_files(str(data))}
    assert sizes == {"real/x.npy": 4, "link/x.npy": 4, "file.npy": 4, "nothing.npy": 0, "self.npy": 0}


def test_what_is_no_file_is_listed_and_refused_where_it_is_opened(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    (tmp_path / "device.npy").symlink_to("/dev/null")
    (tmp_path / "directory.npy").mkdir()
    found = [info.path for info in directories.list_files(str(tmp_path))]
    assert found == ["device.npy", "pipe.npy"]
    with pytest.raises(OSError, match="expected a file; found a pipe or a device"):
        files.open_input(str(tmp_path / "device.npy"))


def test_an_unknown_scheme_is_an_os_error() -> None:
    with pytest.raises(OSError, match="nosuch"):
        directories.list_files("nosuch://bucket/data")


@pytest.mark.parametrize("action", [files.open_input, files.size, files.read_text])
def test_a_file_that_is_absent_is_an_os_error(root: str, action: object) -> None:
    with pytest.raises(OSError, match=r"absent"):
        action(files.join(root, "absent"))  # type: ignore[operator]


def test_a_reader_never_sees_half_a_text(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "manifest.json")
    files.write_text(path, "old")
    seen = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *names: (seen.append(files.read_text(path)), replace(*names)))
    files.write_text(path, "new")
    assert (seen, files.read_text(path)) == (["old"], "new")


@pytest.mark.parametrize("root", ["ram", "arrow"], indirect=True)
def test_of_several_who_create_a_file_one_does(root: str) -> None:
    path = files.join(root, "lock")
    assert [files.create_new(path, b"a"), files.create_new(path, b"b")] == [True, False]
    assert files.read_bytes(path) == b"a"


def test_names_in_a_directory_are_listed_hidden_ones_too(root: str) -> None:
    assert directories.list_names(root) == set()
    put(files.join(root, "_lock"))
    put(files.join(root, ".hidden", "x"))
    assert directories.list_names(root) == {"_lock", ".hidden"}
    with pytest.raises(NotADirectoryError):
        directories.list_names(files.join(root, "_lock"))


@register
class _Hierarchical(RamFileSystem):
    """`tree://`: renames over nothing, as HDFS does, and keeps directories."""

    protocol = "tree"

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        self.contents.setdefault(f"{self._whole(path)}/.directory", b"")

    def write(self, path: str, data: bytes) -> None:
        self.info(self._parent(path))  # an error where there is no directory
        super().write(path, data)

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        assert not self.exists(path2)
        super().mv(path1, path2)


def test_a_file_system_with_directories_that_writes_over_nothing() -> None:
    empty_ram()
    root = "tree://server/data"
    for path in ["a/b/c.npy", "a/empty.npy", "d.npy"]:
        put(f"{root}/{path}", b"" if "empty" in path else b"abc")
    assert listed(root) == ["a/b/c.npy", "a/empty.npy", "d.npy"]
    files.write_text(f"{root}/text", "one")
    files.write_text(f"{root}/text", "two")
    assert files.read_text(f"{root}/text") == "two"
    with pytest.raises(NotADirectoryError):
        directories.list_files(f"{root}/d.npy")
    directories.remove_tree(f"{root}/a")
    directories.remove_tree(f"{root}/a")
    assert listed(root) == ["d.npy", "text"]
    empty_ram()


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system cannot be told")
@pytest.mark.parametrize("synced", [True, False])
def test_the_disk_begins_with_a_file_that_will_be_synced_while_it_is_written(
    synced: bool, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, advise = [], os.posix_fadvise

    def noted(handle: int, start: int, size: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_DONTNEED
        begun.append((start, size))
        advise(handle, start, size, advice)

    monkeypatch.setattr(os, "posix_fadvise", noted)
    piece, some = os.urandom(files.BEGUN_BYTES // 2), 100
    with files.create(str(tmp_path / "file"), synced=synced) as file:
        for _ in range(5):
            file.write(piece)
        file.write(piece[:some])
    assert begun == ([(0, 2 * len(piece)), (2 * len(piece), 2 * len(piece))] if synced else [])
    assert (tmp_path / "file").read_bytes() == 5 * piece + piece[:some]
