"""A real object store that speaks S3, for the tests of this folder."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.support import ROOT

SCRIPT = ROOT / "scripts" / "s3.sh"


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """A server of these tests' own, and the options for it, `--storage_option=s3.endpoint_url=URL` first."""
    cache = pathlib.Path(os.environ.get("NPYFLOW_S3_CACHE", pathlib.Path.home() / ".cache/npyflow/s3"))
    required = "NPYFLOW_REQUIRE_S3" in os.environ
    if not required and not list(cache.glob("versitygw-*")):
        pytest.skip("needs a server: scripts/s3.sh setup gets it, in some minutes")
    if not required and importlib.util.find_spec("s3fs") is None:
        pytest.skip("needs s3fs: pip install '.[s3]'")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    place = {"NPYFLOW_S3_DIR": str(tmp_path_factory.mktemp("server")), "NPYFLOW_S3_PORT": str(port)}
    environment = os.environ | place
    started = subprocess.run([SCRIPT, "start"], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    try:
        yield started.stdout.split()
    finally:
        subprocess.run([SCRIPT, "stop"], env=environment, check=True)
