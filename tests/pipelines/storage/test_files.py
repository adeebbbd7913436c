from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pipelines.storage import files
from tests.support.arrays import RamFileSystem, empty_ram


@pytest.fixture(params=["local", "ram"])
def root(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[str]:
    empty_ram()
    yield str(tmp_path / "data") if request.param == "local" else "ram://bucket/data"
    empty_ram()


def put(path: str, data: bytes = b"abc") -> None:
    with files.create(path) as file:
        file.write(data)


def listed(root: str) -> list[str]:
    return [info.path for info in files.list_files(root)]


def test_a_local_path_needs_no_beam(tmp_path: pathlib.Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"")
    program = (
        "import sys; from pipelines.storage import files; from pipelines.sources import table;"
        "from pipelines.reading import ranges; files.list_files(sys.argv[1]);"
        "print([name for name in sys.modules if name.split('.')[0] in ('apache_beam', 'tensorflow')])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_lists_files_at_any_depth_sorted_without_hidden_ones(root: str) -> None:
    for path in ["b.npy", "a/c.npy", "a/b/d.npy", ".hidden", "_temporary/e.npy", "a/_x", "a-b.npy"]:
        put(files.join(root, *path.split("/")))
    assert listed(root) == ["a-b.npy", "a/b/d.npy", "a/c.npy", "b.npy"]
    assert listed(root + "/") == listed(root)
    assert listed(files.join(root, "a")) == ["b/d.npy", "c.npy"]
    assert {info.size for info in files.list_files(root)} == {3}


def test_lists_below_a_directory_whose_name_looks_like_a_pattern(root: str) -> None:
    put(files.join(root, "a[1]*?", "x.npy"))
    put(files.join(root, "a1bc", "y.npy"))
    assert listed(files.join(root, "a[1]*?")) == ["x.npy"]


def test_lists_times_of_modification(tmp_path: pathlib.Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    os.utime(tmp_path / "x", (5, 7.5))
    assert [info.modified for info in files.list_files(str(tmp_path))] == [7.5]


def test_follows_links_but_not_in_circles(tmp_path: pathlib.Path) -> None:
    data = tmp_path / "data"
    (data / "real").mkdir(parents=True)
    (data / "real" / "x.npy").write_bytes(b"abcd")
    (data / "real" / "up").symlink_to(data)
    (data / "link").symlink_to(data / "real")
    (data / "file.npy").symlink_to(data / "real" / "x.npy")
    (data / "nothing.npy").symlink_to(tmp_path / "absent")
    (data / "self.npy").symlink_to("self.npy")
    sizes = {info.path: info.size for info in files.list_files(str(data))}
    assert sizes == {"real/x.npy": 4, "link/x.npy": 4, "file.npy": 4, "nothing.npy": 0, "self.npy": 0}


def test_leaves_out_what_is_no_file(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    (tmp_path / "directory.npy").mkdir()
    assert listed(str(tmp_path)) == []


def test_a_root_that_is_absent_or_a_file(root: str) -> None:
    with pytest.raises(FileNotFoundError):
        files.list_files(files.join(root, "absent"))
    put(files.join(root, "file"))
    with pytest.raises(NotADirectoryError):
        files.list_files(files.join(root, "file"))


def test_an_unknown_scheme_is_an_os_error() -> None:
    with pytest.raises(OSError, match="nosuch"):
        files.list_files("nosuch://bucket/data")


def test_writes_reads_renames_and_removes(root: str) -> None:
    path, other = files.join(root, "a", "x.gz"), files.join(root, "a", "y.gz")
    assert not files.exists(path)
    put(path, b"one")
    put(other, b"other")
    files.rename(path, other)
    assert (files.exists(path), files.exists(other), files.size(other)) == (False, True, 3)
    with files.open_input(other) as file:
        file.seek(1)
        assert file.read() == b"ne"  # not unpacked, whatever the suffix says
    put(other, b"shorter"[:2])
    assert files.size(other) == 2
    files.remove(other)
    files.remove(other)  # one that is absent is no error
    assert not files.exists(other)


@pytest.mark.parametrize("action", [files.open_input, files.size, files.read_text])
def test_a_file_that_is_absent_is_an_os_error(root: str, action: object) -> None:
    with pytest.raises(OSError, match=r"absent"):
        action(files.join(root, "absent"))  # type: ignore[operator]


def test_removes_a_tree_with_its_hidden_files_and_nothing_else(root: str) -> None:
    for path in ["out/a/x", "out/_tmp/y", "out/.z", "out2/x"]:
        put(files.join(root, *path.split("/")))
    files.remove_tree(files.join(root, "out"))
    files.remove_tree(files.join(root, "out"))
    assert listed(root) == ["out2/x"]
    assert not files.exists(files.join(root, "out", ".z"))


def test_making_a_directory_twice_is_no_error(root: str) -> None:
    files.make_directory(files.join(root, "a", "b"))
    files.make_directory(files.join(root, "a", "b"))


def test_text_goes_out_whole_and_comes_back(root: str) -> None:
    path = files.join(root, "manifest.json")
    files.write_text(path, "first")
    files.write_text(path, "größer\n")
    assert files.read_text(path) == "größer\n"
    assert files.read_bytes(path) == "größer\n".encode()
    files.write_bytes(path, b"\xff\x00")
    assert files.read_bytes(path) == b"\xff\x00"
    assert listed(root) == ["manifest.json"]


def test_a_reader_never_sees_half_a_text(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "manifest.json")
    files.write_text(path, "old")
    seen = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *names: (seen.append(files.read_text(path)), replace(*names)))
    files.write_text(path, "new")
    assert (seen, files.read_text(path)) == (["old"], "new")


class _Hierarchical(RamFileSystem):
    """`tree://`: lists one level with directories among the files, and writes over nothing, as HDFS does."""

    there = False

    @classmethod
    def scheme(cls) -> str:
        return "tree" if cls.there else "no-tree"

    def has_dirs(self) -> bool:
        return True

    def _list(self, directory):  # type: ignore[no-untyped-def]
        from apache_beam.io.filesystem import BeamIOError, FileMetadata

        directory = directory.rstrip("/")
        if directory in self.contents or not self.exists(directory):
            raise BeamIOError(f"{directory} is not a directory")
        children = {
            path[len(directory) + 1 :].split("/")[0] for path in self.contents if path.startswith(directory + "/")
        }
        for name in sorted(children):
            path = f"{directory}/{name}"
            yield FileMetadata(path, len(self.contents.get(path, b"")), 1.0)

    def exists(self, path: str) -> bool:
        return any(name == path or name.startswith(path + "/") for name in self.contents)

    def create(self, path, *args, **kwargs):  # type: ignore[no-untyped-def]
        assert not self.exists(path)
        return super().create(path, *args, **kwargs)

    def rename(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        assert not any(map(self.exists, destination_file_names))
        super().rename(source_file_names, destination_file_names)

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            super().delete([name for name in self.contents if name == path or name.startswith(path + "/")])


def test_a_file_system_with_directories_that_lists_one_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Hierarchical, "there", True)  # Beam takes every class that there is of a scheme
    empty_ram()
    root = "tree://server/data"
    for path in ["a/b/c.npy", "a/empty.npy", "d.npy"]:
        put(f"{root}/{path}", b"" if "empty" in path else b"abc")
    assert listed(root) == ["a/b/c.npy", "a/empty.npy", "d.npy"]
    files.write_text(f"{root}/text", "one")
    files.write_text(f"{root}/text", "two")
    assert files.read_text(f"{root}/text") == "two"
    with pytest.raises(OSError, match="not a directory"):
        files.list_files(f"{root}/d.npy")
    files.remove_tree(f"{root}/a")
    files.remove_tree(f"{root}/a")
    assert listed(root) == ["d.npy", "text"]
    empty_ram()
