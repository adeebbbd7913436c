"""Real arrays in the layouts that are most common build without any option, or with the one that the error names."""

from __future__ import annotations

import pathlib
import re
import shlex
from typing import Any

import numpy as np
import pytest
from sklearn import datasets

import loaders
from loaders import numpy as numpy_loader
from pipelines.config.schema import load_config
from pipelines.errors import SourceError
from pipelines.interface.inspect import inspect
from pipelines.plan.units import Span
from pipelines.reading.columns import read_columns
from tests.support.arrays import npz_bytes, write_files
from tests.support.builds import build

Arrays = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
"""Rows and their classes."""


def arrays_of(name: str) -> Arrays:
    found = getattr(datasets, f"load_{name}")()
    return found["images"] if name == "digits" else found["data"], found["target"]


ARRAYS = {name: arrays_of(name) for name in ("digits", "iris", "wine", "breast_cancer")}


def one_array(x: Any, y: Any) -> dict[str, Any]:
    return {"x.npy": x, "y.npy": y}


def parts(x: Any, y: Any) -> dict[str, Any]:
    cut = {f"{name}-{n}.npy": part for name, a in (("x", x), ("y", y)) for n, part in enumerate(np.array_split(a, 3))}
    assert len(cut) == 6
    return cut


def one_a_file(x: Any, y: Any) -> dict[str, Any]:
    return {f"x/{n:04}.npy": row for n, row in enumerate(x)} | {"y.npy": y}


def class_folders(x: Any, y: Any) -> dict[str, Any]:
    return {f"class{label}/{n:04}.npy": row for n, (row, label) in enumerate(zip(x, y, strict=True))}


def class_folders_of_arrays(x: Any, y: Any) -> dict[str, Any]:
    return {f"class{label}/rows-{n}.npy": part for label in np.unique(y)
            for n, part in enumerate(np.array_split(x[y == label], 2))}  # fmt: skip


def archive(x: Any, y: Any) -> dict[str, Any]:
    return {"all.npz": npz_bytes({"x": x, "y": y})}


def structured(x: Any, y: Any) -> dict[str, Any]:
    table = np.zeros(len(x), [("x", x.dtype, x.shape[1:]), ("y", y.dtype)])
    table["x"], table["y"] = x, y
    return {"table.npy": table}


LAYOUTS = (one_array, parts, one_a_file, class_folders, class_folders_of_arrays, archive, structured)


def settings_for(root: str) -> list[str]:
    """What has to be said, as the error, or what is shown of the sources, says it; nothing where all is told apart."""
    try:
        said = str(inspect(root))
    except SourceError as error:
        said = str(error).partition(" or a feature ")[0]
    found = re.findall(r"--set ('[^']*'|[^\s)]+)", said)
    return [shlex.split(setting)[0] for setting in found]


@pytest.fixture(scope="module", params=ARRAYS)
def arrays(request: pytest.FixtureRequest) -> Arrays:
    return ARRAYS[request.param]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_pairs_its_rows(arrays: Arrays, layout: Any, tmp_path: pathlib.Path) -> None:
    x, y = (array[::7] for array in arrays)  # files are many
    root = write_files(tmp_path, layout(x, y))
    settings = settings_for(root)
    assert bool(settings) == layout.__name__.startswith("class_folders")
    plan = inspect(root, load_config("", settings)).plan
    assert plan is not None
    spans = [Span(part=number, start=0, stop=part.rows) for number, part in enumerate(plan.table.parts)]
    rows = read_columns(plan, spans, stage="test")
    roles = {feature.spec.role: feature for feature in plan.config.features}
    found = rows[roles["input"].name], rows[roles["label"].name]
    assert found[0].shape == x.shape
    assert found[0].dtype == x.dtype
    assert pairs(*found) == pairs(x, y)


def pairs(x: Any, y: Any) -> list[tuple[bytes, int]]:
    return sorted((row.tobytes(), int(label)) for row, label in zip(x, y, strict=True))


@pytest.mark.parametrize(
    ("name", "layout"),
    [("digits", class_folders), ("iris", one_a_file), ("wine", archive), ("breast_cancer", structured)],
)
def test_what_is_built_of_it_is_what_numpy_says(name: str, layout: Any, tmp_path: pathlib.Path) -> None:
    x, y = ARRAYS[name]
    if layout is class_folders:  # files are many
        x, y = x[::5], y[::5]
    root, out = write_files(tmp_path / "arrays", layout(x, y)), tmp_path / "out"
    manifest = build(root, out, load_config("", settings_for(root)))
    roles = {feature.role: feature.name for feature in manifest.features}
    statistics = loaders.open(out).statistics[roles["input"]]
    mean, std = statistics["mean"], np.where(statistics["std"] == 0, 1, statistics["std"])
    rows: dict[str, Arrays] = {}
    for split in manifest.splits:
        (batch,) = numpy_loader.Loader(out, split, batch_size=len(x), shuffle=False, remainder="keep")
        values = batch[roles["input"]] * std + mean
        distances = ((values[:, np.newaxis] - x) ** 2).sum(axis=tuple(range(2, x.ndim + 1)))
        nearest = distances.argmin(axis=1)
        assert distances.min(axis=1).max() < 1e-3
        np.testing.assert_array_equal(batch[roles["label"]], y[nearest])
        rows[split] = x[nearest], y[nearest]
    assert pairs(*(np.concatenate(arrays) for arrays in zip(*rows.values(), strict=True))) == pairs(x, y)
    learned = rows["train"][0]
    assert 0.6 * len(x) < len(learned) < 0.95 * len(x)
    for statistic in ("mean", "std", "min", "max"):
        expected = getattr(np, statistic)(learned, axis=0)
        np.testing.assert_allclose(statistics[statistic], expected, rtol=1e-12, atol=1e-12)
