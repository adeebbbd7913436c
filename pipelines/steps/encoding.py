"""Steps that turn words and classes into numbers."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipelines.statistics.estimators import Estimator
from pipelines.statistics.frequencies import Frequencies, ranked
from pipelines.steps import graph_ops
from pipelines.steps.step import Constants, PassStep, Shape, Step, Tensors, Value

if TYPE_CHECKING:
    import tensorflow as tf

MAX_VOCABULARY = 2**22


@dataclasses.dataclass(frozen=True)
class Vocabulary(PassStep):
    """The rank of a string or integer among the training values, the most frequent first, then in ascending order.

    Attributes:
        size: How many values are kept; None keeps all.
        min_count: How often a value must occur.
        oov_buckets: How many numbers there are for other values, which a hash spreads over them. With 0 they get -1.
    """

    key: ClassVar[str] = "vocabulary"
    inputs: ClassVar[frozenset[str]] = frozenset({"int64", "string"})
    learns: ClassVar[tuple[str, ...]] = ("keys", "ids")
    size: int | None = None
    min_count: int = 1
    oov_buckets: int = 1

    def __post_init__(self) -> None:
        for name, least in (("size", 1), ("min_count", 1), ("oov_buckets", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"vocabulary.{name}: expected an integer of at least {least}; found {value}")

    def dump(self) -> Any:
        """What differs from the usual."""
        said = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) != f.default}
        return {self.key: said} if said else self.key

    def output(self, value: Value) -> Value:
        """Integers."""
        return dataclasses.replace(value, dtype="int64")

    def shapes(self, value: Value) -> dict[str, Shape]:
        """The keys (integers, or hashes of strings) in ascending order, and the rank of each."""
        return {"keys": (None,), "ids": (None,)}

    def estimator(self, value: Value) -> Estimator:
        """How often each value occurs."""
        return Frequencies(shape=value.shape, over="all", limit=MAX_VOCABULARY)

    def learn(self, result: dict[str, Any], value: Value) -> Constants:
        """The ranks.

        Raises:
            ValueError: If there is no value, or two of the strings have the same hash, which 63 bits make as good as
                impossible.
        """
        values, counts = ranked(result)
        if not len(values):
            raise ValueError("expected a value in the training rows; found none")
        values = values[counts >= self.min_count][: self.size]
        keys = as_keys(values)
        order = np.argsort(keys, kind="stable")
        if (np.diff(keys[order]) == 0).any():
            raise ValueError("two strings of the vocabulary have the same 63-bit hash")
        return {"keys": keys[order], "ids": order.astype(np.int64), "vocabulary": values}

    def apply(self, x: tf.Tensor, constants: Tensors) -> tf.Tensor:
        """The rank, or the bucket of what has none."""
        import tensorflow as tf

        keys = graph_ops.hash_strings(x) if x.dtype == tf.string else tf.cast(x, tf.int64)
        places, known = graph_ops.find(keys, constants["keys"])
        size = tf.size(constants["keys"], tf.int64)
        other = tf.constant(-1, tf.int64)
        if self.oov_buckets:
            text = x if x.dtype == tf.string else tf.strings.as_string(keys)
            other = size + tf.strings.to_hash_bucket_fast(text, self.oov_buckets)
        ids = tf.concat([constants["ids"], tf.zeros([1], tf.int64)], 0)  # there may be no id to gather
        return tf.where(known, tf.gather(ids, places), other)


def as_keys(values: Any) -> Any:
    """Strings as their hashes, as the graph computes them, and integers as int64."""
    if values.dtype.kind != "S":
        return values.astype(np.int64)
    import tensorflow as tf

    with tf.device("/cpu:0"):
        return graph_ops.hash_strings(tf.constant(values.astype(object), tf.string, values.shape)).numpy()


@dataclasses.dataclass(frozen=True)
class OneHot(Step):
    """A vector that is 1 at the number of a class and 0 elsewhere; everywhere for a number outside."""

    key: ClassVar[str] = "one_hot"
    inputs: ClassVar[frozenset[str]] = frozenset({"int64"})
    classes: int

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise ValueError(f"one_hot: expected at least 1 class; found {self.classes}")

    def output(self, value: Value) -> Value:
        """One more axis of floats."""
        return dataclasses.replace(value, dtype="float64", shape=(*value.shape, self.classes))

    def apply(self, x: tf.Tensor, constants: Tensors) -> tf.Tensor:
        """The vectors."""
        import tensorflow as tf

        return tf.one_hot(tf.cast(x, tf.int64), self.classes, dtype=tf.float64)
