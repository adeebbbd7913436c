"""What a data set is: reads the manifest and the statistics."""

from __future__ import annotations

import dataclasses
import functools
import io
import os
import posixpath
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from loaders.format.manifest import FILE_NAME, Manifest, ManifestError
from loaders.format.spec import FeatureSpec
from loaders.storage import remote

if TYPE_CHECKING:
    import tensorflow as tf

    from loaders.reading.rows import Rows

STATISTICS_FILE = "statistics.npz"


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class DataSet:
    """A finished data set.

    Attributes:
        root: Its directory.
        manifest: What its manifest says.
    """

    root: str
    manifest: Manifest

    @property
    def features(self) -> dict[str, FeatureSpec]:
        """The features of a row, by name."""
        return {feature.name: feature for feature in self.manifest.features}

    @property
    def splits(self) -> dict[str, int]:
        """The rows of each split, by name."""
        return {split: self.manifest.rows(split) for split in self.manifest.splits}

    @property
    def class_names(self) -> dict[str, tuple[str, ...]]:
        """The names of the classes, for each feature that has such names."""
        return {feature.name: feature.class_names for feature in self.manifest.features if feature.class_names}

    @functools.cached_property
    def statistics(self) -> dict[str, dict[str, npt.NDArray[Any]]]:
        """The statistics of the training rows before the transform: feature, then statistic, to an array.

        The statistics are `count`, `missing`, `min`, `max`, `mean` and `std`. The file is read at the first use.

        Raises:
            ManifestError: If the data set has no statistics.
        """
        path = posixpath.join(self.root, STATISTICS_FILE)
        arrays = read_arrays(path)
        if arrays is None:
            raise ManifestError(f"{path}: expected the statistics of the data set; found no file")
        result: dict[str, dict[str, npt.NDArray[Any]]] = {}
        for key, array in arrays.items():
            feature, _, statistic = key.rpartition("/")
            result.setdefault(feature, {})[statistic] = array
        return result

    @functools.cached_property
    def transform(self) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
        """A function from a batch of `load(..., transform=False)` to the batch that `load` gives otherwise.

        It runs where the batch lies, on a GPU too, so that the fewer bytes of raw values can be copied to a device and
        transformed there. The SavedModel is loaded at the first use.

        Raises:
            ManifestError: If the shards hold no feature as it is in the sources.
        """
        from loaders.transform import applying

        return applying.on_device(applying.Transform(self.root, self.manifest))

    def load(self, split: str, **options: Any) -> tf.data.Dataset:
        """`loaders.load` of a split of this data set, with the same options."""
        import loaders

        return loaders.load(self.root, split, **options)

    def __getitem__(self, split: str) -> Rows:
        """The rows of a split, or of a part of one (`train[:10%]`), by their number, as NumPy arrays.

        What is returned takes `[i]`, slices, arrays of numbers, and `len`.

        Raises:
            ManifestError: If there is no such split.
            ValueError: If `split` means no rows.
        """
        from loaders.reading import rows

        return rows.Rows(self.root, self.manifest, split)

    def __repr__(self) -> str:
        splits = ", ".join(f"{split}: {rows:,} rows" for split, rows in self.splits.items())
        lines = [f"{f.name}: {f.dtype} {list(f.shape)}, {f.role}" for f in self.manifest.features]
        return "\n  ".join([f"DataSet {self.root} ({splits})", *lines])


def read(root: str | os.PathLike[str]) -> DataSet:
    """Reads the manifest of a data set.

    Args:
        root: Its directory, in any file system that fsspec reads.

    Raises:
        ManifestError: If it is not a finished data set, or is of a format version that this reader does not know.
    """
    root = os.fspath(root)
    path = posixpath.join(root, FILE_NAME)
    content = _read(path)
    if content is None:
        raise ManifestError(f"{root}: not a finished data set: expected {FILE_NAME}, which is written last; found none")
    return DataSet(root=root, manifest=Manifest.loads(content, path=path))


def read_arrays(path: str) -> dict[str, npt.NDArray[Any]] | None:
    """The arrays of an `.npz` file by their names, or None where there is no file."""
    content = _read(path)
    if content is None:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def _read(path: str) -> bytes | None:
    """The content of a file, or None where there is none."""
    try:
        if remote.is_remote(path):
            return remote.read_file(path)
        with open(path, "rb") as local:
            return local.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except (ImportError, ValueError) as error:
        raise ManifestError(f"{path}: expected a file system that fsspec reads; found {error}") from error
