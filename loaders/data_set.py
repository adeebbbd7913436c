"""A data set as it is opened: its features, splits and statistics, and ways to its rows."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import numpy.typing as npt

from loaders import notebook
from loaders.format import names
from loaders.format.manifest import Manifest, ManifestError
from loaders.format.spec import FeatureSpec
from loaders.options import TensorFlowKeywords, TensorFlowOptions, shows
from loaders.reading import columns
from loaders.reading.rows import Rows
from loaders.storage.files import read_arrays, read_manifest
from loaders.transform.forward import Forward, of_data_set
from loaders.transform.ops import framework

if TYPE_CHECKING:
    import tensorflow as tf

SHOWN_CLASSES = 10


class Statistics(dict[str, dict[str, npt.NDArray[Any]]]):
    """Statistics by feature and name, which a notebook shows as a table."""

    def _repr_html_(self) -> str:
        names = list(dict.fromkeys(name for own in self.values() for name in own))
        rows = [[feature, *(_range(own.get(name)) for name in names)] for feature, own in self.items()]
        return notebook.table(["feature", *names], rows, right=[False, *[True] * len(names)])


def _range(values: npt.NDArray[Any] | None) -> str:
    """One number, or the least and the greatest of several."""
    if values is None or not values.size or values.dtype.kind not in "biuf":
        return ""
    low, high = np.fmin.reduce(values, None), np.fmax.reduce(values, None)
    if values.dtype.kind != "f":
        return f"{low:,}" if low == high else f"{low:,} … {high:,}"
    return f"{low:.6g}" if low == high or np.isnan(low) else f"{low:.4g} … {high:.4g}"


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class DataSet:
    """A finished data set.

    Attributes:
        root: Its directory.
        manifest: What its manifest says.
        trust: Whether its transform may do more than compute.
    """

    root: str
    manifest: Manifest
    trust: bool = False

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
    def statistics(self) -> Statistics:
        """The statistics of the training rows before the transform: feature, then statistic, to an array.

        The statistics are `count`, `missing`, `min`, `max`, `mean` and `std`. The file is read at the first use.

        Raises:
            ManifestError: If the data set has no statistics, or they are not as the manifest lists them.
        """
        arrays = read_arrays(self.root, self.manifest, names.STATISTICS)
        if arrays is None:
            raise ManifestError(f"{self.root}: expected the statistics of the data set; found none")
        result = Statistics()
        for key, array in arrays.items():
            feature, _, statistic = key.rpartition("/")
            result.setdefault(feature, {})[statistic] = array
        return result

    @functools.cached_property
    def transform(self) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
        """A function from a batch of the stored features to the batch of transformed ones.

        It takes tensors of TensorFlow, as `load(..., transform=False)` yields them, by the SavedModel; and arrays of
        NumPy, PyTorch and JAX, as the other loaders yield them, as `Forward` does. It runs where the batch lies, on a
        GPU too: so the fewer bytes of raw values are copied to a device and transformed there. What was learned is
        loaded at the first use.

        Raises:
            ManifestError: If the shards hold no feature as it is in the sources. When it is called with tensors of
                TensorFlow, if the SavedModel is not as the manifest lists it, or does more than compute and the data
                set was not opened with `trust`. With others, if the transform is a function of the user's own.
        """
        if self.manifest.transformed is None:
            raise ManifestError(f"{self.root}: expected a data set with a feature of `store: raw`; found none")
        return self._transform

    def _transform(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        if any(framework(values) == "tensorflow" for values in batch.values()):
            return self._graph(batch)
        return self._steps(batch)

    @functools.cached_property
    def _graph(self) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
        from loaders.transform.saved_model import Transform, on_device  # with TensorFlow, which only this needs

        return on_device(Transform(self.root, self.manifest, trust=self.trust))

    @functools.cached_property
    def _steps(self) -> Forward:
        return of_data_set(self.root, self.manifest, as_stored=True)

    @shows(TensorFlowOptions)
    def load(self, split: str, **options: Unpack[TensorFlowKeywords]) -> tf.data.Dataset:
        """`loaders.load` of a split of this data set, with the same options."""
        from loaders.tensorflow.loader import load  # with TensorFlow, which only this needs

        options.setdefault("trust", self.trust)
        return load(self.root, split, **options)

    def __getitem__(self, split: str) -> Rows:
        """The rows of a split, or of a part of one (`train[:10%]`), by their number, as NumPy arrays.

        What is returned takes `[i]`, slices, arrays of numbers, and `len`.

        Raises:
            ManifestError: If there is no such split.
            ValueError: If `split` means no rows.
        """
        return Rows(self.root, self.manifest, split)

    def __repr__(self) -> str:
        splits = ", ".join(f"{split}: {rows:,} rows" for split, rows in self.splits.items())
        lines = [f"{f.name}: {f.dtype} {list(f.shape)}, {f.role}" for f in self.manifest.features]
        return "\n  ".join([f"DataSet {self.root} ({splits})", *lines])

    def _repr_html_(self) -> str:
        splits = [[split, f"{rows:,}", f"{len(self.manifest.splits[split]):,}"] for split, rows in self.splits.items()]
        features = [
            [spec.name, spec.role, spec.dtype, columns.show_shape(spec), ", ".join(spec.class_names[:SHOWN_CLASSES])]
            for spec in self.manifest.features
        ]
        tables = [
            notebook.table(["split", "rows", "shards"], splits, right=[False, True, True], title=self.root),
            notebook.table(["feature", "role", "dtype", "row", "classes"], features, right=[False] * 5),
        ]
        return "\n".join(tables)


def open(root: str | os.PathLike[str], *, trust: bool = False) -> DataSet:
    """Reads what a data set holds, without its rows.

    Args:
        root: The directory of a finished build, in any file system that fsspec reads.
        trust: Whether its transform, which is a program, may do more than compute; as in `loaders.load`.

    Returns:
        The facts: `features`, `splits`, `class_names`, `statistics`, `manifest`; its `load` is `loaders.load`.

    Raises:
        ManifestError: If it is not a finished data set, or is of a format version that this reader does not know.
    """
    return DataSet(root=os.fspath(root), manifest=read_manifest(root), trust=trust)
