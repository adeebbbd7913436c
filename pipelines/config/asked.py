"""A user's function as it travels to workers, and what it asks of the training rows by `pipelines.analyzers`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from loaders.format.names import OF_FUNCTION
from pipelines.statistics.passes import Subject

if TYPE_CHECKING:
    from pipelines.config.resolved import ResolvedFeature


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Traced:
    """A user's function as it travels to workers.

    Attributes:
        place: Where it is, for errors.
    """

    place: str
    function: bytes
    features: tuple[ResolvedFeature, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """One of `pipelines.analyzers` that a user's function calls, and when it reads which rows.

    Attributes:
        first: The round of its first pass; each later pass is a round later.
        reads: For each pass, the features that its values are computed of.
        after: For each pass, the numbers of the analyzers that its values are computed of.
        direct: For each pass the features that are its values as the sources have them; None where a graph makes them.
    """

    number: int
    subjects: tuple[Subject, ...]
    first: int
    reads: tuple[tuple[str, ...], ...]
    after: tuple[tuple[int, ...], ...]
    direct: tuple[tuple[str, ...] | None, ...]
    traced: Traced = dataclasses.field(repr=False)

    @property
    def name(self) -> str:
        """What it is called beside features, whose names have no slash."""
        return f"{OF_FUNCTION}/{self.number}"
