"""A build has the same bytes on every Python, and in every version that keeps format and order: digests are stored.

`NPYFLOW_WRITE_DIGESTS=1 scripts/test.sh tests/project/test_same_bytes.py` stores those of today.
"""

import hashlib
import json
import os
import pathlib

import numpy as np
import pytest

from tests.support.builds import make

MANIFEST = ("format_version", "features", "rows_per_record", "chunk_records", "splits", "seed", "dropped")
BESIDE = ("fitted.npz", "golden.npz", "moments.npz", "schema.pbtxt", "statistics.npz")
DIGESTS = pathlib.Path(__file__).with_name("digests.json")

# Steps whose graphs add, multiply, divide and compare only, so that no processor's logarithm tells.
CONFIGS = {
    "table": {
        "features": {
            "x": {"impute": "median", "normalize": "robust", "indicator": True},
            "y": {"impute": "mean", "by": "site", "normalize": "zscore"},
            "site": {"normalize": {"one_hot": 3}},
            "word": {"normalize": "vocabulary"},
        },
        "splits": {"group": "site", "fractions": {"train": 0.7, "test": 0.3}},
        "shard_bytes": 4096,
        "seed": 3,
    },
    "images": {"features": {"images": {"normalize": "minmax", "over": "channel"}}, "shard_bytes": 8192},
    "raw": {"features": {"images": {"normalize": "zscore", "store": "raw"}}, "rows_per_record": 1},
    "ragged": {"row_axes": 0, "features": {"series": {"ragged": True}}},
}


def write(root, kind):
    rng = np.random.Generator(np.random.PCG64(7))
    root.mkdir()
    if kind == "ragged":
        for row in range(40):
            np.save(root / f"series-{row:03d}.npy", rng.integers(0, 99, rng.integers(1, 9)))
        return
    for part in range(3):
        if kind == "table":
            x = rng.normal(size=(150, 4)).astype(np.float32)
            x[rng.random(x.shape) < 0.1] = np.nan
            np.save(root / f"x-{part}.npy", x)
            np.save(root / f"y-{part}.npy", np.where(rng.random(150) < 0.1, np.nan, rng.normal(size=150)))
            np.save(root / f"site-{part}.npy", rng.integers(0, 3, 150))
            np.save(root / f"word-{part}.npy", rng.choice(["ash", "beech", "birch"], 150))
        else:
            np.save(root / f"images-{part}.npy", rng.integers(0, 256, (60, 5, 4, 3)).astype(np.uint8))
            np.save(root / f"labels-{part}.npy", rng.integers(0, 4, 60))


def digests(root):
    """Of the shards, of the files beside them, and of what the manifest says of the shards.

    It also has versions and when sources were written, and a SavedModel is a model however its nodes are numbered.
    """
    paths = [*sorted(root.rglob("*.tfrecord")), *(root / name for name in BESIDE if (root / name).exists())]
    found = {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    manifest = json.loads((root / "manifest.json").read_text())
    text = json.dumps({key: manifest[key] for key in MANIFEST}, sort_keys=True)
    return found | {"manifest": hashlib.sha256(text.encode()).hexdigest()}


@pytest.mark.parametrize("placed", ["by this process", "by Beam"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_build_has_the_bytes_that_were_stored(tmp_path, kind, placed):
    write(tmp_path / "src", kind)
    beam_options = ["--runner=DirectRunner"] if placed == "by Beam" else []
    make(tmp_path / "src", tmp_path / "out", beam_options=beam_options, **CONFIGS[kind])
    found = digests(tmp_path / "out")
    stored = json.loads(DIGESTS.read_text()) if DIGESTS.exists() else {}
    if os.environ.get("NPYFLOW_WRITE_DIGESTS"):
        DIGESTS.write_text(json.dumps(stored | {kind: found}, indent=1, sort_keys=True) + "\n")
        return
    assert found == stored[kind]
