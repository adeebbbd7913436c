"""Analyzers without Beam: what the stages of each pass make of rows that are there already."""

import contextlib
import itertools
import random
from unittest import mock

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from pipelines.analyzers.engine import accumulate, extract, merge


@contextlib.contextmanager
def analyzing(*, cuts=(), seed=None):
    """Inside, an analyzer that is called with tensors learns of their rows at once.

    Args:
        cuts: Where the rows are cut into batches.
        seed: Of the order in which batches are merged; None for theirs.

    Yields:
        What has been called for each pass.
    """

    def analyze(inputs, ptransform, output_dtypes, output_shapes, name=None):
        stage = ptransform.make_accumulators_ptransform
        one = stage._pass
        arrays = [np.asarray(tensor.numpy()) for tensor in inputs]
        state = [arrays.pop()] if one.number else []
        rows = len(arrays[0])
        edges = [0, *sorted(cut for cut in cuts if cut <= rows), rows]
        added = [accumulate((*(array[a:b] for array in arrays), *state), one) for a, b in itertools.pairwise(edges)]
        while len(added) > 1:
            if seed is not None:
                random.Random(seed + len(added)).shuffle(added)
            added[-2:] = [merge(one, *added[-2:])]
        return [tf.constant(extract(added[0], one), output_dtypes[0])]

    with mock.patch.object(tft.experimental, "ptransform_analyzer", side_effect=analyze) as analyzers:
        yield analyzers
