"""Manifests that say something else than what was written."""

import dataclasses
import json

from loaders.format import manifest_digest, names
from pipelines.publish.manifest import describe_file


def changed(text, change):
    """The text of a manifest that a function of its values has changed, with the digest that belongs to it."""
    document = json.loads(text)
    document.pop("sha256", None)
    change(document)
    return manifest_digest.add(json.dumps(document, indent=1))


def stored(manifest):
    """What the shards of each split hold, whatever they are called."""
    return {
        split: [(shard.rows, shard.bytes, shard.crc32c, shard.offsets) for shard in shards]
        for split, shards in manifest.splits.items()
    }


def list_files(root, directory):
    """What a manifest says of the files below a directory of a data set."""
    found = sorted(path for path in (root / directory).rglob("*") if path.is_file())
    return tuple(describe_file(path.relative_to(root).as_posix(), path.read_bytes()) for path in found)


def change_manifest(root, change):
    """Changes the manifest of a data set, as `changed` does."""
    path = root / names.MANIFEST
    path.write_text(changed(path.read_text(), change))


def write_beside(root, name, data):
    """Writes a file beside the shards of a data set, and lets the manifest list it."""
    (root / name).write_bytes(data)
    entry = dataclasses.asdict(describe_file(name, data))
    change_manifest(root, lambda value: value.update(files=[*(f for f in value["files"] if f["file"] != name), entry]))
