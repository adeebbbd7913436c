"""What a directory holds before each call that changes a file in it: after a kill there, and after a power cut."""

from __future__ import annotations

import builtins
import os
import pathlib
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

Image = dict[str, bytes | None]
"""Each path below the directory: what a file holds, or None for a directory."""

CHANGING = ("fsync", "mkdir", "remove", "replace", "rmdir", "unlink")


class Recording:
    """The different images of a directory, in order.

    Attributes:
        killed: What a kill leaves: every call before has been made.
        cut: What a power cut leaves: names as a kill leaves them, and of what files hold only what was synced.
    """

    def __init__(self, root: pathlib.Path) -> None:
        self.killed: list[Image] = []
        self.cut: list[Image] = []
        self._root = root
        self._synced: dict[int, bytes] = {}

    def look(self) -> None:
        """Takes images of how the directory is now."""
        killed, cut = {}, {}
        for path in sorted(self._root.rglob("*")):
            name = path.relative_to(self._root).as_posix()
            try:
                status = path.stat()
                killed[name] = None if stat.S_ISDIR(status.st_mode) else path.read_bytes()
            except FileNotFoundError:  # TensorFlow has its own threads
                continue
            cut[name] = None if killed[name] is None else self._synced.get(status.st_ino, b"")
        for images, image in ((self.killed, killed), (self.cut, cut)):
            if not images or images[-1] != image:
                images.append(image)

    def synced(self, handle: int) -> None:
        """Notes that what a file holds now outlives a power cut."""
        status = os.fstat(handle)
        if stat.S_ISREG(status.st_mode):
            self._synced[status.st_ino] = pathlib.Path(f"/proc/self/fd/{handle}").read_bytes()

    def truncated(self, handle: int) -> None:
        """Notes that a file is new, or empty again."""
        self._synced.pop(os.fstat(handle).st_ino, None)


@contextmanager
def recording(root: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    """Records what this process does to a directory inside the context."""
    found = Recording(root)
    for path in root.rglob("*"):  # what was there before has been there for long
        if path.is_file():
            with path.open("rb") as file:
                found.synced(file.fileno())

    one_at_a_time = threading.RLock()  # a runner's workers may be threads

    def watched(name: str) -> Callable[..., Any]:
        call = getattr(os, name)

        def look_and_call(*arguments: Any, **options: Any) -> Any:
            with one_at_a_time:
                found.look()
                result = call(*arguments, **options)
                if name == "fsync":
                    found.synced(arguments[0])
                return result

        return look_and_call

    opening = builtins.open

    def look_and_open(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if "w" not in mode:
            return opening(file, mode, *arguments, **options)
        with one_at_a_time:
            found.look()
            opened = opening(file, mode, *arguments, **options)
            found.truncated(opened.fileno())
            return opened

    with monkeypatch.context() as patch:
        for name in CHANGING:
            patch.setattr(os, name, watched(name))
        patch.setattr(builtins, "open", look_and_open)
        yield found
    found.look()


def restore(image: Image, root: pathlib.Path) -> None:
    """Makes a directory as it was."""
    root.mkdir(parents=True, exist_ok=True)
    for name, data in image.items():
        if data is None:
            (root / name).mkdir(parents=True, exist_ok=True)
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
