"""Batches of rows that are drawn by weight, with replacement: balanced classes, rare rows more often.

TensorFlow is imported only by `WeightedLoader.dataset`.
"""

from __future__ import annotations

import hashlib
import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from loaders.augment import augmentation
from loaders.augment.augmentation import Augmentation
from loaders.numpy import MOST_AHEAD, Loader
from loaders.options import check_shard
from loaders.order import hashing, state
from loaders.order.epoch import ShardOptions
from loaders.reading import columns
from loaders.reading.prefetch import Prefetcher
from loaders.reading.rows import Rows
from loaders.storage.files import read_manifest
from loaders.storage.store import make_cache

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["ShardOptions", "WeightedLoader", "balanced"]

WEIGHTED = 7
"""The purpose that the seed is derived for, after those of `loaders.order.hashing` and `loaders.augment.random`."""

VERSION = 1
LABELS_AT_ONCE = 1 << 16


class WeightedLoader:
    """Endless batches of rows, each of which is drawn from all, as often as its weight says.

    Row number g of all that are drawn, counted from 0, is the first whose sum of weights, those before it and its own,
    is above `unit(stream(derive(seed, 7), g))` of the sum of all. Batches have the rows in this order, so that a state
    is how many rows are drawn, and any number of hosts has the same batches. Rows are read at random, which costs more
    than the windows of `loaders.numpy.Loader`: the checksum of a record is compared when it is first read.

    Args:
        root: As in `loaders.numpy.Loader`.
        split: As in `loaders.numpy.Loader`.
        weights: A number of at least 0 for each of these rows as they are stored, of shape [rows]; see `balanced`.
        batch_size: The rows of a batch of all hosts together; a multiple of their number.
        seed: The seed of the draws.
        shard: Which host of how many this is; it has the rows of each batch that are at its place. None as in
            `loaders.numpy.Loader`.
        as_supervised: As in `loaders.numpy.Loader`.
        features: As in `loaders.numpy.Loader`.
        augment: As in `loaders.numpy.Loader`; random numbers come from the number of the draw, in epoch 0, so that a
            row that is drawn twice is changed in two ways.
        prefetch: How many batches a thread keeps ready; 0 has no thread.
        cache_dir: As in `loaders.numpy.Loader`.
        cache_bytes: As in `loaders.numpy.Loader`.

    Raises:
        ManifestError: If it is not a finished data set, or has no such split.
        TypeError: If a number is not an integer.
        ValueError: If an option's value is not allowed, or `split` means no rows.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        *,
        weights: npt.ArrayLike,
        batch_size: int,
        seed: int = 0,
        shard: ShardOptions | None = None,
        as_supervised: bool = False,
        features: Sequence[str] | None = None,
        augment: Sequence[Augmentation] = (),
        prefetch: int = MOST_AHEAD,
        cache_dir: str | os.PathLike[str] | None = None,
        cache_bytes: int | None = None,
    ) -> None:
        check_shard(shard)
        shard = shard or ShardOptions()
        path, manifest = os.fspath(root), read_manifest(root)
        chosen = columns.choose(manifest.features, features)
        self._arrange = columns.Arrangement(chosen, supervised=as_supervised)
        names = [feature.name for feature in self._arrange.features]
        self._rows = Rows(path, manifest, split, features=names, cache=make_cache(cache_dir, cache_bytes))
        if operator.index(batch_size) < 1 or batch_size % shard.count:
            raise ValueError(f"batch_size is a multiple of the {shard.count} hosts, and above 0; found {batch_size}")
        if operator.index(prefetch) < 0:
            raise ValueError(f"prefetch is a number of batches, at least 0; found {prefetch}")
        self._batch_size, self._shard, self._prefetch = batch_size, shard, prefetch
        self._seed, self._augment = operator.index(seed) & hashing.MASK, tuple(augment)
        self._ends, digest = _ends(np.asarray(weights, dtype=np.float64), len(self._rows), split)
        self._identity = {
            "version": VERSION,
            "fingerprint": state.fingerprint(manifest),
            "split": self._rows.view.name,
            "weights": digest,
            "seed": self._seed,
        }
        self._drawn = 0
        self._iteration: object = None

    def __iter__(self) -> Iterator[Any]:
        self._iteration = iteration = object()
        return self._run(iteration, self._ahead())

    def _run(self, iteration: object, batches: Iterator[tuple[int, Any]]) -> Iterator[Any]:
        for drawn, batch in batches:
            if iteration is self._iteration:
                self._drawn = drawn
            yield batch

    @property
    def epochs(self) -> None:
        """How many epochs an iteration has: it has no end."""
        return None

    @property
    def batch_size(self) -> int:
        """The rows of a batch of all hosts together."""
        return self._batch_size

    def dataset(self) -> tf.data.Dataset:
        """A `tf.data.Dataset` of these batches, for Keras and other TensorFlow loops.

        Returns:
            A data set, each iterator of which begins where the loader is then; `advance` tells what a loop has
            consumed. Batches are made in Python and handed over.
        """
        from loaders.tensorflow.python_batches import generated_dataset  # with TensorFlow, which only this needs

        return generated_dataset(
            lambda: (batch for _, batch in self._ahead()), self._first_batch, self._augment, self._arrange
        )

    def _ahead(self) -> Iterator[tuple[int, Any]]:
        """The batches from where the loader is, each with how many rows are drawn after it."""
        batches = self._batches(self._drawn)
        return Prefetcher(batches, depth=self._prefetch) if self._prefetch else batches

    def _first_batch(self) -> dict[str, Any]:
        """A batch before it is augmented."""
        return self._rows[self._at(np.arange(self._batch_size // self._shard.count))]

    def advance(self, batches: int, *, batch_size: int | None = None) -> None:
        """Counts batches as consumed, after which the next iteration begins.

        Args:
            batches: How many batches.
            batch_size: The rows that they had; None for the loader's.

        Raises:
            ValueError: If `batches` is negative.
        """
        if operator.index(batches) < 0:
            raise ValueError(f"expected a number of batches; found {batches}")
        self._drawn += batches * (self._batch_size if batch_size is None else batch_size)
        self._iteration = None

    def is_over(self) -> bool:
        """Whether no batch is left: one always is."""
        return False

    def skip_iteration(self) -> None:
        """Goes to the next iteration, which goes on as this one does."""

    def _batches(self, drawn: int) -> Iterator[tuple[int, Any]]:
        own = self._batch_size // self._shard.count
        while True:
            first = drawn + self._shard.index * own
            draws = np.arange(first, first + own)
            batch = augmentation.apply(
                self._augment, self._rows[self._at(draws)], seed=self._seed, epoch=0, rows=draws, groups=(own,)
            )
            drawn += self._batch_size
            yield drawn, self._arrange(batch)

    def _at(self, draws: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The rows that are drawn, by their numbers in the split or part of it: int64, the shape of `draws`."""
        shares = hashing.unit(hashing.stream(hashing.derive(self._seed, WEIGHTED), draws))
        found = np.searchsorted(self._ends, shares * self._ends[-1], side="right")
        # A share just below 1 may be rounded up to the end; the last row with a weight is the first to reach it.
        rows: npt.NDArray[np.int64] = np.minimum(found, np.searchsorted(self._ends, self._ends[-1]))
        return rows

    def state_dict(self) -> dict[str, Any]:
        """How many rows are drawn: those of all batches that the last iterator has yielded, of all hosts.

        Returns:
            JSON values, under 1 KB, the same on every host.
        """
        return {**self._identity, "rows": self._drawn}

    def load_state_dict(self, value: Mapping[str, Any]) -> None:
        """Lets the next iteration go on with the batch after the state, also with other hosts or batches.

        Args:
            value: What `state_dict` gave, of this data set, split, weights and seed.

        Raises:
            StateError: If it is of others; it is a `ValueError`.
        """
        self._drawn, self._iteration = state.check(value, self._identity, numbers=["rows"])["rows"], None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_iteration": None}


def _ends(weights: npt.NDArray[np.float64], rows: int, split: str) -> tuple[npt.NDArray[np.float64], str]:
    """The sums of weights up to each row, and a digest of the weights."""
    if weights.shape != (rows,):
        raise ValueError(f"weights has a number for each of the {rows} rows of {split}; found shape {weights.shape}")
    wrong = np.flatnonzero(~((weights >= 0) & np.isfinite(weights)))
    if len(wrong):
        raise ValueError(f"weights are at least 0 and finite; found {weights[wrong[0]]} for row {wrong[0]}")
    if not weights.any():
        raise ValueError(f"expected a row of {split} with a weight above 0; found none")
    digest = hashlib.blake2b(weights.astype("<f8").tobytes(), digest_size=16).hexdigest()
    return np.cumsum(weights), digest


def balanced(root: str | os.PathLike[str], split: str, *, label: str) -> npt.NDArray[np.float64]:
    """Weights by which every class is drawn as often as any other, and a row as often as any other of its class.

    It reads the labels of all rows once.

    Args:
        root: As in `loaders.numpy.Loader`.
        split: As in `loaders.numpy.Loader`.
        label: The feature that tells the class of a row, one value a row.

    Returns:
        One over the number of rows of the row's class, float64 of shape [rows].

    Raises:
        ManifestError: If it is not a finished data set, or has no such split.
        ValueError: If there is no such feature, or it has several values a row.
    """
    loader = Loader(root, split, batch_size=LABELS_AT_ONCE, shuffle=False, features=[label])
    labels = [batch[label] for batch in loader]
    values = np.concatenate(labels) if labels else np.zeros(0)
    if values.ndim != 1:
        raise ValueError(f"{label}: expected one value a row; found rows of shape {values.shape[1:]}")
    _, numbers, counts = np.unique(values, return_inverse=True, return_counts=True)
    result: npt.NDArray[np.float64] = 1 / counts[numbers]
    return result
