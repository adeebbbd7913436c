"""The configuration of a build as a file that a person reads and changes: what was chosen, and why."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pydantic
import yaml

from pipelines.config.schema import DatasetConfig, FeatureConfig
from pipelines.interface.tables import show_dtype, show_shape
from pipelines.plan.plan import Plan
from pipelines.results import count_of

WIDTH = 100
"""The columns of a comment."""

OF_DATASET = {
    "splits": "the fraction of the rows of each split; docs/options.md shows other ways",
    "training": "the split whose rows statistics are learned from, if it is not called train or training",
    "filter": "which rows are kept, such as label != 0",
    "row_axes": "how many leading axes of the arrays count rows; 0 makes each file one row",
    "on_error": "whether a file that cannot be used is an error (fail), or is left out (skip)",
    "max_bad_files": "how many files may be left out",
    "preprocessing_fn": "a tf.transform function of your own, in place of all steps: FILE.py:FUNCTION",
    "seed": "another number draws other splits, and another order of rows",
    "shard_bytes": "about how large a shard is; a size such as 64MiB",
    "rows_per_record": "how many rows a record of a shard holds; chosen so that it has about 128 KiB",
    "layout": "interchange makes each row a record, for other tools than npyflow; larger, and slower to load",
    "storage_options": "how file systems are reached: {s3: {endpoint_url: URL}}",
}
"""The keys of a configuration beside `features`, in a few words."""

OF_FEATURE = {
    "role": "what it is to a model: input, label, weight or id",
    "row_axes": "how many leading axes of its arrays count rows; 0 makes each file one row",
    "patch": "the neighbours of each row that are to be in it, too: {size: [11, 11]}",
    "window": "runs of steps that are rows: {axis: 0, size: 256, stride: 64, pad: none}",
    "files": "patterns of its files, if they are not found by its name",
    "source": "what gives its values in place of files: index, directory, or {constant: 3}",
    "ragged": "whether each file is one row with a length of its own",
    "missing": "values that are missing, besides NaN: [-9999, .inf]",
    "mask": "a feature that is true where this one is missing",
    "impute": "what replaces missing values: mean, median, most_frequent, zero …; forbid makes them an error",
    "indicator": "whether a feature NAME_missing tells which values were missing",
    "normalize": "a step, or a list of them: zscore, minmax, robust, log1p …",
    "over": "what shares a statistic: element, channel, all, or a list of axes",
    "by": "a feature, each of whose values has statistics of its own",
    "dtype": "the dtype in a batch",
    "class_names": "the names of the classes 0, 1, …",
    "store": "what the shards hold: transformed values, raw ones that the loader transforms, or none",
}
"""The keys of a feature, in a few words."""


def as_yaml(plan: Plan, root: str) -> str:
    """The configuration of a build, with comments; `load_config` reads it, and it resolves to that of the plan.

    All that was chosen is said. What was left as it is is there as comments, beside the first feature and at the end;
    a line of them without its `# ` says the same. `root` is that of the sources, "" where they are no directory.
    """
    chosen = plan.config.dump()
    features = chosen.pop("features")
    about = f"What npyflow chose for {root or 'arrays'}: {plan.table.rows:,} rows in "
    lines = [
        *_comment(f"{about}{count_of(len(plan.table.parts), 'part')}. docs/options.md has all that can be said."),
        "",
        "features:",
        *_features(plan, features),
        "",
        *_comment(plan.config.why),
        *_said(chosen, OF_DATASET),
        "",
        "# Nothing was said of these:",
        *_left(chosen, OF_DATASET, DatasetConfig()),
    ]
    return "\n".join(lines) + "\n"


def _features(plan: Plan, chosen: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    sources = {feature.name: feature for feature in plan.table.features}
    for number, feature in enumerate(plan.config.features):
        source, values = sources[feature.name], chosen[feature.name]
        held = f"{show_dtype(source.kind_name, source.unit)}, {show_shape(source.shape)}"
        yield from _indented(2, [*_comment(held), *_comment(source.why), *_comment(feature.why)])
        yield f"  {_value(feature.name)}:"
        # Once is enough to say what can be said.
        yield from _indented(4, _said(values, {} if number else OF_FEATURE))
        yield from _indented(4, () if number else _left(values, OF_FEATURE, FeatureConfig()))


def _said(values: Mapping[str, Any], about: Mapping[str, str]) -> Iterator[str]:
    for key, value in values.items():
        yield f"{key}: {_value(value)}" + (f"  # {about[key]}" if key in about else "")


def _left(values: Mapping[str, Any], about: Mapping[str, str], default: pydantic.BaseModel) -> Iterator[str]:
    """A line that is a comment for each key without a value, with what is meant where nothing is said."""
    return (f"# {key}: {_value(getattr(default, key))}  # {about[key]}" for key in about if key not in values)


def _indented(columns: int, lines: Iterable[str]) -> Iterator[str]:
    return (" " * columns + line for line in lines)


def _comment(text: str) -> list[str]:
    """Text in lines that YAML does not read, whatever is in it."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return textwrap.wrap(shown, WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False)


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Writes any value on one line."""


def _text(dumper: yaml.SafeDumper, value: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if value.isprintable() else '"')


_Dumper.add_representer(str, _text)


def _value(value: Any) -> str:
    value = list(value) if isinstance(value, tuple) else value
    text: str = yaml.dump(
        [value], Dumper=_Dumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf
    )
    return text.strip()[1:-1]
