"""The options that all loaders share, checked when they are given."""

from __future__ import annotations

import dataclasses
import inspect
import os
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, Required, TypedDict, TypeVar

from loaders.augment.augmentation import Augmentation
from loaders.order.epoch import REMAINDERS, Remainder, ShardOptions, Shuffle, as_integer
from loaders.order.row_filter import parse_filter
from loaders.reading.prefetch import AUTOTUNE
from loaders.storage.damaged_records import ON_CORRUPT, OnCorrupt

RaggedOutput = Literal["padded", "ragged"]
RAGGED_OUTPUTS: tuple[RaggedOutput, ...] = ("padded", "ragged")

F = TypeVar("F", bound=Callable[..., Any])


class Keywords(TypedDict, total=False):
    """`Options` as keywords, for type checkers."""

    batch_size: Required[int]
    shuffle: Shuffle
    seed: int
    epochs: int | None
    drop_remainder: bool
    remainder: Remainder
    shard: ShardOptions | None
    streams: int
    as_supervised: bool
    features: Sequence[str] | None
    where: str | None
    transform: bool
    augment: Sequence[Augmentation]
    prefetch: int
    on_corrupt: OnCorrupt
    cache_dir: str | os.PathLike[str] | None
    cache_bytes: int | None
    in_memory: bool


class TensorFlowKeywords(Keywords, total=False):
    """`TensorFlowOptions` as keywords, for type checkers."""

    map_fn: Callable[..., Any] | None
    device: str | None
    ragged: RaggedOutput
    bucket_boundaries: Sequence[int] | None
    bucket_by: str | None
    trust: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What a loader yields.

    Attributes:
        batch_size: The rows of a batch of all hosts together; a multiple of `streams`. No batch has rows of two epochs.
        shuffle: Whether each epoch has its own order; otherwise rows come as they are stored. True permutes chunks of a
            MiB, and rows within windows of 32 MiB. "global" makes of every epoch a permutation of all rows, which are
            read one by one: it costs time, and needs local shards, a `cache_dir`, or `in_memory`.
        seed: The seed of the order.
        epochs: How many epochs one iteration has; None has no end.
        drop_remainder: The short form of `remainder="drop"`.
        remainder: What becomes of an epoch's last rows where they do not fill a batch. "keep" yields them as a smaller
            batch, of one host alone: several might differ in whether they have it. "drop" leaves them out. "pad"
            fills the batch up with zeros, and every batch has `mask`, of bools of shape [batch], False for what was
            filled up; as_supervised has it last, where Keras takes it as the weights of the rows if there are no
            others. With "drop" and "pad" every host has as many batches, of one size.
        shard: Which host of how many this is. The hosts' batches, one after the other, are the batch that a single host
            has. None for a single host; loaders of arrays refuse it where `torch.distributed` or `jax.distributed` runs
            several processes, which would all have every row: `ShardOptions()` says that they are to.
        streams: Into how many streams an epoch is cut, a multiple of the number of hosts. A batch has as many rows of
            each. A state can be loaded with any number of hosts that divides it.
        as_supervised: Whether to yield `(inputs, labels)`, or `(inputs, labels, weights)` where a feature has the role
            of a weight, by the features' roles. Each is an array where one feature has the role, a dict of them where
            many have. An id is left out.
        features: The names of the features to yield; None for all. No other is read from a record.
        where: Which rows there are, as a build's filter says it: a feature of one value a row, which is then true or
            not 0, or a comparison, such as "label != 3" or "site == 'north'", with what the shards hold of the feature.
            The values of all rows are read when the loader is made, once a process, so the number of batches is
            known. The rows come in the order that a part of the split has which names them; a state has their digest.
        transform: Whether features that the shards hold as they are in the sources (`store: raw`) are transformed;
            otherwise they are yielded as they are, for `loaders.open(root).transform`.
        augment: Functions that change batches, one after the other, such as those of `loaders.augment`: each takes a
            dict of arrays and a `loaders.augment.Random` and returns a dict. They see no row that pads a batch.
            A pipeline of TensorFlow tries them on some rows first, and runs them in several threads at once.
        prefetch: How many batches to keep ready; `AUTOTUNE` (-1) lets the loader choose, 0 keeps none. No batch and no
            state depends on it.
        on_corrupt: What becomes of a record that is damaged, or whose shard is missing: "error" raises a `ShardError`;
            "skip" leaves its rows out, which `skipped` tells, and warns. It needs `remainder="pad"`: the rows are
            False in the batch's mask, and all others come in the batches in which they come anyway.
        cache_dir: A directory for copies of the shards, each of which is made when the shard is first read. Processes
            may share it.
        cache_bytes: How many bytes the copies may have; None for no limit. What does not fit is read where it is.
        in_memory: Whether all rows of the split are read when the loader is first iterated, and kept: for a split that
            fits the memory several times over, and is gone through often. The order is the same.

    Raises:
        TypeError: If a value is of another type; the message names the option.
        ValueError: If a value is not allowed.
    """

    batch_size: int
    shuffle: Shuffle = True
    seed: int = 0
    epochs: int | None = 1
    drop_remainder: bool = False
    remainder: Remainder = "keep"
    shard: ShardOptions | None = None
    streams: int = 1
    as_supervised: bool = False
    features: Sequence[str] | None = None
    where: str | None = None
    transform: bool = True
    augment: Sequence[Augmentation] = ()
    prefetch: int = AUTOTUNE
    on_corrupt: OnCorrupt = "error"
    cache_dir: str | os.PathLike[str] | None = None
    cache_bytes: int | None = None
    in_memory: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "seed", "streams", "prefetch"):
            self._set(name, as_integer(name, getattr(self, name)))
        for name in ("epochs", "cache_bytes"):
            if getattr(self, name) is not None:
                self._set(name, as_integer(name, getattr(self, name), "or None"))
        for name in ("drop_remainder", "as_supervised", "transform", "in_memory"):
            check_bool(name, getattr(self, name))
        if self.shuffle != "global":
            check_bool("shuffle", self.shuffle, "or 'global'")
        if self.where is not None:
            if not isinstance(self.where, str):
                raise TypeError(f"where is a row filter such as 'label != 3', or None; found {self.where!r}")
            try:
                parse_filter(self.where)
            except ValueError as error:
                raise ValueError(f"where is {error}") from error
        if self.shard is not None and not isinstance(self.shard, ShardOptions):
            raise TypeError(f"shard is a loaders.ShardOptions, or None; found {self.shard!r}")
        check_list("augment", self.augment, "functions", callable)
        if self.features is not None:
            check_list("features", self.features, "names of features", lambda name: isinstance(name, str), "or None")
        self._set("augment", tuple(self.augment))
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"epochs is at least 1, or None for ever; found {self.epochs}")
        if self.prefetch < AUTOTUNE:
            raise ValueError(f"prefetch is a number of batches, or AUTOTUNE (-1); found {self.prefetch}")
        check_choice("remainder", self.remainder, REMAINDERS)
        check_choice("on_corrupt", self.on_corrupt, ON_CORRUPT)
        if self.drop_remainder:
            if self.remainder == "pad":
                raise ValueError("remainder is 'keep' or 'drop' with drop_remainder; found 'pad'")
            self._set("remainder", "drop")
        if self.on_corrupt == "skip" and self.remainder != "pad":
            raise ValueError(
                "on_corrupt='skip' expects remainder='pad', whose mask tells which rows of a batch are there; found "
                f"remainder={self.remainder!r}"
            )
        if self.remainder == "keep" and self.shard is not None and self.shard.count > 1:
            raise ValueError(
                f"remainder is 'drop' or 'pad' where {self.shard.count} hosts share batches: with 'keep' one may have "
                "a batch that another one has not, and wait for it for ever; found 'keep'"
            )
        if self.cache_dir is not None and not (isinstance(self.cache_dir, (str, os.PathLike)) and str(self.cache_dir)):
            raise TypeError(f"cache_dir is a path, or None; found {self.cache_dir!r}")

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorFlowOptions(Options):
    """What a loader of tensors yields: the options of all loaders, and those that need TensorFlow.

    Attributes:
        map_fn: A function of a batch, called as `tf.data.Dataset.map` calls it, for several batches at once; it sees
            the mask.
        device: Where batches are put: a device's name, such as "/gpu:0"; "auto" for the first GPU, if there is one;
            None for the host's memory.
        ragged: What a feature whose rows differ in length becomes: "padded", a tensor of shape
            [batch, length, *inner shape], filled up with zeros to the longest row of the batch, and beside it
            `<name>_length`, the int64 lengths of shape [batch]; or "ragged", a `tf.RaggedTensor`.
        bucket_boundaries: Lengths in ascending order. A batch then has rows of one bucket only: those that are longer
            than the boundary before and at most as long as this one, to which they are padded; what is longer than
            all has a bucket of its own. A batch comes when its bucket is full, and at the end of an epoch what is left.
            Only a data set has buckets: what is in them has no place in a state.
        bucket_by: The feature whose lengths are meant, where several differ in length.
        trust: Whether the transform may do more than compute. It is a TensorFlow SavedModel, and so a program: one with
            operations that no step of npyflow has, such as those that write files, is refused unless the data set is
            trusted as a program is.
    """

    map_fn: Callable[..., Any] | None = None
    device: str | None = None
    ragged: RaggedOutput = "padded"
    bucket_boundaries: Sequence[int] | None = None
    bucket_by: str | None = None
    trust: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bool("trust", self.trust)
        check_choice("ragged", self.ragged, RAGGED_OUTPUTS)
        if self.bucket_boundaries is not None:
            check_list("bucket_boundaries", self.bucket_boundaries, "lengths", lambda _: True, "or None")
            found = (as_integer("bucket_boundaries: each", length) for length in self.bucket_boundaries)
            self._set("bucket_boundaries", tuple(found))
        if self.map_fn is not None and not callable(self.map_fn):
            raise TypeError(f"map_fn is a function, or None; found {self.map_fn!r}")
        if self.device is not None and not isinstance(self.device, str):
            raise TypeError(f"device is a name, or None; found {self.device!r}")


def check_shard(shard: ShardOptions | None) -> None:
    """Checks that none of several processes that train together has forgotten to say which one it is.

    Its share is not simply taken: hosts that share batches need `streams` and a `remainder`, and some processes do mean
    to have every row, such as those that share the layers of a model, or the one that evaluates it.

    Raises:
        ValueError: If `shard` is None, and PyTorch or JAX says that there are several processes.
    """
    if shard is not None:
        return
    found = {"torch": ShardOptions.from_torch}
    if "jax" in sys.modules and sys.modules["jax"].distributed.is_initialized():
        found["jax"] = ShardOptions.from_jax  # which would begin to use devices, were there no processes yet
    for name, ask in found.items():
        if name in sys.modules and (count := ask().count) > 1:
            raise ValueError(
                f"shard: expected which of the {count} processes of {name} this one is, or each has every row: "
                f"shard=ShardOptions.from_{name}(), with streams={count} or a multiple, and remainder='drop' or 'pad'. "
                "Where each is to have every row: shard=ShardOptions(). Found None"
            )


def check_list(name: str, values: Any, what: str, fits: Callable[[Any], Any], *others: str) -> None:
    """Raises a TypeError unless values are a collection, and no text, of what fits."""
    if isinstance(values, str) or not isinstance(values, Collection) or not all(map(fits, values)):
        raise TypeError(f"{' '.join([name, 'is a list of', what, *others])}; found {values!r}")


def check_bool(name: str, value: Any, *others: str) -> None:
    """Raises a TypeError unless a value is True or False."""
    if type(value).__name__ not in ("bool", "bool_"):
        raise TypeError(f"{' '.join([name, 'is True or False', *others])}; found {value!r}")


def check_choice(name: str, value: Any, allowed: Sequence[str]) -> None:
    """Raises a ValueError unless a value is allowed."""
    if value not in allowed:
        raise ValueError(f"{name} is one of {', '.join(allowed)}; found {value!r}")


def shows(options: type[Options]) -> Callable[[F], F]:
    """Lets `help` show the options that a function or a class takes as keywords, with their descriptions.

    They are written once, in `Options`. They take the place of the line of the docstring that refers to it.
    """

    def decorate(function: F) -> F:
        target: Any = vars(function)["__init__"] if isinstance(function, type) else function
        signature = inspect.signature(target)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        keywords = list(inspect.signature(options).parameters.values())
        target.__signature__ = signature.replace(parameters=[*own, *keywords])
        described = [_attributes(base) for base in reversed(options.__mro__) if base is not object]
        reference = f"    **options: The fields of `{options.__module__}.{options.__name__}`, as keywords.\n"
        function.__doc__ = inspect.cleandoc(function.__doc__ or "").replace(reference, "".join(described))
        return function

    return decorate


def _attributes(options: type) -> str:
    """The descriptions of attributes, as they stand in a class's docstring."""
    # From Python 3.13 on a docstring has no indentation; cleaned, it has none before either.
    lines = inspect.cleandoc(options.__doc__ or "").partition("\nAttributes:\n")[2].splitlines(keepends=True)
    end = next((number for number, line in enumerate(lines) if not line.startswith("    ")), len(lines))
    return "".join(lines[:end])
