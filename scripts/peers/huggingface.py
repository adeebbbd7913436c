"""Hugging Face datasets: an Arrow data set, and an iterable one of it under a `DataLoader`."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import datasets
from torch.utils.data import DataLoader

from peers.data import Rows

PACKAGES = ("datasets", "torch", "pyarrow")
SHARDS = 8
WORKERS = 2


def write(rows: Rows, out: pathlib.Path) -> None:
    """Writes what a generator of rows yields."""
    if len(rows.shape) == 1:
        value = datasets.List(datasets.Value(rows.dtype), length=rows.shape[0])
    else:
        value = datasets.Array3D(rows.shape, rows.dtype)
    features = datasets.Features({rows.feature: value, "labels": datasets.Value("int64")})

    def generate() -> Iterator[dict[str, Any]]:
        for values, labels in rows.blocks():
            for value, label in zip(values, labels, strict=True):
                yield {rows.feature: value, "labels": label}

    dataset = datasets.Dataset.from_generator(
        generate, features=features, cache_dir=str(out / "cache"), fingerprint="rows"
    )
    dataset.save_to_disk(str(out / "data"))
    shutil.rmtree(out / "cache")


def load(rows: Rows, out: pathlib.Path, *, batch: int, variant: str) -> Iterator[Any]:
    """An epoch as huggingface.co/docs/datasets/about_mapstyle_vs_iterable has it for speed."""
    dataset = datasets.load_from_disk(str(out / "data")).to_iterable_dataset(num_shards=SHARDS)
    dataset = dataset.shuffle(seed=0, buffer_size=1000).with_format("torch")
    for features in DataLoader(dataset, batch_size=batch, num_workers=WORKERS):
        yield features[rows.feature], features["labels"]
