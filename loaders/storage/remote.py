"""Files that are not local, through fsspec: read whole or by ranges, as its own settings say how they are reached."""

from __future__ import annotations

import functools
import os
from typing import Any

OBJECT_STORE_EXTRAS = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "abfs": "azure",
    "abfss": "azure",
    "az": "azure",
}
"""The schemes of object stores, each with npyflow's extra that has the package for it."""


def is_remote(path: str) -> bool:
    """Whether a path is of a file system that fsspec reads, not the operating system."""
    return "://" in path


def read(path: str, begin: int | None = None, end: int | None = None) -> bytes:
    """The bytes of a file, or those from `begin` up to `end`, with one request.

    Raises:
        OSError: If there is none, or it cannot be read.
        ValueError: If there is no such file system.
        ImportError: If the package for it is not installed.
    """
    system, place = _connect(path)
    # Arrow's files cannot seek at their beginning unless that is asked for.
    seeks = {"seekable": True} if type(system).__module__ == "fsspec.implementations.arrow" else {}
    return bytes(system.cat_file(place, start=begin, end=end, **seeks))


def size(path: str) -> int:
    """The bytes of a file; errors are those of `read`."""
    system, place = _connect(path)
    return int(system.info(place)["size"])


def _connect(path: str) -> tuple[Any, str]:
    scheme, _, rest = path.partition("://")
    # A connection must not be shared with a process that is forked, but threads share it.
    system = _file_system(os.getpid(), f"{scheme}://{rest.partition('/')[0]}")
    return system, system._strip_protocol(path)


@functools.cache  # for ever: to close a connection that was inherited would disturb the process that has it
def _file_system(_pid: int, root: str) -> Any:
    import fsspec

    try:
        return fsspec.core.url_to_fs(root, use_listings_cache=False, skip_instance_cache=True)[0]
    except ImportError as error:
        extra = OBJECT_STORE_EXTRAS.get(root.partition("://")[0])
        raise ImportError(f"{error}" + (f" (pip install 'npyflow[{extra}]')" if extra else "")) from error
