"""A kill, and a power cut, before every call that changes a file: the data set is whole, and the same command goes on.

Each image that a build, an append or an overwrite passes through is verified. From some of them, or from all with
`NPYFLOW_EVERY_CALL=1`, the same command is given again, and has to end with the data set of an undisturbed one.
"""

import os
import pathlib
import shutil

import numpy as np
import pytest

from pipelines.maintain.verify import verify
from pipelines.output.directory import read_manifest
from tests.support import builds
from tests.support.arrays import write_files
from tests.support.manifests import stored
from tests.support.recording import recording, restore

pytestmark = pytest.mark.slow

CONFIG = {"splits": {"train": 0.8, "test": 0.2}, "shard_bytes": 400}
TRANSFORMED = {"features": {"x": {"normalize": "zscore"}}}
SAMPLED = 6
"""How many of the images of each kind the command is given for again, where not all are asked for."""

ALL = bool(os.environ.get("NPYFLOW_EVERY_CALL"))


def arrays(number, *, rows=40):
    return {
        f"x-{number:03d}.npy": np.random.default_rng(number).normal(size=(rows, 2)).astype(np.float32),
        f"labels-{number:03d}.npy": np.arange(rows) % 3,
    }


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    root = tmp_path_factory.mktemp("every")
    write_files(root / "src", arrays(0) | arrays(1))
    write_files(root / "later", arrays(2))
    return root


def config(**said):
    return CONFIG | (TRANSFORMED if ALL else {"features": {"x": {"normalize": "none", "impute": "none"}}}) | said


WORK = {
    "build": lambda root, out: builds.build(root / "src", out, config()),
    "append": lambda root, out: builds.append(root / "later", out),
    "overwrite": lambda root, out: builds.build(root / "src", out, config(seed=1), overwrite=True),
}


@pytest.fixture(scope="module", params=WORK)
def recorded(request, sources, tmp_path_factory):
    """The work, its images, and the manifests before and after."""
    out, before = tmp_path_factory.mktemp(request.param) / "out", None
    out.mkdir()
    if request.param != "build":
        before = builds.build(sources / "src", out, config())
    work = WORK[request.param]
    with pytest.MonkeyPatch.context() as monkeypatch, recording(out, monkeypatch) as found:
        work(sources, out)
    return work, found, before, read_manifest(str(out))


def check(root, manifest):
    """A data set holds what its manifest lists, and nothing else."""
    assert not verify(str(root)).problems
    listed = {shard.file for shards in manifest.splits.values() for shard in shards}
    listed |= {file.file for file in manifest.files} | {"manifest.json"}
    (root / "_lock").unlink(missing_ok=True)  # it goes last of all, and is in nobody's way
    assert {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} == listed


@pytest.mark.parametrize("kind", ["killed", "cut"])
def test_the_same_command_goes_on_from_every_call(kind, recorded, sources, tmp_path):
    work, found, before, after = recorded
    images = getattr(found, kind)
    assert len(images) > 30
    tried = (
        range(len(images)) if ALL else np.random.default_rng(len(images)).choice(len(images), SAMPLED, replace=False)
    )
    for number, image in enumerate(images):
        root = tmp_path / "out"
        restore(image, root)
        if before is not None or "manifest.json" in image:
            problems = verify(str(root)).problems
            # The directory itself goes last, when it is empty.
            assert [problem for problem in problems if problem.path != str(root / "_build")] == [], number
            assert not problems or not any((root / "_build").iterdir()), number
            assert stored(read_manifest(str(root))) in (stored(after), before and stored(before)), number
        if number in tried:
            finished = "manifest.json" in image and stored(read_manifest(str(root))) == stored(after)
            if not (finished and "_build" not in image):  # there is nothing left to go on with
                work(sources, root)
            check(root, read_manifest(str(root)))
            assert stored(read_manifest(str(root))) == stored(after), number
        shutil.rmtree(root)


def test_what_is_not_synced_is_told_apart(sources, tmp_path, monkeypatch):
    """`sync=False` leaves shards that a power cut may empty: so the images above say something."""
    (tmp_path / "out").mkdir()
    with recording(tmp_path / "out", monkeypatch) as found:
        builds.build(sources / "src", tmp_path / "out", config(), sync=False)
    restore(found.cut[-1], tmp_path / "cut")
    assert not pathlib.Path(tmp_path / "cut" / "manifest.json").read_bytes()
    assert sum(not path.read_bytes() for path in (tmp_path / "cut").rglob("*.tfrecord")) > 2
    check(tmp_path / "out", read_manifest(str(tmp_path / "out")))
