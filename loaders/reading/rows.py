"""The rows of a split at random: `loaders.open(root)["train"][i]`. NumPy only."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from loaders import notebook
from loaders.format.manifest import Manifest
from loaders.format.spec import FeatureSpec
from loaders.order import split_slices, state
from loaders.reading import columns
from loaders.reading.row_reader import RowReader, Source

if TYPE_CHECKING:
    from loaders.storage.cache import Cache

SHOWN_ROWS = 5

ARROW_BYTES = 8 * 2**20


class Rows:
    """The rows of a split by their number: row i is the i-th one that is stored, or the i-th one of a view.

    It is what PyTorch calls a map-style data set, and Grain a source. It can be pickled. The checksum of a record is
    compared when the record is first read.

    Args:
        root: Where the data set is.
        manifest: What it holds.
        split: The name of a split, or rows of it, as in `loaders.numpy.Loader`.
        features: The names of the features to read; None for all.
        cache: Where copies of the shards are kept, or None.

    Attributes:
        view: The rows that `split` means.

    Raises:
        ManifestError: If there is no such split.
        ValueError: If `split` means no rows.
    """

    def __init__(
        self,
        root: str,
        manifest: Manifest,
        split: str,
        *,
        features: Sequence[str] | None = None,
        cache: Cache | None = None,
    ) -> None:
        names = [feature.name for feature in manifest.features] if features is None else features
        columns.check_names(manifest.features, mask=False)
        self.view = view = split_slices.resolve(manifest, split)
        fingerprint = "" if cache is None else state.fingerprint(manifest)
        self._reader = RowReader(Source(root=root, view=view, fingerprint=fingerprint, cache=cache), names)
        self._shards = self._reader.shards
        self._split = split

    def __len__(self) -> int:
        return self.view.rows

    def __repr__(self) -> str:
        return f"Rows({self._split}: {len(self):,} rows)"

    def _repr_html_(self) -> str:
        shown = [self[row] for row in range(min(len(self), SHOWN_ROWS))]
        cells = [
            [str(n), *(columns.show_value(row[f.name]) for f in self._shards.features)] for n, row in enumerate(shown)
        ]
        headings = ["row", *(feature.name for feature in self._shards.features)]
        right = [True, *[False] * len(self._shards.features)]
        return notebook.table(headings, cells, right=right, title=f"{self._split}: {len(self):,} rows")

    def __getitem__(self, index: Any) -> dict[str, Any]:
        """One row or several.

        Args:
            index: A number, which may count from the end; a slice; or numbers as a list or an array of one axis.

        Returns:
            For a number a dict of the row: an array of the feature's shape for each name, or a scalar where the shape
            is `()`; a ragged feature in its own length. Otherwise a dict of arrays of shape [rows, *shape], ragged
            features filled up with zeros beside `<name>_length`, as in a batch.

        Raises:
            IndexError: If there is no such row.
            ShardError: If the shard is missing, or the record is damaged.
            TypeError: If it is no index.
        """
        if isinstance(index, slice):
            return self._batch(np.arange(*index.indices(len(self))))
        if isinstance(index, (list, tuple, np.ndarray)) and np.ndim(index):
            numbers = np.asarray(index if len(index) else np.arange(0))
            if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
                raise TypeError(
                    f"rows are indexed by integers of one axis; found {numbers.dtype} of shape {numbers.shape}"
                )
            return self._batch(self._checked(numbers.astype(np.int64)))
        return self.__getitems__([operator.index(index)])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Several rows, each as a dict; a PyTorch `DataLoader` asks for a batch so.

        Raises:
            IndexError: If there is no such row.
            ShardError: If a shard is missing, or a record is damaged.
        """
        found = self.columns(self.view.stored(self._checked(np.asarray(indices, dtype=np.int64))))
        return [
            {spec.name: _row_of(found[spec.name][row], spec) for spec in self._shards.features}
            for row in range(len(indices))
        ]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[row] for row in range(len(self)))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows as a stream of Arrow record batches, by the PyCapsule interface of Arrow.

        So `pyarrow.table(rows)`, `polars.DataFrame(rows)`, DuckDB and others take them as they are; `pyarrow` has to be
        installed. One batch of about `ARROW_BYTES` is in memory at a time. `loaders.format.arrow.schema` says what the
        columns are.
        """
        from loaders.format import arrow  # only here: it needs pyarrow

        rows, manifest, split = len(self), self.view.manifest, self.view.split
        size = sum(shard.bytes for shard in manifest.shards(split))
        step = max(1, ARROW_BYTES * manifest.rows(split) // max(size, 1))
        starts = range(0, rows, step)
        batches = (self.columns(self.view.stored(np.arange(start, min(start + step, rows)))) for start in starts)
        return arrow.stream(self._shards.features, batches).__arrow_c_stream__(requested_schema)

    def _checked(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        rows = len(self)
        outside = (index < -rows) | (index >= rows)
        if outside.any():
            raise IndexError(f"{self._split} has {rows} rows; found index {index[outside][0]}")
        return np.where(index < 0, index + rows, index)

    def _batch(self, index: npt.NDArray[np.int64]) -> dict[str, Any]:
        return columns.decode(self.columns(self.view.stored(index)), self._shards.features)

    def columns(self, index: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
        """The columns of rows by their numbers over the shards as they are stored, in this order."""
        found = self._shards.empty(len(index))
        self._reader.take(index, found, index)
        return found


def _row_of(values: Any, spec: FeatureSpec) -> Any:
    """One row of a column: a ragged one in its own length."""
    if spec.ragged:
        return np.frombuffer(bytearray(values), spec.numpy_dtype).reshape(-1, *spec.inner_shape)
    return values
