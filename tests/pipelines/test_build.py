"""Whole builds in this process, read back through the loader and compared with NumPy and scikit-learn."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from tensorflow_metadata.proto.v0 import statistics_pb2

import loaders
import pipelines
from pipelines.analyze.beam import Analyze
from pipelines.config.schema import parse_config
from pipelines.errors import ConfigError, DataError, OutputError, SourceError
from pipelines.maintain.verify import verify
from pipelines.output.directory import Output
from pipelines.run import Build
from tests.support.arrays import (
    DTYPES,
    RamFileSystem,
    damaged_npz,
    empty_ram,
    npy_bytes,
    npz_bytes,
    values,
    write_files,
)
from tests.support.builds import append, build, make

IDS = {"row": {"role": "id"}}


def read(output, split):
    """All rows of a split, in the order of the feature `row`."""
    batches = list(loaders.load(str(output), split, batch_size=64).as_numpy_iterator())
    rows = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    order = np.argsort(rows["row"])
    return {name: array[order] for name, array in rows.items()}


def facts(manifest):
    """A manifest without the files beside the shards: TensorFlow writes equal SavedModels in different bytes."""
    return dataclasses.replace(manifest, files=())


def checksums(manifest):
    return {split: [shard.crc32c for shard in shards] for split, shards in manifest.splits.items()}


def table(rows=3000, columns=6, *, missing=0.2, dtype="float32", seed=0):
    generator = np.random.default_rng(seed)
    x = (generator.normal(size=(rows, columns)) * generator.uniform(0.1, 100, columns) + 5).astype(dtype)
    x[generator.random(x.shape) < missing] = np.nan
    return x


def training_rows(output, x):
    """The array's rows of the training split, and the split as the loader gives it."""
    train = read(output, "train")
    return x[train["row"]], train


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_zscores_are_those_of_scikit_learn(dtype, tmp_path):
    x = table(dtype=dtype)
    x[:, 4] = 3.3  # constant
    write_files(tmp_path / "src", {"x.npy": x, "row.npy": np.arange(len(x))})
    make(tmp_path / "src", tmp_path / "out", features=IDS)
    raw, train = training_rows(tmp_path / "out", x)
    assert 2200 < len(raw) < 2600
    oracle = make_pipeline(SimpleImputer(), StandardScaler()).fit(raw.astype(np.float64))
    for split in ("train", "validation", "test"):
        found = read(tmp_path / "out", split)
        expected = oracle.transform(x[found["row"]].astype(np.float64))
        np.testing.assert_allclose(found["x"], expected, atol=1e-6, err_msg=split)
    assert (train["x"][:, 4] == 0).all()


def test_minmax_and_constant_imputation(tmp_path):
    x = table(dtype="float64")
    write_files(tmp_path / "src", {"x.npy": x, "row.npy": np.arange(len(x))})
    make(
        tmp_path / "src",
        tmp_path / "out",
        features=IDS | {"x": {"impute": {"constant": -400}, "normalize": "minmax", "dtype": "float64"}},
    )
    raw, train = training_rows(tmp_path / "out", x)
    oracle = make_pipeline(SimpleImputer(strategy="constant", fill_value=-400), MinMaxScaler()).fit(raw)
    assert train["x"].dtype == np.float64
    np.testing.assert_allclose(train["x"], oracle.transform(raw), rtol=1e-14, atol=1e-15)


def test_imputation_alone_keeps_the_dtype_and_every_present_value(tmp_path):
    x = table(dtype="float64")
    write_files(tmp_path / "src", {"x.npy": x, "row.npy": np.arange(len(x))})
    make(tmp_path / "src", tmp_path / "out", features=IDS | {"x": {"normalize": "none"}})
    raw, train = training_rows(tmp_path / "out", x)
    np.testing.assert_allclose(train["x"], SimpleImputer().fit_transform(raw), rtol=1e-14)
    np.testing.assert_array_equal(train["x"][~np.isnan(raw)], raw[~np.isnan(raw)])


@pytest.mark.slow
def test_imputation_alone_keeps_the_smallest_numbers(tmp_path):
    """TensorFlow computes with numbers below the normal range as if they were 0."""
    for dtype in ("float32", "float64"):
        x = (np.finfo(dtype).smallest_subnormal * np.arange(40)).astype(dtype)[:, None]
        x[3] = np.nan
        write_files(tmp_path / dtype, {"x.npy": x, "row.npy": np.arange(40)})
        said = IDS | {"x": {"impute": "mean", "normalize": "none"}}
        make(tmp_path / dtype, tmp_path / f"out {dtype}", features=said, splits={"train": 1})
        found = read(tmp_path / f"out {dtype}", "train")["x"]
        np.testing.assert_array_equal(np.delete(found, 3), np.delete(x, 3))


def test_without_imputation_missing_values_stay_missing(tmp_path):
    x = table()
    write_files(tmp_path / "src", {"x.npy": x, "row.npy": np.arange(len(x))})
    make(tmp_path / "src", tmp_path / "out", features=IDS | {"x": {"impute": "none"}})
    raw, train = training_rows(tmp_path / "out", x)
    np.testing.assert_allclose(train["x"], StandardScaler().fit_transform(raw.astype(float)), atol=1e-6)
    assert np.isnan(train["x"]).any()


@pytest.mark.slow
@pytest.mark.parametrize("over", ["element", "channel", "all"])
def test_images_are_scaled_over_what_is_asked(over, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (500, 6, 5, 3), dtype=np.uint8)
    write_files(tmp_path / "src", {"images.npy": images, "row.npy": np.arange(500)})
    make(tmp_path / "src", tmp_path / "out", features=IDS | {"images": {"over": over}})
    raw, train = training_rows(tmp_path / "out", images)
    axis = {"element": 0, "channel": (0, 1, 2), "all": None}[over]
    expected = (raw - raw.mean(axis=axis, dtype=float)) / raw.std(axis=axis, dtype=float)
    np.testing.assert_allclose(train["images"], expected, atol=1e-6)


@pytest.mark.slow
def test_scaling_by_a_constant(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (50, 6, 5), dtype=np.uint8)
    write_files(tmp_path / "src", {"images.npy": images, "row.npy": np.arange(50)})
    make(
        tmp_path / "src",
        tmp_path / "out",
        features=IDS | {"images": {"normalize": {"scale": "1/255"}, "dtype": "float16"}},
        splits={"train": 1},
    )
    raw, train = training_rows(tmp_path / "out", images)
    np.testing.assert_array_equal(train["images"], (raw / 255).astype(np.float32).astype(np.float16))


@pytest.mark.slow
@pytest.mark.parametrize("rows_per_record", [1, 64])
def test_what_is_not_transformed_comes_out_bit_for_bit(rows_per_record, tmp_path):
    rows, shapes = 500, {"scalar": (), "vector": (3,), "matrix": (2, 2)}
    arrays = {f"{dtype}-{kind}": values((rows, *shapes[kind]), dtype) for dtype in DTYPES for kind in shapes}
    write_files(
        tmp_path / "src", {f"{name}.npy": array for name, array in arrays.items()} | {"row.npy": np.arange(rows)}
    )
    keep = {name: {"impute": "none", "normalize": "none"} for name in arrays}
    manifest = make(
        tmp_path / "src",
        tmp_path / "out",
        features=IDS | keep,
        splits={"train": 0.6, "test": 0.4},
        rows_per_record=rows_per_record,
        shard_bytes=10_000,
    )
    assert manifest.transform is None
    assert len(manifest.splits["train"]) > 1
    found = [read(tmp_path / "out", split) for split in ("train", "test")]
    row = np.concatenate([split["row"] for split in found])
    assert sorted(row) == list(range(rows))
    for name in arrays:
        stored = np.concatenate([split[name] for split in found])
        expected = np.load(tmp_path / "src" / f"{name}.npy")[row]
        assert stored.dtype == expected.dtype
        assert stored.tobytes() == expected.tobytes(), name


@pytest.mark.slow
def test_the_pixels_of_a_fortran_cube_are_rows(tmp_path):
    cube = np.asfortranarray(np.random.default_rng(0).integers(0, 9000, (17, 13, 20), dtype=np.uint16))
    labels = np.arange(17 * 13, dtype=np.uint8).reshape(17, 13)
    write_files(tmp_path / "src", {"pixels.npy": cube, "labels.npy": labels, "row.npy": np.arange(221).reshape(17, 13)})
    make(tmp_path / "src", tmp_path / "out", row_axes=2, features=IDS, shard_bytes=3000)
    raw, train = training_rows(tmp_path / "out", cube.reshape(-1, 20))
    np.testing.assert_allclose(train["pixels"], StandardScaler().fit_transform(raw.astype(float)), atol=1e-6)
    np.testing.assert_array_equal(train["labels"], labels.reshape(-1)[train["row"]])


def test_sources_of_a_remote_file_system_are_read_by_range(tmp_path):
    empty_ram()
    x = table(missing=0)
    RamFileSystem.contents["ram://bucket/data/x.npy"] = npy_bytes(x)
    RamFileSystem.contents["ram://bucket/data/row.npy"] = npy_bytes(np.arange(len(x)))
    make("ram://bucket/data", tmp_path / "out", features=IDS, shard_bytes=20_000)
    raw, train = training_rows(tmp_path / "out", x)
    np.testing.assert_allclose(train["x"], StandardScaler().fit_transform(raw.astype(float)), atol=1e-6)
    # The first pass reads what has statistics once, and the second everything; the rest is headers.
    expected = 2 * x.nbytes + 8 * len(x)
    assert expected <= RamFileSystem.bytes_read < 1.1 * expected


def test_big_endian_parts_split_by_directory(tmp_path):
    x = table(missing=0)
    row = np.arange(len(x))
    files = {}
    for split, part in (("train", slice(0, 1000)), ("train", slice(1000, 1500)), ("test", slice(1500, 3000))):
        files[f"{split}/x-{part.start}.npy"] = x[part].astype(">f4")
        files[f"{split}/row-{part.start}.npy"] = row[part]
    write_files(tmp_path / "src", files)
    manifest = make(tmp_path / "src", tmp_path / "out", features=IDS)
    assert manifest.config["splits"] == "directory"
    scaler = StandardScaler().fit(x[:1500].astype(float))
    for split, rows in (("train", slice(0, 1500)), ("test", slice(1500, 3000))):
        found = read(tmp_path / "out", split)
        np.testing.assert_array_equal(found["row"], row[rows])
        np.testing.assert_allclose(found["x"], scaler.transform(x[rows].astype(float)), atol=1e-6)


def test_the_transform_opens_with_public_tools_and_serves_the_same_numbers(tmp_path):
    x = table()
    write_files(tmp_path / "src", {"x.npy": x, "row.npy": np.arange(len(x)), "labels.npy": np.arange(len(x)) % 3})
    make(tmp_path / "src", tmp_path / "out", features=IDS)
    raw, train = training_rows(tmp_path / "out", x)
    output = tft.TFTransformOutput(str(tmp_path / "out" / "transform"))
    assert list(output.transformed_feature_spec()) == ["x"]
    served = tf.saved_model.load(output.transform_savedmodel_dir).transform_fn({"x": tf.constant(raw)})
    np.testing.assert_array_equal(served["x"], train["x"])
    values = [tf.train.Feature(float_list=tf.train.FloatList(value=row)) for row in raw]
    sent = [tf.train.Example(features=tf.train.Features(feature={"x": each})).SerializeToString() for each in values]
    parsed = tf.io.parse_example(sent, output.raw_feature_spec())
    np.testing.assert_array_equal(output.transform_features_layer()(parsed)["x"], train["x"])
    statistics = statistics_pb2.DatasetFeatureStatisticsList.FromString((tmp_path / "out/statistics.pb").read_bytes())
    (dataset,) = statistics.datasets
    assert dataset.num_examples == len(raw)
    numbers = {entry.path.step[0]: entry.num_stats for entry in dataset.features}
    assert numbers["x"].mean == pytest.approx(np.nanmean(raw.astype(float)))
    assert numbers["x"].std_dev == pytest.approx(np.nanstd(raw.astype(float)))
    assert numbers["labels"].max == 2


def test_statistics_for_the_loader(tmp_path):
    x = table()
    write_files(tmp_path / "src", {"x.npy": x, "row.npy": np.arange(len(x)), "labels.npy": np.arange(len(x)) % 3})
    make(tmp_path / "src", tmp_path / "out", features=IDS | {"labels": {"class_names": ["a", "b", "c"]}})
    raw, _ = training_rows(tmp_path / "out", x)
    opened = loaders.open(str(tmp_path / "out"))
    statistics = opened.statistics["x"]
    np.testing.assert_array_equal(statistics["missing"], np.isnan(raw).sum(axis=0))
    np.testing.assert_allclose(statistics["mean"], np.nanmean(raw.astype(float), axis=0), rtol=1e-13)
    np.testing.assert_allclose(statistics["std"], np.nanstd(raw.astype(float), axis=0), rtol=1e-13)
    assert list(opened.class_names["labels"]) == ["a", "b", "c"]
    assert "row" not in opened.statistics


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A source of two features in three parts, and a build of it in several shards."""
    root = tmp_path_factory.mktemp("small")
    x = table(900)
    files = {f"x-{part}.npy": x[part * 300 : part * 300 + 300] for part in range(3)}
    files |= {f"labels-{part}.npy": np.arange(300, dtype=np.int64) for part in range(3)}
    write_files(root / "src", files)
    return root, make(root / "src", root / "out", seed=5, shard_bytes=4000)


@pytest.mark.slow
def test_the_same_build_has_the_same_bytes(small, tmp_path):
    root, manifest = small
    assert len(manifest.splits["train"]) == 6
    assert make(root / "src", tmp_path / "out", seed=5, shard_bytes=4000).splits == manifest.splits


def test_the_resolved_configuration_gives_the_same_build(small, tmp_path):
    root, manifest = small
    again = make(root / "src", tmp_path / "out", **json.loads(json.dumps(manifest.config)))
    assert facts(again) == facts(manifest)


def test_another_seed_gives_another_order(small, tmp_path):
    root, manifest = small
    other = make(root / "src", tmp_path / "out", seed=6, shard_bytes=4000)
    assert not {shard.crc32c for shard in other.splits["train"]} & {s.crc32c for s in manifest.splits["train"]}


def test_golden_checksums(small):
    """The bytes of a whole build: plan, statistics, transform and encoding."""
    assert checksums(small[1]) == GOLDEN


GOLDEN = {
    "train": ["c992b7f2", "c7abc4fe", "0890f829", "80d3e720", "58ee92c1", "38800e91"],
    "validation": ["3289e9a2", "80100e18", "933d025f", "dd303770", "acb1b9c1", "a7dc8069"],
    "test": ["a8f58af9", "1b0cf6b8", "84a341f5", "32eebea2", "7dea44db", "c603537e"],
}


def test_a_finished_data_set_is_not_touched_unless_asked(small, tmp_path):
    root, manifest = small
    make(root / "src", tmp_path / "out", seed=5, shard_bytes=4000)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    with pytest.raises(OutputError, match="holds a finished data set; --overwrite replaces it"):
        make(root / "src", tmp_path / "out", seed=5)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    other = make(root / "src", tmp_path / "out", seed=5, overwrite=True)
    assert other.splits != manifest.splits
    assert not verify(str(tmp_path / "out")).problems


def test_a_directory_of_something_else_is_never_cleared(small, tmp_path):
    (tmp_path / "thesis.txt").write_text("ten years")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="found other files"):
            make(small[0] / "src", tmp_path, overwrite=overwrite)
    assert (tmp_path / "thesis.txt").read_text() == "ten years"


def test_an_output_within_reach_of_the_sources_is_refused(small):
    with pytest.raises(OutputError, match="another directory than that of the sources"):
        make(small[0] / "src", f"{small[0] / 'src'}/", overwrite=True)


def interrupt(root, output, monkeypatch, *, after):
    """Runs the build of `small` until some shards are written, and lets it fail there."""
    from pipelines.write import shards as write

    done, write_shard = [], write._write_shard

    def fail_later(*arguments, **options):
        if len(done) == after:
            raise OSError("no space left on device")
        done.append(write_shard(*arguments, **options))
        return done[-1]

    with monkeypatch.context() as patch:
        patch.setattr(write, "_write_shard", fail_later)
        with pytest.raises(OSError, match="no space left"):
            make(root / "src", output, seed=5, shard_bytes=4000)
    return done


def test_an_interrupted_build_is_resumed(small, tmp_path, monkeypatch):
    root, manifest = small
    output = tmp_path / "out"
    done = interrupt(root, output, monkeypatch, after=7)
    assert not (output / "manifest.json").exists()
    assert not list(output.glob("_build/tmp/*-*-*"))
    with pytest.raises(ValueError, match="finished data set"):
        loaders.open(str(output))
    whole = {output / shard.file: (output / shard.file).stat().st_mtime_ns for shard in done[:6]}
    learned = (output / "_build/publish/fitted.npz").read_bytes()
    transform = (output / "_build/publish/transform/transform_fn/saved_model.pb").read_bytes()
    assert facts(make(root / "src", output, seed=5, shard_bytes=4000)) == facts(manifest)
    assert {path: path.stat().st_mtime_ns for path in whole} == whole, "finished shards are not written again"
    assert (output / "transform/transform_fn/saved_model.pb").read_bytes() == transform, "TensorFlow would write others"
    assert (output / "fitted.npz").read_bytes() == learned
    assert Output(str(output)).build not in [str(path) for path in output.iterdir()]
    assert not verify(str(output)).problems


@pytest.mark.slow
def test_an_unfinished_build_of_something_else_is_refused(small, tmp_path, monkeypatch):
    root, manifest = small
    interrupt(root, tmp_path / "out", monkeypatch, after=3)
    with pytest.raises(OutputError, match="unfinished build of other sources, another configuration"):
        make(root / "src", tmp_path / "out", seed=6, shard_bytes=4000)
    assert make(root / "src", tmp_path / "out", seed=5, shard_bytes=4000, overwrite=True).splits == manifest.splits


@pytest.mark.slow
def test_a_shard_lost_before_the_build_is_resumed_is_written_again(small, tmp_path, monkeypatch):
    root, manifest = small
    done = interrupt(root, tmp_path / "out", monkeypatch, after=7)
    (tmp_path / "out" / done[0].file).unlink()
    assert make(root / "src", tmp_path / "out", seed=5, shard_bytes=4000).splits == manifest.splits


@pytest.mark.slow
@pytest.mark.parametrize(
    ("x", "said", "message"),
    [
        (np.array([[1.0], [np.inf]]), {}, r"x.npy \(feature x\): expected finite values or NaN; found inf in row 1"),
        (np.full((9, 2), np.nan), {}, r"feature x, element \[0\]: expected a value in the training rows; found none"),
        (np.full((9, 1), 1e300) * [[1], [-1], [1], [1], [-1], [1], [1], [1], [1]], {}, "overflow"),
        (np.full((9, 1), 1e5), {"normalize": {"scale": 1}, "dtype": "float16"}, "expected values that fit float16"),
        (np.full((9, 1), 1e20), {"normalize": {"scale": 1e30}}, "expected values that fit float32"),
        (np.full((9, 1), 1e100), {"normalize": "none", "dtype": "float16"}, "expected values that fit float16"),
        (
            np.array([[1.0], [np.nan]], np.float32),
            {"impute": {"constant": -1e300}, "normalize": "none"},
            "expected values that fit float32",
        ),
    ],
)
def test_values_that_cannot_be_used(x, said, message, tmp_path):
    write_files(tmp_path / "src", {"x.npy": x})
    with pytest.raises(DataError, match=message):
        make(tmp_path / "src", tmp_path / "out", features={"x": said}, splits={"train": 1})
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("adding", [False, True])
def test_a_damaged_archive_is_never_built_from(compressed, adding, tmp_path):
    array = table(200)
    write_files(tmp_path / "src", {"a.npz": npz_bytes({"w": array, "x": array})})
    write_files(tmp_path / "more", {"b.npz": damaged_npz(array, compressed=compressed)})
    if adding:
        make(tmp_path / "src", tmp_path / "out")
    with pytest.raises(DataError, match=r"b.npz: expected member 'x.npy' to .*CRC-32"):
        (append if adding else make)(tmp_path / "more", tmp_path / "out")
    assert verify(tmp_path / "out").problems == () if adding else not (tmp_path / "out/manifest.json").exists()


@pytest.mark.slow
def test_another_build_in_this_process_has_its_own_transform(tmp_path):
    x = table(missing=0)
    write_files(tmp_path / "src", {"x.npy": x, "row.npy": np.arange(len(x))})
    for normalize, scaler in (("zscore", StandardScaler()), ("minmax", MinMaxScaler())):
        make(tmp_path / "src", tmp_path / "out", features=IDS | {"x": {"normalize": normalize}}, overwrite=True)
        raw, train = training_rows(tmp_path / "out", x)
        np.testing.assert_allclose(train["x"], scaler.fit_transform(raw.astype(float)), atol=1e-6)


@pytest.mark.slow
def test_constants_that_no_square_holds_become_zero(tmp_path):
    x = np.full((40, 2), 1e200) * [1, -1]
    write_files(tmp_path / "src", {"x.npy": x, "row.npy": np.arange(40)})
    make(tmp_path / "src", tmp_path / "out", features=IDS, splits={"train": 1})
    np.testing.assert_array_equal(read(tmp_path / "out", "train")["x"], np.zeros((40, 2)))


@pytest.mark.slow
def test_values_that_overflow_outside_the_training_rows_are_an_error(tmp_path):
    write_files(tmp_path / "src", {"train/x.npy": np.array([[1e-20], [2e-20]] * 20), "test/x.npy": np.array([[1e25]])})
    with pytest.raises(DataError, match="feature x: expected values that fit float32"):
        make(tmp_path / "src", tmp_path / "out")


def test_a_class_without_a_name_is_an_error(tmp_path, monkeypatch):
    """Before a shard is written; with other names the build goes on after what it has learned."""
    write_files(tmp_path / "src", {"labels.npy": np.array([0, 1, 2, 1])})

    def make_with(*names):
        features = {"labels": {"class_names": list(names)}}
        return make(tmp_path / "src", tmp_path / "out", features=features, splits={"train": 1})

    with pytest.raises(DataError, match="feature labels: expected classes 0 to 1, which have names; found 2"):
        make_with("a", "b")
    assert not list((tmp_path / "out").rglob("*.tfrecord"))
    monkeypatch.setattr(Analyze, "expand", None)
    with pytest.raises(DataError, match="feature labels: expected classes 0 to 0, which have names; found 2"):
        make_with("a")
    assert make_with("a", "b", "c").features[0].class_names == ("a", "b", "c")
    with pytest.raises(OutputError, match="finished data set"):
        make_with("a", "b", "d")


def test_an_id_may_have_class_names(tmp_path):
    write_files(tmp_path / "src", {"row.npy": np.arange(4)})
    said = {"row": {"role": "id", "class_names": ["a", "b"]}}
    make(tmp_path / "src", tmp_path / "out", features=said, splits={"train": 1})
    assert list(loaders.open(str(tmp_path / "out")).class_names["row"]) == ["a", "b"]


def test_a_constant_imputation_needs_no_value(tmp_path):
    write_files(tmp_path / "src", {"x.npy": np.full((9, 2), np.nan), "row.npy": np.arange(9)})
    make(
        tmp_path / "src",
        tmp_path / "out",
        features=IDS | {"x": {"impute": {"constant": 4}, "normalize": "zscore"}},
        splits={"train": 1},
    )
    np.testing.assert_array_equal(read(tmp_path / "out", "train")["x"], np.zeros((9, 2)))


@pytest.mark.parametrize(("dtype", "what"), [("f8", "feature x"), ("i8", "split train")])
def test_no_training_row_is_an_error(tmp_path, dtype, what):
    write_files(tmp_path / "src", {"x.npy": np.ones((1, 2), dtype)})
    with pytest.raises(DataError, match=f"{what}: expected training rows; found none"):
        make(tmp_path / "src", tmp_path / "out", splits={"train": 1e-9, "test": 1 - 1e-9})


@pytest.mark.parametrize("rows", [39, 40])
def test_a_file_that_changes_after_preflight_is_an_error(rows, tmp_path, monkeypatch):
    write_files(tmp_path / "src", {"x.npy": np.ones((40, 2))})
    run = Build.run

    def change_and_run(*arguments, **options):
        np.save(tmp_path / "src" / "x.npy", np.ones((rows, 2)))
        return run(*arguments, **options)

    monkeypatch.setattr(Build, "run", change_and_run)
    with pytest.raises(DataError, match=r"x\.npy"):
        make(tmp_path / "src", tmp_path / "out")


def test_bad_sources_write_nothing(tmp_path):
    write_files(tmp_path / "src", {"x.npy": np.ones((4, 2)), "y.npy": np.ones(5), "z.npy": b"not an array"})
    with pytest.raises(SourceError) as raised:
        make(tmp_path / "src", tmp_path / "out")
    assert "z.npy" in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_an_unknown_option_is_an_error(small, tmp_path):
    with pytest.raises(ConfigError, match="unknown option --runer; neither"):
        make(small[0] / "src", tmp_path / "out", beam_options=["--runer=x"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mode", ["multi_processing", "multi_threading"])
def test_no_port_is_opened_to_other_machines(mode, small, tmp_path):
    with pytest.raises(ConfigError, match=f"--direct_running_mode: expected in_memory, .*; found {mode}"):
        make(
            small[0] / "src", tmp_path / "out", beam_options=["--direct_num_workers=2", f"--direct_running_mode={mode}"]
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("workers", "options", "message"),
    [
        (0, (), "expected at least 1; found 0"),
        (2, ("--runner=FlinkRunner",), "expected 1 with --runner=FlinkRunner.*; found 2"),
        (2, ("--direct_num_workers=2",), "expected 1 with --direct_num_workers=2.*; found 2"),
    ],
)
def test_workers_that_are_not_possible(workers, options, message, small, tmp_path):
    with pytest.raises(ConfigError, match=f"workers: {message}"):
        build(str(small[0] / "src"), str(tmp_path / "out"), beam_options=options, workers=workers)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_workers_where_tensorflow_was_used(small, tmp_path):
    """As in a notebook, where no fork would work: the same bytes."""
    tf.zeros(1)
    root, config = small[0], {"features": {"x": {"impute": "median"}}, "shard_bytes": 4000}
    outputs = [tmp_path / str(workers) for workers in (1, 2)]
    one, two = (
        build(str(root / "src"), str(output), parse_config(config), workers=workers)
        for workers, output in enumerate(outputs, 1)
    )
    assert sum(map(len, one.splits.values())) > 4
    assert one.splits == two.splits
    names = [shard.file for split in one.splits.values() for shard in split]
    for name in [*names, "statistics.npz", "fitted.npz", "moments.npz"]:
        assert (outputs[0] / name).read_bytes() == (outputs[1] / name).read_bytes(), name


def test_large_sources_are_shared_unless_beam_places_the_work(small, monkeypatch):
    from pipelines.interface.arguments import count_workers
    from pipelines.plan.plan import make_plan
    from pipelines.plan.resolve import resolve_config
    from pipelines.runners import beam as running
    from pipelines.sources.table import scan

    def count(*beam_options):
        return count_workers(None, plan, beam_options)

    config = parse_config({"shard_bytes": 1000})
    table = scan(str(small[0] / "src"), config)
    plan = make_plan(table, resolve_config(config, table))
    assert count() == 1
    monkeypatch.setattr(running, "SHARED_BYTES", 1)
    monkeypatch.setattr(running, "SHARED_BYTES_SPAWNED", 1)
    monkeypatch.setattr(running, "choose_workers", lambda tasks: tasks)
    assert count() == max(len(plan.training_units), plan.task_count) > 1
    assert count("--runner=FlinkRunner") == 1
    assert count("--direct_num_workers=2") == 1


def test_empty_splits_and_few_rows(tmp_path):
    write_files(tmp_path / "src", {"x.npy": np.array([[1.0], [3.0]]), "row.npy": np.arange(2)})
    manifest = make(tmp_path / "src", tmp_path / "out", features=IDS, splits={"train": 1 - 1e-9, "test": 1e-9})
    assert (manifest.rows("train"), manifest.rows("test")) == (2, 0)
    assert "Warning: split test has no rows" in str(pipelines.inspect(str(tmp_path / "out")))
    np.testing.assert_allclose(read(tmp_path / "out", "train")["x"], [[-1], [1]])
    assert list(loaders.load(str(tmp_path / "out"), "test", batch_size=4)) == []
    assert not verify(str(tmp_path / "out")).problems


def test_no_grouping_carries_rows(small):
    """Every GroupByKey of the job is one of Beam's own, over task numbers or over partial statistics."""
    import apache_beam as beam
    import tensorflow_transform.beam as tft_beam

    from pipelines.analyze.beam import Analyze
    from pipelines.plan.plan import make_plan
    from pipelines.plan.resolve import resolve_config
    from pipelines.runners.handoff import hand_over
    from pipelines.sources.table import scan
    from pipelines.write.shards import WriteShards

    config = parse_config({})
    sources = scan(str(small[0] / "src"), config)
    output = Output(str(small[0] / "unused"))
    plan = hand_over(make_plan(sources, resolve_config(config, sources)), str(small[0] / "plan.pickle"))
    pipeline = beam.Pipeline()
    with tft_beam.Context(temp_dir=output.temporary("transform")):
        ready = pipeline | "Analyze" >> Analyze(plan, output)
    _ = pipeline | "Write" >> WriteShards(plan=plan, output=output, transform_ready=ready)
    names = [t.unique_name for t in pipeline.to_runner_api().components.transforms.values()]
    grouping = {name for name in names if name.endswith("GroupByKey")}
    carriers = ("AddUnits0/Reshuffle", "WriteShards/Reshuffle", "AddUp", "GatherShards")
    assert grouping
    assert all(any(carrier in name for carrier in carriers) for name in grouping), grouping
