"""What the pages for contributors mention is there."""

import pathlib
import re
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGES = ("CONTRIBUTING.md", "docs/adding.md")
BASES = (
    ROOT,
    ROOT / "docs",
    ROOT / "pipelines",
    ROOT / "loaders",
    ROOT / "pipelines/runners",
    ROOT / "pipelines/sources/formats",
)
SUFFIXES = (".py", ".md", ".txt", ".toml", ".sh", "/run")


def mentioned(page):
    """What stands in backticks on a page, and the first word of each command of its blocks."""
    text = (ROOT / page).read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    commands = [line.split()[0] for block in blocks for line in block.splitlines() if line.strip()]
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return commands + re.findall(r"`([^`\n]+)`", prose)


def is_path(name):
    return " " not in name and ("/" in name or name.endswith(SUFFIXES)) and not name.startswith(("/", "."))


@pytest.mark.parametrize("page", PAGES)
def test_paths_that_the_page_mentions_exist(page):
    paths = [name for name in mentioned(page) if is_path(name)]
    assert len(paths) > 4
    assert [path for path in paths if not any((base / path).exists() for base in BASES)] == []


@pytest.mark.parametrize("page", PAGES)
def test_names_that_the_page_mentions_are_names_of_the_project(page):
    names = {
        name for name in mentioned(page) if re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*(\(.*\))?", name) and not is_path(name)
    }
    files = [path for folder in ("loaders", "pipelines", "tests", "scripts") for path in (ROOT / folder).rglob("*.py")]
    words = set(re.findall(r"\w+", "\n".join(path.read_text() for path in (*files, ROOT / "setup.py"))))
    absent = {name for name in names if not set(re.findall(r"\w+", name.split("(")[0])) <= words}
    assert absent - {"constraints", "lint"} == set()


def test_the_picture_shows_every_folder_once():
    (picture,) = re.findall(
        r"^```\n(pipelines/ .*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE | re.DOTALL
    )
    for package in ("pipelines", "loaders"):
        folders = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
        assert {name for name in folders if f"{name}/" not in picture} == set()
    shown = set(re.findall(r"\b(\w+/|\w+\.py)(?=\s)", picture.split("Imports go down")[0]))
    there = {
        path.name + "/" * path.is_dir() for package in ("pipelines", "loaders") for path in (ROOT / package).iterdir()
    }
    assert shown - there - {"pipelines/", "loaders/", "formats/"} == set()


@pytest.mark.parametrize("page", PAGES)
def test_links_of_the_page_lead_to_headings(page):
    for target, heading in re.findall(r"\]\(([\w./-]*)#([\w-]+)\)", (ROOT / page).read_text()):
        text = ((ROOT / page).parent / target if target else ROOT / page).read_text()
        headings = {
            re.sub(r"[^\w-]", "", line.lstrip("# ").lower().replace(" ", "-"))
            for line in text.splitlines()
            if line.startswith("#")
        }
        assert heading in headings, f"{target}#{heading}"


def test_commands_of_the_table_are_those_of_the_script():
    usage = (ROOT / "scripts/test.sh").read_text()
    for option in re.findall(r"`scripts/test\.sh (--\w+)`", (ROOT / "CONTRIBUTING.md").read_text()):
        assert f"  {option})" in usage or f"| {option})" in usage


def test_the_citation_and_the_changelog_are_of_this_version():
    (version,) = re.findall(r'^VERSION = "(.+)"$', (ROOT / "loaders/version.py").read_text(), re.MULTILINE)
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[:2] == ["Unreleased", version]


def test_the_tests_that_ci_and_workflows_name_are_there():
    files = [ROOT / ".ci/run", ROOT / "scripts/test.sh", *(ROOT / ".github").rglob("*.yml")]
    named = {name for path in files for name in re.findall(r"\btests/[\w/]+(?:\.py)?", path.read_text())}
    assert len(named) > 4
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_workflows_run_every_python():
    (pythons,) = re.findall(r"python: \[(.+)\]", (ROOT / ".github/workflows/tests.yml").read_text())
    (known,) = re.findall(r"^PYTHONS=\((.+?)\)", (ROOT / "scripts/environment.sh").read_text(), re.MULTILINE)
    assert pythons.replace('"', "").split(", ") == known.split()


def test_the_picture_has_the_order_of_the_import_rules():
    (picture,) = re.findall(
        r"^```\n(pipelines/ .*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE | re.DOTALL
    )
    lines, above = picture.splitlines()[1:], picture.split("Imports go down")[0].splitlines()[1:]
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    left, right = (
        max(rules, key=lambda rule: len(rule.get("layers", ()))),
        next(rule for rule in rules if "loaders.numpy" in rule.get("layers", ())),
    )
    for rule, column in ((left, [line[:59] for line in lines]), (right, [line[59:] for line in above])):
        names = [name.split(".")[1] for layer in rule["layers"] for name in layer.split(" | ")]
        shown = [name for line in column for name in re.findall(r"\b(\w+)(?:/|\.py)(?=\s|$)", line)]
        assert [name for name in shown if name in names] == [name for name in names if name in shown]
        assert len(set(names) - set(shown)) <= 3, set(names) - set(shown)
