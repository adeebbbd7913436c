"""The scripts of how-tos, run as a reader would, or killed."""

import re
import subprocess
import sys

import numpy as np

from tests.support import ROOT, commands, shards

BLOCKS = [
    block
    for page in sorted((ROOT / "docs/how-to").glob("*.md"))
    for block in re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
]


# Ends the process, or a worker of it, where the n-th batch would be made.
KILL = """
import os
from loaders.numpy import ArrayBatches as _Batches
_finish, _left = _Batches._finish, [{batches}]
def _kill(self, columns):
    _left[0] -= 1
    return _finish(self, columns) if _left[0] else os._exit(9)
_Batches._finish = _kill
"""


# Where the n-th batch is counted: by the loader, or by what Keras tells it.
KILL_TENSORFLOW = """
import os
from loaders.order import position as _cursor
from loaders.tensorflow import loader as _loader
_left = [{batches}]
def _killing(function):
    def kill(*args):
        _left[0] -= 1
        return function(*args) if _left[0] else os._exit(9)
    return kill
_cursor.position_after, _loader.tensors = _killing(_cursor.position_after), _killing(_loader.tensors)
"""


def write_dataset(root):
    """Rows like those of the README, 3,000 to train and 600 to test, in two shards each."""
    generator = np.random.default_rng(0)

    def part(rows):
        labels = generator.integers(0, 4, rows)
        features = generator.normal(size=(rows, 16)).astype(np.float32)
        features[np.arange(rows), labels] += 4
        return {"features": features, "labels": labels}

    splits = {"train": [part(1800), part(1200)], "test": [part(300), part(300)]}
    specs = shards.specs(splits["test"][0], {"labels": "label"})
    shards.write(root / "dataset", splits, rows_per_record=100, features=specs)


def script(name):
    (text,) = (block for block in BLOCKS if block.startswith(f"# train_{name}.py"))
    return text


def run(text, directory, *, imported=False):
    """Runs a script in a directory with a data set; where `imported`, TensorFlow is there before it begins."""
    directory.mkdir(exist_ok=True)
    if not (directory / "dataset").exists():
        write_dataset(directory)
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(directory), "JAX_PLATFORMS": "cpu"}
    if imported:
        return commands.run(code=text, cwd=directory, env=environment)
    (directory / "script.py").write_text(text)
    return subprocess.run(
        [sys.executable, "-W", "ignore", "script.py"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
