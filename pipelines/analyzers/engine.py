"""Statistics of `pipelines.statistics` as analyzers of tf.transform: one phase for each pass over the rows."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_transform as tft

from pipelines.analyzers.recorded_calls import Noted, note_analyzer
from pipelines.runners.combine import Merge
from pipelines.runners.failures import Recorded
from pipelines.statistics.passes import Pass, Subject, in_order
from pipelines.steps import graph_ops
from pipelines.storage import files
from pipelines.storage.npz_bytes import dump_arrays
from pipelines.storage.restricted_pickle import load_statistics

dump = functools.partial(pickle.dumps, protocol=5)
"""States and accumulators, dataclasses and tuples of arrays, as bytes that `load_statistics` reads."""

_errors: ContextVar[str | None] = ContextVar("errors", default=None)
_constants: ContextVar[str | None] = ContextVar("constants", default=None)


@contextlib.contextmanager
def _wired_with(variable: ContextVar[str | None], directory: str) -> Iterator[None]:
    token = variable.set(directory)
    try:
        yield
    finally:
        variable.reset(token)


errors_recorded = functools.partial(_wired_with, _errors)
"""Analyzers that are wired inside the context of a directory record the errors of their workers there, as a build's own
functions do."""

writing_constants = functools.partial(_wired_with, _constants)
"""Analyzers that are noted (`recorded_calls.noted`) and wired inside the context of a directory put what they have
learned into files there: that of the analyzer with the number 2 is `2.npz`, with arrays
`<number of the tensor>/<constant>`."""


@dataclasses.dataclass(frozen=True)
class Partial:
    """What some rows have added in one pass.

    Attributes:
        state: The states of all subjects before the pass, as `dump` has them.
        added: The accumulators of the subjects that the pass is for.
    """

    state: bytes
    added: tuple[Any, ...]


def run_passes(
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
        The constants of each subject, float64 and int64, of which TensorFlow does not know that they are constants;
        with keys, those of each row's group.
    """
    subjects = tuple(subjects)
    noted = note_analyzer(subjects)
    found = None if noted is None or noted.known is None else tf.constant(pack(in_order(subjects, noted.known)))
    for number in range(Pass(subjects, 0).passes if found is None else 0):
        this_pass = Pass(subjects, number)
        inputs = [tensor for tensor, active in zip(values, this_pass.active, strict=True) if active]
        inputs += [keys] if this_pass.grouped else []
        found = _learn_pass(this_pass, inputs, found, noted, f"{name}_{number}")
        if noted is not None:
            noted.passes.append((inputs, found))
    constants = _unpack(graph_ops.unfolded(found, like=values[0]), subjects)
    return constants if keys is None else [graph_ops.of_groups(own, keys) for own in constants]


def _learn_pass(
    this_pass: Pass, inputs: list[tf.Tensor], before: tf.Tensor | None, noted: Noted | None, name: str
) -> tf.Tensor:
    """What is known after a pass, as `extract` gives it; of tf.transform, or of who calls the function."""
    dtype = tf.int64 if this_pass.number == this_pass.passes - 1 else tf.uint8
    if noted is not None and noted.fed:
        return tf.compat.v1.placeholder(dtype, [None])
    inputs = inputs if before is None else [*inputs, tf.identity(before)]
    stages = tft.experimental.CacheablePTransformAnalyzer(
        make_accumulators_ptransform=Stage("accumulate", this_pass),
        merge_accumulators_ptransform=Stage("merge", this_pass),
        extract_output_ptransform=Stage("extract", this_pass, None if noted is None else noted.number),
        cache_coder=CacheCoder(),
    )
    (found,) = tft.experimental.ptransform_analyzer(inputs, stages, [dtype], [[None]], name=name)
    return found


class CacheCoder(tft.experimental.PTransformAnalyzerCacheCoder):  # type: ignore[misc]
    """Accumulators in the cache of `AnalyzeDatasetWithCache`."""

    def encode_cache(self, accumulator: Any) -> bytes:
        """An accumulator as bytes."""
        return dump(accumulator)

    def decode_cache(self, encoded_accumulator: bytes) -> Any:
        """The accumulator of some bytes."""
        return load_statistics(encoded_accumulator)


class Stage(beam.PTransform):  # type: ignore[misc]
    """A stage of an analyzer: rows to accumulators, accumulators to one, or that to the output."""

    def __init__(self, stage: str, this_pass: Pass, noted: int | None = None) -> None:
        super().__init__()
        self._noted = noted
        self._stage = stage
        self._pass = this_pass

    def __repr__(self) -> str:
        """What the stage does; tf.transform knows cached accumulators by it, so that it holds no address."""
        what = [(s.dtype, s.shape, s.estimator) for s in self._pass.subjects]
        return f"<npyflow {self._stage} pass {self._pass.number} of {what}>"

    def expand(self, collection: beam.PCollection[Any]) -> beam.PCollection[Any]:
        """Wires the stage."""
        if self._stage == "accumulate":
            return collection | "Accumulate" >> beam.Map(_recorded(accumulate), self._pass)
        if self._stage == "merge":
            merge_two = functools.partial(_recorded(merge), self._pass)
            return collection | "MergeAccumulators" >> beam.CombineGlobally(Merge(merge_two))
        directory = _constants.get()
        keep = None if directory is None or self._noted is None else files.join(directory, f"{self._noted}.npz")
        return collection | "Extract" >> beam.Map(_recorded(extract), self._pass, keep)


def _recorded(function: Callable[..., Any]) -> Callable[..., Any]:
    directory = _errors.get()
    return function if directory is None else Recorded(function, directory)


def accumulate(batch: Iterable[Any], this_pass: Pass) -> Partial:
    """What one batch adds in one pass.

    Args:
        batch: The values of each subject that the pass is for, then the keys where one of them has groups, then the
            state, where the pass is not the first.
        this_pass: The pass.

    Raises:
        DataError: If a value cannot be used.
    """
    arrays = [np.asarray(array) for array in batch]
    state = arrays.pop().tobytes() if this_pass.number else dump(this_pass.start())
    return Partial(state, this_pass.accumulate(load_statistics(state), arrays))


def merge(this_pass: Pass, a: Partial, b: Partial) -> Partial:
    """What two sets of rows add in one pass: exact, in any order."""
    return Partial(a.state, this_pass.merge(a.added, b.added))


def extract(partial: Partial | None, this_pass: Pass, keep: str | None = None) -> npt.NDArray[Any]:
    """What is known after a pass: the states for the next one, or the constants, which a file may `keep` too.

    Returns:
        uint8 or int64, one axis.

    Raises:
        DataError: If nothing can be learned from these rows.
    """
    states = (
        this_pass.of_no_row() if partial is None else this_pass.update(load_statistics(partial.state), partial.added)
    )
    if this_pass.number + 1 < this_pass.passes:
        return np.frombuffer(dump(states), np.uint8)
    constants = this_pass.result(states)
    if keep is not None:
        files.write_bytes(keep, dump_arrays(constants))
    return pack(list(constants.values()))


def pack(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
    """Arrays as one vector of 64-bit integers: their sizes, and then they, floats by their bits.

    One vector, as an analyzer that tf.transform may cache has one output.
    """
    parts = [
        np.ravel(array).astype(np.int64)
        if array.dtype.kind in "biu"
        else np.ravel(array).astype(np.float64).view(np.int64)
        for array in arrays
    ]
    return np.concatenate([np.array([len(part) for part in parts], np.int64), *parts])


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
