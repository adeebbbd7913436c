"""A user's own preprocessing_fn: loaded, traced, and on the same way as the steps."""

import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from apache_beam.runners.portability.fn_api_runner import worker_handlers

import loaders
import pipelines
from pipelines.analyze.user_function import load_function, trace
from pipelines.config.schema import parse_config
from pipelines.errors import ConfigError, DataError
from pipelines.forecast.estimate import read_bytes
from pipelines.maintain.append import plan_sources
from pipelines.maintain.verify import verify
from tests.support import commands
from tests.support.arrays import write_files
from tests.support.builds import build
from tests.support.fitting import resolve
from tests.support.transforming import transform

MODULE = """
import tensorflow as tf
import tensorflow_transform as tft
from pipelines import analyzers as npa

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

def same(inputs):
    return {"word": inputs["word"]}

def sparse(inputs):
    return {"x": tf.sparse.from_dense(inputs["x"])}

def wrong(inputs):
    return {"x": tf.cast(inputs["x"], tf.float64)}

def nothing(inputs):
    return None

def failing(inputs):
    return {"x": inputs["missing"]}

def misfitting(inputs):
    return {"x": inputs["x"] + tf.zeros([7])}

def helper(inputs):
    return inputs["wrd"]

def statistic(inputs):
    return {"x": tft.mean(inputs["x"], reduce_instance_dims=False)}

def attribute(inputs):
    return {"x": inputs.x}

def words(inputs):
    return {"x": npa.scale_to_z_score(inputs["word"])}

def deep(inputs):
    return {"x": helper(inputs)}
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
        ("sparse", "dense float32, int64 or string tensors .* of known shape, .*; found x: SparseTensor"),
        ("wrong", r"found x: float64 \(None, 3\)"),
        ("statistic", r"with a value for each row of the batch; found x: float32 \(3,\)"),
        (
            "attribute",
            r"in attribute: AttributeError: .*no attribute 'x' \(the features are label \(int64 \[\]\), word",
        ),
        ("words", r"in words: ValueError: scale_to_z_score of word \(.*\): expected numbers; found string"),
        ("nothing", "to return a dict of tensors; found None"),
        (
            "failing",
            r"my_module.py, line \d+, in failing: expected one of the features label \(int64 \[\]\), "
            r"word \(string \[\]\), x \(float32 \[3\]\); found 'missing'",
        ),
        ("misfitting", r"my_module.py, line \d+, in misfitting: ValueError: Dimensions must be equal, but are 3 and 7"),
        ("deep", r"my_module.py, line \d+, in helper: expected one of the features .*; found 'wrd'"),
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
    assert verify(str(tmp_path / "out"), trust=True).problems == ()
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
def test_a_function_travels_with_the_modules_beside_it(beside, tmp_path):
    """To a process that has neither its file nor those beside it."""
    from apache_beam.internal import pickler

    (tmp_path / "pickled").write_bytes(pickler.dumps(load_function(f"{beside}/functions.py:scale")))
    shutil.rmtree(beside)
    program = (
        "import pathlib, sys\nimport tensorflow as tf\nfrom apache_beam.internal import pickler\n"
        "function = pickler.loads(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "found = function({'x': tf.constant([1.0, float('nan')]), 'label': 7})\n"
        "print(found['x'].numpy().tolist(), found['label'])\n"
    )
    done = commands.run(tmp_path / "pickled", code=program)
    assert done.stdout == "[4.0, 0.0] 7\n", done.stderr


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


PHASES = """
import tensorflow as tf
import tensorflow_transform as tft
from pipelines import analyzers as npa

def theirs(inputs):
    x = inputs["x"]
    mean = tft.mean(tf.where(tf.math.is_nan(x), tf.zeros_like(x), x), reduce_instance_dims=False)
    x = tf.where(tf.math.is_nan(x), mean, x)
    return {"x": tft.scale_to_z_score(x, elementwise=True), "label": inputs["label"]}

def ours(inputs):
    x = npa.impute(inputs["x"], "median")
    return {"x": npa.scale_to_z_score(x), "label": inputs["label"]}
"""

NARROW = """
from pipelines import analyzers as npa

def narrow(inputs):
    x = npa.impute(inputs["x"], "mean", by=inputs["site"])
    wide = npa.scale_by_max_abs(inputs["wide"])
    return {"x": npa.scale_to_z_score(x), "wide": wide, "other": inputs["other"], "label": inputs["label"]}
"""


@pytest.mark.slow
def test_a_phase_reads_the_features_that_it_needs_alone(tmp_path):
    """What is read in all is what was forecast: the first round reads x, site and wide, the second x and site."""
    (tmp_path / "narrow.py").write_text(NARROW)
    rng, rows = np.random.default_rng(0), 2000
    arrays = {
        "x": rng.normal(size=(rows, 4)).astype(np.float32),
        "wide": rng.normal(size=(rows, 50)).astype(np.float32),
        "other": np.array(["ash", "beech"])[rng.integers(0, 2, rows)],
        "site": rng.integers(0, 3, rows),
        "label": np.arange(rows),
    }
    source = write_files(tmp_path / "source", {f"{name}.npy": array for name, array in arrays.items()})
    config = {"preprocessing_fn": f"{tmp_path}/narrow.py:narrow", "splits": {"train": 1.0}}
    plan = plan_sources(source, parse_config(config))
    assert plan.config.custom.phases == (("site", "wide", "x"), ("site", "x"))
    built = pipelines.build(source, tmp_path / "out", config, workers=1)
    once = sum(array.nbytes for array in arrays.values())  # with the statistics, and a sample of texts
    second = arrays["x"].nbytes + arrays["site"].nbytes
    assert built.counts["analyze_bytes"] == read_bytes(plan)["analyze"] == once + second
    given = tft.TFTransformOutput(str(tmp_path / "out" / "transform")).raw_feature_spec()
    assert given["wide"] == tf.io.FixedLenFeature([50], tf.float32)
    (batch,) = loaders.load(tmp_path / "out", "train", batch_size=rows, shuffle=False)
    x = arrays["x"].astype(np.float64)[batch["label"].numpy()]
    np.testing.assert_allclose(batch["x"], (x - x.mean(0)) / x.std(0), rtol=1e-5, atol=1e-5)
    (tmp_path / "narrow.py").write_text("def narrow(inputs):\n    return {'x': inputs['x']}\n")
    built = pipelines.build(source, tmp_path / "none", config, workers=1)
    assert built.counts["analyze_bytes"] == once, "a function that learns nothing reads nothing for it"


BUILD_AND_TELL = """
import pathlib, re, sys
from pipelines.cli.main import main
code = main(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
sys.exit(code)
"""


@pytest.fixture
def phases(tmp_path):
    path = tmp_path / "phases.py"
    path.write_text(PHASES)
    return str(path)


def test_the_phases_of_a_function_are_counted(module, phases):
    """A median of float32 takes two passes."""
    found = {name: trace(f"{phases}:{name}", plain()).phases for name in ("theirs", "ours")}
    assert found == {"theirs": (("x",),) * 2, "ours": (("x",),) * 3}
    assert trace(f"{module}:same", plain()).phases == ()


@pytest.mark.slow
def test_the_memory_of_phases_does_not_grow_with_the_rows(phases, tmp_path):
    """Rows are read again for each phase; held by the runner they would take three times their size."""
    peaks = []
    for files in (2, 8):
        rng = np.random.default_rng(0)
        arrays = {f"x-{n}.npy": rng.normal(size=(80_000, 96)).astype(np.float32) for n in range(files)}
        arrays |= {f"label-{n}.npy": np.zeros(80_000, np.int64) for n in range(files)}
        source = write_files(tmp_path / f"source{files}", arrays)
        (tmp_path / "config.yaml").write_text(f"preprocessing_fn: {phases}:theirs\nshard_bytes: 8MiB\n")
        command = ["build", source, str(tmp_path / f"out{files}"), f"--config={tmp_path}/config.yaml", "--workers=1"]
        done = subprocess.run([sys.executable, "-c", BUILD_AND_TELL, *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.split()[-1]) * 1024)
    assert peaks[1] < 1.12 * peaks[0], peaks  # 61 and 246 MB of sources


@pytest.mark.slow
def test_a_build_has_the_constants_of_a_bare_pipeline_whatever_the_workers(phases, tmp_path, monkeypatch):
    """The same file, in a pipeline of tf.transform that knows nothing of npyflow; the workers listen on no port."""
    monkeypatch.setattr(worker_handlers, "GrpcServer", None)
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (3000, 4)).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = np.nan
    columns = {"x": x, "label": np.arange(3000)}
    source = write_files(tmp_path / "source", {f"{name}.npy": column for name, column in columns.items()})
    config = parse_config({"preprocessing_fn": f"{phases}:ours", "splits": {"train": 1.0}, "shard_bytes": 16384})
    one = build(source, tmp_path / "one", config)
    two = build(source, tmp_path / "two", config, workers=2)
    assert one.splits == two.splits
    (batch,) = loaders.load(tmp_path / "one", "train", batch_size=3000, shuffle=False)
    found = transform(load_function(f"{phases}:ours"), columns, cuts=(7, 1500))
    np.testing.assert_array_equal(batch["x"].numpy(), found["x"][batch["label"].numpy()])


OTHERS = """
import numpy as np
import tensorflow as tf
from pipelines import analyzers as npa

def scale(inputs):
    assert sorted(inputs) == ["half", "label", "on", "text", "x"], sorted(inputs)
    return {"x": npa.scale_to_z_score(inputs["x"]), "text": inputs["text"], "label": inputs["label"]}

def reading(inputs):
    return {"x": inputs["wave"]}

def naming(inputs):
    return {"wave": inputs["x"]}

def empty(inputs):
    return {"x": npa.impute(inputs["x"], missing=inputs["x"] < 1e9)}

def checking(inputs):
    with tf.control_dependencies([tf.debugging.assert_less(inputs["label"], np.int64(7), message="a label is high")]):
        return {"x": npa.scale_to_z_score(tf.identity(inputs["x"]))}

def cutting(inputs):
    return {"x": inputs["x"][:5]}
"""


def others(tmp_path):
    """Features of every kind, and functions of the dense ones."""
    rng, rows = np.random.default_rng(0), 400
    arrays = {
        "x": rng.normal(size=(rows, 3)).astype(np.float32),
        "wave": (rng.normal(size=(rows, 2)) + 1j).astype(np.complex64),
        "text": np.array(["ä" * (n % 3) + str(n) for n in range(rows)]),
        "half": rng.normal(size=rows).astype(np.float16),
        "on": rng.random(rows) < 0.5,
        "label": np.arange(rows),
    }
    (tmp_path / "others.py").write_text(OTHERS)
    return arrays, f"{tmp_path}/others.py"


@pytest.mark.slow
def test_features_that_a_function_cannot_take_or_does_not_read(tmp_path):
    arrays, module = others(tmp_path)
    source = write_files(tmp_path / "source", {f"{name}.npy": array for name, array in arrays.items()})
    config = {"preprocessing_fn": f"{module}:scale", "splits": {"train": 1.0}}
    manifest = build(source, tmp_path / "out", config)
    assert [spec.name for spec in manifest.features] == ["label", "text", "wave", "x"]
    (batch,) = loaders.load(tmp_path / "out", "train", batch_size=400, shuffle=False)
    order = batch["label"].numpy()
    np.testing.assert_array_equal(batch["wave"].numpy(), arrays["wave"][order])
    assert [text.decode() for text in batch["text"].numpy()] == arrays["text"][order].tolist()
    x = arrays["x"].astype(np.float64)
    np.testing.assert_allclose(batch["x"].numpy(), ((x - x.mean(0)) / x.std(0))[order], rtol=1e-6, atol=1e-6)
    without = config | {"features": {"wave": {"store": "none"}}}
    assert "wave" not in [spec.name for spec in build(source, tmp_path / "without", without).features]
    again = pipelines.build(source, tmp_path / "again", transform=tmp_path / "out", workers=1).manifest
    assert again.features == manifest.features
    for name, message in (
        ("reading", r"expected one of the features half \(float32 \[\]\), .*; found 'wave', whose rows"),
        ("naming", "expected .*:naming to give another name than wave, a feature that it cannot take"),
    ):
        with pytest.raises(ConfigError, match=message):
            build(source, tmp_path / "no", config | {"preprocessing_fn": f"{module}:{name}"})
    for name, message in (
        ("empty", r"^impute of x \(.*others.py, line 17\): expected a value in the training rows"),
        ("checking", r"^preprocessing_fn: .*others.py:checking, of rows: assertion failed: \[a label is high\]"),
        ("cutting", r"^x: expected .*others.py:cutting to give a value for each of 400 rows; found 5"),
    ):
        with pytest.raises(DataError, match=message):
            build(source, tmp_path / name, config | {"preprocessing_fn": f"{module}:{name}"})


SIZES = """
from pipelines import analyzers as npa

def scale(inputs):
    return {"size": npa.scale_to_min_max(inputs["size"])}
"""


@pytest.mark.slow
def test_rows_of_varying_length_arrive_beside_a_function(tmp_path):
    (tmp_path / "sizes.py").write_text(SIZES)
    clips = {n: np.full((n + 1, 2), n, np.float32) for n in range(12)}
    arrays = {f"clip-{n:02}.npy": clip for n, clip in clips.items()}
    arrays |= {f"size-{n:02}.npy": np.array([n], np.float32) for n in clips}
    source = write_files(tmp_path / "source", arrays)
    config = {
        "preprocessing_fn": f"{tmp_path}/sizes.py:scale",
        "splits": {"train": 1.0},
        "features": {"clip": {"ragged": True}},
    }
    build(source, tmp_path / "out", config)
    (batch,) = loaders.load(tmp_path / "out", "train", batch_size=12, shuffle=False)
    for clip, size in zip(batch["clip"].numpy(), batch["size"].numpy(), strict=True):
        number = round(11 * float(size))
        np.testing.assert_allclose(size, number / 11, rtol=1e-6)
        np.testing.assert_array_equal(clip[: number + 1], clips[number])
        assert not clip[number + 1 :].any()  # padded
