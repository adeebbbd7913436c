"""The page: facts and findings as one file of HTML, with nothing to load and no script."""

from __future__ import annotations

import base64
import functools
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
import yaml

from loaders.reading.columns import show_shape
from loaders.version import VERSION
from pipelines.page import findings, plots, shapes
from pipelines.page.facts import MIXED_ROWS, Facts, Feature, Rows
from pipelines.publish.statistics import pool_mean_and_std
from pipelines.results import show_bytes
from pipelines.statistics.notable import notable, strangeness
from pipelines.statistics.summary import Statistics

DETAILED = (16, 16, 8)
"""Of more features than this in all, details are shown of the first, the strangest and the last ones."""

LISTED = 2000
"""Features that the overview lists."""

CONFIGURED = 100
"""Features whose configuration is shown: that of more is long to read and to write."""

SAMPLE_ROWS, SAMPLE_FEATURES = 10, 8
THUMBNAIL = 96
SHOWN_CLASSES, FREQUENT = 20, 12
PAIRS = 15

Figure = dict[str, Any]


@functools.cache
def _templates() -> jinja2.Environment:
    """The templates, each of which is compiled once a process."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"number": _number, "count": _count, "size": _size, "per_cent": _per_cent}
    environment.filters |= {"shape": show_shape, "steps": _steps}
    return environment


def render(facts: Facts, other: Facts | None = None) -> str:
    """The page of a data set or of sources; with another one, also how far this one is from it.

    The same facts give the same bytes: neither the time nor the place is in it.
    """
    warnings = {name: findings.warnings_of(feature, facts) for name, feature in facts.features.items()}
    pooled = {name: _pooled(findings.statistics_of(own, facts.training)) for name, own in facts.features.items()}
    names = list(facts.features)
    shown = {names[number] for number in notable([len(said) for said in warnings.values()], DETAILED)}
    config = ""
    if len(facts.features) <= CONFIGURED:
        config = yaml.safe_dump(dict(facts.config), sort_keys=False, allow_unicode=True, default_flow_style=None)
    return (
        _templates()
        .get_template("page.html")
        .render(
            facts=facts,
            title=_title(facts),
            split_names=[split.name for split in facts.splits],
            overview=[
                {"feature": feature, "linked": name in shown, "warnings": len(warnings[name]), "numbers": pooled[name]}
                for name, feature in facts.features.items()
            ][:LISTED],
            left_out=len(facts.features) - len(shown),
            cards=[
                {"warnings": warnings[name], "numbers": pooled[name], **_card(facts, feature)}
                for name, feature in facts.features.items()
                if name in shown
            ],
            numbers={name: number for number, name in enumerate(facts.features)},
            warnings=[(name, line) for name, said in warnings.items() for line in said],
            duplicates=findings.duplicates_of(facts),
            correlations=_correlations(facts),
            sample=_sample_rows(facts, [name for name in facts.features if name in shown]),
            drift=None if other is None else findings.drift_of(facts, other),
            mixed_rows=MIXED_ROWS,
            snippets=_snippets(facts),
            config=config,
            version=VERSION,
            quantiles=findings.QUANTILES,
            drawn=max((len(own.drawn.hashes) for own in facts.features.values() if own.drawn is not None), default=0),
        )
    )


def _snippets(facts: Facts) -> list[tuple[str, str]]:
    """How the data set is loaded, for each framework."""
    if not facts.built:
        return [
            ("Build it", "npyflow build SRC OUT"),
            ("in Python", 'import pipelines\n\npipelines.build("SRC", "OUT")'),
        ]
    split = facts.training
    supervised = any(feature.batch and feature.batch.role == "label" for feature in facts.features.values())
    more = ", as_supervised=True" if supervised else ""
    batch = "inputs, labels" if supervised else "batch"
    said = f'"OUT", "{split}", batch_size=256, seed=1{more}'
    return [
        ("TensorFlow, Keras", f"import loaders\n\ntrain = loaders.load({said})\nmodel.fit(train)"),
        ("NumPy", f"from loaders.numpy import Loader\n\nfor {batch} in Loader({said}):\n    ..."),
        (
            "PyTorch",
            "from loaders.torch import Loader\nfrom torch.utils.data import DataLoader\n\n"
            f"for {batch} in DataLoader(Loader({said}), batch_size=None):\n    ...",
        ),
        ("JAX", f"from loaders.jax import Loader\n\nfor {batch} in Loader({said}):\n    ..."),
        ("a row", f'import loaders\n\nloaders.open("OUT")["{split}"][0]'),
    ]


def _title(facts: Facts) -> str:
    rows = sum(split.rows or 0 for split in facts.splits)
    features = len(facts.features)
    kind = "Data set" if facts.built else "Sources"
    return f"{kind}: {rows:,} rows, {features:,} feature{'' if features == 1 else 's'}"


def _pooled(statistics: Statistics | None) -> dict[str, float] | None:
    if statistics is None:
        return None
    count, missing = int(statistics.count.sum()), int(statistics.missing.sum())
    mean, std = pool_mean_and_std(statistics)
    return {
        "count": count,
        "missing": missing,
        "missing_rate": missing / max(count + missing, 1),
        "mean": mean,
        "std": std,
        "min": float(np.fmin.reduce(statistics.min, None)) if statistics.min.size else math.nan,
        "max": float(np.fmax.reduce(statistics.max, None)) if statistics.max.size else math.nan,
    }


def _card(facts: Facts, feature: Feature) -> dict[str, Any]:
    spec, training = feature.spec, facts.training
    statistics = findings.statistics_of(feature, training)
    figures, quantiles = [], []
    if not findings.is_categorical(feature) and spec.role != "id":
        for when, drawn, own, rows in (
            ("before the transform", spec, feature.said, findings.rows_before(feature, facts)),
            ("as a batch holds them", feature.batch or spec, {}, feature.made),
        ):
            found = findings.histogram_of(drawn, own, rows) if rows else None
            if found is not None:
                figures.append(_histogram(f"Values {when}", feature.name, found, drawn.unit))
                random = training if rows is not feature.made and findings.is_drawn(feature, facts) else None
                quantiles += _quantiles(facts, when, found, random, drawn.unit)
    return {
        "feature": feature,
        "quantiles": quantiles,
        "learned": {} if statistics is None or statistics.count.size > 1 else feature.exact,
        "figures": [*figures, *_missing_figures(feature, training), *_curves(feature, training)],
        "classes": _classes(feature, training),
        "columns": [] if statistics is None else _column_table(statistics, feature.exact),
        "column_count": 0 if statistics is None else statistics.count.size,
        "frequent": _frequent(feature, training),
    }


def _quantiles(
    facts: Facts, when: str, found: findings.Histogram, random: str | None, unit: str
) -> list[dict[str, Any]]:
    """A line of the table of quantiles for each split; `random` is the one whose rows were drawn at random."""
    return [
        {
            "split": split,
            "when": when,
            "values": values,
            "unit": unit,
            "rows": found.rows[split],
            "error": 0.0 if facts.whole else 100 * findings.rank_error(found.rows[split]) if split == random else None,
        }
        for split, values in found.quantiles.items()
    ]


def _figure(caption: str, svg: str, *, splits: Iterable[str] = (), note: str = "") -> Figure:
    return {"caption": caption, "svg": svg, "splits": list(splits), "note": note}


def _histogram(caption: str, name: str, found: findings.Histogram, unit: str) -> Figure:
    middle = findings.QUANTILES.index(50)
    said = "; ".join(f"{split}: median {own[middle]:.4g}" for split, own in found.quantiles.items())
    low, high = found.edges[0], found.edges[-1]
    label = f"Histogram of {name}, {caption.lower()}, from {low:.4g} to {high:.4g}; {said}"
    note = "Values beyond are counted in the outer bins." if found.beyond else ""
    svg = plots.histogram(found.edges, found.shares, label=label, unit=unit)
    return _figure(f"{caption}, per cent in each bin", svg, splits=found.shares, note=note)


def _missing_figures(feature: Feature, training: str) -> list[Figure]:
    figures = []
    columns = findings.missing_by_column(feature, training)
    if columns.size > 1 and columns.any():
        worst = int(np.argmax(columns))
        label = (
            f"Missing values of {feature.name} by column: most in column {worst}, {100 * columns[worst]:.1f} per cent"
        )
        figures.append(_figure("Missing values by column, per cent", plots.lines({"": 100 * columns}, label=label)))
    places = findings.missing_by_place(feature)
    if places.size:
        label = f"Missing values of {feature.name} along the sources, up to {100 * np.nanmax(places):.1f} per cent"
        svg = plots.lines({"": 100 * places}, label=label, step=100 / len(places))
        figures.append(_figure("Missing values along the sources: per cent of values over per cent of rows", svg))
    return figures


def _curves(feature: Feature, training: str) -> list[Figure]:
    rows = feature.rows.get(training)
    if rows is None or not len(rows) or shapes.shape_of(feature.spec, rows) != "curve":
        return []
    first = [shapes.curves_of(row)[0] for row in shapes.single_rows(rows, _evenly(len(rows), 6))]
    curves = {f"row {number}": curve[:: max(len(curve) // 256, 1)] for number, curve in enumerate(first) if len(curve)}
    if not curves:
        return []
    label = f"Values of {feature.name} along the row, of {len(curves)} rows of {training}"
    return [_figure(f"{len(curves)} rows of {training}, value over step", plots.lines(curves, label=label))]


def _classes(feature: Feature, training: str) -> dict[str, Any] | None:
    if not findings.is_categorical(feature):
        return None
    counts = findings.counts_of(feature, training, most=SHOWN_CLASSES)
    if counts is None:
        return None
    names = [shapes.as_text(name, most=40) for name in counts.names]
    drawn = counts
    if plots.are_long(names):
        drawn = findings.counts_of(feature, training, most=plots.TURNED_BARS) or counts
    bars = [shapes.as_text(name, most=40) for name in drawn.names]
    most = ", ".join(
        f"{name} {drawn.shares[training][n]:.1f} %" for n, name in enumerate(bars[:3]) if training in drawn.shares
    )
    label = f"Classes of {feature.name}, per cent by split" + (f"; most frequent: {most}" if most else "")
    return {
        "figure": _figure(
            f"Classes, per cent of the rows of each split{_first_of(len(bars), counts.distinct)}",
            plots.bars(bars, {split: own.tolist() for split, own in drawn.shares.items()}, label=label),
            splits=counts.shares,
        ),
        "names": names,
        "shares": counts.shares,
        "exact": feature.classes is not None,
    }


def _first_of(shown: int, there: int) -> str:
    return f": the {shown} most frequent of {there:,}" if there > shown else ""


def _frequent(feature: Feature, training: str) -> list[tuple[str, float]]:
    if findings.is_categorical(feature) or feature.spec.role == "id":
        return []
    counts = findings.counts_of(feature, training, most=FREQUENT)
    if counts is None or training not in counts.shares:
        return []
    return list(zip((shapes.as_text(name) for name in counts.names), counts.shares[training].tolist(), strict=True))


def _column_table(statistics: Statistics, exact: Mapping[float, Any]) -> list[dict[str, Any]]:
    """Numbers of the first, the strangest and the last columns of a feature that has several."""
    if statistics.count.size < 2:
        return []
    places = (np.unravel_index(number, statistics.count.shape) for number in notable(strangeness(statistics)))
    keys = ("mean", "std", "min", "max")
    return [
        {
            "column": ", ".join(str(int(axis)) for axis in place),
            "missing": statistics.missing[place] / max(int(statistics.count[place] + statistics.missing[place]), 1),
            **{key: float(getattr(statistics, key)[place]) for key in keys},
            "quantiles": [float(values[place]) for values in exact.values()],
            "constant": bool(statistics.min[place] == statistics.max[place]),
        }
        for place in places
    ]


def _steps(said: Mapping[str, Any]) -> str:
    """What is done to a feature, as its configuration says it."""
    steps = said.get("normalize", "none")
    listed = steps if isinstance(steps, list) else [] if steps == "none" else [steps]
    impute = said.get("impute", "none")
    words = ([] if impute == "none" else [f"impute {_step(impute)}"]) + [_step(step) for step in listed]
    over = f" over {said.get('over', 'element')}" if words else ""
    by = f" by {said['by']}" if said.get("by") else ""
    stored = f"; stored {said['store']}" if said.get("store") else ""
    return (", ".join(words) or "left as it is") + by + over + stored


def _step(step: Any) -> str:
    return str(step) if not isinstance(step, Mapping) else ", ".join(f"{key} {value}" for key, value in step.items())


def _correlations(facts: Facts) -> dict[str, Any] | None:
    found = findings.correlations_of(facts)
    if found is None:
        return None
    pairs = found.strongest(PAIRS)
    near, far = np.clip(np.nan_to_num(found.matrix), 0, 1), np.clip(-np.nan_to_num(found.matrix), 0, 1)
    # White is none, orange is together, blue is against; both can be told apart by the colour-blind.
    paper, together, against = (
        np.array(colour, np.float64) for colour in ((245, 245, 245), (213, 94, 0), (0, 114, 178))
    )
    shade = paper + near[..., None] * (together - paper) + far[..., None] * (against - paper)
    scale = min(max(480 // len(found.names), 1), 24)
    pixels = np.kron(shade, np.ones((scale, scale, 1))).astype(np.uint8)
    most = f"; the strongest is {pairs[0][2]:.2f}, of {pairs[0][0]} and {pairs[0][1]}" if pairs else ""
    label = f"Correlations of {len(found.names)} columns in the order of their names{most}"
    return {"image": _data_uri(pixels), "label": label, "pairs": pairs, "names": found.names, "side": pixels.shape[0]}


def _data_uri(pixels: Any) -> str:
    return f"data:image/png;base64,{base64.b64encode(shapes.to_png(pixels)).decode()}"


def _sample_rows(facts: Facts, names: Sequence[str]) -> dict[str, Any] | None:
    """Some training rows as what they are; of features whose samples are of the same rows."""
    split, aligned = facts.training, facts.aligned
    same = [name for name in names if name in aligned]
    rows = min((len(facts.features[name].rows[split]) for name in same), default=0)
    if not rows:
        return None
    numbers = _evenly(rows, SAMPLE_ROWS)
    cells = {
        name: _cells(facts.features[name], facts.features[name].rows[split], numbers) for name in same[:SAMPLE_FEATURES]
    }
    return {
        "split": split,
        "names": list(cells),
        "rows": list(zip(*cells.values(), strict=True)),
        "left": len(facts.features) - len(cells),
    }


def _evenly(count: int, most: int) -> list[int]:
    return sorted({number * count // most for number in range(most)}) if count else []


def _cells(feature: Feature, rows: Rows, numbers: Sequence[int]) -> list[dict[str, str]]:
    spec = feature.spec
    shape = shapes.shape_of(spec, rows)
    picked = shapes.single_rows(rows, numbers)
    if shape in ("image", "cube") and isinstance(rows, np.ndarray):
        limits = shapes.limits_of(rows)
        kind = "image" if shape == "image" else "false-colour image"
        return [
            {"image": _data_uri(shapes.shrink(shapes.as_pixels(row, limits), THUMBNAIL)), "label": f"{kind} of row {n}"}
            for n, row in zip(numbers, picked, strict=True)
        ]
    if shape == "curve":
        return [_curve_cell(feature.name, row, n) for n, row in zip(numbers, picked, strict=True)]
    names = spec.class_names
    if names and spec.shape == ():
        return [{"text": names[int(row)] if 0 <= int(row) < len(names) else str(row)} for row in picked]
    if spec.shape == () and spec.unit:
        return [{"text": shapes.as_time(row, spec.unit) or str(row)} for row in picked]
    return [{"text": shapes.as_text(row)} for row in picked]


def _curve_cell(name: str, row: Any, number: int) -> dict[str, str]:
    if len(row) < 2:
        return {"text": shapes.as_text(row) if len(row) else "no step"}
    finite = row[np.isfinite(row.astype(np.float64))]
    ends = f", from {finite.min():.4g} to {finite.max():.4g}" if finite.size else ""
    return {"svg": plots.sparkline(shapes.curves_of(row), label=f"{name} of row {number}: {len(row)} steps{ends}")}


def _number(value: Any, unit: str = "") -> str:
    return "-" if value is None else shapes.as_time(value, unit) or shapes.as_number(value, digits=5)


def _count(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _size(value: int | None) -> str:
    return "?" if value is None else show_bytes(value)


def _per_cent(value: float) -> str:
    return "0 %" if not value else f"{100 * value:.2f} %"
