"""File systems that are not local, through fsspec: which one a path belongs to, and how this process reaches it."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import fsspec

from pipelines import counters
from pipelines.errors import ConfigError
from pipelines.storage.retry import retrying

OBJECT_STORE_EXTRAS = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("abfs", "abfss", "az"), "azure"),
}
"""The schemes of object stores, each with npyflow's extra that has the package for it.

An object store has no directories, and an object appears whole, when its writing ends.
"""

RETRY_THEMSELVES = ("gcs", "azure")
"""Those of `OBJECT_STORE_EXTRAS` whose packages make a request again, and cannot be told not to."""

CONNECTIONS = 64
"""How many requests to a store are under way at a time."""

ALONE: Mapping[str, Mapping[str, Any]] = {
    "s3": {
        "max_concurrency": 1,
        "config_kwargs": {"max_pool_connections": CONNECTIONS, "retries": {"total_max_attempts": 1}},
    }
}
"""What an extra's file system is told where it is not told otherwise: one call is one request, made once."""

ERRORS = {
    FileNotFoundError: errno.ENOENT,
    FileExistsError: errno.EEXIST,
    PermissionError: errno.EACCES,
    IsADirectoryError: errno.EISDIR,
    NotADirectoryError: errno.ENOTDIR,
    TimeoutError: errno.ETIMEDOUT,
    NotImplementedError: errno.ENOTSUP,
    ValueError: errno.EINVAL,
}

REPLACED_GROUPS = ("azure_", "blob_", "hdfs_", "s3_")
"""How the names of Beam's options for file systems begin."""

REPLACED = {
    "s3_access_key_id": "s3.key=VALUE",
    "s3_secret_access_key": "s3.secret=VALUE",
    "s3_session_token": "s3.token=VALUE",
    "s3_endpoint_url": "s3.endpoint_url=VALUE",
    "s3_region_name": "s3.client_kwargs.region_name=VALUE",
    "s3_api_version": "s3.client_kwargs.api_version=VALUE",
    "s3_verify": "s3.client_kwargs.verify=VALUE",
    "s3_disable_ssl": "s3.use_ssl=false",
    "hdfs_host": "hdfs.host=VALUE",
    "hdfs_port": "hdfs.port=VALUE",
    "hdfs_user": "hdfs.user=VALUE",
    "azure_connection_string": "abfs.connection_string=VALUE",
    "blob_service_endpoint": "abfs.account_host=VALUE",
}
"""What is written instead of each."""

StorageOptions = Mapping[str, Mapping[str, Any]]
"""For each scheme, the arguments of its file system."""

T = TypeVar("T")

_options: StorageOptions = {}
_connected: dict[tuple[Any, ...], Any] = {}
"""Never emptied: to close a connection that a process has inherited from its parent would disturb the parent's."""


def configure(options: StorageOptions) -> None:
    """Lets this process reach file systems with options, for each scheme the arguments of its file system in fsspec.

    Where there are none, nothing is changed.
    """
    global _options
    if options:
        _options = {scheme: dict(values) for scheme, values in options.items()}


def shared() -> StorageOptions:
    """What `configure` was given in this process, and is to be in those that work for it: what travels has it along."""
    return _options


def refuse_replaced(arguments: Iterable[str]) -> None:
    """Refuses options of Beam for file systems, which are reached without it: a ConfigError says what to write now."""
    for argument in arguments:
        name = argument.partition("=")[0].removeprefix("--")
        if argument.startswith("--") and name.startswith(REPLACED_GROUPS):
            now = REPLACED.get(name) or f"{name.partition('_')[0]}.NAME=VALUE"
            raise ConfigError(
                f"--{name}: file systems are reached through fsspec; write --storage_option {now}, "
                "or storage_options in the configuration (docs/reference/object_stores.md)"
            )


def is_object_store(path: str) -> bool:
    """Whether a path is in a store without directories, in which what is written appears whole."""
    return path.partition("://")[0] in OBJECT_STORE_EXTRAS


def connect(path: str, *, streams: bool = False) -> tuple[Any, str]:
    """The file system of a path with a scheme, and the path in it.

    Where something `streams`, written in parts, the file system itself must try again. A ConfigError where the package
    for it is not installed, an OSError where there is none for its scheme, or it cannot be reached with its options.
    """
    scheme, _, rest = path.partition("://")
    given, extra = _options.get(scheme, {}), OBJECT_STORE_EXTRAS.get(scheme, "")
    # A connection must not be shared with a process that is forked.
    key = (os.getpid(), scheme, rest.partition("/")[0], streams, repr(given))
    if key not in _connected:
        defaults = {} if streams else ALONE.get(extra, {})
        arguments = {**defaults, **given, "use_listings_cache": False, "skip_instance_cache": True}
        try:
            system, _ = fsspec.core.url_to_fs(path, **arguments)
        except ImportError as error:
            install = f"pip install 'npyflow[{extra}]'" if extra else str(error)
            raise ConfigError(f"{scheme}://: expected the package for it; found none ({install})") from error
        except Exception as error:
            raise OSError(errno.EINVAL, f"{type(error).__name__}: {error}", path) from error
        if extra == "s3" and not streams:
            system.retries = 1  # `retrying` does it, and counts
        _connected.setdefault(key, system)  # another thread may have been faster
    system = _connected[key]
    return system, system._strip_protocol(path)


def ask_once(path: str, request: Callable[[Any, str], T]) -> T:
    """Makes one request to the file system of a path; all errors of it are OSErrors that name the path."""
    system, place = connect(path)
    counters.count(counters.REQUESTS)
    with naming_path(path):
        return request(system, place)


def ask(path: str, request: Callable[[Any, str], T]) -> T:
    """Makes a request that is as good twice as once, until it does not fail for a reason that passes.

    It is called with the file system and the path in it. Its error is an OSError that names the path.
    """
    if OBJECT_STORE_EXTRAS.get(path.partition("://")[0]) in RETRY_THEMSELVES:
        return ask_once(path, request)
    return retrying(lambda: ask_once(path, request))


@contextlib.contextmanager
def naming_path(path: str) -> Iterator[None]:
    """Errors inside become OSErrors that name a path."""
    try:
        yield
    except Exception as error:
        raise _os_error(path, error) from error


def _os_error(path: str, error: Exception) -> OSError:
    code = next((code for kind, code in ERRORS.items() if isinstance(error, kind)), None)
    code = code or (isinstance(error, OSError) and error.errno) or errno.EIO
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if code == errno.ENOENT:
        text = os.strerror(code)
    return OSError(code, " ".join(text.split()), path)
