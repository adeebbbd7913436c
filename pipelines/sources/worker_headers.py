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
from pipelines.storage import connections, directories, files

MIN_FILES = 10_000
"""For fewer files a job that reads their headers takes longer to start than they take to read."""

Pipeline = Callable[[], AbstractContextManager[beam.Pipeline]]


def read_on_workers(pipeline: Pipeline, temporary: str) -> HeaderReader:
    """What `table.scan` takes as `read_headers`: a reader of headers that leaves many files to the workers.

    Args:
        pipeline: Makes a Beam pipeline that has run when its context is left.
        temporary: A directory that this program and the workers share; what is written there is removed again.
    """
    return functools.partial(_read, pipeline, temporary)


def _read(pipeline: Pipeline, temporary: str, root: str, chunks: Sequence[Chunk]) -> Iterator[Sequence[FileHeaders]]:
    if sum(map(len, chunks)) < MIN_FILES:
        yield from read_here(root, chunks)
        return
    directory = files.join(temporary, f"npyflow-headers-{uuid.uuid4().hex}")
    paths = [files.join(directory, f"{number:08d}.headers") for number in range(len(chunks))]
    try:
        with pipeline() as running:
            _: Any = (
                running
                | "ListChunks" >> beam.Create(list(zip(paths, chunks, strict=True)))
                | "SpreadChunks" >> beam.Reshuffle()
                | "WriteHeaders" >> beam.Map(write_headers, root, connections.shared()).with_output_types(None)
            )
        for path in paths:
            yield pickle.loads(files.read_bytes(path))
    finally:
        directories.remove_tree(directory)


def write_headers(chunk: tuple[str, Chunk], root: str, options: Mapping[str, Any]) -> None:
    """Reads the headers of a chunk of files and writes them to a file, whose path comes with them."""
    connections.adopt(options)
    path, paths_with_sizes = chunk
    files.write_bytes(path, pickle.dumps(read_headers(root, paths_with_sizes)))
