"""Arrays in memory as sources: a build writes them into files of its own, and reads mapped files where they are."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from pipelines.config.schema import DatasetConfig, FeatureConfig
from pipelines.errors import Problem, SourceError, naming_file
from pipelines.sources.formats.npy import Npy, read_header
from pipelines.sources.formats.protocol import FormatError, Header, Member
from pipelines.sources.headers import Chunk, FileHeaders
from pipelines.sources.path_layout import place
from pipelines.storage import directories, files
from pipelines.storage.directories import FileInfo

CHECKED_BYTES = 8 * 2**20
"""About how much of an array is made contiguous at a time for its checksum."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArrayFile:
    """An array and the file that it is to be.

    Attributes:
        info: The file; for what is in memory its time is made of a checksum, as there is no time of change.
        mapped: The path of the `.npy` file whose values these are, or None.
    """

    feature: str
    info: FileInfo
    member: Member
    array: npt.NDArray[Any]
    mapped: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arrays:
    """Arrays that are read as if each had been saved as `NAME.npy` in a directory.

    Attributes:
        root: The directory that `write` makes.
    """

    root: str
    files: tuple[ArrayFile, ...]

    @classmethod
    def of(cls, arrays: Mapping[str, Any], root: str) -> Arrays:
        """Looks at arrays, by the names of the features, or for each split such a mapping; writes nothing.

        Raises:
            SourceError: If there is none, or a name or a value can be no file of an array.
        """
        problems: list[Problem] = []
        found: list[ArrayFile] = []
        for directory, name, value in _flatten(arrays, ""):
            file = _look(directory, name, value)
            if isinstance(file, Problem):
                problems.append(file)
            else:
                found.append(file)
        if not found and not problems:
            problems.append(Problem(path="the mapping", expected="at least one array", found="none"))
        if problems:
            raise SourceError(problems)
        return cls(root=root, files=tuple(sorted(found, key=lambda file: file.info.path)))

    def named_by_content(self) -> Arrays:
        """The same arrays as a part of their own, whose name is made of their content: what is appended twice is known.

        It is the name of a directory below those of splits.
        """
        digest = hashlib.blake2b(digest_size=8)
        for file in self.files:
            digest.update(repr((file.info, file.member)).encode())
        name, moved = f"arrays-{digest.hexdigest()}", []
        for file in self.files:
            directory, slash, base = file.info.path.rpartition("/")
            info = dataclasses.replace(file.info, path=f"{directory}{slash}{name}/{base}")
            moved.append(dataclasses.replace(file, info=info))
        return dataclasses.replace(self, files=tuple(moved))

    @property
    def listing(self) -> dict[str, FileInfo]:
        """The files by their paths, as `list_sources` gives those of a directory."""
        return {file.info.path: file.info for file in self.files}

    def read_headers(self, _root: str, chunks: Sequence[Chunk]) -> Iterator[Sequence[FileHeaders]]:
        """What is in each file, without reading one; a `HeaderReader`."""
        known = {file.info.path: (file.member,) for file in self.files}
        for chunk in chunks:
            yield [known[path] for path, _ in chunk]

    def claim(self, config: DatasetConfig) -> DatasetConfig:
        """A configuration in which each array is the feature of its name, also where a file of the name would not be.

        `band_1.npy` alone would be taken for a part of a feature `band`.
        """
        features = dict(config.features)
        for file in self.files:
            found, said = place(file.info.path), features.get(file.feature, FeatureConfig())
            misread = (found is None or found.feature != file.feature) and file.array.dtype.names is None
            if misread and said.files is None:
                features[file.feature] = said.model_copy(update={"files": (f"**/{file.feature}{Npy.suffix}",)})
        return config if features == config.features else config.model_copy(update={"features": features})

    def describe(self, path: str) -> str:
        """What an array is called in messages."""
        names = {file.info.path: file.feature for file in self.files}
        return f"array {names[path]!r}" if path in names else "the arrays"

    def write(self) -> None:
        """Makes the directory, in place of any that is there: writes what is in memory, links what is mapped."""
        directories.remove_tree(self.root)  # first of all: what is opened for writing must be no link to a user's file
        for file in self.files:
            path, seconds = files.join(self.root, file.info.path), file.info.modified
            with naming_file(path):
                if file.mapped is not None and files.is_local(path):
                    files.make_directory(os.path.dirname(path))
                    os.symlink(file.mapped, path)
                    continue
                with files.create(path) as out:
                    np.lib.format.write_array(out, file.array, allow_pickle=False)
                if files.is_local(path):
                    os.utime(path, (seconds, seconds))


def _flatten(arrays: Mapping[str, Any], directory: str) -> Iterator[tuple[str, str, Any]]:
    for name, value in arrays.items():
        if isinstance(value, Mapping) and not directory:
            yield from _flatten(value, f"{name}/")
        else:
            yield directory, name, value


def _look(directory: str, name: Any, value: Any) -> ArrayFile | Problem:
    """An array and its file, or why it can be none."""

    def problem(expected: str, found: str) -> Problem:
        return Problem(path=f"array {name!r}", expected=expected, found=found)

    names = [name] if not directory else [directory.removesuffix("/"), name]
    if any(not isinstance(part, str) or part in ("", ".", "..") or {*part} & {*"/*?\0"} for part in names):
        return problem("a name that a file can have, without any of / * ?", repr(directory + str(name)))
    if isinstance(value, np.ma.MaskedArray):
        return problem("a plain array, and what is missing as NaN or in an array of its own (`mask`)", "a masked array")
    try:
        array = np.asanyarray(value)
    except ValueError:
        expected = "rows of one shape; rows that differ in length are read from files, one each, with `ragged: true`"
        return problem(expected, "several shapes")
    path = f"{directory}{name}{Npy.suffix}"
    if (mapped := _mapped_file(array)) is not None:
        status = os.stat(mapped[0])
        info = FileInfo(path=path, size=status.st_size, modified=status.st_mtime)
        return ArrayFile(
            feature=name, info=info, member=Member(name="", header=mapped[1]), array=array, mapped=mapped[0]
        )
    array, buffer = np.asarray(array), io.BytesIO()
    try:
        np.lib.format.write_array_header_1_0(buffer, np.lib.format.header_data_from_array_1_0(array))
        size = buffer.tell() + array.nbytes
        buffer.seek(0)
        member = Member(name="", header=read_header(buffer, size=size))
    except FormatError as error:
        return problem(error.expected, error.found)
    except ValueError as error:  # a header that is too long, or names of fields that only version 3 has
        return problem("an array that NumPy saves as .npy version 1.0", str(error))
    info = FileInfo(path=path, size=size, modified=float(_checksum(array) >> 1))  # file systems have times up to 2**31
    return ArrayFile(feature=name, info=info, member=member, array=array, mapped=None)


def _mapped_file(array: npt.NDArray[Any]) -> tuple[str, Header] | None:
    """The `.npy` file that an array is mapped from, and its header, where the array is the whole of it."""
    if not isinstance(array, np.memmap) or array.filename is None or array.mode == "c":  # which changes memory alone
        return None
    path = os.path.abspath(array.filename)
    try:
        with open(path, "rb") as file:
            header = read_header(file, size=os.path.getsize(path))
    except (FormatError, OSError):
        return None
    flags = array.flags
    layout = flags.f_contiguous if header.fortran else flags.c_contiguous
    found = (array.shape, array.dtype, array.offset)
    return (path, header) if layout and found == (header.shape, header.dtype, header.locator) else None


def _checksum(array: npt.NDArray[Any]) -> int:
    """The CRC-32C of the values in the order in which they are saved."""
    if array.flags.f_contiguous and not array.flags.c_contiguous:
        array = array.T
    array = np.atleast_1d(array)
    step, found = max(1, CHECKED_BYTES * len(array) // max(array.nbytes, 1)), 0
    for start in range(0, len(array), step):
        piece = np.ascontiguousarray(array[start : start + step])
        found = google_crc32c.extend(found, piece.reshape(-1).view(np.uint8))
    return found
