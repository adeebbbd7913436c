"""What a shell is told after a Tab, by the protocol in which it asks."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from tests.support import ROOT, shards


def completed(line, directory):
    """What may end a line, and the modules that were imported to find it."""
    command = [sys.executable, "-X", "importtime", "-m", "pipelines.cli"]
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}
    asked |= {"_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(directory / "found")}
    done = subprocess.run(
        command, env=os.environ | asked | {"PYTHONPATH": str(ROOT)}, cwd=directory, capture_output=True, check=True
    )
    imported = set(re.findall(r"\| +([\w.]+)$", done.stderr.decode(), re.MULTILINE))
    return {found.strip() for found in (directory / "found").read_text().splitlines()}, imported


@pytest.mark.parametrize(
    ("line", "found", "least"),
    [
        ("npyflow in", {"inspect", "init"}, None),
        ("npyflow build --over", {"--overwrite"}, None),
        ("npyflow bench out --split ", {"train", "held_out"}, None),
        ("npyflow view out he", {"held_out"}, None),
        ("npyflow view nothing ", set(), {"--png"}),
        ("npyflow bench out --loader n", {"numpy"}, None),
        ("npyflow verify o", {"out/"}, None),
    ],
)
def test_a_shell_is_told_what_may_come_next(tmp_path, line, found, least):
    rows = {"x": np.ones((2, 2), np.float32)}
    splits = {"train": [rows], "held_out": [rows]}
    shards.write(tmp_path / "out", splits, rows_per_record=2, features=shards.specs(rows))
    told, imported = completed(line, tmp_path)
    assert told >= least if least else told == found
    assert "argcomplete" in imported
    assert not {"tensorflow", "apache_beam", "pyarrow", "pandas"} & imported
