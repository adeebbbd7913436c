"""Headers of very many files, read by the workers of a cluster instead of by the program that starts the build."""

from __future__ import annotations

import functools
import pickle
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import apache_beam as beam

from pipelines.sources.headers import Chunk, FileHeaders, HeaderReader, read_headers, read_here
from pipelines.storage import connections, files

MIN_FILES = 10_000
"""For fewer files a job that reads their headers takes longer to start than they take to read."""

Numbered = tuple[int, Chunk]

Pipeline = Callable[[], AbstractContextManager[beam.Pipeline]]


class KeepHeaders(beam.PTransform):  # type: ignore[misc]
    """Reads the headers of chunks of files, and keeps each chunk's in a file of its own.

    Expects a pipeline. Outputs a PCollection of one element a chunk, there when its file is.
    """

    def __init__(self, root: str, chunks: Sequence[Chunk], *, directory: str) -> None:
        super().__init__()
        self._root = root
        self._chunks = chunks
        self._directory = directory

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[None]:
        """Wires the reading."""
        return (
            pipeline
            | "ListChunks" >> beam.Create(list(enumerate(self._chunks)))
            | "SpreadChunks" >> beam.Reshuffle()
            | "KeepHeaders"
            >> beam.Map(keep_headers, self._root, self._directory, connections.shared()).with_output_types(None)
        )


def keep_headers(chunk: Numbered, root: str, directory: str, options: Mapping[str, Any]) -> None:
    """Reads the headers of one chunk and keeps them; `options` are those with which file systems are reached."""
    connections.adopt(options)
    number, paths_with_sizes = chunk
    files.write_bytes(_path(directory, number), pickle.dumps(read_headers(root, paths_with_sizes)))


def _path(directory: str, number: int) -> str:
    return files.join(directory, f"{number:08d}.headers")


def read_on_workers(pipeline: Pipeline, temporary: str) -> HeaderReader:
    """A reader of headers that leaves many files to the workers.

    Args:
        pipeline: Makes a Beam pipeline that has run when its context is left.
        temporary: A directory that this program and the workers share; what is written there is removed again.

    Returns:
        What `sources.scan` takes as `read_headers`.
    """
    return functools.partial(_read, pipeline, temporary)


def _read(pipeline: Pipeline, temporary: str, root: str, chunks: Sequence[Chunk]) -> Iterator[Sequence[FileHeaders]]:
    if sum(map(len, chunks)) < MIN_FILES:
        yield from read_here(root, chunks)
        return
    directory = files.join(temporary, f"npyflow-headers-{uuid.uuid4().hex}")
    try:
        with pipeline() as running:
            _: Any = running | "ReadHeaders" >> KeepHeaders(root, chunks, directory=directory)
        for number in range(len(chunks)):
            yield pickle.loads(files.read_bytes(_path(directory, number)))
    finally:
        files.remove_tree(directory)
