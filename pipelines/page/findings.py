"""What a person should know of the values: columns, distributions, classes, and what is strange about them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.maintain.validate import Thresholds, classes_apart, numbers_apart
from pipelines.page.facts import Facts, Feature, Rows, numbers_of
from pipelines.page.shapes import as_time
from pipelines.reading.batches import Ragged
from pipelines.statistics.drift import CHANCE, Classes, compare
from pipelines.statistics.summary import Statistics

F64 = npt.NDArray[np.float64]

BINS = 40
MOST_VALUES = 2**17
"""Values of a feature and split that a histogram is made of; of more, every n-th one."""

MOST_CLASSES = 4096
TAIL = 0.2
"""Per cent of the values on each side that may lie beyond the histogram, in the outer bins."""

FAR = 20.0
"""Deviations from the mean beyond which a value is far."""

MANY_MISSING = 0.3
RARE = 0.01
MOST_COLUMNS = 100
"""Columns of which correlations are shown."""

CONFIDENCE = 0.95
QUANTILES = (1, 5, 25, 50, 75, 95, 99)
MEASURED = {"drift": "mean, in deviations", "spread": "deviation, as a factor", "missing": "rate of missing values"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Histogram:
    """The distribution of values: per cent in each bin for each split, quantiles, and of how many rows they are."""

    edges: F64
    shares: Mapping[str, F64]
    quantiles: Mapping[str, F64]
    rows: Mapping[str, int]
    beyond: bool


def rows_before(feature: Feature, facts: Facts) -> Mapping[str, Rows]:
    """Rows before the transform by split: of training rows those that were drawn at random, where not all are here."""
    drawn = feature.drawn
    if not is_drawn(feature, facts) or drawn is None:
        return feature.raw
    values = drawn.values
    rows = values if drawn.lengths is None else Ragged(values=values[drawn.there], lengths=drawn.there.sum(axis=1))
    return {**feature.raw, facts.training: rows}


def is_drawn(feature: Feature, facts: Facts) -> bool:
    """Whether `rows_before` has training rows that were drawn at random."""
    return feature.drawn is not None and not (facts.whole and feature.raw)


def rank_error(rows: int) -> float:
    """By how much the share of values below a quantile of a random sample may be off, with a confidence of 95 %.

    For a sample of n rows it is sqrt(ln(2 / 0.05) / 2n): by the inequality of Dvoretzky, Kiefer and Wolfowitz for all
    quantiles of single values at once (Massart, "The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality", The
    Annals of Probability 18, 1990), and by that of Hoeffding (1963) for each quantile of rows of several values.
    """
    return min(math.sqrt(math.log(2 / (1 - CONFIDENCE)) / (2 * max(rows, 1))), 1.0)


def histogram_of(spec: Any, said: Mapping[str, Any], rows: Mapping[str, Rows]) -> Histogram | None:
    """The distribution of a feature's values, all elements together; None where there are no numbers."""
    values = {split: _some(numbers_of(spec, said, own)) for split, own in rows.items()}
    values = {split: own for split, own in values.items() if own.size}
    if not values:
        return None
    together = np.concatenate(list(values.values()))
    low, high = float(together.min()), float(together.max())
    whole = not spec.dtype.startswith("float")
    if whole and high - low < BINS:
        edges = np.arange(low - 0.5, high + 1)
    else:
        inner = np.percentile(together, (TAIL, 100 - TAIL))
        if inner[1] > inner[0] and (high - low) > 4 * (inner[1] - inner[0]):
            low, high = inner.tolist()
        if high <= low or not math.isfinite(high - low):
            low, high = low - 0.5, low + 0.5
        edges = np.linspace(low, high, BINS + 1)
    beyond = bool(together.min() < edges[0] or together.max() > edges[-1])
    shares = {}
    for split, own in values.items():
        counts, _ = np.histogram(np.clip(own, edges[0], edges[-1]), edges)
        shares[split] = 100 * counts / len(own)
    quantiles = {split: np.percentile(own, QUANTILES) for split, own in values.items()}
    known = {split: _rows_with_values(rows[split], numbers_of(spec, said, rows[split])) for split in values}
    return Histogram(edges=edges, shares=shares, quantiles=quantiles, rows=known, beyond=beyond)


def _rows_with_values(rows: Rows, values: npt.NDArray[Any]) -> int:
    if isinstance(rows, Ragged):
        return int(np.count_nonzero(rows.lengths))
    return int(np.isfinite(values).any(axis=1).sum())


def _some(values: npt.NDArray[Any]) -> F64:
    """Finite values of `[rows, elements]`: every n-th one, in no step with the elements."""
    flat = values.reshape(-1)
    step = max(-(-flat.size // MOST_VALUES), 1)
    while math.gcd(step, values.shape[1]) > 1 and step > 1:
        step += 1
    some: F64 = flat[::step].astype(np.float64)
    return some[np.isfinite(some)]


def missing_by_column(feature: Feature, training: str) -> F64:
    """The share of missing values of each column, `[columns]`: exact, or else of the sample of training rows."""
    statistics = statistics_of(feature, training)
    if statistics is None:
        return np.zeros(0)
    total = np.maximum(statistics.count + statistics.missing, 1)
    return np.atleast_1d(statistics.missing / total).reshape(-1).astype(np.float64)


def statistics_of(feature: Feature, training: str) -> Statistics | None:
    """The exact statistics of the training rows, or else those of the sample."""
    return feature.statistics if feature.statistics is not None else feature.estimates.get(training)


def missing_by_place(feature: Feature, buckets: int = 32) -> F64:
    """The share of missing values along the sources, `[buckets]`, NaN where no row was sampled; empty where unknown."""
    sums, counts = np.zeros(buckets), np.zeros(buckets)
    for split, places in feature.places.items():
        rows = feature.raw.get(split)
        if rows is None or isinstance(rows, Ragged):
            return np.zeros(0)
        values = numbers_of(feature.spec, feature.said, rows)
        if len(values) != len(places) or values.dtype.kind != "f":
            return np.zeros(0)
        own = np.minimum((places * buckets).astype(int), buckets - 1)
        sums += np.bincount(own, np.isnan(values).mean(axis=1), buckets)
        counts += np.bincount(own, minlength=buckets)
    if not sums.any():
        return np.zeros(0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def is_categorical(feature: Feature) -> bool:
    """Whether a row has one value that stands for a class: text, or a label or class of integers."""
    spec = feature.spec
    if spec.shape != () or spec.role in ("id", "weight"):
        return False
    return spec.dtype in ("string", "bool") or (spec.dtype.startswith(("int", "uint")) and spec.role == "label")


def classes_of(feature: Feature, split: str, *, training: str) -> Classes | None:
    """The distinct values, text as bytes, and how often each occurs; of training rows exact, if they were counted."""
    if split == training and feature.classes is not None:
        values, counts = feature.classes
    elif split in feature.rows and not isinstance(feature.rows[split], Ragged):
        rows = np.asarray(feature.rows[split])
        if rows.dtype.kind == "f":
            return None
        values, counts = np.unique(rows.astype(np.bytes_) if rows.dtype == object else rows, return_counts=True)
    else:
        return None
    return np.strings.encode(values, "utf-8") if values.dtype.kind == "U" else values, counts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counts:
    """How often values occur, the most frequent first: per cent by split, and their number in all."""

    names: tuple[str, ...]
    shares: Mapping[str, F64]
    distinct: int


def counts_of(feature: Feature, training: str, *, most: int) -> Counts | None:
    """The most frequent values: of the training rows exact, where they were counted; else of the sample."""
    if feature.spec.shape != () or feature.spec.dtype.startswith("complex"):
        return None
    found = {split: own for split in feature.rows if (own := classes_of(feature, split, training=training)) is not None}
    found = {split: own for split, own in found.items() if len(own[0])}
    if not found:
        return None
    every = sorted({value for values, _ in found.values() for value in values.tolist()})[:MOST_CLASSES]
    places = {value: number for number, value in enumerate(every)}
    shares = {}
    for split, (values, counts) in found.items():
        placed = np.zeros(len(every))
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            if value in places:
                placed[places[value]] = count
        shares[split] = 100 * placed / max(placed.sum(), 1)
    first = shares.get(training, next(iter(shares.values())))
    order = np.argsort(-first, kind="stable")[:most]
    if len(every) <= most and is_categorical(feature):  # all of them, as they are numbered or spelt
        order = np.arange(len(every))
    names = tuple(_class_name(feature, every[number]) for number in order)
    return Counts(names=names, shares={split: own[order] for split, own in shares.items()}, distinct=len(every))


def _class_name(feature: Feature, value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    names = feature.spec.class_names
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return as_time(value, feature.spec.unit) or str(value)


def warnings_of(feature: Feature, facts: Facts) -> list[str]:
    """What is strange about a feature."""
    said, training = [], facts.training
    of = "the training rows" if feature.statistics is not None else "the sample"
    statistics = statistics_of(feature, training)
    if statistics is not None and statistics.count.size:
        missing = missing_by_column(feature, training)
        constant = np.ravel((statistics.count > 0) & (statistics.min == statistics.max))
        columns = missing.size
        for count, what in (
            (int((missing == 1).sum()), "no value at all"),
            (
                int(((missing > MANY_MISSING) & (missing < 1)).sum()),
                f"more than {100 * MANY_MISSING:.0f} % missing values",
            ),
            (int(constant.sum()), "one value only"),
        ):
            if count:
                said.append(f"{what} in {of}" if columns == 1 else f"{what} in {of}: {count:,} of {columns:,} columns")
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            furthest = np.fmax(statistics.max - statistics.mean, statistics.mean - statistics.min) / statistics.std
        far = float(np.nanmax(np.where(np.isfinite(furthest), furthest, 0.0), initial=0.0))
        if far > FAR:
            said.append(f"a value that is {far:,.0f} standard deviations from the mean in {of}")
    for split, rows in feature.rows.items():
        values = numbers_of(feature.spec, {}, rows)
        if values.dtype.kind == "f" and np.isinf(values).any():
            said.append(f"infinite values in the sample of {split}")
    if is_categorical(feature) and feature.spec.role == "label":
        said += _of_classes(feature, training)
    return [*said, *_between_splits(feature, training)]


def _of_classes(feature: Feature, training: str) -> list[str]:
    counts = counts_of(feature, training, most=MOST_CLASSES)
    if counts is None or training not in counts.shares or counts.distinct < 2:
        return []
    shares = counts.shares[training] / 100
    rare = [name for name, share in zip(counts.names, shares, strict=True) if 0 < share < RARE / counts.distinct * 2]
    return [f"rare classes: {', '.join(rare[:5])}{', …' if len(rare) > 5 else ''}"] if rare else []


def _between_splits(feature: Feature, training: str) -> list[str]:
    """How far the samples of other splits are from that of the training split, more than by chance."""
    reference, limits, said = feature.estimates.get(training), Thresholds(), list[str]()
    if reference is None or is_categorical(feature) or feature.spec.role == "id":
        return []
    if feature.spec.ragged or reference.count.size < feature.spec.row_elements:
        return []  # values of one row are not independent, so chance is not known
    for split in feature.raw:
        found = None if split == training else feature.estimates.get(split)
        if found is None or found.count.shape != reference.count.shape:
            continue
        drift = compare(reference, found, errors=CHANCE)
        if drift.shift > limits.drift:
            said.append(f"{split} differs from {training}: a mean by {drift.shift:.2f} deviations, beyond chance")
        if drift.missing > limits.missing:
            said.append(
                f"{split} differs from {training}: {100 * drift.missing:.0f} % more or fewer values are missing"
            )
    return said


def duplicates_of(facts: Facts) -> list[tuple[str, str]]:
    """Pairs of columns that are equal in all rows of the sample, and are not constant; each with the first of them."""
    first: dict[bytes, str] = {}
    found = []
    for name, column in _columns(facts, most=4096):
        if np.isnan(column).all() or np.nanmin(column) == np.nanmax(column):
            continue
        key = column.tobytes()
        if key in first:
            found.append((first[key], name))
        first.setdefault(key, name)
    return found


def _columns(facts: Facts, *, most: int) -> list[tuple[str, F64]]:
    """The columns of numbers of the training sample, each with a name; of all features whose rows are vectors."""
    found: list[tuple[str, F64]] = []
    aligned = facts.aligned
    for name, feature in facts.features.items():
        if name not in aligned:
            continue
        rows, spec = feature.rows.get(facts.training), feature.spec
        dense = isinstance(rows, np.ndarray) and len(spec.shape) <= 1 and spec.dtype != "string"
        if rows is None or not dense or spec.role == "id" or spec.dtype.startswith("complex"):
            continue
        values = numbers_of(spec, feature.said, rows).astype(np.float64)
        width = values.shape[1]
        if len(found) + width > most:
            return found
        found += [(name if width == 1 and spec.shape == () else f"{name}[{n}]", values[:, n]) for n in range(width)]
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Correlations:
    """Pearson's correlations of columns in the training sample, `[columns, columns]`, NaN where there is none."""

    names: tuple[str, ...]
    matrix: F64

    def strongest(self, most: int) -> list[tuple[str, str, float]]:
        """The pairs of columns that are correlated most."""
        upper = np.triu(np.nan_to_num(np.abs(self.matrix)), 1)
        order = np.argsort(-upper, axis=None, kind="stable")[:most]
        pairs = (divmod(int(place), len(self.names)) for place in order)
        return [(self.names[a], self.names[b], float(self.matrix[a, b])) for a, b in pairs if upper[a, b] > 0]


def correlations_of(facts: Facts) -> Correlations | None:
    """The correlations of the columns, where there are at least two and at most `MOST_COLUMNS`."""
    columns = _columns(facts, most=MOST_COLUMNS + 1)
    if not 2 <= len(columns) <= MOST_COLUMNS or len({len(column) for _, column in columns}) > 1:
        return None
    values = np.stack([column for _, column in columns], axis=1)
    if len(values) < 3:
        return None
    values = np.where(np.isfinite(values), values, np.nan)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        known = ~np.isnan(values)
        means = np.nansum(values, axis=0) / np.maximum(known.sum(axis=0), 1)
        centred = np.where(known, values - means, 0.0)
        scale = np.sqrt((centred**2).sum(axis=0))
        matrix = (centred.T @ centred) / np.outer(scale, scale)
    return Correlations(names=tuple(name for name, _ in columns), matrix=np.clip(matrix, -1, 1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drifted:
    """How far a feature of the training rows is from that of another data set, and whether that is much."""

    feature: str
    what: str
    value: float | None
    much: bool
    detail: str = ""


def drift_of(facts: Facts, other: Facts) -> list[Drifted]:
    """Every feature against that of another data set, the reference, by the thresholds of `npyflow validate`."""
    found, limits = [], Thresholds()
    for name in sorted({*facts.features, *other.features}):
        if name not in facts.features or name not in other.features:
            there = "only in the other" if name in other.features else "not in the other"
            found.append(Drifted(feature=name, what=there, value=None, much=True))
            continue
        mine, reference = facts.features[name], other.features[name]
        for what in ("dtype", "shape", "unit"):
            old, new = getattr(reference.spec, what), getattr(mine.spec, what)
            if old != new:
                found.append(Drifted(feature=name, what=what, value=None, much=True, detail=f"{old} → {new}"))
        old_classes = classes_of(reference, other.training, training=other.training)
        new_classes = classes_of(mine, facts.training, training=facts.training)
        if is_categorical(mine) and is_categorical(reference) and old_classes and new_classes:
            apart, unknown = classes_apart(old_classes, new_classes)
            much = any(sure > getattr(limits, kind) for kind, (_, sure) in apart.items())
            new, value = f"{len(unknown):,} new classes" if len(unknown) else "", apart["class_drift"][0]
            found.append(Drifted(feature=name, what="share of a class", value=value, much=much, detail=new))
            continue
        old_numbers, numbers = statistics_of(reference, other.training), statistics_of(mine, facts.training)
        if old_numbers is None or numbers is None or old_numbers.count.shape != numbers.count.shape:
            continue
        for kind, (value, sure) in numbers_apart(old_numbers, numbers).items():
            found.append(Drifted(feature=name, what=MEASURED[kind], value=value, much=sure > getattr(limits, kind)))
    return found
