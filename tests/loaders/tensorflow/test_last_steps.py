import subprocess
import sys

import pytest

from tests.support.numbered import write_numbered

PROGRAM = """
import sys, time
import loaders

def slowly(batch, rng):
    time.sleep(0.2)
    return batch

loader = loaders.Loader(sys.argv[1], "train", batch_size=2, epochs=None, augment=[slowly])
left = iter(loader) if sys.argv[2] == "loader" else iter(loader.dataset())
next(left)
print("ended")
"""


@pytest.mark.slow
@pytest.mark.parametrize("of", ["loader", "dataset"])
def test_a_program_that_leaves_an_iterator_ends(of, tmp_path):
    """Threads of TensorFlow are calling Python then."""
    write_numbered(tmp_path / "out", [30], rows_per_record=1)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "out"), of]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr
