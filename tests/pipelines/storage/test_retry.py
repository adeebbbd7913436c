"""What is tried again, how often, and after how long."""

import http.client

import pytest
from botocore.exceptions import ClientError

from pipelines import counters
from pipelines.storage import retry
from pipelines.storage.retry import is_transient, retrying


class StatusError(Exception):
    def __init__(self, *, code: object = None, response: object = None) -> None:
        super().__init__("failed")
        self.code = code
        self.response = response


class Response:
    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


def amazon(status: int, code: str, seen: Exception | None = None) -> Exception:
    """An error of Amazon's library, or one that a file system has made of it."""
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = ClientError(answer, "GetObject")  # type: ignore[arg-type]
    if seen is None:
        return error
    seen.__cause__ = error
    return seen


def raised_from(error: Exception) -> Exception:
    try:
        raise OSError("could not be read") from error
    except OSError as found:
        return found


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (http.client.IncompleteRead(b""), True),
        (StatusError(code=503), True),
        (StatusError(code=429), True),
        (StatusError(response=Response(500)), True),
        (amazon(503, "SlowDown"), True),
        (amazon(400, "RequestTimeout", TimeoutError()), True),
        (raised_from(ConnectionResetError()), True),
        (StatusError(code=404), False),
        (StatusError(code=403), False),
        (StatusError(response=Response(400)), False),
        (amazon(404, "NoSuchKey"), False),
        (amazon(403, "SlowDown"), False),
        (raised_from(amazon(500, "InternalError")), True),
        (FileNotFoundError(), False),
        (PermissionError(), False),
        (OSError(28, "No space left on device"), False),
        (ValueError(), False),
        (raised_from(FileNotFoundError()), False),
    ],
)
def test_what_may_pass(error: Exception, expected: bool) -> None:
    assert is_transient(error) == expected


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(retry.time, "sleep", found.append)
    return found


def failing(times: int, error: Exception, calls: list[int]) -> str:
    calls.append(1)
    if len(calls) <= times:
        raise error
    return "done"


@pytest.mark.parametrize("times", range(retry.ATTEMPTS))
def test_what_passes_is_tried_until_it_does(times: int, waits: list[float]) -> None:
    calls: list[int] = []
    with counters.counting() as counter:
        assert retrying(lambda: failing(times, ConnectionError("busy"), calls)) == "done"
    assert len(calls) == times + 1
    assert counter.read(counters.RETRIES).rows == len(waits) == times
    for number, wait in enumerate(waits):
        longest = min(retry.FIRST_SECONDS * 2**number, retry.MOST_SECONDS)
        assert longest / 2 <= wait <= longest


def test_what_does_not_pass_fails_in_the_end(waits: list[float]) -> None:
    calls: list[int] = []
    with pytest.raises(ConnectionError, match="busy"):
        retrying(lambda: failing(100, ConnectionError("busy"), calls))
    assert len(calls) == retry.ATTEMPTS
    assert 10 < sum(waits) < 30


def test_what_stays_is_tried_once(waits: list[float]) -> None:
    calls: list[int] = []
    with pytest.raises(PermissionError):
        retrying(lambda: failing(100, PermissionError(), calls))
    assert (len(calls), waits) == (1, [])


def test_what_a_thread_gathers_is_counted_where_it_is_handed_on() -> None:
    with counters.counting() as counter:
        with counters.gathering() as found:
            counters.count(counters.REQUESTS, 2)
            counters.count(counters.REQUESTS)
        assert counter.read(counters.REQUESTS).rows == 0
        for name, value in found.items():
            counters.count(name, value)
        assert counter.read(counters.REQUESTS).rows == 3


def test_nothing_is_made_for_what_succeeds_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a million requests for headers nearly all do, and what tries again takes longer to make than one of them."""
    monkeypatch.setattr(retry.tenacity, "Retrying", None)
    assert retrying(lambda: "done") == "done"
    with pytest.raises(PermissionError):
        retrying(lambda: failing(1, PermissionError(), []))
