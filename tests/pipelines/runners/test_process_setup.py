"""What keeps libraries from costing memory, in a process of its own: malloc is the process's."""

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import threading
import numpy as np
import psutil
from pipelines.runners.process_setup import give_memory_back

def work():
    np.empty(31_000_000, "u1")  # from now on glibc keeps arrays of less
    before = psutil.Process().memory_info().rss
    arrays = [np.ones(1_000_000) for _ in range(25)]
    held.extend(np.ones(1000) for _ in range(1000))  # above them in memory
    arrays.clear()
    kept = psutil.Process().memory_info().rss - before
    give_memory_back()
    print(kept // 2**20, (psutil.Process().memory_info().rss - before) // 2**20)

held = []
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
def test_memory_that_was_freed_goes_back():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    kept, left = map(int, done.stdout.split())
    assert kept > 150
    assert left < 50
