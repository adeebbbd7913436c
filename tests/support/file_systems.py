"""What every file system must do that sources or data sets lie in."""

from __future__ import annotations

import pytest

from pipelines.storage import directories, files


def put(path: str, data: bytes = b"abc") -> None:
    with files.create(path) as file:
        file.write(data)


def listed(root: str) -> list[str]:
    return [info.path for info in directories.list_files(root)]


def lists_files_at_any_depth_sorted_without_hidden_ones(root: str) -> None:
    for path in ["b.npy", "a/c.npy", "a/b/d.npy", ".hidden", "_temporary/e.npy", "a/_x", "a-b.npy"]:
        put(files.join(root, *path.split("/")))
    assert listed(root) == ["a-b.npy", "a/b/d.npy", "a/c.npy", "b.npy"]
    assert listed(root + "/") == listed(root)
    assert listed(files.join(root, "a")) == ["b/d.npy", "c.npy"]
    assert {info.size for info in directories.list_files(root)} == {3}


def lists_below_a_directory_whose_name_looks_like_a_pattern(root: str) -> None:
    put(files.join(root, "a[1]*?", "x.npy"))
    put(files.join(root, "a1bc", "y.npy"))
    assert listed(files.join(root, "a[1]*?")) == ["x.npy"]


def a_root_that_is_absent_or_a_file(root: str) -> None:
    with pytest.raises(FileNotFoundError):
        directories.list_files(files.join(root, "absent"))
    put(files.join(root, "file"))
    with pytest.raises(NotADirectoryError):
        directories.list_files(files.join(root, "file"))


def writes_reads_renames_and_removes(root: str) -> None:
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


def removes_a_tree_with_its_hidden_files_and_nothing_else(root: str) -> None:
    for path in ["out/a/x", "out/_tmp/y", "out/.z", "out2/x"]:
        put(files.join(root, *path.split("/")))
    directories.remove_tree(files.join(root, "out"))
    directories.remove_tree(files.join(root, "out"))
    assert listed(root) == ["out2/x"]
    assert not files.exists(files.join(root, "out", ".z"))


def making_a_directory_twice_is_no_error(root: str) -> None:
    files.make_directory(files.join(root, "a", "b"))
    files.make_directory(files.join(root, "a", "b"))


def text_goes_out_whole_and_comes_back(root: str) -> None:
    path = files.join(root, "manifest.json")
    files.write_text(path, "first")
    files.write_text(path, "größer\n")
    assert files.read_text(path) == "größer\n"
    assert files.read_bytes(path) == "größer\n".encode()
    files.write_bytes(path, b"\xff\x00")
    assert files.read_bytes(path) == b"\xff\x00"
    assert listed(root) == ["manifest.json"]


CHECKS = (
    lists_files_at_any_depth_sorted_without_hidden_ones,
    lists_below_a_directory_whose_name_looks_like_a_pattern,
    a_root_that_is_absent_or_a_file,
    writes_reads_renames_and_removes,
    removes_a_tree_with_its_hidden_files_and_nothing_else,
    making_a_directory_twice_is_no_error,
    text_goes_out_whole_and_comes_back,
)
"""Called with a directory that does not exist."""
