"""What was learned from rows, as a value that travels to where rows are transformed and a data set is written."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

from loaders.format import names
from loaders.format.savedmodel import MODEL, load_model
from pipelines.config.resolved import ResolvedConfig
from pipelines.output.directory import Output
from pipelines.storage import files

_TRANSFORM = f"{names.TRANSFORM}/"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """A transform, and the statistics of the rows that it was learned from.

    The files are those of tf.transform's output below `transform/`, and of statistics below `statistics/`.
    """

    config: ResolvedConfig
    files: Mapping[str, bytes] = dataclasses.field(repr=False)

    @classmethod
    def of(cls, config: ResolvedConfig, directory: str, written: Mapping[str, bytes]) -> Learned:
        """What lies in a local directory, and files of tf.transform's output that were written elsewhere."""
        root = pathlib.Path(directory)
        folders = {names.TRANSFORM, "statistics"}
        found = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
        own = {name: path.read_bytes() for name, path in found.items() if name.split("/")[0] in folders}
        return cls(config=config, files=own | {_TRANSFORM + name: data for name, data in written.items()})

    def load(self) -> Any:
        """The SavedModel, which a process loads once; None where nothing is transformed."""
        return _load(self) if self.config.has_transform else None

    def put(self, output: Output) -> None:
        """Writes the files to where publishing looks for them."""
        for name, data in self.files.items():
            folder, _, rest = name.partition("/")
            root = output.new_transform if folder == names.TRANSFORM else output.staged
            files.write_bytes(files.join(root, rest), data)

    @functools.cached_property
    def digest(self) -> str:
        """A digest of the files."""
        digest = hashlib.blake2b(digest_size=16)
        for name, data in sorted(self.files.items()):
            digest.update(f"{name} {len(data)}\n".encode() + data)
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Learned) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


@functools.lru_cache(maxsize=2)
def _load(learned: Learned) -> Any:
    above = f"{_TRANSFORM}{MODEL}/"
    return load_model(
        {name.removeprefix(above): data for name, data in learned.files.items() if name.startswith(above)}
    )
