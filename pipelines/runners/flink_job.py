"""Beam's runner for a Flink cluster, with a job sent as a file, on loopback, and watched closely."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import requests
from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.portability.api import (
    beam_artifact_api_pb2_grpc,
    beam_fn_api_pb2_grpc,
    beam_job_api_pb2,
    beam_runner_api_pb2,
    endpoints_pb2,
)
from apache_beam.runners.portability import artifact_service
from apache_beam.runners.portability.abstract_job_service import JarArtifactManager
from apache_beam.runners.portability.flink_runner import FlinkRunner
from apache_beam.runners.portability.flink_uber_jar_job_server import FlinkBeamJob, FlinkUberJarJobServer
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer
from apache_beam.utils import thread_pool_executor

from pipelines.errors import GOES_ON, ClusterError, NpyflowError
from pipelines.runners.failures import recorded
from pipelines.runners.flink import FROM_WORKER, failure

ATTEMPTS = 3
"""Errors that workers have raised before a job is given up: a cluster may be set to retry often, to outlast the loss of
a worker."""

JobState = beam_job_api_pb2.JobState

LOOPBACK = "127.0.0.1:0"

POLL_SECONDS = 0.5
REQUEST_SECONDS = 60

PATIENCE_SECONDS = 30
"""How long a cluster may not answer: another JobManager may take over from the one that has gone."""

GRPC_OPTIONS = [("grpc.http2.max_pings_without_data", 0), ("grpc.http2.max_ping_strikes", 0)]


class ClusterRunner(FlinkRunner):  # type: ignore[misc]
    """Sends a job to the REST interface of a cluster; no other program runs here."""

    def __init__(self, errors: str | None) -> None:
        """Says where workers record their errors; None where they do not."""
        super().__init__()
        self._errors = errors

    def default_job_server(self, options: PipelineOptions) -> FlinkUberJarJobServer:
        """What takes the job."""
        flink_options = options.view_as(FlinkRunnerOptions)
        master = self.add_http_scheme(flink_options.flink_master)
        flink_options.flink_master = "[auto]"  # the cluster sends it to itself
        return _JobServer(master, options, self._errors)

    @staticmethod
    def start_and_replace_loopback_environments(
        pipeline: beam_runner_api_pb2.Pipeline, options: PipelineOptions
    ) -> list[Callable[[], object]]:
        """Starts workers in this process, where the environment asks for them; returns what ends them."""
        stops: list[Callable[[], object]] = []
        for environment in pipeline.components.environments.values():
            if environment.urn == python_urns.EMBEDDED_PYTHON_LOOPBACK:
                server, address = _serve(
                    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server,
                    BeamFnExternalWorkerPoolServicer(),
                    thread_pool_executor.shared_unbounded_instance(),
                )
                external = beam_runner_api_pb2.ExternalPayload(endpoint=endpoints_pb2.ApiServiceDescriptor(url=address))
                environment.urn = "beam:env:external:v1"
                environment.payload = external.SerializeToString()
                stops.append(functools.partial(server.stop, 1))
        return stops


def _serve(add: Callable[[Any, grpc.Server], object], servicer: Any, executor: Any) -> tuple[grpc.Server, str]:
    """Starts a server that only this machine can reach."""
    server = grpc.server(executor, options=GRPC_OPTIONS)
    port = server.add_insecure_port(LOOPBACK)
    add(servicer, server)
    server.start()
    return server, f"127.0.0.1:{port}"


class _JobServer(FlinkUberJarJobServer):  # type: ignore[misc]
    """Beam's job server inside this program."""

    def __init__(self, url: str, options: PipelineOptions, errors: str | None) -> None:
        super().__init__(url, options)
        self._errors = errors
        os.rmdir(self._temp_dir)  # nothing uses it

    def create_beam_job(self, job_id: str, job_name: str, pipeline: Any, options: Any) -> _Job:
        """A job that is not yet sent."""
        job = _Job(self._master_url, self.executable_jar(), job_id, job_name, pipeline, options)
        job.errors = self._errors
        return job


class _RefusedError(RuntimeError):
    """The cluster has answered a request with an error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"status {status}: {text}")
        self.status = status


class _Job(FlinkBeamJob):  # type: ignore[misc]
    """A job, sent as a jar that holds its graph."""

    errors: str | None = None  # where workers record theirs; None where they do not

    def request(self, method: Callable[..., Any], path: str, expected_status: int = 200, **arguments: Any) -> Any:
        """Asks the cluster, but not for ever; a `_RefusedError` where it answers something else than is expected."""
        response = method(f"{self._master_url}/{path}", timeout=REQUEST_SECONDS, **arguments)
        if response.status_code != expected_status:
            raise _RefusedError(response.status_code, response.text)
        return response.json() if response.text else None

    def _start_artifact_service(self, jar: str, requested_port: int) -> None:
        """Takes the job's files from Beam, on loopback."""
        self._artifact_manager = JarArtifactManager(jar, self.ARTIFACT_FOLDER)
        self._artifact_staging_service = artifact_service.ArtifactStagingService(self._artifact_manager.file_writer)
        environments = self._pipeline_proto.components.environments.items()
        self._artifact_staging_service.register_job(
            self._job_id, {name: env.dependencies for name, env in environments}
        )
        self._artifact_staging_server, address = _serve(
            beam_artifact_api_pb2_grpc.add_ArtifactStagingServiceServicer_to_server,
            self._artifact_staging_service,
            futures.ThreadPoolExecutor(),
        )
        self._artifact_staging_endpoint = endpoints_pb2.ApiServiceDescriptor(url=address)

    def run(self) -> None:
        """Sends the job."""
        try:
            super().run()
        except Exception as error:
            with contextlib.suppress(OSError):
                os.unlink(self._jar)
            self.delete_jar()
            if isinstance(error, _RefusedError):
                reasons = "\n".join(json.loads(str(error).partition(": ")[2]).get("errors", []))
                raise failure(reasons, self._master_url) from error
            raise

    def get_state_stream(self) -> Iterator[tuple[int, Any]]:
        """The states of the job, until it has ended; a WorkerError where it has failed, or the cluster has lost it.

        Beam asks less and less often, up to once a minute, and fails when the cluster does not answer once.
        """
        for state, timestamp in self.with_state_history(self._watch()):
            yield state, timestamp
            if self.is_terminal_state(state):
                return

    def get_message_stream(self) -> Iterator[Any]:
        """Nothing: what is to be said is in the error that the stream of states raises."""
        return iter(())

    def _watch(self) -> Iterator[tuple[int, Any]]:
        answered = time.monotonic()
        while True:
            try:
                found = self.get_state()
                self._raise_failure(found[0])
                answered = time.monotonic()
            except requests.RequestException as error:
                if time.monotonic() - answered > PATIENCE_SECONDS:
                    raise ClusterError(f"{self._master_url}: the cluster no longer answers. {GOES_ON}") from error
            except _RefusedError as error:
                if error.status == 404:
                    raise ClusterError(f"{self._master_url}: the cluster has lost the job. {GOES_ON}") from error
                if time.monotonic() - answered > PATIENCE_SECONDS:
                    raise ClusterError(f"{self._master_url}: {error}. {GOES_ON}") from error
            else:
                yield found
            time.sleep(POLL_SECONDS)

    def _raise_failure(self, state: int) -> None:
        """Raises why the job has failed, or will: another attempt does not make unusable values usable."""
        if state == JobState.FAILED:
            raise failure(self._exceptions()["root-exception"] or "", self._master_url)
        if state == JobState.RUNNING:
            # While the job goes on, the root exception is the last one of the history once more.
            raised = [entry["stacktrace"] for entry in self._exceptions()["exceptionHistory"]["entries"]]
            raised = [text for text in raised if FROM_WORKER in text]
            own = bool(raised) and self.errors is not None and isinstance(recorded(self.errors), NpyflowError)
            if own or len(raised) >= ATTEMPTS:
                raise failure(raised[0], self._master_url)

    def _exceptions(self) -> Any:
        """What has failed, as the cluster tells it, with stack traces."""
        return self.get(f"v1/jobs/{self._flink_job_id}/exceptions")
