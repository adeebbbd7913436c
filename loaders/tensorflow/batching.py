"""How the rows of a data set become the batches that are asked for, as TensorFlow operations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from loaders.format.manifest import Manifest
from loaders.format.names import INDICATOR_SUFFIX
from loaders.format.spec import FeatureSpec
from loaders.options import RaggedOutput, TensorFlowOptions
from loaders.reading import columns
from loaders.tensorflow import ragged
from loaders.tensorflow.ragged import Tensors
from loaders.transform.saved_model import Transform

ROWS, LOST = "\0rows", "\0lost"
"""The columns of a block that are no features: the rows' numbers, and which could not be read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assembly:
    """How rows become elements.

    Attributes:
        features: The features to read.
        beside: Which of `ROWS` and `LOST` are in a block beside them.
        arrange: A function of each block, as it is read.
        finish: A function of each batch, or None.
        present: A function of each batch after all others, or None.
        buckets: Which rows may be in one batch, or None for all.
    """

    features: tuple[FeatureSpec, ...]
    beside: tuple[str, ...] = ()
    arrange: Callable[[Tensors], Any]
    finish: Callable[[Tensors], Any] | None
    present: Callable[[Tensors], Any] | None = None
    buckets: ragged.Buckets | None


def make_assembly(root: str, manifest: Manifest, options: TensorFlowOptions, *, beside: Sequence[str] = ()) -> Assembly:
    """How the rows of a data set become the batches that are asked for.

    Args:
        root: Where the data set is.
        manifest: What it holds.
        options: What a batch has.
        beside: Which of `ROWS` and `LOST` blocks have too. A batch is then a dict until `present`.

    Raises:
        ValueError: If the features do not fit the options.
    """
    features = manifest.features
    buckets = ragged.make_buckets(features, options.bucket_boundaries, by=options.bucket_by)
    transform = None
    if options.transform and manifest.transformed is not None:
        transform = Transform(root, manifest, trust=options.trust)
    yielded = columns.choose(features if transform is None else transform.features, options.features)
    lengths = {feature.name for feature in yielded if feature.ragged and options.ragged == "padded"}
    for feature in yielded:
        if feature.name.removesuffix(columns.LENGTH_SUFFIX) in lengths - {feature.name}:
            raise ValueError(
                f"{feature.name}: the lengths of a padded feature have this name; ragged='ragged' has none"
            )
    needed, arrange = arranger(yielded, as_supervised=options.as_supervised, lengths=lengths)
    if transform is None and not any(feature.ragged for feature in needed) and buckets is None and not beside:
        return Assembly(features=needed, arrange=arrange, finish=None, buckets=None)
    names = {feature.name for feature in needed}
    if transform is not None:
        transform = transform.only(names)
        names |= transform.inputs
    if buckets:
        names.add(buckets.feature.name)
    read = tuple(feature for feature in features if feature.name in names)
    wanted = {feature.name for feature in needed} | {name + columns.LENGTH_SUFFIX for name in lengths}

    def chosen(block: Tensors) -> Tensors:
        batch = _decode(block, read, options.ragged, buckets)
        batch = transform(batch) if transform else batch
        return {name: batch[name] for name in batch if name in wanted}

    def as_it_is(block: Tensors) -> Tensors:
        return block

    if beside:
        return Assembly(
            features=read, beside=tuple(beside), arrange=as_it_is, finish=chosen, present=arrange, buckets=buckets
        )
    return Assembly(features=read, arrange=as_it_is, finish=lambda block: arrange(chosen(block)), buckets=buckets)


def _decode(
    block: Mapping[str, Any],
    features: Sequence[FeatureSpec],
    assembly: RaggedOutput,
    buckets: ragged.Buckets | None,
) -> Tensors:
    """A batch of a block: ragged features decoded."""
    batch: Tensors = {}
    for feature in features:
        values = block[feature.name]
        if not feature.ragged:
            batch[feature.name] = values
        elif assembly == "ragged":
            batch[feature.name] = ragged.decode_ragged(values, feature)
        else:
            # An indicator has the shape of what it tells of.
            same = buckets is not None and feature.name.removesuffix(INDICATOR_SUFFIX) == buckets.feature.name
            boundaries = buckets.boundaries if buckets and (same or buckets.feature == feature) else ()
            batch |= ragged.decode_padded(values, feature, boundaries=boundaries)
    return batch


def arranger(
    features: Sequence[FeatureSpec], *, as_supervised: bool, lengths: Iterable[str] = ()
) -> tuple[tuple[FeatureSpec, ...], Callable[..., Any]]:
    """How the features of a row become an element of the data set.

    Args:
        features: All features of a batch.
        as_supervised: Whether elements are `(inputs, labels)`, or `(inputs, labels, weights)` where a feature has the
            role of a weight; each is a tensor where one feature has that role, and a dict where many have. Otherwise
            an element is a dict of all features.
        lengths: The features whose lengths are in a batch too; they count as two.

    Returns:
        The features that an element needs, and a function from a dict of their tensors to the element.

    Raises:
        ValueError: If an input or a label is asked for and there is none.
    """
    if not as_supervised:
        return tuple(features), lambda tensors: tensors
    names, arrange = columns.roles(features, lengths=lengths)
    return tuple(f for f in features if f.name in names), arrange
