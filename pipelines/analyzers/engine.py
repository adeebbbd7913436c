"""Statistics of `pipelines.statistics` as analyzers of tf.transform: one phase for each pass over the rows."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_transform as tft

from pipelines.analyzers.calls import note_analyzer
from pipelines.analyzers.coding import Arrays, CacheCoder, dump, load, pack
from pipelines.errors import DataError
from pipelines.runners.combine import Merge
from pipelines.runners.failures import Recorded
from pipelines.statistics.estimators import Estimator
from pipelines.steps import graph_ops
from pipelines.storage import files
from pipelines.storage.archive import dump_arrays

_errors: ContextVar[str | None] = ContextVar("errors", default=None)
_constants: ContextVar[str | None] = ContextVar("constants", default=None)


@contextlib.contextmanager
def errors_recorded(directory: str) -> Iterator[None]:
    """Analyzers that are wired inside the context record the errors of their workers, as a build's own functions do."""
    token = _errors.set(directory)
    try:
        yield
    finally:
        _errors.reset(token)


@contextlib.contextmanager
def constants_kept(directory: str) -> Iterator[None]:
    """Analyzers that are noted (`calls.noted`) and wired inside the context put what they have learned into files.

    The file of the analyzer with the number 2 is `2.npz`, with arrays `<number of the tensor>/<constant>`.
    """
    token = _constants.set(directory)
    try:
        yield
    finally:
        _constants.reset(token)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """What is learned of one tensor. Only what can be pickled, as it travels to workers.

    Attributes:
        label: What it is called in errors.
        dtype: The dtype of the tensor's values.
        shape: The shape of a row.
        estimator: The statistic.
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


@dataclasses.dataclass(frozen=True)
class Partial:
    """What some rows have added in one pass.

    Attributes:
        state: The states of all subjects before the pass, as `dump` has them.
        added: The accumulators of the subjects that the pass is for.
    """

    state: bytes
    added: tuple[Any, ...]


def learn(
    subjects: Sequence[Subject], values: Sequence[tf.Tensor], keys: tf.Tensor | None, *, name: str
) -> list[dict[str, tf.Tensor]]:
    """Learns constants from all rows of an analysis.

    Each pass is one analyzer over all subjects. That of a later pass takes what the one before has found as one more
    input, so that for tf.transform it is another phase: the rows are read again, and nobody holds them.

    Args:
        subjects: What is learned.
        values: A tensor `[batch, *shape]` for each.
        keys: int64 `[batch]`, for the subjects that are grouped.
        name: The name of the analyzers.

    Returns:
        The constants of each subject, float64 and int64, of which TensorFlow does not know that they are constants.
    """
    subjects = tuple(subjects)
    noted = note_analyzer([subject.label for subject in subjects])
    passes = max(subject.estimator.passes for subject in subjects)
    found: tf.Tensor | None = None
    for number in range(passes):
        inputs = [tensor for subject, tensor in zip(subjects, values, strict=True) if _active(subject, number)]
        inputs += [keys] if _grouped(subjects, number) else []
        inputs += [] if found is None else [tf.identity(found)]
        last = number == passes - 1
        dtype = tf.int64 if last else tf.uint8
        (found,) = tft.experimental.ptransform_analyzer(
            inputs, analyzer(subjects, number, noted), [dtype], [[None]], name=f"{name}_{number}"
        )
    return _unpack(graph_ops.unfolded(found, like=values[0]), subjects)


def analyzer(
    subjects: tuple[Subject, ...], number: int, noted: int | None = None
) -> tft.experimental.CacheablePTransformAnalyzer:
    """One pass, in the stages that tf.transform wants of an analyzer whose accumulators may be cached."""
    return tft.experimental.CacheablePTransformAnalyzer(
        make_accumulators_ptransform=Stage("accumulate", subjects, number),
        merge_accumulators_ptransform=Stage("merge", subjects, number),
        extract_output_ptransform=Stage("extract", subjects, number, noted),
        cache_coder=CacheCoder(),
    )


class Stage(beam.PTransform):  # type: ignore[misc]
    """A stage of an analyzer: rows to accumulators, accumulators to one, or that to the output."""

    def __init__(self, stage: str, subjects: tuple[Subject, ...], number: int, noted: int | None = None) -> None:
        super().__init__()
        self._noted = noted
        self._stage = stage
        self._subjects = subjects
        self._number = number

    def __repr__(self) -> str:
        """What the stage does; tf.transform knows cached accumulators by it, so that it holds no address."""
        what = [(s.dtype, s.shape, s.estimator) for s in self._subjects]
        return f"<npyflow {self._stage} pass {self._number} of {what}>"

    def expand(self, collection: beam.PCollection[Any]) -> beam.PCollection[Any]:
        """Wires the stage."""
        if self._stage == "accumulate":
            return collection | "Accumulate" >> beam.Map(_recorded(accumulate), self._subjects, self._number)
        if self._stage == "merge":
            merge_two = functools.partial(_recorded(merge), self._subjects, self._number)
            return collection | "MergeAccumulators" >> beam.CombineGlobally(Merge(merge_two))
        directory = _constants.get()
        keep = None if directory is None or self._noted is None else files.join(directory, f"{self._noted}.npz")
        return collection | "Extract" >> beam.Map(_recorded(extract), self._subjects, self._number, keep)


def _recorded(function: Callable[..., Any]) -> Callable[..., Any]:
    directory = _errors.get()
    return function if directory is None else Recorded(function, directory)


def accumulate(batch: Iterable[Any], subjects: Sequence[Subject], number: int) -> Partial:
    """What one batch adds in one pass.

    Args:
        batch: The values of each subject that the pass is for, then the keys where one of them has groups, then the
            state, where the pass is not the first.
        subjects: All subjects.
        number: The number of the pass.

    Raises:
        DataError: If a value cannot be used.
    """
    arrays = [np.asarray(array) for array in batch]
    state = arrays.pop().tobytes() if number else dump(_start(subjects))
    keys = arrays.pop() if _grouped(subjects, number) else None
    added, values = [], iter(arrays)
    for subject, own in zip(subjects, load(state), strict=True):
        if not _active(subject, number):
            continue
        rows = next(values)
        rows = rows.astype(np.bytes_) if subject.dtype == "string" else rows
        added.append(_accumulate(subject, own, (rows, keys) if subject.grouped else rows))
    return Partial(state, tuple(added))


def _accumulate(subject: Subject, state: Any, values: Any) -> Any:
    try:
        return subject.estimator.accumulate(state, values)
    except ValueError as error:
        raise DataError(f"{subject.label}: {error}") from error


def merge(subjects: Sequence[Subject], number: int, a: Partial, b: Partial) -> Partial:
    """What two sets of rows add in one pass: exact, in any order."""
    active = [subject for subject in subjects if _active(subject, number)]
    merged = []
    for subject, one, other in zip(active, a.added, b.added, strict=True):
        try:
            merged.append(subject.estimator.merge(one, other))
        except ValueError as error:
            raise DataError(f"{subject.label}: {error}") from error
    return Partial(a.state, tuple(merged))


def extract(
    partial: Partial | None, subjects: Sequence[Subject], number: int, keep: str | None = None
) -> npt.NDArray[Any]:
    """What is known after a pass: the states for the next one, or the constants.

    Args:
        partial: What all rows have added; None where there was none.
        subjects: All subjects.
        number: The number of the pass.
        keep: The file for the constants, or None.

    Returns:
        uint8 or int64, one axis.

    Raises:
        DataError: If nothing can be learned from these rows.
    """
    states = _of_no_row(subjects, number) if partial is None else _update(partial, subjects, number)
    if number + 1 < max(subject.estimator.passes for subject in subjects):
        return np.frombuffer(dump(states), np.uint8)
    constants: dict[str, npt.NDArray[Any]] = {}
    for place, (subject, state) in enumerate(zip(subjects, states, strict=True)):
        try:
            found = subject.finish(subject.estimator.result(state))
        except ValueError as error:
            raise DataError(f"{subject.label}: {error}") from error
        constants |= {f"{place}/{name}": np.asarray(found[name]) for name, _, _ in subject.outputs}
    if keep is not None:
        files.write_bytes(keep, dump_arrays(constants))
    return pack(list(constants.values()))


def _update(partial: Partial, subjects: Sequence[Subject], number: int) -> tuple[Any, ...]:
    added = iter(partial.added)
    return tuple(
        subject.estimator.update(state, next(added)) if _active(subject, number) else state
        for subject, state in zip(subjects, load(partial.state), strict=True)
    )


def _of_no_row(subjects: Sequence[Subject], number: int) -> tuple[Any, ...]:
    """The states after some passes over no row."""
    states = _start(subjects)
    for each in range(number + 1):
        empties = []
        for subject, state in zip(subjects, states, strict=True):
            if _active(subject, each):
                dtype = np.dtype("S1" if subject.dtype == "string" else subject.dtype)
                rows: Any = np.zeros((0, *subject.shape), dtype)
                rows = (rows, np.zeros(0, np.int64)) if subject.grouped else rows
                empties.append(subject.estimator.accumulate(state, rows))
        states = _update(Partial(dump(states), tuple(empties)), subjects, each)
    return states


def _start(subjects: Sequence[Subject]) -> tuple[Any, ...]:
    return tuple(subject.estimator.start() for subject in subjects)


def _active(subject: Subject, number: int) -> bool:
    return number < subject.estimator.passes


def _grouped(subjects: Sequence[Subject], number: int) -> bool:
    return any(subject.grouped and _active(subject, number) for subject in subjects)


def _unpack(packed: tf.Tensor, subjects: Sequence[Subject]) -> list[dict[str, tf.Tensor]]:
    """The constants of each subject, as tensors of the shapes that `pack` took apart."""
    outputs = [(place, *output) for place, subject in enumerate(subjects) for output in subject.outputs]
    ends = len(outputs) + tf.cumsum(packed[: len(outputs)])
    result: list[dict[str, tf.Tensor]] = [{} for _ in subjects]
    for number, (place, name, integers, shape) in enumerate(outputs):
        begin = ends[number - 1] if number else len(outputs)
        part = packed[begin : ends[number]]
        sizes = _sizes(shape, part)
        part = tf.ensure_shape(tf.reshape(part, sizes), shape)
        result[place][name] = part if integers else tf.bitcast(part, tf.float64)
    return result


def _sizes(shape: tuple[int | None, ...], part: tf.Tensor) -> list[Any]:
    """A shape with its one unknown length; of no element, which -1 cannot say, that is computed."""
    known = int(np.prod([size for size in shape if size is not None], dtype=np.int64))
    return [tf.size(part) // max(known, 1) if size is None else size for size in shape]
