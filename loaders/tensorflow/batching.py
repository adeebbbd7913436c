"""How the rows of a data set become the batches that are asked for, as TensorFlow operations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
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
        decode: A function of each batch, or None where nothing is to be decoded, transformed or left out.
        arrange: A function of each batch after all others.
        buckets: Which rows may be in one batch, or None for all.
    """

    features: tuple[FeatureSpec, ...]
    beside: tuple[str, ...]
    decode: Callable[[Tensors], Tensors] | None
    arrange: Callable[[Tensors], Any]
    buckets: ragged.Buckets | None


def make_assembly(root: str, manifest: Manifest, options: TensorFlowOptions, *, beside: Sequence[str] = ()) -> Assembly:
    """How the rows of a data set become the batches that are asked for; blocks have what is `beside` too.

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
    arrange = columns.Arrangement(yielded, supervised=options.as_supervised, lengths=bool(lengths))
    needed = arrange.features
    if transform is None and not any(feature.ragged for feature in needed) and buckets is None and not beside:
        return Assembly(features=needed, beside=(), decode=None, arrange=arrange, buckets=None)
    names = {feature.name for feature in needed}
    if transform is not None:
        transform = transform.only(names)
        names |= transform.inputs
    if buckets:
        names.add(buckets.feature.name)
    read = tuple(feature for feature in features if feature.name in names)
    wanted = {feature.name for feature in needed} | {name + columns.LENGTH_SUFFIX for name in lengths}

    def decode(block: Tensors) -> Tensors:
        batch = _decode(block, read, options.ragged, buckets)
        batch = transform(batch) if transform else batch
        return {name: batch[name] for name in batch if name in wanted}

    return Assembly(features=read, beside=tuple(beside), decode=decode, arrange=arrange, buckets=buckets)


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
