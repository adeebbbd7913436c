"""Tries again what failed for a reason that passes: a store that is overloaded, a connection that was lost."""

from __future__ import annotations

import http.client
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import tenacity

from pipelines import counters

ATTEMPTS = 8
FIRST_SECONDS, MOST_SECONDS = 0.2, 15.0
"""The longest wait before the second attempt, and the longest of all; in between it doubles. With half of each wait
left to chance, eight attempts take 13 to 26 seconds: object stores recover from `SlowDown` in less."""

TRANSIENT_STATUS = (408, 425, 429, 500, 502, 503, 504)
"""HTTP's: a timeout, too early, too many requests, and errors of the server."""

LASTING = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
NETWORK_MODULES = ("aiohttp", "httpx", "requests", "urllib3")
"""Libraries by which file systems connect; what they raise is of the connection, unless it has a status."""

T = TypeVar("T")


def is_transient(error: BaseException) -> bool:
    """Whether another attempt may succeed.

    Statuses that say so are `TRANSIENT_STATUS`; files that are not there and permissions that lack are lasting. What
    says nothing is taken for lasting, errors of the local disk among it.
    """
    return next((found for found in map(_decide, _related(error)) if found is not None), False)


def _decide(error: BaseException) -> bool | None:
    status = status_of(error)
    if status is not None:
        return status in TRANSIENT_STATUS
    if isinstance(error, LASTING):
        return False
    if isinstance(error, ConnectionError | TimeoutError | http.client.HTTPException):
        return True
    return True if type(error).__module__.split(".")[0] in NETWORK_MODULES else None


def status_of(error: BaseException) -> int | None:
    """The HTTP status that a library keeps with its error; None where it has none."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, Mapping):  # Amazon's
        response = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    named = [getattr(error, name, None) for name in ("status_code", "status", "code")]
    for found in (*named, response, getattr(response, "status_code", None)):
        if str(found).isdecimal() and 100 <= int(found) < 600:
            return int(found)
    return None


def _related(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it was raised from."""
    seen: set[int] = set()
    pending: deque[BaseException | None] = deque([error])
    while pending:
        found = pending.popleft()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        pending.extend((found.__cause__, found.__context__))


def status_in(error: BaseException) -> int | None:
    """The HTTP status of an error, or of what it was raised from."""
    return next((found for found in map(status_of, _related(error)) if found is not None), None)


def retrying(attempt: Callable[[], T]) -> T:
    """Calls a function until it does not fail for a reason that passes; each further attempt is counted.

    What is done twice must be as good as once. Waits in between grow exponentially and are in part left to chance, so
    that workers who failed together do not return together.

    Raises:
        Exception: What the last attempt raised, or the first that failed for a reason that stays.
    """
    try:
        return attempt()  # a million headers are as many requests, most of which succeed: tenacity takes 14 µs for each
    except Exception as error:
        if not is_transient(error):
            raise
        failed = [error]

    def go_on() -> T:
        if failed:
            raise failed.pop()
        return attempt()

    attempts = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=_wait,
        retry=tenacity.retry_if_exception(is_transient),
        before_sleep=lambda _: counters.count(counters.RETRIES),
        sleep=time.sleep,
        reraise=True,
    )
    return attempts(go_on)


def _wait(state: tenacity.RetryCallState) -> float:
    longest = min(FIRST_SECONDS * 2 ** (state.attempt_number - 1), MOST_SECONDS)
    return random.uniform(longest / 2, longest)
