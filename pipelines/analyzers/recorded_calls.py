"""Notes of what a function asks of all rows while it is called: its analyzers, and which tensor a step makes of which.

A build keeps what they learn, and finds out how to get back from a function's outputs. Other pipelines take no notes.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar

import tensorflow as tf

from pipelines.statistics.passes import Arrays, Subject
from pipelines.steps.step import Step


@dataclasses.dataclass(frozen=True)
class Mapped:
    """What a step has made of a tensor.

    Attributes:
        constants: Where what it has learned stands, `<analyzer>/<tensor>`; None of a step that learns nothing.
    """

    step: Step
    source: tf.Tensor
    result: tf.Tensor
    constants: str | None


@dataclasses.dataclass
class Noted:
    """One call of an analyzer.

    Attributes:
        known: What has been learned, as `Pass.result` gives it; None where it has not.
        fed: Whether who calls the function feeds what the passes find to the graph; otherwise tf.transform does it.
        passes: For each pass the tensors that it takes, and the one that stands for what it finds.
    """

    number: int
    subjects: tuple[Subject, ...]
    known: Arrays | None
    fed: bool
    passes: list[tuple[Sequence[tf.Tensor], tf.Tensor]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Notes:
    """The calls of one function.

    Attributes:
        features: The names of the tensors that it was called with, by their `id`.
        known: What each of its analyzers has learned, in the order of the calls; None where that is not known.
    """

    features: Mapping[int, str]
    known: Sequence[Arrays] | None = None
    fed: bool = False
    analyzers: list[Noted] = dataclasses.field(default_factory=list)
    mapped: list[Mapped] = dataclasses.field(default_factory=list)


_notes: ContextVar[Notes | None] = ContextVar("notes", default=None)


@contextlib.contextmanager
def noted(
    inputs: Mapping[str, tf.Tensor], *, known: Sequence[Arrays] | None = None, fed: bool = False
) -> Iterator[Notes]:
    """Takes notes of the calls inside the context, of a function that gets some inputs; the others as of `Notes`."""
    token = _notes.set(notes := Notes({id(tensor): name for name, tensor in inputs.items()}, known, fed))
    try:
        yield notes
    finally:
        _notes.reset(token)


def name_of(tensor: tf.Tensor) -> str | None:
    """The feature that a tensor is; None where it is none, or nobody takes notes."""
    notes = _notes.get()
    return None if notes is None else notes.features.get(id(tensor))


def note_analyzer(subjects: tuple[Subject, ...]) -> Noted | None:
    """Notes an analyzer; None where nobody takes notes."""
    notes = _notes.get()
    if notes is None:
        return None
    number = len(notes.analyzers)
    found = Noted(number, subjects, None if notes.known is None else notes.known[number], notes.fed)
    notes.analyzers.append(found)
    return found


def note_step(step: Step, source: tf.Tensor, result: tf.Tensor, *, tensor: int | None) -> tf.Tensor:
    """Notes, and returns, what a step gives.

    `tensor` is the number of the tensor among those of the last analyzer; None where the step learns nothing.
    """
    notes = _notes.get()
    if notes is not None:
        constants = None if tensor is None else f"{len(notes.analyzers) - 1}/{tensor}"
        notes.mapped.append(Mapped(step, source, result, constants))
    return result
