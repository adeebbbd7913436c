"""A kill, and a power cut, before every call that changes a file: the data set is whole, and the same command goes on.

Each image that a build, an append or an overwrite passes through is verified; from some of them the same command is
given again. `scripts/kills.py` gives it from all.
"""

import numpy as np
import pytest

from pipelines.output.directory import read_manifest
from tests.support import builds
from tests.support.killing import KINDS, check, record, try_image, write_sources
from tests.support.recording import recording, restore

pytestmark = pytest.mark.slow

SAMPLED = 6
"""How many of the images of each kind the command is given for again."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return write_sources(tmp_path_factory.mktemp("every"))


@pytest.fixture(scope="module", params=["build", "append", "overwrite"])
def recorded(request, sources, tmp_path_factory):
    return record(request.param, sources, tmp_path_factory.mktemp(request.param) / "out", transformed=False)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_command_goes_on_from_every_call(kind, recorded, tmp_path):
    images = getattr(recorded, kind)
    assert len(images) > 30
    again = np.random.default_rng(len(images)).choice(len(images), SAMPLED, replace=False)
    for number, image in enumerate(images):
        try_image(recorded, image, tmp_path / f"out-{number}", again=number in again)


def test_what_is_not_synced_is_told_apart(sources, tmp_path, monkeypatch):
    """`sync=False` leaves shards that a power cut may empty: so the images above say something."""
    root = tmp_path / "out"
    root.mkdir()
    with recording(root, monkeypatch) as found:
        builds.build(sources / "src", root, {"shard_bytes": 400}, sync=False)
    restore(found.cut[-1], tmp_path / "cut")
    assert not (tmp_path / "cut" / "manifest.json").read_bytes()
    assert sum(not path.read_bytes() for path in (tmp_path / "cut").rglob("*.tfrecord")) > 2
    check(root, read_manifest(str(root)))
