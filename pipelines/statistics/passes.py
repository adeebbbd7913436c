"""Several statistics that are learned together: what each pass over the rows adds, and what becomes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.errors import DataError
from pipelines.statistics.estimators import Estimator

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """What is learned of one tensor. Only what can be pickled, as it travels to workers.

    Attributes:
        label: What it is called in errors.
        finish: Makes the constants of the estimator's result.
        outputs: The names of the constants, whether each is of integers (otherwise of floats), and their shapes; None
            is a length that the rows decide.
        grouped: Whether the estimator takes a key for each row.
    """

    label: str
    dtype: str
    shape: tuple[int, ...]
    estimator: Estimator
    finish: Callable[[Arrays], Arrays]
    outputs: tuple[tuple[str, bool, tuple[int | None, ...]], ...]
    grouped: bool = False

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function of the subject; a ValueError of it becomes a DataError with the label."""
        try:
            return function(*arguments)
        except ValueError as error:
            raise DataError(f"{self.label}: {error}") from error


def in_order(subjects: Sequence[Subject], constants: Arrays) -> list[npt.NDArray[Any]]:
    """What subjects have learned, named as `Pass.result` names it, in its order."""
    return [constants[f"{place}/{name}"] for place, own in enumerate(subjects) for name, _, _ in own.outputs]


@dataclasses.dataclass(frozen=True)
class Pass:
    """One pass over the rows for several subjects: an estimator whose states are those of all subjects.

    A value that cannot be used, or more than an estimator holds, is a DataError.

    Attributes:
        subjects: All subjects; those whose own passes are done stay as they are.
    """

    subjects: tuple[Subject, ...]
    number: int

    @property
    def passes(self) -> int:
        return max(subject.estimator.passes for subject in self.subjects)

    @property
    def active(self) -> tuple[bool, ...]:
        """Whether the pass is for each of the subjects."""
        return tuple(self.number < subject.estimator.passes for subject in self.subjects)

    @property
    def read(self) -> tuple[Subject, ...]:
        """The subjects that the pass is for."""
        return tuple(subject for subject, active in zip(self.subjects, self.active, strict=True) if active)

    @property
    def grouped(self) -> bool:
        """Whether a subject that the pass is for takes the keys of groups."""
        return any(subject.grouped for subject in self.read)

    def start(self) -> tuple[Any, ...]:
        return tuple(subject.estimator.start() for subject in self.subjects)

    def accumulate(self, states: Sequence[Any], values: Sequence[npt.NDArray[Any]]) -> tuple[Any, ...]:
        """What rows add: `[rows, *shape]` for each subject that the pass is for, then the keys if one is grouped."""
        before = [state for state, active in zip(states, self.active, strict=True) if active]
        keys = values[-1] if self.grouped else None
        found = []
        for subject, state, rows in zip(self.read, before, values[: len(before)], strict=True):
            rows = rows.astype(np.bytes_) if subject.dtype == "string" else rows
            arguments = (rows, keys) if subject.grouped else rows
            found.append(subject.call(subject.estimator.accumulate, state, arguments))
        return tuple(found)

    def merge(self, a: Sequence[Any], b: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(
            subject.call(subject.estimator.merge, first, other)
            for subject, first, other in zip(self.read, a, b, strict=True)
        )

    def update(self, states: Sequence[Any], added: Sequence[Any]) -> tuple[Any, ...]:
        parts = iter(added)
        return tuple(
            subject.estimator.update(state, next(parts)) if active else state
            for subject, state, active in zip(self.subjects, states, self.active, strict=True)
        )

    def result(self, states: Sequence[Any]) -> dict[str, npt.NDArray[Any]]:
        """The constants of all subjects after the last pass, `<number of the subject>/<constant>`, in their order."""
        constants: dict[str, npt.NDArray[Any]] = {}
        for place, (subject, state) in enumerate(zip(self.subjects, states, strict=True)):
            found = subject.call(lambda own, last: own.finish(own.estimator.result(last)), subject, state)
            constants |= {f"{place}/{name}": np.asarray(found[name]) for name, _, _ in subject.outputs}
        return constants

    def of_no_row(self) -> tuple[Any, ...]:
        """The states after the pass, where no pass has seen a row."""
        states = Pass(self.subjects, self.number - 1).of_no_row() if self.number else self.start()
        keys = [np.zeros(0, np.int64)] if self.grouped else []
        empty = [np.zeros((0, *own.shape), np.dtype("S1" if own.dtype == "string" else own.dtype)) for own in self.read]
        return self.update(states, self.accumulate(states, [*empty, *keys]))
