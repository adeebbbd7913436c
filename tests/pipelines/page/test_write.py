"""The page that builds leave beside their data sets."""

import html
import json
import pathlib
import re

import numpy as np
import pytest

import loaders
import pipelines
from pipelines.errors import ConfigError
from pipelines.page import facts, render
from pipelines.page.stored_rows import sample_shards

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, size=(6000, 4)).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = np.nan
    return {"x": x, "label": rng.integers(0, 3, 6000), "z": rng.normal(7, 2, 6000)}


CONFIG = {
    "features": {"x": {"impute": "median"}, "z": {"normalize": ["robust"], "store": "raw"}},
}


@pytest.fixture(scope="module")
def built(arrays, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "out"
    pipelines.build(arrays, out, CONFIG, workers=1)
    return out


def page_of(out):
    return pathlib.Path(out, "report.html").read_text()


def test_a_build_shows_values_before_and_after_the_transform(built):
    page = page_of(built)
    assert "Values before the transform" in page
    assert "Values as a batch holds them" in page
    assert "Missing values along the sources" in page
    assert 'loaders.load("OUT", "train"' in html.unescape(page)
    assert str(built) not in page


def test_a_page_that_is_made_later_has_the_raw_values_of_the_sample_and_what_is_asked(built, tmp_path):
    again = pipelines.report(built, tmp_path / "a.html", leakage=True).html
    assert "Values before the transform" in again
    assert "Values as a batch holds them" in again
    assert "No row is in more than one split: 6,000 rows compared by x, z" in again
    assert "Shuffle quality" in again
    assert "as by chance" in again
    assert "No row is in more than one split" not in page_of(built)


def test_features_that_are_stored_raw_are_shown_as_a_batch_holds_them_too(built, arrays):
    found = facts.of_data_set(str(built), loaders.open(built).manifest).features["z"]
    stored = sample_shards(str(built), loaders.open(built).manifest, "train", rows=6000)["z"]
    lower, middle, upper = np.quantile(stored, [0.25, 0.5, 0.75])
    assert {split: len(rows) for split, rows in found.made.items()} == {
        split: len(rows) for split, rows in found.raw.items()
    }
    for split, rows in found.raw.items():
        assert np.isin(rows, arrays["z"]).all()
        np.testing.assert_allclose(found.made[split], (rows - middle) / (upper - lower), rtol=1e-6)


def test_quantiles_are_exact_or_have_a_bound(built):
    found = facts.of_data_set(str(built), loaders.open(built).manifest)
    stored = sample_shards(str(built), loaders.open(built).manifest, "train", rows=6000)["z"]
    assert found.features["z"].exact == {50: np.median(stored)}
    assert found.features["x"].exact[50].shape == (4,)
    page = html.unescape(page_of(built))
    assert f"<dt>50 % quantile, exact</dt><dd>{np.median(stored):.5g}</dd>" in page
    assert "50 %, exact" in page
    assert "distributions of train from 2,048 of its rows, drawn at random" in page
    line = '<td class="whole">before the transform</td><td class="n">2,048</td><td class="n">3.0 %</td>'
    assert page.count(f'<th scope="row">train</th>{line}') == 2
    assert re.search(r'<td class="whole">as a batch holds them</td><td class="n">2,048</td><td class="n">-</td>', page)


def test_leakage_of_sources_is_refused(arrays, tmp_path):
    np.save(tmp_path / "x.npy", arrays["x"])
    with pytest.raises(ConfigError, match="expected a data set, whose rows can be compared; found sources"):
        pipelines.report(tmp_path, tmp_path / "b.html", leakage=True)


def test_the_manifest_does_not_list_it_and_the_data_set_verifies_with_and_without(built, tmp_path):
    manifest = json.loads((built / "manifest.json").read_text())
    assert "report.html" not in [file["file"] for file in manifest["files"]]
    assert pipelines.verify(built).problems == ()


def test_files_give_the_same_bytes_with_any_number_of_workers(built, arrays, tmp_path):
    (tmp_path / "src").mkdir()
    for name, array in arrays.items():
        np.save(tmp_path / "src" / f"{name}.npy", array)
    pipelines.build(tmp_path / "src", tmp_path / "out", CONFIG, workers=2)
    assert page_of(tmp_path / "out") == page_of(built)


def test_none_is_left_where_none_is_wanted(built, arrays, tmp_path, monkeypatch):
    pipelines.build(arrays, tmp_path / "out", CONFIG, workers=1, report=False)
    assert not (tmp_path / "out" / "report.html").exists()
    pipelines.report(tmp_path / "out")
    before = page_of(tmp_path / "out")
    assert "Values as a batch holds them" in before
    more = {name: array[:50] + 1 for name, array in arrays.items()}
    pipelines.append(more, tmp_path / "out", workers=1)
    assert page_of(tmp_path / "out") != before  # a page that is there is kept up to date
    pipelines.build(arrays, tmp_path / "out", CONFIG, workers=1, report=False, overwrite=True)
    assert not (tmp_path / "out" / "report.html").exists()

    def fail(*_):
        raise ValueError

    monkeypatch.setattr(render, "render", fail)
    pipelines.build(arrays, tmp_path / "out", CONFIG, workers=1, overwrite=True)  # a data set without a page is as good
    assert pipelines.verify(tmp_path / "out").problems == ()
    assert not (tmp_path / "out" / "report.html").exists()
