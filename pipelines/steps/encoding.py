"""Steps that turn words and classes into numbers."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import numpy as np
from pydantic import Field

from pipelines.statistics.estimators import Estimator
from pipelines.statistics.frequencies import MOST_DISTINCT, Frequencies, ranked
from pipelines.steps import graph_ops
from pipelines.steps.options import Count, Integer
from pipelines.steps.step import Arrays, Constants, Shape, Step, ValueSpec


class Vocabulary(Step):
    """The rank of a string or integer among the training values, the most frequent first, then in ascending order.

    Attributes:
        size: How many values are kept; None keeps all.
        oov_buckets: How many numbers there are for other values, which a hash spreads over them. With 0 they get -1.
    """

    key = "vocabulary"
    analyzer = "vocabulary"
    takes_over = False
    constants = ("keys", "ids")
    integers = frozenset(constants)
    size: Count | None = None
    min_count: Count = 1
    oov_buckets: Annotated[Integer, Field(ge=0)] = 1

    def output(self, value: ValueSpec) -> ValueSpec:
        return dataclasses.replace(value, dtype="int64")

    def shapes(self, value: ValueSpec) -> dict[str, Shape]:
        # Integers or hashes of strings, ascending, and the rank of each.
        return {"keys": (None,), "ids": (None,)}

    def estimator(self, value: ValueSpec) -> Estimator:
        return Frequencies(shape=value.shape, over="all", limit=MOST_DISTINCT)

    def fit(self, result: Arrays, value: ValueSpec) -> Constants:
        """The ranks.

        Raises:
            ValueError: If there is no value, or two of the strings have the same hash, which 63 bits make as good as
                impossible.
        """
        values, counts = ranked(result, self.size)
        if not len(values):
            raise ValueError("expected a value in the training rows; found none")
        values = values[counts >= self.min_count]
        keys = graph_ops.keys_of(values)
        order = np.argsort(keys, kind="stable")
        if (np.diff(keys[order]) == 0).any():
            raise ValueError("two strings of the vocabulary have the same 63-bit hash")
        return {"keys": keys[order], "ids": order.astype(np.int64), "vocabulary": values}


class OneHot(Step):
    """A vector that is 1 at the number of a class and 0 elsewhere; everywhere for a number outside."""

    key = "one_hot"
    expression = "tf.one_hot(tf.cast(x, tf.int64), {classes!r}, dtype=tf.float64)"
    classes: Count

    def output(self, value: ValueSpec) -> ValueSpec:
        return dataclasses.replace(value, dtype="float64", shape=(*value.shape, self.classes))
