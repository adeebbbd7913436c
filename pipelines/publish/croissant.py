"""`croissant.json`: the data set as MLCommons' Croissant describes it, for catalogues and search engines."""

from __future__ import annotations

import glob
import hashlib
import json
import urllib.parse
from typing import Any

from loaders.format.manifest import Manifest
from loaders.format.spec import FeatureSpec

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"

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
    """The features, splits and shards that a manifest has, as JSON-LD.

    It says where the shards are, but nothing of each: the manifest has their checksums.
    """
    rows, held = sum(map(manifest.rows, manifest.splits)), manifest.rows_per_record
    description = (
        f"{rows:,} rows in TFRecords of tf.train.Example, {held:,} row{'s' if held > 1 else ''} a record. "
        "The Python package npyflow reads them: loaders.load(directory, split)."
    )
    value = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": f"npyflow-{_digest(manifest)}",
        "description": description,
        "conformsTo": CONFORMS_TO,
        "distribution": [
            {
                "@type": "cr:FileSet",
                "@id": "shards",
                "encodingFormat": "application/x-tfrecord",
                "includes": [f"{glob.escape(split)}/*.tfrecord" for split in manifest.splits],
            }
        ],
        "recordSet": [
            _splits(manifest),
            {"@type": "cr:RecordSet", "@id": "rows", "field": [_field(spec) for spec in manifest.features]},
        ],
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


def _field(spec: FeatureSpec) -> dict[str, Any]:
    kind = _TYPES.get(spec.dtype) or "cr:" + spec.dtype.replace("int", "Int").replace("uI", "UI").replace("f", "F")
    is_complex = spec.dtype.startswith("complex")
    shape = (*spec.shape, 2) if is_complex else spec.shape
    array = {"isArray": True, "arrayShape": ",".join(str(size or -1) for size in shape)} if shape else {}
    return {
        "@type": "cr:Field",
        "@id": f"rows/{urllib.parse.quote(spec.name, safe='')}",
        "name": spec.name,
        "description": ", ".join(filter(None, (spec.role, spec.unit, spec.dtype if is_complex else ""))),
        "dataType": kind,
        **array,
        "source": {"fileSet": {"@id": "shards"}, "extract": {"column": spec.name}},
    }
