"""Errors that a user can act on. The command line prints them without a stack trace."""

from __future__ import annotations

import dataclasses
import difflib
import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_UNFINISHED = 3
EXIT_INTERRUPTED = 130

MAX_SHOWN = 20
"""Problems that a message lists; the same mistake is often made in every file."""

GOES_ON = "The same command goes on where it stopped"
"""Ends the message of an error that may not come again."""


def plain(text: str, *, keep: str = "\n") -> str:
    """Text that a terminal only shows: control characters and the like, which file names may have, as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def suggest(found: object, known: Iterable[str]) -> str:
    """What somebody may have meant, for the end of a message; "" where nothing known is near."""
    plain = {name.casefold().replace("-", "").replace("_", ""): name for name in known}
    near = difflib.get_close_matches(str(found).casefold().replace("-", "").replace("_", ""), plain, n=1, cutoff=0.7)
    return f"; did you mean {plain[near[0]]}?" if near else ""


def some_of(names: Sequence[object], limit: int) -> str:
    """A list of names that does not grow without end."""
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(map(str, names[:limit])) + more


class NpyflowError(Exception):
    """Something that a user can mend; the message says what and where."""

    exit_code = EXIT_FAILED


class ConfigError(NpyflowError):
    """A key or a value of the configuration that is not allowed."""

    exit_code = EXIT_BAD_INPUT


class OutputError(NpyflowError):
    """An output directory that may not be written to."""

    exit_code = EXIT_BAD_INPUT


class NoBuildError(NpyflowError):
    """A directory that holds neither a data set nor a build."""

    exit_code = EXIT_BAD_INPUT


class DataError(NpyflowError):
    """Values in a source that cannot be used: an infinity, or a feature with no value at all."""


class PublishError(NpyflowError):
    """A build whose shards do not add up to its sources."""


class GraphWritten(NpyflowError):  # noqa: N818  # it ends the command, but well
    """The graph of a job was written to a file, as was asked, and nothing has run."""

    exit_code = 0

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path}: the graph of the job; nothing has run. When a job that was made from it has run, the same "
            "command without --template_location makes the data set of what it wrote"
        )


class WorkerError(NpyflowError):
    """A worker that ended before its work was done."""


class ClusterError(WorkerError):
    """A cluster that was lost, or ended a job for reasons of its own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong with the sources.

    Attributes:
        path: The file or directory.
        expected: What was expected of it.
        found: What was found.
        feature: The feature concerned, where one is.
    """

    path: str
    expected: str
    found: str
    feature: str | None = None

    def __str__(self) -> str:
        feature = f" (feature {self.feature})" if self.feature else ""
        return plain(f"{self.path}{feature}: expected {self.expected}; found {self.found}", keep="")


@contextmanager
def naming_file(path: str) -> Iterator[None]:
    """Lets an error of what writes a file inside the context say which file it is, by the name that it is to have.

    The operating system does not say where there was no room, and names a file as it is called while it is written. It
    stays an error that is none of npyflow's own: a cluster tries those again, and so it should, as room may be made.

    Raises:
        OSError: Where one is raised inside: the same error of this file, its text in one line. It is raised from the
            one inside, so `retry.is_transient` finds that.
    """
    try:
        yield
    except OSError as error:
        raise OSError(error.errno or errno.EIO, " ".join((error.strerror or str(error)).split()), path) from error


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Lets an error of the file that a user has asked for be told in one line.

    Raises:
        NpyflowError: If it cannot be written.
    """
    try:
        yield
    except OSError as error:
        found = error.strerror or str(error)
        raise NpyflowError(f"{path}: expected a file that can be written; found {found}") from error


class SourceError(NpyflowError):
    """Everything that preflight found wrong, listed together."""

    exit_code = EXIT_BAD_INPUT

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        lines = [f"  {problem}" for problem in self.problems[:MAX_SHOWN]]
        if count > MAX_SHOWN:
            lines.append(f"  … and {count - MAX_SHOWN} more")
        head = f"{count} problem{'s' if count != 1 else ''} in the sources"
        super().__init__("\n".join([head, *lines]))
