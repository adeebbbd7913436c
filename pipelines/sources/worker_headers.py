"""Headers of very many files, read by the workers of a cluster instead of by the program that starts the build."""

from __future__ import annotations

import functools
import hashlib
import hmac
import pickle
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from pipelines.errors import WorkerError
from pipelines.lazy import beam
from pipelines.runners.beam import option_value, run_pipeline, runs_here
from pipelines.sources.headers import Chunk, FileHeaders, HeaderReader, read_headers, read_here
from pipelines.storage import file_systems, files
from pipelines.storage.temporary import shared_directory

MIN_FILES = 10_000
"""For fewer files a job that reads their headers takes longer to start than they take to read."""

Pipeline = Callable[[], AbstractContextManager["beam.Pipeline"]]


def header_reader(beam_options: Sequence[str]) -> HeaderReader:
    """How headers are read: here, or by workers elsewhere that share a directory with this program."""
    temporary = option_value(beam_options, "--temp_location")
    if temporary is None or runs_here(beam_options) or option_value(beam_options, "--template_location"):
        return read_here
    return read_on_workers(lambda: run_pipeline(beam_options), temporary)


def read_on_workers(pipeline: Pipeline, temporary: str) -> HeaderReader:
    """What `table.scan` takes as `read_headers`: a reader of headers that leaves many files to the workers.

    What is written to the directory that they share with this program is removed again.
    """
    return functools.partial(_read, pipeline, temporary)


def _read(pipeline: Pipeline, temporary: str, root: str, chunks: Sequence[Chunk]) -> Iterator[Sequence[FileHeaders]]:
    if sum(map(len, chunks)) < MIN_FILES:
        yield from read_here(root, chunks)
        return
    # Others may be able to write to the directory, and a pickle is a program: only those of the workers are read.
    key = secrets.token_bytes(hashlib.sha256().digest_size)
    with shared_directory("headers", temporary) as directory:
        paths = [files.join(directory, f"{number:08d}.headers") for number in range(len(chunks))]
        with pipeline() as running:
            _: Any = (
                running
                | "ListChunks" >> beam.Create(list(zip(paths, chunks, strict=True)))
                | "SpreadChunks" >> beam.Reshuffle()
                | "WriteHeaders" >> beam.Map(write_headers, root, file_systems.shared(), key).with_output_types(None)
            )
        for path in paths:
            yield pickle.loads(_unsign(files.read_bytes(path), key, path))


def write_headers(chunk: tuple[str, Chunk], root: str, options: Mapping[str, Any], key: bytes) -> None:
    """Reads the headers of a chunk of files and writes them, signed, to a file, whose path comes with them."""
    file_systems.configure(options)
    path, paths_with_sizes = chunk
    data = pickle.dumps(read_headers(root, paths_with_sizes))
    files.write_bytes(path, hmac.digest(key, data, "sha256") + data)


def _unsign(signed: bytes, key: bytes, path: str) -> bytes:
    """What a worker of this job has written; a WorkerError if somebody else has, or it is not whole."""
    size = len(key)
    if not hmac.compare_digest(signed[:size], hmac.digest(key, signed[size:], "sha256")):
        raise WorkerError(f"{path}: expected headers with the signature of this job; found others")
    return signed[size:]
