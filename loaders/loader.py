"""`loaders.Loader`: batches of tensors in the order of `loaders.load`, with a state that says what was consumed."""

from __future__ import annotations

import copy
import operator
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from loaders import AUTOTUNE, elements, info, order, ragged, resume, state, views
from loaders import dataset as pipeline
from loaders.cursor import Cursor, Stretch, after
from loaders.manifest import Manifest
from loaders.streams import Deal, Remainder, ShardOptions

if TYPE_CHECKING:
    import tensorflow as tf


class Loader:
    """Yields every row of a split once an epoch, as batches of tensors, and remembers where it is.

    The order is a function of the data set, the seed, the number of the epoch and `streams`, and of nothing else; it is
    that of `loaders.numpy.Loader`, and each loads the other's state. With one stream it is that of `loaders.load` too.
    A loader that is iterated again goes on with the next epochs, and one that was left counts as if it had ended; after
    `load_state_dict` it goes on at the state. What was consumed is not read again.

    Args:
        root: The directory of a finished build, in any file system that TensorFlow reads.
        split: The name of a split.
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

    Raises:
        ManifestError: If it is not a finished data set, or has no such split.
        TypeError: If a number is not an integer.
        ValueError: If an option's value is not allowed, `as_supervised` lacks an input or a label, or `split` is a part
            of a split, which `loaders.numpy.Loader` reads.
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
    ) -> None:
        if drop_remainder and remainder == "pad":
            raise ValueError("remainder is 'keep' or 'drop' with drop_remainder; found 'pad'")
        remainder = "drop" if drop_remainder else remainder
        self._options = pipeline.Options(
            batch_size=operator.index(batch_size),
            shuffle=shuffle,
            seed=operator.index(seed) & order.MASK,
            epochs=None if epochs is None else operator.index(epochs),
            drop_remainder=remainder == "drop",
            as_supervised=as_supervised,
            map_fn=map_fn,
            prefetch=prefetch,
            device=device,
            ragged=ragged,
            bucket_boundaries=None,
            bucket_by=None,
            transform=transform,
        )
        found = info.read(root)
        self._root, self._manifest, self._split = found.root, found.manifest, _whole(found.root, found.manifest, split)
        deal = Deal(
            rows=found.manifest.rows(split),
            batch_size=self._options.batch_size,
            streams=operator.index(streams),
            shard=shard,
            remainder=remainder,
        )
        identity = state.Identity(
            fingerprint=state.fingerprint(found.manifest),
            split=split,
            shuffle=shuffle,
            seed=self._options.seed if shuffle else 0,
            streams=deal.streams,
        )
        self._cursor = Cursor(deal, identity, self._options.epochs)
        self._form = pipeline.make_form(found.root, found.manifest, self._options)
        if remainder == "pad":
            _check_mask(found.manifest, self._options)
        self._built: tuple[tf.data.Dataset, tf.Variable] | None = None

    def __iter__(self) -> Iterator[Any]:
        return self._run(*self._cursor.begin())

    def __len__(self) -> int:
        """How many batches one iteration has.

        Raises:
            TypeError: If it has no end.
        """
        if self._options.epochs is None:
            raise TypeError("a loader with epochs=None has no length")
        return self._options.epochs * self._cursor.deal.batches()

    @property
    def epoch(self) -> int:
        """How many epochs are over: the number of the one that goes on, or that is next."""
        return self._cursor.position.epoch

    @property
    def epochs(self) -> int | None:
        """How many epochs an iteration has; None if it has no end."""
        return self._options.epochs

    @property
    def batch_size(self) -> int:
        """The rows of a batch of all hosts together."""
        return self._options.batch_size

    @property
    def shard(self) -> ShardOptions:
        """Which host of how many this is."""
        return self._cursor.deal.shard

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
        return self.__dict__ | {"_built": None, "_form": None, "_cursor": copy.copy(self._cursor)}

    def __setstate__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)
        self._form = pipeline.make_form(self._root, self._manifest, self._options)

    def _run(self, stretch: Stretch, iteration: object) -> Iterator[Any]:
        if self._cursor.deal.advance(stretch.start, 0, end=stretch.end) is not None:
            dataset, variable = self._pipeline()
            resume.set_start(variable, stretch)
            for number, batch in enumerate(dataset):
                self._cursor.consume(after(self._cursor.deal, stretch.start, number), iteration)
                yield batch
        self._cursor.close(stretch, iteration)

    def _point(self) -> None:
        if self._built is not None:
            resume.set_start(self._built[1], self._cursor.next())

    def _pipeline(self) -> tuple[tf.data.Dataset, tf.Variable]:
        if self._built is None:
            options, deal = self._options, self._cursor.deal
            reader = resume.Resuming(
                root=self._root,
                manifest=self._manifest,
                split=self._split,
                form=self._form,
                deal=deal,
                seed=options.seed if options.shuffle else None,
            )
            variable = resume.start_variable()
            batches = resume.build(reader, variable, epochs=options.epochs, deal=deal)
            self._built = resume.counted(pipeline.deliver(batches, options), options.epochs, deal), variable
        return self._built


def _whole(root: str, manifest: Manifest, split: str) -> str:
    """The name of a split, if that is what `split` is."""
    if split not in manifest.splits:
        view = views.resolve(manifest, split)  # tells what is wrong with one that means nothing
        raise ValueError(
            f"{root}: expected the name of a split, one of {', '.join(manifest.splits)}; found {view.name!r}, a part "
            "of one or several, which loaders.numpy.Loader reads"
        )
    return split


def _check_mask(manifest: Manifest, options: pipeline.Options) -> None:
    features = manifest.transformed if options.transform and manifest.transformed is not None else manifest.features
    if any(feature.name == elements.MASK for feature in features):
        raise ValueError(f"{elements.MASK}: the mask of padded batches has this name; found a feature of it")
