"""Tutorials and how-tos are short, and every block runs, in order, in one directory. (test_site runs notebooks.)"""

import importlib.util
import os
import re
import shlex

import numpy as np
import pytest
import yaml
from apache_beam.options.pipeline_options import PipelineOptions

import loaders
from pipelines.cli.options import make_parser
from pipelines.config.schema import load_config
from scripts import notebooks
from tests.support import ROOT, pages, scripts

FOLDER, REFERENCE = ROOT / "docs" / "how-to", ROOT / "docs" / "reference"
FIRST = "docs/how-to/index.md"  # which makes the data set that the others use
TUTORIALS = sorted(f"docs/tutorials/{path.name}" for path in (ROOT / "docs" / "tutorials").glob("*.md"))
LOOKED_UP = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (ROOT / "docs", REFERENCE, ROOT / "docs" / "explanation")
    for path in folder.glob("*.md")
)
"""What is not read from its beginning to its end."""
PAGES = [*TUTORIALS, FIRST, *sorted({f"docs/how-to/{path.name}" for path in FOLDER.glob("*.md")} - {FIRST})]

OTHERS = {"pip", "export", "scripts/flink.sh", "scripts/dataflow.sh", "docker", "gcloud", "aws", "cp", "python"}
"""Programs of commands that are not npyflow's."""
NO_CONFIGURATION = {"pipeline.yaml", "prices.yaml"}


def screens(page):
    """How many screens of 50 lines of 120 characters a page has."""
    return sum(max(1, -(-len(line) // 120)) for line in (ROOT / page).read_text().splitlines()) / 50


@pytest.mark.parametrize("page", PAGES)
def test_no_page_is_longer_than_three_screens(page):
    assert screens(page) <= 3


def test_the_first_page_leads_to_all():
    links = set(re.findall(r"\]\((\w+\.md)\)", (FOLDER / "index.md").read_text()))
    assert links == {path.name for path in FOLDER.glob("*.md")} - {"index.md"}


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_is_right(page):
    """Commands for other machines, and scripts that another test runs."""
    extras = set(re.findall(r'^        "(\w+)": \[', (ROOT / "setup.py").read_text(), re.MULTILINE))
    for kind, text in pages.blocks(page):
        assert kind in {"python", "sh", "yaml", "text"}, kind
        if kind == "python":
            compile(text, page, "exec")
        if kind == "yaml" and pages.NAMED.match(text)[1] not in NO_CONFIGURATION:
            load_config(text)
        for command in filter(None, pages.commands(text) if kind == "sh" else ()):
            program, *words = shlex.split(command)
            if program == "npyflow":
                check_command(words)
            else:
                assert program in OTHERS, command
                assert not program.startswith("scripts/") or os.access(ROOT / program, os.X_OK)
                assert set(",".join(re.findall(r"\.\[(.+)\]", command)).split(",")) - {""} <= extras


def check_command(words):
    """That npyflow, or Beam, knows the options of a command."""
    _, rest = make_parser().parse_known_args([word for word in words if word != "OPTIONS"])
    names = {word.partition("=")[0].removeprefix("--") for word in rest}
    known = {name for options in PipelineOptions.__subclasses__() for name in options().get_all_options()}
    assert names <= known | {"dataflow_endpoint"}, words


@pytest.mark.parametrize("page", LOOKED_UP)
def test_commands_and_configurations_of_other_pages(page):
    for kind, text in pages.blocks(page):
        if kind == "yaml":
            assert yaml.safe_load(text)
        for command in pages.commands(text.replace("\\\n", "")) if kind == "sh" else ():
            if command.startswith("npyflow "):
                check_command(shlex.split(command)[1:])


def test_each_script_of_a_page_is_run_somewhere():
    named = {name[1] for page in PAGES for _, text in pages.blocks(page) if (name := pages.NAMED.match(text))}
    used = "\n".join((ROOT / page).read_text() for page in PAGES)
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for name in sorted(name for name in named if name.endswith(".py")):
        short = name.removesuffix(".py")
        called = rf"python {name}|{name}:|import {short}|{short}\."
        assert re.search(called, used) or f'"{short.removeprefix("train_")}"' in tests, name


def run(some, directory):
    """Runs pages, and compares what they print with what they say that they do."""
    shown = "\n".join(pages.run_all(some, directory).values())
    printed = {line.rstrip() for line in shown.splitlines()}
    said = {line for page in some for kind, text in pages.blocks(page) if kind == "text" for line in text.splitlines()}
    assert said - printed == set()
    return shown


def test_notebooks_are_in_step_with_their_pages():
    """They have the code of the page, in its order, and no more; test_site has them run."""
    for name in notebooks.PAGES:
        expected = [text for kind, text in pages.blocks(f"docs/tutorials/{name}.md") if kind in ("python", "sh")]
        cells = [cell.source for cell in notebooks.notebook(name).cells if cell.cell_type == "code"]
        assert [cell.removeprefix("%%sh\n") for cell in cells] == [text.rstrip() for text in expected]


@pytest.mark.slow
def test_every_how_to_runs(tmp_path):
    ran = {f"docs/tutorials/{name}.md" for name in notebooks.PAGES}
    shown = run([*(page for page in PAGES if page not in ran), "docs/reference/loading.md", "docs/format.md"], tmp_path)
    assert f"rows {loaders.open(tmp_path / 'dataset').manifest.rows('train')} (16,) (10,) [" in shown
    reached = [float(value) for value in re.findall(r"^([\d.]+) of the .*pixels", shown, re.MULTILINE)]
    assert len(reached) == 2
    assert min(reached) >= 0.8
    assert "((250, 8), (250,))" in shown
    assert "fixed_size_list<element: float>[16]" in shown
    assert "{'role': 'label'" in shown

    scans = np.concatenate([np.load(tmp_path / f"beam/scans-{part}.npy") for part in (0, 1)])
    likely = loaders.open(tmp_path / "likely")
    assert sum(map(likely.manifest.rows, ("train", "test"))) == int((scans @ np.load(tmp_path / "model.npy") > 0).sum())
    assert loaders.open(tmp_path / "beam_set").manifest.splits == loaders.open(tmp_path / "beam_same").manifest.splits
    labels = np.concatenate([np.load(path) for path in sorted((tmp_path / "arrays").glob("labels-*.npy"))])
    three = loaders.open(tmp_path / "three_classes").manifest
    assert sum(map(three.rows, three.splits)) == int((labels != 3).sum())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "needs", "expected"),
    [
        ("lightning", "lightning", "accuracy True"),
        ("hugging_face", "transformers", "loss True"),
    ],
)
def test_trainers_of_other_libraries(tmp_path, name, needs, expected):
    # Not imported in this process: TensorFlow and what it imports each bring LLVM, and the second one ends the process.
    if importlib.util.find_spec(needs) is None:
        pytest.skip(f"could not import '{needs}'")
    done = scripts.run(scripts.script(name), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == expected


def test_the_rows_of_a_page_are_read():
    """A configuration of a page is one of npyflow, but for what other programs read."""
    assert yaml.safe_load(dict(pages.blocks("docs/how-to/beam_yaml.md"))["yaml"])["pipeline"]["type"] == "chain"
