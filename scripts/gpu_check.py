"""How long a training step waits for its input, with the loaders and without, on a GPU where there is one.

Each way of loading is measured in a process of its own. A step is timed twice: on one batch that is there already, and
on batches as they come. What the second takes longer is the wait.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

SHAPE = (64, 64, 3)
CLASSES = 10
FILTERS = (32, 64, 128)
RATE = 0.01
WARM_UP = 3
"""Steps that are not timed: the first ones compile."""

Batches = Iterator[tuple[Any, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """A network, and the batches that it is trained on.

    Attributes:
        device: What the steps run on, as a person calls it.
        batches: Images and labels, without end.
        step: Trains on a batch; may return before it is done.
        wait: Waits until all steps are done.
    """

    device: str
    batches: Batches
    step: Callable[[Any, Any], object]
    wait: Callable[[], object]


def main() -> None:
    """Prints a table; with `--only`, what was measured of one way, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, help="a directory of images that an earlier run has left")
    parser.add_argument("--keep", type=pathlib.Path, help="the directory where images are made and left")
    parser.add_argument("--rows", type=int, default=40_000, help="how many images are made")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each way is measured")
    parser.add_argument("--only", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only is not None:
        print(json.dumps(measure(WAYS[options.only](options.data, options.batch), options.seconds)))
        return
    with tempfile.TemporaryDirectory(prefix="npyflow-gpu-") as temporary:
        data = options.data or options.keep or pathlib.Path(temporary)
        if options.data is None:
            make_images(data, options.rows)
        compare(data, options)


def make_images(data: pathlib.Path, rows: int) -> None:
    """Writes random images and labels as arrays, and builds a data set of them."""
    import pipelines  # with Beam, which a machine that only trains has not

    rng = np.random.Generator(np.random.PCG64(0))
    (data / "source").mkdir(parents=True)
    np.save(data / "source" / "images.npy", rng.integers(0, 256, (rows, *SHAPE), np.uint8))
    np.save(data / "source" / "labels.npy", rng.integers(0, CLASSES, rows))
    config = {"splits": {"train": 1.0}, "features": {"images": {"normalize": "none"}}}
    pipelines.build(data / "source", data / "dataset", config)


def compare(data: pathlib.Path, options: argparse.Namespace) -> None:
    """Measures each way in a process of its own, and prints a line about it."""
    print(f"{'':42} {'device':24} {'step alone':>11} {'with input':>11} {'waits':>7} {'images/s':>10}")
    for name in WAYS:
        framework = FRAMEWORKS[name]
        if importlib.util.find_spec(framework) is None:
            print(f"{name:42} {framework} is not installed")
            continue
        command = [sys.executable, "-m", "scripts.gpu_check", "--only", name, "--data", str(data)]
        command += ["--batch", str(options.batch), "--seconds", str(options.seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name:42} failed: {done.stderr.strip().splitlines()[-1]}")
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{name:42} {found['device']:24.24} {found['alone'] * 1e3:8.2f} ms {found['fed'] * 1e3:8.2f} ms "
            f"{found['waits']:7.1%} {options.batch / found['fed']:10,.0f}"
        )


def measure(training: Training, seconds: float) -> dict[str, Any]:
    """Times steps on one batch for a third of the time, and on new ones for the rest.

    Returns:
        The `device`; the seconds of a step `alone` and `fed`; and `waits`, the share of a step that is the input's.
    """
    first = next(training.batches)
    _run(training, itertools.repeat(first, WARM_UP), seconds)
    alone = _run(training, itertools.repeat(first), seconds / 3)
    fed = _run(training, training.batches, seconds * 2 / 3)
    return {"device": training.device, "alone": alone, "fed": fed, "waits": max(1 - alone / fed, 0.0)}


def _run(training: Training, batches: Batches, seconds: float) -> float:
    """The seconds of a step, all steps being done."""
    begin, steps = time.perf_counter(), 0
    for images, labels in batches:
        training.step(images, labels)
        steps += 1
        if time.perf_counter() - begin > seconds:
            break
    training.wait()
    return (time.perf_counter() - begin) / steps


def _arrays(data: pathlib.Path, mode: Any = None) -> tuple[Any, Any]:
    return tuple(np.load(data / "source" / f"{name}.npy", mmap_mode=mode) for name in ("images", "labels"))


def _train_tensorflow(batches: Any) -> Training:
    import keras
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    layers: list[Any] = [keras.layers.Rescaling(1 / 255)]
    layers += [keras.layers.Conv2D(filters, 3, strides=2, activation="relu") for filters in FILTERS]
    model = keras.Sequential([keras.Input(SHAPE), *layers, keras.layers.Flatten(), keras.layers.Dense(CLASSES)])
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    loss = tf.Variable(0.0)

    @tf.function
    def step(images: tf.Tensor, labels: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            found = loss_of(labels, model(images, training=True))
        for variable, gradient in zip(
            model.trainable_variables, tape.gradient(found, model.trainable_variables), strict=True
        ):
            variable.assign_sub(RATE * gradient)
        loss.assign(found)

    device = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "a GPU") if gpus else "the CPU"
    return Training(device=device, batches=iter(batches), step=step, wait=loss.numpy)


def load(data: pathlib.Path, batch: int) -> Training:
    """`loaders.load`, on the first GPU."""
    import loaders

    options = {"epochs": None, "remainder": "drop", "as_supervised": True, "device": "auto"}
    return _train_tensorflow(loaders.load(data / "dataset", "train", batch_size=batch, **options))


def from_tensor_slices(data: pathlib.Path, batch: int) -> Training:
    """All images in memory, as the TensorFlow tutorials do."""
    import tensorflow as tf

    images, labels = _arrays(data)
    rows = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(10_000).repeat()
    return _train_tensorflow(rows.batch(batch, drop_remainder=True).prefetch(tf.data.AUTOTUNE))


def _train_torch(batches: Any) -> Training:
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layers: list[Any] = []
    for before, filters in zip((SHAPE[-1], *FILTERS), FILTERS, strict=False):
        layers += [torch.nn.Conv2d(before, filters, 3, stride=2), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.LazyLinear(CLASSES)).to(device)
    loss_of = torch.nn.CrossEntropyLoss()

    def step(images: Any, labels: Any) -> None:
        inputs = images.to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
        loss_of(model(inputs), labels.to(device, non_blocking=True)).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= RATE * parameter.grad
                parameter.grad = None

    on_gpu = device.type == "cuda"
    return Training(
        device=torch.cuda.get_device_name() if on_gpu else "the CPU",
        batches=iter(batches),
        step=step,
        wait=torch.cuda.synchronize if on_gpu else lambda: None,
    )


def torch_loader(data: pathlib.Path, batch: int) -> Training:
    """`loaders.torch.Loader`, in the training's process, by whose threads it reads ahead."""
    import torch

    import loaders.torch

    options = {"batch_size": batch, "epochs": None, "remainder": "drop", "as_supervised": True}
    dataset = loaders.torch.Loader(data / "dataset", "train", **options)
    pinned = torch.cuda.is_available()
    return _train_torch(torch.utils.data.DataLoader(dataset, batch_size=None, pin_memory=pinned))


def torch_memmap(data: pathlib.Path, batch: int) -> Training:
    """Memory-mapped arrays in a `DataLoader` of two workers, as the PyTorch tutorials do."""
    import torch

    images, labels = _arrays(data, "r")

    class Rows(torch.utils.data.Dataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, row: int) -> tuple[Any, int]:
            return torch.from_numpy(np.array(images[row])), int(labels[row])

    options = {"shuffle": True, "num_workers": 2, "drop_last": True, "pin_memory": torch.cuda.is_available()}
    loader = torch.utils.data.DataLoader(Rows(), batch_size=batch, **options)
    return _train_torch(itertools.chain.from_iterable(itertools.repeat(loader)))


def jax_loader(data: pathlib.Path, batch: int) -> Training:
    """`loaders.jax.Loader`, on the first device."""
    import jax
    import jax.numpy as jnp

    import loaders.jax

    rng = np.random.Generator(np.random.PCG64(0))
    size, parameters = SHAPE[0], []
    for before, filters in zip((SHAPE[-1], *FILTERS), FILTERS, strict=False):
        parameters.append(jnp.asarray(rng.normal(0, 0.1, (3, 3, before, filters)), jnp.float32))
        size = (size - 1) // 2
    parameters.append(jnp.asarray(rng.normal(0, 0.1, (size * size * FILTERS[-1], CLASSES)), jnp.float32))

    def loss_of(parameters: list[Any], images: Any, labels: Any) -> Any:
        values = images.astype(jnp.float32) / 255
        for kernel in parameters[:-1]:
            values = jax.lax.conv_general_dilated(
                values, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            values = jax.nn.relu(values)
        scores = jax.nn.log_softmax(values.reshape(len(values), -1) @ parameters[-1])
        return -jnp.take_along_axis(scores, labels[:, None], axis=1).mean()

    @jax.jit
    def update(parameters: list[Any], images: Any, labels: Any) -> Any:
        gradients = jax.grad(loss_of)(parameters, images, labels)
        return [value - RATE * gradient for value, gradient in zip(parameters, gradients, strict=True)]

    def step(images: Any, labels: Any) -> None:
        nonlocal parameters
        parameters = update(parameters, images, labels)

    options = {"batch_size": batch, "epochs": None, "remainder": "drop", "as_supervised": True}
    device = jax.devices()[0]
    return Training(
        device="the CPU" if device.platform == "cpu" else device.device_kind,
        batches=iter(loaders.jax.Loader(data / "dataset", "train", **options)),
        step=step,
        wait=lambda: jax.block_until_ready(parameters),
    )


WAYS: dict[str, Callable[[pathlib.Path, int], Training]] = {
    "TensorFlow, loaders.load": load,
    "TensorFlow, from_tensor_slices": from_tensor_slices,
    "PyTorch, loaders.torch": torch_loader,
    "PyTorch, DataLoader over np.memmap": torch_memmap,
    "JAX, loaders.jax": jax_loader,
}
FRAMEWORKS = {name: {"TensorFlow": "tensorflow", "PyTorch": "torch", "JAX": "jax"}[name.split(",")[0]] for name in WAYS}

if __name__ == "__main__":
    main()
