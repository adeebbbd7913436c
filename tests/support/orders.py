"""Chunks of splits that no file holds."""

import numpy as np

from loaders.order.chunks import Chunks


def make_chunks(rows, *, records=2, rows_per_record=3):
    counts = -(-np.array(rows, np.int64) // (records * rows_per_record))
    return Chunks(
        rows=np.array(rows, np.int64),
        rows_per_record=rows_per_record,
        records=records,
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        record_bytes=1,
        begins=np.array([], np.int64),
        ends=np.array([], np.int64),
    )
