"""Containers of arrays, each kind behind `protocol.Format`: what a file holds, and how its rows are read.

Nothing outside knows how a container is laid out. A new kind is a module here and an instance of it in `FORMATS`.
"""

from __future__ import annotations

from pipelines.sources.formats.hdf5 import Hdf5
from pipelines.sources.formats.npy import Npy
from pipelines.sources.formats.npz import Npz
from pipelines.sources.formats.protocol import Format
from pipelines.sources.formats.tabular import Tabular
from pipelines.sources.formats.zarr import Zarr

FORMATS: dict[str, Format] = {known.suffix: known for known in (Npy(), Npz(), Hdf5(".h5"), Hdf5(".hdf5"), Zarr())}
"""The formats by the suffix of their files."""

TABLES: dict[str, Format] = {suffix: Tabular(suffix) for suffix in (".csv", ".parquet")}
"""Formats of tables, which are sources where they name other files, lie beside arrays, or a pattern names them."""


def suffix_of(path: str) -> str:
    """The end of a path from its last dot on; what a path without a dot gives is no suffix of a format."""
    return path[path.rfind(".") :]


def format_of(path: str) -> Format:
    """The format of a container; a KeyError if it has none."""
    suffix = suffix_of(path).lower()
    return FORMATS.get(suffix) or TABLES[suffix]


def stem(path: str) -> str:
    """The path of a container without its suffix."""
    return path.removesuffix(suffix_of(path))


def is_container(path: str) -> bool:
    """Whether a path is that of a container, by its suffix, whose case does not matter."""
    return suffix_of(path).lower() in FORMATS


def is_table(path: str) -> bool:
    """Whether a path is that of a table, by its suffix."""
    return suffix_of(path).lower() in TABLES


def container_of(path: str) -> str | None:
    """The container that a file is, or that is a directory and holds it; None if there is none."""
    for suffix, known in FORMATS.items():
        if known.directory and f"{suffix}/" in path:
            return path.partition(f"{suffix}/")[0] + suffix
    return path if is_container(path) else None


def shown_suffixes() -> str:
    """The suffixes of all formats, for messages."""
    *others, last = FORMATS
    return f"{', '.join(others)} or {last}"
