"""A shard read from its beginning to its end: what checks and compares whole data sets goes this way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from loaders.format.decode import Columns, RecordError, check_data, data_bytes, parse
from loaders.format.manifest import Shard
from loaders.format.record_layout import FOOTER_BYTES, HEADER_BYTES, RecordLayout, record_layout
from loaders.format.spec import FeatureSpec

READ_BYTES = 4 * 2**20
"""About how much is read at a time."""

Read = Callable[[int], bytes]


def read_frames(
    read: Read, features: tuple[FeatureSpec, ...], *, rows: int, rows_per_record: int
) -> Iterator[tuple[RecordLayout, npt.NDArray[np.uint8]]]:
    """Reads a shard whose records have one size from its beginning to its last row, some frames at a time.

    Args:
        read: Reads so many of the shard's next bytes, fewer only at its end.
        features: All features of the data set, sorted by name.
        rows: How many rows the shard holds.
        rows_per_record: How many a full record holds.

    Yields:
        The layout of the frames, and the frames, which are not checked: uint8 of shape [records, layout.frame_bytes].

    Raises:
        RecordError: If the file ends before; its `record` is the number of the record in the shard.
    """
    whole, rest = divmod(rows, rows_per_record)
    first = 0
    for records, per_record in ((whole, rows_per_record), (min(rest, 1), rest)):
        if not records:
            continue
        layout = record_layout(features, rows=per_record, rows_per_record=rows_per_record)
        step = max(READ_BYTES // layout.frame_bytes, 1)
        for start in range(0, records, step):
            count = min(step, records - start)
            data = read(count * layout.frame_bytes)
            if len(data) < count * layout.frame_bytes:
                record, left = divmod(len(data), layout.frame_bytes)
                expected = f"a record of {layout.frame_bytes} bytes with {per_record} rows"
                raise RecordError(expected, f"{left} bytes to the end of the file", record=first + record)
            yield layout, np.frombuffer(data, np.uint8).reshape(count, layout.frame_bytes)
            first += count


def read_variable(
    read: Read, features: Sequence[FeatureSpec], *, names: frozenset[str], shard: Shard, rows_per_record: int
) -> Iterator[tuple[int, Columns]]:
    """Reads a shard whose records differ in size from its beginning to its last row, record by record.

    Args:
        read: As in `read_frames`.
        features: As in `read_frames`.
        names: The features to return.
        shard: What the manifest says of it.
        rows_per_record: As in `read_frames`.

    Yields:
        The byte at which the record begins, and its columns.

    Raises:
        RecordError: If a record is damaged, or not as the format says; its `record` is the number in the shard.
    """
    at = 0
    for record, first in enumerate(range(0, shard.rows, rows_per_record)):
        try:
            size = data_bytes(read(HEADER_BYTES), shard.bytes - at)
            data = read(size)
            check_data(data, read(FOOTER_BYTES))
            rows = min(rows_per_record, shard.rows - first)
            columns = parse(data, features, names=names, rows=rows, rows_per_record=rows_per_record)
        except RecordError as error:
            raise RecordError(error.expected, error.found, record=record) from error
        yield at, columns
        at += HEADER_BYTES + size + FOOTER_BYTES
