"""How the columns of a batch become what a loader yields: roles, padded rows and masks. Pure NumPy."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format.decode import Columns
from loaders.format.spec import FeatureSpec

LENGTH_SUFFIX = "_length"
"""The end of the name under which a padded feature's lengths are in a batch."""

MOST_SHOWN = 60

MASK = "mask"
"""The name under which a padded batch tells which of its rows are there."""


class Arrangement:
    """Makes what a loader yields of a dict of a batch's features. It can be pickled.

    Args:
        features: All features of a batch.
        supervised: Whether to yield `(inputs, labels)`, or `(inputs, labels, weights)` where a feature has the role of
            a weight: each is an array where one feature has the role, and a dict where many have. Otherwise a batch
            stays a dict.
        lengths: Whether the lengths of ragged features are in a batch too; such a feature counts as two.

    Attributes:
        features: Those that are needed.

    Raises:
        ValueError: If an input or a label is asked for and there is none.
    """

    def __init__(self, features: Sequence[FeatureSpec], *, supervised: bool, lengths: bool = True) -> None:
        roles = ("input", "label", "weight") if supervised else ()
        self.features = tuple(f for f in features if f.role in roles or not supervised)
        self._groups: list[list[str]] = []
        for role in roles:
            own = [f for f in features if f.role == role]
            if own:
                beside = [[f.name, f.name + LENGTH_SUFFIX] if f.ragged and lengths else [f.name] for f in own]
                self._groups.append(list(itertools.chain(*beside)))
            elif role != "weight":
                found = ", ".join(f"{f.name} ({f.role})" for f in features)
                raise ValueError(f"as_supervised expects a feature with the role {role!r}; found {found}")

    def __call__(self, batch: Mapping[str, Any]) -> Any:
        """A batch as it is yielded."""
        if not self._groups:
            return batch
        return tuple(batch[names[0]] if len(names) == 1 else {n: batch[n] for n in names} for names in self._groups)


def with_mask(batch: Any, mask: Any) -> Any:
    """A batch as it is yielded with the mask of its rows, which comes last."""
    return batch | {MASK: mask} if isinstance(batch, dict) else (*batch, mask)


def decode(columns: Columns, features: Sequence[FeatureSpec]) -> Columns:
    """Decodes ragged features: the rest of a batch is as columns are.

    Returns:
        An array of shape [rows, *shape] for each feature's name. A ragged one is of shape [rows, length, *inner shape],
        filled up with zeros to the longest row, and `<name>_length` is beside it, int64 of shape [rows].
    """
    batch: Columns = {}
    for spec in features:
        values = columns[spec.name]
        if spec.ragged:
            batch[spec.name], batch[spec.name + LENGTH_SUFFIX] = padded(values, spec)
        else:
            batch[spec.name] = values
    return batch


def padded(rows: npt.NDArray[Any], spec: FeatureSpec) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Decodes rows of a ragged feature, the bytes of each, into one array that is filled up with zeros.

    Returns:
        The values, of shape [rows, length of the longest, *inner shape], and the lengths, int64 of shape [rows].
    """
    step = spec.step_bytes
    lengths = np.array([len(row) for row in rows], dtype=np.int64) // step
    longest = int(lengths.max(initial=0))
    values = np.zeros(len(rows) * longest * step, dtype=np.uint8)
    # A copy of each row takes a quarter of the time of one of all by a mask.
    room = values.data
    for begin, row in zip(range(0, len(values), max(1, longest * step)), rows, strict=False):
        room[begin : begin + len(row)] = row
    return values.view(spec.numpy_dtype).reshape(len(rows), longest, *spec.inner_shape), lengths


def check_names(features: Sequence[FeatureSpec], *, mask: bool) -> None:
    """Checks that no feature has the name of what a batch has beside it.

    Raises:
        ValueError: If one has.
    """
    beside = {
        feature.name + LENGTH_SUFFIX: f"the lengths of {feature.name} have" for feature in features if feature.ragged
    }
    if mask:
        beside[MASK] = "the mask of padded batches has"
    for feature in features:
        if feature.name in beside:
            raise ValueError(f"{feature.name}: {beside[feature.name]} this name in a batch; found a feature of it")


def choose(features: Sequence[FeatureSpec], names: Sequence[str] | None) -> tuple[FeatureSpec, ...]:
    """The features of some names; all where `names` is None.

    Raises:
        ValueError: If there is none of a name, or no name.
    """
    if names is None:
        return tuple(features)
    unknown = set(names) - {feature.name for feature in features}
    if unknown or not names:
        known = ", ".join(feature.name for feature in features)
        raise ValueError(f"features is a list of names of {known}; found {names!r}")
    return tuple(feature for feature in features if feature.name in names)


def concatenate_batches(batches: Sequence[Any], concatenate: Callable[[Sequence[Any]], Any]) -> Any:
    """Batches of the same features as one, with the rows of one after the other; `concatenate` makes one of arrays.

    Raises:
        ValueError: If they are not alike in everything but the number of rows.
    """
    first = batches[0]
    if len(batches) == 1:
        return first
    if isinstance(first, dict):
        if any(set(batch) != set(first) for batch in batches):
            found = "; ".join(", ".join(sorted(batch)) for batch in batches)
            raise ValueError(f"a mixture expects the same features of all loaders; found {found}")
        return {name: concatenate_batches([batch[name] for batch in batches], concatenate) for name in first}
    if isinstance(first, tuple):
        return tuple(concatenate_batches(parts, concatenate) for parts in zip(*batches, strict=True))
    if any((batch.dtype, batch.shape[1:]) != (first.dtype, first.shape[1:]) for batch in batches):
        found = "; ".join(f"{batch.dtype} of shape {list(batch.shape[1:])}" for batch in batches)
        raise ValueError(f"a mixture expects rows of one dtype and shape; found {found}")
    return concatenate(batches)


def show_shape(spec: FeatureSpec) -> str:
    """The shape of a row of a feature for people."""
    return " x ".join("any" if size is None else str(size) for size in spec.shape) or "one value"


def show_value(value: Any) -> str:
    """A value of a row for people: one value, or the shape and the first values of an array."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if np.ndim(value) == 0:
        text = f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value)
        return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 1]}…"
    flat = np.asarray(value).reshape(-1)
    shown = ", ".join(show_value(element) for element in flat[:3].tolist())
    return f"[{shown}{', …' if len(flat) > 3 else ''}] ({' x '.join(map(str, np.shape(value)))})"
