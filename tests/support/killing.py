"""A kill, and a power cut, before every call that changes a file of a build, an append or an overwrite."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from loaders.format.manifest import Manifest
from pipelines.maintain.verify import verify
from pipelines.output.directory import read_manifest
from tests.support import builds
from tests.support.arrays import write_files
from tests.support.manifests import stored
from tests.support.recording import Image, recording, restore

KINDS = {"killed": "a kill", "cut": "a power cut"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """A command that was recorded.

    Attributes:
        command: Does it, in a directory.
        killed: What the directory holds before each call, once it is killed there.
        cut: What it holds after a power cut.
        before: The manifest of the data set that was there before, or None.
        after: The manifest of the one that was made.
    """

    command: Callable[[pathlib.Path], Any]
    killed: list[Image]
    cut: list[Image]
    before: Manifest | None
    after: Manifest


def write_sources(root: pathlib.Path, *, rows: int = 40) -> pathlib.Path:
    """Arrays to build from, and some to append."""

    def arrays(number: int) -> dict[str, Any]:
        return {
            f"x-{number:03d}.npy": np.random.default_rng(number).normal(size=(rows, 2)).astype(np.float32),
            f"labels-{number:03d}.npy": np.arange(rows) % 3,
        }

    write_files(root / "src", arrays(0) | arrays(1))
    write_files(root / "later", arrays(2))
    return root


def commands(
    sources: pathlib.Path, *, transformed: bool, beam_options: Sequence[str] = ()
) -> dict[str, Callable[[pathlib.Path], Any]]:
    """What is tried; with a transform each takes seconds."""
    where = {"beam_options": list(beam_options)}
    steps = {"normalize": "zscore"} if transformed else {"normalize": "none", "impute": "none"}
    config = {"splits": {"train": 0.8, "test": 0.2}, "shard_bytes": 400, "features": {"x": steps}}
    return {
        "build": lambda out: builds.build(sources / "src", out, config, **where),
        "append": lambda out: builds.append(sources / "later", out, **where),
        "overwrite": lambda out: builds.build(sources / "src", out, config | {"seed": 1}, overwrite=True, **where),
    }


def record(
    name: str, sources: pathlib.Path, out: pathlib.Path, *, transformed: bool, beam_options: Sequence[str] = ()
) -> Work:
    """Does one of the commands and records it; a runner that is asked for has its workers in this process."""
    known, before = commands(sources, transformed=transformed, beam_options=beam_options), None
    out.mkdir(parents=True)
    if name != "build":
        before = known["build"](out)
    with pytest.MonkeyPatch.context() as monkeypatch, recording(out, monkeypatch) as found:
        known[name](out)
    images = {"killed": found.killed, "cut": found.cut}
    return Work(command=known[name], before=before, after=read_manifest(str(out)), **images)


def try_image(work: Work, image: Image, root: pathlib.Path, *, again: bool) -> None:
    """Makes a directory as it was left, and verifies it; then the same command has to end as an undisturbed one.

    Args:
        work: The command.
        image: What was left.
        root: Where; removed when all is well.
        again: Whether the command is given again.

    Raises:
        AssertionError: If something is not as it has to be.
    """
    restore(image, root)
    if work.before is not None or "manifest.json" in image:
        problems = verify(str(root)).problems
        # The directory itself goes last, when it is empty.
        assert [problem for problem in problems if problem.path != str(root / "_build")] == []
        assert not problems or not any((root / "_build").iterdir())
        assert stored(read_manifest(str(root))) in (stored(work.after), work.before and stored(work.before))
    finished = "manifest.json" in image and stored(read_manifest(str(root))) == stored(work.after)
    left = any(name.startswith("_build/") for name in image)
    if again and (left or not finished):  # else there is nothing to go on with
        work.command(root)
        check(root, read_manifest(str(root)))
        assert stored(read_manifest(str(root))) == stored(work.after)
    shutil.rmtree(root)


def check(root: pathlib.Path, manifest: Manifest) -> None:
    """A data set holds what its manifest lists, and nothing else."""
    assert not verify(str(root)).problems
    listed = {shard.file for shards in manifest.splits.values() for shard in shards}
    listed |= {file.file for file in manifest.files} | {"manifest.json"}
    (root / "_lock").unlink(missing_ok=True)  # it goes last of all, and is in nobody's way
    assert {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} == listed
