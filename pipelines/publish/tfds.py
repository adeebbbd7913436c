"""`dataset_info.json` and `features.json`: by them TensorFlow Datasets reads a data set where it lies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from loaders.format import names
from loaders.format.manifest import Manifest, Shard
from loaders.format.spec import FeatureSpec

VERSION = "1.0.0"
"""What TensorFlow Datasets wants every data set to have."""

_PACKAGE = "tensorflow_datasets.core.features"
_OF_BYTES = frozenset({"uint32"})
"""The dtypes that TensorFlow Datasets does not decode: they come as the bytes that the record holds."""


def make_files(manifest: Manifest) -> dict[str, bytes]:
    """Both files by name, or none where TensorFlow Datasets would not find the rows.

    It takes a record for a row, and wants one pattern for the shards of a split; of one that has grown there are two.
    """
    templates = {split: _template(split, manifest.shards(split)) for split in manifest.splits if manifest.rows(split)}
    if manifest.rows_per_record > 1 or None in templates.values():
        return {}
    return describe(
        manifest,
        {
            split: (str(template), [shard.rows for shard in manifest.shards(split)])
            for split, template in templates.items()
        },
        "tfrecord",
    )


def describe(manifest: Manifest, splits: Mapping[str, tuple[str, Sequence[int]]], file_format: str) -> dict[str, bytes]:
    """Both files by name, for data of a format as TensorFlow Datasets calls it.

    `splits` has for each split the pattern that gives its files, and how many rows each has.
    """
    kind = {"name": "npyflow", "version": VERSION, "fileFormat": file_format}
    described = [
        {
            "name": split,
            "filepathTemplate": template,
            "shardLengths": [str(count) for count in rows],
            "numBytes": str(sum(shard.bytes for shard in manifest.shards(split))),
        }
        for split, (template, rows) in splits.items()
    ]
    features = {spec.name: _feature(spec) for spec in manifest.features}
    found = (
        {**kind, **_pair(manifest), "splits": described},
        {"pythonClassName": f"{_PACKAGE}.features_dict.FeaturesDict", "featuresDict": {"features": features}},
    )
    return dict(zip(names.OF_TFDS, map(_dump, found), strict=True))


def _template(split: str, shards: tuple[Shard, ...]) -> str | None:
    """The pattern that gives the shards of a split, if one does."""
    start = shards[0].file.rpartition("-of-")[0].rpartition("-")[0]
    expected = [f"{start}-{number:05d}-of-{len(shards):05d}.tfrecord" for number in range(len(shards))]
    if [shard.file for shard in shards] != expected:
        return None
    rest = start.removeprefix(f"{split}/{split}")
    return f"{{SPLIT}}/{{SPLIT}}{rest}-{{SHARD_X_OF_Y}}.{{FILEFORMAT}}"


def _pair(manifest: Manifest) -> dict[str, Any]:
    """The input and the label that `as_supervised` gives, where there is one of each."""
    pair = [[spec.name for spec in manifest.features if spec.role == role] for role in ("input", "label")]
    if not all(len(found) == 1 for found in pair):
        return {}
    return {"supervisedKeys": {"tuple": {"items": [{"featureKey": name} for (name,) in pair]}}}


def _feature(spec: FeatureSpec) -> dict[str, Any]:
    undecoded = spec.dtype in _OF_BYTES
    in_bytes = spec.encoding(rows_per_record=1) == "bytes_list" and spec.dtype != "string"
    shape = () if undecoded else spec.shape
    return {
        "pythonClassName": f"{_PACKAGE}.tensor_feature.Tensor",
        "tensor": {
            "shape": {"dimensions": [str(size or -1) for size in shape]} if shape else {},
            "dtype": "string" if undecoded else spec.dtype,
            "encoding": "bytes" if in_bytes and not undecoded else "none",
        },
    }


def _dump(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
