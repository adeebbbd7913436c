import subprocess
import sys

import pytest

from pipelines.runners.allocator import keep_freed_memory

PROGRAM = """
import resource, sys
from pipelines.runners.allocator import keep_freed_memory
kept = keep_freed_memory(*map(int, sys.argv[1:])) if sys.argv[1:] else None
import numpy as np

def batches():
    for _ in range(5):
        np.concatenate([np.ones(20 << 17) for _ in range(5)], out=np.empty(100 << 17))

batches()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
batches()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*arguments):
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True)
    kept, count = done.stdout.split()
    return kept, int(count)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_memory_that_is_kept_is_not_asked_for_again():
    _, default = faults()
    kept, few = faults(str(2**30))
    if kept == "False":
        pytest.skip("the C library is not glibc")
    _, many = faults("0")

    assert few < default / 2
    assert few < many / 2


@pytest.mark.parametrize("kept_bytes", [-1, 2**31])
def test_what_an_int_of_c_cannot_hold(kept_bytes):
    with pytest.raises(ValueError, match=f"kept_bytes is within 0 and 2.*; found {kept_bytes}"):
        keep_freed_memory(kept_bytes)
