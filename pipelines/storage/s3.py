"""Amazon's object store, and others that speak its protocol, with the options that Beam has for them (`--s3_…`).

Beam's own file system for it makes a client for each call, which takes 80 ms of a processor, reads 16 MiB after each
seek, and lets a half-written object appear when an error ends its writing. Here a process has one client, a request
is for the bytes that are wanted, and an object appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

from pipelines import counters
from pipelines.errors import ConfigError
from pipelines.storage.retry import TRANSIENT_STATUS, TransientError, retrying
from pipelines.storage.stores import Listing, Opened, Part, Store, Writer, beam_options, nothing_under, remove_all

PART_BYTES = 16 * 2**20
"""An object is sent in parts of this size, of which there may be 10,000, and in one piece if it is smaller."""

RECEIVED_BYTES = 2**20
"""What is taken from an answer at a time: the library copies it once more, into memory of its own."""

REMOVED_AT_ONCE = 1000
CONNECTIONS = 32
CONNECT_SECONDS, READ_SECONDS = 10, 60
TRANSIENT_CODES = ("InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling")
ABSENT_CODES = ("NoSuchBucket", "NoSuchKey", "NoSuchUpload", "NotFound", "404")
FIELDS = (
    *("s3_access_key_id", "s3_secret_access_key", "s3_session_token", "s3_endpoint_url", "s3_region_name"),
    *("s3_api_version", "s3_verify", "s3_disable_ssl"),
)

T = TypeVar("T")


def connect() -> Store:
    """The store as this process reaches it.

    Raises:
        OSError: If the package for it is not installed.
    """
    from apache_beam.options.pipeline_options import S3Options

    options = beam_options().view_as(S3Options)
    # A connection must not be shared with a process that is forked.
    return _connect(os.getpid(), *(getattr(options, name) for name in FIELDS))


@functools.lru_cache(maxsize=4)
def _connect(_pid: int, *values: Any) -> _S3Store:
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        raise ConfigError("s3://: expected the package boto3; found none (pip install boto3)") from error
    key, secret, token, endpoint, region, version, verify, disable_ssl = values
    config = Config(
        retries={"total_max_attempts": 1},  # `retrying` does it, and counts
        max_pool_connections=CONNECTIONS,
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
    )
    try:
        client = boto3.session.Session().client(
            "s3",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token,
            endpoint_url=endpoint,
            region_name=region,
            api_version=version,
            verify=verify,
            use_ssl=not disable_ssl,
            config=config,
        )
    except (BotoCoreError, ValueError) as error:
        raise OSError(f"s3://: {error}") from error
    return _S3Store(client)


def _split(path: str) -> dict[str, str]:
    bucket, _, key = path.removeprefix("s3://").partition("/")
    return {"Bucket": bucket, "Key": key}


def _below(root: str) -> dict[str, str]:
    """Which keys are under a directory."""
    place = _split(root)
    return {"Bucket": place["Bucket"], "Prefix": f"{place['Key']}/" if place["Key"] else ""}


def _ask(path: str, request: Callable[[], T]) -> T:
    """Makes one request, whose errors become OSErrors."""
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError

    counters.count(counters.REQUESTS)
    try:
        return request()
    except ClientError as error:
        raise _os_error(path, error.response) from error
    except (HTTPClientError, IncompleteReadError) as error:
        raise TransientError(errno.EIO, str(error), path) from error
    except BotoCoreError as error:  # no credentials, say
        raise OSError(errno.EIO, str(error), path) from error


def _status(response: Any) -> Any:
    """The HTTP status of an answer; None where it has none."""
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode")


def _refusal(error: OSError) -> Any:
    """The HTTP status of the answer that an error of `_ask` was raised for; None where there was no answer."""
    return _status(getattr(error.__cause__, "response", {}))


def _os_error(path: str, response: Any) -> OSError:
    said = response.get("Error", {})
    code, status = str(said.get("Code", "")), _status(response)
    text = f"{code}: {said.get('Message', '')}" if code else f"HTTP status {status}"
    if status in TRANSIENT_STATUS or code in TRANSIENT_CODES:
        return TransientError(errno.EIO, text, path)
    if code in ABSENT_CODES:
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return PermissionError(errno.EACCES, text, path) if status == 403 else OSError(errno.EIO, text, path)


class _S3Store:
    """A `Store`."""

    writes_whole = True

    def __init__(self, client: Any) -> None:
        self._client = client

    def _send(self, path: str, name: str, **arguments: Any) -> Any:
        """Makes a request that is as good twice as once."""
        return retrying(lambda: _ask(path, lambda: getattr(self._client, name)(**arguments)))

    def match(self, root: str) -> Listing:
        below = _below(root)
        found: Listing = {}
        more: dict[str, str] = {}
        while True:
            page = self._send(root, "list_objects_v2", **below, **more)
            for entry in page.get("Contents", ()):
                path = f"s3://{below['Bucket']}/{entry['Key']}"
                found[path] = (entry["Size"], entry["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                break
            more = {"ContinuationToken": page["NextContinuationToken"]}
        if not found:
            raise nothing_under(self, root)
        return found

    def exists(self, path: str) -> bool:
        place = _split(path)
        try:
            return bool(place["Key"] and self._send(path, "head_object", **place))  # a bucket is no file
        except FileNotFoundError:
            return False

    def size(self, path: str) -> int:
        return int(self._send(path, "head_object", **_split(path))["ContentLength"])

    def open(self, path: str, *, exact: bool) -> Opened:
        return _S3Opened(self._client, path)

    def load(self, path: str) -> bytes:
        def read() -> bytes:
            body = _ask(path, lambda: self._client.get_object(**_split(path)))["Body"]
            try:
                return bytes(_streaming(path, body.read))
            finally:
                body.close()

        data = retrying(read)
        counters.count(counters.BYTES_READ, len(data))
        return data

    def create(self, path: str) -> Writer:
        return _Upload(self, path)

    def create_new(self, path: str, data: bytes) -> bool:
        """Whether there was none; the store decides, so of several writers one succeeds."""
        try:
            self._send(path, "put_object", **_split(path), Body=data, IfNoneMatch="*")
        except OSError as error:
            if _refusal(error) in (409, 412):
                return False
            if _refusal(error) != 501:
                raise
            if self.exists(path):  # a store that knows no conditions
                return False
            self.put(path, data)
        return True

    def put(self, path: str, data: bytes) -> None:
        """Writes a whole object."""
        self._send(path, "put_object", **_split(path), Body=data)

    def rename(self, source: str, destination: str) -> None:
        to = _split(destination)
        # Objects above 5 GiB are copied in parts; the store does it, no byte comes here.
        copy = functools.partial(self._client.copy, _split(source), to["Bucket"], to["Key"])
        retrying(lambda: _ask(source, copy))
        self.remove([source])

    def remove(self, paths: Sequence[str]) -> None:
        by_bucket: dict[str, list[str]] = {}
        for path in paths:
            by_bucket.setdefault(_split(path)["Bucket"], []).append(_split(path)["Key"])
        for bucket, keys in by_bucket.items():
            for start in range(0, len(keys), REMOVED_AT_ONCE):
                objects = [{"Key": key} for key in keys[start : start + REMOVED_AT_ONCE]]
                retrying(functools.partial(self._remove, bucket, objects))

    def _remove(self, bucket: str, objects: list[dict[str, str]]) -> None:
        path = f"s3://{bucket}/{objects[0]['Key']}"
        delete = functools.partial(self._client.delete_objects, Bucket=bucket, Delete={"Objects": objects})
        failed = [error for error in _ask(path, delete).get("Errors", ()) if error["Code"] not in ABSENT_CODES]
        if failed:
            raise _os_error(f"s3://{bucket}/{failed[0]['Key']}", {"Error": failed[0]})

    def remove_tree(self, path: str) -> None:
        remove_all(self, path)

    def remove_unfinished(self, root: str) -> None:
        """Gives up uploads that nobody will end: their parts are seen in no listing, and are paid for."""
        below = _below(root)
        more: dict[str, str] = {}
        while True:
            page = self._send(root, "list_multipart_uploads", **below, **more)
            for upload in page.get("Uploads", ()):
                if upload["Key"].startswith(below["Prefix"]):
                    self.give_up(f"s3://{below['Bucket']}/{upload['Key']}", upload["UploadId"])
            if not page.get("IsTruncated"):
                return
            more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def make_directory(self, path: str) -> None:
        """There are none."""

    def begin(self, path: str) -> str:
        """Begins an upload in parts, and returns its id."""
        return str(self._send(path, "create_multipart_upload", **_split(path))["UploadId"])

    def send_part(self, path: str, upload: str, number: int, data: bytes) -> dict[str, Any]:
        """Sends a part, and returns what `end` takes of it."""
        sent = self._send(path, "upload_part", **_split(path), UploadId=upload, PartNumber=number, Body=data)
        return {"ETag": sent["ETag"], "PartNumber": number}

    def end(self, path: str, upload: str, parts: list[dict[str, Any]]) -> None:
        """Makes an object of its parts."""
        try:
            self._send(
                path, "complete_multipart_upload", **_split(path), UploadId=upload, MultipartUpload={"Parts": parts}
            )
        except FileNotFoundError:
            if not self.exists(path):  # otherwise an attempt before this one did it, and only its answer was lost
                raise

    def give_up(self, path: str, upload: str) -> None:
        """Ends an upload without an object."""
        try:
            self._send(path, "abort_multipart_upload", **_split(path), UploadId=upload)
        except FileNotFoundError:
            return


def _streaming(path: str, read: Callable[[], T]) -> T:
    """Reads from an answer; a connection that ends early is an error that may pass."""
    from botocore.exceptions import HTTPClientError, IncompleteReadError

    try:
        return read()
    except (HTTPClientError, IncompleteReadError) as error:
        raise TransientError(errno.EIO, str(error), path) from error


class _S3Opened:
    """Asks for ranges; the first answer says the size of the object, so nothing is asked before."""

    def __init__(self, client: Any, path: str) -> None:
        self._client = client
        self._path = path
        self._size: int | None = None

    def request(self, start: int, stop: int) -> Part:
        ask = functools.partial(self._client.get_object, **_split(self._path), Range=f"bytes={start}-{stop - 1}")
        try:
            answer = _ask(self._path, ask)
        except OSError as error:
            if _refusal(error) != 416:
                raise
            return _S3Part(self._path, io.BytesIO(), self.size())  # nothing at the end of the object
        if "ContentRange" not in answer:
            answer["Body"].close()
            found = "the store gave the whole object where a range of it was asked for"
            raise OSError(errno.ENOTSUP, found, self._path)
        self._size = int(answer["ContentRange"].rpartition("/")[2])
        return _S3Part(self._path, answer["Body"], self._size)

    def size(self) -> int:
        if self._size is None:
            head = functools.partial(self._client.head_object, **_split(self._path))
            self._size = int(_ask(self._path, head)["ContentLength"])
        return self._size

    def close(self) -> None:
        """Nothing is kept between requests."""


class _S3Part:
    def __init__(self, path: str, body: Any, size: int) -> None:
        self._path = path
        self._body = body
        self.size = size

    def readinto(self, buffer: memoryview) -> int:
        return _streaming(self._path, lambda: int(self._body.readinto(buffer[:RECEIVED_BYTES]) or 0))

    def close(self) -> None:
        self._body.close()


class _Upload:
    """An object that is being written; there is none until it is closed, nor where an error ends its writing."""

    def __init__(self, store: _S3Store, path: str) -> None:
        self._store = store
        self._path = path
        self._buffer = bytearray()
        self._id: str | None = None
        self._parts: list[dict[str, Any]] = []
        self._open = True

    def write(self, data: bytes) -> int:
        """Appends bytes; what makes whole parts is sent."""
        self._buffer += data
        while len(self._buffer) >= PART_BYTES:
            self._send(bytes(memoryview(self._buffer)[:PART_BYTES]))
            del self._buffer[:PART_BYTES]
        return len(data)

    def _send(self, data: bytes) -> None:
        if self._id is None:
            self._id = self._store.begin(self._path)
        self._parts.append(self._store.send_part(self._path, self._id, len(self._parts) + 1, data))

    def close(self) -> None:
        """Makes the object appear."""
        if not self._open:
            return
        self._open = False
        if self._id is None:
            self._store.put(self._path, bytes(self._buffer))
            return
        if self._buffer:
            self._send(bytes(self._buffer))
        self._store.end(self._path, self._id, self._parts)

    def discard(self) -> None:
        """Ends the writing without an object."""
        if self._open and self._id is not None:
            with contextlib.suppress(OSError):  # the error that ended the writing says more
                self._store.give_up(self._path, self._id)
        self._open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close() if kind is None else self.discard()
