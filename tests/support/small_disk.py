"""A file system that is full, and then has room."""

import dataclasses
import os
import resource
import signal
import subprocess

FULL_THEN_ROOMY = """
disk=$1
size=$2
shift 2
mount -t tmpfs -o size=400m none "$disk" || exit 77
"$@" >"$disk.full" 2>&1 &
while kill -0 $! && ! [ -e "$disk/out/_build/state.json" ]; do sleep 0.01; done  # there was room when it began
mount -o "remount,size=$size" "$disk"
wait $! && exit 1
mount -o remount,size=400m "$disk"
"$@" >"$disk.room" 2>&1 && cp -r "$disk/out" "$disk.finished"
"""

NO_MOUNT = 77


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a command has shown while there was no room, why it failed, and where it has written when there was."""

    shown: str
    reason: str
    finished: os.PathLike


def run_twice(command, disk, *, size, file_bytes, environment=None):
    """Runs a command that writes to `disk / "out"` where soon there is too little room for it, then with more.

    The file system is mounted for these processes alone; where none can be mounted, a limit on the size of files stands
    for it.
    """
    disk.mkdir()
    namespace = ["unshare", "--map-root-user", "--mount", "sh", "-c", FULL_THEN_ROOMY, "sh", str(disk), size]
    done = subprocess.run([*namespace, *command], capture_output=True, text=True, env=environment)
    if done.returncode != NO_MOUNT and not done.stderr.startswith("unshare: "):
        shown = disk.with_name("disk.full").read_text()
        assert done.returncode == 0, shown
        return Outcome(shown, "No space left on device", disk.with_name("disk.finished"))

    def limit_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    shared = {"capture_output": True, "text": True, "env": environment}
    limited = subprocess.run(command, preexec_fn=limit_files, **shared)
    assert limited.returncode != 0
    again = subprocess.run(command, **shared)
    assert again.returncode == 0, again.stderr
    return Outcome(limited.stdout + limited.stderr, "File too large", disk / "out")
