"""Runs commands and measures them: wall-clock time, peak of resident memory, and a cap of the memory they may use."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

CGROUPS = pathlib.Path("/sys/fs/cgroup")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ran:
    """What a command came to.

    Attributes:
        seconds: From its start to its end.
        peak_bytes: The largest resident memory of any one of its processes.
        result: The JSON object on its last line of output, if there is one.
        error: The last error on its standard error if it failed, or the last line; otherwise "".
    """

    seconds: float
    peak_bytes: int
    result: Mapping[str, Any]
    error: str


def run(command: Sequence[str], *, environment: Mapping[str, str], cap: Sequence[str] = (), began: float = 0) -> Ran:
    """Runs a command to its end.

    Args:
        command: The program and its arguments.
        environment: What is added to this process's environment.
        cap: What `memory_cap` yields.
        began: When the command's clock was started, if before this call.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = began or time.time()
        process = subprocess.Popen(
            [*cap, *command], env=os.environ | dict(environment), stdout=out, stderr=err, stdin=subprocess.DEVNULL
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        seconds = time.time() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        error = ""
        if process.returncode:
            lines = _lines(err) or _lines(out) or [f"exit code {process.returncode}"]
            raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
            error = (raised or lines)[-1]
        last = (_lines(out) or [""])[-1]
        return Ran(seconds=seconds, peak_bytes=usage.ru_maxrss * 1024, result=_object(last), error=error)


def _lines(file: Any) -> list[str]:
    file.seek(0)
    return [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]


def _object(line: str) -> Mapping[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def memory_cap(size: int | None) -> Iterator[Sequence[str]]:
    """A prefix for commands that may use so many bytes of memory together; none where `size` is None.

    A control group counts the page cache too, so that more data than the cap is read from disk. Where none can be made,
    `ulimit -d` bounds what each process allocates.
    """
    if size is None:
        yield ()
        return
    v2 = (CGROUPS / "cgroup.controllers").exists()
    group = (CGROUPS if v2 else CGROUPS / "memory") / f"npyflow-benchmark-{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.max" if v2 else "memory.limit_in_bytes")).write_text(str(size))
    except OSError:
        if group.exists():
            group.rmdir()
        yield ("bash", "-c", f'ulimit -d {size // 1024}; exec "$@"', "capped")
        return
    try:
        yield ("bash", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "capped")
    finally:
        group.rmdir()
