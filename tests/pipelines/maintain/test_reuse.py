"""A data set's transform used for another: no analysis, the same numbers, and only where the schema is the same."""

import pathlib
import shutil

import google_crc32c
import numpy as np
import pytest

import loaders
from loaders.format.manifest import ManifestError
from pipelines.cli import main
from pipelines.config.schema import parse_config
from pipelines.errors import ConfigError, OutputError, SourceError
from pipelines.maintain.reuse import open_existing, plan_reuse
from pipelines.maintain.verify import verify
from pipelines.output.directory import read_manifest
from pipelines.storage import files
from tests.support.arrays import write_files
from tests.support.builds import build
from tests.support.manifests import change_manifest

FEATURES = {"x": {"missing": -9, "normalize": "zscore", "dtype": "float64"}, "row": {"role": "id"}}
KEPT = ("statistics.npz", "statistics.pb", "moments.npz", "fitted.npz", "golden.npz")


def arrays(seed, *, rows=300, scale=1.0):
    x = np.random.default_rng(seed).normal(size=(rows, 4)) * scale + 3
    x[::20] = -9
    return {"x.npy": x, "row.npy": np.arange(rows), "day.npy": np.arange(rows).astype("datetime64[D]")}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    root = tmp_path_factory.mktemp("reuse")
    write_files(root / "src", arrays(0))
    write_files(root / "new", arrays(1, rows=100, scale=7))
    config = parse_config({"features": FEATURES, "splits": {"train": 0.5, "test": 0.5}, "seed": 4})
    build(root / "src", root / "from", config)
    return root


@pytest.mark.slow
def test_the_transform_is_taken_as_it_is(base, tmp_path):
    config = parse_config({"splits": {"train": 1}})
    manifest = build(base / "new", tmp_path / "out", config, transform=base / "from")
    assert (manifest.rows("train"), manifest.seed) == (100, 4)
    assert not verify(str(tmp_path / "out")).problems
    for name in KEPT:
        assert (tmp_path / "out" / name).read_bytes() == (base / "from" / name).read_bytes()
    assert manifest.transform_from == open_existing(str(base / "from")).fingerprint
    statistics = np.load(base / "from" / "statistics.npz")
    mean, share = statistics["x/mean"], statistics["x/count"] / (statistics["x/count"] + statistics["x/missing"])
    x = arrays(1, rows=100, scale=7)["x.npy"]
    expected = (np.where(x == -9, mean, x) - mean) / (statistics["x/std"] * np.sqrt(share))
    found = next(loaders.load(str(tmp_path / "out"), "train", batch_size=100).as_numpy_iterator())
    np.testing.assert_allclose(found["x"][np.argsort(found["row"])], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["from", "link"])
def test_a_data_set_is_not_replaced_by_one_that_needs_its_transform(base, tmp_path, name):
    source = pathlib.Path(shutil.copytree(base / "from", tmp_path / "from"))
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(OutputError, match="another directory than that of the data set whose transform is used"):
        build(base / "new", tmp_path / name, transform=source, overwrite=True)
    assert not verify(str(source)).problems


@pytest.mark.slow
def test_an_interrupted_build_goes_on_unless_the_transform_changes(base, tmp_path, monkeypatch):
    source = pathlib.Path(shutil.copytree(base / "from", tmp_path / "from"))
    write = files.write_bytes

    def stop(path, data, **options):
        if path.endswith("out/manifest.json"):
            raise KeyboardInterrupt
        write(path, data, **options)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_bytes", stop)
        with pytest.raises(KeyboardInterrupt):
            build(base / "new", tmp_path / "out", transform=source)
    with pytest.raises(OutputError, match="an unfinished build of other sources"):
        build(base / "new", tmp_path / "out")

    def other_constants(manifest):
        for file in manifest["files"]:
            if file["file"] == "fitted.npz":
                file["crc32c"] = f"{google_crc32c.value((source / 'fitted.npz').read_bytes()):08x}"

    flip_bit(source / "fitted.npz")
    change_manifest(source, other_constants)
    with pytest.raises(OutputError, match="an unfinished build of other sources"):
        build(base / "new", tmp_path / "out", transform=source)
    shards = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.tfrecord")}
    build(base / "new", tmp_path / "out", transform=base / "from")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.tfrecord")} == shards


def flip_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [flip_bit, pathlib.Path.unlink])
@pytest.mark.parametrize("name", ["transform/transform_fn/saved_model.pb", "fitted.npz"])
def test_a_transform_that_is_not_as_its_manifest_says_is_refused(base, tmp_path, harm, name):
    source = pathlib.Path(shutil.copytree(base / "from", tmp_path / "from"))
    harm(source / name)
    with pytest.raises(ManifestError, match=rf"{name}: expected \d+ bytes with CRC-32C \w+; found "):
        build(base / "new", tmp_path / "out", transform=source)
    assert not (tmp_path / "out").exists()


def test_a_transform_with_files_elsewhere_is_refused(base, tmp_path):
    source = pathlib.Path(shutil.copytree(base / "from", tmp_path / "a" / "b" / "from"))
    (tmp_path / "a" / "evil.txt").write_text("evil")
    evil = {"file": "transform/../../evil.txt", "bytes": 4, "crc32c": f"{google_crc32c.value(b'evil'):08x}"}
    change_manifest(source, lambda manifest: manifest["files"].append(evil))
    with pytest.raises(ManifestError, match=r"expected a file that a data set has.*found 'transform/\.\./\.\./evil"):
        build(base / "new", tmp_path / "out", transform=source)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_every_difference_of_the_schema_is_listed(base, tmp_path, capsys):
    other = {"x.npy": np.ones((5, 3), np.float32), "day.npy": np.arange(5).astype("datetime64[s]"), "y.npy": np.ones(5)}
    source = write_files(tmp_path / "src", other)
    code = main.main(["build", source, str(tmp_path / "out"), "--transform", str(base / "from")])
    shown = capsys.readouterr().err
    assert code == 2
    assert "5 problems in the sources" in shown
    for text in (
        "x.npy (feature x): expected dtype float64",
        "found float32",
        "x.npy (feature x): expected shape (4,)",
        "day.npy (feature day): expected unit datetime64[D]",
        "(feature row): expected the feature",
        "y.npy (feature y): expected no such feature",
    ):
        assert text in shown
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_may_be_said_beside_a_transform(base, tmp_path):
    existing = open_existing(str(base / "from"))
    source = str(base / "new")
    plan = plan_reuse(source, existing, parse_config({"seed": 9, "shard_bytes": 1000}))
    assert (plan.config.seed, plan.config.shard_bytes) == (9, 1000)
    assert plan.config.splits == {"all": 1.0}
    assert plan.config.features == plan_reuse(str(base / "src"), existing, parse_config({})).config.features
    with pytest.raises(ConfigError, match=r"features\.x: only files can be said"):
        plan_reuse(source, existing, parse_config({"features": {"x": {"normalize": "none"}}}))
    with pytest.raises(ConfigError, match="preprocessing_fn: the transform is that of"):
        plan_reuse(source, existing, parse_config({"preprocessing_fn": "a.py:f"}))
    shutil.copytree(base / "new", tmp_path / "src")
    (tmp_path / "src" / "x.npy").rename(tmp_path / "src" / "spectra.npy")
    with pytest.raises(SourceError, match=r"\(feature spectra\)"):
        plan_reuse(str(tmp_path / "src"), existing, parse_config({}))
    plan = plan_reuse(str(tmp_path / "src"), existing, parse_config({"features": {"x": {"files": "spectra.npy"}}}))
    assert plan.table.rows == 100


@pytest.mark.slow
def test_rows_that_are_served_are_one_split(base, tmp_path):
    """Nothing is learned from them, so that none is kept apart."""
    write_files(tmp_path / "src", {"x.npy": np.arange(40.0), "labels.npy": np.arange(40) % 2})
    config = {"splits": {"fit": 0.5, "check": 0.5}, "training": "fit", "features": {"x": {"normalize": "zscore"}}}
    build(tmp_path / "src", tmp_path / "from", parse_config(config))
    existing = open_existing(str(tmp_path / "from"))
    served = plan_reuse(str(tmp_path / "src"), existing, parse_config({}))
    assert (served.splits, served.config.dump()["splits"], served.training_split) == (("all",), {"all": 1.0}, "all")
    assert served.config.why == "nothing is said of splits, and nothing is learned, so all rows are one"
    assert {f.why for f in served.config.features} == {f"as in {tmp_path / 'from'}, whose transform is used"}
    said = plan_reuse(str(tmp_path / "src"), existing, parse_config({"splits": {"test": 1}}))
    assert (said.splits, said.config.why) == (("test",), "the splits are as said")
    write_files(
        tmp_path / "parts", {f"{name}/{file}": array for name in ("test", "valid") for file, array in arrays(2).items()}
    )
    assert plan_reuse(str(tmp_path / "parts"), open_existing(str(base / "from")), parse_config({})).splits == (
        "test",
        "valid",
    )


@pytest.mark.slow
def test_rows_of_one_split_alone(base, tmp_path):
    write_files(tmp_path / "src", {f"test/{name}": array for name, array in arrays(2, rows=50).items()})
    manifest = build(tmp_path / "src", tmp_path / "out", parse_config({"splits": "directory"}), transform=base / "from")
    assert {split: manifest.rows(split) for split in manifest.splits} == {"test": 50}
    assert read_manifest(str(tmp_path / "out")).sources == manifest.sources


@pytest.mark.slow
def test_a_data_set_without_a_transform_gives_none(tmp_path):
    write_files(tmp_path / "src", {"labels.npy": np.arange(50)})
    build(tmp_path / "src", tmp_path / "from")
    with pytest.raises(ConfigError, match="expected a data set with a transform; found one without"):
        build(tmp_path / "src", tmp_path / "out", transform=tmp_path / "from")
