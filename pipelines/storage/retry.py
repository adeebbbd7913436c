"""Tries again what failed for a reason that passes: a store that is overloaded, a connection that was lost."""

from __future__ import annotations

import http.client
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from pipelines import counters

ATTEMPTS = 8
FIRST_SECONDS, MOST_SECONDS = 0.2, 15.0
"""The longest wait before the second attempt, and the longest of all; in between it doubles. With half of each wait
left to chance, eight attempts take 13 to 26 seconds: object stores recover from `SlowDown` in less."""

TRANSIENT_STATUS = (408, 425, 429, 500, 502, 503, 504)
"""HTTP's: a timeout, too early, too many requests, and errors of the server."""

LASTING = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
NETWORK_MODULES = ("urllib3", "requests", "httplib2", "httpx")
"""Libraries by which Beam's file systems connect; what they raise is of the connection, unless it has a status."""

T = TypeVar("T")


class TransientError(OSError):
    """A failure that another attempt may not have."""


def is_transient(error: BaseException) -> bool:
    """Whether another attempt may succeed.

    Statuses that say so are `TRANSIENT_STATUS`; files that are not there and permissions that lack are lasting. What
    says nothing is taken for lasting, errors of the local disk among it.
    """
    return next((found for found in map(_decide, _related(error)) if found is not None), False)


def _decide(error: BaseException) -> bool | None:
    status = _status(error)
    if status is not None:
        return status in TRANSIENT_STATUS
    if isinstance(error, LASTING):
        return False
    if isinstance(error, TransientError | ConnectionError | TimeoutError | http.client.HTTPException):
        return True
    return True if type(error).__module__.split(".")[0] in NETWORK_MODULES else None


def _status(error: BaseException) -> int | None:
    """The HTTP status that libraries keep with their errors: Google's, requests' and Beam's, in this order."""
    response = getattr(error, "response", None)
    for found in (getattr(error, "code", None), getattr(error, "status_code", None), getattr(response, "status", None)):
        value = getattr(found, "value", found)
        if isinstance(value, int) and 100 <= value < 600:
            return value
    value = getattr(response, "status_code", None)
    return value if isinstance(value, int) else None


def _related(error: BaseException) -> Iterator[BaseException]:
    """The error, those that Beam collects in it, and those that it was raised from."""
    seen: set[int] = set()
    pending: deque[Any] = deque([error])
    while pending:
        found = pending.popleft()
        if not isinstance(found, BaseException) or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        details = getattr(found, "exception_details", None)
        pending.extend(details.values() if isinstance(details, Mapping) else ())
        pending.extend((found.__cause__, found.__context__))


def retrying(attempt: Callable[[], T]) -> T:
    """Calls a function until it does not fail for a reason that passes; each further attempt is counted.

    Waits in between grow exponentially and are in part left to chance, so that workers who failed together do not
    return together.

    Args:
        attempt: What is done; doing it twice must be as good as once.

    Returns:
        What the function returns.

    Raises:
        Exception: What the last attempt raised, or the first that failed for a reason that stays.
    """
    for number in range(1, ATTEMPTS):
        try:
            return attempt()
        except Exception as error:
            if not is_transient(error):
                raise
        back_off(number)
    return attempt()


def back_off(number: int) -> None:
    """Counts a retry and waits before it; `number` is how many attempts have failed."""
    counters.count(counters.RETRIES)
    longest = min(FIRST_SECONDS * 2 ** (number - 1), MOST_SECONDS)
    time.sleep(random.uniform(longest / 2, longest))
