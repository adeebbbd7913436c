"""`loaders.Loader`: batches of tensors in the order of `loaders.load`, with a state that says what was consumed."""

from __future__ import annotations

import copy
import operator
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loaders import AUTOTUNE, data_set
from loaders.augment.augmentations import Augmentation
from loaders.format.manifest import Manifest
from loaders.order import hashing, splits, state
from loaders.order.epoch import Remainder, ShardOptions
from loaders.order.position import Stretch, WithCursor, after, make_cursor
from loaders.reading import columns
from loaders.storage import damage
from loaders.storage.damage import OnCorrupt
from loaders.storage.store import make_cache
from loaders.tensorflow import dataset as pipeline
from loaders.tensorflow import ragged, resume
from loaders.tensorflow.batching import LOST, ROWS, Form, Options, make_form
from loaders.tensorflow.changes import Changes, sample
from loaders.tensorflow.salvage import Salvage

if TYPE_CHECKING:
    import tensorflow as tf


class Loader(WithCursor):
    """Yields every row of a split once an epoch, as batches of tensors, and remembers where it is.

    The order is a function of the data set, the seed, the number of the epoch and `streams`, and of nothing else; it is
    that of `loaders.numpy.Loader`, and each loads the other's state. With one stream it is that of `loaders.load` too.
    A loader that is iterated again goes on with the next epochs, and one that was left counts as if it had ended; after
    `load_state_dict` it goes on at the state. What was consumed is not read again.

    Args:
        root: The directory of a finished build, in any file system that fsspec reads.
        split: The name of a split, or rows of it as they are stored: "train[:10%]", "train[100:200]+train[-50:]",
            "train+test"; see `loaders.order.splits.resolve`. An epoch then has these rows alone.
        batch_size: The rows of a batch of all hosts together; a multiple of `streams`. No batch has rows of two epochs.
        shuffle: Whether each epoch has its own order; otherwise rows come as they are stored.
        seed: The seed of the order.
        epochs: How many epochs one iteration has; None has no end.
        shard: Which host of how many this is. The hosts' batches are together the batch that a single host has.
        streams: Into how many streams an epoch is cut, a multiple of the number of hosts. A batch has as many rows of
            each. A state can be loaded with any number of hosts that divides it.
        drop_remainder: The short form of `remainder="drop"`.
        remainder: What becomes of an epoch's last rows where they do not fill a batch. "keep" yields them as a smaller
            batch; hosts may then differ in their last batch, or whether they have one. "drop" leaves them out. "pad"
            fills the batch up with zeros, and every batch has `mask`, a bool tensor of shape [batch] that is False for
            what was filled up; as_supervised has it last, where Keras takes it as the weights of the rows if there are
            no others. With "drop" and "pad" every host has as many batches, of one size, which `element_spec` knows.
        as_supervised: As in `loaders.load`.
        map_fn: As in `loaders.load`; it sees the mask.
        prefetch: As in `loaders.load`; no state depends on it.
        device: As in `loaders.load`; no state depends on it.
        ragged: As in `loaders.load`.
        transform: As in `loaders.load`.
        features: The names of the features to yield; None for all.
        augment: As in `loaders.numpy.Loader`, with the same results; it sees what the transform gives, and `map_fn`
            sees what it gives. Functions are tried on some rows first, and run in several threads at once.
        on_corrupt: As in `loaders.numpy.Loader`.
        cache_dir: As in `loaders.numpy.Loader`.
        cache_bytes: As in `loaders.numpy.Loader`.
        in_memory: As in `loaders.load`; the rows are read when the loader is first iterated.

    Raises:
        ManifestError: If it is not a finished data set, or has no such split.
        TypeError: If a number is not an integer.
        ValueError: If an option's value is not allowed, `as_supervised` lacks an input or a label, or `split` means no
            rows.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        *,
        batch_size: int,
        shuffle: bool = True,
        seed: int = 0,
        epochs: int | None = 1,
        shard: ShardOptions = ShardOptions(),  # noqa: B008 - it is frozen
        streams: int = 1,
        drop_remainder: bool = False,
        remainder: Remainder = "keep",
        as_supervised: bool = False,
        map_fn: Callable[..., Any] | None = None,
        prefetch: int = AUTOTUNE,
        device: str | None = None,
        ragged: ragged.Form = "padded",
        transform: bool = True,
        features: Sequence[str] | None = None,
        augment: Sequence[Augmentation] = (),
        on_corrupt: OnCorrupt = "error",
        cache_dir: str | os.PathLike[str] | None = None,
        cache_bytes: int | None = None,
        in_memory: bool = False,
    ) -> None:
        self._options = Options(
            batch_size=operator.index(batch_size),
            shuffle=shuffle,
            seed=operator.index(seed) & hashing.MASK,
            epochs=None if epochs is None else operator.index(epochs),
            drop_remainder=drop_remainder,
            as_supervised=as_supervised,
            map_fn=map_fn,
            prefetch=prefetch,
            device=device,
            ragged=ragged,
            bucket_boundaries=None,
            bucket_by=None,
            transform=transform,
            features=features,
            in_memory=in_memory,
        )
        found = data_set.read(root)
        self._root, self._manifest = found.root, found.manifest
        self._view = splits.resolve(found.manifest, split)
        self._cursor = make_cursor(
            found.manifest,
            self._view,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            epochs=epochs,
            drop_remainder=drop_remainder,
            remainder=remainder,
            shard=shard,
            streams=streams,
        )
        remainder = self._cursor.deal.remainder
        self._augment, self._skipped = tuple(augment), damage.make(on_corrupt, remainder=remainder)
        self._cache = make_cache(cache_dir, cache_bytes)
        self._form = self._make_form()
        if remainder == "pad":
            _check_mask(found.manifest, self._options)
        self._salvage: Salvage | None = None
        self._built: tuple[tf.data.Dataset, tf.Variable] | None = None

    def iterate(self) -> Iterator[tuple[dict[str, Any], Any]]:
        """An iteration that yields states too.

        Returns:
            Pairs of the state after a batch, and the batch.
        """
        return self._run(*self._cursor.begin())

    def state_dict(self) -> dict[str, Any]:
        """Which rows are consumed: those of all batches that the last iterator of this loader has yielded.

        Batches that were made ahead, or copied to a device, do not count. Iterators of `dataset()` are not counted;
        `advance` tells what a loop over one has consumed.

        Returns:
            JSON values, under 1 KB, the same on every host. They hold no number of hosts and no batch size: both may
            be others when the state is loaded, and no row is lost or repeated.
        """
        return self._cursor.dump()

    def load_state_dict(self, value: Mapping[str, Any]) -> None:
        """Lets the next iteration, or the next iterator of `dataset()`, go on with the batch after the state.

        Args:
            value: What `state_dict` of this loader or of `loaders.numpy.Loader` gave, of this data set, split,
                shuffle, seed and streams.

        Raises:
            StateError: If it is of another data set or order; it is a `ValueError`.
        """
        self._cursor.load(value)
        self._point()

    def dataset(self) -> tf.data.Dataset:
        """The pipeline from where the loader is.

        Returns:
            A data set whose next iterator begins where the loader is, and each further one where the one made before
            it ends. A loader has one pipeline: to call this again, `load_state_dict` or `advance` sets where its next
            iterator begins. Its `cardinality()` is the length of a whole iteration, which a resumed one may be below.
        """
        dataset, _ = self._pipeline()
        self._point()
        return dataset

    def advance(self, batches: int, *, batch_size: int | None = None) -> None:
        """Counts batches as consumed that a loop took from `dataset()`.

        The next iterator begins after them. Iterators that go on are not touched.

        Args:
            batches: How many batches of this host.
            batch_size: The rows that they had; None for the loader's.

        Raises:
            ValueError: If `batches` is negative, or an epoch has no batch.
        """
        self._cursor.advance(operator.index(batches), batch_size=batch_size)
        self._point()

    def is_over(self) -> bool:
        """Whether the iteration in which the loader is has no batch left."""
        return self._cursor.over()

    def skip_iteration(self) -> None:
        """Goes to the first batch of the iteration after the one in which the loader is."""
        self._cursor.skip_iteration()
        self._point()

    def __getstate__(self) -> dict[str, Any]:
        # The copy goes on where this one is; a pipeline cannot be pickled.
        return self.__dict__ | {"_built": None, "_form": None, "_salvage": None, "_cursor": copy.copy(self._cursor)}

    def __setstate__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)
        self._form = self._make_form()

    def _make_form(self) -> Form:
        beside = [ROWS] * bool(self._augment) + [LOST] * (self._skipped is not None)
        return make_form(self._root, self._manifest, self._options, beside=beside)

    def _run(self, stretch: Stretch, iteration: object) -> Iterator[tuple[dict[str, Any], Any]]:
        if self._cursor.deal.advance(stretch.start, 0, end=stretch.end) is not None:
            dataset, variable = self._pipeline()
            resume.set_start(variable, stretch)
            for number, batch in enumerate(self._named(dataset)):
                position = after(self._cursor.deal, stretch.start, number)
                self._cursor.consume(position, iteration)
                yield state.dump(self._cursor.identity, position), batch
        self._cursor.close(stretch, iteration)

    def _named(self, dataset: tf.data.Dataset) -> Iterator[Any]:
        """The elements of the pipeline; where a shard cannot be read, the error of it and not TensorFlow's."""
        assert self._salvage is not None
        self._salvage.error = None
        try:
            yield from dataset
        except Exception:
            if self._salvage.error is not None:
                raise self._salvage.error from None
            raise

    def _point(self) -> None:
        if self._built is not None:
            resume.set_start(self._built[1], self._cursor.next())

    def _changes(self) -> Changes | None:
        if not self._augment:
            return None
        rows = sample(self._root, self._view, self._form, skips=self._skipped is not None)
        return Changes(self._augment, seed=self._options.seed, deal=self._cursor.deal, sample=rows)

    def _pipeline(self) -> tuple[tf.data.Dataset, tf.Variable]:
        if self._built is None:
            options, deal = self._options, self._cursor.deal
            self._salvage = Salvage(
                self._root,
                self._view,
                cache=self._cache,
                data_set=self._cursor.identity.fingerprint,
                skipped=self._skipped,
            )
            reader = resume.Resuming(
                root=self._root,
                view=self._view,
                form=self._form,
                salvage=self._salvage,
                in_memory=options.in_memory,
                deal=deal,
                seed=options.seed if options.shuffle else None,
            )
            variable = resume.start_variable()
            batches = resume.build(reader, variable, epochs=options.epochs, deal=deal, changes=self._changes())
            self._built = resume.counted(pipeline.deliver(batches, options), options.epochs, deal), variable
        return self._built


def _check_mask(manifest: Manifest, options: Options) -> None:
    features = manifest.transformed if options.transform and manifest.transformed is not None else manifest.features
    if any(feature.name == columns.MASK for feature in features):
        raise ValueError(f"{columns.MASK}: the mask of padded batches has this name; found a feature of it")
