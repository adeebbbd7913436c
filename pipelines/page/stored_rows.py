"""Rows that a data set has stored, what a loader makes of them, and the exact quantiles that steps have learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.format.manifest import Manifest, ManifestError, Shard
from loaders.format.names import FITTED, TRANSFORM_MOMENTS
from loaders.reading.columns import LENGTH_SUFFIX
from loaders.transform.forward import Forward, of_data_set
from pipelines.output.directory import read_listed
from pipelines.reading.batches import Columns, Ragged, take, with_values
from pipelines.reading.shard_reader import read_shard, to_ragged
from pipelines.statistics.summary import Statistics
from pipelines.steps.methods import parse_impute, parse_normalize
from pipelines.steps.step import Step
from pipelines.storage.npz_bytes import load_arrays

ROWS = 2048
BYTES = 4 * 2**20
SHARDS = 8

CUBIC_ELEMENTS = 64
"""Elements of a row up to which a step that solves a system for each row of the sample costs next to nothing."""

F64 = npt.NDArray[np.float64]
Fitted = Mapping[str, npt.NDArray[Any]]


def sample_shards(root: str, manifest: Manifest, split: str, *, rows: int = ROWS) -> Columns:
    """Some rows of a split: at most `rows`, and about `BYTES`, from at most `SHARDS` shards.

    Each feature of the shards is `[rows, *shape]`; `Ragged` where rows have lengths of their own, and strings as an
    array of bytes objects. Errors are those of `read_shard`.
    """
    shards = [shard for shard in manifest.shards(split) if shard.rows]
    total = sum(shard.rows for shard in shards)
    if not total:
        return {}
    row_bytes = max(sum(shard.bytes for shard in shards) // total, 1)
    wanted = max(min(rows, BYTES // row_bytes), 1)
    chosen = [shards[number] for number in sorted({place * len(shards) // SHARDS for place in range(SHARDS)})]
    per_shard = -(-wanted // len(chosen))
    pieces = [_first_rows(root, manifest, shard, min(per_shard, shard.rows)) for shard in chosen]
    found = {spec.name: np.concatenate([piece[spec.name] for piece in pieces]) for spec in manifest.features}
    ragged = {spec.name: to_ragged(spec, found[spec.name]) for spec in manifest.features if spec.ragged}
    return take({**found, **ragged}, slice(wanted))


def _first_rows(root: str, manifest: Manifest, shard: Shard, rows: int) -> Columns:
    pieces = list(read_shard(root, manifest, shard, rows=rows))
    return {name: np.concatenate([piece[name] for piece in pieces])[:rows] for name in pieces[0]}


def transformed(root: str, manifest: Manifest, stored: Mapping[str, Columns]) -> dict[str, Columns]:
    """What a loader makes of stored rows of each split, of the features that the shards hold as the sources do.

    Only features that a loader changes are there; none where the transform is a function of the user's own.
    """
    if manifest.transformed is None:
        return {}
    try:
        forward = of_data_set(root, manifest, as_stored=True)
    except ManifestError:
        return {}
    held = {spec.name for spec in manifest.features}
    names = [spec.name for spec in manifest.transformed if _changes(manifest, spec.name, held)]
    found: dict[str, Columns] = {}
    for split, columns in stored.items():
        made = {name: _made(forward.only({name}), name, columns) for name in names} if columns else {}
        found[split] = {name: column for name, column in made.items() if column is not None}
    return found


def _changes(manifest: Manifest, name: str, held: set[str]) -> bool:
    """Whether a loader makes a feature of what is stored, at a cost that a page may have."""
    said = manifest.config["features"].get(name)
    if said is None:  # an indicator of missing values
        return name not in held
    if said.get("store") != "raw" or is_untouched(said):
        return False
    elements = next((spec.row_elements for spec in manifest.features if spec.name == name), 0)
    return elements <= CUBIC_ELEMENTS or not any(step.cubic for step in _steps(said).values())


def is_untouched(said: Mapping[str, Any]) -> bool:
    """Whether a feature's configuration leaves it as it is."""
    return said.get("impute") == "none" and said.get("normalize") in ("none", [])


def _made(forward: Forward, name: str, columns: Columns) -> npt.NDArray[Any] | Ragged | None:
    """One feature of a batch; None where its rows have lengths and groups, or what it is made of is not stored."""
    if any(needed not in columns for needed in forward.inputs):
        return None
    batch = {needed: columns[needed] for needed in forward.inputs}
    source = next(iter(batch)) if name not in batch else name
    rows = batch[source]
    if not isinstance(rows, Ragged):
        made: npt.NDArray[Any] = forward(batch)[name]
        return made
    if len(batch) > 1:
        return None
    # What is done to a step does not depend on its row, so all of them can be one.
    as_one_row = {source: rows.values[np.newaxis], source + LENGTH_SUFFIX: np.array([len(rows.values)])}
    return with_values(rows, forward(as_one_row)[name][0])


def fitted(root: str, manifest: Manifest) -> Fitted:
    """The constants of the transform; none where rows that it was not learned from are among the training rows."""
    if manifest.lists(TRANSFORM_MOMENTS):
        return {}
    data = read_listed(root, manifest, FITTED)
    return {} if data is None else load_arrays(data)


def exact_quantiles(name: str, said: Mapping[str, Any], constants: Fitted, statistics: Statistics) -> dict[float, F64]:
    """The quantiles of the training rows that steps have learned, before the transform, by per cent of the values.

    Only what a first step has learned is of the values as they are, and of a normalisation only where none was missing.
    Arrays have the shape of the statistics of the feature, of which `said` is the configuration.
    """
    if said.get("by") is not None:
        return {}
    steps, found = _steps(said), dict[float, npt.NDArray[Any]]()
    for place in ("impute",) if statistics.missing.any() else ("impute", "0"):
        step, start = steps.get(place), f"{name}/{place}/"
        own = {key.removeprefix(start): array for key, array in constants.items() if key.startswith(start)}
        if step is not None and own:
            found |= step.exact_quantiles(own)
    shape = statistics.count.shape
    return {at: values.reshape(shape) for at, values in sorted(found.items()) if values.size == statistics.count.size}


def _steps(said: Mapping[str, Any]) -> dict[str, Step]:
    """The steps that a configuration says, by the place of their constants."""
    normalize = {str(number): step for number, step in enumerate(parse_normalize(said.get("normalize")) or ())}
    steps = {"impute": parse_impute(said.get("impute")), **normalize}
    return {place: step for place, step in steps.items() if isinstance(step, Step)}
