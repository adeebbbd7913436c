"""The tutorials run as they stand, in one program, and print what they say that they do."""

import re

import pytest

from tests.support import ROOT, pages

TUTORIALS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "tutorials").glob("*.md"))


def test_no_tutorial_is_longer_than_three_screens():
    assert len(TUTORIALS) == 3
    assert {page for page in TUTORIALS if len((ROOT / page).read_text().splitlines()) > 150} == set()


@pytest.mark.slow
def test_every_tutorial_runs(tmp_path):
    shown = "\n".join(pages.run_all(TUTORIALS, tmp_path).values())
    printed = {line.rstrip() for line in shown.splitlines()}
    said = {
        line for page in TUTORIALS for kind, text in pages.blocks(page) if kind == "text" for line in text.splitlines()
    }
    assert len(said) > 10
    assert said - printed == set()

    least = {
        "of the test images are recognised": 0.95,
        "of the test rows are predicted": 0.8,
        "of the test pixels are classified": 0.8,
        "of the pixels in fields that nobody visited are right": 0.85,
    }
    reached = {what: float(value) for value, what in re.findall(r"^([\d.]+) (of the .+)$", shown, re.MULTILINE)}
    assert reached.keys() == least.keys()
    assert {what: value for what, value in reached.items() if value < least[what]} == {}
