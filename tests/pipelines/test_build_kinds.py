"""Builds from every kind of source, with many kinds of steps at once, against NumPy and scikit-learn."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import QuantileTransformer, RobustScaler

import loaders
from pipelines.config.schema import parse_config
from pipelines.maintain.verify import verify
from tests.support.arrays import write_files
from tests.support.builds import build

ROWS, PARTS = 6000, 3
WORDS = np.array(["ash", "beech", "cedar", "døgwood"])


def make_rows():
    """All rows, in the order of the parts."""
    rng = np.random.default_rng(3)
    spectra = rng.normal(size=(ROWS, 3)) @ rng.normal(size=(3, 20)) + 0.01 * rng.normal(size=(ROWS, 20))
    table = np.zeros(ROWS, dtype=[("age", ">i2"), ("size", "<f8", (2,))])
    table["age"] = rng.integers(-5, 90, ROWS)
    table["size"] = rng.lognormal(size=(ROWS, 2))
    measured = rng.normal(1e6, 1, (ROWS, 4)).astype(np.float32)
    measured[rng.random(measured.shape) < 0.1] = np.nan
    pixels = rng.integers(0, 255, (ROWS, 4, 4, 3)).astype(np.uint8)
    pixels[rng.random(pixels.shape) < 0.05] = 255
    return {
        "measured": measured,
        "pixels": np.asfortranarray(pixels),
        "spectra": spectra,
        "table": table,
        "word": WORDS[rng.choice(4, ROWS, p=[0.1, 0.4, 0.3, 0.2])],
        "when": np.datetime64("2020-01-01") + rng.integers(0, 1000, ROWS).astype("m8[D]"),
        "wave": rng.normal(size=(ROWS, 2)) + 1j * rng.normal(size=(ROWS, 2)),
        "site": rng.integers(0, 5, ROWS),
        "height": rng.normal(size=ROWS) * 3 + 7,
        "hidden": rng.random(ROWS) < 0.3,
        "keep": rng.random(ROWS) < 0.9,
    }


CONFIG = {
    "features": {
        "number": {"source": "index"},
        "measured": {"indicator": True, "dtype": "float64"},
        "pixels": {"missing": [255], "impute": "zero", "normalize": "minmax", "over": "channel"},
        "spectra": {"normalize": {"pca": 3}},
        "age": {"impute": "none", "normalize": "robust"},
        "size": {"normalize": ["log1p", {"quantile": "uniform"}]},
        "word": {"normalize": "vocabulary"},
        "height": {"mask": "hidden", "by": "site"},
        "hidden": {"store": "none"},
        "keep": {"store": "none"},
    },
    "filter": "keep",
    "splits": {"group": "site", "fractions": {"train": 0.6, "test": 0.4}},
    "shard_bytes": "64KiB",
    "seed": 5,
}


def write_sources(directory, rows):
    """Files, archives, and a table, of three parts."""
    contents = {}
    for part in range(PARTS):
        own = slice(part * ROWS // PARTS, (part + 1) * ROWS // PARTS)
        for name in ("measured", "pixels", "table", "word", "when", "wave"):
            contents[f"{name}-{part}.npy"] = rows[name][own]
    source = write_files(directory, contents)
    for part in range(PARTS):
        own = slice(part * ROWS // PARTS, (part + 1) * ROWS // PARTS)
        save = np.savez_compressed if part else np.savez
        save(directory / f"{part}.npz", **{n: rows[n][own] for n in ("spectra", "site", "height", "hidden", "keep")})
    return source


def read(root, split, **options):
    (batch,) = loaders.load(root, split, batch_size=ROWS, shuffle=False, **options)
    return {name: tensor.numpy() for name, tensor in batch.items()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    directory, rows = tmp_path_factory.mktemp("kinds"), make_rows()
    source = write_sources(directory / "source", rows)
    manifest = build(source, directory / "out", parse_config(CONFIG))
    return rows, str(directory / "out"), manifest, source


def mean_by(values, groups, absent):
    return {g: values[(groups == g) & ~absent].mean() for g in np.unique(groups)}


@pytest.mark.slow
def test_every_row_is_there_with_what_scikit_learn_makes_of_it(built):
    rows, root, manifest, _ = built
    assert verify(root).problems == ()
    train, test = read(root, "train"), read(root, "test")
    kept = np.concatenate([train["number"], test["number"]])
    assert sorted(kept) == np.flatnonzero(rows["keep"]).tolist()
    assert manifest.dropped == ROWS - len(kept)
    assert not set(rows["site"][train["number"]]) & set(rows["site"][test["number"]])
    learned = train["number"]
    for found in (train, test):
        own = found["number"]
        check_numbers(rows, learned, own, found)
        assert (found["word"] == ranks(rows["word"][learned], rows["word"][own])).all()
        assert (found["when"] == rows["when"][own].astype(np.int64)).all()
        assert (found["wave"] == rows["wave"][own]).all()
        assert (found["measured_missing"] == np.isnan(rows["measured"][own])).all()
    (when,) = (spec for spec in manifest.features if spec.name == "when")
    assert when.unit == "datetime64[D]"
    others = {"when", "wave", "site", "measured_missing"}
    assert {spec.name for spec in manifest.features} == ({*CONFIG["features"]} | others) - {"hidden", "keep"}


def ranks(training, words):
    """The vocabulary's numbers: by falling count, then by word; every word occurs."""
    values, counts = np.unique(np.char.encode(training, "utf-8"), return_counts=True)
    ranked = values[np.lexsort([values, -counts])]
    return np.argmax(np.char.encode(words, "utf-8")[:, None] == ranked, axis=1)


def check_numbers(rows, learned, own, found):
    measured = rows["measured"].astype(np.float64)
    mean = np.nanmean(measured[learned], axis=0)
    filled = np.where(np.isnan(measured), mean, measured)
    expected = (filled - mean) / filled[learned].std(axis=0)
    np.testing.assert_allclose(found["measured"], expected[own], rtol=1e-9, atol=1e-9)

    pixels = np.where(rows["pixels"] == 255, 0, rows["pixels"]).astype(np.float64)
    low, high = (f(pixels[learned], axis=(0, 1, 2)) for f in (np.min, np.max))
    np.testing.assert_allclose(found["pixels"], ((pixels - low) / (high - low))[own], rtol=1e-6)

    pca = PCA(3, svd_solver="full").fit(rows["spectra"][learned])
    np.testing.assert_allclose(found["spectra"], pca.transform(rows["spectra"])[own], rtol=1e-4, atol=1e-4)

    age = rows["table"]["age"].astype(np.float64)[:, None]
    np.testing.assert_allclose(found["age"], RobustScaler().fit(age[learned]).transform(age)[own, 0], rtol=1e-6)

    size = np.log1p(rows["table"]["size"])
    quantiles = QuantileTransformer(n_quantiles=1000, subsample=None).fit(size[learned])
    np.testing.assert_allclose(found["size"], quantiles.transform(size)[own], atol=1e-5)

    check_heights(rows, learned, own, found["height"])


def check_heights(rows, learned, own, found):
    """Imputed and scaled by the statistics of the row's site; sites of other splits have those of all training rows."""
    height, site, hidden = rows["height"], rows["site"], rows["hidden"]
    for row, value in zip(own, found, strict=True):
        same = learned[site[learned] == site[row]]
        group = same if len(same) else learned
        present = height[group][~hidden[group]]
        filled = np.where(hidden[group], present.mean(), height[group])
        raw = present.mean() if hidden[row] else height[row]
        assert value == pytest.approx((raw - filled.mean()) / filled.std(), rel=1e-5, abs=1e-5)


@pytest.mark.slow
def test_other_workers_give_the_same_bytes(built, tmp_path):
    _, _, manifest, source = built
    options = ["--direct_num_workers=2"]
    again = build(source, tmp_path / "out", parse_config(CONFIG), beam_options=options)
    assert again.splits == manifest.splits
    assert [file for file in again.files if file.file.endswith(".npz")] == [
        file for file in manifest.files if file.file.endswith(".npz")
    ]


@pytest.mark.slow
def test_the_dumped_configuration_builds_the_same(built, tmp_path):
    _, _, manifest, source = built
    assert build(source, tmp_path / "out", parse_config(manifest.config)).splits == manifest.splits


def by_number(rows):
    order = np.argsort(rows["number"])
    return {name: values[order] for name, values in rows.items()}


@pytest.mark.slow
def test_raw_shards_give_the_same_bits(built, tmp_path):
    _, root, _, source = built
    raw = ("measured", "pixels", "spectra", "age", "size", "word")
    features = {name: said | ({"store": "raw"} if name in raw else {}) for name, said in CONFIG["features"].items()}
    stored = build(source, tmp_path / "out", parse_config(CONFIG | {"features": features}))
    assert verify(str(tmp_path / "out")).problems == ()
    dtypes = {spec.name: spec.dtype for spec in stored.features}
    assert (dtypes["pixels"], dtypes["age"], dtypes["word"]) == ("uint8", "int16", "string")
    for split in ("train", "test"):
        expected = by_number(read(root, split))
        assert by_number(read(tmp_path / "out", split)).keys() == expected.keys()
        in_steps = loaders.load(tmp_path / "out", split, batch_size=512, shuffle=False, drop_remainder=True)
        later = loaders.open(tmp_path / "out").transform
        raw_batches = loaders.load(tmp_path / "out", split, batch_size=777, shuffle=False, transform=False)
        for batches in (in_steps, map(later, raw_batches)):
            for batch in batches:
                found = {name: tensor.numpy() for name, tensor in batch.items()}
                places = np.searchsorted(expected["number"], found["number"])
                for name, values in found.items():
                    assert values.tobytes() == expected[name][places].tobytes(), name


@pytest.mark.slow
def test_the_inverse_gives_back_what_there_was(built):
    rows, root, _, _ = built
    found, inverse = read(root, "test"), loaders.inverse(root)
    own = found["number"]
    present = ~np.isnan(rows["measured"][own])
    np.testing.assert_allclose(
        inverse("measured", found["measured"])[present], rows["measured"][own][present], rtol=1e-12
    )
    np.testing.assert_allclose(inverse("age", found["age"]), rows["table"]["age"][own], atol=1e-4)
    seen = rows["pixels"][own] != 255
    np.testing.assert_allclose(inverse("pixels", found["pixels"])[seen], rows["pixels"][own][seen], atol=1e-3)
    nearly = rows["spectra"][own]  # of rank 3, but for noise of 0.01
    assert np.abs(inverse("spectra", found["spectra"]) - nearly).max() < 0.1
    shown = ~rows["hidden"][own]
    heights = inverse("height", found["height"], keys=rows["site"][own])
    np.testing.assert_allclose(heights[shown], rows["height"][own][shown], rtol=1e-5, atol=1e-5)
