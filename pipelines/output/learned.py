"""What the analysis has made for the data set, and whether all of it is still there and as it was."""

from __future__ import annotations

import json

from pipelines.output.directory import Output
from pipelines.storage import directories, files
from pipelines.storage.checked import file_checksum, read_checked, write_checked


def mark_learned(output: Output) -> None:
    """Says that the transform and the statistics are there, each file with its checksum."""
    found = {
        file.path: file_checksum(files.join(output.staged, file.path)) for file in directories.list_files(output.staged)
    }
    write_checked(output.analysis_done, json.dumps(found).encode())


def has_learned(output: Output) -> bool:
    """Whether what `mark_learned` has listed is there, byte for byte."""
    data = read_checked(output.analysis_done)
    if data is None:
        return False
    return all(file_checksum(files.join(output.staged, name)) == found for name, found in json.loads(data).items())
