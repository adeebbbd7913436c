"""The documents say what the code does."""

import pathlib
import re

import numpy as np
import pytest

from loaders.order import hashing
from pipelines import analyzers
from pipelines.config.schema import DatasetConfig, FeatureConfig, load_config
from pipelines.config.split_rules import RULES
from pipelines.steps.methods import IMPUTE, NORMALIZE
from scripts import layout

ROOT = pathlib.Path(__file__).parents[2]


def test_the_golden_values_of_the_format():
    rows = re.findall(r"^\| `(.+?)`(?: for x = 0 … 9)? \| (.+?) \|$", (ROOT / "docs/format.md").read_text(), re.M)
    names = {
        "mix64": lambda x: int(hashing.mix64(np.array([x], np.uint64))[0]),
        "stream": lambda key, index: int(hashing.stream(key, np.array([index]))[0]),
        "permute": lambda key, x, size: hashing.permute(key, x, size).tolist(),
        "shuffled": lambda key, rows: hashing.shuffled(key, rows).tolist(),
        "derive": hashing.derive,
        "text_key": hashing.text_key,
        "SPLIT": hashing.SPLIT,
        "x": np.arange(10),
    }
    golden = [(call, value) for call, value in rows if "(" in call]
    assert len(golden) == 7
    for call, value in golden:
        expected = int(value, 16) if value.startswith("0x") else [int(number) for number in value.split(", ")]
        assert eval(call, names) == expected, call


def test_links_lead_somewhere():
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_architecture_shows_every_folder_and_module():
    page = (ROOT / "docs/architecture.md").read_text()
    assert page == layout.updated(page, ROOT), "run python scripts/layout.py"
    assert "| `loaders/format/` |" in page
    assert "`schema`" in page


OPTIONS = (ROOT / "docs/options.md").read_text()


@pytest.mark.parametrize(
    ("page", "least"), [("options", 50), ("reference/dataflow", 10), ("explanation/reliability", 10)]
)
def test_every_test_that_the_pages_name_is_there(page, least):
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / f"{page}.md").read_text()))
    paths = list((ROOT / "tests").rglob("test_*.py"))
    tests = {name for path in paths for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.M)}
    assert len(named) > least
    assert named - tests - {path.stem for path in paths} == set()


def test_every_option_is_named():
    options = {*IMPUTE, *NORMALIZE, *FeatureConfig.model_fields, *DatasetConfig.model_fields}
    options |= {key for rule in RULES.values() for key in rule.model_fields}
    assert {option for option in options if not re.search(rf"\b{option}\b", OPTIONS)} == set()
    for row in OPTIONS.splitlines():
        if row.startswith("| ") and not row.startswith(("| you ", "| ---")):
            assert "`test_" in row, row


def test_every_example_of_an_option_is_a_configuration():
    checked = 0
    for section in OPTIONS.split("\n## ")[1:]:
        for row in re.findall(r"^\| .* \| (.*) \| `test_.*$", section, re.M):
            for example in re.findall(r"`(\w+: [^`…]+|\{[^`…]+\})`", row):
                said = f"splits: {example}" if example.startswith("{") else example
                top = "*top:*" in row or example.startswith("{")
                load_config(said if top else f"features: {{x: {{{said}}}}}")
                checked += 1
    assert checked > 60


def test_every_analyzer_is_in_the_table():
    named = set(re.findall(r"`(?:npa\.)?(\w+)(?:\(|`)", (ROOT / "docs/reference/analyzers.md").read_text()))
    assert {name for name in analyzers.__all__ if name[0].islower()} <= named
