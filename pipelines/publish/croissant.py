"""`croissant.json`: the data set as MLCommons' Croissant describes it, for catalogues and search engines."""

from __future__ import annotations

import glob
import hashlib
import json
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from loaders.format.manifest import Manifest
from loaders.format.spec import FeatureSpec

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"

TFRECORD = "application/x-tfrecord"
PARQUET = "application/x-parquet"

_OF_CROISSANT = (
    *("arrayShape", "citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty"),
    *("fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path"),
    *("recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField"),
    "transform",
)
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in _OF_CROISSANT},
}
"""The context that the specification asks for."""

_TYPES = {"bool": "sc:Boolean", "string": "sc:Text", "complex64": "cr:Float32", "complex128": "cr:Float64"}
"""The types that are not called as their dtypes are; a complex number is two values, the real part first."""


def make_croissant(manifest: Manifest) -> bytes:
    """The features, splits, classes and shards that a manifest has, as JSON-LD.

    It says where the shards are, but nothing of each: the manifest has their checksums.
    """
    held = manifest.rows_per_record
    description = (
        f"TFRecords of tf.train.Example, {held:,} row{'s' if held > 1 else ''} a record. "
        "The Python package npyflow reads them: loaders.load(directory, split)."
    )
    shards = _file_set("shards", TFRECORD, *(f"{glob.escape(split)}/*.tfrecord" for split in manifest.splits))
    return _described(manifest, description, [shards], [_rows(manifest, "rows", shards)])


def describe(manifest: Manifest, kind: str, encoding: str, files: Mapping[str, str]) -> bytes:
    """The same of an export, whose rows a reader of Croissant reads: those of a split are the records `rows/SPLIT`.

    The `kind` of its files is for a person, their `encoding` as Croissant calls it; `files` has the path of each,
    `SPLIT/…`, and its SHA-256 in hexadecimal digits.
    """
    listed = [
        {
            "@type": "cr:FileObject",
            "@id": path,
            "name": path,
            "contentUrl": path,
            "encodingFormat": encoding,
            "sha256": digest,
        }
        for path, digest in files.items()
    ]
    splits = [split for split in manifest.splits if any(path.startswith(f"{split}/") for path in files)]
    sets = [_file_set(f"files/{split}", encoding, f"{glob.escape(split)}/*") for split in splits]
    rows = [_rows(manifest, f"rows/{split}", found) for split, found in zip(splits, sets, strict=True)]
    return _described(manifest, f"{kind}.", [*listed, *sets], rows)


def _described(
    manifest: Manifest, text: str, distribution: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> bytes:
    value = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": f"npyflow-{_digest(manifest)}",
        "description": f"{sum(map(manifest.rows, manifest.splits)):,} rows in {text}",
        "conformsTo": CONFORMS_TO,
        "distribution": distribution,
        "recordSet": [_splits(manifest), *(_classes(spec) for spec in manifest.features if spec.class_names), *rows],
    }
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _digest(manifest: Manifest) -> str:
    """A digest of the rows: data sets with the same shards have one name, wherever they lie."""
    checksums = "".join(shard.crc32c for split in manifest.splits for shard in manifest.shards(split))
    return hashlib.blake2b(checksums.encode(), digest_size=8).hexdigest()


def _splits(manifest: Manifest) -> dict[str, Any]:
    fields = {"splits/name": "sc:Text", "splits/rows": "cr:Int64"}
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [{"@type": "cr:Field", "@id": name, "dataType": kind} for name, kind in fields.items()],
        "data": [{"splits/name": split, "splits/rows": manifest.rows(split)} for split in manifest.splits],
    }


def _file_set(name: str, encoding: str, *patterns: str) -> dict[str, Any]:
    return {"@type": "cr:FileSet", "@id": name, "encodingFormat": encoding, "includes": list(patterns)}


def _rows(manifest: Manifest, name: str, files: Mapping[str, Any]) -> dict[str, Any]:
    fields = [_field(spec, name, files["@id"]) for spec in manifest.features]
    return {"@type": "cr:RecordSet", "@id": name, "field": fields}


def _classes(spec: FeatureSpec) -> dict[str, Any]:
    """The names of a feature's classes, by their numbers."""
    name = f"classes/{_quoted(spec)}"
    fields = {f"{name}/number": "cr:Int64", f"{name}/name": "sc:Text"}
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "dataType": "sc:Enumeration",
        "key": {"@id": f"{name}/number"},
        "field": [{"@type": "cr:Field", "@id": field, "dataType": kind} for field, kind in fields.items()],
        "data": [{f"{name}/number": number, f"{name}/name": text} for number, text in enumerate(spec.class_names)],
    }


def _quoted(spec: FeatureSpec) -> str:
    return urllib.parse.quote(spec.name, safe="")


def _field(spec: FeatureSpec, rows: str, files: str) -> dict[str, Any]:
    kind = _TYPES.get(spec.dtype) or "cr:" + spec.dtype.replace("int", "Int").replace("uI", "UI").replace("f", "F")
    is_complex = spec.dtype.startswith("complex")
    shape = (*spec.shape, 2) if is_complex else spec.shape
    array = {"isArray": True, "arrayShape": ",".join(str(size or -1) for size in shape)} if shape else {}
    return {
        "@type": "cr:Field",
        "@id": f"{rows}/{_quoted(spec)}",
        "name": spec.name,
        "description": ", ".join(filter(None, (spec.role, spec.unit, spec.dtype if is_complex else ""))),
        "dataType": kind,
        **array,
        "source": {"fileSet": {"@id": files}, "extract": {"column": spec.name}},
    }
