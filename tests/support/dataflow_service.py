"""A Dataflow service on loopback: takes jobs by its REST interface, and runs them on workers made for them.

What a job brings is all that its workers have: they are programs of a Python environment of their own, which has what
the project depends on but not the project, with no environment variables and in another working directory.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import pathlib
import site
import subprocess
import sys
import sysconfig
import threading
import traceback
import venv
from collections.abc import Iterator
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

SUBPROCESS = "beam:env:harness_subprocess_python:v1"
FILE, STAGED_AS = "beam:artifact:type:file:v1", "beam:artifact:role:staging_to:v1"
PACKAGE = "workflow.tar.gz"

WORKER = """\
#!/bin/sh
cd '{home}' && exec env -i \\
  CONTROL_API_SERVICE_DESCRIPTOR="$CONTROL_API_SERVICE_DESCRIPTOR" \\
  LOGGING_API_SERVICE_DESCRIPTOR="$LOGGING_API_SERVICE_DESCRIPTOR" \\
  PIPELINE_OPTIONS="$PIPELINE_OPTIONS" WORKER_ID="$WORKER_ID" \\
  HOME='{home}' CUDA_VISIBLE_DEVICES=-1 TF_CPP_MIN_LOG_LEVEL=3 \\
  '{python}' -I -m apache_beam.runners.worker.sdk_worker_main
"""


def make_environment(root: pathlib.Path) -> pathlib.Path:
    """Makes an environment that has what is installed for this one, but no project that is installed by its path.

    Returns:
        Its Python.
    """
    venv.create(root, symlinks=True)
    python = root / "bin" / "python"
    # A path file's directories are searched, but path files in them, which would name the checkout, are not read.
    found = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()])
    _packages(root).joinpath("dependencies.pth").write_text("".join(f"{path}\n" for path in found))
    return python


def _packages(root: pathlib.Path) -> pathlib.Path:
    major, minor = sys.version_info[:2]
    return root / "lib" / f"python{major}.{minor}" / "site-packages"


def install(archive: pathlib.Path, root: pathlib.Path) -> None:
    """Installs a source distribution into an environment, nothing else."""
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--no-deps"]
    command += ["--no-index", "--no-build-isolation", "--target", str(_packages(root)), str(archive)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Service:
    """The service.

    Attributes:
        root: A directory for the environments of the workers.
        jobs: The jobs that it was given, as JSON values, each with its state.
        errors: The messages of jobs that have failed.
    """

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.jobs: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self._threads: list[threading.Thread] = []

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """Serves while the context is open.

        Yields:
            The address.
        """
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer(service.take(job))

            def do_GET(self) -> None:
                _, _, rest = self.path.partition("?")[0].partition("/jobs/")
                number, _, what = rest.partition("/")
                if what == "messages":
                    self._answer(service.messages(int(number)))
                else:
                    self._answer({} if what else service.jobs[int(number)])

            def _answer(self, value: dict[str, Any]) -> None:
                data = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
            for running in self._threads:
                running.join()

    def take(self, job: dict[str, Any]) -> dict[str, Any]:
        """Takes a job and begins it."""
        job |= {"id": str(len(self.jobs)), "currentState": "JOB_STATE_RUNNING"}
        self.jobs.append(job)
        thread = threading.Thread(target=self._run, args=(job,))
        thread.start()
        self._threads.append(thread)
        return job

    def messages(self, number: int) -> dict[str, Any]:
        """The messages of a job: its error, where it has failed."""
        failed = self.jobs[number]["currentState"] == "JOB_STATE_FAILED"
        message = {"id": "1", "time": "2030-01-01T00:00:00Z", "messageImportance": "JOB_MESSAGE_ERROR"}
        return {"jobMessages": [message | {"messageText": self.errors[-1]}] if failed else []}

    def _run(self, job: dict[str, Any]) -> None:
        try:
            path = job["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
            run_on_workers(read_pipeline(path), self.root / f"workers-{job['id']}")
            job["currentState"] = "JOB_STATE_DONE"
        except BaseException:
            self.errors.append(traceback.format_exc())
            job["currentState"] = "JOB_STATE_FAILED"


def read_pipeline(path: str) -> beam_runner_api_pb2.Pipeline:
    """The graph that was staged for a job."""
    return beam_runner_api_pb2.Pipeline.FromString(pathlib.Path(path).read_bytes())


def staged_files(pipeline: beam_runner_api_pb2.Pipeline) -> dict[str, pathlib.Path]:
    """The files that workers get, by the names that they have there."""
    found = {}
    for environment in pipeline.components.environments.values():
        for dependency in environment.dependencies:
            assert (dependency.type_urn, dependency.role_urn) == (FILE, STAGED_AS)
            file = beam_runner_api_pb2.ArtifactFilePayload.FromString(dependency.type_payload)
            role = beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(dependency.role_payload)
            found[role.staged_name] = pathlib.Path(file.path)
    return found


def run_on_workers(pipeline: beam_runner_api_pb2.Pipeline, root: pathlib.Path) -> None:
    """Runs a pipeline on workers in an environment that is made for it, with the package that was staged for them."""
    python = make_environment(root)
    install(staged_files(pipeline)[PACKAGE], root)
    home = root / "home"
    home.mkdir()
    script = root / "worker.sh"
    script.write_text(WORKER.format(home=home, python=python))
    script.chmod(0o755)
    for environment in pipeline.components.environments.values():
        environment.urn, environment.payload = SUBPROCESS, str(script).encode()
        del environment.dependencies[:]
    FnApiRunner().run_via_runner_api(pipeline, PipelineOptions([])).wait_until_finish()
