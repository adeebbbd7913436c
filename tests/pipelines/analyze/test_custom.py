"""A user's own preprocessing_fn: loaded, traced, and on the same way as the steps."""

import pathlib
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import loaders
from pipelines.analyze.custom import load_function, trace
from pipelines.config.schema import parse_config
from pipelines.errors import ConfigError
from pipelines.maintain.verify import verify
from tests.support.arrays import write_files
from tests.support.builds import build
from tests.support.fitting import resolve

MODULE = """
import tensorflow as tf
import tensorflow_transform as tft

def scale(inputs):
    x = inputs["x"]
    filled = tf.where(tf.math.is_nan(x), tf.zeros_like(x), x)
    return {
        "x": tft.scale_to_z_score(filled),
        "bucket": tft.bucketize(filled[:, 0], 4),
        "word": tft.compute_and_apply_vocabulary(inputs["word"]),
        "same": inputs["word"],
        "label": inputs["label"],
    }

def sparse(inputs):
    return {"x": tf.sparse.from_dense(inputs["x"])}

def wrong(inputs):
    return {"x": tf.cast(inputs["x"], tf.float64)}

def nothing(inputs):
    return None

def failing(inputs):
    return {"x": inputs["missing"]}
"""


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "my_module.py"
    path.write_text(textwrap.dedent(MODULE))
    return str(path)


def columns(rows=8):
    return {
        "x": np.zeros((rows, 3), np.float32),
        "word": np.array([b"a"] * rows),
        "label": np.zeros(rows, np.int64),
    }


def plain():
    return resolve(columns(), {"x": {"impute": "none", "normalize": "none"}}).features


def test_what_a_function_gives_is_known_before_it_runs(module):
    found = {spec.name: (spec.dtype, spec.shape, spec.role) for spec in trace(f"{module}:scale", plain()).specs}
    assert found == {
        "x": ("float32", (3,), "input"),
        "bucket": ("int64", (), "input"),
        "word": ("int64", (), "input"),
        "same": ("string", (), "input"),
        "label": ("int64", (), "label"),
    }


def test_the_digest_follows_the_file(module):
    before = trace(f"{module}:scale", plain()).digest
    with open(module, "a") as file:
        file.write("\n# another\n")
    assert trace(f"{module}:scale", plain()).digest != before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sparse", "dense float32, int64 or string tensors of known shape; found x: SparseTensor"),
        ("wrong", "found x: Tensor.*float64"),
        ("nothing", "to return a dict of tensors; found None"),
        ("failing", "failed: KeyError: 'missing'"),
        ("absent", "expected a function absent in"),
    ],
)
def test_what_is_no_preprocessing_fn(module, name, message):
    with pytest.raises(ConfigError, match=f"(?s)preprocessing_fn: .*{message}"):
        trace(f"{module}:{name}", plain())


@pytest.mark.parametrize("place", ["my_module.py", "nowhere.py:scale", "json:loads", "x.py:a b"])
def test_what_is_no_place_of_a_function(place):
    with pytest.raises(ConfigError, match=r"expected FILE\.py:FUNCTION"):
        load_function(place)


def test_a_module_that_fails_says_how(tmp_path):
    (tmp_path / "bad.py").write_text("1 / 0")
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        load_function(f"{tmp_path}/bad.py:f")


@pytest.mark.slow
def test_a_build_with_it(module, tmp_path):
    rng = np.random.default_rng(0)
    arrays, words = {}, np.array(["ash", "beech", "cedar"])
    x = rng.normal(3, 2, (4000, 3)).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = np.nan
    word = words[rng.choice(3, 4000, p=[0.2, 0.5, 0.3])]
    for part in range(2):
        rows = slice(2000 * part, 2000 * (part + 1))
        arrays |= {f"x-{part}.npy": x[rows], f"word-{part}.npy": word[rows], f"label-{part}.npy": np.arange(4000)[rows]}
    source = write_files(tmp_path / "source", arrays)
    config = parse_config({"preprocessing_fn": f"{module}:scale"})
    manifest = build(source, tmp_path / "out", config)
    assert verify(str(tmp_path / "out")).problems == ()
    assert [spec.name for spec in manifest.features] == ["bucket", "label", "same", "word", "x"]

    def read(split):
        (batch,) = loaders.load(tmp_path / "out", split, batch_size=4000, shuffle=False)
        return {name: tensor.numpy() for name, tensor in batch.items()}

    train, filled = read("train"), np.nan_to_num(x.astype(np.float64))
    mean, std = filled[train["label"]].mean(), filled[train["label"]].std()  # tft: of all elements together
    for rows in (train, read("test")):
        np.testing.assert_allclose(rows["x"], (filled[rows["label"]] - mean) / std, rtol=1e-4, atol=1e-4)
        assert (rows["same"].astype(str) == word[rows["label"]]).all()
        ranked = ["beech", "cedar", "ash"]
        assert (np.array(ranked)[rows["word"]] == word[rows["label"]]).all()
    assert np.bincount(train["bucket"]).min() > len(train["label"]) / 5


BESIDE = """
import helpers
import pack.scales
import tensorflow as tf

TABLE = {"by": 2}

def scale(inputs):
    x = helpers.fill(inputs["x"])
    return {"x": pack.scales.Scale(TABLE["by"]).of(x), "label": inputs["label"]}
"""


@pytest.fixture
def beside(tmp_path):
    """A function that uses modules beside its own, one of which is in a package."""
    directory = tmp_path / "mine"
    write_files(
        directory,
        {
            "functions.py": BESIDE.encode(),
            "helpers.py": b"import tensorflow as tf\n\ndef fill(x):\n"
            b"    return tf.where(tf.math.is_nan(x), tf.zeros_like(x), x)\n",
            "pack/__init__.py": b"",
            "pack/scales.py": b"from pack.steps import double\n\nclass Scale:\n    def __init__(self, by):\n"
            b"        self.by = by\n\n    def of(self, x):\n        return double(x) * self.by\n",
            "pack/steps.py": b"def double(x):\n    return 2 * x\n",
        },
    )
    return directory


@pytest.mark.slow
def test_a_function_travels_with_the_modules_beside_it(beside):
    """To a process that has neither its file nor those beside it."""
    from apache_beam.internal import pickler

    pickled = pickler.dumps(load_function(f"{beside}/functions.py:scale"))
    shutil.rmtree(beside)
    program = (
        "import sys\nimport tensorflow as tf\nfrom apache_beam.internal import pickler\n"
        "function = pickler.loads(sys.stdin.buffer.read())\n"
        "found = function({'x': tf.constant([1.0, float('nan')]), 'label': 7})\n"
        "print(found['x'].numpy().tolist(), found['label'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], input=pickled, capture_output=True, check=True)
    assert done.stdout == b"[4.0, 0.0] 7\n"


def test_modules_beside_a_function_are_no_modules_of_this_process(beside, tmp_path):
    load_function(f"{beside}/functions.py:scale")
    assert not {"helpers", "pack", "pack.scales", "pack.steps"} & sys.modules.keys()
    assert str(beside) not in sys.path
    other = tmp_path / "other"
    other.mkdir()
    (other / "functions.py").write_text("import helpers\nscale = helpers.fill\n")
    (other / "helpers.py").write_text("def fill(inputs):\n    return 'another'\n")
    assert load_function(f"{other}/functions.py:scale")({}) == "another"


def test_the_digest_follows_the_files_beside_it(beside):
    digests = [trace(f"{beside}/functions.py:scale", plain()).digest]
    for name in ("helpers.py", "pack/steps.py"):
        with open(beside / name, "a") as file:
            file.write("\n# another\n")
        digests.append(trace(f"{beside}/functions.py:scale", plain()).digest)
    (beside / "unused.py").write_text("1 / 0")
    digests.append(trace(f"{beside}/functions.py:scale", plain()).digest)
    assert len(set(digests[:3])) == 3
    assert digests[3] == digests[2]


def test_what_cannot_travel_is_an_error_before_anything_is_written(tmp_path):
    (tmp_path / "bad.py").write_text(
        "NAMES = (n for n in 'ab')\n\ndef scale(inputs):\n    return NAMES and dict(inputs)"
    )
    with pytest.raises(ConfigError, match=r"bad\.py:scale to use only what can be sent to workers; found .*generator"):
        trace(f"{tmp_path}/bad.py:scale", plain())


@pytest.mark.slow
def test_workers_need_neither_the_file_nor_those_beside_it(beside, tmp_path, monkeypatch):
    """Beam's own worker processes, begun with other directories to import from and to work in."""
    x = np.arange(4000, dtype=np.float32).reshape(1000, 4)
    source = write_files(tmp_path / "source", {"x.npy": x, "label.npy": np.arange(1000)})
    config = parse_config({"preprocessing_fn": f"{beside}/functions.py:scale", "shard_bytes": 4096})
    alone = build(source, tmp_path / "alone", config)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(loaders.__file__).parent.parent))
    monkeypatch.chdir(tmp_path / "elsewhere")
    options = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    assert build(source, tmp_path / "out", config, beam_options=options).splits == alone.splits
    (batch,) = loaders.load(tmp_path / "out", "train", batch_size=1000, shuffle=False)
    np.testing.assert_array_equal(batch["x"].numpy(), 4 * x[batch["label"].numpy()])
