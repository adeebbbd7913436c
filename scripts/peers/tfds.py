"""TensorFlow Datasets: a `GeneratorBasedBuilder`, and `as_dataset`."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds

from peers.data import Rows

PACKAGES = ("tensorflow-datasets", "tensorflow")


def write(rows: Rows, out: pathlib.Path) -> None:
    """Builds as tensorflow.org/datasets/add_dataset does."""
    encoding = "none" if rows.dtype == "float32" else "bytes"

    class Builder(tfds.core.GeneratorBasedBuilder):
        """The rows as a data set of TFDS."""

        VERSION = tfds.core.Version("1.0.0")
        name = "rows"

        def _info(self) -> Any:
            value = tfds.features.Tensor(shape=rows.shape, dtype=getattr(tf, rows.dtype), encoding=encoding)
            features = tfds.features.FeaturesDict({rows.feature: value, "labels": tf.int64})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {"train": self._generate_examples()}

        def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
            number = 0
            for values, labels in rows.blocks():
                for value, label in zip(values, labels, strict=True):
                    yield number, {rows.feature: value, "labels": label}
                    number += 1

    config = tfds.download.DownloadConfig(try_download_gcs=False)
    Builder(data_dir=str(out)).download_and_prepare(download_config=config)


def load(rows: Rows, out: pathlib.Path, *, batch: int, variant: str) -> Iterator[Any]:
    """An epoch as tensorflow.org/datasets/keras_example has it; the second one, where `variant` is "cached"."""
    builder = tfds.builder_from_directory(str(out / "rows" / "1.0.0"))
    dataset = builder.as_dataset(split="train", shuffle_files=True)
    if variant == "cached":
        dataset = dataset.cache()
    dataset = dataset.shuffle(rows.window, seed=0).batch(batch).prefetch(tf.data.AUTOTUNE)
    if variant == "cached":
        for _ in dataset:
            pass
        yield None
    for features in dataset:
        yield features[rows.feature], features["labels"]
