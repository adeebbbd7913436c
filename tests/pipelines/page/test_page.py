"""The page as a browser gets it: one well-formed file, escaped, small, and the same for the same arrays."""

import html.parser
import os
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest

import pipelines
from pipelines.errors import ConfigError

VOID = {"meta", "link", "img", "br", "rect", "path"}
HOSTILE = "<script>alert(1)<|script>"


class Parsed(html.parser.HTMLParser):
    """The elements of a page, each with its attributes; an element that is not closed is an error."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self._open = [], [], []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def write(root, **arrays):
    root.mkdir()
    for name, array in arrays.items():
        np.save(root / f"{name}.npy", array)
    return root


def table(root, rows=800):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(rows, 6)).astype(np.float32)
    features[:, 2], features[: rows // 2, 3] = 5, np.nan
    features[7, 0] = 9e5
    return write(
        root,
        features=features,
        copy=features[:, 1],
        word=np.array(["ash", "<b>oak</b>", "pine"])[rng.integers(0, 3, rows)],
        label=rng.integers(0, 3, rows),
        image=rng.integers(0, 255, (rows, 12, 12, 3), dtype=np.uint8),
        when=np.datetime64("2020-01-01") + np.arange(rows),
        species=np.array([f"a species with a long name {number}" for number in range(15)])[rng.integers(0, 15, rows)],
        spectrum=np.cumsum(rng.normal(size=(rows, 40)), axis=1),
        **{HOSTILE: rng.normal(size=rows)},
    )


CONFIG = {"features": {"label": {"class_names": ["<img src=x onerror=alert(1)>", "beech", "oak & ash"]}}}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    base = tmp_path_factory.mktemp("page")
    return pipelines.report(table(base / "src"), base / "a.html", CONFIG)


def check_whole(text):
    """What must hold for every page."""
    parsed = Parsed(text)
    ids = [attrs["id"] for _, attrs in parsed.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [attrs["href"] for attrs in parsed.all("a")]
    assert links
    assert all(link.startswith("#") and link[1:] in ids for link in links)
    assert parsed.all("script") == []
    assert [attrs for _, attrs in parsed.elements if any(name.startswith("on") for name in attrs)] == []
    assert re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]*", text) == []
    assert all(attrs.get("alt") for attrs in parsed.all("img"))
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in parsed.all("svg"))
    assert all(attrs.get("scope") in ("row", "col") for attrs in parsed.all("th"))
    regions = [attrs for attrs in parsed.all("div") if "scroll" in attrs.get("class", "").split()]
    assert all(attrs["tabindex"] == "0" and attrs["aria-label"] for attrs in regions)
    assert len(text.encode()) < 3e6
    return parsed


def test_a_page_is_one_well_formed_file_that_loads_nothing(page):
    parsed = check_whole(page.html)
    assert pathlib.Path(page.path).read_text() == page.html
    assert len(parsed.all("svg")) > 10
    assert sum(attrs["src"].startswith("data:image/png") for attrs in parsed.all("img")) > 5


def test_names_and_values_are_escaped(page):
    parsed = check_whole(page.html)
    assert f'<h3 id="feature-title-0">{HOSTILE}' not in page.html
    assert {HOSTILE, "<b>oak</b>", CONFIG["features"]["label"]["class_names"][0]} <= set(parsed.texts)
    assert parsed.all("b") == [{} for _ in parsed.all("b")]


def test_times_are_shown_as_times(page):
    texts = Parsed(page.html).texts
    assert "2020-01-01" in texts  # the least
    assert "18262" not in texts


def test_long_names_of_classes_have_room(page):
    labels = re.findall(r">a species wit…<", page.html)
    assert len(labels) == 12
    assert "the 12 most frequent of 15" in page.html


def test_what_is_strange_is_said(page):
    said = " ".join(Parsed(page.html).texts)
    assert re.search(r"one value only in the sample: 1 of 6 columns", said)
    assert re.search(r"more than 30 % missing values in the sample: 1 of 6 columns", said)
    assert re.search(r"a value that is \d\d standard deviations from the mean", said)
    assert "equals copy in every row of the sample" in said


def test_the_same_arrays_give_the_same_bytes_wherever_they_lie(page, tmp_path):
    again = pipelines.report(table(tmp_path / "other"), tmp_path / "b.html", CONFIG)
    assert again.html == page.html


def test_a_curve_of_one_step_is_a_number(tmp_path):
    (tmp_path / "src").mkdir()
    for number in range(8):
        np.save(tmp_path / "src" / f"series-{number}.npy", np.arange(number % 3, dtype=np.float32) + 7)
    config = {"features": {"series": {"row_axes": 0, "ragged": True}}, "splits": {"train": 1.0}}
    texts = check_whole(pipelines.report(tmp_path / "src", tmp_path / "a.html", config).html).texts
    rows = texts[texts.index("Rows of train") : texts.index("Features", texts.index("Rows of train"))]
    assert [rows.count(text) for text in ("no step", "7")] == [3, 3]


@pytest.mark.slow
def test_a_thousand_features_fit_and_what_is_left_out_is_said(tmp_path):
    rng = np.random.default_rng(0)
    columns = {f"f{number:04d}": rng.normal(size=300) for number in range(1000)}
    columns["f0500"][:] = 1
    (tmp_path / "src").mkdir()
    np.savez(tmp_path / "src" / "rows.npz", **columns)
    found = pipelines.report(tmp_path / "src", tmp_path / "a.html")
    parsed = check_whole(found.html)
    assert "960 are left out" in " ".join(parsed.texts)
    shown = {text for text in parsed.texts if re.fullmatch(r"f\d{4}", text)}
    assert len(shown) == 1000
    titles = [attrs["id"] for attrs in parsed.all("h3")]
    assert len(titles) == 40
    assert "feature-title-500" in titles  # the strange one


def test_drift_against_other_sources_is_shown(tmp_path):
    rng = np.random.default_rng(0)
    x, label = rng.normal(size=2000), rng.integers(0, 3, 2000)
    here = write(tmp_path / "a", x=x, label=label, gone=x)
    there = write(tmp_path / "b", x=x - 2, label=np.minimum(label, 1))
    parsed = check_whole(pipelines.report(here, tmp_path / "a.html", against=there).html)
    texts = [text for text in parsed.texts if text]
    begin = texts.index("Drift", texts.index("Splits", 10))
    said = " ".join(texts[begin : texts.index("Rows of train", begin)])
    assert re.search(r"x mean, in deviations (2\.\d+|1\.9\d*) yes", said)
    assert re.search(r"x deviation, as a factor 1 no", said)
    assert re.search(r"label share of a class 0\.3\d+ yes 1 new classes", said)
    assert "gone not in the other - yes" in said


def test_arrays_in_memory_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="expected a directory"):
        pipelines.report({"x": np.zeros(3)}, tmp_path / "a.html")


@pytest.mark.slow
def test_a_browser_shows_every_plot_and_complains_of_nothing(page):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium is installed")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    for scheme in ("0", "1"):  # dark, light
        command = [browser, "--headless", "--disable-gpu", *sandbox, f"--blink-settings=preferredColorScheme={scheme}"]
        command += ["--enable-logging=stderr", "--dump-dom", pathlib.Path(page.path).as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
        assert len(re.findall("<svg", done.stdout)) == page.html.count("<svg")
