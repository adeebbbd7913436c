"""`npyflow` as a program, forked from one that has imported what a build imports: that takes longer than most builds.

Tests of what happens while a program starts run `python -m pipelines.cli` itself.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile

import pytest

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "pipelines.analyze.beam",
        "pipelines.analyze.user_function",
        "pipelines.analyze.export",
        "pipelines.cli.append",
        "pipelines.cli.build",
        "pipelines.page.render",
        "pipelines.publish.manifest",
        "pipelines.write.shards",
    ]
)


class Command:
    """A command that runs, or a text of Python that is given in its place; it has what `subprocess.Popen` has."""

    def __init__(self, *arguments, code="", cwd=None, env=None, errors_apart=False):
        self._files = [tempfile.NamedTemporaryFile("r") for _ in range(1 + errors_apart)]  # noqa: SIM115 - kept
        place = dict(env or os.environ), cwd or os.getcwd(), self._files[0].name, self._files[-1].name
        said = [str(argument) for argument in arguments]
        self._process = FORKS.Process(target=_main, args=(code, said, *place), daemon=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TF_USE_LEGACY_KERAS", "1")  # as `quick_imports` does, for the first process
            self._process.start()
        self.pid, self.kill = self._process.pid, self._process.kill

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def communicate(self, timeout=None):
        """What it has shown and, if they are kept apart, its errors, or None."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("npyflow", timeout)
        shown = [file.read() for file in self._files]
        return shown[0], shown[1] if len(shown) > 1 else None


def run(*arguments, **options):
    """Runs a command to its end."""
    command = Command(*arguments, errors_apart=True, **options)
    shown, errors = command.communicate()
    return subprocess.CompletedProcess(arguments, command.returncode, shown, errors)


def _main(code, arguments, environment, directory, output, errors):
    for descriptor, name in ((1, output), (2, errors)):
        opened = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    tempfile.tempdir = None  # which may be another one there

    sys.argv = ["-c", *arguments]
    try:
        if code:
            exec(compile(code, "-c", "exec"), {"__name__": "__main__"})
        else:
            from pipelines.cli import main

            sys.exit(main.main())
    finally:
        sys.__stdout__.flush()  # even if another one stands in its place
