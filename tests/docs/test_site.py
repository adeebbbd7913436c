"""The documentation's site builds, has every public name, and fetches nothing from elsewhere; its notebooks run."""

import ast
import json
import os
import re
import subprocess
import sys

import pytest

from pipelines.config.schema import DatasetConfig, FeatureConfig
from scripts import notebooks
from tests.support import ROOT, pages

MODULES = {
    "pipelines": "pipelines/__init__.py",
    "pipelines.analyzers": "pipelines/analyzers/__init__.py",
    "loaders": "loaders/__init__.py",
    "loaders.numpy": "loaders/numpy.py",
    "loaders.torch": "loaders/torch.py",
    "loaders.jax": "loaders/jax.py",
    "loaders.augment": "loaders/augment/__init__.py",
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A broken link or anchor would fail here."""
    out = tmp_path_factory.mktemp("site")
    environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    command = [ROOT / "scripts" / "docs.sh", out]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def public(path):
    """The names that a module lists, without importing it."""
    for node in ast.parse((ROOT / path).read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    raise AssertionError(f"{path}: expected __all__; found none")


def test_every_public_name_is_in_the_reference(site):
    headings = set()
    for page in (site / "reference").glob("*.html"):
        headings.update(re.findall(r'<h\d id="([\w.]+)"', page.read_text()))
    names = {f"{module}.{name}" for module, path in MODULES.items() for name in public(path)}
    assert len(names) > 80
    assert names - headings == set()


@pytest.mark.parametrize("model", [DatasetConfig, FeatureConfig])
def test_every_key_of_a_configuration_is_in_the_reference(site, model):
    page = (site / "reference" / "configuration.html").read_text()
    assert [key for key in model.model_fields if f"<td><code>{key}</code></td>" not in page] == []


@pytest.mark.parametrize("page", notebooks.PAGES)
def test_notebooks_print_what_their_pages_say(site, page):
    """They are the tests of these tutorials: their code is that of the pages."""
    path = site / "notebooks" / f"{page}.ipynb"
    assert path.stat().st_size < 200_000
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    printed = "".join("".join(output.get("text", ())) for cell in cells for output in cell["outputs"])
    tutorial = f"docs/tutorials/{page}.md"
    said = {line for kind, text in pages.blocks(tutorial) if kind == "text" for line in text.splitlines()}
    assert said - {line.rstrip() for line in printed.splitlines()} == set()
    (reached,) = re.findall(r"^([\d.]+) of the test \w+ are \w+", printed, re.MULTILINE)
    assert float(reached) >= {"images": 0.95, "table": 0.8}[page]
    assert f"{page}.ipynb" in (site / "notebooks" / f"{page}.html").read_text()


def test_every_command_is_in_the_reference(site):
    page = (site / "reference" / "cli.html").read_text()
    listed = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    commands = re.findall(r"^    (\w+) +\w", listed.stdout, re.MULTILINE)
    assert len(commands) > 10
    assert [name for name in commands if f"usage: npyflow {name} " not in page] == []


def test_nothing_is_fetched_from_elsewhere(site):
    for page in site.rglob("*.html"):
        assert re.findall(r"<(?:script|link|img|iframe)\b[^>]*(?:https?:)?//[^>]*>", page.read_text()) == [], page
    for style in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text()) == [], style
